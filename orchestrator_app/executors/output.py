"""The output of an attempt, a bounded piece at a time: a log of any size is never read whole."""

from __future__ import annotations

import codecs
import os
import stat
from pathlib import Path
from typing import NamedTuple

from orchestrator_app.errors import NotFoundError


class Piece(NamedTuple):
    """Bytes of a log, and where they stand in it."""

    offset: int  # of the first byte
    data: bytes
    size: int  # of the file, at this moment


def read_piece(root: Path, path: tuple[str, ...], offset: int | None, tail: int | None, limit: int) -> Piece | None:
    """At most `limit` bytes of a file below `root`: from `offset`, or its last `tail` lines, or its end.

    No part of the path may be a symbolic link and the file must be a regular one, since agents can write there.
    None if there is no such file."""
    handle = _open_beneath(root, path)
    if handle is None:
        return None
    try:
        info = os.fstat(handle)
        if not stat.S_ISREG(info.st_mode):
            raise NotFoundError(f"{'/'.join(path)} is not a plain file")
        if offset is not None:
            return Piece(offset, os.pread(handle, limit, offset), info.st_size)
        start = max(0, info.st_size - limit)
        data = os.pread(handle, limit, start)
        kept = _last_lines(data, tail) if tail is not None else data
        return Piece(start + len(data) - len(kept), kept, info.st_size)
    finally:
        os.close(handle)


def decoded(piece: Piece) -> tuple[str, int]:
    """The piece as text, and how many of its bytes that is: a character cut off at its end waits for the next piece."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    text = decoder.decode(piece.data)
    waiting = len(decoder.getstate()[0])
    if waiting and waiting == len(piece.data):
        return piece.data.decode(errors="replace"), len(piece.data)
    return text, len(piece.data) - waiting


def _last_lines(data: bytes, count: int) -> bytes:
    if count == 0:
        return b""
    end = len(data) - 1 if data.endswith(b"\n") else len(data)
    for _ in range(count):
        end = data.rfind(b"\n", 0, end)
        if end < 0:
            return data
    return data[end + 1 :]


def _open_beneath(root: Path, path: tuple[str, ...]) -> int | None:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    handle = -1
    try:
        handle = os.open(root, flags | os.O_DIRECTORY)
        for step, name in enumerate(path, 1):
            kind = os.O_NONBLOCK if step == len(path) else os.O_DIRECTORY
            inner = os.open(name, flags | kind, dir_fd=handle)
            os.close(handle)
            handle = inner
    except FileNotFoundError:
        if handle >= 0:
            os.close(handle)
        return None
    except OSError:
        if handle >= 0:
            os.close(handle)
        raise NotFoundError(f"{'/'.join(path)} can't be read: it is not a plain file") from None
    return handle
