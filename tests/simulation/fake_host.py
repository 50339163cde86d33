"""The machine that attempts run on, which outlives the server, and the server's side of it.

What the server sends (starts, stops) travels on a wire: a crash may cut it off anywhere. What agents say and how they
end waits in files until a server reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from orchestrator_app.errors import ExecutorError
from orchestrator_app.executors.base import AttemptSpec, Exited, Message, Report, Said, Vanished

Key = tuple[str, int]


class Violation(BaseException):
    """An invariant does not hold; the message begins with its number. No `except Exception` of the product hides it."""


class Process:
    """One attempt. `waits` is the question whose answer it waits for; `hung`: it does nothing until it is ended."""

    def __init__(self, spec: AttemptSpec, now: float, wall: float) -> None:
        self.spec = spec
        self.key: Key = (spec.unit, spec.attempt)
        self.alive = True
        self.deaf = self.hung = False
        self.asked: list[str] = []
        self.waits: list[str] = []  # the questions whose answers it waits for
        self.said: list[Message] = []
        self.answers: list[dict[str, Any]] = []
        self.end: Exited | Vanished | None = None
        self.began_wall = wall
        self.told = False
        self.kill_at: float | None = None
        self.deadline = None if spec.timeout is None else now + spec.timeout

    def says(self, **data: Any) -> None:
        pos = (self.said[-1].pos if self.said else 0) + 50
        self.said.append(Message(pos, data, None, ""))

    def babbles(self) -> None:
        pos = (self.said[-1].pos if self.said else 0) + 50
        self.said.append(Message(pos, None, "it is no JSON", "{{{"))


class Host:
    """All attempts there ever were. `moment()` gives the steady time and the wall clock's."""

    def __init__(self, moment: Callable[[], tuple[float, float]]) -> None:
        self._moment = moment
        self.processes: dict[Key, Process] = {}
        self.wire: list[tuple] = []
        self.spawn_fails = 0
        self.deaf = self.hangs = 0
        #: Called with a process that begins and one that ends: agents change files.
        self.on_spawn: Callable[[Process], None] = lambda process: None

    def live(self, unit: str | None = None) -> list[Process]:
        return [one for one in self.processes.values() if one.alive and (unit is None or one.key[0] == unit)]

    def alive(self, key: Key) -> bool:
        process = self.processes.get(key)
        return process is not None and process.alive

    def receive(self, count: int | None = None) -> None:
        """The supervisor reads what was sent, or the first of it."""
        taken = self.wire if count is None else self.wire[:count]
        self.wire = [] if count is None else self.wire[count:]
        for kind, *rest in taken:
            if kind == "start":
                self._spawn(*rest)
            else:
                self._stop(*rest)

    def _spawn(self, spec: AttemptSpec) -> None:
        key = (spec.unit, spec.attempt)
        others = [one.key for one in self.live(spec.unit)]
        if others:
            raise Violation(f"I1: {key} is started beside the live {others[0]}")
        if key in self.processes:
            raise Violation(f"I1: {key} is started a second time")
        process = self.processes[key] = Process(spec, *self._moment())
        if self.spawn_fails:
            self.spawn_fails -= 1
            self.ends(process, None, why="spawn", message="the program was not found")
            return
        if self.deaf:
            self.deaf -= 1
            process.deaf = True
        if self.hangs:
            self.hangs -= 1
            process.hung = True
        self.on_spawn(process)

    def _stop(self, key: Key, grace: float) -> None:
        process = self.processes.get(key)
        if process is None or not process.alive:
            return
        process.told = True
        due = self._moment()[0] + grace
        process.kill_at = due if process.kill_at is None else min(due, process.kill_at)

    def ends(
        self, process: Process, code: int | None, *, signal: int | None = None, why: str = "exit", message: str = ""
    ) -> None:
        process.alive = False
        wall = self._moment()[1]
        process.end = Exited(*process.key, code, signal, why, message, process.began_wall, wall, 0)

    def vanishes(self, process: Process) -> None:
        """It dies with its keeper: nobody can tell how."""
        process.alive = False
        process.end = Vanished(*process.key, "its process and its keeper are gone and left no exit behind")

    def obeys(self, process: Process) -> None:
        """It ends because it was told to."""
        self.ends(process, None, signal=15, why="stop")

    def tick(self) -> None:
        """Deadlines pass: those of stops and those of attempts."""
        now = self._moment()[0]
        for process in self.live():
            if process.kill_at is not None and process.kill_at <= now:
                self.ends(process, None, signal=9, why="stop")
            elif process.deadline is not None and process.deadline <= now:
                self.ends(process, None, signal=9, why="timeout", message=f"it took more than {process.spec.timeout} s")

    def next_deadline(self) -> float | None:
        due = [at for one in self.live() for at in (one.kill_at, one.deadline) if at is not None]
        return min(due, default=None)


