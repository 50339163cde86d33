"""One step at a time: real scheduler, gate and log; attempts that do what the test says; time moved by hand."""

from __future__ import annotations

from collections import Counter

import pytest
from scheduler_world import World

from orchestrator_app.errors import IllegalMoveError, NotFoundError, OrchError, StaleVersionError, UsageError
from orchestrator_app.states import Status, Trigger
from orchestrator_app.testing import assert_consistent


@pytest.fixture
def world(tmp_path, request):
    world = World(tmp_path, **getattr(request, "param", {}))
    yield world
    assert world.scheduler.fault is None
    assert_consistent(world.orchestrator.log, world.board, world.subscriber)
    world.orchestrator.log.close()


def setting(**options):
    return pytest.mark.parametrize("world", [options], indirect=True)


# -- starting


@setting(slots=2)
def test_no_more_attempts_run_than_there_are_slots_and_the_next_starts_in_the_step_that_frees_one(world):
    world.submit("a", "b", "c")
    assert world.running() == {"a", "b"}

    world.exits("a")

    assert world.running() == {"b", "c"}


@setting(slots=1)
def test_the_critical_path_goes_first_then_priority_then_age(world):
    world.ask("dispatch", paused=True)
    world.submit("old")
    world.submit("urgent", priority=5)
    world.submit("root")
    world.submit("leaf", after=["root"])
    world.submit("leaf-of-leaf", after=["leaf"])

    world.ask("dispatch", paused=False)
    order = []
    while world.running():
        order.append(next(iter(world.running())))
        world.exits(order[-1])

    assert order == ["root", "leaf", "urgent", "old", "leaf-of-leaf"]


@setting(slots=4)
def test_a_full_label_hides_no_unit_behind_it(world):
    world.submit("g1", "g2", "g3", labels=["gpu"], priority=9)
    world.submit("plain")
    assert world.running() == {"g1", "plain"}

    world.exits("g1")

    assert world.running() == {"g2", "plain"}


@setting(slots=4, phase_slots=2)
def test_a_phase_limit_holds(world):
    world.submit("a", "b", "c")
    assert len(world.running()) == 2

    world.exits("a")

    assert world.running() == {"b", "c"}


def test_paused_dispatch_starts_nothing_and_outlives_a_restart(world):
    world.ask("dispatch", paused=True)
    world.submit("a")
    assert not world.running()

    replayed = type(world.board)()
    replayed.fold(world.orchestrator.log.read())
    assert replayed.dispatch_paused
    world.ask("dispatch", paused=False)

    assert world.running() == {"a"}


def test_blocked_units_start_when_their_last_blocker_is_done_and_not_before(world):
    world.submit("a", "b")
    world.submit("c", after=["a", "b"])
    assert world.status("c") is Status.BLOCKED

    world.exits("a")
    assert world.status("c") is Status.BLOCKED
    world.exits("b")

    assert world.status("c") is Status.RUNNING


# -- outcomes


@setting(phases=["PLAN", "IMPLEMENT", "REVIEW"])
def test_a_unit_goes_through_its_phases_with_an_attempt_each(world):
    world.submit("a")
    for _ in range(3):
        world.exits("a")

    assert world.status("a") is Status.DONE
    assert world.triggers("a") == ["submit", "start", "advance", "start", "advance", "start", "finish"]
    assert world.board.row("a").attempt == 3


def test_a_failure_is_retried_later_and_later_and_then_needs_a_person(world):
    world.submit("a")
    waits = []
    for _ in range(2):
        world.exits("a", 1)
        assert world.status("a") is Status.READY
        waits.append(world.board.row("a").not_before - world.clock())
        world.step(waits[-1] + 0.01)
        assert world.status("a") is Status.RUNNING
    world.exits("a", 1)

    assert 7.5 <= waits[0] <= 12.5 and 22.5 <= waits[1] <= 37.5
    assert world.status("a") is Status.NEEDS_ATTENTION
    assert (world.item.kind, world.item.severity) == ("error", "error")
    world.ask("retry", "a", feedback="mind the gap")
    assert world.executor.started[-1].env["ORCH_FEEDBACK"] == "mind the gap"
    assert world.board.row("a").failures == 0


