"""The running server of the project that a command is about."""

from __future__ import annotations

from pathlib import Path

from orchestrator_app.client import Client, Refused, unit_path
from orchestrator_app.errors import NoServerError
from orchestrator_app.settings import STATE_NAME

__all__ = ["Client", "Refused", "connect", "no_server", "unit_path"]


def connect(root: Path) -> Client:
    """A client of the server that runs for the project in `root`, proven to be alive. Raises NoServerError."""
    client = Client.of(root / STATE_NAME)
    if client is None:
        raise NoServerError(no_server(root))
    return client


def no_server(root: Path) -> str:
    return f"no server runs for {root}: start it with `orch serve`"
