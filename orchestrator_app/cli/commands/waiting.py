"""Wait for units, for scripts: the exit code says how it went."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from typing import Any

import click

from orchestrator_app.cli import completing, text
from orchestrator_app.cli.commands import json_option
from orchestrator_app.cli.commands.watching import check_status, progress
from orchestrator_app.cli.returning import Returning
from orchestrator_app.cli.source import Live
from orchestrator_app.errors import UsageError
from orchestrator_app.fields import check_name

POLL = 50.0
"""Seconds of one long poll; the server answers as soon as anything was committed."""
SOON = 15.0
"""Seconds within which a server that is restarted is back."""
TICK = 1.0
"""The same on a terminal, where it is said what is waited for."""


@dataclass
class Waited:
    """The units that are waited for, as they stand."""

    goal: tuple[str, ...]
    patient: bool
    statuses: dict[str, str]
    #: Those with an open attention item, and what it asks. One that is BLOCKED waits for a unit that was cancelled.
    asked: dict[str, str]
    percent: dict[str, Any] = field(default_factory=dict)

    def take(self, records: list[dict[str, Any]]) -> list[str]:
        """Bring it up to these records; which units need attention now and didn't before."""
        news = []
        for record in records:
            name = record["unit"]
            if name not in self.statuses:
                continue
            if record["table"] == "transition":
                self.statuses[name] = record["to_status"]
                self.percent.pop(name, None)
            elif record["table"] == "event":
                self.percent[name] = record["data"] if isinstance(record["data"], dict) else None
            elif record["change"] == "opened":
                self.asked[name] = record["title"]
                news.append(name)
            elif record["change"] == "resolved":
                self.asked.pop(name, None)
        return news

    def lost(self, name: str) -> bool:
        """Whether a unit won't get there without a person."""
        status = self.statuses[name]
        if status in self.goal:
            return False
        asks = status == "NEEDS_ATTENTION" or (status == "BLOCKED" and name in self.asked)
        return status in ("DONE", "CANCELLED") or (asks and not self.patient)

    @property
    def code(self) -> int | None:
        """The exit code, or None while there is something to wait for."""
        if all(status in self.goal for status in self.statuses.values()):
            return 0
        return 1 if any(self.lost(name) for name in self.statuses) else None

    @property
    def missing(self) -> list[str]:
        return [name for name, status in self.statuses.items() if status not in self.goal]

    def line_of(self, name: str) -> str:
        """How a unit stands, and what it asks."""
        status = self.statuses[name]
        if name in self.asked and status in ("NEEDS_ATTENTION", "BLOCKED"):
            return f"{name} is {status}: {self.asked[name]} (`orch attention {name}`)"
        return f"{name} is {status}" + ("" if status == "CANCELLED" else f", not {self.named}")

    @property
    def named(self) -> str:
        return " or ".join(self.goal)


