"""The local executor: servers, supervisors and keepers may be killed at any moment; no agent is lost, doubled or
mistaken for another."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from executor_kit import Rig, kill, marked, new_mark

from orchestrator_app.executors import processes
from orchestrator_app.executors.base import Exited, Vanished

SERVER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from executor_kit import Rig
rig = Rig(Path(sys.argv[2])).open()
for number, command in enumerate(sys.argv[3:], 1):
    rig.start(f"unit{number}", "sh", "-c", command, timeout=TIMEOUT)
    rig.agent(f"unit{number}")
print("started", flush=True)
while True:
    rig.executor.wait(None)
"""


class Server:
    """A server process of its own, with attempts unit1, unit2, ... that run these shell commands."""

    def __init__(self, state: Path, *commands: str, timeout: float | None = None) -> None:
        code = SERVER.replace("TIMEOUT", repr(timeout))
        here = str(Path(__file__).parent)
        argv = [sys.executable, "-c", code, here, str(state), *commands]
        self.process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == "started\n"

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def state(tmp_path: Path):
    yield tmp_path / "state"
    assert [
        pid for pid in marked(str(tmp_path)) if pid != os.getpid() and "supervisor.py" not in processes_name(pid)
    ] == []


def processes_name(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text() if Path(f"/proc/{pid}").exists() else "supervisor.py"


@pytest.fixture
def rig(state: Path):
    rig = Rig(state).open()
    yield rig
    rig.finish()


def waits_for(gate: Path, then: str) -> str:
    return f"while [ ! -e {gate} ]; do sleep 0.02; done; {then}"


def test_f16_an_agent_outlives_its_server_and_its_exit_is_told_once_to_the_next(state: Path, tmp_path: Path) -> None:
    server = Server(state, waits_for(tmp_path / "gate", "echo out; exit 7"))

    server.kill()
    rig = Rig(state).reopen(("unit1", 1, 0))
    assert rig.executor.wait(0.1) == []
    (tmp_path / "gate").touch()

    end = rig.end("unit1")
    assert (end.code, end.why) == (7, "exit")
    assert rig.output("unit1") == b"out\n"
    assert rig.executor.wait(0.1) == []
    rig.finish()


def test_an_exit_while_no_server_is_there_is_found_by_the_next(state: Path, tmp_path: Path, wait_until) -> None:
    server = Server(state, waits_for(tmp_path / "gate", "echo '{\"n\": 1}' > $ORCH_EVENTS; exit 7"))
    server.kill()
    (tmp_path / "gate").touch()
    wait_until((state / "runs" / "unit1" / "1" / "exit.json").exists)

    rig = Rig(state).reopen(("unit1", 1, 0))

    assert rig.end("unit1").code == 7
    assert rig.said_data("unit1") == [{"n": 1}]
    rig.finish()


def test_an_exit_is_found_when_the_supervisor_has_ended_too(state: Path, wait_until) -> None:
    first = Rig(state).open()
    first.start("unit", "sh", "-c", "sleep 0.1; exit 7")
    first.agent("unit")
    first.executor.close()
    wait_until(lambda: not first.processes(), what="the supervisor to end")

    rig = first.reopen(("unit", 1, 0))

    assert rig.end("unit").code == 7
    rig.finish()


def test_events_go_on_where_the_log_had_got_to(state: Path, tmp_path: Path) -> None:
    say = "echo '{\"n\": %d}' >> $ORCH_EVENTS"
    server = Server(state, f"{say % 0}; {say % 1}; {waits_for(tmp_path / 'gate', say % 2)}")
    server.kill()

    rig = Rig(state).reopen(("unit1", 1, 9))
    rig.until(lambda: rig.said_data("unit1") == [{"n": 1}])
    (tmp_path / "gate").touch()
    rig.end("unit1")

    assert rig.said_data("unit1") == [{"n": 1}, {"n": 2}]
    rig.finish()


def test_f12_a_time_limit_holds_while_no_server_is_there(state: Path, wait_until) -> None:
    server = Server(state, "sleep 1000", timeout=0.5)

    server.kill()

    exit_file = state / "runs" / "unit1" / "1" / "exit.json"
    wait_until(exit_file.exists)
    assert json.loads(exit_file.read_text())["why"] == "timeout"


def test_an_adopted_attempt_can_be_stopped(state: Path) -> None:
    mark = new_mark()
    Server(state, f"setsid sleep {mark} & sleep {mark}").kill()

    rig = Rig(state).reopen(("unit1", 1, 0))
    rig.executor.stop("unit1", 1, 5.0)

    assert rig.end("unit1").why == "stop"
    assert marked(mark) == []
    rig.finish()


def test_f12_the_time_limit_of_an_adopted_attempt_holds(state: Path) -> None:
    mark = new_mark()
    Server(state, f"setsid sleep {mark} & sleep {mark}", timeout=1.0).kill()

    rig = Rig(state).reopen(("unit1", 1, 0))

    assert rig.end("unit1").why == "timeout"
    assert marked(mark) == []
    rig.finish()


def test_what_runs_for_no_open_attempt_is_stopped_on_recovery(state: Path, wait_until) -> None:
    wanted, unwanted = new_mark(), new_mark()
    Server(state, f"exec sleep {wanted}", f"exec sleep {unwanted}").kill()

    rig = Rig(state).reopen(("unit1", 1, 0))

    wait_until(lambda: not marked(unwanted))
    assert len(marked(wanted)) == 1
    rig.finish()
    assert rig.ends("unit2") == []


def test_a_closed_executor_leaves_its_attempts_running_for_the_next(state: Path, tmp_path: Path) -> None:
    first = Rig(state).open()
    first.start("unit", "sh", "-c", waits_for(tmp_path / "gate", "exit 7"))
    first.executor.close()

    rig = first.reopen(("unit", 1, 0))
    (tmp_path / "gate").touch()

    assert rig.end("unit").code == 7
    rig.finish()


def test_the_death_of_the_supervisor_loses_nothing_and_starts_nothing_twice(rig: Rig, tmp_path: Path) -> None:
    for number in range(4):
        rig.start(f"unit{number}", "sh", "-c", "echo once; " + waits_for(tmp_path / f"gate{number}", f"exit {number}"))
        rig.agent(f"unit{number}")
    before = rig.supervisor()

    kill(before)
    rig.until(lambda: rig.supervisor() not in (None, before), "a new supervisor")
    rig.start("new", "sh", "-c", "exit 9")

    assert rig.end("new").code == 9
    for number in range(4):
        assert rig.ends(f"unit{number}") == []
        (tmp_path / f"gate{number}").touch()
        assert rig.end(f"unit{number}").code == number
        assert rig.output(f"unit{number}") == b"once\n"
    assert len([report for report in rig.reports if isinstance(report, Exited)]) == 5


def test_an_attempt_whose_supervisor_died_can_still_be_stopped_with_all_its_descendants(rig: Rig) -> None:
    mark = new_mark()
    rig.start("unit", "sh", "-c", f"setsid sleep {mark} & sleep {mark}")
    rig.until(lambda: len(marked(mark)) == 3)
    kill(rig.supervisor())
    rig.until(lambda: rig.executor._attempts[("unit", 1)].pidfd >= 0, "the adoption of its keeper")

    rig.executor.stop("unit", 1, 5.0)

    assert rig.end("unit").why == "stop"
    assert marked(mark) == []


def test_a_stop_sent_to_a_supervisor_that_has_just_died_is_not_lost(rig: Rig) -> None:
    mark = new_mark()
    rig.start("unit", "sleep", mark)
    rig.agent("unit")

    os.kill(rig.supervisor(), signal.SIGSTOP)
    rig.executor.stop("unit", 1, 5.0)
    kill(rig.supervisor())

    assert rig.end("unit").why == "stop"
    assert marked(mark) == []


def test_f12_a_time_limit_holds_when_supervisor_and_server_are_dead(state: Path, wait_until) -> None:
    mark = new_mark()
    server = Server(state, f"setsid sleep {mark} & sleep {mark}", timeout=0.5)
    rig = Rig(state)

    kill(rig.supervisor())
    server.kill()

    wait_until((state / "runs" / "unit1" / "1" / "exit.json").exists)
    assert marked(mark) == []
    wait_until(lambda: not rig.keepers(), what="the orphaned keeper to end")


def test_server_and_supervisor_killed_together_lose_no_agent(state: Path, tmp_path: Path) -> None:
    server = Server(state, waits_for(tmp_path / "gate", "exit 7"))
    server.process.send_signal(signal.SIGSTOP)
    kill(Rig(state).supervisor())
    server.kill()

    rig = Rig(state).reopen(("unit1", 1, 0))
    assert rig.executor.wait(0.1) == []
    (tmp_path / "gate").touch()

    assert rig.end("unit1").code == 7
    rig.finish()


def test_an_agent_whose_keeper_died_is_followed_to_its_end_and_reported_as_vanished(rig: Rig, tmp_path: Path) -> None:
    rig.start("unit", "sh", "-c", waits_for(tmp_path / "gate", "exit 7"))
    rig.agent("unit")

    kill(rig.keepers()[0])
    assert rig.executor.wait(0.2) == []
    (tmp_path / "gate").touch()

    end = rig.end("unit")
    assert isinstance(end, Vanished) and "left no exit behind" in end.reason


def test_an_agent_that_lost_keeper_supervisor_and_server_is_proven_and_followed(state: Path, tmp_path: Path) -> None:
    server = Server(state, waits_for(tmp_path / "gate", "echo done; exit 7"))
    server.process.send_signal(signal.SIGSTOP)
    old = Rig(state)
    kill(old.supervisor())
    kill(old.keepers()[0])
    server.kill()

    rig = old.reopen(("unit1", 1, 0))
    assert rig.executor.wait(0.2) == []
    (tmp_path / "gate").touch()

    assert isinstance(rig.end("unit1"), Vanished)
    assert rig.output("unit1") == b"done\n"
    rig.finish()


def test_an_agent_without_a_keeper_can_be_stopped(rig: Rig) -> None:
    mark = new_mark()
    rig.start("unit", "sh", "-c", f"trap '' TERM; setsid sleep {mark} & sleep {mark}; sleep {mark}")
    rig.until(lambda: len(marked(mark)) == 3)
    kill(rig.keepers()[0])
    rig.until(lambda: rig.executor._attempts[("unit", 1)].agent, "the adoption of the agent")

    rig.executor.stop("unit", 1, 0.2)

    end = rig.end("unit")
    assert isinstance(end, Vanished) and "was stopped" in end.reason
    rig.until(lambda: marked(mark) == [], "the death of its descendants")


def test_f12_the_time_limit_of_an_agent_without_a_keeper_holds(rig: Rig) -> None:
    mark = new_mark()
    rig.start("unit", "sleep", mark, timeout=0.5)
    rig.agent("unit")

    kill(rig.keepers()[0])

    end = rig.end("unit")
    assert isinstance(end, Vanished) and "longer than its limit" in end.reason
    rig.until(lambda: marked(mark) == [], "its death")


@pytest.mark.parametrize("change", [{"starttime": 1}, {"boot_id": "another"}])
def test_f9_a_process_that_only_shares_the_pid_is_never_signalled(rig: Rig, change: dict) -> None:
    mark = new_mark()
    stranger = subprocess.Popen(["sleep", mark], start_new_session=True)
    alive = processes.read(stranger.pid)
    spec = {"unit": "unit", "attempt": 1, "timeout": 0.0, "grace": 0.0}
    keeper = {"keeper": stranger.pid, "starttime": alive.starttime, "boot_id": processes.boot_id(), **change}
    agent = {"pid": stranger.pid, "starttime": keeper["starttime"], "started_at": 0.0}
    rig.run_dir("unit").mkdir(parents=True)
    (rig.run_dir("unit") / "attempt.json").write_text("".join(json.dumps(x) + "\n" for x in (spec, keeper, agent)))

    rig.executor.recover([("unit", 1, 0)])
    rig.executor.stop("unit", 1, 0.0)

    assert isinstance(rig.end("unit"), Vanished)
    assert stranger.poll() is None
    stranger.kill()
    stranger.wait()


@pytest.mark.parametrize("change", [{"starttime": 1}, {"boot_id": "another"}])
def test_f9_a_stranger_with_the_number_of_a_keeper_is_never_signalled(rig: Rig, change: dict) -> None:
    stranger = subprocess.Popen(["sleep", new_mark()], start_new_session=True)
    alive = processes.read(stranger.pid)
    keeper = {"keeper": stranger.pid, "starttime": alive.starttime, "boot_id": processes.boot_id(), **change}
    rig.run_dir("unit").mkdir(parents=True)
    with (rig.run_dir("unit") / "attempt.json").open("w") as file:
        file.write(f'{{"timeout": 0.0, "grace": 0.0}}\n{json.dumps(keeper)}\n')
        file.flush()
        fcntl.flock(file, fcntl.LOCK_EX)  # as if a keeper lived

        rig.executor.recover([("unit", 1, 0)])
        rig.executor.stop("unit", 1, 0.0)
        assert rig.executor.wait(0.6) == []

    assert isinstance(rig.end("unit"), Vanished)
    assert stranger.poll() is None
    stranger.kill()
    stranger.wait()


@pytest.mark.parametrize(("off", "limit", "stopped"), [(-86400.0, 1000.0, False), (86400.0, 0.2, True)])
def test_f10_a_clock_that_was_set_by_a_day_moves_no_time_limit(
    rig: Rig, off: float, limit: float, stopped: bool
) -> None:
    with subprocess.Popen(["sleep", new_mark()], process_group=0) as agent:
        keeper = {"keeper": 1 << 22, "starttime": 1, "boot_id": processes.boot_id()}
        spec = {"timeout": limit, "grace": 0.0}
        line = {"pid": agent.pid, "starttime": processes.read(agent.pid).starttime, "started_at": time.time() + off}
        rig.run_dir("unit").mkdir(parents=True)
        (rig.run_dir("unit") / "attempt.json").write_text("".join(json.dumps(x) + "\n" for x in (spec, keeper, line)))

        rig.executor.recover([("unit", 1, 0)])

        if not stopped:
            assert rig.executor.wait(0.6) == [] and agent.poll() is None
            rig.executor.stop("unit", 1, 0.0)
        reason = rig.until(lambda: agent.poll() is not None and rig.ends("unit"))[0].reason
    assert ("longer than its limit" in reason) == stopped


def test_an_attempt_that_was_never_started_is_reported_and_can_never_start_later(rig: Rig) -> None:
    rig.executor.recover([("unit", 1, 0)])

    end = rig.end("unit")
    assert isinstance(end, Vanished) and "never started" in end.reason
    rig.reports.clear()
    rig.start("unit", "sh", "-c", "echo started")
    assert rig.end("unit").why == "spawn"
    assert rig.output("unit") == b""


def test_f1_a_start_that_died_with_its_supervisor_is_vanished_or_runs_once(rig: Rig, tmp_path: Path) -> None:
    for number in range(5):
        supervisor = rig.supervisor()
        os.kill(supervisor, signal.SIGSTOP)
        rig.start(f"unit{number}", "sh", "-c", f"echo x >> {tmp_path}/count{number}")
        os.kill(supervisor, signal.SIGKILL)

        end = rig.end(f"unit{number}")

        assert isinstance(end, Vanished) and "never started" in end.reason
    assert list(tmp_path.glob("count*")) == []


def test_kills_at_random_moments_end_every_attempt_once_and_run_none_twice(rig: Rig, tmp_path: Path) -> None:
    def spec(n: int):
        return rig.spec(f"unit{n}", "sh", "-c", f"echo x >> {tmp_path}/count{n}")

    for start in range(0, 120, 8):
        rig.executor.start([spec(n) for n in range(start, start + 8)])
        kill(rig.supervisor())
        rig.until(lambda start=start: all(rig.ends(f"unit{n}") for n in range(start, start + 8)), "all ends")

    for n in range(120):
        ends = rig.ends(f"unit{n}")
        counted = (tmp_path / f"count{n}").read_text() if (tmp_path / f"count{n}").exists() else ""
        assert len(ends) == 1
        if isinstance(ends[0], Exited):
            assert (ends[0].code, counted) == (0, "x\n")
        else:
            assert counted == ""


@pytest.mark.parametrize("text", ["", "{", "\0\0", "[]\n3\nnull\n", '{"timeout": 1}\n{"keeper": "x"}\n{"pid": "y"}\n'])
def test_f18_a_damaged_run_directory_is_reported_as_vanished(rig: Rig, text: str) -> None:
    rig.run_dir("unit").mkdir(parents=True)
    (rig.run_dir("unit") / "attempt.json").write_text(text)
    (rig.run_dir("unit") / "exit.json").write_text(text)

    rig.executor.recover([("unit", 1, 0)])

    assert isinstance(rig.end("unit"), Vanished)
