"""The reactive model: what the log says now.

Nothing here is ever edited: `Board.fold` applies committed records, at start-up and while running alike, and
folding is the broadcast. `Unit` is a plain row per work unit (a million of them fit in memory); `WorkUnit` is its
param face, made for those who watch one, and `Board` is the face of the whole.
"""

from __future__ import annotations

import logging
import re
import threading
import weakref
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from types import MappingProxyType
from typing import Any, NamedTuple

import param
from param.parameterized import Event as ParamEvent

from orchestrator_app.errors import NotFoundError, ReadOnlyModelError
from orchestrator_app.repeats import Repeats
from orchestrator_app.states import ENDED, Status, Trigger
from orchestrator_app.store.records import AttentionChange, Event, Record, Session, Transition, Usage, Verdict

logger = logging.getLogger(__name__)


class Spent(NamedTuple):
    """What agents said they have used."""

    input_tokens: int = 0
    output_tokens: int = 0
    usd: float = 0.0

    def plus(self, row: Usage) -> Spent:
        return Spent(self.input_tokens + row.input_tokens, self.output_tokens + row.output_tokens, self.usd + row.usd)


@dataclass(slots=True)
class Unit:
    """A work unit as its newest records left it. Read only: the fold alone writes it."""

    name: str
    # what was asked; `submit` and `edit` set these
    prompt: str = ""
    workflow: str = "default"
    agent: str | None = None
    priority: int = 0
    after: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    touches: tuple[str, ...] = ()
    timeout: float | None = None
    retries: int | None = None
    # where it stands; every transition sets these
    status: Status = Status.NEW
    phase: str = ""
    attempt: int = 0
    version: int = 0
    reason: str | None = None
    since: datetime | None = None
    created_at: datetime | None = None
    order: int = 0
    # what the phases left for each other; transitions set these where they change
    failures: int = 0
    reworks: int = 0
    feedback: str | None = None
    comments: tuple[str, ...] = ()
    answers: tuple[dict[str, str], ...] = ()
    not_before: float | None = None
    # what was said by or about the current attempt; events set these
    progress: dict[str, Any] | None = None
    review: dict[str, Any] | None = None
    deferral: dict[str, Any] | None = None
    merge: dict[str, Any] | None = None
    session: str | None = None
    base: str | None = None
    pos: int = 0
    items: tuple[int, ...] = ()
    # of the current attempt: when it last said anything, the seconds it ran before its last pause, whether it ended
    # by a crash, and what it used; of the unit: what all of its attempts used
    heard_at: datetime | None = None
    worked: float = 0.0
    crashed: bool = False
    spent: Spent | None = None
    spent_in_all: Spent | None = None

    def __copy__(self) -> Unit:
        # A draft copies every unit it touches; the general way through __reduce_ex__ takes ten times as long.
        twin = object.__new__(Unit)
        for name in _NAMES:
            setattr(twin, name, getattr(self, name))
        return twin

    @property
    def item(self) -> int | None:
        """The newest open attention item."""
        return self.items[-1] if self.items else None

    @property
    def branch(self) -> str:
        return f"orch/{self.name}"

    @property
    def ended(self) -> bool:
        return self.status in ENDED


#: How many of the newest decisions of people, and of the newest settled items, are remembered in memory: so many
#: refusals can say who was first. The log has them all.
REMEMBERED = 1_000

#: The fields that `submit` and `edit` may set (a name is for ever).
ASKED = ("prompt", "workflow", "agent", "priority", "after", "labels", "touches", "timeout", "retries")
_NAMES = tuple(one.name for one in fields(Unit))
_FIELDS = frozenset(_NAMES)

#: How policy/outcome.py words the end of an attempt that was killed by a signal.
_BY_SIGNAL = re.compile(r"\S+ failed \(signal \d+\)")


@dataclass(frozen=True, slots=True)
class AttentionItem:
    """Something open that a person should look at. `other` is the unit it is in conflict with, or waits for."""

    id: int
    unit: str
    kind: str
    severity: str
    title: str
    text: str
    options: tuple[str, ...]
    files: tuple[str, ...]
    other: str | None
    phase: str
    attempt: int
    opened_at: datetime
    seen_at: datetime | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)


