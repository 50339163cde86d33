"""See what there is: all units, those that run, one of them, its story, its changes."""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

import click

from orchestrator_app.cli import completing, text
from orchestrator_app.cli import watch as live
from orchestrator_app.cli.commands import json_option, name_argument, names_argument, watch_option
from orchestrator_app.cli.place import Place
from orchestrator_app.cli.source import Live, open_source
from orchestrator_app.errors import UsageError
from orchestrator_app.states import Status


def check_status(status: str | None) -> str | None:
    """A status as it is written. Raises UsageError."""
    if status is None:
        return None
    word = status.upper().replace("-", "_")
    if word not in Status.__members__:
        raise UsageError(f'there is no status "{status[:40]}": there are {", ".join(list(Status)[1:])}')
    return word


@click.command("ls", short_help="List work units.")
@click.option("--status", metavar="STATUS", shell_complete=completing.statuses, help="Only those in this status.")
@click.option("--label", metavar="WORD", help="Only those with this label.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="At most so many.")
@watch_option
@json_option
@click.pass_obj
def ls_command(
    place: Place, status: str | None, label: str | None, limit: int | None, watch: bool, as_json: bool
) -> None:
    """List work units by name. Works on a stopped project too, but for --watch."""
    wanted = check_status(status)

    def look(source: Any, most: int | None = None) -> list[dict[str, Any]]:
        return source.units(wanted, label, min(filter(None, (limit, most)), default=None))

    if watch:
        live.watch(place, look, _list, as_json, empty="no units")
    text.show(look(open_source(place)), as_json, _list, empty="no units")


def _list(units: list[dict[str, Any]]) -> str:
    if not units:
        return ""
    rows = [
        (
            unit["name"],
            unit["status"],
            unit["phase"],
            unit["attempt"],
            text.ago(unit["since"]),
            unit["priority"],
            doing(unit),
        )
        for unit in units
    ]
    headers = ("NAME", "STATUS", "PHASE", "TRY", "FOR", "PRIO", "WHAT")
    return text.table(headers, rows, right=("TRY", "PRIO"))


def doing(unit: dict[str, Any]) -> str:
    """In a few words: its progress, what it waits for, or why it is where it is."""
    if unit["status"] == "RUNNING" and unit["progress"]:
        return progress(unit["progress"])
    if unit["status"] == "BLOCKED" and unit["waits_for"]:
        return f"waits for {', '.join(unit['waits_for'])}"
    if unit["status"] == "READY" and unit["not_before"]:
        return f"not before {text.clock(unit['not_before'])}: {unit['reason'] or ''}".rstrip(": ")
    return unit["reason"] or ""


def progress(said: dict[str, Any] | None) -> str:
    """`40 % writing tests (round 2)`, as far as it was said."""
    said = said or {}
    percent, step, iteration = said.get("percent"), said.get("step"), said.get("iteration")
    parts = [f"{percent:g} %" if isinstance(percent, int | float) else "", str(step or said.get("message") or "")]
    parts.append(f"(round {iteration})" if iteration else "")
    return " ".join(part for part in parts if part)


class Running(NamedTuple):
    """The units that run, and how many could."""

    units: list[dict[str, Any]]
    slots: int
    dispatch: str


@click.command("ps", short_help="List what runs now.")
@watch_option
@json_option
@click.pass_obj
def ps_command(place: Place, watch: bool, as_json: bool) -> None:
    """List the attempts that run now: phase, process, time, progress."""
    from orchestrator_app.executors.evidence import read_attempt

    def look(source: Live, _: int | None = None) -> Running:
        status, units = source.status(), source.units("RUNNING")
        for unit in units:
            run_dir = place.state / "runs" / unit["name"] / str(unit["attempt"])
            unit["pid"] = read_attempt(str(run_dir))[2].get("pid")
        return Running(units, status["slots"], status["dispatch"])

    if watch:
        live.watch(place, look, _running, as_json, rows=lambda running: running.units)
    running = look(Live(place.client()))
    text.show(running.units, as_json, lambda _: _running(running))


def _running(running: Running) -> str:
    held = "; dispatch is paused" if running.dispatch == "paused" else ""
    summary = f"{len(running.units)} of {running.slots} slots{held}"
    rows = [
        (unit["name"], unit["phase"], unit["attempt"], unit["pid"], text.ago(unit["since"]), progress(unit["progress"]))
        for unit in running.units
    ]
    if not rows:
        return summary
    return text.table(("NAME", "PHASE", "TRY", "PID", "FOR", "PROGRESS"), rows, right=("TRY", "PID")) + f"\n{summary}"


@click.command("show", short_help="Everything about units: what is asked, where they stand, what they wait for.")
@names_argument
@json_option
@click.pass_obj
def show_command(place: Place, names: tuple[str, ...], as_json: bool) -> None:
    """Show units: what is asked of them, where they stand, what they wait for, what is open, what was said last.

    Works on a stopped project too.
    """
    source = open_source(place)
    found = []
    for name in names:
        unit = source.unit(name)
        story = source.story(name)
        started = [row["seq"] for row in story if row["trigger"] == "start"]
        unit["waits_because"] = waits_because(source, unit)
        unit["blockers"] = dict.fromkeys(unit["after"], "DONE") | {
            blocker: source.unit(blocker)["status"] for blocker in unit["waits_for"]
        }
        unit["open"] = [item for item in source.attention() if item["unit"] == name]
        unit["last_events"] = source.events(name, started[-1] if started else 0)[-8:]
        unit["last_transitions"] = story[-5:]
        found.append(unit)
    text.show(found[0] if len(found) == 1 else found, as_json, lambda _: "\n\n".join(_whole(unit) for unit in found))


def waits_because(source: Any, unit: dict[str, Any]) -> str:
    """Why a unit doesn't run though nobody is asked anything; empty where that is clear."""
    if unit["status"] == "BLOCKED":
        return f"waits for {', '.join(unit['waits_for'])}" if unit["waits_for"] else ""
    if unit["status"] != "READY":
        return ""
    status = source.status()
    if status["state"] == "stopped":
        return "no server runs: `orch serve` starts one"
    if status["dispatch"] == "paused":
        return "dispatch is paused: `orch resume --dispatch` lets it go on"
    if unit["not_before"]:
        return f"not before {text.clock(unit['not_before'])}"
    if status["running"] >= status["slots"]:
        return f"all {status['slots']} slots are taken"
    return "a slot of its phase or label, or a unit that touches the same files"


def _whole(unit: dict[str, Any]) -> str:
    stands = f"{text.paint(unit['status'])} for {text.ago(unit['since'])}"
    attempt = f", attempt {unit['attempt']}" if unit["attempt"] else ""
    blockers = ", ".join(f"{name} ({status})" for name, status in unit["blockers"].items())
    own = {key: unit[key] for key in ("agent", "timeout", "retries") if unit[key] is not None}
    lines = [
        f"{text.one_line(unit['name'])}  {stands}",
        text.facts(
            {
                "phase": f"{unit['phase']}{attempt}",
                "reason": unit["reason"] if unit["reason"] != unit["waits_because"] else None,
                "waits": unit["waits_because"],
                "progress": progress(unit["progress"]),
                "prompt": text.cut(unit["prompt"], 2_000),
                "feedback": unit["feedback"],
                "comments": "\n".join(unit["comments"]),
                "after": blockers,
                "touches": ", ".join(unit["touches"]),
                "labels": ", ".join(unit["labels"]),
                "workflow": unit["workflow"],
                **own,
                "priority": unit["priority"],
                "failures": unit["failures"] or None,
                "branch": f"{unit['branch']} from {unit['base'][:12]}" if unit["base"] else None,
                "session": unit["session"],
                "submitted": text.clock(unit["created_at"]),
                "version": unit["version"],
            }
        ),
    ]
    lines += [item_lines(item) for item in unit["open"]]
    if unit["last_transitions"]:
        lines += ["last transitions", _steps(unit["last_transitions"], indent="  ")]
    if unit["last_events"]:
        rows = [
            (text.clock(row["occurred_at"]), row["type"], row["level"], row["message"]) for row in unit["last_events"]
        ]
        shown = text.table(("TIME", "TYPE", "LEVEL", "MESSAGE"), rows).splitlines()[1:]
        lines += ["last events", *(f"  {line}" for line in shown)]
    return "\n".join(lines)


def item_lines(item: dict[str, Any]) -> str:
    """An attention item, whole, with the commands that settle it."""
    name = item["unit"]
    ways = {
        "question": [f"orch answer {name} TEXT"],
        "approval": [f"orch approve {name}", f"orch reject {name} -f FEEDBACK"],
        "stall": [f"orch answer {name} wait", f"orch retry {name}", f"orch cancel {name}"],
        "blocked": [f"orch reopen {item['other']}", f"orch edit {name} --after ''", f"orch cancel {name}"],
    }.get(item["kind"], [f"orch retry {name}", f"orch accept {name} --reason WHY", f"orch cancel {name}"])
    if item["kind"] == "conflict" and not item["other"]:
        ways = [f"orch retry {name} --phase PHASE -f FEEDBACK", *ways]
    elif item["kind"] == "conflict":
        ruled = f"orch resolve {name} --with {item['other']}"
        ways = [f"{ruled} serialize", f"{ruled} parallelize", f"orch cancel {name}"]
    body = None if item["title"].endswith(item["text"].strip()) else item["text"]
    told = {
        item["kind"]: item["title"],
        "text": body,
        "options": " | ".join(item["options"]) if item["kind"] in ("question", "approval") else None,
        "files": ", ".join(item["files"]),
        "since": f"{text.clock(item['opened_at'])}, {text.ago(item['opened_at'])}",
        "then": "\n".join(ways),
    }
    return "\n".join(["", *(f"  {line}" for line in text.facts(told).splitlines())])


@click.command("story", short_help="Everything that was ever done to a unit, by whom and why.")
@names_argument
@json_option
@click.pass_obj
def story_command(place: Place, names: tuple[str, ...], as_json: bool) -> None:
    """All transitions of units: when, by whom, what, from where to where, and why. Works on a stopped project too."""
    source = open_source(place)
    rows = [row for name in names for row in source.story(name)]
    rows.sort(key=lambda row: row["seq"])
    text.show(rows, as_json, lambda found: _steps(found, unit=len(names) > 1))


def _steps(rows: list[dict[str, Any]], *, unit: bool = False, indent: str = "") -> str:
    cells = []
    for row in rows:
        moved = (
            row["to_status"]
            if row["from_status"] == row["to_status"]
            else f"{row['from_status']} -> {row['to_status']}"
        )
        attempt = f"{row['phase']} {row['attempt']}" if row["attempt"] else row["phase"]
        name = (row["unit"],) if unit else ()
        cells.append(
            (text.clock(row["occurred_at"]), *name, row["trigger"], moved, attempt, row["actor"], row["reason"])
        )
    headers = ("TIME", *(("UNIT",) if unit else ()), "TRIGGER", "STATUS", "PHASE", "ACTOR", "REASON")
    lines = text.table(headers, cells).splitlines()
    return "\n".join(indent + line for line in (lines[1:] if indent else lines))


@click.command("diff", short_help="What a unit's branch changes.")
@name_argument
@json_option
@click.pass_obj
def diff_command(place: Place, name: str, as_json: bool) -> None:
    """What a unit's commits change against its base; what is not committed yet is in its worktree only.

    Works on a stopped project too.
    """
    answer = open_source(place).diff(name)
    if as_json:
        print(text.as_json(answer))
        return
    shown = text.safe(answer["diff"]) if sys.stdout.isatty() else answer["diff"]
    sys.stdout.write(shown)
    if not answer["diff"]:
        print(f"{name} has committed nothing yet; its worktree is {place.state / 'worktrees' / name}", file=sys.stderr)
    if answer["truncated"]:
        print("the diff is longer: see it whole with git", file=sys.stderr)
