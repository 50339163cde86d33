"""Servers that listen for the network: behind a password, behind Panel's basic auth, and behind neither not at all."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlencode

import pytest
from raw_client import Client, Reply, request_bytes, send
from serve_kit import PANEL, Process

LONG, OTHER = "correct horse", "battery staple"
ORCH = (sys.executable, "-m", "orchestrator_app", "--project")
FORM = ("Content-Type", "application/x-www-form-urlencoded")


@pytest.fixture
def secret(tmp_path: Path) -> Callable[[str, str], str]:
    def write(name: str, text: str) -> str:
        file = tmp_path / name
        file.write_text(text)
        file.chmod(0o600)
        return str(file)

    return write


def sign_in(client: Client, password: str, name: str = "", *headers: tuple[str, str]) -> Reply:
    body = urlencode({"token": password, "name": name, "next": "/"}).encode()
    return client("POST", "/login", body, FORM, *headers, bearer=False)


def cookie_of(reply: Reply) -> tuple[str, str]:
    assert reply.status == 303, (reply.status, reply.body)
    return "Cookie", (reply.header("Set-Cookie") or "").partition(";")[0]


def change(client: Client, cookie: tuple[str, str], *headers: tuple[str, str]) -> int:
    said = (cookie, ("Origin", client.origin), *headers)
    return client("POST", "/api/v1/dispatch", {"paused": True}, *said, bearer=False).status


def test_a5_a_password_opens_the_server_to_the_network_and_to_who_knows_it(
    root: Path, start: Callable[..., Process], secret: Callable[[str, str], str]
) -> None:
    passwords = ("--password-file", secret("p", LONG + "\n"), "--viewer-password-file", secret("v", OTHER + "\n"))
    names = ("--allow-host", "orch.example.org")
    process = start(root, "serve", "--port", "0", "--address", "0.0.0.0", *passwords, *names, command=ORCH)
    client = process.client

    assert process.info["host"] == "127.0.0.1"
    assert client("GET", "/api/v1/status", bearer=False).status == 401
    assert client("GET", "/metrics", bearer=False).status == 401
    assert client("GET", "/ws", bearer=False).status == 401
    operator, viewer = (cookie_of(sign_in(client, word)) for word in (LONG, OTHER))
    assert (change(client, operator), change(client, viewer)) == (200, 403)
    assert client("GET", "/api/v1/status", None, viewer, bearer=False).status == 200

    # by its other name, through a proxy that speaks https
    outside = [("Host", "orch.example.org"), ("Origin", "https://orch.example.org"), ("X-Forwarded-Proto", "https")]
    entered = sign_in(client, LONG, "", *outside)
    assert "Secure" in (entered.header("Set-Cookie") or "")
    headers = [*outside, cookie_of(entered)]
    assert send(client.port, request_bytes("GET", "/api/v1/status", headers)).status == 200
    assert client("GET", "/api/v1/status", None, ("Host", "other.example.org")).status == 421

    # who guesses is slowed, and the right word does not help them then
    replies = [sign_in(client, "wrong password").status for _ in range(8)]
    assert replies[:5] == [403] * 5 and replies[-1] == 429
    assert sign_in(client, LONG).status == 429
    assert int(sign_in(client, LONG).header("Retry-After") or 0) > 0
    link = process.client.api("POST", "/login-code", {}).json["url"]
    assert client("GET", link.partition(f":{client.port}")[2], bearer=False).status == 303


def test_a14_no_agent_finds_a_password_in_its_environment(
    root: Path, start: Callable[..., Process], wait_until: Callable[..., object]
) -> None:
    canaries = (f"ORCH_PASSWORD={LONG}", f"ORCH_VIEWER_PASSWORD={OTHER}", "PANEL_OAUTH_SECRET=provider-canary")
    process = start(root, "serve", "--port", "0", command=("env", *canaries, *ORCH))

    process.submit("looks", f"env > {root}/found.new; mv {root}/found.new {root}/found")
    wait_until((root / "found").exists, 30, "the agent to have looked")

    found = (root / "found").read_text()
    assert "ORCH_UNIT=looks" in found
    assert not [word for word in (LONG, OTHER, "provider-canary", "ORCH_PASSWORD") if word in found]
    cookie_of(sign_in(process.client, LONG))


def test_a5_the_network_without_a_way_to_sign_in_is_refused_in_one_line(
    root: Path, start: Callable[..., Process]
) -> None:
    process = start(root, "serve", "--port", "0", "--address", "0.0.0.0", command=ORCH)

    assert process.popen.wait(30) == 2
    assert "--password-file" in process.text and process.text.count("\n") == 1


@pytest.mark.parametrize("kind", ["users", "shared"])
def test_a4_panels_basic_auth_covers_every_route(
    root: Path, start: Callable[..., Process], secret: Callable[[str, str], str], kind: str
) -> None:
    (root / "orchestrator.toml").write_text(
        (root / "orchestrator.toml").read_text() + ('[access]\noperators = ["ana"]\n' if kind == "users" else "")
    )
    auth = secret("users.json", json.dumps({"ana": LONG, "bo": OTHER})) if kind == "users" else LONG
    options = ("--address", "0.0.0.0", "--port", "0", "--basic-auth", auth, "--cookie-secret", "not used by us")
    process = start(root, *options, command=PANEL)
    client = process.client
    home = "/orchestrator_app"

    for path in (home, f"{home}/ws", "/ws", "/api/v1/status", "/metrics", f"{home}/autoload.js", "/logout"):
        assert client("GET", path, bearer=False).status == 401, path
    page = client("GET", "/login", bearer=False)
    assert (b'name="name"' in page.body) == (kind == "users")

    assert sign_in(client, "wrong password", "ana").status == 403
    ana = cookie_of(sign_in(client, LONG, "ana"))
    assert client("GET", home, None, ana, bearer=False).status == 200
    forged = (ana, ("Origin", client.origin), ("X-Orch-Operator", "mallory"))
    unit = {"name": "one", "prompt": "exit 0"}
    assert client("POST", "/api/v1/units", {**unit, "actor": "mallory"}, *forged, bearer=False).status == 400
    assert client("POST", "/api/v1/units", unit, *forged, bearer=False).status == 201
    first = client.api("GET", "/units/one/story").json["transitions"][0]
    assert first["actor"] == ("operator:ana" if kind == "users" else "operator:mallory")
    if kind == "users":
        assert sign_in(client, OTHER, "ana").status == 403
        bo = cookie_of(sign_in(client, OTHER, "bo"))
        assert client("GET", "/api/v1/status", None, bo, bearer=False).status == 200
        assert change(client, bo) == 403
        for forged in ("user=YW5h", "user=ana", 'user="2|1:0|10:1|4:user|4:YW5h|x"'):
            assert client("GET", "/api/v1/status", None, ("Cookie", forged), bearer=False).status == 401


def test_orch_open_viewer_prints_a_link_that_lets_nobody_act(root: Path, start: Callable[..., Process]) -> None:
    process = start(root, "serve", "--port", "0", command=ORCH)

    said = subprocess.run([*ORCH, str(root), "open", "--viewer", "--no-browser"], capture_output=True, text=True)
    link = said.stdout.strip().partition(f":{process.client.port}")[2]
    viewer = cookie_of(process.client("GET", link, bearer=False))

    assert change(process.client, viewer) == 403
    assert process.client("GET", "/", None, viewer, bearer=False).status == 200


def test_a_shared_password_names_nobody_and_so_no_operators(root: Path, start: Callable[..., Process]) -> None:
    (root / "orchestrator.toml").write_text(
        (root / "orchestrator.toml").read_text() + '[access]\noperators = ["ana"]\n'
    )

    process = start(root, "--port", "0", "--basic-auth", LONG, "--cookie-secret", "x", command=PANEL)

    assert process.popen.wait(30) == 2
    assert re.search(r"^orchestrator_app: .*\[access\] operators", process.text, re.M)
