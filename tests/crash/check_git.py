"""Whether all work is where it belongs, once, and nothing half-made lies about."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from .evidence import Evidence
from .stage import OPERATORS_FILES, Stage


def faults(found: Evidence) -> Iterator[str]:
    yield from history(found)
    yield from work(found)
    yield from leftovers(found)
    yield from operators_checkout(found.stage)


def history(found: Evidence) -> Iterator[str]:
    """The base branch went from the first commit to its tip by merges that the log knows, one for each unit."""
    log = found.stage.git("log", "--first-parent", "--reverse", "--format=%H %P|%s", f"{found.stage.first}..main")
    recorded = {(row["data"]["old"], row["data"]["new"]): row["unit"] for row in _merges(found)}
    tip, times = found.stage.first, Counter()
    for line in log.splitlines():
        words, _, subject = line.partition("|")
        new, old, *_ = words.split()
        if old != tip:
            yield f"main went from {tip[:12]} to {new[:12]}, which follows {old[:12]}"
        unit = recorded.get((old, new))
        if unit is None or subject != f"Merge unit {unit}":
            yield f"main went to {new[:12]} ({subject}), and the log knows of no such merge"
        times[subject.removeprefix("Merge unit ")] += 1
        tip = new
    for unit in found.merged():
        if times.pop(unit, 0) != 1:
            yield f"{unit} is merged by the log and {times[unit]} times in main"
    for unit, number in times.items():
        if number > 1 or found.status(unit) not in ("CANCELLED", "DONE"):
            yield f"{unit} is in main {number} times, and the log says {found.status(unit)}"


def _merges(found: Evidence) -> list[dict]:
    return [row for row in found.rows["event"] if row["type"] == "merge"]


def work(found: Evidence) -> Iterator[str]:
    """Each commit and each file of an agent: in the base branch where it was merged, else in its branch or worktree."""
    stage, merged = found.stage, set(found.merged())
    main = set(stage.git("rev-list", "main").split())
    in_main = set(stage.git("ls-tree", "-r", "--name-only", "main").split())
    if not {"base.txt", "orchestrator.toml"} <= in_main:
        yield "main has lost a file that no agent touched"
    for unit, marks in found.marks.items():
        branch = _output(stage, "rev-list", f"orch/{unit}")
        in_branch = _output(stage, "ls-tree", "-r", "--name-only", f"orch/{unit}")
        worktree = stage.state / "worktrees" / unit
        for mark in marks:
            who = f"{unit}, attempt {mark['attempt']}"
            if mark["what"] == "COMMIT" and mark["sha"] not in (main if unit in merged else main | branch):
                yield f"lost: commit {mark['sha'][:12]} of {who} is nowhere"
            if mark["what"] in ("LEFT", "COMMIT") and mark["path"] not in in_main:
                there = mark["path"] in in_branch or (worktree / mark["path"]).exists()
                if unit in merged or not there:
                    yield f"lost: {mark['path']} of {who} is nowhere"


def leftovers(found: Evidence) -> Iterator[str]:
    stage, merged = found.stage, set(found.merged())
    for lock in [*(stage.root / ".git").rglob("*.lock")]:
        yield f"a lock was left: {lock.relative_to(stage.root)}"
    for folder in ("worktrees", "scratch"):
        for path in (stage.state / folder).glob("*"):
            if path.name.startswith(".gone-") or path.name in merged:
                yield f"{path.relative_to(stage.root)} was left of a finished unit"
    for mark in (stage.root / ".git" / "worktrees").glob("*/locked"):
        yield f"a half-made worktree was left: {mark.parent.name}"
    for branch in _output(stage, "for-each-ref", "--format=%(refname:strip=3)", "refs/heads/orch/"):
        if branch in merged:
            yield f"the branch orch/{branch} was left of a finished unit"
    done = subprocess.run(["git", "fsck", "--strict", "--no-dangling"], cwd=stage.root, capture_output=True, text=True)
    if done.returncode:
        yield f"git fsck: {done.stdout[:300]} {done.stderr[:300]}"
    for log in sorted(stage.servers.glob("*.log")):
        text = log.read_text(errors="replace")
        if "Traceback" in text:
            yield f"server {log.stem} wrote a traceback: {text[text.index('Traceback') :][-700:]}"


def operators_checkout(stage: Stage) -> Iterator[str]:
    """On main, as main is, but for what the operator had changed."""
    if stage.git("symbolic-ref", "HEAD") != "refs/heads/main":
        yield "the operator's checkout is on another branch"
    for name, text in OPERATORS_FILES.items():
        if not (stage.root / name).exists() or (stage.root / name).read_text() != text:
            yield f"the operator's {name} was changed"
    status = stage.git("status", "--porcelain", "--untracked-files=all").splitlines()
    others = [line for line in status if Path(line.split()[-1]).name not in OPERATORS_FILES]
    if others:
        yield f"the operator's checkout was left changed: {others[:5]}"


def _output(stage: Stage, *args: str) -> set[str]:
    done = subprocess.run(["git", *args], cwd=stage.root, capture_output=True, text=True)
    return set(done.stdout.split())
