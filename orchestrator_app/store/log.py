"""The transition log: the only code that writes to the database.

One thread writes (the scheduler's); readers in other threads take a `reader()` each. A call to `append` is
one transaction, and when it returns the rows are on the disk.
"""

from __future__ import annotations

import heapq
import json
import math
import os
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb

from orchestrator_app.errors import DamagedLogError, StoreError
from orchestrator_app.states import Status, Trigger
from orchestrator_app.store.files import COPY, DATABASE, WAL, clear_leftovers, cut, in_one_line, replace_durably
from orchestrator_app.store.journal import Entry, Journal
from orchestrator_app.store.migration import migrate
from orchestrator_app.store.mirror import high_water
from orchestrator_app.store.records import JSON_COLUMNS, TABLES, Record, Transition
from orchestrator_app.store.recovery import LOCK_PATIENCE, connect, open_verified
from orchestrator_app.store.schema import create
from orchestrator_app.store.soundness import FORMAT, format_of, last_seq
from orchestrator_app.store.swap import finish
from orchestrator_app.store.upkeep import Upkeep

SCHEMA_VERSION = str(FORMAT)

_JSON_AT = {
    record: tuple(index for index, name in enumerate(record._fields) if name in JSON_COLUMNS) for record in TABLES
}
#: Rows that are given to the database at once: meanwhile no other thread of this process runs.
SLICE = 1_000

_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=str)


