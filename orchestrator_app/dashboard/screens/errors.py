"""What went wrong, grouped by message, and each group whole with what to do about it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Set
from datetime import UTC, datetime, timedelta
from typing import Any

from orchestrator_app import failures
from orchestrator_app.dashboard import recent
from orchestrator_app.dashboard.screen import Screen
from orchestrator_app.dashboard.views import milliseconds
from orchestrator_app.errors import NotFoundError, OrchError

RANGES = {"hour": timedelta(hours=1), "day": timedelta(days=1), "week": timedelta(weeks=1), "all": None}
#: Groups that are shown; the search finds the others.
SHOWN = 100
#: Seconds between two looks at the log at least, and how often a look's own time at least.
PAUSE, SHARE = 1.0, 4


class Errors(Screen):
    def open(self, args: dict[str, str]) -> None:
        self._recent = recent.join(self.board, self)
        self._found: dict[str, Any] | None = None
        self._seen = self._recent.wrong
        self._stopped: dict[str, list[dict[str, Any]]] = {}
        self._due, self._asked = asyncio.Event(), asyncio.Event()
        self._want(args)
        self.run(self._follow())

    def close(self) -> None:
        super().close()
        recent.leave(self.board, self)

    def changes(self, units: Set[str], items: Set[int]) -> Any | None:
        if self._recent.wrong != self._seen:
            self._seen = self._recent.wrong
            self._due.set()
        found, self._found = self._found, None
        return found

    def hear(self, message: dict[str, Any]) -> None:
        key = message.get("key")
        match message.get("ask"):
            case "range":
                self._want(message)
            case "detail" if isinstance(key, str):
                self.run(self._detail(key))
            case "retry" if isinstance(key, str):
                self.run(self._retry(key))

    def _want(self, args: dict[str, Any]) -> None:
        self._range = RANGES.get(str(args.get("range")), RANGES["day"])
        self._search = str(args.get("text") or "")[:200]
        self._order = "last" if args.get("order") == "last" else "count"
        self._asked.set()
        self._due.set()

    async def _follow(self) -> None:
        """Look anew when something of the kind was committed, and no more often than the machine can bear."""
        while True:
            await self._due.wait()
            self._due.clear()
            self._asked.clear()
            began = time.monotonic()
            self._found = await asyncio.to_thread(self._look, self._range, self._search, self._order)
            self.touch()
            try:
                await asyncio.wait_for(self._asked.wait(), max(PAUSE, SHARE * (time.monotonic() - began)))
            except TimeoutError:
                pass

    def _look(self, span: timedelta | None, search: str, order: str) -> dict[str, Any]:
        since = None if span is None else datetime.now(UTC).replace(tzinfo=None) - span
        found = failures.summary(self.session.orchestrator, since, SHOWN, search=search, order=order)
        groups = [
            {**group, "first": milliseconds(group["first"]), "last": milliseconds(group["last"])}
            for group in found["found"]
        ]
        return {**found, "found": groups}

    async def _detail(self, key: str) -> None:
        try:
            found = await asyncio.to_thread(failures.detail, self.session.orchestrator, key)
        except NotFoundError as error:
            self.tell({"detail": None, "key": key, "text": str(error)})
            return
        self._stopped[key] = found.pop("stopped")
        occurrences = [
            {
                **{name: value for name, value in one.items() if name != "occurred_at"},
                "at": milliseconds(one["occurred_at"]),
            }
            for one in found["occurrences"]
        ]
        whole = {**found, "first": milliseconds(found["first"]), "occurrences": occurrences}
        self.tell({"detail": {**whole, "stopped": len(self._stopped[key])}, "key": key})

    async def _retry(self, key: str) -> None:
        """Retry the units that the dialog counted; one that was changed meanwhile is left to its new fate."""
        done, refused, why = 0, 0, ""
        for one in self._stopped.pop(key, ()):
            try:
                await asyncio.wrap_future(self.session.request("retry", one["unit"], version=one["version"]))
                done += 1
            except OrchError as error:
                refused, why = refused + 1, str(error)
        self.tell({"retried": done, "refused": refused, "why": why, "key": key})
