"""Holding units, withdrawing them and taking them back; holding dispatch; putting items aside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from orchestrator_app.errors import IllegalMoveError, NotFoundError, StaleVersionError, UsageError
from orchestrator_app.gate import Draft
from orchestrator_app.model import Unit
from orchestrator_app.policy import refusals
from orchestrator_app.policy.fit import missing
from orchestrator_app.requests.wish import Context, Request
from orchestrator_app.states import Status, Trigger


def check_open(unit: Unit, draft: Draft, item: int | None) -> None:
    """The item that a request names must be open still: who settled it was first."""
    if item is None or item in unit.items:
        return
    row = draft.settlement(item)
    raise StaleVersionError(
        f"{unit.name} has no open item {item}; `orch show {unit.name}` shows what is open"
        if row is None or row.unit != unit.name
        else refusals.settled(row, draft.at)
    )


def _simple(trigger: Trigger) -> Callable[..., None]:
    def act(request: Request, draft: Draft, context: Context, *, reason: str | None = None) -> None:
        fields = {"not_before": None} if trigger in (Trigger.RESUME, Trigger.REOPEN) else None
        draft.move(request.unit, trigger, actor=request.actor, cause=request.cause, reason=reason, fields=fields)

    act.__name__ = str(trigger)
    return act


pause = _simple(Trigger.PAUSE)
resume = _simple(Trigger.RESUME)
_cancel = _simple(Trigger.CANCEL)
_reopen = _simple(Trigger.REOPEN)


def cancel(
    request: Request, draft: Draft, context: Context, *, reason: str | None = None, item: int | None = None
) -> None:
    """Withdraw a unit. Cancelled because of an item that somebody else has settled, it would take new work along."""
    check_open(draft.unit(request.unit), draft, item)
    _cancel(request, draft, context, reason=reason)


def restart(request: Request, draft: Draft, context: Context, *, reason: str | None = None) -> None:
    """Stop the running attempt and let the phase start again, with its session.

    The unit is READY at once, but starts only when the attempt that is stopped has ended.
    """
    unit = draft.unit(request.unit)
    if unit.status is not Status.RUNNING:
        instead = {Status.NEEDS_ATTENTION: "retry", Status.PAUSED: "resume", Status.CANCELLED: "reopen"}.get(
            unit.status
        )
        hint = f"; {instead} it instead" if instead else ""
        raise IllegalMoveError(f"{unit.name} is {unit.status}: no attempt of it runs that could be restarted{hint}")
    why = f"{refusals.RESTARTED}: {reason}" if reason else refusals.RESTARTED
    draft.move(unit.name, Trigger.PAUSE, actor=request.actor, cause=request.cause, reason=why)
    fields = {"not_before": None}
    draft.move(unit.name, Trigger.RESUME, actor=request.actor, cause=request.cause, reason=why, fields=fields)


def reopen(request: Request, draft: Draft, context: Context, *, reason: str | None = None) -> None:
    """Take a cancelled unit back, where the settings still have what it needs."""
    lacks = missing(context.project, draft.unit(request.unit))
    if lacks:
        raise UsageError(f"{request.unit} can't go on: orchestrator.toml has {lacks}; submit a new unit instead")
    _reopen(request, draft, context, reason=reason)


def see(request: Request, draft: Draft, context: Context, *, item: int) -> dict[str, Any]:
    """Mark an attention item as seen."""
    if (row := draft.settlement(item)) is not None:
        raise NotFoundError(refusals.settled(row, draft.at))
    if draft.item(item).seen_at is None:
        draft.see_item(item, actor=request.actor, cause=request.cause)
    return {"item": item, "seq": draft.next_seq - 1}


def dispatch(request: Request, draft: Draft, context: Context, *, paused: bool) -> dict[str, Any]:
    """Hold, or let go on, the starting of attempts; those that run go on."""
    if not isinstance(paused, bool):
        raise UsageError("dispatch: paused must be true or false")
    draft.pause_dispatch(paused, actor=request.actor, cause=request.cause)
    return {"paused": paused, "seq": draft.next_seq - 1}
