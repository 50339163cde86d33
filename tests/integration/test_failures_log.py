"""What a real log says of errors, and of everything that happened, is what its records say."""

from __future__ import annotations

import random
from datetime import timedelta

import pytest

from orchestrator_app import failures
from orchestrator_app.dashboard import recent
from orchestrator_app.errors import NotFoundError
from orchestrator_app.orchestrator import Orchestrator
from orchestrator_app.settings import load_project
from orchestrator_app.store.log import utc
from orchestrator_app.testing import FakeExecutor, HandClock

SETTINGS = """
[project]
slots = 20
[workflow]
isolation = "none"
phases = ["RUN"]
[phases.RUN]
retries = 0
[agents.any]
command = ["true"]
"""


class World:
    """A project moved by hand."""

    def __init__(self, folder) -> None:
        (folder / "orchestrator.toml").write_text(SETTINGS)
        self.clock = HandClock()
        self.executor = FakeExecutor(self.clock)
        self.orchestrator = Orchestrator(
            load_project(folder), executor=self.executor, clock=self.clock, chance=random.Random(0)
        )
        self.scheduler = self.orchestrator.open()

    def step(self) -> None:
        self.scheduler.step(self.clock(), self.executor.wait(0))

    def ask(self, kind, unit=None, **args):
        future = self.orchestrator.request(kind, unit, actor="operator:ann", **args)
        self.step()
        return future.result(0)

    def fail(self, *names, output="", retries=None) -> None:
        """Submit them and have each end with exit code 3 and this output."""
        self.ask("submit", units=[{"name": name, "retries": retries} for name in names])
        for name in names:
            folder = self.orchestrator.project.state / "runs" / name / "1"
            folder.mkdir(parents=True)
            (folder / "output.log").write_text(output.format(name=name))
            self.executor.exits(name, 3)
        self.step()

    def summary(self, **options):
        now = utc(self.clock())
        return failures.summary(self.orchestrator, now=now, **options)


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path)
    yield world
    assert world.scheduler.fault is None
    world.orchestrator.log.close()


def test_the_same_error_of_many_units_is_one_group_with_its_units_and_times(world):
    world.fail("a-1", "a-2", output="working\n{name}: can't open /tmp/{name}/x.txt (try 7)\n")
    began = utc(world.clock())
    world.clock.forward(600)
    world.fail("other", output="out of memory\n")
    world.fail("a-3", output="{name}: can't open /srv/y.txt (try 12)")

    found = world.summary()

    assert (found["errors"], found["groups"]) == (4, 2)
    first = found["found"][0]
    assert first["message"] == "RUN failed (exit code #): <unit>: can't open <path> (try #)"
    assert (first["kind"], first["count"], first["total"], set(first["units"])) == ("fail", 3, 3, {"a-1", "a-2", "a-3"})
    assert (first["first"], first["last"]) == (began, utc(world.clock()))
    assert first["units"][0] == "a-3" and "/srv/y.txt" in first["sample"]
    assert first["bars"][-1] == 1 and sum(first["bars"]) == 3


def test_range_search_limit_and_order_choose_among_the_groups(world):
    world.fail("old-1", "old-2", output="disk is full")
    world.clock.forward(7200)
    world.fail("young", output="out of memory")

    recently = world.summary(since=utc(world.clock()) - timedelta(hours=1))
    assert [group["units"] for group in recently["found"]] == [["young"]]
    assert [group["count"] for group in world.summary(search="DISK")["found"]] == [2]
    assert [group["count"] for group in world.summary(search="old-2")["found"]] == [2]
    assert [group["count"] for group in world.summary(order="last")["found"]] == [1, 2]
    cut = world.summary(limit=1)
    assert len(cut["found"]) == 1 and cut["groups"] == 2 and cut["errors"] == 3


def test_retries_losses_and_what_agents_report_are_errors_and_an_orderly_stop_is_none(world):
    world.fail("retried", retries=1)
    world.ask("submit", units=[{"name": "speaks"}, {"name": "stopped"}])
    world.executor.says("speaks", type="note", level="error", message="can't reach the registry")
    world.executor.exits("stopped", 143, "stop")
    world.step()

    kinds = {group["kind"]: group["units"] for group in world.summary()["found"]}

    assert kinds == {"defer": ["retried"], "said": ["speaks"]}


def test_the_details_of_a_group_are_whole_and_name_whom_a_retry_would_free(world):
    world.fail("b-1", "b-2", output="\n".join(f"line {number}" for number in range(100)) + "\nboom")
    world.ask("accept", "b-2", reason="good enough")
    (group,) = world.summary()["found"]

    whole = failures.detail(world.orchestrator, group["key"])

    assert whole["count"] == 2 and len(whole["occurrences"]) == 2
    assert "line 99\nboom" in whole["occurrences"][0]["item"]
    assert whole["excerpt"]["text"].splitlines()[0] == "line 61" and whole["excerpt"]["text"].endswith("boom")
    version = world.orchestrator.board.row("b-1").version
    assert whole["stopped"] == [{"unit": "b-1", "version": version}]
    assert "retry" in whole["advice"]
    world.ask("retry", "b-1", version=version)
    assert failures.detail(world.orchestrator, group["key"])["stopped"] == []
    with pytest.raises(NotFoundError):
        failures.detail(world.orchestrator, "nothing")


def test_every_row_of_the_stream_is_the_same_live_and_from_the_log(world):
    world.fail("c-1", output="boom")
    world.ask("submit", units=[{"name": "c-2"}, {"name": "c-3", "after": ["c-2"]}])
    world.executor.says("c-2", type="heartbeat")
    world.executor.says("c-2", type="usage", model="m", input_tokens=1200, output_tokens=7, usd=0.12345)
    world.executor.says("c-2", type="session", id="s-1")
    world.executor.says("c-2", type="note", level="warning", message="é" * 1000)
    world.executor.says("c-2", type="ask", question="Which?")
    world.step()
    world.ask("dispatch", paused=True)
    log = world.orchestrator.log
    live = [recent.row(record) for record in log.read()][::-1]

    assert recent.older(world.orchestrator, recent.Wanted(), log.seq + 1, 10_000) == live
    assert {row["kind"] for row in live} >= {"transition", "event", "progress", "attention", "usage", "session"}
    for said in (
        {"kinds": "transition,usage"},
        {"unit": "C-2"},
        {"level": "warning"},
        {"text": "É"},
        {"text": "c-1 fail"},
    ):
        wanted = recent.Wanted.of(said)
        fitting = [row for row in live if wanted.fits(row)]
        assert fitting and recent.older(world.orchestrator, wanted, log.seq + 1, 10_000) == fitting
    newest = recent.older(world.orchestrator, recent.Wanted(), log.seq + 1, 4)
    assert newest == live[:4]
    assert recent.older(world.orchestrator, recent.Wanted(), newest[-1]["seq"], 4) == live[4:8]
    assert recent.older(world.orchestrator, recent.Wanted(), 7, 10, floor=3) == [
        row for row in live if 3 < row["seq"] < 7
    ]


def test_one_watch_serves_all_readers_of_the_stream_and_ends_with_the_last(world):
    board = world.orchestrator.board
    before = len(board._watchers)
    first, second = object(), object()

    shared = recent.join(board, first)
    assert recent.join(board, second) is shared and len(board._watchers) == before + 1
    recent.leave(board, first)
    world.fail("d-1")

    assert [record.seq for record in shared.since(0)] == list(range(board.seq, 0, -1)) and shared.wrong == 1
    recent.leave(board, second)
    recent.leave(board, second)
    assert len(board._watchers) == before
