"""What an attempt has left when its keeper was killed: found by the run directory in its environment."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from executor_kit import Rig, kill, marked, new_mark

from orchestrator_app.executors import processes
from orchestrator_app.executors.base import Vanished


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path / "state")
    rig.state.mkdir()
    rig.open()
    yield rig
    rig.finish()


def environment(rig: Rig) -> dict[str, str]:
    return {"ORCH_RUN_DIR": str(rig.run_dir("u"))}


def test_f15_what_an_agent_without_a_keeper_leaves_behind_is_ended_before_it_counts_as_gone(rig: Rig) -> None:
    mark = new_mark()
    rig.start("u", "/bin/sh", "-c", f"(setsid sleep {mark} &) ; sleep 1000", env=environment(rig))
    agent = rig.agent("u")
    rig.until(lambda: marked(mark), "the child")
    (keeper,) = (pid for pid in rig.keepers() if pid == json.loads(attempt(rig)[1])["keeper"])

    kill(keeper)
    kill(agent)

    assert isinstance(rig.end("u"), Vanished)
    assert not marked(mark)


def test_f15_what_ignores_the_term_is_killed(rig: Rig) -> None:
    mark = new_mark()
    stubborn = f"import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(); time.sleep({mark})"
    rig.start("u", "/bin/sh", "-c", f"python3 -S -c '{stubborn}' & sleep 1000", env=environment(rig))
    agent = rig.agent("u")
    rig.until(lambda: rig.output("u"), "the child to ignore the signal")

    kill(json.loads(attempt(rig)[1])["keeper"])
    kill(agent)

    assert isinstance(rig.end("u"), Vanished)
    assert not marked(mark)


def test_f2_an_agent_that_its_keeper_had_no_time_to_write_down_is_found_and_followed(rig: Rig) -> None:
    rig.run_dir("u").mkdir(parents=True)
    dead = {"keeper": 1 << 22, "starttime": 1, "boot_id": processes.boot_id()}
    spec = {"timeout": None, "grace": 1.0}
    (rig.run_dir("u") / "attempt.json").write_text(f"{json.dumps(spec)}\n{json.dumps(dead)}\n")
    with subprocess.Popen(["sleep", "1000"], env={**os.environ, **environment(rig)}, process_group=0) as agent:
        rig.executor.recover([("u", 1, 0)])
        rig.reports += rig.executor.wait(0.0)
        assert rig.ends("u") == []

        agent.kill()

    assert rig.end("u") == Vanished("u", 1, "its process and its keeper are gone and left no exit behind")
    assert json.loads(attempt(rig)[2])["pid"] == agent.pid


def test_f2_an_agent_that_its_keeper_had_no_time_to_write_down_can_be_stopped(rig: Rig) -> None:
    rig.run_dir("u").mkdir(parents=True)
    dead = {"keeper": 1 << 22, "starttime": 1, "boot_id": processes.boot_id()}
    spec = {"timeout": None, "grace": 1.0}
    (rig.run_dir("u") / "attempt.json").write_text(f"{json.dumps(spec)}\n{json.dumps(dead)}\n")
    with subprocess.Popen(["sleep", "1000"], env={**os.environ, **environment(rig)}, process_group=0) as agent:
        rig.executor.recover([("u", 1, 0)])

        rig.executor.stop("u", 1, 1.0)

        assert agent.wait(20) == -15
    assert isinstance(rig.end("u"), Vanished)


def attempt(rig: Rig) -> list[str]:
    return (rig.run_dir("u") / "attempt.json").read_text().splitlines()
