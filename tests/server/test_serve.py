"""The life of a server process: one per project, found by others, stopped in order, killed without a trace."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from raw_client import SETTINGS, Client, make_project

import orchestrator_app
from orchestrator_app.claim import server_info

Wait = Callable[..., Any]

LAUNCH = """
import sys
from pathlib import Path
from orchestrator_app.errors import OrchError
from orchestrator_app.serve import serve
from orchestrator_app.settings import load_project
try:
    sys.exit(serve(load_project(Path(sys.argv[1])), port=int(sys.argv[2]) if sys.argv[2:] else None))
except OrchError as error:
    print(error, file=sys.stderr)
    sys.exit(error.exit_code)
"""
SOURCES = str(Path(orchestrator_app.__file__).parents[1])
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([SOURCES, os.environ.get("PYTHONPATH", "")])}


class Process:
    """A server in a process of its own; its output goes to a file beside the project."""

    def __init__(self, root: Path, *command: str) -> None:
        self.root = root
        self.output = root.parent / f"{root.name}.{len(list(root.parent.iterdir()))}.out"
        with open(self.output, "wb") as file:
            self.popen = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=ENVIRONMENT, cwd=root)

    @property
    def text(self) -> str:
        return self.output.read_text()

    @property
    def info(self) -> dict[str, Any]:
        info = server_info(self.root / ".orchestrator")
        assert info is not None
        return info

    @property
    def client(self) -> Client:
        return Client(self.info["port"], (self.root / ".orchestrator" / "token").read_text().strip())

    def login_path(self) -> str:
        found = re.search(r"http://[^/\s]+(/login\?code=\S+)", self.text)
        assert found, self.text
        return found.group(1)

    def end(self, number: int = signal.SIGTERM) -> int:
        self.popen.send_signal(number)
        return self.popen.wait(60)


@pytest.fixture
def start(wait_until: Wait) -> Iterator[Callable[..., Process]]:
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


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_project(tmp_path / "work")


def port_that_is_free() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def test_a_server_says_where_it_is_and_leaves_nothing_behind(root: Path, start: Callable[..., Process]) -> None:
    process = start(root, "0")

    info, state = process.info, root / ".orchestrator"
    status = process.client.api("GET", "/status")
    login = process.client("GET", process.login_path(), bearer=False)

    assert info["pid"] == process.popen.pid
    assert {"url", "host", "port", "start_time", "started_at", "version"} <= set(info)
    assert (status.status, login.status) == (200, 303)
    assert process.end() == 0
    assert not (state / "server.json").exists()
    assert server_info(state) is None


def test_f22_a_second_server_is_refused_and_says_who_holds_the_project(
    root: Path, start: Callable[..., Process]
) -> None:
    first = start(root, "0")

    second = start(root, "0")

    assert second.popen.wait(60) == 1
    assert f"process {first.popen.pid} at {first.info['url']}, since" in second.text
    assert len(second.text.strip().splitlines()) == 1
    assert first.client.api("GET", "/status").status == 200


def test_f16_after_kill_9_the_next_server_starts_and_browsers_stay_signed_in(
    root: Path, start: Callable[..., Process]
) -> None:
    port = str(port_that_is_free())
    first = start(root, port)
    login = first.client("GET", first.login_path(), bearer=False)
    cookie = ("Cookie", (login.header("Set-Cookie") or "").partition(";")[0])
    first.client.api("POST", "/dispatch", {"paused": True})
    first.client.api("POST", "/units", {"name": "kept"})

    first.end(signal.SIGKILL)
    assert (root / ".orchestrator" / "server.json").exists()
    assert server_info(root / ".orchestrator") is None
    second = start(root, port)

    assert second.client("GET", "/api/v1/units/kept", None, cookie, bearer=False).status == 200


def test_a_port_asked_for_and_taken_is_an_error_that_names_it(root: Path, start: Callable[..., Process]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]

        process = start(root, str(port))

        assert process.popen.wait(60) == 1
        assert f"Port {port} is taken" in process.text
        assert "Traceback" not in process.text
    assert not (root / ".orchestrator" / "server.json").exists()


def test_a_port_of_the_settings_that_is_taken_is_an_error_too(tmp_path: Path, start: Callable[..., Process]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        root = make_project(tmp_path / "work", f"{SETTINGS}\n[server]\nport = {port}\n")

        process = start(root)

        assert process.popen.wait(60) == 1
        assert f"Port {port} is taken" in process.text


def test_the_default_port_gives_way_to_the_next_free_one(root: Path, start: Callable[..., Process]) -> None:
    first = start(root)
    second = start(make_project(root.parent / "other"))

    assert first.info["port"] != second.info["port"]
    assert first.client.api("GET", "/status").json["project"] != second.client.api("GET", "/status").json["project"]


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "127.example.org", "::"])
def test_a5_an_address_that_others_could_reach_is_wrong_usage(
    tmp_path: Path, start: Callable[..., Process], host: str
) -> None:
    root = make_project(tmp_path / "work", f'{SETTINGS}\n[server]\nhost = "{host}"\n')

    process = start(root, "0")

    assert process.popen.wait(60) == 2
    assert host in process.text and "127.0.0.1" in process.text
    assert len(process.text.strip().splitlines()) == 1
    assert not (root / ".orchestrator").exists()


def test_a_state_directory_that_cannot_be_made_is_one_clear_line(root: Path, start: Callable[..., Process]) -> None:
    (root / ".orchestrator").write_text("in the way")

    process = start(root, "0")

    assert process.popen.wait(60) == 2
    assert str(root / ".orchestrator") in process.text
    assert len(process.text.strip().splitlines()) == 1


def test_a19_a_state_directory_that_others_can_write_is_refused(root: Path, start: Callable[..., Process]) -> None:
    (root / ".orchestrator").mkdir()
    (root / ".orchestrator").chmod(0o777)

    process = start(root, "0")

    assert process.popen.wait(60) == 2
    assert "chmod 700" in process.text


def test_a_request_stops_the_server_in_order(root: Path, start: Callable[..., Process]) -> None:
    process = start(root, "0")

    reply = process.client.api("POST", "/stop")

    assert (reply.status, reply.json["stopping"]) == (202, "leave")
    assert process.popen.wait(60) == 0
    assert server_info(root / ".orchestrator") is None


def test_a_stop_leaves_the_agents_to_the_next_server_unless_asked_to_end_them(
    root: Path, start: Callable[..., Process], wait_until: Wait
) -> None:
    process = start(root, "0")
    mark = root / "alive"
    process.client.api("POST", "/units", {"name": "long", "prompt": f"echo $$ > {mark}; exec sleep 600"})
    wait_until(lambda: mark.exists() and mark.read_text().strip())
    pid = int(mark.read_text())

    process.client.api("POST", "/stop")
    process.popen.wait(60)
    survived = Path(f"/proc/{pid}").exists()
    again = start(root, "0")
    running = again.client.api("GET", "/units/long").json
    again.client.api("POST", "/stop", {"how": "agents"})
    again.popen.wait(60)

    assert survived
    assert (running["status"], running["attempt"]) == ("RUNNING", 1)
    wait_until(lambda: not Path(f"/proc/{pid}").exists())


def test_f33_a_second_signal_leaves_at_once_and_the_agents_go_on(
    tmp_path: Path, start: Callable[..., Process], wait_until: Wait
) -> None:
    root = make_project(tmp_path / "work", SETTINGS.replace("grace = 1", "grace = 60"))
    process = start(root, "0")
    mark = root / "alive"
    process.client.api("POST", "/units", {"name": "deaf", "prompt": f"trap '' TERM; echo $$ > {mark}; exec sleep 600"})
    wait_until(lambda: mark.exists() and mark.read_text().strip())

    process.popen.send_signal(signal.SIGTERM)
    wait_until(lambda: "Stopping" in process.text)
    process.popen.send_signal(signal.SIGTERM)
    process.popen.wait(30)

    agent = int(mark.read_text())
    assert "Leaving at once" in process.text
    assert server_info(root / ".orchestrator") is None
    assert Path(f"/proc/{agent}").exists()
    again = start(root, "0")
    again.client.api("POST", "/dispatch", {"paused": True})
    os.kill(agent, signal.SIGKILL)
    wait_until(lambda: again.client.api("GET", "/units/deaf").json["status"] != "RUNNING")
    assert again.end() == 0


@pytest.mark.parametrize("plugins", [(), ("--plugins", "orchestrator_app.api")])
def test_panel_serve_gives_the_same_server(root: Path, start: Callable[..., Process], plugins: tuple[str, ...]) -> None:
    panel = str(Path(sys.executable).with_name("panel"))
    app = str(Path(orchestrator_app.__file__).parent)

    process = start(root, command=(panel, "serve", app, "--port", str(port_that_is_free()), *plugins))
    client = process.client
    with open("/proc/net/tcp") as file:
        listening = [line.split()[1] for line in file if f":{client.port:04X} 00000000:0000 0A" in line]
    login = client("GET", process.login_path(), bearer=False)
    cookie = ("Cookie", (login.header("Set-Cookie") or "").partition(";")[0])
    page = client("GET", login.header("Location") or "", None, cookie, bearer=False)

    assert listening == [f"0100007F:{client.port:04X}"]
    assert not Path("/proc/net/tcp6").exists() or f":{client.port:04X} 0" not in Path("/proc/net/tcp6").read_text()
    assert client("GET", "/orchestrator_app", bearer=False).status == 401
    assert client("GET", "/orchestrator_app", None, ("Host", f"evil.example:{client.port}")).status == 421
    assert (login.status, page.status) == (303, 200)
    assert client.api("GET", "/status").json["state"] == "ok"
    assert page.header("X-Frame-Options") == "DENY"
    assert process.end() == 0
    assert server_info(root / ".orchestrator") is None


def test_panel_serve_without_a_project_ends_before_it_answers(tmp_path: Path, start: Callable[..., Process]) -> None:
    panel = str(Path(sys.executable).with_name("panel"))
    app = str(Path(orchestrator_app.__file__).parent)

    process = start(tmp_path, command=(panel, "serve", app, "--port", str(port_that_is_free())))

    assert process.popen.wait(60) == 2
    assert "orch init" in process.text and "Traceback" not in process.text


def test_panel_serve_on_an_open_address_is_wrong_usage(root: Path, start: Callable[..., Process]) -> None:
    panel = str(Path(sys.executable).with_name("panel"))
    app = str(Path(orchestrator_app.__file__).parent)

    process = start(root, command=(panel, "serve", app, "--port", str(port_that_is_free()), "--address", "0.0.0.0"))

    assert process.popen.wait(60) == 2
    assert "0.0.0.0" in process.text


def test_server_json_of_a_stranger_names_no_server(root: Path) -> None:
    state = root / ".orchestrator"
    state.mkdir()
    (state / "server.json").write_text(json.dumps({"pid": os.getpid(), "start_time": 1, "url": "http://x"}))

    assert server_info(state) is None


def test_the_page_of_the_api_in_the_documentation_is_the_one_generated() -> None:
    from orchestrator_app.api import document

    path = Path(orchestrator_app.__file__).parents[1] / "docs" / "api.md"

    assert path.read_text() == document(), "run `python -m orchestrator_app.api > docs/api.md`"
