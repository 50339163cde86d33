"""Which READY units start next: those that most others wait for, then priority, then age.

Nothing here reads or writes anything outside its arguments.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping

from orchestrator_app.model import Unit

#: Chains of dependents longer than this are not told apart: it bounds the cost of adding to a very long one.
MAX_DEPTH = 1_000


class Depths:
    """How long the longest chain of dependents behind each unit is: the critical path goes first."""

    def __init__(self) -> None:
        self._depth: dict[str, int] = {}

    def of(self, name: str) -> int:
        return self._depth.get(name, 0)

    def add(self, name: str, blockers: Iterable[str], blockers_of: Callable[[str], Iterable[str]]) -> list[str]:
        """Note that `name` waits for `blockers`; returns the units whose depth grew by it."""
        grown, todo = [], [(blocker, self.of(name) + 1) for blocker in blockers]
        while todo:
            one, depth = todo.pop()
            if depth > MAX_DEPTH or depth <= self._depth.get(one, 0):
                continue
            self._depth[one] = depth
            grown.append(one)
            todo += [(blocker, depth + 1) for blocker in blockers_of(one)]
        return grown


def rank(unit: Unit, depth: int) -> tuple[int, int, int]:
    """The order of starting; smaller goes first."""
    return (-depth, -unit.priority, unit.order)


class ReadyQueue:
    """READY units in the order of `rank`, with those aside that must wait for something to become free.

    A unit is pushed again whenever its rank changes; outdated entries are passed over when they come up, so every
    operation costs O(log n) however many units wait.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[tuple[int, int, int], str]] = []
        self._current: dict[str, tuple[int, int, int]] = {}
        self._aside: dict[str, list[str]] = defaultdict(list)
        self._aside_rank: dict[str, tuple[int, int, int]] = {}

    def push(self, name: str, rank: tuple[int, int, int]) -> None:
        if name in self._aside_rank:
            self._aside_rank[name] = rank
            return
        if self._current.get(name) != rank:
            self._current[name] = rank
            heapq.heappush(self._heap, (rank, name))

    def discard(self, name: str) -> None:
        self._current.pop(name, None)
        self._aside_rank.pop(name, None)

    def pop(self) -> str | None:
        """Take the first one, or None when none waits."""
        while self._heap:
            rank, name = heapq.heappop(self._heap)
            if self._current.get(name) == rank:
                del self._current[name]
                return name
        return None

    def put_aside(self, name: str, rank: tuple[int, int, int], until: str) -> None:
        """Keep it until `release(until)`, so that it hides none behind it."""
        self._aside[until].append(name)
        self._aside_rank[name] = rank

    def release(self, reason: str) -> None:
        for name in self._aside.pop(reason, ()):
            rank = self._aside_rank.pop(name, None)
            if rank is not None:
                self.push(name, rank)

    def __len__(self) -> int:
        return len(self._current) + len(self._aside_rank)


class Slots:
    """Who holds a slot: the project's limit, and those by phase and by label."""

    def __init__(self, total: int, label_limits: Mapping[str, int]) -> None:
        self.total = total
        self._limits = dict(label_limits)
        self._held: dict[str, tuple[str, ...]] = {}
        self._used: Counter[str] = Counter()

    @property
    def free(self) -> int:
        return self.total - len(self._held)

    @property
    def held(self) -> int:
        return len(self._held)

    def holds(self, name: str) -> bool:
        return name in self._held

    def full(self, unit: Unit, phase_key: str, phase_limit: int | None) -> str | None:
        """The key (of a phase or label) whose limit keeps the unit from starting, if any."""
        if phase_limit is not None and self._used[phase_key] >= phase_limit:
            return phase_key
        for label in unit.labels:
            limit = self._limits.get(label)
            if limit is not None and self._used[f"label:{label}"] >= limit:
                return f"label:{label}"
        return None

    def take(self, unit: Unit, phase_key: str) -> None:
        keys = (phase_key, *(f"label:{label}" for label in unit.labels if label in self._limits))
        self._held[unit.name] = keys
        self._used.update(keys)

    def give_back(self, name: str) -> tuple[str, ...]:
        """Free its slot; returns the keys under which something became free."""
        keys = self._held.pop(name, ())
        self._used.subtract(keys)
        return keys
