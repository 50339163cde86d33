"""The first page: how many units stand where, what needs a person, what runs, how fast, and what went wrong."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Set
from datetime import UTC, datetime, timedelta
from typing import Any

from orchestrator_app import failures
from orchestrator_app.dashboard import views
from orchestrator_app.dashboard.attention import Queue
from orchestrator_app.dashboard.estimates import estimates_of
from orchestrator_app.dashboard.screen import Screen
from orchestrator_app.states import Status

#: Running units that are shown; the sessions page has all of them.
RUNNING_SHOWN = 12
#: Seconds between two looks at the log for the throughput and the errors of the last hour.
LOOK = 3.0
MINUTES = 60

DONE_BY_MINUTE = """
SELECT date_trunc('minute', occurred_at) AS minute, count(*) AS done
FROM transition
WHERE to_status = 'DONE' AND from_status <> 'DONE' AND occurred_at >= ?
GROUP BY 1
"""


class Overview(Screen):
    def open(self, args: dict[str, str]) -> None:
        self._running = {unit.name for unit in list(self.board.units.values()) if unit.status is Status.RUNNING}
        self._told: list[str] | None = None
        self._queue = Queue(self)
        self._hour: dict[str, Any] | None = None
        self._something = asyncio.Event()
        self._something.set()
        self.run(self._look_back())

    def changes(self, units: Set[str], items: Set[int]) -> Any | None:
        payload: dict[str, Any] = {}
        if units:
            self._something.set()
        if queue := self._queue.changes(units, items):
            payload["queue"] = queue
        if running := self._running_now(units):
            payload["running"] = running
        if self._hour is not None:
            payload["hour"], self._hour = self._hour, None
        return payload or None

    def hear(self, message: dict[str, Any]) -> None:
        self._queue.hear(message)

    def _running_now(self, units: Set[str]) -> dict[str, Any] | None:
        board = self.board
        for name in units:
            unit = board.units.get(name)
            if unit is not None and unit.status is Status.RUNNING:
                self._running.add(name)
            else:
                self._running.discard(name)
        rows = sorted((board.units[name] for name in self._running), key=lambda unit: unit.since)[:RUNNING_SHOWN]
        names = [unit.name for unit in rows]
        due = [unit for unit in rows if self._told is None or unit.name in units or unit.name not in self._told]
        if names == self._told and not due:
            return None
        self._told = names
        orchestrator, now = self.session.orchestrator, time.time()
        estimates = estimates_of(orchestrator)
        return {
            "order": names,
            "units": {
                unit.name: {**views.unit_view(orchestrator, unit), "ends": estimates.ends_at(unit, now)} for unit in due
            },
            "more": len(self._running) - len(names),
        }

    async def _look_back(self) -> None:
        """The last hour, read anew while something changes."""
        while True:
            await self._something.wait()
            self._something.clear()
            self._hour = await asyncio.to_thread(self._last_hour)
            self.touch()
            await asyncio.sleep(LOOK)

    def _last_hour(self) -> dict[str, Any]:
        orchestrator = self.session.orchestrator
        estimates_of(orchestrator).read(orchestrator)
        now = datetime.now(UTC).replace(tzinfo=None)
        first = now.replace(second=0, microsecond=0) - timedelta(minutes=MINUTES - 1)
        rows = orchestrator.rows(DONE_BY_MINUTE, [first])
        done = {row["minute"]: row["done"] for row in rows}
        minutes = [first + timedelta(minutes=number) for number in range(MINUTES)]
        errors = [
            {name: one[name] for name in ("key", "kind", "message", "count", "total")}
            | {"last": views.milliseconds(one["last"]), "units": one["units"][:1]}
            for one in failures.top(orchestrator)
        ]
        return {
            "from": views.milliseconds(first),
            "done": [done.get(minute, 0) for minute in minutes],
            "errors": errors,
        }
