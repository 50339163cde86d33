"""What large and hostile requests cost everybody else: a batch of units, and questions in SQL that never end.

    python benchmarks/api.py [--units 10000]

A server in a process of its own; two clients ask all the time, one after the other: one for what only its loop has to
answer (GET /healthz), one for what the scheduler has to decide and to write (POST /dispatch). Printed is how long their
slowest answer took beside the request that is measured, in milliseconds, and as a ratio to what stands beside it:

- a batch, to the bare commit of the same rows to a log in one go, which nothing that is all or nothing can do without;
- the batch, to as many units sent one by one;
- two endless queries at once, to the same without them.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from orchestrator_app.states import Status, Trigger
from orchestrator_app.store.log import Log
from orchestrator_app.store.records import Transition

SETTINGS = """
[workflow]
isolation = "none"
phases = ["RUN"]
[phases.RUN]
agent = "nothing"
[agents.nothing]
command = ["true"]
"""
ENDLESS = "SELECT count(*) FROM range(1000000000) a, range(1000000) b"
ONE_BY_ONE = 200
ROUNDS = 300


class Server:
    def __init__(self, folder: Path) -> None:
        (folder / "orchestrator.toml").write_text(SETTINGS)
        self._folder = folder
        state = folder / ".orchestrator"
        command = [sys.executable, "-m", "orchestrator_app", "serve", "--port", "0"]
        self._process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while "url" not in (info := json.loads(text) if (text := _text(state / "server.json")) else {}):
            if self._process.poll() is not None:
                sys.exit(f"the server did not start in {folder}")
            time.sleep(0.05)
        self._address = urlsplit(info["url"]).netloc
        self._headers = {"Authorization": f"Bearer {_text(state / 'token')}", "Content-Type": "application/json"}

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self._address, timeout=60)

    def ask(self, connection: http.client.HTTPConnection, method: str, path: str, body: Any = None) -> Any:
        connection.request(method, path, None if body is None else json.dumps(body), self._headers)
        reply = connection.getresponse()
        content = reply.read()
        if reply.status >= 300:
            sys.exit(f"{method} {path}: {reply.status} {content[:300]!r}")
        return content

    def end(self) -> None:
        self._process.terminate()
        self._process.wait(60)


def _text(path: Path) -> str:
    return path.read_text().strip() if path.exists() else ""


@contextmanager
def asking(server: Server, *words: Any) -> Iterator[list[float]]:
    """Ask this all the time; how many seconds each answer took."""
    took: list[float] = []
    over = threading.Event()

    def run() -> None:
        with closing(server.connect()) as connection:
            while not over.is_set():
                began = time.perf_counter()
                server.ask(connection, *words)
                took.append(time.perf_counter() - began)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield took
    finally:
        over.set()
        thread.join()


def beside(server: Server, work: Callable[[], Any]) -> tuple[list[float], list[float], float]:
    """The waits for the loop and for the scheduler beside this work, and how long it took itself."""
    pause = ("POST", "/api/v1/dispatch", {"paused": True})
    with asking(server, "GET", "/healthz") as loop, asking(server, *pause) as scheduler:
        began = time.perf_counter()
        work()
        took = time.perf_counter() - began
    return loop, scheduler, took


def bare_commit(count: int) -> float:
    """Seconds that the log alone needs for so many rows in one transaction."""
    with tempfile.TemporaryDirectory() as folder:
        log, now = Log(Path(folder)), datetime(2030, 1, 1)
        detail = {"set": {"prompt": "x" * 200, "workflow": "default"}}
        new, ready = Status.NEW, Status.READY
        rows = [
            Transition(seq, f"u-{seq}", 1, new, Trigger.SUBMIT, ready, "RUN", 0, "o", "c", None, detail, now)
            for seq in range(1, count + 1)
        ]
        began = time.perf_counter()
        log.append(rows)
        took = time.perf_counter() - began
        log.close()
        return took


def batches(server: Server, sizes: list[int]) -> None:
    with closing(server.connect()) as connection:

        def send(word: str, count: int) -> None:
            units = [{"name": f"{word}-{number}", "prompt": "x" * 200} for number in range(count)]
            server.ask(connection, "POST", "/api/v1/units", {"units": units})

        began = time.perf_counter()
        for number in range(ONE_BY_ONE):
            send(f"single-{number}", 1)
        single = (time.perf_counter() - began) / ONE_BY_ONE
        for size in sizes:
            loop, scheduler, took = beside(server, lambda size=size: send(f"batch-{size}", size))
            floor = bare_commit(size)
            print(
                f"batch of {size:6,}: {took * 1e3:6.0f} ms, {took / size / single:.3f} × as long as one by one;"
                f" slowest answer beside it: loop {max(loop) * 1e3:4.0f} ms, scheduler {max(scheduler) * 1e3:4.0f} ms"
                f" = {max(scheduler) / floor:.1f} × the bare commit ({floor * 1e3:.0f} ms)"
            )


def queries(server: Server) -> None:
    def rest() -> None:
        with closing(server.connect()) as connection:
            for _ in range(ROUNDS):
                server.ask(connection, "GET", "/healthz")
        time.sleep(3)

    quiet = beside(server, rest)
    endless = [server.connect() for _ in range(2)]
    for connection in endless:
        connection.request("POST", "/api/v1/query", json.dumps({"sql": ENDLESS}), server._headers)
    time.sleep(1)
    hostile = beside(server, rest)
    for connection in endless:
        connection.close()
    for who, before, after in zip(("loop", "scheduler"), quiet, hostile, strict=False):
        ratios = [f"{name} {of(after) * 1e3:.1f} ms = {of(after) / of(before):.2f} ×" for name, of in MEASURES.items()]
        print(f"two endless queries, {who:9}: {', '.join(ratios)} of without")


MEASURES: dict[str, Callable[[list[float]], float]] = {
    "p50": statistics.median,
    "p95": lambda took: statistics.quantiles(took, n=20)[-1],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--units", type=int, default=10_000, help="units of the largest batch")
    options = parser.parse_args()
    print(f"Python {platform.python_version()}, {os.cpu_count()} processors")
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder))
        try:
            with closing(server.connect()) as connection:
                server.ask(connection, "POST", "/api/v1/dispatch", {"paused": True})
            batches(server, [size for size in (100, 1_000, options.units) if size <= options.units])
            queries(server)
        finally:
            server.end()


if __name__ == "__main__":
    main()
