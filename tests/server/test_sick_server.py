"""A server that can't work as it should says so everywhere, and is well again by itself once it can."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from raw_client import Client, make_project

import orchestrator_app
from orchestrator_app.claim import server_info

LAUNCH = """
import resource, sys
from pathlib import Path
from orchestrator_app.executors.local import LocalExecutor
from orchestrator_app.serve import serve
from orchestrator_app.settings import load_project

root, files = Path(sys.argv[1]), int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
wait = LocalExecutor.wait

def wait_or_die(self, timeout):
    if (root / "die").exists():
        raise SystemExit
    return wait(self, timeout)

LocalExecutor.wait = wait_or_die
sys.exit(serve(load_project(root), port=0))
"""
SOURCES = str(Path(orchestrator_app.__file__).parents[1])


class Sick:
    """A server whose scheduler dies when a file appears, and that may open only so many files."""

    def __init__(self, root: Path, files: int) -> None:
        self.root = root
        self.output = root.parent / "serve.out"
        with self.output.open("wb") as output:
            self.popen = subprocess.Popen(
                [sys.executable, "-c", LAUNCH, str(root), str(files)],
                stdout=output,
                stderr=output,
                env={**os.environ, "PYTHONPATH": SOURCES},
            )

    def is_ready(self) -> bool:
        assert self.popen.poll() is None, self.output.read_text()
        return server_info(self.root / ".orchestrator") is not None and "/login?code=" in self.output.read_text()

    @property
    def client(self) -> Client:
        state = self.root / ".orchestrator"
        return Client(server_info(state)["port"], (state / "token").read_text().strip())


@pytest.fixture
def start(tmp_path: Path, wait_until: Callable[..., Any]) -> Iterator[Callable[..., Sick]]:
    started: list[Sick] = []

    def begin(files: int = 1024) -> Sick:
        root = make_project(tmp_path / "work")
        started.append(Sick(root, files))
        wait_until(started[-1].is_ready, 60, "the server to be ready")
        return started[-1]

    yield begin
    for server in started:
        server.popen.kill()
        server.popen.wait(30)


def test_f32_a_server_whose_scheduler_died_never_pretends_to_be_live(start, wait_until) -> None:
    server = start()
    client = server.client
    assert client("GET", "/healthz").status == 200

    (server.root / "die").touch()
    client.api("POST", "/dispatch", {"paused": True})  # wakes it

    wait_until(lambda: client("GET", "/healthz").status == 503)
    assert client("GET", "/healthz").json == {"state": "degraded"}
    assert "thread has died" in client.api("GET", "/status").json["state"]
    refused = client.api("POST", "/dispatch", {"paused": False})
    assert refused.status >= 400 and "thread has died: restart the server" in refused.json["detail"]


def test_with_no_file_left_to_open_the_server_rests_and_then_goes_on(start, wait_until) -> None:
    server = start(files=90)
    client = server.client

    held = [socket.create_connection(("127.0.0.1", client.port), timeout=10) for _ in range(120)]
    wait_until(lambda: "too many open files" in server.output.read_text())
    for each in held:
        each.close()

    assert client.api("POST", "/units", {"name": "a", "prompt": "exit 0"}).status == 201
    wait_until(lambda: client.api("GET", "/units/a").json["status"] == "DONE")
    assert client("GET", "/healthz").status == 200
    lines = server.output.read_text().splitlines()
    assert len(lines) < 50 and not any("Traceback" in line for line in lines), lines[:50]