@click.command("wait", short_help="Wait until units are DONE.")
@click.argument("names", metavar="NAME...", nargs=-1, shell_complete=completing.units())
@click.option("--all", "every", is_flag=True, help="Every unit that is there now and has not ended.")
@click.option(
    "--for", "goal", metavar="STATUS", default="DONE", show_default=True,
    help="Wait for this status instead; for one of several with commas.", shell_complete=completing.statuses,
)  # fmt: skip
@click.option("--timeout", type=click.FloatRange(0), metavar="SECONDS", help="Give up after so long.")
@click.option("--patient", is_flag=True, help="Go on where one needs attention: say what it asks, and wait for more.")
@json_option
@click.pass_context
def wait_command(
    context: click.Context,
    names: tuple[str, ...],
    every: bool,
    goal: str,
    timeout: float | None,
    patient: bool,
    as_json: bool,
) -> None:
    """Wait until all the named units are DONE. Exit code 0 when they are.

    Exit code 1 as soon as one is CANCELLED or needs attention (says what it asks), or at the timeout; 3 when the server
    ends and is not back within 15 seconds. On a terminal it says what it still waits for.
    """
    wanted = tuple(dict.fromkeys(str(check_status(word.strip())) for word in goal.split(",")))
    if bool(names) == every:
        raise UsageError("name the units to wait for, or give --all")
    line = Line()
    source = Live(Returning(context.obj, SOON, line.say if line.seen else lambda _: None))
    seq = source.status()["seq"]  # before looking: what happens in between is then in the feed
    if every:
        ended = {"DONE", "CANCELLED"} - set(wanted)
        units = [unit for unit in source.units() if unit["status"] not in ended]
    else:
        units = [source.unit(check_name(name)) for name in dict.fromkeys(names)]
    statuses = {unit["name"]: unit["status"] for unit in units}
    asked = {item["unit"]: item["title"] for item in source.attention() if item["unit"] in statuses}
    waited = Waited(wanted, patient, statuses, asked, {unit["name"]: unit["progress"] for unit in units})
    code = _wait(source, seq, waited, timeout, line)
    if as_json:
        print(text.as_json({"reached": code == 0, "for": ",".join(wanted), "units": waited.statuses}))
    elif code == 0:
        number = len(waited.statuses)
        print(f"{number} unit{'' if number == 1 else 's'} {text.paint(wanted[0], waited.named)}")
    else:
        _complain(waited, timeout)
    context.exit(code)


def _wait(source: Live, seq: int, waited: Waited, timeout: float | None, line: Line) -> int:
    """Until they are all there, or one is lost, or the time is over; the exit code."""
    deadline = None if timeout is None else time.monotonic() + timeout
    news = [name for name in waited.missing if name in waited.asked]
    try:
        while (code := waited.code) is None:
            for name in news if waited.patient else ():
                line.say(waited.line_of(name))
            line.show(waited)
            left = POLL if deadline is None else deadline - time.monotonic()
            if left <= 0:
                return 1
            wait = min(TICK if line.seen else POLL, left)
            # What agents say is only for the eye.
            tables = "transition,attention_change" + (",event" if line.seen else "")
            answer = source.changes(seq, wait=round(wait, 3), tables=tables)
            seq = answer["seq"]
            news = waited.take(answer["records"])
        return code
    finally:
        line.wipe()


class Line:
    """What is waited for, in one line of the terminal; nothing where standard error is none."""

    def __init__(self) -> None:
        self.seen = sys.stderr.isatty()
        self._began = time.monotonic()

    def show(self, waited: Waited) -> None:
        if not self.seen:
            return
        there = len(waited.statuses) - len(waited.missing)
        shown = [f"{there} of {len(waited.statuses)} {waited.named}, {text.span(time.monotonic() - self._began)}"]
        for name in waited.missing[:20]:
            far = progress(waited.percent.get(name)) if waited.statuses[name] == "RUNNING" else ""
            shown.append(f"{name} {waited.statuses[name]} {far}".rstrip())
        self._write("\r\x1b[K" + text.cut(text.one_line("; ".join(shown)), text.columns() - 1))

    def say(self, told: str) -> None:
        """A line that stays."""
        self.wipe()
        print(f"orch: {text.one_line(told)}", file=sys.stderr, flush=True)

    def wipe(self) -> None:
        if self.seen:
            self._write("\r\x1b[K")

    def _write(self, codes: str) -> None:
        sys.stderr.write(codes)
        sys.stderr.flush()


def _complain(waited: Waited, timeout: float | None) -> None:
    lost = [name for name in waited.statuses if waited.lost(name)]
    for name in lost:
        print(f"orch: {text.one_line(waited.line_of(name))}", file=sys.stderr)
    if not lost:
        still = ", ".join(f"{name} is {waited.statuses[name]}" for name in waited.missing)
        told = text.one_line(text.cut(still, 500))
        print(f"orch: not {waited.named} within {timeout:g} s: {told}", file=sys.stderr)
