"""The local executor: what runs, what it gets, how its end is told."""

from __future__ import annotations

import json
import os
import signal
import stat
import threading
import time
from pathlib import Path

import pytest
from executor_kit import Rig

from orchestrator_app.errors import ExecutorError
from orchestrator_app.executors.base import Exited


@pytest.fixture
def rig(tmp_path: Path):
    rig = Rig(tmp_path / "state").open()
    yield rig
    rig.finish()


def test_an_exit_code_is_reported_as_it_was(rig: Rig) -> None:
    rig.start("good", "true")
    rig.start("bad", "sh", "-c", "exit 75")

    good, bad = rig.end("good"), rig.end("bad")

    assert (good.code, good.signal, good.why, good.message, good.leftovers) == (0, None, "exit", "", 0)
    assert (bad.code, bad.signal, bad.why) == (75, None, "exit")
    assert "75" in bad.message
    assert bad.started_at <= bad.ended_at


def test_a_death_by_signal_is_reported_with_its_number(rig: Rig) -> None:
    rig.start("shot", "sh", "-c", "kill -SEGV $$")

    end = rig.end("shot")

    assert (end.code, end.signal, end.why) == (None, signal.SIGSEGV, "exit")
    assert "SIGSEGV" in end.message


def test_output_goes_to_the_file_byte_for_byte(rig: Rig) -> None:
    rig.python(
        "noisy", r"import os; os.write(1, b'a\0\xff\xfe\n'); os.write(2, b'\x1b[31mred'); os.write(1, b'x' * 300000)"
    )

    rig.end("noisy")

    assert rig.output("noisy") == b"a\0\xff\xfe\n\x1b[31mred" + b"x" * 300000


def test_an_attempt_gets_its_directory_its_prompt_and_its_variables(rig: Rig, tmp_path: Path) -> None:
    cwd = tmp_path / "a worktree"
    cwd.mkdir()

    rig.start("unit", "sh", "-c", 'pwd; echo "$MINE"; umask', cwd=str(cwd), env={"MINE": "b c"}, prompt="do – it\n")

    assert rig.end("unit").code == 0
    umask = os.umask(0)
    os.umask(umask)
    assert rig.output("unit").decode().splitlines() == [str(cwd), "b c", f"{umask:04o}"]
    assert (rig.run_dir("unit") / "prompt.txt").read_text() == "do – it\n"
    assert sorted(p.name for p in rig.run_dir("unit").iterdir()) == [
        "attempt.json",
        "exit.json",
        "output.log",
        "prompt.txt",
    ]
    assert stat.S_IMODE(rig.run_dir("unit").stat().st_mode) == 0o700
    assert {stat.S_IMODE(p.stat().st_mode) for p in rig.run_dir("unit").iterdir()} == {0o600}


def test_the_run_directory_tells_what_ran_and_how_it_ended(rig: Rig) -> None:
    rig.start("unit", "sh", "-c", "exit 3", timeout=60.0)

    end = rig.end("unit")

    spec, keeper, agent = map(json.loads, (rig.run_dir("unit") / "attempt.json").read_text().splitlines())
    assert (spec["unit"], spec["attempt"], spec["phase"], spec["timeout"]) == ("unit", 1, "IMPLEMENT", 60.0)
    assert spec["argv"] == ["sh", "-c", "exit 3"]
    assert keeper["keeper"] != agent["pid"] and keeper["boot_id"]
    assert Exited("unit", 1, **json.loads((rig.run_dir("unit") / "exit.json").read_text())) == end


