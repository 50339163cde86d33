"""Which units stand in which column, in which order: kept sorted while units change, shared by all who look alike.

Showing part of a column, or counting it, costs what is shown and not what there is. A commit only marks names: it comes
on the scheduler's thread. Whoever reads next puts them where they belong. The first sorting is done by a thread.
"""

from __future__ import annotations

import logging
import re
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from itertools import chain, islice
from typing import Any

from sortedcontainers import SortedList

from orchestrator_app.model import Board, Unit
from orchestrator_app.states import Status
from orchestrator_app.store.records import Record

logger = logging.getLogger(__name__)

#: Statuses in the order in which a person wants to see them.
ORDER = (
    Status.NEEDS_ATTENTION,
    Status.RUNNING,
    Status.READY,
    Status.BLOCKED,
    Status.PAUSED,
    Status.DONE,
    Status.CANCELLED,
)
_RANK = {status: number for number, status in enumerate(ORDER)}
_EPOCH = datetime(1970, 1, 1)

#: Units that are sorted in one go: longer ones would keep the interpreter from every other thread.
CHUNK = 2_000
#: Seconds that one `catch_up` takes at most.
SHARE = 0.004

_builders = ThreadPoolExecutor(2, "index")


@dataclass(frozen=True)
class Query:
    """What somebody wants to see: which units, in which columns, in which order."""

    text: str = ""
    group: str = "status"
    sort: str = "turn"

    @classmethod
    def of(cls, text: Any, group: Any, sort: Any) -> Query:
        """From what a browser or an address says; what makes no sense is as if it were left out."""
        text = " ".join(text.split())[:500] if isinstance(text, str) else ""
        return cls(text, group if group in [*GROUPS] else cls.group, sort if sort in [*SORTS] else cls.sort)


# -- which units


def _said(unit: Unit) -> tuple[str, ...]:
    return (unit.name, unit.phase, str(unit.status), unit.agent or "", *unit.labels)


#: The fields that a term may name: what a unit has there.
FIELDS: dict[str, Callable[[Unit], tuple[str, ...]]] = {
    "status": lambda unit: (str(unit.status),),
    "phase": lambda unit: (unit.phase,),
    "label": lambda unit: unit.labels,
    "agent": lambda unit: (unit.agent or "",),
    "workflow": lambda unit: (unit.workflow,),
    "priority": lambda unit: (str(unit.priority),),
    "name": lambda unit: (unit.name,),
}

_TERM = re.compile(r'(?:(\w+):)?(?:"([^"]*)"|(\S+))')
Matcher = Callable[[Unit], bool]


def _words(text: str) -> list[tuple[str | None, str]]:
    """The terms of a filter: (field, value), or (None, text)."""
    terms = []
    for field, quoted, bare in _TERM.findall(text.casefold()):
        value = quoted or bare
        if field and field not in FIELDS:
            terms.append((None, f"{field}:{value}"))
        elif value:
            terms.append((field or None, value))
    return terms


def _term(field: str | None, value: str) -> Matcher:
    if field is None:
        return lambda unit: any(value in part.casefold() for part in _said(unit))
    if field == "status":
        value = value.replace("-", "_").replace(" ", "_")
    wanted, of = set(value.split(",")), FIELDS[field]
    return lambda unit: any(part.casefold() in wanted for part in of(unit))


def matcher(text: str) -> Matcher:
    """Whether a unit has what every term says: `word` anywhere, or `field:value` exactly, `field:one,other` either."""
    terms = [_term(field, value) for field, value in _words(text)]
    return lambda unit: all(term(unit) for term in terms)


def statuses(text: str) -> list[Status]:
    """The statuses that units of this filter may have."""
    terms = [_term(field, value) for field, value in _words(text) if field == "status"]
    return [status for status in ORDER if all(term(Unit("", status=status)) for term in terms)]


# -- in which column and order


def _seconds(moment: datetime | None) -> float:
    return 0.0 if moment is None else (moment - _EPOCH).total_seconds()


def _turn(unit: Unit, waiting: int) -> tuple:
    """Whose turn it is: who has waited longest for a person or has run longest; who will start next; who ended last."""
    rank = _RANK[unit.status]
    if unit.status in (Status.NEEDS_ATTENTION, Status.RUNNING):
        return (rank, _seconds(unit.since), 0, unit.order)
    if unit.ended:
        return (rank, -_seconds(unit.since), 0, -unit.order)
    return (rank, -waiting, -unit.priority, unit.order)


_DIGITS = re.compile(r"([0-9]+)")


def _natural(name: str) -> tuple:
    """Numbers in names count as numbers: a-2 comes before a-10."""
    return tuple(int(part) if at % 2 else part for at, part in enumerate(_DIGITS.split(name.casefold())))


SORTS: dict[str, Callable[[Unit, int], tuple]] = {
    "turn": _turn,
    "oldest": lambda unit, waiting: (unit.order,),
    "newest": lambda unit, waiting: (-unit.order,),
    "name": lambda unit, waiting: _natural(unit.name),
    "priority": lambda unit, waiting: (-unit.priority, _RANK[unit.status], unit.order),
}

GROUPS: dict[str, Callable[[Unit], str]] = {
    "status": lambda unit: f"status:{unit.status}",
    # What has ended is in no phase any more.
    "phase": lambda unit: f"status:{unit.status}" if unit.ended else f"phase:{unit.phase}",
}

Entry = tuple[tuple, str]


