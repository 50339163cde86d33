"""The output of an attempt while its page is open: followed at its end, read backwards, jumped into and searched.

What is told to the browser half is a share of the file at a time, with the bytes it stands between; the next one goes
when the browser has shown it. So a log that grows faster than it can be shown is skipped, not queued.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from typing import Any, Protocol

from orchestrator_app.dashboard.log_search import LogSearch
from orchestrator_app.errors import OrchError
from orchestrator_app.executors.output import Piece, count_lines, decoded, read_back, read_piece

SHARE = 64_000
"""Bytes of a log that one message carries."""
LINES = 2_000
"""Lines that one message carries."""
PAUSE = 0.4
"""Seconds between two looks at a file that has said nothing new."""
BEHIND = 1024 * 1024
"""Bytes a follower may be behind; with more, it goes on from the end."""
STRIDE = 8 * 1024 * 1024
"""Bytes whose lines are counted at once."""


class Page(Protocol):
    """What a `Screen` gives."""

    session: Any

    def tell(self, payload: Any) -> None: ...
    def run(self, coroutine: Any) -> asyncio.Task: ...


class LogView:
    """The server's half of one log in one browser session. All of it is used on the session's thread."""

    def __init__(self, screen: Page, unit: str) -> None:
        self._screen = screen
        self._unit = unit
        self._runs = screen.session.orchestrator.project.state / "runs"
        self._newest = 0
        self._attempt = 0
        self._following = True
        self._offset: int | None = None  # of what is told next to one who follows; None: the end, anew
        self._seen = 0  # up to here one who doesn't follow has been told of new lines
        self._news = 0  # of those lines
        self._turn = 0  # counts what makes an answer that is still being read pointless
        self._wish: dict[str, Any] | None = None
        self._note = ""
        self._held: int | None = None  # where a character has begun whose rest isn't there yet
        self._state: dict[str, Any] | None = None
        self._share = 0
        self._shown = asyncio.Event()  # the browser half has shown the last share
        self._shown.set()
        self._woken = asyncio.Event()
        self._lines = _LineCount()
        self._search: LogSearch | None = None
        self._numbering: asyncio.Task | None = None
        self._task = screen.run(self._attend())

    def attend(self, attempt: int) -> None:
        """This is the unit's newest attempt. Who follows the one before it goes on with this one."""
        if attempt == self._newest:
            return
        followed = self._following and self._attempt == self._newest
        self._newest = attempt
        if followed:
            self._open(attempt)
        self._state = None
        self._woken.set()

    def hear(self, message: dict[str, Any]) -> None:
        """What the browser half asks for."""
        match message.get("type"):
            case "log-ack":
                if message.get("n") == self._share:
                    self._shown.set()
            case "log-attempt":
                attempt = _byte(message.get("attempt"))
                if attempt is not None and 0 < attempt <= self._newest:
                    self._open(attempt)
            case "log-follow":
                self._following, self._wish = True, None
                self._offset = _byte(message.get("from"))
                self._wake()
            case "log-pause":
                if self._following:
                    self._following, self._seen, self._news = False, self._offset or 0, 0
                    self._wake()
            case "log-older" | "log-newer" | "log-at":
                if _byte(message.get("at")) is not None:
                    if self._following:
                        self._following, self._seen, self._news = False, self._offset or 0, 0
                    self._wish = message
                    self._wake()
            case "log-search":
                if self._search is None:
                    self._search = LogSearch(self._screen, (self._runs, self._path(self._attempt)))
                self._search.hear(message)
            case "log-cancel":
                if self._search is not None:
                    self._search.cancel()

    def close(self) -> None:
        self._task.cancel()
        self._leave()

    # -- what is told

    def _path(self, attempt: int) -> tuple[str, ...]:
        return (self._unit, str(attempt), "output.log")

    def _wake(self) -> None:
        self._turn += 1
        self._woken.set()

    def _open(self, attempt: int) -> None:
        self._leave()
        self._attempt, self._following, self._offset, self._wish = attempt, True, None, None
        self._lines, self._state = _LineCount(), None
        self._wake()

    def _leave(self) -> None:
        if self._search is not None:
            self._search.close()
            self._search = None
        if self._numbering is not None:
            self._numbering.cancel()
            self._numbering = None

    async def _attend(self) -> None:
        while True:
            await self._shown.wait()
            self._woken.clear()
            try:
                said = await self._say()
            except OrchError as error:
                self._tell_state("unreadable", 0, str(error))
                said = False
            if not said:
                try:
                    await asyncio.wait_for(self._woken.wait(), PAUSE)
                except TimeoutError:
                    pass  # then it is time to look again

    async def _say(self) -> bool:
        """Tell the next share. False: there is nothing more for now."""
        if not self._attempt:
            self._tell_state("none", 0)
            return False
        wish, self._wish = self._wish, None
        if wish is not None:
            return await self._grant(wish["type"], wish["at"])
        if self._following:
            return await self._go_on()
        await self._count_news()
        return False

    async def _go_on(self) -> bool:
        turn, offset = self._turn, self._offset
        if offset is None:
            piece = await self._read(read_back, None, SHARE)
        else:
            piece = await self._read(read_piece, offset, None, SHARE)
        if turn != self._turn:
            return True
        if piece is None or not piece.size:
            self._offset = None
            self._tell_state("missing" if piece is None else "empty", 0)
            return False
        if offset is None:
            return self._tell_share("anew", _last_lines(piece))
        if piece.size < offset:
            self._offset, self._note = None, "The file became shorter: this is its end now."
            return True
        if piece.size - offset > BEHIND:
            self._offset, self._note = None, f"{piece.size - offset - SHARE} bytes were skipped to keep up."
            return True
        if self._held != offset and 0 < len(piece.data) < 4 and decoded(piece)[0] == "\ufffd":
            self._held = offset
            return False
        if not piece.data:
            self._tell_state("end", piece.size)
            return False
        return self._tell_share("after", piece)

    async def _grant(self, kind: str, at: int) -> bool:
        turn = self._turn
        if kind == "log-older":
            place, piece = "before", await self._read(read_back, at, SHARE)
        elif kind == "log-newer":
            place, piece = "after", await self._read(read_piece, at, None, SHARE)
        else:
            place, before = "anew", await self._read(read_back, at, SHARE // 2)
            start = _last_lines(before, LINES // 2).offset if before else 0
            piece = await self._read(read_piece, start, None, SHARE)
        if turn != self._turn or piece is None or not piece.data:
            return turn != self._turn
        return self._tell_share(place, _last_lines(piece) if place == "before" else piece)

    async def _count_news(self) -> None:
        turn = self._turn
        piece = await self._read(read_piece, 0, None, 0)
        size = 0 if piece is None else piece.size
        if turn != self._turn:
            return
        if size < self._seen:
            self._following, self._offset, self._note = True, None, "The file became shorter: this is its end now."
            self._wake()
            return
        stop = min(size, self._seen + STRIDE)
        news = await asyncio.to_thread(count_lines, self._runs, self._path(self._attempt), self._seen, stop)
        if turn == self._turn:
            self._seen, self._news = stop, self._news + news
            self._tell_state("paused", size)

    async def _read(self, how: Any, *args: Any) -> Piece | None:
        return await asyncio.to_thread(how, self._runs, self._path(self._attempt), *args)

    def _tell_share(self, place: str, piece: Piece) -> bool:
        if place == "before":
            text, used = piece.data.decode(errors="replace"), len(piece.data)
        else:
            piece = _first_lines(piece)
            text, used = decoded(piece)
        end = piece.offset + used
        if self._following:
            self._offset = end
        self._share += 1
        self._shown.clear()
        self._state = None
        self._screen.tell(
            {
                "log": {
                    "what": "share",
                    "n": self._share,
                    "unit": self._unit,
                    "attempt": self._attempt,
                    "newest": self._newest,
                    "place": place,
                    "start": piece.offset,
                    "end": end,
                    "size": piece.size,
                    "lengths": _lengths(piece.data[:used]),
                    "text": text,
                    "following": self._following,
                    "note": self._note,
                }
            }
        )
        self._note = ""
        if place == "anew":
            if self._numbering is not None:
                self._numbering.cancel()
            self._numbering = self._screen.run(self._number(piece.offset))
        return True

    def _tell_state(self, state: str, size: int, text: str = "") -> None:
        told = {
            "what": "state",
            "state": state,
            "unit": self._unit,
            "attempt": self._attempt,
            "newest": self._newest,
            "size": size,
            "news": self._news,
            "text": text,
        }
        if told != self._state:
            self._state = told
            self._screen.tell({"log": told})

    async def _number(self, at: int) -> None:
        """Tell which line of the file begins at a byte, as soon as that has been counted."""
        try:
            line = await self._lines.before((self._runs, self._path(self._attempt)), at) + 1
        except OrchError:
            return  # it can't be read any more; the next share says so
        self._screen.tell({"log": {"what": "line", "at": at, "line": line}})


class _LineCount:
    """How many lines end before a byte of a file that only grows; what was counted isn't counted again."""

    def __init__(self) -> None:
        self._known = [(0, 0)]

    async def before(self, file: tuple[Any, ...], at: int) -> int:
        offset, count = self._known[bisect_right(self._known, at, key=lambda known: known[0]) - 1]
        while offset < at:
            stop = min(offset + STRIDE, at)
            count += await asyncio.to_thread(count_lines, *file, offset, stop)
            offset = stop
            if offset > self._known[-1][0]:
                self._known.append((offset, count))
        return count


def _byte(value: Any) -> int | None:
    """A number from the browser, if it is one that a position can have."""
    return value if type(value) is int and 0 <= value < 2**53 else None


def _lengths(data: bytes) -> list[int]:
    """The bytes of each line, its end included; the last may have none yet."""
    lengths = [len(line) + 1 for line in data.split(b"\n")]
    lengths[-1] -= 1
    return lengths if lengths[-1] else lengths[:-1]


def _first_lines(piece: Piece) -> Piece:
    rest = piece.data.split(b"\n", LINES)[LINES:]
    return piece._replace(data=piece.data[: len(piece.data) - len(rest[0])]) if rest else piece


def _last_lines(piece: Piece, most: int = LINES) -> Piece:
    parts = piece.data.rsplit(b"\n", most + 1)
    if len(parts) <= most + 1:
        return piece
    cut = len(parts[0]) + 1
    return piece._replace(offset=piece.offset + cut, data=piece.data[cut:])
