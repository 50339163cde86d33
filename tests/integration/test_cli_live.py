"""What goes on until it is ended: --watch, events -f, logs -f, wait; in pipes, on terminals, through a restart."""

from __future__ import annotations

import itertools
import json
import os
import pty
import re
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cli_kit import ORCH, Server, assert_one_line, environment, has_a_socket, make_project, run

Wait = Callable[..., Any]
PICTURE, BACK = b"\x1b[?1049h", b"\x1b[?1049l"


class Following:
    """`orch ARGUMENTS` as a process that goes on, and the lines that it has written so far."""

    def __init__(self, root: Path, *arguments: str) -> None:
        self.popen = subprocess.Popen(
            [*ORCH, *arguments], cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
        )
        self.out: list[str] = []
        self.err: list[str] = []
        self._readers = [
            threading.Thread(target=lines.extend, args=(pipe,), daemon=True)
            for lines, pipe in ((self.out, self.popen.stdout), (self.err, self.popen.stderr))
        ]
        for reader in self._readers:
            reader.start()

    @property
    def objects(self) -> list[Any]:
        return [json.loads(line) for line in self.out]

    def end(self, number: int = signal.SIGINT) -> int:
        """How it exits when it gets this signal, or by itself before."""
        self.popen.send_signal(number)
        self.close()
        return self.popen.returncode

    def close(self) -> None:
        """Wait for its end, and for all that it wrote."""
        self.popen.wait(60)
        for reader, pipe in zip(self._readers, (self.popen.stdout, self.popen.stderr), strict=True):
            reader.join(60)
            pipe.close()


@contextmanager
def following(root: Path, *arguments: str) -> Iterator[Following]:
    process = Following(root, *arguments)
    try:
        yield process
    finally:
        process.popen.kill()
        process.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(make_project(tmp_path_factory.mktemp("live") / "work"))
    server.ok("pause", "--dispatch")
    server.ok("submit", "first", "-p", "exit 0")
    yield server
    server.end()


def test_watch_in_a_pipe_writes_a_block_when_something_has_changed_and_only_then(
    server: Server, wait_until: Wait
) -> None:
    with (
        following(server.root, "ls", "--watch") as blocks,
        following(server.root, "ls", "-w", "--json") as lines,
        following(server.root, "ls", "-w", "--json", "--status", "cancelled") as few,
    ):
        wait_until(lambda: len(blocks.out) == 2 and len(lines.out) == 1 and len(few.out) == 1)
        server.ok("submit", "watched", "-p", "exit 0 # \x1b[31m")
        wait_until(lambda: len(lines.out) == 2)
        server.ok("resume", "--dispatch")
        server.ok("wait", "first", "watched", "--timeout", "60")
        wait_until(lambda: [unit["status"] for unit in lines.objects[-1]] == ["DONE", "DONE"])
        wait_until(lambda: sum(" DONE " in line for line in blocks.out[-3:]) == 2)
        server.ok("pause", "--dispatch")
        server.ok("submit", "withdrawn", "-p", "exit 0")
        server.ok("cancel", "withdrawn")
        wait_until(lambda: len(few.out) > 1 and few.objects[-1])
        ends = blocks.end(), lines.end(), few.end()

    assert ends == (130, 130, 130)
    assert [[unit["name"] for unit in line] for line in few.objects] == [[], ["withdrawn"]]
    assert (blocks.err, lines.err) in ((["\n"], ["\n"]), ([], []))
    assert [unit["name"] for unit in lines.objects[0]] == ["first"]
    told = "".join(blocks.out)
    assert "\x1b" not in told and told.split("\n\n")[0].splitlines()[0].startswith("NAME")
    changes = lines.objects
    assert all(one != other for one, other in itertools.pairwise(changes))


