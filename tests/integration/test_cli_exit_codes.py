"""Every command's exit codes for wrong usage and where no server runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_kit import assert_one_line, make_project, run

from orchestrator_app.cli.program import MODULES

#: Each command as it is meant, with what it is about; and what it does in a project that was never served.
MEANT: dict[str, tuple[tuple[str, ...], int]] = {
    "init": ((), 1),  # there is an orchestrator.toml
    "demo": (("--dir", "."), 2),  # the directory isn't empty
    "serve": (("--port", "0"), 0),  # it would run: see test_serve.py
    "stop": ((), 3),
    "status": ((), 3),
    "open": ((), 3),
    "submit": (("x",), 3),
    "import": (("-",), 3),
    "edit": (("x", "--priority", "1"), 3),
    "ls": ((), 3),
    "ps": ((), 3),
    "show": (("x",), 3),
    "story": (("x",), 3),
    "logs": (("x",), 3),
    "diff": (("x",), 3),
    "events": ((), 3),
    "wait": (("x",), 3),
    "sessions": ((), 3),
    "conflicts": ((), 3),
    "errors": ((), 3),
    "budget": ((), 3),
    "attention": ((), 3),
    "answer": (("x", "yes"), 3),
    "approve": (("x",), 3),
    "reject": (("x",), 3),
    "resolve": (("x", "--with", "y", "serialize"), 3),
    "retry": (("x",), 3),
    "accept": (("x", "--reason", "because"), 3),
    "comment": (("x", "words"), 3),
    "cancel": (("x",), 3),
    "pause": (("x",), 3),
    "resume": (("--dispatch",), 3),
    "restart": (("x",), 3),
    "reopen": (("x",), 3),
    "query": (("SELECT 1",), 3),
    "export": ((), 3),
    "check": ((), 3),
    "backup": (("file",), 3),
    "restore": (("file",), 1),  # there is no such file
    "completion": (("bash",), 0),
    "emit": (("heartbeat",), 1),  # this is not an attempt
}


@pytest.mark.parametrize("command", MODULES)
def test_every_command_says_in_one_line_what_is_wrong_with_an_option_and_exits_with_2(
    tmp_path: Path, command: str
) -> None:
    done = run(make_project(tmp_path / "work"), command, *MEANT[command][0], "--no-such-option")

    assert_one_line(done, 2, "--no-such-option", f"`orch {command} --help`")


@pytest.mark.parametrize("command", [name for name in MODULES if name not in ("serve", "demo")])
def test_every_command_that_needs_a_server_or_a_log_exits_with_3_where_there_is_none(
    tmp_path: Path, command: str
) -> None:
    arguments, code = MEANT[command]

    done = run(make_project(tmp_path / "work"), command, *arguments, stdin="- name: a\n")

    if code == 0:
        assert (done.code, done.err) == (0, "")
    else:
        assert_one_line(done, code, *(["`orch serve`"] if code == 3 else []))
    assert not (tmp_path / "work" / ".orchestrator" / "server.json").exists()


@pytest.mark.parametrize("command", [name for name in MODULES if name not in ("init", "demo", "completion", "emit")])
def test_every_command_exits_with_2_where_there_is_no_project(tmp_path: Path, command: str) -> None:
    done = run(tmp_path, command, *MEANT[command][0], stdin="- name: a\n")

    assert_one_line(done, 2, "orchestrator.toml", "orch init")
