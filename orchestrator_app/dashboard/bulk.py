"""One wish for many units: the same request for each, a share of them at a time."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from orchestrator_app.errors import OrchError, UsageError
from orchestrator_app.model import Board
from orchestrator_app.states import MOVES, Status, Trigger

logger = logging.getLogger(__name__)

#: What may be asked for many units at once, and the move that each of them makes.
KINDS = {
    "retry": Trigger.RETRY,
    "pause": Trigger.PAUSE,
    "resume": Trigger.RESUME,
    "cancel": Trigger.CANCEL,
    "reopen": Trigger.REOPEN,
    "edit": Trigger.EDIT,
}
#: Units that may be named one by one.
NAMED = 10_000
#: Requests that are under way at once: a step of the scheduler decides them together, and others come in between.
SHARE = 250
#: Refusals that are told one by one; the rest is counted.
TOLD = 20

Ask = Callable[..., Future]


def check(kind: Any, args: Any) -> dict[str, Any]:
    """The arguments of a request for many. Raises UsageError for what can't be asked for many."""
    if kind not in [*KINDS]:  # which may be anything that a browser says
        raise UsageError(f"this can't be asked for many units: {kind}")
    if kind != "edit":
        return {}
    priority = args.get("priority") if isinstance(args, Mapping) else None
    if type(priority) is not int or abs(priority) > 1_000_000:
        raise UsageError("priority must be a whole number up to a million")
    return {"set": {"priority": priority}}


def weigh(board: Board, names: Sequence[str], kind: str) -> dict[str, Any]:
    """What a request for many would meet: how many units it can move, by status, and the others, by status.

    May run on any thread.
    """
    found = Counter(board.units[name].status for name in names if name in board.units)
    able = {str(status): count for status, count in found.items() if (status, KINDS[kind]) in MOVES}
    others = {str(status): count for status, count in found.items() if str(status) not in able}
    return {"total": len(names), "able": able, "others": others}


async def act(
    ask: Ask, board: Board, names: Sequence[str], kind: str, args: Mapping[str, Any], told: Callable[[int], None]
) -> dict[str, Any]:
    """Ask `kind` of each unit and wait for the answers; `told` hears how many are dealt with.

    `ask(kind, unit, **args)` sends a request, as `Orchestrator.request` does. Answers how many it moved, how many were
    refused, and who and why of the first of these.
    """
    refused: list[dict[str, str]] = []
    done = 0
    for start in range(0, len(names), SHARE):
        share = names[start : start + SHARE]
        for name, why in zip(share, await _ask_each(ask, board, share, kind, args), strict=True):
            if why is None:
                done += 1
            elif len(refused) < TOLD:
                refused.append({"name": name, "why": why})
        told(start + len(share))
    return {"kind": kind, "total": len(names), "done": done, "failed": len(names) - done, "refused": refused}


async def _ask_each(
    ask: Ask, board: Board, names: Sequence[str], kind: str, args: Mapping[str, Any]
) -> list[str | None]:
    """Why each was refused; None for those that went well."""
    whys: list[str | None] = [_unable(board, name, kind) for name in names]
    asked: dict[int, Future] = {}
    for at, name in enumerate(names):
        if whys[at] is None:
            try:
                asked[at] = ask(kind, name, **args)
            except OrchError as error:
                whys[at] = str(error)
    if asked:
        await _settled(list(asked.values()))
    for at, future in asked.items():
        error = future.exception()
        if error is not None and not isinstance(error, OrchError):
            logger.error("a request for many units failed", exc_info=error)
        whys[at] = None if error is None else str(error)
    return whys


def _unable(board: Board, name: str, kind: str) -> str | None:
    """What the scheduler would refuse anyway needs no request."""
    unit = board.units.get(name)
    if unit is None:
        return "there is no such unit"
    if unit.status is not Status.NEW and (unit.status, KINDS[kind]) not in MOVES:
        return f"it is {unit.status}"
    return None


async def _settled(futures: list[Future]) -> None:
    """Wait for futures of another thread, with one wake-up of the loop for all of them."""
    loop = asyncio.get_running_loop()
    last = asyncio.Event()
    settlements = itertools.count(1)  # counts right from any thread

    def settled(_: Future) -> None:
        if next(settlements) == len(futures):
            loop.call_soon_threadsafe(last.set)

    for future in futures:
        future.add_done_callback(settled)
    await last.wait()


_under_way: set[asyncio.Task] = set()


def begin(work: Coroutine[Any, Any, None]) -> None:
    """Have it done to its end, though the page that began it be left: an operator has confirmed it."""
    task = asyncio.get_running_loop().create_task(work)
    _under_way.add(task)
    task.add_done_callback(_ended)


def _ended(task: asyncio.Task) -> None:
    _under_way.discard(task)
    if not task.cancelled() and task.exception() is not None:
        logger.error("a request for many units failed", exc_info=task.exception())