def test_watch_of_ps_status_and_attention_shows_what_comes_and_goes(server: Server, wait_until: Wait) -> None:
    gate = server.root / "asked"
    script = f"while [ ! -e {gate} ]; do sleep 0.05; done; $ORCH emit ask --question 'Which \x1b]0;x\x07?'"
    with (
        following(server.root, "ps", "-w", "--json") as ps,
        following(server.root, "status", "-w", "--json") as status,
        following(server.root, "attention", "-w") as attention,
    ):
        wait_until(lambda: ps.out and status.out and attention.out)
        server.ok("submit", "asks", "-p", script)
        server.ok("resume", "--dispatch")
        wait_until(lambda: any(unit["name"] == "asks" for unit in ps.objects[-1]))
        wait_until(lambda: status.objects[-1]["counts"]["RUNNING"] == 1)
        gate.touch()
        wait_until(lambda: any("Which" in line for line in attention.out))
        wait_until(lambda: ps.objects[-1] == [] and status.objects[-1]["attention"] == 1)
        server.ok("cancel", "asks")
        wait_until(lambda: attention.out[-1] == "nothing needs attention\n")
        server.ok("pause", "--dispatch")
        assert [each.end() for each in (ps, status, attention)] == [130, 130, 130]

    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f]", "".join(attention.out))


@pytest.mark.parametrize("end", ["orch stop", "kill -9"])
def test_all_that_follows_goes_on_through_a_restart_and_loses_and_doubles_nothing(
    tmp_path: Path, wait_until: Wait, end: str
) -> None:
    server = Server(make_project(tmp_path / "work"))
    gate = server.root / "gate"
    script = f"echo before; while [ ! -e {gate} ]; do sleep 0.05; done; echo after"
    again = None
    try:
        server.ok("submit", "long", "-p", script)
        server.ok("wait", "long", "--for", "RUNNING", "--timeout", "60")
        with (
            following(server.root, "events", "-f", "--json", "--since", "0") as events,
            following(server.root, "ls", "-w", "--json") as watch,
            following(server.root, "logs", "-f", "long") as logs,
            following(server.root, "wait", "long") as wait,
        ):
            wait_until(lambda: events.out and watch.out and logs.out == ["before\n"])
            wait_until(lambda: has_a_socket(wait.popen.pid))
            if end == "orch stop":
                server.stop("--json")  # its attempts go on
            else:
                server.popen.kill()
            server.popen.wait(60)
            wait_until(lambda: events.err and watch.err and logs.err)
            again = Server(server.root)
            gate.touch()
            again.ok("wait", "long", "--timeout", "60")
            again.ok("submit", "second", "-p", "exit 0")
            again.ok("wait", "second", "--timeout", "60")
            head = again.json("status")["seq"]
            wait_until(lambda: events.objects[-1]["seq"] == head)
            wait_until(lambda: [unit["status"] for unit in watch.objects[-1]] == ["DONE", "DONE"])
            assert (wait.popen.wait(60), logs.popen.wait(60)) == (0, 0)
            assert (events.end(), watch.end()) == (130, 130)
        everything = [
            record["seq"] for record in map(json.loads, again.ok("events", "--since", "0", "--json").split("\n")[:-1])
        ]
    finally:
        (again or server).end()

    assert [record["seq"] for record in events.objects] == everything == list(range(1, head + 1))
    assert logs.out == ["before\n", "after\n"]
    assert wait.out == ["1 unit DONE\n"]
    gone, back = events.err[:2]
    assert "is gone; waiting for it to come back" in gone and back == "orch: it is back\n"


def test_following_begins_only_where_a_server_runs(tmp_path: Path) -> None:
    root = make_project(tmp_path / "work")

    for arguments in (
        ("ls", "-w"),
        ("ps", "-w"),
        ("status", "-w"),
        ("attention", "-w"),
        ("events", "-f"),
        ("wait", "x"),
    ):
        assert_one_line(run(root, *arguments), 3, "orch serve")


