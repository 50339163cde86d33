"""The server's half of the page of sessions: whom it shows, and that a frame tells only what is new."""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path

import pytest

from orchestrator_app.agents.command import run_dir
from orchestrator_app.dashboard.console import Console
from orchestrator_app.dashboard.screens import sessions
from orchestrator_app.dashboard.screens.sessions import Sessions
from orchestrator_app.executors import processes
from orchestrator_app.orchestrator import Orchestrator
from orchestrator_app.settings import load_project
from orchestrator_app.testing import FakeExecutor

SETTINGS = """
[project]
slots = 200
[workflow]
isolation = "none"
phases = ["RUN"]
[phases.RUN]
retries = 0
[health]
stale = 60
stuck = 600
[agents.any]
command = ["true"]
"""
NAMES = [f"unit-{number}" for number in range(200)]


class Running:
    """Units whose attempts run for real time, and do what the test says."""

    def __init__(self, folder: Path, names: list[str]) -> None:
        (folder / "orchestrator.toml").write_text(SETTINGS)
        self.executor = FakeExecutor(time.time)
        self.orchestrator = Orchestrator(load_project(folder), executor=self.executor)
        self.scheduler = self.orchestrator.open()
        self.orchestrator.request("submit", units=[{"name": name} for name in names])
        self.step()

    def step(self) -> None:
        self.scheduler.step(time.time(), self.executor.wait(0))

    def directory(self, name: str) -> Path:
        made = run_dir(self.orchestrator.project, name, 1)
        made.mkdir(parents=True, exist_ok=True)
        return made


@pytest.fixture
def running(tmp_path: Path):
    made = []

    def running(names: list[str]) -> Running:
        made.append(Running(tmp_path, names))
        return made[0]

    yield running
    made[0].orchestrator.log.close()


async def first_frame(screen: Sessions) -> dict:
    screen.open({})
    while (payload := screen.changes(set(), set())) is None:
        await asyncio.sleep(0)
    return payload


def opened(orchestrator: Orchestrator) -> Sessions:
    return Sessions(Console(orchestrator), 1)


def test_a_frame_tells_of_200_running_attempts_only_what_is_new(running) -> None:
    world = running(NAMES)

    async def look() -> None:
        screen = opened(world.orchestrator)
        payload = await first_frame(screen)
        assert payload["rows"].keys() == set(NAMES) and payload["limits"] == [60_000, 600_000]

        assert screen.changes(set(NAMES), set()) is None
        for name in NAMES:
            world.executor.says(name, type="progress", percent=50, step="on it")
        world.step()
        payload = screen.changes(set(NAMES), set())
        assert payload["rows"].keys() == set(NAMES)
        assert {"percent", "step"} <= payload["rows"]["unit-7"].keys() <= {"percent", "step", "sign", "eta"}
        assert len(json.dumps(payload)) / len(NAMES) < 150
        screen.close()

    asyncio.run(look())


def test_one_that_ends_is_gone_and_one_that_was_killed_stays_as_crashed(running) -> None:
    world = running(["ends", "dies", "other"])

    async def look() -> None:
        screen = opened(world.orchestrator)
        await first_frame(screen)

        world.executor.exits("ends")
        world.executor.running.pop(("dies", 1))
        world.orchestrator.request("dispatch", paused=True)
        world.executor.recover([("dies", 1, 0)])
        world.step()
        payload = screen.changes({"ends", "dies"}, set())

        assert payload["gone"] == ["ends"]
        assert payload["rows"].keys() == {"dies"}
        assert (payload["rows"]["dies"]["health"], payload["rows"]["dies"]["status"]) == ("crashed", "READY")
        screen.close()

    asyncio.run(look())


def test_output_is_a_sign_of_life_as_a_message_is(running) -> None:
    world = running(["writes", "silent"])
    for unit in world.orchestrator.board.units.values():
        assert unit.heard_at is None
    log = world.directory("writes") / "output.log"
    log.write_text("…")
    ahead = 5_000_000_000  # a time that no silence comes up to
    os.utime(log, (ahead, ahead))

    async def look() -> None:
        rows = (await first_frame(opened(world.orchestrator)))["rows"]
        assert rows["writes"]["sign"] == ahead * 1000 > rows["silent"]["sign"]

    asyncio.run(look())


def test_one_that_waits_is_shown_only_while_its_process_lives(running) -> None:
    world = running(["lives", "ended", "never"])
    for name in ("lives", "ended", "never"):
        world.executor.says(name, type="ask", question="Which?")
    world.step()
    own = {"pid": os.getpid(), "starttime": start_of_this_process(), "started_at": 0}
    written = [{"timeout": None, "grace": 1}, {"keeper": 1, "starttime": 1, "boot_id": "b"}, own]
    for name in ("lives", "ended"):
        lines = "".join(json.dumps(line) + "\n" for line in written)
        (world.directory(name) / "attempt.json").write_text(lines)
    (world.directory("ended") / "exit.json").write_text("{}")

    async def look() -> None:
        rows = (await first_frame(opened(world.orchestrator)))["rows"]
        assert rows.keys() == {"lives"}
        assert (rows["lives"]["health"], rows["lives"]["pid"]) == ("waiting", os.getpid())
        assert "Which?" in rows["lives"]["why"]

    asyncio.run(look())


def start_of_this_process() -> int:
    process = processes.read(os.getpid())
    return process.starttime if process else 0


def test_of_many_that_crashed_so_many_are_shown_and_others_take_the_place_of_those_that_leave(
    running, monkeypatch
) -> None:
    monkeypatch.setattr(sessions, "IDLE_SHOWN", 3)
    world = running(NAMES[:8])
    world.orchestrator.request("dispatch", paused=True)
    world.executor.running.clear()
    world.executor.recover([(name, 1, 0) for name in NAMES[:8]])
    world.step()

    async def look() -> None:
        screen = opened(world.orchestrator)
        payload = await first_frame(screen)
        shown = set(payload["rows"])
        assert len(shown) == 3 and payload["more"] == 5

        left = shown.pop()
        world.orchestrator.request("cancel", left)
        world.step()
        payload = screen.changes({left}, set())
        assert payload["gone"] == [left]
        payload = screen.changes(set(), set())
        assert len(payload["rows"]) == 1 and payload["more"] == 4
        screen.close()

    asyncio.run(look())
