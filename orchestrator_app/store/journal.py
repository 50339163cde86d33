"""An fsynced file beside the database that knows every acknowledged row since the last copy of it.

DuckDB alone can't say that it lost something: a flipped bit in its WAL may open silently with fewer
transactions. One line per commit: a CRC, then JSON `{"seq": last, "wal": length of the WAL behind this
commit, "rows": [[table, [values]], …]}`. A torn last line was never acknowledged and is ignored.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple


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

    def append(self, entry: Entry) -> None:
        """Write one commit and force it to the disk."""
        if self._file is None:
            self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            self._drop_torn_end()
        body = json.dumps(entry._asdict(), default=str, separators=(",", ":")).encode()
        line = b"%08x %s\n" % (zlib.crc32(body), body)
        written = os.write(self._file, line)
        if written != len(line):
            os.ftruncate(self._file, os.fstat(self._file).st_size - written)
            raise OSError(f"the journal {self.path} took {written} of {len(line)} bytes")
        os.fdatasync(self._file)

    def _drop_torn_end(self) -> None:
        """Cut a half line that a crash left, so that the next line doesn't continue it."""
        content = self.path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            os.ftruncate(self._file, whole)

    def entries(self) -> Iterator[Entry]:
        """Every readable commit, oldest first, up to the first damaged line of each segment."""
        for path in (self.previous, self.path):
            if not path.exists():
                continue
            with path.open("rb") as lines:
                for line in lines:
                    checksum, _, body = line.rstrip(b"\n").partition(b" ")
                    if not line.endswith(b"\n") or checksum != b"%08x" % zlib.crc32(body):
                        break
                    entry = json.loads(body)
                    yield Entry(entry["seq"], entry["wal"], entry["rows"])

    def rotate(self) -> None:
        """Begin a new segment, after a checkpoint has put everything into the database file."""
        self.close()
        if self.path.exists():
            os.replace(self.path, self.previous)

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None
