"""The graph page in a browser: drawn once, live after that, and reachable by keyboard."""

from __future__ import annotations

import pytest
from dashboard_kit import not_reloaded
from playwright.sync_api import TimeoutError as TooLate


@pytest.fixture(scope="module", autouse=True)
def units(server):
    server.api("POST", "dispatch", {"paused": True})
    server.submit("ask-root")
    server.submit("middle", after=["ask-root"])
    server.submit("end-of-it", after=["middle"])
    server.submit("side", after=["ask-root"])
    server.submit("alone")


def node(page, name: str):
    return page.locator(f'.graph .node[data-unit="{name}"]')


def test_units_that_depend_on_each_other_are_drawn_and_the_critical_path_is_marked(open_page):
    page = open_page("/?page=graph")

    node(page, "end-of-it").wait_for()

    assert node(page, "alone").count() == 0
    page.get_by_text("1 without dependencies").wait_for()
    assert page.locator(".node.on-path").count() == 3 and page.locator(".edge.on-path").count() == 2
    page.get_by_text("Critical path: 3 units").wait_for()


def test_a_change_of_status_is_shown_without_drawing_the_graph_anew(server, open_page):
    page = open_page("/?page=graph")
    node(page, "side").wait_for()
    node(page, "side").evaluate("one => { one.__same = true }")
    page.get_by_role("button", name="Zoom in").click()
    view = page.locator(".graph-picture").get_attribute("viewBox")

    server.api("POST", "units/side/pause", {})

    page.locator('.node.PAUSED[data-unit="side"]').wait_for()
    assert node(page, "side").evaluate("one => one.__same") and not_reloaded(page)
    assert page.locator(".graph-picture").get_attribute("viewBox") == view
    server.api("POST", "units/side/resume", {})


def test_changes_of_units_that_are_not_shown_leave_the_picture_alone(server, open_page):
    page = open_page("/?page=graph&q=middle")
    middle = node(page, "middle").element_handle()

    server.api("POST", "units/side/pause", {})
    server.api("POST", "units/middle/pause", {})
    page.locator('.node.PAUSED[data-unit="middle"]').wait_for()

    with pytest.raises(TooLate):  # longer than the pause between two drawings
        page.wait_for_function("one => !one.isConnected", arg=middle, timeout=2_500)
    server.api("POST", "units/middle/resume", {})
    server.api("POST", "units/side/resume", {})


def test_a_unit_that_is_reopened_is_drawn_again(server, open_page):
    server.submit("withdrawn", after=["ask-root"])
    server.api("POST", "units/withdrawn/cancel", {})
    page = open_page("/?page=graph")
    node(page, "side").wait_for()
    assert node(page, "withdrawn").count() == 0

    server.api("POST", "units/withdrawn/reopen", {})

    node(page, "withdrawn").wait_for()
    server.api("POST", "units/withdrawn/cancel", {})


def test_a_unit_that_does_not_exist_is_said_to_be_missing(open_page):
    page = open_page("/?page=graph&unit=nowhere")

    page.get_by_text("There is no unit nowhere.").wait_for()


def test_a_new_dependency_appears_by_itself(server, open_page):
    page = open_page("/?page=graph")
    node(page, "side").wait_for()

    server.submit("late", after=["alone"])

    node(page, "late").wait_for()
    node(page, "alone").wait_for()
    server.api("POST", "units/late/cancel", {})


def test_arrows_go_along_the_edges_and_enter_opens_the_unit(open_page):
    page = open_page("/?page=graph")
    node(page, "ask-root").focus()

    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")

    page.wait_for_function("new URLSearchParams(location.search).get('unit') === 'ask-root'")
    page.go_back()
    node(page, "middle").wait_for()


def test_the_graph_of_one_unit_and_a_filter_stand_in_the_address(open_page):
    page = open_page("/?page=graph&unit=side")
    node(page, "side").wait_for()
    assert sorted(page.locator(".node").evaluate_all("all => all.map(one => one.dataset.unit)")) == ["ask-root", "side"]

    page.get_by_role("button", name="Around side").click()
    node(page, "middle").wait_for()
    page.get_by_label("Filter the graph").fill("mid")

    node(page, "side").wait_for(state="detached")
    page.wait_for_function("location.search.includes('q=mid') && !location.search.includes('unit')")


def test_a_thousand_units_are_drawn_and_the_rest_is_said(server, open_page):
    names = [f"big-{number}" for number in range(1_100)]
    units = [
        {"name": name, "after": [names[at // 2], names[at // 3]][: 1 + at % 2] if at else []}
        for at, name in enumerate(names)
    ]
    for unit in units:
        unit["after"] = sorted({one for one in unit["after"] if one != unit["name"]})
    server.api("POST", "units", {"units": units})
    page = open_page("/?page=graph&q=big-")

    node(page, "big-0").wait_for()
    page.get_by_text("100 less important ones are not shown").wait_for()

    assert page.locator(".node").count() == 1_000
