"""Every command against a running server."""

from __future__ import annotations

import itertools
import json
import os
import pty
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cli_kit import ORCH, Server, assert_one_line, environment, has_a_socket, make_project

Wait = Callable[..., Any]
names = (f"unit-{number}" for number in itertools.count())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(make_project(tmp_path_factory.mktemp("cli") / "work"))
    yield server
    server.end()


@pytest.fixture
def submit(server: Server) -> Callable[..., str]:
    """Submits a unit whose prompt is the script it runs, and gives its name."""

    def add(script: str = "exit 0", *options: str) -> str:
        name = next(names)
        server.ok("submit", name, "-p", script, *options)
        return name

    return add


def status_of(server: Server, name: str) -> str:
    return server.json("show", name)["status"]


@pytest.fixture
def asked(server: Server, wait_until: Wait) -> Callable[[str], None]:
    """Waits until a unit has asked and its agent has ended: one that is alive is expected to read the answer itself."""

    def wait(name: str) -> None:
        server.ok("wait", name, "--for", "NEEDS_ATTENTION", "--timeout", "60")
        wait_until((server.root / ".orchestrator" / "runs" / name / "1" / "exit.json").exists, 60)

    return wait


def test_a_submitted_unit_runs_and_wait_says_that_it_is_done(server: Server) -> None:
    submitted = server.ok("submit", "first", "-p", "echo it works", "--priority", "3", "--label", "x,y", "--label", "z")

    waited = server.ok("wait", "first", "--timeout", "60")
    unit = server.json("show", "first")

    assert submitted == "Submitted first.\n"
    assert waited == "1 unit DONE\n"
    assert (unit["status"], unit["priority"], unit["labels"]) == ("DONE", 3, ["x", "y", "z"])
    assert server.ok("logs", "first") == "it works\n"


def test_a_prompt_comes_from_the_command_line_a_file_or_standard_input(server: Server, tmp_path: Path) -> None:
    (tmp_path / "prompt.txt").write_text("true # from a file: ünïcode")

    server.ok("submit", "from-file", "--prompt-file", str(tmp_path / "prompt.txt"))
    server.ok("submit", "from-stdin", "--prompt-file", "-", stdin="true # from standard input")
    server.ok("submit", "from-words", "true # behind the name")
    twice = server.orch("submit", "said-twice", "true", "-p", "false")

    assert server.json("show", "from-file")["prompt"] == "true # from a file: ünïcode"
    assert server.json("show", "from-stdin")["prompt"] == "true # from standard input"
    assert server.json("show", "from-words")["prompt"] == "true # behind the name"
    assert_one_line(twice, 2, "give the prompt once")


def test_a_unit_waits_for_its_blockers_and_show_says_so(server: Server, submit: Callable[..., str]) -> None:
    gate = server.root / "gate"
    first = submit(f"while [ ! -e {gate} ]; do sleep 0.05; done")
    second = submit("exit 0", "--after", first)

    shown = server.ok("show", second)
    listed = server.ok("ls", "--status", "blocked")
    gate.touch()
    server.ok("wait", first, second, "--timeout", "60")

    assert re.search(rf"^waits +waits for {first}$", shown, re.MULTILINE)
    assert re.search(rf"^after +{first} \(RUNNING\)$", shown, re.MULTILINE)
    assert re.search(rf"^{second} +BLOCKED .* waits for {first}$", listed, re.MULTILINE)


def test_import_takes_all_units_of_a_file(server: Server, tmp_path: Path) -> None:
    file = tmp_path / "units.yaml"
    file.write_text("- name: one\n  prompt: exit 0\n- name: two\n  prompt: exit 0\n  after: [one]\n")

    told = server.ok("import", str(file))
    answer = server.json("import", "-", stdin='[{"name": "three", "prompt": "exit 0"}]')
    server.ok("wait", "one", "two", "three", "--timeout", "60")

    assert told == "Submitted 2 units.\n"
    assert answer["units"] == ["three"]


