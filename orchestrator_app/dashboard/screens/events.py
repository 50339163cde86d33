"""The stream of everything: live, filtered, and back to the beginning on demand."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Set
from typing import Any

from orchestrator_app.dashboard import recent
from orchestrator_app.dashboard.screen import Screen

#: Rows at once: those of a frame, and those of a look back.
SHARE = 50
#: Characters of a row's details.
DETAIL = 20_000


class Events(Screen):
    def open(self, args: dict[str, str]) -> None:
        self._recent = recent.join(self.board, self)
        self._loading: asyncio.Task | None = None
        self._paused = False
        self._waiting = 0
        self._begin(args)

    def close(self) -> None:
        super().close()
        recent.leave(self.board, self)

    def changes(self, units: Set[str], items: Set[int]) -> Any | None:
        if self._loading is not None:
            return None
        if self.board.seq > self._recent.seq:
            self.touch()  # what this frame is of has not been noticed yet
        records = self._recent.since(self._looked)
        if not records:
            return None
        missed = max(0, records[-1].seq - self._looked - 1)
        found = recent.lights(records, self._wanted)
        self._looked = records[0].seq
        if self._paused:
            self._waiting += len(found) + missed
            return {"waiting": self._waiting}
        return self._share(found, missed)

    def _share(self, found: list[dict[str, Any]], missed: int) -> dict[str, Any] | None:
        """What a frame shows: the newest, and how many it left out since the row before."""
        since, self._shown = self._shown, self._looked
        left_out = len(found) - SHARE
        if left_out <= 0 and not missed:
            return {"rows": found} if found else None
        shown = found[:SHARE]
        before = shown[-1]["seq"] if shown else self._looked + 1
        return {"rows": shown, "more": {"after": since, "before": before, "count": max(0, left_out) + missed}}

    def hear(self, message: dict[str, Any]) -> None:
        match message.get("ask"):
            case "filter":
                self._begin(message)
            case "pause":
                self._pause(message.get("paused") is True)
            case "older" if isinstance(message.get("before"), int):
                self.run(self._older(message["before"]))
            case "between" if isinstance(message.get("after"), int) and isinstance(message.get("before"), int):
                self.run(self._between(message["after"], message["before"]))
            case "whole" if isinstance(message.get("seq"), int):
                self.run(self._whole(str(message.get("kind")), message["seq"]))

    def _begin(self, args: dict[str, Any]) -> None:
        """Show the newest of what is wanted, and what comes from now on."""
        self._wanted = recent.Wanted.of(args)
        self._looked = self._shown = self.board.seq
        self._paused, self._waiting = False, 0
        if self._loading is not None:
            self._loading.cancel()
        self._loading = self.run(self._newest())

    def _pause(self, paused: bool) -> None:
        if paused == self._paused:
            return
        self._paused = paused
        if paused or self._loading is not None:
            return
        waiting, self._waiting = self._waiting, 0
        if waiting:
            found = recent.lights(self._recent.since(self._shown), self._wanted)
            self._looked = max(self._looked, found[0]["seq"] if found else 0)
            self.tell(self._share(found, max(0, waiting - len(found))) or {"rows": []})
        self.touch()

    async def _newest(self) -> None:
        rows = await self._rows(self._looked + 1)
        self._loading = None
        self.tell({"newest": rows, "end": len(rows) < SHARE})
        self.touch()

    async def _older(self, before: int) -> None:
        rows = await self._rows(before)
        self.tell({"older": rows, "before": before, "end": len(rows) < SHARE})

    async def _between(self, after: int, before: int) -> None:
        rows = await self._rows(before, after, SHARE + 1)
        rest = None
        if len(rows) > SHARE:
            rows.pop()
            rest = {"after": after, "before": rows[-1]["seq"]}
        self.tell({"between": rows, "before": before, "rest": rest})

    async def _whole(self, kind: str, seq: int) -> None:
        found = await asyncio.to_thread(recent.whole, self.session.orchestrator, kind, seq)
        self.tell({"whole": seq, "text": _written(found)})

    async def _rows(self, before: int, floor: int = 0, count: int = SHARE) -> list[dict[str, Any]]:
        return await asyncio.to_thread(
            recent.older, self.session.orchestrator, self._wanted, before, count, max(0, floor)
        )


def _written(found: dict[str, Any] | None) -> str:
    """A row of the log as JSON that a person reads, with its JSON columns unpacked."""
    if found is None:
        return "It is not in the log."
    unpacked = {
        name: json.loads(value) if name in ("detail", "data") and isinstance(value, str) else value
        for name, value in found.items()
    }
    return json.dumps(unpacked, indent=2, ensure_ascii=False, default=str)[:DETAIL]
