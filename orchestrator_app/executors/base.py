"""What every executor takes and gives back: the contract between the scheduler and the places where attempts run.

The scheduler hands over `AttemptSpec`s and gets `Report`s. An executor never decides anything about a unit; it says
what happened to a process. Times are seconds since the epoch (wall clock), durations are seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

MAX_RAW = 2_000
"""Characters of an event line that a `Message` keeps in `raw`."""


@dataclass(frozen=True)
class AttemptSpec:
    """One attempt to run: everything the executor needs to know.

    `argv` is run without a shell; its first word is looked up on the PATH of `env`, else of the server. `env` holds
    additions to the server's environment. `run_dir` (absolute) is made by the executor. `prompt`, if not empty, is
    written to `run_dir/prompt.txt`. `timeout` is in seconds from the start, None for no limit. `grace` is the time
    between TERM and KILL at that timeout, in seconds. `output_limit` is how many bytes of output are kept (0: all),
    `memory` how many all of its processes together may hold (None: any).
    """

    unit: str
    attempt: int
    phase: str
    argv: tuple[str, ...]
    cwd: str
    env: dict[str, str]
    run_dir: str
    prompt: str
    timeout: float | None
    grace: float
    output_limit: int = 0
    memory: int | None = None


class Message(NamedTuple):
    """One line that an agent appended to its `events.jsonl`.

    `pos` is the byte offset just behind the line, so it is where reading goes on. Exactly one of `data` (the JSON
    object) and `error` (why the line is none, one sentence) is set. `raw` is the line, cut to `MAX_RAW` characters.
    """

    pos: int
    data: dict | None
    error: str | None
    raw: str


class Exited(NamedTuple):
    """An attempt has ended and so has every process it left behind.

    `code` is the exit code, or None when it was ended by `signal` or never ran. `why` is "exit" (by itself),
    "timeout", "memory" (it held too much), "stop" (asked by `Executor.stop`), "spawn" (it could not be started) or
    "scarce" (it could not be started now: for want of room, memory, processes or descriptors); `message` is one line
    that says what and why. `leftovers` counts the processes that were still there after the attempt's own had ended.
    """

    unit: str
    attempt: int
    code: int | None
    signal: int | None
    why: str
    message: str
    started_at: float
    ended_at: float
    leftovers: int

    @property
    def ran(self) -> bool:
        """Whether its program was started at all."""
        return self.why not in ("spawn", "scarce")


class Said(NamedTuple):
    """New lines of an attempt's `events.jsonl`, in order, each exactly once."""

    unit: str
    attempt: int
    messages: list[Message]


class Vanished(NamedTuple):
    """An attempt is gone and left no exit behind; `reason` says what is known, in one sentence."""

    unit: str
    attempt: int
    reason: str


Report = Exited | Said | Vanished


class Executor(Protocol):
    """Where attempts run. All methods but `wake` are called by one thread, the scheduler's."""

    def open(self) -> None:
        """Get ready. Raises ExecutorError when that's impossible, or when another executor holds this state."""

    def recover(self, open_attempts: list[tuple[str, int, int]]) -> None:
        """Take back attempts of an earlier server: (unit, attempt, position in events.jsonl that the log has reached).

        Afterwards every one of them is adopted, or `wait` reports it as Exited or Vanished.
        """

    def start(self, specs: Sequence[AttemptSpec]) -> None:
        """Start attempts; never blocks. One that can't be started comes back as an `Exited` that never `ran`."""

    def stop(self, unit: str, attempt: int, grace: float) -> None:
        """TERM, `grace` seconds, KILL to every descendant; never blocks. An `Exited(why="stop")` follows.

        An attempt that ends by itself first is reported as that. Unknown attempts are ignored.
        """

    def wait(self, timeout: float | None) -> list[Report]:
        """Block until there is a report, `wake()` was called, or `timeout` seconds are over; return all there is.

        Before an attempt's Exited or Vanished, all its Said were returned (in the same list or an earlier one).
        """

    def wake(self) -> None:
        """End a `wait` in progress, or else the next one. May be called by any thread."""

    def close(self) -> None:
        """Let go. Running attempts go on; the next `open` and `recover` take them back."""
