"""SQL and Parquet over a project's log: through the files under `export/`, never through the live database."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from orchestrator_app.client import Client
from orchestrator_app.errors import UsageError
from orchestrator_app.settings import Project
from orchestrator_app.store.asking import Gone, Packed, ask, ask_packed
from orchestrator_app.store.export import export_stopped, files_of, row_counts
from orchestrator_app.store.exporter import Exporter
from orchestrator_app.store.records import TABLES

#: Rows of one answer, if the question doesn't say.
LIMIT = 10_000


def query(
    project: Project, sql: str, limit: int = LIMIT, *, exporter: Exporter | None = None, gone: Gone = None
) -> dict[str, Any]:
    """The answer to one SELECT over the log's tables and views, with everything committed so far.

    `{"columns": [...], "types": [...], "rows": [[...]], "truncated": bool}`, see `store.asking.ask`. `exporter` is
    that of the orchestrator in this process; left out, the project's server is asked, or the files if none runs.
    `gone()` says whether nobody waits for the answer any more.
    Raises UsageError for what is wrong with the SQL, OrchError for what takes too long, StoreError when the log can't
    be read.
    """
    if exporter is not None:
        return ask(exporter.folder, exporter.bring_up_to_date(), sql, limit, gone=gone)
    server = Client.of(project.state)
    if server is not None:
        return server.post("/query", {"sql": sql, "limit": limit})
    return ask(project.state / "export", export_stopped(project.state), sql, limit)


def query_packed(sql: str, limit: int, form: str, *, exporter: Exporter, gone: Gone = None) -> Packed:
    """The same as an Arrow stream (`form` "arrow") or a Parquet file ("parquet"), for the server itself."""
    return ask_packed(exporter.folder, exporter.bring_up_to_date(), sql, limit, form, gone=gone)


def export(
    project: Project, directory: Path | str | None = None, *, exporter: Exporter | None = None
) -> dict[str, Any]:
    """Bring the Parquet files under `.orchestrator/export/` up to date, and copy them into `directory` if one is given.

    `{"directory": str, "seq": int, "rows": {table: int}, "files": [{"path": str, "rows": int}]}`: everything up to
    `seq` is in the files, whose paths are relative to the directory. What was copied before is not copied again.
    Raises UsageError when the directory can't be used or holds files of another log.
    """
    source = project.state / "export"
    if exporter is not None:
        seq = exporter.bring_up_to_date()
    elif server := Client.of(project.state):
        seq = server.post("/export", {})["seq"]
    else:
        seq = export_stopped(project.state)
    target = source if directory is None else Path(directory).absolute()
    files = {table: files_of(source, table) for table in TABLES.values()}
    if target.resolve() != source.resolve():
        _refuse_foreign(source, target)
        files = {table: _copied(source, target, table, listed) for table, listed in files.items()}
    counts = {table: dict(zip(listed, row_counts(listed), strict=True)) for table, listed in files.items()}
    return {
        "directory": str(target),
        "seq": seq,
        "rows": {table: sum(of_file.values()) for table, of_file in counts.items()},
        "files": [
            {"path": str(file.relative_to(target)), "rows": rows}
            for of_file in counts.values()
            for file, rows in of_file.items()
        ],
    }


def _refuse_foreign(source: Path, target: Path) -> None:
    """Mixed with the files of another log, both would be worthless."""
    for table in TABLES.values():
        for file in files_of(target, table):
            if not (source / file.relative_to(target)).exists():
                raise UsageError(f"{file} is not of this log: export into an empty directory")


def _copied(source: Path, target: Path, table: str, listed: list[Path]) -> list[Path]:
    """Copy those of the files that are new or have grown, each in one step; where they are then."""
    names = [file.relative_to(source) for file in listed]
    try:
        for name in names:
            old, new = source / name, target / name
            if not new.exists() or _mark(old) != _mark(new):
                new.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(old, target / table / ".draft")
                os.replace(target / table / ".draft", new)
    except OSError as error:
        raise UsageError(f"{target} can't be written ({error.strerror}): choose another directory") from None
    return [target / name for name in names]


def _mark(file: Path) -> tuple[int, int]:
    status = file.stat()
    return status.st_size, status.st_mtime_ns
