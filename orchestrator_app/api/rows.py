"""Rows of the log as the API gives them."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from orchestrator_app.api.routing import Call, Field
from orchestrator_app.errors import UsageError
from orchestrator_app.store.records import JSON_COLUMNS

LIMIT = 1_000
"""Rows of one page."""


def opened(row: dict[str, Any]) -> dict[str, Any]:
    """The row with its JSON columns as values rather than as text."""
    for key in JSON_COLUMNS:
        if isinstance(row.get(key), str):
            row[key] = json.loads(row[key])
    return row


PAGE = (
    Field("limit", "integer", f"at most so many; {LIMIT} at most", rule={"minimum": 1, "maximum": LIMIT}),
    Field("cursor", "string", "the `next` of the page before"),
)
"""What a request for a list may say."""


def paged(rows: Sequence[dict[str, Any]], call: Call, key: str = "") -> tuple[list[dict[str, Any]], str | None]:
    """A page of rows, which may hold one more than was asked for, and the cursor of the next page: its last `key`, or
    how many came before it, where the rows have none to go by."""
    limit = limit_of(call)
    page = list(rows[:limit])
    if len(rows) <= limit:
        return page, None
    return page, str(page[-1][key] if key else place_of(call) + limit)


def limit_of(call: Call) -> int:
    """How many rows the request wants, all that it may have if it doesn't say."""
    return call.query.get("limit", LIMIT)


def seq_of(call: Call) -> int:
    """The seq behind which the page begins. Raises UsageError for a cursor of another list."""
    return max(call.query.get("since", 0), _number(call, 18))


def place_of(call: Call) -> int:
    """How many rows came before the page, in a list that has nothing else to go by."""
    return _number(call, 6)


def _number(call: Call, digits: int) -> int:
    cursor = call.query.get("cursor", "0")
    if not re.fullmatch(rf"[0-9]{{1,{digits}}}", cursor):
        raise UsageError("cursor must be the `next` of a page of this list")
    return int(cursor)
