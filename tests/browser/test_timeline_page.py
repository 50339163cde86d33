"""The timeline in a real browser: live, under the user's hand, and inert whatever is said."""

from __future__ import annotations

import re

import pytest
from dashboard_kit import PAYLOADS, not_reloaded

TIMELINE = "/?page=timeline"
#: The figure's time and bars, as the browser has them.
FIGURE = """() => {
  const models = Bokeh.documents.flatMap((one) => [...one._all_models.values()])
  const figure = models.find((one) => one.type === "Figure")
  const bars = figure?.renderers.find((one) => one.data_source.data.unit)
  if (!bars) return null
  const { start, end } = figure.x_range, data = bars.data_source.data
  const view = Bokeh.index.roots.flatMap((root) => [...find(root, figure)])[0]
  function* find(at, wanted) {
    if (at.model === wanted) yield at
    for (const child of at.child_views ?? []) yield* find(child, wanted)
  }
  const inner = view?.frame.bbox, place = view?.el.getBoundingClientRect()
  return { start, end, unit: [...data.unit], left: [...data.left], right: [...data.right], lane: [...data.lane],
    frame: inner && { x: place.x + inner.left, y: place.y + inner.top, width: inner.width, height: inner.height },
    ink: figure.below[0].major_label_text_color, top: figure.y_range.end, bottom: figure.y_range.start }
}"""


def figure(page) -> dict:
    return page.evaluate(FIGURE)


def await_bar(page, unit: str) -> None:
    page.wait_for_function(f"(unit) => ({FIGURE})()?.unit.includes(unit)", arg=unit)


def place_of(page, unit: str) -> tuple[float, float]:
    """Where the middle of the visible part of a unit's bar is on the page."""
    page.wait_for_function(f"() => ({FIGURE})()?.frame?.width > 0")
    now = figure(page)
    at, frame = now["unit"].index(unit), now["frame"]
    left, right = max(now["left"][at], now["start"]), min(now["right"][at], now["end"])
    along = ((left + right) / 2 - now["start"]) / (now["end"] - now["start"])
    down = (now["lane"][at] - now["top"]) / (now["bottom"] - now["top"])
    return frame["x"] + frame["width"] * along, frame["y"] + frame["height"] * down


@pytest.fixture
def ended(server, wait_until):
    """Units whose running attempt is let go at the end of a test."""
    names = []
    yield lambda name: (server.submit(name), names.append(name))
    for name in names:
        (server.root / f"stop-{name}").touch()


def test_before_anything_ran_the_page_says_what_it_will_show(server, open_page):
    page = open_page(TIMELINE)

    page.get_by_text("Nothing has run yet").wait_for()
    server.submit("first-bar")

    await_bar(page, "first-bar")
    page.get_by_text("Nothing has run yet").wait_for(state="hidden")
    assert not_reloaded(page)


def test_bars_come_and_grow_without_a_reload_while_the_page_follows_now(open_page, ended):
    page = open_page(TIMELINE + "&last=600000")

    ended("slow-live")
    await_bar(page, "slow-live")
    before = figure(page)
    page.wait_for_function(f"(end) => ({FIGURE})().end > end + 1000", arg=before["end"])

    after = figure(page)
    at = after["unit"].index("slow-live")
    assert after["right"][at] > before["right"][before["unit"].index("slow-live")]
    assert after["end"] - after["start"] == pytest.approx(600_000, abs=1)
    assert page.get_by_label("Follow now").is_checked() and not_reloaded(page)


def test_what_the_user_panned_and_zoomed_to_stays_while_bars_come(server, open_page, ended):
    ended("slow-zoomed")
    page = open_page(TIMELINE + "&last=600000")
    await_bar(page, "slow-zoomed")
    x, y = place_of(page, "slow-zoomed")
    page.mouse.move(x, y)
    page.mouse.wheel(0, -200)
    page.wait_for_function(f"() => {{ const now = ({FIGURE})(); return now.end - now.start < 590000 }}")
    assert page.get_by_label("Follow now").is_checked()

    page.mouse.down()
    page.mouse.move(x - 60, y, steps=5)
    page.mouse.up()
    told = "(now) => Math.abs(new URLSearchParams(location.search).get('from') - now.start) < 1"
    page.wait_for_function(f"() => ({told})(({FIGURE})())")  # the address and the picture agree
    stands = figure(page)
    server.submit("quick-meanwhile")
    await_bar(page, "quick-meanwhile")

    now = figure(page)
    assert [now["start"], now["end"]] == pytest.approx([stands["start"], stands["end"]], abs=1)
    assert not page.get_by_label("Follow now").is_checked()
    page.reload()
    await_bar(page, "quick-meanwhile")
    again = figure(page)
    assert [again["start"], again["end"]] == pytest.approx([stands["start"], stands["end"]], abs=1)


