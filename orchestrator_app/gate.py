"""The one door: a change that is not logged and broadcast can't be made.

A `Draft` collects what one step wants to change, on top of the model, and works out what follows from it (units
that become free, items that are settled) so that all of it is decided and written together. `Gate.commit` checks
every move against the state machine, appends the records durably, then folds them into the model.
"""

from __future__ import annotations

import copy
import uuid
from collections.abc import Iterable, Sequence
from typing import Any

from orchestrator_app.errors import IllegalMoveError, NotFoundError, WatcherWriteError
from orchestrator_app.model import Board, Unit, fold_attention, fold_event, fold_transition, folding, item_of
from orchestrator_app.repeats import Done, Repeats
from orchestrator_app.states import ENDED, MOVES, Status, Trigger, triggers_from
from orchestrator_app.store.log import Log, utc
from orchestrator_app.store.records import AttentionChange, Event, Record, Session, Transition, Usage, Verdict

SCHEDULER = "scheduler"


def new_cause() -> str:
    """An id for one stimulus and everything it leads to."""
    return uuid.uuid4().hex[:12]


class Draft:
    """Changes that are not yet made. Reads see them already; nobody else does until they are committed.

    A draft on a draft (`draft.nested()`) is how one refused request leaves no trace: it is merged only if it worked.
    """

    def __init__(self, board: Board, now: float, parent: Draft | None = None) -> None:
        self.board = board
        self.now = now
        self.at = parent.at if parent else utc(now)
        self.records: list[Record] = []
        self._parent = parent
        self._units: dict[str, Unit] = {}
        self._first = parent.next_seq if parent else board.seq + 1
        self._items: dict[int, AttentionChange] = {}
        self._dependents: dict[str, set[str]] = {}
        self._verdicts: dict[frozenset[str], Verdict] = {}
        self._paused: bool | None = None
        self._repeats = Repeats()

    # -- reading through

    @property
    def next_seq(self) -> int:
        return self._first + len(self.records)

    def has(self, name: str) -> bool:
        return name in self._units or (self._parent.has(name) if self._parent else name in self.board.units)

    def unit(self, name: str) -> Unit:
        """The unit as it would be after this draft. Raises NotFoundError."""
        if name in self._units:
            return self._units[name]
        return self._parent.unit(name) if self._parent else self.board.row(name)

    def units_changed(self) -> list[Unit]:
        return list(self._units.values())

    def dependents(self, name: str) -> set[str]:
        """The units that name it as a blocker, those of this draft too."""
        above = self._parent.dependents(name) if self._parent else self.board.dependents(name)
        candidates = {*above, *self._dependents.get(name, ())}
        return {one for one in candidates if name in self.unit(one).after}

    @property
    def dispatch_paused(self) -> bool:
        if self._paused is not None:
            return self._paused
        return self._parent.dispatch_paused if self._parent else self.board.dispatch_paused

    def waits_for(self, unit: Unit) -> list[str]:
        return [blocker for blocker in unit.after if self.unit(blocker).status is not Status.DONE]

    def verdict(self, unit: str, other: str) -> Verdict | None:
        pair = frozenset((unit, other))
        if pair in self._verdicts:
            return self._verdicts[pair]
        return self._parent.verdict(unit, other) if self._parent else self.board.verdict(unit, other)

    def item(self, number: int):
        """The attention item of that number, open or opened in this draft. Raises NotFoundError."""
        if number in self._items:
            return item_of(self._items[number])
        if self._parent:
            return self._parent.item(number)
        try:
            return self.board.attention[number]
        except KeyError:
            raise NotFoundError(f"no open attention item {number}: `orch attention` shows the open ones") from None

    def settlement(self, item: int) -> AttentionChange | None:
        """Who settled that item, how and when, as far as it is remembered."""
        for row in reversed(self.records):
            if type(row) is AttentionChange and row.item == item and row.change == "resolved":
                return row
        return (self._parent or self.board).settlement(item)

    def decided(self, name: str) -> list[Transition]:
        """What people lately did to a unit, oldest first."""
        own = [row for row in self._story(name) if row.actor.startswith("operator:") and row.trigger != Trigger.SUBMIT]
        return [*self.board.decided(name), *own]

    def repeated(self, cause: str) -> Done | None:
        """What was done under the key that this cause was made from, if anything was."""
        return self._repeats.find(cause) or (
            self._parent.repeated(cause) if self._parent else self.board.repeats.find(cause)
        )

    def closes_cycle(self, name: str, blocker: str) -> bool:
        """Whether `name` waiting for `blocker` would have it wait, in the end, for itself."""
        seen, todo = set(), [blocker]
        while todo:
            one = todo.pop()
            if one == name:
                return True
            if one not in seen and self.has(one):
                seen.add(one)
                todo += self.unit(one).after
        return False

    # -- changing

    def nested(self) -> Draft:
        return Draft(self.board, self.now, parent=self)

    def merge(self, draft: Draft) -> None:
        """Take over all of a nested draft."""
        self.records += draft.records
        for record in draft.records:
            self._repeats.fold(record)
        self._units.update(draft._units)
        self._items.update(draft._items)
        self._verdicts.update(draft._verdicts)
        if draft._paused is not None:
            self._paused = draft._paused
        for blocker, names in draft._dependents.items():
            self._dependents.setdefault(blocker, set()).update(names)

    def _own(self, name: str) -> Unit:
        if name not in self._units:
            self._units[name] = copy.copy(self.unit(name)) if self.has(name) else Unit(name)
        return self._units[name]

    def move(
        self,
        name: str,
        trigger: Trigger,
        *,
        actor: str,
        cause: str,
        reason: str | None = None,
        phase: str | None = None,
        attempt: int | None = None,
        fields: dict[str, Any] | None = None,
        item: dict[str, Any] | None = None,
        still_open: Sequence[int] = (),
    ) -> Unit:
        """Move a unit by a trigger, and decide what follows from it.

        `fields` are given to the unit; `item` (kind, title, text, severity, detail) opens an attention item. A move out
        of NEEDS_ATTENTION settles the unit's open items but for those `still_open`.
        Raises IllegalMoveError where the state machine has no such move.
        """
        unit = self._own(name)
        before = unit.status
        target = MOVES.get((before, trigger))
        if target is None:
            legal = ", ".join(triggers_from(before)) or "nothing"
            raise IllegalMoveError(
                f"{name} is {before}: {trigger} is not possible; possible: {legal}", self._story(name)
            )
        detail: dict[str, Any] = {"set": fields} if fields else {}
        row = Transition(
            self.next_seq,
            name,
            unit.version + 1,
            before,
            trigger,
            target,
            unit.phase if phase is None else phase,
            unit.attempt if attempt is None else attempt,
            actor,
            cause,
            reason,
            detail,
            self.at,
        )
        self.records.append(row)
        fold_transition(unit, row)
        if fields and "after" in fields:
            for blocker in unit.after:
                self._dependents.setdefault(blocker, set()).add(name)
        if before is Status.NEEDS_ATTENTION and target is not before:
            self._settle(unit, actor, cause, reason or trigger, still_open)
        if item is not None:
            self.open_item(name, actor=actor, cause=cause, **item)
        self._follow(unit, before, trigger, cause)
        return unit

    def _story(self, name: str) -> tuple[Transition, ...]:
        own = tuple(row for row in self.records if type(row) is Transition and row.unit == name)
        return (self._parent._story(name) if self._parent else ()) + own

    def _follow(self, unit: Unit, before: Status, trigger: Trigger, cause: str) -> None:
        """What a move leads to, in the same transaction."""
        name, status = unit.name, unit.status
        if trigger in (Trigger.CANCEL, Trigger.REOPEN):
            for one in sorted(self.dependents(name)):
                if self.unit(one).status is Status.BLOCKED:
                    self._warn_of_cancelled(self._own(one), cause)
        if status is Status.READY and self.waits_for(unit):
            waiting = self.waits_for(unit)
            self.move(name, Trigger.BLOCK, actor=SCHEDULER, cause=cause, reason=f"waits for {_listed(waiting)}")
            return
        if status is Status.BLOCKED:
            if not self.waits_for(unit):
                self._settle(unit, SCHEDULER, cause, "no longer blocked")
                self.move(name, Trigger.UNBLOCK, actor=SCHEDULER, cause=cause, reason="its blockers are done")
                return
            self._warn_of_cancelled(unit, cause)
        elif before is Status.BLOCKED:
            self._settle(unit, SCHEDULER, cause, "no longer blocked")
        if status is before:
            return
        if status is Status.DONE:
            for one in sorted(self.dependents(name)):
                dependent = self.unit(one)
                if dependent.status is Status.BLOCKED and not self.waits_for(dependent):
                    self.move(one, Trigger.UNBLOCK, actor=SCHEDULER, cause=cause, reason=f"{name} is done")
        if status in ENDED:
            self._settle(unit, SCHEDULER, cause, f"the unit is {status}")

    def _warn_of_cancelled(self, unit: Unit, cause: str) -> None:
        """One item for each blocker that is cancelled, for it will never be done by itself; none for any other."""
        cancelled = [blocker for blocker in unit.after if self.unit(blocker).status is Status.CANCELLED]
        known = {self.item(number).other: number for number in unit.items}
        for blocker, number in known.items():
            if blocker not in cancelled:
                how = f"{unit.name} waits for a cancelled {blocker} no longer"
                self.settle_item(number, how, actor=SCHEDULER, cause=cause)
        for blocker in cancelled:
            if blocker not in known:
                self.open_item(
                    unit.name,
                    actor=SCHEDULER,
                    cause=cause,
                    kind="blocked",
                    severity="warning",
                    title=f"{unit.name} waits for {blocker}, which was cancelled",
                    text=f"Reopen {blocker}, remove it from the blockers of {unit.name}, or cancel {unit.name}.",
                    detail={"other": blocker},
                )

    def _settle(self, unit: Unit, actor: str, cause: str, how: str, still_open: Sequence[int] = ()) -> None:
        for number in unit.items:
            if number not in still_open:
                self.settle_item(number, how, actor=actor, cause=cause)

    def open_item(
        self,
        name: str,
        *,
        actor: str,
        cause: str,
        kind: str,
        title: str,
        text: str = "",
        severity: str = "warning",
        detail: dict[str, Any] | None = None,
    ) -> int:
        """Open an attention item on a unit and return its number."""
        unit, seq = self._own(name), self.next_seq
        row = AttentionChange(
            seq,
            seq,
            name,
            "opened",
            kind,
            severity,
            title,
            text,
            detail or {},
            unit.phase,
            unit.attempt,
            actor,
            cause,
            self.at,
        )
        self.records.append(row)
        self._items[seq] = row
        fold_attention(unit, row)
        return seq

    def settle_item(self, number: int, how: str, *, actor: str, cause: str) -> None:
        self._change_item(number, "resolved", how, actor, cause)

    def see_item(self, number: int, *, actor: str, cause: str) -> None:
        self._change_item(number, "seen", "", actor, cause)

    def _change_item(self, number: int, change: str, text: str, actor: str, cause: str) -> None:
        item = self.item(number)
        row = AttentionChange(
            self.next_seq,
            number,
            item.unit,
            change,
            item.kind,
            item.severity,
            item.title,
            text,
            {},
            item.phase,
            item.attempt,
            actor,
            cause,
            self.at,
        )
        self.records.append(row)
        fold_attention(self._own(item.unit), row)

    def event(
        self,
        name: str | None,
        type: str,
        *,
        actor: str,
        cause: str,
        message: str = "",
        level: str = "info",
        data: dict[str, Any] | None = None,
        attempt: int | None = None,
        pos: int | None = None,
    ) -> None:
        """Note something that moves no status."""
        unit = self._own(name) if name is not None else None
        number = unit.attempt if unit is not None and attempt is None else attempt
        row = Event(self.next_seq, name, number, type, level, message, data or {}, pos, actor, cause, self.at)
        self.records.append(row)
        if unit is not None:
            fold_event(unit, row)

    def pause_dispatch(self, paused: bool, *, actor: str, cause: str) -> None:
        """Hold, or let go on, the starting of attempts."""
        message = "dispatch was paused" if paused else "dispatch was resumed"
        self.event(None, "dispatch", actor=actor, cause=cause, message=message, data={"paused": paused})
        self._paused = paused

    def rule(self, unit: str, other: str, verdict: str, *, reason: str, actor: str, cause: str) -> None:
        """Remember a verdict on a pair of units."""
        row = Verdict(self.next_seq, unit, other, verdict, reason, actor, cause, self.at)
        self.records.append(row)
        self._verdicts[frozenset((unit, other))] = row

    def usage(self, name: str, attempt: int, model: str, input_tokens: int, output_tokens: int, usd: float) -> None:
        phase = self.unit(name).phase
        self.records.append(
            Usage(self.next_seq, name, attempt, phase, model, input_tokens, output_tokens, usd, self.at)
        )

    def session(self, name: str, attempt: int, session: str) -> None:
        unit = self._own(name)
        self.records.append(Session(self.next_seq, name, attempt, unit.phase, session, self.at))
        if attempt == unit.attempt:
            unit.session = session


