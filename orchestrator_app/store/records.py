"""The rows of the log. One global `seq` numbers the rows of every table, without gaps.

Times are UTC without a zone (DuckDB TIMESTAMP). `cause` is one id shared by everything that one
stimulus led to. `actor` is `scheduler`, `operator:NAME` or `agent:UNIT`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

from orchestrator_app.states import Status, Trigger


class Transition(NamedTuple):
    """A committed change of one work unit. `detail["set"]` holds the fields that it gave the unit."""

    seq: int
    unit: str
    version: int
    from_status: Status
    trigger: Trigger
    to_status: Status
    phase: str
    attempt: int
    actor: str
    cause: str
    reason: str | None
    detail: dict[str, Any]
    occurred_at: datetime


class Event(NamedTuple):
    """Something said about a unit, or about the whole project (`unit` None), that moved no status.

    `pos` is the byte offset behind the message in the attempt's `events.jsonl`; None when it didn't come from there.
    """

    seq: int
    unit: str | None
    attempt: int | None
    type: str
    level: str
    message: str
    data: dict[str, Any]
    pos: int | None
    actor: str
    cause: str
    occurred_at: datetime


class AttentionChange(NamedTuple):
    """An attention item was opened, seen or resolved. `item` is the `seq` of its opening."""

    seq: int
    item: int
    unit: str
    change: str
    kind: str
    severity: str
    title: str
    text: str
    detail: dict[str, Any]
    phase: str
    attempt: int
    actor: str
    cause: str
    occurred_at: datetime


class Verdict(NamedTuple):
    """A ruling on a pair of units; the newest one holds. `unit` is the later of the two."""

    seq: int
    unit: str
    other: str
    verdict: str
    reason: str
    actor: str
    cause: str
    occurred_at: datetime


class Usage(NamedTuple):
    """What an attempt says it has used since it last said so."""

    seq: int
    unit: str
    attempt: int
    phase: str
    model: str
    input_tokens: int
    output_tokens: int
    usd: float
    occurred_at: datetime


class Session(NamedTuple):
    """An attempt named the agent conversation it leads; later attempts may resume it."""

    seq: int
    unit: str
    attempt: int
    phase: str
    session: str
    occurred_at: datetime


Record = Transition | Event | AttentionChange | Verdict | Usage | Session

#: The table each record stands in. Its columns are the record's fields, in order.
TABLES: dict[type, str] = {
    Transition: "transition",
    Event: "event",
    AttentionChange: "attention_change",
    Verdict: "verdict",
    Usage: "usage",
    Session: "session",
}

#: Columns that hold JSON.
JSON_COLUMNS = frozenset({"detail", "data"})
