"""The commands, by what they are for; program.py says which module has which. Each is called NAME_command."""

from __future__ import annotations

import click

from orchestrator_app.cli import completing

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
watch_option = click.option(
    "-w", "--watch", is_flag=True, help="Show it live until Ctrl-C; in a pipe a block, with --json a line, per change."
)
names_argument = click.argument("names", metavar="NAME...", nargs=-1, required=True, shell_complete=completing.units())
some_names_argument = click.argument("names", metavar="[NAME...]", nargs=-1, shell_complete=completing.units())
name_argument = click.argument("name", metavar="NAME", shell_complete=completing.units())
needing_argument = click.argument("name", metavar="NAME", shell_complete=completing.units("NEEDS_ATTENTION"))