def test_a_question_is_shown_answered_and_the_answer_reaches_the_agent(
    server: Server, submit: Callable[..., str], asked: Callable[[str], None]
) -> None:
    name = submit(
        'if [ -n "$ORCH_ANSWER" ]; then echo "told: $ORCH_ANSWER"; exit 0; fi\n'
        '$ORCH emit ask --question "Which database?" --option postgres --option sqlite'
    )

    waited = server.orch("wait", name, "--timeout", "60")
    asked(name)
    queue = server.ok("attention")
    item = server.ok("attention", name)
    answered = server.ok("answer", name, "sqlite")
    server.ok("wait", name, "--timeout", "60")

    assert_one_line(waited, 1, name, "NEEDS_ATTENTION", "Which database?")
    assert re.search(rf"^ +\d+ +{name} +question +info .*Which database\?$", queue, re.MULTILINE)
    assert "postgres | sqlite" in item and f"orch answer {name} TEXT" in item
    assert answered in (f"{name} is READY.\n", f"{name} is RUNNING.\n")  # as its agent has ended by then or not
    assert server.ok("logs", name) == "told: sqlite\n"
    assert server.ok("logs", name, "--attempt", "1") == ""


def test_an_approval_is_approved_or_rejected_with_feedback(
    server: Server, submit: Callable[..., str], asked: Callable[[str], None]
) -> None:
    script = (
        'case "$ORCH_ANSWER" in approve) echo yes; exit 0;; reject*) echo "$ORCH_ANSWER"; exit 0;; esac\n'
        '$ORCH emit ask --kind approval --question "May I?"'
    )
    one, other = submit(script), submit(script)
    asked(one)
    asked(other)

    server.ok("approve", one)
    server.ok("reject", other, "-f", "not today")
    server.ok("wait", one, other, "--timeout", "60")

    assert server.ok("logs", one) == "yes\n"
    assert server.ok("logs", other) == "reject: not today\n"


def test_a_failure_is_retried_with_feedback_or_accepted_with_a_reason(
    server: Server, submit: Callable[..., str]
) -> None:
    one = submit('[ "$ORCH_FEEDBACK" = "again" ] || exit 3; exit 0')
    other = submit("exit 4")
    failed = server.orch("wait", one, "--timeout", "60")
    server.orch("wait", other, "--timeout", "60")

    retried = server.json("retry", one, "--feedback", "again")
    server.ok("accept", other, "--reason", "good enough")
    server.ok("wait", one, other, "--timeout", "60")

    assert_one_line(failed, 1, one, "exit code 3")
    assert retried["unit"] == one and retried["status"] in ("READY", "RUNNING")
    assert "good enough" in server.ok("story", other)


def test_a_conflict_of_declared_files_is_resolved(server: Server, submit: Callable[..., str]) -> None:
    gate = server.root / "resolved"
    first = submit(f"while [ ! -e {gate} ]; do sleep 0.05; done", "--touches", "src/**")
    server.ok("wait", first, "--for", "RUNNING", "--timeout", "60")
    second = submit("exit 0", "--touches", "src/a.py")
    server.ok("wait", second, "--for", "NEEDS_ATTENTION", "--timeout", "60")

    item = server.ok("attention", second)
    ruled = server.ok("resolve", second, "--with", first, "serialize")
    gate.touch()
    server.ok("wait", first, second, "--timeout", "60")

    assert f"orch resolve {second} --with {first} serialize" in item
    assert ruled == f"{second} is BLOCKED.\n"


def test_several_units_are_held_released_withdrawn_and_taken_back(server: Server, submit: Callable[..., str]) -> None:
    both = (submit("sleep 600"), submit("sleep 600"))

    paused = server.ok("pause", *both, "--reason", "later")
    resumed = server.ok("resume", *both)
    cancelled = server.json("cancel", *both, "--reason", "never mind")
    reopened = server.ok("reopen", *both)
    server.ok("cancel", *both)

    assert paused == "".join(f"{name} is PAUSED.\n" for name in both)
    assert resumed == "".join(f"{name} is READY.\n" for name in both)
    assert [(each["unit"], each["status"]) for each in cancelled] == [(name, "CANCELLED") for name in both]
    assert reopened == "".join(f"{name} is READY.\n" for name in both)
    assert "never mind" in server.ok("story", both[0])


