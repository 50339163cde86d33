"""When each live attempt last showed a sign of life: its last message, or the last change of its output.

Measured by the scheduler's steady clock. Only the change time of the output file is of the wall clock; where that was
set meanwhile, a change counts as a sign of now: better late than an attempt stopped for nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC

from orchestrator_app.agents.command import run_dir
from orchestrator_app.model import Unit
from orchestrator_app.settings import Project

#: Seconds that the wall clock may be corrected by without counting as set.
CORRECTION = 1.0


@dataclass(slots=True)
class _Signs:
    """`newest` by the steady clock; the output's change time as last seen, and the drift at that look."""

    newest: float
    changed: float | None
    drift: float


class Silence:
    """The signs of life of the attempts under way, by unit. `drift`: the wall clock less the steady one, in seconds."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._signs: dict[str, _Signs] = {}

    def sign(self, name: str, now: float, drift: float) -> None:
        """The unit's attempt began, went on or spoke."""
        known = self._signs.get(name)
        if known is None:
            self._signs[name] = _Signs(now, None, drift)
        else:
            known.newest = now

    def forget(self, name: str) -> None:
        self._signs.pop(name, None)

    def of(self, unit: Unit, now: float, drift: float) -> float:
        """Seconds since the last sign of life of the unit's attempt."""
        signs = self._signs.get(unit.name)
        if signs is None:  # of an attempt that an earlier server started, the log knows
            logged = max(moment for moment in (unit.since, unit.heard_at) if moment is not None)
            signs = self._signs[unit.name] = _Signs(logged.replace(tzinfo=UTC).timestamp() - drift, None, drift)
        try:
            changed = (run_dir(self._project, unit.name, unit.attempt) / "output.log").stat().st_mtime
        except OSError:
            changed = signs.changed
        if changed != signs.changed:
            was_set = abs(drift - signs.drift) > CORRECTION
            signs.newest = now if was_set else max(signs.newest, changed - drift)
            signs.changed = changed
        signs.drift = drift
        signs.newest = min(signs.newest, now)
        return now - signs.newest