def test_exit_code_75_and_a_defer_message_wait_without_counting_as_failures(world):
    world.submit("a")

    world.exits("a", 75)
    assert (world.status("a"), world.board.row("a").failures) == (Status.READY, 0)
    world.step(11)
    world.says("a", type="defer", until="2023-11-15T00:00:00Z", reason="rate limit")
    world.exits("a", 0)

    assert world.board.row("a").reason == "rate limit"
    world.step(60)
    assert world.status("a") is Status.READY
    world.step(100_000)
    assert world.status("a") is Status.RUNNING


@setting(phases=["IMPLEMENT", "REVIEW"])
def test_a_review_sends_the_unit_back_with_its_feedback_and_after_enough_rounds_to_a_person(world):
    world.submit("a")
    world.exits("a")

    for _ in range(2):
        world.says("a", type="review", decision="changes", feedback="name it better")
        world.exits("a")
        if world.status("a") is Status.RUNNING:
            assert world.board.row("a").phase == "IMPLEMENT"
            assert "name it better" in world.executor.started[-1].prompt
            world.exits("a")

    assert world.triggers("a").count("rework") == 1
    assert world.status("a") is Status.NEEDS_ATTENTION
    assert world.item.text == "name it better"


@setting(phases=["IMPLEMENT", "REVIEW"])
@pytest.mark.parametrize(("decision", "then"), [("approve", Status.DONE), ("reject", Status.RUNNING)])
def test_an_escalated_review_waits_for_the_operator_to_approve_or_reject(world, decision, then):
    world.submit("a")
    world.exits("a")
    world.says("a", type="review", decision="escalate", feedback="is this wanted?")
    world.exits("a")
    assert (world.status("a"), world.item.kind) == (Status.NEEDS_ATTENTION, "approval")

    world.ask(decision, "a", **({"feedback": "smaller, please"} if decision == "reject" else {}))

    assert world.status("a") is then
    if decision == "reject":
        assert (world.board.row("a").phase, world.board.row("a").feedback) == ("IMPLEMENT", "smaller, please")


def test_a_program_that_can_not_be_started_needs_a_person_at_once(world):
    world.submit("a")

    world.exits("a", None, why="spawn")

    assert world.status("a") is Status.NEEDS_ATTENTION


# -- questions


def test_an_agent_that_ends_after_its_question_parks_and_runs_again_with_the_answer(world):
    world.submit("a")
    world.says("a", type="session", id="s-1")
    world.says("a", type="ask", question="Which database?", options=["postgres", "sqlite"])
    assert (world.status("a"), world.item.options) == (Status.NEEDS_ATTENTION, ("postgres", "sqlite"))
    world.exits("a")
    assert world.status("a") is Status.NEEDS_ATTENTION

    world.ask("answer", "a", text="sqlite")

    spec = world.executor.started[-1]
    assert (spec.attempt, spec.env["ORCH_ANSWER"], spec.env["ORCH_SESSION"]) == (2, "sqlite", "s-1")


def test_an_answer_is_not_lost_when_the_next_attempt_fails(world):
    world.submit("a")
    world.says("a", type="ask", question="Which?")
    world.exits("a")
    world.ask("answer", "a", text="sqlite")

    world.exits("a", 1)
    world.step(15)

    assert world.executor.started[-1].env["ORCH_ANSWER"] == "sqlite"


def test_an_agent_that_waits_alive_gets_the_answer_in_its_file_and_goes_on(world, tmp_path):
    world.submit("a")
    world.says("a", type="ask", question="Which?")
    run = tmp_path / ".orchestrator" / "runs" / "a" / "1"
    run.mkdir(parents=True)

    world.ask("answer", "a", text="this one")

    assert (world.status("a"), world.board.row("a").attempt) == (Status.RUNNING, 1)
    assert '"answer": "this one"' in (run / "answers.jsonl").read_text()
    world.exits("a")
    assert world.status("a") is Status.DONE


