"""The output of an attempt, a bounded piece at a time: a log of any size is never read whole."""

from __future__ import annotations

import codecs
import os
import stat
from pathlib import Path
from typing import Any, NamedTuple

from orchestrator_app.api.routing import Answer, Call, Field, Route
from orchestrator_app.errors import NotFoundError, UsageError

MOST = 1024 * 1024
"""Bytes of one piece."""
SHARE = 64 * 1024
"""Bytes of one piece where the request doesn't say."""


class Piece(NamedTuple):
    offset: int  # of the first byte
    data: bytes
    size: int  # of the file, at this moment


async def read_log(call: Call) -> Any:
    unit, wanted = call.unit(), call.query
    if "tail" in wanted and "offset" in wanted:
        raise UsageError("say either offset or tail, not both")
    attempt = wanted.get("attempt", unit.attempt)
    limit = wanted.get("limit", MOST if "tail" in wanted else SHARE)
    if not 1 <= limit <= MOST:
        raise UsageError(f"limit must be from 1 to {MOST} bytes")
    path = (unit.name, str(attempt), "output.log")
    runs = call.server.project.state / "runs"
    piece = await call.aside(read_piece, runs, path, wanted.get("offset"), wanted.get("tail"), limit)
    if piece is None:
        if attempt != unit.attempt:
            raise NotFoundError(f'unit "{unit.name}" has no attempt {attempt}; its last one is {unit.attempt}')
        piece = Piece(0, b"", 0)  # not started yet
    if call.accepts.startswith("text/plain"):
        return Answer(
            piece.data,
            headers={
                "Content-Type": "text/plain; charset=utf-8",
                "X-Next-Offset": str(piece.offset + len(piece.data)),
                "X-Log-Size": str(piece.size),
            },
        )
    text, used = decoded(piece)
    return {
        "unit": unit.name,
        "attempt": attempt,
        "offset": piece.offset,
        "next": piece.offset + used,
        "size": piece.size,
        "text": text,
    }


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


ROUTES = (
    Route(
        "GET",
        "/units/{name}/log",
        "A piece of an attempt's output. With `Accept: text/plain` its bytes as they are.",
        read_log,
        query=(
            Field("attempt", "integer", "which attempt; the last one if not given"),
            Field("offset", "integer", "from this byte; give `next` of the piece before"),
            Field("tail", "integer", "instead of an offset: so many of the last lines, as far as they fit"),
            Field("limit", "integer", f"at most so many bytes; {SHARE} if not given, {MOST} at most"),
        ),
    ),
)
