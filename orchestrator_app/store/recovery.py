"""Opening the database after anything: a ladder of ways, each verified against the journal and the Parquet mirror.

A kill during a checkpoint can leave a file that doesn't open, and a damaged WAL one that opens with less than was
acknowledged. So: the file as it is; with its WAL cut at the last journalled length; without it; the copy made before
the newest checkpoint, with the WAL, its cut, or none; each topped up from the journal. All but the first are tried on
copies in a folder aside, and take the place of the damaged files, which are kept under `damaged/`, when they have
proved sound. Only damage leads down the ladder: a full disk, a missing right or a lock is said, and changes nothing.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import duckdb

from orchestrator_app.errors import DamagedLogError, LaterFormatError, StoreError
from orchestrator_app.store.files import COPY, DATABASE, WAL, empty_folder, in_one_line, stamp
from orchestrator_app.store.journal import Entry, Journal
from orchestrator_app.store.soundness import complete, format_of, last_seq, verify
from orchestrator_app.store.swap import replace_log

logger = logging.getLogger(__name__)

#: Seconds that a start waits for another process to let go of the file.
LOCK_PATIENCE = 2.0

#: One thread: a commit of a few rows is a tenth quicker without handing work to others.
CONFIG = {"checkpoint_threshold": "1TB", "threads": 1}

#: What keeps a sound file from being opened.
_PASSING = tuple(
    os.strerror(number)
    for number in (
        *(errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG),
        *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOMEM),
    )
)

#: How the log is opened when it can't be as it is: what is said of it, which file, and how much of the WAL.
_LADDER = (
    ("with its write-ahead log cut at the last acknowledged commit", DATABASE, "cut"),
    ("from the file and the journal, without the write-ahead log", DATABASE, "none"),
    ("from the copy before the last checkpoint", COPY, "all"),
    ("from the copy, with the write-ahead log cut at the last acknowledged commit", COPY, "cut"),
    ("from the copy and the journal, without the write-ahead log", COPY, "none"),
)


def connect(path: Path) -> duckdb.DuckDBPyConnection:
    """Open for writing, with automatic checkpoints off."""
    connection = duckdb.connect(str(path), config=CONFIG)
    connection.execute("PRAGMA disable_checkpoint_on_shutdown")
    return connection


def open_verified(folder: Path, witnessed: int = 0) -> tuple[duckdb.DuckDBPyConnection, str]:
    """The first way that holds everything acknowledged, opened, and what was done to get there ("" for nothing).

    `witnessed`: up to which number others than the journal have seen rows. Raises DamagedLogError when no way does,
    StoreError or OSError when something else is in the way.
    """
    path, journal = folder / DATABASE, Journal(folder)
    entries = list(journal.entries())
    witnessed = max(witnessed, journal.least(max((entry.seq for entry in entries), default=0)))
    try:
        connection, added = _open(path, entries, witnessed)
        note = f"the log was recovered as it was, with {added} rows from the journal" if added else ""
        if note:
            logger.warning("%s", note)
        return connection, note
    except (DamagedLogError, duckdb.Error) as error:
        first = in_one_line(error)
    cut = entries[-1].wal if entries else 0
    for title, source, part in _LADDER:
        if not (folder / source).exists():
            continue
        trial = empty_folder(folder / "recovering")
        lay_out(folder, trial, source, {"all": sys.maxsize, "cut": cut, "none": 0}[part])
        try:
            connection, added = _open(trial / DATABASE, entries, witnessed)
            connection.execute("CHECKPOINT")
            connection.close()
        except (DamagedLogError, duckdb.Error):
            continue
        kept = f"damaged/{stamp()}"
        replace_log(folder, trial / DATABASE, kept, [DATABASE, WAL])
        shutil.rmtree(trial)
        note = f"the log was recovered {title}, with {added} rows from the journal"
        logger.warning("%s; the damaged files are in %s", note, folder / kept)
        return _open(path, entries, witnessed)[0], note
    shutil.rmtree(folder / "recovering", ignore_errors=True)
    raise DamagedLogError(
        f"the log {path} is damaged ({first}): `orch check --repair` restores what its other files still hold, or "
        "`orch restore` a backup"
    )


def _open(path: Path, entries: Sequence[Entry], witnessed: int) -> tuple[duckdb.DuckDBPyConnection, int]:
    """Open a database and see that it has all of the log; how many rows it was given from the journal."""
    if not path.exists():  # DuckDB would make an empty one, and take it to be that of the WAL
        raise DamagedLogError(f"{path.name} is gone")
    connection = _connect_patiently(path)
    try:
        format_of(connection)
        added = complete(connection, entries)
        verify(connection)
        if (last := last_seq(connection)) < witnessed:
            raise StoreError(f"it ends at row {last}, and other files know of row {witnessed}")
    except LaterFormatError:
        connection.close()
        raise
    except StoreError as error:
        connection.close()
        raise DamagedLogError(str(error)) from None
    except duckdb.Error as error:
        connection.close()
        raise why_not_now(path, error) or error from None
    return connection, added


def _connect_patiently(path: Path) -> duckdb.DuckDBPyConnection:
    """Like `connect`, but a reader of a stopped project, who holds the file for a moment, is waited for."""
    give_up = time.monotonic() + LOCK_PATIENCE
    while True:
        try:
            return connect(path)
        except duckdb.Error as error:
            if not is_locked(error) or time.monotonic() > give_up:
                raise why_not_now(path, error) or error from None
        time.sleep(0.05)


def is_locked(error: Exception) -> bool:
    """Whether another process holds the file open."""
    return "could not set lock" in str(error).lower()


def who_holds(path: Path, error: Exception) -> str:
    """The same in words, with the process that DuckDB names."""
    found = re.search(r"held in (.+?) \(PID (\d+)\)", str(error))
    who = f"process {found[2]} ({Path(found[1]).name})" if found else "another process"
    return f"{path} is open in {who}: close it there first"


def why_not_now(path: Path, error: Exception) -> StoreError | None:
    """What to say where it is not the file that is at fault; None where it is."""
    if is_locked(error):
        return StoreError(who_holds(path, error))
    if isinstance(error, duckdb.OutOfMemoryException) or any(words in str(error) for words in _PASSING):
        return StoreError(f"the log {path} can't be opened now ({in_one_line(error)}): put that right and try again")
    return None


def lay_out(folder: Path, trial: Path, source: str, wal: int) -> None:
    """Copy a database and the first `wal` bytes of the WAL into the folder of a trial."""
    shutil.copyfile(folder / source, trial / DATABASE)
    if wal and (folder / WAL).exists():
        shutil.copyfile(folder / WAL, trial / WAL)
        os.truncate(trial / WAL, min(wal, (trial / WAL).stat().st_size))
