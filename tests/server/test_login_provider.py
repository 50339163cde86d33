"""A login provider (OAuth) that speaks the real protocol on this machine, and servers that believe it."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from fake_provider import Provider
from raw_client import Client, Reply
from serve_kit import PANEL, Process
from test_sign_in import ORCH, change

HTML = ("Accept", "text/html")
FOREIGN = [("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "document"), HTML]


@pytest.fixture
def provider() -> Iterator[Provider]:
    server = Provider()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def there(client: Client, page: str) -> tuple[str, tuple[str, str]]:
    """The address to which a browser is sent to sign in, and the cookie it takes there."""
    reply = client("GET", f"/oauth?next={page}", None, HTML, bearer=False)
    assert reply.status == 302, reply.body
    return reply.header("Location") or "", ("Cookie", (reply.header("Set-Cookie") or "").partition(";")[0])


def ask_provider(address: str) -> str:
    """Where the provider sends a browser back to: a path of ours."""
    at = urlsplit(address)
    connection = http.client.HTTPConnection(at.hostname or "", at.port or 80, timeout=20)
    connection.request("GET", f"{at.path}?{at.query}")
    back = urlsplit(connection.getresponse().headers["Location"])
    connection.close()
    return f"{back.path or '/'}?{back.query}"


def back(client: Client, path: str, *cookies: tuple[str, str]) -> Reply:
    """Follow the redirects of our own, as a browser that comes from the provider's site."""
    for _ in range(4):
        reply = client("GET", path, None, *FOREIGN, *cookies, bearer=False)
        if reply.status not in (302, 303):
            break
        path = reply.header("Location") or ""
    return reply


@pytest.mark.parametrize("how", ["orch", "panel"])
def test_a_login_provider_says_who_it_is_and_nothing_else_does(
    root: Path, start: Callable[..., Process], provider: Provider, how: str
) -> None:
    (root / "orchestrator.toml").write_text(
        (root / "orchestrator.toml").read_text() + '[access]\noperators = ["ana@example.org"]\n'
    )
    options = ("--oauth-provider", "generic", "--oauth-key", "orch", "--oauth-extra-params", provider.parameters())
    options = ("--address", "0.0.0.0", "--port", "0", *options)
    if how == "orch":
        with_secret = ("env", "PANEL_OAUTH_SECRET=the provider's secret", *ORCH)
        process = start(root, "serve", *options, command=with_secret)
        page = "/"
    else:
        secret = ("--oauth-secret", "the provider's secret", "--cookie-secret", "a secret for cookies")
        process = start(root, *options, *secret, command=PANEL)
        page = "/orchestrator_app"
    client = process.client

    for path in (page, "/api/v1/status", "/metrics", "/ws"):
        assert client("GET", path, bearer=False).status == 401, path
    address, state = there(client, page)
    entered = back(client, ask_provider(address), state)
    assert entered.status == 200 and f"0;url={page}".encode() in entered.body
    kept = [value for value in entered.headers["set-cookie"] if '=""' not in value]
    assert [value.partition("=")[0] for value in kept] == [f"orch_session_{client.port}"]
    assert {"HttpOnly", "SameSite=Strict"} <= {part.strip() for part in kept[0].split(";")}
    ana = ("Cookie", kept[0].partition(";")[0])
    assert client("GET", page, None, ana, bearer=False).status == 200
    assert change(client, ana, ("X-Orch-Operator", "mallory")) == 200

    # another user, who may only look
    provider.user = "bo@example.org"
    address, state = there(client, page)
    answer = ask_provider(address)
    entered = back(client, answer, state)
    bo = ("Cookie", entered.headers["set-cookie"][-1].partition(";")[0])
    assert client("GET", "/api/v1/status", None, bo, bearer=False).status == 200
    assert change(client, bo) == 403

    # an answer of the provider counts once, for the browser that asked, and only if it is the provider's
    assert "orch_session" not in str(back(client, answer, state).headers)
    address, mine = there(client, page)
    answer = ask_provider(address)
    assert "orch_session" not in str(back(client, answer).headers)
    assert "orch_session" not in str(back(client, answer, there(client, page)[1]).headers)
    assert back(client, answer).status == 401
    refused = back(client, "/oauth?error=%3Cscript%3Ealert(1)%3C/script%3E&state=x")
    assert refused.status == 401 and b"<script" not in refused.body and b"did not let you in" in refused.body
    forged = f"/oauth?code=made-up&state={parse_qs(urlsplit(answer).query)['state'][0]}"
    assert "orch_session" not in str(back(client, forged, mine).headers)

    # a name that can't stand in the log
    provider.user = "ana\noperator:root"
    address, state = there(client, page)
    assert back(client, ask_provider(address), state).status == 403
