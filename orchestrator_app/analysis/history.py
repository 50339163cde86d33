"""A project's history for a notebook: the board, and data frames, the same whether its server runs or not."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from orchestrator_app.analysis.mirror import Mirror
from orchestrator_app.client import Client
from orchestrator_app.errors import NoServerError, NotFoundError, OrchError, SettingsError, StoreError, UsageError
from orchestrator_app.fields import check_name
from orchestrator_app.model import Board
from orchestrator_app.settings import FILE_NAME, STATE_NAME, find_project
from orchestrator_app.store.asking import ask
from orchestrator_app.store.export import export_stopped
from orchestrator_app.store.reading import ReadingLog

if TYPE_CHECKING:
    import pandas as pd

#: Rows of one answer; a frame with more is asked for in parts.
PAGE = 100_000


def connect(path_or_url: str | os.PathLike[str] | None = None, token: str | None = None) -> History:
    """The history of a project.

    `path_or_url`: the project's directory (or its `.orchestrator`), the URL of its server with that server's `token`,
    or nothing for `$ORCH_PROJECT`, else the project at or above the working directory. If a server runs, the history
    follows it; else it is what the files hold now, and nothing is kept open, so a server can start any time. Close it,
    or use it in a `with` block. Raises an OrchError that says in one line why it can't be read.
    """
    if isinstance(path_or_url, str) and "://" in path_or_url:
        if token is None:
            raise UsageError("a URL needs a token: connect(url, token=…), with what is in .orchestrator/token")
        return _live(path_or_url, lambda: Client(path_or_url, token))
    if token is not None:
        raise UsageError("a token belongs to a URL; for a directory it is found there: connect(directory)")
    state = _state(path_or_url)
    if Client.of(state) is not None:
        return _live(str(state.parent), lambda: Client.of(state))
    return _stopped(state)


class History:
    """What a project's log says. Frames are pandas data frames; their times are UTC.

    `board` is the reactive Board: with a running server it is kept up to date on a thread of its own, on which its
    watchers are called. `live` tells whether there was a server.
    """

    def __init__(self, title: str, board: Board, ask: Callable[[str], dict[str, Any]], mirror: Mirror | None) -> None:
        self.title = title
        self.board = board
        self._ask = ask
        self._mirror = mirror

    @property
    def live(self) -> bool:
        return self._mirror is not None

    @property
    def fault(self) -> str | None:
        """Why the board is not up to date just now; None when it is."""
        return None if self._mirror is None else self._mirror.fault

    def close(self) -> None:
        """Stop following the server."""
        if self._mirror is not None:
            self._mirror.close()

    def __enter__(self) -> History:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        kind = "live" if self.live else "stopped"
        return f"<History of {self.title}, {kind}: {len(self.board.units)} units, {self.board.seq} records>"

    # -- frames: the columns are those of docs/transition-log.md

    def query(self, sql: str) -> pd.DataFrame:
        """The answer to one SELECT. Raises OrchError when it has more than 100,000 rows."""
        answer = self._ask(sql)
        if answer["truncated"]:
            raise OrchError(f"the answer is larger than {PAGE:,} rows or 64 MB: aggregate, or add a LIMIT")
        return _frame(answer)

    def units(self) -> pd.DataFrame:
        """Each unit as it stands: the view `unit`, by `name`."""
        return self._all("SELECT * FROM unit", "name")

    def transitions(self, unit: str | None = None, since: int | datetime | str | None = None) -> pd.DataFrame:
        """The table `transition`, oldest first. `since`: a `seq` to begin behind, or a time (UTC if it has no zone)."""
        return self._all(f"SELECT * FROM transition{_where(unit, since)}", "seq")

    def story(self, unit: str) -> pd.DataFrame:
        """Every transition of a unit, oldest first. Raises NotFoundError."""
        found = self.transitions(unit)
        if found.empty:
            raise NotFoundError(f"there is no unit {unit!r}: units() lists those there are")
        return found

    def events(self, unit: str | None = None, since: int | datetime | str | None = None) -> pd.DataFrame:
        """The table `event`: what agents said, and what happened that moved no status."""
        return self._all(f"SELECT * FROM event{_where(unit, since)}", "seq")

    def attention(self) -> pd.DataFrame:
        """Each attention item: the view `attention`, by `id`. `resolved_at` is NaT while it is open."""
        return self._all("SELECT * FROM attention", "id")

    def time_in_status(self) -> pd.DataFrame:
        """Every stay of a unit in a status: the view `time_in_status`, in the order of its `seq`; `seconds` so far."""
        return self._all("SELECT * FROM time_in_status", "seq")

    def phase_duration(self) -> pd.DataFrame:
        """Every attempt: the view `phase_duration`, in the order of its `seq`."""
        return self._all("SELECT * FROM phase_duration", "seq")

    def usage(self) -> pd.DataFrame:
        """Tokens and dollars: the table `usage`, oldest first."""
        return self._all("SELECT * FROM usage", "seq")

    def throughput(self) -> pd.DataFrame:
        """Units that became DONE, by minute: the view `throughput`."""
        return self._all("SELECT * FROM throughput", "minute")

    def _all(self, sql: str, key: str) -> pd.DataFrame:
        """Every row, in the order of a column that has no value twice, however many parts it takes."""
        answer = self._ask(f"SELECT * FROM ({sql}) ORDER BY {key}")
        rows, more = answer["rows"], answer["truncated"]
        at = answer["columns"].index(key)
        while more:
            last = rows[-1][at]
            behind = str(last) if isinstance(last, int) else f"'{last}'"
            part = self._ask(f"SELECT * FROM ({sql}) WHERE {key} > {behind} ORDER BY {key}")
            if not part["rows"]:
                raise OrchError(f"the row behind {key} {last} is larger than an answer may be: query without its text")
            rows += part["rows"]
            more = part["truncated"]
        return _frame(answer)


def _live(title: str, find: Callable[[], Client | None]) -> History:
    """`find` looks anew each time: the server may have moved."""

    def found() -> Client:
        server = find()
        if server is None:
            raise NoServerError(f"the server of {title} has ended: connect again to read its files")
        return server

    mirror = Mirror(found)
    return History(title, mirror.board, lambda sql: found().post("/query", {"sql": sql, "limit": PAGE}), mirror)


def _stopped(state: Path) -> History:
    seq = export_stopped(state)
    board = Board()
    log = ReadingLog(state)
    try:
        board.fold(log.read(upto=seq))
    finally:
        log.close()
    return History(str(state.parent), board, lambda sql: ask(state / "export", seq, sql, PAGE), None)


def _state(path: str | os.PathLike[str] | None) -> Path:
    """The state directory of the project that is meant. Raises SettingsError or StoreError."""
    given = path if path is not None else os.environ.get("ORCH_PROJECT") or None
    if given is None:
        return find_project(Path.cwd()) / STATE_NAME
    root = Path(given).expanduser().absolute()
    if root.name == STATE_NAME and root.is_dir():
        return root
    if not (root / STATE_NAME).is_dir():
        if not (root / FILE_NAME).is_file():
            raise SettingsError(
                f"{root} is not a project: it has no {FILE_NAME}; run `orch init` there, or name another"
            )
        raise StoreError(f"{root} has no log yet: start it with `orch serve`")
    return root / STATE_NAME


def _where(unit: str | None, since: int | datetime | str | None) -> str:
    """Conditions for a table with `unit`, `seq` and `occurred_at`. Raises UsageError."""
    conditions = [] if unit is None else [f"unit = '{check_name(unit)}'"]
    if isinstance(since, int):
        conditions.append(f"seq > {int(since)}")
    elif since is not None:
        try:
            time = since if isinstance(since, datetime) else datetime.fromisoformat(since)
        except ValueError:
            raise UsageError(f"since is {since!r}: give a seq, a datetime, or a text as 2026-01-31T12:00:00") from None
        time = time.astimezone(UTC).replace(tzinfo=None) if time.tzinfo else time
        conditions.append(f"occurred_at >= TIMESTAMP '{time.isoformat(' ')}'")
    return f" WHERE {' AND '.join(conditions)}" if conditions else ""


def _frame(answer: dict[str, Any]) -> pd.DataFrame:
    from orchestrator_app.analysis.frames import frame  # pandas is slow to load

    return frame(answer)