class Log:
    """The database file of one project, opened for writing. Raises StoreError where it can't be."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / DATABASE
        self._wal = folder / WAL
        self._journal = Journal(folder)
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._cursors: weakref.WeakSet[duckdb.DuckDBPyConnection] = weakref.WeakSet()
        self._opening = threading.Lock()
        self._files: list[int] = []
        self._upkeep = Upkeep(self._make_copy, self._checkpoint, self._wal_length)
        #: Why the newest commit stands in the database but not in the journal; None when it does.
        self._unjournalled: str | None = None
        try:
            finish(folder)
            clear_leftovers(folder)
            if not self._is_there():
                create(folder)
            self.recovered = self._open()
            if (found := format_of(self._connection)) < FORMAT:
                self._migrate(found)
        except OSError as error:
            self._let_go()
            raise StoreError(f"the log {self.path} can't be opened ({in_one_line(error)}): put that right") from error
        except StoreError:
            self._let_go()
            raise
        self.seq = self._acknowledged[0]

    def _is_there(self) -> bool:
        """Whether there is a log. One that others have seen and that is gone is no reason to begin a new one."""
        if self.path.exists() or (self.folder / COPY).exists():
            return True
        witness = next((name for name in (WAL, "journal", "journal.previous") if (self.folder / name).exists()), None)
        if witness is None and high_water(self.folder / "export"):
            witness = "export"
        if witness:
            raise DamagedLogError(
                f"the log {self.path} is gone, though {witness} is there: `orch check --repair` restores what is left, "
                "or `orch restore` a backup"
            )
        return False

    def _open(self) -> str:
        """Open the database, by whatever way is sound; what was done to get there."""
        self._connection, note = open_verified(self.folder, high_water(self.folder / "export"))
        self._take_up()
        return note

    def _take_up(self) -> None:
        """Note where a newly opened database stands."""
        if not self._files or not os.path.samestat(os.fstat(self._files[-1]), self.path.stat()):
            self._files.append(os.open(self.path, os.O_RDONLY))
        self._appenders = {table: self._connection.appender(table) for table in TABLES.values()}
        self._acknowledged = (last_seq(self._connection), self._wal_length())

    def _migrate(self, found: int) -> None:
        self._upkeep.put_in_now()
        if self._upkeep.fault:
            raise StoreError(f"the log can't be brought from format {found} to {FORMAT}: {self._upkeep.fault}")
        self._let_go()
        kept = migrate(self.folder, found)
        note = f"the log was brought from format {found} to {FORMAT}; the old file is kept as {kept.name}"
        self.recovered = "; ".join(filter(None, [self.recovered, note, self._open()]))

    def _wal_length(self) -> int:
        try:
            return self._wal.stat().st_size
        except FileNotFoundError:
            return 0

    # -- writing: the scheduler's thread only

    def append(self, records: Sequence[Record]) -> None:
        """Write all of them in one transaction, and return when they are durable.

        Raises StoreError when nothing was written. What an error during the commit leaves open is decided: the
        write-ahead log is cut where the last acknowledged commit ended.
        """
        by_table: dict[str, list[tuple]] = {}
        for record in records:
            by_table.setdefault(TABLES[type(record)], []).append(_to_row(record))
        last = records[-1].seq
        if self._connection is None:
            self._reopen()
        try:
            self._write(by_table)
            self._acknowledged = (last, self._wal_length())
        except (duckdb.Error, OSError) as error:
            self._undo()
            raise StoreError(f"the log could not be written: {in_one_line(error)}") from error
        try:
            rows = [(table, list(row)) for table, table_rows in by_table.items() for row in table_rows]
            self._journal.append(Entry(*self._acknowledged, rows))
        except OSError as error:
            # The database holds the rows durably; without its journal line only their verification is weaker.
            self._unjournalled = f"the journal could not be written: {in_one_line(error)}"
        else:
            self._unjournalled = None
        self.seq = last

    def _write(self, by_table: dict[str, list[tuple]]) -> None:
        if len(by_table) == 1:
            ((table, rows),) = by_table.items()
            appender = self._appenders[table]
            try:
                _append(appender, rows)
                appender.flush()
            except (duckdb.Error, OSError):
                appender.clear()
                raise
            return
        self._connection.execute("BEGIN")
        try:
            for table, rows in by_table.items():
                _append(self._appenders[table], rows)
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

    def _undo(self) -> None:
        """After a failed commit: see that nothing of it is left, neither in the database nor in its WAL."""
        try:
            if last_seq(self._connection) == self.seq and self._wal_length() == self._acknowledged[1]:
                return
        except (duckdb.Error, OSError):
            pass  # invalidated by the error
        self._reopen()

    def _reopen(self) -> None:
        """Open the database again as it was when the last commit was acknowledged. Raises StoreError."""
        seq, length = self._acknowledged
        with self._opening:
            self._let_go_of_connections()
            try:
                if self._wal_length() > length:
                    cut(self._wal, length)
                self._connection = connect(self.path)
                if last_seq(self._connection) != seq:
                    self._let_go_of_connections()
                    self._open()
                    if self._acknowledged[0] != seq:
                        raise DamagedLogError(f"the log {self.path} ends at row {self._acknowledged[0]}, not at {seq}")
                else:
                    self._take_up()
            except (duckdb.Error, OSError, StoreError) as error:
                self._let_go_of_connections()
                self._acknowledged = (seq, length)
                raise StoreError(f"the log {self.path} can't be opened again: {in_one_line(error)}") from error

    def _let_go_of_connections(self) -> None:
        """Close the connection and every cursor on it; a reader that is in the middle of something is interrupted."""
        connection, self._connection = self._connection, None
        self._appenders = {}
        give_up = time.monotonic() + LOCK_PATIENCE
        while connection is not None:
            for cursor in list(self._cursors):
                with suppress(duckdb.Error):
                    cursor.interrupt()
            try:
                connection.close()
                connection = None
            except duckdb.Error as error:
                if time.monotonic() > give_up:
                    raise StoreError(f"a reader doesn't let go of the log: {in_one_line(error)}") from error
                time.sleep(0.002)

    def _let_go(self) -> None:
        self._let_go_of_connections()
        while self._files:
            os.close(self._files.pop())

    # -- upkeep

    @property
    def journal_fault(self) -> str | None:
        """What is wrong with the files beside the database, though commits go on; None for nothing."""
        return "; ".join(filter(None, [self._unjournalled, self._upkeep.fault])) or None

    def tend(self) -> None:
        """Called between steps: when the WAL has grown, copy the file in the background, then checkpoint."""
        if self._connection is None:
            with suppress(StoreError):
                self._reopen()
        else:
            self._upkeep.tend(needed=self._journal.has_gap)

    def _make_copy(self) -> None:
        replace_durably(self._files[-1], self.folder / COPY)

    def _checkpoint(self) -> None:
        try:
            self._connection.execute("CHECKPOINT")
        except duckdb.Error:
            self._reopen()  # a failed one invalidates the database
            raise
        self._acknowledged = (self._acknowledged[0], self._wal_length())
        self._journal.rotate()

    def snapshot(self, folder: Path) -> int:
        """Copy the log as it is now into a folder, as a database with its WAL; the number of its newest row.

        Any thread: commits go on, only checkpoints wait. Raises OSError.
        """
        with self._upkeep.held():
            seq, length = self._acknowledged
            replace_durably(self._files[-1], folder / DATABASE)
            if length:
                replace_durably(self._wal, folder / WAL)
                os.truncate(folder / WAL, length)
        return seq

    def close(self) -> None:
        """Checkpoint (after a copy) and close."""
        if self._connection is not None:
            self._upkeep.put_in_now()
        self._journal.close()
        self._let_go()

    # -- reading: any thread

    def reader(self) -> duckdb.DuckDBPyConnection:
        """A cursor of one's own on the same database. Close it when done."""
        with self._opening:
            if self._connection is None:
                raise StoreError(f"the log {self.path} is being opened again: try again in a moment")
            cursor = self._connection.cursor()
            self._cursors.add(cursor)
            return cursor

    def read(self, since: int = 0, upto: int | None = None, tables: Sequence[type] = tuple(TABLES)) -> Iterator[Record]:
        """Every record with `since < seq <= upto`, in order of `seq`."""
        cursor = self.reader()
        try:
            limit = upto if upto is not None else last_seq(cursor)
            streams = [_records(self.reader(), record, since, limit) for record in tables]
            yield from heapq.merge(*streams, key=lambda record: record.seq)
        except duckdb.Error as error:
            raise self._unread(error) from error
        finally:
            cursor.close()

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """The answer to our own SQL, as one dict per row."""
        cursor = self.reader()
        try:
            result = cursor.execute(sql, list(parameters))
            names = [column[0] for column in result.description]
            return [dict(zip(names, row, strict=True)) for row in result.fetchall()]
        except duckdb.Error as error:
            raise self._unread(error) from error
        finally:
            cursor.close()

    def _unread(self, error: duckdb.Error) -> StoreError:
        why = in_one_line(error)
        if "corrupt" in why.lower():
            return DamagedLogError(
                f"the log {self.path} is damaged ({why}): stop the server, then `orch check --repair` restores what "
                "can be restored"
            )
        return StoreError(f"the log {self.path} can't be read now ({why}): try again in a moment")


def _records(cursor: duckdb.DuckDBPyConnection, record: type, since: int, limit: int) -> Iterator[Record]:
    result = cursor.execute(f"SELECT * FROM {TABLES[record]} WHERE seq > ? AND seq <= ? ORDER BY seq", [since, limit])
    while rows := result.fetchmany(10_000):
        for row in rows:
            yield from_row(record, row)
    cursor.close()


def _append(appender: Any, rows: Sequence[tuple]) -> None:
    for start in range(0, len(rows), SLICE):
        appender.append_rows(rows[start : start + SLICE])


def _to_row(record: Record) -> tuple:
    values = list(record)
    for index in _JSON_AT[type(record)]:
        values[index] = _json(values[index]) if values[index] else "{}"
    return tuple([_storable(value) if type(value) is str and not value.isascii() else value for value in values])


def _json(value: Any) -> str:
    """JSON as DuckDB takes it: numbers that JSON doesn't know (an agent may say NaN) become text."""
    try:
        return _ENCODER.encode(value)
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
