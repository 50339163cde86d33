"""A log of an older format is renewed with everything in it; one of a newer format is left alone."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import duckdb
import pytest
from log_kit import interrupted, kill_everywhere, numbers, old_log

from orchestrator_app.errors import LaterFormatError, StoreError
from orchestrator_app.store.log import Log
from orchestrator_app.store.reading import ReadingLog

NEGATIVE = "SELECT (SELECT count(*) FROM time_in_status WHERE seconds < 0) AS stays, (SELECT count(*) FROM phase_duration WHERE seconds < 0) AS attempts"  # noqa: E501


def views(log: Log) -> dict[str, str]:
    rows = log.rows("SELECT view_name, sql FROM duckdb_views() WHERE NOT internal")
    return {row["view_name"]: row["sql"].replace("CREATE OR REPLACE", "CREATE") for row in rows}


def test_f34_a_log_of_an_older_format_is_renewed_and_the_old_file_is_kept(tmp_path: Path) -> None:
    last = old_log(tmp_path / "old")
    fresh = Log(tmp_path / "fresh")

    log = Log(tmp_path / "old")

    assert [record.seq for record in log.read()] == list(range(1, last + 1))
    assert views(log) == views(fresh)
    assert {row["name"]: row["value"] for row in log.rows("SELECT * FROM meta")}["schema"] == "2"
    (kept,) = (tmp_path / "old").glob("orchestrator.duckdb.format-1.*")
    assert kept.name in log.recovered
    log.close()
    fresh.close()
    with duckdb.connect(str(kept), read_only=True) as old:
        assert old.execute("SELECT max(seq) FROM transition").fetchall() == [(last,)]
        assert old.execute("SELECT value FROM meta WHERE name = 'schema'").fetchall() == [("1",)]


def test_f10_no_duration_in_the_views_is_negative_though_the_clock_was_set_back(tmp_path: Path) -> None:
    old_log(tmp_path / "old")
    before = ReadingLog(tmp_path / "old")
    assert before.rows(NEGATIVE) == [{"stays": 1, "attempts": 1}]  # format 1 had them
    before.close()

    log = Log(tmp_path / "old")

    assert log.rows(NEGATIVE) == [{"stays": 0, "attempts": 0}]
    assert log.rows("SELECT seconds FROM phase_duration ORDER BY seq") == [{"seconds": 0.0}, {"seconds": None}]
    log.close()


def test_f34_killed_at_any_point_of_being_renewed_a_log_is_the_old_one_or_the_new_one(tmp_path: Path) -> None:
    last = old_log(tmp_path / "old")

    killed = kill_everywhere("open", tmp_path / "old", tmp_path / "killed")

    assert len(killed) > 5
    for folder in killed:
        assert numbers(folder) == list(range(1, last + 1)), folder
        assert not (folder / "migrating").exists()


def test_f34_whatever_fails_while_a_log_is_renewed_the_old_one_stays_and_the_next_try_works(tmp_path: Path) -> None:
    def no_room() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    last = old_log(tmp_path / "old")
    at, got_through = 0, False
    while not got_through:
        at += 1
        shutil.copytree(tmp_path / "old", tmp_path / str(at))
        with interrupted(at, no_room) as count:
            try:
                Log(tmp_path / str(at)).close()
            except StoreError as error:
                assert "No space left" in str(error) and "\n" not in str(error)
        got_through = count[0] < at

        assert numbers(tmp_path / str(at)) == list(range(1, last + 1))


def test_f34_a_log_of_a_newer_format_is_refused_and_untouched(tmp_path: Path) -> None:
    Log(tmp_path).close()
    with duckdb.connect(str(tmp_path / "orchestrator.duckdb")) as connection:
        connection.execute("UPDATE meta SET value = '99' WHERE name = 'schema'")
        connection.execute("UPDATE meta SET value = '7.1' WHERE name = 'made by'")
        connection.execute("DROP VIEW broken_numbering")
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir() if file.is_file()}

    for opening in (Log, ReadingLog):
        with pytest.raises(LaterFormatError, match=r"format 99, written by orchestrator_app 7\.1.*install") as refusal:
            opening(tmp_path)
        assert "\n" not in str(refusal.value)

    assert {file.name: file.read_bytes() for file in tmp_path.iterdir() if file.is_file()} == before
