"""What those hear who listen at /ws, and what the socket makes of them."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from raw_client import UPGRADE, Client, Running, request_bytes, send
from socket_kit import Ear, records_of
from websocket import WebSocketException

from orchestrator_app.api import socket as served
from orchestrator_app.api import tail as tailing
from orchestrator_app.api.listening import BATCH
from orchestrator_app.api.socket import Socket
from orchestrator_app.api.tail import Frames, Tail
from orchestrator_app.client import Client as ApiClient
from orchestrator_app.connection.mirror import Mirror


@pytest.fixture
def listen(client: Client) -> Iterator[Callable[..., Ear]]:
    ears: list[Ear] = []

    def connect(query: str = "", **options: Any) -> Ear:
        ears.append(Ear(client, query, **options))
        return ears[-1]

    yield connect
    for ear in ears:
        ear.end()


@pytest.fixture
def tail(running: Running) -> Tail:
    return running.serving.changes.tail


@pytest.fixture
def held(client: Client) -> Iterator[None]:
    """Nothing starts meanwhile."""
    client.api("POST", "/dispatch", {"paused": True})
    yield
    client.api("POST", "/dispatch", {"paused": False})


# -- what is told


def test_the_first_message_is_a_snapshot_and_then_each_commit_follows(
    listen: Callable[..., Ear], unit: Callable[..., str]
) -> None:
    ear = listen()
    snapshot = ear.next()
    assert snapshot is not None
    assert (snapshot["type"], snapshot["seq"]) == ("snapshot", snapshot["payload"]["status"]["seq"])

    name = unit("orch emit progress --iteration 2; orch emit heartbeat; orch emit test --name t --state started")
    ear.until("unit:finish", unit=name)

    seqs = records_of(ear.messages)
    assert seqs == list(range(snapshot["seq"] + 1, seqs[-1] + 1))
    types = [message["type"] for message in ear.messages[1:]]
    assert types == [
        *("unit:submit", "unit:start", "session:started"),
        *("event", "session:iteration", "event", "session:heartbeat", "event", "test:started"),
        "unit:finish",
    ]
    assert all(message["ts"].endswith("Z") for message in ear.messages)


def test_the_snapshot_shows_the_newest_units_and_says_where_the_others_are(
    listen: Callable[..., Ear], client: Client, held: None
) -> None:
    client.api("POST", "/units", {"units": [{"name": f"many-{number}", "prompt": "exit 0"} for number in range(105)]})

    whole, one = listen().next(), listen("unit=many-7").next()

    assert whole and one
    assert [row["name"] for row in whole["payload"]["units"]] == [f"many-{number}" for number in range(104, 4, -1)]
    assert whole["payload"]["more"]["units"] == "/api/v1/units"
    assert [row["name"] for row in one["payload"]["units"]] == ["many-7"]


def test_the_snapshot_holds_what_needs_a_person(
    listen: Callable[..., Ear], client: Client, unit: Callable[..., str], wait_until: Callable[..., Any]
) -> None:
    name = unit(r"""printf '{"type":"ask","question":"Which?","options":["a","b"]}\n' >> "$ORCH_EVENTS" """)
    item = wait_until(lambda: client.api("GET", f"/units/{name}").json["item"])

    mine, others = listen(f"unit={name}").next(), listen("unit=nobody").next()

    assert mine and others
    (open_item,) = mine["payload"]["attention"]
    assert (open_item["id"], open_item["text"], open_item["options"]) == (item, "Which?", ["a", "b"])
    assert others["payload"]["attention"] == []


@pytest.mark.parametrize("place", ["kept", "near", "far"])
def test_since_gives_what_was_missed_as_it_was_told_to_those_who_listened(
    running: Running,
    listen: Callable[..., Ear],
    unit: Callable[..., str],
    tail: Tail,
    place: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    live = listen("monitor=agents")
    begun = live.next()
    assert begun is not None
    name = unit(
        r"""printf '{"type":"usage","usd":0.5}\n{"type":"session","id":"s"}\n{"type":"progress","iteration":1}\n
        {"type":"test","name":"t","state":"passed"}\n{"type":"ask","question":"Which?"}\n' >> "$ORCH_EVENTS" """
    )
    live.until("unit:ask", unit=name)
    last = live.until("attention:added", unit=name)

    if place != "kept":
        tail.frames = Frames(running.serving.orchestrator.board.seq)
    if place == "far":
        monkeypatch.setattr(tailing, "REACH", 0)
        monkeypatch.setattr(served, "PAGE", 3)
    late = listen(f"since={begun['seq']}&monitor=agents")
    late.until("attention:added", unit=name)

    heard = [message for message in live.messages[1:] if message["seq"] <= last["seq"]]
    assert late.messages == heard
    types = {message["type"] for message in heard}
    assert {"budget:updated", "session:updated", "test:completed", "agent:status", "attention:added"} <= types


