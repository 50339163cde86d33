"""What the integration tests share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from git_project import GitProject


@pytest.fixture
def make(tmp_path: Path, wait_until) -> Iterator[Callable[..., GitProject]]:
    """Makes a GitProject whose orchestrator runs; at the end its log is checked and it is stopped."""
    made: list[GitProject] = []

    def start(**settings: str) -> GitProject:
        project = GitProject(tmp_path / str(len(made)), wait_until, **settings)
        made.append(project)
        project.start()
        return project

    yield start
    for project in made:
        project.stop()
