"""What a shell offers when Tab is pressed. Quick, and without a word where something is wrong: then it offers nothing.

The scripts of `orch completion` set $_ORCH_COMPLETE and run `orch`, which then prints what fits and does nothing else.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from typing import Any

import click

VARIABLE = "_ORCH_COMPLETE"
SHELLS = ("bash", "zsh", "fish")
PATIENCE = 1.5
"""Seconds to wait for a server; whoever pressed Tab waits as well."""
MOST = 200
"""Names that are offered at once."""

Completer = Callable[[click.Context, click.Parameter, str], list[Any]]


def complete() -> int:
    """Print what fits the words in the environment."""
    with open(os.devnull, "w") as nowhere:
        told, sys.stderr = sys.stderr, nowhere
        try:
            from orchestrator_app.cli.program import orch

            orch.main([], prog_name="orch", complete_var=VARIABLE, standalone_mode=False)
        except (Exception, SystemExit, KeyboardInterrupt):
            pass  # a shell that waits for words can do nothing with a reason
        finally:
            sys.stderr = told
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def script(shell: str) -> str:
    """What the shell is to run once, so that it completes `orch`."""
    from click.shell_completion import get_completion_class

    from orchestrator_app.cli.program import orch

    made = get_completion_class(shell)
    assert made is not None, shell
    return made(orch, {}, "orch", VARIABLE).source()


def units(status: str | None = None) -> Completer:
    """Names of units, or of those in a status; in a list with commas the last one."""

    def offer(context: click.Context, _: click.Parameter, given: str) -> list[Any]:
        before, comma, begun = given.rpartition(",")
        named = {*(context.params.get("names") or ()), *before.split(",")}
        found = _found(_place(context), begun, status)
        return [_item(f"{before}{comma}{name}", help=now) for name, now in found if name not in named]

    return offer


def statuses(_: click.Context, __: click.Parameter, given: str) -> list[str]:
    from orchestrator_app.states import Status

    before, comma, begun = given.rpartition(",")
    words = [word for word in list(Status)[1:] if word.startswith(begun.upper().replace("-", "_"))]
    return [f"{before}{comma}{word}" for word in words]


def agents(context: click.Context, _: click.Parameter, given: str) -> list[str]:
    return [name for name in sorted(_place(context).project.agents) if name.startswith(given)]


def workflows(context: click.Context, _: click.Parameter, given: str) -> list[str]:
    return [name for name in sorted(_place(context).project.workflows) if name.startswith(given)]


def phases(context: click.Context, _: click.Parameter, given: str) -> list[str]:
    flows = _place(context).project.workflows.values()
    names = dict.fromkeys(phase.name for flow in flows for phase in flow.phases)
    return [name for name in names if name.startswith(given)]


def files(_: click.Context, __: click.Parameter, given: str) -> list[Any]:
    return [_item(given, type="file")]


def directories(_: click.Context, __: click.Parameter, given: str) -> list[Any]:
    return [_item(given, type="dir")]


def _item(value: str, **more: Any) -> Any:
    from click.shell_completion import CompletionItem  # here, for every command loads this module

    return CompletionItem(value, **more)


def _place(context: click.Context) -> Any:
    from orchestrator_app.cli.place import Place

    return Place(context.find_root().params.get("project"))


def _found(place: Any, begun: str, status: str | None) -> Iterable[tuple[str, str]]:
    """Units whose names begin so, with their statuses: from the running server, else from the log."""
    if begun and (not begun.isascii() or begun != begun.lower()):
        return []
    from orchestrator_app.claim import server_info

    if server_info(place.state) is None:
        return _logged(place, begun, status)
    # The names in front of all that begin so: the letter before the last one, and more than any name has behind it.
    cursor = f"{begun[:-1]}{chr(ord(begun[-1]) - 1)}\x7f" if begun else None
    page = place.client().get("/units", patience=PATIENCE, limit=MOST, cursor=cursor, status=status)
    return [(unit["name"], unit["status"]) for unit in page["units"] if unit["name"].startswith(begun)]


def _logged(place: Any, begun: str, status: str | None) -> Iterable[tuple[str, str]]:
    from orchestrator_app.cli.source import Stopped

    sql = "SELECT name, status FROM unit WHERE starts_with(name, ?) AND (? IS NULL OR status = ?) ORDER BY 1 LIMIT ?"
    return [(row["name"], row["status"]) for row in Stopped(place).rows(sql, (begun, status, status, MOST))]
