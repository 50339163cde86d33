"""Questions to the log: SQL in any format, the Parquet export, and what went wrong, grouped."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from tornado.web import HTTPError

from orchestrator_app import analysis, failures
from orchestrator_app.api.routing import Answer, Call, Field, Route
from orchestrator_app.api.rows import PAGE, limit_of, paged, place_of
from orchestrator_app.api.shapes import ANY, COUNT, FLAG, TEXT, TIME, listed, page, thing
from orchestrator_app.errors import UsageError
from orchestrator_app.store.asking import LONGEST

ROWS = 100_000
TYPES = {
    "json": "application/json",
    "csv": "text/csv; charset=utf-8",
    "arrow": "application/vnd.apache.arrow.stream",
    "parquet": "application/vnd.apache.parquet",
}
"""The media type of each format that an answer may have."""
AT_ONCE = 2
QUERIES = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="orch-query")
"""Queries may take half a minute each: more than these at once wait here, and hold up no other request."""


MOST = 50
"""Queries that may be under way or wait for their turn."""
_asked: set[object] = set()


async def query(call: Call) -> Any:
    if len(_asked) >= MOST:
        raise HTTPError(503, reason=f"{MOST} queries are under way or wait already: ask again in a moment")
    _asked.add(call.gone)
    try:
        return await _query(call)
    finally:
        _asked.discard(call.gone)


async def _query(call: Call) -> Any:
    limit, wanted = call.body.get("limit") or analysis.LIMIT, call.body.get("format") or _accepted(call.accepts)
    sql, exporter, gone = call.body["sql"], call.orchestrator.exporter, call.gone.is_set
    if wanted in ("arrow", "parquet"):
        ask = partial(analysis.query_packed, sql, limit, wanted, exporter=exporter, gone=gone)
        packed = await asyncio.get_running_loop().run_in_executor(QUERIES, ask)
        return _answer(packed.content, wanted, packed.truncated)
    ask = partial(analysis.query, call.server.project, sql, limit, exporter=exporter, gone=gone)
    table = await asyncio.get_running_loop().run_in_executor(QUERIES, ask)
    if wanted == "json":
        return table
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(table["columns"])
    for row in table["rows"]:
        writer.writerow([json.dumps(cell) if isinstance(cell, list | dict) else cell for cell in row])
    return _answer(text.getvalue().encode(errors="replace"), wanted, table["truncated"])


def _accepted(accepts: str) -> str:
    """The format that the request's `Accept` names; JSON if it names none."""
    return next((form for form, kind in TYPES.items() if kind.partition(";")[0] in accepts), "json")


def _answer(content: bytes, form: str, truncated: bool) -> Answer:
    return Answer(content, headers={"Content-Type": TYPES[form], "X-Orch-Truncated": str(truncated).lower()})


async def export(call: Call) -> Any:
    return await call.aside(partial(analysis.export, call.server.project, exporter=call.orchestrator.exporter))


async def errors(call: Call) -> Any:
    since, place = _moment(call.query.get("since", "86400")), place_of(call)
    search, most = call.query.get("search", ""), place + limit_of(call) + 1
    summary = await call.aside(partial(failures.summary, call.orchestrator, since, most, search=search))
    found, following = paged(summary["found"][place:], call)
    return {"since": since, **summary, "found": found, "next": following}


def _moment(text: str) -> datetime:
    """A time as it is said (ISO 8601, UTC unless it has an offset) or so many seconds ago; UTC without a zone."""
    now = datetime.now(UTC).replace(tzinfo=None)
    try:
        if text.isdecimal():
            return now - timedelta(seconds=int(text))
        moment = datetime.fromisoformat(text)
        return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment
    except (ValueError, OverflowError):
        raise UsageError(f"since must be a time like {now:%Y-%m-%dT%H:%M:%SZ}, or seconds before now") from None


ROUTES = (
    Route(
        "POST",
        "/query",
        "Ask the log in SQL. It runs in a process of its own on a copy, can change nothing, and ends when you hang up."
        f" {AT_ONCE} are answered at once; others wait, {MOST} in all at most.",
        query,
        reads=True,
        gives=thing(columns=listed(TEXT), types=listed(TEXT), rows=listed(listed(ANY)), truncated=FLAG),
        kinds=tuple(kind.partition(";")[0] for form, kind in TYPES.items() if form != "json"),
        refuses=(409,),
        body=(
            Field("sql", "string", "one SELECT", required=True, rule={"minLength": 1, "maxLength": LONGEST}),
            Field("limit", "integer", f"at most so many rows; {ROWS} at most", rule={"minimum": 1, "maximum": ROWS}),
            Field(
                "format",
                "string",
                "json, csv, arrow (a stream) or parquet; or say it in `Accept`. Whether the answer was cut at its limit"
                " is in `X-Orch-Truncated`, in JSON in `truncated`",
                rule={"enum": list(TYPES)},
            ),
        ),
    ),
    Route(
        "POST",
        "/export",
        "Bring the Parquet files under .orchestrator/export up to date; `seq` says how far they are.",
        export,
        body=(),
        gives=thing(
            directory=TEXT,
            seq=COUNT,
            rows={"type": "object", "additionalProperties": COUNT},
            files=listed(thing(path=TEXT, rows=COUNT)),
        ),
    ),
    Route(
        "GET",
        "/errors/summary",
        "What went wrong lately: equal errors as one, the most frequent first, with the units and what to do.",
        errors,
        gives=page(
            "found",
            thing(
                key=TEXT,
                kind=TEXT,
                message=TEXT,
                sample=TEXT,
                count=COUNT,
                first=TIME,
                last=TIME,
                units=listed(TEXT),
                total=COUNT,
                bars=listed(COUNT),
            ),
            since=TIME,
            errors=COUNT,
            groups=COUNT,
        ),
        query=(
            Field(
                "since",
                "string",
                "only from this time on (ISO 8601), or of so many seconds; a day's if not given",
                rule={"anyOf": [{"format": "date-time"}, {"format": "date"}, {"pattern": "^[0-9]{1,9}$"}]},
            ),
            Field("search", "string", "only those whose words or unit hold this"),
            *PAGE,
        ),
    ),
)
