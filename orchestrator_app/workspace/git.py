"""One way to run git: no shell, no hook, no network, no program that a repository's configuration names.

Agents can write to the repository they work in, configuration included, so nothing there is trusted: fsmonitor, hooks,
pagers, editors, signing, external diffs and text converters are off, and clean/smudge filters and merge drivers count
only as the user's own (global) configuration has them; git-lfs's well-known command lines are let through. git is told
where its directories are instead of reading the work tree's `.git` file.

Not covered: filters configured inside a submodule (the calls made here don't look into submodules, but for
`Worktrees.remove`); an agent that rewrites the configuration between our check and git's start; an agent that edits
the user's global configuration or the programs on PATH. Agents run as the user: this keeps accidents and lazy traps
out, it does not contain them.
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Container, Sequence
from pathlib import Path

from orchestrator_app.errors import GitError, PassingError, WorkspaceError
from orchestrator_app.workspace.orphans import MARK, mark
from orchestrator_app.workspace.places import Place, is_sha, place_of, printable, words_of
from orchestrator_app.workspace.process import Completed, run_process

LOCK_PATIENCE = 2.0  # seconds to wait for a lock file that another git holds

_SETTINGS = (
    "core.fsmonitor=false",
    "core.hooksPath=/dev/null",
    "core.pager=cat",
    "core.quotePath=false",
    "core.fsync=committed,reference",  # what we commit is on the disk when we say so
    "protocol.ext.allow=never",
    "gc.auto=0",
    "maintenance.auto=false",
    "commit.gpgsign=false",
    "log.showSignature=false",
    "merge.autoStash=false",
    "submodule.recurse=false",
    "diff.submodule=short",
    "diff.noprefix=false",
    "diff.mnemonicPrefix=false",
    "color.ui=false",
    "i18n.commitEncoding=UTF-8",
    "i18n.logOutputEncoding=UTF-8",
)
_PREFIX = ["git", "--no-pager", "--literal-pathspecs", *(part for one in _SETTINGS for part in ("-c", one))]
_ENVIRONMENT = {
    "LC_ALL": "C",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_EDITOR": "false",
    "GIT_ALLOW_PROTOCOL": "",  # no transport at all: a planted promisor remote would otherwise run a command
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",  # what we merge is what the commit's name says
}
_SHOWS_DIFFS = frozenset({"diff", "diff-tree", "diff-index", "diff-files", "log", "show"})
_PLAIN_DIFF = ("--no-ext-diff", "--no-textconv", "--ignore-submodules=dirty")
_LOCKED = re.compile(r"(?:Unable to create|could not lock config file) '?(.+?\.lock|[^':]+)'?: File exists")

#: What may be over in a while: the rest is the same at the next try.
_PASSING = re.compile(
    r"No space left on device|[Qq]uota exceeded|File too large|Read-only file system|Too many open files"
    r"|Cannot allocate memory|[Oo]ut of memory|Resource temporarily unavailable|Input/output error"
    r"|couldn't write '|(?:unable|failed) to write"  # it doesn't always say why
)

_SCANNED = r"^(filter\..*\.(clean|smudge|process|required)|merge\..*\.driver|user\.(name|email)|include(if)?\..*)$"
_LFS = frozenset({"git-lfs clean -- %f", "git-lfs smudge -- %f", "git-lfs smudge --skip -- %f"}) | frozenset(
    {"git-lfs filter-process", "git-lfs filter-process --skip"}
)
_OWN_MERGE = "git merge-file -q --marker-size=%L %A %O %B"  # what git does without a driver
_FALLBACK_NAME, _FALLBACK_EMAIL = "orchestrator", "orchestrator@localhost"


def read_ref(place: Place, ref: str) -> str | None:
    """The commit that the full ref name points at, or None. No process is started when the ref is a loose file."""
    if not ref.startswith("refs/") or ".." in ref:
        raise WorkspaceError(f"{ref!r} is no ref name; use the name of a branch")
    value = words_of(place.common_dir / ref) or ""
    if is_sha(value):
        return value
    if value.startswith("ref:"):
        raise WorkspaceError(
            f"{ref} is a symbolic ref to {value[4:].strip()}, so a commit would move that; "
            f"delete it with `git symbolic-ref -d {ref}`"
        )
    done = run_git(["show-ref", "--verify", "--hash", "--", ref], place, ok=(0, 1, 128))
    if done.code == 0:
        return done.out.strip()
    if "not a valid ref" in done.err:
        return None
    raise _complaint(["show-ref", ref], place.work_tree, done)


def run_git(
    args: Sequence[str],
    cwd: Path | Place,
    *,
    input: bytes | None = None,
    timeout: float = 60,
    ok: Container[int] = (0,),
    limit: int | None = None,
    lock_patience: float = LOCK_PATIENCE,
) -> Completed:
    """Run `git ARGS` in `cwd` (the top level of a checkout, or a Place) and return what it said.

    `timeout` is in seconds; at its end git gets TERM, then KILL. With `limit`, output is cut there (bytes); without
    it, more than 256 MiB is an error. When another git holds a lock file, git is tried again for
    `lock_patience` seconds. Raises GitError when git is missing, takes too long or ends with a code not in `ok`;
    PassingError where that may be over in a while, also when a signal that we didn't send has ended it.
    """
    place = cwd if isinstance(cwd, Place) else place_of(cwd.absolute())
    work_tree = cwd.work_tree if isinstance(cwd, Place) else cwd
    plain = _PLAIN_DIFF if args[0] in _SHOWS_DIFFS else ()
    argv = [*_PREFIX, args[0], *plain, *args[1:]]
    env = _environment(place)
    deadline = time.monotonic() + timeout
    patience = time.monotonic() + lock_patience
    pause = 0.01
    while True:
        left = max(0.1, deadline - time.monotonic())
        done = run_process(argv, work_tree, env, name=f"git {args[0]}", timeout=left, input=input, limit=limit)
        if done.code == 0 or not locked_by(done.err):
            break
        if time.monotonic() + pause > min(patience, deadline):
            break
        time.sleep(pause)
        pause = min(pause * 2, 0.2)
    if done.cut or (done.code in ok and not passing(done)):
        return done
    raise _complaint(args, work_tree, done)


def passing(done: Completed) -> bool:
    """Whether git failed for a reason that may be over in a while: no room, no memory, ended by a signal."""
    if done.code <= 0:
        return done.code < 0
    return _PASSING.search(done.err) is not None and "Permission denied" not in done.err


def locked_by(err: str) -> str | None:
    """The lock file that made git give up, from its error output; None if it gave up for another reason."""
    found = _LOCKED.search(err)
    return found[1] if found else None


def reason_of(done: Completed) -> str:
    """Why git failed, in one line, by what it said last."""
    if done.code < 0:
        return f"it was ended by {_signal_name(-done.code)}"
    short = _PASSING.search(done.err)
    lock = locked_by(done.err)
    if lock:
        return f"{printable(lock)} is held by another git; let it finish, or delete that file if no git runs there"
    lines = [line.strip() for line in printable(done.err or done.out).splitlines() if line.strip()]
    loud = [line for line in lines if line.startswith(("fatal:", "error:"))]
    if short:  # the reason is often said before the consequence
        loud = [line for line in lines if short[0] in line]
    last = (loud or lines or [f"exit code {done.code}"])[-1]
    if "transport" in last and "not allowed" in last:
        last += " (objects are missing here; fetch them first, git is not let onto the network by the orchestrator)"
    return last[:500]


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _complaint(args: Sequence[str], where: Path, done: Completed) -> GitError:
    kind = PassingError if passing(done) or locked_by(done.err) else GitError
    return kind(f"git {printable(args[0])} failed in {printable(str(where))}: {reason_of(done)}")


def _environment(place: Place | None) -> dict[str, str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    env.update(_ENVIRONMENT)
    env[MARK] = mark()
    if place is None:
        return env
    env["GIT_DIR"] = str(place.git_dir)
    env["GIT_WORK_TREE"] = str(place.work_tree)
    if place.common_dir != place.git_dir:
        env["GIT_COMMON_DIR"] = str(place.common_dir)
    env.update(_overrides(place, env))
    return env


_known: dict[Path, tuple[tuple, dict[str, str]]] = {}


def _overrides(place: Place, env: dict[str, str]) -> dict[str, str]:
    """Variables that undo the programs a repository's own configuration names, and give an identity if none is set.

    One more git process, but only when a configuration file has changed since the last look.
    """
    signature = _signature(place)
    known = _known.get(place.git_dir)
    if known and known[0] == signature:
        return known[1]
    argv = ["git", "config", "--show-scope", "-z", "--get-regexp", _SCANNED]
    done = run_process(argv, place.work_tree, env, name="git config", timeout=20)
    if done.code not in (0, 1):
        raise _complaint(["config"], place.work_tree, done)
    fields = done.out.split("\0")[:-1]
    trusted: dict[str, str] = {}
    planted: dict[str, str] = {}
    includes = False
    for scope, entry in zip(fields[::2], fields[1::2], strict=True):
        key, _, value = entry.partition("\n")
        local = scope in ("local", "worktree")
        if key.startswith("include"):
            includes = includes or local
        elif local and not key.startswith("user."):
            planted[key] = value
        else:
            trusted[key] = value
    found = _as_variables(planted, trusted)
    if "user.name" not in trusted or "user.email" not in trusted:
        for who in ("AUTHOR", "COMMITTER"):
            found[f"GIT_{who}_NAME"] = trusted.get("user.name", _FALLBACK_NAME)
            found[f"GIT_{who}_EMAIL"] = trusted.get("user.email", _FALLBACK_EMAIL)
    if includes:
        _known.pop(place.git_dir, None)  # the included file may change without a sign in these
    else:
        _known[place.git_dir] = (signature, found)
    return found


def _as_variables(planted: dict[str, str], trusted: dict[str, str]) -> dict[str, str]:
    entries = []
    for key, value in planted.items():
        if value in _LFS:
            continue
        if key.endswith(".driver"):
            neutral = _OWN_MERGE
        elif key.endswith(".required"):
            # a filter that may not run must not fail what it guards; git-lfs's own setting stays
            neutral = value if planted.get(key.removesuffix("required") + "clean") in _LFS else "false"
        else:
            neutral = ""
        entries.append((key, trusted.get(key, neutral)))
    if not entries:
        return {}
    found = {"GIT_CONFIG_COUNT": str(len(entries))}
    for number, (key, value) in enumerate(entries):
        found[f"GIT_CONFIG_KEY_{number}"] = key
        found[f"GIT_CONFIG_VALUE_{number}"] = value
    return found


def _signature(place: Place) -> tuple:
    home = os.environ.get("HOME", "")
    xdg = os.environ.get("XDG_CONFIG_HOME") or os.path.join(home, ".config")
    signature = []
    for file in (
        place.common_dir / "config",
        place.git_dir / "config.worktree",
        os.path.join(home, ".gitconfig"),
        os.path.join(xdg, "git", "config"),
    ):
        try:
            found = os.stat(file)
            signature.append((str(file), found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns))
        except OSError:
            signature.append((str(file), None))
    return tuple(signature)
