"""What a run directory proves about its attempt: its exit, its processes, and whether a keeper answers for it.

Agents can write there too: what is not in order counts as not written.
"""

from __future__ import annotations

import fcntl
import json
import os
import time

from . import processes

EXIT_FIELDS = {"code", "signal", "why", "message", "started_at", "ended_at", "leftovers"}
ATTEMPT_LINES = (
    {"timeout": int | float | None, "grace": int | float},
    {"keeper": int, "starttime": int, "boot_id": str},
    {"pid": int, "starttime": int, "started_at": int | float},
)


def read_exit(run_dir: str) -> dict | None:
    """How the attempt ended: the fields of `base.Exited` from `code` on; None if no exit was written."""
    try:
        with open(run_dir + "/exit.json", "rb") as file:
            record = json.loads(file.read())
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and record.keys() == EXIT_FIELDS else None


def read_attempt(run_dir: str) -> tuple[dict, dict, dict]:
    """Spec, keeper, agent: as far as they have been written."""
    found: list[dict] = []
    try:
        with open(run_dir + "/attempt.json", "rb") as file:
            for line, needed in zip(file.read().split(b"\n")[:-1], ATTEMPT_LINES, strict=False):
                record = json.loads(line)
                if not isinstance(record, dict) or any(not isinstance(record.get(k), t) for k, t in needed.items()):
                    break
                found.append(record)
    except (OSError, ValueError):
        pass
    spec, keeper, agent, *_ = [*found, {}, {}, {}]
    return spec, keeper, agent


def find_agent(run_dir: str) -> dict:
    """The agent of a keeper that died between starting it and writing it down, as the record that was missing; {} if
    there is none. Who carries the run directory in its environment is the agent or descends from it."""
    found = processes.carrying(f"ORCH_RUN_DIR={run_dir}")
    pids = {process.pid for process in found}
    agent = next((process for process in found if process.parent not in pids), None)
    if agent is None:
        return {}
    record = {"pid": agent.pid, "starttime": agent.starttime, "started_at": time.time()}
    try:
        with open(run_dir + "/attempt.json", "ab") as file:
            file.write(json.dumps(record).encode() + b"\n")
    except OSError:
        pass  # then the next server looks for it again
    return record


def claim(run_dir: str) -> tuple[dict, dict, dict] | None:
    """Make sure that no keeper answers for an attempt, now or later; what was written of it. None: a keeper lives.

    A keeper locks attempt.json, and starts nothing when the file is there before it.
    """
    try:
        os.makedirs(run_dir, 0o700, exist_ok=True)
        fd = os.open(run_dir + "/attempt.json", os.O_CREAT | os.O_RDWR | os.O_APPEND, 0o600)
    except OSError:  # nothing can be written there, so nothing was or will be started there
        return {}, {}, {}
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(fd).st_size == 0:
            os.write(fd, b'{"never": "this attempt was given up before it was started"}\n')
        return read_attempt(run_dir)
    except BlockingIOError:
        return None
    finally:
        os.close(fd)
