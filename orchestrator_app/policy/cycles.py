"""The order of units that name each other as blockers, or the cycle that they are in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from orchestrator_app.errors import UsageError


def in_order(after: Mapping[str, Sequence[str]]) -> list[str]:
    """The names so that each comes after its blockers, as far as these are among them. UsageError names a cycle."""
    waiting = {name: [one for one in blockers if one in after] for name, blockers in after.items()}
    behind: dict[str, list[str]] = {name: [] for name in after}
    for name, blockers in waiting.items():
        for blocker in blockers:
            behind[blocker].append(name)
    missing = {name: len(blockers) for name, blockers in waiting.items()}
    order = [name for name, count in missing.items() if not count]
    for name in order:
        for one in behind[name]:
            missing[one] -= 1
            if not missing[one]:
                order.append(one)
    if len(order) < len(after):
        raise UsageError(f"these units wait for each other in a cycle: {_cycle(waiting, set(order))}")
    return order


def _cycle(waiting: Mapping[str, list[str]], free: set[str]) -> str:
    path = [next(name for name in waiting if name not in free)]
    while path.count(path[-1]) < 2:
        path.append(next(one for one in waiting[path[-1]] if one not in free))
    return " after ".join(path[path.index(path[-1]) :])
