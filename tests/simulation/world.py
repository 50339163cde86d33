"""One history: the real scheduler between a fake outside and a plan of what happens."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import random
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

from orchestrator_app import disk as disk_module
from orchestrator_app import scheduler as scheduler_module
from orchestrator_app.errors import OrchError
from orchestrator_app.gate import Gate
from orchestrator_app.model import Board
from orchestrator_app.reports import Reports
from orchestrator_app.requests import Request
from orchestrator_app.scheduler import Scheduler
from orchestrator_app.states import Status
from orchestrator_app.store.records import Record

from .clients import Client, Onlooker
from .fake_disk import Crash, Disk
from .fake_host import Host, HostExecutor, Key, Process, Violation
from .fake_repository import FakeCrew, Repository, cwd_is_worktree
from .ledger import Ledger
from .plan import Luck, Plan

START = 1_700_000_000.0
PLENTY = 1 << 40


class World:
    """Everything of one history. `server` parts are None while no server runs."""

    def __init__(self, plan: Plan, disk: Any = None) -> None:
        self.plan = plan
        self.project = plan.project
        self.now = 1_000.0
        self.set_by = START
        #: It dies at the point with that number from here, or at the next one that has this in its name.
        self.fuse, self.aim = 0, ""
        self.where = ""
        self.story: list[tuple] = []
        self.host = Host(lambda: (self.now, self.wall))
        self.host.on_spawn = self._agent_begins
        self.repository = Repository(self.host, lambda *merge: self.ledger.recorded(*merge))
        self.ledger = Ledger(self.project, self.host, self.repository)
        self.disk = (disk or Disk)(self.point, self.audit)
        self.clients = [Client(), Client()]
        self.chance = random.Random(plan.seed)
        self.scheduler: Scheduler | None = None
        self.boots = 0
        self.stopping = False
        self.free = PLENTY
        self.watcher_raises = 0
        self.watched_closely = any(op.kind == "watcher_raises" for op in plan.ops)
        self.answer_fails = 0
        #: Commits that people make on the base branch while all comes to its end.
        self.strangers = self.chance.choice([0, 0, 2])
        self.asked = 0
        self.waiting: list[Request] = []
        self.checks = 0

    @property
    def wall(self) -> float:
        return self.now + self.set_by

    @property
    def up(self) -> bool:
        return self.scheduler is not None

    def tell(self, *words: Any) -> None:
        self.story.append(words)

    # -- what the outside calls

    def point(self, where: str) -> None:
        """A place where the server may be killed."""
        if self.fuse or self.aim:
            self.fuse -= 1
            if not self.fuse or (self.aim and self.aim in where):
                self.where = where
                raise Crash(where)

    def audit(self, records: list[Record]) -> None:
        self.tell("commit", records)
        self.ledger.take(records, self.now, self.wall)

    def _agent_begins(self, process: Process) -> None:
        unit, attempt = process.key
        self.tell("agent begins", *process.key, process.spec.phase)
        if cwd_is_worktree(process.spec.cwd) and process.spec.phase == "IMPLEMENT":
            if "conflicts with" in process.spec.env["ORCH_FEEDBACK"]:
                self.repository.take_in_base(unit)
            self.repository.work(unit, (f"f{int(unit[1:]) % 3}", f"{unit}/{attempt}"))

    def deliver(self, project: Any, unit: str, attempt: int, answer: dict[str, Any]) -> None:
        """`agents.command.deliver_answer`, to a file of the fake host."""
        self.point(f"before the answer reaches {unit}/{attempt}")
        if self.answer_fails:
            self.answer_fails -= 1
            raise OSError(28, "no space left on device")
        process = self.host.processes.get((unit, attempt))
        line = {"item": answer["item"], "question": answer["question"], "answer": answer["answer"]}
        if process is not None and line not in process.answers:
            process.answers.append(line)
        self.point(f"after the answer reached {unit}/{attempt}")

    def may_stop(self, key: Key) -> None:
        row = self.ledger.units.get(key[0])
        if row is not None and row.status is Status.RUNNING and row.attempt == key[1] and not self.stopping:
            raise Violation(f"I9: {key} is stopped though it runs and nobody wants its end")

    def _watcher(self, records: Any) -> None:
        self.point("in a watcher")
        if self.watcher_raises:
            self.watcher_raises -= 1
            raise RuntimeError("a watcher that is broken")

    # -- the server's life

    def boot(self) -> None:
        """Start a server, as `Orchestrator.open` and `Scheduler.start` do."""
        if self.up:
            return
        self.boots += 1
        self.tell("boot", self.boots)
        self.ledger.boots(self.now, self.set_by)
        try:
            self.log = self.disk.open()
            self.board = Board()
            gate = Gate(self.log, self.board)
            gate.replay()
            self.executor = HostExecutor(self.host, self.point, self.may_stop)
            self.scheduler = Scheduler(
                self.project,
                gate,
                self.executor,
                self._hire if self.project.isolation == "worktree" else None,
                chance=self.chance,
                clock=lambda: self.now,
                wall=lambda: self.wall,
            )
            self.onlooker = Onlooker(self.board)
            self.board.watch(self._watcher)
            if self.watched_closely:
                self.board.param.watch(self._watcher, "transition")
            self.scheduler.recover()
        except Crash:
            self.crashed()

    def _hire(self, post: Any) -> FakeCrew:
        self.repository.orphans.clear()  # a crew begins by ending what an earlier server's git does
        self.crew = FakeCrew(self.project, self.repository, self.host, self.point, post)
        return self.crew

    def crashed(self) -> None:
        """What was in memory is gone. Of what was on its way to the host, a part arrives."""
        self.tell("crash", self.where)
        self.fuse, self.aim = 0, ""
        luck = Luck(hash((self.plan.seed, self.boots, len(self.disk.records))) & 0xFFFFFFFF)
        wire = self.host.wire
        arrived = luck.below(len(wire) + 1)
        if len(wire) > arrived:
            self.tell("lost on the wire", len(wire) - arrived)
        self.host.receive(arrived)
        self.host.wire.clear()
        if self.scheduler is not None and self.project.isolation == "worktree":
            orphans = [piece.moves for piece in self.crew.pieces if piece.moves is not None]
            self.repository.orphans += [moves for moves in orphans if luck.once_in(2)]
        for request in self.waiting:
            self.tell("unknown", request.kind, request.unit)
        self.waiting.clear()
        for client in self.clients:
            client.forget()
        self.scheduler = None
        self.disk.drop(self.log)

    def step(self) -> None:
        """One step of the server, as its thread makes it."""
        if not self.up:
            return
        self.host.tick()
        try:
            reports = self.executor.wait(0)
            for report in reports:
                if report.unit in self.ledger.units:
                    self.ledger.units[report.unit].sign = self.now
            try:
                if self.scheduler._astray is not None:
                    raise self.scheduler._astray
                self.scheduler.step(self.now, reports, self.wall)
                self.log.tend()
            except Exception as error:
                self.tell("starts over", repr(error))
                self.ledger.looks_anew()
                self.scheduler._start_over(error)
            self.point("after a step")
        except Crash:
            self.crashed()
            return
        self._take_replies()
        self.check()

    def wakes(self) -> bool:
        """Whether anything would have the server's thread make a step now."""
        timer = self.scheduler._next_timer(self.now)
        if timer == 0 or self.scheduler._inbox or self.scheduler._astray is not None:
            return True
        return self.executor.woken or self.executor.would_report()

    def git(self, luck: Luck) -> None:
        """One step of a piece of git work."""
        if self.repository.orphans and luck.once_in(3):
            moves = self.repository.orphans.pop(0)
            self.tell("a git that outlived its server", moves[0], self.repository.swap(*moves))
        if self.up and self.project.isolation == "worktree" and self.crew.pieces:
            try:
                self.tell("git", self.crew.go_on(luck.below(4)))
            except Crash:
                self.crashed()

    # -- requests

    def ask(self, kind: str, unit: str | None = None, version: int | None = None, **args: Any) -> None:
        """Send a request; what became of it shows after the next step."""
        if not self.up:
            return
        self.asked += 1
        request = Request(kind, unit, "operator:ann", args, f"request-{self.asked}", version)
        self.tell("request", kind, unit, args, version)
        self.waiting.append(request)
        self.scheduler.put(request)

    def _take_replies(self) -> None:
        for request in self.waiting:
            if not request.future.done():
                raise Violation(f"I6: {request.kind} {request.unit} got no reply")
            rows = self.disk.by_cause.get(request.cause, ())
            error = request.future.exception()
            if error is not None:
                self.tell("refused", request.kind, request.unit, str(error))
                self._check_refusal(request, error, rows)
                continue
            answer = request.future.result()
            self.tell("granted", request.kind, request.unit, answer.get("seq"))
            if request.kind not in ("see", "close") and not rows:
                raise Violation(f"I6: {request.kind} {request.unit} was granted, and the log knows nothing of it")
            if request.version is not None and rows[0].version != request.version + 1:
                raise Violation(f"I6: {request.kind} {request.unit} was granted over a version nobody had seen")
        self.waiting.clear()

    def _check_refusal(self, request: Request, error: BaseException, rows: Any) -> None:
        if rows:
            raise Violation(f"I6: {request.kind} {request.unit} was refused ({error}), and the log has it")
        if not isinstance(error, OrchError) or not str(error) or "\n" in str(error):
            raise Violation(f"I6: {request.kind} was refused without a line that says why: {error!r}")
        if "unexpected" in str(error):
            raise Violation(f"I6: {request.kind} {request.unit} {request.args}: {error}")

    # -- what holds after every step

    def check(self) -> None:
        board, durable = self.board, len(self.disk.records)
        if not board.seq == self.onlooker.seen == durable == self.log.seq:
            raise Violation(f"I3: log {durable}, board {board.seq}, watcher {self.onlooker.seen}, store {self.log.seq}")
        for name, row in self.ledger.units.items():
            unit = board.units[name]
            if (unit.status, unit.version, unit.attempt) != (row.status, row.version, row.attempt):
                raise Violation(f"I3: the board has {name} as {unit.status}, version {unit.version}; the log {row}")
        for client in self.clients:
            if client.feed is not None:
                client.check_bounds(board)
        self.checks += 1
        if self.checks % 25 == 0:
            self.check_replay()

    def check_replay(self) -> None:
        """The log, read from its columns and folded anew, is what the board shows."""
        replayed = _Silent()
        replayed.fold(self.log.read())
        for name, unit in self.board.units.items():
            if replayed.units.get(name) != unit:
                raise Violation(f"I3: {name} is {unit} on the board and {replayed.units.get(name)} in the log")
        if dict(replayed.attention) != dict(self.board.attention) or replayed.counts != self.board.counts:
            raise Violation("I3: the board has other attention items, or counts, than the log")

    def digest(self) -> str:
        """One number for all that happened, but for ids that are drawn at random."""
        told = []
        for kind, *words in self.story:
            if kind == "commit":
                told += [str(row._replace(cause="") if hasattr(row, "cause") else row) for row in words[0]]
            else:
                told.append(f"{kind} {words}")
        return hashlib.sha256("\n".join(told).encode()).hexdigest()


