"""What people read: hostile text made harmless, tables that fit, times and spans."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TextIO

# Control characters, marks that turn the direction of text, separators that some terminals take for line ends, and
# halves of characters that no encoding knows.
_HOSTILE = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_COLOURS = re.compile(r"\x1b\[[0-9;:]*m")

NARROW = 5
"""Columns that each column of a table keeps on a narrow terminal; those on its right that have no room are left out."""
TELLING = 12
"""Columns that the last one keeps while others could be cut as well."""

_PAINT = {
    "RUNNING": "36",
    "DONE": "32",
    "NEEDS_ATTENTION": "33;1",
    "CANCELLED": "2",
    "error": "31;1",
    "warning": "33",
}


def safe(text: object) -> str:
    r"""Text that does nothing but stand there: control characters shown as \x.., line ends and tabs kept."""
    return _HOSTILE.sub(_shown, str(text))


def one_line(text: object) -> str:
    """The same on a single line."""
    return " ".join(safe(text).split())


def _shown(match: re.Match[str]) -> str:
    number = ord(match[0])
    return f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}"


def safe_output(text: str) -> str:
    """An agent's output for a terminal: without colours, its other control characters shown."""
    return safe(_COLOURS.sub("", text.replace("\r\n", "\n")))


def coloured(stream: TextIO) -> bool:
    """Whether colours are wanted there: a terminal, and NO_COLOR not set."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def paint(word: str, shown: str | None = None) -> str:
    """A status or severity in its colour, if standard output takes colours; the word alone says it all."""
    shown = word if shown is None else shown
    code = _PAINT.get(word) if coloured(sys.stdout) else None
    return f"\x1b[{code}m{shown}\x1b[0m" if code else shown


def width_of(text: str) -> int:
    """How many columns of a terminal the text takes."""
    if text.isascii():
        return len(text)
    wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in text)
    return len(text) + wide - sum(unicodedata.combining(letter) > 0 for letter in text)


def columns() -> int:
    """How wide the terminal is."""
    return shutil.get_terminal_size().columns


def cut(text: str, width: int) -> str:
    """The text in at most `width` columns, with … where something is missing."""
    if width_of(text) <= width:
        return text
    while text and width_of(text) > width - 1:
        text = text[: -max(1, (width_of(text) - width) // 2)]
    return f"{text}…"


def table(headers: Sequence[str], rows: Sequence[Sequence[object]], *, right: Sequence[str] = ()) -> str:
    """Aligned columns. On a terminal the widest are cut until a row fits a line; elsewhere nothing is cut.

    `right` names the columns that are numbers. Statuses and severities get their colour."""
    cells = [[one_line("" if value is None else value) for value in row] for row in rows]
    widths = [max(width_of(text) for text in column) for column in zip(headers, *cells, strict=True)]
    if sys.stdout.isatty():
        most = max(1, (columns() + 2) // (NARROW + 2))
        headers, cells = headers[:most], [row[:most] for row in cells]
        widths = [min(width, columns()) for width in widths[:most]]
        room = columns() - 2 * (len(headers) - 1)
        while sum(widths) > room and max(widths) > NARROW:
            # The last column tells why, at length; it gives way first, so that names and statuses stay whole.
            widest = len(widths) - 1 if widths[-1] > TELLING else widths.index(max(widths))
            widths[widest] -= 1
    lines = []
    for number, row in enumerate([list(headers), *cells]):
        shown = []
        for header, text, width in zip(headers, row, widths, strict=True):
            short = cut(text, width)
            gap = " " * (width - width_of(short))
            short = paint(text, short) if number else short
            shown.append(gap + short if header in right else short + gap)
        lines.append("  ".join(shown).rstrip())
    return "\n".join(lines)


def facts(pairs: Mapping[str, object]) -> str:
    """One `name  value` a line, the values below each other; a value of several lines is indented, None left out."""
    pairs = {name: value for name, value in pairs.items() if value not in (None, "", [], ())}
    width = max((len(name) for name in pairs), default=0)
    lines = []
    for name, value in pairs.items():
        first, *more = safe(value).split("\n")
        lines.append(f"{name:<{width}}  {first}")
        lines += [f"{'':<{width}}  {line}".rstrip() for line in more]
    return "\n".join(lines)


def moment(value: str | float | datetime | None) -> datetime | None:
    """A time of the API (text, UTC) or of the log (naive, UTC), with its zone."""
    if value is None or value == "":
        return None
    if isinstance(value, int | float):
        return datetime.fromtimestamp(value, UTC)
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value


def clock(value: str | float | datetime | None) -> str:
    """`2026-01-31 12:00:00Z`: UTC, as in the log."""
    time = moment(value)
    return "" if time is None else time.strftime("%Y-%m-%d %H:%M:%SZ")


def ago(value: str | float | datetime | None) -> str:
    """How long since then, in its two largest units."""
    time = moment(value)
    return "" if time is None else span((datetime.now(UTC) - time).total_seconds())


def span(seconds: float) -> str:
    """`8 s`, `3 min 12 s`, `2 h 5 min`, `4 d 1 h`."""
    number = max(0, int(seconds))
    if number < 60:
        return f"{number} s"
    for size, name, part, part_name in ((3600, "min", 60, "s"), (86_400, "h", 3600, "min"), (10**12, "d", 86_400, "h")):
        if number < size:
            whole, rest = divmod(number, part)
            smaller = {"s": 1, "min": 60, "h": 3600}[part_name]
            return f"{whole} {name} {rest // smaller} {part_name}"
    return f"{number} s"


def as_json(value: Any, *, indent: int | None = 2) -> str:
    """JSON for programs; times as the API writes them."""

    def plain(other: Any) -> Any:
        if isinstance(other, datetime):
            return other.isoformat(timespec="microseconds") + "Z"
        return other._asdict() if hasattr(other, "_asdict") else str(other)

    return json.dumps(value, indent=indent, default=plain)


def show(value: Any, as_json_wanted: bool, human: Callable[[Any], str], *, empty: str = "") -> None:
    """Print a result: as JSON, or as people read it; where that is nothing, say `empty` beside the output."""
    text = as_json(value) if as_json_wanted else human(value)
    if text:
        print(text)
    elif empty:
        print(empty, file=sys.stderr)
