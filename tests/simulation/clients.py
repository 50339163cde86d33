"""Those who look on: a watcher that sees every commit, and clients with feeds, who lag, lose wake-ups and come back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from orchestrator_app.feed import Feed
from orchestrator_app.model import Board
from orchestrator_app.store.records import Record

from .fake_host import Violation


class Onlooker:
    """Sees what every watcher sees: each record once, in order, and none that is not yet folded."""

    def __init__(self, board: Board) -> None:
        self.seen = board.seq
        self._board = board
        board.watch(self._see)

    def _see(self, records: Sequence[Record]) -> None:
        for record in records:
            if record.seq != self.seen + 1:
                raise Violation(f"I8: a watcher sees record {record.seq} after {self.seen}")
            self.seen = record.seq
        if self._board.seq < self.seen:
            raise Violation(f"I8: a watcher sees record {self.seen} before the board, which is at {self._board.seq}")


class Client:
    """A browser: its picture is what its frames said, and nothing else."""

    def __init__(self) -> None:
        self.picture: dict[str, Any] = {}
        self.frames: list[dict[str, Any]] = []
        self.scheduled: list[Callable[[], None]] = []
        self.feed: Feed | None = None
        self._board: Board | None = None
        self._whole = False
        self._seq = 0

    def connect(self, board: Board, clock: Callable[[], float]) -> None:
        """Begin anew, with a server that may be another one."""
        self.disconnect()
        self._board = board
        self._whole = True
        self._seq = 0
        self.picture.clear()
        self.feed = Feed(board, self.frames.append, self._schedule, self._content, clock=clock)
        self.feed.open()

    def _schedule(self, work: Callable[[], None], delay: float) -> None:
        self.scheduled.append(work)

    def disconnect(self) -> None:
        if self.feed is not None:
            self.feed.close()
        self.feed = None
        self.frames.clear()
        self.scheduled.clear()

    def forget(self) -> None:
        """The server is dead; the screen shows what it showed."""
        self.feed = None
        self.frames.clear()
        self.scheduled.clear()

    def _content(self, units: set[str], items: set[int]) -> dict[str, Any]:
        if self._whole:
            self._whole = False
            units, items = set(self._board.units), set(self._board.attention)
        content = {name: self._of(name) for name in sorted(units)}
        content.update({str(item): item in self._board.attention for item in sorted(items)})
        return {"changes": content}

    def _of(self, name: str) -> tuple:
        unit = self._board.units[name]
        return str(unit.status), unit.version, unit.attempt, tuple(self._board.waits_for(name))

    def wakes(self) -> None:
        while self.scheduled:
            self.scheduled.pop(0)()

    def receives(self, board: Board) -> None:
        """Apply and acknowledge the frame that is under way."""
        if not self.frames:
            return
        if len(self.frames) > 1:
            raise Violation(f"I11: {len(self.frames)} frames are on their way to one client")
        frame = self.frames.pop()
        if not self._seq <= frame["seq"] <= board.seq:
            raise Violation(f"I8: a frame of record {frame['seq']} after {self._seq}; the log is at {board.seq}")
        self._seq = frame["seq"]
        self.picture.update(frame.get("changes", {}))
        self.feed.acknowledge(frame["frame"])

    def catches_up(self, board: Board) -> None:
        """It is heard of, and takes what there is."""
        self.feed.wake()
        for _ in range(4):
            self.wakes()
            self.receives(board)

    def check_bounds(self, board: Board) -> None:
        if len(self.feed._units) > len(board.units):
            raise Violation("I11: a feed remembers more units than there are")

    def check_picture(self, board: Board) -> None:
        expected = {name: self._of(name) for name in board.units}
        shown = {name: value for name, value in self.picture.items() if name in expected}
        if shown != expected:
            wrong = sorted(name for name in expected if shown.get(name) != expected[name])
            raise Violation(f"L5: a client shows {[(name, shown.get(name)) for name in wrong]}, not {expected}")
        items = {name for name, open in self.picture.items() if open is True}
        if items != {str(item) for item in board.attention}:
            raise Violation(f"L5: a client shows the items {sorted(items)}, not {sorted(board.attention)}")
