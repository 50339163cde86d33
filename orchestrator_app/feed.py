"""What a screen is kept up to date by: a cursor, the sets of what changed, and one frame in flight.

Many changes to one unit are one change. A frame is sent when the client has acknowledged the one before, so a slow or
sleeping client costs a set of names, never a queue, and the round trip tells the latency. Commits only mark names: they
come on the scheduler's thread, where nothing may take long; what a frame says is read when it is made.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from orchestrator_app import metrics
from orchestrator_app.model import Board
from orchestrator_app.states import Status, Trigger
from orchestrator_app.store.records import AttentionChange, Record, Transition

logger = logging.getLogger(__name__)

#: Seconds between two frames at least. A change after a rest goes out at once; a storm is told of so many times a
#: second, however quick the client is.
PAUSE = 0.04


class Feed:
    """Keeps one client's picture of a board up to date.

    `send(frame)` gives a frame to the client. `schedule(function, delay)` has a function called on the client's own
    thread after `delay` seconds, and may itself be called from any thread; every other method but the commit's marking
    belongs to that one thread. `content(units, items)` is what a frame says, given the names of the units and the
    numbers of the attention items that changed since the last one: a JSON-safe dict.
    """

    def __init__(
        self,
        board: Board,
        send: Callable[[dict[str, Any]], None],
        schedule: Callable[[Callable[[], None], float], None],
        content: Callable[[set[str], set[int]], dict[str, Any]],
        *,
        pause: float = PAUSE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._board = board
        self._send = send
        self._schedule = schedule
        self._content = content
        self._pause = pause
        self._clock = clock
        self._lock = threading.Lock()
        self._units: set[str] = set()
        self._items: set[int] = set()
        self._seq = 0
        self._stale = False  # something has changed, be it a unit or not
        self._in_flight: int | None = None
        self._sent_at = float("-inf")
        self._due = False
        self._number = 0
        self._end: Callable[[], None] | None = None
        #: Seconds from sending the newest acknowledged frame to its acknowledgement; None before the first.
        self.latency: float | None = None

    def open(self) -> None:
        """Begin, or begin anew: the client knows nothing and waits for nothing."""
        if self._end is None:
            self._end = self._board.watch(self._mark)
        with self._lock:
            self._units.clear()
            self._items.clear()
            self._seq = self._board.seq
            self._in_flight = None
            self._stale = True
            self._sent_at = float("-inf")
        self._flush()

    def close(self) -> None:
        """End: the board knows nothing of this client any more."""
        if self._end is not None:
            self._end()
            self._end = None
        with self._lock:
            self._stale = False
            self._units.clear()
            self._items.clear()

    def touch(self) -> None:
        """Have a frame made soon, though nothing was committed."""
        with self._lock:
            self._stale = True
            delay = self._take_turn()
        if delay is not None:
            self._schedule(self._flush, delay)

    def wake(self) -> None:
        """Send what waits, should a wake-up have been lost. A client that is heard of calls it."""
        self._flush()

    def acknowledge(self, number: Any) -> None:
        """The client has applied frame `number`: the next one may go."""
        with self._lock:
            if self._in_flight is None or number != self._in_flight:
                return
            self._in_flight = None
            self.latency = self._clock() - self._sent_at
            metrics.FEED.observe(self.latency)
            delay = self._take_turn()
        if delay is not None:
            self._schedule(self._flush, delay)

    def _mark(self, records: Sequence[Record]) -> None:
        """Note what a commit changed; on the scheduler's thread."""
        with self._lock:
            for record in records:
                if record.unit is not None:
                    self._units.add(record.unit)
                if type(record) is Transition:
                    self._mark_neighbours(record)
                elif type(record) is AttentionChange:
                    self._items.add(record.item)
            self._seq = records[-1].seq
            self._stale = True
            delay = self._take_turn()
        if delay is not None:
            self._schedule(self._flush, delay)

    def _mark_neighbours(self, row: Transition) -> None:
        """Note whose blockers, or number of dependents, a transition of another unit changed."""
        if row.to_status is Status.DONE:
            self._units |= self._board.dependents(row.unit)
        elif row.trigger in (Trigger.SUBMIT, Trigger.EDIT, Trigger.SERIALIZE):
            for name in self._board.units[row.unit].after:
                self._units.add(name)
                blocker = self._board.units.get(name)
                self._items.update(blocker.items if blocker else ())

    def _take_turn(self) -> float | None:
        """Seconds until the next frame, where it is now for the caller to schedule it. With the lock held."""
        if self._due or self._in_flight is not None or not self._stale:
            return None
        self._due = True
        return max(0.0, self._sent_at + self._pause - self._clock())

    def _flush(self) -> None:
        with self._lock:
            self._due = False
            if self._in_flight is not None or not self._stale or self._end is None:
                return
            units, self._units = self._units, set()
            items, self._items = self._items, set()
            self._stale = False
            self._number += 1
            number = self._in_flight = self._number
            seq = self._seq
            self._sent_at = self._clock()
        try:
            content = self._content(units, items)
        except Exception:  # a frame that can't be made must not hold up all later ones
            logger.exception("the feed could not tell what changed up to %d", seq)
            content = {}
        self._send({"frame": number, "seq": seq, **content})
