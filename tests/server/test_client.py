"""The one HTTP client: a change is made once, through a restart too, and what fails is said in one line."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from serve_kit import Process, every_record

from orchestrator_app.client import Client, Conflict, Refused, Unanswered
from orchestrator_app.client import http as http_module
from orchestrator_app.edge import MAX_BODY
from orchestrator_app.errors import NoServerError, NotFoundError, OrchError, StaleVersionError, UsageError


@pytest.fixture
def orch(running: Any) -> Client:
    found = Client.of(running.state)
    assert found is not None
    return found


def test_f8_a_change_is_made_once_though_the_server_is_killed_and_comes_back_meanwhile(
    root: Path, start: Callable[..., Process], wait_until: Callable[..., Any]
) -> None:
    process = start(root)
    client = Client.of(root / ".orchestrator")
    assert client is not None
    answers: list[Any] = []
    enough = threading.Event()

    def submit() -> None:
        while not enough.is_set():
            answers.append(client.change("/units", {"name": f"u-{len(answers)}"}))

    thread = threading.Thread(target=submit)
    thread.start()
    for number in (signal.SIGKILL, signal.SIGTERM):
        reached = len(answers)
        wait_until(lambda: len(answers) > reached + 5)  # noqa: B023
        process.end(number)
        process = start(root)
    reached = len(answers)
    wait_until(lambda: len(answers) > reached + 5)
    enough.set()
    thread.join(60)

    assert [answer["units"] for answer in answers] == [[f"u-{each}"] for each in range(len(answers))]
    submitted = [row for row in every_record(client) if row["table"] == "transition" and row["trigger"] == "submit"]
    assert [row["unit"] for row in submitted] == [f"u-{each}" for each in range(len(answers))]


def test_a_server_that_does_not_come_back_is_waited_for_a_bounded_time_only(
    root: Path, start: Callable[..., Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_module, "RETURN", 0.3)
    process = start(root)
    near, far = Client.of(root / ".orchestrator"), Client(process.info["url"], process.client.token)
    assert near is not None
    process.end(signal.SIGKILL)

    for client, told in ((near, "has ended meanwhile: start it with `orch serve`"), (far, "doesn't answer")):
        with pytest.raises(Unanswered) as caught:
            client.change("/units", {"name": "one"})
        assert told in str(caught.value) and str(caught.value).endswith(
            "; whether this change was made is not known: look first"
        )
        assert "\n" not in str(caught.value) and isinstance(caught.value, NoServerError)
        with pytest.raises(Unanswered, match=told):
            client.get("/status")


def test_what_the_server_refuses_is_its_own_line_in_the_kind_of_error_that_it_is(
    orch: Client, unit: Callable[..., str]
) -> None:
    name = unit("sleep 600")
    seen = orch.get(f"/units/{name}")["version"]
    orch.patch(f"/units/{name}", {"priority": 3}, None)

    for kind, status, words, ask in (
        (UsageError, 400, "nothing to change", lambda: orch.patch(f"/units/{name}", {}, None)),
        (NotFoundError, 404, "nobody", lambda: orch.get("/units/nobody")),
        (Refused, 409, name, lambda: orch.change(f"/units/{name}/resume")),
        (StaleVersionError, 412, name, lambda: orch.patch(f"/units/{name}", {"priority": 9}, seen)),
        (StaleVersionError, 412, name, lambda: orch.change(f"/units/{name}/pause", version=seen)),
    ):
        with pytest.raises(kind, match=words) as caught:
            ask()
        assert isinstance(caught.value, Refused) and caught.value.status == status
        assert "\n" not in str(caught.value)
        if isinstance(caught.value, Conflict):
            assert caught.value.current["name"] == name and caught.value.current["priority"] == 3
    orch.change(f"/units/{name}/cancel")


def test_a_request_that_no_server_takes_is_not_sent(orch: Client) -> None:
    assert http_module.MOST == MAX_BODY

    with pytest.raises(UsageError, match=r"one request holds at most 16,777,216: send it in parts$"):
        orch.change("/units", {"name": "large", "prompt": "x" * MAX_BODY})


def test_an_address_that_is_no_server_is_refused_or_told_as_what_it_is(running: Any) -> None:
    for url in ("ftp://127.0.0.1", "http://", "http://127.0.0.1:port", "127.0.0.1:5006"):
        with pytest.raises(UsageError, match="is not the URL of a server"):
            Client(url, "t")
    with pytest.raises(OrchError, match="doesn't take this token"):
        Client(f"http://127.0.0.1:{running.serving.edge.port}", "x" * 43).get("/status")
