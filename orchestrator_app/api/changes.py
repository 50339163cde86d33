"""Long polling: what was committed after a place in the log, as soon as there is anything.

The log is the truth and a watcher only the wake-up: a notice that got lost heals at the next one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from orchestrator_app.api.routing import Call, Field, Route
from orchestrator_app.api.rows import opened
from orchestrator_app.api.shapes import COUNT, FLAG, RECORD, listed, thing
from orchestrator_app.api.tail import Tail
from orchestrator_app.store.records import TABLES as RECORDS

TABLES = tuple(RECORDS.values())
_TABLES = "^({0})(,({0}))*$".format("|".join(TABLES))
LONGEST = 60.0
"""Seconds that a request may wait."""
LIMIT = 2_000
"""Records of one answer."""


class Changes:
    """Wakes requests of the server's loop when the scheduler's thread has committed."""

    def __init__(self, board: Any, loop: asyncio.AbstractEventLoop) -> None:
        self.closed = False
        #: What those hear who listen at /ws.
        self.tail = Tail(board, loop)
        self._loop = loop
        self._waiting: set[asyncio.Future[None]] = set()
        self._unsubscribe = board.watch(self._committed)

    def next(self, timeout: float) -> asyncio.Task[Any]:
        """A task that ends at the next commit, or after `timeout` seconds. It notices from the moment of this call."""
        waiter = self._loop.create_future()
        self._waiting.add(waiter)  # here, not in the task: that begins to run only later, and a commit may come between
        task = asyncio.ensure_future(asyncio.wait([waiter], timeout=timeout))
        task.add_done_callback(lambda _: self._waiting.discard(waiter))
        return task

    def close(self) -> None:
        """Let every waiting request go with what it has. From any thread."""
        self.closed = True
        self._unsubscribe()
        self._loop.call_soon_threadsafe(self._wake)
        self._loop.call_soon_threadsafe(self.tail.close)

    def _committed(self, records: Sequence[Any]) -> None:
        if self._waiting:
            self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)


async def feed(call: Call) -> Any:
    since, limit = call.query["since"], call.query.get("limit", LIMIT)
    tables = tuple(call.query["tables"].split(",")) if "tables" in call.query else TABLES
    wait = min(call.query.get("wait", 0.0), LONGEST)
    loop = asyncio.get_running_loop()
    until = loop.time() + wait
    while True:
        # Begin to wait before looking: a commit in between then ends the wait at once.
        woken = call.server.changes.next(max(0.0, until - loop.time()))
        head = call.orchestrator.board.seq
        records = await call.aside(read, call.orchestrator, tables, since, limit, call.query.get("unit"), head)
        if records or loop.time() >= until or call.server.changes.closed:
            woken.cancel()
            break
        await woken
    last, full = records[-1]["seq"] if records else since, len(records) == limit
    return {"records": records, "seq": last if full else max(head, last), "head": head, "more": full}


def read(
    orchestrator: Any, tables: Sequence[str], since: int, limit: int, unit: str | None, upto: int = 1 << 62
) -> list[dict[str, Any]]:
    """The next records of these tables, up to `upto`, in the order of their seq; each says its `table`.

    While something is being committed `upto` must be a place that the board has reached: the tables are read one after
    the other, and a commit in between would show its records in the later ones only.
    """
    records: list[dict[str, Any]] = []
    for table in tables:
        only, params = ("AND unit = ?", (unit,)) if unit is not None else ("", ())
        sql = f'SELECT * FROM "{table}" WHERE seq > ? AND seq <= ? {only} ORDER BY seq LIMIT ?'
        rows = orchestrator.rows(sql, (since, upto, *params, limit))
        records += ({"table": table, **opened(row)} for row in rows)
    records.sort(key=lambda record: record["seq"])
    return records[:limit]


ROUTES = (
    Route(
        "GET",
        "/feed",
        "Records committed after `since`, oldest first; waits for the first one if there is none yet.",
        feed,
        gives=thing(records=listed(RECORD), seq=COUNT, head=COUNT, more=FLAG),
        query=(
            Field("since", "integer", "the `seq` of the answer before; 0 for all", required=True),
            Field("wait", "number", f"seconds to wait for a first record; {LONGEST:g} at most, 0 if not given"),
            Field("tables", "string", f"only these, with commas: {', '.join(TABLES)}", rule={"pattern": _TABLES}),
            Field("unit", "string", "only records of this unit"),
            Field(
                "limit",
                "integer",
                f"at most so many records; {LIMIT} at most",
                rule={"minimum": 1, "maximum": LIMIT},
            ),
        ),
    ),
)
