"""An fsynced file beside the database that knows every acknowledged row since the last copy of it.

DuckDB alone can't say that it lost something: a flipped bit in its WAL may open silently with fewer
transactions. One line per commit: a CRC, then JSON `{"seq": last, "wal": length of the WAL behind this
commit, "rows": [[table, [values]], …]}`. A line that can't be read is skipped: each stands for itself.

What could not be written, or not be forced to the disk, is not written again in the same place: after a failed
fsync the system holds for clean what it never wrote. The whole file is then written anew beside, and renamed over.
"""

from __future__ import annotations

import errno
import json
import os
import zlib
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from orchestrator_app.store.files import sync_folder

#: Bytes of lines that are kept for a later try, when the file can't be written.
MOST_OWED = 1 << 20


class Entry(NamedTuple):
    """One commit: the number of its last row, the WAL's length behind it, and its rows by table."""

    seq: int
    wal: int
    rows: list[tuple[str, list[Any]]]


class Journal:
    """Two segments: `journal` since the newest checkpoint, `journal.previous` for the one before."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "journal"
        self.previous = folder / "journal.previous"
        self._file: int | None = None
        self._owed: list[bytes] = []
        self._distrusted = False
        #: Whether commits are missing from it for good: a checkpoint makes up for that.
        self.has_gap = False

    def append(self, entry: Entry) -> None:
        """Write one commit, and those that failed before it, and force them to the disk. Raises OSError."""
        self._owed.append(_line(entry))
        try:
            self._write()
        except OSError:
            self._distrust()
            raise
        self._owed.clear()

    def _write(self) -> None:
        if self._file is None:
            self._file = self._open()
        data = b"".join(self._owed)
        if os.write(self._file, data) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
        os.fdatasync(self._file)

    def _open(self) -> int:
        """Open it to append; where its end can't be trusted, what can be read of it is written anew first."""
        if self.path.exists():
            content = self.path.read_bytes()
            if self._distrusted or not content.endswith(b"\n"):
                draft = self.path.with_name(self.path.name + ".tmp")
                with draft.open("wb") as file:
                    file.writelines(line for line in content.splitlines(keepends=True) if _read(line))
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(draft, self.path)
        opened = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            sync_folder(self.path.parent)  # the new file's name, and that of the WAL which DuckDB made just now
        except OSError:
            os.close(opened)
            raise
        self._distrusted = False
        return opened

    def _distrust(self) -> None:
        self.close()
        self._distrusted = True
        if sum(map(len, self._owed)) > MOST_OWED:
            self._owed.clear()
            self.has_gap = True

    def entries(self) -> Iterator[Entry]:
        """Every commit that can be read, oldest first."""
        for path in (self.previous, self.path):
            if path.exists():
                with path.open("rb") as lines:
                    yield from filter(None, map(_read, lines))

    def least(self, last: int) -> int:
        """The row that the log has to reach, if `last` is the newest in `entries`.

        An end that can't be read, and also a file that is empty, was being written when its commit was already in the
        database: so there is a row more.
        """
        try:
            with self.path.open("rb") as lines:
                newest = deque(lines, maxlen=1)
        except FileNotFoundError:
            return last
        return last if newest and _read(newest[0]) else last + 1

    def damaged_lines(self) -> int:
        """How many lines can't be read, but for a half one at the end, which a crash leaves: no one was told of it."""
        found = 0
        for path in (self.previous, self.path):
            if path.exists():
                with path.open("rb") as lines:
                    found += sum(_read(line) is None and line.endswith(b"\n") for line in lines)
        return found

    def rotate(self) -> None:
        """Begin a new segment, after a checkpoint has put everything into the database file. Raises OSError."""
        self.close()
        self._owed.clear()
        if self.path.exists():
            os.replace(self.path, self.previous)
        self._distrusted = self.has_gap = False

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


_dumps = json.JSONEncoder(default=str, separators=(",", ":")).encode
SLICE = 1_000


def _line(entry: Entry) -> bytes:
    # In slices: while one is written no other thread of this process runs.
    slices = (_dumps(entry.rows[start : start + SLICE])[1:-1] for start in range(0, len(entry.rows), SLICE))
    body = f'{{"seq":{entry.seq},"wal":{entry.wal},"rows":[{",".join(slices)}]}}'.encode()
    return b"%08x %s\n" % (zlib.crc32(body), body)


def _read(line: bytes) -> Entry | None:
    checksum, _, body = line.rstrip(b"\n").partition(b" ")
    if not line.endswith(b"\n") or checksum != b"%08x" % zlib.crc32(body):
        return None
    entry = json.loads(body)
    return Entry(entry["seq"], entry["wal"], entry["rows"])
