"""The orchestrator of one project, wired together: start it, send it requests, watch its board, stop it."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any

from orchestrator_app.errors import NoServerError, OrchError, SettingsError, WatcherWriteError
from orchestrator_app.executors.base import Executor
from orchestrator_app.executors.local import LocalExecutor
from orchestrator_app.gate import Gate, new_cause
from orchestrator_app.model import Board, folding
from orchestrator_app.operators import default_operator
from orchestrator_app.policy.fit import misfits
from orchestrator_app.repeats import cause_of
from orchestrator_app.requests import KINDS, Request, prepared
from orchestrator_app.scheduler import OVER, Scheduler
from orchestrator_app.settings import FILE_NAME, Project
from orchestrator_app.stopping import Stop
from orchestrator_app.store.exporter import Exporter
from orchestrator_app.store.log import Log
from orchestrator_app.workspace.crew import Crew
from orchestrator_app.workspace.worktrees import check_repository

#: So many of the units that a drain waits for are named in one line.
NAMED = 5


class Orchestrator:
    """One project's scheduler, log and model. Everything public may be called from any thread.

    `executor`, `clock`, `wall` and `chance` are for tests; left out, attempts are real processes in real time. `clock`
    is steady and decides when something is due; `wall` (where only `clock` is given, that one) says what is written.
    """

    def __init__(
        self,
        project: Project,
        *,
        executor: Executor | None = None,
        clock: Callable[[], float] | None = None,
        wall: Callable[[], float] | None = None,
        chance: random.Random | None = None,
    ) -> None:
        self.project = project
        self.board = Board()
        self._executor = executor
        self._clock = clock or time.monotonic
        self._wall = wall or clock or time.time
        self._chance = chance
        self._scheduler: Scheduler | None = None
        self._closing = threading.Lock()
        self.log: Log | None = None
        self.exporter: Exporter | None = None
        self.started_at: float | None = None

    def open(self) -> Scheduler:
        """Everything but the thread: check the project, open the log, bring the model up to it. For step-wise tests."""
        project = self.project
        if project.isolation == "worktree":
            check_repository(project.root, project.base)
        project.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        executor = self._executor or LocalExecutor(project.state)
        executor.open()
        try:
            self.log = Log(project.state)
            gate = Gate(self.log, self.board)
            gate.replay()
            self._check_settings()
            crew = partial(Crew, project) if project.isolation == "worktree" else None
            self._scheduler = Scheduler(
                project, gate, executor, crew, clock=self._clock, wall=self._wall, chance=self._chance
            )
        except BaseException:
            if self.log is not None:
                self.log.close()
            executor.close()
            raise
        self._executor = executor
        self.started_at = self._wall()
        return self._scheduler

    def _check_settings(self) -> None:
        """Unfinished units need their phases and agents: without them the scheduler could not go on."""
        found = misfits(self.project, self.board.units.values())
        if found:
            name, why = found[0]
            others = f" and {len(found) - 1} more" if len(found) > 1 else ""
            raise SettingsError(
                f"{FILE_NAME} has {why}, which {name}{others} still need: put it back until they are DONE or cancelled"
            )

    def start(self) -> None:
        """Open everything, take back what runs, start the scheduler's thread. An OrchError says what is wrong."""
        scheduler = self.open()
        self.exporter = Exporter(self.log, self.project.state / "export")
        self.board.watch(self.exporter.notice)
        self.exporter.start()
        scheduler.start()

    @property
    def alive(self) -> bool:
        """Whether there is somebody who decides: else nothing can be changed, awaited or ended."""
        scheduler = self._scheduler
        return scheduler is not None and scheduler.alive

    def stop(self, how: Stop = Stop.LEAVE) -> None:
        """End in order: the scheduler's thread, the export, the log. `how` says what becomes of running attempts.

        Returns when that is done. Called again meanwhile, a stronger `how` takes the place of the one before.
        """
        scheduler = self._scheduler
        if scheduler is None:
            return
        scheduler.stop(how)
        with self._closing:
            if self._scheduler is None:
                return
            self._scheduler = None
            self._executor.close()
            if self.exporter is not None:
                self.exporter.stop()
            self.log.close()

    def request(
        self,
        kind: str,
        unit: str | None = None,
        *,
        actor: str | None = None,
        version: int | None = None,
        key: str | None = None,
        **args: Any,
    ) -> Future:
        """Queue a request (see `requests.KINDS`) and return the Future of its answer, a dict.

        The Future raises an OrchError where the request is refused. `version` is the version of the unit that the
        requester saw; given, the request is refused when the unit has changed since. `key` is the requester's own name
        for this one wish: sent again with the same key, it is done once and answered the same.
        """
        if folding():
            raise WatcherWriteError("a watcher may not write: it observes; send the request from another thread")
        scheduler = self._scheduler  # once: a stop may take it away meanwhile
        if scheduler is None and self.log is not None:
            raise NoServerError(OVER)
        if scheduler is None:
            raise OrchError("the orchestrator is not running: start it first")
        if not scheduler.alive:
            raise OrchError(f"nothing can be changed now: {scheduler.fault}")
        if kind not in KINDS:
            raise OrchError(f"no request {kind!r}; there are {', '.join(KINDS)}")
        actor = actor or f"operator:{default_operator()}"
        asked = {"kind": kind, "unit": unit, "version": version, "args": args}
        cause = new_cause() if key is None else cause_of(key, actor, asked)
        request = Request(kind, unit, actor, args, cause, version)
        try:
            request.args = prepared(kind, args, self.project)
        except OrchError as error:
            request.future.set_exception(error)
            return request.future
        scheduler.put(request)
        return request.future

    def rows(self, sql: str, params: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """The answer to our own SQL, read by a cursor of its own. Analysts' SQL goes to `analysis.query` instead."""
        if self.log is None:
            raise OrchError("the log is not open: start the orchestrator first")
        try:
            return self.log.rows(sql, params)
        except Exception:
            if self._scheduler is None:  # it was closed meanwhile
                raise NoServerError(OVER) from None
            raise

    def status(self) -> dict[str, Any]:
        """What a header shows: state, counts, slots, attention."""
        board, scheduler = self.board, self._scheduler
        fault = "stopped" if scheduler is None else scheduler.fault
        ending = None if scheduler is None else scheduler.ending
        awaited = [] if ending is not Stop.DRAIN else sorted(scheduler.awaited())
        counts = board.counts
        return {
            "state": _state(fault, ending, awaited),
            "ending": ending,
            "awaited": awaited,
            "seq": board.seq,
            "counts": counts,
            "running": counts["RUNNING"],
            "slots": self.project.slots,
            "attention": len(board.attention),
            "dispatch": "paused" if board.dispatch_paused else "on",
            "recovered": self.log.recovered if self.log else "",
            "pid": os.getpid(),
            "started_at": self.started_at,
            "project": str(self.project.root),
        }


def _state(fault: str | None, ending: Stop | None, awaited: Sequence[str]) -> str:
    """What a header says: that all is well, or what is wrong, or that the server comes to its end."""
    said = [f"degraded: {fault}"] if fault else []
    if ending is Stop.DRAIN:
        named = ", ".join(awaited[:NAMED]) + (f" and {len(awaited) - NAMED} more" if len(awaited) > NAMED else "")
        said.append(f"draining: nothing new is started; it waits for {named or 'nothing more'}")
    elif ending is not None:
        said.append("stopping")
    return "; ".join(said) or "ok"
