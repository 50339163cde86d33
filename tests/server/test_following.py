"""A board and an iterator that follow a server lose nothing and double nothing, whatever happens to the line and to the
server; a slow watcher makes a board late, not large; and what is bound to it is live in Panel."""

from __future__ import annotations

import signal
import socket
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import panel as pn
import pytest
import websocket
from bokeh.util.token import generate_jwt_token, generate_session_id
from proxy import BadLine
from serve_kit import Agent, Process, every_record

from orchestrator_app import connect
from orchestrator_app.api.messages import messages_of
from orchestrator_app.client import Client
from orchestrator_app.connection.mirror import record_of
from orchestrator_app.errors import NoServerError, UsageError
from orchestrator_app.model import Board

SCRIPT = r"""for n in 1 2 3; do
    printf '{"type":"progress","iteration":%d}\n{"type":"usage","usd":0.1}\n' $n >> "$ORCH_EVENTS"
done
test "$ORCH_UNIT" != u-3 || printf '{"type":"ask","question":"Which?"}\n' >> "$ORCH_EVENTS"; exit 0"""


@pytest.fixture
def line(root: Path) -> Iterator[BadLine]:
    line = BadLine(root, 1)
    yield line
    line.close()


def server_of(root: Path) -> Client:
    found = Client.of(root / ".orchestrator")
    assert found is not None
    return found


def ours() -> list[str]:
    return [each.name for each in threading.enumerate() if each.name in ("orch-mirror", "orch-listener")]


