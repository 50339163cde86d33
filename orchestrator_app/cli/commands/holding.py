"""Withdraw units, hold them, and take them back: one after the other, each for itself."""

from __future__ import annotations

from typing import Any

import click

from orchestrator_app.cli import completing, text
from orchestrator_app.cli.client import Refused, unit_path
from orchestrator_app.cli.commands import json_option, names_argument, some_names_argument
from orchestrator_app.cli.source import Live
from orchestrator_app.errors import NotFoundError, UsageError
from orchestrator_app.fields import check_name


def say_each(context: click.Context, names: tuple[str, ...], kind: str, reason: str | None, as_json: bool) -> None:
    """Make the same request about each unit. What is refused is told, and doesn't keep the others from it."""
    from orchestrator_app.cli.program import complain

    names = tuple(dict.fromkeys(check_name(name) for name in names))
    client = context.obj.client()
    answers: list[dict[str, Any]] = []
    code = 0
    for name in names:
        try:
            Live(client).unit(name)
            answer = client.change(unit_path(name, kind), {} if reason is None else {"reason": reason})
        except (Refused, NotFoundError) as error:
            code = code or error.exit_code
            answers.append({"unit": name, "error": str(error)})
            complain(error)
            continue
        answers.append(answer)
        if not as_json:
            print(f"{name} is {text.paint(answer['status'])}.")
    if as_json:
        print(text.as_json(answers[0] if len(names) == 1 else answers))
    context.exit(code)


def names_or_dispatch(
    context: click.Context, names: tuple[str, ...], dispatch: bool, paused: bool, as_json: bool
) -> bool:
    """Hold or release the starting of attempts if that is asked for; False if units are meant."""
    if dispatch == bool(names):
        raise UsageError(f"name units, or give --dispatch for all starts (see `{context.command_path} --help`)")
    if not dispatch:
        return False
    answer = context.obj.client().change("/dispatch", {"paused": paused})
    told = "Dispatch is paused: what runs goes on, nothing else starts." if paused else "Dispatch is on."
    text.show(answer, as_json, lambda _: told)
    return True


def names_in(status: str) -> Any:
    """Names of which those in a status are offered."""
    return click.argument("names", metavar="NAME...", nargs=-1, required=True, shell_complete=completing.units(status))


reason_option = click.option("--reason", metavar="TEXT", help="Why; it stands in the unit's story.")


@click.command("cancel", short_help="Withdraw units; running attempts are killed.")
@names_argument
@reason_option
@json_option
@click.pass_context
def cancel_command(context: click.Context, names: tuple[str, ...], reason: str | None, as_json: bool) -> None:
    """Withdraw units. A running attempt is killed with all its descendants; branch and worktree stay."""
    say_each(context, names, "cancel", reason, as_json)


@click.command("pause", short_help="Hold units, or all starts.")
@some_names_argument
@click.option("--dispatch", is_flag=True, help="Start nothing any more; what runs goes on.")
@reason_option
@json_option
@click.pass_context
def pause_command(
    context: click.Context, names: tuple[str, ...], dispatch: bool, reason: str | None, as_json: bool
) -> None:
    """Hold units: a running attempt is stopped, its session kept. Or, with --dispatch, hold all starts."""
    if not names_or_dispatch(context, names, dispatch, True, as_json):
        say_each(context, names, "pause", reason, as_json)


@click.command("resume", short_help="Let paused units go on, or all starts.")
@click.argument("names", metavar="[NAME...]", nargs=-1, shell_complete=completing.units("PAUSED"))
@click.option("--dispatch", is_flag=True, help="Start attempts again.")
@reason_option
@json_option
@click.pass_context
def resume_command(
    context: click.Context, names: tuple[str, ...], dispatch: bool, reason: str | None, as_json: bool
) -> None:
    """Let paused units go on. Or, with --dispatch, let attempts start again."""
    if not names_or_dispatch(context, names, dispatch, False, as_json):
        say_each(context, names, "resume", reason, as_json)


@click.command("restart", short_help="Stop running attempts and let their phases start again.")
@names_in("RUNNING")
@reason_option
@json_option
@click.pass_context
def restart_command(context: click.Context, names: tuple[str, ...], reason: str | None, as_json: bool) -> None:
    """Stop the running attempts of units; their phases start again, each with its session."""
    say_each(context, names, "restart", reason, as_json)


@click.command("reopen", short_help="Take cancelled units back.")
@names_in("CANCELLED")
@reason_option
@json_option
@click.pass_context
def reopen_command(context: click.Context, names: tuple[str, ...], reason: str | None, as_json: bool) -> None:
    """Take cancelled units back."""
    say_each(context, names, "reopen", reason, as_json)