class Index:
    """The units of one query, by column, sorted. All but the marking belongs to one thread, once it is built."""

    def __init__(self, board: Board, query: Query) -> None:
        self.query = query
        self._board = board
        self._matches = matcher(query.text)
        self._column, self._key = GROUPS[query.group], SORTS[query.sort]
        self._columns: dict[str, SortedList] = {}
        self._places: dict[str, tuple[str, Entry]] = {}
        self._after: dict[str, tuple[str, ...]] = {}
        self._waiting: Counter[str] = Counter()  # how many units wait for each, by `_after`
        self._lock = threading.Lock()
        self._marked: set[str] = set()
        self._todo: set[str] = set()
        self._ended = False
        self.readers: list[Reader] = []
        # Watched before the units are listed: what changes meanwhile is marked, and put right afterwards.
        self._unwatch = board.watch(self._mark)
        self.built: Future[None] = _builders.submit(self._build)

    def end(self) -> None:
        self._ended = True
        self._unwatch()

    # -- keeping it right

    def _mark(self, records: Sequence[Record]) -> None:
        """Note what a commit changed; on the scheduler's thread."""
        with self._lock:
            self._marked.update(record.unit for record in records if record.unit is not None)

    def _build(self) -> None:
        units = list(self._board.units.values())
        for unit in units:
            if unit.after:
                self._after[unit.name] = unit.after
                self._waiting.update(unit.after)
        for start in range(0, len(units), CHUNK):
            if self._ended:
                return
            fresh: dict[str, list[Entry]] = {}
            for unit in units[start : start + CHUNK]:
                place = self._place_of(unit.name)
                if place is not None:
                    self._places[unit.name] = place
                    fresh.setdefault(place[0], []).append(place[1])
            for column, entries in fresh.items():
                self._sorted(column).update(entries)

    def catch_up(self) -> bool:
        """Put marked units where they belong, for a few milliseconds at most; whether that was all."""
        with self._lock:
            self._todo |= self._marked
            self._marked.clear()
        deadline = time.perf_counter() + SHARE
        touched: list[str] = []
        while self._todo:
            name = self._todo.pop()
            touched.append(name)
            touched += self._note_blockers(name)
            self._put(name)
            if time.perf_counter() > deadline:
                break
        for reader in self.readers:
            reader.changed.update(touched)
        return not self._todo

    def _note_blockers(self, name: str) -> list[str]:
        """Count anew how many wait for the units that `name` waits for or did: returns those whose number changed."""
        unit = self._board.units.get(name)
        after, before = (unit.after if unit else ()), self._after.get(name, ())
        if after == before:
            return []
        self._after[name] = after
        self._waiting.subtract(before)
        self._waiting.update(after)
        changed = list(set(before) ^ set(after))
        for one in changed:
            self._put(one)
        return changed

    def _put(self, name: str) -> None:
        old, new = self._places.get(name), self._place_of(name)
        if old == new:
            return
        if old is not None:
            self._columns[old[0]].remove(old[1])
            del self._places[name]
        if new is not None:
            self._places[name] = new
            self._sorted(new[0]).add(new[1])

    def _place_of(self, name: str) -> tuple[str, Entry] | None:
        unit = self._board.units.get(name)
        if unit is None or unit.status is Status.NEW or not self._matches(unit):
            return None  # a NEW one is just being folded: it is marked in a moment
        return self._column(unit), (self._key(unit, self._waiting[name]), name)

    def _sorted(self, column: str) -> SortedList:
        return self._columns.setdefault(column, SortedList())

    # -- reading

    def __len__(self) -> int:
        return len(self._places)

    def columns(self) -> list[str]:
        """The columns with a unit in them."""
        return [column for column, entries in self._columns.items() if entries]

    def total(self, column: str) -> int:
        return len(self._columns.get(column, ()))

    def names(self, column: str, offset: int, count: int) -> list[str]:
        """The units of a column from `offset` on."""
        entries = self._columns.get(column)
        return [] if entries is None else [name for _, name in entries.islice(offset, offset + count)]

    def position(self, column: str, name: str) -> int | None:
        """Where in a column a unit stands, if it is there."""
        place = self._places.get(name)
        return self._columns[column].index(place[1]) if place is not None and place[0] == column else None

    def all(self, most: int | None = None) -> list[str]:
        """The names of all units that match."""
        return [name for _, name in islice(chain.from_iterable(self._columns.values()), most)]


class Reader:
    """Somebody who looks at an index, until `close`."""

    def __init__(self, index: Index) -> None:
        self.index = index
        #: Units whose place or number of waiting units may have changed; the reader empties it.
        self.changed: set[str] = set()
        index.readers.append(self)

    @property
    def ready(self) -> bool:
        """Whether it may be read. Raises what the building raised."""
        return self.index.built.done() and self.index.built.result() is None

    def when_ready(self, function: Callable[[], None]) -> None:
        """Have a function called, on any thread, as soon as the index may be read."""
        self.index.built.add_done_callback(lambda _: function())

    def close(self) -> None:
        if self in self.index.readers:
            self.index.readers.remove(self)
        if not self.index.readers:
            self.index.end()
            known = _indexes.get(self.index._board, {})
            if known.get(self.index.query) is self.index:
                del known[self.index.query]


_indexes: weakref.WeakKeyDictionary[Board, dict[Query, Index]] = weakref.WeakKeyDictionary()


def read(board: Board, query: Query) -> Reader:
    """Look at the units of a query, with everybody who looks at the same."""
    known = _indexes.setdefault(board, {})
    if query not in known:
        known[query] = Index(board, query)
    return Reader(known[query])
