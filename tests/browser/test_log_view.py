"""The live log in a real browser: what is written is shown as text, followed, paused, searched, read backwards.

The browser's half and the server's half are the real ones; between them stands a small bridge instead of a console."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import orchestrator_app.dashboard
from orchestrator_app.dashboard.log import LogView

ASSETS = Path(orchestrator_app.dashboard.__file__).parent / "assets"
PAGE = """<!doctype html><meta charset="utf-8"><link rel="stylesheet" href="/console.css">
<link rel="stylesheet" href="/log.css"><style>body { margin: 0; background: #f5f6f9 }</style>
<div class="console" data-theme="light"></div>
<script type="module">
  import { makeLog } from "/log.js"
  import { makeParser } from "/ansi.js"
  window.makeParser = makeParser
  window.said = []
  window.told = []
  const bridge = new URLSearchParams(location.search).get("bridge")
  const drafts = new Map()
  const app = {
    say: (message) => {
      said.push(message)
      if (bridge) fetch("/say", { method: "POST", body: JSON.stringify(message) })
    },
    toast: (words) => { window.toasted = words },
    draft: (key) => ({ get: () => drafts.get(key), set: (value) => drafts.set(key, value) }),
  }
  window.log = makeLog(app)
  document.querySelector(".console").append(log.node)
  const listen = async () => {
    for (;;) {
      const messages = await (await fetch(`/told?${bridge}`)).json()
      for (const message of messages) {
        told.push(message)
        log.told(message)
      }
    }
  }
  if (bridge) listen()
  window.ready = true
</script>"""
AT_END = """() => {
  const box = document.querySelector(".log-box")
  return box.scrollHeight - box.scrollTop - box.clientHeight <= 6
}"""
PAYLOADS = (
    "<img src=x onerror=window.__x=1>",
    "<script>window.__x=2</script>",
    "<iframe srcdoc='<script>parent.__x=3</script>'></iframe>",
)


class Bridge:
    """A page for `LogView`, on an event loop of its own; its browser half comes over plain HTTP."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.session = SimpleNamespace(orchestrator=SimpleNamespace(project=SimpleNamespace(state=state)))
        self.loop = asyncio.new_event_loop()
        self.waiting: list[dict[str, Any]] = []
        self.opened = 0
        self.filled = threading.Condition()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, self))
        self.server.daemon_threads = True
        self.serving = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.serving.start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.view: LogView | None = None
        self.tasks: set[asyncio.Task] = set()

    def run(self, coroutine: Any) -> asyncio.Task:
        task = self.loop.create_task(coroutine)
        self.tasks.add(task)
        return task

    def tell(self, payload: dict[str, Any]) -> None:
        with self.filled:
            self.waiting.append(payload["log"])
            self.filled.notify_all()

    def take(self, number: str) -> list[dict[str, Any]]:
        """What was told since the last time; nothing to a page that was closed meanwhile."""
        with self.filled:
            self.filled.wait_for(lambda: self.waiting or number != str(self.opened), timeout=1)
            if number != str(self.opened):
                return []
            taken, self.waiting = self.waiting, []
            return taken

    def on_loop(self, function: Any, *args: Any) -> None:
        done = threading.Event()
        self.loop.call_soon_threadsafe(lambda: (function(*args), done.set()))
        assert done.wait(20)

    def open(self, attempt: int) -> None:
        def begin() -> None:
            self.close_view()
            with self.filled:
                self.opened += 1
                self.waiting = []
            self.view = LogView(self, "one")
            self.view.attend(attempt)

        self.on_loop(begin)

    def close_view(self) -> None:
        if self.view is not None:
            self.view.close()
            self.view = None

    def attend(self, attempt: int) -> None:
        self.on_loop(lambda: self.view.attend(attempt))

    def output(self, attempt: int) -> Path:
        file = self.state / "runs" / "one" / str(attempt) / "output.log"
        file.parent.mkdir(parents=True, exist_ok=True)
        return file

    def close(self) -> None:
        async def finish() -> None:
            self.close_view()
            for task in self.tasks:
                task.cancel()
            await asyncio.gather(*self.tasks, return_exceptions=True)
            await self.loop.shutdown_default_executor()

        asyncio.run_coroutine_threadsafe(finish(), self.loop).result(20)
        self.server.shutdown()
        self.server.server_close()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(20)
        self.loop.close()


