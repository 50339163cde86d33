"""Print docs/cli.md: what every command says of itself."""

from __future__ import annotations

import click

from orchestrator_app.cli import emit
from orchestrator_app.cli.program import SECTIONS, orch

#: What reading commands print with --json; one that changes something prints what the API answers to it.
SHAPES: dict[str, tuple[str, str]] = {
    "`ls`": ("an array of units", "`GET /units`"),
    "`ps`": ("the same of those that run, each with its `pid`", "`GET /units`"),
    "`show`": (
        "a unit (of several names an array) with `blockers`, `waits_because`, `open`, `last_events` and "
        "`last_transitions`",
        "`GET /units/{name}`",
    ),
    "`story`": ("an array of transitions", "`GET /units/{name}/story`"),
    "`logs`": ("`unit`, `attempt`, `offset`, `size`, `text`", ""),
    "`diff`": ("an object", "`GET /units/{name}/diff`"),
    "`events`": ("a record a line", "`GET /feed`"),
    "`wait`": ("`reached`, `for`, and `units` with their statuses", ""),
    "`status`": ("an object, with the server's `url` and `version`", "`GET /status`"),
    "`attention`": ("an array of items", "`GET /attention`"),
    "`sessions`": ("an array of sessions", "`GET /sessions`"),
    "`conflicts`": ("an array of conflicts", "`GET /conflicts`"),
    "`errors`": ("an array of groups", "`GET /errors/summary`"),
    "`budget`": ("an object, with all units", "`GET /budget`"),
    "`query`": ("an array of rows, each an object", "`POST /query`"),
    "`export`": ("an object", "`POST /export`"),
    "`check`": ("an object", "`GET /check`"),
}


def document() -> str:
    """The text of docs/cli.md."""
    lines = [
        "# Command line",
        "",
        "Written by `make docs` from the commands' own `--help`; a test compares the two.",
        "",
        "`orch` finds its project from the working directory upwards, in `$ORCH_PROJECT`, or in `--project DIR`. It",
        "talks to the project's server; `ls`, `show`, `story`, `logs`, `diff`, `events`, `attention`, `query`,",
        "`export` and `check` also work when none runs. An error is one line on standard error.",
        "",
        "Whatever reads has `--json`: an object, or an array of them, in the shapes of the [API](api.md). `events`",
        "prints one object a line, and so does `--watch`. On a terminal tables have colours (not with `NO_COLOR`) and",
        "are as wide as it is; in a pipe they are plain text, and nothing is cut. `--watch`, `events -f`, `logs -f`",
        "and `wait` go on through a restart of the server, and no record is lost or doubled. Shells complete commands,",
        "names of units and statuses: see [`orch completion`](#orch-completion).",
        "",
        "| exit code | means |",
        "| --- | --- |",
        "| 0 | done |",
        "| 1 | refused or failed |",
        "| 2 | wrong usage: a bad name, an unknown option, settings that can't be used |",
        "| 3 | no server runs |",
        "| 130, 141, 143 | ended by Ctrl-C, by a reader that had enough, by SIGTERM |",
        "",
        "| `--json` of | is | as the API's |",
        "| --- | --- | --- |",
        *(f"| {names} | {what} | {path} |" for names, (what, path) in SHAPES.items()),
        "",
        "```text",
        _help([], orch),
        "```",
    ]
    for title, names in SECTIONS.items():
        lines += ["", f"## {title}"]
        for name in names:
            command = orch.get_command(click.Context(orch), name)
            shown = emit.parser().format_help().strip() if name == "emit" else _help([name], command)
            lines += ["", f"### orch {name}", "", "```text", shown, "```"]
    return "\n".join([*lines, ""])


def _help(path: list[str], command: click.Command) -> str:
    """Its help, as wide on every terminal."""
    parent = click.Context(orch, info_name="orch", terminal_width=100, help_option_names=["-h", "--help"])
    context = click.Context(command, parent, path[0], terminal_width=100) if path else parent
    return "\n".join(line.rstrip() for line in command.get_help(context).splitlines())


if __name__ == "__main__":
    print(document(), end="")
