"""How much an attempt writes and holds is bounded by its keeper, whatever the agent does."""

from __future__ import annotations

import random
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from executor_kit import Rig

from orchestrator_app.executors.base import Exited
from orchestrator_app.executors.processes import Process, age, read
from orchestrator_app.model import Unit
from orchestrator_app.policy import outcome
from orchestrator_app.settings import load_project
from orchestrator_app.states import Trigger

LIMIT = 1 << 20
MARK = re.compile(rb"\n\xe2\x80\xa6 ([0-9]+) bytes of output were not kept \xe2\x80\xa6\n")


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path / "state")
    rig.state.mkdir(mode=0o700)
    rig.open()
    yield rig
    rig.finish()


def peak(pid: int) -> int:
    """The most that a process ever held in memory, in bytes."""
    (line,) = [row for row in Path(f"/proc/{pid}/status").read_text().splitlines() if row.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


def test_f13_of_a_flood_the_beginning_and_the_end_are_kept_and_how_much_is_missing_is_said(rig: Rig) -> None:
    rig.start("a", "seq", "1", "6000000", output_limit=LIMIT)
    assert rig.end("a").code == 0

    output = rig.output("a")

    assert len(output) <= LIMIT
    assert output.startswith(b"1\n2\n3\n") and output.endswith(b"\n5999999\n6000000\n")
    (mark,) = MARK.findall(output)
    head, tail = MARK.split(output)[0], MARK.split(output)[2]
    assert len(head) > LIMIT / 10 and len(tail) > LIMIT / 10
    assert int(mark) > 40_000_000  # of 48 MB; what was written in the moment of a cut counts as nothing
    assert b"\n" + head.split(b"\n")[-1] in b"\n" + b"\n".join(b"%d" % number for number in range(6_000))  # whole lines


def test_a13_and_f13_one_endless_line_costs_neither_disk_nor_memory_and_its_end_stays_live(
    rig: Rig, wait_until
) -> None:
    rig.start("a", "sh", "-c", "yes | tr -d '\\n'", output_limit=LIMIT)
    path = rig.run_dir("a") / "output.log"
    wait_until(lambda: path.exists() and MARK.search(path.read_bytes()))
    first = MARK.search(path.read_bytes())[1]

    wait_until(lambda: (found := MARK.search(path.read_bytes())) and int(found[1]) > int(first) + 100 * LIMIT)

    (keeper,) = rig.keepers()
    assert peak(keeper) < 64 << 20
    rig.executor.stop("a", 1, 0.0)
    assert rig.end("a").why == "stop"
    assert path.stat().st_size <= LIMIT


def test_output_within_the_limit_is_kept_byte_for_byte(rig: Rig) -> None:
    rig.python("a", "import os; os.write(1, bytes(range(256)) * 4000)", output_limit=LIMIT)
    rig.end("a")

    assert rig.output("a") == bytes(range(256)) * 4000


HOLD = "import os, sys, time; held = os.urandom(1 << 20) * int(sys.argv[1]); print('held', flush=True); time.sleep(600)"


def test_an_attempt_that_holds_too_much_memory_is_stopped_and_says_how_much(rig: Rig) -> None:
    rig.start("a", sys.executable, "-S", "-c", HOLD, "200", memory=100 << 20)

    end = rig.end("a")

    assert (end.why, end.code) == ("memory", None)
    assert re.fullmatch(
        r"held \d{3} MB of memory, more than its limit of 100 MB, and was ended by SIGTERM", end.message
    )


def test_what_all_processes_of_an_attempt_hold_counts_together(rig: Rig) -> None:
    both = f'for n in 1 2; do setsid "{sys.executable}" -S -c "$1" 70 & done; wait'
    rig.start("a", "sh", "-c", both, "sh", HOLD, memory=100 << 20)

    assert rig.end("a").why == "memory"


def test_an_attempt_within_its_limit_of_memory_is_left_alone(rig: Rig) -> None:
    code = HOLD.replace("600", "2.5")  # longer than two looks
    rig.start("a", sys.executable, "-S", "-c", code, "20", memory=100 << 20)

    assert (rig.end("a").why, rig.ends("a")[0].code) == ("exit", 0)


def test_too_much_memory_counts_as_a_failure_with_retries(tmp_path: Path) -> None:
    (tmp_path / "orchestrator.toml").write_text(
        '[workflow]\nisolation = "none"\nphases = ["RUN"]\n[phases.RUN]\nmemory = 1.5\n'
        '[agents.a]\ncommand = "true"\n[project]\noutput_limit = 3\n'
    )
    project = load_project(tmp_path)
    phase = project.workflows["default"].first
    said = "held 9 MB of memory, more than its limit of 1 MB, and was ended by SIGTERM"
    report = Exited("u", 1, None, 15, "memory", said, 0.0, 1.0, 0)

    first = outcome.of_exit(project, Unit("u", phase="RUN"), phase, report, 0.0, random.Random(0), "")
    last = outcome.of_exit(project, Unit("u", phase="RUN", failures=1), phase, report, 0.0, random.Random(0), "")

    assert (phase.memory, project.output_limit) == (3 << 19, 3 << 20)
    assert (first.trigger, last.trigger) == (Trigger.DEFER, Trigger.FAIL)
    assert "held 9 MB" in first.reason and "held 9 MB" in last.item["title"]


def test_f10_how_long_a_process_has_run_is_told_without_the_wall_clock() -> None:
    me: Process = read(int(Path("/proc/self").resolve().name))
    uptime = float(Path("/proc/uptime").read_text().split()[0])

    assert 0 <= age(me.starttime) <= uptime
