"""What needs a person, and what the person says."""

from __future__ import annotations

import sys
from typing import Any

import click

from orchestrator_app.cli import completing, text
from orchestrator_app.cli import watch as live
from orchestrator_app.cli.client import unit_path
from orchestrator_app.cli.commands import json_option, name_argument, needing_argument, watch_option
from orchestrator_app.cli.commands.watching import item_lines
from orchestrator_app.cli.place import Place
from orchestrator_app.cli.source import Live, open_source
from orchestrator_app.fields import check_name


@click.command("attention", short_help="What needs a person now.")
@click.argument("names", metavar="[NAME...]", nargs=-1, shell_complete=completing.units("NEEDS_ATTENTION"))
@watch_option
@json_option
@click.pass_obj
def attention_command(place: Place, names: tuple[str, ...], watch: bool, as_json: bool) -> None:
    """List what needs a person, oldest first; for named units whole, with the commands that settle it.

    Works on a stopped project too, but for --watch.
    """
    human, empty = (_whole, "nothing needs attention there") if names else (_queue, "nothing needs attention")

    def look(source: Any, _: int | None = None) -> list[dict[str, Any]]:
        return [item for item in source.attention() if not names or item["unit"] in names]

    source = open_source(place)
    for name in names:
        source.unit(name)
    if watch:
        live.watch(place, look, human, as_json, empty=empty)
    text.show(look(source), as_json, human, empty=empty)


def _queue(items: list[dict[str, Any]]) -> str:
    if not items:
        return ""
    rows = [
        (item["id"], item["unit"], item["kind"], item["severity"], text.ago(item["opened_at"]), item["title"])
        for item in items
    ]
    return text.table(("ITEM", "UNIT", "KIND", "SEVERITY", "SINCE", "WHAT"), rows, right=("ITEM",))


def _whole(items: list[dict[str, Any]]) -> str:
    return "\n".join(f"{text.one_line(item['unit'])}{item_lines(item)}" for item in items)


def say(place: Place, name: str, kind: str, body: dict[str, Any], as_json: bool) -> None:
    """Make a request about one unit, and print where it stands now."""
    check_name(name)
    client = place.client()
    given = {key: value for key, value in body.items() if value is not None}
    answer = client.change(unit_path(name, kind), given) if known(client, name) else {}
    text.show(answer, as_json, lambda now: f"{name} is {text.paint(now['status'])}.")


def known(client: Any, name: str) -> bool:
    """True; NotFoundError with the names that are close, if there is no such unit."""
    Live(client).unit(name)
    return True


item_option = click.option("--item", type=int, metavar="N", help="The attention item that is meant; else the open one.")


@click.command("answer", short_help="Answer a unit's question.")
@needing_argument
@click.argument("answer", metavar="TEXT")
@item_option
@json_option
@click.pass_obj
def answer_command(place: Place, name: str, answer: str, item: int | None, as_json: bool) -> None:
    """Answer the question that a unit's agent has asked. TEXT of - is standard input."""
    say(place, name, "answer", {"text": sys.stdin.read() if answer == "-" else answer, "item": item}, as_json)


@click.command("approve", short_help="Approve what a unit asks approval for.")
@needing_argument
@item_option
@json_option
@click.pass_obj
def approve_command(place: Place, name: str, item: int | None, as_json: bool) -> None:
    """Approve what a unit asks approval for; it goes on."""
    say(place, name, "approve", {"item": item}, as_json)


@click.command("reject", short_help="Reject it; the phase runs again.")
@needing_argument
@click.option("-f", "--feedback", metavar="TEXT", help="What to do differently; the next attempt gets it.")
@item_option
@json_option
@click.pass_obj
def reject_command(place: Place, name: str, feedback: str | None, item: int | None, as_json: bool) -> None:
    """Reject what a unit asks approval for; the phase runs again."""
    say(place, name, "reject", {"feedback": feedback, "item": item}, as_json)


@click.command("resolve", short_help="Rule on a conflict between two units.")
@needing_argument
@click.option(
    "--with", "other", metavar="OTHER", required=True, shell_complete=completing.units(), help="The other unit."
)
@click.argument("ruling", type=click.Choice(["serialize", "parallelize"]))
@item_option
@json_option
@click.pass_obj
def resolve_command(place: Place, name: str, other: str, ruling: str, item: int | None, as_json: bool) -> None:
    """Rule on a conflict between NAME and OTHER; the ruling holds for the pair.

    serialize: NAME waits until OTHER is DONE. parallelize: both are free to run.
    """
    check_name(other)
    say(place, name, "resolve", {"other": other, "ruling": ruling, "item": item}, as_json)


@click.command("retry", short_help="Make another attempt.")
@needing_argument
@click.option(
    "--phase", metavar="PHASE", shell_complete=completing.phases, help="From this phase; else from the present one."
)
@click.option("-f", "--feedback", metavar="TEXT", help="What to do differently; the next attempt gets it.")
@item_option
@json_option
@click.pass_obj
def retry_command(
    place: Place, name: str, phase: str | None, feedback: str | None, item: int | None, as_json: bool
) -> None:
    """Make another attempt of a unit that needs attention; its counters start anew."""
    say(place, name, "retry", {"phase": phase, "feedback": feedback, "item": item}, as_json)


@click.command("accept", short_help="Close a unit as done.")
@needing_argument
@click.option("--reason", metavar="TEXT", required=True, help="Why it counts as done; it goes into the log.")
@item_option
@json_option
@click.pass_obj
def accept_command(place: Place, name: str, reason: str, item: int | None, as_json: bool) -> None:
    """Close a unit that needs attention as DONE; what waits for it is released."""
    say(place, name, "accept", {"reason": reason, "item": item}, as_json)


@click.command("comment", short_help="Say something to a unit's next attempt.")
@name_argument
@click.argument("comment", metavar="TEXT")
@click.option("--file", metavar="PATH", shell_complete=completing.files, help="The file that it is about.")
@click.option("--line", type=click.IntRange(1), metavar="N", help="The line of that file.")
@json_option
@click.pass_obj
def comment_command(place: Place, name: str, comment: str, file: str | None, line: int | None, as_json: bool) -> None:
    """Say something to a unit's next attempt, which gets it as feedback. TEXT of - is standard input."""
    words = sys.stdin.read() if comment == "-" else comment
    say(place, name, "comment", {"text": words, "file": file, "line": line}, as_json)
