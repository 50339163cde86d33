"""Who a process is, who descends from it, and signals that only ever reach who was meant. Standard library only.

A process is known by its pid *and* the clock tick of its start (and, across reboots, the boot id): a pid alone may
belong to a stranger a moment later. Linux gives all of this; elsewhere `read` finds nothing, so nothing is ever
proven, no descendant is found, and what is left is the process group.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import time
from typing import NamedTuple

PR_SET_NAME = 15
PR_SET_CHILD_SUBREAPER = 36
IN_MODIFY, IN_MOVED_TO, IN_CREATE = 0x2, 0x80, 0x100
BLIND = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
IN_NONBLOCK, IN_CLOEXEC = os.O_NONBLOCK, getattr(os, "O_CLOEXEC", 0)

_libc = ctypes.CDLL(None, use_errno=True)


class Process(NamedTuple):
    """One process as the system saw it: `starttime` in clock ticks since the boot, `state` one letter (Z: ended)."""

    pid: int
    starttime: int
    state: str
    parent: int
    group: int


def _boot_id() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read().strip()
    except OSError:
        return ""


_BOOT = _boot_id()


def boot_id() -> str:
    """What tells this boot of the machine from every other, or "" where there is no such thing."""
    return _BOOT


def read(pid: int) -> Process | None:
    """The process with this pid, ended but not yet reaped ones included; None if there is none, or who knows."""
    try:
        return find(pid)
    except OSError:
        return None


def find(pid: int) -> Process | None:
    """As `read`, but None is certain: raises OSError where nothing can be opened."""
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY)
    except OSError as error:
        raise_blind(error)
        return None
    try:
        words = os.read(fd, 4096).rpartition(b")")[2].split()
    except OSError:
        return None
    finally:
        os.close(fd)
    return Process(pid, int(words[19]), words[0].decode(), int(words[1]), int(words[2]))


def raise_blind(error: OSError) -> None:
    """Let an error go on that says nothing of what was asked, only that nothing can be asked now."""
    if error.errno in BLIND:
        raise error


def open_proven(pid: int, starttime: int, boot: str) -> int | None:
    """A pidfd of exactly this process if it still runs, else None. The caller closes it. Raises OSError where nothing
    can be opened."""
    if boot != boot_id():
        return None
    try:
        fd = os.pidfd_open(pid)
    except AttributeError:
        return None
    except OSError as error:
        raise_blind(error)
        return None
    try:
        found = find(pid)
        if found is not None and found.starttime == starttime and found.state not in "ZX":
            proven, fd = fd, -1
            return proven
        return None
    finally:
        if fd >= 0:
            os.close(fd)


def age(starttime: int) -> float:
    """Seconds since a process started, by its ticks since the boot: setting the wall clock doesn't change it."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - starttime / os.sysconf("SC_CLK_TCK")


def send(process: Process, number: int) -> bool:
    """Signal this process and no other; False if it is gone."""
    try:
        fd = os.pidfd_open(process.pid)
    except (AttributeError, OSError):
        return False
    try:
        found = read(process.pid)
        if found is None or found.starttime != process.starttime:
            return False
        signal.pidfd_send_signal(fd, number)
        return True
    except OSError:
        return False
    finally:
        os.close(fd)


def send_group(leader: int, number: int) -> None:
    """Signal a process group; the caller knows that its leader exists (at least unreaped), so the number is its own."""
    try:
        os.killpg(leader, number)
    except OSError:
        pass


def descendants(root: int) -> list[Process]:
    """Every living process below `root`, nearest first. One that is being forked may be missed: ask again."""
    found: list[Process] = []
    parents = [root]
    while parents:
        for pid in _children(parents.pop()):
            process = read(pid)
            if process is not None:
                parents.append(pid)
                if process.state not in "ZX":
                    found.append(process)
    return found


def carrying(variable: str) -> list[Process]:
    """Living processes of ours whose environment has this entry (`NAME=value`), the oldest first. Raises OSError where
    nothing can be opened."""
    entry, found = os.fsencode(variable), []
    for pid in _pids() if os.path.isdir("/proc/self") else ():
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                carries = entry in file.read().split(b"\0")
        except OSError as error:
            raise_blind(error)
            continue  # it has ended, or is another user's
        process = find(pid) if carries else None
        if process is not None and process.state not in "ZX":
            found.append(process)
    return sorted(found, key=lambda process: process.starttime)


def _children(pid: int) -> list[int]:
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
                found += map(int, file.read().split())
    except FileNotFoundError:
        if not os.path.exists("/proc/self/task"):
            return []
        if not os.path.exists(f"/proc/self/task/{os.getpid()}/children"):  # a kernel built without these files
            return [other.pid for other in map(read, _pids()) if other is not None and other.parent == pid]
    except OSError:
        pass
    return found


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def set_name(name: str) -> None:
    """Name this process (15 characters) as `ps -o comm` shows it."""
    if os.path.exists("/proc/self"):
        _libc.prctl(PR_SET_NAME, name.encode(), 0, 0, 0)


def become_subreaper() -> bool:
    """Orphans among the descendants of this process become its children; False where the system can't do that."""
    return os.path.exists("/proc/self") and _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0


class Notices:
    """Notices about files (inotify): `fd` is readable when something happened to a watched path. `fd` is -1 where
    the system has none or no more of them; then look at the files from time to time instead."""

    def __init__(self) -> None:
        self.fd = _libc.inotify_init1(IN_NONBLOCK | IN_CLOEXEC) if hasattr(_libc, "inotify_init1") else -1

    def watch_directory(self, path: str) -> int:
        """Watch for new names in a directory; the watch's number, or -1."""
        return _libc.inotify_add_watch(self.fd, os.fsencode(path), IN_CREATE | IN_MOVED_TO)

    def watch_file(self, path: str) -> int:
        """Watch a file for growth; the watch's number, or -1 (there is no such file)."""
        return _libc.inotify_add_watch(self.fd, os.fsencode(path), IN_MODIFY)

    def forget(self, watch: int) -> None:
        """End a watch."""
        _libc.inotify_rm_watch(self.fd, watch)

    def drain(self) -> None:
        """Take what has piled up (what it was does not matter: whoever is woken looks at the files)."""
        try:
            os.read(self.fd, 65536)
        except BlockingIOError:
            pass
