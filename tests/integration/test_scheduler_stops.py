"""Cancel, pause, stop and crash, with real processes in real worktrees: nothing is lost, doubled or left behind."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from orchestrator_app.errors import SettingsError, UsageError
from orchestrator_app.orchestrator import Orchestrator
from orchestrator_app.settings import load_project
from orchestrator_app.states import Trigger
from orchestrator_app.stopping import Stop
from orchestrator_app.workspace.worktrees import Worktrees, open_place, repository_lock

#: An agent that leaves its pid and its child's, says that it is there, and goes on until `$HERE/go`. It notes each of
#: its attempts, and an attempt that starts beside a live one leaves `doubled`.
LONG = """
mkdir $HERE/$ORCH_UNIT.alone || touch $HERE/doubled
echo $ORCH_ATTEMPT >> $HERE/$ORCH_UNIT.attempts
echo "attempt $ORCH_ATTEMPT" > work.txt
sleep 1000 & echo $! > $HERE/$ORCH_UNIT.child
echo $$ > $HERE/$ORCH_UNIT.pid
trap 'rmdir $HERE/$ORCH_UNIT.alone' EXIT
trap 'exit 143' TERM
touch $HERE/$ORCH_UNIT.there
while ! test -e $HERE/go; do sleep 0.02; done
kill $(cat $HERE/$ORCH_UNIT.child)
"""


def is_alive(pid: int) -> bool:
    """Whether the process runs; one that has ended and waits to be collected doesn't."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def begin(project, unit: str = "a") -> list[int]:
    """Submit a long unit and wait until its agent is there; the pids of the agent and its child."""
    project.script(unit, does=LONG)
    project.submit(unit)
    project.wait(lambda: project.word(f"{unit}.there") is not None, "the agent to be there")
    return [int(project.word(f"{unit}.{who}")) for who in ("pid", "child")]


def none_alive(pids: list[int]) -> bool:
    return not any(is_alive(pid) for pid in pids)


# -- cancel and pause


@pytest.mark.parametrize("how", ["cancel", "pause"])
def test_a_unit_that_is_held_or_withdrawn_leaves_no_process_and_keeps_its_work(make, how):
    project = make()
    pids = begin(project)

    project.ask(how, "a", reason="not now")

    project.wait(lambda: none_alive(pids), "all its processes to end")
    assert (project.worktree("a") / "work.txt").read_text() == "attempt 1\n"
    assert project.unit("a").status == {"cancel": "CANCELLED", "pause": "PAUSED"}[how]

    project.leave("go")
    project.ask({"cancel": "reopen", "pause": "resume"}[how], "a")
    project.until("a", "DONE")
    assert project.on_main("work.txt") == "attempt 2\n"
    assert project.word("doubled") is None


def test_a_unit_that_is_resumed_at_once_waits_for_the_end_of_its_stopped_attempt(make):
    project = make()
    project.script("a", does=LONG.replace("'exit 143' TERM", "'sleep 0.7; exit 143' TERM"))
    project.submit("a")
    project.wait(lambda: project.word("a.there") is not None, "the agent to be there")

    for _ in range(3):
        project.ask("pause", "a")
        project.ask("resume", "a")
    project.leave("go")
    project.until("a", "DONE")

    assert project.word("doubled") is None
    assert project.word("a.attempts").split() == ["1", "2"]


def test_an_agent_that_ignores_the_stop_is_killed_after_the_grace_time(make):
    project = make(settings="slots = 1")
    project.script("a", does="trap '' TERM; echo $$ > $HERE/a.pid; while true; do sleep 0.02; done")
    project.submit("a", "b")
    project.wait(lambda: project.word("a.pid"), "the agent to be there")

    project.ask("cancel", "a")
    project.until("b", "DONE")

    assert not is_alive(int(project.word("a.pid"))), "its slot is free only once it has ended"


def test_a_unit_cancelled_while_its_worktree_is_made_never_starts(make):
    project = make()
    project.script("a", does="touch $HERE/ran")
    project.script("b", does="true")

    with repository_lock(open_place(project.root)):  # the worktree can't be made yet
        project.submit("a")
        project.until("a", "RUNNING")
        project.ask("cancel", "a")
    project.submit("b")
    project.until("b", "DONE")

    assert project.unit("a").status == "CANCELLED"
    assert project.word("ran") is None and not project.run_dir("a").exists()


@pytest.mark.parametrize("how", ["cancel", "pause"])
def test_a_unit_that_is_held_while_its_merge_is_verified_is_not_merged(make, tmp_path, how):
    verify = f"echo $$ > {tmp_path}/pid; while ! test -e {tmp_path}/go; do sleep 0.02; done"
    project = make(settings=f"verify = '{verify}'")
    project.script("a", does="echo a > a.txt")
    project.submit("a")
    project.wait(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text(), "verify to run")
    pid = int((tmp_path / "pid").read_text())

    project.ask(how, "a")
    project.wait(lambda: not is_alive(pid), "verify to end")
    project.submit("b")  # the slot of MERGE is free again
    (tmp_path / "go").touch()
    project.until("b", "DONE")

    assert project.on_main("a.txt") is None
    project.ask({"cancel": "reopen", "pause": "resume"}[how], "a")
    project.until("a", "DONE")
    assert project.on_main("a.txt") == "a\n"


