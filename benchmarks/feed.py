"""How soon a change is drawn in every open browser, beside a plain Panel page in the same run.

    python benchmarks/feed.py [--rate 1000] [--units 1000] [--sessions 10] [--seconds 20] [--page board]

A server process holds and resumes units, so many transitions a second, each durable; as many real Chromium pages watch
it. Each commit is noted with its time, and each page notes when it has drawn what: that gives the time from the commit
to the screen, for every commit on every page. Beside it runs a page as one would write it first, on the same units, at
the same rate: `pn.bind` on a shared Parameterized, and `Tabulator.patch` for each event. What a page has not drawn a
few seconds after the load has ended counts with the time it has waited by then, so its figures are lower bounds.

Also measured: how soon a page is ready with many units and what it was sent, and what an open page costs at rest.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from playwright.sync_api import Browser, Playwright, sync_playwright

#: Seconds that pages have to draw the rest once the load has ended.
REST = 5
FLAGS = ["--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update"]

#: In each page: what its sockets received, and when which number was on the screen (after the frame's paint).
WATCH = """
window.__received = { bytes: 0, messages: 0 }
window.WebSocket = class extends window.WebSocket {
  constructor(...given) {
    super(...given)
    this.addEventListener("message", ({ data }) => {
      window.__received.bytes += data.length ?? data.byteLength ?? data.size
      window.__received.messages += 1
    })
  }
}
window.__drawn = []
function deep(node, wanted) {
  const found = node.querySelector(wanted)
  if (found) return found
  for (const one of node.querySelectorAll("*")) {
    const inner = one.shadowRoot && deep(one.shadowRoot, wanted)
    if (inner) return inner
  }
  return null
}
// `read(node)` tells the number that the node shows; it is looked at when something in or about it changes, and what it
// shows counts as drawn after the next paint. (Looking at each animation frame would itself keep ten pages busy.)
window.__watch = (wanted, read) => {
  const node = deep(document, wanted)
  if (!node) return false
  let last = null, due = false
  const channel = new MessageChannel()
  channel.port1.onmessage = () => window.__drawn.push([last, performance.timeOrigin + performance.now()])
  const look = () => {
    due = false
    const now = Number(read(node))
    if (!now || now === last) return
    last = now
    channel.port2.postMessage(0)
  }
  const changed = () => { if (!due) { due = true; requestAnimationFrame(look) } }
  new MutationObserver(changed).observe(node, { attributes: true, childList: true, characterData: true, subtree: true })
  const root = node.getRootNode()
  if (root.host) new MutationObserver(changed).observe(root, { childList: true, characterData: true, subtree: true })
  return true
}
"""


# -- the server processes: they hear commands on their standard input and answer each with one line of JSON


def converse(commands: dict[str, Any]) -> None:
    for line in sys.stdin:
        name, *args = json.loads(line)
        print(json.dumps(commands[name](*args)), flush=True)


class Load:
    """Calls `change(number)` `rate` times a second, in bursts a hundredth of a second apart."""

    def __init__(self, change: Any) -> None:
        self._change = change
        self.commits: list[tuple[int, float, int]] = []  # number, time, how many changes
        self._rate = 0.0

    def go_on(self, rate: float) -> dict[str, Any]:
        """Change so much in the background from now on; 0 ends it."""
        begin, self._rate = not self._rate, rate
        if begin and rate:
            threading.Thread(target=self._keep_on, daemon=True).start()
        return {}

    def _keep_on(self) -> None:
        number = 0
        while self._rate:
            self._change(number)
            number += 1
            self.commits.clear()
            time.sleep(1 / self._rate)

    def run(self, rate: float, seconds: float) -> dict[str, Any]:
        self.commits.clear()
        begun, done = time.monotonic(), 0
        while (passed := time.monotonic() - begun) < seconds:
            while done < passed * rate:
                self._change(done)
                done += 1
            time.sleep(0.01)
        time.sleep(REST)
        return {"commits": list(self.commits), "asked": done}


def serve_ours(folder: str, units: int) -> None:
    from bokeh.document import Document

    from orchestrator_app.serve import serve
    from orchestrator_app.settings import load_project
    from orchestrator_app.store.records import Transition

    root = Path(folder)
    (root / "orchestrator.toml").write_text(
        '[workflow]\nisolation = "none"\nphases = ["RUN"]\n[phases.RUN]\n[agents.program]\ncommand = ["/bin/true"]\n'
    )

    def ready(serving: Any) -> None:
        orchestrator = serving.orchestrator

        def change(number: int) -> None:
            kind = "pause" if number // units % 2 == 0 else "resume"
            orchestrator.request(kind, f"unit-{number % units}")

        load = Load(change)

        def note(records: Any) -> None:
            moved = sum(type(record) is Transition for record in records)
            load.commits.append((records[-1].seq, time.time() * 1000, moved))

        def prepare() -> dict[str, Any]:
            orchestrator.request("dispatch", paused=True).result()
            for first in range(0, units, 5_000):
                names = range(first, min(first + 5_000, units))
                orchestrator.request("submit", units=[{"name": f"unit-{n}"} for n in names]).result()
            orchestrator.board.watch(note)
            return {}

        def state() -> dict[str, int]:
            """What is left of pages that were closed would be found here."""
            gc.collect()
            documents = sum(isinstance(one, Document) for one in gc.get_objects())
            return {"watchers": len(orchestrator.board._watchers), "documents": documents}

        commands = {
            "prepare": prepare,
            "login": serving.login_url,
            "load": load.run,
            "load in the background": load.go_on,
            "state": state,
        }
        threading.Thread(target=converse, args=(commands,), daemon=True).start()

    serve(load_project(root), port=0, on_ready=ready)


def serve_naive(units: int) -> None:
    import pandas as pd
    import panel as pn
    import param

    class Shared(param.Parameterized):
        number = param.Integer(0)
        change = param.Tuple(default=(0, ""))

    shared = Shared()
    frame = pd.DataFrame({"unit": [f"unit-{n}" for n in range(units)], "status": "READY", "version": 1})

    def page() -> Any:
        table = pn.widgets.Tabulator(frame.copy(), page_size=50, pagination="local", show_index=False)
        document = pn.state.curdoc

        def patch(event: Any) -> None:
            row, status = event.new
            document.add_next_tick_callback(lambda: table.patch({"status": [(row, status)]}))

        shared.param.watch(patch, "change")
        seen = pn.bind(lambda number: f'<span class="number">{number}</span>', shared.param.number)
        return pn.Column(pn.pane.HTML(seen), table)

    def change(number: int) -> None:
        shared.change = (number % units, "PAUSED" if number // units % 2 == 0 else "READY")
        shared.number = number + 1
        load.commits.append((number + 1, time.time() * 1000, 1))

    load = Load(change)
    server = pn.io.server.get_server(page, port=0)
    commands = {"login": lambda: f"http://localhost:{server.port}/", "load": load.run}
    threading.Thread(target=converse, args=(commands,), daemon=True).start()
    server.start()
    server.io_loop.start()


class Served:
    """One of the two, as a process of its own."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--serve", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.system = psutil.Process(self.process.pid)

    def ask(self, *command: Any) -> Any:
        print(json.dumps(command), file=self.process.stdin, flush=True)
        return self.answer()

    def begin(self, *command: Any) -> None:
        print(json.dumps(command), file=self.process.stdin, flush=True)

    def answer(self) -> Any:
        for line in self.process.stdout:
            if line.startswith(("{", '"', "[")):
                return json.loads(line)
        raise SystemExit("the server process ended")

    def cpu(self) -> float:
        times = self.system.cpu_times()
        return times.user + times.system

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def served(*arguments: str) -> Iterator[Served]:
    one = Served(*arguments)
    try:
        yield one
    finally:
        one.end()


