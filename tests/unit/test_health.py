"""What the silence of an attempt is called, and which ends count as a crash."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator_app.errors import SettingsError
from orchestrator_app.executors.base import Exited
from orchestrator_app.model import Unit, is_crash
from orchestrator_app.policy import outcome
from orchestrator_app.policy.health import HEALTHY, STALE, STUCK, Thresholds, health, silent_for
from orchestrator_app.settings import load_project
from orchestrator_app.states import Trigger

NOW = 1_000_000.0
ORDER = [HEALTHY, STALE, STUCK]
ago = st.none() | st.floats(0, 100_000).map(lambda seconds: NOW - seconds)
thresholds = st.builds(lambda stale, more: Thresholds(stale, stale + more), st.floats(1, 10_000), st.floats(0, 10_000))


def test_silence_grows_from_healthy_to_stale_to_stuck() -> None:
    limits = Thresholds(stale=120, stuck=900)

    assert health(NOW, NOW - 119, None, None, limits) == HEALTHY
    assert health(NOW, NOW - 120, None, None, limits) == STALE
    assert health(NOW, NOW - 900, None, None, limits) == STUCK


@pytest.mark.parametrize("sign", ["spoke", "wrote"])
def test_a_message_and_output_are_both_signs_of_life(sign: str) -> None:
    said = {"spoke": None, "wrote": None, sign: NOW - 5}

    assert health(NOW, NOW - 5_000, **said, thresholds=Thresholds(120, 900)) == HEALTHY


def test_a_threshold_of_0_is_never() -> None:
    assert health(NOW, 0, None, None, Thresholds(0, 0)) == HEALTHY
    assert health(NOW, 0, None, None, Thresholds(10, 0)) == STALE
    assert health(NOW, 0, None, None, Thresholds(0, 10)) == STUCK


@given(ago.filter(bool), ago, ago, thresholds, st.floats(0, 10_000))
def test_health_only_worsens_while_nothing_is_heard(started, spoke, wrote, limits, later) -> None:
    before = health(NOW, started, spoke, wrote, limits)
    after = health(NOW + later, started, spoke, wrote, limits)

    assert ORDER.index(after) >= ORDER.index(before)


@given(ago.filter(bool), ago, ago, st.floats(1, 10_000))
def test_the_screens_measure_silence_as_the_stall_rule_does(started, spoke, wrote, limit) -> None:
    silent = silent_for(NOW, started, spoke, wrote)

    assert (health(NOW, started, spoke, wrote, Thresholds(limit, 0)) == STALE) == (silent >= limit)


@pytest.mark.parametrize(
    ("retries", "trigger"), [(0, Trigger.FAIL), (3, Trigger.DEFER)], ids=["without retries", "retried"]
)
@pytest.mark.parametrize(
    ("code", "signal", "crashed"), [(None, 9, True), (None, 11, True), (1, None, False), (137, None, False)]
)
def test_an_attempt_that_a_signal_killed_has_crashed(tmp_path: Path, retries, trigger, code, signal, crashed) -> None:
    (tmp_path / "orchestrator.toml").write_text('[workflow]\nisolation = "none"\n[agents.any]\ncommand = ["true"]\n')
    project = load_project(tmp_path)
    phase = project.workflows["default"].phase("IMPLEMENT")
    ended = Exited("a", 1, code, signal, "exit", "", NOW, NOW, 0)

    decision = outcome.of_exit(project, Unit("a", retries=retries), phase, ended, NOW, random.Random(0), "")

    assert decision.trigger is trigger
    assert is_crash(decision.trigger, decision.reason) is crashed


def test_an_attempt_that_vanished_has_crashed_and_one_that_passed_has_not() -> None:
    assert is_crash(Trigger.LOSE, "its process vanished")
    assert not is_crash(Trigger.ADVANCE, "IMPLEMENT failed (signal 9)")
    assert not is_crash(Trigger.FAIL, None)


def test_the_thresholds_are_settings_and_stuck_comes_after_stale(tmp_path: Path) -> None:
    agent = '[agents.any]\ncommand = ["true"]\n'
    (tmp_path / "orchestrator.toml").write_text(f"[health]\nstale = 5\nstuck = 30\n{agent}")
    project = load_project(tmp_path)
    assert (project.health_stale, project.health_stuck) == (5, 30)

    (tmp_path / "orchestrator.toml").write_text(f"[health]\nstale = 60\nstuck = 30\n{agent}")
    with pytest.raises(SettingsError, match=r"orchestrator.toml:3: health.stuck must not be less than health.stale"):
        load_project(tmp_path)
