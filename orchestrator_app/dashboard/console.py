"""The live part of the page: one component, one feed, one frame in flight.

The browser's half (console.js) applies frames by key and shows everything said by units and agents as text. What the
operator does comes back as messages; each is answered with one line.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

import panel as pn
import param
from panel.custom import JSComponent

from orchestrator_app.dashboard import views
from orchestrator_app.errors import OrchError
from orchestrator_app.executors.output import decoded, read_piece
from orchestrator_app.feed import Feed
from orchestrator_app.orchestrator import Orchestrator
from orchestrator_app.requests import KINDS
from orchestrator_app.states import Status

logger = logging.getLogger(__name__)

_HERE = Path(__file__).parent
#: Bytes of a log that one message carries, and seconds between two looks at it.
LOG_SHARE = 64_000
LOG_PAUSE = 0.4


class Console(JSComponent):
    """Header strip, attention queue, board and unit page of one browser session."""

    dark = param.Boolean(default=False, doc="Whether the page is shown in its dark theme")
    unit = param.String(default="", doc="The unit whose page is open; empty for the board")
    choices = param.Dict(default={}, doc="What a submit form may offer: workflows and agents")

    _esm = _HERE / "console.js"

    def __init__(self, orchestrator: Orchestrator, **params: Any) -> None:
        super().__init__(stylesheets=[(_HERE / "console.css").read_text()], **params)
        self._orchestrator = orchestrator
        self._document = pn.state.curdoc
        self._feed = Feed(orchestrator.board, self._send_msg, self._soon, self._value)
        self._page: asyncio.Task | None = None
        self._page_unit = ""
        self._story_seq = 0
        self._log_acknowledged = asyncio.Event()

    def release(self, *_: Any) -> None:
        """The browser session has ended."""
        self._feed.close()
        self._close_page()

    def _soon(self, function: Callable[[], None]) -> None:
        """Run on this session's own thread, with its document. From any thread."""
        if self._document is not None:
            try:
                self._document.add_next_tick_callback(function)
            except RuntimeError:
                self._feed.close()  # the session has been destroyed in between

    def _value(self, key: tuple[str, Any]) -> Any:
        if key == ("unit", self._page_unit):
            self._refresh_page()
        return views.value(self._orchestrator, key)

    # -- what the browser says

    def _handle_msg(self, message: Any) -> None:
        if not isinstance(message, dict):
            return
        match message.get("type"):
            case "hello":
                self._feed.open(views.first_keys(self._orchestrator))
            case "ack":
                self._feed.acknowledge(message.get("frame"))
            case "ping":
                self._feed.wake()
                self._send_msg({"pong": message.get("n"), "latency": self._feed.latency})
            case "more":
                self._more(str(message.get("status")), message.get("count"))
            case "open":
                self._open_page(str(message.get("unit") or ""))
            case "log-ack":
                self._log_acknowledged.set()
            case "do":
                self._do(message)

    def _more(self, status: str, count: Any) -> None:
        if status in Status.__members__ and isinstance(count, int):
            keys = views.share_of(self._orchestrator, Status(status), min(max(count, 0), 5_000))
            self._feed.touch(*keys)

    def _do(self, message: dict[str, Any]) -> None:
        """Send a request and tell the browser how it went."""
        number, kind, args = message.get("id"), message.get("kind"), message.get("args")
        if kind not in KINDS or not isinstance(args, dict) or {"kind", "actor", "unit"} & args.keys():
            self._send_msg({"done": number, "ok": False, "text": "the page asked for something unknown: reload it"})
            return
        try:
            future = self._orchestrator.request(kind, message.get("unit"), **args)
        except OrchError as error:
            self._send_msg({"done": number, "ok": False, "text": str(error)})
            return
        future.add_done_callback(lambda done: self._soon(partial(self._tell, number, done)))

    def _tell(self, number: Any, done: Future) -> None:
        error = done.exception()
        if error is not None and not isinstance(error, OrchError):
            logger.error("a request of the page failed", exc_info=error)
        self._send_msg({"done": number, "ok": error is None, "text": "" if error is None else str(error)})

    # -- the page of one unit

    def _open_page(self, name: str) -> None:
        self._close_page()
        self._page_unit = name
        if not name:
            return
        if name not in self._orchestrator.board.units:
            self._send_msg({"page": None, "name": name})
            return
        self._story_seq = 0
        self._send_facts()
        self._page = asyncio.get_running_loop().create_task(self._attend_page(name))

    def _close_page(self) -> None:
        if self._page is not None:
            self._page.cancel()
            self._page = None

    def _refresh_page(self) -> None:
        self._send_facts()
        self._wake_story()

    def _send_facts(self) -> None:
        self._send_msg({"page": views.facts(self._orchestrator, self._page_unit), "name": self._page_unit})

    def _wake_story(self) -> None:
        asyncio.get_running_loop().create_task(self._send_story(self._page_unit))

    async def _send_story(self, name: str) -> None:
        since = self._story_seq
        rows = await asyncio.to_thread(views.story, self._orchestrator, name, since)
        rows = [row for row in rows if row["seq"] > self._story_seq]
        if rows and name == self._page_unit:
            self._story_seq = rows[-1]["seq"]
            self._soon(partial(self._send_msg, {"story": rows, "name": name}))

    async def _attend_page(self, name: str) -> None:
        """Follow the output of the unit's newest attempt for as long as its page is open."""
        runs = self._orchestrator.project.state / "runs"
        attempt, offset = 0, None
        await self._send_story(name)
        while True:
            current = self._orchestrator.board.row(name).attempt
            if current != attempt:
                attempt, offset = current, None
            try:
                piece = await asyncio.to_thread(
                    read_piece, runs, (name, str(attempt), "output.log"), offset, None, LOG_SHARE
                )
            except OrchError:
                piece = None
            if piece is not None and piece.data:
                text, used = decoded(piece)
                self._log_acknowledged.clear()
                share = {"attempt": attempt, "offset": piece.offset, "text": text, "anew": offset is None}
                self._soon(partial(self._send_msg, {"log": share, "name": name}))
                offset = piece.offset + used
                await self._log_acknowledged.wait()
            else:
                await asyncio.sleep(LOG_PAUSE)
