"""An orderly stop loses nothing: what was acknowledged, what runs, and what is left to do are all there afterwards."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.dataset
import pytest
from raw_client import SETTINGS, Client, Reply, make_project
from serve_kit import ENVIRONMENT, LAUNCH, PANEL, Agent, Process

from orchestrator_app.claim import server_info, start_time

Start = Callable[..., Process]
Wait = Callable[..., Any]
ASK = r"""printf '{"type":"ask","question":"Which?"}\n' >> "$ORCH_EVENTS" """


@pytest.mark.parametrize(
    ("number", "command"),
    [
        (signal.SIGTERM, ()),
        (signal.SIGINT, ()),
        (signal.SIGHUP, ()),
        (signal.SIGTERM, PANEL),
    ],
    ids=["TERM", "INT", "HUP", "TERM-panel"],
)
def test_f33_one_signal_stops_the_server_in_order_and_its_agents_go_on(
    root: Path, start: Start, wait_until: Wait, number: int, command: tuple[str, ...]
) -> None:
    process = start(root, command=(*command, "--port", "0")) if command else start(root, "0")
    agent = Agent(root, "long")
    process.submit("long", agent.script())
    wait_until(agent.is_there)
    seq = process.client.api("GET", "/status").json["seq"]

    code = process.end(number)

    state = root / ".orchestrator"
    assert code == 0 and "Stopping; running agents go on" in process.text
    assert "Traceback" not in process.text
    assert agent.lives()
    assert not (state / "server.json").exists()
    assert not (state / "orchestrator.duckdb.wal").exists(), "the log was not closed with a checkpoint"
    exported = pyarrow.dataset.dataset(state / "export" / "transition", format="parquet").to_table()
    assert max(exported.column("seq").to_pylist()) == seq


def test_f33_what_a_stop_leaves_running_is_taken_back_and_ends_as_what_it_did(
    root: Path, start: Start, wait_until: Wait
) -> None:
    process, agent = start(root, "0"), Agent(root, "long")
    process.submit("long", agent.script())
    wait_until(agent.is_there)
    process.end()

    again = start(root, "0")
    taken_back = again.unit("long")
    agent.go.touch()

    assert (taken_back["status"], taken_back["attempt"]) == ("RUNNING", 1)
    wait_until(lambda: again.unit("long")["status"] == "DONE")
    assert again.unit("long")["attempt"] == 1


def test_f33_a_drain_starts_nothing_waits_for_what_runs_and_leaves_what_waits_for_a_person(
    root: Path, start: Start, wait_until: Wait
) -> None:
    process, runs, asks = start(root, "0"), Agent(root, "runs"), Agent(root, "asks")
    client = process.client
    process.submit("runs", runs.script())
    process.submit("asks", asks.script(before=ASK))
    wait_until(lambda: runs.is_there() and process.unit("asks")["status"] == "NEEDS_ATTENTION")

    reply = client.api("POST", "/stop", {"how": "drain"})
    wait_until(lambda: process.state().startswith("draining"))
    process.submit("late", "exit 0")
    said, health = process.state(), client("GET", "/healthz")
    late = process.unit("late")["status"]
    runs.go.touch()
    code = process.popen.wait(60)

    assert (reply.status, reply.json["stopping"]) == (202, "drain")
    assert said == "draining: nothing new is started; it waits for runs"
    assert (health.status, health.json) == (200, {"state": "draining"})
    assert (code, late) == (0, "READY")
    assert asks.lives()
    again = start(root, "0")
    wait_until(lambda: again.unit("late")["status"] == "DONE")
    assert again.unit("runs")["status"] == "DONE"
    assert (again.unit("asks")["status"], again.unit("asks")["attempt"]) == ("NEEDS_ATTENTION", 1)
    asks.go.touch()


def test_f33_a_signal_during_a_drain_ends_it_in_order_and_a_second_one_at_once(
    tmp_path: Path, start: Start, wait_until: Wait
) -> None:
    root = make_project(tmp_path / "work", SETTINGS.replace("grace = 1", "grace = 600"))
    process, agent = start(root, "0"), Agent(root, "long")
    process.submit("long", agent.script())
    wait_until(agent.is_there)
    process.client.api("POST", "/stop", {"how": "drain"})
    wait_until(lambda: process.state().startswith("draining"))

    assert process.end() == 0
    assert agent.lives()

    again, deaf = start(root, "0"), Agent(root, "deaf")
    again.submit("deaf", deaf.script(before="trap '' TERM"))
    wait_until(deaf.is_there)
    again.client.api("POST", "/stop", {"how": "agents"})
    again.popen.send_signal(signal.SIGTERM)
    wait_until(lambda: "Stopping" in again.text)
    again.popen.send_signal(signal.SIGTERM)
    again.popen.wait(30)

    assert "Leaving at once" in again.text
    assert server_info(root / ".orchestrator") is None and not (root / ".orchestrator" / "server.json").exists()
    assert deaf.lives()
    for one in (agent, deaf):
        one.go.touch()


def test_a_stronger_stop_takes_the_place_of_a_drain_and_a_weaker_one_changes_nothing(
    root: Path, start: Start, wait_until: Wait
) -> None:
    process, agent = start(root, "0"), Agent(root, "long")
    process.submit("long", agent.script())
    wait_until(agent.is_there)
    client = process.client

    unheard_of = client.api("POST", "/stop", {"how": "politely"})
    ways = [client.api("POST", "/stop", {"how": how}).json["stopping"] for how in ("drain", "drain", "agents", "leave")]
    code = process.popen.wait(60)

    assert unheard_of.status == 400 and "drain, leave, agents" in unheard_of.json["detail"]
    assert ways == ["drain", "drain", "agents", "agents"]
    assert code == 0 and not agent.lives()
    again = start(root, "0")
    story = again.client.api("GET", "/units/long/story").json["transitions"]
    assert [row["trigger"] for row in story][:3] == ["submit", "start", "defer"]
    again.client.api("POST", "/stop", {"how": "agents"})
    again.popen.wait(60)


def test_a_server_started_while_the_one_before_is_ending_waits_for_it(
    tmp_path: Path, start: Start, wait_until: Wait
) -> None:
    root = make_project(tmp_path / "work", SETTINGS.replace("grace = 1", "grace = 600"))
    process, deaf = start(root, "0"), Agent(root, "deaf")
    process.submit("deaf", deaf.script(before="trap '' TERM"))
    wait_until(deaf.is_there)
    process.client.api("POST", "/stop", {"how": "agents"})
    outputs = set(tmp_path.glob("*.out"))

    starting = threading.Thread(target=start, args=(root, "0"))
    starting.start()
    (newest,) = wait_until(lambda: set(tmp_path.glob("*.out")) - outputs)
    said = f"Waiting for process {process.popen.pid}, which serves {root}, to end."
    wait_until(lambda: said in newest.read_text())
    deaf.go.touch()
    starting.join(60)

    assert process.popen.wait(60) == 0
    assert server_info(root / ".orchestrator")["pid"] != process.popen.pid


DYING = LAUNCH.replace(
    "try:",
    """
