"""A real server on a free port in front of a real orchestrator."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from raw_client import Client, Running, make_project
from serve_kit import LAUNCH, Process, end_what_is_left

from orchestrator_app.serve import Serving, serve
from orchestrator_app.settings import load_project
from orchestrator_app.stopping import Stop


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server in this process, on a thread of its own, with dispatch on."""
    project = load_project(make_project(tmp_path_factory.mktemp("project") / "work"))
    started: list[Serving] = []
    ready = threading.Event()

    def on_ready(serving: Serving) -> None:
        started.append(serving)
        ready.set()

    outcome: list[int] = []
    thread = threading.Thread(target=lambda: outcome.append(serve(project, port=0, on_ready=on_ready)), daemon=True)
    thread.start()
    assert ready.wait(60), "the server did not start"
    serving = started[0]
    yield Running(serving, Client(serving.edge.port, (project.state / "token").read_text().strip()))
    serving.stop_from_any_thread(Stop.AGENTS)
    thread.join(60)
    assert outcome == [0]


@pytest.fixture
def client(running: Running) -> Client:
    return running.client


@pytest.fixture
def unit(running: Running, request: pytest.FixtureRequest) -> Callable[..., str]:
    """Submits a unit under a name of its own; its prompt is the script that it runs."""
    made: list[str] = []

    def submit(prompt: str = "exit 0", **fields: Any) -> str:
        name = f"{request.node.name.removeprefix('test_')[:80].strip('_[]').replace('[', '-').lower()}-{len(made)}"
        name = "".join(letter if letter.isalnum() else "-" for letter in name)
        reply = running.client.api("POST", "/units", {"name": name, "prompt": prompt, **fields})
        assert reply.status == 201, reply.body
        made.append(name)
        return name

    return submit


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_project(tmp_path / "work")


@pytest.fixture
def start(wait_until: Callable[..., Any]) -> Iterator[Callable[..., Process]]:
    """Starts servers as processes; at the end they and their agents are gone."""
    started: list[Process] = []

    def begin(root: Path, *arguments: str, command: tuple[str, ...] = (sys.executable, "-c", LAUNCH)) -> Process:
        last = () if command[0].endswith("panel") else (str(root),)
        process = Process(root, *command, *last, *arguments)
        started.append(process)
        wait_until(
            lambda: process.popen.poll() is not None or "/login?code=" in process.text, 60, "the server to be ready"
        )
        return process

    yield begin
    for process in started:
        if process.popen.poll() is None:
            process.popen.kill()
            process.popen.wait(30)
    for root in {process.root for process in started}:
        end_what_is_left(root, wait_until)
