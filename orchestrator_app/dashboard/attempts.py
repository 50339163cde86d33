"""Every attempt as a bar of a Gantt: when it ran, how it ended, and the lane it is drawn in.

Kept in memory from the transition log, read on from a cursor: a lane depends on all attempts before it, so asking
for a range alone would have bars jump between lanes whenever somebody pans.
"""

from __future__ import annotations

import heapq
import threading
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from orchestrator_app.orchestrator import Orchestrator

#: Attempts kept; of a longer history the oldest are left out.
MOST = 300_000
#: Single attempts that are drawn at once; of more, their share of each bin of time.
MOST_BARS = 3_000
#: Shaded bins that are drawn at once.
MOST_BINS = 5_000
#: Bins over the visible time, at most.
BINS = 200

#: How attempts end, by the trigger that ended them.
OUTCOMES = ("running", "passed", "sent back", "asked", "deferred", "stopped", "failed", "lost")
_ENDS = {
    "advance": "passed",
    "finish": "passed",
    "rework": "sent back",
    "ask": "asked",
    "defer": "deferred",
    "pause": "stopped",
    "cancel": "stopped",
    "fail": "failed",
    "stall": "failed",
    "clash": "failed",
    "exceed": "failed",
    "lose": "lost",
}
_CODES = {trigger: OUTCOMES.index(outcome) for trigger, outcome in _ENDS.items()}
FAILED = OUTCOMES.index("failed")

#: One attempt. Times are milliseconds since 1970; `ended` is infinite while it runs. `slot` is its lane among all
#: attempts, `lane` its lane among those of its phase; `unit` and `phase` number the names kept beside.
ATTEMPT = np.dtype(
    [
        ("seq", "i8"),
        ("started", "f8"),
        ("ended", "f8"),
        ("unit", "i4"),
        ("attempt", "i4"),
        ("phase", "i2"),
        ("outcome", "i1"),
        ("slot", "i4"),
        ("lane", "i4"),
    ]
)

#: Into RUNNING and out of it, behind the last one read, from the attempt that is MOST attempts old. An attempt that
#: failed and will be retried has failed, though its unit is only deferred.
MOVES = """
SELECT seq, unit, phase, attempt,
       CASE WHEN trigger = 'defer' AND json_exists(detail, '$.set.failures') THEN 'fail' ELSE trigger END AS ended_by,
       to_status = 'RUNNING' AS begins, epoch_ns(occurred_at) / 1e6 AS moment
FROM transition
WHERE seq > ? AND seq >= ? AND (from_status = 'RUNNING') <> (to_status = 'RUNNING')
ORDER BY seq
"""
FIRST = """
SELECT coalesce(min(seq), 0)
FROM (SELECT seq FROM transition WHERE to_status = 'RUNNING' AND from_status <> 'RUNNING' ORDER BY seq DESC LIMIT ?)
"""


class Lanes:
    """The lowest free lane for whatever begins, so there are never more lanes than the most that ran at once."""

    def __init__(self) -> None:
        self._free: list[int] = []
        self.count = 0

    def take(self) -> int:
        if self._free:
            return heapq.heappop(self._free)
        self.count += 1
        return self.count - 1

    def give(self, lane: int) -> None:
        heapq.heappush(self._free, lane)


@dataclass(frozen=True)
class Row:
    """Lanes of the picture that belong together: a phase with all of its, or one slot."""

    label: str
    first: int
    lanes: int


@dataclass(frozen=True)
class Bin:
    lane: int
    left: float
    right: float
    #: How much of its time was busy, from 0 to 1, and how many attempts touch it, and how many of those failed.
    share: float
    count: int
    failed: int


@dataclass(frozen=True)
class View:
    """What a range of time shows: single attempts, or their share of each bin where there are too many."""

    rows: list[Row]
    #: The visible attempts, oldest first; empty when they are binned.
    attempts: np.ndarray
    #: The picture's lane of each attempt.
    lanes: np.ndarray
    bins: list[Bin]

    @property
    def height(self) -> int:
        return self.rows[-1].first + self.rows[-1].lanes if self.rows else 1


