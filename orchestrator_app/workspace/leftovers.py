"""What an attempt has left in a worktree: changes, conflicts, a HEAD somewhere else."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from orchestrator_app.workspace.git import run_git
from orchestrator_app.workspace.places import Place, is_sha, words_of

STATUS_TIMEOUT = 600.0  # seconds; a large repository on a slow disk


def mend_index(worktree: Place) -> None:
    """Put a damaged index (the machine lost its power) aside and read it from HEAD anew. No file is changed: what was
    staged in there is found again by its content."""
    index = worktree.git_dir / "index"
    index.replace(index.with_name("index.damaged"))
    run_git(["read-tree", "HEAD"], worktree)


def uncommitted(worktree: Place) -> tuple[list[str], list[str], dict[str, str]]:
    """The files that are new or differ from HEAD, those deleted, and the unmerged ones with git's XY state.

    Repositories nested in the worktree are in none of them. What git can't hold (a FIFO, a socket, a device) in place
    of a file counts as the file deleted.
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
        here = _can_be_held(worktree.work_tree / file) and not beyond_link(worktree.work_tree, file)
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
    text = words_of(worktree.git_dir / "HEAD") or ""
    if text.startswith("ref: refs/heads/") and text != "ref: refs/heads/.invalid":
        return text[5:]
    done = run_git(["symbolic-ref", "--quiet", "HEAD"], worktree, ok=(0, 1, 128))  # reftable, or no file: let git say
    return done.out.strip() or None


def last_commit(worktree: Place) -> str:
    """The commit that the worktree's HEAD was last at, by its reflog; `COMMIT` if that can't be told."""
    log = words_of(worktree.git_dir / "logs" / "HEAD", 1 << 24) or ""
    shas = [sha for line in reversed(log.splitlines()) for sha in line.split()[1::-1] if sha.strip("0")]
    return shas[0] if shas and is_sha(shas[0]) else "COMMIT"


def _can_be_held(path: Path) -> bool:
    try:
        mode = path.lstat().st_mode
    except OSError:
        return False
    return stat.S_ISREG(mode) or stat.S_ISLNK(mode) or stat.S_ISDIR(mode)


def beyond_link(work_tree: Path, file: str) -> bool:
    """Whether a directory of the file's path has become a symbolic link, so that the file itself is gone."""
    parent = os.path.dirname(file)
    return bool(parent) and os.path.realpath(work_tree / parent) != os.path.join(work_tree, parent)
