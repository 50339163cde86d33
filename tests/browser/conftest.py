"""A real Chromium for the tests of the dashboard."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from dashboard_kit import Server

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)


def _without_browser(reason: str) -> None:
    if os.environ.get("ORCH_REQUIRE_BROWSER") == "1":
        pytest.fail(f"{reason}, and ORCH_REQUIRE_BROWSER=1 says it must run")
    pytest.skip(f"{reason}; install it to run the browser tests")


# Per module: while Playwright runs, its event loop is the main thread's, and tests elsewhere want their own.
@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    """A Playwright browser (Chromium, headless)."""
    program = next((path for path in map(shutil.which, NAMES) if path), None)
    if program is None:
        _without_browser(f"no Chromium on the PATH ({', '.join(NAMES)})")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        _without_browser("the package playwright is not installed")
    # Chromium refuses to run as root with its sandbox, which is how containers run the tests.
    flags = [*FLAGS, "--no-sandbox"] if os.geteuid() == 0 else FLAGS
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, args=list(flags))
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory, wait_until) -> Iterator[Server]:
    """A served project of a module; see dashboard_kit for what its units do by their names."""
    root = tmp_path_factory.mktemp("project")
    server = Server.of(root).wait(wait_until)
    yield server
    for unit in root.glob("stop-*"):
        unit.unlink()
    server.end()


@pytest.fixture
def open_page(browser, server):
    """Open the dashboard as a new browser would, signed in by the one-time link."""
    contexts = []

    def open_one(path: str = "", **options):
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(40_000)
        page.goto(server.login_url())
        page.wait_for_selector(".console .dot.live")
        if path:
            page.goto(server.info["url"] + path)
            page.wait_for_selector(".console .dot.live")
        page.evaluate("window.__same = true")
        return page

    yield open_one
    for context in contexts:
        context.close()
