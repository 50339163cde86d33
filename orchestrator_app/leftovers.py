"""Run directories of attempts that a log doesn't know: what it was taken back behind, or has lost."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import NamedTuple

from orchestrator_app.executors import processes
from orchestrator_app.executors.evidence import read_attempt
from orchestrator_app.model import Board


class Unknown(NamedTuple):
    """An attempt that has a run directory, and that the log has never heard of."""

    unit: str
    attempt: int

    @property
    def path(self) -> str:
        """Relative to the state directory."""
        return f"runs/{self.unit}/{self.attempt}"

    def __str__(self) -> str:
        return f"attempt {self.attempt} of {self.unit}"


def unknown_attempts(state: Path, board: Board) -> list[Unknown]:
    """Those attempts, by unit and number."""
    found = []
    for directory in state.glob("runs/*/*"):
        name = directory.parent.name
        known = board.units[name].attempt if name in board.units else 0
        if directory.name.isdecimal() and int(directory.name) > known:
            found.append(Unknown(name, int(directory.name)))
    return sorted(found)


def who_runs(state: Path, attempt: Unknown) -> int | None:
    """The process that answers for an attempt, or its agent's where nobody does; None if it has ended."""
    directory = str(state / attempt.path)
    _, keeper, agent = read_attempt(directory)
    try:
        file = os.open(directory + "/attempt.json", os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return keeper.get("keeper", 0)
    finally:
        os.close(file)
    if not agent:
        return None
    alive = processes.open_proven(agent["pid"], agent["starttime"], keeper["boot_id"])
    if alive is None:
        return None
    os.close(alive)
    return agent["pid"]