def test_topics_and_a_unit_choose_what_is_told(listen: Callable[..., Ear], unit: Callable[..., str]) -> None:
    other = unit("orch emit note --message no")
    ears = {
        "unit": listen("topics=unit"),
        "session,budget": listen("topics=session,budget"),
        "agents": listen("topics=&monitor=agents"),
        "one": listen(f"unit={other}"),
    }
    snapshots = {name: ear.next() for name, ear in ears.items()}

    name = unit("orch emit progress --percent 5; orch emit usage --usd 1; orch emit ask --question Why")
    ears["unit"].until("unit:ask", unit=name)
    ears["session,budget"].until("session:ended", unit=name)
    ears["agents"].until("agent:status", unit=name, status="NEEDS_ATTENTION")
    mine = listen(f"unit={name}&since={snapshots['one']['seq']}")  # type: ignore[index]
    mine.until("attention:added")

    def types(ear: Ear) -> set[str]:
        return {each["type"] for each in ear.messages[1:] if each.get("payload", {}).get("unit") == name}

    assert types(ears["unit"]) == {"unit:submit", "unit:start", "unit:ask"}
    assert types(ears["session,budget"]) == {"session:started", "session:updated", "budget:updated", "session:ended"}
    assert types(ears["agents"]) == {"agent:status"}
    assert {message["payload"]["unit"] for message in mine.messages} == {name}
    assert {"unit:submit", "event", "budget:updated", "attention:added"} <= {each["type"] for each in mine.messages}
    assert {message["payload"]["unit"] for message in ears["one"].messages[1:]} <= {other}


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("since=99999999", "beyond the head"),
        ("since=-1", "a number"),
        ("since=x", "a number"),
        ("topics=unit,nonsense", "there are unit, session"),
        ("topics=", "name some"),
        ("monitor=everything", "agents"),
        ("unit=../../etc/passwd", "a-z"),
        ("since=1&since=2", "once"),
        ("token=x", "there are since, topics"),
    ],
)
def test_wrong_words_are_told_and_end_the_connection(listen: Callable[..., Ear], query: str, why: str) -> None:
    ear = listen(query)

    message = ear.next()

    assert message and message["type"] == "error" and why in message["message"]
    assert ear.next() is None and ear.code == 4400


# -- a client that is slow, silent or confused


def test_f27_a_client_that_never_reads_costs_a_batch_delays_nobody_and_is_dropped(
    running: Running,
    client: Client,
    listen: Callable[..., Ear],
    tail: Tail,
    held: None,
    monkeypatch: pytest.MonkeyPatch,
    wait_until: Callable[..., Any],
) -> None:
    monkeypatch.setattr(served, "QUIET", 0.5)
    before = set(tail._listeners)
    with socket.socket() as dead:
        dead.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        dead.connect(("127.0.0.1", client.port))
        dead.sendall(request_bytes("GET", "/ws", [("Host", client.host), client.bearer, *UPGRADE]))
        (stuck,) = wait_until(lambda: set(tail._listeners) - before)
        assert isinstance(stuck, Socket)
        stream = stuck.ws_connection.stream
        ear = listen("topics=unit")
        ear.next()

        text, most = "exit 0 #" + "x" * 50_000, 0
        for number in range(20):
            client.api("POST", "/units", {"name": f"large-{number}", "prompt": text})
            ear.until("unit:submit", unit=f"large-{number}")
            most = max(most, len(stream._write_buffer))
        # The other one is asked whether it is there, again and again, and the dead one is given up.
        wait_until(lambda: ear.next() and stuck not in tail._listeners, what="the client to be dropped")

    assert 0 < most <= 2 * BATCH + len(text)


