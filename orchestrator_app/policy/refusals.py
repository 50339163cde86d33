"""Who was first, and what changed, in the words of refusals and stories."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from orchestrator_app.model import Unit
from orchestrator_app.states import Trigger
from orchestrator_app.store.records import AttentionChange, Transition

#: What somebody did to a unit, by the trigger of the move.
_DID = {
    Trigger.ANSWER: "answered",
    Trigger.CONTINUE: "answered",
    Trigger.RETRY: "retried",
    Trigger.SERIALIZE: "serialized",
    Trigger.PARALLELIZE: "parallelized",
    Trigger.ACCEPT: "accepted",
    Trigger.PAUSE: "paused",
    Trigger.RESUME: "resumed",
    Trigger.CANCEL: "cancelled",
    Trigger.REOPEN: "reopened",
}
ANSWERED = "answered: "
"""How the reason of a move begins that an answer made."""

RESTARTED = "restart"
"""How the reason of the moves begins that a restart made: a pause and a resume."""

SHOWN = 3
"""Decisions that one refusal tells of; of more, the newest."""


def who(actor: str) -> str:
    """An actor as a sentence names it."""
    kind, _, name = actor.partition(":")
    if kind == "agent":
        return f"the agent of {name}"
    return name or f"the {actor}"


def ago(then: datetime, now: datetime) -> str:
    """How long since, roughly."""
    seconds = max(0, int((now - then).total_seconds()))
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit} ago"
    return f"{seconds} s ago" if seconds else "just now"


def _quoted(words: str) -> str:
    line = " ".join(words.split())
    return f"“{line[:100]}{'…' if len(line) > 100 else ''}”"


def settled(row: AttentionChange, now: datetime) -> str:
    """Who settled an item, when and how: "item 12 of fix-login was answered by ana 2 min ago: “postgres”"."""
    did, how = "settled", row.text
    if how.startswith(ANSWERED):
        did, how = "answered", how.removeprefix(ANSWERED)
    return f"item {row.item} of {row.unit} was {did} by {who(row.actor)} {ago(row.occurred_at, now)}: {_quoted(how)}"


def moved(unit: Unit, decided: Sequence[Transition], now: datetime) -> str | None:
    """Who brought a unit where it stands, if a person lately did: "f is READY by now: ana retried it 3 s ago"."""
    for row in reversed(decided):
        if row.trigger in _DID:
            done = "restarted" if (row.reason or "").startswith(RESTARTED) else _DID[row.trigger]
            did = f"{who(row.actor)} {done} it {ago(row.occurred_at, now)}"
            return f"{unit.name} is {unit.status} by now: {did}"
    return None


def changed(unit: Unit, seen: int, decided: Sequence[Transition], now: datetime) -> str:
    """What became of a unit since a version of it was seen."""
    if seen > unit.version:
        return f"{unit.name} is in version {unit.version}, there is no version {seen}: look at it again, then repeat"
    since = [row for row in decided if row.version > seen]
    told = [
        f"{row.reason if row.trigger is Trigger.EDIT else _DID.get(row.trigger, row.trigger)} by {who(row.actor)}"
        f" {ago(row.occurred_at, now)}"
        for row in since[-SHOWN:]
    ]
    if len(since) < unit.version - seen or len(since) > SHOWN:
        told.append(f"it is {unit.status} in {unit.phase} now")
    return (
        f"{unit.name} is in version {unit.version} by now, you saw version {seen}: {', '.join(told)};"
        " look at it again, then repeat"
    )


def edited(name: str, old: Any, new: Any) -> str:
    """What an edit did to one field, for the story: from what to what, where that is short."""
    if isinstance(new, int | float | str | None) and name != "prompt":
        return f"{name} {'none' if old is None else old} → {'none' if new is None else new}"
    return f"{name} changed"
