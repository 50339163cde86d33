"""What a finished attempt means: the decision, without carrying it out."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from orchestrator_app.executors.base import Exited
from orchestrator_app.model import Unit
from orchestrator_app.policy import attention, retry
from orchestrator_app.settings import Phase, Project
from orchestrator_app.states import Trigger

EX_TEMPFAIL = 75


@dataclass(frozen=True, slots=True)
class Decision:
    """A move to make: by which trigger, to which phase, why, with which fields and attention item."""

    trigger: Trigger
    reason: str
    phase: str | None = None
    fields: dict[str, Any] = field(default_factory=dict)
    item: dict[str, Any] | None = None


#: What a phase leaves behind for the next one: nothing.
FRESH: dict[str, Any] = {"failures": 0, "feedback": None, "answers": [], "not_before": None}


def passed(project: Project, unit: Unit, phase: Phase, reason: str | None = None) -> Decision:
    """The phase has done its work: on to the next, or to the end."""
    following = project.workflows[unit.workflow].after(phase.name)
    if following is None:
        return Decision(Trigger.FINISH, reason or f"{phase.name} passed, the last phase", fields=FRESH)
    return Decision(Trigger.ADVANCE, reason or f"{phase.name} passed", phase=following.name, fields=FRESH)


def taken_up(unit: Unit) -> dict[str, Any]:
    """What an attempt that starts makes of the comments that wait for it: feedback, beside what there is."""
    return {"feedback": "\n".join([*([unit.feedback] if unit.feedback else ()), *unit.comments]), "comments": []}


def failed(
    project: Project,
    unit: Unit,
    phase: Phase,
    why: str,
    now: float,
    chance: random.Random,
    text: str = "",
    retried: bool = True,
) -> Decision:
    """The phase has failed: another attempt later, or, with its retries used up, a person."""
    failures = unit.failures + 1
    retries = phase.retries if unit.retries is None else unit.retries
    if retried and failures <= retries:
        wait = retry.delay(failures, project.retry_delay, project.retry_factor, project.retry_max_delay, chance)
        reason = f"{phase.name} failed ({why}); retry {failures} of {retries} in {wait:.0f} s"
        return Decision(Trigger.DEFER, reason, fields={"failures": failures, "not_before": now + wait})
    return Decision(
        Trigger.FAIL,
        f"{phase.name} failed ({why})",
        fields={"failures": failures},
        item=attention.error(unit, phase, why, text),
    )


def reworked(unit: Unit, phase: Phase, feedback: str, why: str, item: dict[str, Any]) -> Decision:
    """Back to an earlier phase with the feedback, or, when that was done often enough, to a person with `item`."""
    if phase.back_to and unit.reworks < phase.reworks:
        fields = {**FRESH, "feedback": feedback, "reworks": unit.reworks + 1}
        return Decision(Trigger.REWORK, f"{why}: back to {phase.back_to}", phase=phase.back_to, fields=fields)
    trigger = Trigger.CLASH if item["kind"] == "conflict" else Trigger.FAIL
    return Decision(trigger, why, fields={"feedback": feedback}, item=item)


def of_exit(
    project: Project, unit: Unit, phase: Phase, report: Exited, now: float, chance: random.Random, tail: str
) -> Decision:
    """What the end of an attempt of `phase` means. `tail` is the end of its output, to show where it failed."""
    if not report.ran:
        return failed(project, unit, phase, report.message, now, chance, retried=False)
    if report.why == "stop":
        return Decision(Trigger.DEFER, "stopped with the server", fields={"not_before": None})
    if report.why in ("timeout", "memory"):
        return failed(project, unit, phase, report.message or "it took too long", now, chance, tail)
    if unit.deferral is not None and report.code in (0, EX_TEMPFAIL):
        until = _epoch(unit.deferral.get("until"), now + project.retry_delay)
        reason = str(unit.deferral.get("reason") or "the agent asked for time")
        return Decision(Trigger.DEFER, reason, fields={"not_before": until})
    if report.code == EX_TEMPFAIL:
        reason = f"{phase.name} asked to be run again later (exit code {EX_TEMPFAIL})"
        return Decision(Trigger.DEFER, reason, fields={"not_before": now + project.retry_delay})
    if report.code != 0:
        why = f"signal {report.signal}" if report.signal else f"exit code {report.code}"
        return failed(project, unit, phase, why, now, chance, tail)
    if phase.kind == "review" and unit.review is not None:
        return _of_review(project, unit, phase, unit.review)
    return passed(project, unit, phase)


def of_silence(
    project: Project, unit: Unit, phase: Phase, silent: float, last: str, now: float, chance: random.Random
) -> Decision:
    """What is done about a running attempt that was silent for so many seconds; `last` is the end of its output."""
    why = f"silent for {silent:.0f} s"
    if phase.on_stall == "cancel":
        return Decision(Trigger.CANCEL, f"{phase.name} was {why}: cancelled, as its settings say")
    if phase.on_stall == "restart":
        return failed(project, unit, phase, why, now, chance, last)
    return Decision(Trigger.STALL, why, item=attention.stall(unit, phase, silent, last))


def _of_review(project: Project, unit: Unit, phase: Phase, review: dict[str, Any]) -> Decision:
    feedback = str(review.get("feedback") or "")
    match review.get("decision"):
        case "changes":
            item = attention.reviewed_too_often(unit, phase, feedback)
            return reworked(unit, phase, feedback, f"{phase.name} asked for changes", item)
        case "escalate":
            return Decision(
                Trigger.ASK, f"{phase.name} wants a person to decide", item=attention.escalation(unit, phase, feedback)
            )
    return passed(project, unit, phase, f"{phase.name} approved")


def _epoch(text: Any, otherwise: float) -> float:
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        return otherwise
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