def test_an_agent_that_ended_before_the_answer_reached_it_runs_again_with_it(world, tmp_path):
    world.submit("a")
    world.says("a", type="ask", question="Which?")
    (tmp_path / ".orchestrator" / "runs" / "a" / "1").mkdir(parents=True)
    world.executor.exits("a")
    late = world.executor.wait(0)
    world.clock.forward(1)
    world.ask("answer", "a", text="this one")

    world.scheduler.step(world.clock(), late)

    assert world.status("a") is Status.RUNNING
    assert (world.executor.started[-1].attempt, world.executor.started[-1].env["ORCH_ANSWER"]) == (2, "this one")


@setting(slots=1)
def test_an_agent_that_waits_for_a_person_holds_no_slot(world):
    world.submit("a", "b")
    world.says("a", type="ask", question="Which?")

    assert world.running() == {"a", "b"}


def test_a_second_answer_is_refused_and_changes_nothing(world):
    world.submit("a")
    world.says("a", type="ask", question="Which?")
    world.exits("a")
    item = world.item.id
    world.ask("answer", "a", text="one", item=item)

    with pytest.raises(OrchError, match="was answered by ann just now: “one”"):
        world.ask("answer", "a", text="two", item=item)

    assert [one["answer"] for one in world.board.row("a").answers] == ["one"]


# -- silence


def test_a_silent_attempt_needs_a_person_and_goes_on_when_it_speaks_again(world):
    world.submit("a")
    world.step(599)
    assert world.status("a") is Status.RUNNING
    world.step(2)
    assert (world.status("a"), world.item.kind) == (Status.NEEDS_ATTENTION, "stall")

    world.says("a", type="heartbeat")

    assert world.status("a") is Status.RUNNING
    assert not world.board.attention


def test_silence_is_noticed_after_a_restart_too(world):
    world.submit("a")

    world.scheduler._silence.forget("a")  # what a new process knows of it
    world.scheduler.recover()
    world.step(601)

    assert world.item.kind == "stall" and "silent for 10 min" in world.item.title


def test_no_retries_at_all_can_be_asked_for(world):
    world.submit("a", retries=0)

    world.exits("a", 1)

    assert world.board.row("a").retries == 0
    assert world.status("a") is Status.NEEDS_ATTENTION


def test_a_retry_of_a_silent_attempt_waits_until_it_is_gone(world):
    world.submit("a")
    world.step(601)

    world.ask("retry", "a")
    assert world.executor.stopped == [("a", 1)]
    assert (world.status("a"), len(world.executor.started)) == (Status.READY, 1)
    world.executor.ends_as_told()
    world.step()

    assert world.executor.started[-1].attempt == 2


def test_a_silent_attempt_that_ends_well_counts(world):
    world.submit("a")
    world.step(601)

    world.exits("a")

    assert world.status("a") is Status.DONE


# -- holding


@pytest.mark.parametrize("kind", ["pause", "cancel"])
def test_a_held_unit_is_stopped_and_never_starts_beside_its_own_dying_attempt(world, kind):
    world.submit("a")
    world.ask(kind, "a")
    assert world.executor.stopped == [("a", 1)]

    world.ask("resume" if kind == "pause" else "reopen", "a")
    assert world.status("a") is Status.READY
    world.executor.ends_as_told()
    world.step()

    assert (world.status("a"), world.board.row("a").attempt) == (Status.RUNNING, 2)


def test_the_late_end_of_a_cancelled_attempt_changes_nothing(world):
    world.submit("a")
    world.ask("cancel", "a")
    version = world.board.row("a").version

    world.exits("a", 0)

    assert (world.status("a"), world.board.row("a").version) == (Status.CANCELLED, version)


def test_a_vanished_attempt_is_started_anew(world):
    world.submit("a")
    world.executor.running.clear()

    world.scheduler.recover()
    world.step()

    assert world.triggers("a") == ["submit", "start", "lose", "start"]


# -- files in common


@setting(touches="serialize")
def test_units_that_touch_the_same_files_run_one_after_the_other(world):
    world.submit("a", touches=["src/auth/**"])
    world.submit("b", touches=["src/auth/login.py"])
    world.submit("c", touches=["docs/**"])
    assert world.running() == {"a", "c"}
    assert (world.status("b"), world.board.waits_for("b")) == (Status.BLOCKED, ["a"])

    world.exits("a")

    assert world.running() == {"b", "c"}


