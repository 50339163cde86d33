"""The page of sessions: real processes that talk, fall silent, die and wait, as an operator sees and stops them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from dashboard_kit import PAYLOADS, Server, not_reloaded

TALKER = r"""
emit() { printf '%s\n' "$1" >> "$ORCH_EVENTS"; }
mkdir "$ORCH_PROJECT/live-$ORCH_UNIT" || touch "$ORCH_PROJECT/two-live-$ORCH_UNIT"
trap 'sleep 0.3; rmdir "$ORCH_PROJECT/live-$ORCH_UNIT"; exit 1' TERM
case $ORCH_UNIT in
  talks*)
    emit "{\"type\":\"session\",\"id\":\"talk-of-$ORCH_UNIT\"}"
    emit '{"type":"progress","percent":40,"iteration":3,"step":"reading the code"}'
    emit '{"type":"usage","input_tokens":1000,"output_tokens":30,"usd":0.25}'
    emit '{"type":"usage","input_tokens":200,"output_tokens":4,"usd":0.25}' ;;
  dies*) [ "$ORCH_ATTEMPT" -gt 1 ] || { rmdir "$ORCH_PROJECT/live-$ORCH_UNIT"; kill -9 $$; } ;;
  asks*) emit '{"type":"ask","question":"Which database?"}' ;;
  evil*) cat "$ORCH_PROJECT/evil.jsonl" >> "$ORCH_EVENTS" ;;
esac
said=
while [ ! -e "$ORCH_PROJECT/stop-$ORCH_UNIT" ]; do
  more="$ORCH_PROJECT/say-$ORCH_UNIT"
  if [ -z "$said" ] && [ -e "$more" ]; then cat "$more" >> "$ORCH_EVENTS"; said=1; fi
  case $ORCH_UNIT in mute*) ;; *) emit '{"type":"heartbeat"}' ;; esac
  sleep 0.2
done
rmdir "$ORCH_PROJECT/live-$ORCH_UNIT"
"""
SETTINGS = """
[health]
stale = 3
stuck = 5
[agents.talker]
command = ["/bin/sh", "{agent}"]
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory, wait_until):
    root = tmp_path_factory.mktemp("sessions")
    (root / "talker.sh").write_text(TALKER)
    server = Server.of(root, SETTINGS.format(agent=root / "talker.sh")).wait(wait_until)
    yield server
    server.end()


@pytest.fixture
def start(server, wait_until):
    """Submit units that the talker runs; what is left of them is cancelled in the end."""
    began = []

    def start(*names: str) -> None:
        server.submit(*names, agent="talker")
        began.extend(names)

    yield start
    for name in began:
        if server.status(name) not in ("DONE", "CANCELLED"):
            server.api("POST", f"units/{name}/cancel", {})
    wait_until(lambda: not list(server.root.glob("live-*")), what="the end of every attempt")


def row(page, name: str):
    return page.locator(f'.sessions-table tr[data-unit="{name}"]')


def restart(page, name: str) -> None:
    row(page, name).get_by_role("button", name=f"Restart {name}").click()
    page.get_by_role("dialog").get_by_text("the phase starts again").wait_for()
    page.get_by_role("dialog").get_by_role("button", name="Restart", exact=True).click()


def say(server: Server, name: str, **message) -> None:
    """Have a running unit say something more."""
    written = server.root / f"saying-{name}"
    written.write_text(json.dumps(message) + "\n")
    written.rename(server.root / f"say-{name}")


def test_a_session_shows_what_its_agent_says_and_uses_as_it_happens(server, open_page, start) -> None:
    page = open_page("/?page=sessions")
    page.get_by_text("No agents run now").wait_for()
    start("talks-1")
    mine = row(page, "talks-1")

    for words in ("Healthy", "40 %", "reading the code", "1,200 / 34", "$0.50", "talk-of-talks-1"):
        mine.get_by_text(words).wait_for()
    assert mine.locator("[role=progressbar]").get_attribute("aria-valuenow") == "40"
    assert mine.locator("[data-label=Round]").inner_text().split()[-1] == "3"
    mine.get_by_text(re.compile(r"^pid \d+$")).wait_for()
    pid = mine.get_by_text(re.compile(r"^pid \d+$")).inner_text().split()[1]
    assert "talker.sh" in Path(f"/proc/{pid}/cmdline").read_text()
    page.locator(".sessions-total", has_text="1 running").wait_for()

    say(server, "talks-1", type="progress", percent=90, step="writing the tests")

    mine.get_by_text("writing the tests").wait_for()
    mine.get_by_text(re.compile("^~")).wait_for()  # what is left
    assert not_reloaded(page)


def test_silence_turns_a_session_stale_then_stuck_and_a_word_heals_it(server, open_page, start) -> None:
    start("mute-1")
    page = open_page("/?page=sessions")
    mine = row(page, "mute-1")

    mine.get_by_text("Stale").wait_for()
    mine.get_by_text("Stuck").wait_for()
    page.locator(".chip", has_text="Stuck").locator(".count", has_text="1").wait_for()
    say(server, "mute-1", type="heartbeat")

    mine.get_by_text("Healthy").wait_for()
    assert server.status("mute-1") == "RUNNING"


