"""The attention queue of one browser session: a part that pages hold.

A page gives `changes` and `hear` on to it and puts what `changes` returns into its own payload; the browser half is
assets/attention.js. Only a window of the queue is told, so a frame is small however much is open.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Iterable, Mapping, Set
from concurrent.futures import Future
from heapq import nsmallest
from typing import Any

from orchestrator_app.dashboard.screen import Screen
from orchestrator_app.dashboard.views import milliseconds
from orchestrator_app.errors import OrchError
from orchestrator_app.model import AttentionItem, Board
from orchestrator_app.policy import refusals
from orchestrator_app.policy.attention import rank

#: Items told at first, and at most; and those whose rank one frame works out.
WINDOW, MOST, SHARE = 30, 1_000, 1_000
#: Characters of an item's text that a frame carries; the whole is told when it is asked for.
TEXT, WHOLE = 2_000, 200_000
#: Units counted as waiting for one item; more are "100+".
COUNTED = 100
#: What one answer to many items may be. `see` puts them aside.
BATCH = frozenset({"answer", "approve", "reject", "retry", "cancel", "see"})
#: Items of one batch.
BATCHED = 5_000


def form_of(item: AttentionItem) -> str:
    """Which form settles an item: question, approval, stall, overlap, blocked, failure."""
    if item.kind == "conflict":
        return "overlap" if item.other is not None else "failure"
    return item.kind if item.kind in ("question", "approval", "stall", "blocked") else "failure"


def waiting_for(board: Board, name: str, most: int = COUNTED) -> list[str]:
    """The units that can't go on before this one is done, directly or through others; `most` at most."""
    found: dict[str, None] = {}
    todo = [name]
    while todo:
        behind = [one for one in board.dependents(todo.pop(0)) if one not in found and not board.units[one].ended]
        for one in nsmallest(most - len(found), behind):
            found[one] = None
            todo.append(one)
        if len(found) == most:
            break
    return list(found)


class _Ranked:
    """Items in the order of their ranks; placing one moves no other."""

    def __init__(self) -> None:
        self._sorted: list[tuple[int, int]] = []
        self._ranks: dict[int, tuple[int, int]] = {}

    def __len__(self) -> int:
        return len(self._sorted)

    def place(self, number: int, wanted: tuple[int, int]) -> None:
        if self._ranks.get(number) != wanted:
            self.remove(number)
            self._ranks[number] = wanted
            insort(self._sorted, wanted)

    def remove(self, number: int) -> None:
        if (old := self._ranks.pop(number, None)) is not None:
            del self._sorted[bisect_left(self._sorted, old)]

    def first(self, count: int) -> list[int]:
        return [number for _, number in self._sorted[:count]]

    def all(self) -> Iterable[int]:
        return self._ranks.keys()


