"""What `orch check` notices, and what `orch check --repair` restores when the log can't be opened in any way."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest
from cli_kit import assert_one_line, make_project, run
from log_kit import TRIALS, abandon, fill, kill_everywhere, move, note, numbers, submit

from orchestrator_app import keeping
from orchestrator_app.errors import AlreadyServedError, DamagedLogError
from orchestrator_app.states import Status, Trigger
from orchestrator_app.store.export import Export
from orchestrator_app.store.log import Log

DATABASES = ("orchestrator.duckdb", "orchestrator.duckdb.copy")
FILES = (*DATABASES, "orchestrator.duckdb.wal", "journal", "journal.previous")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """A killed project, whose Parquet files are behind its log; and its last row's number."""
    state = tmp_path_factory.mktemp("source") / "work" / ".orchestrator"
    log = Log(state)
    fill(log, 20, checkpoint_at=(4, 10))
    Export(log, state / "export").catch_up()
    fill(log, 13)
    abandon(log)
    return state, log.seq


@pytest.fixture
def state(source: tuple[Path, int], tmp_path: Path) -> Path:
    make_project(tmp_path / "work")
    return Path(shutil.copytree(source[0], tmp_path / "work" / ".orchestrator"))


@pytest.fixture
def last(source: tuple[Path, int]) -> int:
    return source[1]


def spoil(file: Path) -> None:
    """No block of it can be read any more, but it looks as before."""
    content = bytearray(file.read_bytes())
    for at in range(4_096 if file.suffix == ".duckdb" else 0, len(content), 512):
        content[at] ^= 255
    file.write_bytes(content)


def flip(file: Path, at: float) -> None:
    content = bytearray(file.read_bytes())
    content[int(at * (len(content) - 1))] ^= 16
    file.write_bytes(content)


def test_a_sound_log_needs_no_repair(state: Path, last: int) -> None:
    assert keeping.repair(state) == {
        "told": ["nothing to repair: the log's files are sound"], "lost": False, "kept": None
    }  # fmt: skip
    assert numbers(state) == list(range(1, last + 1))


def test_without_both_databases_the_rows_come_from_the_parquet_files_and_the_journal(state: Path, last: int) -> None:
    for name in DATABASES:
        spoil(state / name)
    with pytest.raises(DamagedLogError, match="orch check --repair"):
        Log(state)

    told = keeping.repair(state)

    assert not told["lost"] and numbers(state) == list(range(1, last + 2))  # and one that says so
    text = "\n".join(told["told"])
    assert "rows restored from the journal" in text and "rows restored from the Parquet files" in text
    assert {file.name for file in Path(told["kept"]).iterdir()} >= {*FILES, "export"}


def test_what_is_in_none_of_the_files_ends_the_log_and_what_comes_after_is_kept_beside(state: Path, last: int) -> None:
    for name in DATABASES:
        spoil(state / name)
    lines = (state / "journal").read_bytes().splitlines(keepends=True)
    del lines[-3]
    (state / "journal").write_bytes(b"".join(lines))

    told = keeping.repair(state)

    text = "\n".join(told["told"])
    end = last - 9
    assert told["lost"] and numbers(state) == list(range(1, end + 2))
    assert f"rows {end + 1} to {end + 3} are in none of the files: the log now ends at row {end}" in text
    assert "6 rows behind that are kept as Parquet files" in text
    assert f"units that may have come further than the log says: u{last - 5}, u{last - 3}, u{last - 2}, u{last}" in text
    assert len(list((Path(told["kept"]) / "rows").glob("*.parquet"))) == 2


def test_a_bit_in_a_block_that_nobody_read_for_long_is_noticed_when_the_log_is_opened(state: Path, last: int) -> None:
    log = Log(state)  # everything is put into the file
    log.close()
    for at in (0.2, 0.5, 0.65, 0.8):
        trial = Path(shutil.copytree(state, state.parent / f"at-{at}"))
        shutil.rmtree(trial / "export")
        (trial / "orchestrator.duckdb.copy").unlink()
        flip(trial / "orchestrator.duckdb", at)

        try:
            Log(trial).close()
        except DamagedLogError as error:
            assert "checksum" in str(error)
        else:
            assert numbers(trial) == list(range(1, last + 1))  # it hit nothing


def test_a_log_without_its_newest_commits_is_noticed_though_its_journal_is_gone_too(state: Path, last: int) -> None:
    for name in ("journal", "journal.previous", "orchestrator.duckdb.wal", "orchestrator.duckdb.copy"):
        (state / name).unlink()

    with pytest.raises(DamagedLogError, match=r"ends at row 30, and other files know of row 60"):
        Log(state)
    told = keeping.repair(state)

    assert numbers(state) == list(range(1, 62))
    assert "the log now ends at row 60; the journal is damaged too, so nobody can tell what came behind" in told["told"]


def test_a_log_that_is_gone_is_not_begun_anew(state: Path, last: int) -> None:
    for name in DATABASES:
        (state / name).unlink()
    for left in ("orchestrator.duckdb.wal", "journal", "journal.previous", "export"):
        with pytest.raises(DamagedLogError, match="is gone, though"):
            Log(state)
        assert not (state / "orchestrator.duckdb").exists()
        if left != "export":
            (state / left).unlink()

    keeping.repair(state)

    assert numbers(state) == list(range(1, 62))


