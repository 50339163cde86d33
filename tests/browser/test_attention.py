"""The attention queue in a real browser: who was first is said, nothing typed is lost, many are settled at once."""

from __future__ import annotations

import json

import pytest
from dashboard_kit import PAYLOADS, Server, not_reloaded

#: Records what a page would have shown to the user; the rest of a browser's notifications is not ours.
NOTIFICATIONS = """
window.__shown = []
window.Notification = class {
  static get permission() { return localStorage.getItem("test-permission") ?? "default" }
  static requestPermission() { localStorage.setItem("test-permission", "granted"); return Promise.resolve("granted") }
  constructor(title, options) { this.title = title; this.options = options; window.__shown.push(this) }
  close() {}
}
"""


def item(page, unit: str):
    return page.locator(".queue .item", has=page.locator(".unit-link", has_text=unit))


@pytest.fixture
def as_operator(open_page, server):
    """Open the dashboard as the browser of somebody who goes by this name."""

    def open_one(name: str, path: str = ""):
        kept = [{"name": "orch-operator", "value": name}]
        return open_page(path, storage_state={"origins": [{"origin": server.info["url"], "localStorage": kept}]})

    return open_one


@pytest.fixture(autouse=True)
def nothing_is_left_open(server):
    yield
    while items := server.api("GET", "attention")["items"]:
        for unit in {one["unit"] for one in items}:
            server.api("POST", f"units/{unit}/cancel", {})


def asking(server: Server, wait_until, *names: str) -> None:
    """Submit units whose agents ask a question, and wait until they have."""
    server.submit(*names)
    wait_until(lambda: all(server.status(name) == "NEEDS_ATTENTION" for name in names), timeout=60)


def test_of_two_operators_the_second_is_told_who_was_first_and_keeps_what_was_typed(server, as_operator, wait_until):
    asking(server, wait_until, "ask-both")
    ana, bob = as_operator("ana"), as_operator("bob")
    box = item(bob, "ask-both").locator("textarea")
    box.fill("sqlite, becau")

    item(ana, "ask-both").get_by_role("button", name="postgres").click()

    item(ana, "ask-both").wait_for(state="detached")
    item(bob, "ask-both").get_by_text("answered by ana: postgres").wait_for()
    assert box.input_value() == "sqlite, becau"
    assert box.evaluate("node => node.readOnly && node.getRootNode().activeElement === node")
    assert item(bob, "ask-both").get_by_role("button", name="Answer").count() == 0
    wait_until(lambda: server.status("ask-both") == "DONE")
    item(bob, "ask-both").get_by_role("button", name="Put away").click()
    item(bob, "ask-both").wait_for(state="detached")
    assert not_reloaded(bob)


def test_a_decision_that_comes_too_late_is_refused_with_who_was_first(server, as_operator, wait_until):
    asking(server, wait_until, "ask-late")
    bob = as_operator("bob")
    item(bob, "ask-late").wait_for()
    number = int(item(bob, "ask-late").get_attribute("data-item"))
    item(bob, "ask-late").locator("textarea").fill("sqlite")
    # Bob's page hears nothing of what happens now, as on a slow line.
    bob.evaluate("""() => { const socket = WebSocket.prototype
      window.__held = socket.send; socket.send = function (...said) { (window.__late ??= []).push([this, said]) } }""")
    item(bob, "ask-late").get_by_role("button", name="Answer").click()
    server.api("POST", "units/ask-late/answer", {"text": "postgres", "item": number})
    bob.evaluate("""() => { WebSocket.prototype.send = window.__held
      for (const [socket, said] of window.__late) socket.send(...said) }""")

    bob.locator(".toast.is-error", has_text=f"item {number} of ask-late was answered by").wait_for()
    item(bob, "ask-late").get_by_text("answered by").wait_for()
    assert item(bob, "ask-late").locator("textarea").input_value() == "sqlite"


