"""One unit: where it stands and what can be done, its story, its attempts, its output, its changes."""

from __future__ import annotations

import asyncio
from collections.abc import Set
from heapq import nsmallest
from typing import Any

from orchestrator_app.dashboard.attention import Queue
from orchestrator_app.dashboard.diff import DiffView
from orchestrator_app.dashboard.log import LogView
from orchestrator_app.dashboard.screen import Screen
from orchestrator_app.dashboard.unit_story import attempts, story, totals
from orchestrator_app.dashboard.views import unit_view
from orchestrator_app.model import Unit as Row
from orchestrator_app.states import triggers_from

#: Rows of the story told at once, and attempts; blockers and dependents that are named.
STORY, ATTEMPTS, NEIGHBOURS = 100, 200, 50
#: Seconds between two looks at the log for a unit of which there is news all the time.
PAUSE = 0.25


class Unit(Screen):
    def open(self, args: dict[str, str]) -> None:
        self._name = args.get("unit", "")
        self._facts: dict[str, Any] = {}
        self._missing = False
        self._queue: Queue | None = None
        self._log: LogView | None = None
        self._diff: DiffView | None = None
        self._neighbours: set[str] = set()
        self._newest = 0  # seq of the newest row of the story that was read
        self._history: dict[str, Any] = {}  # read, and not told yet
        self._news = asyncio.Event()
        self._news.set()
        self._free = asyncio.Event()  # what was read has been told
        self._free.set()
        self.run(self._read_history())

    def changes(self, units: Set[str], items: Set[int]) -> Any | None:
        row = self.board.units.get(self._name)
        if row is None:
            said, self._missing = (None if self._missing else {"missing": True}), True
            return said
        payload: dict[str, Any] = {}
        if self._queue is None:
            self._queue = Queue(self, unit=self._name)
        if (queue := self._queue.changes(units, items)) is not None:
            payload["queue"] = queue
        if self._name in units:
            self._news.set()
        if not self._facts or self._name in units or not self._neighbours.isdisjoint(units):
            facts = self._read_facts(row)
            differing = {key: value for key, value in facts.items() if self._facts.get(key, self) != value}
            self._facts = facts
            if differing:
                payload["facts"] = differing
            if self._log is not None:
                self._log.attend(row.attempt)
            if self._diff is not None:
                self._diff.look()
        if self._history:
            payload.update(self._history)
            self._history = {}
            self._free.set()
        return payload or None

    def _read_facts(self, row: Row) -> dict[str, Any]:
        orchestrator, board = self.session.orchestrator, self.board
        workflow = orchestrator.project.workflows.get(row.workflow)  # an ended unit's may have left the settings
        dependents = board.dependents(row.name)
        before, behind = row.after[:NEIGHBOURS], nsmallest(NEIGHBOURS, dependents)
        self._neighbours = {*before, *behind}
        seen = [(one, board.units.get(one)) for one in (*before, *behind)]
        status = {one: None if unit is None else str(unit.status) for one, unit in seen}
        return {
            **unit_view(orchestrator, row),
            "name": row.name,
            "prompt": row.prompt,
            "phases": [phase.name for phase in workflow.phases] if workflow else [],
            "after": list(row.after),
            "before": [{"name": one, "status": status[one]} for one in before],
            "dependents": [{"name": one, "status": status[one]} for one in behind],
            "touches": list(row.touches),
            "timeout": row.timeout,
            "retries": row.retries,
            "failures": row.failures,
            "reworks": row.reworks,
            "branch": row.branch if row.base else None,
            "base": row.base,
            "session": row.session,
            "feedback": row.feedback,
            "comments": list(row.comments),
            "agents": sorted(orchestrator.project.agents),
            "possible": [str(trigger) for trigger in triggers_from(row.status)],
        }

    # -- what stands in the log

    async def _read_history(self) -> None:
        """Read what is new of the story and the attempts, one reading at a time and only after the last was told."""
        while True:
            await self._news.wait()
            await self._free.wait()
            self._news.clear()
            self._history = await asyncio.to_thread(self._history_since, self._newest)
            if self._history:
                self._newest = max([self._newest, *(row["seq"] for row in self._history["story"])])
                self._free.clear()
                self.touch()
            await asyncio.sleep(PAUSE)

    def _history_since(self, newest: int) -> dict[str, Any]:
        orchestrator = self.session.orchestrator
        rows = story(orchestrator, self._name, since=newest, most=STORY + 1)
        if newest and not rows:
            return {}  # progress and signs of life are no part of the story
        return {
            "story": rows[:STORY],
            "anew": not newest or len(rows) > STORY,
            "older": len(rows) > STORY,
            "attempts": attempts(orchestrator, self._name, ATTEMPTS),
            "totals": totals(orchestrator, self._name),
        }

    async def _tell_older(self, before: int) -> None:
        rows = await asyncio.to_thread(story, self.session.orchestrator, self._name, before=before, most=STORY + 1)
        self.tell({"older": rows[:STORY], "more": len(rows) > STORY})

    # -- what the browser half says

    def hear(self, message: dict[str, Any]) -> None:
        row = self.board.units.get(self._name)
        if row is None or (self._queue is not None and self._queue.hear(message)):
            return
        kind = message.get("type")
        if not isinstance(kind, str):
            return
        if kind == "older" and type(message.get("before")) is int and 0 < message["before"] < 2**53:
            self.run(self._tell_older(message["before"]))
        elif kind == "output" and self._log is None:
            self._log = LogView(self, self._name)
            self._log.attend(row.attempt)
        elif kind.startswith("log-") and self._log is not None:
            self._log.hear(message)
        elif kind.startswith("diff-"):
            if self._diff is None:
                self._diff = DiffView(self, self._name)
            self._diff.hear(message)

    def close(self) -> None:
        if self._log is not None:
            self._log.close()
        super().close()
