"""The board with 10,000 units, in a real browser: found, sorted, scrolled, chosen and acted on."""

from __future__ import annotations

import json
import re

import pytest
from dashboard_kit import PAYLOADS, Server, not_reloaded

MANY = 10_000


@pytest.fixture(scope="module")
def server(tmp_path_factory, wait_until):
    """10,000 units that wait: dispatch is paused. Every third has the label `gpu`."""
    server = Server.of(tmp_path_factory.mktemp("project")).wait(wait_until)
    server.api("POST", "dispatch", {"paused": True})
    units = [
        {"name": f"many-{number}", "priority": number % 7, "labels": ["gpu"] if number % 3 == 0 else []}
        for number in range(MANY)
    ]
    server.api("POST", "units", {"units": units})
    yield server
    server.end()


@pytest.fixture
def board(open_page):
    def open_board(args: str = "", **options):
        page = open_page(f"/?page=board{args}", **options)
        page.locator(".board .column").first.wait_for(state="attached")
        return page

    return open_board


def column(page, status: str):
    return page.locator(f".board .column.{status}")


def card(page, name: str):
    return page.locator(".board .card", has=page.get_by_role("link", name=name, exact=True))


def counted(page, status: str, number: int):
    """Wait until a column counts so many."""
    column(page, status).locator("h3 .count", has_text=re.compile(f"^{number:,}$")).wait_for(state="attached")


def names(page, status: str) -> list[str]:
    return column(page, status).locator(".unit-link").all_inner_texts()


def matching(page, words: str):
    page.locator(".matching", has_text=words).wait_for()


FOCUSED = """() => {
  let at = document.activeElement
  while (at?.shadowRoot?.activeElement) at = at.shadowRoot.activeElement
  return at?.closest('.card')?.querySelector('.unit-link').textContent ?? ''
}"""


def focus_is_on(page, name: str) -> None:
    page.wait_for_function(f"name => ({FOCUSED})() === name", arg=name)


def test_ten_thousand_units_are_counted_and_scrolled_to_the_last_with_a_bounded_number_of_cards(server, board):
    page = board("&q=many&sort=oldest")
    counted(page, "READY", MANY)
    scroller = column(page, "READY").locator(".scroller")

    for share in (0.3, 0.7, 1.0):
        scroller.evaluate("(node, share) => { node.scrollTop = node.scrollHeight * share }", share)
        seen = int((MANY - 8) * share)
        page.wait_for_function(
            "([node, seen]) => [...node.querySelectorAll('.unit-link')].some((a) => +a.textContent.slice(5) >= seen)",
            arg=[scroller.element_handle(), seen],
        )

    card(page, f"many-{MANY - 1}").wait_for()
    assert column(page, "READY").locator(".card").count() < 60
    assert card(page, f"many-{MANY - 1}").evaluate(
        "node => node.getBoundingClientRect().bottom <= node.closest('.scroller').getBoundingClientRect().bottom"
    )


def test_a_filter_is_kept_in_the_address_and_survives_a_reload(server, board):
    page = board()
    matching(page, f"{MANY:,} units")

    page.keyboard.press("/")
    page.keyboard.type("label:gpu many-99")
    matching(page, "match")
    page.wait_for_function("location.search.includes('label')")
    found = {name for name in (f"many-{n}" for n in range(0, MANY, 3)) if "many-99" in name}
    matching(page, f"{len(found):,} of {MANY:,} match")
    page.reload()

    matching(page, f"{len(found):,} of {MANY:,} match")
    assert page.get_by_label("Filter units").input_value() == "label:gpu many-99"
    assert set(names(page, "READY")) <= found


def test_nothing_that_matches_is_said_in_words(server, board):
    page = board("&q=nowhere")

    page.get_by_text("No unit matches").wait_for()


def test_units_are_sorted_and_grouped_as_chosen(server, board):
    page = board()
    column(page, "READY").locator(".card").first.wait_for()
    assert names(page, "READY")[:3] == ["many-6", "many-13", "many-20"]

    page.get_by_label("Order").select_option("Newest first")
    page.locator(".card").nth(0).get_by_role("link", name=f"many-{MANY - 1}", exact=True).wait_for()
    page.get_by_label("Columns").select_option("by phase")
    page.locator(".column", has_text="RUN").locator(".card").first.wait_for()
    assert "group=phase" in page.url and "sort=newest" in page.url

    page.get_by_label("Order").select_option("Name")
    page.locator(".card").nth(2).get_by_role("link", name="many-2", exact=True).wait_for()


def test_cards_are_reached_chosen_and_opened_from_the_keyboard(server, board):
    page = board("&sort=oldest")
    card(page, "many-2").wait_for()

    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("k")
    focus_is_on(page, "many-1")
    page.keyboard.press("x")
    page.get_by_text("1 unit selected").wait_for()
    page.keyboard.press("Escape")
    page.get_by_text("1 unit selected").wait_for(state="hidden")
    page.keyboard.press("End")
    focus_is_on(page, f"many-{MANY - 1}")
    page.keyboard.press("Enter")

    page.wait_for_function("name => location.search === `?unit=${name}`", arg=f"many-{MANY - 1}")


