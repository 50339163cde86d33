"""The log of a project that no server has open: read only, and let go of at once."""

from __future__ import annotations

import threading
import weakref
from pathlib import Path

import duckdb

from orchestrator_app.errors import DamagedLogError, LaterFormatError, StoreError
from orchestrator_app.store.files import DATABASE, in_one_line
from orchestrator_app.store.journal import Journal
from orchestrator_app.store.log import Log
from orchestrator_app.store.recovery import is_locked, why_not_now
from orchestrator_app.store.soundness import OLDEST_READABLE, format_of, last_seq
from orchestrator_app.store.swap import is_unfinished


class ReadingLog(Log):
    """A log opened for `read` and `rows` only. While it is open no server can start on the project: close it soon.

    Raises StoreError when another process has it open, and DamagedLogError when it can't be read or lacks rows that its
    journal has: then only a start of the server, or a repair, makes it whole.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / DATABASE
        self._opening = threading.Lock()
        self._cursors = weakref.WeakSet()
        self._connection: duckdb.DuckDBPyConnection | None = None
        if is_unfinished(folder):
            raise DamagedLogError(
                f"a restore or repair of {self.path} was cut short: start the server with `orch serve`, which does the "
                "rest"
            )
        try:
            self._connection = duckdb.connect(str(self.path), read_only=True)
            found = format_of(self._connection)
            self.seq = last_seq(self._connection)
        except LaterFormatError:
            self.close()
            raise
        except (duckdb.Error, StoreError) as error:
            self.close()
            raise self._unreadable(error) from None
        journal = Journal(folder)
        known = journal.least(max((entry.seq for entry in journal.entries()), default=0))
        if self.seq < known:
            self.close()
            raise DamagedLogError(
                f"{self.path} lacks its newest {known - self.seq} rows, which its journal has: start the server once "
                "with `orch serve`, which puts them back"
            )
        if found < OLDEST_READABLE:
            self.close()
            raise StoreError(f"{self.path} has the old format {found}: start the server once, which renews it")

    def _unreadable(self, error: Exception) -> StoreError:
        why = in_one_line(error)
        if is_locked(error):
            return StoreError(f"{self.path} is open in another process, which may be a starting server: try again")
        if "different configuration" in why:
            return StoreError(
                f"{self.path} is open in this very process: ask its orchestrator, by `board` and `rows()`"
            )
        return why_not_now(self.path, error) or DamagedLogError(
            f"{self.path} can't be read ({why}): `orch check --repair` restores what can be restored"
        )

    @property
    def journal_fault(self) -> str | None:
        damaged = Journal(self.folder).damaged_lines()
        return f"{damaged} lines of the journal can't be read; the log itself has their rows" if damaged else None

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