@setting(touches="serialize")
def test_units_that_touch_the_same_files_never_start_in_the_same_step(world):
    world.submit("a", "b", touches=["src/**"])

    assert len(world.running()) == 1


@setting(touches="ask")
def test_serialize_puts_the_unit_behind_the_other_and_it_comes_free_by_itself(world):
    world.submit("a", touches=["src/**"])
    world.submit("b", touches=["src/x.py"])
    assert (world.item.unit, world.item.other, world.item.kind) == ("b", "a", "conflict")

    world.ask("resolve", "b", other="a", ruling="serialize")
    assert (world.status("b"), dict(world.board.attention)) == (Status.BLOCKED, {})
    world.exits("a")

    assert world.status("b") is Status.RUNNING


@setting(touches="ask")
def test_parallelize_frees_both_for_good(world):
    world.submit("a", touches=["src/**"])
    world.submit("b", touches=["src/x.py"])

    world.ask("resolve", "b", other="a", ruling="parallelize")
    assert world.running() == {"a", "b"}
    world.ask("pause", "b")
    world.executor.ends_as_told()
    world.ask("resume", "b")

    assert world.running() == {"a", "b"}


# -- refusals


@pytest.mark.parametrize(
    ("units", "error", "words"),
    [
        ([], UsageError, "no unit"),
        ([{"name": "../x"}], UsageError, "name"),
        ([{"name": "--upload-pack"}], UsageError, "name"),
        ([{"name": "a b"}], UsageError, "name"),
        ([{"name": "known"}], UsageError, "exists already"),
        ([{"name": "new"}, {"name": "new"}], UsageError, "exists already"),
        ([{"name": "new", "after": ["ghost"]}], NotFoundError, "ghost"),
        ([{"name": "x", "after": ["y"]}, {"name": "y", "after": ["x"]}], UsageError, "cycle"),
        ([{"name": "new", "workflow": "nope"}], UsageError, "workflow"),
        ([{"name": "new", "agent": "nope"}], UsageError, "agent"),
        ([{"name": "new", "touches": ["/etc/**"]}], UsageError, "/etc"),
        ([{"name": "fine"}, {"name": "new", "priority": "high"}], UsageError, "priority"),
    ],
)
def test_a_bad_submit_is_refused_in_one_line_and_adds_nothing(world, units, error, words):
    world.submit("known")

    with pytest.raises(error, match=words) as refusal:
        world.ask("submit", units=units)

    assert "\n" not in str(refusal.value)
    assert set(world.board.units) == {"known"}


def test_an_edit_that_would_make_a_cycle_is_refused(world):
    world.submit("a")
    world.submit("b", after=["a"])
    world.submit("c", after=["b"])

    with pytest.raises(UsageError, match="cycle"):
        world.ask("edit", "a", set={"after": ["c"]})


def test_an_edit_of_a_version_that_is_no_more_is_refused(world):
    world.submit("a")

    with pytest.raises(StaleVersionError, match="version"):
        world.ask("edit", "a", version=1, set={"priority": 3})

    assert world.board.row("a").priority == 0


def test_two_requests_in_one_step_where_one_is_refused_leave_the_other_whole(world):
    world.submit("a")
    good = world.orchestrator.request("pause", "a", actor="operator:ann")
    bad = world.orchestrator.request("pause", "a", actor="operator:ann")

    world.step()

    assert good.result(0)["status"] == "PAUSED"
    with pytest.raises(IllegalMoveError, match="PAUSED"):
        bad.result(0)


def test_ten_thousand_units_at_once_are_dispatched_in_order_without_a_second_look_at_each(world):
    world.ask("submit", units=[{"name": f"u{number}"} for number in range(10_000)])

    for _ in range(20):
        world.exits(next(iter(world.running())))

    started = Counter(spec.unit for spec in world.executor.started)
    assert len(started) == 24 and max(started.values()) == 1
    assert Trigger.START in world.triggers("u0")
