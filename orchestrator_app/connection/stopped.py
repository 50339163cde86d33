"""A project that no server runs for: it answers the reading requests of the API by the API's own functions."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from orchestrator_app.claim import server_info
from orchestrator_app.client.http import PATIENCE, Source
from orchestrator_app.errors import NoServerError, NotFoundError
from orchestrator_app.model import Board
from orchestrator_app.settings import Project, load_project
from orchestrator_app.store.asking import Packed, ask_packed
from orchestrator_app.store.export import export_stopped
from orchestrator_app.store.reading import ReadingLog


class _NoChanges:
    """Nothing will be committed, so nobody waits for it."""

    closed = True

    def next(self, timeout: float) -> asyncio.Future[None]:
        return asyncio.get_running_loop().create_future()


class Stopped(Source):
    """The project as its files were when this was made. Nothing is kept open, so a server can start any time.

    To the API's functions it is both the server and the orchestrator that they are used to.
    """

    def __init__(self, state: Path) -> None:
        """Raises StoreError when the log can't be read."""
        self.state, self.root = state, state.parent
        self.seq = export_stopped(state)
        self.board = Board()
        log = ReadingLog(state)
        try:
            self.board.fold(log.read(upto=self.seq))
        finally:
            log.close()

    @property
    def orchestrator(self) -> Stopped:
        return self

    @cached_property
    def project(self) -> Project:
        """Its settings. Raises SettingsError."""
        return load_project(self.root)

    def status(self) -> dict[str, Any]:
        board = self.board
        return {
            "state": "stopped",
            "ending": None,
            "awaited": [],
            "seq": board.seq,
            "counts": board.counts,
            "running": board.counts["RUNNING"],
            "slots": self.project.slots,
            "attention": len(board.attention),
            "dispatch": "paused" if board.dispatch_paused else "on",
            "recovered": "",
            "pid": None,
            "started_at": None,
            "project": str(self.root),
        }

    def rows(self, sql: str, params: Any = ()) -> list[dict[str, Any]]:
        """The answer to our own SQL. Raises NoServerError if a server has the log open by now."""
        if server_info(self.state) is not None:
            raise NoServerError(f"a server runs for {self.root} by now: connect again")
        log = ReadingLog(self.state)
        try:
            return log.rows(sql, params)
        finally:
            log.close()

    @property
    def changes(self) -> _NoChanges:
        return _NoChanges()

    def packed(self, sql: str, limit: int) -> Packed:
        """The answer to an analyst's SELECT, as an Arrow stream."""
        return ask_packed(self.state / "export", self.seq, sql, limit, "arrow")

    def check(self) -> dict[str, Any]:
        """Prove the log."""
        from orchestrator_app.keeping import check

        return check(self.state)

    def get(self, path: str, *, patience: float = PATIENCE, **query: Any) -> Any:
        """What GET of this path would answer. Raises NotFoundError, UsageError, StoreError."""
        from orchestrator_app.api import TABLE  # slow to load, and needed only here
        from orchestrator_app.api.routing import Call, as_json

        if path == "/check":
            return self.check()
        for route in TABLE:
            found = re.fullmatch(re.sub(r"\{\w+\}", "([^/]+)", route.path), path)
            if route.method == "GET" and found:
                break
        else:
            raise NotFoundError(f"a stopped project has no {path}")
        known = {each.name: each for each in route.query}
        words = {name: known[name].check(word, "parameter") for name, word in query.items() if word is not None}
        name = unquote(found[1]) if found.groups() else ""
        call = Call(
            server=self,
            name=name,
            query=words,
            body={},
            actor="",
            version=None,
            key=None,
            accepts="",
            gone=threading.Event(),
            large=False,
        )
        with ThreadPoolExecutor(1) as thread:  # a notebook's own has a loop already
            answer = thread.submit(asyncio.run, route.answer(call)).result()
        return json.loads(as_json(getattr(answer, "content", answer)))
