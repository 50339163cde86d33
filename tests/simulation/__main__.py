"""Play histories: `python -m tests.simulation --seeds 10000`, from the repository's top level.

Every seed is one history and always the same one: which settings, which people, which faults, in which order. It is
played until everything has ended; after every commit and every step the invariants are checked (docs/reliability.md).
"""

from __future__ import annotations

import argparse
import multiprocessing
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from .history import play, run, shrink
from .plan import draw
from .real_disk import RealDisk
from .telling import told

#: Seeds that a worker plays before it says how that went.
BITE = 100


def main(arguments: list[str] | None = None) -> int:
    options = _options(arguments)
    if options.seed is not None:
        return _tell(options.seed, options.real_log)
    began = time.monotonic()
    bites = [
        range(first, min(first + BITE, options.first + options.seeds))
        for first in range(options.first, options.first + options.seeds, BITE)
    ]
    played = failed = 0
    for count, faults in _play_all(bites, options.workers, options.real_log):
        played += count
        for seed, fault in faults:
            failed += 1
            print(f"seed {seed}: {fault}", flush=True)
            if failed == 1:
                _tell(seed, options.real_log)
    taken = time.monotonic() - began
    print(f"{played} histories, {failed} failed, {taken:.0f} s, {taken / played * 1000:.1f} ms each{_commit()}")
    return 1 if failed else 0


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=10_000, help="how many histories (default: 10000)")
    parser.add_argument("--first", type=int, default=0, help="the first seed (default: 0)")
    parser.add_argument("--seed", type=int, help="play this one and tell its story")
    parser.add_argument("--workers", type=int, default=2, help="processes that play (default: 2)")
    parser.add_argument("--real-log", action="store_true", help="write the log with DuckDB, to real files; slower")
    options = parser.parse_args(arguments)
    if options.seeds < 1 or options.workers < 1:
        parser.error("--seeds and --workers must be 1 or more")
    return options


def _play_all(bites: list[range], workers: int, real: bool) -> Iterator[tuple[int, list[tuple[int, str]]]]:
    if workers == 1:
        yield from (play(bite, real) for bite in bites)
        return
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(play, bites, [real] * len(bites))


def _tell(seed: int, real: bool) -> int:
    """Play one history and tell its story; a failing one is made short first."""
    disk = RealDisk if real else None
    plan = draw(seed)
    outcome = run(plan, disk)
    if outcome.fault is not None:
        shorter = shrink(plan, outcome.fault, disk)
        print(f"seed {seed}{_commit()}, shortened from {len(plan.ops)} operations to {len(shorter.ops)}:")
        outcome = run(shorter, disk)
    else:
        print(f"seed {seed}{_commit()}:")
    for line in told(outcome.world):
        print("  " + line)
    print(f"Failed: {outcome.fault}" if outcome.fault else "All of it holds.")
    print(f"Play it again: python -m tests.simulation --seed {seed}{' --real-log' if real else ''}")
    return 1 if outcome.fault else 0


def _commit() -> str:
    """The commit of the code, if that is known."""
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True
    )
    return f", commit {done.stdout.strip()}" if done.returncode == 0 else ""


if __name__ == "__main__":
    sys.exit(main())
