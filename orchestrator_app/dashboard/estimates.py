"""How long the phases of a project usually take, read from the log while somebody looks, and what follows from it."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC
from statistics import median
from typing import Any
from weakref import WeakKeyDictionary

from orchestrator_app.model import Unit
from orchestrator_app.orchestrator import Orchestrator
from orchestrator_app.policy import eta
from orchestrator_app.states import Status

#: Seconds that what was read is good for.
GOOD_FOR = 30.0
#: Records of the log that are looked at, the newest: the whole of a long history would cost seconds each time.
LOOKED_AT = 200_000
#: Attempts that count, the newest.
COUNTED = 5_000

#: As the view phase_duration has it, but of the newest records, and without the times in which an attempt waited.
PASSED = """
WITH move AS (
    SELECT seq, unit, trigger, from_status, occurred_at,
           lag(phase) OVER unit_order AS phase, lag(attempt) OVER unit_order AS attempt,
           lag(occurred_at) OVER unit_order AS began
    FROM transition
    WHERE from_status <> to_status AND seq > (SELECT coalesce(max(seq), 0) - ? FROM transition)
    WINDOW unit_order AS (PARTITION BY unit ORDER BY seq)
)
SELECT unit, phase, sum(epoch(occurred_at) - epoch(began)) AS seconds
FROM move
WHERE from_status = 'RUNNING' AND began IS NOT NULL
GROUP BY unit, phase, attempt
HAVING bool_or(trigger IN ('advance', 'rework', 'finish'))
ORDER BY max(seq) DESC
LIMIT ?
"""


class Estimates:
    """The usual durations of one project. `read` belongs off the loop; the rest may be called from anywhere."""

    def __init__(self) -> None:
        self.usual: Mapping[tuple[str, str], float] = {}
        self._read_at = float("-inf")
        self._lock = threading.Lock()

    def read(self, orchestrator: Orchestrator) -> None:
        """Bring the usual durations up to date, where they are older than GOOD_FOR."""
        with self._lock:
            if time.monotonic() - self._read_at < GOOD_FOR:
                return
            rows = orchestrator.rows(PASSED, [LOOKED_AT, COUNTED])
            self.usual = medians(rows, orchestrator.board.units)
            self._read_at = time.monotonic()

    def remaining(self, unit: Unit, now: float) -> float | None:
        """The remaining seconds of the attempt that runs; None if nobody knows, or none runs."""
        if unit.status is not Status.RUNNING:
            return None
        return eta.of_attempt(worked(unit, now), percent_of(unit), self.usual.get((unit.workflow, unit.phase)))

    def ends_at(self, unit: Unit, now: float) -> float | None:
        """When the attempt will end, for the browser: milliseconds since 1970, to the second."""
        remaining = self.remaining(unit, now)
        return None if remaining is None else float(round(now + remaining)) * 1000


def medians(rows: Sequence[Mapping[str, Any]], units: Mapping[str, Unit]) -> dict[tuple[str, str], float]:
    """The median of the seconds by workflow and phase."""
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row in rows:
        unit = units.get(row["unit"])
        if unit is not None:
            found[unit.workflow, row["phase"]].append(row["seconds"])
    return {key: median(seconds) for key, seconds in found.items()}


def worked(unit: Unit, now: float) -> float:
    """The seconds that the unit's newest attempt has run, without the times in which it waited for a person."""
    if unit.status is not Status.RUNNING or unit.since is None:
        return unit.worked
    return unit.worked + max(0.0, now - unit.since.replace(tzinfo=UTC).timestamp())


def percent_of(unit: Unit) -> float | None:
    """How far the attempt says it is."""
    said = (unit.progress or {}).get("percent")
    if isinstance(said, bool) or not isinstance(said, int | float) or said != said:
        return None
    return min(100.0, max(0.0, float(said)))


_KEPT: WeakKeyDictionary[Orchestrator, Estimates] = WeakKeyDictionary()


def estimates_of(orchestrator: Orchestrator) -> Estimates:
    """The one collection that all pages of a process share."""
    return _KEPT.setdefault(orchestrator, Estimates())
