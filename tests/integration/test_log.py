"""What was acknowledged is in the log, whatever happened to its files."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from log_kit import TRIALS

import orchestrator_app.store as store
from orchestrator_app.errors import StoreError
from orchestrator_app.states import MOVES, Status, Trigger
from orchestrator_app.store.log import Log, utc
from orchestrator_app.store.records import TABLES, Event, Transition


def submit(seq: int) -> Transition:
    fields = {"prompt": "p\x1b[31m\0\ud800", "after": [], "priority": seq}
    return Transition(
        seq, f"u{seq}", 1, Status.NEW, Trigger.SUBMIT, Status.READY, "RUN", 0, "operator:ann", f"c{seq}", None,
        {"set": fields}, utc(1_700_000_000 + seq),
    )  # fmt: skip


def note(seq: int) -> Event:
    return Event(seq, None, None, "note", "info", "hello", {"n": seq}, None, "scheduler", f"c{seq}", utc(1_700_000_000))


def filled(folder: Path, commits: int = 20, checkpoint_at: int | None = None) -> int:
    """A log as a killed process leaves it; returns the number of its last record."""
    log, seq = Log(folder), 0
    for commit in range(commits):
        if commit == checkpoint_at:
            log._upkeep.put_in_now()
        log.append([submit(seq + 1), note(seq + 2), submit(seq + 3)])
        seq += 3
    log._connection.close()  # without the checkpoint of an orderly close: the file and its WAL stay as they are
    log._journal.close()
    return seq


def sound(folder: Path, seq: int) -> Log:
    """Open it again: everything up to `seq` must be there, in order, and the next commit must work."""
    log = Log(folder)
    assert [record.seq for record in log.read()] == list(range(1, seq + 1))
    assert not log.rows("SELECT * FROM broken_numbering")
    log.append([submit(seq + 1)])
    log.close()
    return log


def test_records_come_back_as_they_were_written(tmp_path):
    filled(tmp_path, 1)

    log = Log(tmp_path)
    first, second, _ = log.read()

    assert first._replace(detail={}) == submit(1)._replace(detail={})
    assert first.detail["set"]["prompt"] == "p\x1b[31m\0?"  # a lone surrogate can't be stored
    assert second == note(2)
    log.close()


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()) | st.just(10**4_000),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters()), inner, max_size=3),
)


@settings(max_examples=150, deadline=None)
@example(data={"percent": float("nan")}, message="\0\ud800\U0001f600")
@given(data=st.dictionaries(st.text(st.characters()), anything, max_size=3), message=st.text(st.characters()))
def test_whatever_an_agent_says_can_be_logged(shared_log, data, message):
    record = note(shared_log.seq + 1)._replace(data=data, message=message)

    shared_log.append([record])

    (back,) = shared_log.read(since=record.seq - 1)
    assert back.seq == record.seq


@pytest.mark.parametrize("depth", [100, 900, 20_000])
def test_deeply_nested_words_can_be_logged(shared_log, depth):
    deep: list = []
    for _ in range(depth):
        deep = [deep]

    shared_log.append([note(shared_log.seq + 1)._replace(data={"deep": deep})])


@pytest.fixture(scope="module")
def shared_log(tmp_path_factory):
    log = Log(tmp_path_factory.mktemp("log"))
    yield log
    log.close()


def test_the_tables_have_the_columns_that_the_records_have():
    schema = (Path(store.__file__).parent / "schema.sql").read_text()
    for record, table in TABLES.items():
        body = re.search(rf"CREATE TABLE {table} \((.*?)\);", schema, re.S).group(1)

        columns = [column.split()[0] for column in body.split(",")]

        assert columns == list(record._fields)


def test_the_rules_in_the_database_are_those_of_the_state_machine(tmp_path):
    log = Log(tmp_path)

    rows = log.rows("SELECT * FROM rule")

    assert {(row["from_status"], row["trigger"]): row["to_status"] for row in rows} == MOVES
    log.close()


def test_a_killed_process_loses_nothing(tmp_path):
    assert sound(tmp_path, filled(tmp_path)).recovered == ""


def test_a_wal_cut_anywhere_is_completed_from_the_journal(tmp_path):
    seq = filled(tmp_path, 12, checkpoint_at=4)
    wal = (tmp_path / "orchestrator.duckdb.wal").read_bytes()
    for length in random.Random(1).sample(range(len(wal)), 8):
        trial = tmp_path / f"cut-{length}"
        shutil.copytree(tmp_path, trial, ignore=shutil.ignore_patterns("cut-*"))
        os.truncate(trial / "orchestrator.duckdb.wal", length)

        sound(trial, seq)


def test_a_wal_with_flipped_bits_is_healed_and_the_damaged_one_is_kept(tmp_path):
    seq = filled(tmp_path, 12, checkpoint_at=4)
    chance = random.Random(2)
    for number in range(12):
        trial = tmp_path / f"flip-{number}"
        shutil.copytree(tmp_path, trial, ignore=shutil.ignore_patterns("flip-*"))
        wal = bytearray((trial / "orchestrator.duckdb.wal").read_bytes())
        wal[chance.randrange(len(wal))] ^= 1 << chance.randrange(8)
        (trial / "orchestrator.duckdb.wal").write_bytes(wal)

        log = sound(trial, seq)

        if "copy" in log.recovered or "cut" in log.recovered:
            (kept,) = (trial / "damaged").rglob("*.wal")
            assert kept.read_bytes() == wal


def test_a_deleted_wal_loses_nothing(tmp_path):
    seq = filled(tmp_path, 12, checkpoint_at=4)
    (tmp_path / "orchestrator.duckdb.wal").unlink()

    assert "rows from the journal" in sound(tmp_path, seq).recovered


def test_a_file_torn_by_a_checkpoint_is_restored_from_the_copy_made_before_it(tmp_path):
    seq = filled(tmp_path, 12, checkpoint_at=6)
    with (tmp_path / "orchestrator.duckdb").open("r+b") as file:
        file.seek(12_288 + 4_096)
        file.write(random.Random(3).randbytes(8_192))

    assert "copy" in sound(tmp_path, seq).recovered


def test_a_line_of_the_journal_that_was_cut_short_by_a_crash_is_no_obstacle(tmp_path):
    seq = filled(tmp_path)
    os.truncate(tmp_path / "journal", (tmp_path / "journal").stat().st_size - 20)

    sound(tmp_path, seq)
    sound(tmp_path, seq + 1)


def test_when_nothing_can_be_recovered_the_refusal_is_one_line_and_the_files_stay(tmp_path):
    filled(tmp_path, 3)
    for name in ("orchestrator.duckdb", "orchestrator.duckdb.wal", "journal"):
        (tmp_path / name).write_bytes(b"garbage" * 5_000)

    with pytest.raises(StoreError, match="orch check --repair") as refusal:
        Log(tmp_path)

    assert "\n" not in str(refusal.value)
    assert (tmp_path / "orchestrator.duckdb").read_bytes().startswith(b"garbage")


def test_a_log_of_a_later_format_is_refused(tmp_path):
    Log(tmp_path).close()
    with duckdb.connect(str(tmp_path / "orchestrator.duckdb")) as connection:
        connection.execute("UPDATE meta SET value = '99'")

    with pytest.raises(StoreError, match="format 99"):
        Log(tmp_path)


def test_f21_a_log_that_another_process_holds_open_is_refused_by_its_name_and_number(tmp_path):
    Log(tmp_path).close()
    code = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('open', flush=True); sys.stdin.read()"
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "orchestrator.duckdb")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert holder.stdout.readline() == b"open\n"

        with pytest.raises(StoreError, match=rf"open in process {holder.pid} \(python"):
            Log(tmp_path)
    finally:
        holder.communicate(b"")


WRITER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_log import Log, note, submit
log = Log(Path(sys.argv[1]))
seq = log.seq
while True:
    log.append([submit(seq + 1), note(seq + 2)])
    seq += 2
    print(seq, flush=True)
    log._upkeep.put_in_now()
"""


