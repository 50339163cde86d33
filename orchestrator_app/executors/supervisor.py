"""The supervisor: one small process per project that outlives the server and hands attempts to keepers.

Run by its path, `python -I -S supervisor.py STATE`, with the standard library only, so that no import error of the rest
can hurt running agents. It takes the project's lock, binds its socket, then detaches: when the started process has
exited with 0, the supervisor can be reached; LOCKED means that another one holds the state directory.

It talks to one server at a time, of the same user (checked where the system tells, else by the mode of the state
directory). Lines, fields apart by tabs, from the server: `hello ENVIRON`, `start UNIT ATTEMPT SPEC PROMPT`, `stop UNIT
ATTEMPT GRACE`; to it: `hello PROTOCOL PID RUNNING`, `busy PID`, what keepers say (see keeper.py), and `lost UNIT
ATTEMPT` when a keeper died. When no server is connected and nothing runs, it ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import socket
import struct
import sys
import time

PROTOCOL = 1
LOCKED = 3
SOCKET = "supervisor.sock"
LOCK = "supervisor.lock"
IDLE_END = 2.0
ACCEPT_PAUSE = 0.02


class Line:
    """A nonblocking socket that carries lines. What can't be sent yet waits in `out`."""

    def __init__(self, sock: socket.socket, poll: select.poll) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.fd = sock.fileno()
        self.poll = poll
        self.buffer = b""
        self.out = b""
        self.waits = False
        poll.register(self.fd, select.POLLIN)

    def receive(self) -> list[bytes] | None:
        """Complete lines that have come in; None when the other side is gone."""
        try:
            data = self.sock.recv(1 << 18)
        except BlockingIOError:
            return []
        except OSError:
            return None
        if not data:
            return None
        *lines, self.buffer = (self.buffer + data).split(b"\n")
        return lines

    def send(self, data: bytes) -> None:
        if self.out:
            self.out += data
        else:
            self.out = data
            self.flush()

    def flush(self) -> None:
        try:
            self.out = self.out[self.sock.send(self.out) :]
        except BlockingIOError:
            pass
        except OSError:  # its end shows at the next receive
            self.out = b""
        if bool(self.out) != self.waits:
            self.waits = bool(self.out)
            self.poll.modify(self.fd, select.POLLIN | select.POLLOUT if self.waits else select.POLLIN)

    def close(self) -> None:
        self.poll.unregister(self.fd)
        self.sock.close()


class KeeperLine(Line):
    """The supervisor's end of a keeper."""

    def __init__(self, sock: socket.socket, poll: select.poll, environ: bytes) -> None:
        super().__init__(sock, poll)
        self.environ = environ
        self.key: bytes | None = None


