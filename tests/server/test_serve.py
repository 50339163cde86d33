"""The life of a server process: one per project, found by others, stopped in order, killed without a trace."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from raw_client import SETTINGS, make_project
from serve_kit import PANEL, Process

import orchestrator_app
from orchestrator_app.claim import server_info

Wait = Callable[..., Any]


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


@pytest.mark.parametrize("plugins", [(), ("--plugins", "orchestrator_app.api")])
def test_panel_serve_gives_the_same_server(root: Path, start: Callable[..., Process], plugins: tuple[str, ...]) -> None:
    process = start(root, command=(*PANEL, "--port", str(port_that_is_free()), *plugins))
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
    process = start(tmp_path, command=(*PANEL, "--port", str(port_that_is_free())))

    assert process.popen.wait(60) == 2
    assert "orch init" in process.text and "Traceback" not in process.text


def test_panel_serve_on_an_open_address_is_wrong_usage(root: Path, start: Callable[..., Process]) -> None:
    process = start(root, command=(*PANEL, "--port", str(port_that_is_free()), "--address", "0.0.0.0"))

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
