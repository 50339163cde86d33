"""What an operator sees of the whole: live in every open browser, without a reload, and nothing typed is ever lost."""

from __future__ import annotations

import json
import os
import re
import signal

import pytest
from dashboard_kit import PAYLOADS, Server, not_reloaded

PAGES = ("", "board", "timeline", "graph", "sessions", "events", "errors", "settings")


def item(page, unit: str):
    return page.locator(".queue .item", has=page.locator(".unit-link", has_text=unit))


def tile(page, status: str):
    return page.locator(f".tile.{status} .number")


def test_every_open_browser_sees_each_change_by_itself(server, open_page):
    pages = [open_page(), open_page()]

    server.submit("slow-seen", "fail-seen")

    for page in pages:
        page.get_by_label("Running now").get_by_text("slow-seen").wait_for()
        item(page, "fail-seen").wait_for()
    pages[1].get_by_label("Reason to accept").fill("seen by a person")
    item(pages[1], "fail-seen").get_by_role("button", name="Accept").click()
    (server.root / "stop-slow-seen").touch()
    for page in pages:
        item(page, "fail-seen").wait_for(state="detached")
        page.get_by_label("Running now").get_by_text("slow-seen").wait_for(state="detached")
        page.wait_for_function("document.title.startsWith('Overview')")
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


def test_the_form_submits_a_unit_with_every_field_and_says_in_place_what_is_wrong_with_one(
    server, open_page, wait_until
):
    page = open_page("/?page=settings")
    page.get_by_role("button", name="Submit a unit").click()
    page.get_by_label("Name", exact=True).fill("../etc")

    page.get_by_role("button", name="Submit", exact=True).click()
    wait_until(lambda: "../etc" in page.get_by_label("Not submitted").input_value())
    page.get_by_label("Name", exact=True).fill("quick-formed")
    page.get_by_label("Timeout (seconds)").fill("soon")
    page.get_by_role("button", name="Submit", exact=True).click()
    wait_until(lambda: "'soon'" in page.get_by_label("Not submitted").input_value())
    page.get_by_label("Timeout (seconds)").fill("90")
    page.get_by_label("Retries").fill("2")
    page.get_by_label("Labels (with commas)").fill("docs, small")
    page.get_by_role("button", name="Submit", exact=True).click()

    page.get_by_role("dialog").wait_for(state="hidden")
    wait_until(lambda: server.status("quick-formed") == "DONE")
    unit = server.api("GET", "units/quick-formed")
    assert (unit["timeout"], unit["retries"], unit["labels"]) == (90, 2, ["docs", "small"])


def test_each_page_has_an_address_that_survives_a_reload_and_the_way_back(server, open_page):
    page = open_page()

    for name in PAGES[1:]:
        page.get_by_role("navigation").get_by_role("link", name=name.capitalize()).click()
        page.wait_for_function(f"new URLSearchParams(location.search).get('page') === '{name}'")
    assert not_reloaded(page)
    page.reload()

    page.locator('.pages a[aria-current="page"]', has_text="Settings").wait_for()
    page.get_by_text("project", exact=False).first.wait_for()
    page.go_back()
    page.locator('.pages a[aria-current="page"]', has_text="Errors").wait_for()
    page.goto(server.info["url"] + "/?page=nowhere")
    page.get_by_text("There is no such page").wait_for()


def test_the_settings_page_tells_each_value_and_where_it_came_from(server, open_page):
    page = open_page("/?page=settings")

    slots = page.locator(".settings tr", has=page.get_by_role("rowheader", name=re.compile("^slots")).first).first
    slots.get_by_text("orchestrator.toml:").wait_for()
    assert slots.locator("code").first.inner_text() == "4"
    page.get_by_label("Find a setting").fill("grace")

    page.get_by_text("1 of").wait_for()
    assert page.locator(".settings tbody tr:visible").count() == 1
    assert "q=grace" in page.evaluate("location.search")


def test_what_an_operator_does_stands_in_the_log_under_the_name_that_was_chosen(server, open_page, wait_until):
    server.submit("slow-named")
    page = open_page()
    page.get_by_role("button", name=re.compile("^You: ")).click()
    page.get_by_label("Your name").fill("ana")
    page.get_by_role("button", name="Keep").click()
    page.get_by_role("button", name="You: ana").wait_for()

    page.get_by_role("button", name="Pause dispatch").click()
    page.get_by_role("button", name="Resume dispatch").click()
    page.get_by_role("button", name="Pause dispatch").wait_for()

    events = server.api(
        "POST", "query", {"sql": "SELECT actor FROM event WHERE type = 'dispatch' ORDER BY seq DESC LIMIT 1"}
    )
    assert "operator:ana" in json.dumps(events)
    page.reload()
    page.get_by_role("button", name="You: ana").wait_for()