class Supervisor:
    """Routes lines between one server and the keepers."""

    def __init__(self, listener: socket.socket) -> None:
        self.listener = listener
        self.poll = select.poll()
        self.poll.register(listener, select.POLLIN)
        self.server: Line | None = None
        self.server_pid = 0
        self.environ = b"{}"
        self.keepers: dict[int, KeeperLine] = {}
        self.idle: list[KeeperLine] = []
        self.running: dict[bytes, KeeperLine] = {}
        self.pings: dict[bytes, bytes] = {}
        self.idle_since = time.monotonic()

    def serve(self) -> None:
        while True:
            timeout = None
            if self.server is None and not self.running:
                timeout = self.idle_since + IDLE_END - time.monotonic()
                if timeout <= 0:
                    return
            out: list[bytes] = []
            for fd, event in self.poll.poll(None if timeout is None else timeout * 1000 + 1):
                if fd in self.keepers:
                    self.from_keeper(self.keepers[fd], event, out)
                elif fd == self.listener.fileno():
                    self.accept()
                elif self.server is not None and fd == self.server.fd:
                    self.from_server(self.server, event)
            self.to_server(out)

    def to_server(self, out: list[bytes]) -> None:
        """Everything of one round in one send. Pings wait, once per attempt, while the server does not read."""
        if self.server is None:
            self.pings.clear()
            return
        if self.pings and not self.server.out:
            out += self.pings.values()
            self.pings.clear()
        if out:
            self.server.send(b"".join(out))

    def accept(self) -> None:
        try:
            sock, _ = self.listener.accept()
        except OSError:  # it stays, and poll tells of it again: not too often, when there are no more descriptors
            time.sleep(ACCEPT_PAUSE)
            return
        pid, uid = peer(sock)
        if uid == os.getuid() and self.server is None:
            self.server, self.server_pid = Line(sock, self.poll), pid
            return
        if uid == os.getuid():
            with contextlib.suppress(OSError):
                sock.send(b"busy\t%d\n" % self.server_pid)
        sock.close()

    def from_server(self, server: Line, event: int) -> None:
        if event & select.POLLOUT:
            server.flush()
        if not event & ~select.POLLOUT:
            return
        lines = server.receive()
        if lines is None:
            server.close()
            self.server = None
            self.idle_since = time.monotonic()
            return
        for line in lines:
            word, _, rest = line.partition(b"\t")
            if word == b"start":
                self.start(line)
            elif word == b"stop":
                keeper = self.running.get(rest.rpartition(b"\t")[0])
                if keeper is not None:
                    keeper.send(line + b"\n")
            elif word == b"hello":
                self.hello(server, rest)

    def hello(self, server: Line, environ: bytes) -> None:
        """Attempts to come get the environment of the server that starts them, not of an earlier one."""
        if environ != self.environ:
            self.environ = environ
            while self.idle:
                self.forget(self.idle.pop())
        running = [key.decode().split("\t") for key in self.running]
        server.send(b"hello\t%d\t%d\t%s\n" % (PROTOCOL, os.getpid(), json.dumps(running).encode()))

    def start(self, line: bytes) -> None:
        key = b"\t".join(line.split(b"\t", 3)[1:3])
        try:
            keeper = self.idle.pop() if self.idle else self.fork()
        except OSError as error:
            self.refuse(key, error)
            return
        keeper.key = key
        self.running[keeper.key] = keeper
        keeper.send(line + b"\n")

    def refuse(self, key: bytes, error: OSError) -> None:
        """No keeper can be had for this attempt: it was not started."""
        now = time.time()
        why, message = refusal(error)
        record = {"code": None, "signal": None, "why": why, "message": message}
        record |= {"started_at": now, "ended_at": now, "leftovers": 0}
        if self.server is not None:
            self.server.send(b"exit\t%s\t0\t%s\n" % (key, json.dumps(record).encode()))

    def fork(self) -> KeeperLine:
        ours, theirs = socket.socketpair()
        try:
            if os.fork() == 0:
                become_keeper(theirs, self.environ)
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        keeper = KeeperLine(ours, self.poll, self.environ)
        self.keepers[keeper.fd] = keeper
        return keeper

    def from_keeper(self, keeper: KeeperLine, event: int, out: list[bytes]) -> None:
        if event & select.POLLOUT:
            keeper.flush()
        if not event & ~select.POLLOUT:
            return
        lines = keeper.receive()
        if lines is None:
            if keeper.key is not None:
                out.append(b"lost\t%s\n" % keeper.key)
                self.done(keeper)
            if keeper in self.idle:
                self.idle.remove(keeper)
            self.forget(keeper)
            return
        for line in lines:
            if line.startswith(b"said\t"):
                self.pings[line] = line + b"\n"
                continue
            out.append(line + b"\n")
            self.done(keeper)
            if keeper.environ == self.environ:
                self.idle.append(keeper)
            else:
                self.forget(keeper)

    def done(self, keeper: KeeperLine) -> None:
        if keeper.key is not None:
            self.running.pop(keeper.key, None)
            keeper.key = None
        self.idle_since = time.monotonic()

    def forget(self, keeper: KeeperLine) -> None:
        """An idle keeper ends when its socket does."""
        del self.keepers[keeper.fd]
        keeper.close()


def refusal(error: OSError) -> tuple[str, str]:
    """Why an attempt got no keeper: the words of its exit."""
    from .programs import cannot

    found = cannot("no process could be started for it", error, "see supervisor.log in the state directory")
    return ("scarce" if found.passing else "spawn"), str(found)


def become_keeper(sock: socket.socket, environ: bytes) -> None:
    """In the forked child: drop everything of the supervisor (its lock above all), and never return."""
    from .complaints import complain_of_error
    from .keeper import Keeper

    code = 1
    try:
        os.closerange(3, sock.fileno())
        os.closerange(sock.fileno() + 1, os.sysconf("SC_OPEN_MAX"))
        os.chdir("/")
        named = {os.fsencode(name): os.fsencode(value) for name, value in json.loads(environ).items()}
        Keeper(sock, named).serve()
        code = 0
    except BaseException:
        complain_of_error()
    finally:
        os._exit(code)


def peer(sock: socket.socket) -> tuple[int, int]:
    """Process and user at the other end. Where the system doesn't say: pid 0 and ourselves."""
    if not hasattr(socket, "SO_PEERCRED"):
        return 0, os.getuid()
    pid, uid, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return pid, uid


def main(state: str) -> int:
    """Take the lock, bind, detach, serve."""
    os.chdir(state)  # a relative socket name: paths longer than 108 bytes can't be bound
    lock = os.open(LOCK, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return LOCKED
    if os.path.lexists(SOCKET):
        os.unlink(SOCKET)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(SOCKET)
    os.chmod(SOCKET, 0o600)
    listener.listen(8)
    listener.setblocking(False)
    if os.fork():
        os._exit(0)

    from . import keeper, processes  # noqa: F401  keepers are forked with everything loaded

    processes.set_name("orch-supervisor")
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # keepers that end leave nothing to wait for
    Supervisor(listener).serve()
    return 0


if __name__ == "__main__":
    # As a package of its own, so that neither orchestrator_app nor anything it imports is loaded.
    sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    from executors.supervisor import main as run

    sys.exit(run(sys.argv[1]))