def test_a_client_that_fell_too_far_behind_is_told_of_the_gap_and_can_fetch_it(
    client: Client, listen: Callable[..., Ear], tail: Tail, held: None
) -> None:
    ear = listen("topics=unit")
    begun = ear.next()
    assert begun is not None
    client.api("POST", "/units", {"name": "gap-0", "prompt": "exit 0"})
    first = ear.until("unit:submit", unit="gap-0")
    tail.frames = Frames(first["seq"], behind=10)

    client.api("POST", "/units", {"units": [{"name": f"gap-{number}", "prompt": "exit 0"} for number in range(1, 20)]})
    gap = ear.until("gap")
    client.api("POST", "/units", {"name": "gap-last", "prompt": "exit 0"})
    after = ear.until("unit:submit")

    assert gap == {"type": "gap", "from": first["seq"] + 1, "to": first["seq"] + 19}
    assert after["payload"]["unit"] == "gap-last"
    missed = client.api("GET", f"/feed?since={gap['from'] - 1}").json["records"]
    assert [record["seq"] for record in missed] == list(range(gap["from"], after["seq"] + 1))


def test_a_mirror_that_fell_behind_fetches_what_it_missed(
    running: Running, client: Client, tail: Tail, held: None, wait_until: Callable[..., Any]
) -> None:
    before = set(tail._listeners)
    mirror = Mirror(lambda: ApiClient(f"http://{client.host}", client.token))
    seqs: list[int] = []
    mirror.board.watch(lambda records: seqs.extend(record.seq for record in records))
    begun, board = mirror.board.seq, running.serving.orchestrator.board
    wait_until(lambda: set(tail._listeners) - before)
    tail.frames = Frames(board.seq, behind=10)

    client.api("POST", "/units", {"units": [{"name": f"far-{number}", "prompt": "exit 0"} for number in range(20)]})
    client.api("POST", "/units", {"name": "far-last", "prompt": "exit 0"})
    wait_until(lambda: "far-last" in mirror.board.units)
    mirror.close()

    assert seqs == list(range(begun + 1, begun + 1 + len(seqs)))
    assert mirror.fault is None


def test_ping_is_answered_and_the_answer_says_how_far_the_client_has_been_told(listen: Callable[..., Ear]) -> None:
    ear = listen("unit=nobody")
    snapshot = ear.next()

    pong = ear.say({"type": "ping"})

    assert snapshot and pong and pong["type"] == "pong" and pong["seq"] >= snapshot["seq"]


def test_a_quiet_client_is_asked_whether_it_is_there(
    listen: Callable[..., Ear], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served, "QUIET", 0.1)
    ear = listen("unit=nobody")
    snapshot, first = ear.next(), ear.next()
    ear.socket.send('{"type":"pong"}')
    second = ear.next()

    assert snapshot and first and second
    assert (first["type"], second["type"]) == ("ping", "ping")
    assert snapshot["seq"] <= first["seq"] <= second["seq"]


def test_a_client_is_asked_though_there_is_much_to_say_to_others(
    listen: Callable[..., Ear], client: Client, held: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served, "QUIET", 0.6)
    ear = listen("unit=nobody")
    snapshot = ear.next()
    asked = threading.Event()

    def submit() -> None:
        number = 0
        while not asked.is_set():
            client.api("POST", "/units", {"name": f"busy-{number}", "prompt": "exit 0"})
            number += 1

    others = threading.Thread(target=submit)
    others.start()
    try:
        first = ear.next()  # it would not come while the others submit
    finally:
        asked.set()
        others.join()

    assert snapshot and first and first["type"] == "ping" and first["seq"] >= snapshot["seq"]


@pytest.mark.parametrize(
    "nonsense",
    [
        "",
        "}{",
        "null",
        "[1]",
        '"ping"',
        "{}",
        '{"type":7}',
        '{"type":["ping"]}',
        '{"type":"progress","percent":5}',
        '{"type":"\\ud800"}',
        "[" * 60_000,
        '{"type":' * 7_000,
        "\x00\x01",
        "NaN",
    ],
    ids=range(14),
)
def test_nonsense_is_answered_and_harms_nothing(listen: Callable[..., Ear], nonsense: str) -> None:
    ear = listen("unit=nobody")
    ear.next()

    answer = ear.say(nonsense)
    pong = ear.say({"type": "ping"})

    assert answer and answer["type"] == "error" and len(answer["message"]) < 300
    assert pong and pong["type"] == "pong"


