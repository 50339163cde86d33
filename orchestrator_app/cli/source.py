"""Where reading commands read: the running server, or the files of a stopped project. Both give the same rows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any, NamedTuple

from orchestrator_app.claim import server_info
from orchestrator_app.cli.client import Client, Refused, connect, no_server, unit_path
from orchestrator_app.cli.place import Place
from orchestrator_app.errors import NoServerError, NotFoundError
from orchestrator_app.fields import check_name

PIECE = 1024 * 1024
"""Bytes of output that are read at once."""


class Piece(NamedTuple):
    """Part of an attempt's output. `size` is the whole file's."""

    offset: int
    data: bytes
    size: int


class Live:
    """A running server."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.root = client.root

    def status(self) -> dict[str, Any]:
        return self.client.get("/status")

    def units(
        self, status: str | None = None, label: str | None = None, limit: int | None = None
    ) -> list[dict[str, Any]]:
        return list(self.client.pages("/units", "units", limit, status=status, label=label))

    def unit(self, name: str) -> dict[str, Any]:
        """Raises NotFoundError, with the names that are close."""
        try:
            return self.client.get(unit_path(check_name(name)))
        except Refused as error:
            if error.status != 404:
                raise
            raise unknown_unit(name, (unit["name"] for unit in self.client.pages("/units", "units"))) from None

    def story(self, name: str) -> list[dict[str, Any]]:
        self.unit(name)
        return self.client.get(unit_path(name, "story"))["transitions"]

    def events(self, name: str, since: int) -> list[dict[str, Any]]:
        return self.client.get(unit_path(name, "events"), since=since)["events"]

    def attention(self) -> list[dict[str, Any]]:
        return list(self.client.pages("/attention", "items"))

    def changes(self, since: int, **query: Any) -> dict[str, Any]:
        return self.client.changes(since, **query)

    def diff(self, name: str) -> dict[str, Any]:
        self.unit(name)
        return self.client.get(unit_path(name, "diff"))

    def output(self, name: str, attempt: int, *, offset: int | None = None, tail: int | None = None) -> Piece:
        """A piece of at most 1 MB: from `offset`, or the last `tail` lines. Raises NotFoundError."""
        query = {"attempt": attempt, "offset": offset, "tail": tail, "limit": PIECE}
        try:
            reply = self.client.call("GET", unit_path(name, "log"), query, headers={"Accept": "text/plain"})
        except Refused as error:
            if error.status == 404:
                raise NotFoundError(str(error)) from None
            raise
        end, size = int(reply.headers["X-Next-Offset"]), int(reply.headers["X-Log-Size"])
        return Piece(end - len(reply.data), reply.data, size)

    def faults(self) -> dict[str, Any]:
        return self.client.get("/check")


class Stopped:
    """The files of a project that no server runs for."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.root = place.root
        if not (place.state / "orchestrator.duckdb").exists():
            raise NoServerError(f"{no_server(place.root)}; it has no log yet")

    @contextmanager
    def log(self) -> Iterator[Any]:
        from orchestrator_app.store.reading import ReadingLog

        log = ReadingLog(self.place.state)
        try:
            yield log
        finally:
            log.close()

    @cached_property
    def board(self) -> Any:
        from orchestrator_app.model import Board

        board = Board()
        with self.log() as log:
            board.fold(log.read())
        return board

    def rows(self, sql: str, params: Any = ()) -> list[dict[str, Any]]:
        with self.log() as log:
            return log.rows(sql, params)

    def status(self) -> dict[str, Any]:
        board = self.board
        paused = "paused" if board.dispatch_paused else "on"
        return {
            "state": "stopped",
            "seq": board.seq,
            "counts": board.counts,
            "running": board.counts["RUNNING"],
            "attention": len(board.attention),
            "dispatch": paused,
            "project": str(self.root),
        }

    def units(
        self, status: str | None = None, label: str | None = None, limit: int | None = None
    ) -> list[dict[str, Any]]:
        from orchestrator_app.api.units import unit_row

        found = [
            unit
            for _, unit in sorted(self.board.units.items())
            if (status is None or unit.status == status) and (label is None or label in unit.labels)
        ]
        return [unit_row(unit, self.board) for unit in found[:limit]]

    def unit(self, name: str) -> dict[str, Any]:
        from orchestrator_app.api.units import unit_row

        unit = self.board.units.get(check_name(name))
        if unit is None:
            raise unknown_unit(name, self.board.units)
        return unit_row(unit, self.board)

    def story(self, name: str) -> list[dict[str, Any]]:
        from orchestrator_app.api.rows import opened

        self.unit(name)
        return [opened(row) for row in self.rows('SELECT * FROM "transition" WHERE unit = ? ORDER BY seq', (name,))]

    def events(self, name: str, since: int) -> list[dict[str, Any]]:
        from orchestrator_app.api.rows import opened

        sql = 'SELECT * FROM "event" WHERE unit = ? AND seq > ? ORDER BY seq LIMIT 1000'
        return [opened(row) for row in self.rows(sql, (name, since))]

    def attention(self) -> list[dict[str, Any]]:
        return [
            {**{key: getattr(item, key) for key in type(item).__slots__}, "detail": dict(item.detail)}
            for _, item in sorted(self.board.attention.items())
        ]

    def changes(self, since: int, *, tables: str | None = None, unit: str | None = None, **_: Any) -> dict[str, Any]:
        from orchestrator_app.api import changes

        wanted = tuple(tables.split(",")) if tables else changes.TABLES
        records = changes.read(self, wanted, since, changes.LIMIT, unit)
        more = len(records) == changes.LIMIT
        return {"records": records, "seq": records[-1]["seq"] if records else since, "more": more}

    def diff(self, name: str) -> dict[str, Any]:
        from orchestrator_app.workspace.worktrees import Worktrees

        unit, project = self.unit(name), self.place.project
        if project.isolation == "none" or not unit["base"]:
            raise NotFoundError(f'unit "{name}" has no branch of its own, so there is no diff')
        text = Worktrees(project.root, project.state).diff(name, unit["base"])
        return {"unit": name, "base": unit["base"], "diff": text, "truncated": False}

    def output(self, name: str, attempt: int, *, offset: int | None = None, tail: int | None = None) -> Piece:
        from orchestrator_app.executors.output import read_piece

        piece = read_piece(self.place.state / "runs", (name, str(attempt), "output.log"), offset, tail, PIECE)
        if piece is None:
            raise NotFoundError(f'unit "{name}" has no output of attempt {attempt}')
        return Piece(*piece)

    def faults(self) -> dict[str, Any]:
        from orchestrator_app.keeping import check

        return check(self.place.state)


def open_source(place: Place) -> Live | Stopped:
    """The running server if there is one, else the files. Raises NoServerError when there are none either."""
    return Stopped(place) if server_info(place.state) is None else Live(connect(place.root))


def unknown_unit(name: str, names: Any) -> NotFoundError:
    from difflib import get_close_matches

    names = list(names)
    close = get_close_matches(name, names, 3, 0.6) or [one for one in names if one.startswith(name)][:3]
    meant = f"did you mean {' or '.join(close)}?" if close else "`orch ls` shows those there are"
    return NotFoundError(f'there is no unit "{name}": {meant}')
