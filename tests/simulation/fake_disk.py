"""A disk for the log, which outlives the server, fails before or after it has written, and counts as the truth."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

from orchestrator_app.errors import StoreError
from orchestrator_app.store.log import _to_row, from_row
from orchestrator_app.store.records import Record


class Crash(BaseException):
    """The server is killed here. No `except Exception` catches it, as none would catch a SIGKILL."""


class Disk:
    """What is durable, and what the next commits meet."""

    def __init__(self, point: Callable[[str], None], audit: Callable[[Sequence[Record]], None]) -> None:
        self.point = point
        self._audit = audit
        self.records: list[Record] = []
        #: The records of each cause: what became of the request that had it.
        self.by_cause: dict[str, list[Record]] = defaultdict(list)
        self.refusals = 0
        self.late_answers = 0
        self._reread: list[Record] = []

    def open(self) -> FakeLog:
        return FakeLog(self)

    def drop(self, log: FakeLog) -> None:
        """The server that had it open is dead."""

    def close(self) -> None: ...

    def take(self, records: Sequence[Record]) -> None:
        """These are durable now."""
        self.records += records
        self._audit(records)
        for record in records:
            cause = getattr(record, "cause", None)
            if cause is not None:
                self.by_cause[cause].append(record)

    def reread(self) -> list[Record]:
        """The records as they come back from the columns of their tables."""
        for record in self.records[len(self._reread) :]:
            self._reread.append(from_row(type(record), _to_row(record)))
        return self._reread


class FakeLog:
    """`store.log.Log` as far as the scheduler and the gate use it, on a `Disk`."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self.seq = len(disk.records)
        self.journal_fault: str | None = None

    def append(self, records: Sequence[Record]) -> None:
        disk = self._disk
        disk.point("before the commit")
        if disk.refusals:
            disk.refusals -= 1
            try:
                disk.point("before a failed commit is undone")
            except Crash:
                disk.take(records)  # it was written though it failed, and nobody lived to cut it off
                raise
            raise StoreError("the log could not be written: No space left on device")
        if records[0].seq != len(disk.records) + 1:
            raise StoreError(f"the log could not be written: row {records[0].seq} is not the next one")
        disk.take(records)
        if disk.late_answers:
            # The rows are durable; the journal beside them lacks them.
            disk.late_answers -= 1
            self.journal_fault = "the journal could not be written: no space left on device"
        else:
            self.journal_fault = None
        self.seq = records[-1].seq
        disk.point("after the commit")

    def read(self, since: int = 0) -> Iterator[Record]:
        return iter(self._disk.reread()[since:])

    def tend(self) -> None: ...
