"""The log: ask it in SQL, export it."""

from __future__ import annotations

import csv
import io
import sys
from pathlib import Path
from typing import Any

import click

from orchestrator_app.cli import text
from orchestrator_app.cli.commands import json_option
from orchestrator_app.cli.place import Place
from orchestrator_app.cli.source import Live, open_source

QUERY_PATIENCE = 120.0
"""Seconds to wait for the answer to a query: one takes 30 at most, and others may be before it."""


@click.command("query", short_help="Ask the log in SQL.")
@click.argument("sql", metavar="SQL")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=10_000, show_default=True, metavar="N",
              help="At most so many rows.")  # fmt: skip
@json_option
@click.pass_obj
def query_command(place: Place, sql: str, as_csv: bool, limit: int, as_json: bool) -> None:
    """Ask the log one SELECT. SQL of - is standard input. It can change nothing. Works on a stopped project too.

    \b
    orch query "SELECT unit, phase, seconds FROM phase_duration ORDER BY seconds DESC LIMIT 5"
    """
    if sql == "-":
        sql = sys.stdin.read()
    source = open_source(place)
    if isinstance(source, Live):
        table = source.client.post("/query", {"sql": sql, "limit": limit}, patience=QUERY_PATIENCE)
    else:
        from orchestrator_app import analysis

        table = analysis.query(place.project, sql, limit)
    _print_table(table, as_csv, as_json)
    if table.get("truncated"):
        print(f"orch: only the first {limit:,} rows: see --limit", file=sys.stderr)


def _print_table(table: dict[str, Any], as_csv: bool, as_json: bool) -> None:
    columns, rows = table["columns"], table["rows"]
    if as_json:
        print(text.as_json([dict(zip(columns, row, strict=True)) for row in rows]))
    elif as_csv:
        lines = io.StringIO()
        writer = csv.writer(lines, lineterminator="\n")
        writer.writerows([columns, *rows])
        sys.stdout.write(lines.getvalue())
    else:
        numbers = [name for at, name in enumerate(columns) if rows and all(_is_number(row[at]) for row in rows)]
        cells = [
            [text.as_json(cell, indent=None) if isinstance(cell, dict | list) else cell for cell in row] for row in rows
        ]
        print(text.table(columns, cells, right=numbers))


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


@click.command("export", short_help="Write the log's tables as Parquet files.")
@click.argument("directory", metavar="[DIR]", required=False)
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