def test_one_refused_name_does_not_keep_the_others(server: Server, submit: Callable[..., str]) -> None:
    name = submit("sleep 600")

    done = server.orch("cancel", "no-such-unit", name)

    assert_one_line(done, 1, "no-such-unit")
    assert done.out == f"{name} is CANCELLED.\n"


def test_dispatch_is_held_and_released(server: Server, submit: Callable[..., str]) -> None:
    server.ok("pause", "--dispatch")
    name = submit()
    shown, status = server.ok("show", name), server.ok("status")
    server.ok("resume", "--dispatch")
    server.ok("wait", name, "--timeout", "60")

    assert "dispatch is paused" in shown
    assert "paused; `orch resume --dispatch`" in status


def test_a_comment_waits_for_the_next_attempt_and_a_restart_makes_one(
    server: Server, submit: Callable[..., str], wait_until: Wait
) -> None:
    name = submit('[ -n "$ORCH_FEEDBACK" ] && echo "told: $ORCH_FEEDBACK" && exit 0; sleep 600')
    wait_until(lambda: server.json("show", name)["status"] == "RUNNING")

    server.ok("comment", name, "use a set", "--file", "src/x.py", "--line", "3")
    shown = server.ok("show", name)
    restarted = server.ok("restart", name, "--reason", "it goes round in circles")
    server.ok("wait", name, "--timeout", "60")

    assert "src/x.py:3: use a set" in shown
    assert restarted == f"{name} is READY.\n"
    assert "told: src/x.py:3: use a set" in server.ok("logs", name)
    assert_one_line(server.orch("restart", name), 1, name, "DONE", "no attempt of it runs")
    assert_one_line(server.orch("comment", name, "too late"), 1, name, "DONE")


def test_edit_changes_fields_clears_lists_and_heeds_the_version(server: Server, submit: Callable[..., str]) -> None:
    first = submit("sleep 600")
    name = submit("exit 0", "--after", first, "--label", "old")
    version = server.json("show", name)["version"]

    told = server.ok("edit", name, "--priority", "7", "--label", "new", "--version", str(version))
    stale = server.orch("edit", name, "--priority", "8", "--version", str(version))
    kept = server.json("show", name)
    freed = server.ok("edit", name, "--after", "")
    server.ok("wait", name, "--timeout", "60")
    server.ok("cancel", first)

    assert told == f"Changed {name}: priority, labels (version {version + 1}).\n"
    assert_one_line(stale, 1, name, f"version {version + 1}")
    assert (kept["priority"], kept["labels"]) == (7, ["new"])
    assert f"Changed {name}: after" in freed


def test_ps_shows_process_phase_and_progress_of_what_runs(
    server: Server, submit: Callable[..., str], wait_until: Wait
) -> None:
    name = submit('echo $$ > "$ORCH_RUN_DIR/pid"; $ORCH emit progress --percent 40 --step "writing tests"; sleep 600')
    wait_until(lambda: "writing tests" in server.ok("ps"), 60)

    shown, rows = server.ok("ps"), server.json("ps")

    pid = int((server.root / ".orchestrator" / "runs" / name / "1" / "pid").read_text())
    assert re.search(rf"^{name} +RUN +1 +{pid} .*40 % writing tests$", shown, re.MULTILINE)
    assert re.search(r"^\d of 3 slots$", shown, re.MULTILINE)
    assert {row["name"]: row["pid"] for row in rows}[name] == pid
    server.ok("cancel", name)


