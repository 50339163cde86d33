"""The WebSocket `/ws`: what is committed, as it is committed; and for attempts, their own channel.

The log is the truth and a commit the wake-up. What a client is given must be on its way before it is given more, so
one that reads slowly, or never, costs a batch of bytes and no queue; one that answers no ping is dropped.
What a listener is given and when is decided in listening.py, what an attempt says and hears in attempts.py.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import fields
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from socket import SO_SNDBUF, SOL_SOCKET
from typing import Any

from tornado.httputil import HTTPServerRequest
from tornado.iostream import StreamClosedError
from tornado.routing import PathMatches
from tornado.web import HTTPError
from tornado.websocket import WebSocketHandler

from orchestrator_app.api.attempts import AttemptChannel
from orchestrator_app.api.changes import TABLES, read
from orchestrator_app.api.listening import Must, Place, Wanted, wanted_of
from orchestrator_app.api.messages import frame
from orchestrator_app.api.units import unit_row
from orchestrator_app.edge import CHANNEL, is_bokehs
from orchestrator_app.errors import NoServerError, OrchError, UsageError
from orchestrator_app.executors.events import MAX_LINE

log = logging.getLogger(__name__)

QUIET = 20.0
"""Seconds of silence after which a client is asked whether it is there, and within which it has to answer."""
SHOWN = 100
"""Units and attention items of a snapshot."""
PAGE = 2_000
"""Records read from the log at once, for a client that missed some."""
LONGEST = 2 * MAX_LINE
"""Bytes of one message of a client; a longer one ends the connection."""
BUFFER = 128 * 1024
"""Bytes that the system may hold for a client."""

MOST, MOST_OF_ONE = 1_000, 8
"""Sockets that may be open at once: of those who listen, together, and of one attempt."""

WRONG, GOING, FAILED, OVER, FULL = 4400, 1001, 1011, 4409, 1013
"""Why a socket is closed: wrong words, the server stops, it failed, the attempt is over, there are too many."""


class OwnSocket(PathMatches):
    """The path of this socket, which is that of the dashboard's own as well: pages ask for Bokeh's protocol."""

    def match(self, request: HTTPServerRequest) -> dict[str, Any] | None:
        return None if is_bokehs(request) else super().match(request)


class Socket(WebSocketHandler):
    """One client. The edge has looked at its Host, Origin and token before it comes here."""

    _speaking: asyncio.Task[None] | None = None
    _place: Place | None = None
    _attempt: AttemptChannel | None = None
    owner: tuple[str, int] | None = None  # the attempt that it belongs to

    async def prepare(self) -> None:
        if "edge" not in self.application.settings or "serving" not in self.application.settings:
            raise HTTPError(503, reason="The orchestrator is not running in this server")

    @property
    def ping_interval(self) -> float:
        return QUIET

    @property
    def ping_timeout(self) -> float:
        return QUIET

    @property
    def max_message_size(self) -> int:
        return LONGEST

    def open(self, *args: str, **kwargs: str) -> None:
        self._server = self.application.settings["serving"]
        self._tail = self._server.changes.tail
        self._loop = asyncio.get_running_loop()
        self._woken = asyncio.Event()
        # The system's buffers count as well: left to itself it gives megabytes to a client that never reads.
        self.ws_connection.stream.socket.setsockopt(SOL_SOCKET, SO_SNDBUF, BUFFER)
        self.owner = of = self.application.settings["edge"].attempt_of(self.request)
        self._attempt = None if of is None else AttemptChannel(self._server, *of)
        self._spoke_at = self._loop.time()
        self._full = self._too_many()
        if not self._full:
            self._tail.join(self)
        self._speaking = asyncio.ensure_future(self._speak())
        # A task that is cancelled before its first step runs none of its code, `finally` included.
        self._speaking.add_done_callback(lambda _: self._tail.leave(self))

    def _too_many(self) -> str:
        """Why there may be no more of this kind; empty while there may."""
        most, who = (
            (MOST, "clients listen") if self.owner is None else (MOST_OF_ONE, "sockets of this attempt are open")
        )
        if self._tail.count(self.owner) < most:
            return ""
        return f"{most:,} {who} already, and there may be no more: close one and come back"

    def wake(self) -> None:
        self._woken.set()

    def stop(self) -> None:
        if self._speaking is not None:
            self._speaking.cancel()

    def on_close(self) -> None:
        self.stop()

    # -- speaking

    async def _speak(self) -> None:
        """Say what there is to say until either side has enough."""
        try:
            with self._server.answering():
                await self._conversation()
        except asyncio.CancelledError:
            if self._tail.closed:
                self.close(GOING, "the server stops: come back with since")
        except (StreamClosedError, ConnectionError):
            self.close()
        except OrchError as error:
            code = WRONG if isinstance(error, UsageError) else GOING if isinstance(error, NoServerError) else FAILED
            await self._refuse(code, str(error))
        except Exception:
            log.exception("a client of %s could not be served", CHANNEL)
            self.close(FAILED, "the server failed on this connection; its log says why")

    async def _conversation(self) -> None:
        if self._tail.closed:
            raise asyncio.CancelledError
        if self._full:
            await self._refuse(FULL, self._full)
        elif self._attempt is not None:
            await self._serve_attempt(self._attempt)
        else:
            self._place = self._begin()
            await self._tell(self._place)

    def _begin(self) -> Place:
        """Where this client begins."""
        arguments = self.request.query_arguments
        wanted = wanted_of({name: [one.decode(errors="replace") for one in arguments[name]] for name in arguments})
        head = self._server.orchestrator.board.seq
        if wanted.since is not None and wanted.since > head:
            raise UsageError(
                f"since={wanted.since} is beyond the head of this log, {head}: connect without since for a snapshot"
            )
        return Place(wanted, head if wanted.since is None else wanted.since)

    async def _tell(self, place: Place) -> None:
        if place.wanted.since is None:
            await self._send(frame(snapshot(self._server.orchestrator, place.wanted, place.cursor)))
        while True:
            self._woken.clear()
            step = place.next(self._tail.frames)
            if step is Must.WAIT:
                await self._rest(seq=place.cursor)
            elif step is Must.READ:
                await self._read(place)
            else:
                await self._send(step)
                await asyncio.sleep(0)  # a client whose bytes are taken at once must not keep the loop

    async def _read(self, place: Place) -> None:
        """Give a page of what was missed, or have it fetched for all where that is not much."""
        orchestrator = self._server.orchestrator

        def fetch(since: int, upto: int) -> list[dict[str, Any]]:
            return read(orchestrator, TABLES, since, upto - since, None, upto)

        if await self._tail.reach_back(place.cursor, fetch):
            return
        head, unit = self._tail.frames.head, place.wanted.unit

        def look() -> tuple[list[bytes], int]:
            rows = read(orchestrator, place.tables, place.cursor, PAGE, unit, head)
            return place.batches(rows), rows[-1]["seq"] if len(rows) == PAGE else head

        batches, upto = await self._loop.run_in_executor(None, look)
        for batch in batches:
            await self._send(batch)
        place.cursor = upto

    async def _serve_attempt(self, attempt: AttemptChannel) -> None:
        while True:
            self._woken.clear()
            for message in attempt.news():
                await self._send(frame(message))
            if attempt.over:
                await self._refuse(OVER, attempt.over)
                return
            await self._rest()

    async def _rest(self, **said: Any) -> None:
        """Until there is something new, be it for others: a client that hears nothing for long is told so."""
        try:
            await asyncio.wait_for(self._woken.wait(), max(0.0, self._spoke_at + QUIET - self._loop.time()))
        except TimeoutError:
            await self._send(frame({"type": "ping", **said}))

    async def _send(self, data: bytes) -> None:
        """Returns when the client's connection has taken it all."""
        if self.ws_connection is None or self.ws_connection.is_closing():
            raise StreamClosedError
        if data:
            self._spoke_at = self._loop.time()
            await self.ws_connection.stream.write(data)

    async def _refuse(self, code: int, why: str) -> None:
        with suppress(StreamClosedError, ConnectionError):
            await self._send(frame({"type": "error", "message": why}))
        self.close(code, why.encode()[:120].decode(errors="ignore"))

    # -- hearing

    async def on_message(self, text: str | bytes) -> None:
        """While an answer is on its way nothing more is heard: who never reads can't fill the memory with answers."""
        try:
            answer = await self._answer(text)
        except OrchError as error:
            answer = {"type": "error", "message": str(error)}
        if answer is not None:
            with suppress(StreamClosedError, ConnectionError):
                await self._send(frame(answer))

    async def _answer(self, text: str | bytes) -> Mapping[str, Any] | None:
        message = parsed(text)
        match message.get("type"):
            case "ping":
                return {"type": "pong"} if self._place is None else {"type": "pong", "seq": self._place.cursor}
            case "pong":
                return None
        if self._attempt is None:
            raise UsageError(f'unknown type "{str(message.get("type"))[:40]}"; there are ping and pong')
        return await self._loop.run_in_executor(None, partial(self._attempt.hear, text, message))


