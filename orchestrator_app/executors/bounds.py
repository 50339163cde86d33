"""Bounds of one attempt, looked after by its keeper: of its output, its messages, its memory.

Standard library only. Each bound has a `due`, of the monotonic clock, at which its `look` wants to be called.
"""

from __future__ import annotations

import os
import stat

from . import processes
from .complaints import complain

NEVER = float("inf")
OFTEN, SELDOM = 0.02, 0.25
"""Seconds between two looks at output: while it floods, and else."""
MEMORY_PAUSE = 1.0
LINE = 1 << 16
"""Bytes in which the beginning of a line is looked for."""
EVENTS_LIMIT = 64 << 20
"""Bytes of an attempt's messages that are read."""
EVENTS_SPARE = 8 << 20
PAGE = os.sysconf("SC_PAGE_SIZE")


class OutputBound:
    """Keeps a file that others append to below `limit` bytes: a fifth from its beginning, a line that says how much
    is missing, and its end, which may grow until the next cut. It is overrun by what is written between two looks: by
    20 ms of a steady flood, by a quarter of a second of a sudden one. What is written in the moment of a cut is lost.
    """

    def __init__(self, fd: int, where: str, limit: int, now: float) -> None:
        self.fd = fd
        self.where = where
        self.limit = limit
        self.share = limit // 5
        self.head: int | None = None
        self.lost = 0
        self.size = 0
        self.looked_at = now
        self.due = now + SELDOM

    def look(self, now: float) -> None:
        """Cut what is too much, and say when to look again: the sooner, the faster it grows."""
        size = os.fstat(self.fd).st_size
        grown, passed = size - self.size, max(now - self.looked_at, 0.001)
        self.size, self.looked_at = size, now
        if size > self.limit:
            self.cut(size)
        room = self.limit - self.size
        self.due = now + (min(SELDOM, max(OFTEN, room * passed / grown / 2)) if grown > 0 else SELDOM)

    def cut(self, size: int) -> None:
        try:
            if self.head is None:  # whole lines, where lines are not endless
                start = max(0, self.share - LINE)
                before = os.pread(self.fd, self.share - start, start)
                self.head = start + (before.rfind(b"\n") + 1 or len(before))
            end = os.pread(self.fd, self.share, size - self.share)
            end = end[end.find(b"\n", 0, LINE) + 1 :]
            self.lost += size - self.head - len(end)
            os.ftruncate(self.fd, self.head)
            said = f"\n… {self.lost} bytes of output were not kept …\n".encode()
            os.write(self.fd, said + end)
            self.size = self.head + len(said) + len(end)
            self.lost -= len(said)  # the line itself is no output, and goes with the next cut
        except OSError as error:  # a full disk may pass: what is too much stays until the next look
            complain(f"the output of {self.where} can't be cut: {error.strerror}")


def cut_messages(path: str) -> None:
    """Cut off what nobody will read of a file of messages, if it is much."""
    try:
        if os.lstat(path).st_size <= EVENTS_LIMIT + EVENTS_SPARE:
            return
        fd = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return
    try:
        info = os.fstat(fd)
        if stat.S_ISREG(info.st_mode) and info.st_nlink == 1:  # else the agent made it of another file
            os.ftruncate(fd, EVENTS_LIMIT)
    except OSError as error:
        complain(f"{path} can't be cut: {error.strerror}")
    finally:
        os.close(fd)


class MemoryBound:
    """What an attempt's processes hold together, against its limit."""

    def __init__(self, limit: int, now: float) -> None:
        self.limit = limit
        self.due = now + MEMORY_PAUSE

    def look(self, now: float) -> int:
        """What they hold, if that is too much; else 0."""
        self.due = now + MEMORY_PAUSE
        held = memory_below(os.getpid(), self.limit)
        if held <= self.limit:
            return 0
        self.due = NEVER
        return held


def memory_below(root: int, enough: int) -> int:
    """Bytes that the descendants of a process hold in memory. What several of them share counts once, as the kernel
    divides it (PSS); that is dear to ask, so it is asked only where the plain sum is more than `enough`."""
    below = [process.pid for process in processes.descendants(root)]
    plain = {pid: _resident(pid) for pid in below}
    total = sum(resident for resident, _ in plain.values())
    if total <= enough:
        return total
    return sum(_proportional(pid, resident - shared) for pid, (resident, shared) in plain.items())


def _resident(pid: int) -> tuple[int, int]:
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            _, resident, shared, *_ = map(int, file.read().split())
    except (OSError, ValueError):  # it has ended
        return 0, 0
    return resident * PAGE, shared * PAGE


def _proportional(pid: int, otherwise: int) -> int:
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
            for line in file:
                if line.startswith(b"Pss:"):
                    return int(line.split()[1]) * 1024
    except (OSError, ValueError):  # it has ended, or the system doesn't tell
        pass
    return otherwise