def test_the_focus_the_choice_and_the_scroll_stay_while_thousands_of_units_change(server, board):
    page = board("&sort=newest")
    scroller = column(page, "READY").locator(".scroller")
    scroller.evaluate("node => { node.scrollTop = 96 * 500 }")
    kept = f"many-{MANY - 503}"
    card(page, kept).wait_for()
    card(page, kept).get_by_role("checkbox").check()
    card(page, kept).get_by_role("link").focus()
    card(page, kept).evaluate("node => { window.__card = node }")
    place = card(page, kept).evaluate("node => node.getBoundingClientRect().top")

    for start in (0, 1_000, 2_000):
        server.submit(*(f"late-{number}" for number in range(start, start + 1_000)))
    counted(page, "READY", MANY + 3_000)
    page.wait_for_function(
        "([scroller]) => Math.round(scroller.scrollTop / 96) === 3500", arg=[scroller.element_handle()]
    )

    focus_is_on(page, kept)
    same = "node => [node === window.__card, node.querySelector('.tick').checked, node.getBoundingClientRect().top]"
    assert card(page, kept).evaluate(same) == [True, True, pytest.approx(place, abs=2)]
    assert not_reloaded(page)
    cancel_all(page, "late-")
    counted(page, "READY", MANY)


def cancel_all(page, text: str) -> None:
    page.get_by_label("Filter units").fill(text)
    matching(page, "match")
    page.get_by_role("button", name=re.compile("Select all .* that match")).click()
    page.locator(".bulk").get_by_role("button", name="Cancel", exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name=re.compile("Cancel .* units")).click()
    page.locator(".toast", has_text="cancelled").wait_for()
    page.get_by_label("Filter units").fill("")


def test_a_range_is_chosen_with_shift_and_given_a_priority_at_once(server, board, wait_until):
    page = board("&sort=oldest")
    card(page, "many-1").get_by_role("checkbox").check()

    card(page, "many-4").get_by_role("checkbox").click(modifiers=["Shift"])
    page.get_by_text("4 units selected").wait_for()
    page.get_by_label("Priority of the selected units").fill("42")
    page.get_by_role("button", name="Set priority").click()
    page.get_by_role("dialog").get_by_role("button", name="Set priority").click()

    page.locator(".toast", has_text="4 units changed").wait_for()
    card(page, "many-4").get_by_text("priority 42").wait_for()
    page.get_by_text("selected").wait_for(state="hidden")
    assert [server.api("GET", f"units/many-{n}")["priority"] for n in range(6)] == [0, 42, 42, 42, 42, 5]


def test_who_was_not_moved_and_why_is_told_before_and_after(server, board):
    server.submit("held-one", "held-two", labels=["held"])
    server.api("POST", "units/held-one/pause", {})
    page = board("&q=label:held")
    for name in ("held-one", "held-two"):
        card(page, name).get_by_role("checkbox").check()

    page.locator(".bulk").get_by_role("button", name="Resume").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_text("1 Ready: left as it is").wait_for()
    dialog.get_by_role("button", name="Resume 1 unit").click()

    page.locator(".toast", has_text="1 unit resumed, 1 not. held-two: it is READY").wait_for()
    page.locator(".bulk").wait_for(state="hidden")


def test_states_that_need_a_person_are_told_by_glyph_and_words_too(server, board):
    server.submit("odd-one", labels=["odd"])
    server.api("POST", "units/odd-one/pause", {})
    page = board("&q=label:odd")

    one = card(page, "odd-one")
    one.wait_for()
    assert "‖" in one.inner_text() and "paused" in one.inner_text()


def test_a7_nothing_that_units_say_is_ever_executed_on_the_board(browser, tmp_path, wait_until):
    hostile = "\n".join(PAYLOADS) + "\x1b[2J\u202e" + "x" * 5_000
    server = Server.of(tmp_path).wait(wait_until)
    try:
        messages = [{"type": "progress", "percent": 5, "step": hostile}, {"type": "ask", "question": hostile}]
        (tmp_path / "evil.txt").write_text(hostile)
        (tmp_path / "evil.jsonl").write_text("".join(json.dumps(one) + "\n" for one in messages))
        server.submit("evil-unit", prompt=hostile, labels=["a" * 63])
        context = browser.new_context()
        page = context.new_page()
        page.goto(server.login_url())
        page.goto(server.info["url"] + "/?page=board&q=" + "%3Cimg%20src%3Dx%20onerror%3Dwindow.__x%3D1%3E")
        page.get_by_text("No unit matches").wait_for()
        page.get_by_label("Filter units").fill("")
        column(page, "NEEDS_ATTENTION").locator(".card", has_text="onerror").wait_for()

        assert page.evaluate("window.__x") is None
        assert page.locator(".board :is(img, iframe, script)").count() == 0
        assert page.locator(".card").evaluate("node => node.offsetHeight") == 88
        context.close()
    finally:
        server.end()


def test_on_a_narrow_window_one_column_is_seen_at_a_time_and_the_page_is_no_wider(server, board):
    page = board(viewport={"width": 400, "height": 800})
    column(page, "READY").locator(".card").first.wait_for()

    column(page, "READY").scroll_into_view_if_needed()

    assert 280 < column(page, "READY").bounding_box()["width"] < 360
    assert page.evaluate("document.documentElement.scrollWidth") <= 400


def test_all_ten_thousand_are_cancelled_with_one_confirmation(server, board):
    page = board("&q=many")
    counted(page, "READY", MANY)
    page.get_by_role("button", name=f"Select all {MANY:,} that match").click()
    page.get_by_text(f"{MANY:,} units selected").wait_for()
    card(page, "many-6").get_by_role("checkbox").uncheck()
    page.get_by_text(f"{MANY - 1:,} units selected").wait_for()

    page.locator(".bulk").get_by_role("button", name="Cancel", exact=True).click()
    page.get_by_role("dialog").get_by_text(f"{MANY - 1:,} Ready.").wait_for()
    page.get_by_role("dialog").get_by_role("button", name=f"Cancel {MANY - 1:,} units").click()

    page.locator(".toast", has_text=f"{MANY - 1:,} units cancelled").wait_for()
    counted(page, "READY", 1)
    counted(page, "CANCELLED", MANY - 1)
    assert names(page, "READY") == ["many-6"]
    assert not_reloaded(page)
