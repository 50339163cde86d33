"""A git that was killed at its first steps towards a worktree leaves a record that no other git can read."""

from __future__ import annotations

from pathlib import Path

import pytest
from workspace_kit import Repo

from orchestrator_app.errors import GitError
from orchestrator_app.workspace import merge
from orchestrator_app.workspace.git import run_git


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    return Repo(tmp_path)


@pytest.fixture
def half_made(repo: Repo) -> Path:
    """The worktree of `a` as git leaves it when it is killed between opening and writing `commondir`."""
    worktree, record = repo.worktrees.path("a"), repo.root / ".git" / "worktrees" / "a"
    for folder in (worktree, record):
        folder.mkdir(parents=True)
    (record / "locked").write_text("initializing")
    (record / "gitdir").write_text(f"{worktree / '.git'}\n")
    (record / "HEAD").write_text("0" * 40 + "\n")
    (record / "commondir").touch()
    (worktree / ".git").write_text(f"gitdir: {record}\n")
    with pytest.raises(GitError, match="commondir"):
        run_git(["worktree", "list"], repo.root)
    return worktree


def test_f24_a_worktree_that_a_killed_git_had_hardly_begun_is_made_anew(repo: Repo, half_made: Path) -> None:
    assert repo.unit("a") == half_made

    assert (half_made / "a.txt").exists()


def test_f24_a_worktree_that_a_killed_git_had_hardly_begun_hinders_no_other_unit(repo: Repo, half_made: Path) -> None:
    repo.work("b", {"b.txt": "changed\n"})
    built = repo.built("b")
    path = merge.scratch(repo.root, repo.state, "b", built.new)

    assert (path / "b.txt").read_text() == "changed\n"
    assert repo.advance(built) == merge.Advanced()


def test_f24_a_worktree_that_a_killed_git_had_hardly_begun_hinders_no_merge(repo: Repo, half_made: Path) -> None:
    record = repo.root / ".git" / "worktrees" / "a"
    aside = record.rename(repo.root.parent / "aside")
    repo.work("b", {"b.txt": "changed\n"})
    built = repo.built("b")
    aside.rename(record)

    assert repo.advance(built) == merge.Advanced()


def test_f24_nothing_of_a_worktree_that_was_never_whole_counts_as_deleted(repo: Repo) -> None:
    worktree, tip = repo.unit("a"), repo.tip("a")
    record = repo.root / ".git" / "worktrees" / "a"
    (record / "locked").write_text("initializing")
    (record / "index").unlink()
    (worktree / "a.txt").unlink()

    assert repo.worktrees.commit_all("a", "what an attempt left that never began") is None

    assert repo.tip("a") == tip
    assert (repo.unit("a") / "a.txt").exists()
