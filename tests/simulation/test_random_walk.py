"""Any order of requests, outcomes, failures and restarts ends with log = model = what a subscriber saw.

The real scheduler, gate, log and model, moved by hand: only the executor is the shipped fake, and time stands still
until it is moved. A commit fails because the process may write to no file; a crash closes nothing in order.
"""

from __future__ import annotations

import random
import resource
import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from orchestrator_app.errors import OrchError
from orchestrator_app.executors.base import Exited
from orchestrator_app.orchestrator import Orchestrator
from orchestrator_app.settings import load_project
from orchestrator_app.states import Status, Trigger
from orchestrator_app.store.records import Transition
from orchestrator_app.testing import FakeExecutor, HandClock, Subscriber, assert_consistent

SETTINGS = """
[project]
slots = 2
touches = "{touches}"
label_slots = {{gpu = 1}}
[workflow]
isolation = "none"
phases = ["PLAN", "IMPLEMENT", "REVIEW"]
[phases.IMPLEMENT]
retries = 1
stall = 600
[phases.REVIEW]
back_to = "IMPLEMENT"
reworks = 1
[agents.any]
command = ["true"]
"""
NAMES = [f"u{number}" for number in range(7)]
names = st.sampled_from(NAMES)
lists_of_names = st.lists(names, max_size=2, unique=True)


