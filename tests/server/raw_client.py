"""A client that says exactly what a test wants, and the project that the tests serve."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any, NamedTuple

from orchestrator_app.serve import Serving

# A unit's prompt is the script that its attempt runs.
SETTINGS = """
[project]
slots = 2
grace = 1
[workflow]
isolation = "none"
phases = ["RUN"]
[phases.RUN]
agent = "shell"
retries = 0
[agents.shell]
command = ["sh", "-c", '. "$ORCH_PROMPT_FILE"']
env = { SECRET = "canary-secret" }
"""


class Reply(NamedTuple):
    status: int
    headers: dict[str, list[str]]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def header(self, name: str) -> str | None:
        values = self.headers.get(name.lower())
        return values[0] if values else None


def send(port: int, data: bytes, timeout: float = 20.0) -> Reply:
    """Send these very bytes to the server, and read one answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout) as connection:
        connection.sendall(data)
        received = b""
        while b"\r\n\r\n" not in received:
            part = connection.recv(65536)
            if not part:
                raise ConnectionError(f"closed after {received!r}")
            received += part
        head, _, body = received.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        status = int(first.split()[1])
        headers: dict[str, list[str]] = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers.setdefault(name.lower(), []).append(value.strip())
        length = headers.get("content-length")
        if status != 101 and not data.startswith(b"HEAD"):
            while len(body) < int(length[0]) if length else not body.endswith(b"0\r\n\r\n"):
                part = connection.recv(1 << 20)
                if not part:
                    break
                body += part
        return Reply(status, headers, body)


def request_bytes(method: str, path: str, headers: list[tuple[str, str]], body: bytes = b"") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
    if body or method not in ("GET", "HEAD"):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


UPGRADE = [
    ("Upgrade", "websocket"),
    ("Connection", "Upgrade"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ("Sec-WebSocket-Version", "13"),
]


class Client:
    """Asks one server, as a program with the token does unless told otherwise."""

    def __init__(self, port: int, token: str) -> None:
        self.port, self.token = port, token
        self.host = f"127.0.0.1:{port}"
        self.origin = f"http://{self.host}"
        self.bearer = ("Authorization", f"Bearer {token}")

    def __call__(
        self, method: str, path: str, body: Any = None, *headers: tuple[str, str], bearer: bool = True
    ) -> Reply:
        raw = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        known = {name for name, _ in headers}
        defaults = [("Host", self.host), *([self.bearer] if bearer else [])]
        if raw:
            defaults.append(("Content-Type", "application/json"))
        every = [*((name, value) for name, value in defaults if name not in known), *headers]
        return send(self.port, request_bytes(method, path, every, raw))

    def api(self, method: str, path: str, body: Any = None, *headers: tuple[str, str]) -> Reply:
        return self(method, "/api/v1" + path, body, *headers)


class Running(NamedTuple):
    serving: Serving
    client: Client

    @property
    def state(self) -> Path:
        return self.serving.project.state


def make_project(root: Path, settings: str = SETTINGS) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    (root / "orchestrator.toml").write_text(settings)
    return root
