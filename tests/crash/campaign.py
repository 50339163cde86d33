"""A campaign: start the server, let it be killed somewhere, do the same again; at last let everything come to its end.

Half of all kills are at a crash point inside the server, the rest from outside: at a random moment, while it starts,
together with its supervisor, or with the keeper of an attempt. The points are gone through in an order of chance, so
that every one has its turn before any has two.
"""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from . import points
from .operators import Crowd, Unreachable
from .stage import PATIENCE, Server, Stage, children_of, keepers_at_work, kill, running, supervisor_of

#: What else is killed, and how often.
WAYS = {"point": 56, "start point": 12, "moment": 12, "starting": 6, "supervisor": 6, "both": 4, "keeper": 4}
#: Seconds that an armed point may take to be passed; then the server is killed from outside.
TURN = 2.5
UNITS_PER_KILL = 1.5


@dataclass
class Campaign:
    """What has happened. `faults` are found here only where a server ended that nobody killed, or nothing came to an
    end; what is wrong inside is for the checker."""

    stage: Stage
    seed: int
    kills: int
    by_point: Counter[str] = field(default_factory=Counter)
    company: Counter[str] = field(default_factory=Counter)
    killed_at: list[float] = field(default_factory=list)
    #: (unit, attempt) whose keeper was killed: nobody can tell how those ended.
    orphaned: set[tuple[str, int]] = field(default_factory=set)
    faults: list[str] = field(default_factory=list)
    adopted: int = 0
    #: From when to when each server answered, for those that came so far.
    served: list[tuple[float, float]] = field(default_factory=list)
    #: Kill only at points whose name holds this text; "" is all, and all the other ways.
    only: str = ""

    def __post_init__(self) -> None:
        self.chance = random.Random(f"{self.seed}/campaign")
        self.order = {True: self.shuffled(True), False: self.shuffled(False)}
        self.missed: dict[bool, list[str]] = {True: [], False: []}

    def shuffled(self, start: bool) -> list[str]:
        found = [point for point in points.points() if points.at_start(point) is start or self.only]
        found = [point for point in found if self.only in point]
        self.chance.shuffle(found)
        return found

    def next_point(self, start: bool) -> tuple[str, int]:
        """A point, and the how-manieth time it is to kill. One that was not passed so often comes again soon, for the
        first time."""
        if self.missed[start] and self.chance.random() < 0.5:
            return self.missed[start].pop(0), 1
        if not self.order[start]:
            self.order[start] = self.shuffled(start)
        point = self.order[start].pop()
        return point, self.chance.randint(1, points.most(point))

    # -- killing

    def run(self, crowd: Crowd, say: Any = None) -> None:
        crowd.start()
        while len(self.killed_at) < self.kills and not self.faults:
            way = "point" if self.only else self.chance.choices(list(WAYS), WAYS.values())[0]
            self.turn(way)
            if say:
                say(self)
            time.sleep(self.chance.choice((0.0, 0.0, 0.1, 0.6)))

    def turn(self, way: str) -> None:
        """One server, from its start to its death."""
        plan: dict[str, Any] = {}
        if way in ("point", "start point"):
            point, count = self.next_point(way == "start point")
            plan = {
                "point": point,
                "count": count,
                "delay": self.chance.random() * 0.02,
                "children": self.chance.random() < 0.4,
            }
            if point.startswith("launch-supervisor") and (pid := supervisor_of(self.stage)):
                kill(pid)
        server = Server(self.stage, plan)
        if way == "starting":
            server.wait(lambda: not server.alive, self.chance.uniform(0.2, 1.3))
        elif server.wait_ready():
            ready_at = time.time()
            limit = TURN if plan else self.chance.uniform(0.05, 2.0)
            self.accompany(server, way)
            server.wait(lambda: not server.alive, limit)
            self.served.append((ready_at, time.time()))
        self.bury(server, way, plan)

    def accompany(self, server: Server, way: str) -> None:
        """Kill what else belongs to it, while it lives."""
        if way == "supervisor" and (pid := supervisor_of(self.stage)) and kill(pid):
            self.company["supervisor"] += 1
        if way == "keeper":
            server.wait(lambda: keepers_at_work(self.stage) or not server.alive, 2.0)
            self.kill_a_keeper()

    def kill_a_keeper(self) -> None:
        at_work = keepers_at_work(self.stage)
        if at_work:
            unit, attempt, pid = self.chance.choice(at_work)
            if kill(pid):
                self.orphaned.add((unit, attempt))
                self.company["keeper"] += 1

    def bury(self, server: Server, way: str, plan: dict[str, Any]) -> None:
        """Kill it if nothing has, and note what did."""
        self.note(server, way, plan)
        if server.alive:
            children = children_of(server.process.pid) if self.chance.random() < 0.5 else []
            server.kill()
            self.company.update({"git, with its server": killed} if (killed := sum(map(kill, children))) else {})
            if plan:
                self.missed[way == "start point"].append(plan["point"])
            self.by_point[f"outside, {way}" if not plan else "outside, point not passed"] += 1
        elif server.process.returncode != -9:
            code = server.process.returncode
            self.faults.append(f"server {server.number} ended by itself, exit code {code}: {server.said()[-600:]}")
            return
        else:
            self.by_point[server.died_at() or "?"] += 1
        self.killed_at.append(time.time())
        if way == "both" and (pid := supervisor_of(self.stage)) and kill(pid):
            self.company["supervisor with its server"] += 1
        if way in ("both", "keeper") and self.chance.random() < 0.3:
            self.kill_a_keeper()
        self.adopted += len(keepers_at_work(self.stage))

    def note(self, server: Server, way: str, plan: dict[str, Any]) -> None:
        """What was meant to kill it, and whether that did; for whoever reads up on a fault."""
        line = {"server": server.number, "way": way, "plan": plan, "alive": server.alive, "at": time.time()}
        with (self.stage.folder / "kills.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")

    # -- the end

    def settle(self, crowd: Crowd) -> list[dict[str, Any]]:
        """Let everything come to an end under one last server; the units as that server shows them."""
        crowd.settling.set()
        server = Server(self.stage)
        if not server.wait_ready():
            self.faults.append(f"the last server did not start: {server.said()[-600:]}")
            return []
        ready_at = time.time()
        ended = server.wait(lambda: not self.left(crowd) or not server.alive, 3 * PATIENCE + self.kills)
        server.wait(lambda: crowd.followed >= self.head(crowd) or not server.alive)
        crowd.end()
        left = self.left(crowd)
        if not ended or left or not server.alive:
            shown = ", ".join(f"{unit['name']} {unit['status']} {unit['phase']}" for unit in left)
            self.faults.append(f"not everything came to an end: {shown}; the server: {server.said()[-600:]}")
        units = self.units(crowd)
        server.wait(lambda: not self.leftovers(units))
        server.kill()
        self.served.append((ready_at, time.time()))
        server.wait(lambda: not self.survivors())
        self.faults += [f"process {pid} lives on: {line[:150]}" for pid, line in self.survivors().items()]
        for pid in self.survivors():
            kill(pid)
        return units

    def units(self, crowd: Crowd) -> list[dict[str, Any]]:
        try:
            return crowd.operators[0].ask("GET", "/units?limit=1000")["units"]
        except Unreachable:
            return []

    def head(self, crowd: Crowd) -> int:
        try:
            return crowd.operators[0].ask("GET", "/status")["seq"]
        except Unreachable:
            return 0

    def left(self, crowd: Crowd) -> list[dict[str, Any]]:
        """The units that have not come to an end; a stand-in for them where nobody tells."""
        units = self.units(crowd) or [{"name": "?", "status": "?", "phase": "?"}]
        return [unit for unit in units if unit["status"] not in ("DONE", "CANCELLED")]

    def leftovers(self, units: list[dict[str, Any]]) -> list[str]:
        """What of merged units is still to be removed, which the server does in its own time."""
        done = {unit["name"] for unit in units if unit["status"] == "DONE"}
        merges = self.stage.git("log", "--first-parent", "--format=%s", "main").splitlines()
        merged = {line.removeprefix("Merge unit ") for line in merges} & done
        branches = self.stage.git("for-each-ref", "--format=%(refname:strip=3)", "refs/heads/orch/").split()
        paths = [*self.stage.state.glob("worktrees/*"), *self.stage.state.glob("scratch/*")]
        names = [*branches, *(path.name for path in paths)]
        return [name for name in names if name in merged or name.startswith(".gone-")]

    def survivors(self) -> dict[int, str]:
        """Processes of the project that are still there."""
        return running(str(self.stage.root))
