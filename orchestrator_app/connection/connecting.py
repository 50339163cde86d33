"""`connect()`: a project for a notebook or a script, the same whether its server runs or not."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from math import inf
from pathlib import Path
from types import TracebackType
from typing import Any

from orchestrator_app.client import Client
from orchestrator_app.client.following import AGAIN, Following, Listener
from orchestrator_app.client.http import Source
from orchestrator_app.client.verbs import Verbs
from orchestrator_app.connection.mirror import Mirror
from orchestrator_app.connection.stopped import Stopped
from orchestrator_app.connection.tables import Tables
from orchestrator_app.connection.waiting import Awaited
from orchestrator_app.errors import NoServerError, SettingsError, StoreError, UsageError
from orchestrator_app.model import Board
from orchestrator_app.settings import FILE_NAME, STATE_NAME, find_project

RETURN = 60.0
"""Seconds to wait for a server that went away while it was followed."""


def connect(path_or_url: str | os.PathLike[str] | None = None, token: str | None = None) -> Connection:
    """A project, to read and to act on.

    `path_or_url`: the project's directory (or its `.orchestrator`), the URL of its server with that server's `token`,
    or nothing for `$ORCH_PROJECT`, else the project at or above the working directory. If a server runs, it is
    followed; else this is what the files hold now, and nothing is kept open, so a server can start any time. Close it,
    or use it in a `with` block. Raises an OrchError that says in one line why it can't be read.
    """
    if isinstance(path_or_url, str) and "://" in path_or_url:
        if token is None:
            raise UsageError("a URL needs a token: connect(url, token=…), with what is in .orchestrator/token")
        return Connection(path_or_url, lambda: Client(path_or_url, token))
    if token is not None:
        raise UsageError("a token belongs to a URL; for a directory it is found there: connect(directory)")
    state = _state(path_or_url)
    title = str(state.parent)
    if Client.of(state) is None:
        return Connection(title, Stopped(state))

    def find() -> Client:
        client = Client.of(state)
        if client is None:
            raise NoServerError(f"the server of {title} has ended: connect again to read its files")
        return client

    return Connection(title, find)


class Connection(Verbs, Tables):
    """A project. `board` is the reactive picture of its units: with a running server it is kept up to date on a thread
    of its own, on which its watchers are called. `live` tells whether there was a server; without one, what reads works
    on the files, and what acts says what to run."""

    def __init__(self, title: str, found: Stopped | Callable[[], Client]) -> None:
        """`found`: a stopped project, or what finds the server each time: it may have moved."""
        self.title = title
        self._found = found
        self._mirror = None if isinstance(found, Stopped) else Mirror(found)
        self._listeners: set[Listener] = set()

    @property
    def board(self) -> Board:
        """The units now, as a param model that can be watched."""
        return self._found.board if self._mirror is None else self._mirror.board

    @property
    def live(self) -> bool:
        """Whether a server was found."""
        return self._mirror is not None

    @property
    def fault(self) -> str | None:
        """Why the board is not up to date just now; None when it is."""
        return None if self._mirror is None else self._mirror.fault

    def close(self) -> None:
        """Stop following the server."""
        for listener in tuple(self._listeners):
            listener.close()
        if self._mirror is not None:
            self._mirror.close()

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        kind = "live" if self.live else "stopped"
        return f"<{self.title}, {kind}: {len(self.board.units)} units, {self.board.seq} records>"

    # -- following

    def follow(
        self,
        since: int | None = None,
        *,
        topics: str | Sequence[str] | None = None,
        unit: str | None = None,
        timeout: float | None = None,
    ) -> Iterator[dict[str, Any]]:
        """What happens, as it happens: the messages of `/ws`, each once and in order, through restarts of the server.

        From record `since` on, or from now on. `topics`: unit, session, attention, event, budget; all if not given.
        It goes on for ever, or until nothing has come for `timeout` seconds; it raises NoServerError when the server
        stays away for a minute.
        """
        since = self.status()["seq"] if since is None else since
        words = topics if topics is None or isinstance(topics, str) else ",".join(topics)
        self._server()
        return self._follow(since, timeout, topics=words, unit=unit)

    def _follow(self, since: int, timeout: float | None, **words: str | None) -> Iterator[dict[str, Any]]:
        with self._listen(since, **words) as listener:
            while (message := listener.next(timeout)) is not None:
                yield message

    def _listen(self, since: int, **words: str | None) -> Listener:
        return Listener(Following(self._server, since, patience=RETURN, **words), self._listeners)

    def wait(
        self, units: str | Iterable[str], for_: str | Sequence[str] = "DONE", timeout: float | None = None
    ) -> dict[str, str]:
        """Wait until all these units are in one of the statuses; which each is in then.

        Raises NotReached, with `statuses`, as soon as one can't get there by itself (it is CANCELLED, or needs a
        person), or after `timeout` seconds. Restarts of the server are waited out.
        """
        names = [units] if isinstance(units, str) else list(dict.fromkeys(units))
        seq = self._patiently(lambda: self.status()["seq"])  # before looking: what happens in between is then told
        rows = self._patiently(lambda: [self.unit(name) for name in names])
        self._patiently(self._server)
        awaited = Awaited(rows, [for_] if isinstance(for_, str) else list(for_))
        until = inf if timeout is None else time.monotonic() + timeout
        with self._listen(seq, topics="unit,attention") as listener:
            while not awaited.reached:
                if stuck := awaited.stuck:
                    raise awaited.without_end(stuck, self._patiently(lambda unit=stuck: self.waiting(unit)))
                left = until - time.monotonic()
                message = listener.next(None if left == inf else max(0.0, left))
                if message is None:
                    raise awaited.late(timeout)
                awaited.take(message["payload"])
        return awaited.statuses

    def _patiently(self, ask: Callable[[], Any]) -> Any:
        """What a read gives, of a server that may be on its way back."""
        until = time.monotonic() + RETURN
        while True:
            try:
                return ask()
            except NoServerError:
                if isinstance(self._found, Stopped) or time.monotonic() > until:
                    raise
            time.sleep(AGAIN)

    # -- what the verbs and the frames go through

    def _source(self) -> Source:
        return self._found if isinstance(self._found, Stopped) else self._found()

    def _server(self) -> Client:
        if isinstance(self._found, Stopped):
            raise NoServerError(
                f"no server runs for {self.title}, so nothing can be changed or followed: start it with `orch serve`, "
                "then connect again"
            )
        return self._found()

    def _packed(self, sql: str, limit: int) -> tuple[bytes, bool]:
        if isinstance(self._found, Stopped):
            answer = self._found.packed(sql, limit)
            return answer.content, answer.truncated
        reply = self._found().call("POST", "/query", body={"sql": sql, "limit": limit, "format": "arrow"})
        return reply.data, reply.headers["X-Orch-Truncated"] == "true"


def _state(path: str | os.PathLike[str] | None) -> Path:
    """The state directory of the project that is meant. Raises SettingsError or StoreError."""
    given = path if path is not None else os.environ.get("ORCH_PROJECT") or None
    if given is None:
        return find_project(Path.cwd()) / STATE_NAME
    root = Path(given).expanduser().absolute()
    if root.name == STATE_NAME and root.is_dir():
        return root
    if not (root / STATE_NAME).is_dir():
        if not (root / FILE_NAME).is_file():
            raise SettingsError(
                f"{root} is not a project: it has no {FILE_NAME}; run `orch init` there, or name another"
            )
        raise StoreError(f"{root} has no log yet: start it with `orch serve`")
    return root / STATE_NAME
