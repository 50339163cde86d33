"""The local executor: stops, time limits and what is left behind reach every descendant, and nobody else."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
from executor_kit import Rig, marked, new_mark, zombies_below

ESCAPES = {
    "a plain child": "subprocess.Popen(['sleep', MARK])",
    "a session of its own": "subprocess.Popen(['sleep', MARK], start_new_session=True)",
    "a double fork": """
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execvp('sleep', ['sleep', MARK])
    os._exit(0)
""",
    "a double fork without environment": """
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.closerange(0, 64)
        os.execve('/usr/bin/env', ['env', '-i', '/bin/sleep', MARK], {})
    os._exit(0)
""",
    "deaf to TERM": """
subprocess.Popen([sys.executable, '-S', '-c',
    'import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(1000) # ' + MARK], start_new_session=True)
""",
    "nohup": "subprocess.Popen(['nohup', 'sleep', MARK], start_new_session=True, stdin=subprocess.DEVNULL)",
    "stopped": "os.kill(subprocess.Popen(['sleep', MARK], start_new_session=True).pid, 19)",
    "hopping from pid to pid": """
if os.fork() == 0:
    os.setsid()
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if os.fork():
            os._exit(0)
        time.sleep(0.002)
    os._exit(0)
""",
}


@pytest.fixture
def rig(tmp_path: Path):
    rig = Rig(tmp_path / "state").open()
    yield rig
    rig.finish()


def agent(mark: str, escapes: list[str], then: str) -> str:
    return f"import os, signal, subprocess, sys, time\nMARK = {mark!r}\n" + "\n".join(escapes) + f"\n{then} # {mark}\n"


def up(rig: Rig, mark: str, count: int) -> None:
    rig.until(lambda: len(marked(mark)) >= count, "the agent's processes")


@pytest.mark.parametrize("escape", ESCAPES)
def test_a18_a_stopped_attempt_leaves_no_descendant(rig: Rig, escape: str) -> None:
    mark = new_mark()
    rig.python("unit", agent(mark, [ESCAPES[escape]], "time.sleep(1000)"))
    up(rig, mark, 2)

    rig.executor.stop("unit", 1, 0.3)

    end = rig.end("unit")
    assert (end.why, end.signal) == ("stop", signal.SIGTERM)
    assert marked(mark) == []


def test_a18_f15_a_stopped_attempt_with_every_kind_of_escape_leaves_no_descendant_and_no_zombie(rig: Rig) -> None:
    mark = new_mark()
    deaf = "signal.signal(15, signal.SIG_IGN)\nprint('deaf', flush=True)\ntime.sleep(1000)"
    rig.python("unit", agent(mark, list(ESCAPES.values()), deaf))
    up(rig, mark, 8)
    rig.until(lambda: rig.output("unit") == b"deaf\n")

    rig.executor.stop("unit", 1, 0.3)

    end = rig.end("unit")
    assert (end.why, end.signal, end.code) == ("stop", signal.SIGKILL, None)
    assert marked(mark) == []
    assert [zombies_below(keeper) for keeper in rig.keepers()] == [[]]


BOMB = """
signal.signal(15, signal.SIG_IGN)
os.set_inheritable(1, False)
for number in range(24):
    if os.fork() == 0:
        while True:
            if os.fork():
                os._exit(0)
            os.setsid()
