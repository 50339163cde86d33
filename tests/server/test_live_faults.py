"""Live screens and many hands against a real server: real sockets of pages, real threads, what is sent twice, what
blocks, what never reads, what raises, and what goes away."""

from __future__ import annotations

import asyncio
import gc
import http.client
import json
import logging
import re
import threading
import time
import weakref
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import websocket
from bokeh.util.token import generate_jwt_token, generate_session_id
from raw_client import Client

from orchestrator_app.client import Client as CommandLine
from orchestrator_app.dashboard.console import Console
from orchestrator_app.states import Status


@pytest.fixture
def board(running):
    return running.serving.orchestrator.board


@pytest.fixture
def on_loop(running):
    """Run an async function on the server's loop."""

    def run(function, *args: Any) -> Any:
        loop = running.serving._server.io_loop.asyncio_loop
        return asyncio.run_coroutine_threadsafe(function(*args), loop).result(60)

    return run


@pytest.fixture
def failed(unit, board, wait_until):
    """A unit that needs a person."""
    name = unit("exit 3")
    wait_until(lambda: board.units[name].status is Status.NEEDS_ATTENTION)
    return name


def retries_of(client: Client, name: str) -> list[dict[str, Any]]:
    rows = client.api("GET", f"/units/{name}/story").json["transitions"]
    return [row for row in rows if row["trigger"] == "retry"]


# -- many hands at once


def test_f8_of_many_clients_at_once_exactly_one_wins_and_every_other_is_told_who(client, failed, board):
    client.api("POST", "/dispatch", {"paused": True})
    together = threading.Barrier(12)

    def ask(number: int):
        together.wait(20)
        return client.api("POST", f"/units/{failed}/retry", {}, ("X-Orch-Operator", f"hand{number}"))

    with ThreadPoolExecutor(12) as pool:
        replies = list(pool.map(ask, range(12)))
    client.api("POST", "/dispatch", {"paused": False})

    assert Counter(reply.status for reply in replies) == {200: 1, 409: 11}
    (row,) = retries_of(client, failed)
    winner = row["actor"].removeprefix("operator:")
    assert [reply.status for reply in replies].index(200) == int(winner.removeprefix("hand"))
    assert all(f"{winner} retried it" in reply.json["detail"] for reply in replies if reply.status == 409)


def test_f8_one_request_sent_many_times_at_once_with_its_key_has_one_effect_and_one_answer(client, failed):
    together = threading.Barrier(8)

    def ask(_: int):
        together.wait(20)
        return client.api("POST", f"/units/{failed}/retry", {"feedback": "again"}, ("Idempotency-Key", "one-wish"))

    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(ask, range(8)))

    assert {(reply.status, reply.body) for reply in replies} == {(200, replies[0].body)}
    assert len(retries_of(client, failed)) == 1
    other = client.api("POST", f"/units/{failed}/retry", {"feedback": "else"}, ("Idempotency-Key", "one-wish"))
    assert other.status == 422 and "use a new key" in other.json["detail"]


def test_f8_a_killed_server_that_comes_back_gives_the_same_answer_under_the_same_key(root, start):
    key = ("Idempotency-Key", "submit-once")
    first = start(root, "0")
    before = first.client.api("POST", "/units", {"name": "a", "prompt": "exit 0"}, key)

    first.popen.kill()
    first.popen.wait(30)
    again = start(root, "0").client
    after = again.api("POST", "/units", {"name": "a", "prompt": "exit 0"}, key)

    assert (before.status, before.body) == (after.status, after.body) == (201, before.body)
    assert again.api("POST", "/units", {"name": "a", "prompt": "exit 0"}).status == 400


def test_f8_the_command_line_asks_again_when_its_connection_breaks_and_nothing_is_done_twice(
    running, client, failed, monkeypatch
):
    broken = []
    really = http.client.HTTPConnection.getresponse

    def breaks_once(connection):
        answer = really(connection)
        if not broken:
            broken.append(answer.read())
            raise ConnectionResetError("broken off")
        return answer

    monkeypatch.setattr(http.client.HTTPConnection, "getresponse", breaks_once)
    orch = CommandLine.of(running.state)

    answer = orch.change(f"/units/{failed}/retry", {})

    assert answer == json.loads(broken[0])
    assert len(retries_of(client, failed)) == 1


# -- pages


