"""The local executor without room, descriptors or processes: nothing is lost, nothing is concluded, all goes on.

The limits are those of processes (`prlimit`): any user may set them, and they come and go as a full disk does.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from executor_kit import Rig, kill

from orchestrator_app.executors import processes
from orchestrator_app.executors.base import Exited, Said, Vanished
from orchestrator_app.executors.complaints import LIMIT
from orchestrator_app.executors.programs import why_not

FILES, SIZE = resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path / "state").open()
    yield rig
    rig.finish()


@contextlib.contextmanager
def limited(pid: int, what: int, most: int) -> Iterator[None]:
    """A process that may have no more of something, for a while."""
    before = resource.prlimit(pid, what)
    resource.prlimit(pid, what, (most, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, what, before)


@contextlib.contextmanager
def blind() -> Iterator[None]:
    """This process, which is the server, has no descriptor left."""
    with limited(os.getpid(), FILES, 512):
        held = []
        try:
            with contextlib.suppress(OSError):
                while True:
                    held.append(os.open(os.devnull, os.O_RDONLY))
            yield
        finally:
            for fd in held:
                os.close(fd)


def waits_for(gate: Path, then: str) -> str:
    return f"while [ ! -e {gate} ]; do sleep 0.02; done; {then}"


def keeper_of(rig: Rig, unit: str) -> int:
    rig.agent(unit)
    return json.loads((rig.run_dir(unit) / "attempt.json").read_text().splitlines()[1])["keeper"]


def free_keeper(rig: Rig) -> int:
    """A keeper that has nothing to do and takes the next attempt."""
    rig.start("before", "true")
    rig.end("before")
    (keeper,) = rig.keepers()
    return keeper


# -- exits


def test_f19_an_exit_that_cant_be_written_is_told_to_the_server_at_once_and_written_later(
    rig: Rig, tmp_path: Path, wait_until
) -> None:
    rig.start("unit", "sh", "-c", waits_for(tmp_path / "gate", "exit 7"))
    keeper, exit_file = keeper_of(rig, "unit"), rig.run_dir("unit") / "exit.json"

    with limited(keeper, SIZE, 0):
        (tmp_path / "gate").touch()

        assert (rig.end("unit").code, rig.end("unit").why) == (7, "exit")
        assert not exit_file.exists() and keeper in rig.keepers()
        rig.start("next", "sh", "-c", "exit 3")
        assert rig.end("next").code == 3  # another keeper takes it

    wait_until(exit_file.exists)
    assert json.loads(exit_file.read_text())["code"] == 7
    wait_until(lambda: keeper not in rig.keepers(), what="the end of the keeper that waited")


@pytest.mark.parametrize("supervisor", ["lives", "is dead"])
def test_f19_an_exit_that_cant_be_written_while_no_server_is_there_waits_for_room_and_is_reported(
    rig: Rig, tmp_path: Path, supervisor: str, wait_until
) -> None:
    rig.start("unit", "sh", "-c", waits_for(tmp_path / "gate", "exit 7"))
    keeper, agent = keeper_of(rig, "unit"), rig.agent("unit")
    rig.executor.close()
    if supervisor == "is dead":
        kill(rig.supervisor())

    with limited(keeper, SIZE, 0):
        (tmp_path / "gate").touch()
        wait_until(lambda: processes.read(agent) is None, what="the end of the agent")
        later = rig.reopen(("unit", 1, 0))
        assert later.executor.wait(0.6) == []
        later.executor.stop("unit", 1, 0.0)  # a stop that comes too late costs the exit nothing
        assert later.executor.wait(0.3) == []

    assert (later.end("unit").code, later.end("unit").why) == (7, "exit")
    later.finish()


# -- starts


def test_f19_a_run_directory_that_cant_be_written_keeps_its_attempt_from_starting_for_now(
    rig: Rig, tmp_path: Path
) -> None:
    keeper = free_keeper(rig)

    with limited(keeper, SIZE, 0):
        rig.start("unit", "touch", str(tmp_path / "started"))
        end = rig.end("unit")

    assert (end.why, end.ran, end.code) == ("scarce", False, None)
    assert "raise it" in end.message and "\n" not in end.message
    assert not (tmp_path / "started").exists()
    rig.start("unit", "true", attempt=2)
    rig.until(lambda: len(rig.ends("unit")) == 2)
    assert rig.ends("unit")[1].code == 0 and rig.keepers() == [keeper]


def test_f19_an_agent_that_cant_be_written_down_runs_on_and_is_written_down_later(
    rig: Rig, tmp_path: Path, wait_until
) -> None:
    keeper = free_keeper(rig)
    command = f"echo $$ > {tmp_path}/pid; " + waits_for(tmp_path / "gate", "exit 7")
    (tmp_path / "gate").touch()
    rig.start("unit1", "sh", "-c", command)
    rig.end("unit1")
    (tmp_path / "gate").unlink()
    (tmp_path / "pid").unlink()
    lines = (rig.run_dir("unit1") / "attempt.json").read_bytes().splitlines(keepends=True)

    with limited(keeper, SIZE, len(lines[0] + lines[1]) + 9):
        rig.start("unit2", "sh", "-c", command)
        written = rig.run_dir("unit2") / "attempt.json"
        rig.until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text(), "the start of the agent")
        assert len(written.read_bytes().splitlines()) == 2 and written.read_bytes().endswith(b"\n")  # and no half line

    agent = int((tmp_path / "pid").read_text())
    wait_until(lambda: len(written.read_text().splitlines()) == 3)
    assert json.loads(written.read_text().splitlines()[2])["pid"] == agent
    (tmp_path / "gate").touch()
    assert rig.end("unit2").code == 7


def test_f19_a_keeper_without_descriptors_says_so_and_goes_on(rig: Rig) -> None:
    keeper = free_keeper(rig)

    with limited(keeper, FILES, 3):
        rig.start("unit", "true")
        end = rig.end("unit")

    assert (end.why, end.ran) == ("scarce", False)
    assert "too many files are open; raise the limit (`ulimit -n`)" in end.message
    rig.start("next", "true")
    assert rig.end("next").code == 0 and rig.keepers() == [keeper]


def test_f19_a_supervisor_that_can_have_no_more_keepers_says_so_and_goes_on(rig: Rig, tmp_path: Path) -> None:
    rig.start("busy", "sh", "-c", waits_for(tmp_path / "gate", "exit 7"))
    rig.agent("busy")
    supervisor = rig.supervisor()

    with limited(supervisor, FILES, 3):
        rig.start("unit", "true")
        end = rig.end("unit")

    assert (end.why, end.ran) == ("scarce", False)
    assert "no process could be started" in end.message and "raise the limit" in end.message
    rig.start("next", "true")
    assert rig.end("next").code == 0
    (tmp_path / "gate").touch()
    assert rig.end("busy").code == 7 and rig.supervisor() == supervisor


def test_a_program_that_is_being_written_is_started_later(rig: Rig) -> None:
    program = rig.cwd / "program"
    program.write_bytes(Path("/bin/true").read_bytes())
    program.chmod(0o700)

    with program.open("ab"):
        rig.start("unit", str(program))
        end = rig.end("unit")

    assert (end.why, end.ran) == ("scarce", False) and "being written" in end.message


# -- the server


def test_f19_a_server_without_descriptors_takes_no_living_attempt_for_gone(rig: Rig, tmp_path: Path) -> None:
    rig.start("kept", "sh", "-c", waits_for(tmp_path / "gate", "exit 7"))
    rig.start("lonely", "sh", "-c", waits_for(tmp_path / "gate", "exit 8"))
    rig.agent("kept")
    kill(keeper_of(rig, "lonely"))
    kill(rig.supervisor())
    rig.executor.close()
    later = Rig(rig.state).open()
    later.known = [("kept", 1), ("lonely", 1)]

    with blind():
        later.executor.recover([("kept", 1, 0), ("lonely", 1, 0)])
        assert later.executor.wait(0.6) == []

    assert later.executor.wait(0.3) == []
    (tmp_path / "gate").touch()
    assert later.end("kept") == later.ends("kept")[0] and later.end("kept").code == 7
    assert isinstance(later.end("lonely"), Vanished) and "keeper are gone" in later.end("lonely").reason
    later.finish()


def test_f19_an_agent_that_was_not_written_down_is_not_taken_for_never_started_without_descriptors(rig: Rig) -> None:
    rig.run_dir("unit").mkdir(parents=True)
    keeper = {"keeper": 1 << 22, "starttime": 1, "boot_id": processes.boot_id()}
    half = '{"pid": 12'
    (rig.run_dir("unit") / "attempt.json").write_text(
        f"{json.dumps({'timeout': None, 'grace': 1.0})}\n{json.dumps(keeper)}\n{half}"
    )
    environment = {**os.environ, "ORCH_RUN_DIR": str(rig.run_dir("unit"))}
    with subprocess.Popen(["sleep", "1000"], env=environment, process_group=0) as agent:
        with blind():
            rig.executor.recover([("unit", 1, 0)])
            assert rig.executor.wait(0.6) == []
        assert rig.executor.wait(0.3) == []
        lines = (rig.run_dir("unit") / "attempt.json").read_text().splitlines()
        assert lines[2] == half and json.loads(lines[3])["pid"] == agent.pid

        rig.executor.stop("unit", 1, 1.0)

        assert agent.wait(20) == -15
    assert isinstance(rig.end("unit"), Vanished)


def test_f19_what_was_said_is_heard_though_there_were_no_descriptors_at_the_end(rig: Rig, tmp_path: Path) -> None:
    rig.start("unit", "sh", "-c", waits_for(tmp_path / "gate", "echo '{\"n\": 1}' > $ORCH_EVENTS; exit 7"))
    rig.agent("unit")

    with blind():
        (tmp_path / "gate").mkdir()  # which takes no descriptor
        assert rig.executor.wait(0.6) == []

    assert rig.end("unit").code == 7
    assert [type(report) for report in rig.reports] == [Said, Exited] and rig.said_data("unit") == [{"n": 1}]


def test_f19_an_attempt_that_may_still_start_is_not_given_up_while_that_cant_be_written_down(rig: Rig) -> None:
    with limited(os.getpid(), SIZE, 0):
        rig.executor.recover([("unit", 1, 0)])
        reports = rig.executor.wait(0.6)

    assert reports == []
    assert isinstance(rig.end("unit"), Vanished) and "never started" in rig.end("unit").reason


def test_a_supervisor_without_descriptors_takes_no_connection_and_spends_no_time_on_that(
    rig: Rig, tmp_path: Path
) -> None:
    supervisor = rig.supervisor()
    rig.executor.close()
    paths = f"import sys; sys.path[:0] = {sys.path!r}; from pathlib import Path; from executor_kit import Rig"
    script = f"{paths}; Rig(Path({str(rig.state)!r})).open(); print('in')"
    with limited(supervisor, FILES, 3):
        client = subprocess.Popen(
            [sys.executable, "-c", script],
            stdout=subprocess.PIPE,
            text=True,
        )
        before, began = seconds_of_work(supervisor), time.monotonic()
        with contextlib.suppress(subprocess.TimeoutExpired):
            client.wait(1.0)
        spent, passed = seconds_of_work(supervisor) - before, time.monotonic() - began

    assert client.communicate(timeout=20)[0] == "in\n"
    assert spent < passed / 2


def seconds_of_work(pid: int) -> float:
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize(
    ("number", "remedy"),
    [(errno.EAGAIN, "ulimit -u"), (errno.ENOMEM, "short of memory"), (errno.ENOSPC, "make room")],
)
def test_a_start_that_fails_for_want_of_something_says_what_to_do_and_may_be_tried_again(number, remedy) -> None:
    found = why_not("/bin/agent", OSError(number, os.strerror(number)))

    assert found.passing and str(found).startswith("program /bin/agent could not be started: ") and remedy in str(found)


def test_f13_a_fault_that_comes_back_for_days_does_not_fill_the_disk_with_what_is_said_of_it(tmp_path: Path) -> None:
    log = tmp_path / "supervisor.log"
    paths = f"import sys; sys.path[:0] = {sys.path!r}; from orchestrator_app.executors.complaints import complain"
    code = f"{paths}\nfor n in range(30_000): complain(str(n) + ' ' + 'x' * 99)"

    with log.open("ab") as errors:
        subprocess.run([sys.executable, "-c", code], stderr=errors, check=True)

    assert log.stat().st_size < 2 * LIMIT
    assert log.read_text().splitlines()[-1].split()[3] == "29999"
