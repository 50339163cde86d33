"""What the page says of units, items and the whole: plain values for the browser, which shows them as text only."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime
from typing import Any

from orchestrator_app.feed import Key
from orchestrator_app.model import AttentionItem, Unit
from orchestrator_app.orchestrator import Orchestrator
from orchestrator_app.policy.attention import ANSWERED
from orchestrator_app.states import ENDED, Status, triggers_from

#: Units of one status that a page is told of at first; more when it asks.
SHARE = 150


def milliseconds(moment: datetime | None) -> float | None:
    """A time of the log as JavaScript counts it."""
    return None if moment is None else moment.replace(tzinfo=UTC).timestamp() * 1000


def value(orchestrator: Orchestrator, key: Key) -> Any:
    """What a frame says of a key; None for what is gone."""
    kind, name = key
    board = orchestrator.board
    if kind == "unit":
        unit = board.units.get(name)
        return None if unit is None else unit_view(orchestrator, unit)
    if kind == "item":
        item = board.attention.get(name)
        return None if item is None else item_view(orchestrator, item)
    return head_view(orchestrator)


def unit_view(orchestrator: Orchestrator, unit: Unit) -> dict[str, Any]:
    board = orchestrator.board
    waits = board.waits_for(unit.name)
    progress = unit.progress or {}
    return {
        "status": str(unit.status),
        "phase": unit.phase,
        "workflow": unit.workflow,
        "attempt": unit.attempt,
        "version": unit.version,
        "since": milliseconds(unit.since),
        "created": milliseconds(unit.created_at),
        "order": unit.order,
        "priority": unit.priority,
        "labels": list(unit.labels),
        "agent": unit.agent,
        "reason": unit.reason,
        "percent": _percent(progress.get("percent")),
        "step": str(progress.get("step") or "")[:200],
        "waits": waits[:5],
        "waiting": len(waits),
        "blocks": len(board.dependents(unit.name)),
        "notBefore": None if unit.not_before is None else unit.not_before * 1000,
    }


def _percent(said: Any) -> float | None:
    return min(100.0, max(0.0, float(said))) if isinstance(said, int | float) and said == said else None


def item_view(orchestrator: Orchestrator, item: AttentionItem) -> dict[str, Any]:
    unit = orchestrator.board.row(item.unit)
    workflow = orchestrator.project.workflows[unit.workflow]
    return {
        "unit": item.unit,
        "kind": item.kind,
        "severity": item.severity,
        "title": item.title,
        "text": item.text,
        "options": list(item.options),
        "files": list(item.files),
        "other": item.other,
        "phase": item.phase,
        "phases": [phase.name for phase in workflow.phases],
        "opened": milliseconds(item.opened_at),
        "blocks": len(orchestrator.board.dependents(item.unit)),
        "answered": item.kind in ANSWERED,
        "overlap": item.kind == "conflict" and item.other is not None,
    }


def head_view(orchestrator: Orchestrator) -> dict[str, Any]:
    status = orchestrator.status()
    return {
        "state": status["state"],
        "counts": status["counts"],
        "running": status["running"],
        "slots": status["slots"],
        "attention": status["attention"],
        "paused": status["dispatch"] == "paused",
        "project": orchestrator.project.root.name,
    }


def first_keys(orchestrator: Orchestrator) -> list[Key]:
    """What a new page is told first: every open item, and of each status the units it would show."""
    keys: list[Key] = [("item", number) for number in orchestrator.board.attention]
    by_status: dict[Status, list[Unit]] = defaultdict(list)
    for unit in list(orchestrator.board.units.values()):
        by_status[unit.status].append(unit)
    for status in Status:
        keys += _share(by_status[status], status, SHARE)
    return keys


def share_of(orchestrator: Orchestrator, status: Status, count: int) -> list[Key]:
    """The `count` units of a status that a page shows first: the oldest, or the newest of those that have ended."""
    units = [unit for unit in list(orchestrator.board.units.values()) if unit.status is status]
    return _share(units, status, count)


def _share(units: list[Unit], status: Status, count: int) -> list[Key]:
    units.sort(key=_newest_first if status in ENDED else _first_first)
    return [("unit", unit.name) for unit in units[:count]]


def _newest_first(unit: Unit) -> float:
    return -unit.since.timestamp()


def _first_first(unit: Unit) -> tuple[int, int]:
    return (-unit.priority, unit.order)


def facts(orchestrator: Orchestrator, name: str) -> dict[str, Any]:
    """A unit's page, but for its story and its log. Raises NotFoundError."""
    board = orchestrator.board
    unit = board.row(name)
    workflow = orchestrator.project.workflows.get(unit.workflow)  # an ended unit's may have left the settings
    return {
        **unit_view(orchestrator, unit),
        "name": name,
        "prompt": unit.prompt,
        "phases": [phase.name for phase in workflow.phases] if workflow else [unit.phase],
        "after": [{"name": one, "status": str(board.row(one).status)} for one in unit.after[:50]],
        "dependents": sorted(board.dependents(name))[:50],
        "touches": list(unit.touches),
        "branch": unit.branch if unit.base else None,
        "base": unit.base,
        "session": unit.session,
        "feedback": unit.feedback,
        "items": list(unit.items),
        "possible": [str(trigger) for trigger in triggers_from(unit.status)],
    }


STORY = """
SELECT seq, 'transition' AS kind, trigger AS what, from_status, to_status, phase, attempt, actor, reason AS text,
       'info' AS level, occurred_at
FROM transition WHERE unit = ? AND seq > ?
UNION ALL
SELECT seq, 'event', type, NULL, NULL, NULL, attempt, actor, message, level, occurred_at
FROM event WHERE unit = ? AND seq > ? AND type NOT IN ('heartbeat', 'progress')
ORDER BY seq DESC LIMIT ?
"""


def story(orchestrator: Orchestrator, name: str, since: int, most: int = 300) -> list[dict[str, Any]]:
    """The newest transitions and events of a unit behind `since`, oldest first. Reads the database."""
    rows = orchestrator.rows(STORY, [name, since, name, since, most])
    return [{**row, "occurred_at": milliseconds(row["occurred_at"])} for row in reversed(rows)]
