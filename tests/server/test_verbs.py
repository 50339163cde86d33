"""`connect()` has every verb of the API, on a running server and, as far as they read, on a stopped project."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from raw_client import Running
from serve_kit import Process

from orchestrator_app import connect
from orchestrator_app.api import TABLE
from orchestrator_app.claim import make_viewer_token
from orchestrator_app.client import Conflict, Refused
from orchestrator_app.connection import Connection, NotReached
from orchestrator_app.errors import NoServerError, NotFoundError, OrchError, UsageError

# They end before what is said to them, which follows in their prompt.
ASKS = """test -n "$ORCH_ANSWER" || echo '{"type":"ask","question":"Tea or coffee?"}' >> "$ORCH_EVENTS"; exit 0"""
APPROVAL = """test -n "$ORCH_ANSWER$ORCH_FEEDBACK" ||
echo '{"type":"ask","kind":"approval","question":"May I?"}' >> "$ORCH_EVENTS"; exit 0"""
BESIDE = {"GET /metrics", "GET /healthz"}
"""Operations beside the API's table."""
PAGING = {"limit", "cursor"}
"""What a verb needn't offer: it gives all pages. The second is what it names otherwise, or has in another way."""
ELSEWHERE = {
    "POST /units": {"units", "name"},
    "POST /query": {"limit", "format"},
    "GET /units/{name}/sessions": set(),
}


@pytest.fixture(scope="module")
def orch(running: Running) -> Iterator[Connection]:
    with connect(running.state) as connection:
        yield connection


def verbs() -> dict[str, list[Callable[..., Any]]]:
    """The methods of each operation."""
    found: dict[str, list[Callable[..., Any]]] = {}
    for _, method in inspect.getmembers(Connection, inspect.isfunction):
        for operation in getattr(method, "operations", ()):
            found.setdefault(operation, []).append(method)
    return found


def test_every_operation_of_the_api_has_its_verb_and_every_verb_its_operation(orch: Connection) -> None:
    known = verbs()
    served = {
        f"{method.upper()} {path.removeprefix('/api/v1')}"
        for path, methods in orch.description()["paths"].items()
        for method in methods
    }

    assert served - BESIDE == {f"{route.method} {route.path}" for route in TABLE}
    assert set(known) == served | BESIDE


@pytest.mark.parametrize("route", TABLE, ids=lambda route: f"{route.method} {route.path}")
def test_a_verb_takes_everything_that_its_operation_takes(route: Any) -> None:
    operation = f"{route.method} {route.path}"
    fields = {each.name for each in (*route.query, *(route.body or ()))}
    if route.versioned:
        fields.add("version")
    fields -= ELSEWHERE.get(operation, set()) | (PAGING if operation != "GET /feed" else {"cursor"})

    offered = [set(inspect.signature(method).parameters) for method in verbs()[operation]]

    assert any(fields <= names for names in offered), (operation, fields, offered)


def test_every_verb_says_what_it_does_and_what_it_takes() -> None:
    for name, method in inspect.getmembers(Connection, inspect.isfunction):
        if not name.startswith("_"):
            assert (method.__doc__ or "").strip().endswith((".", ",", ")")), name
            assert all(
                each.annotation is not each.empty for each in list(inspect.signature(method).parameters.values())[1:]
            ), name


def test_units_are_submitted_edited_answered_approved_and_waited_for(orch: Connection) -> None:
    one = orch.submit("tea", ASKS, labels=["drink"], priority=2)
    many = orch.submit([{"name": "may", "prompt": APPROVAL}, {"name": "last", "after": ["tea", "may"]}])

    with pytest.raises(NotReached, match=r"^tea is NEEDS_ATTENTION, not DONE: ") as stuck:
        orch.wait(["tea", "may", "last"], timeout=30)
    orch.wait("tea", "NEEDS_ATTENTION", timeout=30)
    (question,) = orch.waiting("tea")
    orch.answer("tea", "tea", item=question["id"])
    orch.wait("may", for_=["NEEDS_ATTENTION"], timeout=30)
    changed = orch.edit("last", priority=7, prompt="exit 0")
    orch.approve("may")
    reached = orch.wait(["tea", "may", "last"], timeout=30)

    assert one["units"] == ["tea"] and many["units"] == ["may", "last"]
    assert stuck.value.statuses["tea"] == "NEEDS_ATTENTION"
    assert "Tea or coffee?" in question["title"] + question["text"]
    assert changed["version"] == 3 and orch.unit("last")["priority"] == 7
    assert reached == {"tea": "DONE", "may": "DONE", "last": "DONE"}
    assert [unit["name"] for unit in orch.find("DONE", "drink")] == ["tea"]
    assert orch.status()["counts"]["DONE"] >= 3 and orch.waiting("tea") == []
    assert "answer" in set(orch.story("tea").trigger)


