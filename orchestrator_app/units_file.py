"""Work units from a YAML, TOML or JSON file: all of them, or an error that names the line."""

from __future__ import annotations

import bisect
import json
import re
import sys
import tomllib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from orchestrator_app.errors import SettingsError, UsageError
from orchestrator_app.fields import check_fields
from orchestrator_app.toml_lines import key_lines, line_of, syntax_error

LARGEST = 100_000_000  # bytes
DEEPEST = 50

_SHAPES = "a list of units, or units under the key `units`"


class _Field(NamedTuple):
    key: object
    value: object
    line: int


class _Entry(NamedTuple):
    """One unit as the file has it, not yet checked."""

    fields: list[_Field]
    line: int


class _Wrong(Exception):
    """What is wrong with the file, and the line (0: the whole file)."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


def load_units(path: str | Path) -> list[dict[str, object]]:
    """The units in a file by its ending, or from standard input (`-`: YAML or JSON).

    Each has the fields that the file gives, checked; the others are left to the submit. Raises SettingsError with the
    file, the line and the field, and nothing is submitted.
    """
    shown = "standard input" if str(path) == "-" else str(path)
    read = _reader(path)
    text = _text(path, shown)
    try:
        entries = read(text)
        if not entries:
            raise _Wrong(0, "there are no units in it")
        return _checked(entries)
    except _Wrong as wrong:
        where = f"{shown}:{wrong.line}" if wrong.line else shown
        raise SettingsError(f"{where}: {wrong}") from None
    except RecursionError:
        raise SettingsError(f"{shown}: it is nested too deeply; give {_SHAPES}") from None


def _reader(path: str | Path) -> Callable[[str], list[_Entry]]:
    if str(path) == "-":
        return lambda text: (_from_json if text.lstrip()[:1] in ("[", "{") else _from_yaml)(text)
    readers = {".yaml": _from_yaml, ".yml": _from_yaml, ".toml": _from_toml, ".json": _from_json}
    suffix = Path(path).suffix.lower()
    if suffix not in readers:
        raise SettingsError(f"{path}: can't tell what it is; name it .yaml, .toml or .json")
    return readers[suffix]


def _text(path: str | Path, shown: str) -> str:
    try:
        if str(path) == "-":
            data = sys.stdin.buffer.read(LARGEST + 1)
        else:
            with open(path, "rb") as file:
                data = file.read(LARGEST + 1)
        if len(data) > LARGEST:
            raise SettingsError(f"{shown} is larger than {LARGEST // 1_000_000} MB; split it")
        return data.decode("utf-8-sig")
    except OSError as error:
        raise SettingsError(f"{shown} can't be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise SettingsError(f"{shown}:{line}: it is not UTF-8 text") from None


def _checked(entries: list[_Entry]) -> list[dict[str, object]]:
    units, seen = [], {}
    for entry in entries:
        fields: dict[str, object] = {}
        lines: dict[str, int] = {}
        for field in entry.fields:
            if field.key in fields:
                raise _Wrong(field.line, f'field "{field.key}" is given twice')
            fields |= _check({field.key: field.value}, field.line)
            lines[field.key] = field.line
        if "name" not in fields:
            raise _Wrong(entry.line, "this unit has no name")
        name = fields["name"]
        if name in seen:
            raise _Wrong(lines["name"], f'unit "{name}" is in this file twice, first on line {seen[name]}')
        seen[name] = lines["name"]
        _check(fields, lines.get("after", entry.line))
        units.append(fields)
    return units


def _check(fields: dict[str, object], line: int) -> dict[str, object]:
    try:
        return check_fields(fields)
    except UsageError as error:
        raise _Wrong(line, str(error)) from None


def _from_yaml(text: str) -> list[_Entry]:
    import yaml  # slow to import, and only this function needs it

    loader_type = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    loader = loader_type(text)
    try:
        _check_depth(yaml.parse(text, loader_type))  # the C loader ends the process where it recurses too deeply
        root = loader.get_single_node()
        return _yaml_entries(loader, root) if root is not None else []
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise _Wrong(mark.line + 1 if mark else 0, f"not valid YAML: {error.problem or error.context}") from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        # ValueError: a date such as 2024-13-40, which the YAML reader takes for a time.
        raise _Wrong(0, f"not valid YAML: {str(error).splitlines()[0]}") from None
    finally:
        loader.dispose()


def _check_depth(events: Iterable) -> None:
    depth = 0
    for event in events:
        kind = type(event).__name__
        depth += kind.endswith("StartEvent") - kind.endswith("EndEvent")
        if depth > DEEPEST:
            raise RecursionError


def _yaml_entries(loader, root) -> list[_Entry]:
    """`loader` is a YAML loader and `root` its node: the marks of nodes have the lines."""

    def fields(node) -> list[_Field]:
        if node.id != "mapping":
            raise _Wrong(node.start_mark.line + 1, "a unit must be a table of fields")
        for key, _ in node.value:
            if key.id != "scalar":
                raise _Wrong(key.start_mark.line + 1, "a field's name must be a text")
        own = sum(key.tag != "tag:yaml.org,2002:merge" for key, _ in node.value)
        loader.flatten_mapping(node)  # `<<: *defaults`: what it brings comes first, and the unit's own fields win
        brought = {key.value: (key, value) for key, value in node.value[: len(node.value) - own]}
        written = node.value[len(node.value) - own :]
        for key, _ in written:
            brought.pop(key.value, None)
        return [
            _Field(
                loader.construct_object(key, deep=True),
                loader.construct_object(value, deep=True),
                key.start_mark.line + 1,
            )
            for key, value in [*brought.values(), *written]
        ]

    if root.id == "mapping" and len(root.value) == 1 and root.value[0][0].value == "units":
        root = root.value[0][1]
    if root.id == "sequence":
        return [_Entry(fields(node), node.start_mark.line + 1) for node in root.value]
    if root.id != "mapping":
        raise _Wrong(root.start_mark.line + 1, f"it must be {_SHAPES}, or a table of units by name")
    entries = []
    for key, node in root.value:
        line = key.start_mark.line + 1
        empty = node.id == "scalar" and node.tag == "tag:yaml.org,2002:null"
        named = _Field("name", loader.construct_object(key, deep=True), line)
        entries.append(_Entry([named, *([] if empty else fields(node))], line))
    return entries


def _from_toml(text: str) -> list[_Entry]:
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line, message = syntax_error(error, text)
        raise _Wrong(line, f"not valid TOML: {message}") from None
    lines = key_lines(text)
    for key in document:
        if key != "units":
            raise _Wrong(line_of(lines, (key,)), f'unknown key "{key}"; units are written as [[units]]')
    units = document.get("units", [])
    if not isinstance(units, list):
        raise _Wrong(line_of(lines, ("units",)), "units are written as [[units]]")
    entries = []
    for number, unit in enumerate(units):
        line = line_of(lines, ("units", number))
        if not isinstance(unit, dict):
            raise _Wrong(line, "a unit must be a table of fields: [[units]]")
        fields = [_Field(key, value, line_of(lines, ("units", number, key))) for key, value in unit.items()]
        entries.append(_Entry(fields, line))
    return entries


def _from_json(text: str) -> list[_Entry]:
    if not text.strip():
        return []
    starts = [0, *(match.end() for match in re.finditer("\n", text))]

    def line_at(position: int) -> int:
        return bisect.bisect_right(starts, position)

    decoder = json.JSONDecoder(object_pairs_hook=_Pairs)
    try:
        document = decoder.decode(text)
    except json.JSONDecodeError as error:
        raise _Wrong(error.lineno, f"not valid JSON: {error.msg}") from None
    except ValueError as error:  # a number with thousands of digits
        raise _Wrong(0, f"not valid JSON: {error}") from None
    start = 0
    if isinstance(document, _Pairs):
        if [key for key, _ in document] != ["units"]:
            raise _Wrong(1, f"it must be {_SHAPES}")
        document, start = document[0][1], text.index(":") + 1
    if isinstance(document, _Pairs) or not isinstance(document, list):
        raise _Wrong(1, f"it must be {_SHAPES}")
    entries = []
    for unit, at in _items(decoder, text, start):
        if not isinstance(unit, _Pairs):
            raise _Wrong(line_at(at), "a unit must be an object of fields")
        fields = []
        for key, value in unit:
            match = re.compile(re.escape(json.dumps(key)) + r"\s*:").search(text, at)
            fields.append(_Field(key, _plain(value), line_at(match.start() if match else at)))
        entries.append(_Entry(fields, line_at(at)))
    return entries


class _Pairs(list):
    """A JSON object as its (key, value) pairs, so that a key given twice is seen."""


def _plain(value: object) -> object:
    return dict(value) if isinstance(value, _Pairs) else value


def _items(decoder: json.JSONDecoder, text: str, start: int) -> Iterator[tuple[object, int]]:
    """Each item of the valid JSON array that begins behind `start`, with its position."""
    separator = re.compile(r"[\s,]*")
    position = separator.match(text, text.index("[", start) + 1).end()
    while text[position] != "]":
        item, end = decoder.raw_decode(text, position)
        yield item, position
        position = separator.match(text, end).end()
