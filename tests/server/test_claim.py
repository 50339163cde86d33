"""Who serves a project: one process at a time, proven by more than a number, whatever an earlier one left lying."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from serve_kit import Process

from orchestrator_app import claim
from orchestrator_app.claim import Claim, boot_id, open_state, server_info, start_time, token
from orchestrator_app.errors import AlreadyServedError, UsageError
from orchestrator_app.serve import MORE_PORTS, Serving, _listen
from orchestrator_app.settings import Project, load_project

Wait = Callable[..., Any]


@pytest.fixture
def state(root: Path) -> Path:
    open_state(root / ".orchestrator")
    return root / ".orchestrator"


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen]:
    """A process that is none of ours."""
    with subprocess.Popen(["sleep", "600"]) as process:
        yield process
        process.kill()


def about(process: subprocess.Popen, **other: Any) -> dict[str, Any]:
    words = {"pid": process.pid, "start_time": start_time(process.pid), "boot_id": boot_id(), "url": "http://x"}
    return {**words, "host": "127.0.0.1", "port": 1, "started_at": "2026-01-01T00:00:00Z", **other}


def test_f22_a_second_server_is_refused_though_the_lock_file_was_deleted(
    root: Path, start: Callable[..., Process]
) -> None:
    first = start(root, "0")
    (root / ".orchestrator" / "lock").unlink()

    second = start(root, "0")

    assert second.popen.wait(60) == 1
    refusal = second.text.strip().splitlines()[-1]
    assert f"already served by process {first.popen.pid} at {first.info['url']}" in refusal
    assert first.client.api("POST", "/units", {"name": "a", "prompt": "exit 0"}).status == 201
    assert first.end() == 0 and not (root / ".orchestrator" / "server.json").exists()


def test_f22_what_a_killed_server_left_behind_holds_nobody_up(state: Path) -> None:
    with subprocess.Popen(["true"]) as dead:
        words = about(dead, port=7_123)
    for name in ("lock", "server.json"):
        (state / name).write_text(json.dumps(words))

    held = Claim(state)

    assert (held.after_crash, held.last_port) == (True, 7_123)
    held.release()
    assert Claim(state).after_crash is False


@pytest.mark.parametrize("forged", [{"start_time": 1}, {"boot_id": "of another start of this machine"}, {"pid": 2**40}])
def test_f9_a_number_that_now_belongs_to_a_stranger_names_no_server(
    root: Path, state: Path, stranger: subprocess.Popen, forged: dict[str, Any]
) -> None:
    for name in ("lock", "server.json"):
        (state / name).write_text(json.dumps(about(stranger, **forged)))

    stopped = orch(root, "stop", "--agents")
    status = orch(root, "status")

    assert server_info(state) is None
    for done in (stopped, status):
        assert done.returncode == 3 and "no server runs" in done.stderr and len(done.stderr.splitlines()) == 1
    assert stranger.poll() is None
    Claim(state).release()


def test_a_server_that_was_killed_and_not_yet_collected_is_none(state: Path, stranger: subprocess.Popen) -> None:
    (state / "server.json").write_text(json.dumps(about(stranger)))
    alive = server_info(state)

    stranger.kill()
    os.waitid(os.P_PID, stranger.pid, os.WEXITED | os.WNOWAIT)

    assert alive is not None
    assert server_info(state) is None


@pytest.mark.parametrize(
    "text", ["", "{", "[1]", '"x"', "null", '{"pid": "1"}', '{"pid": -1}', '{"pid": true}', "\xff"]
)
def test_half_written_words_of_an_earlier_server_harm_nothing(state: Path, text: str) -> None:
    for name in ("lock", "server.json", ".server.json.77", ".token.77"):
        (state / name).write_bytes(text.encode("latin-1"))

    assert server_info(state) is None
    held = Claim(state)
    held.announce(url="http://127.0.0.1:7001", port=7001)

    assert server_info(state)["port"] == 7001
    assert not list(state.glob(".server.json.*")) and not list(state.glob(".token.*"))
    held.release()
    assert server_info(state) is None


def test_a_token_that_was_cut_short_is_refused_with_what_to_do(state: Path) -> None:
    (state / "token").write_text("abc")

    with pytest.raises(UsageError, match="too short to be a token; delete it"):
        token(state)


def test_a_refused_second_server_changes_no_word_of_the_first_one(root: Path, state: Path) -> None:
    held = Claim(state)
    held.announce(url="http://127.0.0.1:7001", port=7001)
    before = {file.name: file.read_bytes() for file in state.iterdir()}

    with pytest.raises(AlreadyServedError, match=f"process {os.getpid()} at http://127.0.0.1:7001"):
        Serving(load_project(root))

    assert {file.name: file.read_bytes() for file in state.iterdir()} == before, "not even a token is made"
    held.release()


def test_a_start_waits_for_a_server_that_is_ending_and_says_so(state: Path, wait_until: Wait, capfd: Any) -> None:
    first = Claim(state)
    first.announce(url="http://127.0.0.1:7001", port=7001)
    first.note_end()
    taken: list[Claim] = []
    next_one = threading.Thread(target=lambda: taken.append(Claim(state)))
    said = ""

    def has_said() -> bool:
        nonlocal said
        said += capfd.readouterr().err
        return bool(said)

    next_one.start()
    wait_until(has_said)
    still_waiting = not taken
    first.release()
    next_one.join(30)

    assert still_waiting and len(taken) == 1
    assert said == f"Waiting for process {os.getpid()}, which serves {state.parent}, to end.\n"
    assert (taken[0].last_port, taken[0].after_crash) == (7001, False)
    taken[0].release()


def test_a_server_that_never_ends_is_waited_for_only_so_long(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claim, "ENDING", 0.1)
    first = Claim(state)
    first.note_end()

    with pytest.raises(AlreadyServedError, match="which is ending; try again when it has"):
        Claim(state)

    first.release()


def test_a_lock_whose_holder_says_nothing_is_waited_for_and_then_respected(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claim, "ENDING", 0.1)
    with open(state / "lock", "w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)

        with pytest.raises(AlreadyServedError, match="another process, which is starting or ending"):
            Claim(state)


def free_port_of(project: Project) -> int:
    """A port other than the first of those that a server looks for."""
    for port in range(project.port + 1, project.port + MORE_PORTS + 1):
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise AssertionError("no port is free")


def test_the_next_server_takes_the_port_that_open_pages_know(root: Path, state: Path) -> None:
    project = load_project(root)
    port = free_port_of(project)
    (state / "lock").write_text(json.dumps({"port": port}))
    held = Claim(state)

    server = _listen(project, "127.0.0.1", None, held)

    assert server.port == port
    server.stop()
    held.release()


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # Tornado drops the socket of a taken port
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_after_a_crash_a_start_waits_for_the_port_and_says_so(
    root: Path, state: Path, wait_until: Wait, capfd: Any
) -> None:
    project = load_project(root)
    port = free_port_of(project)
    (state / "lock").write_text(json.dumps({"pid": 2**30, "port": port}))
    held, taken, said = Claim(state), [], ""

    def has_said() -> bool:
        nonlocal said
        said += capfd.readouterr().out
        return "Waiting" in said

    with socket.create_server(("127.0.0.1", port)):
        thread = threading.Thread(target=lambda: taken.append(in_a_loop(_listen, project, "127.0.0.1", None, held)))
        thread.start()
        wait_until(has_said)
    thread.join(30)

    assert said.startswith(f"Waiting for port {port}: the server before, which was killed, may still hold it.")
    assert taken == [port]
    held.release()


def in_a_loop(listen: Callable[..., Any], *arguments: Any) -> int:
    """The port of a server that is made in a thread, where there is no loop yet."""
    asyncio.set_event_loop(loop := asyncio.new_event_loop())
    try:
        server = listen(*arguments)
        server.stop()
        return server.port
    finally:
        loop.close()


def orch(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "orchestrator_app", "--project", str(root), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)
