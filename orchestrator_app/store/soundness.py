"""What a database must prove before it is trusted with a project's log."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import duckdb

from orchestrator_app.errors import LaterFormatError, StoreError
from orchestrator_app.store.journal import Entry
from orchestrator_app.store.records import TABLES

#: The format of the database that this version writes; migration.py brings older ones up to it.
FORMAT = 2
#: Everyone may read formats from this one on: the tables have been the same since.
OLDEST_READABLE = 1

NUMBERS = " UNION ALL ".join(f"SELECT seq FROM {table}" for table in TABLES.values())


def format_of(connection: duckdb.DuckDBPyConnection) -> int:
    """The format that a database has. Raises StoreError when it is none of ours, LaterFormatError when it is newer."""
    meta = dict(connection.execute("SELECT name, value FROM meta").fetchall())
    try:
        found = int(meta["schema"])
    except (KeyError, ValueError):
        raise StoreError("it doesn't say which format it has") from None
    if found > FORMAT:
        by = f", written by orchestrator_app {meta['made by']}" if "made by" in meta else ""
        raise LaterFormatError(
            f"the log has format {found}{by}, and this version of orchestrator_app reads formats up to {FORMAT}: "
            "install the version that wrote it, or a later one"
        )
    return found


def last_seq(connection: duckdb.DuckDBPyConnection) -> int:
    """The number of the newest row; 0 for none."""
    return connection.execute(f"SELECT coalesce(max(seq), 0) FROM ({NUMBERS})").fetchall()[0][0]


def row_counts(connection: duckdb.DuckDBPyConnection) -> dict[str, int]:
    """How many rows each table has."""
    return {table: connection.execute(f"SELECT count(*) FROM {table}").fetchall()[0][0] for table in TABLES.values()}


def verify(connection: duckdb.DuckDBPyConnection) -> None:
    """Read every value, so that every block's checksum is looked at, and see that no number is missing or doubled.

    Raises duckdb.Error or StoreError. A million rows take a tenth of a second.
    """
    for table in (*TABLES.values(), "rule", "meta"):
        connection.execute(f"SELECT bit_xor(hash(whole_row)) FROM {table} AS whole_row").fetchall()
    broken = connection.execute(
        f"SELECT seq FROM (SELECT seq, lag(seq, 1, 0) OVER (ORDER BY seq) AS previous FROM ({NUMBERS})) "
        "WHERE seq <> previous + 1 LIMIT 1"
    ).fetchall()
    if broken:
        raise StoreError(f"the numbering breaks before row {broken[0][0]}")


def complete(connection: duckdb.DuckDBPyConnection, entries: Sequence[Entry]) -> int:
    """Append the journalled rows that a database lacks; how many. Raises StoreError if some are in neither."""
    last = last_seq(connection)
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
    if not missing:
        return 0
    connection.execute("BEGIN")
    for table, rows in missing.items():
        appender = connection.appender(table)
        appender.append_rows([as_stored(values) for values in rows])
        appender.flush()
    connection.execute("COMMIT")
    return expected - last - 1


def as_stored(values: Sequence[Any]) -> tuple[Any, ...]:
    """A journalled row as its table takes it: the last column is a time."""
    return (*values[:-1], datetime.fromisoformat(values[-1]))
