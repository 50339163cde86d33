"""Runs many pieces of work at once over a git repository, on one live dashboard, with every change in a DuckDB log.

`Orchestrator` runs a project from Python; `connect` reads one and acts on it, live or stopped. Both are loaded when
first asked for, so that the command line starts without what only they need.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator_app.connection.connecting import connect
    from orchestrator_app.orchestrator import Orchestrator

__all__ = ["Orchestrator", "__version__", "connect"]

_PLACES = {"Orchestrator": "orchestrator_app.orchestrator", "connect": "orchestrator_app.connection.connecting"}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from orchestrator_app.claim import installed_version

        return installed_version()
    if name in _PLACES:
        return getattr(import_module(_PLACES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