from orchestrator_app.executors.local import LocalExecutor
wait = LocalExecutor.wait

def wait_or_die(self, timeout):
    if (Path(sys.argv[1]) / "die").exists():
        raise SystemExit
    return wait(self, timeout)

LocalExecutor.wait = wait_or_die
try:""",
    1,
)
"""A server whose scheduler dies when a file appears."""


def test_f32_a_server_whose_scheduler_died_stops_and_does_not_claim_to_have_ended_its_agents(
    root: Path, start: Start, wait_until: Wait
) -> None:
    process, agent = start(root, "0", command=(sys.executable, "-c", DYING)), Agent(root, "long")
    process.submit("long", agent.script())
    wait_until(agent.is_there)
    (root / "die").touch()
    process.client.api("POST", "/dispatch", {"paused": True})
    wait_until(lambda: "thread has died" in process.state())

    way = process.client.api("POST", "/stop", {"how": "agents"}).json["stopping"]

    assert way == "leave"
    assert process.popen.wait(60) == 0
    assert agent.lives()
    agent.go.touch()


class Submitter(threading.Thread):
    """An operator who submits one unit after the other, and keeps every word that the server said."""

    def __init__(self, client: Client, letter: str) -> None:
        super().__init__(daemon=True)
        self.client, self.letter = client, letter
        self.acknowledged: list[str] = []
        self.refused: list[tuple[int, str]] = []
        self.over = threading.Event()

    def run(self) -> None:
        for number in range(100_000):
            if self.over.is_set():
                return
            name = f"{self.letter}{number}"
            try:
                reply = self.client.api("POST", "/units", {"name": name, "prompt": "exit 0", "after": ["first"]})
            except OSError:
                return
            if reply.status == 201:
                self.acknowledged.append(name)
            else:
                self.refused.append((reply.status, reply.json["detail"]))


def test_f33_requests_in_flight_are_answered_or_refused_and_never_acknowledged_and_lost(
    root: Path, start: Start, wait_until: Wait
) -> None:
    process = start(root, "0")
    process.client.api("POST", "/dispatch", {"paused": True})
    process.submit("first", "exit 0")
    submitters = [Submitter(process.client, letter) for letter in "abcdefgh"]
    head = process.client.api("GET", "/status").json["seq"]
    waiting: list[Reply] = []
    path = f"/feed?since={head + 1_000_000}&wait=60"  # nothing of what is committed ends this one
    poll = threading.Thread(target=lambda: waiting.append(process.client.api("GET", path)), daemon=True)
    for each in (poll, *submitters):
        each.start()
    wait_until(lambda: all(len(each.acknowledged) > 3 for each in submitters))

    code = process.end()
    poll.join(30)
    for each in submitters:
        each.over.set()
        each.join(30)

    assert code == 0 and "Traceback" not in process.text
    assert [reply.status == 200 or "stopping" in reply.json["detail"] for reply in waiting] == [True]
    refused = [words for each in submitters for words in each.refused]
    assert all(status == 503 and "stopping" in detail for status, detail in refused), refused
    again = start(root, "0")
    acknowledged = {name for each in submitters for name in each.acknowledged}
    kept = {row["name"] for row in again.client.api("GET", "/units?limit=1000").json["units"]}
    assert acknowledged <= kept
    again.end()


FIRST_PROCESS = """
import ctypes, sys
from pathlib import Path
from orchestrator_app.cli.first_process import stand_in_front
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # its descendants' orphans come to it, as to process 1
code = stand_in_front()
if code is None:
    from orchestrator_app.serve import serve
    from orchestrator_app.settings import load_project
    code = serve(load_project(Path(sys.argv[1])), port=0, keep_agents=False)
