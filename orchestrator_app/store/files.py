"""The log's files, and how one is written or replaced so that a crash leaves the old or the new one, whole."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

DATABASE = "orchestrator.duckdb"
WAL = DATABASE + ".wal"
#: The database as it was before the newest checkpoint.
COPY = DATABASE + ".copy"

#: Folders in which a database is made before it takes its place.
WORKSHOPS = ("migrating", "recovering", "repairing", "restoring", "replacing.tmp")

_PIECE = 1 << 20


def replace_durably(source: Path | int, target: Path) -> None:
    """Copy `source` over `target` so that a crash leaves the old or the new one, whole. Raises OSError.

    An open database is given as a descriptor that stays open: to close any descriptor of it would let go of the lock
    by which DuckDB keeps other processes away.
    """
    temporary = target.with_name(target.name + ".tmp")
    try:
        with temporary.open("wb") as file:
            if isinstance(source, int):
                _copy(source, file.fileno())
            else:
                with source.open("rb") as reader:
                    _copy(reader.fileno(), file.fileno())
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except OSError:
        temporary.unlink(missing_ok=True)  # on a full disk its room is needed
        raise
    sync_folder(target.parent)


def _copy(source: int, target: int) -> None:
    offset = 0
    while piece := os.pread(source, _PIECE, offset):
        offset += len(piece)
        while piece:
            piece = piece[os.write(target, piece) :]
        os.fdatasync(target)  # bit by bit: a commit that comes in between waits for one piece, not for all


def sync_folder(folder: Path) -> None:
    """Force what was made or renamed in `folder` to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Force a file's content to the disk."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def cut(path: Path, length: int) -> None:
    """Shorten a file, durably."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.ftruncate(descriptor, length)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def empty_folder(path: Path) -> Path:
    """A private folder with nothing in it, whatever a crash left there."""
    if path.exists():
        shutil.rmtree(path)
    path.mkdir(mode=0o700)
    return path


def clear_leftovers(folder: Path) -> None:
    """Remove what a crash left unfinished, now that nobody is at work in the folder."""
    for name in WORKSHOPS:
        shutil.rmtree(folder / name, ignore_errors=True)
    for name in (DATABASE, COPY, "journal"):
        (folder / f"{name}.tmp").unlink(missing_ok=True)


def stamp() -> str:
    """The time as part of a file's name, in UTC."""
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())


def in_one_line(error: Exception) -> str:
    """What an error says, for a message of ours."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
