"""The log of a project that no server has open: read only, and let go of at once."""

from __future__ import annotations

from pathlib import Path

import duckdb

from orchestrator_app.errors import StoreError
from orchestrator_app.store.journal import Journal
from orchestrator_app.store.log import Log


class ReadingLog(Log):
    """A log opened for `read` and `rows` only. While it is open no server can start on the project: close it soon.

    Raises StoreError when another process has it open, when it can't be read, or when it lacks rows that its journal
    has: then only a start of the server makes it whole.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "orchestrator.duckdb"
        try:
            self._connection = duckdb.connect(str(self.path), read_only=True)
        except duckdb.Error as error:
            why = str(error).strip().splitlines()[0][:300]
            if "lock" in why.lower():
                raise StoreError(
                    f"{self.path} is open in another process, which may be a starting server: try again"
                ) from None
            if "different configuration" in why:
                raise StoreError(
                    f"{self.path} is open in this very process: ask its orchestrator, by `board` and `rows()`"
                ) from None
            raise StoreError(
                f"{self.path} can't be read ({why}): start the server once with `orch serve`, which repairs it"
            ) from None
        self._check_meta()
        self.seq = self._last_seq(self._connection)
        known = max((entry.seq for entry in Journal(folder).entries()), default=0)
        if self.seq < known:
            self.close()
            raise StoreError(
                f"{self.path} lacks its newest {known - self.seq} rows, which its journal has: start the server once "
                "with `orch serve`, which puts them back"
            )

    def close(self) -> None:
        self._connection.close()
