"""What wakes a long poll: every commit from the moment it began to wait."""

from __future__ import annotations

import asyncio
import threading
from datetime import datetime

from orchestrator_app.api.changes import Changes
from orchestrator_app.model import Board
from orchestrator_app.states import Status, Trigger
from orchestrator_app.store.records import Transition

SUBMITTED = Transition(
    1, "a", 1, Status.NEW, Trigger.SUBMIT, Status.READY, "RUN", 0, "operator:t", "c", None, {}, datetime(2026, 1, 31)
)


def test_a_commit_right_after_the_wait_began_ends_it() -> None:
    async def poll() -> float:
        board, loop = Board(), asyncio.get_running_loop()
        changes, began = Changes(board, loop), loop.time()

        woken = changes.next(30)
        commit = threading.Thread(target=board.fold, args=([SUBMITTED],))
        commit.start()
        commit.join()  # before the loop has run anything else
        await woken

        changes.close()
        return loop.time() - began

    assert asyncio.run(poll()) < 25


def test_nobody_is_kept_once_a_wait_is_over_or_given_up() -> None:
    async def poll() -> int:
        changes = Changes(Board(), asyncio.get_running_loop())

        await changes.next(0.01)
        given_up = changes.next(30)
        given_up.cancel()
        await asyncio.wait([given_up])
        await asyncio.sleep(0)

        return len(changes._waiting)

    assert asyncio.run(poll()) == 0
