"""Every state of the disk that a crash can leave is opened, and holds every commit that was acknowledged.

Between two operations the files are photographed. What the operation changed is then kept in part: a prefix of the
bytes (what a kill can leave), a random set of sectors (what a loss of power can leave), one file and not the other.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest
from log_kit import TRIALS, abandon, numbers, three

from orchestrator_app.store.log import Log

PAGE, SECTOR = 4_096, 512
DATABASE, WAL, JOURNAL = "orchestrator.duckdb", "orchestrator.duckdb.wal", "journal"
#: DuckDB's headers, in the first three pages of the database, are written when all else is on the disk.
HEADERS = 3 * PAGE

Files = dict[str, bytes]


class Image(NamedTuple):
    """What may be on the disk, and how many rows were acknowledged by then; there may be one commit more."""

    title: str
    files: Files
    acknowledged: int


def photograph(folder: Path) -> Files:
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, Files, int]]:
    """A log's life: after each operation, which it was, the files, and the acknowledged rows."""
    log = Log(tmp_path_factory.mktemp("story"))
    seen = [("open", photograph(log.folder), 0)]
    for number in range(1, 37):
        log.append(three(log.seq))
        seen.append(("commit", photograph(log.folder), log.seq))
        if number % 6 == 0:
            log._make_copy()
            seen.append(("copy", photograph(log.folder), log.seq))
            log._checkpoint()
            seen.append(("checkpoint", photograph(log.folder), log.seq))
    abandon(log)
    return seen


def steps(story: list[tuple[str, Files, int]], kind: str) -> Iterator[tuple[Files, Files, int]]:
    """The files before and after each operation of a kind, and the rows acknowledged before it."""
    for (_, before, acknowledged), (operation, after, _) in pairwise(story):
        if operation == kind:
            yield before, after, acknowledged


def torn(before: bytes, after: bytes, chance: random.Random) -> bytes:
    """`after`, of which some sectors have stayed as they were, or empty where there was nothing."""
    mixed = bytearray(before.ljust(len(after), b"\0"))
    for at in range(0, len(after), SECTOR):
        if mixed[at : at + SECTOR] != after[at : at + SECTOR] and chance.random() < 0.5:
            mixed[at : at + SECTOR] = after[at : at + SECTOR]
    return bytes(mixed)


def of_commits(story: list[tuple[str, Files, int]], chance: random.Random) -> Iterator[Image]:
    for before, after, acknowledged in steps(story, "commit"):
        old, new = before.get(WAL, b""), after[WAL]
        cut = chance.randrange(len(old), len(new))
        yield Image(f"WAL cut at {cut}", before | {WAL: new[:cut]}, acknowledged)
        yield Image("WAL in sectors", before | {WAL: torn(old, new, chance)}, acknowledged)
        yield Image("WAL alone", before | {WAL: new}, acknowledged)
        old, new = before.get(JOURNAL, b""), after[JOURNAL]
        cut = chance.randrange(len(old), len(new))
        yield Image(f"journal cut at {cut}", after | {JOURNAL: new[:cut]}, acknowledged)
        yield Image("journal in sectors", after | {JOURNAL: torn(old, new, chance)}, acknowledged)


def of_checkpoints(story: list[tuple[str, Files, int]], chance: random.Random) -> Iterator[Image]:
    for before, after, acknowledged in steps(story, "checkpoint"):
        old, new = before[DATABASE].ljust(len(after[DATABASE]), b"\0"), after[DATABASE]
        changed = [at for at in range(HEADERS, len(new), PAGE) if old[at : at + PAGE] != new[at : at + PAGE]]
        content = bytearray(old)
        for at in changed:  # the pages in their order, which is how a kill cuts a long write short
            content[at : at + PAGE] = new[at : at + PAGE]
            yield Image(f"pages up to {at}", before | {DATABASE: bytes(content)}, acknowledged)
        sectors = torn(old[HEADERS:], new[HEADERS:], chance)
        yield Image("database in sectors", before | {DATABASE: old[:HEADERS] + sectors}, acknowledged)
        yield Image("database whole, WAL still there", before | {DATABASE: new}, acknowledged)
        yield Image("journal not yet begun anew", {**before, DATABASE: new, WAL: b""}, acknowledged)


def assert_whole(image: Image, folder: Path) -> str:
    """Opened, it has every acknowledged row and none but whole commits; how it was recovered."""
    folder.mkdir()
    for name, content in image.files.items():
        (folder / name).write_bytes(content)
    log = Log(folder)
    rows = [record.seq for record in log.read()]
    log.append(three(log.seq))
    recovered = log.recovered
    abandon(log)
    assert rows in (list(range(1, image.acknowledged + 1)), list(range(1, image.acknowledged + 4))), image.title
    assert numbers(folder) == list(range(1, len(rows) + 4)), image.title  # and what was committed since is there too
    return recovered


def opened(make: Callable[..., Iterator[Image]], story: list[tuple[str, Files, int]], folder: Path) -> list[str]:
    """How each of 25 images was recovered; with LOG_TRIALS, of as many times 25 others."""
    found = []
    for trial in range(TRIALS):
        chance = random.Random(trial)
        images = list(make(story, chance))
        for number, image in enumerate(chance.sample(images, min(len(images), 25))):
            found.append(assert_whole(image, folder / f"{trial}-{number}"))
            shutil.rmtree(folder / f"{trial}-{number}")
    return found


def test_f18_whatever_a_loss_of_power_leaves_of_a_commit_no_acknowledged_one_is_lost(
    story: list[tuple[str, Files, int]], tmp_path: Path
) -> None:
    assert opened(of_commits, story, tmp_path)


def test_f17_whatever_is_left_of_a_checkpoint_the_log_opens_and_has_every_commit(
    story: list[tuple[str, Files, int]], tmp_path: Path
) -> None:
    recovered = opened(of_checkpoints, story, tmp_path)

    assert any("copy" in how for how in recovered), "no image was torn in a way that matters"