def test_story_tells_who_did_what_and_why(server: Server, submit: Callable[..., str]) -> None:
    name = submit("exit 0", "--workflow", "two")
    server.ok("wait", name, "--timeout", "60")

    lines = server.ok("story", name).splitlines()
    rows = server.json("story", name)

    assert [row["trigger"] for row in rows] == ["submit", "start", "advance", "start", "finish"]
    assert re.match(r"TIME +TRIGGER +STATUS +PHASE +ACTOR +REASON$", lines[0])
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ +submit +NEW -> READY +RUN +operator:\w+", lines[1])
    assert re.match(r".* finish +RUNNING -> DONE +CHECK 2 +scheduler", lines[-1])


def test_logs_follow_the_unit_over_its_phases_until_it_ends(server: Server) -> None:
    name, gate = next(names), server.root / "follow"
    server.ok("pause", "--dispatch")
    server.ok(
        "submit", name, "--workflow", "two", "-p", f"echo one; while [ ! -e {gate} ]; do sleep 0.05; done; echo two"
    )
    with subprocess.Popen(
        [*ORCH, "logs", "-f", name], cwd=server.root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    ) as follower:
        server.ok("resume", "--dispatch")
        assert follower.stdout.readline() == b"one\n"
        gate.touch()

        rest, told = follower.communicate(timeout=60)

    assert follower.returncode == 0
    assert rest == b"two\nthe second phase\n"
    assert b"attempt 2" in told


def test_logs_into_a_pipe_are_the_very_bytes_and_tail_gives_the_last_lines(
    server: Server, submit: Callable[..., str]
) -> None:
    name = submit(r"printf 'a\000b\033[31mred\033[0m\377\n'; seq 5")
    server.ok("wait", name, "--timeout", "60")

    raw = subprocess.run([*ORCH, "logs", name], cwd=server.root, capture_output=True, env=environment()).stdout

    assert raw == b"a\0b\x1b[31mred\x1b[0m\xff\n1\n2\n3\n4\n5\n"
    assert server.ok("logs", name, "--tail", "2") == "4\n5\n"
    assert server.json("logs", name, "--tail", "1")["text"] == "5\n"


def on_a_terminal(server: Server, *arguments: str, **env: str) -> bytes:
    """What `orch` writes when its standard output is a terminal."""
    outer, inner = pty.openpty()
    with subprocess.Popen([*ORCH, *arguments], cwd=server.root, stdout=inner, env=environment(**env)) as process:
        os.close(inner)
        seen = b""
        while True:
            try:
                part = os.read(outer, 65536)
            except OSError:  # how Linux says that the other side is closed
                break
            seen += part
            if not part:
                break
        process.wait(60)
    os.close(outer)
    return seen.replace(b"\r\n", b"\n")


def test_on_a_terminal_hostile_output_is_shown_and_does_nothing(server: Server, submit: Callable[..., str]) -> None:
    name = submit(r"printf 'a\000b\033[31mred\033[0m\033]0;title\007\377 \033[2J\n'")
    server.ok("wait", name, "--timeout", "60")

    seen = on_a_terminal(server, "logs", name)

    assert seen.decode() == "a\\x00bred\\x1b]0;title\\x07\N{REPLACEMENT CHARACTER} \\x1b[2J\n"


def test_hostile_prompts_and_questions_are_shown_and_do_nothing(server: Server, submit: Callable[..., str]) -> None:
    hostile = "\x1b]0;owned\x07[red]\u202emarkup"
    name = submit(f"# {hostile}\n$ORCH emit ask --question '{hostile}'")
    server.ok("wait", name, "--for", "NEEDS_ATTENTION", "--timeout", "60")

    for arguments in (("show", name), ("attention", name), ("attention",), ("story", name), ("ls",), ("events",)):
        shown = server.ok(*arguments)
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", shown), arguments
    assert "\\x1b]0;owned\\x07[red]\\u202emarkup" in server.ok("show", name)
    assert_one_line(server.orch("wait", name), 1, "\\x1b]0;owned")
    server.ok("cancel", name)


