"""A viewer reads everything and changes nothing. The routes and the messages are read from what is declared, so one
that is added later is covered, and fails here if it lets a viewer act."""

from __future__ import annotations

import ast
import asyncio
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from bokeh.util.token import get_token_payload
from raw_client import UPGRADE, Client, Running, request_bytes, send

from orchestrator_app import api, failures
from orchestrator_app.access import OPERATOR, VIEWER, Who
from orchestrator_app.api.routing import PREFIX
from orchestrator_app.dashboard import bulk, page
from orchestrator_app.dashboard.attention import BATCH
from orchestrator_app.dashboard.console import Console
from orchestrator_app.dashboard.screens import NAMES
from orchestrator_app.edge import who_in
from orchestrator_app.requests import KINDS

CHANGING = ("POST", "PUT", "PATCH", "DELETE", "OPTIONS")
READING = {("POST", PREFIX + "/query")}


@pytest.fixture
def viewer(running: Running, client: Client) -> Client:
    """A program with the viewers' token."""
    client.api("POST", "/login-code", {"viewer": True})
    return Client(client.port, (running.state / "viewer-token").read_text().strip())


def cookie_of(client: Client, link: str) -> tuple[str, str]:
    reply = client("GET", link.partition("://")[2].partition("/")[2].join(["/", ""]), bearer=False)
    assert reply.status == 303
    return "Cookie", (reply.header("Set-Cookie") or "").partition(";")[0]


def declared() -> Iterator[tuple[str, str]]:
    """Every path of the API with every method, and the pages'."""
    paths = {PREFIX + re.sub(r"\{\w+\}", "x", route.path) for route in api.TABLE}
    for path in [*sorted(paths), "/metrics", "/", "/ws", "/metadata", "/autoload.js", "/api/v1/unheard-of", "/login-x"]:
        for method in CHANGING:
            yield method, path


def test_the_viewers_token_is_made_on_demand_and_private(running: Running, client: Client) -> None:
    file = running.state / "viewer-token"
    file.unlink(missing_ok=True)

    link = client.api("POST", "/login-code", {"viewer": True}).json["url"]

    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert client("GET", "/api/v1/status", None, cookie_of(client, link), bearer=False).status == 200


def test_a_viewer_reads_pages_and_answers_of_every_kind(client: Client, viewer: Client) -> None:
    for route in api.TABLE:
        if route.method == "GET" and "{" not in route.path and route.path != "/feed":
            assert viewer.api("GET", route.path).status in (200, 400), route.path
    assert viewer("GET", "/").status == 200
    assert viewer("GET", "/metrics").status == 200
    assert viewer.api("POST", "/query", {"sql": "SELECT 1 AS one"}).json["rows"] == [[1]]
    socket = send(client.port, request_bytes("GET", "/ws", [("Host", client.host), viewer.bearer, *UPGRADE]))
    assert socket.status == 101


def test_a_viewer_is_refused_whatever_changes_something(running: Running, client: Client, viewer: Client) -> None:
    link = client.api("POST", "/login-code", {"viewer": True}).json["url"]
    cookie, origin = cookie_of(client, link), ("Origin", client.origin)
    before = running.serving.orchestrator.board.seq

    for method, path in declared():
        for who in ((viewer.bearer,), (cookie, origin)):
            reply = send(client.port, request_bytes(method, path, [("Host", client.host), *who]))
            if (method, path) in READING:
                assert reply.status == 400, (method, path)
            else:
                assert (reply.status, reply.json["title"]) == (403, "Viewers only look"), (method, path)
                assert reply.header("Content-Type") == "application/problem+json"

    assert running.serving.orchestrator.board.seq == before
    assert running.serving.ending is None


