"""The server's half of one page, while it is open in one browser session."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Set
from typing import TYPE_CHECKING, Any

from orchestrator_app.model import Board

if TYPE_CHECKING:
    from orchestrator_app.dashboard.console import Console

logger = logging.getLogger(__name__)


class Screen:
    """What every page has: the board to read, a way to its browser half, and an end.

    A page overrides `open`, `changes`, `hear` and, where it holds something, `close`. All of them are called on the
    session's own thread, which serves every other page too: what may take long goes through `run`.
    """

    def __init__(self, session: Console, number: int) -> None:
        self.session = session
        self.number = number
        self._work: set[asyncio.Task] = set()
        self._placed: list[Any] = []

    @property
    def board(self) -> Board:
        return self.session.orchestrator.board

    def open(self, args: dict[str, str]) -> None:
        """The page was opened with these arguments of its address. `changes` follows soon, with nothing changed."""

    def changes(self, units: Set[str], items: Set[int]) -> Any | None:
        """What the next frame says to the browser half, given the units and attention items that changed since the
        last call. JSON-safe; None says nothing."""
        return None

    def hear(self, message: dict[str, Any]) -> None:
        """The browser half said something. Its types are as trustworthy as a browser."""

    def close(self) -> None:
        """The page was left, or its session ended."""
        for task in self._work:
            task.cancel()
        for viewable in self._placed:
            self.session.holder.remove(viewable)
        self._placed.clear()

    # -- for the pages' use

    def tell(self, payload: Any) -> None:
        """Say something to the browser half at once, beside the frames."""
        self.session.tell(self.number, payload)

    def touch(self) -> None:
        """Have `changes` called soon, though nothing was committed."""
        self.session.touch()

    def soon(self, function: Callable[[], None]) -> None:
        """Have a function called on the session's thread, with its document. From any thread."""
        self.session.soon(function)

    def run(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task:
        """Begin something that takes its time. It is cancelled when the page is left; what it raises is logged."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self._work.add(task)
        task.add_done_callback(self._ended)
        return task

    def place(self, viewable: Any) -> None:
        """Show a Panel or Bokeh object below the browser half until the page is left."""
        self._placed.append(viewable)
        self.session.holder.append(viewable)

    def _ended(self, task: asyncio.Task) -> None:
        self._work.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logger.error("a page's work failed", exc_info=task.exception())