class Handler(SimpleHTTPRequestHandler):
    """The assets as files, an empty page, and what the two halves say to each other."""

    def __init__(self, bridge: Bridge, *args: Any) -> None:
        self.bridge = bridge
        super().__init__(*args, directory=str(ASSETS))

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/":
            self._answer("text/html", PAGE.encode())
        elif path == "/told":
            self._answer("application/json", json.dumps(self.bridge.take(self.path.partition("?")[2])).encode())
        elif path == "/api/v1/units/one/log":
            at, limit = (int(re.search(rf"{name}=(\d+)", self.path)[1]) for name in ("offset", "limit"))
            content = self.bridge.output(1).read_bytes()
            part = content[at : at + limit]
            self._answer("text/plain", part, {"X-Next-Offset": str(at + len(part)), "X-Log-Size": str(len(content))})
        else:
            super().do_GET()

    def do_POST(self) -> None:
        message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.bridge.view is not None:
            self.bridge.loop.call_soon_threadsafe(self.bridge.view.hear, message)
        self._answer("text/plain", b"")

    def _answer(self, kind: str, content: bytes, headers: dict[str, str] | None = None) -> None:
        try:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)
        except OSError:
            self.close_connection = True  # the page was closed

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def bridge(tmp_path_factory) -> Iterator[Bridge]:
    bridge = Bridge(tmp_path_factory.mktemp("state"))
    yield bridge
    bridge.close()


@pytest.fixture
def fresh(bridge: Bridge) -> Bridge:
    for attempt in range(1, 5):
        bridge.output(attempt).unlink(missing_ok=True)
    return bridge


@pytest.fixture
def blank(browser, bridge):
    """A page with the modules and no server half."""
    page = browser.new_page()
    page.goto(bridge.url)
    page.wait_for_function("window.ready")
    yield page
    page.close()


@pytest.fixture
def open_log(browser, fresh):
    """Show the log of an attempt as the page of its unit does."""
    pages = []

    def open_one(attempt: int = 1, **options: Any):
        fresh.open(attempt)
        page = browser.new_page(**options)
        pages.append(page)
        page.set_default_timeout(30_000)
        page.goto(f"{fresh.url}/?bridge={fresh.opened}")
        page.wait_for_function("window.ready")
        return page

    yield open_one
    for page in pages:
        page.close()
    fresh.on_loop(fresh.close_view)


def parse(page, *shares: str) -> list[list[list[Any]]]:
    """The lines that a parser makes of shares: [[text, classes, fg, bg], …] each."""
    return page.evaluate(
        """(shares) => {
          const parser = makeParser(), lines = []
          let line = []
          for (const share of shares) for (const piece of parser.parse(share)) {
            if (piece.anew) line = []
            for (let i = 0; i < piece.erased; i += 1) {
              const last = line[line.length - 1]
              if (last) { last[0] = last[0].slice(0, -1); if (!last[0]) line.pop() }
            }
            for (const run of piece.runs) line.push([run.text, run.classes.join(" "), run.fg, run.bg])
            if (piece.ended) { lines.push(line); line = [] }
          }
          if (line.length) lines.push(line)
          return lines
        }""",
        list(shares),
    )


def words(page, *shares: str) -> list[str]:
    return ["".join(run[0] for run in line) for line in parse(page, *shares)]


def shown(page) -> str:
    """The lines in the page, also those that are scrolled away and therefore not laid out."""
    return page.evaluate("[...document.querySelectorAll('.log-text')].map((line) => line.textContent).join('\\n')")


def box(page):
    return page.locator(".log-box")


def at_end(page) -> bool:
    return page.evaluate(AT_END)


def numbered(count: int, start: int = 0) -> str:
    return "".join(f"line {number:06d} of the output\n" for number in range(start, start + count))


# -- ansi.js


def test_colours_and_emphasis_become_classes_and_carry_over_lines_and_shares(blank):
    lines = parse(blank, "a\x1b[1;31mb\n", "c\x1b[0", "md\x1b[94;44me\x1b[39;49;3;4mf\x1b[23;24mg")

    assert lines == [
        [["a", "", None, None], ["b", "ansi-bold ansi-fg-1", None, None]],
        [
            ["c", "ansi-bold ansi-fg-1", None, None],
            ["d", "", None, None],
            ["e", "ansi-fg-12 ansi-bg-4 ansi-on", None, None],
            ["f", "ansi-italic ansi-underline", None, None],
            ["g", "", None, None],
        ],
    ]


