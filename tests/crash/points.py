"""Crash points: before, during and after every effect of a server, by wrapping the real functions from outside.

A plan is a dict: `point` (a name of `points()`), `count` (the n-th time that it is passed), `delay` (of a `during`: so
many seconds after the function was entered), `children` (whether what the server has started, git above all, is killed
with it, as when the machine stops) `trace` (a file that is told which point killed) and
`folder` (the project's).
"""

from __future__ import annotations

import functools
import importlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

PACKAGE = "orchestrator_app."

#: Effect -> where its function stands. A function that others imported by name is wrapped in each of these places.
EFFECTS: dict[str, tuple[str, ...]] = {
    "open-log": ("store.log:Log.__init__",),
    "replay": ("gate:Gate.replay",),
    "open-executor": ("executors.local:LocalExecutor.open",),
    "launch-supervisor": ("executors.link:Link._launch",),
    "recover-attempts": ("executors.local:LocalExecutor.recover",),
    "recover": ("scheduler:Scheduler.recover",),
    "claim": ("claim:Claim.__init__",),
    "announce": ("claim:Claim.announce",),
    "write-file": ("claim:write_privately",),
    "step": ("scheduler:Scheduler.step",),
    "commit": ("store.log:Log.append",),
    "journal": ("store.journal:Journal.append",),
    "fold": ("model:Board.fold",),
    "act": ("scheduler:Scheduler._act",),
    "start": ("executors.local:LocalExecutor.start",),
    "stop": ("executors.local:LocalExecutor.stop",),
    "send": ("executors.link:Link.send",),
    "read-reports": ("executors.local:LocalExecutor.wait",),
    "deliver-answer": ("scheduler:deliver_answer",),
    "settle-futures": ("scheduler:_reply",),
    "http-reply": ("api.routing:ApiHandler._write",),
    "git": ("workspace.git:run_process",),
    "worktree": ("workspace.worktrees:Worktrees.ensure",),
    "seal": ("workspace.worktrees:Worktrees.commit_all",),
    "remove-worktree": ("workspace.worktrees:Worktrees.remove",),
    "delete-worktree": ("workspace.worktrees:delete_worktree", "workspace.merge:delete_worktree"),
    "build-merge": ("workspace.merge:build",),
    "scratch": ("workspace.merge:scratch",),
    "drop-scratch": ("workspace.merge:drop_scratch",),
    "advance": ("workspace.merge:advance",),
    "move-base": ("workspace.merge:_update_checkout",),
    "note-begun": ("workspace.begun:begin",),
    "note-ended": ("workspace.begun:end",),
    "put-back": ("workspace.begun:put_back",),
    "tidy": ("workspace.worktrees:Worktrees.tidy",),
    "end-orphans": ("workspace.worktrees:Worktrees.end_orphans",),
    "replace-file": ("store.log:replace_durably",),
    "copy-log": ("store.log:Log._make_copy",),
    "checkpoint": ("store.log:Log._checkpoint",),
    "rotate-journal": ("store.journal:Journal.rotate",),
    "export": ("store.export:Export.catch_up",),
    "export-file": ("store.export:Export._write",),
}

#: Passed while a server starts, so that a kill there is one before it answers anybody.
AT_START = {
    "open-log",
    "replay",
    "open-executor",
    "launch-supervisor",
    "recover-attempts",
    "recover",
    "claim",
    "announce",
}
AT_START |= {"write-file", "tidy", "end-orphans"}
#: These take long enough to be killed in the middle.
LONG = {"git", "worktree", "seal", "remove-worktree", "move-base", "advance", "copy-log", "checkpoint", "export"}
LONG |= {"commit", "journal", "put-back", "tidy"}
#: How often a point is passed in the time that a server lives here, about: the count is drawn from 1 to this.
OFTEN = {"git": 40, "send": 12, "step": 40, "commit": 30, "journal": 30, "fold": 30, "act": 30, "read-reports": 40}
OFTEN |= {"settle-futures": 25, "http-reply": 40, "start": 8, "worktree": 6, "seal": 6, "export-file": 8, "effect": 150}

#: The product's own thresholds are for years of use; here a checkpoint and an export are to come within a second.
QUICK = {"store.upkeep:CHECKPOINT_BYTES": 48 << 10, "store.exporter:GATHER": 0.2}