class Walk(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.clock = HandClock()
        self.executor = FakeExecutor(self.clock)
        self.acknowledged: list[tuple[str, int]] = []
        self.resumed: set[tuple[str, int]] = set()
        self.touches = "serialize"
        self.checks = 0
        self.boot()

    def boot(self) -> None:
        (self.folder / "orchestrator.toml").write_text(SETTINGS.format(touches=self.touches))
        self.orchestrator = Orchestrator(
            load_project(self.folder), executor=self.executor, clock=self.clock, chance=random.Random(1)
        )
        self.scheduler = self.orchestrator.open()
        self.subscriber = Subscriber(self.orchestrator.board)
        self.subscriber.mirror.fold(self.orchestrator.log.read())
        self.scheduler.recover()
        self.step()

    def step(self) -> None:
        for row in self.scheduler.step(self.clock(), self.executor.wait(0)):
            if type(row) is Transition and row.trigger is Trigger.CONTINUE:
                self.resumed.add((row.unit, row.attempt))

    def ask(self, kind: str, unit: str | None = None, **args) -> bool:
        """Send a request and step; whether it was granted."""
        future = self.orchestrator.request(kind, unit, actor="operator:walk", **args)
        self.step()
        try:
            answer = future.result(0)
        except OrchError as error:
            assert str(error) and "\n" not in str(error)
            return False
        self.acknowledged.append((kind, answer["seq"]))
        return True

    @property
    def board(self):
        return self.orchestrator.board

    def some(self, data, *statuses: Status) -> str:
        """A unit that exists, in one of these statuses if there is one."""
        units = sorted(self.board.units)
        fitting = [name for name in units if self.board.row(name).status in statuses]
        return data.draw(st.sampled_from(fitting or units))

    @initialize(
        after=st.lists(st.lists(st.integers(0, 5), max_size=2, unique=True), min_size=6, max_size=6),
        touching=st.sets(st.integers(0, 5)),
        touches=st.sampled_from(["serialize", "ask", "ignore"]),
    )
    def begin(self, after, touching, touches):
        self.orchestrator.stop()
        self.touches = touches
        self.boot()
        units = [
            {
                "name": f"u{number}",
                "after": [f"u{one}" for one in after[number] if one < number],
                "touches": ["src/**"] if number in touching else [],
                "labels": ["gpu"] if number % 3 == 0 else [],
            }
            for number in range(6)
        ]
        assert self.ask("submit", units=units)

    # -- requests

    @rule(
        names=st.lists(names, min_size=1, max_size=3, unique=True),
        after=lists_of_names,
        touches=st.booleans(),
        gpu=st.booleans(),
        priority=st.integers(-2, 2),
    )
    def submit(self, names, after, touches, gpu, priority):
        shared = {"after": after, "priority": priority, "labels": ["gpu"] if gpu else []}
        before = len(self.board.units)
        granted = self.ask(
            "submit", units=[{"name": name, "touches": ["src/**"] if touches else [], **shared} for name in names]
        )
        assert len(self.board.units) == before + (len(names) if granted else 0)

    @rule(data=st.data(), kind=st.sampled_from(["cancel", "pause"]))
    def hold(self, data, kind):
        self.ask(kind, self.some(data, Status.READY, Status.BLOCKED, Status.RUNNING, Status.NEEDS_ATTENTION))

    @rule(data=st.data())
    def restart(self, data):
        unit = self.some(data, Status.RUNNING)
        running = self.board.row(unit).status is Status.RUNNING
        assert self.ask("restart", unit) == running

    @rule(data=st.data())
    def comment(self, data):
        unit = self.some(data, Status.RUNNING, Status.READY, Status.NEEDS_ATTENTION)
        granted = self.ask("comment", unit, text="mind the gap", file="a.py", line=3)
        assert granted == (not self.board.row(unit).ended)

    @rule(data=st.data())
    def let_go(self, data):
        unit = self.some(data, Status.PAUSED, Status.CANCELLED)
        self.ask("resume" if self.board.row(unit).status is Status.PAUSED else "reopen", unit)

    @rule(
        data=st.data(),
        kind=st.sampled_from(["approve", "reject", "retry", "accept", "answer", "answer"]),
        text=st.sampled_from(["yes", "wait", "approve", ""]),
    )
    def decide(self, data, kind, text):
        args = {"answer": {"text": text}, "accept": {"reason": "good enough"}}.get(kind, {})
        unit = self.some(data, Status.NEEDS_ATTENTION)
        item = data.draw(st.sampled_from([None, *self.items_of(unit)]))
        still_open = item is None or item in self.board.attention
        assert not self.ask(kind, unit, item=item, **args) or still_open

    def items_of(self, unit: str) -> list[int]:
        """Every item that the unit ever had."""
        rows = self.orchestrator.rows("SELECT DISTINCT item FROM attention_change WHERE unit = ? ORDER BY item", [unit])
        return [row["item"] for row in rows]

    @rule(data=st.data(), other=names, ruling=st.sampled_from(["serialize", "parallelize"]))
    def resolve(self, data, other, ruling):
        self.ask("resolve", self.some(data, Status.NEEDS_ATTENTION), other=other, ruling=ruling)

    @rule(data=st.data(), after=lists_of_names, priority=st.integers(-3, 3), stale=st.booleans())
    def edit(self, data, after, priority, stale):
        unit = self.some(data, Status.READY, Status.BLOCKED, Status.RUNNING)
        version = self.board.row(unit).version - 1 if stale else None
        granted = self.ask("edit", unit, version=version, set={"after": after, "priority": priority})
        assert not (granted and version is not None)

    @rule(paused=st.booleans())
    def dispatch(self, paused):
        self.ask("dispatch", paused=paused)

    # -- what attempts do

    def _one(self, data):
        return data.draw(st.sampled_from(sorted(name for name, _ in self.executor.running)))

    @precondition(lambda self: self.executor.running)
    @rule(data=st.data())
    def passes(self, data):
        self.executor.exits(self._one(data))
        self.step()

    @precondition(lambda self: self.executor.running)
    @rule(data=st.data(), code=st.sampled_from([1, 75]))
    def fails(self, data, code):
        self.executor.exits(self._one(data), code)
        self.step()

    @precondition(lambda self: self.executor.running)
    @rule(
        data=st.data(),
        message=st.sampled_from(
            [
                {"type": "ask", "question": "which?"},
                {"type": "ask", "kind": "approval", "question": "may I?"},
                {"type": "progress", "percent": 5},
                {"type": "review", "decision": "changes", "feedback": "more tests"},
                {"type": "review", "decision": "escalate"},
                {"type": "defer", "until": "2023-11-15T00:00:00Z"},
                {"type": "usage", "input_tokens": 3},
                {"type": "session", "id": "s"},
                {"type": "nonsense"},
            ]
        ),
    )
    def says(self, data, message):
        self.executor.says(self._one(data), **message)
        self.step()

    @precondition(lambda self: any(attempt > 1 for _, attempt in self.executor.running))
    @rule(data=st.data())
    def a_late_exit_of_a_fenced_attempt_arrives(self, data):
        unit = self._one(data)
        attempt = self.executor.attempt_of(unit)
        before = self.board.row(unit).version
        self.scheduler.step(
            self.clock(), [Exited(unit, attempt - 1, 0, None, "exit", "", self.clock(), self.clock(), 0)]
        )
        assert self.board.row(unit).version == before or attempt == 1

    @precondition(lambda self: self.executor.stopped)
    @rule()
    def stopped_attempts_end(self):
        self.executor.ends_as_told()
        self.step()

    @rule(seconds=st.sampled_from([1, 5, 700]))
    def time_passes(self, seconds):
        self.clock.forward(seconds)
        self.step()

    # -- what goes wrong

    @rule(data=st.data(), kind=st.sampled_from(["cancel", "exit", "submit"]))
    def the_disk_is_full(self, data, kind):
        before = self.board.seq
        unit = self.some(data, Status.READY, Status.RUNNING)
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1, limits[1]))
        try:
            if self.executor.running and kind == "exit":
                self.executor.exits(self._one(data))
            args = {"units": [{"name": "u7"}]} if kind == "submit" else {}
            granted = self.ask("submit" if kind == "submit" else "cancel", None if kind == "submit" else unit, **args)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert not granted and self.board.seq == before
        self.clock.forward(2)
        self.step()
        assert self.scheduler.fault is None

    @rule(lost=st.booleans())
    def the_server_is_killed_and_started_again(self, lost):
        self.orchestrator.log._connection.close()
        self.orchestrator.log._journal.close()
        if lost and self.executor.running:
            self.executor.running.pop(next(iter(self.executor.running)))
        self.executor.stopped = []
        self.boot()

    # -- what holds at every moment

    @invariant()
    def slots_and_blockers_are_respected(self):
        waiting = {n for n, _ in self.executor.running if self.board.row(n).status is Status.NEEDS_ATTENTION}
        # One that waited and was answered, or was silent and spoke, goes on at once, whoever took its slot meanwhile.
        resumed = {n for n, attempt in self.executor.running if (n, attempt) in self.resumed}
        # And one that waited, and was then held or withdrawn, is still on its way out.
        leaving = {n for n, attempt in self.executor.running if (n, attempt) in self.executor.stopped}
        assert len(self.executor.running) - len(waiting | resumed | leaving) <= 2
        for unit in self.board.units.values():
            if unit.status is Status.RUNNING:
                assert (unit.name, unit.attempt) in self.executor.running

    @invariant()
    def log_model_and_subscriber_agree(self):
        self.checks += 1
        if self.checks % 5:  # it replays the whole log; a fault of an earlier step is still there four steps later
            return
        assert_consistent(self.orchestrator.log, self.board, self.subscriber)
        assert all(seq <= self.board.seq for _, seq in self.acknowledged)

    def teardown(self):
        try:
            self.everything_ends_once_the_faults_stop()
        finally:
            self.orchestrator.stop()
            shutil.rmtree(self.folder)

    def everything_ends_once_the_faults_stop(self):
        self.ask("dispatch", paused=False)
        for _ in range(200):
            self.executor.ends_as_told()
            for unit, attempt in list(self.executor.running):
                if (unit, attempt) in self.executor.running:
                    self.executor.exits(unit)
            self.clock.forward(100_000)
            self.step()
            for unit in list(self.board.units.values()):
                match unit.status:
                    case Status.NEEDS_ATTENTION:
                        self.ask("accept", unit.name, reason="the walk ends")
                    case Status.PAUSED:
                        self.ask("resume", unit.name)
                    case Status.CANCELLED:
                        self.ask("reopen", unit.name)
            if all(unit.status is Status.DONE for unit in self.board.units.values()):
                break
        assert all(unit.status is Status.DONE for unit in self.board.units.values()), self.board.counts
        assert_consistent(self.orchestrator.log, self.board, self.subscriber)
        assert not self.executor.running and not self.board.attention


TestWalk = Walk.TestCase
TestWalk.settings = settings(
    max_examples=60,
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