class Attempts:
    """The attempts of one project. `read` and `view` may be called from any thread."""

    def __init__(self) -> None:
        self.units: list[str] = []
        self.phases: list[str] = []
        self._unit_number: dict[str, int] = {}
        self._rows = np.zeros(1024, ATTEMPT)
        self._count = 0
        self._open: dict[str, int] = {}
        self._slots = Lanes()
        self._lanes: list[Lanes] = []
        self._seq = -1
        self._lock = threading.Lock()

    def read(self, log: Any) -> None:
        """Take what was logged since the last call."""
        with self._lock:
            cursor = log.reader()
            try:
                first = cursor.execute(FIRST, [MOST]).fetchone()[0] if self._seq < 0 else 0
                result = cursor.execute(MOVES, [self._seq, first])
                while moves := result.fetchmany(10_000):
                    for move in moves:
                        self.add(*move)
            finally:
                cursor.close()

    def add(self, seq: int, unit: str, phase: str, attempt: int, trigger: str, begins: bool, moment: float) -> None:
        """One transition into RUNNING (`begins`) or out of it, in the order of the log."""
        self._seq = seq
        if begins:
            if self._count == len(self._rows):
                self._make_room()
            number = self._phase(phase)
            row = (seq, moment, np.inf, self._unit(unit), attempt, number, 0, self._slots.take())
            self._rows[self._count] = (*row, self._lanes[number].take())
            self._open[unit] = self._count
            self._count += 1
        elif (at := self._open.pop(unit, None)) is not None:
            rows = self._rows
            rows["ended"][at] = max(moment, rows["started"][at])
            rows["outcome"][at] = _CODES.get(trigger, _CODES["pause"])
            self._slots.give(int(rows["slot"][at]))
            self._lanes[rows["phase"][at]].give(int(rows["lane"][at]))

    def _make_room(self) -> None:
        """Double the space, up to MOST and half as much; then let go of the oldest attempts that have ended."""
        if self._count < MOST:
            self._rows = np.concatenate([self._rows, np.zeros(len(self._rows), ATTEMPT)])
            return
        kept = self._rows[: self._count]
        keep = (np.arange(self._count) >= self._count - MOST // 2) | np.isinf(kept["ended"])
        moved = np.cumsum(keep) - 1
        self._open = {unit: int(moved[at]) for unit, at in self._open.items()}
        self._count = int(keep.sum())
        self._rows = np.concatenate([kept[keep], np.zeros(MOST, ATTEMPT)])

    def _unit(self, name: str) -> int:
        number = self._unit_number.setdefault(name, len(self.units))
        if number == len(self.units):
            self.units.append(name)
        return number

    def _phase(self, name: str) -> int:
        if name not in self.phases:
            self.phases.append(name)
            self._lanes.append(Lanes())
        return self.phases.index(name)

    def __len__(self) -> int:
        return self._count

    def first(self) -> float | None:
        """When the oldest attempt started; None when there is none."""
        with self._lock:
            return float(self._rows["started"][: self._count].min()) if self._count else None

    def within(self, start: float, end: float, now: float) -> np.ndarray:
        """The attempts that ran at some time from `start` to `end`, oldest first."""
        with self._lock:
            return self._within(start, end, now)

    def view(self, start: float, end: float, now: float, by_phase: bool) -> View:
        """What the time from `start` to `end` shows; what still runs lasts until `now`."""
        with self._lock:
            seen = self._within(start, end, now)
            if by_phase:
                rows, firsts = self._by_phase(seen)
                lanes = firsts[seen["phase"]] + seen["lane"]
            else:
                lanes = seen["slot"]
                rows = [Row(f"slot {number + 1}", number, 1) for number in range(int(lanes.max(initial=-1)) + 1)]
        if len(seen) <= MOST_BARS:
            return View(rows, seen, lanes, [])
        ended = np.minimum(seen["ended"], now)
        return View(
            rows, seen[:0], lanes[:0], binned(seen["started"], ended, lanes, seen["outcome"] >= FAILED, start, end)
        )

    def _within(self, start: float, end: float, now: float) -> np.ndarray:
        rows = self._rows[: self._count]
        return rows[(rows["started"] < end) & (np.minimum(rows["ended"], now) >= start)]

    def _by_phase(self, seen: np.ndarray) -> tuple[list[Row], np.ndarray]:
        """A row for each visible phase, in the order in which phases first ran, and the first lane of each."""
        firsts, rows, at = np.zeros(len(self.phases), np.int32), [], 0
        for number, phase in enumerate(self.phases):
            own = seen["lane"][seen["phase"] == number]
            if len(own):
                rows.append(Row(phase, at, int(own.max()) + 1))
                firsts[number] = at
                at += rows[-1].lanes
        return rows, firsts


def binned(
    started: np.ndarray, ended: np.ndarray, lanes: np.ndarray, failed: np.ndarray, start: float, end: float
) -> list[Bin]:
    """How busy each lane is in each bin of time, and with how many attempts; where nothing ran there is no bin."""
    height = int(lanes.max(initial=0)) + 1
    width = max(10, min(BINS, MOST_BINS // height))
    step = (end - start) / width
    left = (np.clip(started, start, end) - start) / step
    right = (np.clip(ended, start, end) - start) / step
    first = np.minimum(left.astype(int), width - 1)
    last = np.minimum(right.astype(int), width - 1)
    lanes = lanes.astype(int)

    # Each attempt fills the bins from its first up to its last, less what lies before its start and behind its end.
    counts, fails, share = (np.zeros((height, width + 1)) for _ in range(3))
    for table, amount in ((counts, np.ones(len(left))), (fails, failed.astype(float)), (share, np.ones(len(left)))):
        np.add.at(table, (lanes, first), amount)
        np.add.at(table, (lanes, last + 1), -amount)
        np.cumsum(table, axis=1, out=table)
    np.add.at(share, (lanes, first), first - left)
    np.add.at(share, (lanes, last), right - last - 1)
    share = np.clip(share, 0, 1)
    return [
        Bin(
            int(lane),
            start + bin * step,
            start + (bin + 1) * step,
            float(share[lane, bin]),
            int(counts[lane, bin]),
            int(fails[lane, bin]),
        )
        for lane, bin in np.argwhere(counts[:, :width] > 0.5)
    ]


_KEPT: WeakKeyDictionary[Orchestrator, Attempts] = WeakKeyDictionary()


def attempts_of(orchestrator: Orchestrator) -> Attempts:
    """The one collection that all pages of a process share."""
    return _KEPT.setdefault(orchestrator, Attempts())
