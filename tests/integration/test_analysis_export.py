"""The Parquet files hold every row of the log, once, and never hold up the scheduler."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from analysis_kit import live_through, make_project, running, serving

from orchestrator_app.analysis import export
from orchestrator_app.errors import NotFoundError, OrchError, StoreError, UsageError
from orchestrator_app.settings import Project
from orchestrator_app.states import Status, Trigger
from orchestrator_app.store import export as export_module
from orchestrator_app.store.export import Export, files_of
from orchestrator_app.store.exporter import Exporter
from orchestrator_app.store.log import Log
from orchestrator_app.store.records import TABLES, Event, Transition, Usage

NOON = datetime(2026, 1, 1, 12)


def submit(seq: int, when: datetime = NOON) -> Transition:
    return Transition(
        seq, f"u{seq}", 1, Status.NEW, Trigger.SUBMIT, Status.READY, "RUN", 0, "operator:ann", f"c{seq}", None,
        {"set": {"prompt": "p"}}, when,
    )  # fmt: skip


def note(seq: int, when: datetime = NOON) -> Event:
    return Event(seq, None, None, "note", "info", "hello", {"n": [seq]}, None, "scheduler", f"c{seq}", when)


def read(folder: Path, sql: str) -> list[tuple]:
    """SQL over the files as an analyst's own DuckDB reads them; {table} names their pattern."""
    connection = duckdb.connect()
    try:
        return connection.execute(
            sql.replace("{", f"read_parquet('{folder}/").replace("}", "/*/*.parquet')")
        ).fetchall()
    finally:
        connection.close()


def exported(folder: Path, table: str) -> list[tuple]:
    return read(folder, f"SELECT * EXCLUDE (day) FROM {{{table}}} ORDER BY seq") if files_of(folder, table) else []


def numbers(folder: Path, table: str = "transition") -> list[int]:
    return [row[0] for row in exported(folder, table)]


def same_as_the_log(log: Log, folder: Path) -> None:
    for table in TABLES.values():
        rows = [tuple(row.values()) for row in log.rows(f"SELECT * FROM {table} ORDER BY seq")]
        assert exported(folder, table) == rows, table


@pytest.fixture
def log(tmp_path: Path) -> Any:
    log = Log(tmp_path / "state")
    yield log
    log.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state" / "export"


def test_every_row_is_in_the_files_once_with_the_columns_and_types_of_its_table(log: Log, folder: Path) -> None:
    log.append([submit(1), note(2), Usage(3, "u1", 1, "RUN", "m", 5, 6, 0.5, NOON), submit(4)])

    reached = Export(log, folder).catch_up()

    assert reached == 4
    same_as_the_log(log, folder)
    for table in ("transition", "event", "usage"):
        described = [row[:2] for row in read(folder, f"DESCRIBE SELECT * EXCLUDE (day) FROM {{{table}}}")]
        assert described == [tuple(row.values())[:2] for row in log.rows(f"DESCRIBE {table}")]


def test_a_restart_goes_on_behind_the_newest_exported_row(log: Log, folder: Path) -> None:
    log.append([submit(1), note(2)])
    Export(log, folder).catch_up()
    log.append([submit(3), submit(4), note(5)])

    Export(log, folder).catch_up()

    same_as_the_log(log, folder)
    assert [file.name for file in files_of(folder, "transition")] == ["000000000001.parquet"]


def test_full_files_are_never_written_again(log: Log, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_module, "SPAN", 10)
    log.append([submit(seq) for seq in range(1, 26)])
    one = Export(log, folder)
    one.catch_up()
    before = {file.name: file.stat().st_ino for file in files_of(folder, "transition")}
    log.append([submit(seq) for seq in range(26, 33)])

    one.catch_up()

    after = {file.name: file.stat().st_ino for file in files_of(folder, "transition")}
    assert list(after) == [f"{first:012d}.parquet" for first in (1, 11, 21, 31)]
    assert {name: after[name] for name in list(before)[:2]} == {name: before[name] for name in list(before)[:2]}
    same_as_the_log(log, folder)


def test_days_are_apart_even_when_the_clock_goes_back(log: Log, folder: Path) -> None:
    days = [0, 0, 1, 0, 1, 1, 2, 0]
    log.append([submit(seq, NOON + timedelta(days=day)) for seq, day in enumerate(days, 1)])

    Export(log, folder).catch_up()

    same_as_the_log(log, folder)
    assert Export(log, folder).catch_up() == 8
    assert read(folder, "SELECT count(*) FROM {transition} WHERE day <> occurred_at::DATE") == [(0,)]
    assert len(files_of(folder, "transition")) == 6


def test_what_a_crash_left_half_written_is_no_file_and_is_overwritten(log: Log, folder: Path) -> None:
    log.append([submit(1)])
    Export(log, folder).catch_up()
    (folder / "transition" / ".draft").write_bytes(b"PAR1 half of")
    assert numbers(folder) == [1]
    log.append([submit(2)])

    Export(log, folder).catch_up()

    same_as_the_log(log, folder)
    assert not (folder / "transition" / ".draft").exists()


@pytest.mark.parametrize("damage", ["garbage", "a missing file", "another log"])
def test_files_that_are_not_exactly_the_logs_are_set_aside_and_written_anew(
    tmp_path: Path, log: Log, folder: Path, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_module, "SPAN", 2)
    log.append([submit(seq) for seq in range(1, 6)])
    if damage == "another log":
        other = Log(tmp_path / "other")
        other.append([submit(seq, NOON + timedelta(seconds=1)) for seq in range(1, 6)])
        Export(other, folder).catch_up()
        other.close()
    else:
        Export(log, folder).catch_up()
        first = files_of(folder, "transition")[0]
        first.write_bytes(b"garbage") if damage == "garbage" else first.unlink()

    assert Export(log, folder).catch_up() == 5

    same_as_the_log(log, folder)
    assert list(folder.parent.glob("export-set-aside-*/transition"))


