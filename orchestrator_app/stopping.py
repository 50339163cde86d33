"""How a server comes to its end: in which way, and at which signals. Standard library only."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from enum import StrEnum
from types import FrameType


class Stop(StrEnum):
    """What a stop does with running attempts."""

    DRAIN = "drain"
    """Nothing new is started, and it waits for what runs. Attempts that wait for a person go on without a server."""
    LEAVE = "leave"
    """They go on, and the next server takes them back."""
    AGENTS = "agents"
    """They are ended with all their descendants; their phases run again under the next server."""

    def outdoes(self, other: Stop | None) -> bool:
        """Whether this one takes the place of another that is under way: only a drain can still change."""
        return other is None or (other is Stop.DRAIN and self is not Stop.DRAIN)


class Signals:
    """TERM, INT and HUP: the first one asks for an orderly stop, the second leaves at once.

    Nothing is left to the default: to process 1 of a container the kernel delivers only what it listens to. A HUP that
    was ignored from the start (`nohup`) stays ignored.
    """

    def __init__(self) -> None:
        self.heard = 0
        self._stop: Callable[[], None] | None = None
        self._leave: Callable[[], None] = _exit

    def listen(self) -> None:
        """From now on; before `obey` the first signal is kept in mind. Python lets only the main thread listen."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                    signal.signal(number, self._hear)

    def obey(self, stop: Callable[[], None], leave: Callable[[], None]) -> None:
        """What to call at the first signal (at once, if it has come already) and at the second one."""
        self._stop, self._leave = stop, leave
        self.listen()  # again: Panel and Bokeh take some of them for themselves
        if self.heard:
            stop()

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self.heard += 1
        if self.heard > 1:
            say("Leaving at once. The next server takes back what runs.")
            self._leave()
        elif self._stop is None:
            say("Stopping as soon as it has started. Once more to leave at once.")
        else:
            self._stop()


def say(line: str) -> None:
    """A line on standard output, also from within a signal's function, and though the terminal may be gone."""
    with suppress(OSError, ValueError):
        os.write(sys.stdout.fileno(), f"{line}\n".encode())


def _exit() -> None:
    os._exit(1)
