"""The demo's scratch repository: a copy of the template project, with settings, as one commit."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path

from orchestrator_app.errors import UsageError
from orchestrator_app.settings import Project, load_project
from orchestrator_app.workspace.git import run_git

TEMPLATE = Path(__file__).parent / "project"

#: The agents' commits must not depend on what the user's own git is set to (a name, signing, hooks).
_GIT_SETTINGS = {
    "user.name": "Demo",
    "user.email": "demo@localhost",
    "commit.gpgsign": "false",
    "core.hooksPath": "/dev/null",
    "core.autocrlf": "false",
}


def make_project(directory: Path | None, pace: float) -> Project:
    """The scratch project in `directory` (which must be empty or not exist), or in a new temporary one.

    `pace`: seconds that an agent takes for a moment's thought. Raises UsageError, GitError."""
    root = _empty(directory) if directory else Path(tempfile.mkdtemp(prefix="orch-demo-")).resolve()
    try:
        _fill(root, pace)
        _commit(root)
        return load_project(root)
    except BaseException:
        if directory is None:
            shutil.rmtree(root, ignore_errors=True)
        raise


def _empty(directory: Path) -> Path:
    root = directory.expanduser().absolute()
    try:
        root.mkdir(parents=True, exist_ok=True)
        if any(root.iterdir()):
            raise UsageError(f"{root} is not empty: give the demo a new directory, or none for a temporary one")
    except OSError as error:
        raise UsageError(f"{root} can't be used for the demo: {error.strerror}; choose another directory") from None
    return root


def _fill(root: Path, pace: float) -> None:
    shutil.copytree(TEMPLATE, root, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    (root / "gitignore").rename(root / ".gitignore")  # packaging tools leave out files with a dot
    settings = root / "orchestrator.toml"
    text = settings.read_text(encoding="utf-8")
    text = text.replace("@PYTHON@", json.dumps(sys.executable)).replace("@PACE@", f"{pace:g}")
    settings.write_text(text, encoding="utf-8")


def _commit(root: Path) -> None:
    run_git(["init", "-q", "-b", "main"], root)
    for name, value in _GIT_SETTINGS.items():
        run_git(["config", name, value], root)
    run_git(["add", "--all"], root)
    run_git(["commit", "-q", "-m", "stockroom, as the demo found it"], root)
