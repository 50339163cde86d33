"""The fields of a work unit as an operator writes them: checked once, for submit, import and edit alike."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Mapping

from orchestrator_app.errors import UsageError

NAME_LENGTH = 100
PROMPT_BYTES = 200_000
LIST_LENGTH = 1_000

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
#: Regular expressions of what a name, a label, a word of the settings and a glob may be, for JSON Schema.
NAME_PATTERN = r"^(?!.*\.\.)(?!.*\.lock$)[a-z0-9]([a-z0-9._-]{0,98}[a-z0-9_-])?$"
LABEL_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,62}$"
WORD_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
GLOB_PATTERN = r"^(?!/)(?!.*(^|/)\.\.(/|$))[^\x00-\x1f]{1,500}$"
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,62}")
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def check_name(name: object) -> str:
    """The name of a unit, if it can be one: it becomes a branch, a directory and an argument of commands."""
    shown = _shown(name)
    if not isinstance(name, str) or not name:
        raise UsageError(f"a unit's name must be a text that is not empty, not {shown}")
    if len(name) > NAME_LENGTH:
        raise UsageError(f"unit name {shown} is too long: {len(name)} characters, at most {NAME_LENGTH}")
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"unit name {shown}: use only a-z, 0-9, . _ - and begin with a letter or digit{_suggestion(name)}"
        )
    if ".." in name:
        raise UsageError(f'unit name {shown} must not contain ".."')
    if name.endswith((".", ".lock")):
        raise UsageError(f'unit name {shown} must not end in "." or ".lock"; git refuses such a branch')
    return name


def check_fields(fields: Mapping[str, object]) -> dict[str, object]:
    """The given fields, checked and normalised; those that are not given stay away. UsageError names the field."""
    if not isinstance(fields, Mapping):
        raise UsageError(f"a unit must be a table of fields, not {_shown(fields)}")
    checked = {}
    for key, value in fields.items():
        if key not in _READERS:
            close = difflib.get_close_matches(str(key).lower(), _READERS, 1, 0.6)
            meant = f'; did you mean "{close[0]}"?' if close else f"; there are {', '.join(_READERS)}"
            raise UsageError(f"unknown field {_shown(key)} of a unit{meant}")
        try:
            checked[key] = _READERS[key](value)
        except ValueError as error:
            raise UsageError(f'field "{key}" {error}') from None
    if checked.get("name") in checked.get("after", ()):
        raise UsageError(f'unit "{checked["name"]}" can\'t come after itself')
    return checked


def complete_fields(fields: Mapping[str, object]) -> dict[str, object]:
    """Every field of a new unit: the given ones checked, the others with their defaults. The name must be given."""
    checked = check_fields(fields)
    if "name" not in checked:
        raise UsageError("a unit has no name; give each one a name")
    return {**{key: default() if callable(default) else default for key, default in DEFAULTS.items()}, **checked}


#: What a field is where it is not given; lists are made anew for each unit.
DEFAULTS: dict[str, object] = {
    "prompt": "",
    "workflow": "default",
    "agent": None,
    "priority": 0,
    "after": list,
    "labels": list,
    "touches": list,
    "timeout": None,
    "retries": None,
}


def _shown(value: object) -> str:
    """A value for a message: short. Lists and tables stay unopened, for a few lines of YAML can mean gigabytes."""
    if isinstance(value, Mapping):
        return "a table"
    if isinstance(value, list | tuple):
        return "a list"
    text = json.dumps(value[:60] if isinstance(value, str) else value, default=str)
    return text if len(text) <= 60 else text[:57] + "..."


def _suggestion(name: str) -> str:
    slug = re.sub(r"[^a-z0-9._]+", "-", name.lower().replace("..", "-")).strip("-._")
    return f', as in "{slug}"' if slug and not slug.endswith(".lock") else ""


def _prompt(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"must be a text, not {_shown(value)}")
    if "\0" in value:
        raise ValueError("must not contain a NUL character")
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise ValueError("is not valid Unicode text") from None
    if size > PROMPT_BYTES:
        raise ValueError(f"is {size:,} bytes long, at most {PROMPT_BYTES:,}; put the rest in a file of the repository")
    return value


def _word(value: object) -> str:
    if not isinstance(value, str) or not _WORD.fullmatch(value):
        raise ValueError(f"must be a name of the settings file, not {_shown(value)}")
    return value


def _integer(least: int, most: int) -> Callable[[object], int]:
    def read(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError(f"must be a whole number, not {_shown(value)}")
        if not least <= value <= most:
            raise ValueError(f"must be from {least} to {most}, not {_shown(value)}")
        return value

    return read


def _seconds(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e9:
        raise ValueError(f"must be a number of seconds above 0, not {_shown(value)}")
    return float(value)


def _list(read: Callable[[object], str], example: str) -> Callable[[object], list[str]]:
    def read_all(value: object) -> list[str]:
        if not isinstance(value, list | tuple):
            raise ValueError(f"must be a list, as in {example}, not {_shown(value)}")
        if len(value) > LIST_LENGTH:
            raise ValueError(f"has {len(value):,} entries, at most {LIST_LENGTH:,}")
        return list(dict.fromkeys(read(item) for item in value))

    return read_all


def _label(value: object) -> str:
    if not isinstance(value, str) or not _LABEL.fullmatch(value):
        raise ValueError(f"has an unusable label {_shown(value)}: letters, digits, . _ : / - and at most 63 of them")
    return value


def _glob(value: object) -> str:
    if not isinstance(value, str) or not value or len(value) > 500 or any(ord(letter) < 32 for letter in value):
        raise ValueError(f"has an unusable pattern {_shown(value)}")
    if value.startswith("/") or ".." in value.split("/"):
        raise ValueError(f"has a pattern outside the repository: {_shown(value)}")
    return value


def _optional(read: Callable[[object], object]) -> Callable[[object], object]:
    return lambda value: None if value is None else read(value)


_READERS: dict[str, Callable[[object], object]] = {
    "name": check_name,
    "prompt": _prompt,
    "workflow": _word,
    "agent": _optional(_word),
    "priority": _integer(-1_000_000, 1_000_000),
    "after": _list(check_name, "[build, lint]"),
    "labels": _list(_label, "[gpu]"),
    "touches": _list(_glob, '["src/**"]'),
    "timeout": _optional(_seconds),
    "retries": _optional(_integer(0, 1_000)),
}