# -- the browsers


def launch(playwright: Playwright) -> Browser:
    names = ("chromium", "chromium-browser", "google-chrome")
    program = next((path for path in map(shutil.which, names) if path), None)
    if program is None:
        raise SystemExit(f"no Chromium on the PATH ({', '.join(names)}): install it")
    return playwright.chromium.launch(
        executable_path=program, args=[*FLAGS, "--no-sandbox"] if os.geteuid() == 0 else FLAGS
    )


def open_page(browser: Browser, url: str, page_path: str, wanted: str, read: str) -> Any:
    page = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
    page.add_init_script(WATCH)
    page.set_default_timeout(120_000)
    page.goto(url)
    if page_path:
        page.goto(url.split("/login")[0] + "/" + page_path)
    page.wait_for_function(f"window.__watch({json.dumps(wanted)}, (node) => {read})")
    return page


def measure(
    browser: Browser, server: Served, options: argparse.Namespace, page_path: str, wanted: str, read: str
) -> dict:
    pages = [open_page(browser, server.ask("login"), page_path, wanted, read) for _ in range(options.sessions)]
    time.sleep(3)  # what opening the pages has stirred up
    for page in pages:
        page.evaluate("window.__drawn.length = 0; window.__received.bytes = window.__received.messages = 0")
    before, begun = server.cpu(), time.monotonic()
    server.begin("load", options.rate, options.seconds)
    answer = server.answer()
    cpu = (server.cpu() - before) / (time.monotonic() - begun)
    ended = time.time() * 1000
    seen = [page.evaluate("[window.__drawn, window.__received]") for page in pages]
    for page in pages:
        page.context.close()
    waits: list[float] = []
    for drawn, _ in seen:
        waits += waited(answer["commits"], drawn, ended)
    waits.sort()
    return {
        "transitions/s": sum(count for *_, count in answer["commits"]) / options.seconds,
        "p50": quantile(waits, 0.50),
        "p95": quantile(waits, 0.95),
        "p99": quantile(waits, 0.99),
        "frames/s": statistics.mean(len(drawn) for drawn, _ in seen) / options.seconds,
        "kB/s": statistics.mean(received["bytes"] for _, received in seen) / options.seconds / 1000,
        "cpu": cpu,
    }