def test_the_header_says_so_when_the_server_is_silent_and_when_it_is_live_again(server, open_page):
    page = open_page()
    page.locator(".connection", has_text=re.compile(r"live · \d+ ms")).wait_for()

    os.kill(server.process.pid, signal.SIGSTOP)
    try:
        page.locator(".connection", has_text="reconnecting").wait_for()
        page.get_by_text("What you see is from").wait_for()
    finally:
        os.kill(server.process.pid, signal.SIGCONT)

    page.locator(".connection", has_text=re.compile(r"live · \d+ ms")).wait_for()
    page.get_by_text("What you see is from").wait_for(state="hidden")


@pytest.fixture(scope="module")
def evil(server, wait_until) -> str:
    """A unit that says hostile things wherever it can; it waits for an answer."""
    hostile = "\n".join(PAYLOADS)
    (server.root / "evil.txt").write_text(hostile + "\x1b]52;c;aGk=\x07\x1b[2J\0\n")
    messages = [
        {"type": "progress", "percent": 5, "step": hostile},
        {"type": "note", "level": "error", "message": hostile},
        {"type": "session", "id": PAYLOADS[0]},
        {"type": "usage", "input_tokens": 5, "output_tokens": 5, "usd": 0.1, "model": PAYLOADS[0]},
        {"type": "ask", "question": hostile + "\n# [a](javascript:window.__x=9) **b**", "options": list(PAYLOADS)},
    ]
    (server.root / "evil.jsonl").write_text("".join(json.dumps(one) + "\n" for one in messages) + PAYLOADS[1] + "\n")
    server.submit("evil-unit", prompt=hostile)
    server.submit("evil-behind", after=["evil-unit"])
    wait_until(lambda: server.status("evil-unit") == "NEEDS_ATTENTION")
    return "evil-unit"


@pytest.mark.parametrize("name", [*PAGES, "unit"])
def test_a7_nothing_that_units_and_agents_say_is_ever_executed(server, open_page, evil, name):
    page = open_page(f"/?page={name}&unit={evil}" if name else "")
    page.locator(".screen", has_text=re.compile(".")).wait_for()
    if name in ("", "board", "unit", "events"):
        page.locator(".screen").get_by_text(evil).first.wait_for()
    if name == "unit":
        page.locator(".story li", has_text="onerror").first.wait_for()
    page.wait_for_load_state("networkidle")

    assert page.evaluate("window.__x") is None
    assert page.locator(".console img, .console iframe, .console script, .console a[href^=javascript]").count() == 0
    shell = page.locator(".console[data-theme]")
    assert shell.evaluate("node => node.scrollWidth <= document.documentElement.clientWidth + 1")


def test_f3_f26_after_a_crash_of_the_server_every_page_comes_back_by_itself_and_keeps_what_was_typed(
    browser, tmp_path, wait_until
):
    first = Server.of(tmp_path).wait(wait_until)
    first.submit("ask-crash", "quick-crash")
    context = browser.new_context()
    context.set_default_timeout(60_000)
    page = context.new_page()
    page.goto(first.login_url())
    item(page, "ask-crash").locator("textarea").fill("half an ans")
    places = ["?page=board&q=crash", "?page=events&unit=ask", "?unit=ask-crash&tab=output"]
    others = [context.new_page() for _ in places]
    for other, place in zip(others, places, strict=True):
        other.goto(f"{first.info['url']}/{place}")
        other.locator(".console .dot.live").wait_for()

    os.kill(first.process.pid, signal.SIGKILL)
    first.process.wait()
    page.locator(".banner.stale", has_text="connection is lost").wait_for()
    second = Server(tmp_path, first.info["port"]).wait(wait_until)
    try:
        for other in (page, *others):
            other.locator(".console .dot.live").wait_for()
        box = item(page, "ask-crash").locator("textarea")
        box.wait_for()
        assert box.input_value() == "half an ans"
        box.type("wer")
        item(page, "ask-crash").get_by_role("button", name="Answer").click()
        wait_until(lambda: second.status("ask-crash") == "DONE")

        board, events, unit = others
        board.locator(".column.DONE .card", has_text="ask-crash").wait_for()
        events.locator(".events-row", has_text="ask-crash").filter(has_text="finish").wait_for()
        unit.locator(".status.DONE").first.wait_for()
        assert [other.url.partition("/?")[2] for other in others] == [place[1:] for place in places]
    finally:
        context.close()
        second.end()
