"""`orch emit` as the other commands see it: in the list, and in the documentation."""

from __future__ import annotations

import click

from orchestrator_app.cli import emit


@click.command("emit", short_help="Say something from within an attempt.", add_help_option=False,
               context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})  # fmt: skip
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def emit_command(context: click.Context, arguments: tuple[str, ...]) -> None:
    context.exit(emit.main(arguments))
