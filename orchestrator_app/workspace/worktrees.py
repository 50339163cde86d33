"""A unit's branch and worktree: made once, mended when something was broken, removed only when nothing can be lost.

The branch is `refs/heads/orch/UNIT`, the worktree `STATE/worktrees/UNIT`. Where git keeps a worktree's administration
is found from the repository's side (`worktrees/*/gitdir`), never by the `.git` file in the worktree, which an agent
can write.
"""

from __future__ import annotations

import os
import re
import threading
import uuid
from collections.abc import Container
from pathlib import Path

from orchestrator_app.errors import GitError, PassingError, UsageError, WorkspaceError
from orchestrator_app.workspace.git import locked_by, read_ref, reason_of, run_git
from orchestrator_app.workspace.leftovers import head_of, last_commit, mend_index, resolved, uncommitted
from orchestrator_app.workspace.locks import drop_broken_records, drop_ref_locks, drop_stale_locks, drop_unit_locks
from orchestrator_app.workspace.orphans import end_orphans
from orchestrator_app.workspace.places import (
    Place,
    half_made,
    is_sha,
    linked_place,
    linked_places,
    listed,
    place_of,
    printable,
    words_of,
)
from orchestrator_app.workspace.process import Completed
from orchestrator_app.workspace.removal import delete_worktree, sweep_deleted

CHECKOUT_TIMEOUT = 600.0  # seconds; a large repository on a slow disk
DIFF_LIMIT = 2_000_000  # bytes of a diff that anyone is shown

_locks: dict[Path, threading.RLock] = {}
_locks_guard = threading.Lock()


def repository_lock(place: Place) -> threading.RLock:
    """The lock of this process for what changes a repository's list of branches and worktrees."""
    with _locks_guard:
        return _locks.setdefault(place.common_dir, threading.RLock())


def unit_ref(unit: str) -> str:
    return f"refs/heads/orch/{_checked(unit)}"


def base_ref(branch: str) -> str:
    return f"refs/heads/{branch}"


def check_repository(root: Path, base: str) -> None:
    """Raise WorkspaceError or GitError, with the way out, unless units of work can branch off `base` in `root`."""
    if not root.is_dir():
        raise WorkspaceError(f"{root} is not a directory; start in the top level of a git repository")
    version = run_git(["version"], root).out
    found = re.search(r"(\d+)\.(\d+)", version)
    if not found or (int(found[1]), int(found[2])) < (2, 38):
        raise WorkspaceError(f"{version.strip()} is too old: merges need git 2.38 or newer; install that")
    if place_of(root) is None:
        done = run_git(["rev-parse", "--show-toplevel"], root, ok=(0, 128))
        top = printable(done.out.strip())
        if top:
            raise WorkspaceError(f"{root} is inside the git repository {top}; start in its top level, {top}")
        if "work tree" in done.err:
            raise WorkspaceError(f"{root} is a bare git repository; `git clone` it and start in the clone")
        raise WorkspaceError(f"{root} is not a git repository; run `git init` and commit something first")
    place = open_place(root)
    if read_ref(place, base_ref(base)) is not None:
        return
    if run_git(["rev-parse", "--verify", "--quiet", "HEAD"], place, ok=(0, 1, 128)).code:
        raise WorkspaceError(f"{root} has no commit yet; commit something to the branch {base} first")
    recent = ["for-each-ref", "--count=5", "--sort=-committerdate", "--format=%(refname:strip=2)", "refs/heads/"]
    branches = printable(run_git(recent, place).out).split() or ["(there is none yet)"]
    raise WorkspaceError(
        f"{root} has no branch {base}; set `base` in orchestrator.toml to one of: {', '.join(branches)}"
    )


def open_place(root: Path) -> Place:
    """The place of the checkout in `root`; WorkspaceError if there is none."""
    place = place_of(Path(os.path.realpath(root)))
    if place is None:
        raise WorkspaceError(f"{root} is not the top level of a git repository; check that it wasn't moved")
    return place