def test_tables_fit_the_terminal_and_colours_can_be_refused(server: Server, submit: Callable[..., str]) -> None:
    submit("exit 0 # " + "x" * 300)
    server.ok("wait", "--all", "--timeout", "60")

    plain = on_a_terminal(server, "ls", COLUMNS="60", TERM="xterm", NO_COLOR="1").decode()
    coloured = on_a_terminal(server, "ls", COLUMNS="60", TERM="xterm").decode()

    assert "\x1b" not in plain and "DONE" in plain
    assert "\x1b[32mDONE" in coloured
    assert max(len(line) for line in plain.splitlines()) <= 60
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured).splitlines()[0] == plain.splitlines()[0]


def test_events_are_told_and_followed(server: Server, submit: Callable[..., str]) -> None:
    with subprocess.Popen(
        [*ORCH, "events", "-f", "--json", "--limit", "1"], cwd=server.root, stdout=subprocess.PIPE, env=environment()
    ) as follower:
        follower.stdout.readline()
        name = submit('$ORCH emit note --message "half way" --level warning')
        seen = []
        while not any(record["table"] == "transition" and record["trigger"] == "finish" for record in seen):
            seen.append(json.loads(follower.stdout.readline()))
        follower.send_signal(signal.SIGINT)
        assert follower.wait(60) == 130

    assert [record["seq"] for record in seen] == sorted(record["seq"] for record in seen)
    assert any(record["table"] == "event" and record["message"] == "half way" for record in seen)
    told = server.ok("events", "--unit", name)
    assert f"{name}: warning: note half way" in told
    assert told.splitlines()[0].endswith(f"{name}: submit -> READY RUN, by {server.json('story', name)[0]['actor']}")
    assert server.ok("events", "--unit", name, "--limit", "1") == told.splitlines()[-1] + "\n"


def test_malformed_messages_are_kept_as_warnings_and_harm_nothing(server: Server, submit: Callable[..., str]) -> None:
    name = submit('echo "no json" >> "$ORCH_EVENTS"; printf "half a line" >> "$ORCH_EVENTS"; $ORCH emit heartbeat')

    server.ok("wait", name, "--timeout", "60")

    told = server.ok("events", "--unit", name)
    assert told.count("warning: malformed") == 2
    assert f"{name}: heartbeat" in told


def test_status_and_open_say_where_the_server_is(server: Server) -> None:
    status, facts = server.json("status"), server.ok("status")
    link = server.ok("open", "--no-browser").strip()

    assert status["state"] == "ok" and status["pid"] == server.popen.pid
    assert f"process {server.popen.pid}" in facts
    assert link.startswith(f"{status['url']}/login?code=")


def test_check_finds_the_log_sound(server: Server, submit: Callable[..., str]) -> None:
    server.ok("wait", submit(), "--timeout", "60")

    assert re.fullmatch(r"sound: \d+ records, \d+ units\n", server.ok("check"))
    assert server.json("check")["faults"] == []


def test_wait_gives_up_at_its_timeout_and_on_cancelled_units(server: Server, submit: Callable[..., str]) -> None:
    name = submit("sleep 600")
    late = server.orch("wait", name, "--timeout", "0.2")
    server.ok("cancel", name)
    gone = server.orch("wait", name)
    wanted = server.ok("wait", name, "--for", "cancelled")

    assert_one_line(late, 1, "not DONE within 0.2 s", f"{name} is RUNNING")
    assert_one_line(gone, 1, f"{name} is CANCELLED")
    assert wanted == "1 unit CANCELLED\n"


def test_wait_does_not_wait_for_ever_for_a_unit_whose_blocker_was_cancelled(
    server: Server, submit: Callable[..., str], wait_until: Wait
) -> None:
    blocker = submit("sleep 600")
    name = submit("exit 0", "--after", blocker)
    with subprocess.Popen([*ORCH, "wait", name], cwd=server.root, stderr=subprocess.PIPE, env=environment()) as waiting:
        wait_until(lambda: has_a_socket(waiting.pid), 60, "it to talk to the server")
        server.ok("cancel", blocker)
        _, told = waiting.communicate(timeout=60)

    assert waiting.returncode == 1
    assert f"{name} waits for {blocker}, which was cancelled" in told.decode()
    server.ok("cancel", name)


