"""A checkout that is being brought to a new commit: written down before it begins, put back if it was cut short.

git changes the files, then the index, then the branch. Killed in between, it leaves files of both commits, and the
branch at the old one. What was begun is known from a note in the state directory, so it can be put back to the old
commit: only those files that hold exactly what git has written there (whole, in part, or taken away). Whatever else a
file holds is somebody's work, and stays.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from orchestrator_app.errors import GitError, PassingError
from orchestrator_app.workspace.git import run_git
from orchestrator_app.workspace.leftovers import beyond_link
from orchestrator_app.workspace.locks import drop_if_dead
from orchestrator_app.workspace.places import Place

NOTE = "moving-base.json"
TIMEOUT = 600.0  # seconds; a large repository on a slow disk
_GITLINK = "160000"


@dataclass(frozen=True)
class Begun:
    """What the note says: `ref` was about to go from `old` to `new`, and the checkout `work_tree` with it (None: there
    is no checkout of it). `theirs` are files that were not as `old` has them before anything began."""

    ref: str
    old: str
    new: str
    git_dir: str | None
    work_tree: str | None
    theirs: list[str]


class Change(NamedTuple):
    """A file that differs between the two commits. Mode 000000: that commit doesn't have it."""

    old_mode: str
    new_mode: str
    old: str
    new: str
    path: str

    @property
    def before(self) -> tuple[str, str]:
        return self.old_mode, self.old

    @property
    def after(self) -> tuple[str, str]:
        return self.new_mode, self.new

    @property
    def added(self) -> bool:
        return self.old_mode == "000000"

    @property
    def removed(self) -> bool:
        return self.new_mode == "000000"


def begin(place: Place, state: Path, checkout: Place | None, ref: str, old: str, new: str) -> None:
    """Write down, to the disk, that `ref` and a checkout of it are about to be moved."""
    theirs = []
    if checkout:
        theirs = [one.path for one in _changes(place, old, new) if not _untouched(checkout, one)]
    where = (str(checkout.git_dir), str(checkout.work_tree)) if checkout else (None, None)
    text = json.dumps(asdict(Begun(ref, old, new, *where, theirs)))
    note, fresh = state / NOTE, state / f"{NOTE}.new"
    with fresh.open("w") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    fresh.replace(note)
    _sync(state)


def end(state: Path) -> None:
    """What was begun is done, or put back."""
    (state / NOTE).unlink(missing_ok=True)
    _sync(state)


def put_back(place: Place, state: Path) -> None:
    """If something was begun and cut short, bring the checkout back to where it was, as far as it is git's own doing.

    Raises PassingError while another git is still at it.
    """
    note = state / NOTE
    try:
        since = note.stat().st_mtime
        begun = Begun(**json.loads(note.read_text()))
    except FileNotFoundError:
        return
    except (ValueError, TypeError):  # it is written whole or not at all; this is nobody's note of ours
        return end(state)
    ref_lock = place.common_dir / f"{begun.ref}.lock"
    if begun.work_tree is None:
        drop_if_dead(ref_lock, {place.work_tree}, since)
        return end(state)
    checkout = Place(Path(begun.git_dir), place.common_dir, Path(begun.work_tree))
    if (checkout.git_dir / "HEAD").exists() and checkout.work_tree.is_dir():
        locks = [checkout.git_dir / name for name in ("index.lock", "HEAD.lock", "ORIG_HEAD.lock")]
        for lock in (*locks, ref_lock):
            drop_if_dead(lock, {checkout.work_tree}, since)
        _put_back(checkout, begun)
    end(state)


def _put_back(checkout: Place, begun: Begun) -> None:
    staged = _raw(run_git(["diff-index", "--cached", "--raw", "-r", "-z", "--no-renames", "HEAD"], checkout).out)
    index = {one.path: one.after for one in staged}
    # where HEAD has something else than the old commit, somebody has gone on since
    moved = {one.path for one in _changes(checkout, begun.old, "HEAD")}
    mine = []
    for one in _changes(checkout, begun.old, begun.new):
        entry = index.get(one.path, one.before)
        if one.path not in moved and one.path not in begun.theirs and entry in (one.before, one.after):
            mine.append(one)
    reset = [one for one in mine if one.path in index]
    gone = [one for one in mine if one.added and _written(checkout, one)]
    lock = checkout.git_dir / "index.lock"
    if (reset or gone or _lost(checkout, mine)) and lock.exists():
        raise PassingError(f"{lock} is held by another git; let it finish, or delete that file if no git runs there")
    if reset:
        lines = b"".join(f"{one.old_mode} {one.old}\t".encode() + os.fsencode(one.path) + b"\0" for one in reset)
        run_git(["update-index", "-z", "--index-info"], checkout, input=lines, timeout=TIMEOUT)
    for one in gone:
        (checkout.work_tree / one.path).unlink()
        _drop_empty(checkout.work_tree, os.path.dirname(one.path))
    # only now: where a file is to be again, there may have been a directory of the files above
    if lost := _lost(checkout, mine):
        paths = b"".join(os.fsencode(one.path) + b"\0" for one in lost)
        run_git(["checkout-index", "-f", "-u", "-q", "-z", "--stdin"], checkout, input=paths, timeout=TIMEOUT)


