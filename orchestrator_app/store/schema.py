"""Making an empty database, and saying in it what made it."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import duckdb

from orchestrator_app.claim import installed_version
from orchestrator_app.states import MOVES
from orchestrator_app.store.files import DATABASE, sync_file, sync_folder
from orchestrator_app.store.soundness import FORMAT


def create(folder: Path) -> None:
    """Build an empty log aside and move it into place, so that a crash leaves none or a whole one."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    building = folder / f"{DATABASE}.new"
    for leftover in (building, folder / f"{DATABASE}.new.wal"):
        leftover.unlink(missing_ok=True)
    build(building)
    building.replace(folder / DATABASE)
    sync_folder(folder)


def build(path: Path) -> None:
    """Make an empty database of this version's format. Raises duckdb.Error or OSError."""
    with duckdb.connect(str(path)) as connection:
        connection.execute(files(__package__).joinpath("schema.sql").read_text())
        moves = [[source, trigger, target] for (source, trigger), target in MOVES.items()]
        connection.executemany("INSERT INTO rule VALUES (?, ?, ?)", moves)
        write_meta(connection)
    sync_file(path)


def write_meta(connection: duckdb.DuckDBPyConnection) -> None:
    """Say in a database which format it has and what made it."""
    connection.executemany(
        "INSERT INTO meta VALUES (?, ?)", [["schema", str(FORMAT)], ["made by", installed_version()]]
    )