class Tab:
    """A page's own socket, as a browser opens it; `console` is the server's half of it."""

    def __init__(self, running, consoles: list[Console], wait_until) -> None:
        client, edge = running.client, running.serving.edge
        cookie = f"{edge.cookie_name}={edge.access.new_cookie()}"
        page = client("GET", "/", None, ("Cookie", cookie), bearer=False)
        self.token = re.search(rb'"token":"([^"]+)"', page.body).group(1).decode()
        self.console = consoles[-1]
        self.socket = websocket.create_connection(
            f"ws://{client.host}/ws",
            cookie=cookie,
            origin=client.origin,
            subprotocols=["bokeh", self.token],
            timeout=20.0,
            sockopt=[(6, 1, 1)],
        )
        self.socket.recv()  # the server says that it is ready
        wait_until(lambda: running.serving._server.get_sessions("/"))

    def begin(self, running, on_loop) -> None:
        """What its browser says first."""

        async def hello() -> None:
            self.console._document.add_next_tick_callback(lambda: self.console._handle_msg({"type": "hello"}))

        on_loop(hello)


@pytest.fixture
def consoles(monkeypatch):
    """The server's halves of all pages, as they are made."""
    made: list[Console] = []
    really = Console.__init__

    def noted(self, *args, **params):
        really(self, *args, **params)
        made.append(self)

    monkeypatch.setattr(Console, "__init__", noted)
    return made


@pytest.fixture
def tab(running, consoles, on_loop, wait_until):
    opened: list[Tab] = []

    def open_one() -> Tab:
        one = Tab(running, consoles, wait_until)
        opened.append(one)
        one.begin(running, on_loop)
        wait_until(lambda: one.console._feed._end is not None)
        return one

    yield open_one
    for one in opened:
        one.socket.shutdown()
    consoles.clear()
    wait_until(lambda: nobody_is_there(running))
    on_loop(forget_all, running)


def nobody_is_there(running) -> bool:
    return all(session.connection_count == 0 for session in running.serving._server.get_sessions("/"))


async def forget_all(running) -> None:
    """What Bokeh does with the sessions that nobody has come back to for a while."""
    for context in running.serving._server._tornado._applications.values():
        await context._cleanup_sessions(-1)


def told(console: Console, monkeypatch) -> list[dict[str, Any]]:
    """What a page is told; it acknowledges each frame at once, as a quick browser does."""
    heard: list[dict[str, Any]] = []
    really = console._send_msg

    def send(message):
        heard.append({**message, "thread": threading.current_thread()})
        really(message)
        if "frame" in message:
            console.soon(lambda: console._feed.acknowledge(message["frame"]))

    monkeypatch.setattr(console, "_send_msg", send)
    monkeypatch.setattr(console._feed, "_send", send)
    console.soon(lambda: console._feed.acknowledge(console._feed._in_flight))
    return heard


def test_f4_a_watcher_and_a_page_that_raise_are_logged_and_every_other_page_is_told(
    client, board, tab, monkeypatch, wait_until, caplog
):
    def raises(*_):
        raise RuntimeError("planted")

    first, broken, third = tab(), tab(), tab()
    end = board.watch(raises)
    heard = [told(each.console, monkeypatch) for each in (first, third)]
    monkeypatch.setattr(broken.console._feed, "_content", raises)

    seq = client.api("POST", "/dispatch", {"paused": True}).json["seq"]

    for each in heard:
        wait_until(lambda each=each: any(one.get("seq", 0) >= seq for one in each))
    assert client.api("POST", "/dispatch", {"paused": False}).status == 200
    assert caplog.text.count("a watcher raised") >= 1 and "Traceback" in caplog.text
    end()


def test_f27_a_page_that_never_reads_costs_a_bounded_buffer_and_delays_nobody(
    running, client, tab, monkeypatch, wait_until
):
    orchestrator = running.serving.orchestrator
    deaf, quick = tab(), tab()
    heard = told(quick.console, monkeypatch)
    names = [f"flood-{number}" for number in range(500)]
    client.api("POST", "/dispatch", {"paused": True})
    client.api("POST", "/units", {"units": [{"name": name, "prompt": "exit 0"} for name in names]})

    for kind in ("pause", "resume", "cancel"):
        done = [orchestrator.request(kind, name, actor="operator:sys") for name in names]
    seq = done[-1].result(20)["seq"]
    wait_until(lambda: any(one.get("seq", 0) >= seq for one in heard))

    feed = deaf.console._feed
    assert feed._in_flight == 1, "it has acknowledged nothing, so it was told of nothing since"
    assert set(names) <= feed._units <= set(orchestrator.board.units)
    for one in running.serving._server._tornado._clients:
        assert len(one._socket.ws_connection.stream._write_buffer) < 1_000_000
    client.api("POST", "/dispatch", {"paused": False})