def test_agents_inherit_the_servers_environment_but_nothing_meant_for_the_server(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("ORCH_TOKEN", "secret")
    monkeypatch.setenv("OF_THE_USER", "kept")
    rig = Rig(tmp_path / "state").open()

    rig.start("unit", "env")

    assert rig.end("unit").code == 0
    assert b"OF_THE_USER=kept" in rig.output("unit")
    assert b"ORCH_TOKEN" not in rig.output("unit")
    rig.finish()


def test_a_server_that_comes_back_with_another_environment_passes_on_the_new_one(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("API_KEY", "old")
    first = Rig(tmp_path / "state").open()
    first.start("before", "true")
    first.end("before")
    first.finish()

    monkeypatch.setenv("API_KEY", "new")
    second = first.reopen()
    second.start("after", "sh", "-c", "echo $API_KEY")

    second.end("after")
    assert second.output("after") == b"new\n"
    second.finish()


def test_signals_that_the_server_ignores_are_not_ignored_by_agents(rig: Rig) -> None:
    rig.start("unit", "sh", "-c", "grep SigIgn /proc/self/status; grep SigBlk /proc/self/status")

    rig.end("unit")

    ignored, blocked = (int(line.split()[1], 16) for line in rig.output("unit").splitlines())
    own_to_the_c_library = 1 << 31 | 1 << 32
    assert (ignored & ~own_to_the_c_library, blocked) == (0, 0)


@pytest.mark.parametrize(
    ("argv", "changes", "said"),
    [
        (("no-such-program",), {}, "program no-such-program was not found on the PATH"),
        (("/no/such/program",), {}, "program /no/such/program was not found"),
        (("./plain",), {}, "program ./plain is not executable"),
        (("./empty-head",), {}, "program ./empty-head is nothing this machine can run"),
        (("./wrong-head",), {}, "not the interpreter its first line names"),
        ((), {}, "the command is empty"),
        (("true",), {"cwd": "/no/such/place"}, "the working directory /no/such/place can't be entered"),
        (("true", "x" * 3_000_000), {}, "more arguments and environment than fit"),
        (("true", "a\0b"), {}, "could not be started: embedded null byte"),
        (("true", "\ud800"), {}, "can't be passed to a program"),
        (("true",), {"env": {"PATH": "/no/such/bin"}}, "program true was not found on the PATH"),
    ],
)
def test_what_cant_be_started_says_so_in_one_line(rig: Rig, argv, changes, said) -> None:
    for name, mode, text in (
        ("plain", 0o600, ""),
        ("empty-head", 0o700, "text"),
        ("wrong-head", 0o700, "#!/no/such\n"),
    ):
        (rig.cwd / name).write_text(text)
        (rig.cwd / name).chmod(mode)

    rig.start("unit", *argv, **changes)

    end = rig.end("unit")
    assert (end.why, end.code, end.signal) == ("spawn", None, None)
    assert said in end.message and "\n" not in end.message
    assert json.loads((rig.run_dir("unit") / "exit.json").read_text())["why"] == "spawn"


def test_a_program_is_looked_up_on_the_path_of_its_own_environment(rig: Rig, tmp_path: Path) -> None:
    program = tmp_path / "bin" / "only-here"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho found\n")
    program.chmod(0o755)

    rig.start("unit", "only-here", env={"PATH": str(program.parent)})

    assert rig.end("unit").code == 0
    assert rig.output("unit") == b"found\n"


def test_a_keeper_survives_the_loss_of_the_directory_it_worked_in(rig: Rig, tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    rig.start("first", "rmdir", str(place), cwd=str(place))
    assert rig.end("first").code == 0

    rig.start("second", "pwd")

    assert rig.end("second").code == 0


def test_an_attempt_is_never_started_twice(rig: Rig) -> None:
    rig.start("unit", "sh", "-c", "echo once")
    rig.end("unit")
    before = (rig.run_dir("unit") / "exit.json").read_bytes()
    rig.reports.clear()

    rig.start("unit", "sh", "-c", "echo twice")

    end = rig.end("unit")
    assert end.why == "spawn" and "already holds an attempt" in end.message
    assert rig.output("unit") == b"once\n"
    assert (rig.run_dir("unit") / "exit.json").read_bytes() == before


def test_many_attempts_at_once_are_each_reported_exactly_once(rig: Rig) -> None:
    left = [rig.spec(f"unit{n}", "true") for n in range(200)]
    seen: list[str] = []
    rig.executor.start([left.pop() for _ in range(8)])

    while len(seen) < 200:
        reports = rig.executor.wait(30)
        assert reports, f"only {len(seen)} were reported"
        assert all(isinstance(report, Exited) and report.code == 0 for report in reports)
        seen += [report.unit for report in reports]
        rig.executor.start([left.pop() for _ in reports if left])

    assert sorted(seen) == sorted(f"unit{n}" for n in range(200))
    assert rig.executor.wait(0) == []
    assert len(rig.keepers()) == 8


def test_wake_ends_a_wait_from_another_thread(rig: Rig) -> None:
    threading.Timer(0.05, rig.executor.wake).start()

    assert rig.executor.wait(None) == []


def test_a_wake_before_the_wait_is_not_lost(rig: Rig) -> None:
    rig.executor.wake()
    rig.executor.wake()

    assert rig.executor.wait(None) == []


def test_wait_returns_after_its_timeout(rig: Rig) -> None:
    started = time.monotonic()

    assert rig.executor.wait(0.05) == []

    assert time.monotonic() - started >= 0.05


def test_a_state_path_longer_than_a_socket_name_works(tmp_path: Path) -> None:
    rig = Rig(tmp_path / ("long" * 30) / ("longer" * 20) / "state").open()

    rig.cwd = tmp_path
    rig.start("unit", "true")

    assert rig.end("unit").code == 0
    rig.finish()


def test_a_second_executor_on_the_same_state_is_refused_and_told_who_holds_it(rig: Rig) -> None:
    with pytest.raises(ExecutorError, match=f"process {os.getpid()} already runs the attempts"):
        Rig(rig.state).open()

    rig.start("unit", "true")
    assert rig.end("unit").code == 0


def test_a_state_that_cant_be_written_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file, not a directory")

    with pytest.raises(ExecutorError, match="can't be used for runs"):
        Rig(tmp_path / "state").open()


def test_the_supervisor_ends_when_no_server_needs_it(rig: Rig, wait_until) -> None:
    rig.start("unit", "true")
    rig.end("unit")
    assert rig.keepers()

    rig.finish()

    wait_until(lambda: not rig.processes(), what="the supervisor and its keepers to end")
    assert rig.log() == ""
