"""One file that holds the whole log as it was at one moment: made from copies of the log's files, proven, placed."""

from __future__ import annotations

import os
import shutil
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import duckdb

from orchestrator_app.errors import LaterFormatError, OrchError, StoreError
from orchestrator_app.store.files import COPY, DATABASE, WAL, in_one_line, replace_durably, sync_file, sync_folder
from orchestrator_app.store.mirror import as_text
from orchestrator_app.store.records import TABLES
from orchestrator_app.store.recovery import open_verified
from orchestrator_app.store.schema import build
from orchestrator_app.store.soundness import OLDEST_READABLE, format_of, last_seq, row_counts, verify


class Content(NamedTuple):
    """What a file of the log holds. `newest`: when its newest transition was made."""

    seq: int
    rows: int
    format: int
    newest: datetime | None


def copy_stopped(state: Path, folder: Path) -> None:
    """Copy the log's files of a project that nobody has open. Raises OSError."""
    for name in (DATABASE, WAL, COPY, "journal", "journal.previous"):
        if (state / name).exists():
            replace_durably(state / name, folder / name)


def make_whole(folder: Path, witnessed: int) -> Content:
    """Make one sound database of the copies in `folder`, which nobody else knows; what it holds.

    `witnessed`: the row that it has to reach. Raises DamagedLogError, StoreError.
    """
    try:
        connection, _ = open_verified(folder, witnessed)
        try:
            connection.execute("CHECKPOINT")
        finally:
            connection.close()
        sync_file(folder / DATABASE)
        return content_of(folder / DATABASE)
    except (OSError, duckdb.Error) as error:
        raise StoreError(f"the copy could not be made into one file: {in_one_line(error)}") from None


def content_of(path: Path) -> Content:
    """What a closed database holds, after all of it was read. Raises duckdb.Error, StoreError."""
    with duckdb.connect(str(path), read_only=True) as connection:
        verify(connection)
        newest = connection.execute("SELECT max(occurred_at) FROM transition").fetchall()[0][0]
        rows = sum(row_counts(connection).values())
        return Content(last_seq(connection), rows, format_of(connection), newest)


def place(made: Path, target: Path, *, force: bool) -> None:
    """Give a finished file its name. Raises OrchError where that is taken, OSError."""
    os.chmod(made, 0o600)
    if force:
        os.replace(made, target)
    else:
        try:
            os.link(made, target)
        except FileExistsError:
            raise OrchError(f"{target} is there already: name another file, or say --force to replace it") from None
        os.unlink(made)
    sync_folder(target.parent)


def take_in(file: Path, folder: Path) -> None:
    """Take the rows of a backup into a new database in `folder`, one of our own making.

    Nothing but rows is taken: whatever else the file holds (views, macros, settings) is left, and it can reach no other
    file. Raises StoreError where it is no backup or a damaged one, LaterFormatError where it is too new.
    """
    copied = folder / "taken.duckdb"
    shutil.copyfile(file, copied)
    wal = file.with_name(file.name + ".wal")
    if wal.exists():  # a database that was copied by hand
        shutil.copyfile(wal, folder / "taken.duckdb.wal")
    rows = folder / "rows"
    rows.mkdir()
    try:
        with duckdb.connect(str(copied), config={"threads": 1, "python_enable_replacements": False}) as source:
            source.execute(f"SET allowed_directories = [{as_text(rows)}]")
            source.execute("SET enable_external_access = false")
            source.execute("SET lock_configuration = true")
            _only_tables(source)
            if format_of(source) < OLDEST_READABLE:
                raise StoreError("its format is too old for this version")
            verify(source)
            for table in TABLES.values():
                source.execute(f"COPY (SELECT * FROM {table} ORDER BY seq) TO {as_text(rows / table)} (FORMAT parquet)")
        build(folder / DATABASE)
        with duckdb.connect(str(folder / DATABASE), config={"threads": 1}) as target:
            for table in TABLES.values():
                target.execute(f"INSERT INTO {table} SELECT * FROM read_parquet({as_text(rows / table)})")
            verify(target)
    except LaterFormatError as error:
        raise LaterFormatError(f"{file}: {error}") from None
    except (duckdb.Error, OSError, StoreError) as error:
        raise StoreError(f"{file} is no sound backup of a log: {in_one_line(error)}") from None
    finally:
        copied.unlink()
        shutil.rmtree(rows)


def _only_tables(source: duckdb.DuckDBPyConnection) -> None:
    """See that what is called a table is one: a view of that name would be a program."""
    found = {name for (name,) in source.execute("SELECT table_name FROM duckdb_tables() WHERE NOT internal").fetchall()}
    lacking = sorted({*TABLES.values(), "meta"} - found)
    if lacking:
        raise StoreError(f"it has no table {lacking[0]}")
