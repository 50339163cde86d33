"""Whether each attempt ran once, alone, untouched unless somebody asked for it, and ended in the log as in fact."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC

from .evidence import Evidence, Key, Row

#: Seconds of a running server in which an answer must have reached the agent that waits for it, and a stop its agent.
DELIVERY = 5.0
#: What an operator does that ends an attempt.
ENDED_BY = frozenset({"pause", "cancel", "accept", "retry", "edit", "answer"})


def faults(found: Evidence) -> Iterator[str]:
    windows = found.windows()
    for unit, marks in found.marks.items():
        yield from alone(unit, marks)
        for attempt in sorted({mark["attempt"] for mark in marks}):
            key = (unit, attempt)
            own = [mark for mark in marks if mark["attempt"] == attempt]
            if key not in windows:
                yield f"{unit}, attempt {attempt}, ran and has no start in the log"
                continue
            yield from ran_once(key, own)
            yield from outcome(found, key, own, windows[key])
            yield from answers(found, key, own, windows[key])
            yield from stops(found, key, own, windows[key])
    for key, window in windows.items():
        if key not in {(unit, mark["attempt"]) for unit in [key[0]] for mark in found.marks.get(unit, ())}:
            yield from never_ran(found, key, window)


def alone(unit: str, marks: list[Row]) -> Iterator[str]:
    for mark in marks:
        if mark["what"] == "OVERLAP":
            yield f"{unit}, attempt {mark['attempt']}, began while another process of the unit was alive"
    newest = 0
    for mark in marks:
        if mark["attempt"] < newest:
            yield f"{unit}, attempt {mark['attempt']}, went on ({mark['what']}) after attempt {newest} had begun"
        newest = max(newest, mark["attempt"])


def ran_once(key: Key, marks: list[Row]) -> Iterator[str]:
    starts = [mark for mark in marks if mark["what"] == "START"]
    if len(starts) != 1 or len({mark["pid"] for mark in marks}) != 1:
        yield f"{key[0]}, attempt {key[1]}, ran {len(starts)} times"


def outcome(found: Evidence, key: Key, marks: list[Row], window: list[Row]) -> Iterator[str]:
    unit, attempt = key
    who = f"{unit}, attempt {attempt} ({window[0]['phase']})"
    end = next((mark["code"] for mark in marks if mark["what"] == "END"), None)
    left = [row for row in window if row["from_status"] == "RUNNING" and row["to_status"] != "RUNNING"]
    last = left[-1] if left else None
    decided = [row["trigger"] for row in window if row["actor"].startswith("operator:")]
    told = f"log: {[(row['trigger'], row['reason']) for row in window[1:]]}"
    exit = found.exits.get(key)
    if exit is None:
        if key not in found.orphaned:
            yield f"{who} ran and left no exit; {told}"
        return
    if exit["why"] == "exit" and exit["signal"] is None and exit["code"] != end:
        yield f"{who} ended with {end}, its exit says {exit['code']}"
    if any(mark["what"] == "TERM" for mark in marks) or exit["signal"] is not None:
        if exit["why"] == "exit" and key not in found.orphaned:
            yield f"{who} was ended by a signal that nobody sent: {exit}; {told}"
        if exit["why"] == "stop" and not ENDED_BY.intersection(decided):
            yield f"{who} was stopped, and no operator had asked for it; {told}"
    if last is None:
        yield f"{who} has ended ({exit}) and is RUNNING in the log"
        return
    if last["trigger"] == "lose" and "before the answer reached it" not in last["reason"]:
        yield f"{who} ended ({exit['why']}, {exit['code']}) and counts as lost: {last['reason']}; {told}"
    elif last["actor"] == "scheduler" and not _fits(exit, last):
        yield f"{who} ended ({exit['why']}, {exit['code']}), and the log says {last['trigger']}: {last['reason']}"


def _fits(exit: Row, last: Row) -> bool:
    """Whether a transition by the scheduler can follow from an exit."""
    trigger, reason = last["trigger"], last["reason"] or ""
    if trigger == "lose":
        return True  # looked at already
    if exit["why"] == "stop":
        return trigger == "defer"
    if exit["why"] == "timeout":
        return trigger in ("defer", "fail") and "longer than" in reason
    if exit["code"] == 0:
        return trigger in ("advance", "finish", "rework", "ask") or (
            (last["phase"] == "MERGE" and trigger in ("defer", "clash")) or (trigger == "fail" and "still" in reason)
        )
    if exit["code"] == 75 and last["phase"] != "MERGE":
        return trigger == "defer"
    return trigger in ("defer", "fail") and f"exit code {exit['code']}" in reason


def answers(found: Evidence, key: Key, marks: list[Row], window: list[Row]) -> Iterator[str]:
    """A question that was asked stood in the queue; an answer to an agent that waited reached it, once."""
    who = f"{key[0]}, attempt {key[1]}"
    opened = {row["text"] for row in found.rows["attention_change"] if row["unit"] == key[0]}
    for mark in marks:
        if mark["what"] == "ASKED" and mark["question"] not in opened and _current(window, marks):
            yield f"{who} asked {mark['question']!r}, and it never stood in the queue"
        if mark["what"] == "ANSWERED" and len(mark["answers"]) != 1:
            yield f"{who} got {len(mark['answers'])} answers to {mark['question']!r}: {mark['answers']}"
        if mark["what"] == "UNANSWERED":
            yield f"{who} waited in vain for an answer to {mark['question']!r}"
    heard = sum(mark["what"] == "ANSWERED" for mark in marks)
    given = [row for row in window if row["trigger"] == "continue" and "answers" in row["detail"].get("set", {})]
    for row in given[heard:]:
        at, ended = row["occurred_at"].replace(tzinfo=UTC).timestamp(), marks[-1]["at"]
        if found.answered_for(at, ended) > DELIVERY:
            yield f"{who} lived for {ended - at:.1f} s after its answer (row {row['seq']}), and that never reached it"


def stops(found: Evidence, key: Key, marks: list[Row], window: list[Row]) -> Iterator[str]:
    """Who was paused or cancelled does not go on."""
    asked = [row for row in window if row["trigger"] in ("pause", "cancel") and row["from_status"] != "READY"]
    if not asked or any(mark["what"] == "TERM" for mark in marks):
        return
    at, last = asked[0]["occurred_at"].replace(tzinfo=UTC).timestamp(), marks[-1]["at"]
    if found.answered_for(at, last) > DELIVERY:
        what = f"{asked[0]['trigger']} (row {asked[0]['seq']})"
        yield f"{key[0]}, attempt {key[1]}, went on for {last - at:.1f} s after its {what}"


def _current(window: list[Row], marks: list[Row]) -> bool:
    """Whether the attempt was still the unit's concern when it ended: nobody had moved the unit on before."""
    return not any(row["trigger"] in ENDED_BY for row in window)


def never_ran(found: Evidence, key: Key, window: list[Row]) -> Iterator[str]:
    """A start without a process: lost, or withdrawn, or the orchestrator's own work (a merge that needs no check)."""
    rest = [row["trigger"] for row in window[1:] if row["trigger"] != "edit"]
    fine = {"lose", "pause", "cancel"} | ({"finish", "defer", "clash"} if window[0]["phase"] == "MERGE" else set())
    if not rest or rest[0] not in fine:
        rows = [(row["trigger"], row["reason"]) for row in window]
        yield f"{key[0]}, attempt {key[1]} ({window[0]['phase']}), never ran, and the log says {rows}"
