"""What faults in git mean for units: nothing is lost however an attempt ends, and what is gone goes to a person."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from workspace_kit import write_program

from orchestrator_app import reports
from orchestrator_app.stopping import Stop
from orchestrator_app.workspace import crew

WORKTREE = "$ORCH_PROJECT/.orchestrator/worktrees/$ORCH_UNIT"


def on_branch(project, unit: str, name: str) -> bool:
    return name in project.git("ls-tree", "-r", "--name-only", f"orch/{unit}").splitlines()


# -- what an attempt left


def test_what_an_attempt_left_is_on_its_branch_however_it_ended(make):
    project = make(settings="slots = 5")
    waits = "touch $HERE/$ORCH_UNIT.waits; while true; do sleep 0.05; done"
    project.script("asked", does="""echo half > half.txt; echo '{"type":"ask","question":"Which?"}' >> $ORCH_EVENTS""")
    project.script("failed", does="echo half > half.txt; exit 3")
    for name in ("paused", "cancelled", "restarted"):
        project.script(name, does=f"test -e half.txt && exit; echo half > half.txt; {waits}")

    project.submit("asked", "failed", "paused", "cancelled", "restarted")
    for name, kind in (("paused", "pause"), ("cancelled", "cancel"), ("restarted", "restart")):
        project.wait((project.here / f"{name}.waits").exists, f"{name} to work")
        project.ask(kind, name)

    for name in ("asked", "failed", "paused", "cancelled"):
        project.wait(lambda name=name: on_branch(project, name, "half.txt"), f"the work of {name} to be committed")
        assert project.git("status", "--porcelain", cwd=project.worktree(name)) == ""
    project.until("restarted", "DONE")
    assert project.on_main("half.txt") == "half\n"
    assert project.unit("paused").status == "PAUSED" and project.unit("cancelled").status == "CANCELLED"
    rows = project.orchestrator.rows("SELECT unit FROM event WHERE type = 'commit' AND unit = 'cancelled'")
    assert len(rows) == 1, "it stands in the unit's story"


def test_what_an_attempt_left_while_no_server_ran_is_committed_by_the_next_and_a_persons_work_is_not(make):
    project = make()
    project.script(
        "a",
        does="""
        echo '{"type":"ask","question":"Which?"}' >> $ORCH_EVENTS
        while ! test -e $HERE/go; do sleep 0.02; done
        echo half > half.txt
        """,
    )
    project.submit("a")
    project.until("a", "NEEDS_ATTENTION")

    project.stop(Stop.LEAVE)
    project.leave("go")
    project.wait((project.run_dir("a") / "exit.json").exists, "the agent to end")
    project.start()
    project.wait((project.run_dir("a") / "sealed").exists, "its work to be committed")
    assert on_branch(project, "a", "half.txt")

    (project.worktree("a") / "by-hand.txt").write_text("the operator's\n")
    project.restart()
    project.submit("b")
    project.until("b", "DONE")
    assert not on_branch(project, "a", "by-hand.txt")
    assert (project.worktree("a") / "by-hand.txt").exists()


# -- what is gone


def test_f23_a_worktree_a_branch_or_a_git_file_that_is_gone_goes_to_a_person_and_others_go_on(make):
    project = make(settings="slots = 4")
    project.script("worktree", does=f"cd /; test -e $HERE/again || rm -rf {WORKTREE}")
    project.script("branch", does="test -e $HERE/again || git update-ref -d refs/heads/orch/branch")
    project.script("git", does="rm -f .git; test -e $HERE/again || { mkfifo .git; exit 1; }")
    project.script("other", does="echo other > other.txt")

    project.submit("worktree", "branch", "git", "other")
    project.until("other", "DONE")
    project.until("worktree", "NEEDS_ATTENTION")
    project.until("branch", "NEEDS_ATTENTION")
    project.until("git", "NEEDS_ATTENTION")

    assert "is missing; retry worktree to have it made anew" in project.item("worktree").text
    assert "`git branch orch/branch " in project.item("branch").text
    for name in ("worktree", "branch"):
        assert project.story(name) == ["submit", "start", "fail"], "no loop"

    project.leave("again")
    project.git(*project.item("branch").text.split("`")[1].split()[1:])
    assert "was replaced by something" in project.item("git").text
    (project.worktree("git") / ".git").unlink()
    for name in ("worktree", "branch", "git"):
        project.ask("retry", name)
        project.until(name, "DONE")


def test_f23_a_base_branch_that_was_renamed_or_a_repository_that_is_gone_stops_its_units_until_it_is_back(make):
    project = make(settings="slots = 2")
    project.script("a", does="echo a > a.txt; touch $HERE/waits; while ! test -e $HERE/go; do sleep 0.02; done")
    project.submit("a")
    project.wait((project.here / "waits").exists, "a to work")

    project.git("branch", "-m", "main", "trunk")
    project.leave("go")
    project.submit("b")
    project.until("a", "NEEDS_ATTENTION", phase="MERGE")
    project.until("b", "NEEDS_ATTENTION")
    for name in ("a", "b"):
        assert "branch main" in project.item(name).text
    project.git("branch", "-m", "trunk", "main")

    away = project.root.parent / "away"
    (project.root / ".git").rename(away)
    project.ask("retry", "b")
    project.until("b", "NEEDS_ATTENTION", attempt=2)
    assert f"the git repository {project.root / '.git'} is gone" in project.item("b").text
    away.rename(project.root / ".git")

    for name in ("a", "b"):
        project.ask("retry", name)
        project.until(name, "DONE")
    assert project.on_main("a.txt") == "a\n"


def test_f23_a_directory_that_may_not_be_written_goes_to_a_person(make, monkeypatch, tmp_path):
    without = "setpriv --inh-caps=-all --bounding-set=-all " if os.geteuid() == 0 else ""
    wrap_git(tmp_path, monkeypatch, f'exec {without}{shutil.which("git")} "$@"\n')
    project = make()
    project.script("a", does="echo a > a.txt; chmod a-w $ORCH_PROJECT/.git/worktrees/a")
    project.submit("a")

    project.until("a", "NEEDS_ATTENTION")

    record = project.root / ".git" / "worktrees" / "a"
    assert "Permission denied" in project.item("a").text and project.story("a") == ["submit", "start", "fail"]
    record.chmod(0o755)
    project.script("a", does="true")
    project.ask("retry", "a")
    project.until("a", "DONE")
    assert project.on_main("a.txt") == "a\n"


def test_f24_a_dirty_or_detached_checkout_of_the_operators_is_left_as_it_is(make):
    project = make()
    project.git("checkout", "-q", "--detach")
    project.write("file.txt", "the operator's\n")
    project.script("a", does="echo a > a.txt; sed -i s/two/TWO/ file.txt")

    project.submit("a")
    project.until("a", "DONE")

    assert project.on_main("a.txt") == "a\n" and not (project.root / "a.txt").exists()
    assert (project.root / "file.txt").read_text() == "the operator's\n"


# -- no room


def wrap_git(tmp_path: Path, monkeypatch, text: str) -> None:
    (tmp_path / "bin").mkdir()
    write_program(tmp_path / "bin" / "git", text)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")


@pytest.mark.parametrize("how", ["", 'trap "" XFSZ;'])
def test_f19_with_no_room_for_git_units_wait_and_go_on_by_themselves(make, monkeypatch, tmp_path, how):
    """A limit of the size of files stands for a full disk: git is killed by it, or told."""
    full = tmp_path / "full"
    wrap_git(tmp_path, monkeypatch, f'test -e {full} && {{ {how} ulimit -f 0; }}\nexec {shutil.which("git")} "$@"\n')
    monkeypatch.setattr(crew, "PAUSES", (0.05,) * 200)
    project = make()
    project.script("a", does=f"echo a > a.txt; touch {full}")
    project.submit("a")

    project.wait(lambda: delayed(project, "a"), "the commit of a's work to be tried again")
    assert project.unit("a").status == "RUNNING", "what it did is not done again"
    full.unlink()
    project.until("a", "DONE")
    assert project.on_main("a.txt") == "a\n" and project.story("a").count("start") == 2

    full.touch()
    project.submit("b")
    project.wait(lambda: "defer" in project.story("b"), "b to be put off")
    assert "tried again in" in project.reasons("b", "defer")[0]
    full.unlink()
    project.until("b", "DONE")


@pytest.mark.parametrize("how", [Stop.LEAVE, Stop.AGENTS])
def test_f19_a_stop_does_not_wait_for_room_and_the_next_server_commits_the_work(make, monkeypatch, tmp_path, how):
    full = tmp_path / "full"
    wrap_git(tmp_path, monkeypatch, f'test -e {full} && ulimit -f 0\nexec {shutil.which("git")} "$@"\n')
    monkeypatch.setattr(crew, "PAUSES", (10_000.0,))
    project = make()
    project.script("a", does=f"echo a > a.txt; touch {full}")
    project.submit("a")
    project.wait(lambda: delayed(project, "a"), "the commit of a's work to be put off")

    project.stop(how)
    full.unlink()
    project.start()
    project.until("a", "DONE")

    assert project.on_main("a.txt") == "a\n" and project.story("a").count("start") == 2


def delayed(project, unit: str) -> list:
    return project.orchestrator.rows("SELECT message FROM event WHERE type = 'git-delayed' AND unit = ?", [unit])


def test_f19_what_stays_in_the_way_goes_to_a_person_in_the_end(make, monkeypatch, tmp_path):
    full = tmp_path / "full"
    wrap_git(tmp_path, monkeypatch, f'test -e {full} && ulimit -f 0\nexec {shutil.which("git")} "$@"\n')
    monkeypatch.setattr(reports, "PASSING_TRIES", 3)
    project = make(more="max_delay = 0.1\n")
    full.touch()

    project.submit("a")
    project.until("a", "NEEDS_ATTENTION")

    assert project.story("a").count("defer") == 3 and "SIGXFSZ" in project.item("a").text
    full.unlink()
    project.ask("retry", "a")
    project.until("a", "DONE")
