"""A repository of sets of changes, which outlives the server, and a crew that works on it a step at a time.

A commit is a set of changes. A change is (file, by whom). Two sets conflict where both have changes of one file that
the other lacks. Every piece of the crew's work is a generator: between any two of its steps the server may die.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

from orchestrator_app.errors import OrchError, PassingError, WorkspaceError
from orchestrator_app.executors.base import Exited, Vanished
from orchestrator_app.settings import Project
from orchestrator_app.workspace.crew import Botched, Delayed, MergeAdvanced, MergeBuilt, Prepared, Result, Sealed
from orchestrator_app.workspace.merge import Advanced, Blocked, Built, Conflict, Moved, Nothing

from .fake_host import Host, Violation

Change = tuple[str, str]


class Repository:
    """Commits, branches, worktrees. `recorded(unit, old, new)` says whether the log has that merge."""

    def __init__(self, host: Host, recorded: Callable[[str, str, str], bool]) -> None:
        self._host = host
        self._recorded = recorded
        self.commits: dict[str, frozenset[Change]] = {}
        self.made: set[Change] = set()
        self.base = self.commit(frozenset())
        self.branches: dict[str, str] = {}
        self.worktrees: dict[str, set[Change]] = {}
        self.half_made: set[str] = set()
        self.scratch: dict[str, str] = {}
        self.fails = 0
        self.blocked = 0
        #: Whether the next failures are of the kind that passes; the attempts whose work was committed.
        self.passing = False
        self.sealed: set[tuple[str, int]] = set()
        #: A `git` that outlived the server it was started by: a move of the base that is yet to happen.
        self.orphans: list[tuple[str, str, str]] = []

    def commit(self, changes: frozenset[Change]) -> str:
        sha = f"{len(self.commits) + 1:040x}"
        self.commits[sha] = changes
        return sha

    def content(self, sha: str) -> frozenset[Change]:
        return self.commits[sha]

    def work(self, unit: str, change: Change) -> None:
        """An agent changes a file in its worktree."""
        if unit in self.worktrees:
            self.worktrees[unit].add(change)
            self.made.add(change)

    def take_in_base(self, unit: str) -> None:
        """An agent, or a person, merges the base into the unit's branch and resolves what conflicts."""
        if unit in self.worktrees:
            self.worktrees[unit] |= self.content(self.base)

    def stranger(self, change: Change) -> None:
        self.made.add(change)
        self.base = self.commit(self.content(self.base) | {change})

    def seal(self, unit: str) -> str | None:
        if unit not in self.worktrees or unit in self.half_made:
            raise WorkspaceError(f"the worktree of {unit} is missing; retry {unit} to have it made anew")
        before = self.content(self.branches[unit])
        after = before | self.worktrees[unit]
        if after == before:
            return None
        self.branches[unit] = self.commit(after)
        return self.branches[unit]

    def swap(self, unit: str, old: str, new: str) -> bool:
        """Compare and swap the base branch; whether it moved."""
        if self.base != old:
            return False
        if not self._recorded(unit, old, new):
            raise Violation(f"I10: the base is moved to a merge of {unit} that the log doesn't know")
        if not self.content(old) < self.content(new):
            raise Violation(f"I10: the work of {unit} is merged twice, or a merge loses changes")
        self.base = new
        return True

    def lost(self) -> set[Change]:
        """Changes that are nowhere any more."""
        kept = set(self.content(self.base))
        for sha in self.branches.values():
            kept |= self.content(sha)
        for uncommitted in self.worktrees.values():
            kept |= uncommitted
        return self.made - kept

    def remove(self, unit: str) -> None:
        """Like Worktrees.remove: never what is not merged."""
        changes = self.content(self.branches[unit]) if unit in self.branches else frozenset()
        if not (changes | self.worktrees.get(unit, set())) <= self.content(self.base):
            raise WorkspaceError(f"the work of {unit} is not in main yet; merge orch/{unit} first, or discard {unit}")
        if self._host.live(unit):
            raise Violation(f"I10: the worktree of {unit} is removed while an attempt of it runs")
        self.worktrees.pop(unit, None)
        self.half_made.discard(unit)
        self.branches.pop(unit, None)


