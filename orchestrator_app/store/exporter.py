"""The thread that keeps the Parquet files a few seconds behind the log while a server runs.

It reads with a cursor of its own. The scheduler only wakes it, and waits for it at the very end: if it lags or
fails, the files are older and nothing else happens.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from orchestrator_app.errors import StoreError
from orchestrator_app.store.export import Export
from orchestrator_app.store.log import Log
from orchestrator_app.store.records import Record

logger = logging.getLogger(__name__)

#: Seconds that commits are gathered before the files are written.
GATHER = 2.0
#: Seconds until the next try after one that failed.
RETRY = 10.0
#: Seconds that a stop waits for the last rows to be written; the next start writes what is left.
LAST = 5.0


class Exporter:
    """Keeps the export of an open log up to date. `notice` is a watcher for the board."""

    def __init__(self, log: Log, folder: Path) -> None:
        self._log = log
        self._export = Export(log, folder)
        self._changed = threading.Condition()
        self._noticed = True  # at the start there may be rows that an earlier process had no time to export
        self._wanted = 0
        self._tries = 0
        self._leave_at: float | None = None
        self._thread = threading.Thread(target=self._run, name="orch-export", daemon=True)
        #: Why the files can't be written; None when they can.
        self.fault: str | None = None

    @property
    def folder(self) -> Path:
        return self._export.folder

    def start(self) -> None:
        self._thread.start()

    def notice(self, records: Sequence[Record]) -> None:
        """Something was committed."""
        if not self._noticed:
            with self._changed:
                self._noticed = True
                self._changed.notify_all()

    def bring_up_to_date(self, timeout: float = 10.0) -> int:
        """Wait until every row that the log has now is in the files; how far they are. Not for the scheduler's thread.

        Raises StoreError when that fails or takes longer.
        """
        seq = self._log.seq
        until = time.monotonic() + timeout
        with self._changed:
            tries = self._tries
            self._wanted = max(self._wanted, seq)
            self._changed.notify_all()
            while self._export.seq < seq:
                left = until - time.monotonic()
                if self._tries > tries and self.fault:
                    raise StoreError(f"the Parquet files can't be brought up to date: {self.fault}")
                if left <= 0 or not self._thread.is_alive():
                    raise StoreError(
                        f"the Parquet files are at row {self._export.seq} and the log is at {seq}: try again in a while"
                    )
                self._changed.wait(left)
            return self._export.seq

    def stop(self) -> None:
        """Write the last rows and end, within a few seconds. Call it before the log is closed."""
        with self._changed:
            self._leave_at = time.monotonic() + LAST
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._noticed or self._hurried())
                self._changed.wait_for(self._hurried, RETRY if self.fault else GATHER)
                last, self._noticed = self._leave_at is not None, False
            fault = self._try()
            with self._changed:
                if fault and fault != self.fault:
                    logger.warning("The Parquet files in %s can't be written now: %s", self.folder, fault)
                self.fault = fault
                self._tries += 1
                self._noticed = self._noticed or fault is not None
                if fault:
                    self._wanted = 0  # those who wait are told, and the next try has time
                self._changed.notify_all()
            if last:
                return

    def _hurried(self) -> bool:
        return self._leave_at is not None or self._wanted > self._export.seq

    def _try(self) -> str | None:
        try:
            self._export.catch_up(lambda: self._leave_at is not None and time.monotonic() > self._leave_at)
        except Exception as error:  # whatever it is, the server goes on without fresh files
            return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
        return None
