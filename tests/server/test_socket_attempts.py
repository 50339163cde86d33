"""An attempt's own channel: with its token it says what it could write into its file, and hears the answers."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from raw_client import UPGRADE, Client, Running, request_bytes, send
from socket_kit import Ear
from test_edge import METHODS, OPEN, paths_of

from orchestrator_app.agents.channel import attempt_of, attempt_token, say
from orchestrator_app.api import socket as served
from orchestrator_app.api.attempts import AttemptChannel
from orchestrator_app.errors import NotFoundError, OrchError


class Attempt:
    """A unit whose attempt runs until it is told to go, and its connection."""

    def __init__(self, running: Running, name: str, folder: Path, wait_until: Callable[..., Any]) -> None:
        self.client, self.name = running.client, name
        self.go, self.note = folder / f"{name}.go", folder / f"{name}.token"
        self.ears: list[Ear] = []
        self._wait_until = wait_until

    @property
    def script(self) -> str:
        told = f'echo "$ORCH_TOKEN" > {self.note}.new; mv {self.note}.new {self.note}'
        return f"{told}; while ! test -e {self.go}; do sleep 0.02; done"

    @property
    def token(self) -> str:
        self._wait_until(self.note.exists, what=f"{self.name} to run")
        return self.note.read_text().strip()

    def connect(self, query: str = "monitor=agents", token: str | None = None) -> Ear:
        self.ears.append(Ear(self.client, query, token=token or self.token))
        return self.ears[-1]

    def unit(self) -> dict[str, Any]:
        return self.client.api("GET", f"/units/{self.name}").json

    def events(self) -> list[dict[str, Any]]:
        return self.client.api("GET", f"/units/{self.name}/events").json["events"]


@pytest.fixture
def attempt(running: Running, tmp_path: Path, wait_until: Callable[..., Any], request: Any) -> Iterator[Attempt]:
    one = Attempt(running, f"attempt-{abs(hash(request.node.name)) % 10**9}", tmp_path, wait_until)
    reply = running.client.api("POST", "/units", {"name": one.name, "prompt": one.script})
    assert reply.status == 201, reply.body
    yield one
    for ear in one.ears:
        ear.end()
    one.go.touch()
    wait_until(lambda: one.unit()["status"] != "RUNNING", what="the attempt to end")


def test_what_an_attempt_says_takes_the_way_of_its_file(attempt: Attempt, wait_until: Callable[..., Any]) -> None:
    ear = attempt.connect()
    greeting = ear.next()

    first = ear.say({"type": "progress", "percent": 40, "step": "half"})
    second = ear.say('{"type": "note",\n\r\n "message": "two\\nlines"}')

    events = wait_until(lambda: len(found := attempt.events()) == 2 and found)
    assert greeting and greeting["payload"] == {"unit": attempt.name, "attempt": 1, "phase": "RUN"}
    assert [first, second] == [{"type": "ok", "pos": event["pos"]} for event in events]
    assert [(event["type"], event["message"]) for event in events] == [("progress", "half"), ("note", "two\nlines")]
    wait_until(lambda: attempt.unit()["progress"] == {"percent": 40, "step": "half"})


def test_an_attempt_asks_and_hears_the_answer_and_hears_it_again_when_it_comes_back(
    attempt: Attempt, wait_until: Callable[..., Any]
) -> None:
    ear = attempt.connect()
    ear.next()
    ear.say({"type": "ask", "question": "Which?", "options": ["a", "b"]})
    wait_until(lambda: attempt.unit()["status"] == "NEEDS_ATTENTION")
    item = attempt.unit()["item"]

    attempt.client.api("POST", f"/units/{attempt.name}/answer", {"text": "b"})
    answer = ear.until("answer")
    again = attempt.connect()
    repeated = again.until("answer")

    assert answer["payload"] == repeated["payload"] == {"item": item, "question": "Which?", "answer": "b"}


@pytest.mark.parametrize(
    ("message", "why"),
    [
        ("}{", "not JSON"),
        ('{"type":"transition"}', "there are progress"),
        ('{"percent":1}', "there are progress"),
        ('{"type":"note","message":"' + "é" * 32_800 + '"}', "longer than 64 kB"),
    ],
    ids=["no-json", "unknown", "untyped", "long"],
)
def test_what_is_no_message_is_refused_and_not_kept(attempt: Attempt, message: str, why: str) -> None:
    ear = attempt.connect()
    ear.next()

    answer = ear.say(message)
    pong = ear.say({"type": "ping"})

    assert answer and answer["type"] == "error" and why in answer["message"]
    assert pong == {"type": "pong"}
    assert attempt.events() == []


def test_a_fenced_attempt_is_refused_whatever_it_says(attempt: Attempt, wait_until: Callable[..., Any]) -> None:
    token, ear = attempt.token, attempt.connect()
    ear.next()

    attempt.note.unlink()
    attempt.client.api("POST", f"/units/{attempt.name}/restart", {})
    fenced = ear.next()
    closed = ear.next()
    wait_until(lambda: attempt.unit()["attempt"] == 2)
    late = attempt.connect(token=token)
    refused = late.next()
    after = late.next()
    new = attempt.connect()
    greeting = new.next()

    assert fenced and fenced["type"] == "error" and "is over" in fenced["message"] and closed is None
    assert refused and refused["type"] == "error" and after is None
    assert (ear.code, late.code) == (4409, 4409)
    assert greeting and greeting["payload"]["attempt"] == 2
    assert attempt.events() == []


def test_what_comes_in_as_an_attempt_is_fenced_is_not_kept(running: Running, attempt: Attempt) -> None:
    assert attempt.token
    folder = running.state / "runs" / attempt.name

    for number in (0, 2):
        (folder / str(number)).mkdir()
        with pytest.raises(OrchError, match=f"^attempt {number} of {attempt.name} is over; this was not kept$"):
            AttemptChannel(running.serving, attempt.name, number).hear('{"type":"heartbeat"}', {"type": "heartbeat"})

    assert [path for number in (0, 2) for path in (folder / str(number)).iterdir()] == []


def test_a4_the_token_of_an_attempt_opens_nothing_but_its_channel(
    running: Running, client: Client, attempt: Attempt
) -> None:
    bearer = ("Authorization", f"Bearer {attempt.token}")
    bokeh = ("Sec-WebSocket-Protocol", "bokeh, x")
    paths = [*dict.fromkeys(paths_of(running.serving._server._tornado.default_router)), "/no/such/path"]
    assert "/ws" in paths and "/api/v1/status" in paths

    for path in paths:
        if path in OPEN:
            continue
        for method in METHODS:
            reply = send(client.port, request_bytes(method, path, [("Host", client.host), bearer]))
            assert reply.status == 403 or (path == "/ws" and reply.status in (400, 405)), (method, path)
        reply = send(client.port, request_bytes("GET", path, [("Host", client.host), bearer, *UPGRADE, bokeh]))
        assert reply.status == 403, path
    ear = attempt.connect("topics=unit&since=0")
    greeting = ear.next()

    assert greeting and set(greeting["payload"]) == {"unit", "attempt", "phase"}


@pytest.mark.parametrize("header", ["Host", "Origin"])
def test_a3_the_channel_of_an_attempt_stands_behind_the_same_edge(
    client: Client, attempt: Attempt, header: str
) -> None:
    headers = {"Host": client.host, header: f"evil.example:{client.port}", "Authorization": f"Bearer {attempt.token}"}

    reply = send(client.port, request_bytes("GET", "/ws", [*headers.items(), *UPGRADE]))

    assert reply.status in (403, 421)


def test_a17_an_attempt_has_so_many_sockets_and_takes_none_from_those_who_listen(
    client: Client, attempt: Attempt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served, "MOST_OF_ONE", 2)
    monkeypatch.setattr(served, "MOST", 2)
    greetings = [(attempt.connect().next() or {}).get("type") for _ in range(3)]
    listener = Ear(client, f"unit={attempt.name}")

    assert greetings == ["snapshot", "snapshot", "error"]
    assert (listener.next() or {}).get("type") == "snapshot"
    listener.end()


def test_a_token_is_of_one_attempt_and_tells_nothing_of_the_secret() -> None:
    token = attempt_token("secret", "a.b", 3)
    mac = token.rpartition(".")[2]

    assert attempt_of("secret", token) == ("a.b", 3)
    assert "secret" not in token
    forged = [f"a.b.4.{mac}", f"a.c.3.{mac}", f"b.3.{mac}", f"a.b.3.{mac}x", f"a.b.{mac}", f"a.b.\u0663.{mac}"]
    forged += [mac, "", ".", "...", "a.b.3."]
    assert [attempt_of("secret", one) for one in forged] == [None] * len(forged)
    assert attempt_of("other", token) is None


def test_a_line_that_was_only_begun_does_not_spoil_what_is_said_after_it(tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").write_text('{"type":"no')

    pos = say(tmp_path, '{"type":"heartbeat"}')

    lines = (tmp_path / "events.jsonl").read_text().split("\n")
    assert json.loads(lines[1]) == {"type": "heartbeat"}
    assert pos == (tmp_path / "events.jsonl").stat().st_size


def test_nothing_is_said_through_a_link_a_pipe_or_into_a_directory_that_is_gone(tmp_path: Path) -> None:
    (tmp_path / "link").mkdir()
    (tmp_path / "link" / "events.jsonl").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "pipe").mkdir()
    os.mkfifo(tmp_path / "pipe" / "events.jsonl")

    for place, error in (("link", OSError), ("pipe", OSError), ("gone", NotFoundError)):
        with pytest.raises(error):
            say(tmp_path / place, '{"type":"heartbeat"}')

    assert not (tmp_path / "elsewhere").exists()
