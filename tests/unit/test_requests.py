"""What a request does beside others: who was first is said, what changed is said, and nothing is lost in between."""

from __future__ import annotations

import random

import pytest

from orchestrator_app.errors import IllegalMoveError, NotFoundError, StaleVersionError, UsageError
from orchestrator_app.orchestrator import Orchestrator
from orchestrator_app.settings import load_project
from orchestrator_app.states import Status
from orchestrator_app.testing import FakeExecutor, HandClock, Subscriber, assert_consistent

SETTINGS = """
[project]
slots = 4
touches = "ask"
[workflow]
isolation = "none"
phases = ["IMPLEMENT", "REVIEW"]
[phases.IMPLEMENT]
retries = 0
[phases.REVIEW]
back_to = "IMPLEMENT"
reworks = 1
[agents.any]
command = ["true"]
"""


class World:
    """A project moved by hand, and the people who send it requests."""

    def __init__(self, folder) -> None:
        (folder / "orchestrator.toml").write_text(SETTINGS)
        self.folder = folder
        self.clock = HandClock()
        self.executor = FakeExecutor(self.clock)
        self.boot()

    def boot(self) -> None:
        self.orchestrator = Orchestrator(
            load_project(self.folder), executor=self.executor, clock=self.clock, chance=random.Random(0)
        )
        self.scheduler = self.orchestrator.open()
        self.board = self.orchestrator.board
        self.subscriber = Subscriber(self.board)
        self.subscriber.mirror.fold(self.orchestrator.log.read())

    def step(self) -> None:
        self.scheduler.step(self.clock(), self.executor.wait(0))

    def ask(self, who, kind, unit=None, **args):
        future = self.queue(who, kind, unit, **args)
        self.step()
        return future.result(0)

    def queue(self, who, kind, unit=None, **args):
        return self.orchestrator.request(kind, unit, actor=f"operator:{who}", **args)

    def submit(self, *names, **fields) -> None:
        self.ask("sys", "submit", units=[{"name": name, **fields} for name in names])

    def asks(self, unit) -> int:
        """Have the unit's agent ask a question and end; the number of the item."""
        self.executor.says(unit, type="ask", question="Which?")
        self.step()
        self.exits(unit)
        return self.board.row(unit).item

    def exits(self, unit, code=0) -> None:
        self.executor.exits(unit, code)
        self.step()

    def status(self, unit) -> Status:
        return self.board.row(unit).status

    def feedback(self) -> str:
        """What the newest attempt was told of those before it."""
        return self.executor.started[-1].env["ORCH_FEEDBACK"]


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path)
    yield world
    assert world.scheduler.fault is None
    assert_consistent(world.orchestrator.log, world.board, world.subscriber)
    world.orchestrator.log.close()


# -- who was first


def test_whoever_answers_second_is_told_who_was_first_how_and_when(world):
    world.submit("fix-login")
    item = world.asks("fix-login")
    world.ask("ana", "answer", "fix-login", text="postgres", item=item)
    world.clock.forward(130)

    with pytest.raises(StaleVersionError) as refused:
        world.ask("bob", "answer", "fix-login", text="sqlite", item=item)

    assert str(refused.value) == f"item {item} of fix-login was answered by ana 2 min ago: “postgres”"
    assert [one["answer"] for one in world.board.row("fix-login").answers] == ["postgres"]


def test_of_two_answers_in_one_step_the_second_is_told_too(world):
    world.submit("a")
    item = world.asks("a")
    first = world.queue("ana", "answer", "a", text="one", item=item)
    second = world.queue("bob", "answer", "a", text="two", item=item)

    world.step()

    assert first.result(0)["status"] == "READY"
    assert "was answered by ana just now: “one”" in str(second.exception(0))


