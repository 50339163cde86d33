"""An open page while its server drains, ends, and is followed by another: it says what is, and comes back by itself."""

from __future__ import annotations

import re

import pytest
from dashboard_kit import Server


@pytest.fixture
def server(tmp_path, wait_until):
    server = Server.of(tmp_path).wait(wait_until)
    yield server
    server.end()


@pytest.fixture
def follow(server, wait_until):
    """Start the next server of the project."""
    started = []

    def start(port: int) -> Server:
        started.append(Server(server.root, port).wait(wait_until))
        return started[-1]

    yield start
    for each in started:
        each.end()


def test_f33_a_page_says_that_its_server_drains_and_comes_back_to_the_next_one(
    server, open_page, follow, wait_until
) -> None:
    server.submit("slow")
    wait_until(lambda: server.status("slow") == "RUNNING")
    page = open_page()
    live = page.locator(".connection", has_text=re.compile(r"live · \d+ ms"))

    server.api("POST", "stop", {"how": "drain"})
    page.get_by_text("draining: nothing new is started; it waits for slow").wait_for()
    server.api("POST", "stop", {"how": "leave"})
    page.locator(".connection", has_text="reconnecting").wait_for()
    assert server.process.wait(60) == 0
    assert page.get_by_text("What you see is from").is_visible()
    follower = follow(server.info["port"])

    live.wait_for()
    page.get_by_text("draining").wait_for(state="hidden")
    assert follower.status("slow") == "RUNNING"
