"""Searching the output of an attempt, in either direction and a bounded piece at a time.

Text is found whatever its case, and also where an agent coloured a part of it: escape codes for colours may stand
between any two of its characters.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from orchestrator_app.executors.output import PIECE, opened, pieces

SLICE = 8 * 1024 * 1024
"""Bytes that one call looks through at most; between two calls a search can be cancelled and say how far it is."""
MOST_TEXT = 200
"""Characters that can be searched for."""
LOOK_BACK = 64 * 1024
"""Bytes before a hit in which the beginning of its line is looked for."""
CONTEXT = 200
"""Bytes of a line that are told on each side of a hit."""
_COLOUR = rb"\x1b\[[0-9;:]{0,40}[mK]"
_LONGEST_COLOURS = 4 * 43


class Needle(NamedTuple):
    """What is searched for, made ready."""

    pattern: re.Pattern[bytes]
    simple: bytes | None  # the text in lower case, where comparing bytes says the same and is quicker
    longest: int  # bytes that a hit can have


class Found(NamedTuple):
    """What one call of `find` saw."""

    hits: list[tuple[int, int]]  # the first byte of each and the one after it, in the order of the search
    reached: int  # where the next call goes on
    size: int  # of the file, at this moment


class Hit(NamedTuple):
    """One hit and its line."""

    offset: int
    end: int
    line: int  # where its line begins, or where looking for that was given up
    nth: int  # hits before it in that line
    text: str  # the line around it, without colours


def needle(text: str) -> Needle:
    """Raises ValueError for a text that is empty, longer than a line of a screen, or of several lines."""
    if not text or len(text) > MOST_TEXT or any(character in "\r\n" for character in text):
        raise ValueError(f"search for 1 to {MOST_TEXT} characters of one line")
    forms = [[form.encode("utf-8", "replace") for form in sorted({c, c.lower(), c.upper()})] for c in text]
    alternatives = [b"(?:" + b"|".join(map(re.escape, each)) + b")" for each in forms]
    pattern = re.compile((b"(?:" + _COLOUR + b"){0,4}").join(alternatives))
    longest = sum(max(map(len, each)) for each in forms) + (len(text) - 1) * _LONGEST_COLOURS
    return Needle(pattern, text.lower().encode() if text.isascii() else None, longest)


def find(
    root: Path, path: tuple[str, ...], what: Needle, start: int, backwards: bool = False, most: int = 1, stop: int = -1
) -> Found | None:
    """The next hits from byte `start`: those that begin at or after it, or before it and nearest first.

    Looks through `SLICE` bytes at most, up to byte `stop` (the end, or the beginning, if negative), and no further than
    `most` hits. None if there is no such file."""
    with opened(root, path) as file:
        if file is None:
            return None
        handle, size = file
        start = min(start, size)
        if backwards:
            first = max(start - SLICE, stop, 0)
            hits: list[tuple[int, int]] = []
            for low in range(start - PIECE, first - PIECE, -PIECE):
                low, high = max(low, first), low + PIECE
                for offset, data in pieces(handle, low, high, what.longest):
                    inside = [hit for hit in _hits(what, data, offset) if hit[0] < high]
                    hits += inside[::-1]
                if len(hits) >= most:
                    return Found(hits[:most], hits[most - 1][0], size)
            return Found(hits, first, size)
        last = min(start + SLICE, size if stop < 0 else stop, size)
        hits, free = [], start  # no hit begins inside another
        for offset, data in pieces(handle, start, last, what.longest):
            for hit in _hits(what, data, offset, free):
                if hit[0] >= offset + PIECE or hit[0] >= last:
                    break
                hits.append(hit)
                free = hit[1]
                if len(hits) == most:
                    return Found(hits, free, size)
        return Found(hits, max(last, free), size)


def line_of(root: Path, path: tuple[str, ...], what: Needle, offset: int, end: int) -> Hit | None:
    """A hit with the line it stands in; of a long line, the part around it. None if the file has gone."""
    with opened(root, path) as file:
        if file is None:
            return None
        start = max(0, offset - LOOK_BACK)
        data = b"".join(data for _, data in pieces(file[0], start, end + CONTEXT))
        line = data.rfind(b"\n", 0, offset - start) + 1
        nth = sum(1 for hit in _hits(what, data[line:], start + line) if hit[0] < offset)
        after = data.find(b"\n", end - start)
        around = data[max(line, offset - start - CONTEXT) : after if after >= 0 else len(data)]
        return Hit(offset, end, start + line, nth, re.sub(_COLOUR, b"", around).decode(errors="replace"))


def _hits(what: Needle, data: bytes, offset: int, free: int = 0) -> Iterator[tuple[int, int]]:
    """The hits in `data`, which stands at byte `offset` of the file, from byte `free` of the file on."""
    begin = max(0, free - offset)
    if what.simple is None or b"\x1b" in data:
        for match in what.pattern.finditer(data, begin):
            yield offset + match.start(), offset + match.end()
        return
    lower, length = data.lower(), len(what.simple)
    at = lower.find(what.simple, begin)
    while at >= 0:
        yield offset + at, offset + at + length
        at = lower.find(what.simple, at + length)
