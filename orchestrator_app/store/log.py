"""The transition log: the only code that writes to the database.

One thread writes (the scheduler's); readers in other threads take a `reader()` each. A call to `append` is
one transaction, and when it returns the rows are on the disk.
"""

from __future__ import annotations

import heapq
import json
import math
import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

import duckdb

from orchestrator_app.errors import StoreError
from orchestrator_app.states import MOVES, Status, Trigger
from orchestrator_app.store.journal import Entry, Journal
from orchestrator_app.store.records import JSON_COLUMNS, TABLES, Record, Transition
from orchestrator_app.store.recovery import connect, open_verified, replace_durably, sync_folder

SCHEMA_VERSION = "1"
#: A checkpoint is due when the WAL is longer than this: one of it takes some 30 ms, which nothing may exceed by much.
CHECKPOINT_BYTES = 2 << 20

_JSON_AT = {
    record: tuple(index for index, name in enumerate(record._fields) if name in JSON_COLUMNS) for record in TABLES
}
_NUMBERS = " UNION ALL ".join(f"SELECT seq FROM {table}" for table in TABLES.values())


class Log:
    """The database file of one project, opened for writing. Raises StoreError where it can't be."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "orchestrator.duckdb"
        self._wal = folder / "orchestrator.duckdb.wal"
        self._copy = folder / "orchestrator.duckdb.copy"
        self._journal = Journal(folder)
        self._copying: threading.Thread | None = None
        self._copied = False
        #: Why the newest commit stands in the database but not in the journal; None when it does.
        self.journal_fault: str | None = None
        try:
            if not self.path.exists() and not self._copy.exists():
                self._create()
            entries = list(self._journal.entries())
            self._connection, self.recovered = open_verified(
                self.path, self._copy, entries, partial(self._complete, entries)
            )
        except OSError as error:
            raise StoreError(f"the log {self.path} can't be opened: {error.strerror or error}") from error
        self._check_meta()
        self._appenders = {table: self._connection.appender(table) for table in TABLES.values()}
        self.seq = self._last_seq(self._connection)

    def _create(self) -> None:
        """Build an empty database aside and move it into place, so that a crash leaves none or a whole one."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        building = self.folder / "orchestrator.duckdb.new"
        for leftover in (building, building.with_name(building.name + ".wal")):
            leftover.unlink(missing_ok=True)
        connection = duckdb.connect(str(building))
        connection.execute(files(__package__).joinpath("schema.sql").read_text())
        moves = [[source, trigger, target] for (source, trigger), target in MOVES.items()]
        connection.executemany("INSERT INTO rule VALUES (?, ?, ?)", moves)
        connection.execute("INSERT INTO meta VALUES ('schema', ?)", [SCHEMA_VERSION])
        connection.close()
        building.replace(self.path)
        sync_folder(self.folder)

    def _check_meta(self) -> None:
        rows = self._connection.execute("SELECT value FROM meta WHERE name = 'schema'").fetchall()
        found = rows[0][0] if rows else "none"
        if found != SCHEMA_VERSION:
            self._connection.close()
            raise StoreError(
                f"{self.path} has log format {found}, and this version of orchestrator_app reads format "
                f"{SCHEMA_VERSION}: use the version that wrote it"
            )

    def _complete(self, entries: Sequence[Entry], connection: duckdb.DuckDBPyConnection) -> int:
        """Append the journalled rows that the database lacks; see recovery.open_verified."""
        last = self._last_seq(connection)
        missing: dict[str, list[list[Any]]] = {}
        expected = last + 1
        for entry in entries:
            if entry.seq <= last:
                continue
            for table, values in sorted(entry.rows, key=lambda row: row[1][0]):
                if values[0] < expected:
                    continue
                if values[0] > expected:
                    raise StoreError(f"rows {expected} to {values[0] - 1} are missing")
                missing.setdefault(table, []).append(values)
                expected += 1
        connection.execute("BEGIN")
        for table, rows in missing.items():
            appender = connection.appender(table)
            appender.append_rows([(*values[:-1], datetime.fromisoformat(values[-1])) for values in rows])
            appender.flush()
        connection.execute("COMMIT")
        broken = connection.execute("SELECT seq FROM broken_numbering LIMIT 1").fetchall()
        if broken:
            raise StoreError(f"the numbering breaks before row {broken[0][0]}")
        return expected - last - 1

    @staticmethod
    def _last_seq(connection: duckdb.DuckDBPyConnection) -> int:
        return connection.execute(f"SELECT coalesce(max(seq), 0) FROM ({_NUMBERS})").fetchall()[0][0]

    # -- writing: the scheduler's thread only

    def append(self, records: Sequence[Record]) -> None:
        """Write all of them in one transaction, and return when they are durable.

        Raises StoreError when nothing was written. After an error during the commit, whose outcome is unknown, the
        database is asked what it holds.
        """
        by_table: dict[str, list[tuple]] = {}
        for record in records:
            by_table.setdefault(TABLES[type(record)], []).append(_to_row(record))
        last = records[-1].seq
        try:
            self._write(by_table)
        except (duckdb.Error, OSError) as error:
            if not self._holds(last):
                raise StoreError(f"the log could not be written: {str(error).splitlines()[0]}") from error
        try:
            rows = [(table, list(row)) for table, table_rows in by_table.items() for row in table_rows]
            self._journal.append(Entry(last, self._wal.stat().st_size, rows))
        except OSError as error:
            # The database holds the rows durably; without its journal line only their verification is weaker.
            self.journal_fault = f"the journal could not be written: {error.strerror or error}"
        else:
            self.journal_fault = None
        self.seq = last

    def _write(self, by_table: dict[str, list[tuple]]) -> None:
        if len(by_table) == 1:
            ((table, rows),) = by_table.items()
            appender = self._appenders[table]
            try:
                appender.append_rows(rows)
                appender.flush()
            except (duckdb.Error, OSError):
                appender.clear()
                raise
            return
        self._connection.execute("BEGIN")
        try:
            for table, rows in by_table.items():
                self._appenders[table].append_rows(rows)
                self._appenders[table].flush()
            self._connection.execute("COMMIT")
        except (duckdb.Error, OSError):
            for table in by_table:
                self._appenders[table].clear()
            try:
                self._connection.execute("ROLLBACK")
            except duckdb.Error:
                pass  # a failed COMMIT has already ended the transaction
            raise

    def _holds(self, seq: int) -> bool:
        """Whether row `seq` is in the log; reopens a database that an error has invalidated."""
        try:
            return self._last_seq(self._connection) >= seq
        except duckdb.Error:
            self._connection.close()
            self._connection = connect(self.path)
            self._appenders = {table: self._connection.appender(table) for table in TABLES.values()}
            return self._last_seq(self._connection) >= seq

    def tend(self) -> None:
        """Called between steps: when the WAL has grown, copy the file in the background, then checkpoint."""
        if self._copying is not None:
            if self._copying.is_alive():
                return
            self._copying = None
            if self._copied:
                self._checkpoint()
        elif self._wal.exists() and self._wal.stat().st_size > CHECKPOINT_BYTES:
            self._copying = threading.Thread(target=self._make_copy, name="orch-log-copy", daemon=True)
            self._copying.start()

    def _make_copy(self) -> None:
        # Between checkpoints the file itself never changes (commits go to the WAL), so it can be copied while serving.
        self._copied = False
        try:
            replace_durably(self.path, self._copy)
            self._copied = True
        except OSError:
            pass  # no room for the copy: no checkpoint; the WAL keeps everything

    def _checkpoint(self) -> None:
        try:
            self._connection.execute("CHECKPOINT")
        except duckdb.Error:
            self._holds(self.seq)
            return
        self._journal.rotate()

    def close(self) -> None:
        """Checkpoint (after a copy) and close."""
        if self._copying is not None:
            self._copying.join()
        self._appenders.clear()
        if self._wal.exists() and self._wal.stat().st_size:
            self._make_copy()
            if self._copied:
                self._checkpoint()
        self._connection.close()
        self._journal.close()

    # -- reading: any thread

    def reader(self) -> duckdb.DuckDBPyConnection:
        """A cursor of one's own on the same database. Close it when done."""
        return self._connection.cursor()

    def read(self, since: int = 0, upto: int | None = None, tables: Sequence[type] = tuple(TABLES)) -> Iterator[Record]:
        """Every record with `since < seq <= upto`, in order of `seq`."""
        cursor = self.reader()
        limit = upto if upto is not None else self._last_seq(cursor)
        try:
            streams = [_records(cursor.cursor(), record, since, limit) for record in tables]
            yield from heapq.merge(*streams, key=lambda record: record.seq)
        finally:
            cursor.close()

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """The answer to our own SQL, as one dict per row."""
        cursor = self.reader()
        try:
            result = cursor.execute(sql, list(parameters))
            names = [column[0] for column in result.description]
            return [dict(zip(names, row, strict=True)) for row in result.fetchall()]
        finally:
            cursor.close()


