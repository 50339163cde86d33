"""A board in another process: the same records, folded by the same code, as they are committed."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from contextlib import aclosing, suppress
from datetime import datetime
from typing import Any

from orchestrator_app.client import Client
from orchestrator_app.client.following import AGAIN, Following
from orchestrator_app.errors import OrchError
from orchestrator_app.model import Board
from orchestrator_app.states import Status, Trigger
from orchestrator_app.store.records import TABLES, Record

logger = logging.getLogger(__name__)

_RECORDS = {table: record for record, table in TABLES.items()}


class Mirror:
    """Keeps `board` up to date on a thread of its own, from when it is made to `close`.

    What is there already comes from GET /feed, page by page; what is committed from then on, over /ws. `find` gives
    the server, or raises an OrchError while there is none: one that comes back, perhaps at another port, is found
    again, and goes on behind the newest record that is here. Watchers of the board are called on the mirror's thread,
    one after the other; while they are busy nothing more is read, so a slow one makes the board late, not large.
    """

    def __init__(self, find: Callable[[], Client]) -> None:
        """Returns when the board is up to date for the first time. Raises OrchError if that fails."""
        self.board = Board()
        self._find = find
        self._pull(find())
        self._following = Following(find, self.board.seq)
        self._closing = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="orch-mirror", daemon=True)
        self._thread.start()

    @property
    def fault(self) -> str | None:
        """Why the board is not up to date just now."""
        return self._following.fault

    def close(self) -> None:
        """Stop following. The board stays as it is."""
        with suppress(RuntimeError):  # it has ended already
            self._loop.call_soon_threadsafe(self._closing.set)
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout=5)

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._until_closed())
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.run_until_complete(self._loop.shutdown_default_executor())
        finally:
            self._loop.close()

    async def _until_closed(self) -> None:
        following = asyncio.ensure_future(self._follow())
        await self._closing.wait()
        following.cancel()
        await asyncio.wait([following])

    async def _follow(self) -> None:
        while True:
            try:
                async with aclosing(self._following.messages()) as messages:
                    async for message in messages:
                        self._hear(message)
            except OrchError as error:
                logger.warning("The board is as of record %d: %s", self.board.seq, error)
                fault = str(error)
            except Exception as error:  # a record that this version can't fold, say: it must not die unseen
                logger.exception("The board is as of record %d.", self.board.seq)
                fault = f"the board can't be kept up to date: {type(error).__name__}: {error}"
            self._following = Following(self._find, self.board.seq)
            self._following.fault = fault
            await asyncio.sleep(AGAIN)

    def _hear(self, message: dict[str, Any]) -> None:
        payload = message["payload"]
        if "table" in payload and payload["seq"] > self.board.seq:
            self.board.fold([record_of(payload)])

    def _pull(self, server: Client) -> None:
        """Fold what there is, page by page."""
        more = True
        while more:
            answer = server.changes(self.board.seq)
            self.board.fold(record_of(row) for row in answer["records"])
            more = answer["more"]


def record_of(row: dict[str, Any]) -> Record:
    """A record from a row of the feed. Raises KeyError for a table that this version doesn't know."""
    kind = _RECORDS[row["table"]]
    values = {name: row[name] for name in kind._fields}
    values["occurred_at"] = datetime.fromisoformat(row["occurred_at"].removesuffix("Z"))
    for name, words in (("from_status", Status), ("trigger", Trigger), ("to_status", Status)):
        if name in values:
            values[name] = words(values[name])
    return kind(**values)
