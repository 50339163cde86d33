"""Talks to a project's running server: HTTP on loopback, with the project's token."""

from __future__ import annotations

import http.client
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

from orchestrator_app.claim import server_info
from orchestrator_app.errors import NoServerError, OrchError, UsageError
from orchestrator_app.operators import default_operator
from orchestrator_app.settings import STATE_NAME

PREFIX = "/api/v1"
PATIENCE = 45.0
"""Seconds to wait for an answer; the server itself waits 30 for its scheduler."""
PAGE = 1_000
MOST = 4 * 1024 * 1024
"""Bytes that the server takes in one request."""
AGAIN = (0.1, 0.4, 1.0)
"""Seconds to wait before a request is sent again whose connection broke: a server may be on its way back."""


class Reply(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    data: bytes


class Refused(OrchError):
    """The server said no; `status` is the HTTP status of its answer."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.exit_code = 2 if status == 400 else 1


def connect(root: Path) -> Client:
    """A client of the server that runs for the project in `root`, proven to be alive. Raises NoServerError."""
    info = server_info(root / STATE_NAME)
    if info is None or "port" not in info:
        raise NoServerError(no_server(root))
    path = root / STATE_NAME / "token"
    try:
        token = path.read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        raise OrchError(
            f"{path} can't be read ({error}); restart the server with `orch stop` and `orch serve`"
        ) from None
    return Client(root, info, token)


def no_server(root: Path) -> str:
    return f"no server runs for {root}: start it with `orch serve`"


class Client:
    """One running server. `info` is its server.json. A refused request raises Refused with the server's own line."""

    def __init__(self, root: Path, info: dict[str, Any], token: str) -> None:
        self.root = root
        self.info = info
        self._headers = {"Authorization": f"Bearer {token}", "X-Orch-Operator": default_operator()}

    def get(self, path: str, **query: Any) -> Any:
        return json.loads(self.call("GET", path, query).data)

    def post(self, path: str, body: dict[str, Any] | None = None, *, patience: float = PATIENCE) -> Any:
        return json.loads(self.call("POST", path, body=body or {}, timeout=patience).data)

    def change(self, path: str, body: dict[str, Any]) -> Any:
        """Ask for a change of units, attention or dispatch. It is made once, however often it has to be sent."""
        return json.loads(self._until_answered("POST", path, body, {}).data)

    def patch(self, path: str, body: dict[str, Any], version: int | None) -> Any:
        """Change something, whatever its version (None) or only if it still has that version."""
        match = "*" if version is None else f'"{version}"'
        return json.loads(self._until_answered("PATCH", path, body, {"If-Match": match}).data)

    def _until_answered(self, method: str, path: str, body: dict[str, Any], headers: dict[str, str]) -> Reply:
        """Send a change, and again where its connection broke in the middle: its key tells the server that it is the
        same one. Raises NoServerError that says so where it can't be known whether it was made."""
        headers = {**headers, "Idempotency-Key": os.urandom(16).hex()}
        for pause in (*AGAIN, None):
            try:
                return self.call(method, path, body=body, headers=headers)
            except NoServerError as error:
                if pause is None or isinstance(error.__context__, TimeoutError):
                    raise NoServerError(f"{error}; whether this change was made is not known: look first") from None
                time.sleep(pause)
                found = server_info(self.root / STATE_NAME)
                self.info = found if found is not None and "port" in found else self.info
        raise AssertionError("the last try either answers or raises")

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

    def changes(self, since: int, *, wait: float = 0.0, **query: Any) -> dict[str, Any]:
        """Records behind `since`, as soon as there are any, or none after `wait` seconds: `records`, `seq`, `more`."""
        data = self.call("GET", "/feed", {"since": since, "wait": wait, **query}, timeout=wait + PATIENCE).data
        return json.loads(data)

    def call(
        self,
        method: str,
        path: str,
        query: dict[str, Any] | None = None,
        *,
        body: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
        timeout: float = PATIENCE,
    ) -> Reply:
        """One request and its whole answer. Raises Refused, or NoServerError when nobody answers."""
        words = {key: value for key, value in (query or {}).items() if value is not None}
        target = f"{PREFIX}{path}{'?' + urlencode(words) if words else ''}"
        sent, extra = None, dict(headers or {})
        if body is not None:
            sent = json.dumps(body).encode()
            if len(sent) > MOST:
                raise UsageError(
                    f"that is {len(sent):,} bytes, and one request holds at most {MOST:,}: send it in parts"
                )
            extra["Content-Type"] = "application/json"
        connection = http.client.HTTPConnection(self.info["host"], self.info["port"], timeout=timeout)
        try:
            connection.request(method, target, sent, {**self._headers, **extra})
            answer = connection.getresponse()
            reply = Reply(answer.status, answer.headers, answer.read())
        except (OSError, http.client.HTTPException) as error:
            raise self._unanswered(error) from None
        finally:
            connection.close()
        if reply.status >= 400:
            raise _refused(reply)
        return reply

    def _unanswered(self, error: Exception) -> NoServerError:
        if server_info(self.root / STATE_NAME) is None:
            return NoServerError(f"the server of {self.root} has ended meanwhile: start it with `orch serve`")
        return NoServerError(
            f"the server of {self.root} (process {self.info['pid']}) doesn't answer at {self.info['url']} "
            f"({str(error) or type(error).__name__}): it may be starting or stopping; try again"
        )


def unit_path(name: str, *rest: str) -> str:
    return "/".join(["/units", quote(name, safe=""), *rest])


def _refused(reply: Reply) -> OrchError:
    try:
        detail = str(json.loads(reply.data)["detail"])
    except (ValueError, KeyError, TypeError):
        detail = f"the server answered with HTTP status {reply.status}"
    if reply.status == 401:
        detail = (
            "the server doesn't take the token in .orchestrator/token: restart it with `orch stop` and `orch serve`"
        )
    return Refused(reply.status, detail)
