"""For tests of this package and of what builds on it: a hand-moved clock, a scripted executor, the invariants."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from orchestrator_app.executors.base import AttemptSpec, Exited, Message, Report, Said, Vanished
from orchestrator_app.model import Board
from orchestrator_app.states import Status
from orchestrator_app.store.log import Log
from orchestrator_app.store.records import Record


class HandClock:
    """Time that moves when it is told to."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def forward(self, seconds: float) -> float:
        self.now += seconds
        return self.now


class FakeExecutor:
    """Attempts that do what the test says. Keeps to the contract of `executors.base.Executor`.

    It refuses what a real one could not survive: two live attempts of one unit.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.running: dict[tuple[str, int], AttemptSpec] = {}
        self.started: list[AttemptSpec] = []
        self.stopped: list[tuple[str, int]] = []
        self._reports: list[Report] = []
        self._pos = 0

    def open(self) -> None: ...

    def close(self) -> None: ...

    def wake(self) -> None: ...

    def recover(self, open_attempts: list[tuple[str, int, int]]) -> None:
        for unit, attempt, _ in open_attempts:
            if (unit, attempt) not in self.running:
                self._reports.append(Vanished(unit, attempt, "its process vanished"))

    def start(self, specs: Sequence[AttemptSpec]) -> None:
        for spec in specs:
            others = [key for key in self.running if key[0] == spec.unit]
            if others:
                raise AssertionError(f"{spec.unit} is started a second time while {others} runs")
            self.running[spec.unit, spec.attempt] = spec
            self.started.append(spec)

    def stop(self, unit: str, attempt: int, grace: float) -> None:
        self.stopped.append((unit, attempt))

    def wait(self, timeout: float | None) -> list[Report]:
        reports, self._reports = self._reports, []
        return reports

    # -- what the test makes happen

    def attempt_of(self, unit: str) -> int:
        """The number of the unit's live attempt."""
        return next(attempt for name, attempt in self.running if name == unit)

    def exits(self, unit: str, code: int | None = 0, why: str = "exit", message: str = "") -> None:
        attempt = self.attempt_of(unit)
        del self.running[unit, attempt]
        now = self._clock()
        self._reports.append(Exited(unit, attempt, code, None, why, message, now, now, 0))

    def ends_as_told(self) -> None:
        """Have every attempt that was told to stop end."""
        for unit, attempt in self.stopped:
            if (unit, attempt) in self.running:
                self.exits(unit, 143, "stop")
        self.stopped = []

    def says(self, unit: str, **message: object) -> None:
        self._pos += 100
        self._reports.append(Said(unit, self.attempt_of(unit), [Message(self._pos, message, None, "")]))


class Subscriber:
    """Sees what every watcher sees, and nothing else: its picture must equal the board's."""

    def __init__(self, board: Board) -> None:
        self.seqs: list[int] = []
        self.mirror = Board()
        self._board = board
        board.watch(self._see)

    def _see(self, records: Sequence[Record]) -> None:
        self.seqs += [record.seq for record in records]
        self.mirror.fold(records)


def invariant_faults(log: Log) -> list[str]:
    """What is wrong with a log, one line per fault; empty for a sound one. `orch check` prints the same."""
    faults = []
    for view, what in (
        ("broken_chain", "does not follow from the transition before it"),
        ("illegal_move", "is a move that the state machine has no rule for"),
        ("broken_numbering", "is not numbered one higher than the record before it"),
    ):
        for row in log.rows(f"SELECT seq FROM {view} ORDER BY seq LIMIT 20"):
            faults.append(f"{view}: record {row['seq']} {what}")
    return faults


def board_faults(board: Board) -> list[str]:
    """What is wrong with a board: units blocked by nothing, or free though they wait for others."""
    faults = []
    for unit in board.units.values():
        waits = board.waits_for(unit.name)
        if unit.status is Status.BLOCKED and not waits:
            faults.append(f"{unit.name} is BLOCKED though all its blockers are DONE")
        if unit.status is Status.READY and waits:
            faults.append(f"{unit.name} is READY though it waits for {', '.join(waits)}")
        if unit.status is Status.NEEDS_ATTENTION and not unit.items:
            faults.append(f"{unit.name} is NEEDS_ATTENTION without an attention item")
    return faults


def assert_consistent(log: Log, board: Board, *subscribers: Subscriber) -> None:
    """The log is sound, and the board and every subscriber's picture are what it says."""
    faults = invariant_faults(log) + board_faults(board)
    assert not faults, "\n".join(faults)
    replayed = Board()
    replayed.fold(log.read())
    for other, who in [(board, "the board"), *((one.mirror, "a subscriber") for one in subscribers)]:
        assert dict(other.units) == dict(replayed.units), f"{who} differs from the log"
        assert dict(other.attention) == dict(replayed.attention), f"{who} has other attention items than the log"
        assert other.counts == replayed.counts, f"{who} counts differently"
        assert other.seq == replayed.seq, f"{who} is at {other.seq}, the log at {replayed.seq}"
