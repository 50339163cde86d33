"""What an operator sees: live in every open browser, without a reload, and nothing typed is ever lost."""

from __future__ import annotations

import json
import os
import re
import signal

from dashboard_kit import PAYLOADS, Server, not_reloaded


def item(page, unit: str):
    return page.locator(".queue .item", has=page.locator(".unit-link", has_text=unit))


def card(page, unit: str):
    return page.locator(".board .card", has=page.get_by_text(unit, exact=True))


def test_every_open_browser_sees_each_change_by_itself(server, open_page):
    pages = [open_page(), open_page()]

    server.submit("fail-seen")

    for page in pages:
        item(page, "fail-seen").wait_for()
        page.locator(".column.NEEDS_ATTENTION .card", has_text="fail-seen").wait_for()
    item(pages[0], "fail-seen").get_by_placeholder("Reason").fill("good enough")
    item(pages[0], "fail-seen").get_by_role("button", name="Accept").click()
    for page in pages:
        page.locator(".column.DONE .card", has_text="fail-seen").wait_for()
        item(page, "fail-seen").wait_for(state="detached")
        assert not_reloaded(page)
    assert server.status("fail-seen") == "DONE"


def test_a_half_typed_answer_survives_a_hundred_updates_with_its_focus_and_caret(server, open_page):
    server.submit("ask-typed")
    page = open_page()
    box = item(page, "ask-typed").locator("textarea")
    box.fill("use sqlite, becau")
    box.evaluate("node => { node.focus(); node.setSelectionRange(4, 10) }")

    server.submit(*(f"quick-{number}" for number in range(100)))
    server.submit("fail-meanwhile", "ask-meanwhile")
    item(page, "ask-meanwhile").wait_for()
    page.locator(".chip", has_text=re.compile(r"\d{3,} done")).wait_for()

    state = box.evaluate(
        "node => [node.value, node.selectionStart, node.selectionEnd, node.getRootNode().activeElement === node]"
    )
    assert state == ["use sqlite, becau", 4, 10, True]
    box.press("End")
    box.type("se")
    assert box.input_value() == "use sqlite, because"
    assert not_reloaded(page)


def test_an_answer_in_one_browser_settles_the_item_in_the_other_and_the_unit_goes_on(server, open_page, wait_until):
    server.submit("ask-two")
    first, second = open_page(), open_page()
    item(second, "ask-two").wait_for()

    item(first, "ask-two").get_by_role("button", name="postgres").click()

    item(second, "ask-two").wait_for(state="detached")
    wait_until(lambda: server.status("ask-two") == "DONE")
    assert not_reloaded(second)


def test_the_page_of_a_unit_has_its_story_and_follows_its_output(server, open_page):
    server.submit("slow-one", prompt="count lines")
    page = open_page("/?unit=slow-one")

    page.locator(".unit-page .story li", has_text="submit").wait_for()
    page.locator(".unit-page .log", has_text="line 12").wait_for()
    assert page.locator(".unit-page .prompt").inner_text() == "count lines"
    page.reload()
    page.locator(".unit-page h2", has_text="slow-one").wait_for()
    (server.root / "stop-slow-one").touch()

    page.locator(".unit-page .status.DONE").wait_for()
    page.locator(".unit-page .story li", has_text="finish").wait_for()
    page.get_by_text("← Board").click()
    page.locator(".column.DONE .card").first.wait_for()


def test_a_priority_set_on_a_units_page_is_logged_like_every_change(server, open_page, wait_until):
    server.submit("fail-priority")
    page = open_page("/?unit=fail-priority")
    page.locator(".unit-page .status.NEEDS_ATTENTION").wait_for()

    page.get_by_label("Priority of fail-priority").fill("7")
    page.get_by_role("button", name="Set", exact=True).click()

    page.locator(".unit-page .story li", has_text="edit").wait_for()
    assert server.api("GET", "units/fail-priority")["priority"] == 7


def test_a_running_unit_is_cancelled_only_after_a_second_click(server, open_page, wait_until):
    server.submit("slow-cancel")
    page = open_page("/?unit=slow-cancel")
    button = page.locator(".actions .danger")

    button.click()
    assert "sure?" in button.inner_text() and server.status("slow-cancel") in ("READY", "RUNNING")
    button.click()

    wait_until(lambda: server.status("slow-cancel") == "CANCELLED")


