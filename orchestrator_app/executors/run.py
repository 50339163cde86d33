"""One attempt in the hands of its keeper: what is known of it, and the files that tell of it. Standard library only."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import time

from . import processes
from .bounds import MemoryBound, OutputBound
from .complaints import complain
from .programs import REMEDIES, CannotStart, cannot

WRITE_NEW = os.O_CREAT | os.O_EXCL | os.O_WRONLY
NEVER = float("inf")
AGAIN = 1.0
"""Seconds until what could not be written is tried again."""


class AlreadyTaken(CannotStart):
    """Someone else has answered for this attempt: it must not be started, nor its files be touched."""


class Run:
    """One attempt in progress. All times but `started_at` are of the monotonic clock, so that neither a wrong wall
    clock nor a suspended machine ends an attempt."""

    def __init__(self, line: bytes) -> None:
        _, unit, attempt, self.spec_json, self.prompt_json = line.split(b"\t")
        self.key = unit + b"\t" + attempt
        self.spec = json.loads(self.spec_json)
        self.dir: str = self.spec["run_dir"]
        self.events = self.dir + "/events.jsonl"
        self.started_at = time.time()
        self.file = -1
        self.pid = 0
        self.status: int | None = None
        self.why = "exit"
        self.message = ""
        self.leftovers: int | None = None
        self.deadline = NEVER
        self.kill_at = NEVER
        self.kill_pause = 0.0
        self.give_up_at = NEVER
        self.look_at = NEVER
        self.events_size = 0
        self.dir_watch = self.file_watch = -1
        self.output: OutputBound | None = None
        self.memory: MemoryBound | None = None
        self.held = 0  # bytes of memory, when that was too much
        self.unsaid = b""  # the agent's line of attempt.json, while it can't be written
        self.say_at = NEVER

    def make_files(self, identity: bytes) -> int:
        """Make the run directory and its files; the descriptor of output.log. Raises CannotStart."""
        try:
            try:
                os.mkdir(self.dir, 0o700)
            except FileNotFoundError:
                os.makedirs(os.path.dirname(self.dir), 0o700, exist_ok=True)
                os.mkdir(self.dir, 0o700)
            except FileExistsError:
                pass
            self.file = os.open(self.dir + "/attempt.json", WRITE_NEW, 0o600)
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(self.file).st_size:
                raise FileExistsError
            write_all(self.file, self.spec_json + b"\n" + identity)
            if self.prompt_json != b'""':
                prompt = json.loads(self.prompt_json).encode("utf-8", "replace")
                with open(os.open(self.dir + "/prompt.txt", WRITE_NEW, 0o600), "wb") as file:
                    file.write(prompt)
            return os.open(self.dir + "/output.log", os.O_CREAT | os.O_RDWR | os.O_APPEND, 0o600)
        except (FileExistsError, BlockingIOError):
            raise AlreadyTaken(f"{self.dir} already holds an attempt; it was not started again, move it away") from None
        except OSError as error:
            raise cannot(f"the run directory {self.dir} can't be made", error, "repair that") from None

    def note_agent(self, pid: int) -> None:
        """Write down which process is the agent."""
        self.pid = pid
        agent = processes.read(pid)
        starttime = agent.starttime if agent else 0
        self.unsaid = f'{{"pid": {pid}, "starttime": {starttime}, "started_at": {self.started_at!r}}}\n'.encode()
        self.say()

    def say(self) -> None:
        """Write what is unsaid, whole or not at all: a half line would hide the whole one that comes later."""
        size = os.lseek(self.file, 0, os.SEEK_CUR)
        try:
            write_all(self.file, self.unsaid)
            self.unsaid, self.say_at = b"", NEVER
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self.file, os.lseek(self.file, size, os.SEEK_SET))
            if self.say_at == NEVER:
                complain(f"{self.dir}/attempt.json can't be written, which is tried again: {error.strerror}")
            self.say_at = time.monotonic() + AGAIN

    def exit_record(self) -> bytes:
        code = number = None
        if self.status is not None:
            value = os.waitstatus_to_exitcode(self.status)
            code, number = (value, None) if value >= 0 else (None, -value)
        record = {
            "code": code,
            "signal": number,
            "why": self.why,
            "message": self.message or self._describe(code, number),
            "started_at": self.started_at,
            "ended_at": max(self.started_at, time.time()),
            "leftovers": self.leftovers or 0,
        }
        return json.dumps(record).encode()

    def write_exit(self, record: bytes) -> bool:
        """Write exit.json; False if that may be possible later."""
        try:
            fd = os.open(self.dir + "/exit.tmp", os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
            try:
                write_all(fd, record)
                os.fsync(fd)
            finally:
                os.close(fd)
            os.rename(self.dir + "/exit.tmp", self.dir + "/exit.json")
        except OSError as error:  # the server still hears of it, if there is one
            passing = error.errno in REMEDIES
            complain(f"{self.dir}/exit.json can't be written: {error.strerror}: {record!r}")
            return not passing
        return True

    def _describe(self, code: int | None, number: int | None) -> str:
        """How an attempt ended, in one line; "" for a plain success."""
        if number is None:
            ending = f"ended with exit code {code}"
        else:
            name = signal.Signals(number).name if number in signal.Signals._value2member_map_ else f"signal {number}"
            ending = f"was ended by {name}"
        if self.why == "timeout":
            return f"ran longer than its limit of {self.spec['timeout']:g} s and {ending}"
        if self.why == "memory":
            held, limit = self.held >> 20, self.spec["memory"] >> 20
            return f"held {held} MB of memory, more than its limit of {limit} MB, and {ending}"
        if self.why == "stop":
            return f"was stopped and {ending}"
        return "" if code == 0 else ending


def write_all(fd: int, data: bytes) -> None:
    """Write all of it, or raise OSError: a full disk may take a part first."""
    while data:
        data = data[os.write(fd, data) :]
