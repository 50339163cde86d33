"""What a page shows of a server that can't work as it should."""

from __future__ import annotations

import pytest
from dashboard_kit import AGENT, SETTINGS, Server

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def server(tmp_path_factory, wait_until):
    """A server on a disk that has never room enough."""
    root = tmp_path_factory.mktemp("project")
    (root / "agent.sh").write_text(AGENT)
    settings = SETTINGS.format(agent=root / "agent.sh").replace("[project]", "[project]\nlow_disk = 900000000")
    (root / "orchestrator.toml").write_text(settings)
    server = Server(root).wait(wait_until)
    yield server
    server.end()


def test_f19_every_page_says_that_the_disk_is_nearly_full_and_that_nothing_is_started(server, open_page, wait_until):
    page = open_page("/?page=board")
    server.submit("waiting")

    page.wait_for_selector("text=/low disk space: [0-9]+ MB are free/")
    page.wait_for_selector("text=waiting")

    assert server.status("waiting") == "READY"
    assert page.locator(".banner:visible").count() == 1
