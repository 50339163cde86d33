"""What people decide where a unit needs one: answers, reviews, another attempt, rulings on conflicts."""

from __future__ import annotations

from typing import Any

from orchestrator_app.errors import IllegalMoveError, UsageError
from orchestrator_app.gate import Draft
from orchestrator_app.model import Unit
from orchestrator_app.policy import attention, refusals
from orchestrator_app.policy.attention import ANSWERED
from orchestrator_app.policy.outcome import FRESH
from orchestrator_app.requests.holding import cancel, check_open
from orchestrator_app.requests.wish import Context, Request
from orchestrator_app.states import Status, Trigger


def _open_item(unit: Unit, draft: Draft, request: Request, item: int | None):
    check_open(unit, draft, item)
    if unit.status is not Status.NEEDS_ATTENTION or unit.item is None:
        raise IllegalMoveError(
            f"{unit.name} is {unit.status} and has no open question: there is nothing to {request.kind}"
        )
    if item is None and len(open_ones := attention.questions(unit, draft.item)) > 1:
        listed = "; ".join(f"{number}: {draft.item(number).title[:100]}" for number in open_ones)
        raise UsageError(f"{unit.name} has {len(open_ones)} questions open: say which item is meant ({listed})")
    return draft.item(unit.item if item is None else item)


def answer(request: Request, draft: Draft, context: Context, *, text: str, item: int | None = None) -> None:
    """Answer the open question. A living agent goes on with it; otherwise its phase runs again with it."""
    unit = draft.unit(request.unit)
    asked = _open_item(unit, draft, request, item)
    if asked.kind not in ANSWERED:
        raise IllegalMoveError(
            f"{unit.name} has no question open but a {asked.kind}: decide with {_alternatives(asked.options)}"
        )
    if not isinstance(text, str) or not text.strip():
        raise UsageError(f"the answer to {unit.name} is empty: say something")
    if asked.kind == "stall":
        _answer_stall(request, draft, context, unit, text)
        return
    if "review" in asked.detail:
        _decide_review(request, draft, context, unit, asked, text)
        return
    alive = context.live.get(unit.name) == unit.attempt
    entry = {"question": asked.text, "answer": text, "item": asked.id, "attempt": unit.attempt, "at": draft.now}
    fields = {"answers": [*unit.answers, entry], "not_before": None}
    by = {"actor": request.actor, "cause": request.cause}
    others = [number for number in attention.questions(unit, draft.item) if number != asked.id]
    if not others:
        trigger = Trigger.CONTINUE if alive else Trigger.ANSWER
        draft.move(unit.name, trigger, reason=_answered(text), fields=fields, **by)
    elif alive:  # the agent hears this answer at once, and still waits for the others
        draft.move(unit.name, Trigger.CONTINUE, reason=_answered(text), fields=fields, still_open=others, **by)
        reason = draft.item(others[-1]).title
        draft.move(unit.name, Trigger.ASK, actor=f"agent:{unit.name}", cause=request.cause, reason=reason)
    else:  # its phase runs again when all is answered
        draft.move(unit.name, Trigger.EDIT, reason=_answered(text), fields=fields, **by)
        draft.settle_item(asked.id, _answered(text), **by)


def _answered(text: str) -> str:
    return f"{refusals.ANSWERED}{text.strip().splitlines()[0][:200]}"


def _alternatives(options: tuple[str, ...]) -> str:
    return ", ".join(options[:-1]) + f" or {options[-1]}" if len(options) > 1 else "".join(options)


def _answer_stall(request: Request, draft: Draft, context: Context, unit: Unit, text: str) -> None:
    choices = {"wait": _wait_on, "retry": retry, "cancel": cancel}
    if text not in choices:
        raise UsageError(f"{unit.name} is silent; answer one of {', '.join(choices)}")
    choices[text](request, draft, context)


def _wait_on(request: Request, draft: Draft, context: Context) -> None:
    if context.live.get(request.unit) is None:
        raise IllegalMoveError(f"{request.unit} has ended meanwhile: retry it")
    draft.move(request.unit, Trigger.CONTINUE, actor=request.actor, cause=request.cause, reason="the operator waits on")


