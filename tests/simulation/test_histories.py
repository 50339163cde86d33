"""The simulation itself: each seed is always the same history, its fakes are honest, and what fails is told."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from orchestrator_app.scheduler import Scheduler

from .fake_disk import Crash
from .history import run, shrink
from .plan import NEMESES, WORK, draw
from .real_disk import RealDisk
from .telling import told

TOP = Path(__file__).parents[2]


def test_the_real_log_makes_the_same_histories_as_the_fake_disk():
    for seed in range(12):
        on_the_fake_disk, on_a_real_one = run(draw(seed)), run(draw(seed), RealDisk)

        assert on_a_real_one.fault is None
        assert on_a_real_one.world.digest() == on_the_fake_disk.world.digest(), f"seed {seed}"


def test_a_seed_is_the_same_history_in_every_process():
    program = "from tests.simulation.plan import draw\nfrom tests.simulation.history import run\n"
    program += "print([run(draw(seed)).world.digest() for seed in range(20)])"

    told = [
        subprocess.run(
            [sys.executable, "-c", program],
            cwd=TOP,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    ]

    assert told[0] == told[1]
    assert len(set(told[0].split(", "))) == 20


def test_the_histories_hold_every_kind_of_fault_and_of_work():
    worlds = [run(draw(seed)).world for seed in range(150)]

    kinds = {op.kind for world in worlds for op in world.plan.ops}
    assert kinds == {*WORK, *NEMESES}
    words = {words[0] for world in worlds for words in world.story}
    assert {"crash", "unknown", "lost on the wire", "starts over", "late words", "granted", "refused"} <= words
    triggers = {record.trigger for world in worlds for record in world.disk.records if hasattr(record, "trigger")}
    assert len(triggers) > 20
    places = {words[1].split("/")[0].split(" u")[0] for world in worlds for words in world.story if words[0] == "crash"}
    assert {"before the commit", "after the commit", "in a watcher", "after a step"} <= places


def test_a_failing_history_is_made_short_told_and_can_be_played_again(monkeypatch):
    # Given: a scheduler that hands no answer to an agent that waits for it
    monkeypatch.setattr(Scheduler, "_deliver", lambda scheduler, unit: None)
    seed, fault = next((seed, fault) for seed in range(400) if (fault := run(draw(seed)).fault))
    plan = draw(seed)

    shorter = shrink(plan, fault)

    again = run(shorter)
    assert again.fault[:3] == fault[:3]
    assert len(shorter.ops) < len(plan.ops) / 2
    assert run(shorter).world.digest() == again.world.digest()
    assert any("--submit-->" in line for line in told(again.world))


def test_a_crash_is_no_exception_that_the_product_could_catch():
    assert not issubclass(Crash, Exception)
