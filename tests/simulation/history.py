"""Running histories, and making a failing one short."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from .ending import settle
from .fake_host import Violation
from .happenings import happen
from .plan import Op, Plan, draw
from .real_disk import RealDisk
from .world import World, simulated


@dataclass(frozen=True)
class Outcome:
    """How a history went: `fault` is None, or what did not hold."""

    world: World
    fault: str | None


def run(plan: Plan, disk: Any = None) -> Outcome:
    """Play a plan, then its ending."""
    world = World(plan, disk)
    fault = None
    with simulated(world):
        try:
            world.boot()
            for op in plan.ops:
                happen(world, op)
            settle(world)
        except Violation as violation:
            fault = str(violation)
        except Exception as error:
            fault = f"{type(error).__name__}: {error}"
        finally:
            world.disk.close()
    return Outcome(world, fault)


def shrink(plan: Plan, fault: str, disk: Any = None) -> Plan:
    """The shortest plan found that fails in the same way: operations are left out as long as it still does."""
    kind = fault[:3]
    ops = plan.ops
    size = len(ops) // 2
    while size:
        at = 0
        while at < len(ops):
            fewer: tuple[Op, ...] = ops[:at] + ops[at + size :]
            found = run(plan.only(fewer), disk).fault
            if found is not None and found[:3] == kind:
                ops = fewer
            else:
                at += size
        size //= 2
    return plan.only(ops)


def play(seeds: Iterable[int], real_log: bool = False) -> tuple[int, list[tuple[int, str]]]:
    """Play the histories of these seeds: how many there were, and which failed in which way."""
    count, faults = 0, []
    for seed in seeds:
        count += 1
        fault = run(draw(seed), RealDisk if real_log else None).fault
        if fault is not None:
            faults.append((seed, fault))
    return count, faults
