"""A project moved by hand: real scheduler, gate and log; attempts that do what the test says."""

from __future__ import annotations

import random

from orchestrator_app.orchestrator import Orchestrator
from orchestrator_app.settings import load_project
from orchestrator_app.states import Status
from orchestrator_app.testing import FakeExecutor, HandClock, Subscriber

PLAIN = """
[project]
slots = {slots}
touches = "{touches}"
label_slots = {{gpu = 1}}
[retry]
delay = 10
factor = 3
[workflow]
isolation = "none"
phases = {phases}
[phases.IMPLEMENT]
retries = 2
stall = 600
slots = {phase_slots}
on_stall = "{on_stall}"
[phases.REVIEW]
back_to = "IMPLEMENT"
reworks = 1
[agents.any]
command = ["true"]
"""


class World:
    """A project moved by hand."""

    def __init__(
        self, folder, *, slots=4, phases=("IMPLEMENT",), touches="serialize", phase_slots=0, on_stall="ask"
    ) -> None:
        phases = list(phases)
        text = PLAIN.format(slots=slots, phases=phases, touches=touches, phase_slots=phase_slots, on_stall=on_stall)
        if "REVIEW" not in phases:
            text = text.replace('[phases.REVIEW]\nback_to = "IMPLEMENT"\nreworks = 1\n', "")
        (folder / "orchestrator.toml").write_text(text)
        self.clock = HandClock()
        self.executor = FakeExecutor(self.wall)
        self.set_by = 0.0
        self.orchestrator = Orchestrator(
            load_project(folder), executor=self.executor, clock=self.clock, wall=self.wall, chance=random.Random(0)
        )
        self.scheduler = self.orchestrator.open()
        self.board = self.orchestrator.board
        self.subscriber = Subscriber(self.board)

    def wall(self) -> float:
        """The wall clock, which somebody has set by `set_by` seconds."""
        return self.clock() + self.set_by

    def step(self, seconds: float = 0.0):
        self.clock.forward(seconds)
        return self.scheduler.step(self.clock(), self.executor.wait(0), self.wall())

    def ask(self, kind, unit=None, **args):
        version = args.pop("version", None)
        future = self.orchestrator.request(kind, unit, actor="operator:ann", version=version, **args)
        self.step()
        return future.result(0)

    def submit(self, *names, **fields):
        return self.ask("submit", units=[{"name": name, **fields} for name in names])

    def exits(self, unit, code=0, **rest):
        self.executor.exits(unit, code, **rest)
        self.step()

    def says(self, unit, **message):
        self.executor.says(unit, **message)
        self.step()

    def status(self, unit) -> Status:
        return self.board.row(unit).status

    def running(self) -> set[str]:
        return {name for name, _ in self.executor.running}

    def triggers(self, unit) -> list[str]:
        rows = self.orchestrator.rows("SELECT trigger FROM transition WHERE unit = ? ORDER BY seq", [unit])
        return [row["trigger"] for row in rows]

    @property
    def item(self):
        (item,) = self.board.attention.values()
        return item