@pytest.mark.parametrize(
    ("codes", "colour"),
    [
        ("38;5;196", "rgb(255, 0, 0)"),
        ("38;5;244", "rgb(128, 128, 128)"),
        ("38;2;1;2;3", "rgb(1, 2, 3)"),
        ("38:2::1:2:3", "rgb(1, 2, 3)"),
        ("38:2:1:2:3", "rgb(1, 2, 3)"),
        ("38;5;999", None),
        ("38;2;1;2", None),
        ("38;2;300;0;0", None),
        ("38;5;1);background:url(x", None),
    ],
)
def test_256_and_true_colours_are_made_of_parsed_numbers_only(blank, codes, colour):
    assert parse(blank, f"\x1b[{codes}mx")[0][-1][2] == colour


def test_inverse_swaps_the_colours_and_needs_none(blank):
    assert parse(blank, "\x1b[7ma\x1b[31mb\x1b[27mc")[0] == [
        ["a", "ansi-fg-behind ansi-bg-front", None, None],
        ["b", "ansi-fg-behind ansi-bg-1 ansi-on", None, None],
        ["c", "ansi-fg-1", None, None],
    ]


@pytest.mark.parametrize(
    "hidden",
    [
        "\x1b[2J\x1b[10;5H\x1b[K\x1b[?25l\x1b[6n",
        "\x1b]52;c;aGVsbG8=\x07",
        "\x1b]52;c;aGVsbG8=\x1b\\",
        "\x1b]8;;javascript:alert(1)\x1b\\",
        "\x1b]0;a title\x9c",
        "\x1bPq#0;2;0;0;0\x1b\\",
        "\x1b^private\x1b\\\x1b_application\x1b\\\x1bXstring\x1b\\",
        "\x1b(B\x1b)0\x1b=\x1b>\x1bc\x1b7\x1b8\x1bM",
        "\x9b31m\x9b0m\x9d0;title\x9c\x84\x85\x90q\x9c",
        "\x1b[>4;2m\x1b[?1049h\x1b[38;5",
    ],
)
def test_a13_whatever_else_terminals_obey_is_dropped_also_when_a_share_cuts_it(blank, hidden):
    wanted = ["before", "after"]

    assert words(blank, f"before{hidden}\nafter") == wanted
    assert words(blank, *f"before{hidden}\nafter") == wanted


def test_a_sequence_without_an_end_hides_neither_the_next_line_nor_megabytes(blank):
    assert words(blank, "a\x1b]52;c;" + "x" * 100 + "\nb") == ["a", "b"]
    assert words(blank, "\x1b]0;" + "x" * 10_000)[0].startswith("xxxx")
    assert words(blank, "\x1b[" + "1;" * 10_000 + "z")[0].endswith("1;z")


def test_carriage_returns_and_backspaces_leave_the_last_version_of_a_line(blank):
    assert words(blank, "10%\r20%\r30%\n", "dos\r\n", "40%\r", "50%", "\r\x1b[K60%\nend\r") == [
        "30%",
        "dos",
        "60%",
        "end",
    ]
    assert words(blank, "abX\bc\n|\b/\b-\b\n", "ab", "\b", "\b", "x\n", "😀\by") == ["abc", "-", "x", "y"]


def test_a13_control_and_direction_characters_are_seen_as_dots(blank):
    hidden = "\0\x01\x07\x0b\x0c\x7f\u202e\u2066\u200f\u061c\u2028"

    assert words(blank, f"a{hidden}\tb") == ["a" + "·" * len(hidden) + "\tb"]


# -- log.js with LogView


