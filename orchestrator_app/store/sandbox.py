"""Runs one question in SQL on the Parquet export, in a process of its own that is thrown away afterwards.

This file is a program: it is run by its path, gets the question as JSON on standard input, and prints the answer: JSON,
or a line of JSON (`rows`, `truncated`; or only `error`) and behind it an Arrow stream or a Parquet file. It imports
nothing of this package. What it holds on to is a copy in memory, so the worst that a question can do is to use up what
the process was given; whoever started it (`asking.py`) kills it at the deadline.
"""

from __future__ import annotations

import io
import json
import math
import os
import re
import resource
import sys
from contextlib import suppress
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

FETCH = 1_000
ERROR_LENGTH = 500
NICE = 15
"""How far a question stands back behind the scheduler, the server and the agents where processors are scarce."""


def main() -> None:
    question = json.load(sys.stdin)
    _limit(question)
    try:
        import duckdb
    except ImportError:
        sys.path.append(question["libraries"])  # where an isolated interpreter doesn't look by itself
        import duckdb
    try:
        answer = _answer(duckdb, question)
    except (duckdb.Error, Refused) as error:
        answer = json.dumps({"error": _one_line(error)}).encode()
    sys.stdout.buffer.write(answer)


class Refused(Exception):
    """The statement is not one that may be asked."""


def _limit(question: dict[str, Any]) -> None:
    """What the system itself sees to, whatever DuckDB does. Systems other than Linux may not know each of these."""
    with suppress(OSError):
        os.nice(NICE)
    seconds, space = question["seconds"], 4 * question["memory"]
    for kind, most in (
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_AS, space),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 64),
    ):
        _, hard = resource.getrlimit(kind)
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        with suppress(OSError, ValueError):
            resource.setrlimit(kind, (most, most))


def _answer(duckdb: Any, question: dict[str, Any]) -> bytes:
    connection = duckdb.connect(
        ":memory:",
        config={
            "threads": 1,
            "memory_limit": f"{question['memory'] >> 20}MiB",
            "temp_directory": "",
            "python_enable_replacements": False,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        },
    )
    connection.execute("SET TimeZone = 'UTC'")
    _load(connection, question)
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
    statements = connection.extract_statements(question["sql"])
    if len(statements) != 1:
        raise Refused(f"a query is exactly one statement, and this is {len(statements)}")
    (statement,) = statements
    if statement.type == duckdb.StatementType.MULTI:
        raise Refused(
            "a query is one SELECT, and this is several: write PIVOT with its values, as ON status IN ('DONE')"
        )
    if statement.type not in (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN):
        raise Refused(f"a query is a SELECT, and this is {statement.type.name.replace('_', ' ')}")
    connection.execute("BEGIN TRANSACTION READ ONLY")
    if question["format"] != "json":
        # Not by `execute`: what that gives to Arrow is made whole first, however long it is.
        return _as_arrow(connection.sql(statement), question["format"], question["limit"], question["bytes"])
    connection.execute(statement)
    if any("TIME ZONE" in str(column[1]) for column in connection.description):
        connection.execute(_without_zones(statement.query, connection.description))
    return _encode(connection, question["limit"], question["bytes"]).encode()


def _as_arrow(relation: Any, form: str, limit: int, most: int) -> bytes:
    """The answer as an Arrow stream or a Parquet file, behind a line that says how many rows, and whether cut."""
    from pyarrow import ipc, parquet

    # Arrow has no word for some of DuckDB's types: JSON is text to it.
    types = {"types": json.dumps([str(kind) for kind in relation.types])}
    reader = relation.to_arrow_reader(FETCH)
    file = io.BytesIO()
    rows, size, truncated = 0, 0, False
    open_writer = ipc.new_stream if form == "arrow" else parquet.ParquetWriter
    with open_writer(file, reader.schema.with_metadata(types)) as writer:
        for batch in reader:
            kept = batch.slice(0, limit - rows if size <= most else 0)
            truncated = kept.num_rows < batch.num_rows
            writer.write_batch(kept.replace_schema_metadata(types))
            rows, size = rows + kept.num_rows, size + kept.nbytes
            if truncated:
                break
    return json.dumps({"rows": rows, "truncated": truncated}).encode() + b"\n" + file.getvalue()


def _load(connection: Any, question: dict[str, Any]) -> None:
    """The tables and views of the log, with its rows up to `seq`."""
    connection.execute(Path(question["schema"]).read_text())
    connection.executemany("INSERT INTO rule VALUES (?, ?, ?)", question["moves"])
    connection.execute("INSERT INTO meta VALUES ('schema', ?)", [question["version"]])
    for table in question["tables"]:
        files = [str(file) for file in sorted((Path(question["folder"]) / table).glob("day=*/*.parquet"))]
        if files:
            connection.execute(
                f"INSERT INTO {table} SELECT * FROM read_parquet(?, hive_partitioning = false) WHERE seq <= ?",
                [files, question["seq"]],
            )


def _without_zones(sql: str, description: list[tuple]) -> str:
    """The same with its times as UTC: DuckDB needs one more library to give a time with a zone to Python."""
    names = [f"c{index}" for index in range(len(description))]
    given = ", ".join(
        f'{name}{_cast(str(column[1]))} AS "{column[0].replace(chr(34), chr(34) * 2)}"'
        for name, column in zip(names, description, strict=True)
    )
    return f"SELECT {given} FROM (\n{sql.strip().rstrip(';')}\n) AS answer({', '.join(names)})"


def _cast(kind: str) -> str:
    if kind == "TIMESTAMP WITH TIME ZONE":
        return "::TIMESTAMP"
    return "::VARCHAR" if "TIME ZONE" in kind else ""


def _encode(connection: Any, limit: int, most: int) -> str:
    """The answer as JSON, cut (and said to be) behind `limit` rows or `most` bytes."""
    columns = [column[0] for column in connection.description]
    types = [str(column[1]) for column in connection.description]
    rows: list[str] = []
    size, truncated = 0, False
    while not truncated and (batch := connection.fetchmany(FETCH)):
        for row in batch:
            text = json.dumps([_plain(value) for value in row], allow_nan=False)
            size += len(text)
            if len(rows) == limit or size > most:
                truncated = True
                break
            rows.append(text)
    head = json.dumps({"columns": columns, "types": types, "truncated": truncated})
    return f'{head[:-1]}, "rows": [{", ".join(rows)}]}}'


def _plain(value: Any) -> Any:
    """A value as JSON knows it: times are UTC, spans are seconds, bytes are hexadecimal digits."""
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else None
        case datetime():
            return value.isoformat(timespec="microseconds") + "Z"
        case date() | time():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case Decimal():
            return float(value)
        case bytes() | bytearray() | memoryview():
            return bytes(value).hex()
        case dict():
            return {str(key): _plain(one) for key, one in value.items()}
        case list() | tuple() | set():
            return [_plain(one) for one in value]
    return str(value)


def _one_line(error: Exception) -> str:
    """What DuckDB says, without the lines that repeat the statement."""
    text = re.split(r"\n+\s*LINE \d+:", str(error).strip())[0]
    return " ".join(" ".join(text.splitlines()[:2]).split())[:ERROR_LENGTH]


if __name__ == "__main__":
    main()
