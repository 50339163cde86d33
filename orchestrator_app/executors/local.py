"""The local executor: the server's side of the supervisor, and the proof of what became of every attempt.

The supervisor and its keepers run the attempts and outlive the server; this reads what they and the agents say. What
can't be learnt from a live supervisor is learnt from the run directory (see keeper.py): an exit file, else the keeper's
lock on `attempt.json`, else the agent's pid with its start time and boot id. Who can't be proven is never signalled.

Only Linux tells enough to prove a process. Elsewhere an attempt whose keeper lives (its lock says so) is still followed
to its end, but it can't be stopped once its supervisor is gone, and an agent without a keeper counts as vanished.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from orchestrator_app.errors import ExecutorError
from orchestrator_app.executors import processes
from orchestrator_app.executors.base import AttemptSpec, Exited, Report, Said, Vanished
from orchestrator_app.executors.events import EventReader
from orchestrator_app.executors.evidence import claim, find_agent, read_attempt, read_exit
from orchestrator_app.executors.link import Link

Key = tuple[str, int]

LOOK_PAUSE = 0.25
LEFTOVER_GRACE = 1.0
RECONNECT_PAUSE = 1.0
NEVER = float("inf")


class _Attempt:
    """An attempt whose end has not been reported. `pidfd` is the keeper's or, with `agent`, the agent's own process
    when no supervisor answers for the attempt; `look_at` is when to look again without one, and `listen_at` when to
    read what the agent has said meanwhile, for nobody tells."""

    def __init__(self, key: Key, run_dir: str, pos: int = 0) -> None:
        self.key = key
        self.run_dir = run_dir
        self.reader = EventReader(run_dir + "/events.jsonl", pos)
        self.end: Exited | Vanished | None = None
        self.pidfd = -1
        self.agent: processes.Process | None = None
        self.stopped = ""
        self.look_at = self.listen_at = self.stop_at = self.kill_at = NEVER
        self.end_at = NEVER  # of what it left behind, without a keeper: from then on by force
        self.grace = 0.0


class LocalExecutor:
    """Runs attempts on this machine; implements `base.Executor`. `state` is the project's state directory."""

    def __init__(self, state: Path) -> None:
        self.state = Path(state).absolute()
        self._link = Link(self.state)
        self._selector: selectors.BaseSelector | None = None
        self._attempts: dict[Key, _Attempt] = {}
        self._running: set[Key] = set()  # what the supervisor answers for
        self._unread: set[Key] = set()
        self._reports: list[Report] = []
        self._reconnect_at = NEVER
        self._blind_until = 0.0  # until then nothing is read: there were no descriptors for it
        self._wake_lock = threading.Lock()
        self._wake_in = self._wake_out = -1

    # -- the contract --------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Reach the project's supervisor, starting one if need be. Raises ExecutorError."""
        try:
            (self.state / "runs").mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ExecutorError(f"{self.state} can't be used for runs: {error.strerror}; make it writable") from None
        self._selector = selectors.DefaultSelector()
        self._wake_in, self._wake_out = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC) if hasattr(os, "pipe2") else _pipe()
        self._selector.register(self._wake_in, selectors.EVENT_READ)
        try:
            self._connect()
        except BaseException:
            self.close()
            raise

    def recover(self, open_attempts: list[tuple[str, int, int]]) -> None:
        """Take back these attempts. Whatever else the supervisor still runs is of no unit any more: it is stopped."""
        for unit, number, pos in open_attempts:
            key = (unit, number)
            attempt = _Attempt(key, str(self.state / "runs" / unit / str(number)), pos)
            self._attempts[key] = attempt
            self._unread.add(key)
            if key not in self._running:
                self._settle(attempt)
        for unit, number in self._running - self._attempts.keys():
            self._send(f"stop\t{unit}\t{number}\t5\n".encode())

    def start(self, specs: Sequence[AttemptSpec]) -> None:
        """Hand attempts to the supervisor. Without one they come back as `Exited(why="spawn")`."""
        lines = []
        for spec in specs:
            key = (spec.unit, spec.attempt)
            if key in self._attempts:
                raise ExecutorError(f"attempt {spec.attempt} of {spec.unit} runs already; stop it first")
            if self._link.sock is None:
                now = time.time()
                message = "the supervisor can't be reached, see supervisor.log in the state directory"
                self._reports.append(Exited(*key, None, None, "spawn", message, now, now, 0))
                continue
            self._attempts[key] = _Attempt(key, spec.run_dir)
            self._running.add(key)
            lines.append(_start_line(spec))
        if lines:
            self._send(b"".join(lines))

    def stop(self, unit: str, attempt: int, grace: float) -> None:
        """Stop one attempt. When its supervisor has died, its keeper takes the grace of the attempt's own spec; when
        its keeper has died too, its end is reported as Vanished, because nobody is left who could tell how it ended."""
        key = (unit, attempt)
        found = self._attempts.get(key)
        if found is None or found.end is not None:
            return
        found.stopped, found.grace = "was stopped", grace  # kept: the supervisor may be dead without our knowing yet
        if key in self._running:
            self._send(f"stop\t{unit}\t{attempt}\t{grace}\n".encode())
        elif found.agent is not None:
            self._stop_agent(found)
        elif found.pidfd >= 0:
            with contextlib.suppress(OSError):
                signal.pidfd_send_signal(found.pidfd, signal.SIGTERM)

    def wait(self, timeout: float | None) -> list[Report]:
        """See `base.Executor`. An attempt's messages come in bites of at most 256 kB and 1,000 lines per call."""
        until = NEVER if timeout is None else time.monotonic() + timeout
        while True:
            reading = self._blind_until if self._unread else NEVER
            woken = self._attend(0 if self._reports else min(until, reading))
            for key in list(self._unread) if self._blind_until <= time.monotonic() else ():
                self._read(self._attempts.get(key))
            if self._reports or woken or time.monotonic() >= until:
                reports, self._reports = self._reports, []
                return reports

    def wake(self) -> None:
        """End a `wait`, from any thread."""
        with self._wake_lock:
            if self._wake_out >= 0:
                with contextlib.suppress(BlockingIOError):
                    os.write(self._wake_out, b"!")

    def close(self) -> None:
        """Let go; nothing that runs is touched."""
        for attempt in self._attempts.values():
            attempt.reader.close()
            self._unfollow(attempt)
        self._attempts.clear()
        self._unread.clear()
        self._running.clear()
        self._reports.clear()
        self._hang_up()
        self._reconnect_at = NEVER
        if self._selector is not None:
            self._selector.close()
            self._selector = None
        with self._wake_lock:
            for fd in (self._wake_in, self._wake_out):
                if fd >= 0:
                    os.close(fd)
            self._wake_in = self._wake_out = -1

    # -- the supervisor ------------------------------------------------------------------------------------------

    def _connect(self) -> None:
        self._running = self._link.connect()
        self._selector.register(self._link.sock, selectors.EVENT_READ)
        self._reconnect_at = NEVER

    def _send(self, data: bytes) -> None:
        self._link.send(data)
        self._watch_link()

    def _watch_link(self) -> None:
        """Also wait until it takes more, when something is left to send."""
        events = selectors.EVENT_READ | selectors.EVENT_WRITE if self._link.out else selectors.EVENT_READ
        if self._link.sock is not None and self._selector.get_key(self._link.sock).events != events:
            self._selector.modify(self._link.sock, events)

    def _hang_up(self) -> None:
        if self._link.sock is not None:
            self._selector.unregister(self._link.sock)
            self._link.close()

    def _receive(self) -> None:
        lines = self._link.receive()
        if lines is None:
            self._hang_up()
            self._reconnect()
            return
        for line in lines:
            word, unit, number, *rest = line.split(b"\t")
            key = (unit.decode(), int(number))
            attempt = self._attempts.get(key)
            if word != b"said":
                self._running.discard(key)
            if attempt is None:
                continue
            if word == b"exit":
                attempt.end = Exited(*key, **json.loads(rest[1]))
                if rest[0] == b"0":
                    self._drop(attempt)
                    continue
            elif word == b"lost":
                self._settle(attempt)
                continue
            self._unread.add(key)

    def _reconnect(self) -> None:
        """The supervisor died. Its keepers finish what they run; a new one takes what comes."""
        self._running.clear()
        try:
            self._connect()
        except ExecutorError:
            self._reconnect_at = time.monotonic() + RECONNECT_PAUSE
        for attempt in list(self._attempts.values()):
            if attempt.end is None and attempt.pidfd < 0 and attempt.key not in self._running:
                self._settle(attempt)

    # -- attempts ------------------------------------------------------------------------------------------------

    def _attend(self, until: float) -> bool:
        """Wait for whatever comes next, take it in, do what is due; True if `wake` was called."""
        due = min(until, self._reconnect_at)
        if len(self._attempts) > len(self._running):
            due = min([due, *(min(a.look_at, a.listen_at, a.stop_at, a.kill_at) for a in self._attempts.values())])
        woken = False
        for key, events in self._selector.select(None if due == NEVER else max(0.0, due - time.monotonic())):
            if key.fileobj is self._link.sock:
                if events & selectors.EVENT_WRITE:
                    self._link.flush()
                    self._watch_link()
                if events & selectors.EVENT_READ:
                    self._receive()
            elif key.fileobj == self._wake_in:
                os.read(self._wake_in, 4096)
                woken = True
            elif key.data in self._attempts:
                attempt = self._attempts[key.data]
                self._unfollow(attempt)
                self._settle(attempt)
        now = time.monotonic()
        if self._reconnect_at <= now:
            self._reconnect()
        if len(self._attempts) > len(self._running):
            for attempt in list(self._attempts.values()):
                self._do_due(attempt, now)
        return woken

    def _do_due(self, attempt: _Attempt, now: float) -> None:
        if attempt.look_at <= now:
            self._settle(attempt)
        if attempt.listen_at <= now:
            attempt.listen_at = now + LOOK_PAUSE
            self._unread.add(attempt.key)
        if attempt.stop_at <= now:
            attempt.stopped = "ran longer than its limit and was stopped"
            self._stop_agent(attempt)
        if attempt.kill_at <= now:
            attempt.kill_at = now + LOOK_PAUSE
            self._signal_agent(attempt, signal.SIGKILL)

    def _read(self, attempt: _Attempt | None) -> None:
        """Read one bite of what an attempt said; when all is read and it has ended, report its end."""
        if attempt is None:
            return
        try:
            messages, more = attempt.reader.read(ended=attempt.end is not None)
        except OSError:
            self._blind_until = time.monotonic() + LOOK_PAUSE
            return
        if messages:
            self._reports.append(Said(*attempt.key, messages))
        if not more:
            self._unread.discard(attempt.key)
            if attempt.end is not None:
                self._drop(attempt)

    def _drop(self, attempt: _Attempt) -> None:
        self._reports.append(attempt.end)
        attempt.reader.close()
        self._unfollow(attempt)
        self._unread.discard(attempt.key)
        del self._attempts[attempt.key]

    def _settle(self, attempt: _Attempt) -> None:
        """No supervisor answers for this attempt: find out who does, or how it ended. Proof or nothing: without
        descriptors or room nothing is known, and asked again."""
        try:
            self._find_out(attempt)
        except OSError:
            attempt.look_at = time.monotonic() + LOOK_PAUSE

    def _find_out(self, attempt: _Attempt) -> None:
        attempt.look_at = NEVER
        attempt.listen_at = time.monotonic() + LOOK_PAUSE
        record = read_exit(attempt.run_dir)
        if record is None:
            found = claim(attempt.run_dir)
            if found is None:  # its keeper lives
                keeper = read_attempt(attempt.run_dir)[1]
                self._follow(attempt, keeper)
                return
            record = read_exit(attempt.run_dir)
            spec, keeper, agent = found
            if record is None and keeper and not agent:
                agent = find_agent(attempt.run_dir)
            followed = record is None and agent and self._follow_agent(attempt, spec, keeper, agent)
            if followed or (record is None and agent and self._ends_leftovers(attempt)):
                return
        if record is not None:
            attempt.end = Exited(*attempt.key, **record)
        elif attempt.stopped:
            reason = f"{attempt.stopped}; its keeper had died, so how it ended is not known"
            attempt.end = Vanished(*attempt.key, reason)
        elif agent:
            attempt.end = Vanished(*attempt.key, "its process and its keeper are gone and left no exit behind")
        else:
            attempt.end = Vanished(*attempt.key, "it was never started")
        self._unread.add(attempt.key)

    def _follow(self, attempt: _Attempt, keeper: dict) -> None:
        """Hear of the keeper's end; where that can't be, look again soon."""
        fd = processes.open_proven(keeper["keeper"], keeper["starttime"], keeper["boot_id"]) if keeper else None
        if fd is None:
            attempt.look_at = time.monotonic() + LOOK_PAUSE
            return
        attempt.pidfd = fd
        self._selector.register(fd, selectors.EVENT_READ, attempt.key)
        if attempt.stopped:
            signal.pidfd_send_signal(fd, signal.SIGTERM)

    def _ends_leftovers(self, attempt: _Attempt) -> bool:
        """Keeper and agent are gone: end what they left behind, as the keeper would have; whether there is anything.
        Without the keeper it is found by its environment only."""
        left = processes.carrying(f"ORCH_RUN_DIR={attempt.run_dir}")
        now = time.monotonic()
        if attempt.end_at == NEVER:
            attempt.end_at = now + LEFTOVER_GRACE
        for process in left:
            processes.send(process, signal.SIGTERM if now < attempt.end_at else signal.SIGKILL)
        if left:
            attempt.look_at = now + LOOK_PAUSE
        return bool(left)

    def _follow_agent(self, attempt: _Attempt, spec: dict, keeper: dict, agent: dict) -> bool:
        """The keeper is dead; hear of the end of the agent itself, if it is proven to live, and hold its deadline."""
        process = processes.find(agent["pid"])
        fd = processes.open_proven(agent["pid"], agent["starttime"], keeper["boot_id"])
        if fd is None:
            return False
        attempt.pidfd, attempt.agent = fd, process
        self._selector.register(fd, selectors.EVENT_READ, attempt.key)
        if attempt.stopped:
            self._stop_agent(attempt)
        elif spec["timeout"] is not None:
            attempt.grace = spec["grace"]
            attempt.stop_at = time.monotonic() + spec["timeout"] - processes.age(agent["starttime"])
        return True

    def _stop_agent(self, attempt: _Attempt) -> None:
        attempt.stop_at = NEVER
        if attempt.kill_at == NEVER:
            self._signal_agent(attempt, signal.SIGTERM)
        attempt.kill_at = min(attempt.kill_at, time.monotonic() + attempt.grace)

    def _signal_agent(self, attempt: _Attempt, number: int) -> None:
        """Signal an agent without a keeper, its process group and its descendants: as long as it is proven to live."""
        agent = attempt.agent
        try:
            signal.pidfd_send_signal(attempt.pidfd, 0)
        except OSError:
            return
        below = processes.descendants(agent.pid)
        if agent.group == agent.pid:
            processes.send_group(agent.pid, number)
        for process in below:
            if process.group != agent.pid:
                processes.send(process, number)

    def _unfollow(self, attempt: _Attempt) -> None:
        if attempt.pidfd >= 0:
            self._selector.unregister(attempt.pidfd)
            os.close(attempt.pidfd)
            attempt.pidfd = -1
        attempt.agent = None
        attempt.look_at = attempt.listen_at = attempt.stop_at = attempt.kill_at = NEVER


def _start_line(spec: AttemptSpec) -> bytes:
    """The line that hands an attempt to a keeper; its third field is the first line of attempt.json."""
    record = {
        "unit": spec.unit,
        "attempt": spec.attempt,
        "phase": spec.phase,
        "argv": spec.argv,
        "cwd": spec.cwd,
        "env": spec.env,
        "run_dir": spec.run_dir,
        "timeout": spec.timeout,
        "grace": spec.grace,
        "output_limit": spec.output_limit,
        "memory": spec.memory,
    }
    fields = ("start", spec.unit, str(spec.attempt), json.dumps(record), json.dumps(spec.prompt))
    return ("\t".join(fields) + "\n").encode()


def _pipe() -> tuple[int, int]:
    ends = os.pipe()
    for fd in ends:
        os.set_blocking(fd, False)
    return ends
