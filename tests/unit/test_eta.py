"""How long what runs will still take."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator_app.dashboard.estimates import Estimates, medians, percent_of
from orchestrator_app.model import Unit
from orchestrator_app.orchestrator import Orchestrator
from orchestrator_app.policy import eta
from orchestrator_app.settings import load_project
from orchestrator_app.testing import FakeExecutor, HandClock

seconds = st.floats(0, 1e6)
percents = st.floats(0, 100)
pasts = st.none() | seconds


@given(seconds, st.none() | percents, pasts)
def test_the_rest_is_never_negative(worked, percent, usual) -> None:
    rest = eta.of_attempt(worked, percent, usual)

    assert rest is None or rest >= 0


@given(seconds, st.floats(0.1, 100), st.floats(0.1, 100), seconds)
def test_more_progress_in_the_same_time_never_means_a_longer_rest(worked, one, other, usual) -> None:
    less, more = sorted((one, other))

    assert eta.of_attempt(worked, more, usual) <= eta.of_attempt(worked, less, usual) * (1 + 1e-9) + 1e-6


@given(seconds, st.none() | percents, seconds, seconds)
def test_a_phase_that_usually_takes_longer_never_promises_an_earlier_end(worked, percent, one, other) -> None:
    short, long = sorted((one, other))

    assert eta.of_attempt(worked, percent, short) <= eta.of_attempt(worked, percent, long)


@given(seconds, pasts)
def test_at_100_percent_nothing_is_left(worked, usual) -> None:
    assert eta.of_attempt(worked, 100, usual) == 0


def test_without_progress_the_past_tells() -> None:
    assert eta.of_attempt(40, None, 100) == 60
    assert eta.of_attempt(40, 0, 100) == 60
    assert eta.of_attempt(140, None, 100) == 0


def test_without_a_past_the_progress_tells_once_there_is_some() -> None:
    assert eta.of_attempt(60, 25, None) == 180
    assert eta.of_attempt(60, 1, None) is None
    assert eta.of_attempt(60, None, None) is None


def test_the_more_progress_the_less_the_past_counts() -> None:
    assert eta.of_attempt(50, 50, 1_000) == 50
    assert 50 < eta.of_attempt(50, 25, 1_000) < 1_000


SETTINGS = """
[workflow]
isolation = "none"
phases = ["PLAN", "IMPLEMENT"]
[phases.PLAN]
retries = 0
[agents.any]
command = ["true"]
"""


@pytest.fixture
def project(tmp_path: Path):
    (tmp_path / "orchestrator.toml").write_text(SETTINGS)
    return load_project(tmp_path)


def test_a_unit_takes_the_rest_of_its_phase_and_the_phases_after_it(project) -> None:
    workflow = project.workflows["default"]

    assert eta.of_unit(10, workflow, "PLAN", {("default", "IMPLEMENT"): 100}) == 110
    assert eta.of_unit(10, workflow, "IMPLEMENT", {}) == 10
    assert eta.of_unit(10, workflow, "PLAN", {}) is None
    assert eta.of_unit(None, workflow, "IMPLEMENT", {}) is None
    assert eta.of_unit(10, workflow, "GONE", {}) is None


@pytest.mark.parametrize(
    ("said", "percent"),
    [(40, 40.0), (140, 100.0), (-3, 0.0), ("40", None), (None, None), (True, None), (float("nan"), None)],
)
def test_whatever_an_agent_calls_its_percent_is_one_or_none(said, percent) -> None:
    assert percent_of(Unit("a", progress={"percent": said})) == percent


def test_medians_are_by_workflow_and_phase() -> None:
    units = {"a": Unit("a"), "b": Unit("b", workflow="quick")}
    rows = [
        {"unit": unit, "phase": "PLAN", "seconds": seconds}
        for unit, seconds in (("a", 1.0), ("a", 9.0), ("a", 2.0), ("b", 50.0), ("gone", 7.0))
    ]

    assert medians(rows, units) == {("default", "PLAN"): 2.0, ("quick", "PLAN"): 50.0}


def test_the_usual_time_of_a_phase_is_read_from_passed_attempts_without_their_waits(project) -> None:
    clock = HandClock()
    executor = FakeExecutor(clock)
    orchestrator = Orchestrator(project, executor=executor, clock=clock)
    scheduler = orchestrator.open()

    def step(after: float = 0) -> None:
        clock.forward(after)
        scheduler.step(clock(), executor.wait(0))

    orchestrator.request("submit", units=[{"name": "a"}, {"name": "fails"}])
    step()
    executor.says("a", type="ask", question="Which?")
    step(10)
    orchestrator.request("answer", "a", text="that")
    step(1_000)
    executor.exits("a")
    executor.exits("fails", 1)
    step(30)
    step(5)
    estimates = Estimates()

    estimates.read(orchestrator)

    assert estimates.usual == {("default", "PLAN"): 40.0}
    running = orchestrator.board.row("a")
    assert running.phase == "IMPLEMENT" and estimates.remaining(running, clock()) is None
    executor.says("a", type="progress", percent=50)
    step(20)
    assert estimates.remaining(running, clock()) == pytest.approx(25)
    orchestrator.log.close()
