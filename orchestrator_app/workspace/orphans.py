"""Gits that a killed server has left running: they are given a moment, then ended.

Each git that we start carries `ORCH_GIT`: who started it, by process id and start time. Where that process is no more,
nobody enforces the git's deadline and nobody waits for it; a new server must not work beside it. Linux only: elsewhere
they go on to their end, and their locks are waited for.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from orchestrator_app.workspace.locks import PROCESSES, is_git

MARK = "ORCH_GIT"
PATIENCE = 1.0  # seconds in which it may end by itself: most of what git does takes less
TERM_PATIENCE = 2.0


def mark() -> str:
    """What says of a git that this process has started it."""
    pid = os.getpid()
    return f"{pid}:{_started(pid)}"


def end_orphans(common_dir: Path) -> None:
    """Wait for, then end, every git in this repository that a process of ours started which is no more."""
    for number, patience in ((None, PATIENCE), (signal.SIGTERM, TERM_PATIENCE), (signal.SIGKILL, TERM_PATIENCE)):
        if number is not None:
            for pid in _orphans(common_dir):
                _signal(pid, number, common_dir)
        deadline = time.monotonic() + patience
        while any(True for _ in _orphans(common_dir)):
            if time.monotonic() > deadline:
                break
            time.sleep(0.02)
        else:
            return


def _signal(pid: int, number: int, common_dir: Path) -> None:
    try:
        handle = os.pidfd_open(pid)
    except OSError:
        return
    try:
        if _is_orphan(pid, common_dir):  # again: the handle is of the process that has this number now
            signal.pidfd_send_signal(handle, number)
    except ProcessLookupError:
        pass
    finally:
        os.close(handle)


def _orphans(common_dir: Path) -> Iterator[int]:
    try:
        names = os.listdir(PROCESSES)
    except OSError:
        return
    yield from (int(name) for name in names if name.isdigit() and _is_orphan(int(name), common_dir))


def _is_orphan(pid: int, common_dir: Path) -> bool:
    process = PROCESSES / str(pid)
    try:
        if not is_git(process):
            return False
        entries = (process / "environ").read_bytes().split(b"\0")
    except OSError:
        return False
    env = dict(entry.partition(b"=")[::2] for entry in entries)
    starter, _, started = os.fsdecode(env.get(MARK.encode(), b"")).partition(":")
    place = env.get(b"GIT_COMMON_DIR") or env.get(b"GIT_DIR") or b""
    ours = starter.isdigit() and os.fsdecode(place) == str(common_dir)
    return ours and _started(int(starter)) != started


def _started(pid: int) -> str:
    """When a process started, in the kernel's own count; empty if there is none alive."""
    try:
        fields = (PROCESSES / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]