def _lost(checkout: Place, changes: list[Change]) -> list[Change]:
    """The files of the old commit that git has written over or taken away."""
    return [one for one in changes if not one.added and one.old_mode != _GITLINK and _written(checkout, one)]


def _untouched(checkout: Place, one: Change) -> bool:
    """Whether the file is as the old commit has it, or was taken away, so that git may write over it."""
    found = _lstat(checkout.work_tree, one.path)
    if found is None or (one.added and stat.S_ISDIR(found.st_mode)):
        return True  # a directory gives way to a file, or keeps git from all of it
    return not one.added and _holds(checkout, one.path, one.old_mode, one.old, found)


def _written(checkout: Place, one: Change) -> bool:
    """Whether what is there now is what git leaves on its way from the old commit to the new one."""
    found = _lstat(checkout.work_tree, one.path)
    if found is None:
        return not one.added and _reachable(checkout.work_tree, one.path)
    return not one.removed and _holds(checkout, one.path, one.new_mode, one.new, found, in_part=True)


def _holds(checkout: Place, path: str, mode: str, sha: str, found: os.stat_result, *, in_part: bool = False) -> bool:
    """Whether the file is the one of that mode and content; with `in_part`, also when only its beginning is written."""
    file = checkout.work_tree / path
    if mode == "120000":
        return stat.S_ISLNK(found.st_mode) and _blob(os.fsencode(os.readlink(file)), sha) == sha
    if mode == _GITLINK or not stat.S_ISREG(found.st_mode):
        return False
    content = file.read_bytes()
    if _blob(content, sha) != sha:  # it may be stored in another form (line endings, git-lfs), or not be whole
        try:
            whole = run_git(["cat-file", "--filters", f"--path={path}", sha], checkout).out
        except GitError:
            return False
        written = os.fsencode(whole)
        if written != content:
            return in_part and written.startswith(content)
    return (mode == "100755") == bool(found.st_mode & stat.S_IXUSR)


def _changes(place: Place, old: str, new: str) -> list[Change]:
    return list(_raw(run_git(["diff-tree", "--raw", "-r", "-z", "--no-renames", old, new], place, timeout=TIMEOUT).out))


def _raw(text: str) -> Iterator[Change]:
    fields = text.split("\0")[:-1]
    for head, path in zip(fields[::2], fields[1::2], strict=True):
        old_mode, new_mode, old, new, _ = head.removeprefix(":").split(" ")
        yield Change(old_mode, new_mode, old, new, path)


def _blob(content: bytes, like: str) -> str:
    """The name git gives to a file's content, in the repository's kind of hash."""
    kind = hashlib.sha1 if len(like) == 40 else hashlib.sha256
    return kind(b"blob %d\0" % len(content) + content).hexdigest()


def _lstat(work_tree: Path, path: str) -> os.stat_result | None:
    """The file's state; None if it isn't there, also when a directory of its path is something else by now."""
    if beyond_link(work_tree, path):
        return None
    with suppress(FileNotFoundError, NotADirectoryError):
        return (work_tree / path).lstat()
    return None


def _reachable(work_tree: Path, path: str) -> bool:
    """Whether every directory of the path is one, or is missing: git would put away what stands there instead."""
    parents = [work_tree / parent for parent in Path(path).parents if parent != Path()]
    return all(one.is_dir() and not one.is_symlink() for one in parents if os.path.lexists(one))


def _drop_empty(work_tree: Path, folder: str) -> None:
    """Remove the directories that only git's files were in."""
    while folder:
        try:
            (work_tree / folder).rmdir()
        except OSError:
            return
        folder = os.path.dirname(folder)


def _sync(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
