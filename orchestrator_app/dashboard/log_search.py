"""A search through the whole output of an attempt: the next hit first, then how many there are."""

from __future__ import annotations

import asyncio
from array import array
from bisect import bisect_left
from pathlib import Path
from typing import Any

from orchestrator_app.errors import OrchError
from orchestrator_app.executors.output_search import Needle, find, line_of, needle

PROGRESS = 0.2
"""Seconds between two words on how far a search is."""
MOST_HITS = 100_000
"""Hits that are counted; a text with more is no help to anyone."""
SHARE = 10_000
"""Hits that one look through the file may give."""
END = 2**53


class LogSearch:
    """What is searched for in one file, and what has been found so far."""

    def __init__(self, screen: Any, file: tuple[Path, tuple[str, ...]]) -> None:
        self._screen = screen
        self._file = file
        self._text = ""
        self._needle: Needle | None = None
        self._hits = array("Q")
        self._counted = 0  # bytes whose hits are in _hits
        self._task: asyncio.Task | None = None
        self._told = 0.0
        self._number: Any = None  # of the question that is being answered

    def hear(self, message: dict[str, Any]) -> None:
        """{text, from, direction: next | previous, id}: look for it from a byte of the file on."""
        self.close()
        text, start, self._number = message.get("text"), message.get("from"), message.get("id")
        if type(start) is not int or not 0 <= start < END or not isinstance(text, str):
            return
        try:
            if text != self._text or self._needle is None:
                self._needle, self._text, self._hits, self._counted = needle(text), text, array("Q"), 0
        except ValueError as error:
            self._tell("refused", text=str(error))
            return
        self._task = self._screen.run(self._run(self._needle, start, message.get("direction") == "previous"))

    def cancel(self) -> None:
        self.close()
        self._tell("cancelled")

    def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _run(self, what: Needle, start: int, backwards: bool) -> None:
        try:
            hit = await self._next(what, start, backwards)
            if hit is None:
                self._tell("nothing")
                return
            (offset, end), around = hit
            line = await asyncio.to_thread(line_of, *self._file, what, offset, end)
            if line is None:
                return
            self._tell("hit", at=offset, end=end, line=line.line, nth=line.nth, text=line.text, around=around)
            await self._count(what, offset)
        except OrchError as error:
            self._tell("refused", text=str(error))

    async def _next(self, what: Needle, start: int, backwards: bool) -> tuple[tuple[int, int], bool] | None:
        """The next hit, and whether it stands beyond the end that was reached first."""
        done = 0
        for around in (False, True):
            at = (END if backwards else 0) if around else start
            stop = start if around else -1
            while True:
                found = await asyncio.to_thread(find, *self._file, what, at, backwards, 1, stop)
                if found is None:
                    return None
                if found.hits:
                    return found.hits[0], around
                done += abs(found.reached - min(at, found.size))
                at = found.reached
                self._tell_progress("searching", done=min(done, found.size), of=found.size)
                if at <= max(stop, 0) if backwards else at >= (min(stop, found.size) if around else found.size):
                    break
        return None

    async def _count(self, what: Needle, current: int) -> None:
        size = 0
        while len(self._hits) < MOST_HITS:
            found = await asyncio.to_thread(find, *self._file, what, self._counted, False, SHARE)
            if found is None:
                return
            self._hits.extend(offset for offset, _ in found.hits)
            self._counted, size = found.reached, found.size
            if self._counted >= size:
                break
            self._tell_progress("counting", **self._so_far(current), done=self._counted, of=size)
        self._tell("counted", **self._so_far(current), more=self._counted < size)

    def _so_far(self, current: int) -> dict[str, Any]:
        place = bisect_left(self._hits, current)
        known = place < len(self._hits) and self._hits[place] == current
        return {"hits": len(self._hits), "place": place + 1 if known else None}

    def _tell_progress(self, state: str, **facts: Any) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._told >= PROGRESS:
            self._told = now
            self._tell(state, **facts)

    def _tell(self, state: str, **facts: Any) -> None:
        self._screen.tell({"log": {"what": "search", "id": self._number, "state": state, **facts}})
