"""Submit work units, one or many, and change what is asked of them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from orchestrator_app.cli import completing, text
from orchestrator_app.cli.client import unit_path
from orchestrator_app.cli.commands import json_option, name_argument
from orchestrator_app.cli.place import Place
from orchestrator_app.errors import UsageError
from orchestrator_app.fields import check_fields, check_name


def field_options(command: Any) -> Any:
    """The options that both submit and edit have, one per field of a unit."""
    for option in reversed(
        (
            click.option("-p", "--prompt", metavar="TEXT", help="What is asked."),
            click.option(
                "--prompt-file",
                metavar="FILE",
                shell_complete=completing.files,
                help="What is asked, from a file; - is standard input.",
            ),
            click.option(
                "--after",
                metavar="NAME",
                multiple=True,
                shell_complete=completing.units(),
                help="A unit that must be DONE before; many with commas.",
            ),
            click.option(
                "--touches", metavar="GLOB", multiple=True, help="Files that it will change, as in 'src/auth/**'."
            ),
            click.option("--priority", type=int, metavar="N", help="Higher starts first; 0 unless said otherwise."),
            click.option("--label", metavar="WORD", multiple=True, help="To find and to limit units by."),
            click.option(
                "--agent",
                metavar="NAME",
                shell_complete=completing.agents,
                help="Runs every phase, in place of the phases' own agents.",
            ),
            click.option("--timeout", type=float, metavar="SECONDS", help="How long one attempt may take."),
            click.option("--retries", type=int, metavar="N", help="Automatic attempts after a failed one."),
        )
    ):
        command = option(command)
    return command


def fields_of(given: dict[str, Any]) -> dict[str, Any]:
    """The options that were given, as fields of a unit, checked. Raises UsageError.

    An empty list option (`--after ''`) clears the list."""
    prompt_file = given.pop("prompt_file")
    if prompt_file is not None:
        if given["prompt"] is not None:
            raise UsageError("give the prompt either with --prompt or with --prompt-file, not both")
        given["prompt"] = _text_of(prompt_file)
    lists = {
        "after": _parted(given.pop("after")),
        "labels": _parted(given.pop("label")),
        "touches": given.pop("touches"),
    }
    fields = {key: value for key, value in given.items() if value is not None}
    fields |= {key: [one for one in values if one] for key, values in lists.items() if values}
    return check_fields(fields)


def _parted(values: tuple[str, ...]) -> list[str]:
    return [part.strip() for value in values for part in value.split(",")]


def _text_of(file: str) -> str:
    try:
        data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        return data.decode("utf-8-sig")
    except OSError as error:
        raise UsageError(f"the prompt file {file} can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"the prompt file {file} is not UTF-8 text") from None


@click.command("submit", short_help="Add a work unit.")
@click.argument("name", metavar="NAME")
@click.argument("words", metavar="[PROMPT]", required=False)
@field_options
@click.option("--workflow", metavar="NAME", shell_complete=completing.workflows, help="A workflow of the settings.")
@json_option
@click.pass_obj
def submit_command(place: Place, name: str, words: str | None, as_json: bool, **given: Any) -> None:
    """Add a work unit. It starts as soon as a slot is free and its blockers are DONE.

    \b
    orch submit fix-login "Empty passwords must fail" --touches 'src/auth/**' --priority 5
    orch submit audit-log --prompt-file audit.md --after fix-login
    """
    if words is not None:
        if given["prompt"] is not None or given["prompt_file"] is not None:
            raise UsageError("give the prompt once: behind the name, with --prompt, or with --prompt-file")
        given["prompt"] = words
    fields = {"name": check_name(name), **fields_of(given)}
    answer = place.client().change("/units", fields)
    text.show(answer, as_json, lambda _: f"Submitted {name}.")


@click.command("import", short_help="Add many work units from a file.")
@click.argument("file", metavar="FILE", shell_complete=completing.files)
@json_option
@click.pass_obj
def import_command(place: Place, file: str, as_json: bool) -> None:
    """Add the work units of a YAML, TOML or JSON file (or of standard input: -), all of them or none."""
    from orchestrator_app.units_file import load_units

    units = load_units(file)
    answer = place.client().change("/units", {"units": units})
    number = len(units)
    text.show(answer, as_json, lambda _: f"Submitted {number} unit{'s' if number > 1 else ''}.")


@click.command("edit", short_help="Change what is asked of a unit.")
@name_argument
@field_options
@click.option(
    "--version", type=int, metavar="N", help="Only if the unit still has this version (`orch show` says which)."
)
@json_option
@click.pass_obj
def edit_command(place: Place, name: str, version: int | None, as_json: bool, **given: Any) -> None:
    """Change fields of a unit; the others stay. A list is replaced as a whole: --after '' clears it."""
    fields = fields_of(given)
    check_name(name)
    if not fields:
        raise UsageError(f"say what to change in {name}: see `orch edit --help`")
    answer = place.client().patch(unit_path(name), fields, version)
    text.show(answer, as_json, lambda changed: f"Changed {name}: {', '.join(fields)} (version {changed['version']}).")