def points() -> list[str]:
    """The names of all points. `effect` is any change of a file or start of a program, as Python's audit hook sees it;
    `journal:torn` dies with half a line of the journal written."""
    names = [f"{effect}:{when}" for effect in EFFECTS for when in ("before", "after")]
    return [*names, *(f"{effect}:during" for effect in sorted(LONG)), "journal:torn", "effect"]


def at_start(point: str) -> bool:
    return point.partition(":")[0] in AT_START


def most(point: str) -> int:
    """The highest count that makes sense for a point."""
    return 1 if at_start(point) else OFTEN.get(point.partition(":")[0], 2)


class Crash:
    """Counts how often its point is passed and kills the process at the n-th time. From any thread."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self.plan = plan
        self.left = plan["count"]
        self._lock = threading.Lock()

    def passed(self) -> bool:
        """Whether this is the time."""
        with self._lock:
            self.left -= 1
            return self.left == 0

    def die(self) -> None:
        # Plain system calls: an audit hook sees every `open`, and nothing may come between.
        fd = os.open(self.plan["trace"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.write(fd, f"{self.plan['point']} {self.plan['count']}\n".encode())
        if self.plan.get("children"):
            for pid in _children():
                try:
                    os.kill(pid, signal.SIGKILL)
                except OSError:
                    pass  # it has just ended
        os.kill(os.getpid(), signal.SIGKILL)

    def die_soon(self) -> None:
        time.sleep(self.plan.get("delay", 0.0))
        self.die()


def arm(plan: dict[str, Any]) -> None:
    """Put the plan's point in place, and the quick thresholds. `point` may be None: then nothing kills."""
    for place, value in QUICK.items():
        owner, name = _find(place)
        if not hasattr(owner, name):
            raise AttributeError(f"{place} is gone: name another in tests/crash/points.py")
        setattr(owner, name, value)
    if not plan.get("point"):
        return
    effect, _, when = plan["point"].partition(":")
    crash = Crash(plan)
    if effect == "effect":
        _watch_effects(crash, plan["folder"])
        return
    for place in EFFECTS[effect]:
        owner, name = _find(place)
        setattr(owner, name, _wrapped(getattr(owner, name), when, crash))


def check() -> None:
    """Raise AttributeError where a place is no longer in the product."""
    for place in (*(one for places in EFFECTS.values() for one in places), *QUICK):
        owner, name = _find(place)
        if not hasattr(owner, name):
            raise AttributeError(f"{place} is gone from the product: name what took its place in tests/crash/points.py")


def _find(place: str) -> tuple[Any, str]:
    module, _, path = place.partition(":")
    owner: Any = importlib.import_module(PACKAGE + module)
    *outer, name = path.split(".")
    for each in outer:
        owner = getattr(owner, each)
    return owner, name


def _wrapped(real: Callable[..., Any], when: str, crash: Crash) -> Callable[..., Any]:
    @functools.wraps(real)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        due = crash.passed()
        if due and when == "before":
            crash.die()
        if due and when == "torn":
            _tear(args[0], args[1])
            crash.die()
        if due and when == "during":
            threading.Thread(target=crash.die_soon, daemon=True).start()
        try:
            return real(*args, **kwargs)
        finally:
            if due and when == "after":
                crash.die()

    return wrapper


def _tear(journal: Any, entry: Any) -> None:
    """Half of the line that the journal would write now."""
    whole = journal.path.with_name("journal.whole")
    real = type(journal)(whole.parent)
    real.path = whole
    type(journal).append.__wrapped__(real, entry)
    line = whole.read_bytes()
    whole.unlink()
    with journal.path.open("ab") as file:
        file.write(line[: len(line) // 2])


def _watch_effects(crash: Crash, folder: str) -> None:
    started = {"subprocess.Popen", "os.posix_spawn", "socket.connect", "socket.bind", "os.kill", "os.killpg"}
    changed = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.chmod", "shutil.rmtree"}

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if crash.left <= 0:
            return
        if event == "open":
            path, _, flags = args
            writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR)
            if not writes or isinstance(path, int) or not os.fsdecode(path).startswith(folder):
                return
        elif event not in started and not (event in changed and str(args[0]).startswith(folder)):
            return
        if crash.passed():
            crash.die()

    sys.addaudithook(hook)


def _children() -> list[int]:
    me, found = os.getpid(), []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    parent = int(file.read().rpartition(b")")[2].split()[1])
            except (OSError, IndexError):
                continue
            if parent == me:
                found.append(int(name))
    return found
