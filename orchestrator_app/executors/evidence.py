"""What a run directory proves about its attempt: its exit, its processes, and whether a keeper answers for it."""

from __future__ import annotations

import fcntl
import json
import os


def read_exit(run_dir: str) -> dict | None:
    """How the attempt ended: the fields of `base.Exited` from `code` on; None if no exit was written."""
    try:
        with open(run_dir + "/exit.json", "rb") as file:
            return json.loads(file.read())
    except (OSError, ValueError):
        return None


def read_attempt(run_dir: str) -> tuple[dict, dict, dict]:
    """Spec, keeper, agent: as far as they have been written."""
    with open(run_dir + "/attempt.json", "rb") as file:
        lines = [json.loads(line) for line in file.read().split(b"\n")[:-1]]
    spec, keeper, agent, *_ = [*lines, {}, {}, {}]
    return spec, keeper, agent


def claim(run_dir: str) -> tuple[dict, dict, dict] | None:
    """Make sure that no keeper answers for an attempt, now or later; what was written of it. None: a keeper lives.

    A keeper locks attempt.json, and starts nothing when the file is there before it.
    """
    os.makedirs(run_dir, 0o700, exist_ok=True)
    fd = os.open(run_dir + "/attempt.json", os.O_CREAT | os.O_RDWR | os.O_APPEND, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return None
        if os.fstat(fd).st_size == 0:
            os.write(fd, b'{"never": "this attempt was given up before it was started"}\n')
        return read_attempt(run_dir)
    finally:
        os.close(fd)
