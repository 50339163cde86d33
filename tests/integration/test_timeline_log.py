"""The timeline shows the attempts that the log has, no more and no fewer."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from orchestrator_app import Orchestrator
from orchestrator_app.dashboard.attempts import OUTCOMES, Attempts, attempts_of
from orchestrator_app.settings import load_project
from orchestrator_app.testing import FakeExecutor, HandClock

SETTINGS = """
[project]
slots = 2
[workflow]
isolation = "none"
phases = ["PLAN", "IMPLEMENT"]
[phases.PLAN]
retries = 1
[agents.sh]
command = ["true"]
"""


@pytest.fixture
def stage(tmp_path: Path):
    """An orchestrator that is stepped by hand: (orchestrator, executor, step)."""
    (tmp_path / "orchestrator.toml").write_text(SETTINGS)
    clock = HandClock()
    executor = FakeExecutor(clock)
    orchestrator = Orchestrator(load_project(tmp_path), executor=executor, clock=clock, chance=random.Random(1))
    scheduler = orchestrator.open()

    def step(seconds: float = 1.0) -> None:
        scheduler.step(clock.forward(seconds), executor.wait(0))

    yield orchestrator, executor, step
    orchestrator.log.close()


def outcomes(attempts: Attempts) -> list[tuple[str, str, str]]:
    rows = attempts.within(0, np.inf, np.inf)
    return [(attempts.units[row["unit"]], attempts.phases[row["phase"]], OUTCOMES[row["outcome"]]) for row in rows]


def test_each_attempt_of_the_log_is_a_bar_that_ends_as_it_ended(stage):
    orchestrator, executor, step = stage
    attempts = attempts_of(orchestrator)
    orchestrator.request("submit", units=[{"name": "one"}, {"name": "two"}])
    step()

    attempts.read(orchestrator.log)
    assert outcomes(attempts) == [("one", "PLAN", "running"), ("two", "PLAN", "running")]

    executor.exits("one", 0)
    executor.exits("two", 3)
    step()
    attempts.read(orchestrator.log)
    step(600)
    executor.exits("two", 4)
    step()
    attempts.read(orchestrator.log)

    found = orchestrator.rows("SELECT seq, started_at, ended_at FROM phase_duration ORDER BY seq")
    rows = attempts.within(0, np.inf, np.inf)
    assert rows["seq"].tolist() == [row["seq"] for row in found]
    assert np.isinf(rows["ended"]).tolist() == [row["ended_at"] is None for row in found]
    assert outcomes(attempts) == [
        ("one", "PLAN", "passed"),
        ("two", "PLAN", "failed"),
        ("one", "IMPLEMENT", "running"),
        ("two", "PLAN", "failed"),
    ]


def test_reading_on_after_each_step_gives_what_reading_all_at_once_does(stage):
    orchestrator, executor, step = stage
    bit_by_bit, chance = Attempts(), random.Random(7)
    orchestrator.request("submit", units=[{"name": f"u{number}"} for number in range(12)])
    for _ in range(60):
        step(chance.uniform(1, 30))
        for unit, _ in list(executor.running):
            if chance.random() < 0.6:
                executor.exits(unit, chance.choice([0, 0, 0, 1, 75]))
        bit_by_bit.read(orchestrator.log)

    at_once = Attempts()
    at_once.read(orchestrator.log)

    rows = at_once.within(0, np.inf, np.inf)
    assert len(rows) > 20 and int(rows["slot"].max()) == 1
    assert (bit_by_bit.within(0, np.inf, np.inf) == rows).all()
    assert outcomes(bit_by_bit) == outcomes(at_once)