def fold_transition(unit: Unit, row: Transition) -> None:
    """Apply a transition to the unit it is of."""
    if row.from_status is Status.RUNNING and row.to_status is not Status.RUNNING and unit.since is not None:
        unit.worked += (row.occurred_at - unit.since).total_seconds()
        unit.crashed = is_crash(row.trigger, row.reason)
    if row.to_status is not row.from_status:
        unit.since = row.occurred_at
    if row.version == 1:
        unit.created_at, unit.order = row.occurred_at, row.seq
    if row.trigger is Trigger.START:
        unit.progress = unit.review = unit.deferral = unit.merge = None
        unit.heard_at = unit.spent = None
        unit.pos, unit.worked, unit.crashed = 0, 0.0, False
    unit.status, unit.phase, unit.attempt = row.to_status, row.phase, row.attempt
    unit.version, unit.reason = row.version, row.reason
    for name, value in row.detail.get("set", {}).items():
        if name in _FIELDS:
            setattr(unit, name, tuple(value) if isinstance(value, list) else value)


def fold_event(unit: Unit, row: Event) -> None:
    """Apply what the unit's current attempt said; late words of earlier attempts change nothing."""
    if row.attempt != unit.attempt:
        return
    if row.pos is not None:
        unit.pos = row.pos
    if row.actor.startswith("agent:"):
        unit.heard_at = row.occurred_at
    match row.type:
        case "progress":
            unit.progress = {**(unit.progress or {}), **row.data}
        case "review":
            unit.review = row.data
        case "defer":
            unit.deferral = row.data
        case "merge":
            unit.merge = row.data
        case "workspace":
            unit.base = row.data.get("base", unit.base)


def fold_usage(unit: Unit, row: Usage) -> None:
    unit.spent_in_all = (unit.spent_in_all or Spent()).plus(row)
    if row.attempt == unit.attempt:
        unit.spent = (unit.spent or Spent()).plus(row)


def is_crash(trigger: Trigger, reason: str | None) -> bool:
    """Whether a move out of RUNNING says that the attempt died: it vanished, or a signal killed it."""
    if trigger is Trigger.LOSE:
        return True
    return trigger in (Trigger.FAIL, Trigger.DEFER) and _BY_SIGNAL.match(reason or "") is not None


def fold_attention(unit: Unit, row: AttentionChange) -> None:
    if row.change == "opened":
        unit.items = (*unit.items, row.item)
    elif row.change == "resolved":
        unit.items = tuple(item for item in unit.items if item != row.item)


class _Folding(threading.local):
    """Whether this thread is folding: only then may a model's values be set."""

    active = False


_folding = _Folding()


def folding() -> bool:
    """Whether the calling thread is inside a fold, that is, in a watcher."""
    return _folding.active