Work = Generator[str, None, Any]


class Piece:
    """A piece of work under way."""

    def __init__(self, what: str, unit: str, begin: Callable[[], Work], report: Callable[[Any], Result] | None) -> None:
        self.what = what
        self.unit = unit
        self.begin = begin
        self.work = begin()
        self.report = report
        #: It failed for a passing fault, and is tried again later.
        self.delayed = False
        #: The move of the base that it has handed to git, which may outlive the server.
        self.moves: tuple[str, str, str] | None = None


class FakeCrew:
    """`workspace.crew.Crew` on a `Repository`. It works when it is told to (`go_on`); it dies with its server."""

    def __init__(
        self, project: Project, repository: Repository, host: Host, point: Callable[[str], None], post: Callable
    ) -> None:
        self._project = project
        self._repository = repository
        self._host = host
        self._point = point
        self._post = post
        self._closed = False
        self.pieces: list[Piece] = []

    # -- what the scheduler asks for

    @property
    def under_way(self) -> bool:
        return bool(self.pieces)

    def prepare(self, unit: str, attempt: int, base: str | None) -> None:
        self._add("prepare", unit, attempt, lambda: self._prepare(unit, attempt, base))

    def seal(self, unit: str, attempt: int, phase: str, exited: Exited | Vanished) -> None:
        self._add("seal", unit, attempt, lambda: self._seal(unit, attempt, exited), exited)

    def build_merge(self, unit: str, attempt: int, *, to_verify: bool) -> None:
        self._add("build", unit, attempt, lambda: self._build(unit, attempt, to_verify))

    def advance(self, unit: str, attempt: int, old: str, new: str) -> None:
        self._add("advance", unit, attempt, lambda: self._advance(unit, attempt, old, new))

    def clean(self, unit: str, *, merged: bool) -> None:
        self._append(Piece("clean", unit, lambda: self._clean(unit, merged), None))

    def sweep(self, is_merged: Callable[[str], bool]) -> None:
        self._append(Piece("sweep", "", lambda: self._sweep(is_merged), None))

    def close(self) -> None:
        """What is under way is brought to its end; its results are still posted. What is delayed is for the next."""
        self._closed = True
        while under_way := [one for one in self.pieces if not one.delayed]:
            self.go_on(self.pieces.index(under_way[0]))

    # -- the work, step by step

    def _prepare(self, unit: str, attempt: int, base: str | None) -> Work:
        repository = self._repository
        start = base or repository.base
        yield "looked where to start"
        if self._host.live(unit):
            raise Violation(f"I1: the worktree of {unit} is prepared while an attempt of it runs")
        repository.branches.setdefault(unit, start)
        yield "made the branch"
        if unit not in repository.worktrees:
            repository.worktrees[unit] = set()
            repository.half_made.add(unit)
            yield "half made the worktree"
        repository.half_made.discard(unit)
        return Prepared(unit, attempt, self._project.state / "worktrees" / unit, start)

    def _seal(self, unit: str, attempt: int, exited: Exited | Vanished) -> Work:
        yield "looked what changed"
        if (unit, attempt) in self._repository.sealed:
            return Sealed(unit, attempt, exited, None)
        if self._host.live(unit):
            raise Violation(f"I1: the worktree of {unit} is committed while an attempt of it runs")
        commit = self._repository.seal(unit)
        yield "committed"
        self._repository.sealed.add((unit, attempt))
        return Sealed(unit, attempt, exited, commit)

    def _build(self, unit: str, attempt: int, to_verify: bool) -> Work:
        repository = self._repository
        repository.seal(unit)
        yield "committed what was left"
        old, work = repository.base, repository.branches[unit]
        base, mine = repository.content(old), repository.content(work)
        yield "looked at both tips"
        if mine <= base:
            return MergeBuilt(unit, attempt, Nothing(), None)
        files = sorted({file for file, _ in mine - base} & {file for file, _ in base - mine})
        if files:
            return MergeBuilt(unit, attempt, Conflict(files, "both changed it"), None)
        new = repository.commit(base | mine)
        if not to_verify:
            return MergeBuilt(unit, attempt, Built(old, new), None)
        yield "built the merge"
        repository.scratch[unit] = new
        return MergeBuilt(unit, attempt, Built(old, new), self._project.state / "scratch" / unit)

    def _advance(self, unit: str, attempt: int, old: str, new: str) -> Work:
        repository = self._repository
        yield "locked the repository"
        if repository.base == new:
            return MergeAdvanced(unit, attempt, Advanced())
        if repository.base != old:
            return MergeAdvanced(unit, attempt, Moved(repository.base))
        if repository.blocked:
            repository.blocked -= 1
            return MergeAdvanced(unit, attempt, Blocked(["f0"], "the merge would overwrite f0; commit it there"))
        self._piece(unit).moves = (unit, old, new)
        yield "is about to move the base"
        moved = repository.swap(unit, old, new)
        yield "moved the base"
        return MergeAdvanced(unit, attempt, Advanced() if moved else Moved(repository.base))

    def _clean(self, unit: str, merged: bool) -> Work:
        self._repository.scratch.pop(unit, None)
        yield "dropped the scratch worktree"
        if merged:
            self._repository.remove(unit)

    def _sweep(self, is_merged: Callable[[str], bool]) -> Work:
        for unit in list(self._repository.branches):
            yield f"looks at {unit}"
            if is_merged(unit):
                try:
                    yield from self._clean(unit, True)
                except OrchError:
                    continue

    # -- its threads

    def _piece(self, unit: str) -> Piece:
        return next(one for one in self.pieces if one.unit == unit and one.what == "advance")

    def _add(
        self,
        what: str,
        unit: str,
        attempt: int,
        work: Callable[[], Work],
        exited: Exited | Vanished | None = None,
    ) -> None:
        if any(one.unit == unit and one.report is not None for one in self.pieces):
            raise Violation(f"I1: two pieces of work on {unit} at a time")
        self._append(Piece(what, unit, work, lambda error: self._failed(unit, attempt, error, exited)))

    def _failed(self, unit: str, attempt: int, error: OrchError, exited: Exited | Vanished | None) -> Result:
        passing = isinstance(error, PassingError)
        if passing and exited is not None:
            return Delayed(unit, attempt, str(error), 1.0)
        return Botched(unit, attempt, str(error), exited, passing)

    def _append(self, piece: Piece) -> None:
        if self._closed:
            raise RuntimeError("cannot schedule new futures after shutdown")
        self._point(f"before git begins to {piece.what} {piece.unit}")
        self.pieces.append(piece)

    def go_on(self, index: int) -> str:
        """One step of a piece; at its end its result is posted. At most four are under way at a time."""
        piece = self.pieces[index % min(4, len(self.pieces))]
        if piece.delayed:
            piece.delayed, piece.work = False, piece.begin()
            return f"{piece.what} {piece.unit}: tried again"
        self._point(f"while git is to {piece.what} {piece.unit}")
        try:
            if self._repository.fails and piece.report is not None:
                self._repository.fails -= 1
                raise (PassingError if self._repository.passing else WorkspaceError)("git failed: no space left")
            return f"{piece.what} {piece.unit}: {next(piece.work)}"
        except StopIteration as end:
            result = end.value
        except OrchError as error:
            result = piece.report(error) if piece.report else None
        if type(result) is Delayed:
            piece.delayed = True
        else:
            self.pieces.remove(piece)
        if result is not None:
            self._post(result)
        return f"{piece.what} {piece.unit}: {result}"


def cwd_is_worktree(path: str) -> bool:
    return Path(path).parent.name == "worktrees"
