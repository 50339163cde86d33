"""The sessions: every attempt that runs now, how healthy it is, how far, and what it costs; beside them those that
crashed and those that wait, alive, for a person."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Set
from datetime import UTC, datetime
from typing import Any

from orchestrator_app.agents.command import agent_for
from orchestrator_app.dashboard import signs
from orchestrator_app.dashboard.estimates import GOOD_FOR, estimates_of, percent_of
from orchestrator_app.dashboard.screen import Screen
from orchestrator_app.dashboard.signs import Sign
from orchestrator_app.model import AttentionItem, Spent, Unit
from orchestrator_app.policy.health import CRASHED, STUCK, WAITING, Thresholds, health
from orchestrator_app.states import Status

#: Seconds between two looks at the run directories of what runs.
LOOK = 2.0
#: Attempts that don't run and are shown, at most: of more, the attention queue and the board tell.
IDLE_SHOWN = 200
#: Characters of what an agent says that are shown.
STEP, SESSION, ITERATION, WHY = 200, 200, 40, 300
#: Kinds of attention items beside which an attempt may live on, and wait.
LIVES_ON = frozenset({"question", "approval", "stall"})


class Sessions(Screen):
    def open(self, args: dict[str, str]) -> None:
        self._project = self.session.orchestrator.project
        self._limits = Thresholds(self._project.health_stale, self._project.health_stuck)
        self._estimates = estimates_of(self.session.orchestrator)
        self._signs: dict[signs.Key, Sign] = {}
        #: What the browser knows; of those that don't run, which are shown, and which there was no room for.
        self._told: dict[str, dict[str, Any]] = {}
        self._idle: set[str] = set()
        self._over: set[str] = set()
        #: Units to look at in the next frame, and those whose run directories are looked at.
        self._due: set[str] = set()
        self._watched: set[str] = set()
        self._found = False
        self._first = True
        self._reckon = False
        self.run(self._find())
        self.run(self._estimate())

    def changes(self, units: Set[str], items: Set[int]) -> Any | None:
        self._due |= units
        if not self._found:
            return None
        due, self._due = self._due, set()
        reckon, self._reckon = self._reckon, False
        rows, gone, over = {}, [], len(self._over)
        for name in due:
            row = self._row(name, reckon or name in units)
            told = self._told.pop(name, None)
            if row is not None:
                self._told[name] = row
            if row is None and told is not None:
                gone.append(name)
            elif row is not None and (news := _news(row, told)):
                rows[name] = news
        if self._over and len(self._idle) < IDLE_SHOWN:
            self._due |= self._over
            self.touch()
        first, self._first = self._first, False
        if not (rows or gone or first or over != len(self._over)):
            return None
        payload = {"rows": rows, "gone": gone, "more": len(self._over)}
        return {**payload, "limits": [seconds * 1000 for seconds in self._limits]} if first else payload

    # -- one row

    def _row(self, name: str, reckon: bool) -> dict[str, Any] | None:
        """What is told of a unit, None of one that has no place here. `reckon`: also the time it will take is new."""
        unit, now = self.board.units.get(name), time.time()
        self._watch(name, unit)
        state = None if unit is None else self._health(unit, now)
        if state is None or not self._has_room(unit):
            return None
        told = self._told.get(name)
        running = unit.status is Status.RUNNING
        sign = self._signs.get((name, unit.attempt))
        progress = unit.progress or {}
        spent, in_all = unit.spent or Spent(), unit.spent_in_all or Spent()
        return {
            "status": str(unit.status),
            "version": unit.version,
            "phase": unit.phase,
            "attempt": unit.attempt,
            "agent": self._agent(unit),
            "health": state,
            "why": "" if running else self._why(unit, state),
            "sign": _milliseconds(_last_sign(unit, sign)),
            # While it runs, when it would have begun had it never waited; else for how long it has run.
            "began": _milliseconds(_epoch(unit.since) - unit.worked) if running else None,
            "worked": None if running else unit.worked * 1000,
            "iteration": _short(progress.get("iteration"), ITERATION),
            "percent": percent_of(unit),
            "step": _short(progress.get("step") or progress.get("message"), STEP),
            "eta": told["eta"] if told and not reckon else self._estimates.ends_at(unit, now),
            "tokensIn": spent.input_tokens,
            "tokensOut": spent.output_tokens,
            "usd": spent.usd,
            "unitTokens": in_all.input_tokens + in_all.output_tokens,
            "unitUsd": in_all.usd,
            "session": (unit.session or "")[:SESSION],
            "pid": sign.pid if sign and not sign.ended else None,
        }

    def _health(self, unit: Unit, now: float) -> str | None:
        """What its newest attempt is called; None of one that has ended in order."""
        sign = self._signs.get((unit.name, unit.attempt))
        if unit.status is Status.RUNNING:
            return health(now, _epoch(unit.since), _epoch(unit.heard_at), sign and sign.wrote, self._limits)
        if unit.crashed and not unit.ended:
            return CRASHED
        item = self._item(unit)
        # An agent that has ended waits for nothing: the answer starts its phase again.
        if item is None or sign is None or sign.ended or sign.pid is None:
            return None
        return STUCK if item.kind == "stall" else WAITING

    def _item(self, unit: Unit) -> AttentionItem | None:
        """What the unit's attempt may wait for."""
        return _waits_for(unit, self.board.attention)

    def _why(self, unit: Unit, state: str) -> str:
        item = self._item(unit)
        return _short(unit.reason if state == CRASHED or item is None else item.title, WHY)

    def _has_room(self, unit: Unit) -> bool:
        """Whether it is shown: all that run are, of the others so many."""
        self._over.discard(unit.name)
        if unit.status is Status.RUNNING:
            return True
        if len(self._idle) >= IDLE_SHOWN:
            self._over.add(unit.name)
            return False
        self._idle.add(unit.name)
        return True

    def _watch(self, name: str, unit: Unit | None) -> None:
        """Have its run directory looked at while there is something to see, and forget what was shown of it."""
        self._idle.discard(name)
        self._over.discard(name)
        if unit is not None and _may_live(unit, self.board.attention):
            self._watched.add(name)
        else:
            self._watched.discard(name)

    def _agent(self, unit: Unit) -> str:
        workflow = self._project.workflows.get(unit.workflow)
        phase = next((one for one in workflow.phases if one.name == unit.phase), None) if workflow else None
        if phase is None or phase.kind == "merge":
            return ""
        return agent_for(self._project, unit, phase).name if unit.agent in (None, *self._project.agents) else unit.agent

    # -- what takes its time

    async def _find(self) -> None:
        """Go through all units once; from then on, what changes tells."""
        self._due |= await asyncio.to_thread(self._candidates)
        self._watched |= self._due
        await self._look()
        self._found = True
        self.touch()
        while True:
            await asyncio.sleep(LOOK)
            await self._look()
            if self._due:
                self.touch()

    def _candidates(self) -> set[str]:
        attention = self.board.attention
        units = list(self.board.units.values())
        return {unit.name for unit in units if _may_live(unit, attention) or (unit.crashed and not unit.ended)}

    async def _look(self) -> None:
        """Look at the run directories of what may live, and note who has to be told anew."""
        units = self.board.units
        keys = [(name, units[name].attempt) for name in self._watched]
        known = self._signs
        self._signs = await asyncio.to_thread(signs.look, self._project, keys, known) if keys else {}
        now = time.time()
        for key, sign in self._signs.items():
            name, _ = key
            told = self._told.get(name)
            if sign != known.get(key) or (told and told["health"] != self._health(units[name], now)):
                self._due.add(name)

    async def _estimate(self) -> None:
        """Keep the usual times of the phases up to date while the page is open."""
        while True:
            usual = self._estimates.usual
            await asyncio.to_thread(self._estimates.read, self.session.orchestrator)
            if self._estimates.usual != usual:
                self._reckon = True
                self._due |= self._told.keys()
                self.touch()
            await asyncio.sleep(GOOD_FOR)


def _waits_for(unit: Unit, attention: Mapping[int, AttentionItem]) -> AttentionItem | None:
    """The open item beside which its attempt may live on."""
    if unit.status is not Status.NEEDS_ATTENTION or unit.item is None:
        return None
    item = attention.get(unit.item)
    return item if item is not None and item.kind in LIVES_ON and item.attempt == unit.attempt else None


def _may_live(unit: Unit, attention: Mapping[int, AttentionItem]) -> bool:
    return unit.status is Status.RUNNING or _waits_for(unit, attention) is not None


def _news(row: dict[str, Any], told: dict[str, Any] | None) -> dict[str, Any]:
    return row if told is None else {key: value for key, value in row.items() if told[key] != value}


def _last_sign(unit: Unit, sign: Sign | None) -> float:
    return max(_epoch(unit.since), _epoch(unit.heard_at), (sign and sign.wrote) or 0.0)


def _epoch(moment: datetime | None) -> float:
    return 0.0 if moment is None else moment.replace(tzinfo=UTC).timestamp()


def _milliseconds(seconds: float) -> float:
    """To the second: finer would only be more to tell."""
    return float(int(seconds)) * 1000


def _short(said: Any, most: int) -> str:
    return "" if said is None else str(said)[:most]
