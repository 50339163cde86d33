"""What could not be started for want of room, memory or processes is tried again; at last a person is asked."""

from __future__ import annotations

import pytest
from scheduler_world import World

from orchestrator_app.reports import PASSING_TRIES
from orchestrator_app.states import Status

WHY = "no process could be started for it: too many files are open; raise the limit (`ulimit -n`)"


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path)
    yield world
    world.orchestrator.log.close()


def test_f19_a_start_that_fails_for_want_of_something_is_tried_again_and_costs_no_retry(world):
    world.submit("a")

    world.exits("a", None, why="scarce", message=WHY)

    assert world.status("a") is Status.READY and world.board.row("a").failures == 0
    assert f"{WHY}; tried again in" in world.board.row("a").reason
    world.step(3600)
    assert world.running() == {"a"}
    world.exits("a", 0)
    assert world.status("a") is Status.DONE


def test_f19_a_start_that_goes_on_failing_is_shown_to_a_person(world):
    world.submit("a")

    for _ in range(PASSING_TRIES):
        world.exits("a", None, why="scarce", message=WHY)
        assert world.status("a") is Status.READY
        world.step(86_400)
    world.exits("a", None, why="scarce", message=WHY)

    assert world.status("a") is Status.NEEDS_ATTENTION
    assert "ulimit -n" in world.item.title