def test_f26_a_board_and_an_iterator_miss_and_double_nothing_across_drops_and_a_kill(
    root: Path,
    start: Callable[..., Process],
    line: BadLine,
    wait_until: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("orchestrator_app.client.following.AGAIN", 0.05)
    process = start(root)
    token = process.client.token
    server_of(root).change("/units", {"name": "first", "prompt": SCRIPT})
    far = connect(f"http://127.0.0.1:{line.port}", token)
    began = far.board.seq
    seen: list[int] = []
    threads: set[str] = set()
    far.board.param.watch(lambda event: seen.append(event.new.seq), "transition", onlychanged=False)
    far.board.watch(lambda _: threads.add(threading.current_thread().name))
    heard: list[dict[str, Any]] = []
    messages = far.follow(0)
    listening = threading.Thread(target=lambda: heard.extend(messages))
    listening.start()
    line.bad = True

    client, number = server_of(root), 0
    while number < 48 or line.cuts < 12:
        client.change("/units", {"units": [{"name": f"u-{number + each}", "prompt": SCRIPT} for each in range(6)]})
        number += 6
        if number == 24:
            process.popen.send_signal(signal.SIGKILL)
            process.popen.wait()
            process = start(root)
    wait_until(lambda: not any(client.get("/status")["counts"][each] for each in ("READY", "RUNNING")), 60)
    line.bad = False
    rows = every_record(client)
    wait_until(lambda: far.board.seq == len(rows), 60)
    wait_until(lambda: heard and heard[-1]["seq"] == len(rows), 60)
    far.close()
    listening.join(10)

    truth = Board()
    truth.fold(record_of(row) for row in rows)
    assert dict(far.board.units) == dict(truth.units) and dict(far.board.attention) == dict(truth.attention)
    assert far.board.counts == truth.counts
    assert seen == [row["seq"] for row in rows if row["table"] == "transition" and row["seq"] > began]
    assert threads == {"orch-mirror"}
    told = [(message["seq"], message["type"]) for message in heard]
    assert told == [
        (row["seq"], each.type) for row in rows for each in messages_of(row) if not each.type.startswith("agent:")
    ]
    assert [each["payload"] for each in heard if "table" in each["payload"]] == rows
    assert not listening.is_alive() and ours() == []


def test_f27_a_slow_watcher_makes_its_board_late_and_not_large(
    root: Path, start: Callable[..., Process], wait_until: Callable[..., Any]
) -> None:
    start(root)
    held, go = threading.Event(), threading.Event()
    with connect(root) as orch:
        orch.dispatch(paused=True)
        wait_until(lambda: orch.board.dispatch_paused)
        orch.board.watch(lambda _: (held.set(), go.wait(60)))
        orch.submit("first")
        assert held.wait(20)
        tracemalloc.start()
        try:
            orch.submit([{"name": f"large-{each}", "prompt": "x" * 100_000} for each in range(120)])
            # Somebody else has heard all of it by now, so the board could have.
            assert sum(1 for _ in islice(orch.follow(0, topics="unit"), 121)) == 121
            held_bytes, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        late = orch.board.seq
        go.set()
        wait_until(lambda: orch.board.seq == orch.status()["seq"])

        assert late < orch.board.seq - 100
        assert held_bytes < 4_000_000
    assert ours() == []


def test_an_iterator_ends_when_nothing_comes_and_leaves_no_thread_when_it_is_left(
    root: Path, start: Callable[..., Process]
) -> None:
    start(root)
    with connect(root) as orch:
        orch.submit("one", "exit 0")
        orch.wait("one")
        told = [message["type"] for message in orch.follow(0, unit="one", topics="unit", timeout=0.5)]
        for message in orch.follow(0, topics=["unit", "session"]):
            assert message["type"] == "unit:submit"
            break
        unread = orch.follow()

        assert told == ["unit:submit", "unit:start", "unit:finish"]
        with pytest.raises(UsageError, match="no topic"):
            next(orch.follow(0, topics="nonsense"))
        with pytest.raises(UsageError, match="beyond the head"):
            next(orch.follow(10_000))
        del unread, message
        assert ours() == ["orch-mirror"]
    assert ours() == []


def test_an_iterator_says_in_one_line_that_its_server_stays_away(
    root: Path, start: Callable[..., Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator_app.connection.connecting.RETURN", 0.2)
    process = start(root)
    with connect(root) as orch:
        messages = orch.follow(0)
        orch.submit("one", "exit 0")
        next(messages)
        process.end()

        with pytest.raises(
            NoServerError, match=r"has ended: connect again to read its files; it was waited for 0.2 s$"
        ):
            list(messages)
        assert orch.fault is None or "\n" not in orch.fault


def test_what_is_bound_to_a_board_is_live_in_panel_and_ends_with_its_session(
    root: Path, start: Callable[..., Process], wait_until: Callable[..., Any]
) -> None:
    process = start(root)

    def page() -> Any:
        orch = connect(root)
        pn.state.on_session_destroyed(lambda context: orch.close())
        said = pn.bind(lambda row: f"{row.unit} is {row.to_status}" if row else "nothing", orch.board.param.transition)
        return pn.Column(pn.pane.Markdown(said), pn.panel(pn.bind("as of {}".format, orch.board.param.seq)))

    lives = {"check_unused_sessions_milliseconds": 200, "unused_session_lifetime_milliseconds": 200}
    served = pn.serve(page, port=free_port(), address="127.0.0.1", show=False, threaded=True, verbose=False, **lives)
    try:
        server, _, _ = wait_until(lambda: pn.state._servers.get(served.server_id))
        browser = websocket.create_connection(
            f"ws://127.0.0.1:{server.port}/ws",
            subprotocols=["bokeh", generate_jwt_token(generate_session_id())],
            origin=f"http://127.0.0.1:{server.port}",
            timeout=20,
        )
        browser.recv()  # it has a session
        process.submit("bound", "exit 0")

        said = ""
        while "bound is DONE" not in said or "as of 3" not in said:
            said += str(browser.recv())
        browser.close()
        wait_until(lambda: ours() == [], what="the session's connection to be closed")
    finally:
        served.stop()
        served.join(20)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


def test_waiting_goes_on_through_a_kill_of_the_server(
    root: Path, start: Callable[..., Process], wait_until: Callable[..., Any]
) -> None:
    process = start(root)
    agent = Agent(root, "slow")
    reached: list[dict[str, str]] = []
    with connect(root) as orch:
        orch.submit(
            [{"name": "slow", "prompt": agent.script()}, {"name": "after", "prompt": "exit 0", "after": ["slow"]}]
        )
        before, meanwhile = (
            threading.Thread(target=lambda: reached.append(orch.wait(["slow", "after"], timeout=60))) for _ in range(2)
        )
        before.start()
        wait_until(agent.is_there)
        process.end(signal.SIGKILL)
        meanwhile.start()
        start(root)
        agent.go.touch()
        before.join(60)
        meanwhile.join(60)

        assert reached == [{"slow": "DONE", "after": "DONE"}] * 2
        wait_until(lambda: orch.board.row("after").status == "DONE" and orch.fault is None)
