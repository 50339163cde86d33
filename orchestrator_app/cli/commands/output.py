"""The output of a unit's attempts: a bounded piece at a time, and followed until the unit ends."""

from __future__ import annotations

import codecs
import sys
import time
from typing import Any

import click

from orchestrator_app.cli import text
from orchestrator_app.cli.commands import json_option, name_argument
from orchestrator_app.cli.place import Place
from orchestrator_app.cli.returning import Returning
from orchestrator_app.cli.source import Live, Piece, open_source
from orchestrator_app.errors import NotFoundError, UsageError

PAUSE = 0.2
"""Seconds between two looks at the output of a running attempt; nothing else tells of new bytes."""
TAIL = 10_000
"""How many lines `--json` gives at most: a program reads the file itself if it wants all."""


class Screen:
    """Where output goes: as it is into a pipe or a file, made harmless on a terminal."""

    def __init__(self) -> None:
        self._terminal = sys.stdout.isatty()
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""

    def write(self, data: bytes) -> None:
        if not self._terminal:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
            return
        shown = self._held + self._decoder.decode(data)
        self._held = ""
        # A colour that is not complete yet, or the first half of a line end, waits for the rest.
        start = max(shown.rfind("\x1b"), len(shown) - 1 if shown.endswith("\r") else -1)
        if start >= 0 and len(shown) - start < 32 and "m" not in shown[start:]:
            shown, self._held = shown[:start], shown[start:]
        self._print(shown)

    def end(self) -> None:
        self._print(self._held + self._decoder.decode(b"", True))
        self._held = ""

    def _print(self, shown: str) -> None:
        if shown:
            sys.stdout.write(text.safe_output(shown))
            sys.stdout.flush()


@click.command("logs", short_help="The output of a unit's attempt.")
@name_argument
@click.option("-f", "--follow", is_flag=True, help="Go on until the unit ends, over all its attempts.")
@click.option("--attempt", type=click.IntRange(1), metavar="N", help="That attempt; else the newest.")
@click.option("--tail", type=click.IntRange(0), metavar="N", help="Only its last N lines (at most 1 MB).")
@json_option
@click.pass_obj
def logs_command(place: Place, name: str, follow: bool, attempt: int | None, tail: int | None, as_json: bool) -> None:
    """Print what an attempt wrote to its standard output and error.

    On a terminal, control characters are shown and colours left out; into a pipe or a file the bytes go as they are.
    Works on a stopped project too.
    """
    source: Any = open_source(place)
    if follow and isinstance(source, Live):
        source = Live(Returning(place))
    unit = source.unit(name)
    if attempt is not None and attempt > unit["attempt"]:
        newest = f"its newest one is {unit['attempt']}" if unit["attempt"] else "it has none yet"
        raise NotFoundError(f'unit "{name}" has no attempt {attempt}: {newest}')
    if as_json:
        if follow:
            raise UsageError("give either --follow or --json: `orch events -f --json` follows as JSON")
        _print_json(source, name, attempt or unit["attempt"], tail)
        return
    if not unit["attempt"] and not follow:
        print(f"{name} has not been started yet", file=sys.stderr)
        return
    screen = Screen()
    try:
        if follow and isinstance(source, Live):
            _follow(source, screen, unit, attempt, tail)
        else:
            written = _copy(source, screen, name, attempt or unit["attempt"], tail)
            if not written and attempt is None and unit["attempt"] > 1:
                print(f"{name} wrote nothing in this attempt; for earlier ones give --attempt N", file=sys.stderr)
    finally:
        screen.end()


def _print_json(source: Any, name: str, attempt: int, tail: int | None) -> None:
    piece = source.output(name, attempt, tail=TAIL if tail is None else tail) if attempt else Piece(0, b"", 0)
    answer = {"unit": name, "attempt": attempt, "offset": piece.offset, "size": piece.size}
    print(text.as_json({**answer, "text": piece.data.decode("utf-8", "replace")}))


def _copy(source: Any, screen: Screen, name: str, attempt: int, tail: int | None) -> bool:
    """Print the output of an attempt as it is now; whether there was any."""
    piece = source.output(name, attempt, tail=tail) if tail is not None else source.output(name, attempt, offset=0)
    end = piece.size  # what is written meanwhile is for --follow
    while piece.data:
        screen.write(piece.data)
        place = piece.offset + len(piece.data)
        if place >= end:
            break
        piece = source.output(name, attempt, offset=place)
    return end > 0


def _follow(source: Live, screen: Screen, unit: dict[str, Any], wanted: int | None, tail: int | None) -> None:
    """Print what is there and what comes, attempt after attempt, until the unit (or the wanted attempt) ends."""
    name, attempt, offset, told = unit["name"], wanted or unit["attempt"], None, None
    seq = source.status()["seq"]
    unit = source.unit(name)
    while True:
        if attempt:
            piece = _piece(source, name, attempt, offset, tail)
            if piece.data:
                screen.write(piece.data)
            offset = piece.offset + len(piece.data)
            if offset > piece.size:
                print(f"==> the output was cut in its middle and has {piece.size} bytes now", file=sys.stderr)
                offset = piece.size
            if offset < piece.size:
                continue
        # All there was is printed. What was over before that look is over now.
        if unit["attempt"] > attempt and wanted is None:
            attempt, offset, tail = attempt + 1, 0, None
            print(f"==> {name}, attempt {attempt}", file=sys.stderr)
        elif unit["status"] in ("DONE", "CANCELLED") or (
            wanted and (unit["attempt"] > wanted or unit["status"] != "RUNNING")
        ):
            return
        elif unit["status"] == "RUNNING":
            time.sleep(PAUSE)
        else:
            if unit["status"] != told:
                told = unit["status"]
                print(f"==> {name} is {told}: {text.one_line(unit['reason'] or '')}", file=sys.stderr)
            seq = source.changes(seq, wait=50, tables="transition", unit=name)["seq"]
        unit = source.unit(name)


def _piece(source: Live, name: str, attempt: int, offset: int | None, tail: int | None) -> Piece:
    """The next piece; an empty one while there is no file yet, or none at all (a phase without a process)."""
    try:
        if offset is None:
            return (
                source.output(name, attempt, tail=tail) if tail is not None else source.output(name, attempt, offset=0)
            )
        return source.output(name, attempt, offset=offset)
    except NotFoundError:
        return Piece(offset or 0, b"", 0)
