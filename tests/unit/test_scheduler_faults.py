"""What the scheduler does when the world misbehaves: clocks that are set, silence, a full disk, its own errors."""

from __future__ import annotations

import os
import threading
import time
from collections import namedtuple

import pytest
from scheduler_world import World

from orchestrator_app import disk, scheduler
from orchestrator_app.orchestrator import Orchestrator
from orchestrator_app.states import Status
from orchestrator_app.stopping import Stop
from orchestrator_app.testing import assert_consistent

DAY = 86_400.0
Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def make(tmp_path):
    made = []

    def make(**options) -> World:
        made.append(World(tmp_path, **options))
        return made[-1]

    yield make
    for world in made:
        assert_consistent(world.orchestrator.log, world.board, world.subscriber)
        world.orchestrator.log.close()


def writes(world: World, unit: str) -> None:
    """The unit's attempt writes something, now by the wall clock."""
    path = world.orchestrator.project.state / "runs" / unit / str(world.board.row(unit).attempt) / "output.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("compiling\nlinking\n")
    os.utime(path, (world.wall(), world.wall()))


# -- the clock


@pytest.mark.parametrize("by", [DAY, -DAY])
def test_f10_a_wait_is_as_long_as_it_was_to_be_though_the_clock_is_set(make, by):
    world = make()
    world.submit("a")
    world.exits("a", 75)

    world.set_by = by
    world.step(9)
    assert world.status("a") is Status.READY
    world.ask("edit", "a", set={"priority": 3})
    assert world.status("a") is Status.READY
    world.step(2)

    assert world.status("a") is Status.RUNNING
    assert world.board.row("a").attempt == 2


@pytest.mark.parametrize("by", [DAY, -DAY])
@pytest.mark.parametrize("quiet", [5, 590])
def test_f10_no_attempt_is_called_silent_because_the_clock_was_set(make, by, quiet):
    world = make()
    world.submit("a")
    world.step(600 - quiet)
    writes(world, "a")

    world.step(quiet / 2)
    world.set_by = by
    world.step(quiet / 2 + 5)
    assert world.status("a") is Status.RUNNING
    world.step(599 - 5 - quiet)
    assert world.status("a") is Status.RUNNING

    world.step(700)
    assert world.item.kind == "stall"


@pytest.mark.parametrize("by", [DAY, -DAY])
def test_f10_an_attempt_of_an_earlier_server_is_measured_by_its_words_in_the_log(make, by):
    world = make()
    world.set_by = by
    world.submit("a")
    world.step(500)
    world.says("a", type="heartbeat")

    world.scheduler._silence.forget("a")  # what a new process knows of it
    world.scheduler.recover()
    world.step(599)
    assert world.status("a") is Status.RUNNING
    world.step(2)

    assert world.item.kind == "stall"


def test_f10_the_log_goes_by_the_wall_clock_and_stays_in_order(make):
    world = make()
    world.submit("a")
    world.set_by = -DAY
    world.exits("a")

    rows = world.orchestrator.rows("SELECT trigger, occurred_at FROM transition ORDER BY seq")

    assert [row["trigger"] for row in rows] == ["submit", "start", "finish"]
    assert (rows[1]["occurred_at"] - rows[2]["occurred_at"]).total_seconds() == DAY


def test_f11_time_that_the_machine_was_asleep_counts_as_none(make, monkeypatch):
    world = make()
    world.submit("a", "b")
    world.exits("b", 75)

    world.set_by = 8 * 3600  # asleep, the wall clock goes on and the steady one does not
    world.step(1)

    assert (world.status("a"), world.status("b")) == (Status.RUNNING, Status.READY)
    world.step(10)
    assert world.status("b") is Status.RUNNING


def test_f11_without_a_clock_of_its_own_the_scheduler_goes_by_one_that_stands_still_in_sleep(tmp_path):
    world = World(tmp_path)
    world.orchestrator.log.close()

    assert Orchestrator(world.orchestrator.project)._clock is time.monotonic


# -- silence


def test_f12_what_a_silent_attempt_last_did_stands_in_the_item(make):
    world = make()
    world.submit("a")
    world.says("a", type="progress", step="running the tests")
    writes(world, "a")

    world.step(601)

    assert "running the tests" in world.item.text and "linking" in world.item.text


def test_f12_a_silent_attempt_is_restarted_where_the_settings_say_so_and_goes_to_a_person_when_that_does_not_help(make):
    world = make(on_stall="restart")
    world.submit("a")
    for attempt in (1, 2):
        world.step(601)
        assert world.executor.stopped == [("a", attempt)]
        world.executor.ends_as_told()
        world.step()
        assert world.status("a") is Status.READY and "silent for 60" in world.board.row("a").reason
        world.step(100)
        assert (world.status("a"), world.board.row("a").attempt) == (Status.RUNNING, attempt + 1)

    world.step(601)

    assert (world.status("a"), world.item.kind) == (Status.NEEDS_ATTENTION, "error")
    assert world.executor.stopped == [("a", 3)]


