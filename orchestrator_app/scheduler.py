"""The scheduler: one function, `step(now)`, and the thread that repeats it.

A step takes what has come in (requests, reports of attempts, results of git work, timers), decides, commits once,
then acts on what it committed. What lies outside follows from the committed moves alone: a `start` begins an attempt, a
`continue` hands over the answer, and an attempt of a unit that is neither running nor waiting is stopped. Time,
chance and the executor are arguments, so that a test runs a week in a millisecond.

Two clocks: `now` is steady (it only goes forward, at one pace) and decides when something is due; the wall clock says
what is written down. How far they are apart (`drift`) is measured in every step, for people set the wall clock.
"""

from __future__ import annotations

import contextlib
import heapq
import logging
import random
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any

from orchestrator_app import metrics
from orchestrator_app.agents.command import deliver_answer, output_tail, spec_for
from orchestrator_app.disk import Room
from orchestrator_app.errors import NoServerError, OrchError, StoreError
from orchestrator_app.executors.base import AttemptSpec, Executor, Report, Said
from orchestrator_app.gate import SCHEDULER, Draft, Gate, new_cause
from orchestrator_app.model import Unit
from orchestrator_app.policy import outcome
from orchestrator_app.policy.attention import ANSWERED
from orchestrator_app.policy.fit import missing
from orchestrator_app.reports import Reports
from orchestrator_app.requests import Context, Request, carry_out
from orchestrator_app.settings import Phase, Project
from orchestrator_app.silence import Silence
from orchestrator_app.starting import Starting
from orchestrator_app.states import Status, Trigger
from orchestrator_app.stopping import Stop
from orchestrator_app.store.records import Record, Transition
from orchestrator_app.workspace.crew import Crew, Prepared, Result

logger = logging.getLogger(__name__)

#: Seconds that reports are gathered for one commit, at most.
GATHER = 0.005

#: After a failed commit, seconds until the next try.
STORE_RETRY = 1.0

#: While attempts run or nothing may start for lack of room, seconds between two looks at the disk.
DISK_LOOK = 10.0

NEVER = float("inf")

#: A step that takes longer than so many seconds is said in the header: nothing moves meanwhile.
LONG_STEP = 5.0

#: What is said to those who come too late.
OVER = "the server is stopping, and nothing was done: ask the next one"

#: After an unexpected error, seconds until the thread goes on: an error that stays must not take all of a processor.
ERROR_PAUSE = 0.5


