"""The invariants: what must hold after every commit, whatever went wrong before it.

The ledger keeps a picture of its own, folded from the committed records by code that shares nothing with the product's
model, and knows from the fake outside what is true there. I1 to I11 are the numbers of the invariants, see
docs/reliability.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from orchestrator_app.settings import Project
from orchestrator_app.states import MOVES, Status, Trigger
from orchestrator_app.store.records import AttentionChange, Event, Record, Transition

from .fake_host import Host, Key, Violation
from .fake_repository import Repository

#: Triggers by which the end of an attempt moves its unit.
ENDS = frozenset(
    {Trigger.ADVANCE, Trigger.REWORK, Trigger.DEFER, Trigger.LOSE, Trigger.FINISH, Trigger.FAIL, Trigger.CLASH}
)
SLACK = 1e-3


@dataclass
class Row:
    """A unit as the committed records say."""

    status: Status = Status.NEW
    version: int = 0
    attempt: int = 0
    phase: str = ""
    after: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    touches: tuple[str, ...] = ()
    answers: tuple[dict, ...] = ()
    #: The open items, each with the other unit that it is about, if there is one.
    items: dict[int, str | None] = field(default_factory=dict)
    #: The time before which it may not start, by the steady clock: as the clocks stood when that was committed.
    not_before: float | None = None
    not_before_wall: float | None = None
    #: The last sign of life of its attempt that the scheduler was told of, by the steady clock.
    sign: float = 0.0


class Ledger:
    """Takes the records of each commit and raises Violation where one breaks an invariant."""

    def __init__(self, project: Project, host: Host, repository: Repository) -> None:
        self.project = project
        self.host = host
        self.repository = repository
        self.units: dict[str, Row] = {}
        self.merges: set[tuple[str, str, str]] = set()
        self.seq = 0
        self.dispatch_paused = False
        self.booted = 0.0
        #: Live attempts of DONE units (somebody accepted one while its agent waited): a server that looks what runs
        #: has them ended, but counts them in no slot.
        self.strays: set[Key] = set()

    def recorded(self, unit: str, old: str, new: str) -> bool:
        """Whether the log knows of that merge."""
        return (unit, old, new) in self.merges

    def take(self, records: Sequence[Record], now: float, wall: float) -> None:
        """The records of one commit, made at that time."""
        started: list[str] = []
        rewired = False
        for record in records:
            self.seq += 1
            if record.seq != self.seq:
                raise Violation(f"I3: record {record.seq} follows record {self.seq - 1}")
            if type(record) is Transition:
                self._transition(record, now, wall)
                rewired = rewired or "after" in record.detail.get("set", ())
                if record.trigger is Trigger.START:
                    started.append(record.unit)
            elif type(record) is AttentionChange:
                self._attention(record)
            elif type(record) is Event:
                if record.type == "merge":
                    self.merges.add((record.unit, record.data["old"], record.data["new"]))
                elif record.type == "dispatch":
                    self.dispatch_paused = record.data["paused"]
        if rewired:
            self._check_acyclic()
        self._check_rest()
        for name in started:
            self._check_slots(name)

    def boots(self, now: float, set_by: float) -> None:
        """A server that starts has only the wall clock to tell how long its units still wait."""
        self.booted = now
        self.looks_anew()
        for row in self.units.values():
            if row.not_before_wall is not None:
                row.not_before = row.not_before_wall - set_by

    def looks_anew(self) -> None:
        """The server finds out what runs."""
        self.strays = {one.key for one in self.host.live() if self.units[one.key[0]].status is Status.DONE}

    # -- one record

    def _transition(self, record: Transition, now: float, wall: float) -> None:
        row = self.units.setdefault(record.unit, Row())
        what = f"{record.unit} {record.from_status} --{record.trigger}--> {record.to_status} (record {record.seq})"
        if MOVES.get((record.from_status, record.trigger)) is not record.to_status:
            raise Violation(f"I2: no rule for {what}")
        if record.from_status is not row.status or record.version != row.version + 1:
            raise Violation(f"I3: {what}, version {record.version}, follows {row.status}, version {row.version}")
        given = record.detail.get("set", {})
        if record.trigger is Trigger.START:
            self._start(record, row, what, now)
            row.sign = now
        elif record.attempt != row.attempt:
            raise Violation(f"I2: {what} changes the attempt from {row.attempt} to {record.attempt}")
        elif record.from_status is Status.RUNNING:
            self._leaves(record, what, row, now)
        elif record.trigger is Trigger.CONTINUE:
            row.sign = now
        row.status, row.version = record.to_status, record.version
        row.attempt, row.phase = record.attempt, record.phase
        for name in ("after", "labels", "touches", "answers"):
            if name in given:
                setattr(row, name, tuple(given[name]))
        if "not_before" in given:
            row.not_before_wall = given["not_before"]
            row.not_before = None if row.not_before_wall is None else row.not_before_wall - wall + now

    def _start(self, record: Transition, row: Row, what: str, now: float) -> None:
        if record.attempt != row.attempt + 1:
            raise Violation(f"I2: {what} goes from attempt {row.attempt} to {record.attempt}")
        live = self.host.live(record.unit)
        if live:
            raise Violation(f"I1: {what} while attempt {live[0].key[1]} lives")
        waits = [one for one in row.after if self.units[one].status is not Status.DONE]
        if waits:
            raise Violation(f"I5: {what} though it waits for {waits}")
        if row.not_before is not None and now < row.not_before - SLACK:
            raise Violation(f"F10: {what} {row.not_before - now:.1f} s before it may")
        if self.dispatch_paused:
            raise Violation(f"I4: {what} while dispatch is paused")

    def _leaves(self, record: Transition, what: str, row: Row, now: float) -> None:
        key: Key = (record.unit, record.attempt)
        silent = "silent for" in (record.reason or "")
        if silent:
            stall = self.project.workflows["default"].phase(row.phase).stall
            if now - max(row.sign, self.booted) < stall - SLACK:
                raise Violation(f"F11: {what}: {record.reason}, but it was silent for {now - row.sign:.1f} s only")
        elif record.trigger in ENDS and self.host.alive(key):
            raise Violation(f"I7: {what} ({record.reason}) while attempt {record.attempt} lives")
        if record.trigger is Trigger.ASK and self.host.alive(key) and not self.host.processes[key].asked:
            raise Violation(f"I7: {what} though attempt {record.attempt} asked nothing")
        if record.trigger is Trigger.FINISH and row.phase == "MERGE":
            branch = self.repository.branches.get(record.unit)
            base = self.repository.content(self.repository.base)
            if branch is not None and not self.repository.content(branch) <= base:
                raise Violation(f"I10: {what} though its work is not in the base")

    def _attention(self, record: AttentionChange) -> None:
        items = self.units[record.unit].items
        if record.change == "opened":
            items[record.item] = record.detail.get("other")
        elif record.item not in items:
            raise Violation(f"I3: item {record.item} of {record.unit} is {record.change} but not open")
        elif record.change == "resolved":
            del items[record.item]

    # -- what holds between commits

    def waits_for(self, row: Row) -> list[str]:
        return [one for one in row.after if self.units[one].status is not Status.DONE]

    def _check_rest(self) -> None:
        for name, row in self.units.items():
            if row.status is Status.READY and self.waits_for(row):
                raise Violation(f"I5: {name} is READY though it waits for {self.waits_for(row)}")
            if row.status is Status.BLOCKED and not self.waits_for(row):
                raise Violation(f"L1: {name} is BLOCKED though all its blockers are DONE")
            if row.status is Status.NEEDS_ATTENTION and not row.items:
                raise Violation(f"L4: {name} is NEEDS_ATTENTION without an item")
            if row.status is Status.BLOCKED:
                cancelled = [one for one in row.after if self.units[one].status is Status.CANCELLED]
                if sorted(row.items.values()) != sorted(cancelled):
                    raise Violation(f"L4: {name} waits for the cancelled {cancelled}; its items are {row.items}")
            elif row.items and row.status is not Status.NEEDS_ATTENTION:
                raise Violation(f"L4: {name} is {row.status} with the open items {sorted(row.items)}")

    def _check_acyclic(self) -> None:
        done: set[str] = set()

        def visit(name: str, path: tuple[str, ...]) -> None:
            if name in path:
                raise Violation(f"I5: a cycle of blockers: {' after '.join((*path[path.index(name) :], name))}")
            if name not in done:
                for blocker in self.units[name].after:
                    visit(blocker, (*path, name))
                done.add(name)

        for name in self.units:
            visit(name, ())

    def holders(self) -> list[str]:
        """The units that hold a slot: whoever runs, or lives though it was told to end."""
        return [name for name, row in self.units.items() if self._holds(name, row)]

    def _holds(self, name: str, row: Row) -> bool:
        if row.status in (Status.RUNNING, Status.NEEDS_ATTENTION):
            return row.status is Status.RUNNING
        process = self.host.processes.get((name, row.attempt))
        return process is not None and process.alive and process.key not in self.strays

    def _check_slots(self, started: str) -> None:
        row, holders = self.units[started], self.holders()
        if len(holders) > self.project.slots:
            raise Violation(f"I4: {started} starts as number {len(holders)} in {self.project.slots} slots: {holders}")
        for label, limit in self.project.label_slots.items():
            sharing = [name for name in holders if label in self.units[name].labels]
            if label in row.labels and len(sharing) > limit:
                raise Violation(f"I4: {started} starts though {label} is taken by {sharing}")
        merging = [name for name in holders if self.units[name].phase == "MERGE" == row.phase]
        if len(merging) > 1:
            raise Violation(f"I4: {merging} merge at a time")