class Queue:
    """What is open, of the whole project or of one unit, sorted: most blocking first, then oldest; dismissed apart."""

    def __init__(self, screen: Screen, unit: str | None = None) -> None:
        self._screen = screen
        self._board = screen.board
        self._unit = unit
        self._open, self._dismissed = _Ranked(), _Ranked()
        self._forms: dict[int, str] = {}
        self._blocks: dict[int, list[str]] = {}
        self._window, self._unfolded = WINDOW, False
        self._told: dict[int, dict[str, Any]] = {}
        self._known: set[int] = set()  # to the browser, and not told to be settled
        self._said: dict[str, Any] | None = None
        self._due: dict[int, None] = dict.fromkeys(self._all_open())

    def _all_open(self) -> list[int]:
        if self._unit is None:
            return list(self._board.attention)
        unit = self._board.units.get(self._unit)
        return list(unit.items) if unit else []

    # -- frames

    def changes(self, units: Set[str], items: Set[int]) -> dict[str, Any] | None:
        """What the browser half is to be told, given what changed; None: nothing."""
        self._due.update(dict.fromkeys(items))
        self._due.update(dict.fromkeys(self._blocking(units)))
        share = list(self._due)[:SHARE]
        settled = {}
        for number in share:
            del self._due[number]
            if not self._place(number) and number in self._known:
                self._known.discard(number)
                self._told.pop(number, None)
                settled[str(number)] = self._settlement(number)
        if self._due:
            self._screen.touch()
        said = {
            "order": self._open.first(self._window),
            "folded": self._dismissed.first(self._window) if self._unfolded else [],
            "total": len(self._open),
            "dismissed": len(self._dismissed),
            "forms": dict(Counter(self._forms[number] for number in self._open.all())),
        }
        views = self._views([*said["order"], *said["folded"]])
        if said == self._said and not views and not settled:
            return None
        self._said = said
        return {**said, "items": views, "settled": settled}

    def _blocking(self, units: Set[str]) -> Iterable[int]:
        """The open items of the units that changed units wait for: how much they block may have changed."""
        todo, seen = list(units), set()
        while todo:
            unit = self._board.units.get(todo.pop())
            for name in unit.after if unit else ():
                blocker = self._board.units.get(name)
                if name not in seen and blocker is not None and not blocker.ended:
                    seen.add(name)
                    todo.append(name)
                    yield from blocker.items

    def _place(self, number: int) -> bool:
        """Bring one item to its place; False if it is not open (any more)."""
        item = self._board.attention.get(number)
        if item is None or (self._unit is not None and item.unit != self._unit):
            self._open.remove(number)
            self._dismissed.remove(number)
            self._forms.pop(number, None)
            self._blocks.pop(number, None)
            return item is not None
        blocks = waiting_for(self._board, item.unit)
        place, other = (self._open, self._dismissed) if item.seen_at is None else (self._dismissed, self._open)
        other.remove(number)
        place.place(number, rank(item, len(blocks)))
        self._forms[number] = form_of(item)
        self._blocks[number] = blocks
        return True

    def _views(self, numbers: list[int]) -> dict[str, dict[str, Any]]:
        """The views of these items that differ from what the browser was told last."""
        views = {}
        for number in numbers:
            item = self._board.attention.get(number)
            if item is None:
                continue  # settled since; the next frame says so
            view = self._view(item)
            if self._told.get(number) != view:
                views[str(number)] = self._told[number] = view
                self._known.add(number)
        return views

    def _view(self, item: AttentionItem) -> dict[str, Any]:
        unit, blocks = self._board.row(item.unit), self._blocks[item.id]
        workflow = self._screen.session.orchestrator.project.workflows.get(unit.workflow)
        return {
            "unit": item.unit,
            "kind": item.kind,
            "form": self._forms[item.id],
            "severity": item.severity,
            "title": item.title[:400],
            "text": item.text[:TEXT],
            "length": len(item.text),
            "options": [option[:WHOLE] for option in item.options],
            "files": list(item.files[:50]),
            "moreFiles": max(0, len(item.files) - 50),
            "other": item.other,
            "phase": item.phase,
            "phases": [phase.name for phase in workflow.phases] if workflow else [item.phase],
            "attempt": item.attempt,
            "opened": milliseconds(item.opened_at),
            "blocks": len(blocks),
            "uncounted": len(blocks) >= COUNTED,
            "blocked": blocks[:5],
            "seen": item.seen_at is not None,
        }

    def _settlement(self, number: int) -> dict[str, Any]:
        row = self._board.settlement(number)
        if row is None:
            return {"words": "settled meanwhile", "at": None}
        answered = row.text.startswith(refusals.ANSWERED)
        how = row.text.removeprefix(refusals.ANSWERED)
        did = "answered" if answered else "settled"
        return {"words": f"{did} by {refusals.who(row.actor)}: {how}"[:400], "at": milliseconds(row.occurred_at)}

    # -- what the browser half says

    def hear(self, message: dict[str, Any]) -> bool:
        """Take a message that is for the queue; False if it is for somebody else."""
        match message.get("queue"):
            case "more" if isinstance(message.get("count"), int):
                self._window = min(max(message["count"], WINDOW), MOST)
                self._screen.touch()
            case "fold":
                self._unfolded = message.get("open") is True
                self._screen.touch()
            case "whole":
                self._tell_whole(message.get("id"))
            case "left":
                self._tell_settled(message.get("ids"))
            case "choose":
                form = message.get("form")
                chosen = [number for number in self._open.all() if form is None or self._forms[number] == form]
                self._tell({"chosen": {str(number): self._forms[number] for number in sorted(chosen)[:BATCHED]}})
            case "all":
                self._settle_all(message)
            case None:
                return False
        return True

    def _tell(self, payload: dict[str, Any]) -> None:
        self._screen.tell({"queue": payload})

    def _tell_whole(self, number: Any) -> None:
        item = self._board.attention.get(number) if isinstance(number, int) else None
        if item is not None:
            self._tell({"whole": item.id, "text": item.text[:WHOLE], "length": len(item.text)})

    def _tell_settled(self, numbers: Any) -> None:
        """What became of items that a page had drafts for before it was loaded anew."""
        if not isinstance(numbers, list):
            return
        asked = [number for number in numbers[:100] if isinstance(number, int)]
        self._tell({"left": {str(one): self._settlement(one) for one in asked if one not in self._board.attention}})

    # -- many at once

    def _settle_all(self, message: dict[str, Any]) -> None:
        kind, args, numbers = message.get("kind"), message.get("args"), message.get("ids")
        if kind not in BATCH or not isinstance(args, dict) or not isinstance(numbers, list):
            return
        allowed = {"answer": {"text"}, "reject": {"feedback"}, "retry": {"feedback"}}.get(kind, set())
        wanted = [number for number in numbers[:BATCHED] if isinstance(number, int)]
        if not args.keys() <= allowed:
            return
        self._screen.run(self._ask_for_all(message.get("id"), kind, wanted, args))

    async def _ask_for_all(self, asked: Any, kind: str, numbers: list[int], args: Mapping[str, Any]) -> None:
        refused = await asyncio.to_thread(self._requests, kind, numbers, args)
        self._tell({"all": asked, "done": len(numbers) - len(refused), "refused": len(refused), "why": refused[:5]})

    def _requests(self, kind: str, numbers: list[int], args: Mapping[str, Any]) -> list[str]:
        """Send a request for each item, so that they share a commit; returns what the refused were told. Blocks."""
        futures: list[Future] = []
        refused = []
        for number in numbers:
            item = self._board.attention.get(number)
            if item is None:
                refused.append(f"item {number}: {self._settlement(number)['words']}")
                continue
            try:
                futures.append(self._screen.session.request(kind, item.unit, item=number, **args))
            except OrchError as error:
                refused.append(str(error))
        for future in futures:
            try:
                future.result()
            except OrchError as error:
                refused.append(str(error))
        return refused
