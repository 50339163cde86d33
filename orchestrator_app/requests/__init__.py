"""What each request does: an operator's wish becomes moves in a draft, or is refused as a whole.

`carry_out` is pure with regard to the outside: it reads the draft (the model with this step's changes) and writes
moves into it. What must follow outside (stopping a process, handing over an answer) follows from the moves.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from orchestrator_app.errors import IllegalMoveError, KeyReusedError, StaleVersionError, UsageError
from orchestrator_app.gate import Draft
from orchestrator_app.policy import refusals
from orchestrator_app.repeats import Done
from orchestrator_app.requests import asking, deciding, holding
from orchestrator_app.requests.wish import Context, Request
from orchestrator_app.settings import Project

__all__ = ["KINDS", "WITHOUT_UNIT", "Context", "Request", "carry_out", "prepared"]


def prepared(kind: str, args: dict[str, Any], project: Project) -> dict[str, Any]:
    """The words of a request with all done that takes long and needs no log, so that the scheduler needn't. Any thread.

    Raises an OrchError where the request would be refused whatever the log says."""
    if kind == "submit" and "units" in args:
        return {**args, "units": asking.batch_of(args["units"], project)}
    return args


def carry_out(request: Request, draft: Draft, context: Context) -> dict[str, Any]:
    """Write the request's moves into the draft and return its answer. Raises an OrchError when it is refused."""
    if (done := draft.repeated(request.cause)) is not None:
        return _same_answer(request, done, context)
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


def _same_answer(request: Request, done: Done, context: Context) -> dict[str, Any]:
    """The answer that a request was given when it came first. Raises KeyReusedError if that one was another wish."""
    if done.cause != request.cause:
        raise KeyReusedError(
            f"the key of this {request.kind} was used for another request before: nothing was done; use a new key"
        )
    match request.kind:
        case "submit":
            return {"units": asking.batch_of(request.args["units"], context.project).names, "seq": done.seq}
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


KINDS: dict[str, Callable[..., Any]] = {
    "submit": asking.submit,
    "answer": deciding.answer,
    "approve": deciding.approve,
    "reject": deciding.reject,
    "retry": deciding.retry,
    "accept": deciding.accept,
    "cancel": holding.cancel,
    "pause": holding.pause,
    "resume": holding.resume,
    "restart": holding.restart,
    "reopen": holding.reopen,
    "edit": asking.edit,
    "comment": asking.comment,
    "resolve": deciding.resolve,
    "see": holding.see,
    "dispatch": holding.dispatch,
}
WITHOUT_UNIT = frozenset({"submit", "see", "dispatch"})
