"""A browser signs in by a link that works once, or by the token, and stays signed in through a restart."""

from __future__ import annotations

import stat
from urllib.parse import quote, urlencode

import pytest
from raw_client import Client, Reply, Running

from orchestrator_app.access import Access
from orchestrator_app.sign_in import safe_next

FORM = ("Content-Type", "application/x-www-form-urlencoded")


def path_of(url: str) -> str:
    return url.partition("://")[2].partition("/")[2].join(["/", ""])


def cookie_of(reply: Reply) -> tuple[str, str]:
    return "Cookie", (reply.header("Set-Cookie") or "").partition(";")[0]


def test_a_one_time_link_signs_in_once_and_then_never_again(running: Running, client: Client) -> None:
    link = path_of(running.serving.login_url())

    first = client("GET", link, bearer=False)
    second = client("GET", link, bearer=False)

    assert (first.status, first.header("Location")) == (303, "/")
    assert client("GET", "/api/v1/status", None, cookie_of(first), bearer=False).status == 200
    assert second.status == 403
    assert second.header("Set-Cookie") is None
    assert b"used before" in second.body


def test_looking_at_a_link_without_opening_it_does_not_use_it_up(running: Running, client: Client) -> None:
    link = path_of(running.serving.login_url())

    client("HEAD", link, bearer=False)

    assert client("GET", link, bearer=False).status == 303


def test_the_cookie_is_kept_from_scripts_and_from_other_sites_and_other_ports(running: Running, client: Client) -> None:
    reply = client("GET", path_of(running.serving.login_url()), bearer=False)

    cookie = reply.header("Set-Cookie") or ""
    assert cookie.startswith(f"orch_session_{client.port}=")
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= {part.strip() for part in cookie.split(";")}
    assert client.token not in cookie


def test_a_program_gets_a_fresh_link_for_a_browser(client: Client) -> None:
    made = client.api("POST", "/login-code")

    assert made.status == 201
    assert client("GET", path_of(made.json["url"]), bearer=False).status == 303


def test_who_is_not_signed_in_gets_a_page_that_says_how_and_comes_back_to_where_they_were(client: Client) -> None:
    html = ("Accept", "text/html,application/xhtml+xml")

    refused = client("GET", "/?unit=a", None, html, bearer=False)
    page = client("GET", refused.header("Location") or "", None, html, bearer=False)

    assert (refused.status, refused.header("Location")) == (302, "/login?next=" + quote("/?unit=a", safe=""))
    assert page.status == 200
    assert b"orch open" in page.body and b".orchestrator/token" in page.body
    assert b'value="/?unit=a"' in page.body


def test_the_pasted_token_signs_in(client: Client) -> None:
    body = urlencode({"token": f" {client.token}\n", "next": "/?unit=a"}).encode()

    reply = client("POST", "/login", body, FORM, ("Origin", client.origin), bearer=False)

    assert (reply.status, reply.header("Location")) == (303, "/?unit=a")
    assert client("GET", "/api/v1/status", None, cookie_of(reply), bearer=False).status == 200


def test_a_wrong_token_does_not_sign_in(client: Client) -> None:
    reply = client("POST", "/login", b"token=wrong", FORM, bearer=False)

    assert reply.status == 403
    assert reply.header("Set-Cookie") is None


def test_a_link_on_another_site_finds_the_reader_still_signed_in(running: Running, client: Client) -> None:
    navigation = [("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "document")]

    from_elsewhere = client("GET", "/login?next=/units", None, *navigation, bearer=False)
    link = path_of(running.serving.login_url())
    entered = client("GET", link, None, *navigation, bearer=False)

    assert b'http-equiv="refresh" content="0;url=/login?next=/units"' in from_elsewhere.body
    assert b'http-equiv="refresh" content="0;url=/"' in entered.body
    assert client("GET", "/login?next=/units", None, cookie_of(entered), bearer=False).header("Location") == "/units"


@pytest.mark.parametrize(
    "page", ["//evil.example", "http://evil.example", "/\\evil.example", "\\\\evil", "/a\r\nSet-Cookie: x=y", ""]
)
def test_signing_in_never_leads_to_another_site(page: str) -> None:
    assert safe_next(page) == "/"


def test_the_next_page_is_text_and_never_html(client: Client) -> None:
    reply = client("GET", "/login?next=" + quote('/"><script>alert(1)</script>'), bearer=False)

    assert b"<script>" not in reply.body


def test_a_cookie_outlives_a_restart_but_not_a_change_of_the_token() -> None:
    value = Access("first token", None).new_cookie()

    assert Access("first token", None).of_cookie(value)
    assert Access("second token", None).of_cookie(value) is None


def test_a19_the_state_directory_and_the_token_are_private(running: Running) -> None:
    assert stat.S_IMODE(running.state.stat().st_mode) == 0o700
    assert stat.S_IMODE((running.state / "token").stat().st_mode) == 0o600
    assert len(running.client.token) >= 32
