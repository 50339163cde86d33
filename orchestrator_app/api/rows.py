"""Rows of the log as the API gives them."""

from __future__ import annotations

import json
from typing import Any

from orchestrator_app.api.routing import Call
from orchestrator_app.errors import UsageError
from orchestrator_app.store.records import JSON_COLUMNS


def opened(row: dict[str, Any]) -> dict[str, Any]:
    """The row with its JSON columns as values rather than as text."""
    for key in JSON_COLUMNS:
        if isinstance(row.get(key), str):
            row[key] = json.loads(row[key])
    return row


def page_of(call: Call, most: int) -> int:
    """How many rows the request wants, `most` if it doesn't say."""
    limit = call.query.get("limit", most)
    if not 1 <= limit <= most:
        raise UsageError(f"limit must be from 1 to {most}")
    return limit
