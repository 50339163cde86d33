"""The Parquet files under `export/` as a witness: what they hold was in the log."""

from __future__ import annotations

from pathlib import Path

import duckdb

from orchestrator_app.store.records import TABLES


def files_of(folder: Path, table: str) -> list[Path]:
    """The complete files of a table, oldest rows first."""
    return sorted((folder / table).glob("day=*/*.parquet"), key=lambda file: file.name)


def as_text(path: Path) -> str:
    """A path as an SQL literal."""
    return "'" + str(path).replace("'", "''") + "'"


def high_water(folder: Path) -> int:
    """The number of the newest row in the files; 0 where there are none or none can be read."""
    newest = [files[-1] for table in TABLES.values() if (files := files_of(folder, table))]
    highest = 0
    if newest:
        with duckdb.connect() as connection:
            for file in newest:
                try:
                    rows = connection.execute(f"SELECT max(seq) FROM read_parquet({as_text(file)})").fetchall()
                except duckdb.Error:
                    continue
                highest = max(highest, rows[0][0] or 0)
    return highest
