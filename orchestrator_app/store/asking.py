"""Asks the exported log one question in SQL, in a disposable process that is killed at the deadline."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import duckdb

from orchestrator_app.errors import OrchError, UsageError
from orchestrator_app.states import MOVES
from orchestrator_app.store.log import SCHEMA_VERSION
from orchestrator_app.store.records import TABLES

#: Seconds, bytes of memory and bytes of answer that one question may use.
SECONDS = 30.0
MEMORY = 1 << 30
ANSWER = 64 << 20
LONGEST = 100_000

#: Seconds between two looks whether anybody still waits for the answer.
LOOK = 0.2

#: Says whether nobody waits any more; None where somebody always does.
Gone = Callable[[], bool] | None

NOBODY = "nobody waits for the answer to the query any more: it was stopped"
_PROGRAM = Path(__file__).with_name("sandbox.py")
_KEPT = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "SYSTEMROOT")


class Packed(NamedTuple):
    """An answer as an Arrow stream or a Parquet file. `truncated`: it was cut behind so many `rows`."""

    content: bytes
    rows: int
    truncated: bool


def ask(folder: Path, seq: int, sql: str, limit: int, *, seconds: float = SECONDS, gone: Gone = None) -> dict[str, Any]:
    """The answer to one SELECT over the files in `folder`, as the log was at row `seq`.

    `{"columns": [...], "types": [DuckDB's names], "rows": [[...]], "truncated": bool}`; at most `limit` rows. Times are
    text (UTC, as in 2026-01-31T12:00:00.000000Z), JSON columns are JSON text, lists and structs are lists and objects.
    `gone()` says whether nobody waits for the answer any more. Raises UsageError for what is wrong with the SQL,
    OrchError for a question that takes too long or too much, or that nobody waits for.
    """
    out = _run(folder, seq, sql, limit, "json", seconds, gone)
    answer = json.loads(out)
    if "error" in answer:
        raise UsageError(f"the query can't be answered: {answer['error']}")
    return answer


def ask_packed(
    folder: Path, seq: int, sql: str, limit: int, form: str, *, seconds: float = SECONDS, gone: Gone = None
) -> Packed:
    """The same as an Arrow stream (`form` is "arrow") or a Parquet file ("parquet"), with DuckDB's own types."""
    head, _, content = _run(folder, seq, sql, limit, form, seconds, gone).partition(b"\n")
    about = json.loads(head)
    if "error" in about:
        raise UsageError(f"the query can't be answered: {about['error']}")
    return Packed(content, about["rows"], about["truncated"])


def _run(folder: Path, seq: int, sql: str, limit: int, form: str, seconds: float, gone: Gone) -> bytes:
    """What the disposable process printed."""
    if len(sql) > LONGEST:
        raise UsageError(f"the query is {len(sql):,} characters long, and {LONGEST:,} is the most")
    question = {
        "sql": sql.encode("utf-8", "replace").decode(),
        "folder": str(folder),
        "seq": seq,
        "limit": limit,
        "format": form,
        "bytes": ANSWER,
        "memory": MEMORY,
        "seconds": int(seconds) + 2,
        "schema": str(_PROGRAM.with_name("schema.sql")),
        "version": SCHEMA_VERSION,
        "tables": list(TABLES.values()),
        "moves": [[source, trigger, target] for (source, trigger), target in MOVES.items()],
        "libraries": str(Path(duckdb.__file__).parents[1]),
    }
    if gone is not None and gone():
        raise OrchError(NOBODY)  # it may have waited long for its turn
    child = subprocess.Popen(
        [sys.executable, "-I", str(_PROGRAM)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd="/",
        env={name: os.environ[name] for name in _KEPT if name in os.environ},
    )
    with child:
        try:
            out, err = _communicate(child, json.dumps(question).encode(), seconds, gone)
        finally:
            child.kill()
    if child.returncode:
        raise OrchError(_fate(child.returncode, err.decode(errors="replace")))
    return out


def _communicate(child: subprocess.Popen, question: bytes, seconds: float, gone: Gone) -> tuple[bytes, bytes]:
    until = time.monotonic() + seconds
    said: bytes | None = question
    while True:
        try:
            return child.communicate(said, timeout=min(LOOK, max(0.0, until - time.monotonic())))
        except subprocess.TimeoutExpired:
            said = None  # it was taken at the first call
            if gone is not None and gone():
                raise OrchError(NOBODY) from None
            if time.monotonic() >= until:
                raise OrchError(f"the query took longer than {seconds:g} s and was stopped: ask for less") from None


def _fate(code: int, said: str) -> str:
    if code == -signal.SIGXCPU:
        return "the query took too much time and was stopped: ask for less"
    last = said.strip().splitlines()[-1:] or [""]
    if code < 0 or "MemoryError" in last[0] or "bad_alloc" in said:
        return f"the query needed more than it may use ({MEMORY >> 20} MB of memory) and was stopped: ask for less"
    return f"the process that answers queries failed ({last[0][:200]})"
