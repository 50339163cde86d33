"""When to try again."""

from __future__ import annotations

import random


def delay(failures: int, first: float, factor: float, most: float, chance: random.Random) -> float:
    """Seconds to wait after the `failures`-th failure in a row: exponential, with a quarter of jitter either way.

    The jitter keeps units that failed together from coming back together.
    """
    wait = min(most, first * factor ** min(failures - 1, 64))
    return wait * chance.uniform(0.75, 1.25)
