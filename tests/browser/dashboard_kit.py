"""A project served by a process of its own, for tests that look at it with a browser."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

AGENT = r"""
case $ORCH_UNIT in
  ask*) [ -n "$ORCH_ANSWER" ] || { printf '{"type":"ask","question":"Which database?","options":["postgres"]}\n' \
    >> "$ORCH_EVENTS"; exit 0; } ;;
  fail*) echo "it broke"; exit 3 ;;
  slow*) i=0; while [ ! -e "$ORCH_PROJECT/stop-$ORCH_UNIT" ]; do i=$((i+1)); echo "line $i"; sleep 0.1; done ;;
  evil*) cat "$ORCH_PROJECT/evil.txt"; cat "$ORCH_PROJECT/evil.jsonl" >> "$ORCH_EVENTS" ;;
esac
"""
SETTINGS = """
[project]
slots = 4
[workflow]
isolation = "none"
phases = ["RUN"]
[phases.RUN]
retries = 0
[agents.sh]
command = ["/bin/sh", "{agent}"]
"""
PAYLOADS = (
    "<img src=x onerror=window.__x=1>",
    "<script>window.__x=2</script>",
    "<iframe srcdoc='<script>parent.__x=3</script>'></iframe>",
)


class Server:
    """`orch serve` as a process of its own, spoken to as a program would."""

    def __init__(self, root: Path, port: int = 0) -> None:
        self.root = root
        self.output = root / "serve.out"
        command = [sys.executable, "-m", "orchestrator_app", "--project", str(root), "serve", "--no-open"]
        with self.output.open("w") as output:
            self.process = subprocess.Popen(
                [*command, "--port", str(port)], stdout=output, stderr=output, stdin=subprocess.DEVNULL
            )

    @classmethod
    def of(cls, root: Path, more: str = "") -> Server:
        """Serve a new project in `root`; `more` goes to the end of its settings."""
        (root / "agent.sh").write_text(AGENT)
        (root / "orchestrator.toml").write_text(SETTINGS.format(agent=root / "agent.sh") + more)
        return cls(root)

    def wait(self, wait_until) -> Server:
        self.info = wait_until(self._info, timeout=60, what="the server")
        wait_until(lambda: self._answers(), timeout=60, what="an answer of the server")
        return self

    def _info(self) -> dict | None:
        assert self.process.poll() is None, self.output.read_text()
        try:
            info = json.loads((self.root / ".orchestrator" / "server.json").read_text())
        except (OSError, ValueError):
            return None
        return info if info["pid"] == self.process.pid else None

    def _answers(self) -> bool:
        try:
            return bool(self.api("GET", "status"))
        except OSError:
            return False

    def api(self, method: str, path: str, body: Any = None) -> Any:
        token = (self.root / ".orchestrator" / "token").read_text().strip()
        request = urllib.request.Request(
            f"{self.info['url']}/api/v1/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def submit(self, *names: str, **fields: Any) -> None:
        self.api("POST", "units", {"units": [{"name": name, **fields} for name in names]})

    def status(self, name: str) -> str:
        return self.api("GET", f"units/{name}")["status"]

    def login_url(self) -> str:
        return self.api("POST", "login-code", {})["url"]

    def end(self) -> None:
        if self.process.poll() is None:
            self.api("POST", "stop", {"how": "agents"})
            self.process.wait(60)


def not_reloaded(page) -> bool:
    return page.evaluate("window.__same === true")
