"""The output of an attempt, a bounded piece at a time: a log of any size is never read whole."""

from __future__ import annotations

import codecs
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from orchestrator_app.errors import NotFoundError

PIECE = 256 * 1024
"""Bytes that are looked through at once: about 2 ms, in which Python does nothing else."""


class Piece(NamedTuple):
    """Bytes of a log, and where they stand in it."""

    offset: int  # of the first byte
    data: bytes
    size: int  # of the file, at this moment


def read_piece(root: Path, path: tuple[str, ...], offset: int | None, tail: int | None, limit: int) -> Piece | None:
    """At most `limit` bytes of a file below `root`: from `offset`, or its last `tail` lines, or its end.

    No part of the path may be a symbolic link and the file must be a regular one, since agents can write there.
    None if there is no such file."""
    with opened(root, path) as file:
        if file is None:
            return None
        handle, size = file
        if offset is not None:
            return Piece(offset, os.pread(handle, limit, offset), size)
        start = max(0, size - limit)
        data = os.pread(handle, limit, start)
        kept = _last_lines(data, tail) if tail is not None else data
        return Piece(start + len(data) - len(kept), kept, size)


def read_back(root: Path, path: tuple[str, ...], before: int | None, limit: int) -> Piece | None:
    """The whole lines that end at byte `before` (the end of the file if None), as far as `limit` bytes hold them; of a
    longer line, its last part."""
    with opened(root, path) as file:
        if file is None:
            return None
        handle, size = file
        end = size if before is None else min(before, size)
        start = max(0, end - limit)
        data = os.pread(handle, end - start, start)
        if start:
            cut = data.find(b"\n", 0, len(data) - 1) + 1 or _inside_character(data)
            start, data = start + cut, data[cut:]
        return Piece(start, data, size)


def count_lines(root: Path, path: tuple[str, ...], start: int, stop: int) -> int:
    """How many lines end between two bytes. The caller bounds the distance; the memory is bounded here."""
    with opened(root, path) as file:
        return 0 if file is None else sum(data.count(b"\n") for _, data in pieces(file[0], start, stop))


def decoded(piece: Piece) -> tuple[str, int]:
    """The piece as text, and how many of its bytes that is: a character cut off at its end waits for the next piece."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    text = decoder.decode(piece.data)
    waiting = len(decoder.getstate()[0])
    if waiting and waiting == len(piece.data):
        return piece.data.decode(errors="replace"), len(piece.data)
    return text, len(piece.data) - waiting


@contextmanager
def opened(root: Path, path: tuple[str, ...]) -> Iterator[tuple[int, int] | None]:
    """The descriptor and size of a plain file below `root`, reached without a symbolic link; None if there is none."""
    handle = _open_beneath(root, path)
    if handle is None:
        yield None
        return
    try:
        info = os.fstat(handle)
        if not stat.S_ISREG(info.st_mode):
            raise NotFoundError(f"{'/'.join(path)} is not a plain file")
        yield handle, info.st_size
    finally:
        os.close(handle)


def pieces(handle: int, start: int, stop: int, overlap: int = 0) -> Iterator[tuple[int, bytes]]:
    """What stands between two bytes, `PIECE` at a time, each with `overlap` bytes of what follows it."""
    for offset in range(start, stop, PIECE):
        data = os.pread(handle, min(PIECE, stop - offset) + overlap, offset)
        if not data:
            return
        yield offset, data


def _inside_character(data: bytes) -> int:
    """How many bytes at the beginning belong to a character that began before."""
    return next((index for index, byte in enumerate(data[:3]) if byte & 0xC0 != 0x80), 3 if len(data) > 3 else 0)


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
