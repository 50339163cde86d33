"""What a run directory proves about its attempt: its exit, its processes, and whether a keeper answers for it.

Agents can write there too: what is not in order counts as not written. What can't be read now, for want of descriptors
or room, is no proof of anything: then `read_exit`, `find_agent` and `claim` raise OSError, and the caller asks again.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import time

from . import processes
from .programs import REMEDIES

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
    except (OSError, ValueError) as error:
        raise_passing(error)
        return None
    return record if isinstance(record, dict) and record.keys() == EXIT_FIELDS else None


def read_attempt(run_dir: str) -> tuple[dict, dict, dict]:
    """Spec, keeper, agent: as far as they have been written and can be read."""
    try:
        return _read_attempt(run_dir)
    except OSError:
        return {}, {}, {}


def _read_attempt(run_dir: str) -> tuple[dict, dict, dict]:
    found: list[dict] = []
    try:
        with open(run_dir + "/attempt.json", "rb") as file:
            lines = file.read().split(b"\n")[:-1]
    except OSError as error:
        raise_passing(error)
        lines = []
    for line in lines:
        record = _record(line, ATTEMPT_LINES[len(found)])
        if record:
            found.append(record)
        elif len(found) < 2:  # nothing in front of the agent's line is written twice
            break
        if len(found) == len(ATTEMPT_LINES):
            break
    spec, keeper, agent, *_ = [*found, {}, {}, {}]
    return spec, keeper, agent


def _record(line: bytes, needed: dict) -> dict:
    try:
        record = json.loads(line)
    except ValueError:
        return {}
    if not isinstance(record, dict) or any(not isinstance(record.get(key), kind) for key, kind in needed.items()):
        return {}
    return record


def raise_passing(error: Exception) -> None:
    """Let an error go on that may be gone the next time."""
    if isinstance(error, OSError) and error.errno in REMEDIES:
        raise error


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
        with open(run_dir + "/attempt.json", "ab+") as file:
            file.seek(-1, os.SEEK_END)
            half = file.read() != b"\n"  # of a line is all that its keeper got written
            file.write((b"\n" if half else b"") + json.dumps(record).encode() + b"\n")
    except OSError:
        pass  # then the next server looks for it again
    return record


def claim(run_dir: str) -> tuple[dict, dict, dict] | None:
    """Make sure that no keeper answers for an attempt, now or later; what was written of it. None: a keeper lives.

    A keeper locks attempt.json, and starts nothing when there is something in it before. Raises OSError when neither
    is known: a full disk takes no mark now, but may take a keeper's a moment later.
    """
    try:
        fd = _open_attempt(run_dir)
    except OSError as error:
        raise_passing(error)
        return {}, {}, {}  # nothing can be written there, so nothing was or will be started there
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(fd).st_size == 0:
            os.write(fd, b'{"never": "this attempt was given up before it was started"}\n')
        return _read_attempt(run_dir)
    except BlockingIOError:
        return None
    finally:
        os.close(fd)


def _open_attempt(run_dir: str) -> int:
    """Its attempt.json; on a read-only file system only to be read, which a lock needs no more than."""
    path = run_dir + "/attempt.json"
    try:
        os.makedirs(run_dir, 0o700, exist_ok=True)
        return os.open(path, os.O_CREAT | os.O_RDWR | os.O_APPEND, 0o600)
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
        return os.open(path, os.O_RDONLY)
