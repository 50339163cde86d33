"""What happens, as it happens: every record of the log, oldest first."""

from __future__ import annotations

from collections import deque
from typing import Any

import click

from orchestrator_app.cli import completing, text
from orchestrator_app.cli.commands import json_option
from orchestrator_app.cli.place import Place
from orchestrator_app.cli.returning import Returning
from orchestrator_app.cli.source import Live, open_source


@click.command("events", short_help="What happened last, or with -f what happens.")
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@click.option("--unit", metavar="NAME", shell_complete=completing.units(), help="Only about this unit.")
@click.option(
    "--since", type=click.IntRange(0), metavar="SEQ", help="All records behind this number, not only the newest."
)
@click.option(
    "--limit", type=click.IntRange(1), default=50, show_default=True, metavar="N", help="The newest N records."
)
@json_option
@click.pass_obj
def events_command(place: Place, follow: bool, unit: str | None, since: int | None, limit: int, as_json: bool) -> None:
    """Print transitions, attention items, and what agents said, oldest first. With --json one object a line.

    Works on a stopped project too, but for -f, which goes on through restarts of the server.
    """
    source = Live(Returning(place)) if follow else open_source(place)
    if unit is not None:
        source.unit(unit)
    head = source.status()["seq"]
    first = since if since is not None else (0 if unit is not None else max(0, head - limit))
    newest: deque[dict[str, Any]] | list[dict[str, Any]] = [] if since is not None else deque(maxlen=limit)
    place_in_log = first
    while True:
        answer = source.changes(place_in_log, unit=unit)
        newest.extend(answer["records"])
        place_in_log = answer["seq"]
        if since is not None:
            _print(newest, as_json)
            newest = []
        if not answer["more"]:
            break
    _print(newest, as_json)
    while follow:
        answer = source.changes(place_in_log, wait=50, unit=unit)
        place_in_log = answer["seq"]
        _print(answer["records"], as_json)


def _print(records: Any, as_json: bool) -> None:
    for record in records:
        print(text.as_json(record, indent=None) if as_json else line_of(record), flush=True)


def line_of(record: dict[str, Any]) -> str:
    """One record as one line: time, unit, what."""
    told = {"transition": _transition, "event": _event, "attention_change": _attention, "verdict": _verdict}
    what = told.get(record["table"], _other)(record)
    return text.one_line(f"{text.clock(record['occurred_at'])}  {record['unit'] or '-'}: {what}")


def _transition(record: dict[str, Any]) -> str:
    where = f" {record['phase']}" if record["phase"] else ""
    why = f" ({record['reason']})" if record["reason"] else ""
    return f"{record['trigger']} -> {record['to_status']}{where}, by {record['actor']}{why}"


def _event(record: dict[str, Any]) -> str:
    level = f"{record['level']}: " if record["level"] != "info" else ""
    percent = record["data"].get("percent") if isinstance(record["data"], dict) else None
    far = f" {percent:g} %" if isinstance(percent, int | float) else ""
    return f"{level}{record['type']}{far} {record['message']}".rstrip()


def _attention(record: dict[str, Any]) -> str:
    said = record["title"] if record["change"] == "opened" else record["text"]
    return f"attention {record['change']} ({record['kind']}) {said}".rstrip()


def _verdict(record: dict[str, Any]) -> str:
    return f"{record['verdict']} with {record['other']}, by {record['actor']} ({record['reason']})"


def _other(record: dict[str, Any]) -> str:
    known = ("table", "seq", "unit", "occurred_at", "phase", "attempt")
    return f"{record['table']} " + ", ".join(f"{key} {value}" for key, value in record.items() if key not in known)
