"""Whatever is killed, gone, full or in conflict: work in git is done whole and once or not at all, and none is lost."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from git_driver import FULL, KILLED, NO_ROOM, WAYS
from workspace_kit import Repo, git


class Driver:
    """Lives units' lives in one repository, in processes that are killed, beside the operator's own changes."""

    def __init__(self, tmp_path: Path) -> None:
        self.repo = Repo(tmp_path)
        root = self.repo.root
        (root / "orchestrator.toml").write_text('[workflow]\nphases = ["MERGE"]\n')
        git(root, "add", "orchestrator.toml")
        git(root, "commit", "-q", "-m", "Settings")
        (root / "b.txt").write_text("uncommitted\n")
        (root / "app" / "core.py").write_text("staged\n")
        git(root, "add", "app/core.py")
        (root / "mine.txt").write_text("untracked\n")
        program = [sys.executable, str(Path(__file__).parent / "git_driver.py"), str(root)]
        self._process = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def live(self, unit: str, **plan: object) -> dict:
        self._process.stdin.write(json.dumps({"unit": unit, **plan}) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def check(self, unit: str, what: str) -> None:
        """The unit's work is in the base once, nothing of it is left beside, the operator's things are as they were."""
        repo = self.repo
        assert git(repo.root, "log", "--first-parent", "--format=%s", f"--grep=^Merge unit {unit}$") == (
            f"Merge unit {unit}"
        ), what
        assert git(repo.root, "show", f"main:{unit}/new.txt", "main:a.txt") == f"by {unit}\n{unit} was here", what
        assert repo.status().splitlines() == ["M  app/core.py", " M b.txt", "?? mine.txt"], what
        assert (repo.root / "b.txt").read_text() == "uncommitted\n" and (repo.root / "mine.txt").exists(), what
        ours, state = repo.root / ".git", repo.state
        left = [
            *ours.rglob("*.lock"),
            *ours.rglob(".gone-*"),
            *ours.glob("worktrees/*"),
            *ours.glob("refs/heads/orch/*"),
        ]
        left += [*state.glob("moving-base*"), *state.glob("worktrees/*"), *state.glob("scratch/*")]
        assert left == [], what


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[Driver]:
    driver = Driver(tmp_path)
    yield driver
    driver.close()


@pytest.mark.parametrize("way", [*WAYS, KILLED])
def test_f24_killed_at_the_nth_step_in_git_a_unit_is_merged_whole_and_once_by_the_next_server(driver, way: str) -> None:
    for count in itertools.count(1):
        unit, what = f"u{count}", f"{way} {count}"
        end = driver.live(unit, way=way, count=count, moment=0.001 + count % 4 * 0.0015)
        over = not end["killed"] and end.get("passed", 0) < count
        if end["killed"]:
            end = driver.live(unit)
        assert "error" not in end, f"{what}: {end['error']}"
        driver.check(unit, f"{what}: {end}")
        if over:
            break
    assert count > 10
    git(driver.repo.root, "fsck", "--strict", "--no-dangling")


@pytest.mark.parametrize("ways", [[*FULL], [NO_ROOM]], ids=["git", "server"])
def test_f19_no_room_at_the_nth_step_in_git_is_said_in_one_line_and_tried_again(driver, ways: list[str]) -> None:
    said = set()
    for count in itertools.count(1):
        way = ways[count % len(ways)]
        unit, what = f"u{count}", f"{way} {count}"
        end = driver.live(unit, way=way, count=count)
        assert "error" not in end, f"{what}: {end['error']}"
        driver.check(unit, f"{what}: {end}")
        said.update(end["faults"])
        if end["passed"] < count:
            break
    assert count > 10 and said
    for line in said:
        assert "\n" not in line and any(word in line for word in ("Read-only", "large", "No space", "write")), line