class Folded(param.Parameterized):
    """A Parameterized whose values only the fold may set, and whose watchers are isolated from each other."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in type(self).param and not _folding.active and getattr(self, "_made", False):
            raise ReadOnlyModelError(
                f"{type(self).__name__}.{name} is read from the log and can't be set: send a request instead"
            )
        super().__setattr__(name, value)

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        self._made = True

    def _announce(self, **values: Any) -> None:
        """Set parameters, then call each watcher by itself: one that raises is logged and silences no other."""
        watched = self.param.watchers
        if not any(watched.get(name) for name in values):
            for name, value in values.items():
                setattr(self, name, value)
            return
        old = {name: getattr(self, name) for name in values}
        with param.parameterized.discard_events(self):
            for name, value in values.items():
                setattr(self, name, value)
        due: dict[int, tuple[Any, list[ParamEvent]]] = {}
        for name, value in values.items():
            same = old[name] is value or (isinstance(value, str | int | float) and old[name] == value)
            for watcher in watched.get(name, {}).get("value", ()):
                if same and watcher.onlychanged:
                    continue
                event = ParamEvent("value", name, self, type(self), old[name], value, "set" if same else "changed")
                due.setdefault(id(watcher), (watcher, []))[1].append(event)
        for watcher, events in sorted(due.values(), key=lambda pair: pair[0].precedence):
            _isolated(_call, watcher, events)


def _call(watcher: Any, events: list[ParamEvent]) -> None:
    try:
        if watcher.mode == "args":
            watcher.fn(*events)
        else:
            watcher.fn(**{event.name: event.new for event in events})
    except param.parameterized.Skip:
        pass


def _isolated(function: Callable[..., None], *arguments: Any) -> None:
    try:
        function(*arguments)
    except Exception:
        logger.exception("a watcher raised; the change it was told of stands, and the others were told too")


class WorkUnit(Folded):
    """The param face of one unit, for whoever watches it."""

    name = param.String(constant=False, doc="The unit's name, unique for ever")
    status = param.ObjectSelector(default=Status.NEW, objects=list(Status), doc="Where it stands")
    phase = param.String(doc="The phase it is in, or waits to start")
    attempt = param.Integer(doc="The number of its newest attempt; 0 before the first")
    version = param.Integer(doc="How many transitions it has")
    reason = param.String(default=None, allow_None=True, doc="Why its newest transition happened")
    since = param.Date(default=None, allow_None=True, doc="When it came into its status (UTC)")
    prompt = param.String(doc="What is asked")
    workflow = param.String(doc="The workflow it goes through")
    agent = param.String(default=None, allow_None=True, doc="The agent that runs its phases; None: as each phase says")
    priority = param.Integer(doc="Higher goes first")
    after = param.ClassSelector(class_=tuple, default=(), doc="The units that must be DONE before it starts")
    labels = param.ClassSelector(class_=tuple, default=(), doc="Its labels")
    progress = param.Dict(default=None, allow_None=True, doc="What its running attempt last said of its progress")
    items = param.ClassSelector(class_=tuple, default=(), doc="Its open attention items")

    _mirrored = (
        "status",
        "phase",
        "attempt",
        "version",
        "reason",
        "since",
        "prompt",
        "workflow",
        "agent",
        "priority",
        "after",
        "labels",
        "progress",
        "items",
    )

    def _mirror(self, unit: Unit) -> None:
        changed = {name: getattr(unit, name) for name in self._mirrored if getattr(unit, name) != getattr(self, name)}
        if changed:
            self._announce(**changed)


Watcher = Callable[[Sequence[Record]], None]


class Board(Folded):
    """All work units now, and the event of each change.

    `transition` is set to every committed transition in turn, so `board.param.watch(fn, "transition")` sees each.
    `watch(fn)` is called once per commit with all its records. Both run on the scheduler's thread: observe, be quick,
    and don't write.
    """

    seq = param.Integer(default=0, doc="The number of the newest record folded")
    transition = param.ClassSelector(class_=tuple, default=None, allow_None=True, doc="The newest transition")
    dispatch_paused = param.Boolean(default=False, doc="Whether an operator has paused the starting of attempts")

    def __init__(self) -> None:
        super().__init__()
        self._units: dict[str, Unit] = {}
        self.units: Mapping[str, Unit] = MappingProxyType(self._units)
        self._attention: dict[int, AttentionItem] = {}
        self.attention: Mapping[int, AttentionItem] = MappingProxyType(self._attention)
        self._dismissed: set[int] = set()
        self._dependents: dict[str, set[str]] = defaultdict(set)
        self._verdicts: dict[frozenset[str], Verdict] = {}
        self._counts: Counter[Status] = Counter()
        self._faces: weakref.WeakValueDictionary[str, WorkUnit] = weakref.WeakValueDictionary()
        self._watchers: dict[object, Watcher] = {}
        self._settled: OrderedDict[int, AttentionChange] = OrderedDict()
        self._decided: deque[Transition] = deque(maxlen=REMEMBERED)
        #: What requests with a key have led to.
        self.repeats = Repeats()

    # -- reading, from any thread

    @property
    def counts(self) -> dict[str, int]:
        """How many units stand in each status."""
        return {str(status): self._counts[status] for status in Status if status is not Status.NEW}

    def row(self, name: str) -> Unit:
        """The unit of that name. Raises NotFoundError."""
        try:
            return self._units[name]
        except KeyError:
            raise NotFoundError(f"no work unit {name!r}: `orch ls` shows those there are") from None

    def unit(self, name: str) -> WorkUnit:
        """The reactive face of the unit of that name. Raises NotFoundError."""
        face = self._faces.get(name)
        if face is None:
            row = self.row(name)
            face = WorkUnit(name=name, **{field: getattr(row, field) for field in WorkUnit._mirrored})
            face = self._faces.setdefault(name, face)
        return face

    def dependents(self, name: str) -> frozenset[str]:
        """The units that name it as a blocker."""
        return frozenset(self._dependents.get(name, ()))

    def waits_for(self, name: str) -> list[str]:
        """Its blockers that are not DONE."""
        return [
            blocker
            for blocker in self.row(name).after
            if blocker not in self._units or self._units[blocker].status is not Status.DONE
        ]

    def verdict(self, unit: str, other: str) -> Verdict | None:
        """The ruling that holds for the pair."""
        return self._verdicts.get(frozenset((unit, other)))

    @property
    def dismissed(self) -> int:
        """How many of the open attention items somebody has put aside."""
        return len(self._dismissed)

    def settlement(self, item: int) -> AttentionChange | None:
        """Who settled an attention item, how and when; None for an open one, or one long forgotten."""
        return self._settled.get(item)

    def decided(self, unit: str) -> list[Transition]:
        """What people lately did to a unit, oldest first, without details."""
        return [row for row in list(self._decided) if row.unit == unit]

    def watch(self, watcher: Watcher) -> Callable[[], None]:
        """Have `watcher(records)` called after every commit; returns what ends that."""
        key = object()
        self._watchers[key] = watcher
        return lambda: self._watchers.pop(key, None)

    # -- folding, by the gate and by mirrors of it

    def fold(self, records: Iterable[Record]) -> None:
        """Apply committed records in order, then tell everyone who watches."""
        records = tuple(records)
        if not records:
            return
        outer, _folding.active = _folding.active, True  # a watcher may itself fold into a mirror
        try:
            changed: dict[str, None] = {}
            for record in records:
                self._apply(record)
                if record.unit is not None:
                    changed[record.unit] = None
            paused = self._paused_by(records)
            self._announce(seq=records[-1].seq, **({} if paused is None else {"dispatch_paused": paused}))
            transitions = [record for record in records if type(record) is Transition]
            for record in transitions if self.param.watchers.get("transition") else transitions[-1:]:
                self._announce(transition=record)
            if self._faces:
                for name in changed:
                    if face := self._faces.get(name):
                        face._mirror(self._units[name])
            for watcher in list(self._watchers.values()):
                _isolated(watcher, records)
        finally:
            _folding.active = outer

    def _apply(self, record: Record) -> None:
        self.repeats.fold(record)
        match record:
            case Transition():
                unit = self._units.get(record.unit)
                if unit is None:
                    unit = self._units[record.unit] = Unit(record.unit)
                else:
                    self._counts[unit.status] -= 1
                before = unit.after
                fold_transition(unit, record)
                self._counts[unit.status] += 1
                if unit.after != before:
                    for blocker in set(before) - set(unit.after):
                        self._dependents[blocker].discard(unit.name)
                    for blocker in unit.after:
                        self._dependents[blocker].add(unit.name)
                if record.trigger is not Trigger.SUBMIT and record.actor.startswith("operator:"):
                    self._decided.append(record._replace(detail={}))
            case Event():
                if record.unit in self._units:
                    fold_event(self._units[record.unit], record)
            case AttentionChange():
                fold_attention(self._units[record.unit], record)
                if record.change == "opened":
                    self._attention[record.item] = item_of(record)
                elif record.change == "resolved":
                    self._dismissed.discard(record.item)
                    self._attention.pop(record.item, None)
                    self._settled[record.item] = record
                    if len(self._settled) > REMEMBERED:
                        self._settled.popitem(last=False)
                elif record.item in self._attention:
                    seen = replace(self._attention[record.item], seen_at=record.occurred_at)
                    self._attention[record.item] = seen
                    self._dismissed.add(record.item)
            case Verdict():
                self._verdicts[frozenset((record.unit, record.other))] = record
            case Session():
                unit = self._units[record.unit]
                if record.attempt == unit.attempt:
                    unit.session = record.session
            case Usage():
                fold_usage(self._units[record.unit], record)

    @staticmethod
    def _paused_by(records: Sequence[Record]) -> bool | None:
        for record in reversed(records):
            if type(record) is Event and record.type == "dispatch" and record.unit is None:
                return bool(record.data.get("paused"))
        return None


def item_of(row: AttentionChange) -> AttentionItem:
    """The open item that an `opened` row makes."""
    detail = row.detail
    return AttentionItem(
        id=row.item,
        unit=row.unit,
        kind=row.kind,
        severity=row.severity,
        title=row.title,
        text=row.text,
        options=tuple(detail.get("options", ())),
        files=tuple(detail.get("files", ())),
        other=detail.get("other"),
        phase=row.phase,
        attempt=row.attempt,
        opened_at=row.occurred_at,
        detail=MappingProxyType(detail),
    )
