"""The dependency graph: which units wait for which, where they stand, and the chain that decides when all is done."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Set
from typing import Any

from orchestrator_app.dashboard.estimates import estimates_of
from orchestrator_app.dashboard.layout import critical_path, positions
from orchestrator_app.dashboard.screen import Screen
from orchestrator_app.model import Board, Unit
from orchestrator_app.policy import eta
from orchestrator_app.settings import Project
from orchestrator_app.states import ENDED, Status

#: Units that are drawn at most.
DRAWN = 1_000
#: Seconds between two drawings at least; in between, only statuses change.
PAUSE = 1.0
#: What of a unit decides whether and where it is drawn: its blockers, its labels, and whether it has ended.
_Shape = tuple[tuple[str, ...], tuple[str, ...], bool]


class Graph(Screen):
    def open(self, args: dict[str, str]) -> None:
        self._unit, self._finished = args.get("unit", ""), args.get("finished") == "1"
        self._text = args.get("q", "").strip().lower()
        self._after: dict[str, tuple[str, ...]] = {}  # of what is drawn
        self._known: dict[str, _Shape] = {}  # of every unit, drawn or not
        self._picture: dict[str, Any] | None = None
        self._path: list[str] | None = None
        self._due = asyncio.Event()
        self._due.set()
        self.run(self._draw())

    def hear(self, message: dict[str, Any]) -> None:
        if message.get("type") == "show":
            self._unit, self._finished = str(message.get("unit") or ""), message.get("finished") is True
            self._text = str(message.get("q") or "").strip().lower()
            self._due.set()

    def changes(self, units: Set[str], items: Set[int]) -> Any | None:
        board, statuses, ended = self.board, {}, False
        for name in units:
            unit = board.units.get(name)
            if unit is None:
                continue
            if _is_reshaped(self._known.get(name), unit):
                self._due.set()
            if name in self._after:
                statuses[name] = str(unit.status)
                ended = ended or unit.ended
        payload: dict[str, Any] = {}
        if self._picture is not None:
            payload["picture"], self._picture = self._picture, None
            statuses = {name: str(board.units[name].status) for name in self._after}
            ended = True
        if statuses:
            payload["statuses"] = statuses
        if ended and (path := self._critical()) != self._path:
            payload["path"], self._path = path, path
            payload["left"] = self._seconds_left(path)
        return payload or None

    async def _draw(self) -> None:
        while True:
            await self._due.wait()
            self._due.clear()
            # Read before the picture is composed: what changes meanwhile differs from it, and is drawn next.
            known = {unit.name: _shape(unit) for unit in list(self.board.units.values())}
            after, picture = await asyncio.to_thread(self._compose)
            self._known, self._after, self._picture, self._path = known, after, picture, None
            self.touch()
            await asyncio.sleep(PAUSE)

    def _compose(self) -> tuple[dict[str, tuple[str, ...]], dict[str, Any]]:
        """What is drawn and where. Reads the board; off the session's thread."""
        board, project = self.board, self.session.orchestrator.project
        estimates_of(self.session.orchestrator).read(self.session.orchestrator)
        if self._unit:
            chosen = [board.units[name] for name in _relatives(board, self._unit)]
        else:
            chosen = [unit for unit in list(board.units.values()) if _is_linked(board, unit)]
            if not self._finished:
                wanted = {unit.name for unit in chosen if not unit.ended}
                wanted |= {one for name in wanted for one in board.units[name].after}
                chosen = [unit for unit in chosen if unit.name in wanted]
        if self._text:
            chosen = [unit for unit in chosen if any(self._text in one.lower() for one in (unit.name, *unit.labels))]
        shown = _most_relevant(board, project, chosen)
        after = {unit.name: unit.after for unit in shown}
        places = positions(after)
        return after, {
            "nodes": [[name, *places[name]] for name in after],
            "edges": [[one, name] for name, blockers in after.items() for one in blockers if one in after],
            "hidden": len(chosen) - len(shown),
            "alone": sum(not _is_linked(board, unit) for unit in list(board.units.values())),
            "unit": self._unit,
        }

    def _critical(self) -> list[str]:
        board, project = self.board, self.session.orchestrator.project
        return critical_path(self._after, {name: remaining(board.units[name], project) for name in self._after})

    def _seconds_left(self, path: Iterable[str]) -> float | None:
        """How long the chain usually takes; None where a phase of it was never seen to end."""
        left = [self._unit_left(self.board.units[name]) for name in path]
        return None if not left or None in left else sum(left)

    def _unit_left(self, unit: Unit) -> float | None:
        orchestrator = self.session.orchestrator
        estimates, workflow = estimates_of(orchestrator), orchestrator.project.workflows.get(unit.workflow)
        if workflow is None:
            return None
        runs = unit.status is Status.RUNNING
        now = estimates.remaining(unit, time.time()) if runs else estimates.usual.get((workflow.name, unit.phase))
        return eta.of_unit(now, workflow, unit.phase, estimates.usual)


def _shape(unit: Unit) -> _Shape:
    return unit.after, unit.labels, unit.ended


def _is_reshaped(known: _Shape | None, unit: Unit) -> bool:
    """Whether the picture may need another node or edge. A status alone is no reason, a reopening is."""
    if known is None:
        return bool(unit.after)
    after, labels, ended = known
    return unit.after != after or unit.labels != labels or (ended and not unit.ended)


def remaining(unit: Unit, project: Project) -> float:
    """The phases that a unit still has before it, at least 1; 0 once it has ended."""
    if unit.status in ENDED:
        return 0
    workflow = project.workflows.get(unit.workflow)
    phases = [phase.name for phase in workflow.phases] if workflow else []
    return len(phases) - phases.index(unit.phase) if unit.phase in phases else 1


def _is_linked(board: Board, unit: Unit) -> bool:
    return bool(unit.after or board.dependents(unit.name))


def _relatives(board: Board, name: str) -> dict[str, None]:
    """The unit, all that it waits for and all that waits for it, directly or through others; empty without the unit."""
    found: dict[str, None] = dict.fromkeys([name] if name in board.units else [])
    for step in (lambda one: board.units[one].after, lambda one: sorted(board.dependents(one))):
        todo = list(found)[:1]
        while todo:
            for one in step(todo.pop()):
                if one in board.units and one not in found:
                    found[one] = None
                    todo.append(one)
    return found


def _most_relevant(board: Board, project: Project, units: list[Unit]) -> list[Unit]:
    """All of them, or the DRAWN of them that matter most: the critical path, then those most others wait for."""
    if len(units) <= DRAWN:
        return units
    after = {unit.name: unit.after for unit in units}
    critical = set(critical_path(after, {unit.name: remaining(unit, project) for unit in units}))
    return sorted(
        units,
        key=lambda unit: (
            unit.name not in critical,
            unit.status is Status.DONE,
            -len(board.dependents(unit.name)),
            unit.order,
        ),
    )[:DRAWN]
