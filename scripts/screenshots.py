"""Takes the README's screenshots of the demo: python scripts/screenshots.py (needs Chromium and the test extra)."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

IMAGES = Path(__file__).parents[1] / "docs" / "images"
PATIENCE = 90


def wait_for(what: str, condition):
    deadline = time.monotonic() + PATIENCE
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise SystemExit(f"waited {PATIENCE} s in vain for {what}")
        time.sleep(0.1)
    return value


def server_of(folder: Path) -> dict | None:
    try:
        return json.loads((folder / ".orchestrator" / "server.json").read_text())
    except (OSError, ValueError):
        return None


def login_url(folder: Path, url: str) -> str:
    token = (folder / ".orchestrator" / "token").read_text().strip()
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"{url}/api/v1/login-code", b"{}", headers, method="POST")
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)["url"]


def take(page: Page, home: str) -> None:
    page.locator(".queue .item").nth(2).wait_for(timeout=PATIENCE * 1000)
    page.get_by_label("Running now").locator(".card").first.wait_for(timeout=PATIENCE * 1000)
    page.screenshot(path=IMAGES / "overview.png")
    page.get_by_label("Toggle theme").click()
    page.locator('.console[data-theme="dark"]').wait_for()
    page.goto(f"{home}/?page=board")
    page.locator(".column.DONE .card").nth(3).wait_for(timeout=PATIENCE * 1000)
    page.screenshot(path=IMAGES / "board-dark.png")
    page.get_by_label("Toggle theme").click()
    page.locator(".column.DONE .unit-link").first.click()
    page.locator(".story li").nth(1).wait_for()
    page.screenshot(path=IMAGES / "unit.png")
    page.goto(f"{home}/?page=timeline&rows=phase")
    page.get_by_role("button", name="1 min", exact=True).click()
    page.locator("canvas").first.wait_for()
    page.wait_for_timeout(3000)  # Bokeh says nothing when it has drawn
    page.screenshot(path=IMAGES / "timeline.png")
    page.goto(f"{home}/?page=graph&finished=1")
    page.locator(".graph .node").first.wait_for()
    page.screenshot(path=IMAGES / "graph.png")


def main() -> None:
    IMAGES.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp()) / "stockroom"
    command = [sys.executable, "-m", "orchestrator_app", "demo", "--dir", str(folder)]
    demo = subprocess.Popen(command, env={**os.environ, "BROWSER": "true"}, stdout=subprocess.DEVNULL)
    try:
        url = wait_for("the demo's server", lambda: server_of(folder))["url"]
        flags = ["--disable-gpu", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=flags)
            page = browser.new_page(viewport={"width": 1400, "height": 900})
            page.goto(wait_for("a link", lambda: login_url(folder, url)))
            take(page, url)
            browser.close()
    finally:
        demo.send_signal(signal.SIGINT)
        demo.wait(PATIENCE)
        shutil.rmtree(folder.parent)
    print(f"wrote {', '.join(path.name for path in sorted(IMAGES.glob('*.png')))} in docs/images")


if __name__ == "__main__":
    main()
