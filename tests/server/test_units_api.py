"""The REST API over a real orchestrator: what it does, and what it answers to wrong words."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from raw_client import Client, Running, send

Submit = Callable[..., str]
Wait = Callable[..., Any]

HOLD = "sleep 600"
ASK = """
[ -n "$ORCH_ANSWER" ] && exit 0
echo '{"type":"ask","question":"Which database?","options":["postgres","sqlite"]}' >> "$ORCH_EVENTS"
"""


def status_of(client: Client, name: str) -> str:
    return client.api("GET", f"/units/{name}").json["status"]


@pytest.fixture
def reached(client: Client, wait_until: Wait) -> Callable[[str, str], dict[str, Any]]:
    def wait(name: str, status: str) -> dict[str, Any]:
        wait_until(lambda: status_of(client, name) == status, what=f"{name} to be {status}")
        return client.api("GET", f"/units/{name}").json

    return wait


Reached = Callable[[str, str], dict[str, Any]]


def assert_problem(reply: Any, status: int, *words: str) -> None:
    assert reply.status == status, reply.body
    assert reply.header("Content-Type") == "application/problem+json"
    problem = reply.json
    assert problem["status"] == status
    assert {"type", "title", "detail"} <= set(problem)
    assert "\n" not in problem["detail"] and "Traceback" not in problem["detail"]
    for word in words:
        assert word in problem["detail"]


def test_status_tells_the_whole(client: Client) -> None:
    status = client.api("GET", "/status").json

    assert status["state"] == "ok"
    assert {"seq", "running", "slots", "dispatch", "counts", "attention"} <= set(status)


def test_a_submitted_unit_runs_and_its_story_says_what_happened(client: Client, unit: Submit, reached: Reached) -> None:
    name = unit("echo hello", priority=3, labels=["fast"])

    done = reached(name, "DONE")
    story = client.api("GET", f"/units/{name}/story").json["transitions"]

    assert (done["priority"], done["labels"], done["phase"], done["attempt"]) == (3, ["fast"], "RUN", 1)
    assert [row["trigger"] for row in story] == ["submit", "start", "finish"]
    assert [row["version"] for row in story] == [1, 2, 3]
    assert story[0]["occurred_at"].endswith("Z")
    assert isinstance(story[0]["detail"], dict)


def test_many_units_are_submitted_together_or_not_at_all(client: Client) -> None:
    good = client.api("POST", "/units", {"units": [{"name": "together-a"}, {"name": "together-b"}]})
    bad = client.api("POST", "/units", {"units": [{"name": "apart-a"}, {"name": "apart-b", "after": ["nobody"]}]})

    assert (good.status, good.json["units"]) == (201, ["together-a", "together-b"])
    assert bad.status in (400, 404, 409)
    assert client.api("GET", "/units/apart-a").status == 404


def test_the_operator_who_asks_stands_in_the_log(client: Client, unit: Submit) -> None:
    name = unit(HOLD)

    client.api("POST", f"/units/{name}/cancel", {"reason": "not wanted"}, ("X-Orch-Operator", "maria@example.org"))

    last = client.api("GET", f"/units/{name}/story").json["transitions"][-1]
    assert (last["trigger"], last["actor"], last["reason"]) == ("cancel", "operator:maria@example.org", "not wanted")


def test_units_are_listed_by_status_and_label_a_page_at_a_time(client: Client) -> None:
    names = [f"page-{number}" for number in range(5)]
    client.api("POST", "/units", {"units": [{"name": name, "labels": ["paged"], "prompt": HOLD} for name in names]})

    first = client.api("GET", "/units?label=paged&limit=3").json
    second = client.api("GET", f"/units?label=paged&limit=3&cursor={first['next']}").json
    none = client.api("GET", "/units?label=paged&status=CANCELLED").json

    assert [row["name"] for row in first["units"]] == names[:3]
    assert [row["name"] for row in second["units"]] == names[3:]
    assert (second["next"], none["units"]) == (None, [])
    for name in names:
        client.api("POST", f"/units/{name}/cancel")


def test_a_question_is_answered_and_the_unit_goes_on(client: Client, unit: Submit, reached: Reached) -> None:
    name = unit(ASK)
    asking = reached(name, "NEEDS_ATTENTION")

    items = client.api("GET", "/attention").json["items"]
    item = next(item for item in items if item["unit"] == name)
    seen = client.api("POST", f"/attention/{item['id']}/seen")
    again = next(item for item in client.api("GET", "/attention").json["items"] if item["unit"] == name)
    answered = client.api("POST", f"/units/{name}/answer", {"text": "sqlite", "item": item["id"]})

    assert asking["item"] == item["id"]
    assert (item["kind"], item["options"]) == ("question", ["postgres", "sqlite"])
    assert seen.status == 200 and again["seen_at"] is not None
    assert answered.status == 200 and answered.json["unit"] == name
    assert not [each for each in client.api("GET", "/attention").json["items"] if each["id"] == item["id"]]
    reached(name, "DONE")


def test_what_operators_say_moves_units(client: Client, unit: Submit, reached: Reached) -> None:
    name = unit(HOLD)
    reached(name, "RUNNING")

    paused = client.api("POST", f"/units/{name}/pause", {"reason": "lunch"})
    resumed = client.api("POST", f"/units/{name}/resume")
    cancelled = client.api("POST", f"/units/{name}/cancel")
    reopened = client.api("POST", f"/units/{name}/reopen")
    client.api("POST", f"/units/{name}/cancel")

    assert [reply.status for reply in (paused, resumed, cancelled, reopened)] == [200] * 4
    assert [reply.json["status"] for reply in (paused, cancelled)] == ["PAUSED", "CANCELLED"]


def test_a_failed_unit_is_tried_again_or_accepted(client: Client, unit: Submit, reached: Reached) -> None:
    name = unit("exit 3")
    reached(name, "NEEDS_ATTENTION")

    retried = client.api("POST", f"/units/{name}/retry", {"feedback": "try harder"})
    reached(name, "NEEDS_ATTENTION")
    accepted = client.api("POST", f"/units/{name}/accept", {"reason": "good enough"})

    assert (retried.status, accepted.status) == (200, 200)
    assert accepted.json["status"] == "DONE"


def test_an_edit_needs_the_version_it_saw_and_a_stale_one_changes_nothing(client: Client, unit: Submit) -> None:
    client.api("POST", "/dispatch", {"paused": True})
    name = unit(HOLD)
    version = client.api("GET", f"/units/{name}").header("Etag") or ""

    missing = client.api("PATCH", f"/units/{name}", {"priority": 1})
    first = client.api("PATCH", f"/units/{name}", {"priority": 2}, ("If-Match", version))
    stale = client.api("PATCH", f"/units/{name}", {"priority": 3}, ("If-Match", version))
    wrong = client.api("PATCH", f"/units/{name}", {"priority": 4}, ("If-Match", "new"))
    late = client.api("POST", f"/units/{name}/cancel", {}, ("If-Match", version))
    client.api("POST", "/dispatch", {"paused": False})

    assert_problem(missing, 428)
    assert first.status == 200 and first.json["version"] == int(version.strip('"')) + 1
    assert_problem(stale, 412, name)
    assert_problem(wrong, 400)
    assert_problem(late, 412, name)
    assert client.api("GET", f"/units/{name}").json["priority"] == 2
    client.api("POST", f"/units/{name}/cancel")


def test_f8_two_identical_requests_at_once_have_one_effect(client: Client) -> None:
    with ThreadPoolExecutor(2) as pool:
        submitted = list(pool.map(lambda _: client.api("POST", "/units", {"name": "twin", "prompt": HOLD}), range(2)))
    with ThreadPoolExecutor(2) as pool:
        cancelled = list(pool.map(lambda _: client.api("POST", "/units/twin/cancel"), range(2)))

    assert sorted(reply.status for reply in submitted) == [201, 400]
    assert sorted(reply.status for reply in cancelled)[0] == 200
    triggers = [row["trigger"] for row in client.api("GET", "/units/twin/story").json["transitions"]]
    assert (triggers.count("submit"), triggers.count("cancel")) == (1, 1)


def test_a_move_without_a_rule_is_refused_with_the_reason(client: Client, unit: Submit, reached: Reached) -> None:
    name = unit("exit 0")
    reached(name, "DONE")

    assert_problem(client.api("POST", f"/units/{name}/cancel"), 409, name)


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "word"),
    [
        ("GET", "/units/nobody", None, 404, "nobody"),
        ("GET", "/units/nobody/story", None, 404, "nobody"),
        ("GET", "/units/nobody/log", None, 404, "nobody"),
        ("POST", "/units/nobody/cancel", None, 404, "nobody"),
        ("GET", "/units/..%2f..%2fetc", None, 400, "name"),
        ("GET", "/units/%2d%2dupload-pack", None, 400, "name"),
        ("GET", "/units/UPPER", None, 400, "UPPER"),
        ("GET", "/units?status=SLEEPING", None, 400, "SLEEPING"),
        ("GET", "/units?limit=0", None, 400, "limit"),
        ("GET", "/units?limit=-1", None, 400, "limit"),
        ("GET", "/units?colour=red", None, 400, "colour"),
        ("POST", "/units", {}, 400, "name"),
        ("POST", "/units", {"units": []}, 400, "unit"),
        ("POST", "/units", {"units": ["a"]}, 400, "unit"),
        ("POST", "/units", {"name": "a/b"}, 400, "a/b"),
        ("POST", "/units", {"name": "x1", "colour": "red"}, 400, "colour"),
        ("POST", "/units", {"name": "x1", "priority": "high"}, 400, "priority"),
        ("POST", "/units", {"name": "x1", "after": ["x1"]}, 400, "x1"),
        ("POST", "/units", {"name": "x1", "workflow": "nowhere"}, None, "nowhere"),
        ("POST", "/units", {"name": "x1", "agent": "nobody"}, None, "nobody"),
        ("POST", "/units/nobody/answer", {}, 400, "text"),
        ("POST", "/units/nobody/accept", {"reason": 5}, 400, "reason"),
        ("POST", "/dispatch", {"paused": "yes"}, 400, "paused"),
        ("POST", "/dispatch", {}, 400, "paused"),
        ("POST", "/attention/999999/seen", None, 404, "999999"),
        ("POST", "/attention/x/seen", None, 404, "x"),
        ("GET", "/feed", None, 400, "since"),
        ("GET", "/feed?since=x", None, 400, "since"),
        ("GET", "/feed?since=0&tables=secrets", None, 400, "secrets"),
        ("POST", "/query", {}, 400, "sql"),
        ("GET", "/nothing/here", None, 404, "openapi"),
        ("DELETE", "/status", None, 405, "GET"),
        ("GET", "/units/a/cancel", None, 405, "POST"),
    ],
)
def test_wrong_words_get_one_clear_line(
    client: Client, method: str, path: str, body: Any, status: int | None, word: str
) -> None:
    before = client.api("GET", "/status").json["seq"]

    reply = client.api(method, path, body)

    assert_problem(reply, status or reply.status, word)
    assert 400 <= reply.status < 500
    assert client.api("GET", "/status").json["seq"] == before


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b'{"name": "x2"}', "text/plain", 415),
        (b'{"name": "x2"}', "application/x-www-form-urlencoded", 415),
        (b'{"name": "x2"', "application/json", 400),
        (b'["x2"]', "application/json", 400),
        (b"\xff\xfe", "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
    ],
)
def test_a1_a_body_that_is_not_a_json_object_changes_nothing(
    client: Client, body: bytes, kind: str, status: int
) -> None:
    reply = client.api("POST", "/units", body, ("Content-Type", kind))

    assert_problem(reply, status)
    assert client.api("GET", "/units/x2").status == 404


@pytest.mark.parametrize("name", ["", "a b", "x" * 65, "<script>", "-rf"])
def test_an_operators_name_is_checked(client: Client, name: str) -> None:
    assert_problem(client.api("POST", "/login-code", None, ("X-Orch-Operator", name)), 400, "X-Orch-Operator")


def test_a_fault_of_the_server_shows_no_traceback(running: Running, client: Client, caplog: Any) -> None:
    table = running.serving._server._tornado
    serving = table.settings.pop("serving")

    reply = client.api("GET", "/status")
    table.settings["serving"] = None
    broken = client.api("GET", "/status")
    table.settings["serving"] = serving

    assert_problem(reply, 503)
    assert_problem(broken, 500)
    assert b"AttributeError" not in broken.body


def test_dispatch_is_paused_and_goes_on(client: Client, unit: Submit, reached: Reached) -> None:
    paused = client.api("POST", "/dispatch", {"paused": True})
    name = unit("exit 0")
    standing = client.api("GET", "/status").json["dispatch"]
    held = status_of(client, name)
    client.api("POST", "/dispatch", {"paused": False})

    assert (paused.status, standing, held) == (200, "paused", "READY")
    reached(name, "DONE")
    assert client.api("GET", "/status").json["dispatch"] == "on"


def test_the_settings_are_shown_with_their_sources_and_without_secrets(client: Client) -> None:
    reply = client.api("GET", "/config")

    assert reply.json["settings"]["slots"] == 2
    assert reply.json["sources"]["project.slots"].startswith("orchestrator.toml:")
    assert reply.json["sources"]["server.port"] == "default"
    assert b"canary-secret" not in reply.body


def test_what_an_agent_says_is_listed(client: Client, unit: Submit, reached: Reached) -> None:
    name = unit("""echo '{"type":"note","level":"warning","message":"half way"}' >> "$ORCH_EVENTS" """)
    reached(name, "DONE")

    events = client.api("GET", f"/units/{name}/events").json["events"]

    notes = [event for event in events if event["type"] == "note"]
    assert [(note["level"], note["message"], note["attempt"]) for note in notes] == [("warning", "half way", 1)]


def test_a_session_that_an_attempt_named_is_listed(client: Client, unit: Submit, reached: Reached) -> None:
    name = unit("""echo '{"type":"session","id":"abc-1"}' >> "$ORCH_EVENTS" """)
    reached(name, "DONE")

    sessions = client.api("GET", "/sessions").json["sessions"]

    assert [row["session"] for row in sessions if row["unit"] == name] == ["abc-1"]


def test_a_unit_without_a_branch_has_no_diff(client: Client, unit: Submit) -> None:
    assert_problem(client.api("GET", f"/units/{unit('exit 0')}/diff"), 404, "branch")


def test_the_feed_gives_every_record_once_in_order(client: Client, unit: Submit, reached: Reached) -> None:
    start = client.api("GET", "/status").json["seq"]
    names = {unit("exit 0") for _ in range(3)}
    for name in names:
        reached(name, "DONE")
    end = client.api("GET", "/status").json["seq"]

    records, since = [], start
    while since < end:
        answer = client.api("GET", f"/feed?since={since}&limit=2").json
        records += answer["records"]
        since = answer["seq"]

    seqs = [record["seq"] for record in records]
    assert seqs == list(range(start + 1, end + 1))
    finished = {
        record["unit"] for record in records if record["table"] == "transition" and record["trigger"] == "finish"
    }
    assert names <= finished


def test_the_feed_wakes_up_at_a_commit_and_is_empty_without_one(client: Client, unit: Submit) -> None:
    start = client.api("GET", "/status").json["seq"]

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.api, "GET", f"/feed?since={start}&wait=19&tables=transition")
        name = unit(HOLD)
        woken = waiting.result(20).json
    client.api("POST", f"/units/{name}/cancel")
    nothing = client.api("GET", f"/feed?since={10**12}&wait=0.05").json

    assert woken["records"][0]["unit"] == name
    assert nothing["records"] == []


def test_the_feed_of_one_unit_tells_of_no_other(client: Client, unit: Submit, reached: Reached) -> None:
    one, other = unit("exit 0"), unit("exit 0")
    reached(one, "DONE")
    reached(other, "DONE")

    records = client.api("GET", f"/feed?since=0&unit={one}").json["records"]

    assert {record["unit"] for record in records} == {one}


def test_the_description_names_every_route_and_every_field(client: Client) -> None:
    from orchestrator_app.api import PREFIX, TABLE

    described = client.api("GET", "/openapi.json").json

    for route in TABLE:
        operation = described["paths"][PREFIX + route.path][route.method.lower()]
        named = set(
            operation.get("requestBody", {})
            .get("content", {})
            .get("application/json", {})
            .get("schema", {})
            .get("properties", {})
        )
        assert named == {each.name for each in route.body or ()}
    assert described["openapi"].startswith("3.1")
    identifiers = [operation["operationId"] for path in described["paths"].values() for operation in path.values()]
    assert len(identifiers) == len(set(identifiers))


def test_requests_beside_a_broken_one_are_answered(client: Client) -> None:
    with contextlib.suppress(ConnectionError):  # some versions hang up, others say 400
        assert send(client.port, b"\x00\xff\r\n\r\n").status == 400

    assert client.api("GET", "/status").json["state"] == "ok"
