"""A project for notebooks and scripts: every verb of the API, data frames, and a board that follows the server."""

from __future__ import annotations

from orchestrator_app.connection.connecting import Connection, connect
from orchestrator_app.connection.waiting import NotReached

__all__ = ["Connection", "NotReached", "connect"]
