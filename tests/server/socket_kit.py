"""A client of `/ws` as tests want it: what it has received, in order, and where it may go on."""

from __future__ import annotations

import json
import socket
import time
from typing import Any

import websocket
from raw_client import Client

PATIENCE = 20.0
"""Seconds to wait for a message (a limit, never an expectation)."""


class Ear:
    """One connection."""

    def __init__(self, client: Client, query: str = "", *, token: str | None = None, room: int = 0) -> None:
        """`room`: bytes that the system receives ahead of the reader; 0: as it likes."""
        self.messages: list[dict[str, Any]] = []
        self.code: int | None = None
        self.socket = websocket.create_connection(
            f"ws://{client.host}/ws{'?' if query else ''}{query}",
            header=[f"Authorization: Bearer {token or client.token}"],
            suppress_origin=True,
            timeout=PATIENCE,
            sockopt=[(socket.SOL_SOCKET, socket.SO_RCVBUF, room)] if room else [],
        )

    def next(self) -> dict[str, Any] | None:
        """The next message; None when the server has closed the connection (`code` says why, if it came through)."""
        deadline, operation = time.monotonic() + PATIENCE, websocket.ABNF.OPCODE_PING
        while operation == websocket.ABNF.OPCODE_PING:  # the server's, answered already; they come all the time
            assert time.monotonic() < deadline, "no message came"
            try:
                operation, data = self.socket.recv_data(control_frame=True)
            except (ConnectionError, websocket.WebSocketConnectionClosedException):
                return None
        if operation == websocket.ABNF.OPCODE_CLOSE:
            self.code = int.from_bytes(data[:2], "big")
            return None
        message = json.loads(data)
        self.messages.append(message)
        return message

    def until(self, type: str, **payload: Any) -> dict[str, Any]:
        """The next message of this type with these values in its payload."""
        deadline = time.monotonic() + PATIENCE
        while True:
            message = self.next()
            assert message is not None, f"closed with {self.code} before {type}"
            assert time.monotonic() < deadline, f"no {type} came, but {[each['type'] for each in self.messages]}"
            said = message.get("payload", message)
            if message["type"] == type and all(said.get(name) == value for name, value in payload.items()):
                return message

    def say(self, message: Any) -> dict[str, Any] | None:
        """Send something, and return the answer."""
        self.socket.send(message if isinstance(message, str) else json.dumps(message))
        return self.next()

    def end(self) -> None:
        """Drop the connection without a word."""
        self.socket.shutdown()


def records_of(messages: list[dict[str, Any]]) -> list[int]:
    """The numbers of the records that were told, once for each: derived messages have no row of a table."""
    return [message["seq"] for message in messages if "table" in message.get("payload", ())]