def test_a_viewer_may_sign_out_and_no_other_page_can_do_it_for_them(client: Client, viewer: Client) -> None:
    cookie = cookie_of(client, client.api("POST", "/login-code", {"viewer": True}).json["url"])

    foreign = client("POST", "/logout", None, cookie, ("Origin", "http://evil.example"), bearer=False)
    unsaid = client("POST", "/logout", None, cookie, bearer=False)
    own = client("POST", "/logout", None, cookie, ("Origin", client.origin), bearer=False)

    assert (foreign.status, unsaid.status, own.status) == (403, 403, 200)
    assert (own.header("Set-Cookie") or "").startswith(f'orch_session_{client.port}=""')


def test_only_asking_in_sql_is_declared_as_reading_among_what_is_no_get() -> None:
    assert api.READING == READING


def test_a_viewer_gets_no_link_that_lets_them_act(viewer: Client) -> None:
    assert viewer.api("POST", "/login-code", {"viewer": False}).status == 403


def test_a_viewers_token_is_none_of_an_operator_or_an_attempt(viewer: Client, running: Running) -> None:
    secret = viewer.token

    for forged in (f"x.1.{secret}", secret[:-1], secret.upper(), running.serving.edge.access.new_cookie("viewer")):
        assert viewer("GET", "/api/v1/status", None, ("Authorization", f"Bearer {forged}")).status == 401


def test_the_viewers_file_deleted_signs_all_viewers_out(running: Running, client: Client, viewer: Client) -> None:
    cookie = cookie_of(client, client.api("POST", "/login-code", {"viewer": True}).json["url"])

    (running.state / "viewer-token").unlink()

    assert viewer.api("GET", "/status").status == 401
    assert client("GET", "/api/v1/status", None, cookie, bearer=False).status == 401


# -- the dashboard


def page_token(client: Client, *who: tuple[str, str]) -> str:
    """The token of a page that was just opened; its session is the server's newest."""
    page = send(client.port, request_bytes("GET", "/", [("Host", client.host), *who]))
    found = re.search(rb'"token":"([^"]+)"', page.body)
    assert page.status == 200 and found
    return found.group(1).decode()


def socket_of(client: Client, token: str, *who: tuple[str, str]) -> int:
    protocol = ("Sec-WebSocket-Protocol", f"bokeh, {token}")
    headers = [("Host", client.host), ("Origin", client.origin), *who, *UPGRADE, protocol]
    return send(client.port, request_bytes("GET", "/ws", headers)).status


def test_a16_nobody_gets_into_the_page_of_somebody_else(client: Client, viewer: Client) -> None:
    operators, viewers = page_token(client, client.bearer), page_token(client, viewer.bearer)

    assert socket_of(client, operators, viewer.bearer) == 403
    assert socket_of(client, viewers, client.bearer) == 403
    assert socket_of(client, operators, client.bearer) == 101
    assert socket_of(client, viewers, viewer.bearer) == 101


def test_a16_the_session_knows_who_opened_it_and_not_how(running: Running, client: Client, viewer: Client) -> None:
    link = client.api("POST", "/login-code", {"viewer": True}).json["url"]
    cookie = cookie_of(client, link)

    payload = get_token_payload(page_token(client, cookie, ("X-Canary", "canary")))

    assert who_in(payload) == VIEWER
    assert cookie[1].rpartition("=")[2] not in str(payload) and "canary" not in str(payload)
    assert viewer.token not in str(get_token_payload(page_token(client, viewer.bearer)))


def test_the_page_of_a_viewer_has_no_form_to_submit_units(running: Running) -> None:
    orchestrator = running.serving.orchestrator

    assert "Submit a unit" in str(page(orchestrator, OPERATOR).header)
    assert "Submit a unit" not in str(page(orchestrator, VIEWER).header)


@pytest.fixture
def told() -> list:
    return []


@pytest.fixture
def console(running: Running, told: list, monkeypatch: pytest.MonkeyPatch) -> Iterator[Console]:
    monkeypatch.setattr(Console, "_send_msg", lambda self, message: told.append(message))
    console = Console(running.serving.orchestrator, VIEWER)
    yield console
    console.release()


