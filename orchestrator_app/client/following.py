"""What a server says over `/ws`, through drops, gaps and restarts: every message once, and in order."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import CancelledError, Future
from contextlib import aclosing
from math import inf
from typing import Any
from urllib.parse import urlencode

from orchestrator_app.client.http import Client
from orchestrator_app.client.refused import Refused, Unanswered
from orchestrator_app.errors import NoServerError, OrchError, UsageError

#: Seconds between two tries to reach a server that is gone; to wait for one that doesn't answer; between two pings.
AGAIN, PATIENCE, PING = 0.5, 30.0, 20.0
#: Why the server closes a connection for good: the words of its address are wrong.
WRONG = 4400


class Following:
    """Goes on behind record `since`. `find` gives the server, or raises an OrchError while there is none; one that
    comes back, perhaps at another port, is found again. It is waited for `patience` seconds.

    A message is what docs/api.md says: `type`, `seq`, `ts`, `payload`. `words` are the topics, the unit and so on.
    """

    def __init__(self, find: Callable[[], Client], since: int, *, patience: float = inf, **words: str | None) -> None:
        self._find = find
        self._patience = patience
        self._words = {name: word for name, word in words.items() if word is not None}
        #: All up to here was told, but for further messages of this very record, if `_told` has some.
        self.seq = since
        self._told: set[str] = set()
        #: Why nothing comes just now; None while the server is listened to.
        self.fault: str | None = None

    async def messages(self) -> AsyncGenerator[dict[str, Any], None]:
        """Raises NoServerError when the server stays away, OrchError when it won't be listened to."""
        gone: float | None = None
        while True:
            try:
                server = await asyncio.to_thread(self._find)
                async with aclosing(self._listen(server)) as messages:
                    async for message in messages:
                        gone = None
                        yield message
            except NoServerError as error:
                self.fault = str(error)
                gone = time.monotonic() if gone is None else gone
                if time.monotonic() - gone > self._patience:
                    raise NoServerError(f"{error}; it was waited for {self._patience:g} s") from None
            await asyncio.sleep(AGAIN)

    async def _listen(self, server: Client) -> AsyncGenerator[dict[str, Any], None]:
        """What one connection says. Raises NoServerError where it ends."""
        from tornado.httpclient import HTTPClientError, HTTPRequest  # slow to load, and for those who follow only
        from tornado.iostream import StreamClosedError
        from tornado.websocket import WebSocketError, websocket_connect

        # The last record may have more messages than were told: it is asked for again, and what is known left out.
        words = urlencode({**self._words, "since": self.seq - 1 if self._told else self.seq})
        address = f"{server.url.replace('http', 'ws', 1)}/ws?{words}"
        request = HTTPRequest(address, headers=server.headers, connect_timeout=PATIENCE, request_timeout=PATIENCE)
        try:
            socket = await websocket_connect(request, ping_interval=PING)
        except HTTPClientError as error:
            if error.code >= 500:
                raise NoServerError(f"the server at {server.url} can't be listened to just now ({error})") from None
            raise Refused(error.code, f"{server.url} refuses to be listened to: {error}") from None
        except (OSError, StreamClosedError, WebSocketError) as error:
            raise Unanswered(f"the server at {server.url} doesn't answer ({error})") from None
        try:
            self.fault = None
            said = ""
            while (text := await socket.read_message()) is not None:
                message = json.loads(text)
                if message["type"] == "gap":
                    return  # who comes back with its place is told everything
                if message["type"] == "error":
                    said = message["message"]
                elif self._is_new(message):
                    yield message
            if socket.close_code == WRONG:
                raise UsageError(said or f"{server.url} refuses to be listened to")
        finally:
            protocol = socket.protocol
            socket.close()
            if protocol is not None:
                protocol.stream.close()  # else it waits for the server's word, and the loop may end now
        raise NoServerError(f"the server at {server.url} has ended: see with `orch status` whether another runs")

    def _is_new(self, message: dict[str, Any]) -> bool:
        """Note how far it is with this; whether it is for the one who listens."""
        seq = message.get("seq", -1)
        if seq > self.seq:
            self.seq, self._told = seq, set()
        if "payload" not in message or seq < self.seq or message["type"] in self._told:
            return False
        self._told.add(message["type"])
        return True


class Listener:
    """The same for who has no loop: one message at a time, from any thread. Nothing is read ahead of who asks, so one
    that is slow holds no more than a message and what the system buffers; the rest waits in the server's log."""

    def __init__(self, following: Following, others: set[Listener]) -> None:
        """`others`: it is among these until it is closed."""
        self._closing = threading.Lock()
        self._others = others
        others.add(self)
        self._messages = following.messages()
        self._loop = asyncio.new_event_loop()
        self._asked: Future[dict[str, Any]] | None = None
        self._thread = threading.Thread(target=self._run, name="orch-listener", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        self._loop.run_forever()
        self._loop.run_until_complete(self._end())
        self._loop.close()

    async def _end(self) -> None:
        ours = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in ours:
            task.cancel()
        await asyncio.gather(*ours, return_exceptions=True)
        await self._messages.aclose()
        await self._loop.shutdown_default_executor()

    def next(self, timeout: float | None = None) -> dict[str, Any] | None:
        """The next message; None if none came within `timeout` seconds, or it was closed. Raises OrchError."""
        try:
            if self._asked is None:
                self._asked = asyncio.run_coroutine_threadsafe(anext(self._messages), self._loop)
            message = self._asked.result(timeout)
            self._asked = None
            return message
        except (TimeoutError, CancelledError):
            return None
        except OrchError:
            self._asked = None
            raise

    def close(self) -> None:
        """From any thread: who waits for a message gets none."""
        with self._closing:
            if self in self._others:
                self._others.discard(self)
                self._loop.call_soon_threadsafe(self._loop.stop)
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout=5)

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
