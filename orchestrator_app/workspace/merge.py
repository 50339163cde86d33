"""Merging a unit: built from objects alone, verified in a scratch worktree, and only then made the base.

Nobody's checkout is touched before `advance`, which compares and swaps the branch. Killed at any point, it leaves the
base branch at the old commit or at the new one, and a note by which the next one puts a checkout in between back.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from orchestrator_app.errors import GitError, OrchError, UsageError, WorkspaceError
from orchestrator_app.workspace import begun
from orchestrator_app.workspace.durable import force_to_disk
from orchestrator_app.workspace.git import locked_by, read_ref, reason_of, run_git
from orchestrator_app.workspace.locks import drop_broken_records
from orchestrator_app.workspace.places import (
    Place,
    half_made,
    is_sha,
    linked_place,
    listed,
    place_of,
    printable,
    words_of,
)
from orchestrator_app.workspace.process import Completed
from orchestrator_app.workspace.removal import delete_worktree
from orchestrator_app.workspace.worktrees import (
    CHECKOUT_TIMEOUT,
    base_ref,
    open_place,
    repository_lock,
    unit_ref,
)

CONFLICT_TEXT_LIMIT = 20_000  # bytes of conflicted text that an agent or an operator is shown
OPERATOR_LOCK_PATIENCE = 1.0  # seconds; the operator's git may hold its index for long (an open editor)

#: back to git's defaults, whatever branch.*.mergeOptions says
_AS_ITSELF = ("--no-squash", "--commit", "--no-autostash", "--no-verify", "--no-verify-signatures", "--no-stat")

_OPEN_BUSINESS = {
    "MERGE_HEAD": "a merge",
    "CHERRY_PICK_HEAD": "a cherry-pick",
    "REVERT_HEAD": "a revert",
    "rebase-merge": "a rebase",
    "rebase-apply": "a rebase",
}


@dataclass(frozen=True)
class Built:
    """A merge commit `new` on top of the base's tip `old`; no branch points at it yet."""

    old: str
    new: str


@dataclass(frozen=True)
class Conflict:
    """The files that don't merge, and git's words about them, followed by the conflicted text."""

    files: list[str]
    text: str


@dataclass(frozen=True)
class Nothing:
    """The base holds all of the unit's commits already."""


@dataclass(frozen=True)
class Advanced:
    """The base branch is at the new commit, and so is a checkout of it."""


@dataclass(frozen=True)
class Moved:
    """The base branch is at `tip`, not where the merge was built: build it again."""

    tip: str


@dataclass(frozen=True)
class Blocked:
    """The checkout of the base branch can't be updated without a person; `why` says what to do. No branch has moved."""

    files: list[str]
    why: str


def build(root: Path, unit: str, base: str) -> Built | Conflict | Nothing:
    """Merge the unit's branch into `base` in memory: one merge commit, no checkout touched, no branch moved."""
    place = open_place(root)
    old, work = _tip(place, base_ref(base)), _tip(place, unit_ref(unit))
    if run_git(["merge-base", "--is-ancestor", work, old], place, ok=(0, 1)).code == 0:
        return Nothing()
    merge = ["merge-tree", "--write-tree", "-z", "--name-only", "--messages", old, work]
    merged = run_git(merge, place, timeout=CHECKOUT_TIMEOUT, ok=(0, 1))
    tree, *rest = merged.out.split("\0")
    if not is_sha(tree):
        raise GitError(f"orch/{unit} can't be merged into {base}: {reason_of(merged)}; look at `git log orch/{unit}`")
    if merged.code:
        return _conflict(place, old, tree, rest)
    message = f"Merge unit {unit}\n\nBranch orch/{unit} at {work[:12]} into {base}.\n"
    done = run_git(["commit-tree", tree, "-p", old, "-p", work, "-F", "-"], place, input=message.encode())
    return Built(old, done.out.strip())


def scratch(root: Path, state: Path, unit: str, sha: str) -> Path:
    """A worktree, on no branch, at commit `sha`, to verify it in. If it is there already, it is left as it is."""
    if not is_sha(sha):
        raise UsageError(f"{sha!r} is not a commit's name; use the full one, as `build` returns it")
    place = open_place(root)
    path = _scratch_path(state, unit)
    with repository_lock(place):
        existing = linked_place(place, path)
        if existing and path.is_dir() and not half_made(existing) and _reads(existing.git_dir / "HEAD", sha):
            return path
        _drop(place, path)
        path.parent.mkdir(parents=True, exist_ok=True)
        drop_broken_records(place.common_dir)
        run_git(["worktree", "add", "--quiet", "--detach", "--", str(path), sha], place, timeout=CHECKOUT_TIMEOUT)
    return path


def drop_scratch(root: Path, state: Path, unit: str) -> None:
    """Remove the unit's scratch worktree, if there is one, with all that was made in it."""
    place = open_place(root)
    with repository_lock(place):
        _drop(place, _scratch_path(state, unit))