def test_who_reads_meanwhile_never_sees_half_a_file_a_row_twice_or_a_row_missing(log: Log, folder: Path) -> None:
    log.append([submit(1)])
    one, seen, over = Export(log, folder), [], threading.Event()
    one.catch_up()

    def look() -> None:
        while not over.is_set():
            seen.append(read(folder, "SELECT count(*), count(DISTINCT seq), max(seq) FROM {transition}")[0])

    reader = threading.Thread(target=look)
    reader.start()
    for seq in range(2, 60):
        log.append([submit(seq)])
        one.catch_up()
    over.set()
    reader.join()

    assert len(seen) > 5
    assert all(count == different == last for count, different, last in seen)


def test_the_files_follow_a_running_orchestrator_by_themselves(tmp_path: Path, wait_until: Callable[..., Any]) -> None:
    project = make_project(tmp_path / "project")
    folder = project.state / "export"

    with running(project) as orchestrator:
        live_through(orchestrator)
        wait_until(lambda: numbers(folder) and numbers(folder, "attention_change"))
        committed = orchestrator.rows("SELECT count(*) AS n FROM transition")[0]["n"]
        wait_until(lambda: len(numbers(folder)) == committed)
        orchestrator.request("cancel", "unsure").result(20)

    log = Log(project.state)  # the stop has written the last rows
    same_as_the_log(log, folder)
    log.close()


def test_units_go_on_when_the_files_can_not_be_written(tmp_path: Path, wait_until: Callable[..., Any]) -> None:
    project = make_project(tmp_path / "project")
    project.state.mkdir()
    (project.state / "export").write_text("in the way")

    with running(project) as orchestrator:
        live_through(orchestrator)
        wait_until(lambda: orchestrator.exporter.fault)
        with pytest.raises(StoreError, match=r"^the Parquet files can't be brought up to date: .*exists"):
            orchestrator.exporter.bring_up_to_date()
        (project.state / "export").unlink()
        wait_until(lambda: _up_to_date(orchestrator.exporter))

        same_as_the_log(orchestrator.log, project.state / "export")
        assert orchestrator.exporter.fault is None


def _up_to_date(exporter: Exporter) -> bool:
    try:
        exporter.bring_up_to_date()
    except StoreError:
        return False
    return True


def test_an_exporter_that_hangs_holds_up_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()
    monkeypatch.setattr(Export, "catch_up", lambda self, enough: go_on.wait(60))
    project = make_project(tmp_path / "project")

    with running(project) as orchestrator:
        live_through(orchestrator)
        with pytest.raises(StoreError, match=r"^the Parquet files are at row 0 and the log is at \d+: try again"):
            orchestrator.exporter.bring_up_to_date(timeout=0.2)
        go_on.set()


# -- export(project, directory)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return make_project(tmp_path / "project")


def test_an_export_of_a_running_and_of_a_stopped_project_are_the_same(project: Project, tmp_path: Path) -> None:
    with serving(project) as server:
        live_through(server.orchestrator)
        first = export(project, tmp_path / "live")
        assert first["seq"] == server.orchestrator.board.seq
    second = export(project, tmp_path / "stopped")

    log = Log(project.state)
    same_as_the_log(log, tmp_path / "stopped")
    log.close()
    assert first["rows"]["transition"] == second["rows"]["transition"] == len(numbers(tmp_path / "live"))
    assert {one["path"] for one in second["files"]} == {
        str(file.relative_to(tmp_path / "stopped")) for file in (tmp_path / "stopped").rglob("*.parquet")
    }
    assert sum(one["rows"] for one in second["files"]) == sum(second["rows"].values()) == second["seq"]


def test_a_second_export_into_a_directory_copies_what_is_new(project: Project, tmp_path: Path) -> None:
    for number in range(2):
        with running(project) as orchestrator:
            orchestrator.request("submit", units=[{"name": f"unit-{number}"}]).result(20)
        answer = export(project, tmp_path / "out")
        assert answer["rows"]["transition"] == len(numbers(tmp_path / "out"))

    assert export(project)["rows"] == answer["rows"]
    assert export(project)["directory"] == str(project.state / "export")


def test_an_export_does_not_mix_two_logs(project: Project, tmp_path: Path) -> None:
    with running(project) as orchestrator:
        orchestrator.request("submit", units=[{"name": "one"}]).result(20)
    foreign = tmp_path / "out" / "event" / "day=2020-01-01" / "000000000007.parquet"
    foreign.parent.mkdir(parents=True)
    foreign.write_bytes(b"PAR1")

    with pytest.raises(UsageError, match=r"000000000007\.parquet is not of this log: export into an empty directory"):
        export(project, tmp_path / "out")

    assert [file for file in (tmp_path / "out").rglob("*") if file.is_file()] == [foreign]


def test_an_export_that_can_not_be_written_says_so_in_one_line(project: Project, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"has no log yet: start it with `orch serve`$"):
        export(project, tmp_path / "out")
    with running(project) as orchestrator:
        orchestrator.request("submit", units=[{"name": "one"}]).result(20)
    (tmp_path / "out").write_text("a file")

    with pytest.raises(OrchError, match=r"out can't be written .*: choose another directory$"):
        export(project, tmp_path / "out")
