"""Reads what an agent appends to its `events.jsonl`: complete lines, from a position, a bounded bite at a time.

Of one attempt only so much is read in all: each message is a row of the log for ever.
"""

from __future__ import annotations

import json
import os
import stat

from orchestrator_app.executors.base import MAX_RAW, Message
from orchestrator_app.executors.bounds import EVENTS_LIMIT
from orchestrator_app.executors.evidence import raise_passing

MAX_LINE = 64 * 1024
BITE = 256 * 1024
MAX_LINES = 1000
MOST_LINES = 100_000
"""Lines of one attempt that are read."""


class EventReader:
    """Follows one file. `pos` is the byte offset behind the last line that was returned."""

    def __init__(self, path: str, pos: int = 0) -> None:
        self.path = path
        self.pos = pos
        self._fd = -1
        self._searched = 0  # within a line longer than a bite: how far its end has been looked for
        self._left = 0  # lines that may still be read

    def read(self, ended: bool = False) -> tuple[list[Message], bool]:
        """The next lines and whether there may be more. With `ended`, an incomplete last line counts as a line.

        Raises OSError when nothing can be opened now. What can't be read at all counts as not there."""
        if self.pos >= EVENTS_LIMIT:
            return [], False
        try:
            if self._fd < 0 and not self._open():
                return [], False
            return self._skip(ended) if self._searched else self._bite(ended)
        except OSError as error:
            raise_passing(error)
            return [], False

    def _open(self) -> bool:
        self._fd = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK)
        if not stat.S_ISREG(os.fstat(self._fd).st_mode):
            self.close()
            return False
        self._left = MOST_LINES
        for start in range(0, self.pos, BITE):
            self._left -= os.pread(self._fd, min(BITE, self.pos - start), start).count(b"\n")
        return True

    def _bite(self, ended: bool) -> tuple[list[Message], bool]:
        bite = os.pread(self._fd, min(BITE, EVENTS_LIMIT - self.pos), self.pos)
        if self._left <= 0 and bite:
            return self._no_more(bite)
        *lines, tail = bite.split(b"\n", min(MAX_LINES, self._left))
        self._left -= len(lines)
        if not lines and self.pos + len(bite) == EVENTS_LIMIT:
            return self._no_more(tail)
        if not lines and len(bite) == BITE:
            self._searched = self.pos + BITE
            return [], True
        messages = []
        for line in lines:
            self.pos += len(line) + 1
            if not line.isspace() and line:
                messages.append(to_message(line, self.pos))
        more = len(bite) == BITE or len(lines) == MAX_LINES or self._is_over(tail)
        if ended and not more and tail:
            self.pos += len(tail)
            messages.append(to_message(tail, self.pos))
        return messages, more

    def _skip(self, ended: bool) -> tuple[list[Message], bool]:
        """Within an endless line: look for its end, keep its beginning."""
        bite = os.pread(self._fd, min(BITE, EVENTS_LIMIT - self._searched), self._searched)
        end = bite.find(b"\n")
        if end < 0 and self._searched + len(bite) == EVENTS_LIMIT:
            return self._no_more(os.pread(self._fd, MAX_RAW, self.pos))
        if end < 0 and not (ended and not bite):
            self._searched += len(bite)
            return [], ended or len(bite) == BITE
        start = os.pread(self._fd, MAX_RAW * 4, self.pos)
        self.pos = self._searched + end + 1
        self._searched = 0
        return [too_long(start, self.pos)], True

    def _is_over(self, tail: bytes) -> bool:
        """Whether there is something that will not be read."""
        return bool(tail) and (self._left <= 0 or self.pos + len(tail) == EVENTS_LIMIT)

    def _no_more(self, line: bytes) -> tuple[list[Message], bool]:
        """The last message: it says that the others aren't read, and stands at the limit, so that it's said once."""
        self.pos = EVENTS_LIMIT
        most = f"{MOST_LINES:,} lines or {EVENTS_LIMIT >> 20} MB of messages"
        raw = line[: MAX_RAW * 4].decode("utf-8", "replace")[:MAX_RAW]
        return [Message(self.pos, None, f"more than {most}: what follows is not read", raw)], False

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def to_message(line: bytes, pos: int) -> Message:
    """The message in one line; a line that is none keeps its text and says what is wrong with it."""
    if len(line) > MAX_LINE:
        return too_long(line, pos)
    text = line.decode("utf-8", "replace").strip()
    raw = text[:MAX_RAW]
    try:
        data = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        return Message(pos, None, f"not JSON: {str(error)[:200]}", raw)
    if not isinstance(data, dict):
        return Message(pos, None, f"not a JSON object but {type(data).__name__}", raw)
    if "\\ud" in text or "\\uD" in text:  # escaped halves of characters, which no database takes
        data = json.loads(json.dumps(data, ensure_ascii=False).encode("utf-8", "replace"))
    return Message(pos, data, None, raw)


def too_long(line: bytes, pos: int) -> Message:
    """The message for a line that is longer than a line may be."""
    raw = line[: MAX_RAW * 4].decode("utf-8", "replace")[:MAX_RAW]
    return Message(pos, None, f"longer than {MAX_LINE // 1024} kB", raw)


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")