def test_a_restart_gives_a_new_attempt_and_there_are_never_two_live(server, open_page, start) -> None:
    start("talks-again")
    page = open_page("/?page=sessions")
    mine = row(page, "talks-again")
    mine.get_by_text("attempt 1").wait_for()
    mine.get_by_text("reading the code").wait_for()

    restart(page, "talks-again")

    mine.get_by_text("attempt 2").wait_for()
    mine.get_by_text("unit $1.00").wait_for()  # the cost of both
    assert not list(server.root.glob("two-live-*"))
    assert not_reloaded(page)


def test_terminate_says_what_happens_and_ends_the_process(server, open_page, start, wait_until) -> None:
    start("talks-too-long")
    page = open_page("/?page=sessions")
    mine = row(page, "talks-too-long")
    mine.get_by_text("reading the code").wait_for()

    mine.get_by_role("button", name="Terminate talks-too-long").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_text("the unit is cancelled").wait_for()
    assert server.status("talks-too-long") == "RUNNING"
    dialog.get_by_role("button", name="Terminate", exact=True).click()

    mine.wait_for(state="detached")
    assert server.status("talks-too-long") == "CANCELLED"
    wait_until(lambda: not (server.root / "live-talks-too-long").exists())


def test_a_crashed_session_says_so_until_it_is_started_again(server, open_page, start) -> None:
    start("dies-1")
    page = open_page("/?page=sessions")
    mine = row(page, "dies-1")
    mine.get_by_text("Crashed").wait_for()
    mine.get_by_text("signal 9").wait_for()

    restart(page, "dies-1")

    mine.get_by_text("Healthy").wait_for()
    mine.get_by_text("attempt 2").wait_for()


def test_one_that_waits_alive_is_shown_until_it_has_ended(server, open_page, start) -> None:
    start("asks-1")
    page = open_page("/?page=sessions")
    mine = row(page, "asks-1")
    mine.get_by_text("Waiting").wait_for()
    mine.get_by_text("Which database?").wait_for()

    (server.root / "stop-asks-1").touch()

    mine.wait_for(state="detached")
    assert server.status("asks-1") == "NEEDS_ATTENTION"


def test_all_that_are_chosen_end_after_one_question(server, open_page, start) -> None:
    start("talks-a", "talks-b", "mute-c")
    page = open_page("/?page=sessions")
    for name in ("talks-a", "talks-b", "mute-c"):
        row(page, name).wait_for()
    row(page, "talks-a").get_by_role("checkbox").check()
    row(page, "talks-b").get_by_role("checkbox").check()

    page.get_by_text("2 sessions selected").wait_for()
    page.locator(".bulk").get_by_role("button", name="Terminate…").click()
    page.get_by_role("button", name="Terminate 2 sessions").click()

    page.locator(".toast", has_text="2 sessions terminated").wait_for()
    row(page, "talks-a").wait_for(state="detached")
    row(page, "talks-b").wait_for(state="detached")
    assert server.status("mute-c") == "RUNNING"
    page.locator(".bulk").wait_for(state="hidden")


def test_order_and_filter_are_in_the_address_and_survive_a_reload(server, open_page, start) -> None:
    start("talks-cheap", "talks-dear", "dies-too")
    page = open_page("/?page=sessions", viewport={"width": 1400, "height": 900})
    say(server, "talks-dear", type="usage", usd=9)
    row(page, "talks-dear").get_by_text("$9.50").wait_for()
    row(page, "dies-too").get_by_text("Crashed").wait_for()

    page.get_by_role("columnheader", name="Cost").get_by_role("button").click()
    page.locator(".chip", has_text="Healthy").click()

    for _ in range(2):
        row(page, "dies-too").wait_for(state="detached")
        row(page, "talks-dear").wait_for()
        shown = page.locator(".sessions-table tbody tr")
        assert [shown.nth(at).get_attribute("data-unit") for at in range(2)] == ["talks-dear", "talks-cheap"]
        assert page.get_by_role("columnheader", name="Cost").get_attribute("aria-sort") == "descending"
        page.reload()
        page.wait_for_selector(".console .dot.live")


def test_a7_what_agents_say_is_text_and_fits_a_narrow_window(server, open_page, start) -> None:
    long = "word" * 60
    messages = [{"type": "session", "id": PAYLOADS[0]}, *({"type": "progress", "step": one} for one in PAYLOADS)]
    messages.append({"type": "progress", "percent": 10, "iteration": PAYLOADS[1], "step": PAYLOADS[2] + long})
    (server.root / "evil.jsonl").write_text("".join(json.dumps(one) + "\n" for one in messages))
    start("evil-1", "talks-" + "long" * 20)
    page = open_page("/?page=sessions", viewport={"width": 400, "height": 800})
    row(page, "evil-1").get_by_text("<iframe srcdoc=").wait_for()
    row(page, "evil-1").get_by_text(PAYLOADS[0]).wait_for()

    assert page.evaluate("window.__x") is None
    assert page.locator(".sessions :is(img, script, iframe)").count() == 0
    widths = page.locator(".sessions").evaluate("(node) => [node.scrollWidth, node.clientWidth]")
    assert widths[0] <= widths[1]
    row(page, "evil-1").get_by_role("button", name="Terminate evil-1").scroll_into_view_if_needed()
