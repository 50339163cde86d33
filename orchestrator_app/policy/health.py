"""Whether an attempt shows signs of life.

The rule that acts (a phase's `stall`) and the words that the screens use (`health`) measure silence by one function, so
they can't contradict each other.
"""

from __future__ import annotations

from typing import NamedTuple

HEALTHY, STALE, STUCK = "healthy", "stale", "stuck"
#: Of attempts that are not running: it has died; it waits, alive, for a person.
CRASHED, WAITING = "crashed", "waiting"


class Thresholds(NamedTuple):
    """Seconds of silence; 0 is never."""

    stale: float
    stuck: float


def silent_for(now: float, started: float, spoke: float | None, wrote: float | None) -> float:
    """Seconds since the attempt's last message (`spoke`) or output (`wrote`), or since its start without either."""
    return max(0.0, now - max(started, spoke or 0.0, wrote or 0.0))


def health(now: float, started: float, spoke: float | None, wrote: float | None, thresholds: Thresholds) -> str:
    """What the silence of a running attempt is called: healthy, stale or stuck."""
    silent = silent_for(now, started, spoke, wrote)
    if 0 < thresholds.stuck <= silent:
        return STUCK
    return STALE if 0 < thresholds.stale <= silent else HEALTHY