def test_no_request_of_a_viewers_page_is_made(running: Running, told: list, console: Console) -> None:
    before = running.serving.orchestrator.board.seq

    for number, kind in enumerate(KINDS):
        console._handle_msg({"type": "do", "id": number, "key": f"k{number}", "kind": kind, "unit": "x", "args": {}})

    assert [(answer["done"], answer["ok"]) for answer in told] == [(number, False) for number in range(len(KINDS))]
    assert all("change nothing" in answer["text"] for answer in told)
    assert running.serving.orchestrator.board.seq == before


def test_who_signed_in_under_a_name_has_no_other_on_any_page(
    running: Running, told: list, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    console._who, console._operator, asked = Who(True, "ana"), "ana", []
    monkeypatch.setattr(running.serving.orchestrator, "request", lambda kind, unit, **args: asked.append(args["actor"]))

    console._handle_msg({"type": "hello", "operator": "mallory"})
    console._handle_msg({"type": "operator", "name": "mallory"})
    console.request("pause", "x")

    answers = [said for said in told if "operator" in said]
    assert [said["operator"] for said in answers] == ["ana", "ana"] and answers[0]["proven"]
    assert asked == ["operator:ana"]


def test_a_viewers_page_is_told_that_it_only_looks(told: list, console: Console) -> None:
    console._handle_msg({"type": "hello", "operator": "somebody"})

    assert {"operator": console._operator, "proven": False, "viewer": True} in told


def test_a_page_has_one_way_to_a_change_and_it_looks_who_asks() -> None:
    found = []
    for file in sorted((Path(api.__file__).parents[1] / "dashboard").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("orchestrator.request"):
                found.append(file.name)
            assert "gate" not in ast.unparse(node) if isinstance(node, ast.ImportFrom) else True, file

    assert found == ["console.py"]


@pytest.mark.parametrize("who", [VIEWER, OPERATOR])
def test_whatever_else_a_viewers_page_says_changes_nothing(
    running: Running, console: Console, who: Who, unit: Callable[..., str], wait_until: Callable[..., object]
) -> None:
    orchestrator, console._who = running.serving.orchestrator, who
    name = unit("exit 3")
    wait_until(lambda: orchestrator.board.units[name].status == "NEEDS_ATTENTION", what="the unit to fail")
    (item,) = (item.id for item in orchestrator.board.attention.values() if item.unit == name)
    key = failures.top(orchestrator)[0]["key"]
    said = {
        "overview": [{"queue": "all", "id": 1, "kind": kind, "ids": [item], "args": {}} for kind in BATCH],
        "unit": [{"queue": "all", "id": 1, "kind": kind, "ids": [item], "args": {}} for kind in BATCH],
        "errors": [{"ask": "detail", "key": key}, {"ask": "retry", "key": key}],
        "board": [{"weigh": kind, "id": 1, "units": {"names": [name]}, "args": {"priority": 5}} for kind in bulk.KINDS],
        **{page: [] for page in NAMES if page not in ("overview", "unit", "errors", "board")},
    }
    before = orchestrator.board.seq

    async def tell() -> None:
        console._handle_msg({"type": "hello"})
        for number, (where, messages) in enumerate(said.items()):
            console._handle_msg({"type": "open", "page": where, "args": {"unit": name}, "n": number})
            for message in messages:
                await say({"type": "say", "n": number, "message": message})
                await say({"type": "say", "n": number, "message": {"act": 1}})
        console.release()

    async def say(message: dict) -> None:
        before = asyncio.all_tasks()
        console._handle_msg(message)
        if begun := asyncio.all_tasks() - before:
            await asyncio.wait(begun, timeout=20)

    asyncio.run(tell())

    assert (orchestrator.board.seq > before) == who.may_act  # an operator's page shows that these words do something
