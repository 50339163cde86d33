"""The `command` agent: any program, told what to do by environment variables and files."""

from __future__ import annotations

import json
import os
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator_app.agents.channel import channel_environment
from orchestrator_app.errors import NotFoundError
from orchestrator_app.executors.base import AttemptSpec
from orchestrator_app.executors.output import read_piece
from orchestrator_app.model import Unit
from orchestrator_app.settings import Agent, Phase, Project

#: A variable of the environment may not be much longer than this on Linux (128 KiB with its name).
MAX_VARIABLE = 100_000


def run_dir(project: Project, unit: str, attempt: int) -> Path:
    """Where everything about one attempt lies."""
    return project.state / "runs" / unit / str(attempt)


def agent_for(project: Project, unit: Unit, phase: Phase) -> Agent:
    """The agent that runs `phase` of `unit`: the unit's own, or the phase's, or the first there is."""
    name = unit.agent or phase.agent
    return project.agents[name] if name else next(iter(project.agents.values()))


def prompt_of(unit: Unit, phase: Phase) -> str:
    """What the agent is told: the phase's prompt, the unit's, and what came of earlier attempts."""
    parts = [phase.prompt, unit.prompt]
    if unit.feedback:
        parts.append(f"Feedback on the attempt before:\n{unit.feedback}")
    parts += [f"You asked: {one['question']}\nThe answer: {one['answer']}" for one in unit.answers]
    return "\n\n".join(part for part in parts if part)


def spec_for(project: Project, unit: Unit, phase: Phase, cwd: Path, argv: tuple[str, ...] | None = None) -> AttemptSpec:
    """All that an executor needs to run the unit's newest attempt. `argv` replaces the agent's command (verify)."""
    where = run_dir(project, unit.name, unit.attempt)
    environment = {
        "ORCH_UNIT": unit.name,
        "ORCH_PHASE": phase.name,
        "ORCH_ATTEMPT": str(unit.attempt),
        "ORCH_RUN_DIR": str(where),
        "ORCH_EVENTS": str(where / "events.jsonl"),
        "ORCH_ANSWERS": str(where / "answers.jsonl"),
        "ORCH_PROMPT_FILE": str(where / "prompt.txt"),
        "ORCH_FEEDBACK": (unit.feedback or "")[:MAX_VARIABLE],
        "ORCH_ANSWER": unit.answers[-1]["answer"][:MAX_VARIABLE] if unit.answers else "",
        "ORCH_SESSION": unit.session or "",
        "ORCH_PROJECT": str(project.root),
        "ORCH_BASE": project.base,
        **channel_environment(project.state, unit.name, unit.attempt),
        "PATH": f"{os.environ.get('PATH', os.defpath)}{_OWN_PROGRAMS}",
    }
    prompt = ""
    if argv is None:
        agent = agent_for(project, unit, phase)
        argv, prompt = agent.command, prompt_of(unit, phase)
        environment.update(agent.env)
    timeout = unit.timeout or phase.timeout
    return AttemptSpec(
        unit.name,
        unit.attempt,
        phase.name,
        tuple(argv),
        str(cwd),
        environment,
        str(where),
        prompt,
        timeout,
        project.grace,
        project.output_limit,
        phase.memory,
    )


# At the end of the PATH: agents find `orch` when it isn't installed for everyone, and lose no program of their own.
_OWN_PROGRAMS = os.pathsep + (sysconfig.get_path("scripts") or os.path.dirname(sys.executable))


def deliver_answer(project: Project, unit: str, attempt: int, answer: Mapping[str, Any]) -> None:
    """Append an answer to the file that a waiting agent reads (`$ORCH_ANSWERS`), once however often it is called."""
    path = run_dir(project, unit, attempt) / "answers.jsonl"
    line = json.dumps({"item": answer["item"], "question": answer["question"], "answer": answer["answer"]}) + "\n"
    if path.exists() and line in path.read_text(encoding="utf-8"):
        return
    with path.open("a", encoding="utf-8") as file:
        file.write(line)


def output_tail(project: Project, unit: str, attempt: int, size: int = 2_000) -> str:
    """The end of an attempt's output, as text; empty where there is none."""
    try:
        piece = read_piece(project.state / "runs", (unit, str(attempt), "output.log"), None, None, size)
    except (NotFoundError, OSError):
        return ""
    return "" if piece is None else piece.data.decode("utf-8", "replace").strip()
