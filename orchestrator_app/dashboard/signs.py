"""What the run directories of attempts tell: their process, when they last wrote, whether they have ended."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from orchestrator_app.agents.command import run_dir
from orchestrator_app.executors import processes
from orchestrator_app.executors.evidence import read_attempt
from orchestrator_app.settings import Project

#: An attempt: its unit and its number.
Key = tuple[str, int]


class Sign(NamedTuple):
    """What is known of one attempt. `pid` and `starttime` tell its process, `wrote` is when it last wrote output."""

    pid: int | None
    starttime: int | None
    wrote: float | None
    ended: bool


def look(project: Project, keys: Iterable[Key], known: Mapping[Key, Sign]) -> dict[Key, Sign]:
    """Look at each attempt. Reads files: not for the event loop. What is `known` of a process is not read again."""
    return {key: _look(str(run_dir(project, *key)), known.get(key)) for key in keys}


def _look(where: str, known: Sign | None) -> Sign:
    if known is not None and known.ended:
        return known
    if known is not None and known.pid is not None:
        pid, starttime = known.pid, known.starttime
    else:
        agent = read_attempt(where)[2]
        pid, starttime = agent.get("pid"), agent.get("starttime")
    try:
        wrote = os.stat(where + "/output.log").st_mtime
    except OSError:
        wrote = None
    return Sign(pid, starttime, wrote, os.path.exists(where + "/exit.json") or _is_gone(pid, starttime))


def _is_gone(pid: int | None, starttime: int | None) -> bool:
    """Whether its process is proven not to run; where the system tells nothing of processes, nothing is proven."""
    if pid is None or not processes.boot_id():
        return False
    process = processes.read(pid)
    return process is None or process.starttime != starttime
