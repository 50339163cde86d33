"""The real log on a real file system, in the fake disk's place: to see that the fake one is honest."""

from __future__ import annotations

import errno
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from orchestrator_app.store.journal import Entry
from orchestrator_app.store.log import Log
from orchestrator_app.store.records import Record

from .fake_disk import Crash, Disk


class RealDisk(Disk):
    """A folder with the log's files. What it refuses, DuckDB has written: the log takes it back."""

    def __init__(self, point: Callable[[str], None], audit: Callable[[Sequence[Record]], None]) -> None:
        super().__init__(point, audit)
        self._folder = Path(tempfile.mkdtemp(prefix="orch-simulation-"))
        self._open: _PointedLog | None = None

    def open(self) -> _PointedLog:
        self._open = _PointedLog(self._folder, self)
        return self._open

    def drop(self, log: _PointedLog) -> None:
        """Nothing is closed in order; but what the dead server had open, its kernel closes."""
        log._let_go()
        log._journal.close()

    def close(self) -> None:
        if self._open is not None:
            self.drop(self._open)
        shutil.rmtree(self._folder)


class _PointedLog(Log):
    """The log, with the points at which a server may die."""

    def __init__(self, folder: Path, disk: RealDisk) -> None:
        self._disk = disk
        super().__init__(folder)
        take_line = self._journal.append

        def journal(entry: Entry) -> None:
            if disk.late_answers:
                disk.late_answers -= 1
                raise OSError(errno.ENOSPC, "No space left on device")
            take_line(entry)

        self._journal.append = journal

    def append(self, records: Sequence[Record]) -> None:
        self._disk.point("before the commit")
        try:
            super().append(records)
        except Crash:
            self._disk.take(records)  # it was written though it failed, and nobody lived to cut it off
            raise
        self._disk.take(records)
        self._disk.point("after the commit")

    def _write(self, by_table: dict[str, list[tuple]]) -> None:
        super()._write(by_table)
        if self._disk.refusals:
            self._disk.refusals -= 1
            self._disk.point("before a failed commit is undone")
            raise OSError(errno.ENOSPC, "No space left on device")
