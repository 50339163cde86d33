"""Did every unit of the demo end as it should? One line per deviation."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Mapping
from itertools import pairwise

from orchestrator_app.demo.cast import PARTS, Part
from orchestrator_app.orchestrator import Orchestrator
from orchestrator_app.settings import Project
from orchestrator_app.testing import board_faults, invariant_faults
from orchestrator_app.workspace.git import run_git


def deviations(orchestrator: Orchestrator) -> list[str]:
    """What is not as it should be in the log; empty when the demo has done all it promises."""
    found = [line for part in PARTS for line in _of_unit(orchestrator, part)]
    found += _chain(orchestrator) + _benchmarks(orchestrator) + _progress(orchestrator)
    return found + invariant_faults(orchestrator.log) + board_faults(orchestrator.board)


def triggers_of(orchestrator: Orchestrator, unit: str) -> Counter[str]:
    """How often each trigger moved the unit."""
    rows = orchestrator.rows("SELECT trigger, count(*) AS times FROM transition WHERE unit = ? GROUP BY ALL", [unit])
    return Counter({row["trigger"]: row["times"] for row in rows})


def _of_unit(orchestrator: Orchestrator, part: Part) -> list[str]:
    unit = orchestrator.board.units.get(part.name)
    if unit is None:
        return [f"{part.name} was not submitted"]
    if unit.status != "DONE":
        return [f"{part.name} should be DONE but is {unit.status} in {unit.phase}: {unit.reason}"]
    seen = triggers_of(orchestrator, part.name)
    return [
        f"{part.name} should have {times} × {trigger} in its story but has {_times(seen, trigger)}"
        for trigger, times in {"finish": 1, "fail": 0, **part.triggers}.items()
        if not _fits(trigger, _times(seen, trigger), times)
    ]


def _times(seen: Counter[str], triggers: str) -> int:
    """How often one of the triggers (separated by ` or `) happened."""
    return sum(seen[trigger] for trigger in triggers.split(" or "))


def _fits(trigger: str, seen: int, wanted: int) -> bool:
    # A merge that finds that main has moved defers as well, so there may be more of these.
    return seen >= wanted if trigger == "defer" else seen == wanted


def _intervals(orchestrator: Orchestrator, status: str) -> Mapping[str, list[tuple]]:
    sql = "SELECT unit, entered_at, left_at FROM time_in_status WHERE status = ? ORDER BY seq"
    found: dict[str, list[tuple]] = {}
    for row in orchestrator.rows(sql, [status]):
        found.setdefault(row["unit"], []).append((row["entered_at"], row["left_at"]))
    return found


def _chain(orchestrator: Orchestrator) -> list[str]:
    """No unit may start before the last of its blockers is done."""
    running, done = _intervals(orchestrator, "RUNNING"), _intervals(orchestrator, "DONE")
    return [
        f"{unit.name} was started before its blocker {blocker} was done"
        for unit in orchestrator.board.units.values()
        for blocker in unit.after
        if unit.name in running and (blocker not in done or running[unit.name][0][0] < done[blocker][-1][0])
    ]


def _benchmarks(orchestrator: Orchestrator) -> list[str]:
    running = _intervals(orchestrator, "RUNNING")
    spans = sorted(span for name, spans in running.items() if name.startswith("benchmark-") for span in spans)
    if any(left is None or left > entered for (_, left), (entered, _) in pairwise(spans)):
        return ["both benchmarks ran at once, though label_slots allows one"]
    return []


def _progress(orchestrator: Orchestrator) -> list[str]:
    sql = "SELECT count(*) AS times FROM event WHERE unit = 'bulk-import' AND type = 'progress'"
    times = orchestrator.rows(sql)[0]["times"]
    return [] if times >= 20 else [f"bulk-import should have reported its progress 20 times but did so {times} times"]


def repository_deviations(project: Project) -> list[str]:
    """What is not as it should be in the repository, once the orchestrator has stopped: main holds all of the work, is
    checked out clean, and passes its tests; nothing of the units is left over."""
    found = []
    if changed := run_git(["status", "--porcelain"], project.root).out:
        found.append(f"the checkout of main should be clean but differs in {changed.split()[-1]}")
    if branches := run_git(["for-each-ref", "--format=%(refname:strip=2)", "refs/heads/orch/"], project.root).out:
        found.append(f"the merged branches should be gone, but {', '.join(branches.split())} remain")
    merges = run_git(["log", "--merges", "--format=%s", "main"], project.root).out.splitlines()
    for part in PARTS:
        if merges.count(f"Merge unit {part.name}") != 1:
            found.append(f"main should hold one merge of {part.name}")
    tests = subprocess.run(project.verify, cwd=project.root, capture_output=True, text=True, check=False)
    if tests.returncode:
        found.append(f"the tests of the merged main fail: {(tests.stderr.strip().splitlines() or ['no output'])[-1]}")
    return found