class _Silent(Board):
    """A board that tells nobody: it is only compared."""

    def _announce(self, **values: Any) -> None: ...


class Worktree:
    """The path of a unit's worktree, as far as the product asks about it."""

    def __init__(self, world: World, unit: str) -> None:
        self._world = world
        self._unit = unit

    def __str__(self) -> str:
        return f".orchestrator/worktrees/{self._unit}"

    def is_dir(self) -> bool:
        return self._unit in self._world.repository.worktrees


@contextlib.contextmanager
def simulated(world: World) -> Iterator[None]:
    """The few places where the product reaches outside without being given what it reaches lead into `world`."""
    replaced: list[tuple[Any, str, Any]] = []

    def put(module: Any, name: str, value: Any) -> None:
        replaced.append((module, name, getattr(module, name)))
        setattr(module, name, value)

    for module in [module for name, module in sys.modules.items() if name.startswith("orchestrator_app.")]:
        if hasattr(module, "deliver_answer") and not module.__name__.endswith("agents.command"):
            put(module, "deliver_answer", world.deliver)
    put(Reports, "_worktree_of", lambda reports, unit: Worktree(world, unit.name))
    put(scheduler_module, "ERROR_PAUSE", 0)
    put(disk_module, "shutil", SimpleNamespace(disk_usage=lambda path: SimpleNamespace(free=world.free)))
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(level)
        for module, name, value in reversed(replaced):
            setattr(module, name, value)
