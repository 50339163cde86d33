"""What it comes to: what was used, what is in conflict, what went wrong, which conversations there are."""

from __future__ import annotations

from typing import Any

import click

from orchestrator_app.cli import completing, text
from orchestrator_app.cli.commands import json_option
from orchestrator_app.cli.place import Place
from orchestrator_app.cli.source import Live
from orchestrator_app.errors import UsageError

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
"""What a span of time may end in."""

unit_argument = click.argument("name", metavar="[NAME]", required=False, shell_complete=completing.units())


def _asked(place: Place, name: str | None) -> Live:
    """The running server, which knows the unit, if one is named."""
    source = Live(place.client())
    if name is not None:
        source.unit(name)
    return source


@click.command("budget", short_help="What was used: tokens and dollars.")
@unit_argument
@json_option
@click.pass_obj
def budget_command(place: Place, name: str | None, as_json: bool) -> None:
    """What agents said they used: in all, today (UTC), by phase, by model and by unit, the dearest first."""
    text.show(_asked(place, name).client.whole("/budget", "units", unit=name), as_json, _budget)


def _budget(answer: dict[str, Any]) -> str:
    rows = [("in all", "", answer["total"]), ("today", "", answer["today"])]
    rows += [("phase", row["phase"], row) for row in answer["phases"]]
    rows += [("model", row["model"] or "not said", row) for row in answer["models"]]
    rows += [("unit", row["unit"], row) for row in sorted(answer["units"], key=lambda row: -row["usd"])]
    cells = [
        (by, what, f"{used['input_tokens']:,}", f"{used['output_tokens']:,}", f"{used['usd']:,.2f}")
        for by, what, used in rows
    ]
    return text.table(("BY", "WHAT", "READ", "WRITTEN", "USD"), cells, right=("READ", "WRITTEN", "USD"))


@click.command("conflicts", short_help="Which units are in each other's way.")
@unit_argument
@json_option
@click.pass_obj
def conflicts_command(place: Place, name: str | None, as_json: bool) -> None:
    """Open conflicts, oldest first: units that touch the same files, and merges with the base branch that failed."""
    found = list(_asked(place, name).client.pages("/conflicts", "conflicts", unit=name))
    text.show(found, as_json, _conflicts, empty="no conflicts")


def _conflicts(found: list[dict[str, Any]]) -> str:
    if not found:
        return ""
    rows = [
        (row["item"], row["unit"], row["kind"], row["other"] or row["branch"], text.ago(row["since"]),
         ", ".join(row["files"]))
        for row in found
    ]  # fmt: skip
    ways = [f"`orch attention {name}` shows how to settle it" for name in dict.fromkeys(row["unit"] for row in found)]
    return "\n".join([text.table(("ITEM", "UNIT", "KIND", "WITH", "SINCE", "FILES"), rows, right=("ITEM",)), *ways])


@click.command("errors", short_help="What went wrong lately, equal errors as one.")
@click.option("--since", metavar="WHEN", default="1d", show_default=True,
              help="From then on: a span as in 30m, 2h, 7d, or a time as in 2030-01-31T12:00Z.")  # fmt: skip
@click.option("--search", metavar="TEXT", help="Only those whose words or unit hold this.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="At most so many.")
@json_option
@click.pass_obj
def errors_command(place: Place, since: str, search: str | None, limit: int | None, as_json: bool) -> None:
    """What went wrong lately, equal errors as one, the most frequent first, with the units that had them."""
    found = list(place.client().pages("/errors/summary", "found", limit, since=_since(since), search=search))
    text.show(found, as_json, _errors, empty="nothing went wrong")


def _since(given: str) -> str:
    """As the API takes it: seconds, or a time. Raises UsageError."""
    number, ending = given[:-1], given[-1:]
    if number.isdecimal() and ending in SECONDS:
        return str(int(number) * SECONDS[ending])
    if given.isdecimal():
        return given
    try:
        text.moment(given)
    except ValueError:
        raise UsageError(
            f'--since is no span and no time: "{given[:40]}"; try 30m, 2h, 7d or 2030-01-31T12:00Z'
        ) from None
    return given


def _errors(found: list[dict[str, Any]]) -> str:
    if not found:
        return ""
    rows = []
    for row in found:
        what = row["message"] if row["count"] > 1 else row["sample"]
        more = f" and {row['total'] - 3} more" if row["total"] > 3 else ""
        rows.append((row["count"], row["kind"], text.ago(row["last"]), ", ".join(row["units"][:3]) + more, what))
    return text.table(("COUNT", "KIND", "LAST", "UNITS", "WHAT"), rows, right=("COUNT",))


@click.command("sessions", short_help="The agents' conversations.")
@unit_argument
@json_option
@click.pass_obj
def sessions_command(place: Place, name: str | None, as_json: bool) -> None:
    """The conversations that attempts have named, oldest first; a later attempt of the unit resumes its newest one."""
    found = list(_asked(place, name).client.pages("/sessions", "sessions", unit=name))
    text.show(found, as_json, _sessions, empty="no sessions")


def _sessions(found: list[dict[str, Any]]) -> str:
    if not found:
        return ""
    rows = [
        (text.clock(row["occurred_at"]), row["unit"], row["phase"], row["attempt"], row["session"]) for row in found
    ]
    return text.table(("TIME", "UNIT", "PHASE", "TRY", "SESSION"), rows, right=("TRY",))
