"""What a screen or client is kept up to date by: a cursor, a set of changed keys, and one frame in flight.

Many changes to one unit are one change. A frame is sent when the client has acknowledged the one before, so a slow or
sleeping client costs a set of keys, never a queue, and the round trip tells the latency. Commits only mark keys: they
come on the scheduler's thread, where nothing may take long; values are read from the board when a frame is made.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from orchestrator_app.model import Board
from orchestrator_app.states import Status, Trigger
from orchestrator_app.store.records import AttentionChange, Record, Transition

logger = logging.getLogger(__name__)

#: Changes in one frame; the rest goes into the next.
FRAME = 500

#: What a frame can speak of: ("unit", NAME), ("item", NUMBER) and ("head", "").
Key = tuple[str, Any]


class Feed:
    """Keeps one client's picture of a board up to date.

    `send(frame)` gives a frame to the client and `schedule(function)` has a function called soon on the client's own
    thread; every other method but the commit's marking is called on that thread. `value(key)` is what a frame says of a
    key, JSON-safe; None says that it is gone.
    """

    def __init__(
        self,
        board: Board,
        send: Callable[[dict[str, Any]], None],
        schedule: Callable[[Callable[[], None]], None],
        value: Callable[[Key], Any],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._board = board
        self._send = send
        self._schedule = schedule
        self._value = value
        self._clock = clock
        self._lock = threading.Lock()
        self._changed: dict[Key, None] = {}
        self._seq = 0
        self._in_flight: int | None = None
        self._sent_at = 0.0
        self._due = False
        self._number = 0
        self._end: Callable[[], None] | None = None
        #: Seconds from sending the newest acknowledged frame to its acknowledgement; None before the first.
        self.latency: float | None = None

    def open(self, keys: Sequence[Key]) -> None:
        """Begin: the client knows nothing, so every one of `keys` is changed. Opening again begins anew."""
        if self._end is None:
            self._end = self._board.watch(self._mark)
        with self._lock:
            self._changed = dict.fromkeys([("head", ""), *keys])
            self._seq = self._board.seq
            self._in_flight = None
        self._flush()

    def close(self) -> None:
        """End: the board knows nothing of this client any more."""
        if self._end is not None:
            self._end()
            self._end = None
        with self._lock:
            self._changed.clear()

    def touch(self, *keys: Key) -> None:
        """Have keys sent again, whatever happened to them."""
        with self._lock:
            self._changed.update(dict.fromkeys(keys))
        self._flush()

    def wake(self) -> None:
        """Send what waits, should a wake-up have been lost. A client that is heard of calls it."""
        self._flush()

    def acknowledge(self, number: int) -> None:
        """The client has applied frame `number`: the next one may go."""
        with self._lock:
            if number != self._in_flight:
                return
            self._in_flight = None
            self.latency = self._clock() - self._sent_at
        self._flush()

    def _mark(self, records: Sequence[Record]) -> None:
        """Note what a commit changed; on the scheduler's thread."""
        with self._lock:
            for record in records:
                if record.unit is not None:
                    self._changed["unit", record.unit] = None
                if type(record) is Transition:
                    self._mark_neighbours(record)
                elif type(record) is AttentionChange:
                    self._changed["item", record.item] = None
            self._changed["head", ""] = None
            self._seq = records[-1].seq
            if self._due or self._in_flight is not None:
                return
            self._due = True
        self._schedule(self._flush)

    def _mark_neighbours(self, row: Transition) -> None:
        """Note whose blockers, or number of dependents, a transition of another unit changed."""
        if row.to_status is Status.DONE:
            self._changed.update(dict.fromkeys(("unit", name) for name in self._board.dependents(row.unit)))
        elif row.trigger in (Trigger.SUBMIT, Trigger.EDIT):
            for name in self._board.units[row.unit].after:
                self._changed["unit", name] = None
                blocker = self._board.units.get(name)
                self._changed.update(dict.fromkeys(("item", item) for item in (blocker.items if blocker else ())))

    def _flush(self) -> None:
        with self._lock:
            self._due = False
            if self._in_flight is not None or not self._changed:
                return
            keys = list(self._changed)[:FRAME]
            for key in keys:
                del self._changed[key]
            self._number += 1
            number = self._in_flight = self._number
            seq, rest = self._seq, len(self._changed)
            self._sent_at = self._clock()
        changes = []
        for key in keys:
            try:
                changes.append([*key, self._value(key)])
            except Exception:  # one key that can't be told must not hold up all others for ever
                logger.exception("the feed could not tell of %s %s", *key)
        self._send({"frame": number, "seq": seq, "changes": changes, "rest": rest})