def test_the_theme_that_was_chosen_outlives_a_reload(open_page):
    page = open_page()
    page.get_by_label("Toggle theme").click()
    page.locator('.console[data-theme="dark"]').wait_for()

    page.reload()

    page.locator('.console[data-theme="dark"]').wait_for()
    page.wait_for_function("getComputedStyle(document.body).backgroundColor !== 'rgb(255, 255, 255)'")


def test_dispatch_is_paused_and_resumed_from_the_page_in_every_browser(server, open_page, wait_until):
    first, second = open_page(), open_page()

    first.get_by_role("button", name="Pause dispatch").click()
    second.get_by_role("button", name="Resume dispatch").wait_for()
    server.submit("quick-held")
    assert server.status("quick-held") == "READY"
    second.get_by_role("button", name="Resume dispatch").click()

    wait_until(lambda: server.status("quick-held") == "DONE")


def test_the_form_submits_a_unit_and_says_in_place_what_is_wrong_with_one(server, open_page, wait_until):
    page = open_page()
    page.get_by_role("button", name="Submit a unit").click()
    page.get_by_label("Name", exact=True).fill("../etc")

    page.get_by_role("button", name="Submit", exact=True).click()
    wait_until(lambda: "../etc" in page.get_by_label("Not submitted").input_value())
    page.get_by_label("Name", exact=True).fill("quick-formed")
    page.get_by_role("button", name="Submit", exact=True).click()

    card(page, "quick-formed").wait_for()
    wait_until(lambda: server.status("quick-formed") == "DONE")


def test_nothing_that_units_and_agents_say_is_ever_executed(server, open_page):
    hostile = "\n".join(PAYLOADS)
    (server.root / "evil.txt").write_text(hostile + "\x1b]52;c;aGk=\x07\x1b[2J\0\n")
    messages = [
        {"type": "progress", "percent": 5, "step": hostile},
        {"type": "note", "level": "error", "message": hostile},
        {"type": "session", "id": PAYLOADS[0]},
        {"type": "ask", "question": hostile, "options": list(PAYLOADS)},
    ]
    (server.root / "evil.jsonl").write_text("".join(json.dumps(one) + "\n" for one in messages) + PAYLOADS[1] + "\n")
    server.submit("evil-unit", prompt=hostile)
    page = open_page()

    item(page, "evil-unit").wait_for()
    page.goto(server.info["url"] + "/?unit=evil-unit")
    page.locator(".unit-page .log", has_text="onerror").wait_for()
    page.locator(".unit-page .story li", has_text="onerror").first.wait_for()

    assert page.evaluate("window.__x") is None
    assert page.locator(".console img, .console iframe, .console script").count() == 0


def test_five_thousand_units_show_a_bounded_board_with_true_counts(server, open_page):
    server.api("POST", "dispatch", {"paused": True})
    server.submit(*(f"many-{number}" for number in range(5_000)))
    page = open_page()

    page.locator(".column.READY .count", has_text=re.compile(r"^5\d{3}$")).wait_for()
    cards = page.locator(".column.READY .card")
    assert 0 < cards.count() <= 60
    page.locator(".column.READY .more").click()
    cards.nth(159).wait_for()
    assert cards.count() == 160

    server.api("POST", "units/many-0/cancel", {})
    page.locator(".column.CANCELLED .card", has_text="many-0").wait_for()
    assert not_reloaded(page)


def test_after_a_crash_of_the_server_the_page_comes_back_by_itself_and_keeps_what_was_typed(
    browser, tmp_path, wait_until
):
    first = Server.of(tmp_path).wait(wait_until)
    first.submit("ask-crash")
    context = browser.new_context()
    page = context.new_page()
    page.set_default_timeout(60_000)
    page.goto(first.login_url())
    item(page, "ask-crash").locator("textarea").fill("half an ans")

    os.kill(first.process.pid, signal.SIGKILL)
    first.process.wait()
    page.locator(".banner.stale", has_text="connection is lost").wait_for()
    second = Server(tmp_path, first.info["port"]).wait(wait_until)
    try:
        page.locator(".console .dot.live").wait_for()
        box = item(page, "ask-crash").locator("textarea")
        box.wait_for()

        assert box.input_value() == "half an ans"
        box.type("wer")
        item(page, "ask-crash").get_by_role("button", name="Answer").click()
        wait_until(lambda: second.status("ask-crash") == "DONE")
    finally:
        context.close()
        second.end()
