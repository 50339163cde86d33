"""How long what runs will still take: from what it says of its progress, and from how long its phase took before."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator_app.settings import Workflow

#: The usual seconds of a phase, by workflow and phase.
Usual = Mapping[tuple[str, str], float]

#: From this percentage on a progress is believed alone; below it, the more the less is known of the past.
BELIEVED = 50.0
#: Below this percentage a progress says nothing at all, also beside what is usual.
LEAST = 0.1
#: Below this percentage a progress alone says nothing: a minute at 1 % would promise an hour and a half.
TOO_SOON = 5.0


def of_attempt(worked: float, percent: float | None, usual: float | None) -> float | None:
    """The remaining seconds of an attempt that has worked for some and says it is at `percent`; None if nobody knows.

    0 is said of one that takes longer than usual.
    """
    worked = max(0.0, worked)
    by_past = None if usual is None else max(0.0, usual - worked)
    if percent is None or not LEAST <= percent <= 100:
        return by_past
    by_progress = worked * (100 - percent) / percent
    if by_past is None:
        return by_progress if percent >= TOO_SOON else None
    trust = min(1.0, percent / BELIEVED)
    return trust * by_progress + (1 - trust) * by_past


def of_unit(remaining: float | None, workflow: Workflow, phase: str, usual: Usual) -> float | None:
    """The remaining seconds of a unit whose attempt of `phase` has `remaining`: with the phases that come after it,
    without their waits for a slot. None if something of it is unknown."""
    if remaining is None:
        return None
    names = [one.name for one in workflow.phases]
    if phase not in names:
        return None
    rest = [usual.get((workflow.name, name)) for name in names[names.index(phase) + 1 :]]
    return None if None in rest else remaining + sum(rest)