"""


def test_a18_f15_processes_that_fork_without_pause_while_they_are_killed_are_all_ended(rig: Rig) -> None:
    mark = new_mark()
    rig.python("unit", agent(mark, [BOMB], "print('lit', flush=True); time.sleep(1000)"))
    rig.until(lambda: rig.output("unit") == b"lit\n")

    rig.executor.stop("unit", 1, 0.1)

    end = rig.end("unit")
    assert (end.why, end.signal) == ("stop", signal.SIGKILL) and "left" not in end.message
    assert marked(mark) == []
    assert [zombies_below(keeper) for keeper in rig.keepers()] == [[]]


def test_a18_f12_a_time_limit_reaches_every_kind_of_escape(rig: Rig) -> None:
    mark = new_mark()
    code = agent(mark, list(ESCAPES.values()), "print('all', flush=True)\ntime.sleep(1000)")
    rig.python("unit", code, timeout=1.5, grace=0.2)

    end = rig.end("unit")

    assert (end.why, rig.output("unit")) == ("timeout", b"all\n")
    assert marked(mark) == []
    assert [zombies_below(keeper) for keeper in rig.keepers()] == [[]]


def test_an_agent_that_heeds_term_may_tidy_up_and_is_still_reported_as_stopped(rig: Rig) -> None:
    rig.start("unit", "sh", "-c", "trap 'echo tidy; exit 0' TERM; echo ready; while :; do sleep 0.05; done")
    rig.until(lambda: rig.output("unit") == b"ready\n")

    rig.executor.stop("unit", 1, 20.0)

    end = rig.end("unit")
    assert (end.why, end.code, end.signal) == ("stop", 0, None)
    assert rig.output("unit").endswith(b"tidy\n")


def test_f12_an_attempt_beyond_its_time_limit_is_asked_then_killed(rig: Rig) -> None:
    rig.python(
        "unit",
        "import signal, time; signal.signal(15, lambda *_: print('no', flush=True))\nwhile True: time.sleep(1)",
        timeout=0.3,
        grace=0.3,
    )

    end = rig.end("unit")

    assert (end.why, end.signal) == ("timeout", signal.SIGKILL)
    assert "limit of 0.3 s" in end.message
    assert rig.output("unit") == b"no\n"


def test_an_attempt_that_ends_within_its_limit_is_not_touched(rig: Rig) -> None:
    rig.start("unit", "sh", "-c", "sleep 0.1; exit 4", timeout=20.0)

    assert (rig.end("unit").code, rig.end("unit").why) == (4, "exit")


def test_a_stop_right_behind_the_start_is_not_lost(rig: Rig) -> None:
    for number in range(10):
        rig.start(f"unit{number}", "sleep", "1000")
        rig.executor.stop(f"unit{number}", 1, 5.0)

    assert {rig.end(f"unit{number}").why for number in range(10)} == {"stop"}


def test_a_second_stop_shortens_the_grace(rig: Rig) -> None:
    rig.python(
        "unit", "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(1000)"
    )
    rig.until(lambda: rig.output("unit") == b"up\n")

    rig.executor.stop("unit", 1, 1000.0)
    rig.executor.stop("unit", 1, 0.0)

    assert rig.end("unit").signal == signal.SIGKILL


def test_stopping_what_is_unknown_or_over_does_nothing(rig: Rig) -> None:
    rig.start("unit", "true")
    rig.end("unit")

    rig.executor.stop("unit", 1, 0.0)
    rig.executor.stop("nobody", 7, 0.0)
    rig.start("next", "sh", "-c", "sleep 0.1; exit 5")

    assert (rig.end("next").code, rig.end("next").why) == (5, "exit")


def test_a_stop_reaches_one_attempt_and_not_its_neighbours(rig: Rig) -> None:
    one, other = new_mark(), new_mark()
    rig.start("one", "sleep", one)
    rig.start("other", "sleep", other)
    up(rig, one, 1)
    up(rig, other, 1)

    rig.executor.stop("one", 1, 5.0)

    rig.end("one")
    assert marked(one) == [] and len(marked(other)) == 1


def test_f15_what_a_finished_attempt_left_behind_is_ended_and_counted(rig: Rig) -> None:
    mark = new_mark()
    rig.start("unit", "sh", "-c", f"sleep {mark} & setsid sleep {mark} & exit 3")

    end = rig.end("unit")

    assert (end.why, end.code, end.leftovers) == ("exit", 3, 2)
    assert marked(mark) == []


def test_f14_completion_is_the_exit_and_not_the_end_of_output(rig: Rig) -> None:
    rig.python(
        "unit",
        "import os, signal, time\nif os.fork(): os._exit(0)\nsignal.signal(15, signal.SIG_IGN)\ntime.sleep(1000)",
        grace=0.2,
    )

    assert (rig.end("unit").code, rig.end("unit").leftovers) == (0, 1)


def test_f15_orphans_that_end_while_the_agent_runs_do_not_stay_as_zombies(rig: Rig) -> None:
    rig.start("unit", "sh", "-c", "for i in 1 2 3 4 5; do (sh -c 'exit 1' &) ; done; echo made; exec sleep 1000")
    rig.until(lambda: rig.output("unit") == b"made\n")

    rig.until(lambda: [zombies_below(keeper) for keeper in rig.keepers()] == [[]], "zombies to be reaped")

    rig.executor.stop("unit", 1, 5.0)
    assert rig.end("unit").leftovers == 0


def test_the_keeper_is_used_again_after_a_kill(rig: Rig) -> None:
    rig.start("first", "sleep", "1000")
    rig.executor.stop("first", 1, 5.0)
    rig.end("first")
    before = rig.keepers()

    rig.start("second", sys.executable, "-S", "-c", "import os; print(os.getppid())")

    assert rig.end("second").code == 0
    assert [int(rig.output("second"))] == before == rig.keepers()


def test_f12_a_frozen_agent_does_not_escape_its_time_limit(rig: Rig) -> None:
    rig.start("unit", "sh", "-c", "kill -STOP $$", timeout=0.2, grace=5.0)

    assert (rig.end("unit").why, rig.end("unit").signal) == ("timeout", signal.SIGTERM)


def test_term_reaches_an_agent_once(rig: Rig) -> None:
    rig.python(
        "unit",
        "import signal, sys, time\n"
        "def heard(*_):\n    print('TERM', flush=True); time.sleep(0.2); sys.exit(0)\n"
        "signal.signal(15, heard); print('up', flush=True); time.sleep(1000)",
    )
    rig.until(lambda: rig.output("unit") == b"up\n")

    rig.executor.stop("unit", 1, 20.0)
    rig.executor.stop("unit", 1, 20.0)

    rig.end("unit")
    assert rig.output("unit") == b"up\nTERM\n"
    assert os.path.exists(rig.run_dir("unit") / "exit.json")
