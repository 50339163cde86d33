"""What the page says of units, items and the whole: plain values for the browser, which shows them as text only."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from orchestrator_app.model import Board, Unit
from orchestrator_app.orchestrator import Orchestrator


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
    items = [board.attention[number] for number in sorted(numbers) if number in board.attention]
    shown = [{"id": item.id, "unit": item.unit, "kind": item.kind, "title": item.title} for item in items[:most]]
    return {"items": shown, "count": len(items)}