def test_ctrl_c_ends_a_wait_without_a_word(server: Server, submit: Callable[..., str], wait_until: Wait) -> None:
    name = submit("sleep 600")
    with subprocess.Popen([*ORCH, "wait", name], cwd=server.root, stderr=subprocess.PIPE, env=environment()) as waiting:
        wait_until(lambda: has_a_socket(waiting.pid), 60, "it to talk to the server")
        waiting.send_signal(signal.SIGINT)
        _, told = waiting.communicate(timeout=60)

    assert (waiting.returncode, told.strip()) == (130, b"")
    server.ok("cancel", name)


def test_a_reader_that_has_had_enough_is_no_error(server: Server, submit: Callable[..., str]) -> None:
    name = submit("seq 200000")
    server.ok("wait", name, "--timeout", "60")
    command = f"{' '.join(ORCH)} logs {name} | head -2; {' '.join(ORCH)} events --since 0 | head -1"

    done = subprocess.run(["sh", "-c", command], cwd=server.root, capture_output=True, env=environment())

    assert done.stdout.startswith(b"1\n2\n") and done.stdout.count(b"\n") == 3
    assert done.stderr == b""


def test_output_that_cannot_be_written_is_one_line(server: Server) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*ORCH, "status"], cwd=server.root, stdout=full, stderr=subprocess.PIPE, text=True, env=environment()
        )

    assert (done.returncode, done.stderr) == (1, "orch: the output: No space left on device\n")


def test_the_end_of_a_log_of_a_gigabyte_is_there_at_once(server: Server, submit: Callable[..., str]) -> None:
    name = submit("true")
    server.ok("wait", name, "--timeout", "60")
    with open(server.root / ".orchestrator" / "runs" / name / "1" / "output.log", "wb") as file:
        file.truncate(1 << 30)
        file.seek(0, os.SEEK_END)
        file.write(b"\nalmost\nlast\n")
    command = f"ulimit -v 1000000; {' '.join(ORCH)} logs {name} --tail 2; {' '.join(ORCH)} logs {name} | head -c 5"

    done = subprocess.run(["sh", "-c", command], cwd=server.root, capture_output=True, env=environment())

    assert done.stdout == b"almost\nlast\n" + bytes(5)
    assert done.stderr == b""


def test_the_project_is_found_from_below_and_from_a_worktree_and_by_name(server: Server, tmp_path: Path) -> None:
    below = server.root / "src" / "deep"
    below.mkdir(parents=True, exist_ok=True)
    worktree = server.root / ".orchestrator" / "worktrees" / "some-unit"
    worktree.mkdir(parents=True, exist_ok=True)
    (worktree / "orchestrator.toml").write_text("")

    for done in (
        server.orch("status", "--json", cwd=below),
        server.orch("status", "--json", cwd=worktree),
        server.orch("--project", str(server.root), "status", "--json", cwd=tmp_path),
        server.orch("status", "--json", cwd=tmp_path, ORCH_PROJECT=str(server.root)),
    ):
        assert done.code == 0 and done.json["pid"] == server.popen.pid


def test_all_units_can_be_listed_by_label_and_by_page(server: Server, tmp_path: Path) -> None:
    units = [{"name": f"many-{number:04}", "prompt": "exit 0", "labels": ["many"]} for number in range(1_200)]
    server.ok("pause", "--dispatch")
    server.ok("import", "-", stdin=json.dumps(units))

    everything = server.json("ls", "--label", "many")
    some = server.json("ls", "--label", "many", "--status", "ready", "--limit", "1100")
    server.ok("cancel", *(unit["name"] for unit in units[:2]))

    assert [unit["name"] for unit in everything] == [unit["name"] for unit in units]
    assert len(some) == 1_100
    assert len(server.json("ls", "--label", "many", "--status", "CANCELLED")) == 2
