"""The page of errors: the same error of many units is one group, and its dialog says what to do and does it."""

from __future__ import annotations

import json
import re

from dashboard_kit import PAYLOADS, not_reloaded


def group(page, words: str):
    return page.locator(".errors-group", has_text=words)


def test_the_same_error_of_many_units_is_one_group_that_counts_live(server, open_page):
    server.submit("fail-1", "fail-2")
    page = open_page("/?page=errors")
    broke = group(page, "it broke")
    broke.locator(".errors-count", has_text="2×").wait_for()

    server.submit("fail-3")

    broke.locator(".errors-count", has_text="3×").wait_for()
    assert group(page, "it broke").count() == 1
    assert broke.locator(".unit-link").count() == 3
    assert not_reloaded(page)


def test_a_group_opens_with_the_keyboard_shows_the_log_and_survives_a_reload(server, open_page):
    server.submit("fail-whole")
    page = open_page("/?page=errors")
    group(page, "it broke").locator(".errors-message").focus()
    page.keyboard.press("Enter")

    page.locator("dialog .errors-log", has_text="it broke").wait_for()
    assert "retry" in page.locator("dialog .errors-advice").inner_text()
    assert "error=" in page.url
    page.reload()
    page.locator("dialog .errors-log", has_text="it broke").wait_for()
    page.keyboard.press("Escape")

    page.locator("dialog").wait_for(state="detached")
    page.wait_for_function("!location.search.includes('error=')")


def test_all_units_of_an_error_are_retried_after_one_question(server, open_page, wait_until):
    names = ["fail-again-1", "fail-again-2"]
    server.submit(*names)
    wait_until(lambda: all(server.status(name) == "NEEDS_ATTENTION" for name in names))
    before = [server.api("GET", f"units/{name}")["attempt"] for name in names]
    page = open_page("/?page=errors")
    group(page, "it broke").locator(".errors-message").click()

    page.get_by_role("button", name=re.compile(r"Retry all \d+ units of this error")).click()
    page.get_by_role("button", name=re.compile(r"^Retry \d+ units$")).click()

    page.locator(".toast", has_text="tried again").wait_for()
    wait_until(lambda: [server.api("GET", f"units/{name}")["attempt"] for name in names] == [n + 1 for n in before])


def test_a_search_and_a_range_stand_in_the_address(server, open_page):
    server.submit("fail-found")
    page = open_page("/?page=errors")
    page.get_by_label("Search the errors").fill("nothing like it")
    page.get_by_text("Nothing in the last day fits the search.").wait_for()

    page.get_by_label("Time range").select_option("hour")
    page.get_by_label("Search the errors").fill("it br")

    group(page, "it broke").wait_for()
    page.wait_for_function("location.search.includes('range=hour') && location.search.includes('text=it+br')")


def test_a7_hostile_errors_are_text(server, open_page):
    hostile = "\n".join(PAYLOADS)
    (server.root / "evil.txt").write_text(hostile)
    (server.root / "evil.jsonl").write_text(
        json.dumps({"type": "note", "level": "error", "message": hostile, "more": hostile}) + "\n"
    )
    server.submit("evil-error")
    page = open_page("/?page=errors")

    group(page, "onerror").locator(".errors-message").click()
    page.locator("dialog .errors-log", has_text="onerror").wait_for()

    assert page.evaluate("window.__x") is None
    assert page.locator(".console img, .console iframe, .console script").count() == 0