def _decide_review(request: Request, draft: Draft, context: Context, unit: Unit, asked: Any, text: str) -> None:
    """An escalated review: approve goes on to the next phase, anything else goes back with it as feedback."""
    workflow = context.project.workflows[unit.workflow]
    verdict, _, feedback = text.partition(":")
    if verdict.strip().lower() == "approve":
        following = workflow.after(asked.detail["review"])
        if following is None:
            draft.move(
                unit.name, Trigger.ACCEPT, actor=request.actor, cause=request.cause, reason="approved", fields=FRESH
            )
            return
        phase, fields = following.name, FRESH
    else:
        phase = asked.detail.get("back_to") or workflow.first.name
        fields = {**FRESH, "feedback": feedback.strip() or text}
    reason = _answered(text)
    draft.move(
        unit.name, Trigger.ANSWER, actor=request.actor, cause=request.cause, reason=reason, phase=phase, fields=fields
    )


def approve(request: Request, draft: Draft, context: Context, *, item: int | None = None) -> None:
    _check_approval(request, draft, item)
    answer(request, draft, context, text="approve", item=item)


def reject(request: Request, draft: Draft, context: Context, *, feedback: str = "", item: int | None = None) -> None:
    _check_approval(request, draft, item)
    answer(request, draft, context, text=f"reject: {feedback}" if feedback else "reject", item=item)


def _check_approval(request: Request, draft: Draft, item: int | None) -> None:
    asked = _open_item(draft.unit(request.unit), draft, request, item)
    if asked.kind != "approval":
        raise IllegalMoveError(f"{request.unit} asks for no approval but has a {asked.kind} open: {asked.title}")


def retry(
    request: Request,
    draft: Draft,
    context: Context,
    *,
    phase: str | None = None,
    feedback: str | None = None,
    item: int | None = None,
) -> None:
    """Another attempt, of this phase or an earlier one, with fresh counters."""
    unit = draft.unit(request.unit)
    check_open(unit, draft, item)
    fields: dict[str, Any] = {"failures": 0, "reworks": 0, "not_before": None}
    if feedback is not None:
        fields["feedback"] = feedback
    if phase is not None:
        context.project.workflows[unit.workflow].phase(phase)
    reason = f"retry {phase}" if phase else "retry"
    draft.move(
        unit.name, Trigger.RETRY, actor=request.actor, cause=request.cause, reason=reason, phase=phase, fields=fields
    )


def accept(request: Request, draft: Draft, context: Context, *, reason: str, item: int | None = None) -> None:
    check_open(draft.unit(request.unit), draft, item)
    if not isinstance(reason, str) or not reason.strip():
        raise UsageError(f"accepting {request.unit} as done needs a reason: it goes into the log")
    draft.move(request.unit, Trigger.ACCEPT, actor=request.actor, cause=request.cause, reason=reason)


def resolve(
    request: Request, draft: Draft, context: Context, *, other: str, ruling: str, item: int | None = None
) -> None:
    """Rule on a pair in conflict: `serialize` puts this unit after the other, `parallelize` frees both, for good."""
    unit = draft.unit(request.unit)
    check_open(unit, draft, item)
    draft.unit(other)
    if other == unit.name:
        raise UsageError(f"{other} can't be in conflict with itself: name the other unit")
    actor, cause = request.actor, request.cause
    if ruling == "serialize":
        if draft.closes_cycle(unit.name, other):
            raise UsageError(f"{other} waits for {unit.name} already: serializing them would be a cycle")
        fields = {"after": list(dict.fromkeys([*unit.after, other]))}
        draft.rule(unit.name, other, "SERIALIZE", reason="the operator's ruling", actor=actor, cause=cause)
        draft.move(unit.name, Trigger.SERIALIZE, actor=actor, cause=cause, reason=f"after {other}", fields=fields)
    elif ruling == "parallelize":
        draft.rule(unit.name, other, "INDEPENDENT", reason="the operator's ruling", actor=actor, cause=cause)
        draft.move(unit.name, Trigger.PARALLELIZE, actor=actor, cause=cause, reason=f"independent of {other}")
    else:
        raise UsageError(f"no ruling {ruling!r}; there are serialize and parallelize")
