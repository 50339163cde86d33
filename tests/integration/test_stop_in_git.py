"""A stop in the middle of a step of git work: the step is finished and written down, and the agents go on."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from orchestrator_app.errors import NoServerError
from orchestrator_app.stopping import Stop
from orchestrator_app.workspace import merge
from orchestrator_app.workspace.worktrees import Worktrees

WRITES = "echo done > work.txt"
WAITS = f"touch $HERE/there; while ! test -e $HERE/go; do sleep 0.02; done; {WRITES}"


@pytest.fixture
def stop_during(make, wait_until, monkeypatch: pytest.MonkeyPatch) -> Callable:
    """Submit a unit, stop when it has come to a step of git work, let the step go on then; the stopped project."""

    def stop(place: object, step: str, does: str, how: Stop = Stop.LEAVE):
        project = make()
        project.script("a", does=does)
        begun, go, real = threading.Event(), threading.Event(), getattr(place, step)

        def held(*args, **kwargs):
            begun.set()
            assert go.wait(60)
            return real(*args, **kwargs)

        with monkeypatch.context() as patch:
            patch.setattr(place, step, held)
            project.submit("a")
            assert begun.wait(30)
            orchestrator, project.orchestrator = project.orchestrator, None
            stopping = threading.Thread(target=orchestrator.stop, args=(how,))
            stopping.start()
            wait_until(lambda: orchestrator.status()["ending"] == how)
            assert stopping.is_alive(), "it waits for the step"
            go.set()
            stopping.join(60)
        assert not stopping.is_alive()
        return project

    return stop


def test_f33_a_merge_that_is_being_made_is_made_and_written_down(stop_during) -> None:
    project = stop_during(merge, "advance", WRITES)

    merged = project.on_main("work.txt")
    project.start()

    assert merged == "done\n"
    assert project.story("a") == ["submit", "start", "advance", "start", "finish"]


def test_f33_what_an_agent_did_is_committed_and_counts(stop_during) -> None:
    project = stop_during(Worktrees, "commit_all", WRITES)

    project.start()
    project.until("a", "DONE")

    assert project.story("a") == ["submit", "start", "advance", "start", "finish"]


def test_f33_an_attempt_whose_worktree_is_being_made_begins_and_goes_on_without_a_server(stop_during) -> None:
    project = stop_during(Worktrees, "ensure", WAITS)

    project.wait(lambda: project.word("there") is not None, "the agent")
    project.start()
    project.leave("go")
    project.until("a", "DONE")

    assert project.story("a") == ["submit", "start", "advance", "start", "finish"]


def test_f33_an_attempt_that_had_not_begun_does_not_when_the_agents_are_to_end(stop_during) -> None:
    project = stop_during(Worktrees, "ensure", WAITS, Stop.AGENTS)

    began = project.word("there")
    project.start()
    project.leave("go")
    project.until("a", "DONE")

    assert began is None
    assert project.unit("a").failures == 0


def test_f33_a_request_that_comes_after_the_last_step_is_refused_at_once(make) -> None:
    orchestrator = make().orchestrator
    orchestrator._scheduler.stop(Stop.LEAVE)

    late = orchestrator.request("submit", units=[{"name": "late"}])

    with pytest.raises(NoServerError, match="nothing was done: ask the next one"):
        late.result(10)
    assert "late" not in orchestrator.board.units
