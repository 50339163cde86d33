"""Which project a command is about."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator_app.errors import SettingsError
from orchestrator_app.settings import FILE_NAME, STATE_NAME, Project, find_project, load_project

if TYPE_CHECKING:
    from orchestrator_app.cli.client import Client


class Place:
    """The project of `--project`, of `$ORCH_PROJECT`, or at or above the working directory; found when first asked."""

    def __init__(self, given: str | None) -> None:
        self.given = given or os.environ.get("ORCH_PROJECT") or None

    @cached_property
    def root(self) -> Path:
        """Its directory. Raises SettingsError when there is none."""
        if self.given is None:
            return _outside_of_worktrees(find_project(Path.cwd()))
        root = Path(self.given).absolute()
        if not (root / FILE_NAME).is_file():
            raise SettingsError(f"no {FILE_NAME} in {root}; run `orch init` there, or name another --project")
        return root

    @property
    def state(self) -> Path:
        return self.root / STATE_NAME

    @cached_property
    def project(self) -> Project:
        """Its settings. Raises SettingsError."""
        return load_project(self.root)

    def client(self) -> Client:
        """A client of its running server. Raises NoServerError."""
        from orchestrator_app.cli.client import connect

        return connect(self.root)


def _outside_of_worktrees(root: Path) -> Path:
    """A unit's worktree holds a copy of the settings, but the project is the one that it belongs to."""
    for directory in (root, *root.parents):
        if directory.parent.name == "worktrees" and directory.parent.parent.name == STATE_NAME:
            return directory.parent.parent.parent
    return root
