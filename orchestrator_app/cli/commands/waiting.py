"""Wait for units, for scripts: the exit code says how it went."""

from __future__ import annotations

import sys
import time
from typing import Any

import click

from orchestrator_app.cli import text
from orchestrator_app.cli.client import Client
from orchestrator_app.cli.commands import json_option
from orchestrator_app.cli.commands.watching import check_status
from orchestrator_app.cli.source import Live
from orchestrator_app.errors import UsageError
from orchestrator_app.fields import check_name

POLL = 50.0
"""Seconds of one long poll; the server answers as soon as anything was committed."""


@click.command("wait", short_help="Wait until units are DONE.")
@click.argument("names", metavar="NAME...", nargs=-1)
@click.option("--all", "every", is_flag=True, help="Every unit that is there now and has not ended.")
@click.option(
    "--for", "goal", metavar="STATUS", default="DONE", show_default=True, help="Wait for this status instead."
)
@click.option("--timeout", type=click.FloatRange(0), metavar="SECONDS", help="Give up after so long.")
@json_option
@click.pass_context
def wait_command(
    context: click.Context, names: tuple[str, ...], every: bool, goal: str, timeout: float | None, as_json: bool
) -> None:
    """Wait until all the named units are DONE. Exit code 0 when they are.

    Exit code 1 as soon as one is CANCELLED or needs attention (says what it asks), or at the timeout.
    """
    wanted = str(check_status(goal))
    if bool(names) == every:
        raise UsageError("name the units to wait for, or give --all")
    source = Live(context.obj.client())
    seq = source.status()["seq"]  # before looking: what happens in between is then in the feed
    if every:
        units = [
            unit for unit in source.units() if unit["status"] not in ("DONE", "CANCELLED") or unit["status"] == wanted
        ]
    else:
        units = [source.unit(check_name(name)) for name in dict.fromkeys(names)]
    watched = {unit["name"]: unit["status"] for unit in units}
    stuck = {unit["name"] for unit in units if unit["status"] == "BLOCKED" and unit["item"]}
    deadline = None if timeout is None else time.monotonic() + timeout
    while (end := _verdict(watched, stuck, wanted)) is None:
        left = POLL if deadline is None else deadline - time.monotonic()
        if left <= 0:
            end = 1
            break
        answer = source.changes(seq, wait=round(min(POLL, left), 3), tables="transition,attention_change")
        seq = answer["seq"]
        _take(answer["records"], watched, stuck)
    context.exit(_tell(source.client, watched, stuck, wanted, end, timeout, as_json))


def _take(records: list[dict[str, Any]], watched: dict[str, str], stuck: set[str]) -> None:
    """Bring what is watched up to these records."""
    for record in records:
        name = record["unit"]
        if name not in watched:
            continue
        if record["table"] == "transition":
            watched[name] = record["to_status"]
        elif record["change"] == "opened":
            stuck.add(name)
        elif record["change"] == "resolved":
            stuck.discard(name)


def _verdict(watched: dict[str, str], stuck: set[str], wanted: str) -> int | None:
    """The exit code, or None while there is something to wait for.

    `stuck` are units with an open attention item: one that is BLOCKED waits for a unit that was cancelled."""
    if all(status == wanted for status in watched.values()):
        return 0
    hopeless = {"DONE", "CANCELLED", "NEEDS_ATTENTION"} - {wanted}
    lost = any(
        status in hopeless or (status == "BLOCKED" != wanted and name in stuck) for name, status in watched.items()
    )
    return 1 if lost else None


def _tell(
    client: Client,
    watched: dict[str, str],
    stuck: set[str],
    wanted: str,
    code: int,
    timeout: float | None,
    as_json: bool,
) -> int:
    if as_json:
        print(text.as_json({"reached": code == 0, "for": wanted, "units": watched}))
        return code
    if code == 0:
        print(f"{len(watched)} unit{'' if len(watched) == 1 else 's'} {text.paint(wanted)}")
        return code
    items = {item["unit"]: item for item in client.pages("/attention", "items")}
    told = False
    for name, status in watched.items():
        if name in items and (status == "NEEDS_ATTENTION" or name in stuck):
            line = f"{name} is {status}: {items[name]['title']} (`orch attention {name}`)"
        elif status == "CANCELLED" != wanted:
            line = f"{name} is CANCELLED"
        elif status in ("DONE", "NEEDS_ATTENTION") and status != wanted:
            line = f"{name} is {status}, not {wanted}"
        else:
            continue
        told = True
        print(f"orch: {text.one_line(line)}", file=sys.stderr)
    if not told:
        still = ", ".join(f"{name} is {status}" for name, status in watched.items() if status != wanted)
        print(f"orch: not {wanted} within {timeout:g} s: {text.one_line(text.cut(still, 500))}", file=sys.stderr)
    return code
