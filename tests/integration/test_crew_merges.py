"""What is cleaned up of one merge leaves the next one alone."""

from __future__ import annotations

from pathlib import Path
from queue import Queue

from git_project import GitProject

from orchestrator_app.settings import load_project
from orchestrator_app.workspace.crew import Crew, MergeBuilt, Prepared


def test_f24_cleaning_up_a_merge_late_leaves_the_checkout_of_the_next_one(tmp_path: Path, wait_until) -> None:
    project = GitProject(tmp_path, wait_until)
    results: Queue = Queue()
    crew = Crew(load_project(project.root), results.put)
    crew.prepare("a", 1, None)
    prepared = results.get(timeout=20)
    assert isinstance(prepared, Prepared)
    (prepared.path / "new.txt").write_text("work\n")
    crew.build_merge("a", 2, to_verify=True)
    assert isinstance(results.get(timeout=20), MergeBuilt)

    late = crew.clean_up("a", merged=False)
    crew.build_merge("a", 3, to_verify=True)
    built = results.get(timeout=20)
    late()
    crew.close()

    assert (built.path / "new.txt").read_text() == "work\n"


def test_a_merge_that_was_the_last_is_cleaned_up(tmp_path: Path, wait_until) -> None:
    project = GitProject(tmp_path, wait_until)
    results: Queue = Queue()
    crew = Crew(load_project(project.root), results.put)
    crew.prepare("a", 1, None)
    (results.get(timeout=20).path / "new.txt").write_text("work\n")
    crew.build_merge("a", 2, to_verify=True)
    built = results.get(timeout=20)

    crew.clean("a", merged=False)
    crew.close()

    assert not built.path.exists()
