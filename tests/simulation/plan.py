"""What a history is made of: settings and a list of operations, all drawn from the seed before anything happens.

An operation carries its own random number and looks at nothing but the world when its turn comes. So operations can be
left out without shifting the luck of the others, which is what makes a failing history short.
"""

from __future__ import annotations

import random
import tempfile
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

from orchestrator_app.settings import Project, load_project

SETTINGS = """
[project]
slots = 2
touches = "serialize"
label_slots = {{gpu = 1}}
grace = 10
low_disk = 0
[retry]
delay = 20
factor = 2
max_delay = 300
[workflow]
isolation = "{isolation}"
phases = {phases}
[phases.IMPLEMENT]
retries = 1
stall = 600
on_stall = "{on_stall}"
timeout = 3000
[phases.REVIEW]
retries = 0
timeout = {review_timeout}
back_to = "IMPLEMENT"
reworks = 1
[agents.any]
command = ["true"]
"""

#: Isolation and phases.
WORKFLOWS = (
    ("none", ("PLAN", "IMPLEMENT", "REVIEW")),
    ("worktree", ("IMPLEMENT", "MERGE")),
    ("worktree", ("IMPLEMENT", "REVIEW", "MERGE")),
)

#: Where the simulated project lies: nowhere, so that nothing real can be read or written by mistake.
ROOT = Path("/nowhere/project")

DAY = 86_400.0

#: What people and agents do, and how often in comparison.
WORK = {
    "step": 30,
    "flow": 6,
    "agent": 24,
    "git": 14,
    "submit": 5,
    "hold": 4,
    "let_go": 4,
    "decide": 9,
    "resolve": 2,
    "edit": 4,
    "restart": 1,
    "comment": 1,
    "see": 1,
    "dispatch": 1,
    "time": 5,
    "client": 6,
    "stop": 1,
}
#: What goes wrong. A history has only some of these (swarm testing): the others would hide what each brings to light.
NEMESES = {
    "crash": 7,
    "disk_fails": 3,
    "disk_answers_late": 2,
    "watcher_raises": 2,
    "wall_is_set": 3,
    "suspend": 1,
    "git_fails": 2,
    "stranger_commits": 2,
    "start_fails": 1,
    "spawn_fails": 1,
    "late_words": 4,
    "deaf": 2,
    "hangs": 2,
    "answer_not_written": 2,
    "room": 1,
    "client_breaks": 3,
    "reports_wait": 4,
}


class Op(NamedTuple):
    """One thing that happens; `luck` is its own random number."""

    kind: str
    luck: int


@dataclass(frozen=True)
class Plan:
    seed: int
    project: Project
    ops: tuple[Op, ...]

    def only(self, ops: tuple[Op, ...]) -> Plan:
        return replace(self, ops=ops)


class Luck:
    """Small draws out of one large random number."""

    def __init__(self, number: int) -> None:
        self._rest = number

    def below(self, count: int) -> int:
        self._rest, drawn = divmod(self._rest, count)
        return drawn

    def of(self, choices):
        return choices[self.below(len(choices))]

    def once_in(self, count: int) -> bool:
        return self.below(count) == 0


@cache
def project_of(isolation: str, phases: tuple[str, ...], on_stall: str, review_timeout: int) -> Project:
    """A project of these settings; the others are to be replaced."""
    text = SETTINGS.format(isolation=isolation, phases=list(phases), on_stall=on_stall, review_timeout=review_timeout)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "orchestrator.toml").write_text(text)
        project = load_project(Path(folder))
    return replace(project, root=ROOT, state=ROOT / ".orchestrator")


def draw(seed: int) -> Plan:
    """The history of a seed."""
    chance = random.Random(seed)
    project = replace(
        project_of(
            *chance.choice(WORKFLOWS),
            chance.choice(["ask", "ask", "restart", "cancel"]),
            chance.choice([0, 900]),
        ),
        slots=chance.choice([1, 2, 2, 3]),
        touches=chance.choice(["serialize", "ask", "ignore", "ignore"]),
        verify=chance.choice([None, ("make", "check")]),
        low_disk=chance.choice([0, 100 << 20]),
    )
    weights = {kind: weight * chance.choice([0.3, 1, 1, 2.5]) for kind, weight in WORK.items()}
    for kind, weight in NEMESES.items():
        if chance.random() < (0.7 if kind == "crash" else 0.4):
            weights[kind] = weight * chance.choice([0.5, 1, 2])
    count = chance.randint(15, 60)
    kinds = chance.choices(list(weights), list(weights.values()), k=count)
    first = [Op("submit", chance.getrandbits(80)) for _ in range(chance.randint(1, 3))]
    return Plan(seed, project, (*first, *(Op(kind, chance.getrandbits(80)) for kind in kinds)))
