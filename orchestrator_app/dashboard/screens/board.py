"""The board: units in columns by status or phase, found, sorted, and acted on by the thousand."""

from __future__ import annotations

import asyncio
from collections.abc import Set
from dataclasses import dataclass
from typing import Any

from orchestrator_app.dashboard import bulk, views
from orchestrator_app.dashboard.index import ORDER, Query, Reader, read, statuses
from orchestrator_app.dashboard.screen import Screen
from orchestrator_app.errors import UsageError

#: Cards of a column that are told before the browser has said what it sees, and at most.
FIRST, MOST = 12, 200
#: Columns that a browser may see windows of.
COLUMNS = 200
#: Seconds between two shares of putting things into place, when very much has changed at once.
BREATH = 0.005


@dataclass
class Window:
    """What a browser sees of a column: `count` cards from `offset` on.

    The card `anchor`, the topmost that is seen, was at place `at`; the window moves along with it.
    """

    offset: int = 0
    count: int = FIRST
    anchor: str | None = None
    at: int = 0

    @classmethod
    def of(cls, said: Any) -> Window | None:
        match said:
            case [int(offset), int(count), str() | None as anchor, int(at)]:
                return cls(max(0, offset), min(max(0, count), MOST), anchor, at)
        return None


class Board(Screen):
    def open(self, args: dict[str, str]) -> None:
        self._reader: Reader | None = None
        self._chosen: dict[int, tuple[str, list[str], dict[str, Any]]] = {}
        self._catching = False
        self._look(1, args)

    def close(self) -> None:
        super().close()
        if self._reader is not None:
            self._reader.close()

    def _look(self, number: int, args: dict[str, Any]) -> None:
        """Show the units of another query; `number` tells its frames from those of the one before."""
        before = self._reader
        self._number = number
        self._reader = read(self.board, Query.of(args.get("q"), args.get("group"), args.get("sort")))
        if before is not None:
            before.close()
        self._windows: dict[str, Window] = {}
        self._told: dict[str, tuple[int, int, list[str]]] = {}
        self._known: set[str] = set()
        self._totals: tuple[int, int] | None = None
        self._reader.when_ready(lambda: self.soon(self.touch))

    # -- what is shown

    def changes(self, units: Set[str], items: Set[int]) -> Any | None:
        reader = self._reader
        if not reader.ready:
            return None
        if not reader.index.catch_up() and not self._catching:
            self._catching = True
            self.run(self._catch_up(reader))
        changed = units | reader.changed
        reader.changed = set()
        payload: dict[str, Any] = {}
        order = self._order(reader)
        columns, seen = {}, set()
        for column in order:
            now = self._window(reader, column)
            seen.update(now[2])
            if self._told.get(column) != now:
                total, offset, names = now
                columns[column] = {"total": total, "offset": offset, "names": names}
                self._told[column] = now
        if columns or order != list(self._told) or self._totals is None:
            self._told = {column: self._told[column] for column in order}
            payload["order"] = order
        due = (seen - self._known) | (seen & changed)
        self._known = seen
        totals = (len(reader.index), len(self.board.units))
        if totals != self._totals:
            self._totals = totals
            payload["matching"], payload["all"] = totals
        if columns:
            payload["columns"] = columns
        if due:
            orchestrator = self.session.orchestrator
            payload["units"] = {name: views.unit_view(orchestrator, self.board.units[name]) for name in due}
        return {"look": self._number, **payload} if payload else None

    def _order(self, reader: Reader) -> list[str]:
        """The columns from left to right: every one in which units of this filter may stand."""
        query = reader.index.query
        possible = [f"status:{status}" for status in statuses(query.text)]
        if query.group == "phase":
            workflows = self.session.orchestrator.project.workflows.values()
            phases = dict.fromkeys(f"phase:{phase.name}" for flow in workflows for phase in flow.phases)
            ended = [f"status:{status}" for status in ORDER[-2:] if f"status:{status}" in possible]
            possible = [*(phases if len(ended) < len(possible) else ()), *ended]
            others = sorted(column for column in reader.index.columns() if column not in possible)
            possible = [*others, *possible]
        return possible[:COLUMNS]

    def _window(self, reader: Reader, column: str) -> tuple[int, int, list[str]]:
        window = self._windows.setdefault(column, Window())
        index = reader.index
        if window.anchor is not None:
            at = index.position(column, window.anchor)
            if at is not None:
                window.offset, window.at = max(0, window.offset + at - window.at), at
        total = index.total(column)
        offset = max(0, min(window.offset, total - window.count))
        return total, offset, index.names(column, offset, window.count)

    async def _catch_up(self, reader: Reader) -> None:
        """Very much has changed at once: put it into place by shares, with room for others between them."""
        try:
            while not reader.index.catch_up():
                await asyncio.sleep(BREATH)
        finally:
            self._catching = False
        self.touch()

    # -- what the browser says

    def hear(self, message: dict[str, Any]) -> None:
        match message:
            case {"look": int(number), "args": dict(args)}:
                self._look(number, args)
                self.touch()
            case {"windows": dict(windows), "of": int(number)} if number == self._number:
                for column, said in list(windows.items())[:COLUMNS]:
                    window = Window.of(said)
                    if window is not None and self._is_column(column):
                        self._windows[column] = window
                self.touch()
            case {"range": [str(column), str(first), str(last)], "id": int(number)}:
                self.tell({"range": self._between(column, first, last), "id": number})
            case {"weigh": kind, "id": int(number), "units": units}:
                self.run(self._weigh(number, kind, units, message.get("args")))
            case {"act": int(number)} if number in self._chosen:
                kind, names, args = self._chosen.pop(number)
                bulk.begin(self._act(number, kind, names, args))

    def _is_column(self, column: str) -> bool:
        return len(self._windows) < COLUMNS or column in self._windows

    def _between(self, column: str, first: str, last: str) -> list[str]:
        """The units from one card of a column to another."""
        reader = self._reader
        if not reader.ready:
            return []
        places = [reader.index.position(column, name) for name in (first, last)]
        if None in places:
            return []
        start, end = sorted(places)
        return reader.index.names(column, start, min(end - start + 1, bulk.NAMED))

    async def _weigh(self, number: int, kind: Any, units: Any, args: Any) -> None:
        """Say what an action would meet, and remember of whom: it will be asked of these and no others."""
        try:
            args = bulk.check(kind, args)
            names = self._names(units)
        except UsageError as error:
            self.tell({"weighed": None, "id": number, "why": str(error)})
            return
        weighed = await asyncio.to_thread(bulk.weigh, self.board, names, kind)
        self._chosen = {number: (kind, names, args)}
        self.tell({"weighed": weighed, "id": number})

    def _names(self, units: Any) -> list[str]:
        """The units that were chosen: by name, or all that match but some."""
        match units:
            case {"all": True, "but": list(but)} if len(but) <= bulk.NAMED:
                spared = {name for name in but if isinstance(name, str)}
                if not self._reader.ready:
                    raise UsageError("the units are being looked through still: try again in a moment")
                return [name for name in self._reader.index.all() if name not in spared]
            case {"names": list(names)} if len(names) <= bulk.NAMED:
                return list(dict.fromkeys(name for name in names if isinstance(name, str)))
        raise UsageError(f"choose up to {bulk.NAMED:,} units by name, or all that match")

    async def _act(self, number: int, kind: str, names: list[str], args: dict[str, Any]) -> None:
        def told(count: int) -> None:
            self.tell({"progress": count, "total": len(names), "id": number})

        outcome = await bulk.act(self.session.request, self.board, names, kind, args, told)
        self.tell({"acted": outcome, "id": number})
