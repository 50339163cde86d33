"""What the model keeps of the attempt that runs: its last words, work and use; and a replay knows the same."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest

from orchestrator_app.model import Spent, Unit
from orchestrator_app.orchestrator import Orchestrator
from orchestrator_app.settings import load_project
from orchestrator_app.states import Status
from orchestrator_app.testing import FakeExecutor, HandClock, Subscriber, assert_consistent

SETTINGS = """
[project]
slots = 2
[workflow]
isolation = "none"
phases = ["PLAN", "IMPLEMENT"]
[agents.any]
command = ["true"]
"""


class Moved:
    """A project with one unit, `a`, whose attempt runs; moved by hand."""

    def __init__(self, folder: Path) -> None:
        (folder / "orchestrator.toml").write_text(SETTINGS)
        self.clock = HandClock()
        self.executor = FakeExecutor(self.clock)
        self.orchestrator = Orchestrator(load_project(folder), executor=self.executor, clock=self.clock)
        self.scheduler = self.orchestrator.open()
        self.subscriber = Subscriber(self.orchestrator.board)
        self.ask("submit", units=[{"name": "a"}])

    def step(self, after: float = 0) -> Unit:
        self.clock.forward(after)
        self.scheduler.step(self.clock(), self.executor.wait(0))
        return self.unit

    def ask(self, kind: str, unit: str | None = None, **args) -> Unit:
        future = self.orchestrator.request(kind, unit, **args)
        self.step()
        future.result(0)
        return self.unit

    @property
    def unit(self) -> Unit:
        return self.orchestrator.board.row("a")


@pytest.fixture
def moved(tmp_path: Path):
    made = Moved(tmp_path)
    yield made
    assert_consistent(made.orchestrator.log, made.orchestrator.board, made.subscriber)
    made.orchestrator.log.close()


@pytest.mark.parametrize(
    "words", [{"type": "heartbeat"}, {"type": "progress", "percent": 3}, {"type": "usage", "usd": 1}, {"type": "?"}]
)
def test_any_message_is_a_sign_of_life(moved: Moved, words: dict) -> None:
    assert moved.unit.heard_at is None

    moved.executor.says("a", **words)
    first = moved.step(5).heard_at
    moved.executor.says("a", **words)
    second = moved.step(7).heard_at

    assert (second - first).total_seconds() == 7


def test_what_others_say_of_a_unit_is_no_sign_of_its_life(moved: Moved) -> None:
    draft = moved.scheduler.gate.draft(moved.clock())
    draft.event("a", "commit", actor="scheduler", cause="c", message="committed")
    moved.scheduler.gate.commit(draft)

    assert moved.unit.heard_at is None


def test_a_new_attempt_has_said_and_used_nothing_yet_and_the_unit_remembers_the_sum(moved: Moved) -> None:
    moved.executor.says("a", type="usage", input_tokens=100, output_tokens=10, usd=0.5)
    moved.executor.says("a", type="usage", input_tokens=1, output_tokens=2, usd=0.25)
    assert moved.step().spent == Spent(101, 12, 0.75)
    moved.executor.exits("a")

    moved.step()
    assert moved.unit.attempt == 2 and moved.unit.spent is None and moved.unit.heard_at is None
    moved.executor.says("a", type="usage", input_tokens=4)

    assert moved.step().spent == Spent(4, 0, 0.0)
    assert moved.unit.spent_in_all == Spent(105, 12, 0.75)


def test_late_words_of_an_earlier_attempt_count_for_the_unit_only(moved: Moved) -> None:
    draft = moved.scheduler.gate.draft(moved.clock())
    draft.usage("a", 0, "", 7, 7, 7.0)
    draft.event("a", "heartbeat", actor="agent:a", cause="c", message="", attempt=0)
    moved.scheduler.gate.commit(draft)

    assert moved.unit.spent is None and moved.unit.heard_at is None
    assert moved.unit.spent_in_all == Spent(7, 7, 7.0)


def test_the_time_in_which_an_attempt_waits_for_an_answer_is_not_work(moved: Moved) -> None:
    moved.executor.says("a", type="ask", question="Which?")
    assert moved.step(60).worked == 60
    moved.clock.forward(3_600)
    moved.ask("answer", "a", text="that")
    assert moved.unit.status is Status.RUNNING and moved.unit.worked == 60

    moved.executor.says("a", type="ask", question="And now?")

    assert moved.step(40).worked == 100


def test_a_lost_attempt_has_crashed_until_the_next_one_starts(moved: Moved) -> None:
    moved.ask("dispatch", paused=True)
    moved.executor.running.clear()
    moved.executor.recover([("a", 1, 0)])
    assert moved.step().status is Status.READY and moved.unit.crashed

    moved.ask("dispatch", paused=False)

    assert moved.unit.status is Status.RUNNING and not moved.unit.crashed


def test_a_restarted_attempt_has_not_crashed(moved: Moved) -> None:
    moved.ask("restart", "a")
    assert moved.unit.status is Status.READY

    moved.executor.ends_as_told()

    assert moved.step().status is Status.RUNNING and moved.unit.attempt == 2 and not moved.unit.crashed


def test_a_copy_of_a_unit_has_all_of_it_and_a_new_one_holds_nothing(moved: Moved) -> None:
    moved.executor.says("a", type="usage", usd=1)

    assert copy.copy(moved.step()) == moved.unit
    fresh = Unit("b")
    assert (fresh.heard_at, fresh.spent, fresh.spent_in_all) == (None, None, None)
