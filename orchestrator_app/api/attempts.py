"""What an attempt says and hears at `/ws` with its own token. Everything it says goes into its `events.jsonl`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from orchestrator_app.agents.channel import say
from orchestrator_app.agents.command import run_dir
from orchestrator_app.errors import OrchError, UsageError
from orchestrator_app.executors.events import MAX_LINE
from orchestrator_app.policy.attention import ANSWERED
from orchestrator_app.reports import SPOKEN
from orchestrator_app.states import Status


class AttemptChannel:
    """One connection of one attempt."""

    def __init__(self, server: Any, unit: str, attempt: int) -> None:
        self._server, self._unit, self._attempt = server, unit, attempt
        self._told: set[int] = set()
        self._greeted = False

    @property
    def over(self) -> str:
        """Why this attempt has no more to say and nothing to hear; empty while it has."""
        board = self._server.orchestrator.board
        unit = board.units.get(self._unit)
        if unit is None or unit.attempt != self._attempt:
            return f"attempt {self._attempt} of {self._unit} is over"
        if unit.status is Status.RUNNING:
            return ""
        item = board.attention.get(unit.item) if unit.item is not None else None
        if unit.status is Status.NEEDS_ATTENTION and item is not None and item.kind in ANSWERED:
            return ""  # it asked, and may be waiting
        return f"attempt {self._attempt} of {self._unit} is over: the unit is {unit.status}"

    def news(self) -> Iterator[Mapping[str, Any]]:
        """What the attempt has not been told yet: who it is, at first, and the answers to its questions."""
        if self.over:
            return
        board = self._server.orchestrator.board
        unit = board.units[self._unit]
        if not self._greeted:
            self._greeted = True
            payload = {"unit": unit.name, "attempt": unit.attempt, "phase": unit.phase}
            yield {"type": "snapshot", "seq": board.seq, "payload": payload}
        for answer in unit.answers:
            if answer.get("attempt") == self._attempt and answer["item"] not in self._told:
                self._told.add(answer["item"])
                payload = {name: answer[name] for name in ("item", "question", "answer")}
                yield {"type": "answer", "seq": board.seq, "payload": payload}

    def hear(self, text: str, message: Mapping[str, Any]) -> Mapping[str, Any]:
        """Keep a message. Returns the acknowledgement. Raises UsageError, or OrchError if it could not be kept."""
        if message.get("type") not in SPOKEN:
            raise UsageError(f'unknown type "{str(message.get("type"))[:40]}"; there are {", ".join(SPOKEN)}')
        line = text.replace("\r", " ").replace("\n", " ")  # between the values: strings can't hold them as they are
        if len(line.encode()) > MAX_LINE:
            raise UsageError(f"the message is longer than {MAX_LINE // 1024} kB")
        if why := self.over:
            raise OrchError(f"{why}; this was not kept")
        try:
            pos = say(run_dir(self._server.project, self._unit, self._attempt), line)
        except OSError as error:
            raise OrchError(f"the message could not be kept ({error}): try again") from None
        return {"type": "ok", "pos": pos}
