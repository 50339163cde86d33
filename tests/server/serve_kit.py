"""A server in a process of its own, and the end of all that it leaves behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from raw_client import Client

import orchestrator_app
from orchestrator_app import client as api
from orchestrator_app.claim import server_info, start_time

LAUNCH = """
import sys
from pathlib import Path
from orchestrator_app.errors import OrchError
from orchestrator_app.serve import serve
from orchestrator_app.settings import load_project
try:
    sys.exit(serve(load_project(Path(sys.argv[1])), port=int(sys.argv[2]) if sys.argv[2:] else None))
except OrchError as error:
    print(error, file=sys.stderr)
    sys.exit(error.exit_code)
"""
SOURCES = str(Path(orchestrator_app.__file__).parents[1])
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([SOURCES, os.environ.get("PYTHONPATH", "")])}
PANEL = (str(Path(sys.executable).with_name("panel")), "serve", str(Path(orchestrator_app.__file__).parent))


class Process:
    """A server in a process of its own; its output goes to a file beside the project."""

    def __init__(self, root: Path, *command: str) -> None:
        self.root = root
        self.output = root.parent / f"{root.name}.{len(list(root.parent.iterdir()))}.out"
        with open(self.output, "wb") as file:
            self.popen = subprocess.Popen(
                command,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=ENVIRONMENT,
                cwd=root,
                preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # the tests may run under nohup
            )

    @property
    def text(self) -> str:
        return self.output.read_text()

    @property
    def info(self) -> dict[str, Any]:
        info = server_info(self.root / ".orchestrator")
        assert info is not None
        return info

    @property
    def client(self) -> Client:
        return Client(self.info["port"], (self.root / ".orchestrator" / "token").read_text().strip())

    def login_path(self) -> str:
        found = re.search(r"http://[^/\s]+(/login\?code=\S+)", self.text)
        assert found, self.text
        return found.group(1)

    def submit(self, name: str, prompt: str, **fields: Any) -> None:
        reply = self.client.api("POST", "/units", {"name": name, "prompt": prompt, **fields})
        assert reply.status == 201, reply.body

    def unit(self, name: str) -> dict[str, Any]:
        return self.client.api("GET", f"/units/{name}").json

    def state(self) -> str:
        return self.client.api("GET", "/status").json["state"]

    def end(self, number: int = signal.SIGTERM) -> int:
        self.popen.send_signal(number)
        return self.popen.wait(60)


class Agent:
    """A unit's script that leaves its pid in a file and runs until it is told to go (a file) or is ended."""

    def __init__(self, root: Path, name: str) -> None:
        self.mark, self.go = root / f"{name}.pid", root / f"{name}.go"

    def script(self, before: str = "", last: str = "") -> str:
        wait = f"while ! test -e {self.go}; do sleep 0.02; done"
        return f"{before}\necho $$ > {self.mark}.new; mv {self.mark}.new {self.mark}; {wait}; {last}"

    def is_there(self) -> bool:
        return self.mark.exists()

    def lives(self) -> bool:
        return start_time(int(self.mark.read_text())) is not None


def end_what_is_left(root: Path, wait_until: Callable[..., Any]) -> None:
    """End the attempts that a server left behind: by their keepers, proven to be those of this project."""
    for file in (root / ".orchestrator" / "runs").glob("*/*/attempt.json"):
        lines = file.read_text().splitlines()
        if len(lines) > 1 and not file.with_name("exit.json").exists():
            keeper = json.loads(lines[1])
            if start_time(keeper["keeper"]) == keeper["starttime"]:
                with suppress(ProcessLookupError):
                    os.kill(keeper["keeper"], signal.SIGTERM)
                wait_until(file.with_name("exit.json").exists, 30, f"{file.parent} to end")


def every_record(client: api.Client) -> list[dict[str, Any]]:
    """All rows of the log, page after page of the feed."""
    rows: list[dict[str, Any]] = []
    more = True
    while more:
        answer = client.changes(rows[-1]["seq"] if rows else 0)
        rows, more = rows + answer["records"], answer["more"]
    return rows
