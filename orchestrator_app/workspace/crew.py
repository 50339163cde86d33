"""The work on git that takes long, done off the scheduler's thread; each piece comes back as a result.

Every result names the attempt it was done for, so that a late one of a fenced attempt changes nothing.
"""

from __future__ import annotations

import errno
import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from orchestrator_app.errors import OrchError, PassingError
from orchestrator_app.executors.base import Exited, Vanished
from orchestrator_app.settings import Project
from orchestrator_app.workspace import merge
from orchestrator_app.workspace.git import run_git
from orchestrator_app.workspace.worktrees import Worktrees, open_place, repository_lock

logger = logging.getLogger(__name__)


class Prepared(NamedTuple):
    """The worktree is there; `base` is the commit that the unit's branch started from."""

    unit: str
    attempt: int
    path: Path
    base: str


class Sealed(NamedTuple):
    """What the attempt left uncommitted is on the unit's branch (`commit`, None if there was nothing)."""

    unit: str
    attempt: int
    exited: Exited | Vanished
    commit: str | None


class Delayed(NamedTuple):
    """What the attempt left could not be committed for a passing fault; it is tried again in `pause` seconds."""

    unit: str
    attempt: int
    why: str
    pause: float


class MergeBuilt(NamedTuple):
    """The merge was tried in memory; `path` is a checkout of a built one, to verify it in."""

    unit: str
    attempt: int
    result: merge.Built | merge.Conflict | merge.Nothing
    path: Path | None


class MergeAdvanced(NamedTuple):
    """The base branch was moved to the merge, or not."""

    unit: str
    attempt: int
    result: merge.Advanced | merge.Moved | merge.Blocked


class Botched(NamedTuple):
    """A piece of work failed; `why` is one line. `exited`: it was to seal what that attempt left. `passing`: what was
    in its way may be gone in a while."""

    unit: str
    attempt: int
    why: str
    exited: Exited | Vanished | None = None
    passing: bool = False


Result = Prepared | Sealed | Delayed | MergeBuilt | MergeAdvanced | Botched

#: Seconds between two tries to commit what an attempt left, or to remove a worktree, as long as the fault may pass.
PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0)

#: Errors of the system that may be over in a while.
PASSING = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN}
PASSING |= {errno.EIO, errno.EBUSY, errno.ESTALE}