def test_a_deleted_database_comes_back_from_the_copy_and_no_empty_one_takes_its_place(state: Path, last: int) -> None:
    (state / "orchestrator.duckdb").unlink()
    commits = (state / "orchestrator.duckdb.wal").read_bytes()

    assert numbers(state) == list(range(1, last + 1))

    (kept,) = (state / "damaged").iterdir()
    assert {file.name: file.read_bytes() for file in kept.iterdir()} == {"orchestrator.duckdb.wal": commits}


def test_nothing_is_repaired_where_nothing_is_left(state: Path) -> None:
    shutil.rmtree(state / "export")
    for name in FILES:
        (state / name).write_bytes(b"garbage" * 999)
    before = {file: file.read_bytes() for file in state.iterdir()}

    with pytest.raises(DamagedLogError, match="orch restore") as refusal:
        keeping.repair(state)

    assert "\n" not in str(refusal.value) and {file: file.read_bytes() for file in before} == before


def test_a_commit_of_which_a_part_is_lost_is_left_out_whole(tmp_path: Path) -> None:
    log = Log(tmp_path)
    log.append([submit(1), submit(2)])
    done = move(4, "u1", 3, Trigger.ACCEPT, Status.NEEDS_ATTENTION, 1_700_000_500)
    commit = [move(3, "u1", 2, Trigger.CLASH, Status.READY, 1_700_000_500), done, note(5), submit(6)]
    log.append([row._replace(occurred_at=done.occurred_at) for row in commit])
    Export(log, tmp_path / "export").catch_up()
    log.close()
    for name in (*DATABASES, "journal.previous"):
        (tmp_path / name).write_bytes(b"garbage" * 999)
    shutil.rmtree(tmp_path / "export" / "event")

    told = keeping.repair(tmp_path)

    assert numbers(tmp_path) == [1, 2, 3]  # two, and one that says so
    assert "rows 5 are in none of the files: the log now ends at row 2" in told["told"]


def test_a_repair_sets_attempts_aside_that_the_log_lost_and_never_while_they_run(state: Path, last: int) -> None:
    for name in (*DATABASES, "journal"):
        spoil(state / name)
    lost = state / "runs" / f"u{last}" / "1"
    lost.mkdir(parents=True)

    told = keeping.repair(state)

    assert not lost.exists() and (Path(told["kept"]) / "runs" / f"u{last}" / "1").is_dir()
    assert f"moved aside: attempt 1 of u{last}" in "\n".join(told["told"])


def test_killed_at_any_point_of_a_repair_the_next_one_does_it(state: Path, tmp_path: Path, last: int) -> None:
    for name in DATABASES:
        spoil(state / name)

    for folder in kill_everywhere("repair", state, tmp_path / "killed", step=5):
        keeping.repair(folder)

        assert numbers(folder) == list(range(1, last + 2)), folder


def test_two_damages_at_once_lose_nothing_unnoticed(state: Path, tmp_path: Path, last: int) -> None:
    chance = random.Random(8)
    for number in range(5 * TRIALS):
        trial = Path(shutil.copytree(state, tmp_path / f"trial-{number}"))
        for name in chance.sample(FILES, 2):
            content = bytearray((trial / name).read_bytes())
            start = chance.randrange(len(content))
            harm = chance.choice(("cut", "zeros", "bit", "gone"))
            if harm == "cut":
                (trial / name).write_bytes(content[:start])
            elif harm == "zeros":
                (trial / name).write_bytes(content[:start] + bytes(len(content) - start))
            elif harm == "bit":
                flip(trial / name, chance.random())
            else:
                (trial / name).unlink()

        try:
            assert numbers(trial) == list(range(1, last + 1))
        except DamagedLogError:
            lost = keeping.repair(trial)["lost"]
            assert lost or numbers(trial) == list(range(1, last + 2))


def test_check_says_what_is_wrong_and_repair_puts_it_right(state: Path, last: int) -> None:
    root = state.parent
    (state / "lock").touch()
    assert run(root, "check").code == 0
    (state / "runs" / "nobody" / "2").mkdir(parents=True)
    flip(state / "journal", 0.4)
    told = run(root, "check")
    assert told.code == 1 and "attempt 2 of nobody" in told.err and "lines of the journal can't be read" in told.err
    (state / "orchestrator.duckdb.wal").unlink()
    assert_one_line(run(root, "check"), 1, "lacks its newest", "orch serve")
    assert_one_line(run(root, "ls"), 1, "lacks its newest", "orch serve")
    for name in DATABASES:
        spoil(state / name)
    assert_one_line(run(root, "ls"), 1, "orch check --repair")

    repaired = run(root, "check", "--repair", "--json")

    assert repaired.code == 1 and repaired.json["lost"], repaired
    assert run(root, "check").code == 0
    with keeping.unserved(state), pytest.raises(AlreadyServedError):
        keeping.repair(state)
