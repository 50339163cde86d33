"""`orch emit`: one message of an agent, appended to the file that its attempt is read by. Standard library only."""

from __future__ import annotations

import argparse
import json
import os
import stat
import sys
from collections.abc import Sequence
from datetime import datetime
from typing import Any

LONGEST = 64 * 1024
"""Bytes that a line may have; longer ones would be kept as a warning only."""

DESCRIPTION = "Say something from within an attempt: appends one message to the file $ORCH_EVENTS. Needs no server."

#: Each type of message: what it says, the fields that it may have, and which of them it must have.
TYPES: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "progress": ("how far the attempt is", ("percent", "step", "iteration", "message"), ()),
    "ask": (
        "a question for the operator; the unit waits for the answer",
        ("question", "option", "kind"),
        ("question",),
    ),
    "review": ("the decision of a review", ("decision", "feedback"), ("decision",)),
    "note": ("something worth keeping", ("message", "level", "data"), ("message",)),
    "usage": ("what was used since the last time", ("input_tokens", "output_tokens", "usd", "model"), ()),
    "test": ("a test began or ended", ("name", "state"), ("name", "state")),
    "session": ("the conversation that a later attempt may resume", ("id",), ("id",)),
    "heartbeat": ("a sign of life", (), ()),
    "defer": ("run this phase again later; then exit with code 75", ("until", "reason"), ("until",)),
}

#: Each field: how it is given, and what it means.
FIELDS: dict[str, tuple[dict[str, Any], str]] = {
    "percent": ({"type": float, "metavar": "N"}, "0 to 100"),
    "step": ({"metavar": "TEXT"}, "what is being done"),
    "iteration": ({"type": int, "metavar": "N"}, "which round this is"),
    "question": ({"metavar": "TEXT"}, "what is asked"),
    "option": ({"action": "append", "metavar": "TEXT"}, "a possible answer; may be given many times"),
    "kind": ({"choices": ("question", "approval")}, "what the operator is asked for"),
    "decision": ({"choices": ("approve", "changes", "escalate")}, "what the review comes to"),
    "feedback": ({"metavar": "TEXT"}, "what to do differently"),
    "message": ({"metavar": "TEXT"}, "a line for people"),
    "level": ({"choices": ("info", "warning", "error")}, "how serious it is"),
    "data": ({"metavar": "JSON"}, "a JSON object with more"),
    "until": ({"metavar": "TIME"}, "not before this time, as in 2030-01-01T00:00:00Z"),
    "reason": ({"metavar": "TEXT"}, "why"),
    "id": ({"metavar": "ID"}, "the agent's own name for the conversation"),
    "name": ({"metavar": "TEXT"}, "the test"),
    "state": ({"choices": ("started", "passed", "failed")}, "how it stands"),
    "input-tokens": ({"type": int, "metavar": "N"}, "tokens read"),
    "output-tokens": ({"type": int, "metavar": "N"}, "tokens written"),
    "usd": ({"type": float, "metavar": "N"}, "dollars spent"),
    "model": ({"metavar": "NAME"}, "the model that was used"),
}


class Wrong(Exception):
    """What is wrong with the message or its way; `code` is the exit code."""

    def __init__(self, message: str, code: int = 2) -> None:
        super().__init__(message)
        self.code = code


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:
        raise Wrong(f"{message} (see `orch emit --help`)")


def parser() -> argparse.ArgumentParser:
    made = _Parser(
        "orch emit",
        usage="orch emit TYPE [OPTIONS]",
        description=DESCRIPTION,
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=26, width=100),
        allow_abbrev=False,
    )
    listed = "; ".join(f"{name}: {meaning}" for name, (meaning, _, _) in TYPES.items())
    made.add_argument("type", metavar="TYPE", nargs="?", choices=TYPES, help=listed)
    for name, (how, meaning) in FIELDS.items():
        users = ", ".join(each for each, (_, fields, _) in TYPES.items() if name.replace("-", "_") in fields)
        made.add_argument(f"--{name}", help=f"{meaning} ({users})", **how)
    made.add_argument("--json", metavar="OBJECT", help="the whole message as a JSON object, instead of the options")
    return made


