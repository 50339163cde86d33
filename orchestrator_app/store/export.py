"""The log as Parquet files, for analysts: `export/TABLE/day=YYYY-MM-DD/FIRST.parquet`, the same columns as the tables.

A file is named after the `seq` of its first row. The newest file of a table grows: it is written anew, aside, and put
in place of itself in one step. So whoever reads sees complete files only, each row in one of them and once, and none
ever vanishes under a reader. A file that is full, or whose day is over, is never touched again.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb

from orchestrator_app.errors import NotFoundError, StoreError
from orchestrator_app.store.files import sync_folder
from orchestrator_app.store.log import Log
from orchestrator_app.store.mirror import as_text, files_of
from orchestrator_app.store.reading import ReadingLog
from orchestrator_app.store.records import TABLES

#: How many numbers a file spans: writing as many rows takes some 30 ms, and a million rows make twenty files.
SPAN = 50_000


@dataclass
class _Place:
    """How far one table is exported. `first` and `day` are those of its newest file."""

    last: int = 0
    first: int = 0
    day: str = ""


class Export:
    """The files of one open log under `folder`. One at a time may write there: the others wait for the lock."""

    def __init__(self, log: Log, folder: Path) -> None:
        self.folder = folder
        self._log = log
        self._places: dict[str, _Place] | None = None
        #: Everything up to this number is in the files.
        self.seq = 0

    def catch_up(self, enough: Callable[[], bool] = lambda: False) -> int:
        """Export what is not yet; the number up to which everything now is. Asks `enough` between files.

        Raises OSError or duckdb.Error: what was written until then is complete and stays.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        upto = self._log.seq
        with _alone(self.folder), _cursor(self._log) as cursor:
            if self._places is None:
                self._places = self._found(cursor)
            for table, place in self._places.items():
                while self._write_next(cursor, table, place, upto):
                    if enough():
                        return self.seq
            self.seq = upto
        return upto

    def _write_next(self, cursor: duckdb.DuckDBPyConnection, table: str, place: _Place, upto: int) -> bool:
        """Begin or replace one file with the rows behind `place`: of one day, as far as it may span."""
        start, day = cursor.execute(
            f"SELECT min(seq), arg_min(occurred_at, seq)::DATE::VARCHAR FROM {table} WHERE seq > ? AND seq <= ?",
            [place.last, upto],
        ).fetchall()[0]
        if start is None:
            return False
        grows = day == place.day and start < place.first + SPAN
        first = place.first if grows else start
        full = min(first + SPAN - 1, upto)
        last, next_day = cursor.execute(
            f"SELECT max(seq), min(seq) FILTER (occurred_at::DATE <> ?::DATE) FROM {table} WHERE seq BETWEEN ? AND ?",
            [day, start, full],
        ).fetchall()[0]
        if next_day is not None:
            last = next_day - 1
        self._write(cursor, table, first, last, day)
        place.last, place.first, place.day = last, first, day
        return True

    def _write(self, cursor: duckdb.DuckDBPyConnection, table: str, first: int, last: int, day: str) -> None:
        folder = self.folder / table / f"day={day}"
        folder.mkdir(parents=True, exist_ok=True)
        draft = self.folder / table / ".draft"  # what a crash leaves here is overwritten by the next one
        cursor.execute(
            f"COPY (SELECT * FROM {table} WHERE seq BETWEEN {first} AND {last} ORDER BY seq) "
            f"TO {as_text(draft)} (FORMAT parquet, COMPRESSION zstd)"
        )
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(draft, folder / f"{first:012d}.parquet")
        sync_folder(folder)

    # -- taking up what an earlier process wrote

    def _found(self, cursor: duckdb.DuckDBPyConnection) -> dict[str, _Place]:
        """Where each table's files end. Files that aren't exactly the log's first rows are set aside."""
        try:
            places = {table: self._found_of(cursor, table) for table in TABLES.values()}
        except (duckdb.Error, OSError):
            places = dict.fromkeys(TABLES.values())
        if None in places.values():
            aside = self.folder.with_name(f"{self.folder.name}-set-aside-{time.strftime('%Y%m%dT%H%M%S')}")
            aside.mkdir(mode=0o700, exist_ok=True)
            for table in TABLES.values():
                if (self.folder / table).exists():
                    os.replace(self.folder / table, aside / table)
            return {table: _Place() for table in TABLES.values()}
        return places

    def _found_of(self, cursor: duckdb.DuckDBPyConnection, table: str) -> _Place | None:
        """None if the files hold something else than the log does: damaged, or of another log."""
        files = files_of(self.folder, table)
        if not files:
            return _Place()
        newest = files[-1]
        listed = ", ".join(as_text(file) for file in files)
        total = cursor.execute(f"SELECT sum(num_rows)::BIGINT FROM parquet_file_metadata([{listed}])").fetchall()[0][0]
        last, when = cursor.execute(
            f"SELECT max(seq), arg_max(occurred_at, seq) FROM read_parquet({as_text(newest)})"
        ).fetchall()[0]
        count, same = cursor.execute(
            f"SELECT count(*), count(*) FILTER (seq = $last AND occurred_at = $time) FROM {table} WHERE seq <= $last",
            {"last": last, "time": when},
        ).fetchall()[0]
        if count != total or same != 1:
            return None
        return _Place(last, int(newest.stem), newest.parent.name.removeprefix("day="))


def export_stopped(state: Path) -> int:
    """Bring the files of a project that no server runs for up to date; the number of the newest row in them.

    The database is let go of at once. Raises NotFoundError when there is no log, StoreError when it can't be read or
    the files can't be written.
    """
    if not (state / "orchestrator.duckdb").exists():
        raise NotFoundError(f"{state.parent} has no log yet: start it with `orch serve`")
    log = ReadingLog(state)
    try:
        return Export(log, state / "export").catch_up()
    except (duckdb.Error, OSError) as error:
        why = str(error).strip().splitlines()[0][:300]
        raise StoreError(f"the Parquet files in {state / 'export'} can't be written: {why}") from None
    finally:
        log.close()


def row_counts(files: list[Path]) -> list[int]:
    """How many rows each of these files has."""
    if not files:
        return []
    connection = duckdb.connect()
    try:
        listed = ", ".join(as_text(file) for file in files)
        found = dict(
            connection.execute(f"SELECT file_name, num_rows FROM parquet_file_metadata([{listed}])").fetchall()
        )
    finally:
        connection.close()
    return [found[str(file)] for file in files]


@contextmanager
def _cursor(log: Log) -> Iterator[duckdb.DuckDBPyConnection]:
    cursor = log.reader()
    try:
        yield cursor
    finally:
        cursor.close()


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Nobody else writes into the folder meanwhile: two commands may export a stopped project at once."""
    lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)