def test_drafts_survive_a_reload_and_end_with_their_item(server, as_operator, wait_until):
    asking(server, wait_until, "ask-kept", "ask-gone")
    page = as_operator("ana")
    item(page, "ask-kept").locator("textarea").fill("half an ans")
    item(page, "ask-gone").locator("textarea").fill("never sent")
    page.goto("about:blank")
    server.api("POST", "units/ask-gone/answer", {"text": "postgres"})
    wait_until(lambda: server.status("ask-gone") == "DONE")

    page.goto(server.info["url"])
    item(page, "ask-gone").get_by_text("answered by").wait_for()
    assert item(page, "ask-gone").locator("textarea").input_value() == "never sent"
    box = item(page, "ask-kept").locator("textarea")
    assert box.input_value() == "half an ans"
    box.press("End")
    box.type("wer")
    box.press("Control+Enter")

    item(page, "ask-kept").wait_for(state="detached")
    item(page, "ask-gone").get_by_role("button", name="Put away").click()
    wait_until(lambda: server.status("ask-kept") == "DONE")
    assert page.evaluate("Object.keys(sessionStorage).filter((key) => key.startsWith('orch-draft')).length") == 0


def test_a_card_in_which_somebody_types_is_not_moved_until_they_leave_it(server, as_operator, wait_until):
    asking(server, wait_until, "ask-one")
    asking(server, wait_until, "ask-two")
    page = as_operator("ana")
    box = item(page, "ask-one").locator("textarea")
    box.fill("let me thi")
    box.evaluate("node => { window.__box = node; node.setSelectionRange(2, 5) }")

    server.submit("behind-1", "behind-2", after=["ask-two"])
    asking(server, wait_until, "ask-three")
    item(page, "ask-three").wait_for()
    item(page, "ask-two").get_by_text("2 wait for it").wait_for()

    units = page.locator(".queue .items .unit-link")
    assert units.first.inner_text() == "ask-one"
    assert box.evaluate("node => node === window.__box && node.getRootNode().activeElement === node")
    assert box.evaluate("node => [node.selectionStart, node.selectionEnd]") == [2, 5]
    box.blur()
    wait_until(lambda: units.first.inner_text() == "ask-two")
    assert box.input_value() == "let me thi"


def test_one_answer_settles_every_question_that_was_selected(server, as_operator, wait_until):
    names = [f"ask-many-{number}" for number in range(6)]
    asking(server, wait_until, *names)
    server.submit("fail-many")
    page = as_operator("ana")
    item(page, "fail-many").wait_for()

    page.get_by_role("button", name="6 questions", exact=True).click()
    page.get_by_text("6 selected").wait_for()
    item(page, names[0]).get_by_role("checkbox").uncheck()
    page.get_by_label("One answer for all that are selected").fill("mysql")
    page.get_by_role("button", name="Answer 5 questions").click()

    page.locator(".toast", has_text="5 of 5 done").wait_for()
    wait_until(lambda: all(server.status(name) == "DONE" for name in names[1:]))
    item(page, names[0]).wait_for()
    assert server.status(names[0]) == server.status("fail-many") == "NEEDS_ATTENTION"
    page.get_by_role("button", name="all 2", exact=True).click()
    page.get_by_role("button", name="Cancel 2").click()
    page.get_by_role("dialog").get_by_role("button", name="Back").click()
    assert server.status("fail-many") == "NEEDS_ATTENTION"
    page.get_by_role("button", name="Cancel 2").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel 2").click()
    wait_until(lambda: server.status("fail-many") == server.status(names[0]) == "CANCELLED")


def test_a_dismissed_item_stands_apart_no_longer_counts_and_can_still_be_answered(server, as_operator, wait_until):
    asking(server, wait_until, "ask-aside")
    page = as_operator("ana")
    item(page, "ask-aside").wait_for()
    page.wait_for_function("document.title.startsWith('(1) ')")

    item(page, "ask-aside").get_by_role("button", name="Dismiss").click()

    page.wait_for_function("!document.title.startsWith('(')")
    item(page, "ask-aside").wait_for(state="detached")
    page.get_by_text("Dismissed (1)").click()
    item(page, "ask-aside").get_by_role("button", name="ask-aside asks").click()
    item(page, "ask-aside").get_by_role("button", name="postgres").click()
    wait_until(lambda: server.status("ask-aside") == "DONE")
    page.get_by_text("Dismissed (1)").wait_for(state="hidden")


