"""Backups while the server writes, and what is restored from them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest
from cli_kit import Server, assert_one_line, make_project, run
from log_kit import abandon, fill, kill_everywhere, no_more_than, numbers, old_log, three

from orchestrator_app import keeping
from orchestrator_app.errors import LaterFormatError, OrchError, StoreError, UsageError
from orchestrator_app.store import log as log_module
from orchestrator_app.store.files import replace_durably
from orchestrator_app.store.log import Log
from orchestrator_app.store.reading import ReadingLog

Wait = Callable[..., object]


def backup(folder: Path, target: Path, log: Log | None = None, *, force: bool = False) -> int:
    """The number of the newest row in it. `log`: the one that this process has open."""
    snapshot = (lambda into: log.snapshot(Path(into))) if log else None
    return keeping.backup(folder, target, force=force, snapshot=snapshot, tell=lambda _: None)[0].seq


def rows_of(file: Path) -> list[int]:
    with duckdb.connect(str(file), read_only=True) as connection:
        rows = connection.execute("SELECT seq FROM transition UNION SELECT seq FROM event ORDER BY 1").fetchall()
    return [seq for (seq,) in rows]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The state directory of a stopped project with 9 rows."""
    state = tmp_path / "project" / ".orchestrator"
    log = Log(state)
    fill(log, 3)
    log.close()
    return state


