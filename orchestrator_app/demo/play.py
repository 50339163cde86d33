"""Runs the demo: served, for a person to watch and to settle things, or headless, to its end."""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path

from rich.console import Console

from orchestrator_app.demo.cast import PARTS
from orchestrator_app.demo.display import Display, summary
from orchestrator_app.demo.operator import ACTOR, DemoOperator
from orchestrator_app.demo.stage import make_project
from orchestrator_app.demo.verdict import deviations, repository_deviations
from orchestrator_app.orchestrator import Orchestrator
from orchestrator_app.settings import Project
from orchestrator_app.stopping import Stop

#: Seconds that a unit's agent takes for a moment's thought: served, so that one can watch; headless, next to none.
SERVED_PACE, HEADLESS_PACE = 1.5, 0.2

#: Seconds after which the headless demo gives up.
PATIENCE = 300.0

GUIDE = """
What to look at, and what is left to you:
  date-format    asks you a question, and drop-legacy asks for your approval: answer them in the attention queue
  title-short    conflicts with title-formal: retry it from IMPLEMENT with a word of feedback, and it is merged
  bulk-import    runs long and reports its progress
  discount       fails its test, then passes by itself; sort-items is sent back by its REVIEW
  changelog      ends the chain currency-symbol, price-report, csv-export: each waits for the one before it

In a terminal: orch --project {root} attention
The scratch repository is {root}. Ctrl-C ends the demo."""


def run(headless: bool, directory: Path | None = None, open_browser: bool = True, keep: bool = False) -> int:
    """Run the demo in `directory` (new or empty) or in a temporary one; the exit code.

    Headless, it answers by itself and returns 0 only if every unit ended as it should. Otherwise it serves until
    Ctrl-C. A temporary directory is removed at the end, unless `keep` is set or the headless demo has failed.
    Raises UsageError, GitError and what starting an orchestrator raises."""
    project = make_project(directory, HEADLESS_PACE if headless else SERVED_PACE)
    kept = keep or directory is not None
    try:
        code = _play(project) if headless else _serve(project, open_browser)
        kept = kept or (headless and code != 0)
    finally:
        if not kept:
            shutil.rmtree(project.root, ignore_errors=True)
    if kept:
        print(f"The scratch repository stays in {project.root}")
    return code


def _serve(project: Project, open_browser: bool) -> int:
    from orchestrator_app.serve import Serving, serve  # the server's libraries are of no use to the headless demo

    def ready(serving: Serving) -> None:
        _submit(serving.orchestrator)
        print(GUIDE.format(root=project.root), flush=True)

    # its directory may go at the end, and no agent may be left working in it
    return serve(project, open_browser=open_browser and _has_display(), on_ready=ready, keep_agents=False)


def _has_display() -> bool:
    return sys.platform == "darwin" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _submit(orchestrator: Orchestrator):
    return orchestrator.request("submit", actor=ACTOR, units=[part.unit() for part in PARTS])


def _play(project: Project) -> int:
    console = Console(width=None if sys.stdout.isatty() else 120)
    orchestrator = Orchestrator(project)
    orchestrator.start()
    try:
        began = time.monotonic()
        console.print(f"{len(PARTS)} work units in {project.root}, {project.slots} at a time", highlight=False)
        _submit(orchestrator).result(30)
        with Display(orchestrator.board, console):
            operator = _until_the_end(orchestrator)
        for line in operator.said:
            console.print(line, markup=False, highlight=False)
        summary(orchestrator, console)
        found = deviations(orchestrator)
    finally:
        orchestrator.stop(Stop.AGENTS)
    found += repository_deviations(project)
    for line in found:
        print(f"not as it should be: {line}", file=sys.stderr)
    if not found:
        print(f"Every unit ended as it should, in {time.monotonic() - began:.0f} s.")
    return 1 if found else 0


def _until_the_end(orchestrator: Orchestrator) -> DemoOperator:
    """Be the operator until every unit is done, or waits for something that this operator can't settle."""
    operator = DemoOperator(orchestrator)
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        operator.attend()
        if operator.is_through():
            break
        time.sleep(0.05)
    return operator
