"""Which units start next, and what holds the others: blockers, waits, slots, and files that two of them touch.

All of it is derived from the model. The scheduler has it brought in line with every unit that changes, and asks it in
each step what to start; it never holds a slot for a unit that may not start, nor hides one behind it.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from datetime import UTC

from orchestrator_app import metrics
from orchestrator_app.gate import SCHEDULER, Draft, new_cause
from orchestrator_app.model import Board, Unit
from orchestrator_app.policy import attention, outcome
from orchestrator_app.policy.conflicts import overlap
from orchestrator_app.policy.dispatch import Depths, ReadyQueue, Slots, rank
from orchestrator_app.settings import Phase, Project
from orchestrator_app.states import Status, Trigger
from orchestrator_app.store.records import Transition


class Starting:
    """`live` is the scheduler's: the attempt of each unit that is under way. Times are of the steady clock; `drift` is
    the wall clock less that."""

    def __init__(self, project: Project, board: Board, live: Mapping[str, int]) -> None:
        self._project = project
        self._board = board
        self._live = live
        #: Of each unit that waits: its `not_before`, and when that is by the steady clock. Fixed when it is first seen,
        #: so that setting the wall clock neither shortens nor prolongs a wait.
        self._waits: dict[str, tuple[float, float]] = {}

    def rebuild(self, now: float, drift: float) -> None:
        """Derive everything from the model anew."""
        self._queue = ReadyQueue()
        self._depths = Depths()
        self._slots = Slots(self._project.slots, self._project.label_slots)
        self._due: list[tuple[float, str, int]] = []
        self._touching: dict[str, tuple[str, ...]] = {}
        known = self._board.units
        self._waits = {  # what was drafted and not committed was never said
            name: wait for name, wait in self._waits.items() if name in known and known[name].not_before == wait[0]
        }
        for unit in list(self._board.units.values()):
            if not unit.ended:
                self._depths.add(unit.name, unit.after, lambda one: self._board.row(one).after)
        for unit in list(self._board.units.values()):
            self.reckon(unit, now, drift)

    @property
    def next_due(self) -> float:
        """When the next wait is over."""
        return self._due[0][0] if self._due else float("inf")

    def come_due(self, draft: Draft, now: float, drift: float) -> None:
        """Queue the units whose wait is over."""
        while self._due and self._due[0][0] <= now:
            _, name, version = heapq.heappop(self._due)
            if draft.has(name) and draft.unit(name).version == version:
                self.reckon(draft.unit(name), now, drift)

    def reckon(self, unit: Unit, now: float, drift: float) -> None:
        """Bring the queue, the slots, the waits and the touched files in line with one unit as it is now."""
        live = self._live.get(unit.name)
        holds = unit.status is Status.RUNNING or (live is not None and unit.status is not Status.NEEDS_ATTENTION)
        if holds and not self._slots.holds(unit.name):
            self._slots.take(unit, f"phase:{unit.phase}")
        elif not holds and self._slots.holds(unit.name):
            for key in self._slots.give_back(unit.name):
                self._queue.release(key)
        if unit.touches and unit.attempt and not unit.ended:
            self._touching[unit.name] = unit.touches
        else:
            self._touching.pop(unit.name, None)
        free_at = self._free_at(unit, drift)
        if unit.status is not Status.READY or live is not None:
            self._queue.discard(unit.name)
        elif free_at > now:
            self._queue.discard(unit.name)
            heapq.heappush(self._due, (free_at, unit.name, unit.version))
        else:
            self._queue.push(unit.name, self._rank(unit))

    def _free_at(self, unit: Unit, drift: float) -> float:
        """When a unit may start, as far as time is concerned, by the steady clock."""
        if unit.not_before is None:
            self._waits.pop(unit.name, None)
            return 0.0
        if unit.name not in self._waits or self._waits[unit.name][0] != unit.not_before:
            self._waits[unit.name] = (unit.not_before, unit.not_before - drift)
        return self._waits[unit.name][1]

    def _rank(self, unit: Unit) -> tuple[int, int, int]:
        return rank(unit, self._depths.of(unit.name))

    def _phase(self, unit: Unit) -> Phase:
        return self._project.workflows[unit.workflow].phase(unit.phase)

    def start(self, draft: Draft) -> None:
        """Start the first READY units that may start, while there are slots."""
        while self._slots.free > 0 and (name := self._queue.pop()) is not None:
            unit = draft.unit(name)
            if unit.status is not Status.READY or name in self._live:
                continue
            phase = self._phase(unit)
            key = f"phase:{unit.phase}"
            full = self._slots.full(unit, key, 1 if phase.kind == "merge" else phase.slots)
            if full is not None:
                self._queue.put_aside(name, self._rank(unit), full)
            elif not unit.touches or not self._clashes(draft, unit):
                cause = new_cause()
                reason = f"{unit.phase}, attempt {unit.attempt + 1}"
                metrics.DISPATCH.observe(max(0.0, draft.now - unit.since.replace(tzinfo=UTC).timestamp()))
                fields = outcome.taken_up(unit) if unit.comments and phase.kind != "merge" else {}
                if unit.not_before is not None:  # its wait is over for good, whatever the clocks will say
                    fields["not_before"] = None
                started = draft.move(
                    name,
                    Trigger.START,
                    actor=SCHEDULER,
                    cause=cause,
                    reason=reason,
                    attempt=unit.attempt + 1,
                    fields=fields,
                )
                self._slots.take(started, key)
                if started.touches:
                    self._touching[name] = started.touches

    def _clashes(self, draft: Draft, unit: Unit) -> bool:
        """Whether the unit touches what another one under way touches; if so, it is moved out of the way."""
        if self._project.touches == "ignore":
            return False
        for other, touches in self._touching.items():
            if other == unit.name or draft.unit(other).ended:
                continue
            pairs = overlap(unit.touches, touches)
            if not pairs or draft.closes_cycle(unit.name, other):
                continue
            ruling = draft.verdict(unit.name, other)
            if ruling is not None and ruling.verdict == "INDEPENDENT":
                continue
            cause = new_cause()
            if self._project.touches == "ask" and ruling is None:
                item = attention.overlap(unit, other, pairs)
                reason = f"touches the same files as {other}"
                draft.move(unit.name, Trigger.CLASH, actor=SCHEDULER, cause=cause, reason=reason, item=item)
            else:
                reason = f"after {other}, which touches {pairs[0][1]} too"
                fields = {"after": list(dict.fromkeys([*unit.after, other]))}
                if ruling is None:
                    draft.rule(unit.name, other, "SERIALIZE", reason=reason, actor=SCHEDULER, cause=cause)
                draft.move(unit.name, Trigger.BLOCK, actor=SCHEDULER, cause=cause, reason=reason, fields=fields)
            return True
        return False

    def note_depths(self, draft: Draft, now: float, drift: float) -> None:
        """Take in who waits for whom, as this draft changes it."""
        # From the last to the first: in a chain that comes at once, each unit is then visited once.
        for row in reversed(draft.records):
            if type(row) is Transition and "after" in row.detail.get("set", ()):
                blockers = draft.unit(row.unit).after
                for one in self._depths.add(row.unit, blockers, lambda name: draft.unit(name).after):
                    self.reckon(draft.unit(one), now, drift)