@pytest.mark.parametrize(
    ("kind", "args"),
    [
        ("retry", {}),
        ("accept", {"reason": "fine"}),
        ("cancel", {}),
        ("resolve", {"other": "b", "ruling": "serialize"}),
        ("approve", {}),
        ("reject", {}),
        ("answer", {"text": "yes"}),
    ],
)
def test_every_decision_on_an_item_that_somebody_else_settled_is_refused(world, kind, args):
    world.submit("a", "b")
    world.exits("a", 1)
    item = world.board.row("a").item
    world.ask("ana", "retry", "a", item=item)
    before = world.board.row("a").version

    with pytest.raises(StaleVersionError, match=f"item {item} of a was settled by ana just now: “retry”"):
        world.ask("bob", kind, "a", item=item, **args)

    assert world.board.row("a").version == before


def test_an_item_that_settled_itself_says_so_too(world):
    world.submit("a")
    world.submit("b", after=["a"])
    world.ask("ana", "cancel", "a")
    item = world.board.row("b").item
    world.ask("ana", "reopen", "a")

    with pytest.raises(NotFoundError, match=f"item {item} of b was settled by the scheduler just now"):
        world.ask("bob", "see", item=item)


def test_without_an_item_the_second_of_two_is_told_what_the_first_did(world):
    world.submit("a")
    world.exits("a", 1)
    world.ask("ana", "retry", "a")
    world.clock.forward(3)

    with pytest.raises(IllegalMoveError) as refused:
        world.ask("bob", "retry", "a")

    assert str(refused.value).startswith("a is RUNNING by now: ana retried it 3 s ago; retry is not possible")
    assert [row.trigger for row in refused.value.story] == []


def test_who_was_first_is_known_after_a_restart(world):
    world.submit("a")
    item = world.asks("a")
    world.ask("ana", "answer", "a", text="one", item=item)

    replayed = type(world.board)()
    replayed.fold(world.orchestrator.log.read())

    assert replayed.settlement(item).actor == "operator:ana"
    assert [row.trigger for row in replayed.decided("a")] == ["answer"]


def test_what_is_remembered_of_decisions_is_bounded(world, monkeypatch):
    monkeypatch.setattr("orchestrator_app.model.REMEMBERED", 3)
    world.submit("a")
    items = []
    for _ in range(5):
        items.append(world.asks("a"))
        world.ask("ana", "answer", "a", text="again")

    assert [world.board.settlement(item) is not None for item in items] == [False, False, True, True, True]


# -- what changed


def test_an_edit_of_an_old_version_is_told_what_changed_since_and_by_whom(world):
    world.ask("sys", "dispatch", paused=True)
    world.submit("a", labels=["x"])
    seen = world.board.row("a").version
    world.ask("ana", "edit", "a", set={"priority": 5, "labels": ["y"]})
    world.clock.forward(60)
    world.ask("bob", "edit", "a", set={"prompt": "do it well"})

    with pytest.raises(StaleVersionError) as refused:
        world.ask("cat", "edit", "a", version=seen, set={"priority": 1})

    assert str(refused.value) == (
        f"a is in version {seen + 2} by now, you saw version {seen}: priority 0 → 5, labels changed by ana"
        " 1 min ago, prompt changed by bob just now; look at it again, then repeat"
    )
    assert world.board.row("a").priority == 5


def test_an_edit_is_told_of_moves_that_no_person_made(world):
    world.ask("sys", "dispatch", paused=True)
    world.submit("a")
    world.ask("sys", "dispatch", paused=False)

    with pytest.raises(StaleVersionError, match="you saw version 1: it is RUNNING in IMPLEMENT now;"):
        world.ask("cat", "edit", "a", version=1, set={"priority": 1})


def test_a_version_that_never_was_is_refused(world):
    world.submit("a")

    with pytest.raises(StaleVersionError, match="there is no version 99"):
        world.ask("cat", "edit", "a", version=99, set={"priority": 1})


# -- restart


