"""The server's half of the dashboard: what a session costs, what it may ask for, and that it leaves nothing behind."""

from __future__ import annotations

import json

import pytest

from orchestrator_app.dashboard import page, views
from orchestrator_app.dashboard.console import Console
from orchestrator_app.states import Status


@pytest.fixture
def told():
    return []


@pytest.fixture
def console(running, told, monkeypatch):
    """A session's console, whose messages to the browser land in `told`."""
    monkeypatch.setattr(Console, "_send_msg", lambda self, message: told.append(message))
    console = Console(running.serving.orchestrator)
    yield console
    console.release()


def test_sessions_that_have_ended_leave_no_watcher_on_the_board(running, console):
    board = running.serving.orchestrator.board
    before = len(board._watchers)

    others = [Console(running.serving.orchestrator) for _ in range(5)]
    for one in [console, *others]:
        one._handle_msg({"type": "hello"})
    assert len(board._watchers) == before + 6
    for one in [console, *others]:
        one.release()

    assert len(board._watchers) == before


def test_a_page_that_nobody_opened_in_a_browser_watches_nothing(running):
    board = running.serving.orchestrator.board
    before = len(board._watchers)

    page(running.serving.orchestrator)

    assert len(board._watchers) == before


@pytest.mark.parametrize(
    "wish",
    [
        {"kind": "__init__", "args": {}},
        {"kind": "cancel", "args": None},
        {"kind": "cancel", "args": {"actor": "operator:somebody-else"}},
        {},
    ],
)
def test_a_page_can_ask_for_nothing_but_requests_in_the_operators_own_name(console, told, wish):
    console._handle_msg({"type": "do", "id": 1, "unit": "x", **wish})

    (answer,) = told
    assert answer["done"] == 1 and not answer["ok"] and "\n" not in answer["text"]


def test_messages_that_make_no_sense_are_passed_over(console):
    for message in (None, 3, "hello", {}, {"type": "ack"}, {"type": "more", "status": "NEW'", "count": "x"}):
        console._handle_msg(message)


def test_a_frame_can_be_written_as_json_whatever_a_unit_is_like(running, unit, console, told, wait_until):
    name = unit("exit 3", labels=["a"], priority=2)
    wait_until(lambda: running.serving.orchestrator.board.units[name].status is Status.NEEDS_ATTENTION)

    console._handle_msg({"type": "hello"})

    frame = json.loads(json.dumps(told[0]))
    assert {kind for kind, *_ in frame["changes"]} == {"head", "item", "unit"}
    assert json.dumps(views.facts(running.serving.orchestrator, name), allow_nan=False)


def test_a_new_page_is_told_of_a_bounded_number_of_units_of_each_status(running, unit, monkeypatch):
    monkeypatch.setattr(views, "SHARE", 2)
    running.client.api("POST", "/dispatch", {"paused": True})
    try:
        for _ in range(4):
            unit()
        keys = views.first_keys(running.serving.orchestrator)
        units = [running.serving.orchestrator.board.units[name] for kind, name in keys if kind == "unit"]
        ready = [one for one in units if one.status is Status.READY]
    finally:
        running.client.api("POST", "/dispatch", {"paused": False})

    assert len(ready) == 2
