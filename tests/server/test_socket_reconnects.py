"""Every committed transition reaches every subscriber exactly once and in order: with a real server that is killed and
started again, and clients that drop their connections at random, in the middle of a message too."""

from __future__ import annotations

import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from raw_client import Client
from serve_kit import Process
from socket_kit import Ear, records_of
from websocket import WebSocketException, WebSocketTimeoutException

from orchestrator_app.api import document
from orchestrator_app.api.messages import messages_of
from orchestrator_app.claim import server_info

SCRIPT = r"""
for n in 1 2 3; do
    printf '{"type":"progress","iteration":%d}\n{"type":"usage","usd":0.1}\n' $n >> "$ORCH_EVENTS"
done
test "$ORCH_UNIT" != u-3 || printf '{"type":"ask","question":"Which?"}\n' >> "$ORCH_EVENTS" """
LONG = 90.0
"""Seconds after which the test gives up."""


class Subscriber(threading.Thread):
    """Listens from record `since` on, drops the connection after a random number of messages or bytes, comes back."""

    def __init__(self, root: Path, seed: int, query: str) -> None:
        super().__init__(daemon=True)
        self.root, self.query, self.chance = root, query, random.Random(seed)
        self.heard: list[dict[str, Any]] = []
        self.connections = 0
        #: When it is known: the number of the last record there will be.
        self.final: int | None = None
        self.start()

    def run(self) -> None:
        until = time.monotonic() + LONG
        while time.monotonic() < until:
            try:
                if self._listen():
                    return
            except (OSError, WebSocketException):
                time.sleep(0.02)  # no server: nothing to wait for but the next one

    def _listen(self) -> bool:
        """One connection; whether all has been heard."""
        info = server_info(self.root / ".orchestrator")
        if info is None or "url" not in info:
            raise ConnectionRefusedError
        client = Client(info["port"], (self.root / ".orchestrator" / "token").read_text().strip())
        since = self.heard[-1]["seq"] if self.heard else 0
        ear = Ear(client, f"since={since}{self.query}")
        self.connections += 1
        try:
            return self._hear(ear, self.chance.choice([1, 3, 10, 50, 10_000]))
        finally:
            ear.end()

    def _hear(self, ear: Ear, most: int) -> bool:
        ear.socket.settimeout(0.2)
        for _ in range(most):
            try:
                message = ear.next()
            except WebSocketTimeoutException:
                if self.final is not None:
                    ear.socket.send('{"type":"ping"}')
                continue
            if message is None:
                return False
            assert message["type"] not in ("gap", "error", "snapshot"), message
            if "payload" in message:
                self.heard.append(message)
            elif message["type"] == "pong" and self.final is not None and message["seq"] >= self.final:
                return True
        if self.chance.random() < 0.5:  # in the middle of a message
            ear.socket.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            ear.socket.sock.recv(self.chance.randrange(1, 200))
        return False


class Load(threading.Thread):
    """Submits units as long as it is let, whether there is a server or not."""

    def __init__(self, root: Path) -> None:
        super().__init__(daemon=True)
        self.root, self.count, self.enough = root, 0, threading.Event()
        self.start()

    def run(self) -> None:
        while not self.enough.wait(0.05):
            units = [{"name": f"u-{self.count + each}", "prompt": SCRIPT} for each in range(3)]
            try:
                info = server_info(self.root / ".orchestrator") or {}
                client = Client(info["port"], (self.root / ".orchestrator" / "token").read_text().strip())
                client.api("POST", "/units", {"units": units})
            except (OSError, KeyError, ValueError):
                continue
            finally:
                self.count += 3


@pytest.mark.parametrize("seed", [1])
def test_f26_every_transition_reaches_every_subscriber_once_and_in_order_across_drops_and_kills(
    root: Path, start: Callable[..., Process], wait_until: Callable[..., Any], seed: int
) -> None:
    process = start(root)
    chance = random.Random(seed)
    queries = ["", "", "&monitor=agents", "&topics=unit", "&topics=attention,budget", "&unit=u-3", "&topics=session"]
    subscribers = [Subscriber(root, seed * 100 + number, query) for number, query in enumerate(queries)]
    load = Load(root)

    for _ in range(2):
        reached, more = process.client.api("GET", "/status").json["seq"], chance.randrange(60, 200)
        wait_until(lambda: process.client.api("GET", "/status").json["seq"] > reached + more)  # noqa: B023
        process.popen.send_signal(signal.SIGKILL)
        process.popen.wait()
        process = start(root)
    load.enough.set()
    load.join()
    wait_until(lambda: not ({"READY", "RUNNING"} & busy(process)), 60, "the units to end")
    head = process.client.api("GET", "/status").json["seq"]
    for subscriber in subscribers:
        subscriber.final = head
    for subscriber in subscribers:
        subscriber.join(LONG)

    records = all_records(process.client, head)
    assert [record["seq"] for record in records] == list(range(1, head + 1))
    for subscriber in subscribers:
        told = [message for message in subscriber.heard if "table" in message["payload"]]
        wanted = [record for record in records if is_wanted(record, subscriber.query)]
        assert records_of(subscriber.heard) == [record["seq"] for record in wanted], subscriber.query
        assert [message["payload"] for message in told] == wanted, subscriber.query
        seqs = [message["seq"] for message in subscriber.heard]
        assert seqs == sorted(seqs)
    assert sum(subscriber.connections for subscriber in subscribers) > 30


def busy(process: Process) -> set[str]:
    return {status for status, count in process.client.api("GET", "/status").json["counts"].items() if count}


def all_records(client: Client, head: int) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = []
    while not records or records[-1]["seq"] < head:
        since = records[-1]["seq"] if records else 0
        records += client.api("GET", f"/feed?since={since}").json["records"]
    return records


def is_wanted(record: dict[str, Any], query: str) -> bool:
    """Whether the record's own message is among what was asked for."""
    if query.startswith("&unit="):
        return record["unit"] == query.removeprefix("&unit=")
    topics = query.removeprefix("&topics=").split(",") if query.startswith("&topics=") else None
    return topics is None or next(messages_of(record)).topic in topics


def test_a_server_that_stops_says_so_to_its_listeners_and_its_successor_goes_on_from_there(
    root: Path, start: Callable[..., Process]
) -> None:
    process = start(root)
    ear = Ear(process.client)
    snapshot = ear.next()
    process.submit("first", "exit 0")
    last = ear.until("unit:finish")

    assert snapshot and process.end() == 0
    while ear.next() is not None:
        pass
    process = start(root)
    process.submit("second", "exit 0")
    again = Ear(process.client, f"since={last['seq']}&topics=unit")
    next_one = again.next()
    ear.end()
    again.end()

    assert ear.code == 1001
    assert next_one and (next_one["seq"], next_one["payload"]["unit"]) == (last["seq"] + 1, "second")


def test_the_example_of_the_page_of_the_api_runs(root: Path, start: Callable[..., Process]) -> None:
    (example,) = re.findall(r"```python\n(import json\n.*?)```", document(), re.DOTALL)
    process = start(root)
    program = subprocess.Popen(
        [sys.executable, "-u", "-c", example], cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert program.stdout is not None
    first = program.stdout.readline()

    process.submit("done", "exit 0")
    said, _ = program.communicate(timeout=60)

    assert first.split() == ["0", "snapshot"]
    assert [line.split() for line in said.splitlines()] == [["1", "unit:submit", "done"], ["2", "unit:start", "done"]]
    assert program.returncode == 0
