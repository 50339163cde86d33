"""The log: ask it in SQL, export it."""

from __future__ import annotations

import csv
import io
import os
import sys
from pathlib import Path
from typing import Any

import click

from orchestrator_app.cli import completing, text
from orchestrator_app.cli.commands import json_option
from orchestrator_app.cli.place import Place
from orchestrator_app.cli.source import Live, Stopped, open_source
from orchestrator_app.errors import OrchError, UsageError

QUERY_PATIENCE = 120.0
"""Seconds to wait for the answer to a query: one takes 30 at most, and others may be before it."""
BINARY = ("arrow", "parquet")
FORMATS = ("table", "json", "csv", *BINARY)
"""What an answer can be printed as; the first for people."""


@click.command("query", short_help="Ask the log in SQL.")
@click.argument("sql", metavar="SQL")
@click.option(
    "--format", "form", type=click.Choice(FORMATS), help="What it prints; else what FILE ends in, or a table."
)
@click.option(
    "-o",
    "--output",
    "file",
    metavar="FILE",
    shell_complete=completing.files,
    help="Write it there; - is standard output.",
)
@click.option("--limit", type=click.IntRange(1, 100_000), default=10_000, show_default=True, metavar="N",
              help="At most so many rows.")  # fmt: skip
@json_option
@click.pass_obj
def query_command(place: Place, sql: str, form: str | None, file: str | None, limit: int, as_json: bool) -> None:
    """Ask the log one SELECT. SQL of - is standard input. It can change nothing. Works on a stopped project too.

    \b
    orch query "SELECT unit, phase, seconds FROM phase_duration ORDER BY seconds DESC LIMIT 5"
    orch query "SELECT * FROM transition" -o transitions.parquet
    """
    if as_json and form not in (None, "json"):
        raise UsageError(f"give either --json or --format {form}")
    path = None if file in (None, "-") else Path(file)
    form = "json" if as_json else form or _form_of(path)
    if form in BINARY and path is None and sys.stdout.isatty():
        raise UsageError(f"{form} is nothing for a terminal: give -o FILE, or a pipe")
    if path is not None and not path.absolute().parent.is_dir():
        raise UsageError(f"{path} can't be written: there is no directory {path.absolute().parent}")
    if sql == "-":
        sql = sys.stdin.read()
    source = open_source(place)
    content, truncated = (_packed if form in BINARY else _text)(source, sql, limit, form)
    if path is None:
        sys.stdout.flush()
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
    else:
        _write(path, content)
        print(f"Wrote {text.safe(path)}, {len(content):,} bytes.")
    if truncated:
        print(f"orch: only the first {limit:,} rows: see --limit", file=sys.stderr)


def _form_of(path: Path | None) -> str:
    ending = "" if path is None else path.suffix.lower().removeprefix(".")
    return ending if ending in FORMATS else "table"


def _write(path: Path, content: bytes) -> None:
    """In one step: a reader finds the old file or the new one."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_bytes(content)
        os.replace(draft, path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise OrchError(f"{path} can't be written: {error.strerror}") from None


def _packed(source: Live | Stopped, sql: str, limit: int, form: str) -> tuple[bytes, bool]:
    """The answer in a binary format, with DuckDB's own types."""
    if isinstance(source, Live):
        body = {"sql": sql, "limit": limit, "format": form}
        reply = source.client.call("POST", "/query", body=body, patience=QUERY_PATIENCE)
        return reply.data, reply.headers["X-Orch-Truncated"] == "true"
    from orchestrator_app.store.asking import ask_packed
    from orchestrator_app.store.export import export_stopped

    packed = ask_packed(source.place.state / "export", export_stopped(source.place.state), sql, limit, form)
    return packed.content, packed.truncated


def _text(source: Live | Stopped, sql: str, limit: int, form: str) -> tuple[bytes, bool]:
    if isinstance(source, Live):
        answer = source.client.post("/query", {"sql": sql, "limit": limit}, patience=QUERY_PATIENCE)
    else:
        from orchestrator_app import analysis

        answer = analysis.query(source.place.project, sql, limit)
    columns, rows = answer["columns"], answer["rows"]
    shown = {"json": _json, "csv": _csv, "table": _table}[form](columns, rows)
    return shown.encode(errors="backslashreplace"), bool(answer.get("truncated"))


def _json(columns: list[str], rows: list[list[Any]]) -> str:
    return text.as_json([dict(zip(columns, row, strict=True)) for row in rows]) + "\n"


def _csv(columns: list[str], rows: list[list[Any]]) -> str:
    lines = io.StringIO()
    cells = [
        [text.as_json(cell, indent=None) if isinstance(cell, dict | list) else cell for cell in row] for row in rows
    ]
    csv.writer(lines, lineterminator="\n").writerows([columns, *cells])
    return lines.getvalue()


def _table(columns: list[str], rows: list[list[Any]]) -> str:
    numbers = [name for at, name in enumerate(columns) if rows and all(_is_number(row[at]) for row in rows)]
    cells = [
        [text.as_json(cell, indent=None) if isinstance(cell, dict | list) else cell for cell in row] for row in rows
    ]
    return text.table(columns, cells, right=numbers) + "\n"


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


@click.command("export", short_help="Write the log's tables as Parquet files.")
@click.argument("directory", metavar="[DIR]", required=False, shell_complete=completing.directories)
@json_option
@click.pass_obj
def export_command(place: Place, directory: str | None, as_json: bool) -> None:
    """Bring the Parquet files under .orchestrator/export up to date, and copy them into DIR if one is given.

    One folder per table, one file per day or part of it. Works on a stopped project too.
    """
    open_source(place)  # says so if there is no log yet
    from orchestrator_app import analysis

    answer = analysis.export(place.project, Path(directory).absolute() if directory else None)
    rows, files = sum(answer["rows"].values()), len(answer["files"])
    told = f"{rows} rows in {files} files under {text.safe(answer['directory'])}, up to record {answer['seq']}"
    text.show(answer, as_json, lambda _: told)
