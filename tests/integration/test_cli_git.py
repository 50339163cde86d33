"""The command line on a real git repository: branch, diff, merge."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_kit import SETTINGS, Server, assert_one_line, make_project, run

GIT_SETTINGS = SETTINGS.replace('isolation = "none"', 'isolation = "worktree"').replace(
    'phases = ["RUN"]', 'phases = ["RUN", "MERGE"]'
)


def git(root: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    return subprocess.run(["git", *identity, *arguments], cwd=root, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = make_project(tmp_path_factory.mktemp("git") / "work", GIT_SETTINGS)
    git(root, "init", "-q", "-b", "main")
    (root / "page.txt").write_text("one\n")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "start")
    server = Server(root)
    yield server
    server.end()


def test_work_is_merged_and_a_worktree_is_shown_as_a_diff(server: Server) -> None:
    server.ok("submit", "edits", "-p", "echo two >> page.txt")
    commit = "git -c user.name=t -c user.email=t@example.org commit -qam three"
    script = f"echo three >> page.txt; {commit}; $ORCH emit ask --question 'Go on?'"
    server.ok("submit", "asks", "-p", script, "--after", "edits")
    server.ok("wait", "edits", "--timeout", "60")
    server.ok("wait", "asks", "--for", "NEEDS_ATTENTION", "--timeout", "60")

    live = server.ok("diff", "asks")
    shown = server.ok("show", "asks")
    server.stop()
    stopped = run(server.root, "diff", "asks")

    assert git(server.root, "show", "main:page.txt") == "one\ntwo\n"
    assert "\n two\n+three\n" in live
    assert "branch" in shown and "orch/asks from " in shown
    assert (stopped.code, stopped.out) == (0, live)
    assert_one_line(run(server.root, "diff", "aks"), 1, "did you mean asks?")
