"""A project whose agents are small shell scripts, and a history that they really made."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from orchestrator_app.model import Board
from orchestrator_app.orchestrator import Orchestrator
from orchestrator_app.serve import Serving, serve
from orchestrator_app.settings import Project, load_project
from orchestrator_app.stopping import Stop

SETTINGS = """
[project]
slots = 3
grace = 1
[retry]
delay = 0.05
[workflow]
isolation = "none"
phases = ["PLAN", "WORK"]
[phases.PLAN]
agent = "script"
[phases.WORK]
agent = "script"
retries = 0
[agents.script]
command = ["sh", "-c", 'test ! -e "agents/$ORCH_UNIT.$ORCH_PHASE" || . "agents/$ORCH_UNIT.$ORCH_PHASE"']
"""

SAY = """say() { printf '%s\\n' "$1" >> "$ORCH_EVENTS"; }\n"""

#: What the units of the history do in their phases; those that are not here just pass.
SCRIPTS = {
    "build.WORK": """say '{"type":"progress","percent":40,"step":"compiling"}'
say '{"type":"usage","input_tokens":1200,"output_tokens":300,"usd":0.25,"model":"small"}'
say '{"type":"session","id":"s-1"}'""",
    "slow.WORK": "sleep 0.6",
    "broken.WORK": "echo it does not compile; exit 3",
    "choose.WORK": """test -n "$ORCH_ANSWER" ||
say '{"type":"ask","question":"Which database?","options":["postgres","sqlite"],"kind":"question"}'""",
    "unsure.PLAN": """say '{"type":"ask","question":"May I?","kind":"approval"}'""",
    "build.PLAN": """say '{"type":"note","level":"warning","message":"a <b>tag</b>","data":{"n":[1,2.5]}}'""",
}

UNITS = [
    {"name": "build", "prompt": "compile it", "priority": 5, "labels": ["core"], "touches": ["src/**"]},
    {"name": "check", "after": ["build"]},
    {"name": "slow"},
    {"name": "broken"},
    {"name": "choose"},
    {"name": "unsure"},
]


def make_project(root: Path, settings: str = SETTINGS) -> Project:
    """A project with SCRIPTS as its agents; nothing runs yet."""
    (root / "agents").mkdir(parents=True)
    (root / "orchestrator.toml").write_text(settings)
    for name, script in SCRIPTS.items():
        (root / "agents" / name).write_text(SAY + script + "\n")
    return load_project(root)


def live_through(orchestrator: Orchestrator) -> None:
    """Have UNITS done as far as they get: `broken` has failed, `choose` was answered, `unsure` waits for approval."""
    board = orchestrator.board
    orchestrator.request("submit", units=UNITS, actor="operator:ann").result(20)
    reach(board, lambda: board.row("choose").item)
    orchestrator.request("answer", "choose", text="sqlite", actor="operator:ben").result(20)
    ends = {"build": "DONE", "check": "DONE", "slow": "DONE", "choose": "DONE"}
    ends |= {"broken": "NEEDS_ATTENTION", "unsure": "NEEDS_ATTENTION"}
    reach(board, lambda: {name: str(unit.status) for name, unit in list(board.units.items())} == ends)


def reach(board: Board, condition: Callable[[], Any], timeout: float = 60.0) -> None:
    """Return when the condition holds; fail after `timeout` seconds (a limit, never an expectation)."""
    held = threading.Event()
    end = board.watch(lambda records: condition() and held.set())
    assert condition() or held.wait(timeout) or condition(), "the board did not get there"
    end()


@contextmanager
def running(project: Project) -> Iterator[Orchestrator]:
    """The project's orchestrator, without a server."""
    orchestrator = Orchestrator(project)
    orchestrator.start()
    try:
        yield orchestrator
    finally:
        orchestrator.stop(Stop.AGENTS)


@contextmanager
def serving(project: Project) -> Iterator[Serving]:
    """The project's server, on a thread of this process and a free port."""
    started: list[Serving] = []
    ready = threading.Event()

    def on_ready(one: Serving) -> None:
        started.append(one)
        ready.set()

    thread = threading.Thread(target=serve, args=(project,), kwargs={"port": 0, "on_ready": on_ready}, daemon=True)
    thread.start()
    assert ready.wait(60), "the server did not start"
    try:
        yield started[0]
    finally:
        started[0].stop_from_any_thread(Stop.AGENTS)
        thread.join(60)
        assert not thread.is_alive(), "the server did not stop"
