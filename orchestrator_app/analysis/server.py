"""A running server, as a notebook talks to it: the REST API with the project's token."""

from __future__ import annotations

import http.client
import json
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from orchestrator_app.claim import server_info
from orchestrator_app.errors import NoServerError, NotFoundError, OrchError, UsageError

PREFIX = "/api/v1"
PATIENCE = 60.0
"""Seconds to wait for an answer: a query may take 30, and wait for a turn."""


class Server:
    """The API at a URL. One request at a time, except that `hang_up` may come from another thread."""

    def __init__(self, url: str, token: str) -> None:
        """Raises UsageError where the URL is none."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(f"{url[:200]} is not the URL of a server; they look like http://127.0.0.1:5006")
        self.url = f"{parts.scheme}://{parts.netloc}"
        self._secure, self._host, self._port = parts.scheme == "https", parts.hostname, parts.port
        self.headers = {"Authorization": f"Bearer {token}"}
        self._connection: http.client.HTTPConnection | None = None

    @classmethod
    def of(cls, state: Path) -> Server | None:
        """The live server of a state directory, None if there is none. Raises OrchError if its token can't be read."""
        info = server_info(state)
        if info is None or "url" not in info:
            return None
        path = state / "token"
        try:
            return cls(info["url"], path.read_text(encoding="ascii").strip())
        except (OSError, ValueError) as error:
            raise OrchError(f"{path} can't be read ({error}): read the project as the user who serves it") from None

    def get(self, path: str, *, patience: float = PATIENCE, **query: Any) -> Any:
        words = f"?{urlencode(query)}" if query else ""
        return self._call("GET", f"{path}{words}", None, patience)

    def post(self, path: str, body: dict[str, Any]) -> Any:
        return self._call("POST", path, json.dumps(body).encode(), PATIENCE)

    def hang_up(self) -> None:
        """End the request that another thread waits for."""
        connection = self._connection
        if connection is not None and connection.sock is not None:
            with suppress(OSError):
                connection.sock.shutdown(socket.SHUT_RDWR)

    def _call(self, method: str, path: str, body: bytes | None, patience: float) -> Any:
        kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        connection = self._connection = kind(self._host, self._port, timeout=patience)
        headers = self.headers if body is None else {**self.headers, "Content-Type": "application/json"}
        try:
            connection.request(method, PREFIX + path, body, headers)
            reply = connection.getresponse()
            data = reply.read()
        except (OSError, http.client.HTTPException) as error:
            raise NoServerError(
                f"the server at {self.url} doesn't answer ({str(error) or type(error).__name__}): "
                "see with `orch status` whether it runs"
            ) from None
        finally:
            self._connection = None
            connection.close()
        if reply.status >= 400:
            raise self._refused(reply.status, data)
        try:
            return json.loads(data)
        except ValueError:
            raise OrchError(f"what answers at {self.url} is not an orchestrator: check the URL") from None

    def _refused(self, status: int, data: bytes) -> OrchError:
        if status in (401, 403):
            return OrchError(f"the server at {self.url} doesn't take this token: it is in .orchestrator/token")
        try:
            detail = str(json.loads(data)["detail"])
        except (ValueError, KeyError, TypeError):
            detail = f"{self.url} answered with HTTP status {status}: check that it is an orchestrator"
        return {400: UsageError, 404: NotFoundError}.get(status, OrchError)(detail)