class Gate:
    """Commits drafts. One thread uses it."""

    def __init__(self, log: Log, board: Board) -> None:
        self.log = log
        self.board = board

    def replay(self) -> None:
        """Bring the model up to the log, through the same fold as every later change."""
        self.board.fold(self.log.read(since=self.board.seq))

    def draft(self, now: float) -> Draft:
        return Draft(self.board, now)

    def commit(self, draft: Draft) -> list[Record]:
        """Make the draft's changes: durable first, then visible. Returns their records.

        Raises StoreError (nothing was changed), WatcherWriteError, IllegalMoveError.
        """
        if folding():
            raise WatcherWriteError("a watcher may not write: it observes; send a request from another thread")
        if not draft.records:
            return []
        self._check(draft.records)
        self.log.append(draft.records)
        self.board.fold(draft.records)
        return draft.records

    def _check(self, records: Iterable[Record]) -> None:
        """Every record must follow from the log as it is: numbering, versions, statuses and rules."""
        seq = self.board.seq
        last: dict[str, tuple[Status, int]] = {}
        for row in records:
            seq += 1
            if row.seq != seq:
                raise IllegalMoveError(f"record {row.seq} does not follow record {seq - 1}: the draft is out of date")
            if type(row) is not Transition:
                continue
            if row.unit not in last:
                unit = self.board.units.get(row.unit)
                last[row.unit] = (unit.status, unit.version) if unit else (Status.NEW, 0)
            status, version = last[row.unit]
            if row.from_status is not status or row.version != version + 1:
                raise IllegalMoveError(
                    f"{row.unit} is {status} in version {version}: {row.trigger} was made for another"
                )
            if MOVES.get((status, row.trigger)) is not row.to_status:
                raise IllegalMoveError(f"{row.unit}: no rule leads from {status} by {row.trigger} to {row.to_status}")
            last[row.unit] = (row.to_status, row.version)


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"
