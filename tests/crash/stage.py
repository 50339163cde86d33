"""The place of a crash test: a git repository with settings, an operator's uncommitted file, and room for the marks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
OPERATORS_FILES = {"notes.txt": "what the operator has not committed\n", "base.txt": "base\nchanged by the operator\n"}
#: Seconds that anything which must happen may take, on the slowest machine.
PATIENCE = 60.0

SETTINGS = """\
[project]
slots = 5
grace = 0.5
verify = {verify}
[workflow]
phases = ["IMPLEMENT", "REVIEW", "MERGE"]
[phases.IMPLEMENT]
retries = 2
timeout = 50
[retry]
delay = 0.05
max_delay = 0.2
[agents.wild]
command = {agent}
"""


class Stage:
    """The files of one campaign. `marks` is what agents say of themselves, `told` what clients were told."""

    def __init__(self, folder: Path, seed: int, settings: str | None = None) -> None:
        self.folder, self.root = folder, folder / "repository"
        self.started: list[Server] = []
        self.state = self.root / ".orchestrator"
        self.marks, self.told, self.servers = folder / "marks", folder / "told", folder / "servers"
        for each in (self.root, self.marks, folder / "locks", self.told, self.servers):
            each.mkdir(parents=True)
        self.git("init", "-q", "-b", "main")
        self.git("config", "user.name", "Operator")
        self.git("config", "user.email", "operator@localhost")
        agent = [sys.executable, "-I", "-S", str(HERE / "agent.py"), str(folder), str(seed)]
        words = {"agent": json.dumps(agent), "verify": json.dumps(agent)}
        (self.root / "orchestrator.toml").write_text(settings if settings is not None else SETTINGS.format(**words))
        (self.root / "base.txt").write_text("base\n")
        self.git("add", "--all")
        self.git("commit", "-q", "-m", "the beginning")
        self.first = self.git("rev-parse", "main")
        for name, text in OPERATORS_FILES.items():
            (self.root / name).write_text(text)

    def git(self, *args: str, cwd: Path | None = None) -> str:
        done = subprocess.run(["git", *args], cwd=cwd or self.root, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    def clear(self) -> None:
        """End every process of this place, whatever became of the test."""
        for server in self.started:
            server.kill()
        for pid in running(str(self.root)):
            kill(pid)

    def marks_of(self, unit: str) -> list[dict[str, Any]]:
        path = self.marks / f"{unit}.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


class Server:
    """One `orch serve`, with a crash point armed or none."""

    def __init__(self, stage: Stage, plan: dict[str, Any] | None = None) -> None:
        self.stage = stage
        self.number = len(stage.started) + 1
        self.trace = stage.folder / "trace"
        self.trace.unlink(missing_ok=True)
        self.log = stage.servers / f"{self.number:03d}.log"
        whole = {"trace": str(self.trace), "folder": str(stage.root), **(plan or {})}
        argv = [sys.executable, str(HERE / "server.py"), json.dumps(whole), "--project", str(stage.root)]
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(
                [*argv, "serve", "--port", "0"], stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=stage.folder
            )
        stage.started.append(self)

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    @property
    def ready(self) -> bool:
        """Whether it has said where it is."""
        try:
            return json.loads((self.stage.state / "server.json").read_text())["pid"] == self.process.pid
        except (OSError, ValueError):
            return False

    def wait_ready(self) -> bool:
        """False when it died before."""
        return self.wait(lambda: self.ready or not self.alive) and self.alive

    def wait(self, condition: Any, seconds: float = PATIENCE) -> bool:
        until = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > until:
                return False
            time.sleep(0.005)
        return True

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.process.kill()
        self.process.wait()

    def died_at(self) -> str | None:
        """The point that killed it."""
        try:
            return self.trace.read_text().split()[0]
        except (OSError, IndexError):
            return None

    def said(self) -> str:
        return self.log.read_text(errors="replace")


# -- processes, as the kernel tells of them


def running(word: str) -> dict[int, str]:
    """The processes whose command line or environment names `word`: pid -> command line."""
    found = {}
    wanted = os.fsencode(word)
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            line = (entry / "cmdline").read_bytes()
            if line and (wanted in line or wanted in (entry / "environ").read_bytes()):
                found[int(entry.name)] = line.replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # it has ended, or is another user's
    return found


def children_of(parent: int) -> list[int]:
    """What a process has started itself and still runs."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and int((entry / "stat").read_bytes().rpartition(b")")[2].split()[1]) == parent:
                found.append(int(entry.name))
        except OSError:
            continue  # it has ended
    return found


def starttime(pid: int) -> int | None:
    """Clock ticks from the boot to its start; None for one that is gone or only not yet reaped."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


def supervisor_of(stage: Stage) -> int | None:
    """The project's supervisor. Its keepers, those of earlier supervisors too, have the same command line."""
    for pid in running(f"supervisor.py\0{stage.state}"):
        try:
            if Path(f"/proc/{pid}/comm").read_text().strip() == "orch-supervisor":
                return pid
        except OSError:
            continue  # it has ended
    return None


def keepers_at_work(stage: Stage) -> list[tuple[str, int, int]]:
    """(unit, attempt, keeper's pid) of every attempt without an exit whose keeper lives, by the run directories."""
    found = []
    for path in stage.state.glob("runs/*/*/attempt.json"):
        if (path.parent / "exit.json").exists():
            continue
        try:
            keeper = json.loads(path.read_text().splitlines()[1])
            if starttime(keeper["keeper"]) == keeper["starttime"]:
                found.append((path.parent.parent.name, int(path.parent.name), keeper["keeper"]))
        except (OSError, ValueError, LookupError, TypeError):
            continue  # being written
    return found


def kill(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIGKILL)
    except OSError:
        return False
    return True