def test_a7_a13_a_hostile_log_is_text_and_breaks_nothing(fresh, open_log):
    hostile = "\n".join(PAYLOADS).encode()
    fresh.output(1).write_bytes(
        hostile + b"\n\x1b]52;c;aGk=\x07\x1b[2Jclip \xff\xfe\0 \xe2\x80\xaeevil\n"
        b'\x1b[38;2;1;2;3mred" style="x\x1b[0m\n' + b"x" * 100_000 + b"\nthe end\n"
    )
    page = open_log()

    page.locator(".log-text", has_text="the end").wait_for()
    box(page).press("Home")
    page.locator(".log-text", has_text="onerror").wait_for()
    lines = page.locator(".log-text").all_inner_texts()
    button = page.get_by_role("button", name=re.compile("more characters"))

    assert [line for line in lines if line in PAYLOADS] == list(PAYLOADS)
    assert "clip \ufffd\ufffd· ·evil" in lines and 'red" style="x' in lines
    assert page.evaluate("window.__x") is None
    assert page.locator(".log-view img, .log-view iframe, .log-view script, .log-view a").count() == 0
    page.locator(".log-more", has_text="95,904 more characters").wait_for()
    assert max(map(len, lines)) < 5_000
    button.click()
    assert max(map(len, page.locator(".log-text").all_inner_texts())) == 100_000


def test_the_end_is_followed_until_the_reader_scrolls_up_and_again_when_they_say_so(fresh, open_log):
    file = fresh.output(1)
    file.write_text(numbered(300))
    page = open_log()
    page.locator(".log-text", has_text="line 000299").wait_for()
    assert at_end(page) and not page.locator(".log-paused").is_visible()

    box(page).hover()
    page.mouse.wheel(0, -500)
    page.locator(".log-paused", has_text="Paused").wait_for()
    page.wait_for_function("window.said.some((message) => message.type === 'log-pause')")
    page.wait_for_function("window.told.some((message) => message.state === 'paused')")
    before = page.evaluate("document.querySelector('.log-box').scrollTop")
    with file.open("a") as output:
        output.write(numbered(320, 300))
    page.locator(".log-paused", has_text="Paused · 320 new lines").wait_for()
    assert page.evaluate("document.querySelector('.log-box').scrollTop") == before
    assert "line 000300" not in shown(page)
    page.get_by_role("button", name="Follow").click()

    page.locator(".log-text", has_text="line 000619").wait_for()
    page.wait_for_function("document.querySelectorAll('.log-text').length === 620")
    assert at_end(page) and not page.locator(".log-paused").is_visible()
    with file.open("a") as output:
        output.write("and on\n")
    page.locator(".log-text", has_text="and on").wait_for()
    assert at_end(page)


def test_older_lines_come_when_the_reader_nears_the_beginning_and_nothing_jumps(fresh, open_log):
    fresh.output(1).write_text(numbered(20_000))
    page = open_log()
    page.locator(".log-text", has_text="line 019999").wait_for()
    page.wait_for_function("getComputedStyle(document.querySelector('.log-text'), '::before').content !== 'none'")

    seen = page.evaluate(
        """async () => {
          const box = document.querySelector(".log-box"), lines = document.querySelector(".log-lines")
          const first = lines.querySelector(".log-text")
          box.scrollTop = 300
          const before = first.getBoundingClientRect().top
          await new Promise((resolve) => new MutationObserver(resolve).observe(lines, { childList: true }))
          await new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)))
          const now = first.getBoundingClientRect().top
          return [before, now, first.textContent, lines.querySelector(".log-text").textContent]
        }"""
    )

    assert abs(seen[0] - seen[1]) < 2
    assert seen[3] < seen[2]
    for _ in range(40):
        told = page.evaluate("() => { document.querySelector('.log-box').scrollTop = 0; return told.length }")
        if "line 000000" in shown(page)[:40]:
            break
        page.wait_for_function("(count) => told.length > count", arg=told)
    page.locator(".log-text", has_text="line 000000").wait_for(state="attached")
    assert page.locator(".log-text").count() <= 5_000
    page.get_by_role("button", name="End").click()
    page.locator(".log-text", has_text="line 019999").wait_for()
    assert at_end(page)


def test_the_lines_in_the_page_stay_bounded_and_numbered_while_thousands_come(fresh, open_log):
    file = fresh.output(1)
    file.write_text("")
    page = open_log()
    page.get_by_text("No output yet.").wait_for()

    for start in range(0, 8_000, 2_000):
        with file.open("a") as output:
            output.write(numbered(2_000, start))
        page.locator(".log-text", has_text=f"line {start + 1_999:06d}").wait_for()

    assert page.locator(".log-text").count() <= 5_000
    assert at_end(page)
    counters = page.evaluate(
        """() => { const block = [...document.querySelectorAll(".log-block")].at(-1)
          return [block.style.counterReset, block.firstElementChild.textContent] }"""
    )
    before = int(counters[0].split()[1])
    assert counters[1].startswith(f"line {before:06d}")


