"""A server that is read from for long: where it goes, it is waited for, and asked again when it is back."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from math import inf
from typing import Any, TypeVar

from orchestrator_app.cli.client import Client, Refused
from orchestrator_app.cli.place import Place
from orchestrator_app.cli.text import one_line
from orchestrator_app.errors import NoServerError

PAUSE = 0.2
"""Seconds between two looks whether it is back."""

Answer = TypeVar("Answer")


def say(line: str) -> None:
    """Tell the person, beside the output."""
    print(f"orch: {one_line(line)}", file=sys.stderr, flush=True)


class Returning:
    """What a Client reads, through restarts of its server. Reading can be repeated, so nothing is lost or doubled.

    It waits `patience` seconds for it to come back, then raises NoServerError; and by `tell` says when it goes and when
    it is back. Raises NoServerError if none runs to begin with."""

    def __init__(self, place: Place, patience: float = inf, tell: Callable[[str], None] = say) -> None:
        self.root = place.root
        self._place = place
        self._patience = patience
        self._tell = tell
        self._client: Client = place.client()
        self._returns = 0

    @property
    def info(self) -> dict[str, Any]:
        """The server.json of the one that answered last."""
        return self._client.info

    def get(self, path: str, **query: Any) -> Any:
        return self._answer(lambda client: client.get(path, **query))

    def pages(self, path: str, key: str, limit: int | None = None, **query: Any) -> Iterator[dict[str, Any]]:
        return iter(self._answer(lambda client: list(client.pages(path, key, limit, **query))))

    def call(self, method: str, path: str, query: dict[str, Any], *, headers: dict[str, str]) -> Any:
        return self._answer(lambda client: client.call(method, path, query, headers=headers))

    def changes(self, since: int, *, wait: float = 0.0, **query: Any) -> dict[str, Any]:
        """Records behind `since`, as soon as there are any, or none after `wait` seconds.

        Where another log was put in the place of the one that was followed, it goes on from the end of that."""
        began, returns = time.monotonic(), self._returns

        def ask(client: Client) -> dict[str, Any]:
            # A log that was put back while the server was away ends before `since`: that is seen at once or never.
            return client.changes(since, wait=wait if returns == self._returns else 0.0, **query)

        answer = self._answer(ask)
        if answer["head"] < since:
            self._tell(f"this log ends at record {answer['head']}, before {since}: going on from there")
            answer["seq"] = answer["head"]
        elif not answer["records"] and time.monotonic() - began < wait:
            time.sleep(PAUSE)  # a server that is stopping answers at once, and would be asked without end
        return answer

    def _answer(self, ask: Callable[[Client], Answer]) -> Answer:
        gone: float | None = None
        while True:
            try:
                answer = ask(self._client)
            except (NoServerError, Refused) as error:
                if isinstance(error, Refused) and error.status != NoServerError.http_status:
                    raise
                if gone is None:
                    gone = time.monotonic()
                    self._tell(f"the server of {self.root} is gone; waiting for it to come back (Ctrl-C ends this)")
                self._client = self._returned(gone)
                self._returns += 1
                continue
            if gone is not None:
                self._tell("it is back")
            return answer

    def _returned(self, gone: float) -> Client:
        while True:
            if time.monotonic() - gone > self._patience:
                raise NoServerError(
                    f"the server of {self.root} went away and was not back within {self._patience:g} s: "
                    "start it with `orch serve`, and ask again"
                )
            time.sleep(PAUSE)
            try:
                return self._place.client()
            except NoServerError:
                pass
