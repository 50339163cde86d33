"""The REST API. `ROUTES` is what `panel serve … --plugins orchestrator_app.api` asks for; `serve` adds them by itself.

The routes answer only behind the edge of a running orchestrator; without one they answer 503.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from orchestrator_app.api import (
    budget,
    changes,
    checking,
    conflicts,
    keeping,
    logs,
    metrics,
    questions,
    system,
    units,
)
from orchestrator_app.api.description import markdown, openapi
from orchestrator_app.api.routing import PREFIX, ApiHandler, Call, Route, UnknownPath, tornado_rules
from orchestrator_app.api.shapes import FREE
from orchestrator_app.api.socket import OwnSocket, Socket
from orchestrator_app.api.socket_description import socket_markdown
from orchestrator_app.claim import installed_version
from orchestrator_app.edge import CHANNEL


async def _describe(call: Call) -> Any:
    return openapi(TABLE, installed_version())


TABLE: tuple[Route, ...] = (
    *system.ROUTES,
    *checking.ROUTES,
    *keeping.ROUTES,
    *questions.ROUTES,
    *units.ROUTES,
    *logs.ROUTES,
    *changes.ROUTES,
    *budget.ROUTES,
    *conflicts.ROUTES,
    Route("GET", "/openapi.json", "This description, for programs.", _describe, gives=FREE),
)
"""Every route of the API."""

READING = frozenset((route.method, PREFIX + route.path) for route in TABLE if route.reads)
"""Those that change nothing, though they aren't GET. Viewers may have them; a path with a name in it is none."""

ROUTES = [
    *tornado_rules(TABLE),
    ("/metrics", ApiHandler, {"routes": {"GET": metrics.ROUTE}}),
    (PREFIX + "/.*", UnknownPath, {"routes": {}}),
]
"""The same as Tornado wants it."""
SOCKET = (OwnSocket(CHANNEL), Socket)
"""The WebSocket. Not among `ROUTES`, which Panel takes for texts: `serve` adds it."""


PROGRAM = """\
## A whole program

Run in a project's directory, it submits two units, follows them through restarts of the server, answers what they ask,
and reads what happened as an Arrow table. It may itself be ended and started again: its keys make each wish come true
once.

```python
"""


def document() -> str:
    """The text of docs/api.md."""
    return (
        markdown(TABLE)
        + "\n"
        + socket_markdown()
        + "\n"
        + PROGRAM
        + Path(__file__).with_name("example.py").read_text()
        + "```\n"
    )
