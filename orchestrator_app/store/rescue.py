"""Gathering what the files of a damaged log still hold, when no way of opening it holds everything.

Every row is taken from the first of its sources that can be read: the database with as much of its write-ahead log as
can be read, the copy before the last checkpoint with the same, the journal, the Parquet files. A part of a file that
can't be read costs its own rows only.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import duckdb

from orchestrator_app.store.files import COPY, DATABASE, WAL, empty_folder
from orchestrator_app.store.journal import Journal
from orchestrator_app.store.mirror import as_text, files_of, high_water
from orchestrator_app.store.records import TABLES
from orchestrator_app.store.recovery import CONFIG, lay_out
from orchestrator_app.store.schema import build
from orchestrator_app.store.soundness import NUMBERS, as_stored

#: A stretch of numbers of which some can't be read is split until it is no longer than this.
SHORTEST = 64
#: So many stretches of one table are given up before the rest of it is.
MOST_FAILURES = 1_000


class Span(NamedTuple):
    """The numbers from `first` to `last`."""

    first: int
    last: int

    def __str__(self) -> str:
        return f"{self.first}" if self.first == self.last else f"{self.first} to {self.last}"


class Rescue:
    """The rows that were found, in a database of their own in `work`. Close it when done."""

    def __init__(self, state: Path, work: Path) -> None:
        self.state = state
        self._work = work
        build(work / "found.duckdb")
        self._found = duckdb.connect(str(work / "found.duckdb"), config=CONFIG)
        #: How many rows came from where.
        self.taken: dict[str, int] = {}
        self._ends: set[int] = set()
        self._witnessed = max([high_water(state / "export"), *(entry.seq for entry in Journal(state).entries())])
        self._from_database("the database", DATABASE)
        self._from_database("the copy before the last checkpoint", COPY)
        self._take("the journal", self._from_journal)
        self._take("the Parquet files", self._from_mirror)

    def close(self) -> None:
        self._found.close()

    # -- the sources

    def _take(self, name: str, source: Callable[[], None]) -> None:
        before = self._count()
        source()
        if (added := self._count() - before) > 0:
            self.taken[name] = self.taken.get(name, 0) + added

    def _count(self) -> int:
        return self._found.execute(f"SELECT count(*) FROM ({NUMBERS})").fetchall()[0][0]

    def _from_database(self, name: str, source: str) -> None:
        """All rows that a database has with the longest part of the WAL that can be read, and those it has without."""
        if not (self.state / source).exists():
            return
        wal = self.state / WAL
        length = self._longest(source, wal.stat().st_size if wal.exists() else 0)
        if length:
            self._take(f"{name} and its write-ahead log", lambda: self._from_opened(source, length))
        if length is not None and self._opens(source, 0):
            self._take(name, lambda: self._from_opened(source, 0))

    def _longest(self, source: str, length: int) -> int | None:
        """How many bytes of the WAL can be read together with a database; None if not even none."""
        if self._opens(source, length):
            return length
        if not self._opens(source, 0):
            return None
        good, bad = 0, length
        while bad - good > 128:
            middle = (good + bad) // 2
            good, bad = (middle, bad) if self._opens(source, middle) else (good, middle)
        return good

    def _opens(self, source: str, wal: int) -> bool:
        try:
            self._open(source, wal).close()
        except duckdb.Error:
            return False
        return True

    def _open(self, source: str, wal: int) -> duckdb.DuckDBPyConnection:
        """A copy of a database with part of the WAL, in an instance of its own: an error in it may end that."""
        trial = empty_folder(self._work / "trial")
        lay_out(self.state, trial, source, wal)
        return duckdb.connect(str(trial / DATABASE), config=CONFIG)

    def _from_opened(self, source: str, wal: int) -> None:
        connection = self._open(source, wal)
        part = self._work / "part"
        highest = max(_highest(connection), self._witnessed)
        whole = True
        for table in TABLES.values():
            todo, failures = deque([Span(1, highest)]), 0
            while todo and failures < MOST_FAILURES:
                span = todo.popleft()
                try:
                    connection.execute(
                        f"COPY (SELECT * FROM {table} WHERE seq BETWEEN {span.first} AND {span.last}) "
                        f"TO {as_text(part)} (FORMAT parquet)"
                    )
                    self._insert(table, part)
                except duckdb.Error:
                    whole = False
                    failures += 1
                    if span.last - span.first > SHORTEST:
                        middle = (span.first + span.last) // 2
                        todo += [Span(span.first, middle), Span(middle + 1, span.last)]
                    if not _lives(connection):
                        connection.close()
                        connection = self._open(source, wal)
        connection.close()
        if whole and (end := self._found.execute(f"SELECT max(seq) FROM ({NUMBERS})").fetchall()[0][0]):
            self._ends.add(end)

    def _insert(self, table: str, file: Path) -> None:
        """Take over the rows of a Parquet file that are not there yet."""
        columns = ", ".join(f'"{name}"' for record, of in TABLES.items() if of == table for name in record._fields)
        self._found.execute(
            f"INSERT INTO {table} SELECT {columns} FROM read_parquet({as_text(file)}, hive_partitioning = false) "
            f"WHERE seq NOT IN (SELECT seq FROM ({NUMBERS})) ORDER BY seq"
        )

    def _from_journal(self) -> None:
        known = {seq for (seq,) in self._found.execute(NUMBERS).fetchall()}
        missing: dict[str, list[tuple]] = {}
        for entry in Journal(self.state).entries():
            self._ends.add(entry.seq)
            for table, values in entry.rows:
                if values[0] not in known:
                    known.add(values[0])
                    missing.setdefault(table, []).append(as_stored(values))
        for table, rows in missing.items():
            appender = self._found.appender(table)
            appender.append_rows(sorted(rows, key=lambda row: row[0]))
            appender.flush()

    def _from_mirror(self) -> None:
        for table in TABLES.values():
            for file in files_of(self.state / "export", table):
                with suppress(duckdb.Error):  # a damaged one costs what it holds
                    self._insert(table, file)

    # -- what came of it

    def is_end_known(self) -> bool:
        """Whether the journal says where the log ended: if it was harmed too, nobody can tell what came behind."""
        journal = Journal(self.state)
        try:
            whole = journal.path.read_bytes().endswith(b"\n")
        except OSError:
            return False
        return whole and not journal.damaged_lines()

    def missing(self) -> list[Span]:
        """The numbers below the highest one that nothing has."""
        rows = self._found.execute(
            f"SELECT previous + 1, seq - 1 FROM (SELECT seq, lag(seq, 1, 0) OVER (ORDER BY seq) AS previous "
            f"FROM ({NUMBERS})) WHERE seq > previous + 1 ORDER BY seq"
        ).fetchall()
        return [Span(*row) for row in rows]

    def ends(self) -> Iterator[int]:
        """Where the story can be cut, from the last place on: the row before the first one that is missing or doesn't
        follow, as far as it ended a commit; then the end of the commit before, and so on."""
        gaps = self.missing()
        last = gaps[0].first - 1 if gaps else self._found.execute(f"SELECT max(seq) FROM ({NUMBERS})").fetchall()[0][0]
        broken = self._found.execute(
            "SELECT min(seq) FROM (SELECT seq FROM broken_chain UNION ALL SELECT seq FROM illegal_move)"
        ).fetchall()[0][0]
        if broken is not None and broken <= last:
            last = self._commit_before(broken)
        elif gaps and last not in self._ends:
            last = self._commit_before(last)
        while last:
            yield last
            last = self._commit_before(last)

    def _commit_before(self, seq: int) -> int:
        """The newest row that was committed earlier than this one: the rows of one commit have one time."""
        dated = " UNION ALL ".join(f"SELECT seq, occurred_at FROM {table}" for table in TABLES.values())
        return self._found.execute(
            f"WITH dated AS ({dated}) SELECT coalesce(max(seq), 0) FROM dated "
            "WHERE seq < $1 AND occurred_at <> (SELECT max(occurred_at) FROM dated WHERE seq = $1)",
            [seq],
        ).fetchall()[0][0]

    def write(self, path: Path, upto: int) -> None:
        """Make a database of the rows up to that number."""
        build(path)
        self._found.execute(f"ATTACH {as_text(path)} AS target")
        for table in TABLES.values():
            self._found.execute(f"INSERT INTO target.{table} SELECT * FROM {table} WHERE seq <= ? ORDER BY seq", [upto])
        self._found.execute("DETACH target")

    def write_rest(self, folder: Path, behind: int) -> tuple[int, set[str]]:
        """Keep the rows behind that number as Parquet files; how many, and of which units."""
        count, units = 0, set()
        for table in TABLES.values():
            (rows,) = self._found.execute(f"SELECT count(*) FROM {table} WHERE seq > ?", [behind]).fetchall()[0]
            if rows:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                file = as_text(folder / f"{table}.parquet")
                self._found.execute(
                    f"COPY (SELECT * FROM {table} WHERE seq > {behind} ORDER BY seq) TO {file} (FORMAT parquet)"
                )
                found = self._found.execute(f"SELECT DISTINCT unit FROM {table} WHERE seq > ?", [behind]).fetchall()
                units |= {unit for (unit,) in found if unit is not None}
                count += rows
        return count, units


def _highest(connection: duckdb.DuckDBPyConnection) -> int:
    """The highest number in those tables that can say theirs."""
    highest = 0
    for table in TABLES.values():
        with suppress(duckdb.Error):
            highest = max(highest, connection.execute(f"SELECT coalesce(max(seq), 0) FROM {table}").fetchall()[0][0])
    return highest


def _lives(connection: duckdb.DuckDBPyConnection) -> bool:
    """Whether an error has left the instance in order."""
    try:
        connection.execute("SELECT 1").fetchall()
    except duckdb.Error:
        return False
    return True