class Crew:
    """A few threads that work on git, for one project. `post` takes their results; it is called on those threads."""

    def __init__(self, project: Project, post: Callable[[Result], None]) -> None:
        self._project = project
        self._post = post
        self._worktrees = Worktrees(project.root, project.state)
        self._worktrees.exclude_state()
        self._pool = ThreadPoolExecutor(max_workers=4, thread_name_prefix="orch-git")
        self._later: set[threading.Timer] = set()
        #: How many merges of a unit have been begun: what is to be cleaned up of one must leave the next alone.
        self._builds: Counter[str] = Counter()
        self._tidied = self._pool.submit(self._tidy)

    def prepare(self, unit: str, attempt: int, base: str | None) -> None:
        """Have a worktree on the unit's branch, which starts at `base` or at the base branch's tip."""

        def work() -> Prepared:
            start = base or self._worktrees.tip(self._project.base)
            return Prepared(unit, attempt, self._worktrees.ensure(unit, start), start)

        self._do(work, unit, attempt)

    def seal(self, unit: str, attempt: int, phase: str, exited: Exited | Vanished) -> None:
        """Commit what the attempt left in the worktree: once, so that what a person does there later stays theirs."""
        done = self._project.state / "runs" / unit / str(attempt) / "sealed"

        def work() -> Sealed:
            if done.exists():
                return Sealed(unit, attempt, exited, None)
            commit = self._worktrees.commit_all(unit, f"{unit}: {phase} (attempt {attempt})")
            with suppress(OSError):  # then it is done once more
                done.touch()
            return Sealed(unit, attempt, exited, commit)

        self._do(work, unit, attempt, exited)

    def build_merge(self, unit: str, attempt: int, *, to_verify: bool) -> None:
        """Merge the unit's branch into the base branch in memory; check the result out when it is to be verified."""
        project = self._project
        self._builds[unit] += 1

        def work() -> MergeBuilt:
            self._worktrees.commit_all(unit, f"{unit}: what was left before the merge")
            result = merge.build(project.root, unit, project.base)
            path = None
            if to_verify and isinstance(result, merge.Built):
                path = merge.scratch(project.root, project.state, unit, result.new)
            return MergeBuilt(unit, attempt, result, path)

        self._do(work, unit, attempt)

    def advance(self, unit: str, attempt: int, old: str, new: str) -> None:
        """Move the base branch to a built merge."""
        project = self._project
        self._do(
            lambda: MergeAdvanced(unit, attempt, merge.advance(project.root, project.state, project.base, old, new)),
            unit,
            attempt,
        )

    def clean(self, unit: str, *, merged: bool) -> None:
        """Remove the scratch checkout and, when its work is merged, the unit's worktree."""
        self._pool.submit(self.clean_up(unit, merged=merged))

    def clean_up(self, unit: str, *, merged: bool) -> Callable[[], None]:
        """What `clean` has done on a thread, sooner or later; a merge that was begun meanwhile keeps its checkout."""
        return partial(self._clean, unit, merged, iter(PAUSES), self._builds[unit])

    def sweep(self, is_merged: Callable[[str], bool]) -> None:
        """Remove what a crash has left of merged units: whatever still has a branch."""

        def work() -> None:
            wait([self._tidied])
            listed = ["for-each-ref", "--format=%(refname:strip=3)", "refs/heads/orch/"]
            try:
                for unit in filter(is_merged, run_git(listed, self._project.root).out.splitlines()):
                    self.clean_up(unit, merged=True)()
            except Exception as error:
                logger.warning("what a crash left of merged units could not be removed yet: %s", error)

        self._pool.submit(work)

    def _tidy(self) -> None:
        """Before anything else: end the gits of a server that was killed, and mend what they and it have left."""
        root, state = self._project.root, self._project.state
        for work in (self._worktrees.end_orphans, partial(merge.recover, root, state), self._worktrees.tidy):
            try:
                work()
            except Exception as error:
                logger.warning("what an earlier server had begun in git could not be mended yet: %s", error)

    def _clean(self, unit: str, merged: bool, pauses: Iterator[float], build: int) -> None:
        project = self._project
        wait([self._tidied])
        try:
            with repository_lock(open_place(project.root)):
                if self._builds[unit] == build:
                    merge.drop_scratch(project.root, project.state, unit)
            if merged:
                self._worktrees.remove(unit, project.base)
        except Exception as error:
            if _may_pass(error) and (pause := next(pauses, None)) is not None:
                self._again(partial(self._clean, unit, merged, pauses, build), pause)
            else:
                logger.warning("the worktree of %s could not be removed and stays: %s", unit, error)

    def _do(self, work: Callable[[], Any], unit: str, attempt: int, exited: Exited | Vanished | None = None) -> None:
        pauses = iter(PAUSES if exited is not None else ())

        def run() -> None:
            wait([self._tidied])
            try:
                self._worktrees.check()
                result = work()
            except OrchError as error:
                result = Botched(unit, attempt, str(error), exited, _may_pass(error))
            except OSError as error:
                why = f"the worktree of {unit} can't be worked on: {error.strerror}: {error.filename}; mend that"
                result = Botched(unit, attempt, why, exited, _may_pass(error))
            except Exception as error:
                logger.exception("work on the worktree of %s failed", unit)
                result = Botched(unit, attempt, f"{type(error).__name__}: {error}", exited)
            if isinstance(result, Botched) and result.passing and (pause := next(pauses, None)) is not None:
                self._post(Delayed(unit, attempt, result.why, pause))
                self._again(run, pause)
            else:
                self._post(result)

        self._pool.submit(run)

    def _again(self, run: Callable[[], None], pause: float) -> None:
        def due() -> None:
            self._later.discard(timer)
            with suppress(RuntimeError):  # closed meanwhile: the next server hears of the attempt's end again
                self._pool.submit(run)

        timer = threading.Timer(pause, due)
        timer.daemon = True
        self._later.add(timer)
        timer.start()

    def close(self) -> None:
        """Wait for the work under way; its results are still posted."""
        for timer in list(self._later):
            timer.cancel()
        self._pool.shutdown(wait=True)


def _may_pass(error: Exception) -> bool:
    """Whether what failed may succeed in a while, as it is."""
    return isinstance(error, PassingError) or (isinstance(error, OSError) and error.errno in PASSING)
