"""A unit in every status that hands can find it in, many at once, in a project moved by hand."""

from __future__ import annotations

import random
from concurrent.futures import Future
from typing import Any

from orchestrator_app.orchestrator import Orchestrator
from orchestrator_app.settings import load_project
from orchestrator_app.testing import FakeExecutor, HandClock, Subscriber

SETTINGS = """
[project]
slots = 1000
touches = "ask"
[workflow]
isolation = "none"
phases = ["IMPLEMENT"]
[phases.IMPLEMENT]
retries = 0
stall = 600
[agents.any]
command = ["true"]
"""

#: What people may ask of a unit, as each is said in the tests.
ASKS: dict[str, tuple[str, dict[str, Any]]] = {
    "answer": ("answer", {"text": "wait"}),
    "approve": ("approve", {}),
    "reject": ("reject", {}),
    "retry": ("retry", {}),
    "accept": ("accept", {"reason": "good enough"}),
    "serialize": ("resolve", {"other": "other", "ruling": "serialize"}),
    "parallelize": ("resolve", {"other": "other", "ruling": "parallelize"}),
    "cancel": ("cancel", {}),
    "pause": ("pause", {}),
    "resume": ("resume", {}),
    "restart": ("restart", {}),
    "reopen": ("reopen", {}),
    "edit": ("edit", {"set": {"priority": 7}}),
    "comment": ("comment", {"text": "mind the tests"}),
}

#: Where hands can find a unit (its status, and of one that needs a person, why), and what may be asked of it there.
POSSIBLE = {
    "READY": "cancel pause edit comment",
    "BLOCKED": "cancel pause edit comment",
    "RUNNING": "cancel pause restart edit comment",
    "PAUSED": "cancel resume edit comment",
    "CANCELLED": "reopen edit",
    "DONE": "edit",
    "question": "answer retry accept serialize parallelize cancel pause edit comment",
    "question, agent alive": "answer retry accept serialize parallelize cancel pause edit comment",
    "approval": "answer approve reject retry accept serialize parallelize cancel pause edit comment",
    "error": "retry accept serialize parallelize cancel pause edit comment",
    "stall": "answer retry accept serialize parallelize cancel pause edit comment",
    "conflict": "retry accept serialize parallelize cancel pause edit comment",
}


class World:
    """A project moved by hand. `now` is the scheduler's step."""

    def __init__(self, folder) -> None:
        (folder / "orchestrator.toml").write_text(SETTINGS)
        self.folder = folder
        self.clock = HandClock()
        self.executor = FakeExecutor(self.clock)
        self.boot()

    def boot(self) -> None:
        self.orchestrator = Orchestrator(
            load_project(self.folder), executor=self.executor, clock=self.clock, chance=random.Random(0)
        )
        self.scheduler = self.orchestrator.open()
        self.board = self.orchestrator.board
        self.subscriber = Subscriber(self.board)
        self.subscriber.mirror.fold(self.orchestrator.log.read())

    def restart(self) -> None:
        """As after a kill: a new server reads the log."""
        self.orchestrator.log.close()
        self.boot()
        self.scheduler.recover()

    def step(self, seconds: float = 0.0) -> None:
        self.clock.forward(seconds)
        self.scheduler.step(self.clock(), self.executor.wait(0))

    def queue(self, who: str, kind: str, unit: str | None = None, **args: Any) -> Future:
        return self.orchestrator.request(kind, unit, actor=f"operator:{who}", **args)

    def ask(self, who: str, kind: str, unit: str | None = None, **args: Any) -> dict[str, Any]:
        future = self.queue(who, kind, unit, **args)
        self.step()
        return future.result(0)

    def say(self, who: str, what: str, unit: str, **more: Any) -> Future:
        """Queue one of ASKS."""
        kind, args = ASKS[what]
        return self.queue(who, kind, unit, **args, **more)

    def bring(self, place: str, names: list[str]) -> None:
        """Submit units and bring them to a place of POSSIBLE. Dispatch is held afterwards where they must not start."""
        self.ask("sys", "dispatch", paused=True)
        self.ask("sys", "submit", units=[{"name": "other", "priority": 1, "touches": ["src/**"]}])
        self.bring_more(place, names)

    def bring_more(self, place: str, names: list[str]) -> None:
        fields: dict[str, Any] = {"after": ["other"]} if place == "BLOCKED" else {}
        if place == "conflict":
            fields = {"touches": ["src/main.py"]}
        self.ask("sys", "submit", units=[{"name": name, **fields} for name in names])
        if place not in ("READY", "BLOCKED"):
            self.ask("sys", "dispatch", paused=False)
        for name in names:
            (self.folder / ".orchestrator" / "runs" / name / "1").mkdir(
                parents=True
            )  # an attempt's; no process makes it
            match place:
                case "question" | "question, agent alive" | "approval":
                    kind = "approval" if place == "approval" else "question"
                    self.executor.says(name, type="ask", question="Which?", kind=kind)
                case "error":
                    self.executor.exits(name, 1)
                case "DONE":
                    self.executor.exits(name, 0)
                case "PAUSED" | "CANCELLED":
                    self.queue("sys", "pause" if place == "PAUSED" else "cancel", name)
        self.step(601.0 if place == "stall" else 0.0)
        for name in names:
            if place in ("question", "approval"):
                self.executor.exits(name)
        self.executor.ends_as_told()
        self.step()

    def rows(self, unit: str) -> list[dict[str, Any]]:
        return self.orchestrator.rows(
            "SELECT seq, version, trigger, to_status, actor, cause, reason FROM transition WHERE unit = ? ORDER BY seq",
            [unit],
        )
