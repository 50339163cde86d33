"""Runs `orch` and keeps its exit code and its two outputs; and a server of its own, `orch serve`."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import orchestrator_app
from orchestrator_app.claim import server_info
from orchestrator_app.cli import main

SOURCES = str(Path(orchestrator_app.__file__).parents[1])
ORCH = (sys.executable, "-m", "orchestrator_app")

# A unit's prompt is the script that its attempt runs; `$ORCH` in it is the command line.
SETTINGS = """
[project]
slots = 3
grace = 1
touches = "ask"
[retry]
delay = 0.05
[workflow]
isolation = "none"
phases = ["RUN"]
[workflows.two]
phases = ["RUN", "CHECK"]
[phases.RUN]
agent = "shell"
retries = 0
[phases.CHECK]
agent = "check"
[agents.shell]
command = ["sh", "-c", '. "$ORCH_PROMPT_FILE"']
[agents.check]
command = ["sh", "-c", "echo the second phase"]
"""


def environment(**more: str) -> dict[str, str]:
    """What `orch` runs in: it can be imported, and nothing of an outer attempt or terminal shows through."""
    path = os.pathsep.join(part for part in (SOURCES, os.environ.get("PYTHONPATH")) if part)
    dropped = ("COLUMNS", "NO_COLOR", "DISPLAY", "ORCH_PROJECT")
    kept = {name: value for name, value in os.environ.items() if name not in dropped}
    return {**kept, "PYTHONPATH": path, "ORCH": " ".join(ORCH), **more}


class Done(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def run(root: Path, *arguments: str, stdin: str | bytes = b"", cwd: Path | None = None, **env: str) -> Done:
    """`orch ARGUMENTS` in a project's directory, in this process: starting one for each of many takes long."""
    outputs = [io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2)]
    data = stdin.encode() if isinstance(stdin, str) else stdin
    with (
        contextlib.chdir(cwd or root),
        contextlib.redirect_stdout(outputs[0]),
        contextlib.redirect_stderr(outputs[1]),
        mock.patch.dict(os.environ, environment(**env), clear=True),
        mock.patch.object(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8")),
    ):
        code = main(arguments)
    out, err = (output.buffer.getvalue().decode(errors="replace") for output in outputs if output.flush() is None)
    return Done(code, out, err)


def spawn(root: Path, *arguments: str) -> Done:
    """`orch ARGUMENTS` as a process of its own."""
    done = subprocess.run([*ORCH, *arguments], cwd=root, capture_output=True, env=environment(), timeout=120)
    return Done(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))


def make_project(root: Path, settings: str = SETTINGS) -> Path:
    root.mkdir(parents=True)
    (root / "orchestrator.toml").write_text(settings)
    return root


class Server:
    """`orch serve` on a free port, for one project."""

    def __init__(self, root: Path, *arguments: str) -> None:
        self.root = root
        self.output = root.parent / f"{root.name}.{time.monotonic_ns()}.out"
        with open(self.output, "wb") as file:
            self.popen = subprocess.Popen(
                [*ORCH, "serve", *(arguments or ("--port", "0"))],
                cwd=root,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=environment(),
            )
        deadline = time.monotonic() + 60
        while server_info(root / ".orchestrator") is None or "/login?code=" not in self.text:
            assert self.popen.poll() is None, self.text
            assert time.monotonic() < deadline, self.text
            time.sleep(0.02)

    @property
    def text(self) -> str:
        return self.output.read_text(errors="replace")

    def orch(self, *arguments: str, **more: Any) -> Done:
        return run(self.root, *arguments, **more)

    def ok(self, *arguments: str, **more: Any) -> str:
        """Its output, when it must work and complain of nothing."""
        done = self.orch(*arguments, **more)
        assert (done.code, done.err) == (0, ""), done
        return done.out

    def stop(self, *options: str) -> None:
        """`orch stop`, which leaves no agent running unless told to; on a busy machine it says that it still waits."""
        done = self.orch("stop", *(options or ("--agents",)))
        assert done.code == 0, done

    def json(self, *arguments: str, **more: Any) -> Any:
        return json.loads(self.ok(*arguments, "--json", **more))

    def end(self) -> None:
        if self.popen.poll() is None:
            self.orch("stop", "--agents")
            self.popen.terminate()
            try:
                self.popen.wait(30)
            except subprocess.TimeoutExpired:
                self.popen.kill()
                self.popen.wait(30)


def assert_one_line(done: Done, code: int, *words: str) -> None:
    """It failed with this exit code and one clear line on standard error, which has these words."""
    assert done.code == code, done
    lines = done.err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("orch"), done
    assert "Traceback" not in done.err and "orch-error" not in done.err, done
    for word in words:
        assert word in lines[0], (word, lines[0])


def has_a_socket(pid: int) -> bool:
    """Whether a process has one open: then it is past its start, and talks to the server."""
    for file in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):  # closed meanwhile
            if os.readlink(file).startswith("socket:"):
                return True
    return False
