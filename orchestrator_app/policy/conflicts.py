"""Whether two units may touch the same files, by the globs they declare.

A glob is matched against paths relative to the repository, segment by segment:

- `*` any characters, `?` one, `[abc]`, `[a-z]`, `[!a]` one of a set; none of them matches `/`
- `**` as a whole segment: any number of segments, none included; at the end: everything below
- a glob that ends in `/` means everything below; one whose last segment is a plain name means that file, or
  everything below, if it is a directory

Pure functions; the answers are exact over all paths, and the work is bounded by the product of the two lengths.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from orchestrator_app.errors import UsageError

GLOB_LIMIT = 300  # characters

_LAST = 0x10FFFF
_ANY = ((1, ord("/") - 1), (ord("/") + 1, _LAST))  # every character of a file name

Ranges = tuple[tuple[int, int], ...]  # code points, both ends included; what one character may be
Token = Ranges | None  # None: any number of characters
Segment = tuple[Token, ...] | None  # None: any number of segments


def check_glob(glob: str) -> str:
    """Return `glob`, or raise UsageError that says what is wrong with it."""
    if not glob.strip():
        raise UsageError("a glob in `touches` is empty; name a file or directory, like src/*.py")
    if len(glob) > GLOB_LIMIT:
        raise UsageError(f"the glob {glob[:40]!r}... has {len(glob)} characters; at most {GLOB_LIMIT} are possible")
    if "\0" in glob:
        raise UsageError(f"the glob {glob!r} holds a NUL character; leave that out")
    if glob.startswith("/"):
        raise UsageError(f"the glob {glob!r} is absolute; write it relative to the repository's top level")
    if ".." in glob.split("/"):
        raise UsageError(f"the glob {glob!r} leaves the repository by `..`; write it relative to the top level")
    return glob


def overlap(touches_a: Iterable[str], touches_b: Iterable[str]) -> list[tuple[str, str]]:
    """The pairs of globs, one of each side, that can match a common path."""
    others = list(touches_b)
    return [(a, b) for a in touches_a for b in others if globs_overlap(a, b)]


@lru_cache(maxsize=65536)
def globs_overlap(a: str, b: str) -> bool:
    """Whether some path matches both globs."""
    one, other = _segments(a), _segments(b)
    if _impossible(one) or _impossible(other):
        return False
    return _common_path(one, other)


def _impossible(segments: tuple[Segment, ...]) -> bool:
    """Whether a segment asks for a character of an empty set, like [z-a]."""
    return any(segment is not None and () in segment for segment in segments)


def _common_path(a: tuple[Segment, ...], b: tuple[Segment, ...]) -> bool:
    """Row by row from the end: does some path match a[i:] and b[j:]?"""
    width = len(b)
    below = [False] * width + [True]  # a is used up: what is left of b must match no segment
    for j in range(width - 1, -1, -1):
        below[j] = b[j] is None and below[j + 1]
    for segment in reversed(a):
        row = [False] * width + [segment is None and below[width]]
        for j in range(width - 1, -1, -1):
            if segment is None or b[j] is None:
                row[j] = below[j] or row[j + 1]
            else:
                row[j] = below[j + 1] and _common_name(segment, b[j])
        below = row
    return below[0]


@lru_cache(maxsize=65536)
def _common_name(a: tuple[Token, ...], b: tuple[Token, ...]) -> bool:
    """Row by row from the end: does some file name match both segments?"""
    width = len(b)
    below = [False] * width + [True]
    for j in range(width - 1, -1, -1):
        below[j] = b[j] is None and below[j + 1]
    for token in reversed(a):
        row = [False] * width + [token is None and below[width]]
        for j in range(width - 1, -1, -1):
            if token is None or b[j] is None:
                row[j] = below[j] or row[j + 1]
            else:
                row[j] = below[j + 1] and _meet(token, b[j])
        below = row
    return below[0]


def _meet(a: Ranges, b: Ranges) -> bool:
    return any(max(low, other_low) <= min(high, other_high) for low, high in a for other_low, other_high in b)


@lru_cache(maxsize=8192)
def _segments(glob: str) -> tuple[Segment, ...]:
    names = [name for name in glob.split("/") if name not in ("", ".")]
    segments: list[Segment] = [None if name == "**" else _tokens(name) for name in names]
    everything_below = [(None,), None]  # one segment, then any number
    if not segments or glob.endswith("/") or segments[-1] is None:
        segments = (segments[:-1] if segments and segments[-1] is None else segments) + everything_below
    elif not any(sign in names[-1] for sign in "*?["):
        segments.append(None)
    return tuple(segments)


def _tokens(name: str) -> tuple[Token, ...]:
    tokens: list[Token] = []
    at = 0
    while at < len(name):
        sign = name[at]
        at += 1
        if sign == "*":
            if not tokens or tokens[-1] is not None:
                tokens.append(None)
        elif sign == "?":
            tokens.append(_ANY)
        elif sign == "[" and (end := _end_of_set(name, at)):
            tokens.append(_set(name[at:end]))
            at = end + 1
        else:
            tokens.append(((ord(sign), ord(sign)),))
    return tuple(tokens)


def _end_of_set(name: str, start: int) -> int:
    """Where the `]` of a set stands (one that comes first is a member of the set); 0 if it isn't closed."""
    first = start + 1 if name[start : start + 1] in ("!", "^") else start
    return max(0, name.find("]", first + 1))


def _set(text: str) -> Ranges:
    negated = text[0] in "!^"
    members = text[1:] if negated else text
    found: list[tuple[int, int]] = []
    at = 0
    while at < len(members):
        low = high = ord(members[at])
        if members[at + 1 : at + 2] == "-" and at + 2 < len(members):
            high = ord(members[at + 2])
            at += 2
        at += 1
        if low <= high:
            found.append((low, high))
    if not negated:
        return _without_slash(found)
    free, start = [], 1
    for low, high in sorted(found):
        if start < low:
            free.append((start, low - 1))
        start = max(start, high + 1)
    return _without_slash([*free, (start, _LAST)] if start <= _LAST else free)


def _without_slash(ranges: list[tuple[int, int]]) -> Ranges:
    return tuple(
        (max(low, free_low), min(high, free_high))
        for low, high in ranges
        for free_low, free_high in _ANY
        if max(low, free_low) <= min(high, free_high)
    )