def test_a_waiting_agent_is_stopped_when_its_unit_is_cancelled(make):
    project = make()
    project.script(
        "a",
        does="""echo $$ > $HERE/a.pid; echo '{"type":"ask","question":"Which?"}' >> $ORCH_EVENTS; sleep 1000""",
    )
    project.submit("a")
    project.until("a", "NEEDS_ATTENTION")

    project.ask("cancel", "a")

    project.wait(lambda: none_alive([int(project.word("a.pid"))]), "the agent to end")
    assert not project.orchestrator.board.attention


# -- stop and restart


def test_an_orderly_stop_defers_what_runs_and_the_next_start_goes_on(make):
    project = make(more="[phases.IMPLEMENT]\nretries = 0\n")
    pids = begin(project)

    project.restart()

    assert none_alive(pids)
    assert project.story("a")[:3] == ["submit", "start", "defer"]
    project.leave("go")
    unit = project.until("a", "DONE")
    assert unit.failures == 0 and project.on_main("work.txt") == "attempt 2\n"


def test_agents_that_are_left_running_are_taken_back_by_the_next_start(make):
    project = make()
    pids = begin(project)

    project.stop(Stop.LEAVE)
    assert all(is_alive(pid) for pid in pids)
    project.start()
    project.leave("go")
    project.until("a", "DONE")

    assert project.story("a") == ["submit", "start", "advance", "start", "finish"]
    assert project.word("a.attempts").split() == ["1"]


SERVER = """
import sys, threading
from pathlib import Path
from orchestrator_app.orchestrator import Orchestrator
from orchestrator_app.settings import load_project

orchestrator = Orchestrator(load_project(Path(sys.argv[1])))
orchestrator.start()
if len(sys.argv) > 2:
    orchestrator.request("submit", units=[{"name": name} for name in sys.argv[2:]]).result(30)
print("ready", flush=True)
sys.stdin.read()
"""


class Server:
    """An orchestrator in a process of its own, to be killed."""

    def __init__(self, project, *units: str) -> None:
        argv = [sys.executable, "-c", SERVER, str(project.root), *units]
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == "ready\n"

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


def test_a_server_killed_in_mid_run_loses_no_agent_and_starts_none_twice(make):
    project = make()
    project.stop()
    project.script("a", does=LONG)
    project.script("b", does=LONG)
    server = Server(project, "a", "b")
    project.wait(lambda: project.word("a.there") is not None and project.word("b.there") is not None, "both agents")

    server.kill()
    project.start()
    assert {project.unit(name).status for name in "ab"} == {"RUNNING"}
    project.leave("go")
    project.until("a", "DONE", "NEEDS_ATTENTION")
    project.until("b", "DONE", "NEEDS_ATTENTION")

    assert project.word("doubled") is None
    assert project.word("a.attempts").split() == project.word("b.attempts").split() == ["1"]


def test_an_agent_that_ended_while_no_server_ran_counts_as_what_it_did(make):
    project = make()
    project.stop()
    project.script("a", does="touch $HERE/a.there; while ! test -e $HERE/go; do sleep 0.02; done; echo a > a.txt")
    server = Server(project, "a")
    project.wait(lambda: project.word("a.there") is not None, "the agent")

    server.kill()
    project.leave("go")
    project.wait((project.run_dir("a") / "exit.json").exists, "its exit to be written")
    project.start()
    project.until("a", "DONE")

    assert project.story("a") == ["submit", "start", "advance", "start", "finish"]
    assert project.on_main("a.txt") == "a\n"


@pytest.mark.parametrize("trigger", [Trigger.CANCEL, Trigger.PAUSE])
def test_a_stop_that_was_written_down_but_not_begun_when_the_server_died_is_made_up_for(make, trigger):
    project = make()
    pids = begin(project)
    project.stop(Stop.LEAVE)

    orchestrator = Orchestrator(load_project(project.root))
    gate = orchestrator.open().gate
    draft = gate.draft(time.time())
    draft.move("a", trigger, actor="operator:tester", cause="test")
    gate.commit(draft)
    orchestrator.stop(Stop.LEAVE)
    assert all(is_alive(pid) for pid in pids)

    project.start()
    project.wait(lambda: none_alive(pids), "its processes to end")


@pytest.mark.slow
def test_servers_killed_at_any_moment_lose_nothing_and_double_nothing(make):
    project = make(phases="IMPLEMENT REVIEW MERGE", settings='verify = "sleep 0.05; test -e file.txt"\nslots = 3')
    project.stop()
    names = [f"u{number}" for number in range(8)]
    for name in names:
        project.script(
            name,
            does=f"""
            mkdir $HERE/{name}.alone || touch $HERE/doubled
            trap 'rmdir $HERE/{name}.alone' EXIT
            sleep 0.1
            echo {name} > {name}.txt
            """,
        )

    project.start()
    project.submit(*names)
    project.stop(Stop.LEAVE)
    for number in range(12):
        server = Server(project)
        threading.Event().wait(0.03 * number)  # the moment of the kill, not a wait for anything
        server.kill()
    project.start()
    for name in names:
        project.until(name, "DONE")

    assert project.word("doubled") is None
    assert all(project.on_main(f"{name}.txt") == f"{name}\n" for name in names)
    merges = project.git("log", "--merges", "--format=%s", "main").splitlines()
    assert sorted(merges) == sorted(f"Merge unit {name}" for name in names), "each is merged once"


