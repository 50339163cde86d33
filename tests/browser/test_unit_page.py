"""The page of one unit in a real browser: story, attempts, actions, edits, and comments on its changes."""

from __future__ import annotations

import subprocess

import pytest
from dashboard_kit import PAYLOADS, Server, not_reloaded
from playwright.sync_api import expect

expect.set_options(timeout=40_000)

WORKER = """
case "$ORCH_UNIT:$ORCH_PHASE" in
  note*:*) while [ ! -e "$ORCH_PROJECT/stop-$ORCH_UNIT" ]; do sleep 0.1; done ;;
  *:IMPLEMENT) printf 'def add(a, b):\\n    return sum((a, b))  # <img src=x onerror=window.__x=1>\\n' > calc.py
    printf '<script>window.__x=2</script>\\n' > page.html; seq 1 2500 > big.txt
    if [ -e "$ORCH_PROJECT/more" ]; then echo more > more.txt; fi
    git add -A; git -c user.name=A -c user.email=a@x commit -qm work
    printf '{"type":"usage","input_tokens":1200,"output_tokens":30,"usd":0.5}\\n' >> "$ORCH_EVENTS" ;;
  *:REVIEW) [ -n "$ORCH_ANSWER" ] || { printf '{"type":"ask","question":"Good?"}\\n' >> "$ORCH_EVENTS"; exit 0; } ;;
esac
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory, wait_until):
    """A repository whose units change a file, then ask whether that is good."""
    root = tmp_path_factory.mktemp("changes")
    (root / "calc.py").write_text("def add(a, b):\n    return a + b\n")
    (root / "agent.sh").write_text(WORKER)
    (root / "orchestrator.toml").write_text(
        '[project]\nslots = 4\ngrace = 1\n[workflow]\nphases = ["IMPLEMENT", "REVIEW"]\n'
        f'[phases.REVIEW]\nkind = "agent"\n[agents.sh]\ncommand = ["/bin/sh", "{root / "agent.sh"}"]\n'
    )
    for words in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-qm", "first"]):
        subprocess.run(["git", "-c", "user.name=T", "-c", "user.email=t@x", *words], cwd=root, check=True)
    server = Server(root).wait(wait_until)
    yield server
    for name in ("note-edit", "note-cancel", "note-evil"):
        (root / f"stop-{name}").touch()
    server.end()


@pytest.fixture(scope="module")
def reviewed(server, wait_until) -> str:
    """A unit that has changed files and asks whether that is good."""
    server.submit("change", prompt="use sum")
    wait_until(lambda: server.status("change") == "NEEDS_ATTENTION")
    return "change"


def test_the_page_shows_story_attempts_and_what_they_used(reviewed, open_page):
    page = open_page(f"/?unit={reviewed}")

    page.locator(".story li", has_text="submit").wait_for()
    asked = page.locator(".story li", has=page.get_by_text("ask", exact=True), has_text="NEEDS_ATTENTION")
    expect(asked.locator(".stayed")).to_contain_text("after")
    expect(page.locator(".attempts tbody tr")).to_have_count(2)
    expect(page.locator(".attempts tbody tr").last).to_contain_text("1,200 tokens in")
    expect(page.locator(".stepper .now")).to_contain_text("REVIEW")
    expect(page.locator(".queue .item")).to_contain_text("Good?")


def test_a_comment_on_a_line_goes_to_the_next_attempt_and_survives_a_reload_half_typed(reviewed, server, open_page):
    page = open_page(f"/?unit={reviewed}&tab=changes")
    line = page.locator(".dl.add", has_text="return sum")
    line.click()
    page.get_by_label("Comment on calc.py, line 2").fill("what of strings?")

    page.reload()
    box = page.get_by_label("Comment on calc.py, line 2")
    expect(box).to_have_value("what of strings?")
    box.press("Control+Enter")

    page.locator(".noted", has_text="what of strings?").wait_for()
    expect(box).to_have_count(0)
    assert server.api("GET", f"units/{reviewed}")["comments"] == ["calc.py:2: what of strings?"]
    page.get_by_role("tab", name="Overview").click()
    expect(page.locator(".facts .comments")).to_contain_text("calc.py:2: what of strings?")


def test_lines_are_walked_and_commented_with_the_keyboard_and_signs_tell_what_colours_do(reviewed, open_page):
    page = open_page(f"/?unit={reviewed}&tab=changes")
    removed = page.locator(".dl.del", has_text="return a + b")
    expect(removed.locator(".sign")).to_have_text("-")
    expect(page.locator(".dl.add", has_text="return sum").locator(".sign")).to_have_text("+")
    expect(page.locator(".dl .t-k", has_text="def").first).to_be_visible()

    page.locator(".diff-file", has=page.locator(".path", has_text="calc.py")).locator(".dl").first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")

    expect(page.get_by_label("Comment on calc.py, line 2")).to_be_focused()
    page.keyboard.press("Escape")
    expect(removed).to_be_focused()


def test_a_large_file_is_loaded_when_it_is_opened(reviewed, open_page):
    page = open_page(f"/?unit={reviewed}&tab=changes")
    file = page.locator(".diff-file", has=page.locator(".path", has_text="big.txt"))
    expect(file).to_contain_text("large: 2,500 lines")
    expect(file.locator(".dl")).to_have_count(0)

    file.get_by_role("button", name="big.txt").click()

    expect(file.locator(".dl.add")).to_have_count(2500)


def test_a7_what_code_and_units_say_is_text_on_every_part_of_the_page(reviewed, server, open_page):
    server.submit("note-evil", prompt="\n".join(PAYLOADS))
    page = open_page(f"/?unit={reviewed}&tab=changes")
    page.locator(".dl", has_text="onerror").wait_for()
    page.locator(".dl", has_text="<script>").wait_for()
    assert page.evaluate("window.__x") is None

    page.goto(server.info["url"] + "/?unit=note-evil")
    page.locator(".prompt", has_text="srcdoc").wait_for()

    assert page.evaluate("window.__x") is None
    assert page.locator(".console img, .console iframe, .console script").count() == 0


def test_newer_commits_are_announced_and_shown_when_asked_for(server, open_page, wait_until):
    server.submit("change-more")
    wait_until(lambda: server.status("change-more") == "NEEDS_ATTENTION")
    page = open_page("/?unit=change-more&tab=changes")
    page.locator(".dl.add", has_text="return sum").wait_for()

    (server.root / "more").touch()
    server.api("POST", "units/change-more/retry", {"phase": "IMPLEMENT"})
    button = page.get_by_role("button", name="Newer changes: show")
    button.wait_for()
    assert page.locator(".diff-file .path", has_text="more.txt").count() == 0
    button.click()

    page.locator(".diff-file .path", has_text="more.txt").wait_for()
    assert not_reloaded(page)


def test_an_edit_of_an_outdated_version_is_refused_says_what_changed_and_keeps_what_was_typed(server, open_page):
    server.submit("note-edit", prompt="old", labels=["one"])
    server.api("POST", "units/note-edit/pause", {})  # else the scheduler changes the version as well, at any time
    page = open_page("/?unit=note-edit")
    page.get_by_role("button", name="Edit…").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("What is asked").fill("mine")
    version = server.api("GET", "units/note-edit")["version"]
    server.api("POST", "units/note-edit/resume", {})
    server.api("POST", "units/note-edit/pause", {})

    dialog.get_by_role("button", name="Save").click()

    expect(dialog.locator(".edit-note")).to_contain_text(f"you saw version {version}")
    expect(dialog.get_by_label("What is asked")).to_have_value("mine")
    dialog.get_by_role("button", name="Save over that").click()
    expect(dialog).to_have_count(0)
    expect(page.locator(".prompt")).to_have_text("mine")


def test_a_unit_is_cancelled_only_after_a_confirmation_and_then_reopened(server, open_page, wait_until):
    server.submit("note-cancel")
    page = open_page("/?unit=note-cancel")
    page.get_by_role("button", name="Cancel the unit…").click()
    assert server.status("note-cancel") in ("READY", "RUNNING")

    page.get_by_role("dialog").get_by_role("button", name="Cancel the unit").click()

    page.locator(".unit-page .status.CANCELLED").first.wait_for()
    page.get_by_role("button", name="Reopen").click()
    wait_until(lambda: server.status("note-cancel") in ("READY", "RUNNING"))
    assert not_reloaded(page)


def test_a_unit_that_does_not_exist_is_said_plainly(open_page):
    page = open_page("/?unit=nothing-here")

    page.get_by_text("There is no unit “nothing-here”").wait_for()
    page.get_by_role("link", name="See all units on the board").click()
    page.wait_for_url("**/?page=board")


def test_the_tab_is_kept_in_the_address_and_a_phone_wide_page_does_not_scroll_sideways(server, open_page):
    name = "x" * 100
    server.submit(name, prompt="y" * 400)
    page = open_page(f"/?unit={name}", viewport={"width": 400, "height": 800})

    page.get_by_role("tab", name="Output").click()
    page.wait_for_url("**&tab=output")
    page.reload()

    expect(page.get_by_role("tab", name="Output")).to_have_attribute("aria-selected", "true")
    for tab in ("Overview", "Changes"):
        page.get_by_role("tab", name=tab).click()
        assert page.evaluate("document.documentElement.scrollWidth <= 400")
