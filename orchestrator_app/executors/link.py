"""The server's end of the line to its supervisor, and how one is started where there is none."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

from orchestrator_app.errors import ExecutorError
from orchestrator_app.executors import supervisor

REACH_TIMEOUT = 10.0
BUSY_TIMEOUT = 2.0
LOG_LIMIT = 1 << 20
LONGEST_NAME = 100


class Link:
    """A connection to the supervisor of a state directory; `sock` is None while there is none. Never blocks, but in
    `connect`. What can't be sent yet waits in `out`."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.sock: socket.socket | None = None
        self.out = b""
        self._buffer = b""

    def connect(self) -> set[tuple[str, int]]:
        """Reach a supervisor, starting one if need be; the (unit, attempt) pairs it runs. Raises ExecutorError."""
        started = time.monotonic()
        while True:
            waited = time.monotonic() - started
            sock = self._dial()
            answer = self._greet(sock) if sock is not None else []
            if answer and answer[0] == "hello":
                return self._enter(sock, answer)
            if sock is not None:
                sock.close()
            if answer and waited > BUSY_TIMEOUT:  # a server that was killed a moment ago is still being cleared away
                raise ExecutorError(f"process {answer[1]} already runs the attempts of {self.state}; stop it first")
            if waited > REACH_TIMEOUT:
                raise ExecutorError(f"the supervisor of {self.state} doesn't answer; see supervisor.log there")
            if answer or sock is not None or not self._launch():
                time.sleep(0.02)

    def _dial(self) -> socket.socket | None:
        """A connection to the socket in the state directory, however long its path is; None if nobody listens."""
        try:
            directory = os.open(self.state, os.O_RDONLY)
        except OSError as error:
            raise ExecutorError(f"the supervisor of {self.state} can't be reached: {error}") from None
        try:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        except OSError as error:
            os.close(directory)
            raise ExecutorError(f"the supervisor of {self.state} can't be reached: {error}") from None
        try:
            name = str(self.state / supervisor.SOCKET)
            if len(os.fsencode(name)) > LONGEST_NAME:
                name = f"/proc/self/fd/{directory}/{supervisor.SOCKET}"
            sock.connect(name)
            if supervisor.peer(sock)[1] != os.getuid():
                raise PermissionError("its socket belongs to another user")
            return sock
        except (FileNotFoundError, ConnectionError):
            sock.close()
            return None
        except OSError as error:
            sock.close()
            raise ExecutorError(f"the supervisor of {self.state} can't be reached: {error}") from None
        finally:
            os.close(directory)

    def _greet(self, sock: socket.socket) -> list[str]:
        """Say hello; the words of the answer, none if there is no answer. What keepers say at the same time may come
        with it: before it, that was meant for nobody; behind it, it is kept in the buffer."""
        self._buffer = b""
        try:
            sock.settimeout(REACH_TIMEOUT)
            sock.sendall(b"hello\t" + json.dumps(_environ()).encode() + b"\n")
            while True:
                while b"\n" in self._buffer:
                    line, _, self._buffer = self._buffer.partition(b"\n")
                    if line.startswith((b"hello\t", b"busy\t")):
                        return line.decode().split("\t")
                data = sock.recv(1 << 16)
                if not data:
                    return []
                self._buffer += data
        except OSError:
            return []

    def _enter(self, sock: socket.socket, answer: list[str]) -> set[tuple[str, int]]:
        _, protocol, pid, running = answer
        if int(protocol) != supervisor.PROTOCOL:
            sock.close()
            raise ExecutorError(
                f"the supervisor (process {pid}) is of another version of orchestrator_app; "
                f"end it with `kill {pid}`: its attempts go on and are taken over"
            )
        sock.setblocking(False)
        self.sock, self.out = sock, b""
        *lines, self._buffer = self._buffer.split(b"\n")
        # Who has ended since the answer was written is not running: its run directory tells how.
        ended = [line.decode().split("\t")[1:3] for line in lines if line.startswith((b"exit\t", b"lost\t"))]
        return {(unit, int(number)) for unit, number in json.loads(running) if [unit, str(number)] not in ended}

    def _launch(self) -> bool:
        """Start a supervisor; False when another one holds the state directory already."""
        path = self.state / "supervisor.log"
        try:
            fd = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
            with open(fd, "ab") as log:
                if os.fstat(fd).st_size > LOG_LIMIT:
                    os.ftruncate(fd, 0)
                started = subprocess.run(
                    [sys.executable, "-I", "-S", supervisor.__file__, str(self.state)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=_environ(),
                    start_new_session=True,
                    timeout=REACH_TIMEOUT,
                )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ExecutorError(f"the supervisor of {self.state} can't be started: {error}") from None
        if started.returncode not in (0, supervisor.LOCKED):
            raise ExecutorError(f"the supervisor of {self.state} ended at once; see {path}")
        return started.returncode == 0

    def send(self, data: bytes) -> None:
        waiting = bool(self.out)
        self.out += data
        if not waiting:
            self.flush()

    def flush(self) -> None:
        if self.sock is None:
            return
        try:
            self.out = self.out[self.sock.send(self.out) :]
        except BlockingIOError:
            pass
        except OSError:  # its end shows at the next receive
            self.out = b""

    def receive(self) -> list[bytes] | None:
        """Complete lines that have come in; None when the supervisor is gone."""
        try:
            data = self.sock.recv(1 << 18)
        except BlockingIOError:
            return []
        except OSError:
            return None
        if not data:
            return None
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        return lines

    def close(self) -> None:
        if self.sock is not None:
            self.sock.close()
            self.sock = None
        self.out = b""


def _environ() -> dict[str, str]:
    """What agents inherit: the server's environment, without what is meant for the server or for another repository."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("ORCH_") and name not in OTHER_REPOSITORY
    }


#: A server started from a git hook has these: they would send an agent's git to the wrong repository.
OTHER_REPOSITORY = frozenset(
    {
        "GIT_ALTERNATE_OBJECT_DIRECTORIES",
        "GIT_COMMON_DIR",
        "GIT_CONFIG",
        "GIT_CONFIG_COUNT",
        "GIT_CONFIG_PARAMETERS",
        "GIT_DIR",
        "GIT_IMPLICIT_WORK_TREE",
        "GIT_INDEX_FILE",
        "GIT_NAMESPACE",
        "GIT_OBJECT_DIRECTORY",
        "GIT_PREFIX",
        "GIT_QUARANTINE_PATH",
        "GIT_WORK_TREE",
    }
)
