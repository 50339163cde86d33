"""Signing in as people do: a browser, a password, and a login provider on another site."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dashboard_kit import SETTINGS

from orchestrator_app.claim import server_info

LONG = "correct horse"


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "server")
    from fake_provider import Provider

    provider = Provider()
    threading.Thread(target=provider.serve_forever, daemon=True).start()
    yield provider
    provider.shutdown()
    provider.server_close()


@pytest.fixture
def url(tmp_path: Path, provider: Any, wait_until: Any) -> Iterator[str]:
    """A server with every way to sign in at once."""
    (tmp_path / "orchestrator.toml").write_text(
        SETTINGS.format(agent="/bin/true") + '[access]\noperators = ["ana@example.org"]\n'
    )
    options = ("--oauth-provider", "generic", "--oauth-key", "orch", "--oauth-extra-params", provider.parameters())
    secrets = {"PANEL_OAUTH_SECRET": "the provider's secret", "ORCH_VIEWER_PASSWORD": LONG}
    with open(tmp_path / "out", "wb") as out:
        server = subprocess.Popen(
            [sys.executable, "-m", "orchestrator_app", "--project", tmp_path, "serve", "--port", "0", *options],
            stdout=out,
            stderr=out,
            env={**os.environ, **secrets},
        )
    wait_until(lambda: b"/login?code=" in (tmp_path / "out").read_bytes(), 60, "the server")
    info = server_info(tmp_path / ".orchestrator")
    assert info is not None
    yield info["url"]
    server.terminate()
    server.wait(60)


def test_a_browser_signs_in_at_a_provider_on_another_site_and_comes_back_to_where_it_was(
    browser: Any, provider: Any, url: str
) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.goto(url + "/?page=board")

    page.get_by_role("link", name="Sign in with the login provider").click()
    page.wait_for_selector(".console .dot.live")

    assert page.url == url + "/?page=board"
    page.get_by_role("button", name="You: ana@example.org").wait_for()
    page.get_by_role("button", name="Pause dispatch").click()
    page.get_by_role("button", name="Resume dispatch").wait_for()
    (cookie,) = [one for one in context.cookies(url) if one["name"].startswith("orch_session")]
    assert cookie["httpOnly"] and cookie["sameSite"] == "Strict"

    # somebody who is no operator
    provider.user = "bo@example.org"
    page.get_by_role("button", name="You: ana@example.org").click()
    page.get_by_role("button", name="Sign out").click()
    page.get_by_role("link", name="Sign in with the login provider").click()
    page.get_by_text("View only").wait_for()
    assert page.get_by_role("button", name="Resume dispatch").count() == 0
    context.close()


def test_a_password_lets_a_browser_in_and_a_wrong_one_not(browser: Any, url: str) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.goto(url)

    page.get_by_label("Password").fill("wrong horse")
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("alert").wait_for()
    page.get_by_label("Password").fill(LONG)
    page.get_by_role("button", name="Sign in").click()

    page.wait_for_selector(".console .dot.live")
    page.get_by_text("View only").wait_for()
    context.close()