# -- what a start finds


def test_settings_that_lack_what_an_unfinished_unit_needs_are_refused_at_the_start(make):
    project = make(phases="PLAN IMPLEMENT MERGE")
    project.orchestrator.request("dispatch", paused=True).result(20)
    project.submit("a", "b", "c")
    project.ask("cancel", "c")
    project.stop()
    settings = project.root / "orchestrator.toml"
    complete = settings.read_text()

    settings.write_text(complete.replace('"PLAN", ', ""))
    with pytest.raises(SettingsError, match=r"no phase PLAN in the workflow default, which a and 1 more still need"):
        project.start()
    project.orchestrator = None

    settings.write_text(complete)
    project.start()
    project.ask("cancel", "a")
    project.ask("cancel", "b")
    project.stop()
    settings.write_text(complete.replace('"PLAN", ', ""))
    project.start()
    with pytest.raises(UsageError, match="a can't go on"):
        project.ask("reopen", "a")
    project.submit("d")
    project.orchestrator.request("dispatch", paused=False).result(20)
    project.until("d", "DONE")


def test_what_a_crash_left_of_a_merged_unit_is_removed_at_the_next_start(make):
    project = make()
    project.submit("a")
    project.until("a", "DONE")
    project.wait(lambda: "orch/a" not in project.git("branch", "--list"), "the branch to be removed")
    project.stop()
    worktrees = Worktrees(project.root, project.root / ".orchestrator")
    worktrees.ensure("a", worktrees.tip("main"))  # as when it died between the log's last word and the removal

    project.start()

    project.wait(lambda: "orch/a" not in project.git("branch", "--list"), "the branch to be removed")
    assert not project.worktree("a").exists()


def test_work_that_an_operator_accepted_unmerged_is_kept(make):
    project = make(settings='verify = "false"')
    project.script("a", does="echo a > a.txt")
    project.submit("a")
    project.until("a", "NEEDS_ATTENTION")
    project.ask("accept", "a", reason="good enough on its branch")

    project.restart()
    project.submit("b")
    project.until("b", "DONE")

    project.stop()
    assert (project.worktree("a") / "a.txt").exists() and "orch/a" in project.git("branch", "--list")


def test_a_worktree_that_someone_deleted_is_made_anew_from_its_branch(make):
    project = make()
    project.script(
        "a", does="test -e a.txt || { echo a > a.txt; git add .; git commit -qm a; exit 75; }; cat a.txt > b.txt"
    )
    project.orchestrator.request("dispatch", paused=True).result(20)
    project.submit("a")
    project.orchestrator.request("dispatch", paused=False).result(20)
    project.until("a", "READY", attempt=1)
    project.ask("pause", "a")
    shutil.rmtree(project.worktree("a"))

    project.ask("resume", "a")
    project.until("a", "DONE")

    assert project.on_main("b.txt") == "a\n"


def test_a_base_branch_that_nobody_has_checked_out_advances_too(make):
    project = make()
    project.git("switch", "-q", "-c", "elsewhere")
    project.script("a", does="echo a > a.txt")

    project.submit("a")
    project.until("a", "DONE")

    assert project.on_main("a.txt") == "a\n" and not (project.root / "a.txt").exists()
    assert project.git("branch", "--show-current") == "elsewhere"


def test_an_answer_reaches_an_agent_that_waited_through_a_restart(make):
    project = make()
    project.script(
        "a",
        does="""
        echo '{"type":"ask","question":"Which?"}' >> $ORCH_EVENTS
        while ! test -s $ORCH_ANSWERS; do sleep 0.02; done
        cp $ORCH_ANSWERS answers.txt
        """,
    )
    project.submit("a")
    project.until("a", "NEEDS_ATTENTION")

    project.restart(Stop.LEAVE)
    project.ask("answer", "a", text="this one")
    project.until("a", "DONE")

    assert "this one" in project.on_main("answers.txt")
    assert project.story("a").count("start") == 2, "one for IMPLEMENT, one for MERGE"


def test_a_retry_of_a_waiting_agent_stops_it_first(make):
    project = make()
    project.script(
        "a",
        does="""
        mkdir $HERE/alone || touch $HERE/doubled
        trap 'rmdir $HERE/alone' EXIT
        trap 'exit 143' TERM
        test $ORCH_ATTEMPT = 2 && exit 0
        echo '{"type":"ask","question":"Which?"}' >> $ORCH_EVENTS
        while true; do sleep 0.02; done
        """,
    )
    project.submit("a")
    project.until("a", "NEEDS_ATTENTION")

    project.ask("retry", "a")
    project.until("a", "DONE")

    assert project.word("doubled") is None