def parsed(text: str | bytes) -> dict[str, Any]:
    """The object that a client sent. Raises UsageError."""
    if isinstance(text, bytes):
        raise UsageError("messages are text, not bytes")
    try:
        message = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"the message is not JSON: {str(error)[:100]}") from None
    if not isinstance(message, dict):
        raise UsageError("a message must be a JSON object")
    return message


def snapshot(orchestrator: Any, wanted: Wanted, seq: int) -> dict[str, Any]:
    """The first message: the whole in short, the open attention items, the newest units.

    Nothing behind `seq` is missed; what was committed while this was made may be in it already (a unit's `version`).
    """
    board = orchestrator.board
    items = [item for item in list(board.attention.values()) if wanted.unit in (None, item.unit)]
    if wanted.unit is None:
        units = list(islice(reversed(board.units.values()), SHOWN))
        more = len(board.units) > len(units)
    else:
        units, more = [board.units[name] for name in (wanted.unit,) if name in board.units], False
    payload = {
        "status": orchestrator.status(),
        "attention": [{each.name: getattr(item, each.name) for each in fields(item)} for item in items[-SHOWN:]],
        "units": [unit_row(unit, board) for unit in units],
        "more": {"units": "/api/v1/units" if more else None, "attention": len(items) > SHOWN},
    }
    return {"type": "snapshot", "seq": seq, "ts": datetime.now(UTC).replace(tzinfo=None), "payload": payload}