def message(arguments: Sequence[str]) -> dict[str, Any]:
    """The message that the arguments ask for. Raises Wrong."""
    given = {key: value for key, value in vars(parser().parse_args(arguments)).items() if value is not None}
    kind, text = given.pop("type", None), given.pop("json", None)
    if text is not None:
        if given:
            raise Wrong("--json is the whole message: give no other option beside it")
        words = _object(text, "--json")
        kind = words.setdefault("type", kind)
        if kind not in TYPES:
            raise Wrong(f"there is no message of type {json.dumps(kind)}: there are {', '.join(TYPES)}")
        return words
    if kind is None:
        raise Wrong(f"say the type of the message: {', '.join(TYPES)}")
    _, fields, needed = TYPES[kind]
    for field in given:
        if field not in fields:
            may = ", ".join(f"--{each.replace('_', '-')}" for each in fields) or "no option"
            raise Wrong(f"{kind} has no --{field.replace('_', '-')}; it takes {may}")
    for field in needed:
        if not str(given.get(field, "")).strip():
            raise Wrong(f"{kind} needs --{field}: {FIELDS[field][1]}")
    return {"type": kind, **_checked(given)}


def _checked(given: dict[str, Any]) -> dict[str, Any]:
    if "option" in given:
        given["options"] = given.pop("option")
    if "data" in given:
        given["data"] = _object(given["data"], "--data")
    if "until" in given:
        try:
            datetime.fromisoformat(given["until"])
        except ValueError:
            raise Wrong(f"--until must be a time as in 2030-01-01T00:00:00Z, not {given['until'][:40]!r}") from None
    if not 0 <= given.get("percent", 0) <= 100:
        raise Wrong(f"--percent must be from 0 to 100, not {given['percent']:g}")
    for name in ("usd", "input_tokens", "output_tokens", "iteration"):
        if not 0 <= given.get(name, 0) < 1e15:
            raise Wrong(f"--{name.replace('_', '-')} must be a number that is not negative")
    return given


def _object(text: str, option: str) -> dict[str, Any]:
    try:
        value = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise Wrong(f"{option} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise Wrong(f'{option} must be a JSON object, as in \'{{"key": "value"}}\'')
    return value


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def append(path: str, words: dict[str, Any]) -> None:
    """Add one line to a file, whole, whoever else writes there at the same time. Raises Wrong."""
    line = json.dumps(words).encode() + b"\n"
    if len(line) > LONGEST:
        raise Wrong(f"the message has {len(line):,} bytes, at most {LONGEST:,}: put it into a file and name that")
    try:
        file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
        try:
            if not stat.S_ISREG(os.fstat(file).st_mode):
                raise Wrong(f"$ORCH_EVENTS is {path}, which is not a plain file", 1)
            size = os.fstat(file).st_size
            if size and os.pread(file, 1, size - 1) != b"\n":
                line = b"\n" + line  # someone left half a line: don't let it swallow this one
            if os.write(file, line) != len(line):
                raise Wrong(f"{path} took only a part of the message: is the disk full?", 1)
        finally:
            os.close(file)
    except OSError as error:
        raise Wrong(f"{path} (from $ORCH_EVENTS) can't be written: {error.strerror}", 1) from None


def main(arguments: Sequence[str]) -> int:
    """Append the message; the exit code. Prints nothing when it worked."""
    try:
        words = message(arguments)
        path = os.environ.get("ORCH_EVENTS")
        if not path:
            raise Wrong(
                "this is not an attempt: $ORCH_EVENTS is not set. Agents run this; try it in an agent's script", 1
            )
        append(path, words)
    except Wrong as wrong:
        text = "".join(letter if letter.isprintable() else f"\\x{ord(letter):02x}" for letter in str(wrong))
        print(f"orch emit: {text}", file=sys.stderr)
        return wrong.code
    except SystemExit as end:  # --help
        return int(end.code or 0)
    return 0