def test_a_hit_far_away_in_a_large_file_is_found_shown_and_counted(fresh, open_log):
    file = fresh.output(1)
    with file.open("wb") as output:
        output.write(b"\x1b[31mNee\x1b[1mdle\x1b[0m one, needle two\n" + numbered(1000).encode())
        output.truncate(300 * 1024 * 1024)
        output.seek(300 * 1024 * 1024)
        output.write(b"\n" + numbered(3_000).encode() + b"a needle near\n" + numbered(10).encode())
    page = open_log()
    page.locator(".log-text", has_text="line 000009").last.wait_for()
    box(page).focus()
    page.keyboard.press("Control+f")
    field = page.get_by_label("Search the output")
    assert field.evaluate("node => node === document.activeElement")

    field.fill("needle")
    field.press("Enter")
    page.locator("mark.is-current", has_text="needle").wait_for()
    page.locator(".log-found", has_text="3 of 3 hits").wait_for()
    field.press("Shift+Enter")
    page.locator(".log-text.is-current", has_text="Needle one, needle two").wait_for()
    page.locator(".log-found", has_text="2 of 3 hits").wait_for()
    field.press("Shift+Enter")

    page.locator(".log-found", has_text="1 of 3 hits").wait_for()
    assert page.locator(".log-text.is-current mark").all_inner_texts() == ["Needle", "needle"]
    assert page.locator("mark.is-current").inner_text() == "Needle"
    assert page.locator(".log-paused").is_visible()
    field.fill("nowhere to be found")
    field.press("Enter")
    page.locator(".log-found", has_text="Nothing found").wait_for()
    field.press("Escape")
    assert page.locator("mark").count() == 0 and field.input_value() == ""


def test_a_search_that_takes_long_is_cancelled_by_its_reader(fresh, open_log):
    with fresh.output(1).open("wb") as output:
        output.write(b"first\n")
        output.truncate(20 * 1024**3)
        output.seek(0, 2)
        output.write(b"\nlast\n")
    page = open_log()
    page.locator(".log-text", has_text="last").wait_for()

    page.get_by_label("Search the output").fill("never there")
    page.get_by_label("Search the output").press("Enter")
    page.locator(".log-found", has_text=re.compile(r"Searching… \d+ [kMG]B of 21 GB")).wait_for()
    page.get_by_role("button", name="Cancel").click()

    page.locator(".log-found", has_text="Cancelled").wait_for()
    assert not page.get_by_role("button", name="Cancel").is_visible()


def test_an_older_attempt_is_chosen_and_the_newest_offered(fresh, open_log):
    for attempt in (1, 2, 3):
        fresh.output(attempt).write_text(f"output of {attempt}\n")
    page = open_log(2)
    page.evaluate("log.attempts([{ attempt: 2, phase: 'RUN' }, { attempt: 1, phase: 'RUN' }])")
    page.locator(".log-text", has_text="output of 2").wait_for()
    chooser = page.get_by_label("Attempt whose output is shown")
    assert chooser.input_value() == "2"

    chooser.select_option("1")
    page.locator(".log-text", has_text="output of 1").wait_for()
    page.locator(".log-paused", has_text="attempt 2 is the newest").wait_for()
    fresh.attend(3)
    page.locator(".log-paused", has_text="attempt 3 is the newest").wait_for()
    assert "output of 1" in shown(page)
    page.get_by_role("button", name="Show the newest").click()

    page.locator(".log-text", has_text="output of 3").wait_for()
    fresh.attend(4)
    page.get_by_text("No output yet.").wait_for()


def test_the_whole_output_is_downloaded_as_it_is(fresh, open_log):
    content = b"\xff\0\x1b[31m" * 600_000 + b"end\n"
    fresh.output(1).write_bytes(content)
    page = open_log()
    page.locator(".log-text").first.wait_for()

    with page.expect_download() as download:
        page.get_by_role("button", name="Download").click()

    assert download.value.suggested_filename == "one-1.log"
    assert Path(download.value.path()).read_bytes() == content


