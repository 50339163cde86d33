"""Opening the database after anything: a ladder of ways, each verified against the journal.

A kill during a checkpoint can leave a file that doesn't open, and a damaged WAL one that opens with
less than was acknowledged. So: the file as it is; with its WAL cut at the last journalled length; the
copy made before the newest checkpoint, with the WAL, or its cut; each topped up from the journal. Whatever
is replaced is kept under `damaged/`. A WAL is never deleted.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import duckdb

from orchestrator_app.errors import StoreError
from orchestrator_app.store.journal import Entry

logger = logging.getLogger(__name__)

#: Seconds that a start waits for another process to let go of the file.
LOCK_PATIENCE = 2.0

#: One thread: a commit of a few rows is a tenth quicker without handing work to others.
CONFIG = {"checkpoint_threshold": "1TB", "threads": 1}


def connect(path: Path) -> duckdb.DuckDBPyConnection:
    """Open for writing, with automatic checkpoints off."""
    connection = duckdb.connect(str(path), config=CONFIG)
    connection.execute("PRAGMA disable_checkpoint_on_shutdown")
    return connection


def open_verified(
    path: Path, copy: Path, entries: list[Entry], complete: Callable[[duckdb.DuckDBPyConnection], int]
) -> tuple[duckdb.DuckDBPyConnection, str]:
    """The first rung of the ladder that holds everything acknowledged, and what was done to get there ("" for nothing).

    `complete(connection)` appends journalled rows that are missing, checks the numbering and returns how many it added;
    it raises StoreError where that can't be done.
    """
    wal = path.with_name(path.name + ".wal")
    cut = entries[-1].wal if entries else 0
    kept = path.parent / "damaged" / time.strftime("%Y%m%dT%H%M%S")
    failures = []
    for title, source, wal_length in (
        ("as it was", path, None),
        ("with its write-ahead log cut at the last acknowledged commit", path, cut),
        ("from the copy before the last checkpoint", copy, None),
        ("from the copy, with the write-ahead log cut at the last acknowledged commit", copy, cut),
        ("from the copy and the journal, without the write-ahead log", copy, 0),
    ):
        if not source.exists():
            continue
        try:
            if title != "as it was":
                _lay_out(path, wal, source, wal_length, kept)
            connection = _connect_patiently(path)
        except duckdb.IOException as error:
            if "lock" in str(error).lower():
                raise StoreError(
                    f"{path} is open in another process: close it there first ({_one_line(error)})"
                ) from error
            failures.append(f"{title}: {_one_line(error)}")
            continue
        except duckdb.Error as error:
            failures.append(f"{title}: {_one_line(error)}")
            continue
        try:
            added = complete(connection)
        except (StoreError, duckdb.Error) as error:
            connection.close()
            failures.append(f"{title}: {_one_line(error)}")
            continue
        note = ""
        if title != "as it was" or added:
            note = f"the log was recovered {title}, with {added} rows from the journal"
            logger.warning("%s; the damaged files are kept beside it", note)
        return connection, note
    raise StoreError(
        f"the log {path} can't be opened ({'; '.join(failures)}): restore it from a backup of {path.parent}"
    )


def _connect_patiently(path: Path) -> duckdb.DuckDBPyConnection:
    """Like `connect`, but a reader of a stopped project, who holds the file for a moment, is waited for."""
    give_up = time.monotonic() + LOCK_PATIENCE
    while True:
        try:
            return connect(path)
        except duckdb.IOException as error:
            if "lock" not in str(error).lower() or time.monotonic() > give_up:
                raise
        time.sleep(0.05)


def _lay_out(path: Path, wal: Path, source: Path, wal_length: int | None, kept: Path) -> None:
    """Put `source` and the (cut) WAL in the database's place; what stood there at first is in `kept`."""
    if not (kept / path.name).exists():
        kept.mkdir(parents=True, exist_ok=True)
        for file in (path, wal):
            if file.exists():
                shutil.copy2(file, kept / file.name)
    if source != path:
        replace_durably(source, path)
    original = kept / wal.name
    if original.exists():
        shutil.copy2(original, wal)
        if wal_length is not None:
            os.truncate(wal, min(wal_length, wal.stat().st_size))


def replace_durably(source: Path, target: Path) -> None:
    """Copy `source` over `target` so that a crash leaves the old or the new one, whole."""
    temporary = target.with_name(target.name + ".tmp")
    shutil.copyfile(source, temporary)
    with temporary.open("rb+") as file:
        os.fsync(file.fileno())
    os.replace(temporary, target)
    sync_folder(target.parent)


def sync_folder(folder: Path) -> None:
    """Force a rename in `folder` to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _one_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:300]
