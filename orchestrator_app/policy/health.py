"""Whether an attempt shows signs of life."""

from __future__ import annotations


def silent_for(now: float, started: float, spoke: float | None, wrote: float | None) -> float:
    """Seconds since the attempt's last message (`spoke`) or output (`wrote`), or since its start without either."""
    return max(0.0, now - max(started, spoke or 0.0, wrote or 0.0))
