"""Nothing answers before Host, Origin and token have been looked at. The routes are read from the running server, so a
route added later is covered, and fails here if it is open."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator

import pytest
from raw_client import UPGRADE, Client, Running, request_bytes, send
from tornado.routing import PathMatches, RuleRouter

from orchestrator_app import edge, open_files

OPEN = {"/healthz", "/login", "/favicon.ico"}
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
SECURE = {
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def paths_of(router: RuleRouter) -> Iterator[str]:
    for rule in router.rules:
        if isinstance(rule.target, RuleRouter):
            yield from paths_of(rule.target)
        else:
            assert isinstance(rule.matcher, PathMatches), rule
            pattern = rule.matcher.regex
            sample = re.sub(r"\((?:[^()]|\([^()]*\))*\)\??", "x", pattern.pattern.strip("^$"))
            sample = sample.replace("/?", "/").replace(".*", "x").replace("\\", "")
            assert pattern.match(sample), f"make up a path for {pattern.pattern}"
            yield sample


@pytest.fixture
def paths(running: Running) -> list[str]:
    found = list(dict.fromkeys(paths_of(running.serving._server._tornado.default_router)))
    assert {"/", "/ws", "/autoload.js", "/metadata", "/login", "/healthz", "/api/v1/status"} <= set(found)
    assert any(path.startswith("/static/") for path in found)
    return [*found, "/no/such/path"]


def requests_of(client: Client, paths: list[str], *headers: tuple[str, str]) -> Iterator[tuple[str, str, int, object]]:
    """Every method on every path, and an upgrade on every path; with these headers."""
    for path in paths:
        for method in METHODS:
            reply = send(client.port, request_bytes(method, path, list(headers)))
            yield method, path, reply.status, reply
        reply = send(client.port, request_bytes("GET", path, [*headers, *UPGRADE]))
        yield "UPGRADE", path, reply.status, reply


def test_a1_a4_without_a_token_only_the_listed_paths_answer(running: Running, client: Client, paths: list[str]) -> None:
    before = running.serving.orchestrator.board.seq

    for method, path, status, _ in requests_of(client, paths, ("Host", client.host)):
        if path in OPEN:
            assert status in (200, 400, 403, 405), (method, path)
        else:
            assert status == 401, (method, path)

    assert running.serving.orchestrator.board.seq == before


def test_a1_a4_a_wrong_token_or_cookie_is_none(running: Running, client: Client, paths: list[str]) -> None:
    ours = running.serving.edge
    good = ours.access.new_cookie()
    expires, way, name, nonce, mac = good.split(".")
    old = f"{int(expires) - 10**8}.{way}.{name}.{nonce}"
    forged = [
        ("Authorization", "Bearer " + client.token[:-1]),
        ("Authorization", "Basic " + client.token),
        ("Authorization", "Bearer"),
        ("Cookie", f"{ours.cookie_name}={int(expires) + 1}.{way}.{name}.{nonce}.{mac}"),
        ("Cookie", f"{ours.cookie_name}={expires}.password.{name}.{nonce}.{mac}"),
        ("Cookie", f"{ours.cookie_name}={expires}.{way}.YW5h.{nonce}.{mac}"),
        ("Cookie", f"{ours.cookie_name}={old}.{ours.access.mac(old)}"),
        ("Cookie", f"{ours.cookie_name}={client.token}"),
        ("Cookie", f"{ours.cookie_name}=.."),
        ("Cookie", f"orch_session_1={good}"),
    ]

    for header in forged:
        for path in ("/", "/ws", "/api/v1/status"):
            reply = send(client.port, request_bytes("GET", path, [("Host", client.host), header]))
            assert reply.status == 401, (header, path)


def test_a2_a_rebound_host_is_refused_on_every_route(running: Running, client: Client, paths: list[str]) -> None:
    before = running.serving.orchestrator.board.seq
    evil = f"evil.example:{client.port}"

    for method, path, status, _ in requests_of(
        client, paths, ("Host", evil), ("Origin", f"http://{evil}"), ("Sec-Fetch-Site", "same-origin"), client.bearer
    ):
        assert status == 421, (method, path)

    assert running.serving.orchestrator.board.seq == before


@pytest.mark.parametrize(
    "hosts",
    [
        [],
        [""],
        ["127.0.0.1"],
        ["localhost"],
        ["127.0.0.1:1"],
        ["127.0.0.1.evil.example:{port}"],
        ["evil.example@127.0.0.1:{port}"],
        ["127.0.0.1:{port}", "evil.example"],
        ["127.0.0.1:{port}", "127.0.0.1:{port}"],
        ["127.0.0.1:{port}, evil.example"],
        ["0.0.0.0:{port}"],
        ["127.0.0.1:{port}."],
    ],
)
def test_a2_a_missing_doubled_or_other_host_is_refused(client: Client, hosts: list[str]) -> None:
    headers = [("Host", host.format(port=client.port)) for host in hosts]

    try:
        status = send(client.port, request_bytes("GET", "/healthz", [*headers, client.bearer])).status
    except ConnectionError:
        status = 0  # Tornado 6.5 hangs up on some of these without a word

    assert status in (0, 400, 421)


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "LOCALHOST", "[::1]"])
def test_the_loopback_names_with_the_real_port_are_answered(client: Client, name: str) -> None:
    reply = client("GET", "/api/v1/status", None, ("Host", f"{name}:{client.port}"))

    assert reply.status == 200


@pytest.mark.parametrize(
    "headers",
    [
        [("Origin", "http://evil.example")],
        [("Origin", "null")],
        [("Origin", "http://127.0.0.1:1")],
        [("Origin", "https://127.0.0.1:{port}")],
        [("Origin", "http://127.0.0.1:{port}"), ("Origin", "http://evil.example")],
        [("Sec-Fetch-Site", "cross-site")],
        [("Sec-Fetch-Site", "same-site")],
        [("Origin", "http://127.0.0.1:{port}"), ("Sec-Fetch-Site", "cross-site")],
    ],
)
def test_a1_a3_pages_of_other_origins_are_refused_on_every_route(
    client: Client, paths: list[str], headers: list[tuple[str, str]]
) -> None:
    said = [(name, value.format(port=client.port)) for name, value in headers]

    for method, path, status, _ in requests_of(client, paths, ("Host", client.host), client.bearer, *said):
        assert status == 403, (method, path)


def test_a3_a_cookie_alone_opens_no_socket_and_changes_nothing(running: Running, client: Client) -> None:
    cookie = ("Cookie", f"{running.serving.edge.cookie_name}={running.serving.edge.access.new_cookie()}")
    before = running.serving.orchestrator.board.seq

    socket = send(client.port, request_bytes("GET", "/ws", [("Host", client.host), cookie, *UPGRADE]))
    post = client("POST", "/api/v1/dispatch", {"paused": True}, cookie, bearer=False)

    assert (socket.status, post.status) == (403, 403)
    assert running.serving.orchestrator.board.seq == before


def test_a3_a_page_of_ours_gets_its_socket_and_its_answers(running: Running, client: Client) -> None:
    cookie = ("Cookie", f"{running.serving.edge.cookie_name}={running.serving.edge.access.new_cookie()}")
    ours = [("Host", client.host), cookie, ("Origin", client.origin), ("Sec-Fetch-Site", "same-origin")]

    page = send(client.port, request_bytes("GET", "/", ours[:2]))
    token = re.search(rb'"token":"([^"]+)"', page.body)
    assert page.status == 200 and token
    protocol = ("Sec-WebSocket-Protocol", f"bokeh, {token.group(1).decode()}")
    socket = send(client.port, request_bytes("GET", "/ws", [*ours, *UPGRADE, protocol]))
    post = client("POST", "/api/v1/login-code", {}, *ours[1:], bearer=False)

    assert (socket.status, post.status) == (101, 201)


def test_a16_a_session_id_that_somebody_chose_is_refused(client: Client) -> None:
    reply = client("GET", "/?bokeh-session-id=chosen")

    assert reply.status == 403


def test_a20_every_answer_carries_the_security_headers(running: Running, client: Client, paths: list[str]) -> None:
    replies = [reply for *_, reply in requests_of(client, paths, ("Host", client.host))]
    replies += [client("GET", path) for path in paths if path != "/api/v1/feed"]
    replies.append(client("GET", "/", None, ("Host", "evil.example")))

    for reply in replies:
        for name, value in SECURE.items():
            assert reply.headers.get(name.lower()) == [value]
        policy = reply.header("Content-Security-Policy") or ""
        for part in ("object-src 'none'", "base-uri 'none'", "frame-ancestors 'none'", "script-src-attr 'none'"):
            assert part in policy
        assert "form-action 'self'" in policy
        assert reply.header("Server") is None


def test_a17_a_body_that_is_too_large_is_not_read(client: Client) -> None:
    announced = request_bytes("POST", "/api/v1/units", [("Host", client.host), client.bearer])
    announced = announced.replace(b"Content-Length: 0", b"Content-Length: 999999999999")

    reply = send(client.port, announced)

    assert reply.status in (400, 413)


def test_a17_who_is_not_known_sends_little(client: Client) -> None:
    form = [("Host", client.host), ("Content-Type", "application/x-www-form-urlencoded")]
    large = request_bytes("POST", "/login", form, b"token=" + b"x" * edge.SMALL)
    chunked = request_bytes("POST", "/login", [*form, ("Transfer-Encoding", "chunked")]).replace(
        b"Content-Length: 0\r\n", b""
    )

    assert send(client.port, large).status == 413
    assert send(client.port, chunked + b"0\r\n\r\n").status == 413


def test_a17_what_is_refused_is_answered_before_its_body_has_come(client: Client) -> None:
    announced = request_bytes("POST", "/api/v1/units", [("Host", client.host)])
    announced = announced.replace(b"Content-Length: 0", b"Content-Length: 4000000")

    assert send(client.port, announced, timeout=5).status == 401


def test_a17_no_more_pages_are_opened_than_can_be_kept(
    running: Running, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edge, "MOST_PAGES", running.serving.edge._count_pages() + 2)

    opened = [client("GET", "/") for _ in range(3)]

    assert [reply.status for reply in opened] == [200, 200, 503]
    assert opened[-1].header("Retry-After") == "15"
    assert client("GET", "/autoload.js?bokeh-autoload-element=x").status == 503
    assert client("GET", "/api/v1/status").status == 200


@pytest.mark.parametrize("end", ["headers", "body"])
def test_a17_a_request_that_trickles_in_is_cut_off(running: Running, client: Client, end: str) -> None:
    """Every few bytes put off nothing: the whole must have come in time."""
    whole = request_bytes("POST", "/api/v1/dispatch", [("Host", client.host), client.bearer], b"x" * 1000)
    sent = whole[:40] if end == "headers" else whole[:-900]
    limits = running.serving._server._http.conn_params
    before = limits.header_timeout, limits.body_timeout
    limits.header_timeout = limits.body_timeout = 0.5
    try:
        with socket.create_connection(("127.0.0.1", client.port), timeout=20) as connection:
            connection.sendall(sent)
            connection.settimeout(0.05)
            for _ in range(400):
                try:
                    connection.sendall(b"y")
                    if connection.recv(1) == b"":
                        break
                except TimeoutError:
                    continue
                except OSError:
                    break
            else:
                pytest.fail("the connection is still open")
    finally:
        limits.header_timeout, limits.body_timeout = before

    assert before == (open_files.PATIENCE, open_files.PATIENCE)
    assert client("GET", "/healthz", bearer=False).status == 200


def test_a5_only_loopback_addresses_are_listened_on(running: Running) -> None:
    addresses = {each.getsockname()[0] for each in running.serving._server._http._sockets.values()}

    assert addresses == {"127.0.0.1"}


def test_healthz_says_no_more_than_how_it_is(client: Client) -> None:
    reply = client("GET", "/healthz", bearer=False)

    assert (reply.status, reply.json) == (200, {"state": "ok"})


def test_a14_the_token_is_in_no_answer_and_no_command_line(running: Running, client: Client, paths: list[str]) -> None:
    with open("/proc/self/cmdline", "rb") as cmdline:
        assert client.token.encode() not in cmdline.read()

    for path in (*paths, "/api/v1/config"):
        if path != "/api/v1/feed":
            assert client.token.encode() not in client("GET", path).body, path