def test_a7_what_agents_ask_is_text_with_links_that_lead_out_safely_and_runs_nothing(server, as_operator, wait_until):
    hostile = "\n".join(
        [
            *PAYLOADS,
            "**bold** [click](javascript:window.__x=4) ![i](x) `code`",
            "see https://example.org/a?b=1). and javascript:alert(1)",
            "\u202edesrever\u202c \x1b[31mred\x1b[0m",
            "x" * 3_000,
        ]
    )
    asked = {"type": "ask", "question": hostile, "options": [*PAYLOADS, "o" * 500]}
    (server.root / "evil.txt").write_text("")
    (server.root / "evil.jsonl").write_text(json.dumps(asked) + "\n")
    asking(server, wait_until, "evil-asker")
    page = as_operator("ana")
    card = item(page, "evil-asker")
    card.wait_for()

    card.get_by_role("button", name="Show all").click()
    page.locator(".queue .words.open", has_text="x" * 2_900).wait_for()
    words = card.locator(".words")
    assert "**bold** [click](javascript:window.__x=4)" in words.inner_text()
    links = words.locator("a")
    assert [one.get_attribute("href") for one in links.all()] == ["https://example.org/a?b=1"]
    assert (links.first.get_attribute("rel"), links.first.get_attribute("target")) == ("noopener noreferrer", "_blank")
    assert card.locator("img, iframe, script").count() == 0
    page.set_viewport_size({"width": 400, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    card.get_by_role("button", name=PAYLOADS[0]).click()

    said = f"answered: {PAYLOADS[0]}"
    wait_until(lambda: said in [row["reason"] for row in server.api("GET", "units/evil-asker/story")["transitions"]])
    assert page.evaluate("window.__x") is None


def shown(page) -> list:
    return page.evaluate("window.__shown.map((one) => [one.title, one.options.body, one.options.tag])")


def test_a_notification_comes_only_to_those_who_want_it_once_for_many_and_leads_there(server, as_operator, wait_until):
    asking(server, wait_until, "ask-before")
    page = as_operator("ana")
    page.context.add_init_script(NOTIFICATIONS)
    page.context.clock.install()
    page.reload()
    item(page, "ask-before").wait_for()
    other = page.context.new_page()
    other.goto(server.info["url"])
    item(other, "ask-before").wait_for()
    bell = page.get_by_role("button", name="Notify me")
    assert bell.get_attribute("aria-pressed") == "false"
    bell.click()
    page.get_by_role("button", name="Notifies").wait_for()

    asking(server, wait_until, "ask-bell-1", "ask-bell-2")
    for one in (page, other):
        item(one, "ask-bell-2").wait_for()
    assert shown(page) + shown(other) == []
    page.context.clock.fast_forward(5_000)

    # Two tabs that speak in the same moment use the same tag, and so are one notification to the browser.
    (told,) = {tuple(one) for one in shown(page) + shown(other)}
    assert told[0] == "2 things need you"
    assert sorted(told[1].split("\n")) == ["ask-bell-1 asks: Which database?", "ask-bell-2 asks: Which database?"]
    asking(server, wait_until, "ask-bell-3")
    for one in (page, other):
        item(one, "ask-bell-3").wait_for()
    page.context.clock.fast_forward(5_000)
    single = page if len(shown(page)) > (list(told) in shown(page)) else other
    assert single.evaluate("window.__shown.at(-1).options.body") == "ask-bell-3 asks: Which database?"
    single.evaluate("window.__shown.at(-1).onclick()")
    single.wait_for_url("**/?unit=ask-bell-3")

    page.get_by_role("button", name="Notifies").click()
    other.get_by_role("button", name="Notify me").wait_for()


def test_a_browser_that_refuses_notifications_has_the_reason_told(as_operator):
    page = as_operator("ana")
    page.context.add_init_script(NOTIFICATIONS + "localStorage.setItem('test-permission', 'denied')")
    page.reload()

    page.get_by_role("button", name="Notify me").click()

    page.locator(".toast.is-error", has_text="The browser refuses notifications").wait_for()
    assert page.get_by_role("button", name="Notify me").get_attribute("aria-pressed") == "false"
