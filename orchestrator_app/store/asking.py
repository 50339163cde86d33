"""Asks the exported log one question in SQL, in a disposable process that is killed at the deadline."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

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

_PROGRAM = Path(__file__).with_name("sandbox.py")
_KEPT = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "SYSTEMROOT")


def ask(folder: Path, seq: int, sql: str, limit: int, *, seconds: float = SECONDS) -> dict[str, Any]:
    """The answer to one SELECT over the files in `folder`, as the log was at row `seq`.

    `{"columns": [...], "types": [DuckDB's names], "rows": [[...]], "truncated": bool}`; at most `limit` rows. Times are
    text (UTC, as in 2026-01-31T12:00:00.000000Z), JSON columns are JSON text, lists and structs are lists and objects.
    Raises UsageError for what is wrong with the SQL, OrchError for a question that takes too long or too much.
    """
    if len(sql) > LONGEST:
        raise UsageError(f"the query is {len(sql):,} characters long, and {LONGEST:,} is the most")
    question = {
        "sql": sql.encode("utf-8", "replace").decode(),
        "folder": str(folder),
        "seq": seq,
        "limit": limit,
        "bytes": ANSWER,
        "memory": MEMORY,
        "seconds": int(seconds) + 2,
        "schema": str(_PROGRAM.with_name("schema.sql")),
        "version": SCHEMA_VERSION,
        "tables": list(TABLES.values()),
        "moves": [[source, trigger, target] for (source, trigger), target in MOVES.items()],
        "libraries": str(Path(duckdb.__file__).parents[1]),
    }
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
            out, err = child.communicate(json.dumps(question).encode(), timeout=seconds)
        except subprocess.TimeoutExpired:
            raise OrchError(f"the query took longer than {seconds:g} s and was stopped: ask for less") from None
        finally:
            child.kill()
    if child.returncode:
        raise OrchError(_fate(child.returncode, err.decode(errors="replace")))
    answer = json.loads(out)
    if "error" in answer:
        raise UsageError(f"the query can't be answered: {answer['error']}")
    return answer


def _fate(code: int, said: str) -> str:
    if code == -signal.SIGXCPU:
        return "the query took too much time and was stopped: ask for less"
    last = said.strip().splitlines()[-1:] or [""]
    if code < 0 or "MemoryError" in last[0] or "bad_alloc" in said:
        return f"the query needed more than it may use ({MEMORY >> 20} MB of memory) and was stopped: ask for less"
    return f"the process that answers queries failed ({last[0][:200]})"
