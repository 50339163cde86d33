"""A board in another process: the same records, folded by the same code, as they are committed."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import datetime
from typing import Any

from orchestrator_app.analysis.server import Server
from orchestrator_app.errors import OrchError
from orchestrator_app.model import Board
from orchestrator_app.states import Status, Trigger
from orchestrator_app.store.records import TABLES, Record

logger = logging.getLogger(__name__)

#: Seconds that one request waits for something new, and between two tries to reach a server that is gone.
WAIT = 20.0
AGAIN = 1.0

_RECORDS = {table: record for record, table in TABLES.items()}


class Mirror:
    """Keeps `board` up to date on a thread of its own, from when it is made to `close`.

    `find` gives the server, or raises an OrchError while there is none: one that comes back, perhaps at another port,
    is found again. Watchers of the board are called on the mirror's thread.
    """

    def __init__(self, find: Callable[[], Server]) -> None:
        """Returns when the board is up to date for the first time. Raises OrchError if that fails."""
        self.board = Board()
        self.fault: str | None = None
        self._find, self._server = find, find()
        self._closing = threading.Event()
        while self._pull(wait=0):
            pass
        self._thread = threading.Thread(target=self._follow, name="orch-mirror", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop following. The board stays as it is."""
        self._closing.set()
        self._server.hang_up()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout=5)

    def _pull(self, wait: float) -> bool:
        """Fold what is new, waiting for it if there is nothing; whether there is more."""
        answer = self._server.get("/feed", since=self.board.seq, wait=wait, patience=wait + 30)
        self.board.fold(record_of(row) for row in answer["records"])
        return answer["more"]

    def _follow(self) -> None:
        while not self._closing.is_set():
            before = self.board.seq
            try:
                self._pull(WAIT)
                self.fault = None
            except OrchError as error:
                if not self._closing.is_set():
                    self._lost(error)
            if self.board.seq == before:
                self._closing.wait(0.05)  # a stopping server answers at once, with nothing

    def _lost(self, error: OrchError) -> None:
        if self.fault is None:
            logger.warning("The board is as of record %d: %s", self.board.seq, error)
        self.fault = str(error)
        self._closing.wait(AGAIN)
        try:
            self._server = self._find()
        except OrchError:
            pass  # not there yet; the next try looks again


def record_of(row: dict[str, Any]) -> Record:
    """A record from a row of the feed. Raises KeyError for a table that this version doesn't know."""
    kind = _RECORDS[row["table"]]
    values = {name: row[name] for name in kind._fields}
    values["occurred_at"] = datetime.fromisoformat(row["occurred_at"].removesuffix("Z"))
    for name, words in (("from_status", Status), ("trigger", Trigger), ("to_status", Status)):
        if name in values:
            values[name] = words(values[name])
    return kind(**values)
