"""The state machine: one table decides which move is legal.

The documentation (`docs/state-machine.md`), the log's invariants and the tests are made from `RULES`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Status(StrEnum):
    """Where a work unit stands. Read from its newest transition; nothing else stores it."""

    NEW = "NEW"
    READY = "READY"
    BLOCKED = "BLOCKED"
    RUNNING = "RUNNING"
    NEEDS_ATTENTION = "NEEDS_ATTENTION"
    PAUSED = "PAUSED"
    DONE = "DONE"
    CANCELLED = "CANCELLED"


class Trigger(StrEnum):
    """What moves a work unit."""

    SUBMIT = "submit"
    BLOCK = "block"
    UNBLOCK = "unblock"
    START = "start"
    ADVANCE = "advance"
    REWORK = "rework"
    DEFER = "defer"
    LOSE = "lose"
    FINISH = "finish"
    ASK = "ask"
    FAIL = "fail"
    STALL = "stall"
    CLASH = "clash"
    EXCEED = "exceed"
    ANSWER = "answer"
    CONTINUE = "continue"
    RETRY = "retry"
    SERIALIZE = "serialize"
    PARALLELIZE = "parallelize"
    ACCEPT = "accept"
    PAUSE = "pause"
    RESUME = "resume"
    CANCEL = "cancel"
    REOPEN = "reopen"
    EDIT = "edit"


class Rule(NamedTuple):
    """A row of the table. `target` None means the status stays as it is."""

    sources: tuple[Status, ...]
    trigger: Trigger
    target: Status | None
    when: str


_LIVE = (Status.READY, Status.BLOCKED, Status.RUNNING, Status.NEEDS_ATTENTION, Status.PAUSED)
_NEW, _READY, _BLOCKED, _RUNNING, _NEEDS, _PAUSED, _DONE, _CANCELLED = Status

RULES: tuple[Rule, ...] = (
    Rule((_NEW,), Trigger.SUBMIT, _READY, "an operator, a client or an import adds the unit"),
    Rule((_READY,), Trigger.BLOCK, _BLOCKED, "it has unmet blockers (same cause as the submit, if at once)"),
    Rule((_BLOCKED,), Trigger.UNBLOCK, _READY, "its last blocker is DONE, or an operator removed it"),
    Rule((_READY,), Trigger.START, _RUNNING, "the scheduler gives it a slot and a worktree"),
    Rule((_RUNNING,), Trigger.ADVANCE, _READY, "the phase passed; the next one waits for a slot"),
    Rule(
        (_RUNNING,), Trigger.REWORK, _READY, "a review asked for changes: back to an earlier phase, with the feedback"
    ),
    Rule((_RUNNING,), Trigger.DEFER, _READY, "a passing fault or a rate limit: not before a given time"),
    Rule((_RUNNING,), Trigger.LOSE, _READY, "its process vanished without an outcome"),
    Rule((_RUNNING,), Trigger.FINISH, _DONE, "the last phase passed and its work is merged"),
    Rule((_RUNNING,), Trigger.ASK, _NEEDS, "the agent asked a question or an approval"),
    Rule((_RUNNING,), Trigger.FAIL, _NEEDS, "the phase failed and its retries are used up"),
    Rule((_RUNNING,), Trigger.STALL, _NEEDS, "no sign of life or progress for too long"),
    Rule((_READY, _RUNNING), Trigger.CLASH, _NEEDS, "a conflict verdict of ASK_OPERATOR, or a merge conflict"),
    Rule((_READY, _RUNNING), Trigger.EXCEED, _NEEDS, "its budget is spent"),
    Rule((_NEEDS,), Trigger.ANSWER, _READY, "an operator answered, approved or rejected"),
    Rule((_NEEDS,), Trigger.CONTINUE, _RUNNING, "the answer went to an agent that waited for it, alive"),
    Rule((_NEEDS,), Trigger.RETRY, _READY, "an operator asked for another attempt; the counters start anew"),
    Rule((_NEEDS,), Trigger.SERIALIZE, _BLOCKED, "the operator ruled: after the other unit"),
    Rule((_NEEDS,), Trigger.PARALLELIZE, _READY, "the operator ruled: independent; the ruling holds for good"),
    Rule((_NEEDS,), Trigger.ACCEPT, _DONE, "an operator closes it as done, with a reason"),
    Rule(
        (_READY, _BLOCKED, _RUNNING, _NEEDS),
        Trigger.PAUSE,
        _PAUSED,
        "an operator holds it; a running attempt is stopped, its session kept",
    ),
    Rule((_PAUSED,), Trigger.RESUME, _READY, "an operator lets it go on (then `block`, if it has blockers)"),
    Rule(_LIVE, Trigger.CANCEL, _CANCELLED, "withdrawn; a running attempt is killed with all its descendants"),
    Rule((_CANCELLED,), Trigger.REOPEN, _READY, "an operator wants it after all"),
    Rule(
        (*_LIVE, _DONE, _CANCELLED),
        Trigger.EDIT,
        None,
        "priority, blockers, labels, limits or prompt change: logged like every change",
    ),
)

#: (status, trigger) -> the status it leads to. What is not in here is illegal.
MOVES: dict[tuple[Status, Trigger], Status] = {
    (source, rule.trigger): rule.target or source for rule in RULES for source in rule.sources
}

#: Only these end a unit's life; CANCELLED may be reopened.
ENDED = frozenset({Status.DONE, Status.CANCELLED})


def triggers_from(status: Status) -> list[Trigger]:
    """The triggers that are legal in `status`, in the table's order."""
    return [rule.trigger for rule in RULES if status in rule.sources]


def as_markdown() -> str:
    """`docs/state-machine.md`, whole."""
    lines = [
        "# The state machine",
        "",
        "Written by `make docs` from `orchestrator_app/states.py`; a test compares the two.",
        "",
        "## Statuses",
        "",
        "| status | meaning |",
        "| --- | --- |",
        *(f"| {status} | {meaning} |" for status, meaning in _MEANINGS.items()),
        "",
        "## Rules",
        "",
        "| from | trigger | to | when |",
        "| --- | --- | --- | --- |",
    ]
    for rule in RULES:
        target = rule.target or "the same"
        lines.append(f"| {', '.join(rule.sources)} | {rule.trigger} | {target} | {rule.when} |")
    lines += [
        "",
        "Only DONE satisfies a dependency. Whatever is not in the table is refused; the refusal says what is legal.",
        "",
        "```mermaid",
        "stateDiagram-v2",
        "    [*] --> READY: submit",
    ]
    for rule in RULES:
        for source in rule.sources:
            if rule.target and source is not Status.NEW:
                lines.append(f"    {source} --> {rule.target}: {rule.trigger}")
    lines += ["```", ""]
    return "\n".join(lines)


_MEANINGS = {
    Status.NEW: "not yet in the log",
    Status.READY: "waits for a slot",
    Status.BLOCKED: "waits for other units to be DONE",
    Status.RUNNING: "an attempt has a slot",
    Status.NEEDS_ATTENTION: "waits for a person",
    Status.PAUSED: "held by an operator",
    Status.DONE: "finished; satisfies dependencies",
    Status.CANCELLED: "withdrawn; may be reopened",
}


if __name__ == "__main__":
    print(as_markdown(), end="")
