"""What an attempt, or a killed git, has left in a worktree: changes, conflicts, locks, a HEAD somewhere else."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from orchestrator_app.workspace.git import run_git
from orchestrator_app.workspace.places import Place

STATUS_TIMEOUT = 600.0  # seconds; a large repository on a slow disk


def uncommitted(worktree: Place) -> tuple[list[str], list[str], dict[str, str]]:
    """The files that are new or differ from HEAD, those deleted, and the unmerged ones with git's XY state.

    Repositories nested in the worktree are in none of them.
    """
    done = run_git(
        ["status", "--porcelain=v2", "-z", "--untracked-files=all", "--no-renames", "--ignore-submodules=dirty"],
        worktree,
        timeout=STATUS_TIMEOUT,
    )
    changed, deleted, unmerged = [], [], {}
    for entry in done.out.split("\0"):
        kind = entry[:2]
        if kind == "? ":
            if not entry.endswith("/"):  # one that ends so is a nested repository
                changed.append(entry[2:])
            continue
        if kind not in ("1 ", "u "):
            continue
        fields = entry.split(" ", 8 if kind == "1 " else 10)
        file = fields[-1]
        if kind == "u ":
            unmerged[file] = fields[1]
        here = os.path.lexists(worktree.work_tree / file) and not _beyond_link(worktree.work_tree, file)
        (changed if here else deleted).append(file)
    return changed, deleted, unmerged


def resolved(work_tree: Path, file: str, state: str | None) -> bool:
    """Whether a file holds no open conflict. An unmerged one (with a `state`) must be text on both sides, unmarked."""
    path = work_tree / file
    if path.is_symlink() or not path.is_file():
        return state is None
    if state not in (None, "UU", "AA"):
        return False
    text = path.read_bytes()
    if b"\0" in text[:8192]:
        return state is None
    lines = iter(text.splitlines())
    opened = any(line.startswith(b"<<<<<<< ") for line in lines)
    return not (opened and any(line.startswith(b">>>>>>> ") for line in lines))


def head_of(worktree: Place) -> str | None:
    """The full name of the branch that is checked out; None if HEAD is detached."""
    try:
        text = (worktree.git_dir / "HEAD").read_text(errors="surrogateescape").strip()
    except OSError:
        text = ""
    if text.startswith("ref: refs/heads/") and text != "ref: refs/heads/.invalid":
        return text[5:]
    done = run_git(["symbolic-ref", "--quiet", "HEAD"], worktree, ok=(0, 1, 128))  # reftable, or no file: let git say
    return done.out.strip() or None


def last_commit(worktree: Place) -> str:
    """The commit that the worktree's HEAD was last at, by its reflog; `COMMIT` if that can't be told."""
    try:
        return (worktree.git_dir / "logs" / "HEAD").read_text(errors="replace").splitlines()[-1].split()[1]
    except (OSError, IndexError):
        return "COMMIT"


def drop_stale_locks(worktree: Place, ref: str) -> None:
    """Remove lock files that a killed git has left; one that a live process holds is left for git to wait for."""
    for lock in (worktree.git_dir / "index.lock", worktree.git_dir / "HEAD.lock", worktree.common_dir / f"{ref}.lock"):
        if os.path.lexists(lock) and not _held(lock, worktree.work_tree):
            lock.unlink(missing_ok=True)


def drop_ref_lock(place: Place, ref: str) -> None:
    """Remove the lock file of a branch of ours that outlasted all patience, unless a live process has it open."""
    lock = place.common_dir / f"{ref}.lock"
    if os.path.lexists(lock) and not _held(lock, None):
        lock.unlink(missing_ok=True)


def drop_half_made(place: Place) -> None:
    """Remove the records of worktrees that a killed git had hardly begun. Until then one of them fails every
    `git worktree`, whichever worktree that is about."""
    for record in (place.common_dir / "worktrees").glob("*/"):
        worktree = Place(record, place.common_dir, record)
        common = record / "commondir"
        try:
            if not worktree.locked_by_git() or (common.exists() and common.stat().st_size) or _adds(place.work_tree):
                continue
            dot_git = Path((record / "gitdir").read_text(errors="surrogateescape").strip() or record / "gitdir")
            shutil.rmtree(record)
            if [one.name for one in dot_git.parent.iterdir()] == [".git"]:
                dot_git.unlink()
        except OSError:
            continue  # another git has just done the same


def _adds(work_tree: Path) -> bool:
    """Whether a live git is making a worktree, in `work_tree` or below. Elsewhere than on Linux: yes."""
    if not os.path.isdir("/proc/self/fd"):
        return True
    for process in Path("/proc").iterdir():
        try:
            if process.name.isdigit() and (process / "comm").read_text().strip() == "git":
                words = (process / "cmdline").read_bytes().split(b"\0")
                if b"worktree" in words and Path(os.readlink(process / "cwd")).is_relative_to(work_tree):
                    return True
        except OSError:
            continue  # it has ended, or is another user's
    return False


def _held(lock: Path, work_tree: Path | None) -> bool:
    """Whether a live process has `lock` open, or is a git at work in `work_tree`. Elsewhere than on Linux: yes."""
    if not os.path.isdir("/proc/self/fd"):
        return True
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        try:
            is_git = (process / "comm").read_text().strip() == "git"
            if work_tree and is_git and Path(os.readlink(process / "cwd")).is_relative_to(work_tree):
                return True
            if any(os.readlink(open_file) == str(lock) for open_file in (process / "fd").iterdir()):
                return True
        except OSError:
            continue  # it has ended, or is another user's
    return False


def _beyond_link(work_tree: Path, file: str) -> bool:
    """Whether a directory of the file's path has become a symbolic link, so that the file itself is gone."""
    parent = os.path.dirname(file)
    return bool(parent) and os.path.realpath(work_tree / parent) != os.path.join(work_tree, parent)