def test_f30_a_page_is_told_on_its_servers_loop_alone_whatever_thread_changed_something(
    running, client, tab, monkeypatch, wait_until, on_loop
):
    async def own_thread():
        return threading.current_thread()

    heard = told(tab().console, monkeypatch)

    for paused in (True, False):
        seq = client.api("POST", "/dispatch", {"paused": paused}).json["seq"]
    wait_until(lambda: any(one.get("seq", 0) >= seq for one in heard))

    assert {one["thread"] for one in heard} == {on_loop(own_thread)}


def test_f31_a_session_destroyed_between_a_change_and_its_frame_is_passed_over(
    running, client, board, tab, on_loop, caplog, wait_until
):
    before = len(board._watchers)
    page = tab()
    document = page.console._document
    assert len(board._watchers) == before + 1
    page.socket.shutdown()
    wait_until(lambda: nobody_is_there(running))
    caplog.set_level(logging.WARNING)

    async def destroyed_meanwhile() -> int:
        feed = page.console._feed
        feed.acknowledge(feed._in_flight)
        paused = running.serving.orchestrator.request("dispatch", paused=True)
        seq = paused.result(20)["seq"]  # the loop waits: what the change has scheduled can't run yet
        assert feed._due
        await forget_all(running)
        return seq

    seq = on_loop(destroyed_meanwhile)
    assert client.api("POST", "/dispatch", {"paused": False}).json["seq"] > seq
    page.console._document = document  # a thread that had just looked it up
    page.console.soon(lambda: None)

    assert running.serving._server.get_sessions("/") == [] and len(board._watchers) == before
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


def test_a17_f28_pages_that_were_opened_and_left_are_given_back(running, consoles, board, on_loop, wait_until):
    before = len(board._watchers)

    def visit(number: int) -> list[weakref.ref]:
        tabs = [Tab(running, consoles, wait_until) for _ in range(number)]
        for one in tabs:
            one.begin(running, on_loop)
        wait_until(lambda: len(board._watchers) == before + number)
        seen = [weakref.ref(one.console._document) for one in tabs]
        for one in tabs:
            one.socket.shutdown()
        consoles.clear()
        return seen

    documents = visit(12)
    wait_until(lambda: nobody_is_there(running))
    on_loop(forget_all, running)

    def gone() -> bool:
        gc.collect()
        return not [each for each in documents if each() is not None]

    assert running.serving._server.get_sessions("/") == [] and len(board._watchers) == before
    wait_until(gone, what="the documents of the pages to be let go of")


@pytest.mark.parametrize("forged", ["by another key", "expired", "with another id"])
def test_a16_a_socket_with_a_forged_or_expired_token_is_closed_without_a_word(running, client, forged, caplog):
    app, edge = running.serving._server._tornado, running.serving.edge
    sessions = len(running.serving._server.get_sessions("/"))
    key = b"another key of somebody" if forged == "by another key" else app.secret_key
    number = generate_session_id(key, signed=True)
    token = generate_jwt_token(number, key, signed=True, expiration=-10 if forged == "expired" else 300)
    if forged == "with another id":
        payload, _, signature = token.rpartition(".")
        token = f"{payload[:-2]}xx.{signature}"

    connection = websocket.create_connection(
        f"ws://{client.host}/ws",
        cookie=f"{edge.cookie_name}={edge.access.new_cookie()}",
        origin=client.origin,
        subprotocols=["bokeh", token],
        timeout=20.0,
    )
    with pytest.raises((ConnectionError, websocket.WebSocketConnectionClosedException)):
        while connection.recv():
            pass
        raise ConnectionError("it was closed")
    connection.shutdown()

    assert len(running.serving._server.get_sessions("/")) == sessions


# -- the loop


def test_f29_what_blocks_the_loop_is_logged_once_and_healthz_says_slow_for_a_while(
    running, client, on_loop, monkeypatch, wait_until, caplog
):
    monkeypatch.setattr("orchestrator_app.loop_watch.LIMIT", 0.3)

    async def blocks() -> None:
        time.sleep(0.8)  # the fault itself

    on_loop(blocks)

    wait_until(lambda: client("GET", "/healthz", bearer=False).json == {"state": "slow"})
    assert len([one for one in caplog.records if "loop was blocked for" in one.message]) == 1
    assert client("GET", "/healthz", bearer=False).status == 200
    monkeypatch.setattr("orchestrator_app.loop_watch.TOLD", 0.0)
    assert client("GET", "/healthz", bearer=False).json == {"state": "ok"}
