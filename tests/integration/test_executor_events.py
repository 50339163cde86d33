"""The local executor: what agents say in events.jsonl."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from executor_kit import Rig

from orchestrator_app.executors.base import MAX_RAW, Exited, Said
from orchestrator_app.executors.bounds import EVENTS_LIMIT, EVENTS_SPARE
from orchestrator_app.executors.events import MAX_LINE, MOST_LINES, EventReader

SAY = "import os, sys, time\nout = open(os.environ['ORCH_EVENTS'], 'ab', buffering=0)\n"


@pytest.fixture
def rig(tmp_path: Path):
    rig = Rig(tmp_path / "state").open()
    yield rig
    rig.finish()


def test_messages_arrive_while_the_agent_runs_each_once_and_in_order(rig: Rig, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    rig.python(
        "unit",
        SAY
        + "for n in range(3):\n"
        + "    out.write(b'{\"n\": %d}\\n' % n)\n"
        + f"    while not os.path.exists({str(gate)!r} + str(n)): time.sleep(0.005)\n",
    )

    for n in range(3):
        rig.until(lambda n=n: rig.said_data("unit") == [{"n": i} for i in range(n + 1)], f"message {n}")
        assert rig.ends("unit") == []
        gate.with_name(f"gate{n}").touch()

    assert rig.end("unit").code == 0
    assert rig.said_data("unit") == [{"n": 0}, {"n": 1}, {"n": 2}]
    assert [message.pos for message in rig.said("unit")] == [9, 18, 27]


def test_everything_said_is_delivered_before_the_exit(rig: Rig) -> None:
    for number in range(20):
        rig.python(f"unit{number}", SAY + "[out.write(b'{\"n\": %d}\\n' % n) for n in range(50)]")

    for number in range(20):
        rig.end(f"unit{number}")

    for number in range(20):
        mine = [report for report in rig.reports if report.unit == f"unit{number}"]
        assert isinstance(mine[-1], Exited) and all(isinstance(report, Said) for report in mine[:-1])
        assert rig.said_data(f"unit{number}") == [{"n": n} for n in range(50)]


def test_lines_that_are_no_messages_are_kept_and_explained(rig: Rig) -> None:
    lines = [
        b'{"type": "note"}',
        b"not json",
        b"[1, 2]",
        b'{"nul": "\0"}',
        b'{"a": "\xff\xfe"}',
        b"",
        b'{"n": NaN}',
        b"[" * 60000,
        b'{"n": ' + b"9" * 5000 + b"}",
        b'{"half": "\\ud800"}',
        b'{"last": true}\r',
    ]
    (rig.cwd / "lines").write_bytes(b"\n".join(lines) + b"\n")

    rig.start("unit", "sh", "-c", f"cat {rig.cwd}/lines > $ORCH_EVENTS")

    assert rig.end("unit").code == 0
    said = rig.said("unit")
    assert [message.data for message in said] == [
        {"type": "note"}, None, None, None, {"a": "��"}, None, None, None, {"half": "?"}, {"last": True},
    ]  # fmt: skip
    assert all((message.data is None) == (message.error is not None) for message in said)
    assert said[1].raw == "not json" and said[2].error == "not a JSON object but list"
    assert max(len(message.raw) for message in said) == MAX_RAW
    assert said[-1].pos == (rig.cwd / "lines").stat().st_size


def test_an_incomplete_last_line_counts_when_the_attempt_has_ended(rig: Rig) -> None:
    rig.python("unit", SAY + "out.write(b'{\"n\": 1}\\n{\"n\"'); time.sleep(0.3); out.write(b': 2}')")

    rig.end("unit")

    assert rig.said_data("unit") == [{"n": 1}, {"n": 2}]


def test_a_line_of_many_megabytes_is_one_error_and_hides_nothing_behind_it(rig: Rig) -> None:
    rig.python("unit", SAY + "out.write(b'x' * 20_000_000 + b'\\n{\"n\": 1}\\n' + b'y' * 70_000 + b'\\n{\"n\": 2}\\n')")

    rig.end("unit")

    said = rig.said("unit")
    assert [message.data for message in said] == [None, {"n": 1}, None, {"n": 2}]
    assert said[0].raw == "x" * MAX_RAW and "longer than 64 kB" in said[0].error and "longer than" in said[2].error


def test_f13_of_a_flood_of_messages_so_many_are_read_and_a_last_one_says_so(rig: Rig) -> None:
    rig.python("unit", SAY + f"out.write(b'{{}}\\n' * {MOST_LINES + 5_000})")

    rig.end("unit")

    said = rig.said("unit")
    assert [message.data for message in said] == [{}] * MOST_LINES + [None]
    assert said[-1].error == "more than 100,000 lines or 64 MB of messages: what follows is not read"
    assert EventReader(str(rig.run_dir("unit") / "events.jsonl"), said[-1].pos).read(ended=True) == ([], False)
    again = EventReader(str(rig.run_dir("unit") / "events.jsonl"), said[-3].pos)
    assert [message.data for message in again.read(ended=True)[0] + again.read(ended=True)[0]] == [{}, None]


def test_f13_messages_without_end_are_cut_off_on_the_disk_too(rig: Rig) -> None:
    rig.start(
        "unit", "sh", "-c", "(echo '{\"n\": 1}'; yes | tr -d '\\n' | head -c 90000000; echo; echo '{}') >> $ORCH_EVENTS"
    )

    rig.end("unit")

    assert rig.said_data("unit") == [{"n": 1}, None]
    assert rig.said("unit")[-1].raw.startswith("yyyy") and "not read" in rig.said("unit")[-1].error
    assert (rig.run_dir("unit") / "events.jsonl").stat().st_size <= EVENTS_LIMIT + EVENTS_SPARE


def test_a_file_that_an_agent_put_in_the_place_of_its_messages_is_not_cut(rig: Rig) -> None:
    mine = rig.cwd / "mine"
    for unit, how in (("soft", "ln -s"), ("hard", "ln")):
        with mine.open("wb") as file:
            file.truncate(EVENTS_LIMIT + EVENTS_SPARE + 1)

        rig.start(unit, "sh", "-c", f"{how} {mine} $ORCH_EVENTS; echo >> $ORCH_EVENTS")
        rig.end(unit)

        assert mine.stat().st_size == EVENTS_LIMIT + EVENTS_SPARE + 2


def test_one_wait_reads_a_bounded_bite(rig: Rig) -> None:
    rig.python("unit", SAY + "out.write(b'{}\\n' * 100_000)")

    rig.end("unit")

    assert len(rig.said("unit")) == 100_000
    assert max(len(report.messages) for report in rig.reports if isinstance(report, Said)) == 1000


def test_a_flood_of_messages_wakes_the_server_a_bounded_number_of_times(rig: Rig) -> None:
    rig.python(
        "unit",
        SAY + "end = time.monotonic() + 1\nn = 0\n"
        "while time.monotonic() < end:\n    out.write(b'{\"n\": %d}\\n' % n); n += 1; time.sleep(0.0005)\nprint(n)",
    )
    wakes = 0
    while not rig.ends("unit"):
        reports = rig.executor.wait(None)
        wakes += sum(1 for report in reports if isinstance(report, Said))
        rig.reports += reports

    count = int(rig.output("unit"))
    assert [data["n"] for data in rig.said_data("unit")] == list(range(count))
    assert count > 200 and wakes < 60


def test_output_wakes_nobody(rig: Rig) -> None:
    rig.python("unit", "import time\nfor _ in range(200): print('x' * 1000, flush=True); time.sleep(0.001)")

    reports = rig.executor.wait(None)

    assert [type(report) for report in reports] == [Exited]
    rig.reports += reports


def test_other_files_in_the_run_directory_are_no_messages(rig: Rig) -> None:
    rig.start("unit", "sh", "-c", "touch $ORCH_EVENTS.other; sleep 0.2; echo '{}' > $ORCH_EVENTS; sleep 1000")

    rig.until(lambda: rig.said_data("unit") == [{}])

    rig.executor.stop("unit", 1, 5.0)
    assert rig.end("unit").why == "stop"


@pytest.mark.parametrize("make", ["mkdir $ORCH_EVENTS", "mkfifo $ORCH_EVENTS", "ln -s /dev/zero $ORCH_EVENTS"])
def test_something_else_in_the_place_of_the_file_harms_nothing(rig: Rig, make: str) -> None:
    rig.start("unit", "sh", "-c", make)

    assert rig.end("unit").code == 0
    assert rig.said("unit") == []


def test_reading_goes_on_at_a_given_position(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"n": 0}\n{"n": 1}\n{"n": 2')

    reader = EventReader(str(path), pos=9)

    assert [message.data for message in reader.read()[0]] == [{"n": 1}]
    assert reader.read() == ([], False)
    with path.open("ab") as file:
        file.write(b"}\n")
    assert [message.data for message in reader.read()[0]] == [{"n": 2}]
    reader.close()


@pytest.mark.parametrize("size", [MAX_LINE - 2, MAX_LINE, MAX_LINE + 1, 256 * 1024 - 1, 256 * 1024, 256 * 1024 + 1])
def test_lines_around_every_limit_are_read_the_same_in_any_bites(tmp_path: Path, size: int) -> None:
    path = tmp_path / "events.jsonl"
    line = json.dumps("x" * (size - 2)).encode()
    path.write_bytes(b"{}\n" + line + b"\n{}\n" + line)
    reader = EventReader(str(path))

    messages, more = reader.read(ended=True)
    while more:
        some, more = reader.read(ended=True)
        messages += some

    ends = [3, 4 + size, 7 + size, 7 + size * 2]
    assert [message.pos for message in messages] == ends
    assert [message.data for message in messages] == [{}, None, {}, None]
    reader.close()
