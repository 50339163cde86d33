"""What each request does: an operator's wish becomes moves in a draft, or is refused as a whole.

`carry_out` is pure with regard to the outside: it reads the draft (the model with this step's changes) and writes
moves into it. What must follow outside (stopping a process, handing over an answer) follows from the moves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from orchestrator_app.errors import IllegalMoveError, KeyReusedError, NotFoundError, StaleVersionError, UsageError
from orchestrator_app.fields import DEFAULTS, check_fields, complete_fields
from orchestrator_app.gate import Draft
from orchestrator_app.model import Unit
from orchestrator_app.policy import refusals
from orchestrator_app.policy.attention import ANSWERED
from orchestrator_app.policy.conflicts import check_glob
from orchestrator_app.policy.cycles import in_order
from orchestrator_app.policy.fit import missing
from orchestrator_app.policy.outcome import FRESH
from orchestrator_app.repeats import Done
from orchestrator_app.settings import Project
from orchestrator_app.states import Status, Trigger


@dataclass
class Request:
    """A wish, who has it, and where its answer goes. `version` is the version of the unit that the wisher saw."""

    kind: str
    unit: str | None
    actor: str
    args: dict[str, Any]
    cause: str
    version: int | None = None
    future: Future = field(default_factory=Future)


@dataclass(frozen=True)
class Context:
    """What a request may look at besides the draft: the project, and which units have a live attempt."""

    project: Project
    live: Mapping[str, int]


def carry_out(request: Request, draft: Draft, context: Context) -> dict[str, Any]:
    """Write the request's moves into the draft and return its answer. Raises an OrchError when it is refused."""
    if (done := draft.repeated(request.cause)) is not None:
        return _same_answer(request, done)
    action = KINDS[request.kind]  # the orchestrator takes no other
    if request.kind not in WITHOUT_UNIT:
        if request.unit is None:
            raise UsageError(f"{request.kind} needs the name of a unit")
        unit = draft.unit(request.unit)
        if request.version is not None and request.version != unit.version:
            raise StaleVersionError(refusals.changed(unit, request.version, draft.decided(unit.name), draft.at))
    try:
        answer = action(request, draft, context, **request.args)
    except IllegalMoveError as error:
        raise _with_the_first(error, request, draft) from None
    except TypeError as error:
        if "argument" not in str(error):
            raise
        raise UsageError(f"{request.kind}: {str(error).partition('()')[2].strip() or error}") from None
    if request.kind in WITHOUT_UNIT:
        return answer
    unit = draft.unit(request.unit)
    return {"unit": unit.name, "status": str(unit.status), "version": unit.version, "seq": draft.next_seq - 1}


def _same_answer(request: Request, done: Done) -> dict[str, Any]:
    """The answer that a request was given when it came first. Raises KeyReusedError if that one was another wish."""
    if done.cause != request.cause:
        raise KeyReusedError(
            f"the key of this {request.kind} was used for another request before: nothing was done; use a new key"
        )
    match request.kind:
        case "submit":
            return {"units": [unit["name"] for unit in request.args["units"]], "seq": done.seq}
        case "see" | "dispatch":
            return {**request.args, "seq": done.seq}
    return {"unit": done.unit, "status": str(done.status), "version": done.version, "seq": done.seq}


def _with_the_first(error: IllegalMoveError, request: Request, draft: Draft) -> IllegalMoveError:
    """The refusal of a move, with who made another one before it."""
    if request.unit is None or any(row.cause == request.cause for row in error.story):
        return error  # what this request itself had moved before it failed tells nobody anything
    unit = draft.unit(request.unit)
    first = refusals.moved(unit, draft.decided(unit.name), draft.at)
    rest = str(error).removeprefix(f"{unit.name} is {unit.status}").removeprefix(": ").removeprefix(" and ")
    return error if first is None else IllegalMoveError(f"{first}; {rest}", error.story)


# -- adding