class Worktrees:
    """The worktrees of one project. Safe to use from several threads, for one unit from one thread at a time."""

    def __init__(self, root: Path, state: Path) -> None:
        self._place = open_place(root)
        self._state = Path(os.path.realpath(state))
        self._lock = repository_lock(self._place)

    def check(self) -> None:
        """Raise WorkspaceError when the repository is no longer where it was."""
        if not (self._place.common_dir / "HEAD").exists():
            raise WorkspaceError(f"the git repository {self._place.common_dir} is gone; bring it back, then retry")

    def path(self, unit: str) -> Path:
        return self._state / "worktrees" / _checked(unit)

    def tip(self, branch: str) -> str:
        """The commit a branch points at. Raises WorkspaceError if there is no such branch."""
        sha = read_ref(self._place, base_ref(branch))
        if sha is None:
            raise WorkspaceError(f"there is no branch {branch}; see `git branch --list`")
        return sha

    def ensure(self, unit: str, base_sha: str) -> Path:
        """Make the unit's branch (at `base_sha`, if it doesn't exist) and worktree, or mend them; return the worktree.

        An existing branch is never moved, files in an existing worktree are never changed. To be called while no
        attempt of the unit runs. Raises WorkspaceError when something stands in the way that only a person may move.
        """
        _check_sha(base_sha)
        path = self.path(unit)
        with self._lock:
            worktree = linked_place(self._place, path) or self._moved(unit, path)
            if worktree and (half_made(worktree) or not path.is_dir()):
                self._keep_detached(unit, worktree)
                delete_worktree(self._place, path)
                worktree = None
            if worktree:
                self._mend(unit, worktree)
            elif os.path.lexists(path) and not (path.is_dir() and not any(path.iterdir())):
                raise WorkspaceError(f"{path} is no worktree of this repository; move it away, then retry {unit}")
            else:
                self._make(unit, path, base_sha)
        return path

    def commit_all(self, unit: str, message: str) -> str | None:
        """Commit all that isn't ignored in the unit's worktree to its branch; the new commit, None if nothing is new.

        Repositories nested in the worktree are left alone (a link to a commit nobody else has is worse than none).
        Raises WorkspaceError when HEAD isn't the unit's branch, or a conflict is unresolved; then nothing has changed.
        """
        worktree = self._existing(unit)
        if half_made(worktree):  # what is missing there was never deleted by anybody
            return None
        drop_stale_locks(worktree, unit_ref(unit))
        self._check_head(unit, worktree)
        try:
            changed, deleted, unmerged = uncommitted(worktree)
        except GitError as error:
            if "index file" not in str(error):
                raise
            mend_index(worktree)
            changed, deleted, unmerged = uncommitted(worktree)
        merging = any((worktree.git_dir / name).exists() for name in ("MERGE_HEAD", "CHERRY_PICK_HEAD", "REVERT_HEAD"))
        suspects = {*unmerged, *changed} if merging else set(unmerged)
        unresolved = sorted(file for file in suspects if not resolved(worktree.work_tree, file, unmerged.get(file)))
        if unresolved:
            raise WorkspaceError(
                f"{unit} has unresolved conflicts in {listed(unresolved)}; "
                f"resolve them in {worktree.work_tree} and `git add` them, then retry {unit}"
            )
        if not changed and not deleted and not (worktree.git_dir / "MERGE_HEAD").exists():
            return None
        before = read_ref(self._place, unit_ref(unit))
        if changed:
            add = ["update-index", "-z", "--add", "--remove", "--replace", "--stdin"]
            run_git(add, worktree, input=_paths(changed), timeout=CHECKOUT_TIMEOUT)
        if deleted:  # not by --remove: git refuses a path whose directory has become a link
            remove = ["update-index", "-z", "--force-remove", "--stdin"]
            run_git(remove, worktree, input=_paths(deleted), timeout=CHECKOUT_TIMEOUT)
        done = run_git(
            ["commit", "--quiet", "--no-verify", "--no-status", "--cleanup=whitespace", "-F", "-"],
            worktree,
            input=(message.strip() or f"Work on {unit}").encode("utf-8", "replace").replace(b"\0", b""),
            timeout=CHECKOUT_TIMEOUT,
            ok=(0, 1),
        )
        after = read_ref(self._place, unit_ref(unit))
        if done.code and run_git(["diff", "--cached", "--quiet"], worktree, ok=(0, 1)).code:
            kind = PassingError if locked_by(done.err) else GitError
            raise kind(f"the work of {unit} could not be committed: {reason_of(done)}; see {worktree.work_tree}")
        return after if after != before else None

    def changed_files(self, unit: str, base_sha: str) -> list[str]:
        """The files that the unit's commits change, compared to where its branch left `base_sha`'s history."""
        done = run_git(["diff", "--name-only", "-z", "--no-renames", self._since(unit, base_sha), "--"], self._place)
        return [printable(name) for name in done.out.split("\0") if name]

    def diff(self, unit: str, base_sha: str) -> str:
        """What the unit's commits change, as a patch of at most DIFF_LIMIT bytes, without work not yet committed."""
        done = run_git(["diff", "-M", self._since(unit, base_sha), "--"], self._place, limit=DIFF_LIMIT)
        return printable(done.out) + (f"\n[cut after {DIFF_LIMIT:,} bytes]\n" if done.cut else "")

    def remove(self, unit: str, base: str | None = None, *, discard: bool = False) -> None:
        """Remove the unit's worktree and branch; without `discard`, only if all work is committed and in branch `base`.

        Done twice, it changes nothing. To be called while no attempt of the unit runs.
        """
        ref, path = unit_ref(unit), self.path(unit)
        with self._lock:
            tip = read_ref(self._place, ref)
            if not discard:
                self._check_merged(unit, tip, base)
                self._check_clean(unit, path)
            delete_worktree(self._place, path)
            if tip:
                self._update_ref("-d", ref, tip)

    def end_orphans(self) -> None:
        """End the gits that a killed server has left running here."""
        end_orphans(self._place.common_dir)

    def tidy(self) -> None:
        """Remove what a killed server or git has left: locks, records of worktrees that were never made, deleted
        directories. To be called before anything else is done here, when no git of an earlier server runs any more."""
        with self._lock:
            drop_unit_locks(self._place.common_dir)
            for one in linked_places(self._place.common_dir):
                if one.work_tree.parent == self._state / "worktrees":
                    drop_stale_locks(one, unit_ref(one.work_tree.name))
            drop_broken_records(self._place.common_dir)
            for folder in (self._place.common_dir, self._state / "worktrees", self._state / "scratch"):
                sweep_deleted(folder)

    def exclude_state(self) -> None:
        """Have git ignore the state directory, by the repository's own exclude file; no file of the project changes."""
        try:
            line = f"/{self._state.relative_to(self._place.work_tree).as_posix()}/"
        except ValueError:
            return
        file = self._place.common_dir / "info" / "exclude"
        with self._lock:
            text = file.read_text(errors="surrogateescape") if file.exists() else ""
            if line in text.splitlines():
                return
            file.parent.mkdir(exist_ok=True)
            with file.open("a") as out:
                out.write(("" if text.endswith("\n") or not text else "\n") + line + "\n")

    def _make(self, unit: str, path: Path, base_sha: str) -> None:
        ref = unit_ref(unit)
        made = self._update_ref(ref, base_sha, "0" * len(base_sha), ok=(0, 128))
        if made.code and read_ref(self._place, ref) is None:
            reason = reason_of(made)
            in_the_way = "'refs/heads/orch' exists" in reason
            way_out = "rename the branch `orch`" if in_the_way else f"check that commit {base_sha[:12]} exists"
            raise WorkspaceError(f"the branch orch/{unit} can't be made: {reason}; {way_out}, then retry {unit}")
        path.parent.mkdir(parents=True, exist_ok=True)
        drop_broken_records(self._place.common_dir)
        # git takes only the short name for "check out this branch"; it can't be an option and follows a `--`
        add = ["worktree", "add", "--quiet", "--", str(path), f"orch/{unit}"]
        added = run_git(add, self._place, timeout=CHECKOUT_TIMEOUT, ok=(0, 128))
        elsewhere = re.search(r"is already (?:checked out|used by worktree) at '(.*)'", added.err)
        if elsewhere:
            raise WorkspaceError(
                f"the branch orch/{unit} is checked out in {printable(elsewhere[1])}; "
                f"check out another branch there, then retry {unit}"
            )
        if added.code:
            raise WorkspaceError(f"the worktree {path} can't be made: {reason_of(added)}; mend that, then retry {unit}")

    def _update_ref(self, *args: str, ok: Container[int] = (0,)) -> Completed:
        """Make, move or delete a branch of ours; a lock on it that outlasts all patience was left by a killed git."""
        update = ["update-ref", *args]
        refs = [arg for arg in args if arg.startswith("refs/")]
        try:
            done = run_git(update, self._place, ok=(0, 1, 128), lock_patience=0.3)
        except PassingError:  # killed: perhaps when all was done, so that nobody would look for its locks again
            drop_ref_locks(self._place.common_dir, *refs)
            raise
        if done.code in ok and not locked_by(done.err):
            return done
        drop_ref_locks(self._place.common_dir, *refs)
        return run_git(update, self._place, ok=ok)

    def _moved(self, unit: str, path: Path) -> Place | None:
        """The unit's worktree, if the project was moved since it was made: git's record names a place that is gone."""
        if not path.is_dir() or path.is_symlink():
            return None
        for old in linked_places(self._place.common_dir):
            if old.work_tree.exists() or old.work_tree.parts[-2:] != ("worktrees", unit):
                continue
            if head_of(Place(old.git_dir, old.common_dir, path)) == unit_ref(unit):
                (old.git_dir / "gitdir").write_text(f"{path / '.git'}\n")
                return Place(old.git_dir, old.common_dir, path)
        return None

    def _mend(self, unit: str, worktree: Place) -> None:
        if worktree.locked_by_git():
            (worktree.git_dir / "locked").unlink()  # git was killed when all but this was done
        drop_stale_locks(worktree, unit_ref(unit))
        self._check_branch(unit, worktree)
        _mend_pointer(unit, worktree)

    def _existing(self, unit: str) -> Place:
        path = self.path(unit)
        worktree = linked_place(self._place, path)
        if worktree is None or not path.is_dir():
            raise WorkspaceError(f"the worktree {path} is missing; retry {unit} to have it made anew from its branch")
        return worktree

    def _check_branch(self, unit: str, worktree: Place) -> None:
        if read_ref(self._place, unit_ref(unit)) is None:
            again = f"git branch orch/{unit} {last_commit(worktree)}"
            raise WorkspaceError(f"the branch orch/{unit} was deleted; `{again}` brings it back, then retry {unit}")

    def _check_head(self, unit: str, worktree: Place) -> None:
        path = worktree.work_tree
        if any((worktree.git_dir / name).exists() for name in ("rebase-merge", "rebase-apply")):
            raise WorkspaceError(
                f"{unit} was left in the middle of a rebase in {path}; "
                f"`git rebase --continue` or `git rebase --abort` there, then retry {unit}"
            )
        head = head_of(worktree)
        if head == unit_ref(unit):
            return self._check_branch(unit, worktree)
        where = f"on {printable(head.removeprefix('refs/heads/'))}" if head else "on no branch (detached HEAD)"
        raise WorkspaceError(
            f"the worktree {path} is {where}, not on orch/{unit}; to keep what is there, commit it, run "
            f"`git switch orch/{unit}` and `git merge` the other in it, then retry {unit}"
        )

    def _check_merged(self, unit: str, tip: str | None, base: str | None) -> None:
        if tip is None:
            return
        if base is None:
            raise UsageError(f"which branch should hold the work of {unit}? name it, or discard the work")
        done = run_git(["merge-base", "--is-ancestor", tip, self.tip(base)], self._place, ok=(0, 1))
        if done.code:
            raise WorkspaceError(f"the work of {unit} is not in {base} yet; merge orch/{unit} first, or discard {unit}")

    def _check_clean(self, unit: str, path: Path) -> None:
        worktree = linked_place(self._place, path)
        if worktree is None or not path.is_dir():
            if path.is_dir() and any(path.iterdir()):
                raise WorkspaceError(f"{path} is no worktree of this repository; move it away, or discard {unit}")
            return
        if half_made(worktree):
            return
        if head_of(worktree) != unit_ref(unit):
            raise WorkspaceError(f"{path} is not on orch/{unit}; look what is there, or discard {unit}")
        # submodules are looked into here: what was done in one and is nowhere else would be lost
        look = ["status", "--porcelain=v2", "-z", "--untracked-files=normal", "--no-renames"]
        done = run_git([*look, "--ignore-submodules=none"], worktree, timeout=CHECKOUT_TIMEOUT)
        if done.out:
            first = printable(done.out.split("\0")[0]).split(" ")[-1]
            raise WorkspaceError(f"{path} holds uncommitted work ({first}); commit it, or discard {unit}")

    def _keep_detached(self, unit: str, worktree: Place) -> None:
        """Keep a commit that only the HEAD of a lost worktree points at, before git's record of that worktree goes."""
        sha = words_of(worktree.git_dir / "HEAD") or ""
        if is_sha(sha) and sha.strip("0"):
            run_git(["update-ref", f"refs/orch/kept/{unit}-{sha[:12]}", sha], self._place, ok=(0, 128))

    def _since(self, unit: str, base_sha: str) -> str:
        return f"{_check_sha(base_sha)}...{self.tip(f'orch/{_checked(unit)}')}"