sys.exit(code)
"""
UNSHARE = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")
"""Makes what it starts process 1 of a world of its own, where that is allowed."""


def may_unshare() -> bool:
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*UNSHARE, "true"], capture_output=True, timeout=30).returncode == 0


def children(pid: int) -> list[int]:
    return [int(word) for file in Path(f"/proc/{pid}/task").glob("*/children") for word in file.read_text().split()]


class Container:
    """`orch serve` as process 1, or where that isn't allowed, as one to which the kernel gives orphans in the same way.

    The numbers of its processes may be those of a world of its own: it is found by what it started."""

    def __init__(self, root: Path) -> None:
        self.root, self.output = root, root.parent / "container.out"
        real = may_unshare()
        serve = (sys.executable, "-m", "orchestrator_app", "serve", "--port", "0")
        command = (*UNSHARE, *serve) if real else (sys.executable, "-c", FIRST_PROCESS, str(root))
        with self.output.open("wb") as file:
            self.popen = subprocess.Popen(command, stdout=file, stderr=file, env=ENVIRONMENT, cwd=root)
        self._real = real

    def is_ready(self) -> bool:
        assert self.popen.poll() is None, self.output.read_text()
        return "/login?code=" in self.output.read_text()

    @property
    def first(self) -> int:
        return children(self.popen.pid)[0] if self._real else self.popen.pid

    @property
    def client(self) -> Client:
        state = self.root / ".orchestrator"
        return Client(json.loads((state / "server.json").read_text())["port"], (state / "token").read_text().strip())


@pytest.fixture
def container(root: Path, wait_until: Wait) -> Iterator[Container]:
    container = Container(root)
    wait_until(container.is_ready, 60, "the server")
    yield container
    container.popen.kill()
    container.popen.wait(30)


def test_f15_as_process_1_it_keeps_no_zombies_hears_signals_and_ends_its_agents_in_order(
    container: Container, start: Start, wait_until: Wait
) -> None:
    root, agent = container.root, Agent(container.root, "long")
    script = f"(setsid sh -c 'sleep 600' &); {agent.script()}"
    container.client.api("POST", "/units", {"name": "long", "prompt": script})
    wait_until(agent.is_there)
    server, supervisor = children(container.first)

    os.kill(supervisor, signal.SIGKILL)  # its keepers, and later what they leave, become process 1's
    wait_until(lambda: not Path(f"/proc/{supervisor}").exists(), 20, "process 1 to collect it")
    os.kill(container.first, signal.SIGTERM)
    code = container.popen.wait(60)

    assert code == 0, container.output.read_text()
    assert start_time(server) is None
    again = start(root, "0")
    story = again.client.api("GET", "/units/long/story").json["transitions"]
    assert [row["trigger"] for row in story][:3] == ["submit", "start", "defer"]
    again.client.api("POST", "/stop", {"how": "agents"})
    again.popen.wait(60)


def test_a_terminal_that_closes_ends_no_server_that_was_told_to_outlive_it(root: Path, wait_until: Wait) -> None:
    command = ("nohup", sys.executable, "-c", LAUNCH, str(root), "0")
    process = Process(root, *command)
    try:
        wait_until(lambda: "/login?code=" in process.text, 60, "the server")
        process.popen.send_signal(signal.SIGHUP)
        assert process.state() == "ok"
        assert process.end() == 0 and process.text.count("Stopping;") == 1
    finally:
        process.popen.kill()
