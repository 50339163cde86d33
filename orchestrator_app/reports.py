"""What reports of attempts and results of git work mean for the units they are about.

`Reports.take` writes the moves into a draft. Late words of a fenced attempt (a number lower than the unit's, or a
unit that no longer runs) are kept as events and change nothing.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from orchestrator_app.agents.command import output_tail, spec_for
from orchestrator_app.executors.base import AttemptSpec, Exited, Message, Report, Said, Vanished
from orchestrator_app.gate import SCHEDULER, Draft, new_cause
from orchestrator_app.model import Unit
from orchestrator_app.policy import attention, outcome, retry
from orchestrator_app.policy.outcome import Decision
from orchestrator_app.settings import Phase, Project
from orchestrator_app.states import Status, Trigger
from orchestrator_app.workspace.crew import (
    Botched,
    Crew,
    Delayed,
    MergeAdvanced,
    MergeBuilt,
    Prepared,
    Result,
    Sealed,
)
from orchestrator_app.workspace.merge import Advanced, Blocked, Built, Conflict, Moved, Nothing

LEVELS = ("info", "warning", "error")
SPOKEN = ("progress", "ask", "usage", "review", "heartbeat", "session", "test", "note", "defer")


#: What fails for a passing fault (no room, a lock, no more processes) is tried again so often, then a person is asked.
PASSING_TRIES = 8


class Reports:
    """Takes in one report after the other. What follows outside waits until the draft is committed: `prepared` are
    attempts to start, `git_work` is what `crew` is to do."""

    def __init__(self, project: Project, chance: random.Random, crew: Crew | None) -> None:
        self._project = project
        self._chance = chance
        self.crew = crew
        self.prepared: list[AttemptSpec] = []
        self.git_work: list[Callable[[], None]] = []
        #: Of each unit, how many passing faults of git it has met in a row, in the life of this server.
        self._passing: dict[str, int] = {}
        #: And how many attempts in a row could not be started for want of something.
        self._scarce: dict[str, int] = {}
        #: Units whose work is to be committed when there is room again: a stop does not wait for that.
        self.delayed: set[str] = set()

    def forget(self) -> None:
        """The draft was not committed: nothing follows from it."""
        self.prepared, self.git_work = [], []

    def take(self, item: Report | Result, draft: Draft) -> bool:
        """Write what it means into the draft; returns whether nothing of its attempt is under way any more."""
        if not draft.has(item.unit):
            return True
        unit = draft.unit(item.unit)
        current = unit.attempt == item.attempt
        if isinstance(item, Sealed | Botched):
            self.delayed.discard(unit.name)
        match item:
            case Said():
                for message in item.messages:
                    self._hear(draft, item.unit, item.attempt, message)
                return False
            case Exited():
                return self._exited(draft, unit, item, current)
            case Vanished():
                return self._vanished(draft, unit, item, current)
            case Prepared():
                self._passing.pop(unit.name, None)
                return self._on_prepared(draft, unit, item, current)
            case Sealed():
                return self._sealed(draft, unit, item, current)
            case Delayed():
                self.delayed.add(unit.name)
                self._note(draft, unit, "git-delayed", f"{item.why}; tried again in {item.pause:.0f} s")
                return False
            case MergeBuilt():
                return self._merge_built(draft, unit, item, current)
            case MergeAdvanced():
                return self._merge_advanced(draft, unit, item, current)
            case Botched():
                return self._botched(draft, unit, item, current)
        raise TypeError(f"no such report: {item!r}")

    def fail_unexpectedly(self, draft: Draft, name: str, attempt: int, error: Exception) -> None:
        """A report that this code could not digest: the unit goes to a person, with the reason."""
        if draft.has(name) and draft.unit(name).status is Status.RUNNING and draft.unit(name).attempt == attempt:
            self._fail(draft, draft.unit(name), f"unexpected error: {type(error).__name__}: {error}")

    # -- words

    def _hear(self, draft: Draft, name: str, attempt: int, message: Message) -> None:
        """Keep a message, and do what it asks for if its attempt is still the unit's."""
        actor, cause = f"agent:{name}", new_cause()
        data = message.data or {}
        kind = data.get("type")
        if message.error is not None or kind not in SPOKEN:
            text = message.error or f"unknown message type {str(kind)[:50]!r}"
            draft.event(
                name,
                "malformed",
                actor=actor,
                cause=cause,
                level="warning",
                attempt=attempt,
                pos=message.pos,
                message=f"{text}: {message.raw[:200]}",
            )
            return
        words = {key: value for key, value in data.items() if key != "type"}
        level = words.get("level") if words.get("level") in LEVELS else "info"
        text = str(words.get("message") or words.get("step") or words.get("question") or words.get("feedback") or "")
        draft.event(
            name,
            kind,
            actor=actor,
            cause=cause,
            level=level,
            message=text[:2_000],
            data=words,
            attempt=attempt,
            pos=message.pos,
        )
        if kind == "usage":
            tokens = (_number(words.get(key), int) for key in ("input_tokens", "output_tokens"))
            draft.usage(name, attempt, str(words.get("model") or ""), *tokens, _number(words.get("usd"), float))
        elif kind == "session" and words.get("id"):
            draft.session(name, attempt, str(words["id"])[:200])
        unit = draft.unit(name)
        if attempt != unit.attempt:
            return
        if unit.status is Status.NEEDS_ATTENTION and unit.item and draft.item(unit.item).kind == "stall":
            unit = draft.move(name, Trigger.CONTINUE, actor=actor, cause=cause, reason="it speaks again")
        if kind == "ask":
            self._ask(draft, unit, attention.question(unit, words), actor, cause)

    @staticmethod
    def _ask(draft: Draft, unit: Unit, item: dict[str, Any], actor: str, cause: str) -> None:
        """A question moves a unit that runs. A unit that waits for an answer already gets one more item."""
        if unit.status is Status.RUNNING:
            draft.move(unit.name, Trigger.ASK, actor=actor, cause=cause, reason=item["title"], item=item)
            return
        still_open = attention.questions(unit, draft.item) if unit.status is Status.NEEDS_ATTENTION else []
        known = item["text"] in [draft.item(number).text for number in still_open]
        if 0 < len(still_open) < attention.MOST_QUESTIONS and not known:
            draft.open_item(unit.name, actor=actor, cause=cause, **item)

    # -- ends

    def _exited(self, draft: Draft, unit: Unit, report: Exited, current: bool) -> bool:
        if not current:
            return True
        unit = self._out_of_stall(draft, unit)
        running = unit.status is Status.RUNNING
        phase = self._phase(unit)
        if running and report.leftovers:
            self._note(draft, unit, "leftovers", f"{report.leftovers} processes that it left behind were ended")
        if phase.kind == "merge":
            if running:
                return self._verified(draft, unit, phase, report)
            if self.crew is not None:
                self.git_work.append(partial(self.crew.clean, unit.name, merged=False))
            return True
        if report.ran:
            self._scarce.pop(unit.name, None)
        if report.ran and self._to_seal(unit):
            self.git_work.append(partial(self.crew.seal, unit.name, unit.attempt, unit.phase, report))
            return False
        if running:
            self._conclude(draft, unit, report)
        return True

    def _vanished(self, draft: Draft, unit: Unit, report: Vanished, current: bool) -> bool:
        if current and self._phase(unit).kind != "merge" and self._worktree_of(unit).is_dir() and self._to_seal(unit):
            self.git_work.append(partial(self.crew.seal, unit.name, unit.attempt, unit.phase, report))
            return False
        if current and unit.status is Status.RUNNING:
            self._move(draft, unit, Decision(Trigger.LOSE, report.reason))
        return True

    def _to_seal(self, unit: Unit) -> bool:
        """Whether an attempt that has ended may have left work in a worktree. However it ended and whatever becomes of
        its unit, that work is committed; where it is missing, only a unit that runs needs to hear of it."""
        return self.crew is not None and (unit.status is Status.RUNNING or self._worktree_of(unit).is_dir())

    def _worktree_of(self, unit: Unit) -> Path:
        return self._project.state / "worktrees" / unit.name

    def _sealed(self, draft: Draft, unit: Unit, item: Sealed, current: bool) -> bool:
        if not current:
            return True
        self._passing.pop(unit.name, None)
        if item.commit:
            draft.event(
                unit.name,
                "commit",
                actor=SCHEDULER,
                cause=new_cause(),
                message=f"committed {item.commit[:12]}",
                data={"commit": item.commit},
            )
        self._over(draft, unit, item.exited)
        return True

    def _over(self, draft: Draft, unit: Unit, report: Exited | Vanished) -> None:
        """An attempt has ended and its work is committed: what that means for its unit, if it still runs."""
        if isinstance(report, Exited):
            unit = self._out_of_stall(draft, unit)
        if unit.status is not Status.RUNNING:
            return
        if isinstance(report, Vanished):
            self._move(draft, unit, Decision(Trigger.LOSE, report.reason))
        else:
            self._conclude(draft, unit, report)

    @staticmethod
    def _out_of_stall(draft: Draft, unit: Unit) -> Unit:
        """A unit whose attempt was silent and has ended after all needs no person for that."""
        if unit.status is Status.NEEDS_ATTENTION and unit.item and draft.item(unit.item).kind == "stall":
            actor, reason = f"agent:{unit.name}", "it has ended after all"
            return draft.move(unit.name, Trigger.CONTINUE, actor=actor, cause=new_cause(), reason=reason)
        return unit

    @staticmethod
    def _unheard(unit: Unit, report: Exited) -> bool:
        """Whether the attempt's last question was answered only after it had ended."""
        if not unit.answers or unit.answers[-1].get("attempt") != unit.attempt:
            return False
        return report.ended_at < float(unit.answers[-1].get("at", 0))

    def _conclude(self, draft: Draft, unit: Unit, report: Exited) -> None:
        if self._unheard(unit, report):
            reason = "it ended before the answer reached it; its phase runs again with the answer"
            self._move(draft, unit, Decision(Trigger.LOSE, reason))
            return
        if report.why == "scarce":
            self._later_or_never(draft, unit, self._scarce, report.message)
            return
        tail = "" if report.code == 0 else output_tail(self._project, unit.name, unit.attempt)
        decision = outcome.of_exit(self._project, unit, self._phase(unit), report, draft.now, self._chance, tail)
        self._move(draft, unit, decision)

    def _fail(self, draft: Draft, unit: Unit, why: str) -> None:
        phase = self._phase(unit)
        self._move(draft, unit, outcome.failed(self._project, unit, phase, why, draft.now, self._chance, retried=False))

    # -- git

    def _botched(self, draft: Draft, unit: Unit, item: Botched, current: bool) -> bool:
        """Git could not do its part: tried again later where that may help, else a person is asked."""
        if isinstance(item.exited, Exited) and current:
            unit = self._out_of_stall(draft, unit)
        if not current or unit.status is not Status.RUNNING:
            if item.exited is not None:
                what = f"what attempt {item.attempt} left uncommitted stays in {self._worktree_of(unit)}"
                self._note(draft, unit, "git-failed", f"{item.why}; {what}")
            return True
        if isinstance(item.exited, Vanished):
            self._note(draft, unit, "git-failed", item.why)
            self._move(draft, unit, Decision(Trigger.LOSE, item.exited.reason))
            return True
        if not item.passing or item.exited is not None:
            self._passing.pop(unit.name, None)
            self._fail(draft, unit, item.why)
            return True
        self._later_or_never(draft, unit, self._passing, item.why)
        return True

    def _later_or_never(self, draft: Draft, unit: Unit, tried: dict[str, int], why: str) -> None:
        """A passing fault: again after a while, or, after it has not passed for long, a person."""
        tries = tried.pop(unit.name, 0) + 1
        if tries > PASSING_TRIES:
            self._fail(draft, unit, why)
            return
        tried[unit.name] = tries
        project = self._project
        wait = retry.delay(tries, project.retry_delay, project.retry_factor, project.retry_max_delay, self._chance)
        reason = f"{why}; tried again in {wait:.0f} s ({tries} of {PASSING_TRIES})"
        self._move(draft, unit, Decision(Trigger.DEFER, reason, fields={"not_before": draft.now + wait}))

    @staticmethod
    def _note(draft: Draft, unit: Unit, kind: str, message: str) -> None:
        draft.event(unit.name, kind, actor=SCHEDULER, cause=new_cause(), level="warning", message=message)

    def _on_prepared(self, draft: Draft, unit: Unit, item: Prepared, current: bool) -> bool:
        if not current or unit.status is not Status.RUNNING:
            return True
        if unit.base is None:
            data = {"base": item.base, "branch": unit.branch, "path": str(item.path)}
            message = f"branch {unit.branch} from {item.base[:12]}"
            draft.event(unit.name, "workspace", actor=SCHEDULER, cause=new_cause(), message=message, data=data)
        self.prepared.append(spec_for(self._project, unit, self._phase(unit), item.path))
        return False

    def _merge_built(self, draft: Draft, unit: Unit, item: MergeBuilt, current: bool) -> bool:
        if not current or unit.status is not Status.RUNNING:
            return True
        phase, base = self._phase(unit), self._project.base
        match item.result:
            case Nothing():
                self._move(draft, unit, outcome.passed(self._project, unit, phase, f"{base} holds all of its work"))
                return True
            case Conflict(files, text):
                asked = f"Your branch conflicts with {base} in {', '.join(files)}: merge {base} into it and resolve."
                feedback = f"{asked}\n{text}"
                wanted = attention.merge_conflict(unit, base, files, text)
                why = f"conflict with {base} in {', '.join(files[:3])}"
                self._move(draft, unit, outcome.reworked(unit, phase, feedback[:20_000], why, wanted))
                return True
            case Built(old, new):
                message = f"merged in memory as {new[:12]}"
                draft.event(
                    unit.name,
                    "merge",
                    actor=SCHEDULER,
                    cause=new_cause(),
                    message=message,
                    data={"old": old, "new": new},
                )
                if item.path is None:
                    self.git_work.append(partial(self.crew.advance, unit.name, unit.attempt, old, new))
                else:
                    self.prepared.append(spec_for(self._project, unit, phase, item.path, self._project.verify))
        return False

    def _verified(self, draft: Draft, unit: Unit, phase: Phase, report: Exited) -> bool:
        """The verify command has run on the merged tree."""
        if report.why == "exit" and report.code == 0 and unit.merge is not None:
            old, new = unit.merge["old"], unit.merge["new"]
            self.git_work.append(partial(self.crew.advance, unit.name, unit.attempt, old, new))
            return False
        self.git_work.append(partial(self.crew.clean, unit.name, merged=False))
        if report.why == "exit" and report.code:
            why = f"verify failed on the merged tree, exit code {report.code}"
            tail = output_tail(self._project, unit.name, unit.attempt)
            decision = outcome.failed(self._project, unit, phase, why, draft.now, self._chance, tail)
            self._move(draft, unit, decision)
        elif report.code == 0:
            self._move(draft, unit, Decision(Trigger.LOSE, "the merge that was verified is no longer known"))
        else:
            self._conclude(draft, unit, report)
        return True

    def _merge_advanced(self, draft: Draft, unit: Unit, item: MergeAdvanced, current: bool) -> bool:
        self._passing.pop(unit.name, None)
        if not current or unit.status is not Status.RUNNING:
            if isinstance(item.result, Advanced):
                self._note(draft, unit, "merge-late", f"its merge into {self._project.base} had been made already")
            return True
        phase, base = self._phase(unit), self._project.base
        match item.result:
            case Moved(tip):
                reason = f"{base} moved to {tip[:12]} during the merge: merge again"
                self._move(draft, unit, Decision(Trigger.DEFER, reason))
            case Blocked(files, why):
                wanted = attention.merge_blocked(unit, base, files, why)
                self._move(draft, unit, Decision(Trigger.CLASH, why, item=wanted))
            case _:
                self._move(draft, unit, outcome.passed(self._project, unit, phase, f"merged into {base}"))
        return True

    # -- the move itself

    def _phase(self, unit: Unit) -> Phase:
        return self._project.workflows[unit.workflow].phase(unit.phase)

    @staticmethod
    def _move(draft: Draft, unit: Unit, decision: Decision) -> None:
        fields: dict[str, Any] = {
            name: value for name, value in decision.fields.items() if _differs(getattr(unit, name), value)
        }
        draft.move(
            unit.name,
            decision.trigger,
            actor=SCHEDULER,
            cause=new_cause(),
            reason=decision.reason,
            phase=decision.phase,
            fields=fields,
            item=decision.item,
        )


def _differs(old: Any, new: Any) -> bool:
    return (list(old) if isinstance(old, tuple) else old) != new


def _number(value: Any, kind: type) -> Any:
    try:
        number = kind(value or 0)
    except (TypeError, ValueError, OverflowError):
        return kind(0)
    return number if 0 <= number < 1e15 else kind(0)
