"""The commands of `orch`, and the one place where errors become a line and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module

import click

from orchestrator_app.cli.completing import directories
from orchestrator_app.cli.place import Place
from orchestrator_app.cli.text import one_line
from orchestrator_app.errors import OrchError

#: Every command, by what it is for, and the module of commands/ that has it.
SECTIONS: dict[str, dict[str, str]] = {
    "Begin": {
        "init": "server",
        "demo": "server",
        "serve": "server",
        "stop": "server",
        "status": "standing",
        "open": "server",
    },
    "Ask": {"submit": "asking", "import": "asking", "edit": "asking"},
    "Watch": {
        **{"ls": "watching", "ps": "watching", "show": "watching", "story": "watching"},
        **{"logs": "output", "diff": "watching", "events": "events", "wait": "waiting"},
        **{"sessions": "summing", "conflicts": "summing", "errors": "summing", "budget": "summing"},
    },
    "Decide": {
        **{"attention": "deciding", "answer": "deciding", "approve": "deciding", "reject": "deciding"},
        **{"resolve": "deciding", "retry": "deciding", "accept": "deciding", "comment": "deciding"},
    },
    "Hold and withdraw": {
        **{"cancel": "holding", "pause": "holding", "resume": "holding", "restart": "holding", "reopen": "holding"},
    },
    "History": {"query": "history", "export": "history"},
    "Keep": {"check": "keeping", "backup": "keeping", "restore": "keeping", "completion": "keeping"},
    "For agents": {"emit": "emitting"},
}
MODULES = {name: module for commands in SECTIONS.values() for name, module in commands.items()}


class EnoughRead(Exception):
    """Whoever reads our output has gone. Click would end the process with 1, which means that something failed."""


class Commands(click.Group):
    """Finds each command in its module, so that only what runs is loaded."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise EnoughRead from None

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in MODULES:
            return None
        module = import_module(f"orchestrator_app.cli.commands.{MODULES[cmd_name]}")
        return getattr(module, f"{cmd_name}_command")

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, names in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name, self.get_command(ctx, name).get_short_help_str(80)) for name in names])

    def resolve_command(self, ctx: click.Context, args: list[str]):
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError:
            from difflib import get_close_matches

            close = get_close_matches(args[0], MODULES, 1, 0.6)
            meant = f"; did you mean {close[0]}?" if close else ""
            raise click.UsageError(f'there is no command "{args[0]}"{meant}', ctx) from None


@click.group(
    cls=Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "--project",
    metavar="DIR",
    shell_complete=directories,
    help="The project's directory; else $ORCH_PROJECT, else found from here upwards.",
)
@click.option("--version", is_flag=True, help="Print the version.")
@click.pass_context
def orch(context: click.Context, project: str | None, version: bool) -> None:
    """Runs many pieces of work at once over a git repository.

    Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 no server runs.
    """
    context.obj = Place(project)
    if version:
        from orchestrator_app.claim import installed_version

        click.echo(f"orch {installed_version()}")
        context.exit()
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def run(arguments: Sequence[str]) -> int:
    """Run one command; whatever goes wrong becomes one line on standard error and an exit code."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")
    try:
        code = orch.main(list(arguments), prog_name="orch", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except (EnoughRead, BrokenPipeError):  # nothing to complain about
        _drop_output()
        return 141
    except click.Abort:  # Click has ended the line in which ^C stands
        return 130
    except OrchError as error:
        return complain(error, error.exit_code)
    except click.UsageError as error:
        where = error.ctx.command_path if error.ctx else "orch"
        return complain(f"{error.format_message()} (see `{where} --help`)", 2)
    except click.ClickException as error:
        return complain(error.format_message(), 1)
    except OSError as error:
        return complain(f"{error.filename or 'the output'}: {error.strerror or error}", 1)
    except Exception as error:
        return complain(f"unexpected error: {type(error).__name__}: {error}; details are in {_kept_traceback()}", 1)


def complain(error: object, code: int = 1) -> int:
    """One line on standard error; returns the exit code."""
    try:
        sys.stdout.flush()
    except OSError:
        _drop_output()
    print(f"orch: {one_line(error)}", file=sys.stderr)
    return code


def _drop_output() -> None:
    """Let what can't be written go, so that the interpreter doesn't try once more at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _kept_traceback() -> str:
    import tempfile
    import traceback

    with tempfile.NamedTemporaryFile("w", prefix="orch-error-", suffix=".txt", delete=False) as file:
        traceback.print_exc(file=file)
    return file.name