def submit(request: Request, draft: Draft, context: Context, *, units: list[dict[str, Any]]) -> dict[str, Any]:
    """Add units, all or none. They may name each other as blockers, in any order."""
    if not isinstance(units, list) or not units:
        raise UsageError("there is no unit to submit: give at least one")
    asked = [complete_fields(unit) for unit in units]
    new: dict[str, dict[str, Any]] = {}
    for fields in asked:
        name = fields["name"]
        if draft.has(name) or name in new:
            raise UsageError(f"a work unit {name!r} exists already: choose another name")
        new[name] = fields
        _check_references(fields, context.project)
    for name, fields in new.items():
        for blocker in fields["after"]:
            if blocker not in new and not draft.has(blocker):
                raise NotFoundError(f"{name} is to come after {blocker!r}, which doesn't exist: submit that one first")
    for name in in_order({name: fields["after"] for name, fields in new.items()}):
        fields = new[name]
        given = {key: value for key, value in fields.items() if key != "name" and _is_said(key, value)}
        given["workflow"] = fields["workflow"]
        phase = context.project.workflows[fields["workflow"]].first.name
        draft.move(name, Trigger.SUBMIT, actor=request.actor, cause=request.cause, phase=phase, fields=given)
    return {"units": list(new), "seq": draft.next_seq - 1}


def _is_said(field: str, value: Any) -> bool:
    """Whether a field was given: 0 retries are something else than none said."""
    return bool(value) if DEFAULTS[field] is list else value != DEFAULTS[field]


def _check_references(fields: Mapping[str, Any], project: Project) -> None:
    """The workflow, agent and globs that a unit names must be there."""
    workflow, agent = fields.get("workflow"), fields.get("agent")
    if workflow is not None and workflow not in project.workflows:
        raise UsageError(f"no workflow {workflow!r} in orchestrator.toml; there are {', '.join(project.workflows)}")
    if agent is not None and agent not in project.agents:
        raise UsageError(f"no agent {agent!r} in orchestrator.toml; there are {', '.join(project.agents)}")
    for glob in fields.get("touches") or ():
        check_glob(glob)


# -- deciding


def _open_item(unit: Unit, draft: Draft, request: Request, item: int | None):
    _check_open(unit, draft, item)
    if unit.status is not Status.NEEDS_ATTENTION or unit.item is None:
        raise IllegalMoveError(
            f"{unit.name} is {unit.status} and has no open question: there is nothing to {request.kind}"
        )
    return draft.item(unit.item if item is None else item)


def _check_open(unit: Unit, draft: Draft, item: int | None) -> None:
    """The item that a request names must be open still: who settled it was first."""
    if item is None or item in unit.items:
        return
    row = draft.settlement(item)
    raise StaleVersionError(
        f"{unit.name} has no open item {item}; `orch show {unit.name}` shows what is open"
        if row is None or row.unit != unit.name
        else refusals.settled(row, draft.at)
    )


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
    answers = [*unit.answers, entry]
    draft.move(
        unit.name,
        Trigger.CONTINUE if alive else Trigger.ANSWER,
        actor=request.actor,
        cause=request.cause,
        reason=_answered(text),
        fields={"answers": answers, "not_before": None},
    )


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
    _check_open(unit, draft, item)
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
    _check_open(draft.unit(request.unit), draft, item)
    if not isinstance(reason, str) or not reason.strip():
        raise UsageError(f"accepting {request.unit} as done needs a reason: it goes into the log")
    draft.move(request.unit, Trigger.ACCEPT, actor=request.actor, cause=request.cause, reason=reason)


def resolve(
    request: Request, draft: Draft, context: Context, *, other: str, ruling: str, item: int | None = None
) -> None:
    """Rule on a pair in conflict: `serialize` puts this unit after the other, `parallelize` frees both, for good."""
    unit = draft.unit(request.unit)
    _check_open(unit, draft, item)
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


# -- holding and changing