def test_commits_go_on_while_a_backup_copies_and_no_checkpoint_comes_in_between(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator_app.store.upkeep.CHECKPOINT_BYTES", 1)
    log = Log(tmp_path / "log")
    fill(log, 5, checkpoint_at=(2,))
    copied, go_on = threading.Event(), threading.Event()

    def slow(source: Path | int, target: Path) -> None:
        if target.parent.name == "b.duckdb.partial":
            copied.set()
            assert go_on.wait(30)
        replace_durably(source, target)

    monkeypatch.setattr(log_module, "replace_durably", slow)
    done: list[int] = []
    thread = threading.Thread(target=lambda: done.append(backup(log.folder, tmp_path / "b.duckdb", log)))
    thread.start()
    assert copied.wait(30)
    file = log.path.read_bytes() if os.name != "posix" else None  # to read it here would let go of its lock
    before = log.path.stat().st_mtime_ns
    for _ in range(20):
        log.append(three(log.seq))
        log.tend()
    assert file is None and log.path.stat().st_mtime_ns == before
    go_on.set()
    thread.join(60)

    assert done == [15] and rows_of(tmp_path / "b.duckdb") == list(range(1, 16))
    log.close()
    assert numbers(log.folder) == list(range(1, 76))


def test_backups_under_load_hold_whole_commits_and_all_that_were_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator_app.store.upkeep.CHECKPOINT_BYTES", 20_000)
    log, stop = Log(tmp_path / "log"), threading.Event()
    log.append(three(0))

    def write() -> None:
        while not stop.is_set():
            log.append(three(log.seq))
            log.tend()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(5):
            acknowledged = log.seq
            seq = backup(log.folder, tmp_path / f"{number}.duckdb", log)
            assert seq >= acknowledged and seq % 3 == 0
            assert rows_of(tmp_path / f"{number}.duckdb") == list(range(1, seq + 1))
    finally:
        stop.set()
        writer.join()
        log.close()


def test_the_live_file_stays_locked_after_it_was_copied(tmp_path: Path) -> None:
    log = Log(tmp_path)
    fill(log, 4, checkpoint_at=(2,))
    backup(tmp_path, tmp_path / "b.duckdb", log)

    code = "import duckdb, sys; duckdb.connect(sys.argv[1])"
    other = subprocess.run([sys.executable, "-c", code, str(log.path)], capture_output=True, text=True)

    assert "Could not set lock" in other.stderr
    log.close()


def test_a_backup_of_a_killed_project_has_what_only_its_journal_knows(tmp_path: Path) -> None:
    log = Log(tmp_path / "log")
    last = fill(log, 6, checkpoint_at=(3,))
    abandon(log)
    (tmp_path / "log" / "orchestrator.duckdb.wal").unlink()
    before = {file: file.read_bytes() for file in (tmp_path / "log").iterdir()}

    assert backup(tmp_path / "log", tmp_path / "b.duckdb") == last

    assert rows_of(tmp_path / "b.duckdb") == list(range(1, last + 1))
    assert {file: file.read_bytes() for file in before} == before


def test_a_backup_replaces_nothing_unasked_and_leaves_nothing_behind(project: Path, tmp_path: Path) -> None:
    target = tmp_path / "b.duckdb"
    target.write_text("precious")

    with pytest.raises(OrchError, match="--force"):
        backup(project, target)
    with no_more_than(200_000), pytest.raises((StoreError, OSError), match="File too large"):
        backup(project, target, force=True)

    assert target.read_text() == "precious"
    assert {*tmp_path.iterdir()} == {target, project.parent}
    assert backup(project, target, force=True) == 9
    assert target.stat().st_mode & 0o777 == 0o600


def test_a_backup_of_a_damaged_log_says_what_repairs_it(project: Path, tmp_path: Path) -> None:
    for name in ("orchestrator.duckdb", "orchestrator.duckdb.copy"):
        (project / name).write_bytes(b"garbage" * 9_999)

    with pytest.raises(StoreError, match="orch check --repair"):
        backup(project, tmp_path / "b.duckdb")

    assert not (tmp_path / "b.duckdb").exists()


# -- restore


def test_a_restore_brings_the_log_back_and_keeps_what_was_there(project: Path, tmp_path: Path) -> None:
    backup(project, tmp_path / "b.duckdb")
    log = Log(project)
    fill(log, 2)
    log.close()
    for name, number in (("u1", 1), ("u10", 1), ("u10", 2)):
        (project / "runs" / name / str(number)).mkdir(parents=True)

    told = keeping.restore(project, tmp_path / "b.duckdb")

    assert (told["seq"], told["rows"], told["units"]) == (9, 9, 6)
    assert numbers(project) == list(range(1, 11))  # and one that says so
    kept = Path(told["kept"])
    assert rows_of(kept / "orchestrator.duckdb") == list(range(1, 16))
    assert not list((project / "runs").glob("*/*"))  # u1 never ran in the backup, and u10 isn't in it
    assert (kept / "runs" / "u10" / "2").is_dir() and len(told["attempts_set_aside"]) == 3


def test_f34_a_backup_of_an_older_format_is_renewed_and_of_a_newer_one_refused(project: Path, tmp_path: Path) -> None:
    last = old_log(tmp_path / "old")
    keeping.restore(project, tmp_path / "old" / "orchestrator.duckdb")  # copied by hand, with its write-ahead log

    assert numbers(project) == list(range(1, last + 2))

    backup(project, tmp_path / "b.duckdb")
    with duckdb.connect(str(tmp_path / "b.duckdb")) as connection:
        connection.execute("UPDATE meta SET value = '99' WHERE name = 'schema'")
    with pytest.raises(LaterFormatError, match="format 99"):
        keeping.restore(project, tmp_path / "b.duckdb")


def test_killed_at_any_point_of_a_restore_the_log_is_the_old_one_or_the_backup(project: Path, tmp_path: Path) -> None:
    backup(project, tmp_path / "b.duckdb")
    log = Log(project)
    last = fill(log, 2)
    abandon(log)
    (project / "runs" / "u12" / "1").mkdir(parents=True)

    killed = kill_everywhere("restore", project, tmp_path / "killed", str(tmp_path / "b.duckdb"), step=2)

    ends = []
    for folder in killed:
        ends.append(numbers(folder)[-1])
        assert (folder / "runs" / "u12" / "1").exists() == (ends[-1] == last)
    assert set(ends) == {10, last} and ends == sorted(ends, reverse=True)  # from one point on it is the backup


@pytest.mark.parametrize("harm", ["torn", "bit", "no database", "missing"])
def test_what_is_no_sound_backup_is_refused_and_changes_nothing(project: Path, tmp_path: Path, harm: str) -> None:
    file = tmp_path / "b.duckdb"
    backup(project, file)
    content = bytearray(file.read_bytes())
    if harm == "torn":
        file.write_bytes(content[: len(content) // 2])
    elif harm == "bit":
        content[300_000] ^= 4
        file.write_bytes(content)
    elif harm == "no database":
        file.write_text("hello")
    else:
        file.unlink()
    before = sorted(project.iterdir())

    with pytest.raises(OrchError, match=r"b\.duckdb") as refusal:
        keeping.restore(project, file)

    assert "\n" not in str(refusal.value)
    assert {*project.iterdir()} - {*before} <= {project / "lock"} and numbers(project) == list(range(1, 10))


def test_a21_a_database_that_an_agent_could_have_planted_is_not_opened(project: Path, tmp_path: Path) -> None:
    backup(project, tmp_path / "b.duckdb")
    for place in ("worktrees/u1", "runs/u1/1"):
        planted = project / place / "b.duckdb"
        planted.parent.mkdir(parents=True)
        shutil.copy(tmp_path / "b.duckdb", planted)
        (tmp_path / "link").unlink(missing_ok=True)
        (tmp_path / "link").symlink_to(planted)
        for file in (planted, tmp_path / "link"):
            with pytest.raises(UsageError, match="agents write"):
                keeping.restore(project, file)


def test_a21_of_a_planted_backup_nothing_is_run_and_nothing_but_rows_is_taken(project: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text("seq\n1\n")
    with_view, with_table = tmp_path / "view.duckdb", tmp_path / "table.duckdb"
    for file in (with_view, with_table):
        backup(project, file)
    with duckdb.connect(str(with_view)) as connection:
        connection.execute("ALTER TABLE event RENAME TO old_event")
        connection.execute(f"CREATE VIEW event AS SELECT e.* FROM old_event e, read_csv('{secret}')")
    with duckdb.connect(str(with_table)) as connection:
        connection.execute(f"CREATE OR REPLACE VIEW broken_numbering AS SELECT * FROM read_csv('{secret}')")
        connection.execute("CREATE MACRO hash(x) AS 1")
        connection.execute(f"CREATE VIEW extra AS SELECT * FROM read_csv('{secret}')")

    with pytest.raises(StoreError, match="no table event"):
        keeping.restore(project, with_view)
    keeping.restore(project, with_table)

    log = ReadingLog(project)
    names = {row["view_name"] for row in log.rows("SELECT view_name FROM duckdb_views() WHERE NOT internal")}
    assert "extra" not in names and log.rows("SELECT * FROM broken_numbering") == []
    log.close()


def test_backup_and_restore_from_the_command_line(tmp_path: Path, wait_until: Wait) -> None:
    server = Server(make_project(tmp_path / "work"))
    root, file = server.root, tmp_path / "b.duckdb"
    try:
        server.ok("submit", "first", "-p", "exit 0")
        server.ok("wait", "first", "--timeout", "60")
        told = server.json("backup", str(file))
        assert told["rows"] == told["seq"] == len(rows_of(file))
        assert_one_line(server.orch("backup", str(file)), 1, "is there already", "--force")
        server.ok("submit", "later", "-p", "echo one; sleep 600")
        wait_until(lambda: server.json("show", "later")["status"] == "RUNNING")
        wait_until(lambda: server.ok("logs", "later") == "one\n")
        assert_one_line(server.orch("restore", str(file)), 1, "is served by process", "orch stop")
        assert server.orch("stop").code == 0  # the agent goes on
        assert_one_line(run(root, "restore", str(file)), 1, "attempt 1 of later still runs", "kill ")
        os.kill(int(run(root, "restore", str(file)).err.partition("`kill ")[2].partition("`")[0]), 15)
        wait_until(lambda: run(root, "restore", str(file)).code == 0)

        assert "later" not in run(root, "ls").out and run(root, "check").code == 0
        server.end()
        server = Server(root)
        server.ok("submit", "later", "-p", "echo two")
        server.ok("wait", "later", "--timeout", "60")
        assert server.ok("logs", "later") == "two\n"
        assert server.json("check")["faults"] == []
    finally:
        server.end()
