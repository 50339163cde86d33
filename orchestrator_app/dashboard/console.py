"""One browser session: its feed, its connection, the requests of its operator, and the page it has open.

The browser's half (assets/console.js) applies frames and shows everything said by units and agents as text. What the
operator does comes back as messages; each request is answered with one line.
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
from panel.io.state import set_curdoc

from orchestrator_app.access import OPERATOR, Who
from orchestrator_app.dashboard import views
from orchestrator_app.dashboard.screen import Screen
from orchestrator_app.dashboard.screens import screen_of
from orchestrator_app.errors import ForbiddenError, OrchError
from orchestrator_app.feed import Feed
from orchestrator_app.operators import default_operator, is_operator
from orchestrator_app.orchestrator import Orchestrator
from orchestrator_app.requests import KINDS

logger = logging.getLogger(__name__)

ASSETS = Path(__file__).parent / "assets"
#: New attention items that one frame announces; a storm of them is announced by its number.
ANNOUNCED = 5


class Console(JSComponent):
    """The live part of the page: header strip, navigation, and one screen at a time."""

    dark = param.Boolean(default=False, doc="Whether the page is shown in its dark theme")

    _esm = ASSETS / "boot.js"

    def __init__(self, orchestrator: Orchestrator, who: Who = OPERATOR, **params: Any) -> None:
        styles = [
            file.read_text() for file in sorted(ASSETS.glob("*.css"), key=lambda file: file.name != "console.css")
        ]
        super().__init__(stylesheets=styles, **params)
        self.orchestrator = orchestrator
        #: Where a screen puts Panel and Bokeh objects; stands below the console in the page.
        self.holder = pn.Column(sizing_mode="stretch_width")
        self._document = pn.state.curdoc
        self._loop: asyncio.AbstractEventLoop | None = None
        self._feed = Feed(orchestrator.board, self._send_msg, self._schedule, self._content)
        self._screen: Screen | None = None
        self._head: dict[str, Any] | None = None
        self._announced = 0
        self._who = who
        self._operator = who.name or default_operator()

    def release(self, *_: Any) -> None:
        """The browser session has ended."""
        self._document = None
        self._feed.close()
        self._leave()

    # -- for the screens

    def soon(self, function: Callable[[], None]) -> None:
        """Run on this session's own thread, with its document. From any thread."""
        document = self._document
        if document is not None:
            try:
                document.add_next_tick_callback(function)
            except (RuntimeError, AttributeError):  # the session has been destroyed in between: Bokeh took it apart
                self._feed.close()

    def tell(self, number: int, payload: Any) -> None:
        if self._screen is not None and self._screen.number == number:
            self.soon(partial(self._send_msg, {"told": payload, "n": number}))

    def touch(self) -> None:
        self._feed.touch()

    # -- the feed

    def _schedule(self, function: Callable[[], None], delay: float) -> None:
        if delay and self._loop is not None:
            self._loop.call_soon_threadsafe(self._loop.call_later, delay, self.soon, function)
        else:
            self.soon(function)

    def _content(self, units: set[str], items: set[int]) -> dict[str, Any]:
        content: dict[str, Any] = {}
        head = views.head_view(self.orchestrator)
        if head != self._head:
            content["head"] = self._head = head
        if fresh := [number for number in items if number > self._announced]:
            self._announced = max(fresh)
            content["new"] = views.announcements(self.orchestrator.board, fresh, ANNOUNCED)
        screen = self._screen
        if screen is not None:
            try:
                payload = screen.changes(units, items)
            except OrchError as error:
                payload, content["fault"] = None, str(error)
            except Exception:
                logger.exception("the page %s could not tell what changed", type(screen).__name__)
                payload, content["fault"] = None, "this page could not be brought up to date: reload it"
            if payload is not None:
                content.update(screen=payload, n=screen.number)
        return content

    # -- what the browser says

    def _process_bokeh_event(self, doc: Any, event: Any) -> None:
        """As Panel does it, but for its flag that the server is busy: to raise and lower that costs more than most
        messages do themselves. (Where a Panel doesn't call this, its own way is taken, and all is well.)"""
        with set_curdoc(doc):
            self._process_event(event)

    def _handle_msg(self, message: Any) -> None:
        if not isinstance(message, dict):
            return
        match message.get("type"):
            case "hello":
                self._begin(message.get("operator"))
            case "ack":
                self._feed.acknowledge(message.get("frame"))
            case "ping":
                if views.head_view(self.orchestrator) != self._head:  # it says more than what is committed
                    self._feed.touch()
                self._feed.wake()
                self._send_msg({"pong": message.get("n"), "latency": self._feed.latency})
            case "open":
                self._open(message)
            case "say":
                if self._screen is not None and message.get("n") == self._screen.number:
                    said = message.get("message")
                    if isinstance(said, dict):
                        self._screen.hear(said)
            case "operator":
                self._name_operator(message.get("name"))
            case "do":
                self._do(message)

    def _begin(self, operator: Any) -> None:
        try:
            self._loop = asyncio.get_running_loop()
        except RuntimeError:  # outside a server, as in a notebook without one
            self._loop = None
        if is_operator(operator) and not self._who.name:
            self._operator = operator
        self._head = None
        board = self.orchestrator.board
        self._announced = max(board.attention, default=0)
        self._feed.open()
        self._send_msg({"operator": self._operator, "proven": bool(self._who.name), "viewer": not self._who.may_act})

    def _name_operator(self, name: Any) -> None:
        if is_operator(name) and not self._who.name:
            self._operator = name
        self._send_msg({"operator": self._operator, "refused": not is_operator(name)})

    def _open(self, message: dict[str, Any]) -> None:
        self._leave()
        number, args = message.get("n"), message.get("args")
        if not isinstance(number, int) or not isinstance(args, dict):
            return
        try:
            made = screen_of(str(message.get("page")))(self, number)
        except KeyError:
            self._send_msg({"nowhere": True, "n": number})
            return
        self._screen = made
        made.open({str(name): str(value) for name, value in args.items()})
        self._feed.touch()

    def _leave(self) -> None:
        screen, self._screen = self._screen, None
        if screen is not None:
            screen.close()

    def _do(self, message: dict[str, Any]) -> None:
        """Send a request and tell the browser how it went."""
        number, kind, args = message.get("id"), message.get("kind"), message.get("args")
        if kind not in KINDS or not isinstance(args, dict) or {"kind", "actor", "unit", "key"} & args.keys():
            self._send_msg({"done": number, "ok": False, "text": "the page asked for something unknown: reload it"})
            return
        try:
            future = self.request(kind, message.get("unit"), key=message.get("key"), **args)
        except OrchError as error:
            self._send_msg({"done": number, "ok": False, "text": str(error)})
            return
        future.add_done_callback(lambda done: self.soon(partial(self._answer, number, done)))

    def request(self, kind: str, unit: str | None = None, **args: Any) -> Future:
        """Queue a request in the name of this session's operator; see `Orchestrator.request`. The one way from a page
        to a change. Raises ForbiddenError for a viewer."""
        if not self._who.may_act:
            raise ForbiddenError("you may look at everything here and change nothing: ask an operator")
        return self.orchestrator.request(kind, unit, actor=f"operator:{self._operator}", **args)

    def _answer(self, number: Any, done: Future) -> None:
        error = done.exception()
        if error is None:
            self._send_msg({"done": number, "ok": True, "text": "", "answer": done.result()})
            return
        if not isinstance(error, OrchError):
            logger.error("a request of the page failed", exc_info=error)
        self._send_msg({"done": number, "ok": False, "text": str(error)})