def test_a_click_on_a_bar_opens_its_unit_and_the_way_back_is_the_same_picture(open_page, ended):
    ended("slow-clicked")
    page = open_page(TIMELINE + "&last=60000&rows=phase")
    await_bar(page, "slow-clicked")
    wide = "(now) => { const at = now.unit.indexOf('slow-clicked'); return now.right[at] - now.left[at] > 2000 }"
    page.wait_for_function(f"() => ({wide})(({FIGURE})())")

    page.mouse.click(*place_of(page, "slow-clicked"))

    page.wait_for_url(re.compile(r"unit=slow-clicked"))
    page.go_back()
    await_bar(page, "slow-clicked")
    page.get_by_role("group", name="Rows").locator('[aria-pressed="true"]', has_text="phase").wait_for()
    assert not_reloaded(page)


def test_a7_the_hint_tells_the_story_and_nothing_that_is_said_there_is_executed(server, open_page, wait_until):
    hostile = " ".join(PAYLOADS)
    server.submit("ask-hostile")
    wait_until(lambda: server.status("ask-hostile") == "NEEDS_ATTENTION")
    server.api("POST", "units/ask-hostile/pause", {"reason": hostile})
    server.api("POST", "units/ask-hostile/resume", {"reason": hostile})
    wait_until(lambda: server.status("ask-hostile") == "NEEDS_ATTENTION")
    page = open_page(TIMELINE + "&last=60000")
    await_bar(page, "ask-hostile")
    hint = page.locator(".timeline-hint")

    def told() -> bool:
        x, y = place_of(page, "ask-hostile")
        page.mouse.move(x + 1, y)
        page.mouse.move(x, y)
        page.wait_for_timeout(400)  # the pointer rests
        return hint.is_visible() and "attempt" in hint.inner_text()

    wait_until(told)
    assert "ask-hostile" in hint.inner_text()
    page.get_by_label("Show as table").check()
    page.locator(".timeline-table tbody tr", has_text="ask-hostile").first.wait_for()

    assert page.evaluate("window.__x") is None
    assert page.locator(".console img, .console iframe, .console script").count() == 0


def test_the_table_lists_the_attempts_in_view_with_links_for_those_who_see_no_picture(server, open_page, wait_until):
    server.submit("fail-listed")
    wait_until(lambda: server.status("fail-listed") == "NEEDS_ATTENTION")
    page = open_page(TIMELINE)

    page.get_by_label("Show as table").check()

    row = page.locator(".timeline-table tbody tr", has_text="fail-listed").first
    row.get_by_text("failed").wait_for()
    row.get_by_role("link", name="fail-listed").press("Enter")
    page.wait_for_url(re.compile(r"unit=fail-listed"))


def test_bars_stand_where_the_clocks_of_the_browser_say(server, open_page, wait_until):
    server.submit("quick-zone")
    wait_until(lambda: server.status("quick-zone") == "DONE")
    here, there = open_page(TIMELINE, timezone_id="UTC"), open_page(TIMELINE, timezone_id="Asia/Kolkata")
    await_bar(here, "quick-zone")
    there.get_by_text("UTC+5:30").wait_for()

    def shift() -> float:
        one, other = (now["left"][now["unit"].index("quick-zone")] for now in map(figure, (here, there)))
        return other - one

    await_bar(there, "quick-zone")
    wait_until(lambda: shift() == pytest.approx(5.5 * 3_600_000, abs=1))


def test_the_picture_follows_the_theme(server, open_page):
    server.submit("quick-theme")
    page = open_page(TIMELINE)
    await_bar(page, "quick-theme")
    ink = f"() => ({FIGURE})().ink"
    before = page.evaluate(ink)

    page.get_by_label("Toggle theme").click()

    page.wait_for_function(f"(before) => ({ink})() !== before", arg=before)
