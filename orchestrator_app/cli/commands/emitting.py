"""`orch emit` as the other commands see it: in the list, in the documentation, and where a shell completes it."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem

from orchestrator_app.cli import emit


def offer(context: click.Context, _: click.Parameter | None, given: str) -> list[CompletionItem]:
    said = [*(context.params.get("arguments") or ())]
    if not said:
        offered = {name: meaning for name, (meaning, _, _) in emit.TYPES.items()}
    elif said[-1].startswith("--"):
        offered = dict.fromkeys(emit.FIELDS.get(said[-1][2:], ({}, ""))[0].get("choices", ()), "")
    else:
        fields = [field.replace("_", "-") for field in emit.TYPES.get(said[0], ("", (), ()))[1]]
        offered = {f"--{name}": emit.FIELDS[name][1] for name in fields if f"--{name}" not in said}
    return [CompletionItem(word, help=about) for word, about in offered.items() if word.startswith(given)]


class Emit(click.Command):
    """Its words go on as they are; what fits them is in emit's own tables."""

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        return offer(ctx, None, incomplete)


@click.command("emit", cls=Emit, short_help="Say something from within an attempt.", add_help_option=False,
               context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})  # fmt: skip
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, shell_complete=offer)
@click.pass_context
def emit_command(context: click.Context, arguments: tuple[str, ...]) -> None:
    context.exit(emit.main(arguments))
