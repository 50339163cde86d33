"""The pages of a viewer: everything is there to be read, and nothing that acts."""

from __future__ import annotations

import pytest

ACTING = (
    *("Pause dispatch", "Submit a unit", "Answer", "Retry", "Accept", "Cancel", "Dismiss", "Edit…", "Restart"),
    *("Terminate", "Cancel the unit…", "Pause", "postgres", "Select all sessions shown"),
)


@pytest.fixture
def viewers_page(browser, server):
    context = browser.new_context()
    page = context.new_page()
    page.set_default_timeout(40_000)
    page.goto(server.api("POST", "login-code", {"viewer": True})["url"])
    page.wait_for_selector(".console .dot.live")
    yield page
    context.close()


def acting(page) -> list[str]:
    """What stands on the page that acts when it is pressed."""
    found = page.locator(".console button:visible, .console input[type=checkbox]:visible").evaluate_all(
        "all => all.map(one => one.getAttribute('aria-label') || one.textContent)"
    )
    header = page.get_by_role("button", name="Submit a unit")
    said = [*found, *(["Submit a unit"] if header.count() else [])]
    return [text for text in said if text.startswith(("Select ", "Restart ", "Terminate ")) or text in ACTING]


def test_a_viewer_sees_every_page_and_nothing_on_it_that_acts(viewers_page, open_page, server, wait_until):
    server.submit("ask-1", "fail-1", "slow-1")
    wait_until(lambda: server.status("ask-1") == server.status("fail-1") == "NEEDS_ATTENTION", 30)
    wait_until(lambda: server.status("slow-1") == "RUNNING", 30)
    places = (
        ("", ".item"),
        ("/?page=board", ".card"),
        ("/?page=sessions", "tr[data-unit]"),
        ("/?page=errors", ".errors-group"),
        ("/?unit=fail-1", ".actions"),
    )

    for path, there in places:
        viewers_page.goto(server.info["url"] + path)
        viewers_page.wait_for_selector(there, state="attached")
        viewers_page.get_by_text("View only").wait_for()
        assert acting(viewers_page) == [], path

    operators = open_page()
    operators.wait_for_selector(".item")
    assert {"Pause dispatch", "Submit a unit", "postgres", "Dismiss"} <= set(acting(operators))


def test_who_signs_out_is_out(viewers_page, server):
    viewers_page.get_by_role("button", name="You: a viewer").click()
    viewers_page.get_by_role("button", name="Sign out").click()

    viewers_page.wait_for_url("**/login")
    viewers_page.goto(server.info["url"] + "/?page=board")
    assert viewers_page.url.endswith("/login?next=%2F%3Fpage%3Dboard")


def test_a_viewers_page_that_asks_all_the_same_is_refused(viewers_page, server):
    answers = viewers_page.evaluate(
        """async () => {
          const headers = { "Content-Type": "application/json" }
          const post = (path, body) => fetch(path, { method: "POST", headers, body: JSON.stringify(body) })
          const replies = [
            await post("/api/v1/dispatch", { paused: true }), await post("/api/v1/query", { sql: "SELECT 1" }),
          ]
          return replies.map((reply) => reply.status)
        }"""
    )

    assert answers == [403, 200]
    assert server.api("GET", "status")["dispatch"] == "on"
