"""This very repository, cloned: units edit it, run its own linter and tests in their worktrees, and are merged.

All through the command line, as a person would.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import orchestrator_app

ROOT = Path(__file__).parents[2]
SOURCES = str(Path(orchestrator_app.__file__).parents[1])
PYTHON = json.dumps(sys.executable)

# A unit's prompt is the script of its EDIT.
SETTINGS = f"""
[project]
base = "trial"
slots = 2
grace = 2
verify = [{PYTHON}, "-m", "ruff", "check", "--no-cache", "."]
[workflow]
phases = ["EDIT", "LINT", "TEST", "MERGE"]
[phases.EDIT]
agent = "shell"
[phases.LINT]
agent = "ruff"
retries = 0
[phases.TEST]
agent = "pytest"
retries = 0
[agents.shell]
command = ["sh", "-e", "-c", '. "$ORCH_PROMPT_FILE"']
[agents.ruff]
command = [{PYTHON}, "-m", "ruff", "check", "--no-cache", "."]
[agents.pytest]
command = [{PYTHON}, "-B", "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/unit/test_states.py"]
"""
UNITS = r"""
- name: say-thanks
  prompt: printf '# Thanks\n\nTo everyone who tries this.\n' > THANKS.md
- name: thank-more
  after: [say-thanks]
  prompt: printf '\nAnd to everyone who reports what is wrong.\n' >> THANKS.md; git commit -qam 'Thank more'
- name: document-a-word
  prompt: |
    test ! -e THANKS.md
    printf '\n# The end of the file.\n' >> orchestrator_app/states.py
- name: break-a-rule
  prompt: printf 'import os, sys\n' > orchestrator_app/needless.py
"""


class Clone:
    """A clone of this repository, and the command line on it."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "clone"
        self._folder = folder
        subprocess.run(["git", "clone", "-q", str(ROOT), str(self.root)], check=True, cwd=folder)
        self.git("switch", "-q", "-C", "trial")

    def git(self, *args: str) -> str:
        done = subprocess.run(["git", *args], cwd=self.root, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "orchestrator_app", "--project", str(self.root), *words]

    def environment(self) -> dict[str, str]:
        path = os.pathsep.join(part for part in (SOURCES, os.environ.get("PYTHONPATH")) if part)
        return {**os.environ, "PYTHONPATH": path}

    def orch(self, *words: str, code: int = 0, stdin: str = "") -> str:
        """What `orch WORDS` printed. Run from elsewhere, so that it is the code under test, not the clone's."""
        done = subprocess.run(
            self.command(*words),
            cwd=self._folder,
            env=self.environment(),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == code, f"orch {' '.join(words)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    done = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("needs the repository: this is a copy of its files without its history")
    return Clone(tmp_path)


@pytest.fixture
def served(clone: Clone, wait_until) -> Iterator[Clone]:
    """The clone, initialised, with these settings, and a server."""
    assert "orchestrator.toml" in clone.orch("init")
    (clone.root / "orchestrator.toml").write_text(SETTINGS)
    server = subprocess.Popen(
        clone.command("serve", "--port", "0", "--no-open"),
        cwd=clone.root.parent,
        env=clone.environment(),
        stdout=subprocess.DEVNULL,
    )
    try:
        wait_until((clone.root / ".orchestrator" / "server.json").exists, 60, "the server")
        yield clone
        clone.orch("stop", "--agents")
    finally:
        server.terminate()
        server.wait(60)


@pytest.mark.slow
def test_units_edit_this_repository_run_its_linter_and_tests_in_worktrees_and_are_merged(served: Clone, wait_until):
    before = served.git("rev-parse", "trial")

    served.orch("import", "-", stdin=UNITS)
    served.orch("wait", "say-thanks", "thank-more", "document-a-word", "--timeout", "100")
    served.orch("wait", "break-a-rule", "--timeout", "100", code=1)

    assert (served.root / "THANKS.md").read_text().endswith("reports what is wrong.\n")
    assert served.git("show", "trial:orchestrator_app/states.py").endswith("# The end of the file.")
    assert "break-a-rule: LINT failed" in served.orch("attention")
    assert "needless.py" in served.orch("logs", "break-a-rule")
    assert "needless.py" not in served.git("ls-tree", "-r", "--name-only", "trial")
    merges = served.git("log", "--merges", "--format=%s", f"{before}..trial")
    assert sorted(merges.splitlines()) == [
        f"Merge unit {name}" for name in ("document-a-word", "say-thanks", "thank-more")
    ]

    assert served.git("status", "--porcelain") == "?? orchestrator.toml"
    kept = served.root / ".orchestrator" / "worktrees"
    wait_until(lambda: [path.name for path in kept.iterdir()] == ["break-a-rule"], 30, "only the worktree still needed")
    served.orch("check")
