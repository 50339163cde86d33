"""A day of opened and closed pages in ten minutes, under load: what is left of them afterwards?

    python benchmarks/soak.py [--minutes 10] [--tabs 4] [--rate 200]

A server process holds and resumes units; real Chromium tabs are opened, each on another page of the dashboard, looked
at until it is live, and closed again. Prints, as it goes, the watchers of the board, the documents and the memory of
the server; ends with 1 if, a minute after the last tab was closed, watchers or documents are left over, or the memory
in the second half of the time (of 4 minutes or more) has grown by more than a tenth.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time

from feed import Served, launch, served
from playwright.sync_api import Browser, sync_playwright

PAGES = ("overview", "board", "timeline", "graph", "sessions", "events", "errors", "settings", "unit&unit=unit-0")
UNITS = 500
#: Seconds that the server keeps a session whose browser has gone, with room.
FORGETS = 60
#: Minutes from which on the memory counts: before, it is still warming up.
LONG = 4


class Memory:
    """The memory of a process in MB, with the share that each time is best: what a garbage collection left."""

    def __init__(self, server: Served) -> None:
        self._server = server
        self.seen: list[float] = []

    def look(self) -> float:
        self.seen.append(self._server.system.memory_info().rss / 1e6)
        return self.seen[-1]

    def growth(self) -> float:
        """How much more the last quarter used than the second one (the first one warms up)."""
        quarter = max(1, len(self.seen) // 4)
        early, late = self.seen[quarter : 2 * quarter], self.seen[-quarter:]
        return statistics.median(late) / statistics.median(early or late) - 1


def visit(browser: Browser, server: Served, tabs: int, number: int) -> int:
    """Open and close so many tabs; how many were live."""
    context = browser.new_context()
    context.set_default_timeout(60_000)
    pages = [context.new_page() for _ in range(tabs)]
    pages[0].goto(server.ask("login"))
    home = pages[0].url.split("?")[0]
    for place, page in enumerate(pages):
        page.goto(f"{home}?page={PAGES[(number * tabs + place) % len(PAGES)]}")
    for page in pages:
        page.wait_for_selector(".console .dot.live")
    context.close()
    return tabs


def wait_for_rest(server: Served, before: dict[str, int]) -> dict[str, int]:
    deadline = time.monotonic() + FORGETS
    while (now := server.ask("state")) != before and time.monotonic() < deadline:
        time.sleep(1)
    return now


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--tabs", type=int, default=4)
    parser.add_argument("--rate", type=float, default=200)
    options = parser.parse_args()
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        browser = launch(playwright)
        with served("ours", folder, str(UNITS)) as server:
            server.ask("prepare")
            visit(browser, server, 1, 0)  # what is made once
            before = wait_for_rest(server, {"watchers": 3, "documents": 2})
            server.ask("load in the background", options.rate)
            memory, opened, number = Memory(server), 0, 0
            begun = shown = time.monotonic()
            print(f"at first: {before}, {memory.look():.0f} MB", flush=True)
            while time.monotonic() - begun < options.minutes * 60:
                opened += visit(browser, server, options.tabs, number)
                number += 1
                memory.look()
                if time.monotonic() - shown > 30:
                    shown = time.monotonic()
                    print(
                        f"{shown - begun:5.0f} s: {opened} pages, {server.ask('state')}, {memory.seen[-1]:.0f} MB",
                        flush=True,
                    )
            server.ask("load in the background", 0)
            after = wait_for_rest(server, before)
            growth = memory.growth()
            print(f"at last, after {opened} pages: {after}, {memory.look():.0f} MB, {growth:+.1%} in the second half")
        browser.close()
    grown = growth >= 0.1 and options.minutes >= LONG
    return 0 if after == before and not grown else 1


if __name__ == "__main__":
    raise SystemExit(main())