def test_bytes_are_refused_and_a_message_that_is_too_long_ends_the_connection(listen: Callable[..., Ear]) -> None:
    ear = listen("unit=nobody")
    ear.next()

    ear.socket.send_binary(b'{"type":"ping"}')
    answer = ear.next()
    ear.socket.send("x" * 200_000)

    assert answer and answer["type"] == "error"
    assert ear.next() is None


def test_a_client_that_asks_without_end_and_never_reads_is_not_heard_further(
    client: Client, tail: Tail, monkeypatch: pytest.MonkeyPatch, wait_until: Callable[..., Any]
) -> None:
    monkeypatch.setattr(served, "QUIET", 0.5)
    before = set(tail._listeners)
    ear = Ear(client, "unit=nobody", room=4096)
    (stuck,) = wait_until(lambda: set(tail._listeners) - before)

    with pytest.raises((OSError, WebSocketException)):
        while True:
            ear.socket.send('{"type":"' + "x" * 30_000 + '"}')

    wait_until(lambda: stuck not in tail._listeners, what="the client to be dropped")
    ear.end()


# -- who may


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([], 401),
        ([("Authorization", "Bearer nonsense")], 401),
        (["bearer"], 101),
        (["bearer", ("Origin", "http://evil.example")], 403),
        (["bearer", ("Sec-Fetch-Site", "cross-site")], 403),
        (["bearer", ("Host", "evil.example:{port}")], 421),
        (["cookie"], 403),
        (["cookie", ("Origin", "http://evil.example")], 403),
        (["cookie", ("Origin", "{origin}")], 101),
    ],
)
def test_a3_only_who_has_the_token_and_comes_from_here_gets_the_socket(
    running: Running, client: Client, headers: list[Any], status: int
) -> None:
    cookie = ("Cookie", f"{running.serving.edge.cookie_name}={running.serving.edge.access.new_cookie()}")
    known = {"bearer": client.bearer, "cookie": cookie}
    said = [known.get(each, each) if isinstance(each, str) else each for each in headers]
    said = [(name, value.format(port=client.port, origin=client.origin)) for name, value in said]
    if "Host" not in dict(said):
        said.append(("Host", client.host))

    reply = send(client.port, request_bytes("GET", "/ws", [*said, *UPGRADE]))

    assert reply.status == status


def test_the_socket_of_a_page_is_still_bokehs(client: Client) -> None:
    page = client("GET", "/")
    token = re.search(rb'"token":"([^"]+)"', page.body)
    assert token is not None
    headers = [("Host", client.host), client.bearer, *UPGRADE]

    reply = send(
        client.port,
        request_bytes("GET", "/ws", [*headers, ("Sec-WebSocket-Protocol", f"bokeh, {token.group(1).decode()}")]),
    )

    assert (reply.status, reply.header("Sec-WebSocket-Protocol")) == (101, "bokeh")


def test_a17_a_client_that_hangs_up_as_it_comes_takes_no_place(
    client: Client, tail: Tail, wait_until: Callable[..., Any]
) -> None:
    wait_until(lambda: not tail.count(None))

    for _ in range(50):
        with socket.create_connection(("127.0.0.1", client.port)) as sock:
            sock.sendall(request_bytes("GET", "/ws", [("Host", client.host), client.bearer, *UPGRADE]))

    Ear(client).end()  # the server has dealt with all that came before
    wait_until(lambda: not tail.count(None), what="the last of them to be gone")


def test_a17_no_more_clients_listen_than_there_may_be_and_a_place_that_is_free_again_is_given(
    client: Client, tail: Tail, monkeypatch: pytest.MonkeyPatch, wait_until: Callable[..., Any]
) -> None:
    wait_until(lambda: not tail.count(None))
    monkeypatch.setattr(served, "MOST", 3)
    ears = [Ear(client) for _ in range(3)]
    assert all(ear.next() for ear in ears)

    one_more = Ear(client)
    refusal, end = one_more.next(), one_more.next()
    ears.pop().end()
    wait_until(lambda: tail.count(None) == 2)
    ears.append(Ear(client))

    assert refusal == {
        "type": "error",
        "message": "3 clients listen already, and there may be no more: close one and come back",
    }
    assert end is None and one_more.code == 1013
    assert (ears[-1].next() or {}).get("type") == "snapshot"
    for ear in (*ears, one_more):
        ear.end()
