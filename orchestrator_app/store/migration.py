"""Bringing the database of an older format up to this one: on a copy beside, verified, then renamed over.

Each step is an SQL file, `migration_N.sql`, which leads from format N - 1 to N. The old file is kept beside, with its
format and the time in its name. A crash at any point leaves the old database or the new one; a step that changes a
table also has to say what becomes of rows that the journal has in the old shape.
"""

from __future__ import annotations

import os
import shutil
from importlib.resources import files
from pathlib import Path

import duckdb

from orchestrator_app.errors import StoreError
from orchestrator_app.store.files import (
    DATABASE,
    empty_folder,
    in_one_line,
    replace_durably,
    stamp,
    sync_file,
    sync_folder,
)
from orchestrator_app.store.recovery import connect
from orchestrator_app.store.schema import write_meta
from orchestrator_app.store.soundness import FORMAT, format_of, last_seq, row_counts, verify


def migrate(folder: Path, found: int) -> Path:
    """Bring a closed database, whose WAL is empty, from format `found` to FORMAT; where the old file is kept.

    Raises StoreError: then the old one is as it was.
    """
    path = folder / DATABASE
    kept = folder / f"{DATABASE}.format-{found}.{stamp()}"
    building = folder / "migrating"
    try:
        replace_durably(path, kept)
        empty_folder(building)
        shutil.copyfile(path, building / DATABASE)
        _build(building / DATABASE, found)
        os.replace(building / DATABASE, path)
        sync_folder(folder)
    except (OSError, duckdb.Error, StoreError) as error:
        raise StoreError(
            f"the log {path} could not be brought from format {found} to {FORMAT} ({in_one_line(error)}): put that "
            "right and start again; nothing was changed"
        ) from error
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return kept


def _build(path: Path, found: int) -> None:
    """Take the steps on a copy, and prove that it has the same rows."""
    connection = connect(path)
    try:
        before = row_counts(connection), last_seq(connection)
        connection.execute("BEGIN")
        for number in range(found + 1, FORMAT + 1):
            connection.execute(files(__package__).joinpath(f"migration_{number}.sql").read_text())
        connection.execute("DELETE FROM meta WHERE name IN ('schema', 'made by')")
        write_meta(connection)
        connection.execute("COMMIT")
        connection.execute("CHECKPOINT")
        connection.close()
        connection = connect(path)
        verify(connection)
        if (row_counts(connection), last_seq(connection)) != before or format_of(connection) != FORMAT:
            raise StoreError("the new file has other rows than the old one")
    finally:
        connection.close()
    sync_file(path)
