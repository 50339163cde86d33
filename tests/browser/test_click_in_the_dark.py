"""A click whose connection breaks in the middle: it is done once, and its operator is told."""

from __future__ import annotations

# Between the page and its socket, while `window.__dark` is set: what is said is lost ("asking"), or what is answered.
DARK = """
window.WebSocket = class extends window.WebSocket {
  constructor(...given) {
    super(...given)
    this.addEventListener("message", (event) => { if (window.__dark === "answer") event.stopImmediatePropagation() })
  }
  send(data) { if (window.__dark !== "asking") super.send(data) }
}
"""


def test_f8_a_click_whose_message_or_answer_is_lost_is_done_once_and_told(server, browser, wait_until):
    server.submit("fail-asking", "fail-answer")
    context = browser.new_context()
    context.add_init_script(DARK)
    context.set_default_timeout(40_000)
    pages = {lost: context.new_page() for lost in ("asking", "answer")}
    for lost, page in pages.items():
        page.goto(server.login_url())
        item = page.locator(".queue .item", has=page.locator(".unit-link", has_text=f"fail-{lost}"))
        item.get_by_label("Reason to accept").fill("seen by a person")
        page.locator(".console .dot.live").wait_for()

        page.evaluate("how => { window.__dark = how }", lost)
        item.get_by_role("button", name="Accept").click()
    wait_until(lambda: server.status("fail-answer") == "DONE")

    for lost, page in pages.items():  # the silence is noticed, and the page comes back by itself
        page.get_by_text(f"accept fail-{lost}: done").wait_for()
        story = server.api("GET", f"units/fail-{lost}/story")["transitions"]
        assert [row["trigger"] for row in story].count("accept") == 1
        assert page.evaluate("sessionStorage.getItem('orch-unanswered')") == "[]"
    context.close()
