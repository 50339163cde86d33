"""A real repository to work in, copied from one that is made once."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from orchestrator_app.workspace import merge
from orchestrator_app.workspace.worktrees import Worktrees

LINES = "".join(f"line {number}\n" for number in range(1, 21))
WHO = ("-c", "user.name=Operator", "-c", "user.email=operator@example.org", "-c", "protocol.file.allow=always")


def git(cwd: Path, *args: str, code: int | None = 0) -> str:
    """Run git as an operator or an agent would, with no guard; return what it prints."""
    done = subprocess.run(["git", *WHO, *args], cwd=cwd, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert code is None or done.returncode == code, done.stderr
    return done.stdout.strip()


@functools.cache
def _template() -> tempfile.TemporaryDirectory:
    home = tempfile.TemporaryDirectory(prefix="orch-template-")
    root = Path(home.name) / "repo"
    root.mkdir()
    git(root, "init", "-q", "-b", "main")
    (root / "app").mkdir()
    for name in ("a.txt", "b.txt", "app/core.py"):
        (root / name).write_text(LINES)
    (root / ".gitignore").write_text("*.log\nsecret.env\n")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "First")
    return home


class Repo:
    """An operator's checkout of `main`, and our worktrees beside it."""

    def __init__(self, tmp_path: Path) -> None:
        self.root = tmp_path / "repo"
        shutil.copytree(Path(_template().name) / "repo", self.root)
        self.state = self.root / ".orchestrator"
        self.state.mkdir()
        self.worktrees = Worktrees(self.root, self.state)
        self.worktrees.exclude_state()

    @property
    def main(self) -> str:
        return git(self.root, "rev-parse", "refs/heads/main")

    def tip(self, unit: str) -> str:
        return git(self.root, "rev-parse", f"refs/heads/orch/{unit}")

    def unit(self, name: str) -> Path:
        return self.worktrees.ensure(name, self.main)

    def work(self, name: str, files: dict[str, str]) -> str:
        """Have unit `name` write `files` in its worktree, and commit them; the commit."""
        path = self.unit(name)
        for file, text in files.items():
            (path / file).parent.mkdir(parents=True, exist_ok=True)
            (path / file).write_text(text)
        sha = self.worktrees.commit_all(name, f"Work of {name}")
        assert sha is not None
        return sha

    def built(self, name: str) -> merge.Built:
        built = merge.build(self.root, name, "main")
        assert isinstance(built, merge.Built), built
        return built

    def advance(self, built: merge.Built) -> merge.Advanced | merge.Moved | merge.Blocked:
        return merge.advance(self.root, self.state, "main", built.old, built.new)

    def files_of(self, commit: str) -> list[str]:
        return git(self.root, "ls-tree", "-r", "--name-only", commit).splitlines()

    def status(self) -> str:
        return git(self.root, "status", "--porcelain")


def write_program(path: Path, text: str) -> Path:
    path.write_text("#!/bin/sh\n" + text)
    os.chmod(path, 0o755)
    return path
