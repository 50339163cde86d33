"""What the tests of the local executor share: a rig around one executor, and a view of real processes."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import uuid
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator_app.executors.base import AttemptSpec, Exited, Message, Report, Said, Vanished
from orchestrator_app.executors.local import LocalExecutor

TIMEOUT = 30.0


class Rig:
    """One executor and everything it reported so far."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.cwd = state.parent
        self.executor = LocalExecutor(state)
        self.reports: list[Report] = []
        self.known: list[tuple[str, int]] = []

    def open(self) -> Rig:
        self.executor.open()
        return self

    def reopen(self, *attempts: tuple[str, int, int]) -> Rig:
        """Another executor on the same state, as a server after a restart."""
        rig = Rig(self.state).open()
        rig.known = [(unit, attempt) for unit, attempt, _ in attempts]
        rig.executor.recover(list(attempts))
        return rig

    def spec(self, unit: str, *argv: str, attempt: int = 1, **changes: object) -> AttemptSpec:
        run_dir = str(self.state / "runs" / unit / str(attempt))
        plain = AttemptSpec(unit, attempt, "IMPLEMENT", argv, str(self.cwd), {}, run_dir, "", None, 5.0)
        env = {"ORCH_EVENTS": run_dir + "/events.jsonl", **changes.pop("env", {})}
        return replace(plain, env=env, **changes)

    def start(self, unit: str, *argv: str, **changes: object) -> None:
        spec = self.spec(unit, *argv, **changes)
        self.known.append((spec.unit, spec.attempt))
        self.executor.start([spec])

    def python(self, unit: str, code: str, **changes: object) -> None:
        self.start(unit, sys.executable, "-S", "-c", code, **changes)

    def until(self, condition, what: str = "a report") -> object:
        deadline = time.monotonic() + TIMEOUT
        while True:
            value = condition()
            if value:
                return value
            if time.monotonic() > deadline:
                pytest.fail(f"waited in vain for {what}; got {self.reports}; {self.log()}")
            self.reports += self.executor.wait(0.05)

    def ends(self, unit: str) -> list[Exited | Vanished]:
        return [report for report in self.reports if report.unit == unit and not isinstance(report, Said)]

    def end(self, unit: str) -> Exited | Vanished:
        return self.until(lambda: self.ends(unit), f"the end of {unit}")[0]

    def said(self, unit: str) -> list[Message]:
        return [
            m for report in self.reports if isinstance(report, Said) and report.unit == unit for m in report.messages
        ]

    def said_data(self, unit: str) -> list[dict | None]:
        return [message.data for message in self.said(unit)]

    def run_dir(self, unit: str, attempt: int = 1) -> Path:
        return self.state / "runs" / unit / str(attempt)

    def output(self, unit: str) -> bytes:
        path = self.run_dir(unit) / "output.log"
        return path.read_bytes() if path.exists() else b""

    def log(self) -> str:
        path = self.state / "supervisor.log"
        return path.read_text() if path.exists() else ""

    def processes(self) -> list[int]:
        """The supervisor of this state and its keepers."""
        return [pid for pid in pids() if "supervisor.py" in cmdline(pid) and str(self.state) in cmdline(pid)]

    def supervisor(self) -> int | None:
        return next((pid for pid in self.processes() if name_of(pid) == "orch-supervisor"), None)

    def keepers(self) -> list[int]:
        return [pid for pid in self.processes() if name_of(pid) == "orch-keeper"]

    def agent(self, unit: str) -> int:
        """The pid of a running agent, once its keeper has written it down."""
        path = self.run_dir(unit) / "attempt.json"
        self.until(lambda: path.exists() and len(path.read_text().splitlines()) == 3, f"the start of {unit}")
        return json.loads(path.read_text().splitlines()[2])["pid"]

    def finish(self) -> None:
        """Stop what the test left running, so that no test leaves a process."""
        if self.executor._selector is None:
            return
        ended = {(report.unit, report.attempt) for report in self.reports if not isinstance(report, Said)}
        for unit, attempt in self.known:
            if (unit, attempt) not in ended:
                self.executor.stop(unit, attempt, 0.0)
                self.end(unit)
        self.executor.close()


def pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def cmdline(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def marked(mark: str) -> list[int]:
    """Living processes whose command line holds `mark`."""
    return [pid for pid in pids() if mark in cmdline(pid)]


def new_mark() -> str:
    """A duration for `sleep` that no other process has."""
    return f"1000.{uuid.uuid4().int % 10**12:012d}"


def zombies_below(root: int) -> list[int]:
    found = []
    for pid in pids():
        try:
            words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if words[0] == "Z" and int(words[1]) == root:
            found.append(pid)
    return found


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