def test_f12_the_stop_of_a_silent_attempt_is_made_up_for_after_a_crash(make):
    world = make(on_stall="restart")
    world.submit("a", retries=0)
    world.step(601)
    assert world.item.kind == "error"

    world.executor.stopped = []
    world.scheduler._stopping.clear()  # what a new process knows of it
    world.scheduler.recover()

    assert world.executor.stopped == [("a", 1)]


def test_f12_a_silent_attempt_is_cancelled_where_the_settings_say_so(make):
    world = make(on_stall="cancel")
    world.submit("a")

    world.step(601)

    assert (world.status("a"), world.executor.stopped) == (Status.CANCELLED, [("a", 1)])


# -- the disk


def test_f19_with_little_space_left_nothing_new_is_started_and_all_goes_on_by_itself_once_there_is_room(
    make, monkeypatch
):
    world = make()
    world.submit("a")
    megabytes = 100
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda path: Usage(10**12, 0, megabytes << 20))
    world.step(15)
    world.submit("b")

    assert world.running() == {"a"}
    assert "low disk space: 100 MB are free" in world.orchestrator.status()["state"]
    world.exits("a")
    assert world.status("a") is Status.DONE

    megabytes = 201
    world.step(15)
    assert world.status("b") is Status.READY  # not enough to last
    megabytes = 300
    world.step(15)

    assert world.running() == {"b"}
    assert world.orchestrator.status()["state"] == "ok"
    rows = world.orchestrator.rows("SELECT level FROM event WHERE type = 'disk' ORDER BY seq")
    assert [row["level"] for row in rows] == ["warning", "info"]


def test_f19_low_space_is_seen_while_attempts_run_and_nobody_asks(make, monkeypatch):
    world = make()
    world.submit("a")
    due = world.scheduler._next_timer(world.clock())
    assert due <= 10

    monkeypatch.setattr(disk.shutil, "disk_usage", lambda path: Usage(10**12, 0, 1 << 20))
    world.step(due)

    assert "low disk space" in world.scheduler.fault


def test_an_idle_scheduler_looks_at_nothing(make):
    world = make()
    world.step(1)

    assert world.scheduler._next_timer(world.clock()) is None


# -- its own errors


@pytest.fixture
def running(make, monkeypatch):
    """A world whose scheduler's thread runs, and rests while there is nothing to do."""
    world = make()
    woken, reports = threading.Event(), world.executor.wait

    def wait(timeout):
        if not world.executor._reports:
            woken.wait(timeout)
        woken.clear()
        return reports(timeout)

    monkeypatch.setattr(world.executor, "wait", wait)
    monkeypatch.setattr(world.executor, "wake", woken.set)
    world.scheduler.start()
    yield world
    world.scheduler.stop(Stop.LEAVE)
    assert not world.scheduler._thread.is_alive()


def test_f32_an_error_half_way_through_acting_is_said_and_made_up_for(running, wait_until, monkeypatch, caplog):
    start, broken = running.executor.start, [True]

    def start_once_broken(specs):
        if broken and broken.pop():
            raise RuntimeError("no more memory")
        start(specs)

    monkeypatch.setattr(running.executor, "start", start_once_broken)
    request = running.orchestrator.request("submit", units=[{"name": "a"}], actor="operator:ann")

    assert request.result(20)["units"] == ["a"]  # it is in the log, so it is granted
    wait_until(lambda: running.running() == {"a"})
    assert running.board.row("a").attempt == 2  # the first was committed, and never started
    wait_until(lambda: running.scheduler.fault is None)
    assert "no more memory" in caplog.text


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_f32_a_scheduler_that_died_says_so_and_takes_no_request(running, wait_until, monkeypatch):
    def die(timeout):
        raise SystemExit

    monkeypatch.setattr(running.executor, "wait", die)
    running.executor.wake()
    wait_until(lambda: not running.scheduler._thread.is_alive())

    assert "thread has died" in running.orchestrator.status()["state"]
    with pytest.raises(Exception, match="thread has died"):
        running.orchestrator.request("dispatch", paused=False, actor="operator:ann")


def test_f32_a_step_that_takes_long_is_said_while_it_lasts(running, wait_until, monkeypatch):
    monkeypatch.setattr(scheduler, "LONG_STEP", 0.0)
    seen = []
    read = running.executor.start
    monkeypatch.setattr(
        running.executor, "start", lambda specs: (seen.append(running.orchestrator.status()["state"]), read(specs))
    )

    running.orchestrator.request("submit", units=[{"name": "a"}], actor="operator:ann").result(20)

    wait_until(lambda: seen)
    assert "busy with one step" in seen[0]
    wait_until(lambda: running.orchestrator.status()["state"] == "ok")