class HostExecutor:
    """The server's side: implements `executors.base.Executor`. It dies with its server, the host does not."""

    def __init__(self, host: Host, point: Callable[[str], None], may_stop: Callable[[Key], None]) -> None:
        self._host = host
        self._point = point
        self._may_stop = may_stop
        self._known: dict[Key, int] = {}
        self._injected: list[Report] = []
        self.fails_to_start = self.fails_to_open = 0
        self.woken = False
        self.held_back: set[str] = set()

    def open(self) -> None:
        if self.fails_to_open:
            self.fails_to_open -= 1
            raise ExecutorError("the supervisor can't be started: too many open files")

    def close(self) -> None:
        self._host.receive()
        self._known.clear()
        self._injected.clear()

    def wake(self) -> None:
        self.woken = True

    def recover(self, open_attempts: list[tuple[str, int, int]]) -> None:
        self._point("before the attempts are taken back")
        for unit, attempt, pos in open_attempts:
            self._known[unit, attempt] = pos
        for process in self._host.live():
            if process.key not in self._known:
                self._host.wire.append(("stop", process.key, 5.0))

    def start(self, specs: Sequence[AttemptSpec]) -> None:
        if self.fails_to_start:
            self.fails_to_start -= 1
            raise OSError(24, "too many open files")
        for spec in specs:
            self._point(f"before {spec.unit}/{spec.attempt} is started")
            key = (spec.unit, spec.attempt)
            if key in self._known:
                raise ExecutorError(f"attempt {spec.attempt} of {spec.unit} runs already; stop it first")
            self._known[key] = 0
            self._host.wire.append(("start", spec))
            self._point(f"after {spec.unit}/{spec.attempt} was started")

    def stop(self, unit: str, attempt: int, grace: float) -> None:
        self._point(f"before {unit}/{attempt} is stopped")
        self._may_stop((unit, attempt))
        if (unit, attempt) in self._known:
            self._host.wire.append(("stop", (unit, attempt), grace))

    def inject(self, report: Report) -> None:
        """A late or doubled report, which comes with the next ones."""
        self._injected.append(report)

    def would_report(self) -> bool:
        """Whether `wait` would return something now."""
        return bool(self._injected) or any(
            (process := self._host.processes.get(key)) is None
            or process.end is not None
            or (process.said and process.said[-1].pos > pos)
            for key, pos in self._known.items()
        )

    def wait(self, timeout: float | None = 0) -> list[Report]:
        reports, self._injected = self._injected, []
        waiting = {spec.unit for kind, spec, *_ in self._host.wire if kind == "start"}
        for key, pos in list(self._known.items()):
            process = self._host.processes.get(key)
            if key[0] in self.held_back or (process is None and key[0] in waiting):
                continue
            if process is None:
                reports.append(Vanished(*key, "it was never started"))
                del self._known[key]
                continue
            new = [message for message in process.said if message.pos > pos]
            if new:
                reports.append(Said(*key, new))
                self._known[key] = new[-1].pos
            if process.end is not None:
                reports.append(process.end)
                del self._known[key]
        self.woken = False
        return reports
