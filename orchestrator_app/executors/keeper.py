"""A keeper: the process that runs one attempt at a time and answers for everything the attempt leaves behind.

It is forked from the supervisor, which hands it attempts over a socket pair, and it is a child subreaper: whatever an
attempt orphans (double fork, own session, empty environment) becomes the keeper's child, so it can be found and ended.
It needs neither the server nor the supervisor: when they die, it enforces the deadline, writes `exit.json`, and ends.
SIGTERM asks it to stop its attempt. Standard library only.

Files in the run directory (0700, files 0600):

- `attempt.json`: line 1 the attempt (unit, attempt, phase, argv, cwd, env, timeout, grace), line 2 the keeper (pid,
  starttime, boot id), both before the spawn; line 3 the agent's own process, after it. The keeper holds an flock on it
  for as long as it answers for the attempt. Whoever wants to be sure that it never starts writes the file first.
- `prompt.txt` if there is a prompt; `output.log`: stdout and stderr of the agent, bounded by the keeper (bounds.py).
- `exit.json`: how it ended; written to a temporary file, fsynced, renamed. While it can't be (a full disk), the keeper
  takes no other attempt, holds the lock, and tries again.

Lines on the socket, fields apart by tabs: in `start UNIT ATTEMPT SPEC PROMPT` (both JSON), `stop UNIT ATTEMPT GRACE`,
out `said UNIT ATTEMPT` (events.jsonl grew) and `exit UNIT ATTEMPT HAS_EVENTS EXIT`.

On systems other than Linux there is no subreaper and no inotify: only the process group is stopped, what leaves it
lives on, memory is not limited, and events are noticed within 0.25 s. A process stuck inside the kernel holds its
attempt open anywhere.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import time

from . import processes
from .bounds import MemoryBound, OutputBound, cut_messages
from .programs import CannotStart, cannot, find_program, why_not
from .run import AGAIN, NEVER, AlreadyTaken, Run

PING_PAUSE = 0.05
LOOK_PAUSE = 0.25
KILL_PAUSE = 0.02
GIVE_UP = 30.0
LEFTOVER_GRACE = 1.0
DEFAULT_SIGNALS = tuple(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})


class Keeper:
    """The loop around attempts."""

    def __init__(self, sock: socket.socket, environ: dict[bytes, bytes]) -> None:
        processes.set_name("orch-keeper")
        self.subreaper = processes.become_subreaper()
        self.sock = sock
        self.environ = environ
        self.buffer = b""
        self.lines: list[bytes] = []
        self.orphan = False
        self.told_to_stop = False
        self.must_end = False
        self.wake, wake_end = os.pipe()
        os.set_blocking(self.wake, False)
        os.set_blocking(wake_end, False)
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(wake_end, warn_on_full_buffer=False)
        self.notices = processes.Notices()
        self.poll = select.poll()
        self.poll.register(sock, select.POLLIN)
        self.poll.register(self.wake, select.POLLIN)
        if self.notices.fd >= 0:
            self.poll.register(self.notices.fd, select.POLLIN)
        me = processes.read(os.getpid())
        starttime = me.starttime if me else 0
        identity = {"keeper": os.getpid(), "starttime": starttime, "boot_id": processes.boot_id()}
        self.identity = json.dumps(identity).encode() + b"\n"

    def serve(self) -> None:
        """Run attempts until the supervisor is gone."""
        while not self.must_end:
            while not self.lines:
                if self.orphan or self.told_to_stop:
                    return
                for fd, _ in self.poll.poll():
                    self.receive() if fd == self.sock.fileno() else self.woken()
            line = self.lines.pop(0)
            if line.startswith(b"start\t"):
                self.run(Run(line))

    def receive(self) -> None:
        try:
            data = self.sock.recv(1 << 18)
        except OSError:
            data = b""
        if data:
            *lines, self.buffer = (self.buffer + data).split(b"\n")
            self.lines += lines
        else:
            self.orphan = True
            self.poll.unregister(self.sock)

    def woken(self) -> None:
        if signal.SIGTERM in os.read(self.wake, 4096):
            self.told_to_stop = True

    def run(self, run: Run) -> None:
        try:
            log = run.make_files(self.identity)
            try:
                self.spawn(run, log)
                self.attend(run)
            finally:
                os.close(log)
        except CannotStart as error:
            run.why, run.message = "scarce" if error.passing else "spawn", str(error)
            record = run.exit_record()
            written = isinstance(error, AlreadyTaken) or run.write_exit(record)
        else:
            record = run.exit_record()
            written = run.write_exit(record)
        self.report(run, record)
        if run.pid and not written:
            self.owe(run, record)
        if run.file >= 0:
            os.close(run.file)

    def owe(self, run: Run, record: bytes) -> None:
        """Nobody may know how it ended. Whoever asks finds the lock, and waits as well."""
        self.must_end = True
        self.sock.close()
        while not run.write_exit(record):
            time.sleep(AGAIN)

    def spawn(self, run: Run, log: int) -> None:
        """Start the agent in a process group of its own."""
        spec = run.spec
        environ = self.environ
        try:
            argv = [os.fsencode(word) for word in spec["argv"]]
            if spec["env"]:
                environ = {**environ, **{os.fsencode(name): os.fsencode(value) for name, value in spec["env"].items()}}
            os.chdir(spec["cwd"])
        except UnicodeEncodeError as error:
            raise CannotStart(f"the command or its environment can't be passed to a program: {error}") from None
        except OSError as error:
            raise cannot(f"the working directory {spec['cwd']} can't be entered", error, "repair that") from None
        except ValueError as error:
            raise CannotStart(f"the working directory {spec['cwd']} can't be entered: {error}") from None
        try:
            program = find_program(argv[0] if argv else b"", environ.get(b"PATH", os.defpath.encode()))
            self.watch(run)
            try:
                pid = os.posix_spawn(
                    program,
                    argv,
                    environ,
                    file_actions=((os.POSIX_SPAWN_DUP2, log, 1), (os.POSIX_SPAWN_DUP2, log, 2)),
                    setpgroup=0,
                    setsigmask=(),
                    setsigdef=DEFAULT_SIGNALS,
                )
            except (OSError, ValueError) as error:
                self.unwatch(run)
                raise why_not(os.fsdecode(program), error) from None
        finally:
            os.chdir("/")
        run.note_agent(pid)
        now = time.monotonic()
        if spec["timeout"] is not None:
            run.deadline = now + spec["timeout"]
        if spec.get("output_limit"):
            run.output = OutputBound(log, run.dir, spec["output_limit"], now)
        if spec.get("memory") and self.subreaper:
            run.memory = MemoryBound(spec["memory"], now)

    def watch(self, run: Run) -> None:
        if self.notices.fd >= 0:
            run.dir_watch = self.notices.watch_directory(run.dir)
            if os.path.exists(run.events):
                run.file_watch = self.notices.watch_file(run.events)
        if run.dir_watch < 0:
            run.look_at = time.monotonic() + LOOK_PAUSE

    def unwatch(self, run: Run) -> None:
        for watch in (run.dir_watch, run.file_watch):
            if watch >= 0:
                self.notices.forget(watch)
        if self.notices.fd >= 0:
            self.notices.drain()
            self.poll.register(self.notices.fd, select.POLLIN)

    def attend(self, run: Run) -> None:
        """Wait until the agent and all it left behind have ended."""
        while not self.must_end:
            due = min(self.heed(run), run.deadline, run.kill_at, run.look_at)
            for fd, _ in self.poll.poll(None if due == NEVER else max(0, int((due - time.monotonic()) * 1000) + 1)):
                if fd == self.wake:
                    self.woken()
                elif fd == self.notices.fd:
                    self.noticed(run)
                else:
                    self.receive()
            if self.reap(run):
                break
        self.unwatch(run)
        if run.output is not None:
            run.output.look(time.monotonic())

    def heed(self, run: Run) -> float:
        """Do what is asked and what is due; when the bounds want to be looked at again."""
        for line in self.lines:
            word, _, rest = line.partition(b"\t")
            key, _, grace = rest.rpartition(b"\t")
            if word == b"stop" and key == run.key:
                self.end(run, "stop", float(grace))
        self.lines.clear()
        if self.told_to_stop:
            self.told_to_stop = False
            self.end(run, "stop", run.spec["grace"])
        now = time.monotonic()
        if run.look_at <= now:
            self.look(run, now)
        if run.deadline <= now:
            self.end(run, "timeout", run.spec["grace"])
        if run.output is not None and run.output.due <= now:
            run.output.look(now)
        if run.memory is not None and run.memory.due <= now and (held := run.memory.look(now)):
            run.held = held
            self.end(run, "memory", run.spec["grace"])
        if run.kill_pause or run.kill_at <= now:
            self.kill(run, now)
        return self.hold(run, now)

    def hold(self, run: Run, now: float) -> float:
        """Hold the attempt within its bounds."""
        due = run.say_at
        if due <= now:
            run.say()
            due = run.say_at
        if run.output is not None:
            if run.output.due <= now:
                run.output.look(now)
            due = min(due, run.output.due)
        if run.memory is not None:
            if run.memory.due <= now and (held := run.memory.look(now)):
                run.held = held
                self.end(run, "memory", run.spec["grace"])
            due = min(due, run.memory.due)
        return due

    def end(self, run: Run, why: str, grace: float) -> None:
        """TERM to everything, KILL after the grace. The first reason counts, the shortest grace holds."""
        run.deadline = NEVER
        if run.kill_at == NEVER:
            if run.status is None:
                run.why = why
            self.send_all(run, signal.SIGTERM)
            self.send_all(run, signal.SIGCONT)
        run.kill_at = min(run.kill_at, time.monotonic() + grace)

    def kill(self, run: Run, now: float) -> None:
        """KILL, again whenever something ended or the pause is over, until nothing is left or nothing can be done."""
        self.send_all(run, signal.SIGKILL)
        run.give_up_at = min(run.give_up_at, now + GIVE_UP)
        run.kill_pause = min(1.0, run.kill_pause * 1.5 or KILL_PAUSE)
        run.kill_at = now + run.kill_pause
        if run.give_up_at <= now and run.status is not None:
            run.leftovers = len(processes.descendants(os.getpid()))
            run.message = f"left {run.leftovers} processes behind that could not be ended"
            self.must_end = True  # what it left must not be taken for the next attempt's

    def send_all(self, run: Run, number: int) -> None:
        """To the agent's process group and to every descendant outside of it."""
        group = run.pid if run.status is None or not self.subreaper else 0
        below = processes.descendants(os.getpid())  # before the first of them dies and the others change parents
        if group:
            processes.send_group(group, number)
        for process in below:
            if process.group != group:
                processes.send(process, number)

    def reap(self, run: Run) -> bool:
        """Take in whatever has ended; True when nothing of the attempt is left."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return run.status is not None and (self.subreaper or self.group_is_gone(run))
            if pid == 0:
                if run.status is not None and run.leftovers is None:
                    run.leftovers = len(processes.descendants(os.getpid()))
                    if run.kill_at == NEVER:
                        self.end(run, "exit", min(run.spec["grace"], LEFTOVER_GRACE))
                return False
            if pid == run.pid:
                run.status = status

    def group_is_gone(self, run: Run) -> bool:
        """Without a subreaper, orphans are strangers; only their process group can be asked for."""
        try:
            os.killpg(run.pid, 0)
        except OSError:
            return True
        if run.leftovers is None:
            run.leftovers = 1
            self.end(run, "exit", min(run.spec["grace"], LEFTOVER_GRACE))
        return False

    def noticed(self, run: Run) -> None:
        """Something happened in the run directory. Notices then rest for a while: the kernel keeps the next ones."""
        self.notices.drain()
        if run.file_watch < 0:
            run.file_watch = self.notices.watch_file(run.events)
            if run.file_watch >= 0:
                self.notices.forget(run.dir_watch)
                run.dir_watch = -1
        if run.file_watch >= 0:
            self.ping(run)
        self.poll.unregister(self.notices.fd)
        run.look_at = time.monotonic() + PING_PAUSE

    def look(self, run: Run, now: float) -> None:
        """The rest is over; or, without notices, look at the size."""
        if run.dir_watch >= 0 or run.file_watch >= 0:
            run.look_at = NEVER
            self.poll.register(self.notices.fd, select.POLLIN)
            return
        run.look_at = now + LOOK_PAUSE
        try:
            size = os.stat(run.events).st_size
        except OSError:
            return
        if size != run.events_size:
            run.events_size = size
            self.ping(run)

    def ping(self, run: Run) -> None:
        """Tell the server to read. When that would block, the supervisor has unread pings of this attempt already."""
        cut_messages(run.events)
        try:
            self.sock.send(b"said\t" + run.key + b"\n", socket.MSG_DONTWAIT)
        except OSError:
            pass

    def report(self, run: Run, record: bytes) -> None:
        has_events = b"1" if run.file_watch >= 0 or os.path.exists(run.events) else b"0"
        if has_events == b"1":
            cut_messages(run.events)
        try:
            self.sock.sendall(b"exit\t%s\t%s\t%s\n" % (run.key, has_events, record))
        except OSError:
            self.orphan = True
