"""The operator of the headless demo: settles attention items as a person would, through the same requests."""

from __future__ import annotations

from concurrent.futures import Future
from datetime import UTC, datetime
from typing import Any

from orchestrator_app.errors import OrchError
from orchestrator_app.model import AttentionItem, Unit
from orchestrator_app.orchestrator import Orchestrator
from orchestrator_app.states import Status

ACTOR = "operator:demo"

#: Seconds that it takes to read an item.
READING = 1.0


class DemoOperator:
    """Answers each attention item once. What it has no answer to stays open, and fails the demo."""

    def __init__(self, orchestrator: Orchestrator) -> None:
        self._orchestrator = orchestrator
        self._settled: set[int] = set()
        self.said: list[str] = []

    def attend(self) -> None:
        """Settle what has been open for a moment. Waits for the answer of each request."""
        now = datetime.now(UTC).replace(tzinfo=None)
        for item in list(self._orchestrator.board.attention.values()):
            if item.id in self._settled or (now - item.opened_at).total_seconds() < READING:
                continue
            self._settled.add(item.id)
            decision = _decide(item)
            if decision is None:
                continue
            kind, args = decision
            try:
                self._request(kind, item.unit, **args).result(30)
                self.said.append(f"{item.title}\n  the operator: {' '.join([kind, *args.values()])}")
            except OrchError as error:
                self.said.append(f"{item.unit}: {kind} was refused: {error}")

    def is_through(self) -> bool:
        """Whether nothing will move any more: every unit has ended, or waits for a person who has nothing to say."""
        return not any(self._moves(unit) for unit in self._orchestrator.board.units.values())

    def _moves(self, unit: Unit) -> bool:
        if unit.status is Status.NEEDS_ATTENTION:
            return not set(unit.items) <= self._settled
        return unit.status in (Status.READY, Status.RUNNING)

    def _request(self, kind: str, unit: str, **args: Any) -> Future:
        return self._orchestrator.request(kind, unit, actor=ACTOR, **args)


def _decide(item: AttentionItem) -> tuple[str, dict[str, str]] | None:
    if item.kind == "approval":
        return "approve", {}
    if item.kind == "question":
        return "answer", {"text": item.options[0] if item.options else "yes"}
    if item.kind == "conflict" and item.other is None:
        return "retry", {"phase": "IMPLEMENT", "feedback": f"Merge main and settle {', '.join(item.files)}."}
    return None