def _checked(unit: str) -> str:
    """Unit names are checked by their grammar elsewhere; this only makes sure that none is a path to another place."""
    if not unit or "/" in unit or "\0" in unit or unit.startswith("."):
        raise UsageError(f"{unit!r} is no name for a work unit; use letters, digits and dashes")
    return unit


def _check_sha(sha: str) -> str:
    if not is_sha(sha):
        raise UsageError(f"{sha!r} is not a commit's name; use the full one, as `tip` returns it")
    return sha


def _mend_pointer(unit: str, worktree: Place) -> None:
    """Make the worktree's `.git` file point at our own administration again, if anything has changed it."""
    dot_git = worktree.work_tree / ".git"
    if dot_git.is_symlink() or (dot_git.exists() and not dot_git.is_file()):
        raise WorkspaceError(f"{dot_git} was replaced by something of {unit}'s own; move it away, then retry {unit}")
    current = place_of(worktree.work_tree)
    if current is not None and current.git_dir == Path(os.path.realpath(worktree.git_dir)):
        return
    fresh = dot_git.with_name(f".git-{uuid.uuid4().hex}")
    fresh.write_text(f"gitdir: {worktree.git_dir}\n")
    fresh.replace(dot_git)


def _paths(files: list[str]) -> bytes:
    return b"".join(os.fsencode(file) + b"\0" for file in files)