def test_a_restart_stops_the_attempt_and_starts_the_phase_again_only_when_it_is_gone(world):
    world.submit("a")
    world.executor.says("a", type="session", id="s-1")
    world.step()

    world.ask("ana", "restart", "a", reason="it goes round in circles")
    assert world.executor.stopped == [("a", 1)]
    world.clock.forward(5)
    world.step()
    assert (world.status("a"), len(world.executor.started)) == (Status.READY, 1)
    world.executor.ends_as_told()
    world.step()

    newest = world.executor.started[-1]
    assert (newest.attempt, newest.phase, newest.env["ORCH_SESSION"]) == (2, "IMPLEMENT", "s-1")
    rows = world.orchestrator.rows("SELECT trigger, cause, reason FROM transition WHERE unit = 'a' ORDER BY seq")
    pause, resume = [row for row in rows if row["trigger"] in ("pause", "resume")]
    assert pause["cause"] == resume["cause"]
    assert pause["reason"] == "restart: it goes round in circles"


def test_a_restarted_attempt_is_stopped_after_a_crash_too_before_another_starts(world):
    world.submit("a")
    world.ask("ana", "restart", "a")
    world.executor.stopped = []

    world.orchestrator.log.close()
    world.boot()
    world.scheduler.recover()
    world.step()
    assert world.executor.stopped == [("a", 1)]
    world.executor.ends_as_told()
    world.step()

    assert [spec.attempt for spec in world.executor.started] == [1, 2]


def test_only_what_runs_can_be_restarted_and_the_refusal_says_what_can_be_done(world):
    world.submit("a")
    world.exits("a", 1)

    with pytest.raises(IllegalMoveError, match=r"a is NEEDS_ATTENTION: no attempt of it runs .* retry it instead"):
        world.ask("ana", "restart", "a")


# -- comments


def test_comments_add_up_and_reach_the_next_attempt_as_feedback(world):
    world.submit("a")
    world.exits("a", 1)
    world.ask("ana", "comment", "a", file="src/x.py", line=3, text="use a set")
    world.ask("bob", "comment", "a", text="and test it")
    assert world.board.row("a").comments == ("src/x.py:3: use a set", "and test it")

    world.ask("ana", "retry", "a", feedback="smaller, please")

    assert world.feedback() == "smaller, please\nsrc/x.py:3: use a set\nand test it"
    assert world.board.row("a").comments == ()


def test_a_comment_made_while_an_attempt_runs_is_not_lost_when_its_phase_passes(world):
    world.submit("a")
    world.ask("ana", "comment", "a", file="x.py", line=1, text="why?")

    world.exits("a")

    assert (world.executor.started[-1].phase, world.feedback()) == ("REVIEW", "x.py:1: why?")


def test_a_comment_stands_beside_the_feedback_of_a_review_and_outlives_a_restart_of_the_server(world):
    world.submit("a")
    world.exits("a")
    world.ask("ana", "comment", "a", file="x.py", line=1, text="why?")
    world.executor.says("a", type="review", decision="changes", feedback="more tests")
    world.step()
    replayed = type(world.board)()
    replayed.fold(world.orchestrator.log.read())
    assert replayed.row("a").comments == ("x.py:1: why?",)

    world.exits("a")

    assert world.feedback() == "more tests\nx.py:1: why?"


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({"text": " "}, "empty"),
        ({"text": "x", "line": 3}, "line must be"),
        ({"text": "x", "file": "a", "line": 0}, "line must be"),
        ({"text": "x", "file": "a\nb"}, "file must be"),
        ({"text": "x" * 10_001}, "too much"),
    ],
)
def test_a_comment_that_says_nothing_or_too_much_is_refused(world, args, words):
    world.submit("a")

    with pytest.raises(UsageError, match=words):
        world.ask("ana", "comment", "a", **args)

    assert world.board.row("a").comments == ()


def test_a_unit_that_has_ended_takes_no_comment(world):
    world.submit("a")
    world.ask("ana", "cancel", "a")

    with pytest.raises(IllegalMoveError, match=r"a is CANCELLED.*no attempt will read a comment"):
        world.ask("ana", "comment", "a", text="too late")
