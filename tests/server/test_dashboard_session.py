"""The server's half of the dashboard: what a session costs, what it may ask for, and that it leaves nothing behind."""

from __future__ import annotations

import json

import pytest

from orchestrator_app.dashboard import page
from orchestrator_app.dashboard.console import Console
from orchestrator_app.dashboard.screens.settings import effective
from orchestrator_app.settings import load_project
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


def test_f28_sessions_that_have_ended_leave_no_watcher_on_the_board(running, console):
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
def test_a1_a_page_can_ask_for_nothing_but_requests_in_its_operators_own_name(console, told, wish):
    console._handle_msg({"type": "do", "id": 1, "unit": "x", **wish})

    (answer,) = told
    assert answer["done"] == 1 and not answer["ok"] and "\n" not in answer["text"]


@pytest.mark.parametrize("name", ["", "a b", "x" * 65, "<img>", "ana\n", 3, None])
def test_a_name_that_may_not_stand_in_the_log_is_refused(console, told, name):
    before = console._operator

    console._handle_msg({"type": "operator", "name": name})

    assert told == [{"operator": before, "refused": True}]


def test_messages_that_make_no_sense_are_passed_over(console, told):
    for message in (
        None, 3, "hello", {}, {"type": "ack"}, {"type": "open"}, {"type": "open", "page": 7, "args": {}, "n": 1},
        {"type": "open", "page": "../board", "args": {}, "n": 2}, {"type": "open", "page": "board", "args": [], "n": 3},
        {"type": "say", "n": 1, "message": "x"}, {"type": "say"},
    ):  # fmt: skip
        console._handle_msg(message)

    assert [one["n"] for one in told if "nowhere" in one] == [1, 2]


def test_a_frame_can_be_written_as_json_and_tells_of_the_units_that_need_a_person(
    running, unit, console, told, wait_until
):
    name = unit("exit 3", labels=["a"], priority=2)
    wait_until(lambda: running.serving.orchestrator.board.units[name].status is Status.NEEDS_ATTENTION)

    console._handle_msg({"type": "hello"})

    frame = next(one for one in told if "frame" in one)
    assert json.loads(json.dumps(frame, allow_nan=False))["head"]["attention"] >= 1


def test_the_settings_page_knows_a_value_for_every_source_and_hides_what_agents_get(tmp_path):
    (tmp_path / "orchestrator.toml").write_text(
        '[project]\nslots = 7\nverify = "true"\n[retry]\ndelay = 3\n[workflow]\nphases = ["PLAN", "REVIEW", "MERGE"]\n'
        '[workflows.quick]\nphases = ["IMPLEMENT"]\n[phases.PLAN]\nretries = 4\n'
        '[agents.sh]\ncommand = "true"\nenv = {KEY = "secret"}\n'
    )

    project = load_project(tmp_path)
    rows = {row["name"]: row for row in effective(project)}

    assert set(project.sources) == set(rows)
    assert "secret" not in json.dumps(list(rows.values()))
    values = {name: rows[name]["value"] for name in ("project.slots", "retry.delay", "phases.PLAN.retries")}
    assert values == {"project.slots": "7", "retry.delay": "3", "phases.PLAN.retries": "4"}
    assert rows["workflows.quick.phases"]["value"] == '["IMPLEMENT"]'
    assert rows["project.slots"]["source"] == "orchestrator.toml:2" and rows["project.grace"]["source"] == "default"
