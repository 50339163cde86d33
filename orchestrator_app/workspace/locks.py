"""Lock files that a killed git has left, and whether somebody alive holds one.

A lock is removed only when it is ours by its place (a unit's worktree, a unit's branch) or by its time (made while we
moved the base), and when no living process has it open or is a git at work in that checkout. git closes some locks
while it holds them (a commit waits in an editor; packed-refs.lock always), hence the second. A process of another user
or another machine can't be seen: such a lock is left where it isn't ours by its place.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path

from orchestrator_app.workspace.places import Place, linked_places, words_of

PROCESSES = Path("/proc")


def drop_stale_locks(worktree: Place, ref: str) -> None:
    """Remove what a killed git has left locked of a unit's worktree and its branch `ref`."""
    for lock in (*worktree.git_dir.glob("*.lock"), worktree.common_dir / f"{ref}.lock"):
        drop_if_dead(lock, {worktree.work_tree})


def drop_ref_locks(common_dir: Path, *refs: str) -> None:
    """Remove the locks of branches of ours, and the one that deleting a branch takes, where they have outlasted git."""
    for ref in refs:
        drop_if_dead(common_dir / f"{ref}.lock")
    drop_if_dead(common_dir / "packed-refs.lock", _checkouts(common_dir))


def drop_unit_locks(common_dir: Path) -> None:
    """The same for the branches of all units."""
    locks = (common_dir / "refs" / "heads" / "orch").rglob("*.lock")
    drop_ref_locks(common_dir, *(str(lock.relative_to(common_dir)).removesuffix(".lock") for lock in locks))


def drop_if_dead(lock: Path, checkouts: Collection[Path] = (), since: float = 0.0) -> None:
    """Remove a lock file made at `since` (as the file system tells time) or later that nobody alive holds.

    A living git in one of `checkouts` counts as a holder; without them, only who has the file open.
    """
    try:
        seen = lock.lstat()
        if seen.st_mtime >= since and not held(lock, checkouts) and lock.lstat().st_ino == seen.st_ino:
            lock.unlink()
    except FileNotFoundError:
        pass  # whoever held it was just done


def held(lock: Path, checkouts: Collection[Path] = ()) -> bool:
    """Whether a living process has `lock` open, or is a git in one of `checkouts`. Elsewhere than on Linux: yes."""
    if not (PROCESSES / "self" / "fd").is_dir():
        return True
    for process in PROCESSES.iterdir():
        if not process.name.isdigit():
            continue
        try:
            if checkouts and is_git(process) and _checkout_of(Path(os.readlink(process / "cwd"))) in checkouts:
                return True
            if any(os.readlink(open_file) == str(lock) for open_file in (process / "fd").iterdir()):
                return True
        except OSError:
            continue  # it has ended, or is another user's
    return False


def is_git(process: Path) -> bool:
    """Whether the process (a directory of /proc) is a git; raises OSError when it is no more."""
    return (process / "comm").read_text(errors="replace").strip() == "git"


def _checkout_of(folder: Path) -> Path:
    """The top level of the checkout that a directory lies in; a worktree of ours lies inside the operator's."""
    return next((one for one in (folder, *folder.parents) if os.path.lexists(one / ".git")), folder)


def drop_broken_records(common_dir: Path) -> None:
    """Remove git's records of worktrees that a killed git had hardly begun; one of them can fail every `git worktree`.

    No `git worktree` of ours may run; where another's does, nothing is done. A lock with a person's words is theirs.
    """
    broken = [record for record in _records(common_dir) if _hardly_begun(record)]
    if not broken or _adds(_checkouts(common_dir)):
        return
    for record in broken:
        begun = Path(words_of(record / "gitdir") or record / "gitdir")
        shutil.rmtree(record, ignore_errors=True)
        if begun.name == ".git" and begun.is_file() and os.listdir(begun.parent) == [".git"]:
            begun.unlink()


def _hardly_begun(record: Path) -> bool:
    locked = words_of(record / "locked") if (record / "locked").exists() else None
    if locked not in (None, "", "initializing"):
        return False
    return not words_of(record / "gitdir") or (locked is not None and not words_of(record / "commondir"))


def _adds(checkouts: Collection[Path]) -> bool:
    """Whether a living git is at a worktree, from one of `checkouts`. Elsewhere than on Linux: yes."""
    if not (PROCESSES / "self" / "fd").is_dir():
        return True
    for process in PROCESSES.iterdir():
        try:
            adding = process.name.isdigit() and is_git(process) and b"worktree" in (process / "cmdline").read_bytes()
            if adding and _checkout_of(Path(os.readlink(process / "cwd"))) in checkouts:
                return True
        except OSError:
            continue  # it has ended, or is another user's
    return False


def _checkouts(common_dir: Path) -> set[Path]:
    return {common_dir.parent, *(one.work_tree for one in linked_places(common_dir))}


def _records(common_dir: Path) -> Iterator[Path]:
    try:
        yield from (one for one in (common_dir / "worktrees").iterdir() if one.is_dir() and not one.is_symlink())
    except OSError:
        return
