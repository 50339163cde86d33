"""`orch stop`: in which way, of which process, and what it says while it waits."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cli_kit import ORCH, SETTINGS, Server, assert_one_line, environment, make_project, run

from orchestrator_app.claim import boot_id, start_time

Wait = Callable[..., Any]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(make_project(tmp_path / "work", SETTINGS.replace("grace = 1", "grace = 600")))
    yield server
    for there in server.root.glob("*.there"):
        there.with_suffix(".go").touch()  # whatever went wrong, no agent stays
    server.popen.kill()
    server.popen.wait(30)


class Stopping:
    """An `orch stop` in a process of its own."""

    def __init__(self, root: Path, *options: str) -> None:
        self.told = root.parent / "stop.err"
        with self.told.open("wb") as file:
            self.popen = subprocess.Popen([*ORCH, "stop", *options], cwd=root, stderr=file, env=environment())

    @property
    def text(self) -> str:
        return self.told.read_text()


def long_unit(server: Server, name: str, wait_until: Wait, before: str = "") -> Path:
    """A unit that runs until the file is there that is returned."""
    there, go = server.root / f"{name}.there", server.root / f"{name}.go"
    server.ok("submit", name, "-p", f"{before}\ntouch {there}; while ! test -e {go}; do sleep 0.02; done")
    wait_until(there.exists, 30)
    return go


def test_f33_a_drain_says_what_it_waits_for_and_goes_on_when_nobody_watches(server: Server, wait_until: Wait) -> None:
    one, two = (long_unit(server, name, wait_until) for name in ("one", "two"))
    watched = Stopping(server.root, "--drain")
    wait_until(lambda: "waiting for one, two\n" in watched.text, 30)

    one.touch()
    wait_until(lambda: "waiting for two\n" in watched.text, 30)
    watched.popen.send_signal(signal.SIGINT)
    code = watched.popen.wait(30)
    status = server.ok("status")
    two.touch()

    assert code == 130 and "it goes on stopping without you watching" in watched.text
    assert re.search(r"^state +draining: nothing new is started; it waits for two$", status, re.MULTILINE)
    assert server.popen.wait(60) == 0
    listed = {unit["name"]: unit["status"] for unit in json.loads(run(server.root, "ls", "--json").out)}
    assert listed == {"one": "DONE", "two": "DONE"}


def test_f33_another_stop_ends_a_drain_and_both_are_told(server: Server, wait_until: Wait) -> None:
    go = long_unit(server, "long", wait_until)
    drain = Stopping(server.root, "--drain")
    wait_until(lambda: "waiting for long" in drain.text, 30)

    done = server.orch("stop")

    assert done.code == 0 and "running attempts go on" in done.out
    assert drain.popen.wait(60) == 0
    assert_one_line(run(server.root, "stop"), 3, "no server runs")
    go.touch()


def test_a_server_killed_while_a_stop_waits_is_not_said_to_have_stopped_in_order(
    server: Server, wait_until: Wait
) -> None:
    go = long_unit(server, "deaf", wait_until, before="trap '' TERM")
    stopping = Stopping(server.root, "--agents")
    wait_until(lambda: "waiting for process" in stopping.text, 30)

    server.popen.kill()
    server.popen.wait(30)

    assert stopping.popen.wait(60) == 1
    assert "has ended, but not in order" in stopping.text.splitlines()[-1]
    assert "Traceback" not in stopping.text
    go.touch()


def test_a_server_that_does_not_answer_is_named_with_what_to_do(tmp_path: Path) -> None:
    root = make_project(tmp_path / "work")
    state = root / ".orchestrator"
    state.mkdir(mode=0o700)
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    me = {"pid": os.getpid(), "start_time": start_time(os.getpid()), "boot_id": boot_id()}
    where = {"host": "127.0.0.1", "port": port, "url": f"http://127.0.0.1:{port}"}
    (state / "server.json").write_text(json.dumps({**me, **where}))
    (state / "token").write_text("x" * 40)

    assert_one_line(run(root, "stop"), 1, f"process {os.getpid()}", "doesn't answer", f"kill -9 {os.getpid()}")


def test_the_two_ways_to_stop_exclude_each_other(tmp_path: Path) -> None:
    root = make_project(tmp_path / "work")

    assert_one_line(run(root, "stop", "--drain", "--agents"), 2, "choose one")
