"""The newest records as frames: made once for all who listen, while there is anybody.

A commit puts its records into an inbox, on the scheduler's thread; the loop makes frames of them, a slice at a time,
and wakes the listeners so many times a second at most. Records whose number doesn't follow have been lost on the way
(the inbox is bounded, too): then the tail begins anew behind them, and who was before finds that out by its cursor.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from orchestrator_app import metrics
from orchestrator_app.api.messages import frames_of, row_of
from orchestrator_app.store.records import Record

log = logging.getLogger(__name__)

BEHIND = 25_000
"""Records that a client may be behind; a batch of 10,000 units makes at most 20,000 at once."""
KEPT = 32 * 1024 * 1024
"""Bytes of frames; where records are large, a client may be behind by less."""
SLICE = 250
"""Records made into frames before the loop does something else."""
REACH = 2_000
"""Records that are fetched at once for those who come back after a short time."""
PAUSE = 0.04
"""Seconds between two rounds of waking at least. A commit after a rest is told at once."""


class Piece(NamedTuple):
    """A record as what is sent of it."""

    unit: str | None
    frames: tuple[tuple[str, bytes], ...]  # with their topics
    size: int


def piece_of(row: Mapping[str, Any]) -> Piece:
    frames = frames_of(row)
    return Piece(row["unit"], frames, sum(len(frame) for _, frame in frames))


class Listener(Protocol):
    owner: Any  # listeners are counted by whose they are

    def wake(self) -> None:
        """There is something new."""

    def stop(self) -> None:
        """The server stops."""


class Frames:
    """Frames of the records with `floor < seq <= head`. No threads, no loop."""

    def __init__(self, head: int, behind: int = BEHIND, kept: int = KEPT) -> None:
        self.floor = self.head = head
        self._behind, self._kept, self._size = behind, kept, 0
        self._pieces: dict[int, Piece] = {}

    def add(self, record: Record) -> None:
        seq = record.seq
        if seq <= self.head:
            return
        piece = piece_of(row_of(record))
        if seq != self.head + 1:
            self._pieces.clear()
            self._size, self.floor = 0, seq - 1
        self.head = seq
        self._put(seq, piece)
        self._trim()

    def add_before(self, pieces: Mapping[int, Piece]) -> None:
        """Take older records, too, if they end where these begin, and as far as there is room."""
        if pieces and max(pieces) == self.floor:
            self.floor = min(pieces) - 1
            for seq, piece in pieces.items():
                self._put(seq, piece)
            self._trim()

    def _put(self, seq: int, piece: Piece) -> None:
        self._pieces[seq] = piece
        self._size += piece.size

    def _trim(self) -> None:
        while len(self._pieces) > self._behind or (self._size > self._kept and len(self._pieces) > 1):
            self.floor += 1
            self._size -= self._pieces.pop(self.floor).size

    def has_after(self, cursor: int) -> bool:
        """Whether everything behind `cursor` is here."""
        return cursor >= self.floor

    def piece(self, seq: int) -> Piece:
        return self._pieces[seq]


class Tail:
    """The frames of a board's newest records. Everything but the commit's noting belongs to the loop's thread."""

    def __init__(self, board: Any, loop: asyncio.AbstractEventLoop) -> None:
        self.closed = False
        self.frames = Frames(0)
        self._board, self._loop = board, loop
        self._listeners: set[Listener] = set()
        self._inbox: deque[Record] = deque(maxlen=BEHIND)
        self._lock = threading.Lock()
        self._reaching = asyncio.Lock()
        self._due = False  # a round is scheduled, or under way
        self._woken_at = float("-inf")
        self._noted_at = 0.0  # when what is due was committed, the first of it
        self._end_watch: Any = None

    def join(self, listener: Listener) -> None:
        """Wake `listener` from now on. The first one begins the tail."""
        if not self._listeners:
            self._inbox.clear()
            self._end_watch = self._board.watch(self._note)
            self.frames = Frames(self._board.seq)  # what is committed between the two lines is noted, and not twice
        self._listeners.add(listener)

    def leave(self, listener: Listener) -> None:
        """The last one to leave ends the tail."""
        self._listeners.discard(listener)
        if not self._listeners and self._end_watch is not None:
            self._end_watch()
            self._end_watch = None
            self.frames = Frames(self.frames.head)

    @property
    def listening(self) -> int:
        """How many listeners there are."""
        return len(self._listeners)

    def count(self, owner: Any) -> int:
        """How many listeners an owner has."""
        return sum(listener.owner == owner for listener in self._listeners)

    async def reach_back(self, cursor: int, fetch: Callable[[int, int], Sequence[Mapping[str, Any]]]) -> bool:
        """Whether what is behind `cursor` is here, after a look at the log if it is not far from what is here.

        `fetch(since, upto)` gives the rows of the log in between, on another thread. A server that was started again
        has all of its listeners back at once: they share one look.
        """
        async with self._reaching:
            frames = self.frames
            if frames.floor - REACH <= cursor < frames.floor:
                since, upto = max(0, frames.floor - REACH), frames.floor
                frames.add_before(await self._loop.run_in_executor(None, _pieces, fetch, since, upto))
            return frames.has_after(cursor)

    def close(self) -> None:
        """Let all listeners go."""
        self.closed = True
        for listener in list(self._listeners):
            listener.stop()

    def _note(self, records: Sequence[Record]) -> None:
        """After a commit, on the scheduler's thread."""
        self._inbox.extend(records)
        with self._lock:
            if self._due:
                return
            self._due, self._noted_at = True, self._loop.time()
        self._loop.call_soon_threadsafe(self._begin_round)

    def _begin_round(self) -> None:
        self._loop.call_later(max(0.0, self._woken_at + PAUSE - self._loop.time()), self._round)

    def _round(self) -> None:
        """Make frames of what has come in; again soon if that is more than a slice."""
        for _ in range(SLICE):
            try:
                record = self._inbox.popleft()
            except IndexError:
                break
            try:
                self.frames.add(record)
            except Exception:  # the next record doesn't follow then, and listeners are told of the gap
                log.exception("record %d could not be told to those who listen", record.seq)
        with self._lock:
            self._due = more = bool(self._inbox)
        if more:
            self._loop.call_soon(self._round)
        else:
            self._woken_at = self._loop.time()
            metrics.LISTEN.observe(self._woken_at - self._noted_at)
        for listener in list(self._listeners):
            listener.wake()


def _pieces(fetch: Callable[[int, int], Sequence[Mapping[str, Any]]], since: int, upto: int) -> dict[int, Piece]:
    return {row["seq"]: piece_of(row) for row in fetch(since, upto)}