class Terminal:
    """`orch ARGUMENTS` on a terminal of its own: what it has drawn, and the keys that are pressed."""

    def __init__(self, root: Path, *arguments: str, **env: str) -> None:
        self.pid, self._file = pty.fork()
        if self.pid == 0:
            try:
                os.chdir(root)
                os.execve(ORCH[0], [*ORCH, *arguments], environment(TERM="xterm", COLUMNS="70", LINES="8", **env))
            finally:
                os._exit(127)
        self.seen = b""

    def until(self, condition: Callable[[bytes], object]) -> None:
        deadline = time.monotonic() + 60
        while not condition(self.seen):
            assert time.monotonic() < deadline, self.seen
            if select.select([self._file], [], [], 0.1)[0]:
                try:
                    self.seen += os.read(self._file, 65536)
                except OSError:  # it has ended
                    assert condition(self.seen), self.seen

    def press(self, key: bytes) -> None:
        os.write(self._file, key)

    def code(self) -> int:
        """Its exit code, and all that it wrote."""
        while True:
            try:
                part = os.read(self._file, 65536)
            except OSError:
                break
            if not part:
                break
            self.seen += part
        os.close(self._file)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def test_watch_on_a_terminal_is_one_picture_that_ctrl_c_ends_and_leaves_on_the_screen(server: Server) -> None:
    server.ok("submit", "pictured", "-p", "exit 0 # " + "x" * 200)
    terminal = Terminal(server.root, "ls", "--status", "ready", "--watch")
    terminal.until(lambda seen: b"pictured" in seen)
    first = len(terminal.seen)
    server.ok("submit", "redrawn", "-p", "exit 0")
    terminal.until(lambda seen: b"redrawn" in seen[first:])
    terminal.until(lambda seen: seen[first:].count(b"\x1b[H") >= 2)  # its times go on without a change
    terminal.press(b"\x03")
    code = terminal.code()
    server.ok("cancel", "pictured", "redrawn")

    assert code == 130
    assert terminal.seen.startswith(PICTURE) and terminal.seen.count(PICTURE) == terminal.seen.count(BACK) == 1
    left = terminal.seen.split(BACK)[1]
    assert b"pictured" in left and b"redrawn" in left and b"Traceback" not in terminal.seen


def test_a_picture_with_more_lines_than_the_terminal_says_how_to_go_on_and_is_put_away_when_it_is_terminated(
    server: Server,
) -> None:
    server.ok("import", "-", stdin=json.dumps([{"name": f"high-{number:02}"} for number in range(30)]))
    terminal = Terminal(server.root, "ls", "-w")
    terminal.until(lambda seen: b"high-00" in seen)
    os.kill(terminal.pid, signal.SIGTERM)
    code = terminal.code()
    server.ok("cancel", *(f"high-{number:02}" for number in range(30)))

    assert code == 143
    frame = terminal.seen.split(b"\x1b[H")[1].split(BACK)[0]
    assert frame.count(b"\r\n") < 8 and "… and more than fits here".encode() in frame
    assert terminal.seen.count(BACK) == 1 and b"\x1b[?25h" in terminal.seen


def test_a_wait_on_a_terminal_says_what_it_waits_for_and_a_patient_one_goes_on_through_a_question(
    server: Server,
) -> None:
    server.ok("submit", "held", "-p", "$ORCH emit ask --question 'Red or blue?'; exit 0", "--label", "x")
    terminal = Terminal(server.root, "wait", "held", "--patient", "--for", "done,cancelled")
    terminal.until(lambda seen: b"0 of 1 DONE or CANCELLED" in seen and b"held READY" in seen)
    server.ok("resume", "--dispatch")
    terminal.until(lambda seen: b"orch: held is NEEDS_ATTENTION: held asks: Red or blue?" in seen)
    server.ok("cancel", "held")
    code = terminal.code()
    server.ok("pause", "--dispatch")

    assert code == 0
    assert b"1 unit \x1b[32mDONE or CANCELLED\x1b[0m" in terminal.seen


def test_a_wait_for_one_of_several_statuses_says_which_in_json(server: Server) -> None:
    server.ok("submit", "gone", "-p", "exit 0")
    server.ok("cancel", "gone")

    answer = server.json("wait", "gone", "--for", "done,CANCELLED")

    assert answer == {"reached": True, "for": "DONE,CANCELLED", "units": {"gone": "CANCELLED"}}
    assert_one_line(server.orch("wait", "gone", "--for", "done,sleepy"), 2, "sleepy")


def test_a_watch_whose_reader_has_had_enough_ends_at_the_next_change(server: Server) -> None:
    command = f"set -o pipefail; {' '.join(ORCH)} ls -w --json | head -1"
    with subprocess.Popen(
        ["bash", "-c", command], cwd=server.root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    ) as pipe:
        assert json.loads(pipe.stdout.readline())
        server.ok("submit", "last-straw", "-p", "exit 0")
        _, told = pipe.communicate(timeout=60)

    assert (pipe.returncode, told) == (141, b"")
