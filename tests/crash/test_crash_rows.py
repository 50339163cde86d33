"""Each crash that has a row of its own, at its very point, with a real server and real processes."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator_app.cli.client import Client, Refused, connect
from orchestrator_app.errors import NoServerError

from . import check_log, points
from .evidence import Evidence
from .stage import Server, Stage, kill, running, supervisor_of

SETTINGS = '''\
[workflow]
isolation = "none"
phases = ["IMPLEMENT"]
[agents.waits]
command = "echo $ORCH_UNIT $ORCH_ATTEMPT $$ >> {here}/ran; until test -e {here}/go; do sleep 0.02; done"
[agents.asks]
command = """
echo $ORCH_UNIT $ORCH_ATTEMPT $$ >> {here}/ran; until test -e {here}/go; do sleep 0.02; done
echo '{{"type": "ask", "question": "well?"}}' >> $ORCH_EVENTS; until test -s $ORCH_ANSWERS; do sleep 0.02; done
"""
'''


class Play:
    """A project whose agents say in `ran` that they ran, and end once there is a file `go`."""

    def __init__(self, folder: Path, wait_until: Callable[..., Any]) -> None:
        self.stage = Stage(folder, 0, SETTINGS.format(here=folder))
        self.wait_until = wait_until

    def serve(self, point: str | None = None, count: int = 1, delay: float = 0.0) -> Server:
        server = Server(self.stage, {"point": point, "count": count, "delay": delay})
        assert server.wait_ready(), server.said()
        return server

    @property
    def client(self) -> Client:
        return connect(self.stage.root)

    def submit(self, *names: str, key: str = "", **fields: Any) -> Any:
        body = {"units": [{"name": name, **fields} for name in names]}
        headers = {"Idempotency-Key": key} if key else {}
        return json.loads(self.client.call("POST", "/units", body=body, headers=headers).data)

    def submit_to_a_dying_server(self, server: Server, point: str, key: str = "") -> None:
        """Nobody learns whether it happened: the server dies before it answers."""
        with pytest.raises(NoServerError):
            self.submit("a", key=key)
        assert server.process.wait(20) == -9
        assert server.died_at() == point

    def go(self) -> None:
        (self.stage.folder / "go").touch()

    def ran(self) -> list[tuple[str, int, int]]:
        """(unit, attempt, pid) of every agent that has run."""
        path = self.stage.folder / "ran"
        lines = path.read_text().splitlines() if path.exists() else []
        return [(unit, int(attempt), int(pid)) for unit, attempt, pid in map(str.split, lines)]

    def until(self, status: str, unit: str = "a") -> None:
        self.wait_until(lambda: self.client.get(f"/units/{unit}")["status"] == status, what=f"{unit} to be {status}")

    def story(self, unit: str = "a") -> list[tuple[str, int]]:
        rows = self.client.get(f"/units/{unit}/story")["transitions"]
        return [(row["trigger"], row["attempt"]) for row in rows]


@pytest.fixture
def play(tmp_path: Path, wait_until: Callable[..., Any]) -> Iterator[Play]:
    play = Play(tmp_path / "play", wait_until)
    yield play
    play.stage.clear()


def test_every_crash_point_is_still_in_the_product() -> None:
    points.check()


def test_f1_a_crash_between_the_claim_and_the_spawn_loses_the_attempt_and_starts_another(play: Play) -> None:
    server = play.serve("start:before")
    play.go()
    play.submit_to_a_dying_server(server, "start:before")

    play.serve()
    play.until("DONE")

    assert play.story() == [("submit", 0), ("start", 1), ("lose", 1), ("start", 2), ("finish", 2)]
    assert [(unit, attempt) for unit, attempt, _ in play.ran()] == [("a", 2)]


def test_f2_a_crash_right_after_the_spawn_leaves_one_process_which_is_taken_back(play: Play) -> None:
    server = play.serve("start:after")
    play.submit_to_a_dying_server(server, "start:after")
    play.wait_until(play.ran, what="the agent to run")

    play.serve()
    play.until("RUNNING")
    play.go()
    play.until("DONE")

    assert play.story() == [("submit", 0), ("start", 1), ("finish", 1)]
    assert [(unit, attempt) for unit, attempt, _ in play.ran()] == [("a", 1)]


def test_f3_what_was_committed_but_not_broadcast_is_shown_to_whoever_comes_back(play: Play) -> None:
    server = play.serve("fold:before", count=2)  # the first fold is the replay at its start
    follower = play.client
    lost: list[Exception] = []

    def follow() -> None:
        try:
            follower.changes(0, wait=30)
        except NoServerError as error:
            lost.append(error)

    thread = threading.Thread(target=follow)
    thread.start()
    play.submit_to_a_dying_server(server, "fold:before")
    thread.join(20)
    assert lost, "a follower was told of a change that was not broadcast"

    play.serve()
    records = play.client.changes(0)["records"]

    assert (records[0]["unit"], records[0]["trigger"]) == ("a", "submit")
    assert play.client.get("/units/a")["version"] == len(play.story())


def test_f8_a_request_that_is_repeated_after_a_lost_reply_happens_once(play: Play) -> None:
    server = play.serve("http-reply:before")
    play.submit_to_a_dying_server(server, "http-reply:before", key="k")

    play.serve()
    with pytest.raises(Refused, match="exists already"):
        play.submit("a")
    answer = play.submit("a", key="k")

    assert answer == {"units": ["a"], "seq": 1}
    assert [trigger for trigger, _ in play.story()].count("submit") == 1


def test_f8_a_request_that_comes_twice_at_once_happens_once(play: Play) -> None:
    play.serve()
    play.submit("a")
    play.until("RUNNING")
    barrier, answers = threading.Barrier(2), []

    def pause(client: Client) -> None:
        barrier.wait()
        try:
            answers.append(client.post("/units/a/pause", {"reason": "twice"}))
        except Refused as refused:
            answers.append(refused)

    threads = [threading.Thread(target=pause, args=[play.client]) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sum(isinstance(answer, Refused) for answer in answers) == 1
    assert [trigger for trigger, _ in play.story()].count("pause") == 1


def test_f16_agents_outlive_a_killed_server_and_their_ends_become_outcomes(play: Play) -> None:
    server = play.serve()
    play.submit("a", "b")
    play.wait_until(lambda: len(play.ran()) == 2, what="both agents to run")
    server.kill()
    pids = [pid for _, _, pid in play.ran()]
    assert all(pid in running(str(play.stage.root)) for pid in pids)

    play.go()
    exits = [play.stage.state / "runs" / unit / "1" / "exit.json" for unit in "ab"]
    play.wait_until(lambda: all(path.exists() for path in exits), what="the exits of both while no server runs")
    play.serve()
    play.until("DONE", "a")
    play.until("DONE", "b")

    assert play.story("a") == play.story("b") == [("submit", 0), ("start", 1), ("finish", 1)]
    assert len(play.ran()) == 2


def test_f16_a_pause_that_its_server_died_of_stops_the_agent_at_the_next_start(play: Play) -> None:
    server = play.serve("stop:before")
    play.submit("a")
    play.wait_until(play.ran, what="the agent to run")
    with pytest.raises(NoServerError):
        play.client.post("/units/a/pause", {})
    assert server.process.wait(20) == -9
    ((_, _, agent),) = play.ran()
    assert agent in running(str(play.stage.root))

    play.serve()

    play.wait_until(lambda: agent not in running(str(play.stage.root)), what="the agent to be stopped")
    assert play.story() == [("submit", 0), ("start", 1), ("pause", 1)]


def test_f16_an_answer_that_its_server_died_of_reaches_the_agent_that_waits_at_the_next_start(play: Play) -> None:
    server = play.serve("deliver-answer:before")
    play.go()
    play.submit("a", agent="asks")
    play.until("NEEDS_ATTENTION")
    with pytest.raises(NoServerError):
        play.client.post("/units/a/answer", {"text": "so"})
    assert server.process.wait(20) == -9

    play.serve()
    play.until("DONE")

    assert play.story() == [("submit", 0), ("start", 1), ("ask", 1), ("continue", 1), ("finish", 1)]
    assert len(play.ran()) == 1


@pytest.mark.parametrize("with_server", [False, True], ids=["the-server-lives", "with-the-server"])
def test_f16_what_an_agent_asks_after_its_supervisor_died_is_in_the_queue(play: Play, with_server: bool) -> None:
    server = play.serve()
    play.submit("a", agent="asks")
    play.wait_until(play.ran, what="the agent to run")
    supervisor = supervisor_of(play.stage)
    assert supervisor is not None
    kill(supervisor)
    if with_server:
        server.kill()
        play.serve()
    play.wait_until(lambda: supervisor_of(play.stage) not in (None, supervisor), what="another supervisor")

    play.go()
    play.until("NEEDS_ATTENTION")
    play.client.post("/units/a/answer", {"text": "so"})
    play.until("DONE")

    assert play.story() == [("submit", 0), ("start", 1), ("ask", 1), ("continue", 1), ("finish", 1)]


def test_f17_a_server_killed_during_its_checkpoints_opens_again_with_everything_acknowledged(play: Play) -> None:
    play.go()
    acknowledged: list[str] = []
    for number, delay in enumerate((0.0, 0.004, 0.012)):
        server = play.serve("checkpoint:during", delay=delay)
        play.client.post("/dispatch", {"paused": True})
        while server.alive:
            names = [f"u{number}-{len(acknowledged) + index}" for index in range(40)]
            try:
                play.client.post("/units", {"units": [{"name": name, "prompt": "x" * 400} for name in names]})
            except NoServerError:
                server.process.wait(20)
            else:
                acknowledged += names
        assert server.died_at() == "checkpoint:during"

    server = play.serve()
    shown = [unit["name"] for unit in play.client.pages("/units", "units")]
    server.kill()
    found = Evidence(play.stage, [], set(), [])

    assert set(acknowledged) <= set(shown)
    assert set(found.stories) == set(shown)
    assert [*check_log.numbering(found), *check_log.chain(found)] == []
