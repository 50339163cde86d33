"""Notices when something blocks the server's loop: a timer that measures how late it is itself.

While the loop is blocked nothing is answered, so it can only be said afterwards: in the log, once each time, and for a
while by `/healthz`.
"""

from __future__ import annotations

import asyncio
import logging

logger = logging.getLogger(__name__)

#: Seconds between two looks, how late one may come, and how long a block is told of.
EVERY, LIMIT, TOLD = 0.25, 1.0, 10.0


class LoopWatch:
    """Watches a loop, from its own thread, until it ends."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._late_at = float("-inf")
        loop.call_soon_threadsafe(self._wait)

    @property
    def slow(self) -> bool:
        """Whether the loop was blocked just now."""
        return self._loop.time() - self._late_at < TOLD

    def _wait(self) -> None:
        self._loop.call_later(EVERY, self._look, self._loop.time() + EVERY)

    def _look(self, due: float) -> None:
        late = self._loop.time() - due
        if late > LIMIT:
            self._late_at = self._loop.time()
            logger.warning("the server's loop was blocked for %.1f s: no page and no request was answered", late)
        self._wait()
