"""A full, failing or read-only disk: nothing acknowledged is lost, and all goes on when it is well again.

The disk of these tests is full by a limit on the size of files, which everybody may set; where a file system of a few
megabytes can be mounted, that is tried too.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pytest
from log_kit import abandon, fill, interrupted, no_more_than, numbers, submit, three

from orchestrator_app.errors import DamagedLogError, OrchError, StoreError
from orchestrator_app.orchestrator import Orchestrator
from orchestrator_app.settings import load_project
from orchestrator_app.store import journal as journal_module
from orchestrator_app.store import upkeep
from orchestrator_app.store.log import Log

Full = Callable[[Log], object]


@contextmanager
def limited(log: Log) -> Iterator[None]:
    """Neither the write-ahead log nor the journal can grow."""
    with no_more_than(min(log._wal.stat().st_size, log._journal.path.stat().st_size)):
        yield


@contextmanager
def filled_up(log: Log) -> Iterator[None]:
    """The file system that the log is on has no room left."""
    ballast = log.folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (1 << 20, 4096, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                pass  # full
    yield
    ballast.unlink()


def mounted(folder: Path) -> bool:
    folder.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", "size=8m", "none", str(folder)]
    return shutil.which("mount") is not None and subprocess.run(command, capture_output=True).returncode == 0


@pytest.fixture(scope="session")
def can_mount(tmp_path_factory: pytest.TempPathFactory) -> bool:
    folder = tmp_path_factory.mktemp("mount")
    worked = mounted(folder)
    if worked:
        subprocess.run(["umount", str(folder)], check=True)
    return worked


@pytest.fixture
def small_disk(tmp_path: Path, can_mount: bool) -> Iterator[tuple[Path, Full]]:
    """A folder, and what fills the disk that it is on."""
    folder = tmp_path / "disk"
    if can_mount and mounted(folder):
        yield folder / "log", filled_up
        subprocess.run(["umount", "-l", str(folder)], check=True)
    else:
        yield folder / "log", limited


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    log = Log(tmp_path / "log")
    fill(log, 4)
    yield log
    log.close()


@pytest.mark.parametrize("mounts", [False, True])
def test_f19_a_commit_on_a_full_disk_is_refused_and_the_same_one_works_when_there_is_room(
    tmp_path: Path, small_disk: tuple[Path, Full], mounts: bool
) -> None:
    folder, full = small_disk if mounts else (tmp_path / "log", limited)
    log = Log(folder)
    last = fill(log, 4)
    with full(log):
        for _ in range(3):
            with pytest.raises(StoreError, match="could not be written") as refusal:
                log.append([submit(last + 1)._replace(reason="long" * 3_000)])
            assert "\n" not in str(refusal.value)
        assert [record.seq for record in log.read()] == list(range(1, last + 1))  # reading goes on

    log.append([submit(last + 1)])

    assert log.seq == last + 1 and log.journal_fault is None
    abandon(log)
    assert numbers(folder) == list(range(1, last + 2))


def test_f19_the_scheduler_waits_for_room_and_then_goes_on_by_itself(tmp_path: Path, wait_until: Callable) -> None:
    (tmp_path / "orchestrator.toml").write_text(
        '[project]\nslots = 1\nlow_disk = 0\n[workflow]\nisolation = "none"\nphases = ["RUN"]\n[phases.RUN]\n'
        'agent = "shell"\n[agents.shell]\ncommand = ["sh", "-c", "exit 0"]\n'
    )
    long = {"name": "b", "prompt": "y" * 9_000}
    orchestrator = Orchestrator(load_project(tmp_path))
    orchestrator.start()
    try:
        orchestrator.request("submit", units=[{"name": "a"}]).result(30)
        wait_until(lambda: orchestrator.board.units["a"].status == "DONE")
        with limited(orchestrator.log):
            with pytest.raises(OrchError):
                orchestrator.request("submit", units=[long]).result(30)
            assert "nothing is lost" in orchestrator.status()["state"]

        wait_until(lambda: orchestrator.status()["state"] == "ok")
        orchestrator.request("submit", units=[long]).result(30)
        wait_until(lambda: orchestrator.board.units["b"].status == "DONE")
    finally:
        orchestrator.stop()
    numbers(tmp_path / ".orchestrator")


def test_f19_a_checkpoint_on_a_full_disk_costs_nothing_but_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wait_until: Callable
) -> None:
    monkeypatch.setattr(upkeep, "CHECKPOINT_BYTES", 1)
    monkeypatch.setattr(upkeep, "RETRY", 0.0)
    log = Log(tmp_path)
    last = fill(log, 30)
    reader = log.reader()
    rows = reader.execute("SELECT seq FROM transition")
    size = log._wal.stat().st_size

    def tend() -> str | None:
        log.tend()
        return log.journal_fault

    real = log._checkpoint

    def on_a_full_disk() -> None:
        with no_more_than(size):
            real()

    monkeypatch.setattr(log._upkeep, "_checkpoint", on_a_full_disk)
    fault = wait_until(tend)

    assert "checkpoint failed" in fault and "nothing is lost" in fault
    with pytest.raises(duckdb.Error):
        rows.fetchall()  # a reader of before is told, not left waiting
    assert len(log.rows("SELECT seq FROM transition")) == last * 2 // 3
    log.append(three(last))
    monkeypatch.setattr(log._upkeep, "_checkpoint", real)
    wait_until(lambda: tend() is None)
    assert log._wal_length() == 0
    abandon(log)
    assert numbers(tmp_path) == list(range(1, last + 4))


def test_f19_without_room_for_the_copy_there_is_no_checkpoint_and_the_operator_is_told(
    log: Log, monkeypatch: pytest.MonkeyPatch, wait_until: Callable
) -> None:
    monkeypatch.setattr(upkeep, "CHECKPOINT_BYTES", 1)
    monkeypatch.setattr(upkeep, "RETRY", 0.0)
    last = log.seq
    before = log.path.stat().st_mtime_ns

    def tend() -> str | None:
        log.tend()
        return log.journal_fault

    with no_more_than(200_000):
        fault = wait_until(tend)

        assert "can't be copied" in fault and "grows until there is room" in fault
        assert log.path.stat().st_mtime_ns == before
        assert not list(log.folder.glob("*.tmp"))  # what was begun takes no room
        log.append(three(last))

    wait_until(lambda: tend() is None)
    assert log._wal_length() == 0


@pytest.mark.parametrize("fails", ["write", "short", "fsync"])
def test_f20_what_could_not_be_forced_into_the_journal_is_written_anew_elsewhere(
    log: Log, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    last, before = log.seq, log._journal.path.stat().st_ino
    real = os.write
    with monkeypatch.context() as broken:
        if fails == "fsync":
            broken.setattr(journal_module.os, "fdatasync", _io_error)
        elif fails == "write":
            broken.setattr(journal_module.os, "write", _io_error)
        else:
            broken.setattr(journal_module.os, "write", lambda file, data: real(file, data[:20]))
            broken.setattr(journal_module.os, "ftruncate", _io_error)
        log.append(three(last))
        assert log.seq == last + 3 and "journal could not be written" in log.journal_fault

    log.append(three(last + 3))

    assert log.journal_fault is None
    assert log._journal.path.stat().st_ino != before
    known = {values[0] for entry in log._journal.entries() for _, values in entry.rows}
    assert known == set(range(1, last + 7)) and log._journal.damaged_lines() == 0


def _io_error(*_: object) -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


@pytest.mark.parametrize("reached", [False, True])
def test_f20_a_commit_that_failed_is_undone_whatever_of_it_reached_the_file(
    log: Log, monkeypatch: pytest.MonkeyPatch, reached: bool
) -> None:
    last, real = log.seq, log._write
    length = log._wal.stat().st_size

    def fails(by_table: dict) -> None:
        if reached:
            real(by_table)
        raise duckdb.FatalException("FATAL Error: fsync failed!")

    with monkeypatch.context() as broken:
        broken.setattr(log, "_write", fails)
        with pytest.raises(StoreError, match="fsync failed"):
            log.append(three(last))

    assert [record.seq for record in log.read()] == list(range(1, last + 1))
    assert log._wal.stat().st_size == length
    log.append([submit(last + 1)])  # another one gets its number
    abandon(log)
    assert numbers(log.folder) == list(range(1, last + 2))


def test_f20_a_log_that_can_not_be_opened_again_takes_nothing_and_tries_each_time(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    last, real = log.seq, log._write

    def fails(by_table: dict) -> None:
        real(by_table)
        raise duckdb.FatalException("FATAL Error: fsync failed!")

    with monkeypatch.context() as broken:
        broken.setattr(log, "_write", fails)
        broken.setattr("orchestrator_app.store.files.os.fsync", _io_error)
        with pytest.raises(StoreError):
            log.append(three(last))
        with pytest.raises(StoreError, match="can't be opened again"):
            log.append(three(last))
        with pytest.raises(StoreError, match="being opened again"):
            log.rows("SELECT 1")

    log.tend()

    assert log.rows("SELECT count(*) AS n FROM transition") == [{"n": last * 2 // 3}]
    log.append(three(last))
    assert log.seq == last + 3


def test_f20_a_reader_in_the_middle_of_something_holds_up_no_reopening(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, told = threading.Event(), []

    def read_on() -> None:
        begun.set()
        try:
            log.rows("SELECT count(*) FROM range(10000000) a, range(1000000) b WHERE a.range + b.range = -1")
        except StoreError as error:
            told.append(str(error))

    thread = threading.Thread(target=read_on)
    thread.start()
    begun.wait()
    log._reopen()
    thread.join(30)

    assert len(told) == 1 and "try again" in told[0] and "\n" not in told[0]
    log.append(three(log.seq))


def test_f19_whatever_fails_while_a_damaged_log_is_recovered_nothing_more_is_lost(tmp_path: Path) -> None:
    log = Log(tmp_path / "log")
    last = fill(log, 8, checkpoint_at=(4,))
    abandon(log)
    with (tmp_path / "log" / "orchestrator.duckdb").open("r+b") as file:
        file.seek(12_288 + 4_096)
        file.write(b"torn" * 2_048)

    at, got_through = 0, False
    while not got_through:
        at += 1
        shutil.copytree(tmp_path / "log", tmp_path / str(at))
        with interrupted(at, _io_error) as count:
            try:
                Log(tmp_path / str(at)).close()
            except StoreError as error:
                assert "\n" not in str(error) and not isinstance(error, DamagedLogError)
        got_through = count[0] < at

        assert numbers(tmp_path / str(at)) == list(range(1, last + 1))


@pytest.mark.parametrize("number", [errno.EROFS, errno.EMFILE, errno.EACCES, errno.ENOSPC])
def test_f19_what_is_not_the_files_fault_is_said_and_replaces_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    log = Log(tmp_path)
    last = fill(log, 8, checkpoint_at=(4,))
    abandon(log)
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}

    def refuses(*_: object, **__: object) -> None:
        raise duckdb.IOException(f'IO Error: Cannot open file "{log.path}": {os.strerror(number)}')

    with monkeypatch.context() as broken:
        broken.setattr("orchestrator_app.store.recovery.duckdb.connect", refuses)
        with pytest.raises(StoreError, match=os.strerror(number)) as refusal:
            Log(tmp_path)

    assert not isinstance(refusal.value, DamagedLogError) and "\n" not in str(refusal.value)
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before
    assert numbers(tmp_path) == list(range(1, last + 1))
