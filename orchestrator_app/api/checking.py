"""Whether the log is sound: the same invariants on a running and on a stopped project."""

from __future__ import annotations

from typing import Any

from orchestrator_app.api.routing import Call, Route
from orchestrator_app.model import Board
from orchestrator_app.store.log import Log
from orchestrator_app.testing import board_faults, invariant_faults


def report(log: Log) -> dict[str, Any]:
    """`faults`, a line each; `seq`, the number of records looked at; `units`, how many units they make."""
    board = Board()  # the log's own words, replayed: the running board goes on meanwhile
    board.fold(log.read())
    return {"faults": invariant_faults(log) + board_faults(board), "seq": board.seq, "units": len(board.units)}


async def check(call: Call) -> Any:
    return await call.aside(report, call.orchestrator.log)


ROUTES = (Route("GET", "/check", "Prove the log: what breaks its invariants, one line per fault.", check),)
