"""An attempt that asks more than one thing: nothing it asks is lost, and each answer reaches it."""

from __future__ import annotations

import json
import os

import pytest
from hands_kit import World

from orchestrator_app.errors import UsageError
from orchestrator_app.policy.attention import MOST_QUESTIONS
from orchestrator_app.testing import assert_consistent


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path)
    world.ask("sys", "submit", units=[{"name": "a"}])
    (world.folder / ".orchestrator" / "runs" / "a" / "1").mkdir(parents=True)
    yield world
    assert world.scheduler.fault is None
    assert_consistent(world.orchestrator.log, world.board, world.subscriber)
    world.orchestrator.log.close()


def asks(world: World, *questions: str) -> list[int]:
    for question in questions:
        world.executor.says("a", type="ask", question=question)
    world.step()
    return list(world.board.row("a").items)


def heard(world: World) -> list[tuple[str, str]]:
    """What the waiting agent can read, in order."""
    path = world.folder / ".orchestrator" / "runs" / "a" / "1" / "answers.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [(line["question"], line["answer"]) for line in map(json.loads, lines)]


def state(world: World) -> tuple[str, list[str]]:
    unit = world.board.row("a")
    return unit.status, [world.board.attention[number].text for number in unit.items]


def test_a_waiting_agent_that_asks_a_second_thing_is_heard_and_gets_each_answer_when_it_is_given(world):
    first, second = asks(world, "Which database?", "Which port?")
    assert state(world) == ("NEEDS_ATTENTION", ["Which database?", "Which port?"])

    world.ask("ana", "answer", "a", text="5432", item=second)
    assert state(world) == ("NEEDS_ATTENTION", ["Which database?"])
    assert heard(world) == [("Which port?", "5432")]
    world.ask("bob", "answer", "a", text="postgres", item=first)

    assert state(world) == ("RUNNING", [])
    assert heard(world) == [("Which port?", "5432"), ("Which database?", "postgres")]
    assert [row["trigger"] for row in world.rows("a")][-4:] == ["ask", "continue", "ask", "continue"]


def test_two_answers_in_one_step_both_reach_the_agent(world):
    first, second = asks(world, "Which database?", "Which port?")

    world.queue("ana", "answer", "a", text="postgres", item=first)
    world.queue("bob", "answer", "a", text="5432", item=second)
    world.step()

    assert heard(world) == [("Which database?", "postgres"), ("Which port?", "5432")]
    assert state(world) == ("RUNNING", [])


def test_an_agent_that_ended_with_two_questions_runs_again_when_both_are_answered(world):
    first, second = asks(world, "Which database?", "Which port?")
    world.executor.exits("a")
    world.step()

    world.ask("ana", "answer", "a", text="postgres", item=first)
    assert state(world) == ("NEEDS_ATTENTION", ["Which port?"])
    world.ask("ana", "answer", "a", text="5432", item=second)

    unit = world.board.row("a")
    assert (unit.status, unit.attempt) == ("RUNNING", 2)
    assert [one["answer"] for one in unit.answers] == ["postgres", "5432"]


def test_with_several_questions_an_answer_must_say_which_it_is_for(world):
    first, second = asks(world, "Which database?", "Which port?")

    with pytest.raises(UsageError, match=f"2 questions open.*{first}: a asks: Which database.*{second}: a asks: Which"):
        world.ask("ana", "answer", "a", text="postgres")

    assert len(state(world)[1]) == 2


def test_questions_and_answers_between_them_outlive_a_crash(world):
    first, second = asks(world, "Which database?", "Which port?")
    world.ask("ana", "answer", "a", text="postgres", item=first)
    os.unlink(world.folder / ".orchestrator" / "runs" / "a" / "1" / "answers.jsonl")  # killed before it was handed over

    world.restart()

    assert state(world) == ("NEEDS_ATTENTION", ["Which port?"])
    assert heard(world) == [("Which database?", "postgres")]
    world.ask("ana", "answer", "a", text="5432", item=second)
    assert state(world) == ("RUNNING", [])


def test_a_question_asked_again_while_it_is_open_is_one_and_a_flood_of_them_is_bounded(world):
    asks(world, "Which database?", "Which database?")
    assert state(world) == ("NEEDS_ATTENTION", ["Which database?"])

    asks(world, *(f"Which port of {n}?" for n in range(3 * MOST_QUESTIONS)))

    assert len(state(world)[1]) == MOST_QUESTIONS


def test_a_decision_that_ends_the_attempt_settles_all_its_questions(world):
    asks(world, "Which database?", "Which port?")

    world.ask("ana", "retry", "a")

    assert state(world)[1] == []
    assert not world.board.attention