def test_a13_a_line_that_grows_for_ever_and_a_progress_bar_stay_one_bounded_line(fresh, open_log):
    file = fresh.output(1)
    file.write_text("begin\n")
    page = open_log()
    page.locator(".log-text", has_text="begin").wait_for()

    for part in range(5):
        with file.open("a") as output:
            output.write("".join(f"\r{part}: {percent}%" for percent in range(100)))
    page.locator(".log-text", has_text=re.compile(r"^4: 99%$")).wait_for()
    for part in range(10):
        with file.open("a") as output:
            output.write(str(part) * 60_000)
        page.wait_for_function("(size) => told.some((each) => each.end === size)", arg=file.stat().st_size)

    page.locator(".log-more", has_text="more characters").wait_for()
    assert page.locator(".log-text").count() == 2
    assert len(shown(page)) < 5_000


def test_a_log_that_was_hidden_is_at_its_end_when_it_is_seen_again(fresh, open_log):
    file = fresh.output(1)
    file.write_text(numbered(300))
    page = open_log()
    page.locator(".log-text", has_text="line 000299").wait_for()

    page.evaluate("document.querySelector('.console').hidden = true")
    with file.open("a") as output:
        output.write(numbered(300, 300))
    page.locator(".log-text", has_text="line 000599").wait_for(state="attached")
    page.evaluate("document.querySelector('.console').hidden = false")

    page.locator(".log-text", has_text="line 000599").wait_for()
    page.wait_for_function(AT_END)
    assert not page.locator(".log-paused").is_visible()


def test_an_endless_line_is_read_backwards_only_as_far_as_its_reader_asks(fresh, open_log):
    fresh.output(1).write_text("x" * 5_000_000)
    page = open_log()
    page.locator(".log-more").wait_for()

    box(page).hover()
    page.mouse.wheel(0, -200)
    page.wait_for_function("told.filter((each) => each.place === 'before').length > 0")
    page.get_by_role("button", name="End").click()
    page.wait_for_function("told.at(-1).state === 'end'")

    assert page.evaluate("told.filter((each) => each.place === 'before').length") <= 3
    assert page.locator(".log-text").count() == 1


def test_wrapping_is_switched_and_the_page_never_scrolls_sideways_on_a_phone(fresh, open_log):
    fresh.output(1).write_text("word " * 500 + "\n" + "x" * 3_000 + "\n")
    page = open_log(viewport={"width": 400, "height": 800})
    page.locator(".log-text", has_text="xxx").wait_for()
    wide = "() => { const box = document.querySelector('.log-box'); return box.scrollWidth > box.clientWidth + 1 }"

    assert not page.evaluate(wide)
    page.get_by_role("button", name="Wrap").click()
    assert page.evaluate(wide)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


# -- in the page of a unit


def test_the_page_of_a_unit_follows_searches_and_downloads_its_output_and_chooses_attempts(
    server, open_page, wait_until
):
    server.submit("fail-logged", "slow-logged")
    page = open_page("/?unit=slow-logged&tab=output")
    page.locator(".log-text", has_text="line 12").wait_for()
    page.get_by_label("Search the output").fill("LINE 3")
    page.get_by_label("Search the output").press("Enter")
    page.locator("mark.is-current", has_text="line 3").first.wait_for()
    page.locator(".log-found", has_text="hit").wait_for()
    page.get_by_role("button", name="Follow").click()
    (server.root / "stop-slow-logged").touch()
    wait_until(lambda: server.status("slow-logged") == "DONE")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download").click()
    written = Path(download.value.path()).read_text()

    assert written == "".join(f"line {number + 1}\n" for number in range(written.count("\n")))
    page.locator(".log-text", has_text=written.splitlines()[-1]).wait_for()

    wait_until(lambda: server.status("fail-logged") == "NEEDS_ATTENTION")
    page.goto(server.info["url"] + "/?unit=fail-logged&tab=output")
    page.locator(".log-text", has_text="it broke").wait_for()
    server.api("POST", "units/fail-logged/retry", {})
    chooser = page.get_by_label("Attempt whose output is shown")
    chooser.locator("option", has_text="Attempt 2").wait_for(state="attached")
    wait_until(lambda: chooser.input_value() == "2")
    chooser.select_option("1")
    page.locator(".log-paused", has_text="attempt 2 is the newest").wait_for()
