"""What the histories brought to light, one short story each, so that it stays mended whatever the seeds become."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import pytest

from orchestrator_app.states import Status
from orchestrator_app.stopping import Stop

from .fake_disk import Crash
from .plan import DAY, Plan, project_of
from .world import World, simulated


@pytest.fixture
def worlds():
    """Makes worlds in which nothing happens by itself."""
    with contextlib.ExitStack() as opened:

        def make(isolation="none", phases=("IMPLEMENT",), on_stall="ask", **settings) -> World:
            project = replace(project_of(isolation, phases, on_stall, 0), touches="ignore", verify=None, **settings)
            world = World(Plan(0, project, ()))
            opened.enter_context(simulated(world))
            world.boot()
            goes_on(world)
            return world

        yield make


def goes_on(world: World) -> None:
    """The server runs until nothing wakes it any more."""
    for _ in range(50):
        world.host.receive()
        if not world.wakes():
            return
        world.step()
    raise AssertionError("the server spins")


def all_git(world: World) -> None:
    while world.crew.pieces:
        world.crew.go_on(0)


def submit(world: World, *units) -> None:
    world.ask("submit", units=[{"name": unit} if isinstance(unit, str) else unit for unit in units])
    goes_on(world)


def ask(world: World, kind, unit=None, **args) -> None:
    world.ask(kind, unit, **args)
    goes_on(world)


def status(world: World, name: str) -> Status:
    return world.board.row(name).status


def process(world: World, unit: str):
    (one,) = world.host.live(unit)
    return one


def asks_and_waits(world: World, unit: str) -> None:
    one = process(world, unit)
    one.asked.append("which?")
    one.says(type="ask", question="which?")
    one.waits = ["which?"]
    goes_on(world)


def test_reopening_a_blocker_settles_the_warning_about_it_though_it_is_blocked_itself_and_no_other_warning(worlds):
    world = worlds(slots=1)
    submit(world, "u0", {"name": "u1", "after": ["u0"]}, "u2", {"name": "u3", "after": ["u1", "u2"]})
    ask(world, "cancel", "u1")
    ask(world, "cancel", "u2")
    assert sorted(item.other for item in world.board.attention.values()) == ["u1", "u2"]

    ask(world, "reopen", "u1")

    assert status(world, "u1") is Status.BLOCKED
    assert [item.other for item in world.board.attention.values()] == ["u2"]


def test_a_warning_about_a_cancelled_blocker_goes_with_the_blocker(worlds):
    world = worlds(slots=1)
    submit(world, "u0", "u1", {"name": "u2", "after": ["u0", "u1"]})
    ask(world, "cancel", "u1")

    ask(world, "edit", "u2", set={"after": ["u0"]})

    assert status(world, "u2") is Status.BLOCKED
    assert not world.board.attention


@pytest.mark.parametrize("later", ["live", "blocked", "running"])
def test_f10_a_wait_keeps_to_the_clock_that_it_was_set_by_whatever_its_unit_does_meanwhile(worlds, later):
    world = worlds(on_stall="restart", slots=2)
    submit(world, "u0", "u1")
    if later == "blocked":
        ask(world, "edit", "u1", set={"after": ["u0"]})
    if later == "live":
        world.now += 700  # it is silent for too long: it is told to end, and takes its time
    else:
        world.host.ends(process(world, "u1"), 1)
    goes_on(world)
    assert world.board.row("u1").not_before is not None

    if later == "running":
        world.now += 60
        goes_on(world)
        assert status(world, "u1") is Status.RUNNING and world.board.row("u1").not_before is None
    world.set_by -= DAY
    for one in world.host.live():
        world.host.ends(one, 0)
    goes_on(world)
    world.now += 60
    goes_on(world)

    assert world.board.row("u1").attempt == 2


def test_f11_the_time_that_an_agent_waited_for_a_person_is_no_silence(worlds):
    world = worlds(on_stall="cancel")
    submit(world, "u0")
    asks_and_waits(world, "u0")
    world.ask("answer", "u0", text="this one")
    world.now += 700

    goes_on(world)

    assert status(world, "u0") is Status.RUNNING
    assert process(world, "u0").answers


def test_an_attempt_that_has_ended_is_not_silent_while_git_commits_its_work(worlds):
    world = worlds("worktree", ("IMPLEMENT", "MERGE"))
    submit(world, "u0")
    all_git(world)
    goes_on(world)
    world.host.ends(process(world, "u0"), 0)
    world.now += 599
    goes_on(world)
    world.now += 2
    goes_on(world)

    all_git(world)
    goes_on(world)

    assert world.board.row("u0").phase == "MERGE"


def test_git_is_asked_for_nothing_that_is_not_committed(worlds):
    world = worlds("worktree", ("IMPLEMENT", "MERGE"))
    submit(world, "u0")
    all_git(world)
    goes_on(world)
    world.host.ends(process(world, "u0"), 0)
    world.disk.refusals = 1
    ask(world, "comment", "u0", text="with this, something is to be committed")

    assert not world.crew.pieces
    world.now += 1
    goes_on(world)

    assert [piece.what for piece in world.crew.pieces] == ["seal"]


def test_a_unit_that_is_restarted_as_its_worktree_is_ready_starts_again(worlds):
    world = worlds("worktree", ("IMPLEMENT", "MERGE"), slots=1)
    submit(world, "u0")
    all_git(world)

    ask(world, "restart", "u0")

    assert status(world, "u0") is Status.RUNNING
    assert world.board.row("u0").attempt == 2


def test_an_answer_that_could_not_be_written_is_handed_over_a_second_later(worlds):
    world = worlds()
    submit(world, "u0")
    asks_and_waits(world, "u0")
    world.answer_fails = 2

    ask(world, "answer", "u0", text="this one")
    for _ in range(2):
        assert not process(world, "u0").answers
        world.now += 1
        goes_on(world)

    assert [line["answer"] for line in process(world, "u0").answers] == ["this one"]


def test_f1_a_server_that_starts_begins_what_may_start_though_nothing_is_left_of_earlier_attempts(worlds):
    world = worlds()
    world.ask("submit", units=[{"name": "u0"}])
    world.aim = "after the commit"
    with pytest.raises(Crash):
        world.scheduler.gate.log.append = _dies_before_acting(world)
        world.scheduler.step(world.now, (), world.wall)
    world.crashed()

    world.boot()
    goes_on(world)

    assert status(world, "u0") is Status.RUNNING


def _dies_before_acting(world):
    """An append of the submitted unit alone: the server dies before it could start it."""
    append = type(world.log).append

    def only_the_unit(records):
        append(world.log, records[:1])

    return only_the_unit


def test_a_stop_of_the_agents_waits_for_one_whose_words_could_not_be_written_down(worlds):
    world = worlds()
    submit(world, "u0")
    process(world, "u0").says(type="progress", percent=5)
    world.disk.refusals = 1
    world.stopping = True

    world.scheduler.stop(Stop.AGENTS)
    world.step()

    assert not world.scheduler._finished()
    world.host.receive()
    world.host.obeys(process(world, "u0"))
    goes_on(world)
    assert world.scheduler._finished()


def test_starting_over_is_repeated_until_it_succeeds_and_begins_nothing_twice(worlds):
    world = worlds("worktree", ("IMPLEMENT", "MERGE"), slots=2)
    submit(world, "u0", "u1")
    all_git(world)
    world.executor.fails_to_start = 3
    world.executor.fails_to_open = 2

    for _ in range(8):  # each time git looks first what is left of the attempts that never began
        goes_on(world)
        all_git(world)
    goes_on(world)

    assert {status(world, name) for name in ("u0", "u1")} == {Status.RUNNING}
    assert len(world.host.live()) == 2
