"""How quickly units go through, beside huey and a bare loop in the same run, on the same work: programs like `true`.

    python benchmarks/dispatch.py [--units 1000] [--rounds 3]

Prints units per second of each and the ratios; the time from a submit to the start of its process; and the time
from the end of one unit to the end of its 1,000 dependents. Every figure is the median of the rounds; the machine's
noise hits all contestants of a round alike, so only the ratios travel between machines.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from orchestrator_app.orchestrator import Orchestrator
from orchestrator_app.settings import load_project
from orchestrator_app.testing import assert_consistent

TRUE = "/bin/true"
LIMIT = 300
#: Where everything is put, removed only at the very end: for minutes after a mass deletion, ext4 makes each new file
#: several times slower (it passes over inodes that were freed a moment ago).
FOLDERS = tempfile.TemporaryDirectory()


@contextmanager
def new_folder() -> Iterator[str]:
    yield tempfile.mkdtemp(dir=FOLDERS.name)


def project(folder: Path, slots: int, phases: list[str], command: str = f'["{TRUE}"]') -> Orchestrator:
    """A started orchestrator of a plain project: no git, one agent."""
    tables = "".join(f'[phases.{phase}]\nkind = "agent"\nprompt = ""\n' for phase in phases)
    (folder / "orchestrator.toml").write_text(
        f"[project]\nslots = {slots}\n"
        f'[workflow]\nisolation = "none"\nphases = [{", ".join(repr(phase) for phase in phases)}]\n'
        f"{tables}[agents.program]\ncommand = {command}\n"
    )
    orchestrator = Orchestrator(load_project(folder))
    orchestrator.start()
    return orchestrator


def when_done(orchestrator: Orchestrator, count: int) -> threading.Event:
    done = threading.Event()
    orchestrator.board.watch(lambda _: orchestrator.board.counts["DONE"] >= count and done.set())
    return done


def ours(units: int, slots: int, phases: int) -> float:
    """Units per second from the submit of all of them to the last one done, every change durable."""
    with new_folder() as folder:
        orchestrator = project(Path(folder), slots, [f"P{number}" for number in range(phases)])
        done = when_done(orchestrator, units)
        # The first attempts make the pool of keepers; huey's threads are there before its clock starts, too.
        warm(orchestrator, slots)
        done = when_done(orchestrator, units + slots)
        begin = time.perf_counter()
        orchestrator.request("submit", units=[{"name": f"u{number}"} for number in range(units)])
        if not done.wait(LIMIT):
            raise SystemExit(f"only {orchestrator.status()['counts']} after {LIMIT} s")
        elapsed = time.perf_counter() - begin
        assert_consistent(orchestrator.log, orchestrator.board)
        orchestrator.stop()
    return units / elapsed


def warm(orchestrator: Orchestrator, slots: int) -> None:
    done = when_done(orchestrator, slots)
    orchestrator.request("submit", units=[{"name": f"warm{number}"} for number in range(slots)])
    done.wait(LIMIT)


def huey(units: int, slots: int, phases: int) -> float:
    """The same with huey: SQLite with fsync, a thread per slot, the next phase as a pipeline."""
    from huey import SqliteHuey

    with new_folder() as folder:
        queue = SqliteHuey(filename=f"{folder}/huey.db", fsync=True)
        finished = threading.Semaphore(0)

        @queue.task()
        def run(phase: int) -> int:
            pid = os.posix_spawn(TRUE, [TRUE], os.environ)
            os.waitpid(pid, 0)
            if phase == phases - 1:
                finished.release()
            return phase + 1

        consumer = queue.create_consumer(
            workers=slots, worker_type="thread", periodic=False, initial_delay=0.001, max_delay=0.01
        )
        consumer.start()
        begin = time.perf_counter()
        for _ in range(units):
            chain = run.s(0)
            for _ in range(phases - 1):
                chain = chain.then(run)
            queue.enqueue(chain)
        for _ in range(units):
            finished.acquire(timeout=LIMIT)
        elapsed = time.perf_counter() - begin
        consumer.stop(graceful=True)
        queue.storage.close()
    return units / elapsed


def bare(units: int, slots: int, phases: int) -> float:
    """The limit: a loop that only spawns and reaps."""
    begin = time.perf_counter()
    live = spawned = 0
    while spawned < units * phases or live:
        while live < slots and spawned < units * phases:
            os.posix_spawn(TRUE, [TRUE], os.environ)
            live += 1
            spawned += 1
        os.wait()
        live -= 1
    return units / (time.perf_counter() - begin)


def latencies(count: int = 100) -> tuple[float, float]:
    """Milliseconds from a submit to the start of its process on an idle system: p50, p95.

    The process itself says when it runs (`date`), so its own start-up is counted too.
    """
    found = []
    with new_folder() as folder:
        orchestrator = project(Path(folder), 4, ["RUN"], '["/bin/date", "+%s.%N"]')
        warm(orchestrator, 4)
        for number in range(count):
            done = when_done(orchestrator, 5 + number)
            begin = time.time()
            orchestrator.request("submit", units=[{"name": f"u{number}"}])
            done.wait(LIMIT)
            output = Path(folder) / ".orchestrator" / "runs" / f"u{number}" / "1" / "output.log"
            found.append((float(output.read_text()) - begin) * 1e3)
        orchestrator.stop()
    cuts = statistics.quantiles(found, n=20)
    return statistics.median(found), cuts[18]


def release(dependents: int = 1_000, slots: int = 8) -> float:
    """Seconds from the end of one unit to the end of the last of its dependents."""
    with new_folder() as folder:
        orchestrator = project(Path(folder), slots, ["RUN"])
        warm(orchestrator, slots)
        orchestrator.request("dispatch", paused=True).result(LIMIT)
        units = [{"name": "first"}, *({"name": f"u{number}", "after": ["first"]} for number in range(dependents))]
        orchestrator.request("submit", units=units).result(LIMIT)
        first, done = when_done(orchestrator, slots + 1), when_done(orchestrator, slots + 1 + dependents)
        orchestrator.request("dispatch", paused=False)
        first.wait(LIMIT)
        begin = time.perf_counter()
        done.wait(LIMIT)
        elapsed = time.perf_counter() - begin
        orchestrator.stop()
    return elapsed


def compare(title: str, units: int, slots: int, phases: int, rounds: int) -> None:
    contestants: dict[str, Callable[[int, int, int], float]] = {"bare loop": bare, "huey": huey, "orchestrator": ours}
    rates: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, run in contestants.items():
            rates[name].append(run(units, slots, phases))
    to_huey = [mine / theirs for mine, theirs in zip(rates["orchestrator"], rates["huey"], strict=True)]
    to_bare = [mine / theirs for mine, theirs in zip(rates["orchestrator"], rates["bare loop"], strict=True)]
    shown = ", ".join(f"{name} {statistics.median(found):,.0f}" for name, found in rates.items())
    print(
        f"{title}: {shown} units/s; {statistics.median(to_huey):.2f} x huey "
        f"({min(to_huey):.2f}-{max(to_huey):.2f}), {statistics.median(to_bare):.2f} x the bare loop",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--units", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print(f"{platform.system()} {platform.release()}, {os.cpu_count()} CPUs, Python {platform.python_version()}")
    compare(f"{options.units} units, 1 phase, 8 slots", options.units, 8, 1, options.rounds)
    compare(f"{options.units} units, 1 phase, 2 slots", options.units, 2, 1, options.rounds)
    compare("300 units, 3 phases, 8 slots", 300, 8, 3, options.rounds)
    p50, p95 = latencies()
    print(f"submit to process start, idle: p50 {p50:.1f} ms, p95 {p95:.1f} ms")
    print(f"1,000 dependents released at once, to the last one done: {release():.2f} s")
    FOLDERS.cleanup()


if __name__ == "__main__":
    main()