def _records(cursor: duckdb.DuckDBPyConnection, record: type, since: int, limit: int) -> Iterator[Record]:
    result = cursor.execute(f"SELECT * FROM {TABLES[record]} WHERE seq > ? AND seq <= ? ORDER BY seq", [since, limit])
    while rows := result.fetchmany(10_000):
        for row in rows:
            yield from_row(record, row)
    cursor.close()


def _to_row(record: Record) -> tuple:
    values = list(record)
    for index in _JSON_AT[type(record)]:
        values[index] = _json(values[index]) if values[index] else "{}"
    return tuple(_storable(value) if type(value) is str else value for value in values)


def _json(value: Any) -> str:
    """JSON as DuckDB takes it: numbers that JSON doesn't know (an agent may say NaN) become text."""
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=str)
    except (ValueError, RecursionError):
        return json.dumps(_plain(value), ensure_ascii=False, separators=(",", ":"), default=str)


def _plain(value: Any, depth: int = 0) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(one, depth + 1) for key, one in value.items()} if depth < 50 else "…"
    if isinstance(value, list | tuple):
        return [_plain(one, depth + 1) for one in value] if depth < 50 else "…"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _storable(text: str) -> str:
    """Text as DuckDB takes it: without lone surrogates, which come from file names that aren't UTF-8."""
    if text.isascii():
        return text
    return text.encode("utf-8", "replace").decode("utf-8")


def from_row(record: type, row: Sequence[Any]) -> Record:
    """A record from the values of its table's columns."""
    values = list(row)
    for index in _JSON_AT[record]:
        values[index] = json.loads(values[index])
    if record is Transition:
        values[3], values[4], values[5] = Status(values[3]), Trigger(values[4]), Status(values[5])
    return record(*values)


def utc(seconds: float) -> datetime:
    """Epoch seconds as the log's kind of time: UTC, without a zone."""
    return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None)