def test_a_batch_is_submitted_whole_or_not_at_all(orch: Connection) -> None:
    with pytest.raises(OrchError) as refused:
        orch.submit([{"name": "good"}, {"name": "bad", "after": ["nobody"]}])

    assert "nobody" in str(refused.value) and "\n" not in str(refused.value)
    with pytest.raises(NotFoundError):
        orch.unit("good")
    once, again = orch.submit("keyed", "exit 0", key="k-1"), orch.submit("keyed", "exit 0", key="k-1")
    assert once == again
    with pytest.raises(UsageError, match="one word where a list is meant"):
        orch.submit("worded", after="keyed")
    with pytest.raises(UsageError, match="there is no status 'FINISHED': there are NEW, "):
        orch.wait("keyed", "FINISHED")
    with pytest.raises(UsageError, match="put it into each unit"):
        orch.submit([{"name": "x"}], priority=3)


def test_units_are_held_withdrawn_and_taken_back_and_rejected_and_accepted(orch: Connection) -> None:
    prompts = {"held": "sleep 600", "no": APPROVAL, "f": "exit 3"}
    orch.submit([{"name": name, "prompt": prompt} for name, prompt in prompts.items()])
    orch.wait("held", "RUNNING", timeout=30)
    seen = orch.unit("held")["version"]

    assert orch.pause("held", "not now", version=seen)["status"] == "PAUSED"
    with pytest.raises(Conflict) as stale:
        orch.resume("held", version=seen)
    assert stale.value.current["status"] == "PAUSED" and stale.value.current["version"] == seen + 1
    assert orch.comment("held", "mind the gap", file="a.py", line=3)["unit"] == "held"
    assert orch.resume("held")["status"] == "READY"
    orch.wait("held", "RUNNING", timeout=30)
    assert orch.restart("held")["status"] == "READY"
    assert orch.cancel("held", "enough")["status"] == "CANCELLED"
    assert orch.reopen("held")["status"] == "READY"
    orch.cancel("held")
    orch.wait("no", "NEEDS_ATTENTION", timeout=30)
    orch.reject("no", "use less")
    assert orch.wait("no", timeout=30) == {"no": "DONE"}
    orch.wait("f", "NEEDS_ATTENTION", timeout=30)
    (item,) = orch.waiting("f")
    orch.seen(item["id"])
    orch.retry("f", feedback="again")
    orch.wait("f", "NEEDS_ATTENTION", timeout=30)
    assert orch.accept("f", "it is known")["status"] == "DONE"
    with pytest.raises(OrchError, match="serialize is not possible"):
        orch.resolve("f", "no", "serialize")


def test_dispatch_is_paused_and_goes_on(orch: Connection) -> None:
    assert orch.dispatch(paused=True)["paused"] is True
    orch.submit("waits-for-dispatch", "exit 0")
    try:
        with pytest.raises(NotReached, match=r"^not DONE within 0.3 s: waits-for-dispatch is READY$"):
            orch.wait("waits-for-dispatch", timeout=0.3)
        assert orch.status()["dispatch"] == "paused"
    finally:
        orch.dispatch(paused=False)
    assert orch.wait("waits-for-dispatch", timeout=30) == {"waits-for-dispatch": "DONE"}


