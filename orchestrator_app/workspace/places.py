"""Where a checkout keeps its things, read from its files. No process is started here."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_SHA = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")


@dataclass(frozen=True)
class Place:
    """Where a checkout keeps its things. `common_dir` is shared by all worktrees of a repository."""

    git_dir: Path
    common_dir: Path
    work_tree: Path

    def locked_by_git(self) -> bool:
        """Whether git's own mark is on this worktree: git is making it, or was when it was killed."""
        return words_of(self.git_dir / "locked") == "initializing"


def words_of(file: Path, limit: int = 65536) -> str | None:
    """What one of git's small files says; None if there is none. Agents write there too: a FIFO must not hold us up."""
    try:
        fd = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(fd, "rb") as opened:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                return None
            return opened.read(limit).decode("utf-8", "surrogateescape").strip()
    except OSError:
        return None


def place_of(work_tree: Path) -> Place | None:
    """The place of the checkout whose top level is `work_tree`, by its `.git`; None if it has none."""
    dot_git = work_tree / ".git"
    if dot_git.is_dir():
        git_dir = dot_git
    else:
        word, _, target = (words_of(dot_git) or "").partition(" ")
        if word != "gitdir:":
            return None
        git_dir = Path(os.path.realpath(work_tree / target))
    return Place(git_dir, _repository_of(git_dir) or git_dir, work_tree)


def linked_places(common_dir: Path) -> Iterator[Place]:
    """Every linked worktree that the repository has a record of, whether its directory still exists or not."""
    try:
        entries = sorted((common_dir / "worktrees").iterdir())
    except OSError:
        return
    for git_dir in entries:
        dot_git = words_of(git_dir / "gitdir")
        if dot_git:
            yield Place(git_dir, common_dir, Path(os.path.realpath(git_dir / dot_git)).parent)


def linked_place(place: Place, path: Path) -> Place | None:
    """The linked worktree at `path`, by the repository's own records.

    Its record's way back to the repository is mended if anything has changed it: git looks for branches there,
    whatever GIT_COMMON_DIR says.
    """
    wanted = Path(os.path.realpath(path))
    found = next((one for one in linked_places(place.common_dir) if one.work_tree == wanted), None)
    if found and _repository_of(found.git_dir) != place.common_dir.resolve():
        (found.git_dir / "commondir").unlink(missing_ok=True)
        (found.git_dir / "commondir").write_text("../..\n")
    return found


def _repository_of(git_dir: Path) -> Path | None:
    """The repository that a worktree's record says it belongs to."""
    common = words_of(git_dir / "commondir")
    return None if common is None else Path(os.path.realpath(git_dir / common))


def printable(text: str) -> str:
    """`text` with what was not UTF-8 replaced, so that it can be stored and shown."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def is_sha(text: str) -> bool:
    return _SHA.fullmatch(text) is not None


def half_made(worktree: Place) -> bool:
    """Whether git was killed before a worktree's files were all there, so that nobody has worked in it yet."""
    return worktree.locked_by_git() and not (worktree.git_dir / "index").exists()


def listed(files: list[str]) -> str:
    """The first few names, for a message."""
    more = f" and {len(files) - 5} more" if len(files) > 5 else ""
    return ", ".join(printable(file) for file in files[:5]) + more