def _simple(trigger: Trigger) -> Callable[..., None]:
    def act(request: Request, draft: Draft, context: Context, *, reason: str | None = None) -> None:
        fields = {"not_before": None} if trigger in (Trigger.RESUME, Trigger.REOPEN) else None
        draft.move(request.unit, trigger, actor=request.actor, cause=request.cause, reason=reason, fields=fields)

    act.__name__ = str(trigger)
    return act


_cancel = _simple(Trigger.CANCEL)
_reopen = _simple(Trigger.REOPEN)


def cancel(
    request: Request, draft: Draft, context: Context, *, reason: str | None = None, item: int | None = None
) -> None:
    """Withdraw a unit. Cancelled because of an item that somebody else has settled, it would take new work along."""
    _check_open(draft.unit(request.unit), draft, item)
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


def edit(request: Request, draft: Draft, context: Context, *, set: dict[str, Any]) -> None:
    """Change what is asked of a unit. Its name and workflow stay."""
    unit = draft.unit(request.unit)
    fields = check_fields(set)
    if not fields:
        raise UsageError(f"nothing to change in {unit.name}: name a field")
    for fixed in ("name", "workflow"):
        if fixed in fields:
            raise UsageError(f"the {fixed} of {unit.name} can't be changed: submit a new unit")
    _check_references(fields, context.project)
    for blocker in fields.get("after", ()):
        if not draft.has(blocker):
            raise NotFoundError(f"{unit.name} is to come after {blocker!r}, which doesn't exist")
        if draft.closes_cycle(unit.name, blocker):
            raise UsageError(f"{unit.name} can't come after {blocker}, which waits for it: that would be a cycle")
    reason = ", ".join(refusals.edited(name, getattr(unit, name), value) for name, value in fields.items())
    draft.move(unit.name, Trigger.EDIT, actor=request.actor, cause=request.cause, reason=reason, fields=fields)


#: Characters of one comment, and of all that wait for one attempt: they come to it in an environment variable.
COMMENT, COMMENTS = 10_000, 60_000


def comment(
    request: Request, draft: Draft, context: Context, *, text: str, file: str | None = None, line: int | None = None
) -> None:
    """A word for the unit's next attempt, on a line of a file or on the whole: it gets it as feedback."""
    unit = draft.unit(request.unit)
    if unit.ended:
        raise IllegalMoveError(f"{unit.name} is {unit.status}: no attempt will read a comment on it")
    if not isinstance(text, str) or not text.strip():
        raise UsageError(f"the comment on {unit.name} is empty: say something")
    if file is not None and (not isinstance(file, str) or not file.strip() or not file.isprintable()):
        raise UsageError("comment: file must be the path of a file")
    if line is not None and (isinstance(line, bool) or not isinstance(line, int) or line < 1 or file is None):
        raise UsageError("comment: line must be the number of a line of a file")
    where = f"{file}:{line}" if line else file
    entry = f"{where}: {text.strip()}" if where else text.strip()
    if len(entry) > COMMENT or sum(map(len, unit.comments)) + len(entry) > COMMENTS:
        raise UsageError(
            f"that is too much for the next attempt of {unit.name}: {COMMENT} characters in one comment at most,"
            f" {COMMENTS} in all; change its prompt instead"
        )
    reason = f"comment on {where}" if where else "comment"
    fields = {"comments": [*unit.comments, entry]}
    draft.move(unit.name, Trigger.EDIT, actor=request.actor, cause=request.cause, reason=reason, fields=fields)


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


KINDS: dict[str, Callable[..., Any]] = {
    "submit": submit,
    "answer": answer,
    "approve": approve,
    "reject": reject,
    "retry": retry,
    "accept": accept,
    "cancel": cancel,
    "pause": _simple(Trigger.PAUSE),
    "resume": _simple(Trigger.RESUME),
    "restart": restart,
    "reopen": reopen,
    "edit": edit,
    "comment": comment,
    "resolve": resolve,
    "see": see,
    "dispatch": dispatch,
}
WITHOUT_UNIT = frozenset({"submit", "see", "dispatch"})
