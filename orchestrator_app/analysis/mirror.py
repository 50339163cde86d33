"""A board in another process: the same records, folded by the same code, as they are committed."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import Any

from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.iostream import StreamClosedError
from tornado.websocket import WebSocketError, websocket_connect

from orchestrator_app.client import Client
from orchestrator_app.errors import NoServerError, OrchError
from orchestrator_app.model import Board
from orchestrator_app.states import Status, Trigger
from orchestrator_app.store.records import TABLES, Record

logger = logging.getLogger(__name__)

#: Seconds between two tries to reach a server that is gone; to wait for one that doesn't answer; between two pings.
AGAIN, PATIENCE, PING = 1.0, 30.0, 20.0

_RECORDS = {table: record for record, table in TABLES.items()}


class Mirror:
    """Keeps `board` up to date on a thread of its own, from when it is made to `close`.

    What is there already comes from GET /feed, page by page; what is committed from then on, over /ws. `find` gives
    the server, or raises an OrchError while there is none: one that comes back, perhaps at another port, is found
    again, and goes on behind the newest record that is here. Watchers of the board are called on the mirror's thread.
    """

    def __init__(self, find: Callable[[], Client]) -> None:
        """Returns when the board is up to date for the first time. Raises OrchError if that fails."""
        self.board = Board()
        self.fault: str | None = None
        self._find, self._server = find, find()
        self._pull()
        self._closing = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="orch-mirror", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop following. The board stays as it is."""
        self._server.hang_up()
        with suppress(RuntimeError):  # it has ended already
            self._loop.call_soon_threadsafe(self._closing.set)
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout=5)

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._until_closed())
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
                await self._listen()
            except OrchError as error:
                if self.fault is None:
                    logger.warning("The board is as of record %d: %s", self.board.seq, error)
                self.fault = str(error)
            except Exception as error:  # a record that this version can't fold, say: it must not die unseen
                logger.exception("The board is as of record %d.", self.board.seq)
                self.fault = f"the board can't be kept up to date: {type(error).__name__}: {error}"
            await asyncio.sleep(AGAIN)
            with suppress(OrchError):  # not there yet; the next try looks again
                self._server = await asyncio.to_thread(self._find)

    async def _listen(self) -> None:
        """Fold what one server says, until it says no more. Raises OrchError."""
        server = self._server
        address = f"{server.url.replace('http', 'ws', 1)}/ws?since={self.board.seq}"
        request = HTTPRequest(address, headers=server.headers, connect_timeout=PATIENCE, request_timeout=PATIENCE)
        try:
            socket = await websocket_connect(request, ping_interval=PING)
        except HTTPClientError as error:
            raise OrchError(f"{server.url} refuses to be listened to: {error}") from None
        except (OSError, StreamClosedError, WebSocketError) as error:
            raise NoServerError(f"the server at {server.url} doesn't answer ({error})") from None
        try:
            self.fault = None
            while (text := await socket.read_message()) is not None:
                self._hear(json.loads(text))
        finally:
            socket.close()
        raise NoServerError(f"the server at {server.url} has ended: see with `orch status` whether another runs")

    def _hear(self, message: dict[str, Any]) -> None:
        payload = message.get("payload", {})
        if "table" in payload and payload["seq"] > self.board.seq:  # after a gap some are here already
            self.board.fold([record_of(payload)])
        elif message["type"] == "gap":
            self._pull()
        elif message["type"] == "error":
            raise OrchError(message["message"])

    def _pull(self) -> None:
        """Fold what there is, page by page."""
        more = True
        while more:
            answer = self._server.get("/feed", since=self.board.seq)
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