class Scheduler:
    """Decides, commits and acts. All but `put` and `stop` happen on one thread."""

    def __init__(
        self,
        project: Project,
        gate: Gate,
        executor: Executor,
        crew: Callable[[Callable[[Result], None]], Crew] | None = None,
        *,
        chance: random.Random | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.project = project
        self.gate = gate
        self.board = gate.board
        self.executor = executor
        self.clock = clock
        self.wall = wall
        #: What keeps it from working as it should, by kind: log, journal, disk, error, thread.
        self.faults: dict[str, str] = {}
        self._hire = crew
        self._crew = crew(self.put) if crew else None
        self._chance = chance or random.Random()
        self._inbox: deque[Request | Result] = deque()
        self._reports = Reports(project, self._chance, self._crew)
        self._live: dict[str, int] = {}
        self._stopping: set[tuple[str, int]] = set()
        self._in_git: set[str] = set()  # of these units the crew has the live attempt in hand, not the executor
        self._silence = Silence(project)
        self._room = Room(project.state, project.low_disk)
        self._drift = wall() - clock()
        self._starting = Starting(project, self.board, self._live)
        #: How it comes to its end, once that has begun.
        self.ending: Stop | None = None
        self._over = False
        self._retained: list[Report | Result] = []
        #: The error after which it is not known any more what runs; None when it is.
        self._astray: Exception | None = None
        #: Units whose newest answer could not be handed over: it is tried again.
        self._undelivered: set[str] = set()
        self._thread: threading.Thread | None = None
        self._step_began: float | None = None
        self._rebuild(clock())

    @property
    def alive(self) -> bool:
        """Whether requests are taken: its thread runs, or it is moved by hand. From any thread."""
        return self._thread is None or self._thread.is_alive() or self._finished()

    @property
    def fault(self) -> str | None:
        """Why it can't work as it should, in one line; None when it can. From any thread."""
        found = list(self.faults.values())
        began = self._step_began
        if not self.alive:
            found.insert(0, "the scheduler's thread has died: restart the server; running agents are taken back")
        elif began is not None and (taken := time.monotonic() - began) > LONG_STEP:
            found.insert(0, f"the scheduler has been busy with one step for {taken:.0f} s; nothing moves meanwhile")
        return "; ".join(found) or None

    # -- what is derived from the model

    def _rebuild(self, now: float) -> None:
        """Derive the queue, the slots and the timers from the model anew: at the start, and when a commit failed."""
        self._starting.rebuild(now, self._drift)
        self._timers: list[tuple[float, str, str, int]] = []
        self._looks = False
        for unit in list(self.board.units.values()):
            if unit.status is Status.RUNNING:
                self._watch_for_silence(unit, now)

    def _phase(self, unit: Unit) -> Phase:
        return self.project.workflows[unit.workflow].phase(unit.phase)

    # -- the thread

    def start(self) -> None:
        """Take back what runs, then repeat `step` on a thread of its own."""
        self.recover()
        self._thread = threading.Thread(target=self._run, name="orch-scheduler", daemon=True)
        self._thread.start()

    def recover(self) -> None:
        """Ask the executor for every attempt that may still run, and make up for what a crash held back: answers to
        hand over, attempts to stop."""
        open_attempts = []
        for unit in list(self.board.units.values()):
            if unit.attempt and unit.status is not Status.DONE:
                self._live[unit.name] = unit.attempt
                open_attempts.append((unit.name, unit.attempt, unit.pos))
                if self._may_go_on(unit):
                    self._deliver(unit)
        self.executor.recover(open_attempts)
        for name, attempt in self._live.items():
            if self.ending is Stop.AGENTS or not self._may_go_on(self.board.row(name)):
                self._stop(name, attempt)
        if self._crew is not None:
            self._crew.sweep(self._is_merged)
        self._rebuild(self.clock())
        # A first step looks what may start: nothing else might ever wake the thread.
        heapq.heappush(self._timers, (self.clock(), "begin", "", 0))

    def _may_go_on(self, unit: Unit) -> bool:
        """Whether the unit's newest attempt, if it is alive, is to live on: it runs, or a person will tell it more."""
        if unit.status is not Status.NEEDS_ATTENTION:
            return unit.status is Status.RUNNING
        return unit.item is not None and self.board.attention[unit.item].kind in ANSWERED

    def _is_merged(self, name: str) -> bool:
        """Whether the unit is DONE by a merge; an accepted one may have work that is in no other branch."""
        unit = self.board.units.get(name)
        if unit is None or unit.status is not Status.DONE or missing(self.project, unit):
            return False
        return self._phase(unit).kind == "merge"

    def _run(self) -> None:
        ended = cost = 0.0
        while not self._finished():
            timeout = 0.0 if self._inbox else self._next_timer(self.clock())
            try:
                if self._astray is not None:
                    raise self._astray
                reports = self._gather(self.executor.wait(timeout), until=ended + cost)
                begun = time.perf_counter()
                self._step_began = time.monotonic()
                self.step(self.clock(), reports, self.wall())
                self.gate.log.tend()
                self._step_began = None
                ended = time.perf_counter()
                metrics.STEP.observe(ended - begun)
                cost = min(ended - begun, GATHER)
            except Exception as error:
                self._start_over(error)
        self._over = True
        self._refuse_rest()

    def _start_over(self, error: Exception) -> None:
        """What was decided could not be acted on, or not in full. What runs is found out anew, as after a crash; until
        then nothing starts."""
        logger.error("the scheduler could not act on what it had decided", exc_info=error)
        self.faults["error"] = _unexpected(error)
        self._astray = error
        time.sleep(ERROR_PAUSE)
        try:
            self.step(self.clock(), (), self.wall())
            while self._crew is not None:
                self._crew.close()
                self._crew = self._reports.crew = self._hire(self.put)
                if not self._inbox:
                    break
                self.step(self.clock(), (), self.wall())
            self.executor.close()
            self.executor.open()
            self._live.clear()
            self._stopping.clear()
            self._in_git.clear()
            self._retained = []
            self.recover()
            self._astray = None
        except Exception:
            logger.exception("the scheduler could not start over; it tries again")
        self._step_began = None

    def _gather(self, reports: list[Report], until: float) -> list[Report]:
        """Under load, wait for more reports, so that they share a commit: at most as long as the step before took, and
        no longer than until a third of the live attempts have reported."""
        while len(reports) < len(self._live) / 3 and (rest := until - time.perf_counter()) > 0:
            reports += self.executor.wait(rest)
        return reports

    def _finished(self) -> bool:
        if self._inbox or self.ending is None:
            return False
        if self.ending is Stop.DRAIN:
            return not self.awaited()
        # agents that are left go on, git steps would not
        open_ends = self._live.keys() if self.ending is Stop.AGENTS else self._live.keys() & self._in_git
        # an end that could not be written down is found out about by the next start
        ended = {item.unit for item in self._retained if not isinstance(item, Said | Prepared)}
        return not open_ends - ended - self._reports.delayed

    def awaited(self) -> list[str]:
        """The units whose attempts a drain waits for: those that run, but not for a person's word. From any thread."""
        return [name for name in list(self._live) if self.board.row(name).status is not Status.NEEDS_ATTENTION]

    def stop(self, how: Stop) -> None:
        """Come to an end; returns when that is done. Called again meanwhile, a stronger way takes the place of the
        one before. From any thread."""
        self.put(Request("close", None, SCHEDULER, {"how": how}, new_cause()))
        if self._thread is not None:
            self._thread.join()
        if self._crew is not None:
            self._crew.close()

    def put(self, item: Request | Result) -> None:
        """Queue something for the next step. Any thread."""
        self._inbox.append(item)
        if self._over:
            self._refuse_rest()
        else:
            self.executor.wake()

    def _refuse_rest(self) -> None:
        """What came in after the last step. Git work that nobody heard of is found out about at the next start."""
        while self._inbox:
            with contextlib.suppress(IndexError):  # another thread was quicker
                item = self._inbox.popleft()
                if isinstance(item, Request):
                    _reply([item], [NoServerError(OVER)])

    def _next_timer(self, now: float) -> float | None:
        due = min(self._starting.next_due, self._timers[0][0] if self._timers else NEVER)
        return max(0.0, due - now) if due < NEVER else None

    # -- one step

    def step(self, now: float, reports: Sequence[Report] = (), wall: float | None = None) -> list[Record]:
        """Take in everything, decide, commit once, act. Returns what was committed.

        `now` is the steady time, `wall` the epoch (without it: the same). When the log can't be written, nothing has
        changed: requests are refused, and the rest is tried again.
        """
        self._drift = 0.0 if wall is None else wall - now
        taken: list[Report | Result] = [*self._retained, *reports]
        requests: list[Request] = []
        while self._inbox:
            item = self._inbox.popleft()
            (requests if isinstance(item, Request) else taken).append(item)
        try:
            records, answers = self._decide(taken, requests, now)
        except Exception as error:
            self._retain(taken, error, now)
            answers = [error if isinstance(error, OrchError) else OrchError(self.fault)] * len(requests)
            records = []
        else:
            self._retained = []
            self._note_faults()
        try:
            self._act(records, now)
        finally:  # what is in the log is done, whatever comes of it outside
            _reply(requests, answers)
        return records

    def _note_faults(self) -> None:
        """A step was committed: what was wrong before is over, but for what can be seen to be wrong now."""
        self.faults.pop("log", None)
        self.faults.pop("error", None)
        for kind, found in (("journal", self.gate.log.journal_fault), ("disk", self._room.lack)):
            if found:
                self.faults[kind] = found
            else:
                self.faults.pop(kind, None)

    def _decide(
        self, taken: list[Report | Result], requests: list[Request], now: float
    ) -> tuple[list[Record], list[dict[str, Any] | Exception]]:
        """Write all of it into one draft and commit that; returns the records and the answers to the requests."""
        draft = self.gate.draft(now + self._drift)
        for item in taken:
            self._take_in(item, draft, now)
        answers = [self._answer(request, draft, now) for request in requests]
        self._fire_timers(draft, now)
        self._starting.come_due(draft, now, self._drift)
        self._starting.note_depths(draft, now, self._drift)
        for unit in draft.units_changed():
            self._starting.reckon(unit, now, self._drift)
        free = self.ending is None and self._astray is None and not draft.dispatch_paused
        if self._has_room(draft, now) and free:
            self._starting.start(draft)
        with metrics.COMMIT.time():
            records = self.gate.commit(draft)
        for trigger, number in Counter(row.trigger for row in records if type(row) is Transition).items():
            metrics.TRANSITIONS.labels(trigger).inc(number)
        return records, answers

    def _retain(self, taken: list[Report | Result], error: Exception, now: float) -> None:
        """Nothing was committed: keep what came in for the next try, and say so."""
        if isinstance(error, StoreError):
            self.faults["log"] = f"{error}; nothing is lost, nothing new is started, and it is tried again every second"
        else:
            logger.exception("a step of the scheduler failed")
            self.faults["error"] = _unexpected(error)
        self._retained = taken
        self._reports.forget()
        for item in taken:
            if not isinstance(item, Said | Prepared):
                self._live.setdefault(item.unit, item.attempt)
        self._rebuild(now)
        heapq.heappush(self._timers, (now + STORE_RETRY, "store", "", 0))

    def _take_in(self, item: Report | Result, draft: Draft, now: float) -> None:
        """Let a report make its moves; one that can't be understood harms no other."""
        unit, attempt = item.unit, item.attempt
        trial = draft.nested()
        try:
            settled = self._reports.take(item, trial)
        except Exception as error:
            logger.exception("the report of %s, attempt %s, could not be used", unit, attempt)
            trial = draft.nested()
            settled = not isinstance(item, Said | Prepared)
            self._reports.fail_unexpectedly(trial, unit, attempt, error)
        draft.merge(trial)
        if isinstance(item, Report):  # what has ended is no longer silent either, however long git takes with it
            self._silence.sign(unit, now, self._drift)
        if not settled and not isinstance(item, Said):
            self._in_git.add(unit)
        if settled and self._live.get(unit) == attempt:
            del self._live[unit]
            self._stopping.discard((unit, attempt))
            self._silence.forget(unit)
            self._in_git.discard(unit)
        if draft.has(unit):
            self._starting.reckon(draft.unit(unit), now, self._drift)

    def _answer(self, request: Request, draft: Draft, now: float) -> dict[str, Any] | Exception:
        if request.kind == "close":
            self._close(request.args["how"])
            return {}
        trial = draft.nested()
        try:
            answer = carry_out(request, trial, Context(self.project, self._live))
        except OrchError as error:
            return error
        except Exception as error:
            logger.exception("request %s failed", request.kind)
            return OrchError(
                f"{request.kind} failed unexpectedly ({type(error).__name__}: {error}); see the server's log"
            )
        draft.merge(trial)
        return answer

    def _fire_timers(self, draft: Draft, now: float) -> None:
        while self._timers and self._timers[0][0] <= now:
            _, kind, name, number = heapq.heappop(self._timers)
            if kind == "disk":
                self._looks = False
            if not draft.has(name):
                continue
            unit = draft.unit(name)
            if kind == "silence" and unit.attempt == number and unit.status is Status.RUNNING:
                self._check_silence(draft, unit, now)

    def _has_room(self, draft: Draft, now: float) -> bool:
        """Whether the disk has room to start anything; a change of that is noted in the log."""
        before, lack = self._room.lack, self._room.look(now)
        if bool(before) != bool(lack):
            level, message = ("warning", lack) if lack else ("info", "there is disk space again: attempts are started")
            draft.event(None, "disk", actor=SCHEDULER, cause=new_cause(), level=level, message=message)
        return lack is None

    # -- acting on what was committed

    def _act(self, records: Sequence[Record], now: float) -> None:
        """Do outside what the committed moves say."""
        git_work, self._reports.git_work = self._reports.git_work, []
        for work in git_work:
            work()
        undelivered, self._undelivered = self._undelivered, set()
        for name in sorted(undelivered):
            if self._may_go_on(self.board.row(name)):
                self._deliver(self.board.row(name))
        specs: list[AttemptSpec] = []
        moved: dict[str, None] = {}
        for row in records:
            if type(row) is not Transition:
                continue
            if row.trigger is Trigger.SUBMIT:
                continue  # nothing follows outside, and the queue has it since it was decided
            moved[row.unit] = None
            unit = self.board.row(row.unit)
            if row.trigger is Trigger.START and unit.attempt == row.attempt:
                self._live[row.unit] = row.attempt
                self._silence.sign(row.unit, now, self._drift)
                self._begin(unit, specs, now)
            elif row.trigger is Trigger.CONTINUE:
                self._silence.sign(row.unit, now, self._drift)
                self._deliver(unit)
                self._watch_for_silence(unit, now)
            elif row.trigger is Trigger.FINISH and self._crew is not None:
                self._crew.clean(row.unit, merged=self._phase(unit).kind == "merge")
        for name in moved:
            unit = self.board.row(name)
            self._starting.reckon(unit, now, self._drift)
            attempt = self._live.get(name)
            if attempt is not None and not (unit.attempt == attempt and self._may_go_on(unit)):
                self._stop(name, attempt)
        if self.project.low_disk and not self._looks and (self._live or self._room.lack):
            self._looks = True
            heapq.heappush(self._timers, (now + DISK_LOOK, "disk", "", 0))
        specs += [spec for spec in self._reports.prepared if self._still_wanted(spec, now)]
        self._reports.prepared = []
        if specs:
            self.executor.start(specs)
            self._in_git.difference_update(spec.unit for spec in specs)

    def _still_wanted(self, spec: AttemptSpec, now: float) -> bool:
        """Whether an attempt whose worktree is ready by now should still start."""
        unit = self.board.row(spec.unit)
        if unit.status is Status.RUNNING and unit.attempt == spec.attempt and self.ending is not Stop.AGENTS:
            return True
        if self._live.get(spec.unit) == spec.attempt:
            del self._live[spec.unit]
            heapq.heappush(self._timers, (now, "freed", "", 0))  # its slot is for another one
        self._starting.reckon(unit, now, self._drift)
        return False

    def _begin(self, unit: Unit, specs: list[AttemptSpec], now: float) -> None:
        phase = self._phase(unit)
        self._in_git.add(unit.name)
        if phase.kind == "merge":
            self._crew.build_merge(unit.name, unit.attempt, to_verify=self.project.verify is not None)
        elif self._crew is not None:
            self._crew.prepare(unit.name, unit.attempt, unit.base)
        else:
            specs.append(spec_for(self.project, unit, phase, self.project.root))
        self._watch_for_silence(unit, now)

    def _stop(self, name: str, attempt: int) -> None:
        if (name, attempt) not in self._stopping:
            self._stopping.add((name, attempt))
            self.executor.stop(name, attempt, self.project.grace)

    def _deliver(self, unit: Unit) -> None:
        """Hand the answers that it may not have yet to the agent that waits for them."""
        try:
            for answer in unit.answers:
                if answer.get("attempt") == unit.attempt:
                    deliver_answer(self.project, unit.name, unit.attempt, answer)
        except OSError as error:
            logger.warning("the answer could not be written for %s, it is tried again: %s", unit.name, error)
            self._undelivered.add(unit.name)
            heapq.heappush(self._timers, (self.clock() + STORE_RETRY, "answer", "", 0))

    # -- silence

    def _watch_for_silence(self, unit: Unit, now: float) -> None:
        stall = self._phase(unit).stall
        if stall:
            heapq.heappush(self._timers, (now + stall, "silence", unit.name, unit.attempt))

    def _check_silence(self, draft: Draft, unit: Unit, now: float) -> None:
        phase = self._phase(unit)
        if not phase.stall or self._live.get(unit.name) != unit.attempt:
            return
        if self.board.row(unit.name).status is not Status.RUNNING:
            return  # it goes on only now, with an answer, and is watched from now on
        silent = self._silence.of(unit, now, self._drift)
        if silent < phase.stall:
            due = now + max(phase.stall - silent, 0.01)
            heapq.heappush(self._timers, (due, "silence", unit.name, unit.attempt))
            return
        last = output_tail(self.project, unit.name, unit.attempt, 500)
        decision = outcome.of_silence(self.project, unit, phase, silent, last, draft.now, self._chance)
        draft.move(
            unit.name,
            decision.trigger,
            actor=SCHEDULER,
            cause=new_cause(),
            reason=decision.reason,
            fields=decision.fields,
            item=decision.item,
        )

    # -- the end

    def _close(self, how: Stop) -> None:
        """From here on nothing starts. What runs is awaited, left to the supervisor, or stopped."""
        if how.outdoes(self.ending):
            self.ending = how
        if self.ending is Stop.AGENTS:
            for name, attempt in list(self._live.items()):
                self._stop(name, attempt)


def _reply(requests: Sequence[Request], answers: Sequence[dict[str, Any] | Exception]) -> None:
    for request, answer in zip(requests, answers, strict=True):
        if not request.future.set_running_or_notify_cancel():
            continue
        if isinstance(answer, Exception):
            request.future.set_exception(answer)
        else:
            request.future.set_result(answer)


def _unexpected(error: Exception) -> str:
    return f"the scheduler met an unexpected error ({type(error).__name__}: {error}); see the server's log"