def advance(root: Path, state: Path, base: str, old: str, new: str) -> Advanced | Moved | Blocked:
    """Move branch `base` from `old` to `new`, its descendant, and a checkout of it along; or move nothing.

    Uncommitted and untracked files in that checkout, ignored ones included, are never overwritten. Done twice, it is
    Advanced again.
    """
    if not (is_sha(old) and is_sha(new)):
        raise UsageError(f"{old!r} and {new!r} must be commits' full names, as `build` returns them")
    place = open_place(root)
    ref = base_ref(base)
    with repository_lock(place):
        begun.put_back(place, state)
        tip = _tip(place, ref)
        if tip == new:
            return Advanced()
        if tip != old:
            return Moved(tip)
        checkouts, rebasing = _checkouts(place, ref)
        if rebasing:
            return Blocked([], f"a rebase of {base} is in progress in {rebasing[0]}; finish or abort it there")
        if len(checkouts) > 1:
            both = " and ".join(str(one.work_tree) for one in checkouts[:2])
            return Blocked([], f"{base} is checked out in {both}; check out another branch in one of them")
        checkout = checkouts[0] if checkouts else None
        if checkout and (why := _open_business(checkout)):
            return Blocked([], why)
        force_to_disk(place, old, new)
        begun.begin(place, state, checkout, ref, old, new)
        try:
            result = _update_checkout(place, checkout, ref, old, new) if checkout else _swap(place, ref, old, new)
        except OrchError:
            begun.put_back(place, state)
            if _tip(place, ref) != new:
                raise
            return Advanced()  # git died of something, but not before it had done its work
        if isinstance(result, Advanced):
            begun.end(state)
        else:
            begun.put_back(place, state)
        return result


def recover(root: Path, state: Path) -> None:
    """Put back what an `advance` of a killed server had begun, if anything."""
    place = open_place(root)
    with repository_lock(place):
        begun.put_back(place, state)


def _open_business(checkout: Place) -> str | None:
    for name, business in _OPEN_BUSINESS.items():
        if (checkout.git_dir / name).exists():
            return f"{business} is in progress in {checkout.work_tree}; finish or abort it there"
    return None


def _swap(place: Place, ref: str, old: str, new: str) -> Advanced | Moved | Blocked:
    if run_git(["merge-base", "--is-ancestor", old, new], place, ok=(0, 1)).code:
        raise WorkspaceError(f"{new[:12]} does not descend from {old[:12]}, so {ref} stays; build the merge again")
    done = run_git(["update-ref", "-m", "orch: merge", ref, new, old], place, ok=(0, 128))
    if locked_by(done.err):
        return Blocked([], reason_of(done))
    return _outcome(place, ref, old, new, done)


def _update_checkout(place: Place, checkout: Place, ref: str, old: str, new: str) -> Advanced | Moved | Blocked:
    where = checkout.work_tree
    done = run_git(
        ["merge", "--ff-only", "--no-overwrite-ignore", *_AS_ITSELF, "--quiet", new],
        checkout,
        timeout=CHECKOUT_TIMEOUT,
        ok=range(256),
        lock_patience=OPERATOR_LOCK_PATIENCE,
    )
    if done.code == 0 or _tip(place, ref) != old:
        return _outcome(place, ref, old, new, done)
    if locked_by(done.err):
        return Blocked([], reason_of(done))
    files = [printable(line[1:]) for line in done.err.splitlines() if line.startswith("\t")]
    if files:
        return Blocked(files, f"the merge would overwrite {listed(files)} in {where}; commit, stash or move them there")
    return Blocked([], f"{where} can't be updated ({reason_of(done)}); mend that there")


def _outcome(place: Place, ref: str, old: str, new: str, done: Completed) -> Advanced | Moved:
    """What has become of the branch, by looking at it, whatever git said."""
    tip = _tip(place, ref)
    if tip == new:
        return Advanced()
    if tip != old:
        return Moved(tip)
    raise GitError(f"{ref} could not be moved to {new[:12]}: {reason_of(done)}; mend that, then merge again")


def _checkouts(place: Place, ref: str) -> tuple[list[Place], list[Path]]:
    """Where the branch is checked out, and where it is being rebased (HEAD is detached then)."""
    drop_broken_records(place.common_dir)
    listing = run_git(["worktree", "list", "--porcelain", "-z"], place).out
    checkouts, rebasing = [], []
    for record in listing.split("\0\0"):
        lines = record.split("\0")
        if not lines[0].startswith("worktree ") or "bare" in lines:
            continue
        path = Path(lines[0].removeprefix("worktree "))
        # an agent can write the `.git` file of a worktree: where the repository has a record, that counts
        one = linked_place(place, path) or place_of(path)
        if one is None or not path.is_dir():
            continue
        if f"branch {ref}" in lines:
            checkouts.append(one)
        elif any(_reads(one.git_dir / name / "head-name", ref) for name in ("rebase-merge", "rebase-apply")):
            rebasing.append(path)
    return checkouts, rebasing


def _reads(file: Path, text: str) -> bool:
    return words_of(file) == text


def _conflict(place: Place, old: str, tree: str, rest: list[str]) -> Conflict:
    split = rest.index("") if "" in rest else len(rest)
    files = rest[:split]
    messages, at = [], split + 1
    while at < len(rest) and rest[at].isdigit():  # a message is: the number of paths, the paths, its kind, its text
        kind = at + int(rest[at]) + 1
        if len(rest) > kind + 1 and rest[kind].startswith("CONFLICT"):
            messages.append(printable(rest[kind + 1]).strip())
        at = kind + 2
    shown = run_git(["diff", old, tree, "--", *files[:100]], place, limit=CONFLICT_TEXT_LIMIT)
    text = "\n".join(messages) + "\n\n" + printable(shown.out) + ("\n[cut]\n" if shown.cut else "")
    return Conflict([printable(file) for file in files], text)


def _tip(place: Place, ref: str) -> str:
    sha = read_ref(place, ref)
    if sha is None:
        name = ref.removeprefix("refs/heads/")
        raise WorkspaceError(f"the branch {name} is gone; `git reflog` may have its last commit: bring it back")
    return sha


def _scratch_path(state: Path, unit: str) -> Path:
    return state / "scratch" / unit_ref(unit).removeprefix("refs/heads/orch/")


def _drop(place: Place, path: Path) -> None:
    if linked_place(place, path) or path.exists():
        delete_worktree(place, path)
