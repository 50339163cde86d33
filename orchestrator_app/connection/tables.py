"""What a project's log says, as pandas data frames: the same from a running server and from a stopped project."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from orchestrator_app.client.verbs import asks
from orchestrator_app.errors import NotFoundError, OrchError, UsageError
from orchestrator_app.fields import check_name

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

#: Rows of one answer; a frame with more is asked for in parts.
PAGE = 100_000


class Tables:
    """Frames are pandas data frames; their times are UTC. Columns are those of docs/transition-log.md."""

    def _packed(self, sql: str, limit: int) -> tuple[bytes, bool]:
        """The answer to a SELECT as an Arrow stream of at most `limit` rows, and whether it was cut."""
        raise NotImplementedError

    @asks("POST /query")
    def query(self, sql: str) -> pd.DataFrame:
        """The answer to one SELECT. Raises OrchError when it has more than 100,000 rows."""
        return _frame(self.arrow(sql))

    @asks("POST /query")
    def arrow(self, sql: str) -> pa.Table:
        """The same as an Arrow table, without a copy; the metadata of its schema has DuckDB's `types`."""
        table, truncated = self._ask(sql)
        if truncated:
            raise OrchError(f"the answer is larger than {PAGE:,} rows or 64 MB: aggregate, or add a LIMIT")
        return table

    def units(self) -> pd.DataFrame:
        """Each unit as it stands: the view `unit`, by `name`."""
        return self._all("SELECT * FROM unit", "name")

    def transitions(self, unit: str | None = None, since: int | datetime | str | None = None) -> pd.DataFrame:
        """The table `transition`, oldest first. `since`: a `seq` to begin behind, or a time (UTC if it has no zone)."""
        return self._all(f"SELECT * FROM transition{_where(unit, since)}", "seq")

    @asks("GET /units/{name}/story")
    def story(self, unit: str, since: int | datetime | str | None = None) -> pd.DataFrame:
        """Every transition of a unit, oldest first. Raises NotFoundError."""
        found = self.transitions(unit, since)
        if found.empty and (since is None or self.transitions(unit).empty):
            raise NotFoundError(f"there is no unit {unit!r}: units() lists those there are")
        return found

    @asks("GET /units/{name}/events")
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

    @asks("GET /sessions", "GET /units/{name}/sessions")
    def sessions(self, unit: str | None = None, since: int | datetime | str | None = None) -> pd.DataFrame:
        """The table `session`: the agent conversations that attempts have named."""
        return self._all(f"SELECT * FROM session{_where(unit, since)}", "seq")

    def _ask(self, sql: str) -> tuple[pa.Table, bool]:
        from orchestrator_app.connection.frames import table_of  # pandas is slow to load

        content, truncated = self._packed(sql, PAGE)
        return table_of(content), truncated

    def _all(self, sql: str, key: str) -> pd.DataFrame:
        """Every row, in the order of a column that has no value twice, however many parts it takes."""
        import pyarrow as pa

        table, more = self._ask(f"SELECT * FROM ({sql}) ORDER BY {key}")
        parts = [table]
        while more:
            last = parts[-1].column(key)[-1].as_py()
            behind = str(last) if isinstance(last, int) else f"'{last}'"
            part, more = self._ask(f"SELECT * FROM ({sql}) WHERE {key} > {behind} ORDER BY {key}")
            if not part.num_rows:
                raise OrchError(f"the row behind {key} {last} is larger than an answer may be: query without its text")
            parts.append(part)
        return _frame(pa.concat_tables(parts))


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


def _frame(table: pa.Table) -> pd.DataFrame:
    from orchestrator_app.connection.frames import frame

    return frame(table)
