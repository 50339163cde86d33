"""A gate on a real log, moved by hand."""

from __future__ import annotations

import itertools

import pytest

from orchestrator_app.gate import Gate, new_cause
from orchestrator_app.model import Board
from orchestrator_app.states import Status, Trigger
from orchestrator_app.store.log import Log
from orchestrator_app.testing import Subscriber, assert_consistent

#: How a unit comes into each status.
PATHS = {
    Status.READY: [Trigger.SUBMIT],
    Status.BLOCKED: [Trigger.SUBMIT],
    Status.RUNNING: [Trigger.SUBMIT, Trigger.START],
    Status.NEEDS_ATTENTION: [Trigger.SUBMIT, Trigger.START, Trigger.FAIL],
    Status.PAUSED: [Trigger.SUBMIT, Trigger.PAUSE],
    Status.DONE: [Trigger.SUBMIT, Trigger.START, Trigger.FINISH],
    Status.CANCELLED: [Trigger.SUBMIT, Trigger.CANCEL],
}
ITEM = {"kind": "error", "title": "it failed"}


class Hand:
    """Moves units through the gate, one commit a move."""

    def __init__(self, folder) -> None:
        self.board = Board()
        self.log = Log(folder)
        self.gate = Gate(self.log, self.board)
        self.gate.replay()
        self.subscriber = Subscriber(self.board)
        self._time = itertools.count(1_700_000_000)

    def draft(self):
        return self.gate.draft(float(next(self._time)))

    def move(self, name: str, trigger: Trigger, **rest):
        draft = self.draft()
        if trigger is Trigger.SUBMIT:
            rest.setdefault("phase", "RUN")
        if trigger is Trigger.START:
            rest["attempt"] = draft.unit(name).attempt + 1
        if trigger in (Trigger.FAIL, Trigger.ASK, Trigger.STALL, Trigger.CLASH, Trigger.EXCEED):
            rest.setdefault("item", ITEM)
        draft.move(name, trigger, actor="operator:test", cause=new_cause(), **rest)
        return self.gate.commit(draft)

    def bring(self, name: str, status: Status) -> None:
        """Have a unit of that name in that status."""
        fields = None
        if status is Status.BLOCKED:
            self.move(f"blocker-of-{name}", Trigger.SUBMIT)
            fields = {"after": [f"blocker-of-{name}"]}
        for trigger in PATHS[status]:
            self.move(name, trigger, **({"fields": fields} if trigger is Trigger.SUBMIT and fields else {}))
        assert self.board.row(name).status is status

    def status(self, name: str) -> Status:
        return self.board.row(name).status

    def check(self) -> None:
        assert_consistent(self.log, self.board, self.subscriber)


@pytest.fixture
def hand(tmp_path):
    hand = Hand(tmp_path)
    yield hand
    hand.check()
    hand.log.close()
