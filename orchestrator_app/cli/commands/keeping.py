"""Keeping the log: back it up, restore it, check and repair it."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click

from orchestrator_app.cli import completing, text
from orchestrator_app.cli.commands import json_option
from orchestrator_app.cli.place import Place
from orchestrator_app.cli.source import Live, open_source

COPY_PATIENCE = 3600.0
"""Seconds to wait for the server to have copied its files."""


@click.command("backup", short_help="Write the whole log into one file.")
@click.argument("file", metavar="FILE", shell_complete=completing.files)
@click.option("--force", is_flag=True, help="Replace FILE if it is there.")
@json_option
@click.pass_obj
def backup_command(place: Place, file: str, force: bool, as_json: bool) -> None:
    """Write everything committed so far into one database file, also while the server runs: nothing waits for it.

    Every row is read back before the file gets its name. `orch restore FILE` takes it back; DuckDB opens it as it is.
    """
    from orchestrator_app import keeping

    source, snapshot = open_source(place), None
    if isinstance(source, Live):
        client = source.client

        def snapshot(folder: str) -> int:
            return client.post("/backup", {"folder": folder}, patience=COPY_PATIENCE)["seq"]

    target = Path(file).absolute()
    began = time.monotonic()

    def tell(what: str) -> None:
        if sys.stderr.isatty() or time.monotonic() - began > 1:
            print(f"orch: {what} …", file=sys.stderr, flush=True)

    content, size = keeping.backup(place.state, target, force=force, snapshot=snapshot, tell=tell)
    answer = {"file": str(target), "seq": content.seq, "rows": content.rows, "bytes": size, "format": content.format}
    told = f"{content.rows} rows, up to record {content.seq}, in {text.safe(target)} ({size / 1e6:.1f} MB)"
    text.show(answer, as_json, lambda _: told)


@click.command("restore", short_help="Put a backup in the place of the log.")
@click.argument("file", metavar="FILE", shell_complete=completing.files)
@json_option
@click.pass_obj
def restore_command(place: Place, file: str, as_json: bool) -> None:
    """Put the log of a backup in the place of the present one, which is kept beside. The server must be stopped.

    Output of attempts that the backup doesn't know is moved to the same place. Branches, worktrees and the base branch
    stay as they are: git is not taken back.
    """
    from orchestrator_app import keeping

    answer = keeping.restore(place.state, Path(file).absolute())
    aside = answer["attempts_set_aside"]
    lines = [
        f"restored {answer['rows']} rows, up to record {answer['seq']}, of {answer['units']} units; the newest "
        f"change is of {text.clock(answer['newest'])}",
        f"what was there before is in {text.safe(answer['kept'])}",
    ]
    if aside:
        lines.append(f"with it the output of {len(aside)} later attempts: {text.safe(', '.join(aside[:5]))}")
    text.show(answer, as_json, lambda _: "\n".join(lines))


@click.command("check", short_help="Prove that the log is sound; repair it.")
@click.option("--repair", is_flag=True, help="Restore what a damaged log's files still hold.")
@json_option
@click.pass_context
def check_command(context: click.Context, repair: bool, as_json: bool) -> None:
    """Run the log's invariants: every transition follows from the one before and is legal, every record is there,
    every unit stands where its blockers and open items say. Exit code 1 with the faults listed, if there are any.

    Works on a stopped project too. With --repair the server must be stopped: the log is put together anew from its
    database, write-ahead log, journal and Parquet files, and ends where the first row is missing. The damaged files are
    kept. Exit code 1 if something could not be restored.
    """
    if repair:
        context.exit(_repair(context.obj, as_json))
    answer = open_source(context.obj).faults()
    faults = answer["faults"]
    text.show(
        answer,
        as_json,
        lambda _: f"{len(faults)} faults" if faults else f"sound: {answer['seq']} records, {answer['units']} units",
    )
    for fault in [] if as_json else faults:
        print(f"orch: {text.one_line(fault)}", file=sys.stderr)
    context.exit(1 if faults else 0)


def _repair(place: Place, as_json: bool) -> int:
    from orchestrator_app import keeping

    answer = keeping.repair(place.state)
    text.show(answer, as_json, lambda _: "\n".join(map(text.one_line, answer["told"])))
    return 1 if answer["lost"] else 0


@click.command("completion", short_help="Let a shell complete commands and names when Tab is pressed.")
@click.argument("shell", type=click.Choice(completing.SHELLS))
def completion_command(shell: str) -> None:
    """Print the script by which a shell completes commands, options, names of units and statuses.

    \b
    bash:  echo 'eval "$(orch completion bash)"' >> ~/.bashrc
    zsh:   echo 'eval "$(orch completion zsh)"' >> ~/.zshrc
    fish:  orch completion fish > ~/.config/fish/completions/orch.fish
    """
    print(completing.script(shell))
