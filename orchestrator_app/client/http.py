"""The one HTTP client of this package: the command line, notebooks and analysts' questions all go through it."""

from __future__ import annotations

import http.client
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode, urlsplit

from orchestrator_app.claim import server_info
from orchestrator_app.client.refused import Refused, Unanswered, refusal
from orchestrator_app.errors import OrchError, UsageError
from orchestrator_app.operators import default_operator

PREFIX = "/api/v1"
PATIENCE = 60.0
"""Seconds to wait for an answer: a query may take 30 and wait for a turn, a change waits 30 for the scheduler."""
RETURN = 15.0
"""Seconds to wait for a server that went away in the middle of a change: it may be on its way back."""
AGAIN = (0.1, 0.2, 0.4)
"""Seconds between two looks whether it is back; the last one is repeated."""
PAGE = 1_000
MOST = 16 * 1024 * 1024
"""Bytes that the server takes in one request."""


class Reply(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    data: bytes


class Source:
    """What answers GET requests of the API: a running server, or a stopped project's files."""

    def get(self, path: str, *, patience: float = PATIENCE, **query: Any) -> Any:
        raise NotImplementedError

    def pages(self, path: str, key: str, limit: int | None = None, **query: Any) -> Iterator[dict[str, Any]]:
        """Every row under `key`, page after page, at most `limit`."""
        left, place = limit, query
        while True:
            answer = self.get(path, **place, limit=min(PAGE, left) if left is not None else PAGE)
            yield from answer[key]
            left = None if left is None else left - len(answer[key])
            if answer["next"] is None or left == 0:
                return
            place = {**query, "cursor": answer["next"]}

    def whole(self, path: str, key: str, **query: Any) -> dict[str, Any]:
        """The first page's answer with every row under `key`: what else it says is the same on each page."""
        answer = self.get(path, **query, limit=PAGE)
        following = answer.pop("next")
        if following is not None:
            answer[key] += self.pages(path, key, **query, cursor=following)
        return answer


class Client(Source):
    """One running server. Any number of threads may use it.

    What it refuses raises Refused or one of its kinds (Conflict, and those that are a UsageError or a NotFoundError
    too) with the server's own line; when nobody answers, Unanswered, which is a NoServerError.
    """

    def __init__(self, url: str, token: str, *, state: Path | None = None, info: dict[str, Any] | None = None) -> None:
        """`state` is the project's state directory, where it is on this machine: the server is then found again when
        it comes back at another port. `info` is what its server.json says. Raises UsageError where the URL is none."""
        self.state, self.info = state, info or {}
        self._move(url, token)
        self._connections: set[http.client.HTTPConnection] = set()

    @classmethod
    def of(cls, state: Path) -> Client | None:
        """The live server of a state directory, None if there is none. Raises OrchError if its token can't be read."""
        info = server_info(state)
        if info is None or "url" not in info:
            return None
        return cls(info["url"], _token(state), state=state, info=info)

    @property
    def root(self) -> Path:
        """The directory of the project, where that is on this machine."""
        assert self.state is not None, "only a client that was found through its project knows where that is"
        return self.state.parent

    def _move(self, url: str, token: str) -> None:
        parts = urlsplit(url)
        try:
            known = parts.scheme in ("http", "https") and parts.hostname and (parts.port or True)
        except ValueError:  # a port that is none
            known = False
        if not known:
            raise UsageError(f"{url[:200]} is not the URL of a server; they look like http://127.0.0.1:5006")
        self.url = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
        self._secure, self._host, self._port = parts.scheme == "https", parts.hostname, parts.port
        self.headers = {"Authorization": f"Bearer {token}", "X-Orch-Operator": default_operator()}

    # -- asking

    def get(self, path: str, *, patience: float = PATIENCE, **query: Any) -> Any:
        return self._json(self.call("GET", path, query, patience=patience))

    def post(self, path: str, body: dict[str, Any] | None = None, *, patience: float = PATIENCE) -> Any:
        """Ask for what is no change of units, attention or dispatch. It is sent once."""
        return self._json(self.call("POST", path, body=body or {}, patience=patience))

    def changes(self, since: int, *, wait: float = 0.0, **query: Any) -> dict[str, Any]:
        """Records behind `since`, as soon as there are any, or none after `wait` seconds: `records`, `seq`, `more`."""
        return self.get("/feed", since=since, wait=wait, **query, patience=wait + PATIENCE)

    # -- changing

    def change(
        self, path: str, body: dict[str, Any] | None = None, *, version: int | None = None, key: str | None = None
    ) -> Any:
        """Ask for a change of units, attention or dispatch; it is made once, however often it has to be sent.

        `version`: only if the unit still has that version; Conflict if not. `key`: a name of this one wish, if the
        same may be asked for again later; else it gets one."""
        match = {} if version is None else {"If-Match": f'"{version}"'}
        return self._json(self._until_answered("POST", path, body or {}, match, key))

    def patch(self, path: str, body: dict[str, Any], version: int | None) -> Any:
        """Change something, whatever its version (None) or only if it still has that version."""
        match = "*" if version is None else f'"{version}"'
        return self._json(self._until_answered("PATCH", path, body, {"If-Match": match}))

    def _until_answered(
        self, method: str, path: str, body: dict[str, Any], headers: dict[str, str], key: str | None = None
    ) -> Reply:
        """Send a change, and again where its connection broke in the middle or the server was on its way out: its key
        tells the server that it is the same one. Raises Unanswered that says so where it can't be known whether it was
        made."""
        headers = {**headers, "Idempotency-Key": key or os.urandom(16).hex()}
        until, pauses = time.monotonic() + RETURN, iter(AGAIN)
        while True:
            try:
                return self.call(method, path, body=body, headers=headers)
            except Refused as error:
                if not error.passing:
                    raise
                fault: OrchError = error
            except Unanswered as error:
                fault = Unanswered(f"{error}; whether this change was made is not known: look first")
                if error.late:
                    raise fault from None
            back = False
            while not back:
                if time.monotonic() > until:
                    raise fault from None
                time.sleep(next(pauses, AGAIN[-1]))
                back = self._find_again()

    def _find_again(self) -> bool:
        """Look where the server is now. False if it is known that there is none."""
        if self.state is None:
            return True
        info = server_info(self.state)
        if info is None or "url" not in info:
            return False
        self.info = info
        self._move(info["url"], _token(self.state))
        return True

    # -- one request

    def call(
        self,
        method: str,
        path: str,
        query: dict[str, Any] | None = None,
        *,
        body: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
        patience: float = PATIENCE,
        prefix: str = PREFIX,
    ) -> Reply:
        """One request and its whole answer. Raises Refused, or Unanswered when nobody answers."""
        words = {key: value for key, value in (query or {}).items() if value is not None}
        target = f"{prefix}{path}{'?' + urlencode(words) if words else ''}"
        sent, extra = None, dict(headers or {})
        if body is not None:
            sent = json.dumps(body).encode()
            if len(sent) > MOST:
                raise UsageError(
                    f"that is {len(sent):,} bytes, and one request holds at most {MOST:,}: send it in parts"
                )
            extra["Content-Type"] = "application/json"
        kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        connection = kind(self._host, self._port, timeout=patience)
        self._connections.add(connection)
        try:
            connection.request(method, target, sent, {**self.headers, **extra})
            answer = connection.getresponse()
            reply = Reply(answer.status, answer.headers, answer.read())
        except (OSError, http.client.HTTPException) as error:
            raise self._unanswered(error) from None
        finally:
            self._connections.discard(connection)
            connection.close()
        if reply.status >= 400:
            raise self._refused(reply)
        return reply

    def hang_up(self) -> None:
        """End the requests that other threads wait for."""
        for connection in tuple(self._connections):
            if connection.sock is not None:
                with suppress(OSError):
                    connection.sock.shutdown(socket.SHUT_RDWR)

    def _json(self, reply: Reply) -> Any:
        try:
            return json.loads(reply.data)
        except ValueError:
            raise OrchError(f"what answers at {self.url} is not an orchestrator: check the URL") from None

    def _unanswered(self, error: Exception) -> Unanswered:
        why, late = str(error) or type(error).__name__, isinstance(error, TimeoutError)
        if self.state is None:
            return Unanswered(
                f"the server at {self.url} doesn't answer ({why}): see with `orch status` whether it runs", late=late
            )
        if server_info(self.state) is None:
            return Unanswered(f"the server of {self.root} has ended meanwhile: start it with `orch serve`")
        return Unanswered(
            f"the server of {self.root} (process {self.info['pid']}) doesn't answer at {self.url} "
            f"({why}): it may be starting or stopping; try again",
            late=late,
        )

    def _refused(self, reply: Reply) -> Refused:
        if reply.status != 401:
            silent = f"{self.url} answered with HTTP status {reply.status}: check that it is an orchestrator"
            passing = reply.status == 503 and "Retry-After" in reply.headers
            return refusal(reply.status, reply.data, silent, passing=passing)
        if self.state is None:
            return Refused(401, f"the server at {self.url} doesn't take this token: it is in .orchestrator/token")
        path = self.state / "token"
        again = "restart it with `orch stop` and `orch serve`"
        return Refused(401, f"the server doesn't take the token in {path}: {again}")


def _token(state: Path) -> str:
    path = state / "token"
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        raise OrchError(
            f"{path} can't be read ({error}): be the user who serves the project, or restart the server with "
            "`orch stop` and `orch serve`"
        ) from None


def unit_path(name: str, *rest: str) -> str:
    return "/".join(["/units", quote(name, safe=""), *rest])
