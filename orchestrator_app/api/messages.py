"""What a record of the log is to those who listen at `/ws`: one message that carries the record, and those that follow.

The first message of a record has the whole row as its payload (with its `table`, as in GET /feed); the others say the
same again in fewer words, for those who want only that. All of them carry the record's `seq`, and stand in this order.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from orchestrator_app.api.routing import as_plain
from orchestrator_app.states import Status
from orchestrator_app.store.records import TABLES, Record

TOPICS = ("unit", "session", "attention", "event", "budget")
"""What may be listened to; without a choice, all."""
AGENT = "agent"
"""The topic of `monitor=agents`."""
SOURCES = {
    "unit": ("transition", "verdict"),
    "session": ("transition", "event", "session"),
    "attention": ("attention_change",),
    "event": ("event",),
    "budget": ("usage",),
    AGENT: ("transition", "event"),
}
"""The tables whose records have messages of a topic."""

_CHANGES = {"opened": "attention:added", "seen": "attention:seen", "resolved": "attention:resolved"}


class Message(NamedTuple):
    """One message, without what all messages of its record share."""

    topic: str
    type: str
    payload: Mapping[str, Any]


def row_of(record: Record) -> dict[str, Any]:
    """The record as GET /feed has it."""
    return {"table": TABLES[type(record)], **record._asdict()}


def messages_of(row: Mapping[str, Any]) -> Iterator[Message]:
    """The messages of one record, the one that carries it first."""
    match row["table"]:
        case "transition":
            yield Message("unit", f"unit:{row['trigger']}", row)
            yield from _of_transition(row)
        case "event":
            yield Message("event", "event", row)
            yield from _of_event(row)
        case "attention_change":
            yield Message("attention", _CHANGES[row["change"]], row)
        case "verdict":
            yield Message("unit", "verdict", row)
        case "usage":
            yield Message("budget", "budget:updated", row)
        case "session":
            yield Message("session", "session:updated", row)


def _of_transition(row: Mapping[str, Any]) -> Iterator[Message]:
    before, after = row["from_status"], row["to_status"]
    if before == after:
        return
    attempt = {name: row[name] for name in ("unit", "attempt", "phase", "trigger", "reason")}
    if after == Status.RUNNING:
        yield Message("session", "session:started", attempt)
    elif before == Status.RUNNING:
        yield Message("session", "session:ended", attempt)
    else:
        return
    yield Message(AGENT, "agent:status", {**attempt, "status": after})


def _of_event(row: Mapping[str, Any]) -> Iterator[Message]:
    if row["attempt"] is None or row["unit"] is None:
        return
    said = {**row["data"], "unit": row["unit"], "attempt": row["attempt"]}
    match row["type"]:
        case "heartbeat":
            yield Message("session", "session:heartbeat", said)
            yield Message(AGENT, "agent:heartbeat", said)
        case "progress":
            yield Message("session", "session:iteration" if "iteration" in row["data"] else "session:updated", said)
            yield Message(AGENT, "agent:status", {**said, "status": Status.RUNNING})
        case "test":
            started = row["data"].get("state") == "started"
            yield Message("event", "test:started" if started else "test:completed", said)


def tables_of(topics: frozenset[str]) -> tuple[str, ...]:
    """The tables to look in for messages of these topics."""
    return tuple(table for table in TABLES.values() if any(table in SOURCES[topic] for topic in topics))


def frames_of(row: Mapping[str, Any]) -> tuple[tuple[str, bytes], ...]:
    """The messages of one record with their topics, as they go over the wire: the same bytes for everyone."""
    seq, at = row["seq"], row["occurred_at"]
    return tuple(
        (topic, frame({"type": type, "seq": seq, "ts": at, "payload": payload}))
        for topic, type, payload in messages_of(row)
    )


def frame(message: Mapping[str, Any]) -> bytes:
    """A message as a WebSocket frame: whole, text, unmasked, uncompressed (RFC 6455, section 5.2)."""
    text = as_text(message).encode()
    if len(text) < 126:
        return struct.pack("!BB", 0x81, len(text)) + text
    if len(text) < 1 << 16:
        return struct.pack("!BBH", 0x81, 126, len(text)) + text
    return struct.pack("!BBQ", 0x81, 127, len(text)) + text


def as_text(message: Mapping[str, Any]) -> str:
    try:
        return json.dumps(message, default=as_plain, allow_nan=False)
    except ValueError:  # an agent may have said 1e999: JSON has no word for what Python reads there
        return json.dumps(json.loads(json.dumps(message, default=as_plain), parse_constant=str))