def waited(commits: list[Any], drawn: list[Any], ended: float) -> list[float]:
    """Milliseconds from each commit until a page had drawn it, or until the end where it hadn't."""
    ahead, waits = deque(drawn), []
    for number, when, count in commits:
        while ahead and ahead[0][0] < number:
            ahead.popleft()
        waits += [max(0.0, (ahead[0][1] if ahead else ended) - when)] * count
    return waits


def quantile(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else float("nan")


def ready(browser: Browser, units: int, page_path: str) -> tuple[float, float]:
    """Seconds until a page shows that many units, and the kB it was sent over its socket. Median of 3."""
    with tempfile.TemporaryDirectory() as folder, served("ours", folder, str(units)) as server:
        server.ask("prepare")
        seconds, sent = [], []
        for _ in range(3):
            page = open_page(browser, server.ask("login"), "", ".console[data-seq]", "1")
            page.goto("about:blank")
            begun = time.monotonic()
            url = json.loads((Path(folder) / ".orchestrator" / "server.json").read_text())["url"]
            page.goto(url + "/" + page_path)
            page.wait_for_selector(".console .card .unit-link" if "board" in page_path else ".console .tile.some")
            seconds.append(time.monotonic() - begun)
            sent.append(page.evaluate("window.__received.bytes") / 1000)
            page.context.close()
        return statistics.median(seconds), statistics.median(sent)


def at_rest(browser: Browser, seconds: float) -> float:
    """The share of a processor that a server with one open page uses while nothing happens."""
    with tempfile.TemporaryDirectory() as folder, served("ours", folder, "100") as server:
        server.ask("prepare")
        page = open_page(browser, server.ask("login"), "?page=board", ".console[data-seq]", "1")
        time.sleep(5)
        before = server.cpu()
        time.sleep(seconds)
        share = (server.cpu() - before) / seconds
        page.context.close()
        return share


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rate", type=float, default=1000)
    parser.add_argument("--units", type=int, default=1000)
    parser.add_argument("--sessions", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--page", default="board")
    parser.add_argument("--many", type=int, default=100_000, help="units of the page whose opening is timed")
    parser.add_argument("--only", choices=("ours", "naive", "ready", "rest"), help="one part of it")
    parser.add_argument("--serve", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        which, *rest = options.serve
        return serve_ours(rest[0], int(rest[1])) if which == "ours" else serve_naive(int(rest[0]))
    print(f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    with sync_playwright() as playwright:
        browser = launch(playwright)
        parts = [options.only] if options.only else ["ours", "naive", "ready", "rest"]
        if {"ours", "naive"} & set(parts):
            load = f"{options.rate:g} transitions/s over {options.units} units"
            print(f"{load}, {options.sessions} pages, {options.seconds:g} s")
            print("| page | transitions/s | p50 ms | p95 ms | p99 ms | frames/s | kB/s a page | server's processors |")
            print("| --- | --- | --- | --- | --- | --- | --- | --- |")
        figures = {}
        if "ours" in parts:
            with tempfile.TemporaryDirectory() as folder, served("ours", folder, str(options.units)) as server:
                server.ask("prepare")
                page = f"?page={options.page}"
                figures["ours"] = measure(browser, server, options, page, ".console[data-seq]", "node.dataset.seq")
                show(options.page, figures["ours"])
        if "naive" in parts:
            with served("naive", str(options.units)) as server:
                figures["naive"] = measure(
                    browser,
                    server,
                    options,
                    "",
                    ".number",
                    "node.isConnected ? node.textContent : (node = deep(document, '.number'))?.textContent",
                )
                show("plain Panel", figures["naive"])
        if len(figures) == 2:
            ratio = figures["naive"]["p50"] / figures["ours"]["p50"]
            print(
                f"a change is drawn {ratio:.0f} times sooner (p50; a lower bound where the plain page never caught up)"
            )
        if "ready" in parts:
            for page in ("", "?page=board"):
                seconds, sent = ready(browser, options.many, page)
                name = page or "overview"
                print(f"{name} ready with {options.many} units: {seconds:.2f} s, {sent:.0f} kB over its socket")
        if "rest" in parts:
            print(f"server at rest with one open page: {at_rest(browser, 20):.2%} of a processor")
        browser.close()


def show(name: str, one: dict[str, float]) -> None:
    print(f"| {name} | {one['transitions/s']:.0f} | {one['p50']:.0f} | {one['p95']:.0f} | {one['p99']:.0f} "
          f"| {one['frames/s']:.1f} | {one['kB/s']:.0f} | {one['cpu']:.2f} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
