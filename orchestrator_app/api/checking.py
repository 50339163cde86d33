"""Whether the log is sound: the same invariants on a running and on a stopped project."""

from __future__ import annotations

from typing import Any

from orchestrator_app.api.routing import Call, Route
from orchestrator_app.api.shapes import COUNT, TEXT, listed, thing
from orchestrator_app.keeping import report


async def check(call: Call) -> Any:
    return await call.aside(report, call.orchestrator.log)


ROUTES = (
    Route(
        "GET",
        "/check",
        "Prove the log: what breaks its invariants, one line per fault.",
        check,
        gives=thing(faults=listed(TEXT), seq=COUNT, units=COUNT),
    ),
)
