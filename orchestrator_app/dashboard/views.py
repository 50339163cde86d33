"""What the page says of units, items and the whole: plain values for the browser, which shows them as text only."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from orchestrator_app.model import AttentionItem, Board, Unit
from orchestrator_app.orchestrator import Orchestrator
from orchestrator_app.policy.attention import ANSWERED
from orchestrator_app.states import triggers_from


def milliseconds(moment: datetime | None) -> float | None:
    """A time of the log as JavaScript counts it."""
    return None if moment is None else moment.replace(tzinfo=UTC).timestamp() * 1000


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
        "attention": status["attention"] - orchestrator.board.dismissed,
        "paused": status["dispatch"] == "paused",
        "project": orchestrator.project.root.name,
    }


def announcements(board: Board, numbers: Iterable[int], most: int) -> dict[str, Any]:
    """The attention items that came up just now, so that a browser may notify: the first `most`, and how many."""
    items = [board.attention[number] for number in numbers if number in board.attention]
    shown = [{"id": item.id, "unit": item.unit, "kind": item.kind, "title": item.title} for item in items[:most]]
    return {"items": shown, "count": len(items)}


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