def test_f17_kill_9_at_any_moment_of_commits_and_checkpoints_loses_no_acknowledged_record(tmp_path):
    chance = random.Random(4)
    for _ in range(6 * TRIALS):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), str(Path(__file__).parent)], stdout=subprocess.PIPE
        )
        acknowledged = 0
        for _ in range(chance.randrange(1, 30)):
            acknowledged = int(writer.stdout.readline())
        writer.send_signal(signal.SIGKILL)
        rest = writer.communicate()[0].split()
        acknowledged = int(rest[-1]) if rest and rest[-1].isdigit() else acknowledged

        log = Log(tmp_path)

        assert acknowledged <= log.seq <= acknowledged + 2
        assert [record.seq for record in log.read()] == list(range(1, log.seq + 1))
        log.close()


def test_a_checkpoint_comes_due_by_itself_and_loses_nothing(tmp_path, monkeypatch, wait_until):
    monkeypatch.setattr("orchestrator_app.store.upkeep.CHECKPOINT_BYTES", 10_000)
    log, seq = Log(tmp_path), 0

    def commit():
        nonlocal seq
        seq += 1
        log.append([submit(seq)])
        log.tend()
        return (tmp_path / "journal.previous").exists()

    wait_until(commit)
    assert (tmp_path / "orchestrator.duckdb.copy").exists()
    log._connection.close()
    log._journal.close()

    sound(tmp_path, seq)