READING: dict[str, Callable[[Connection], Any]] = {
    "status": lambda orch: {**orch.status(), "state": 0, "pid": 0, "started_at": 0},
    "unit": lambda orch: orch.unit("said"),
    "find": lambda orch: orch.find(label="x"),
    "waiting": lambda orch: orch.waiting(),
    "conflicts": lambda orch: orch.conflicts(),
    "budget": lambda orch: orch.budget(),
    "errors": lambda orch: orch.errors(since="2020-01-01"),
    "log": lambda orch: orch.log("said"),
    "tail": lambda orch: orch.log("said", 1, tail=2),
    "part": lambda orch: orch.log("said", offset=2, limit=5),
    "changes": lambda orch: orch.changes(2, limit=3, tables=["transition"]),
    "config": lambda orch: orch.config(),
    "check": lambda orch: orch.check(),
    "sessions": lambda orch: orch.sessions().to_dict("list"),
    "story": lambda orch: orch.story("said").to_dict("list"),
    "arrow": lambda orch: orch.arrow("SELECT unit, trigger FROM transition ORDER BY seq").to_pylist(),
}
SAYS = r"""
printf '{"type":"usage","input_tokens":7,"usd":0.5,"model":"small"}\n{"type":"session","id":"s-1"}\n' >> "$ORCH_EVENTS"
for n in $(seq 2000); do echo "line $n"; done"""


def test_what_reads_says_the_same_of_a_stopped_project_and_what_acts_says_what_to_run(
    root: Path, start: Callable[..., Process]
) -> None:
    process = start(root)
    with connect(root) as orch:
        orch.submit("said", SAYS, labels=["x"])
        orch.submit("broken", "exit 3")
        orch.wait("said", timeout=30)
        orch.wait("broken", "NEEDS_ATTENTION", timeout=30)
        live = {name: read(orch) for name, read in READING.items()}
        orch.stop()
    process.popen.wait(60)
    stopped = connect(root)

    for name, read in READING.items():
        assert read(stopped) == live[name], name
    assert live["log"] == "".join(f"line {n}\n" for n in range(1, 2001))
    assert live["tail"] == "line 1999\nline 2000\n" and live["part"] == "ne 1\n"
    assert live["budget"]["total"] == {"input_tokens": 7, "output_tokens": 0, "usd": 0.5}
    assert live["budget"]["units"][0]["unit"] == "said"
    assert [item["unit"] for item in live["waiting"]] == ["broken"]
    for act in (
        lambda: stopped.submit("x"),
        lambda: stopped.cancel("broken"),
        lambda: stopped.follow(0),
        lambda: stopped.wait("said"),
        lambda: stopped.dispatch(paused=True),
    ):
        with pytest.raises(NoServerError, match=r"start it with `orch serve`, then connect again$"):
            act()
    with pytest.raises(NotFoundError):
        stopped.unit("nobody")


def test_the_rest_of_the_server_is_asked_too(orch: Connection, tmp_path: Path) -> None:
    assert "orch_" in orch.metrics() and orch.health()
    assert "/login?code=" in orch.login_url()
    assert orch.export()["seq"] <= orch.status()["seq"]
    assert orch.backup(str(tmp_path)) <= orch.status()["seq"]


def test_a_viewers_token_reads_and_follows_and_is_refused_what_acts_in_one_line(
    running: Running, orch: Connection, wait_until: Callable[..., Any]
) -> None:
    token = make_viewer_token(running.state).read_text().strip()
    url = f"http://127.0.0.1:{running.serving.edge.port}"

    with connect(url, token) as viewer:
        orch.submit("looked-at", "exit 0")
        wait_until(lambda: "looked-at" in viewer.board.units)
        assert viewer.unit("looked-at")["name"] == "looked-at"
        assert viewer.query("SELECT count(*) AS n FROM unit").n[0] == len(viewer.board.units)
        assert next(viewer.follow(0))["seq"] == 1
        for act in (lambda: viewer.submit("x"), lambda: viewer.cancel("looked-at"), lambda: viewer.stop()):
            with pytest.raises(Refused) as refused:
                act()
            assert refused.value.status == 403 and "\n" not in str(refused.value) and str(refused.value)
