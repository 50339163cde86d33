"""The route to the output of an attempt."""

from __future__ import annotations

from typing import Any

from orchestrator_app.api.routing import Answer, Call, Field, Route
from orchestrator_app.api.shapes import COUNT, TEXT, thing
from orchestrator_app.errors import NotFoundError, UsageError
from orchestrator_app.executors.output import Piece, decoded, read_piece

MOST = 1024 * 1024
"""Bytes of one piece."""
SHARE = 64 * 1024
"""Bytes of one piece where the request doesn't say."""


async def read_log(call: Call) -> Any:
    unit, wanted = call.unit(), call.query
    if "tail" in wanted and "offset" in wanted:
        raise UsageError("say either offset or tail, not both")
    attempt = wanted.get("attempt", unit.attempt)
    limit = wanted.get("limit", MOST if "tail" in wanted else SHARE)
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


ROUTES = (
    Route(
        "GET",
        "/units/{name}/log",
        "A piece of an attempt's output. With `Accept: text/plain` its bytes as they are.",
        read_log,
        gives=thing(unit=TEXT, attempt=COUNT, offset=COUNT, next=COUNT, size=COUNT, text=TEXT),
        kinds=("text/plain",),
        query=(
            Field("attempt", "integer", "which attempt; the last one if not given"),
            Field("offset", "integer", "from this byte; give `next` of the piece before"),
            Field("tail", "integer", "instead of an offset: so many of the last lines, as far as they fit"),
            Field(
                "limit",
                "integer",
                f"at most so many bytes; {SHARE} if not given, {MOST} at most",
                rule={"minimum": 1, "maximum": MOST},
            ),
        ),
    ),
)
