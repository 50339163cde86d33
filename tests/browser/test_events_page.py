"""The page of events: everything as it happens, still when it should be, and back to the beginning."""

from __future__ import annotations

import json
import re

from dashboard_kit import PAYLOADS, not_reloaded


def row(page, *words: str):
    found = page.locator(".events-row")
    for word in words:
        found = found.filter(has_text=word)
    return found


def test_what_happens_appears_on_top_by_itself(server, open_page):
    page = open_page("/?page=events")

    server.submit("fail-live")

    row(page, "fail-live", "submit", "NEW → READY").wait_for()
    row(page, "fail-live", "fail", "RUNNING → NEEDS_ATTENTION").wait_for()
    row(page, "fail-live", "error opened").wait_for()
    numbers = [int(number) for number in page.locator(".events-seq").all_inner_texts()]
    assert numbers == sorted(numbers, reverse=True)
    assert not_reloaded(page)


def test_the_filters_hold_for_old_and_new_rows_and_stand_in_the_address(server, open_page):
    server.submit("quick-other", "fail-filtered")
    page = open_page("/?page=events")
    page.get_by_label("Only units whose name has").fill("filtered")
    row(page, "fail-filtered", "submit").wait_for()
    row(page, "quick-other").first.wait_for(state="detached")

    page.get_by_label("Severity").select_option("error")
    row(page, "fail-filtered", "submit").wait_for(state="detached")
    server.submit("quick-filtered", "fail-filtered-2")

    row(page, "fail-filtered-2", "RUNNING → NEEDS_ATTENTION").wait_for()
    assert row(page, "quick-filtered").count() == 0
    assert "unit=filtered" in page.url and "level=error" in page.url
    page.reload()
    row(page, "fail-filtered-2").first.wait_for()
    assert row(page, "quick-other").count() == 0


def test_a_paused_stream_stays_still_while_hundreds_come_and_counts_them(server, open_page, wait_until):
    server.submit("quick-before")
    page = open_page("/?page=events")
    row(page, "quick-before", "finish").wait_for()
    page.keyboard.press("p")
    page.locator(".events-pause", has_text="Paused").wait_for()
    still = page.locator(".events-seq").all_inner_texts()

    server.submit(*(f"quick-p{number}" for number in range(250)))
    wait_until(lambda: server.status("quick-p249") == "DONE", timeout=60)
    page.locator(".events-pause", has_text=re.compile(r"Paused · ([5-9]\d\d|\d,\d{3}) new")).wait_for()

    assert page.locator(".events-seq").all_inner_texts() == still
    page.keyboard.press("p")
    page.locator(".events-more button", has_text="more: show").first.wait_for()
    row(page, "quick-p249", "finish").wait_for()
    count = page.locator(".events-row").count()
    page.locator(".events-more button").first.click()
    wait_until(lambda: page.locator(".events-row").count() >= count + 50)
    assert not_reloaded(page)


def test_older_rows_come_when_the_reader_scrolls_down_and_the_stream_waits_meanwhile(server, open_page, wait_until):
    server.submit(*(f"quick-o{number}" for number in range(60)))
    wait_until(lambda: server.status("quick-o59") == "DONE", timeout=60)
    page = open_page("/?page=events")
    wait_until(lambda: page.locator(".events-row").count() == 50)

    page.locator(".events-box").evaluate("node => { node.scrollTop = node.scrollHeight }")

    wait_until(lambda: page.locator(".events-row").count() >= 100)
    page.locator(".events-pause", has_text="Paused").wait_for()
    page.locator(".events-box").evaluate("node => { node.scrollTop = 0 }")
    page.locator(".events-pause", has_text="Pause").and_(page.get_by_text("Pause", exact=True)).wait_for()


def test_a7_a_row_opens_to_all_that_the_log_has_of_it_and_hostile_words_stay_words(server, open_page):
    hostile = "\n".join(PAYLOADS)
    (server.root / "evil.txt").write_text("")
    (server.root / "evil.jsonl").write_text(
        json.dumps({"type": "note", "message": hostile, "extra": PAYLOADS[1]}) + "\n"
    )
    page = open_page("/?page=events")
    server.submit("evil-row", prompt=hostile)

    row(page, "note", "onerror").locator(".events-open").click()
    page.locator(".events-whole", has_text='"extra"').wait_for()

    assert page.evaluate("window.__x") is None
    assert page.locator(".console img, .console iframe, .console script").count() == 0
