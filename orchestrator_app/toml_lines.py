"""On which line a key of a TOML text stands, for error messages: the standard parser doesn't say.

Reads table headers and the keys at the start of a line, and skips multi-line texts. A key inside an inline table has
its parent's line. The tables of a `[[name]]` are ("name", 0), ("name", 1) and so on.
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter

Path = tuple[str | int, ...]

_KEY = r"""(?:[A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|'[^']*')"""
_KEYS = rf"{_KEY}(?:\s*\.\s*{_KEY})*"
_HEADER = re.compile(rf"\s*\[\[?\s*({_KEYS})\s*\]")
_ASSIGNMENT = re.compile(rf"\s*({_KEYS})\s*=")
_WHERE = re.compile(r"\s*\(at line (\d+), column \d+\)|\s*\(at end of document\)")


def key_lines(text: str) -> dict[Path, int]:
    """Every key and table header of `text` with its line, the first one where it occurs twice."""
    found: dict[Path, int] = {}
    counts: Counter[Path] = Counter()
    table: Path = ()
    within = ""  # the quotes of the multi-line text we are in
    for number, line in enumerate(text.splitlines(), 1):
        if within:
            line, within = _skip(line, within)
            if within:
                continue
        elif match := _HEADER.match(line):
            table = _split(match[1])
            found.setdefault(table, number)
            if line.lstrip().startswith("[["):
                counts[table] += 1
                table += (counts[table] - 1,)
                found[table] = number
        elif match := _ASSIGNMENT.match(line):
            found.setdefault(table + _split(match[1]), number)
        within = _opened(line)
    return found


def line_of(lines: dict[Path, int], path: Path) -> int:
    """The line of `path`, or of the nearest table or key above it."""
    while path:
        if path in lines:
            return lines[path]
        path = path[:-1]
    return 1


def syntax_error(error: tomllib.TOMLDecodeError, text: str) -> tuple[int, str]:
    """(line, message) of what the parser says."""
    message = str(error)
    match = _WHERE.search(message)
    line = int(match[1]) if match and match[1] else max(1, len(text.splitlines()))
    return line, _WHERE.sub("", message)


def _split(keys: str) -> Path:
    """The parts of a dotted key; quotes and escapes as the parser reads them."""
    value, path = tomllib.loads(f"{keys} = 0"), []
    while isinstance(value, dict):
        ((key, value),) = value.items()
        path.append(key)
    return tuple(path)


def _opened(line: str) -> str:
    """The quotes of a multi-line text that begins in `line` and doesn't end in it, or nothing."""
    rest = line
    while True:
        match = re.search(r'"""|\'\'\'|"(?:[^"\\]|\\.)*"|\'[^\']*\'|#', rest)
        if not match or match[0] == "#":
            return ""
        rest = rest[match.end() :]
        if match[0] in ('"""', "'''"):
            rest, still = _skip(rest, match[0])
            if still:
                return still


def _skip(line: str, quotes: str) -> tuple[str, str]:
    """(what follows the end of the multi-line text, ""), or ("", quotes) when it doesn't end in `line`."""
    escaped = r"(?:\\.|(?!\"\"\")[^\\])*" if quotes == '"""' else r"(?:(?!''').)*"
    match = re.match(escaped + quotes, line)
    return (line[match.end() :], "") if match else ("", quotes)
