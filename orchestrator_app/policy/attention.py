"""What needs a person, in words: the items, and the order in which to look at them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from orchestrator_app.model import AttentionItem, Unit
from orchestrator_app.settings import Phase

ANSWERED = ("question", "approval", "stall")
"""Kinds of item that `answer` settles; the others want a decision."""

MOST_QUESTIONS = 20
"""So many questions of one attempt are open at a time; what it asks beyond them is kept as a note only."""


def questions(unit: Unit, item_of: Callable[[int], AttentionItem]) -> list[int]:
    """The open questions of the unit's newest attempt, in the order they were asked; a review's verdict is none."""
    asked = [one for one in map(item_of, unit.items) if one.kind in ("question", "approval")]
    return [one.id for one in asked if one.attempt == unit.attempt and "review" not in one.detail]


def question(unit: Unit, asked: dict[str, Any]) -> dict[str, Any]:
    kind = "approval" if asked.get("kind") == "approval" else "question"
    options = [str(option) for option in asked.get("options") or ()][:20]
    if kind == "approval" and not options:
        options = ["approve", "reject"]
    text = str(asked.get("question") or "(the agent asked without saying what)")
    return {
        "kind": kind,
        "severity": "info",
        "title": f"{unit.name} asks: {text.splitlines()[0][:200]}",
        "text": text,
        "detail": {"options": options},
    }


def escalation(unit: Unit, phase: Phase, feedback: str) -> dict[str, Any]:
    return {
        "kind": "approval",
        "severity": "warning",
        "title": f"{unit.name}: {phase.name} wants a person to decide",
        "text": feedback or "The review did not say why.",
        "detail": {"options": ["approve", "reject"], "review": phase.name, "back_to": phase.back_to},
    }


def error(unit: Unit, phase: Phase, why: str, text: str) -> dict[str, Any]:
    return {
        "kind": "error",
        "severity": "error",
        "title": f"{unit.name}: {phase.name} failed ({why})",
        "text": text or why,
        "detail": {"options": ["retry", "accept", "cancel"]},
    }


def reviewed_too_often(unit: Unit, phase: Phase, feedback: str) -> dict[str, Any]:
    return {
        "kind": "error",
        "severity": "warning",
        "title": f"{unit.name}: {phase.name} still asks for changes after {unit.reworks} reworks",
        "text": feedback,
        "detail": {"options": ["retry", "accept", "cancel"]},
    }


def stall(unit: Unit, phase: Phase, silent: float, last: str) -> dict[str, Any]:
    """`last` is the end of what it wrote."""
    text = "It still runs. Let it wait, retry it (which stops it), or cancel it."
    step = (unit.progress or {}).get("step") or (unit.progress or {}).get("message")
    if step:
        text += f"\nWhat it last said: {str(step)[:500]}"
    if last:
        text += f"\nThe end of its output:\n{last}"
    return {
        "kind": "stall",
        "severity": "warning",
        "title": f"{unit.name}: {phase.name} has been silent for {silent / 60:.0f} min",
        "text": text,
        "detail": {"options": ["wait", "retry", "cancel"]},
    }


def overlap(unit: Unit, other: str, pairs: list[tuple[str, str]]) -> dict[str, Any]:
    files = sorted({mine if mine == theirs else f"{mine} and {theirs}" for mine, theirs in pairs})
    return {
        "kind": "conflict",
        "severity": "warning",
        "title": f"{unit.name} touches the same files as {other}, which is under way",
        "text": "Serialize: it starts when the other one is done. Parallelize: both are free to run, for good.",
        "detail": {"options": ["serialize", "parallelize"], "other": other, "files": files},
    }


def merge_conflict(unit: Unit, base: str, files: list[str], text: str) -> dict[str, Any]:
    return {
        "kind": "conflict",
        "severity": "warning",
        "title": f"{unit.name} can't be merged: it conflicts with {base} in {len(files)} file{'s' * (len(files) != 1)}",
        "text": f"{text}\nThe worktree stays: resolve it there and retry, or retry an earlier phase with feedback.",
        "detail": {"options": ["retry", "accept", "cancel"], "files": files},
    }


def merge_blocked(unit: Unit, base: str, files: list[str], why: str) -> dict[str, Any]:
    return {
        "kind": "conflict",
        "severity": "warning",
        "title": f"{unit.name} is ready, but {base} can't advance",
        "text": why,
        "detail": {"options": ["retry", "accept", "cancel"], "files": files},
    }


def rank(item: AttentionItem, blocked: int) -> tuple[int, int]:
    """Where an item stands in the queue: the most blocking first (`blocked`: how many units wait for it to be settled),
    then the oldest."""
    return (-blocked, item.id)
