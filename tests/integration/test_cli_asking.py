"""Formats of a query's answer; sums, conflicts, errors and sessions; and that a start loads no server's library."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow.ipc
import pyarrow.parquet
import pytest
from cli_kit import ORCH, SOURCES, Server, assert_one_line, environment, make_project, run, spawn

from orchestrator_app.cli.client import connect

HEAVY = {"panel", "bokeh", "tornado", "duckdb", "pandas", "pyarrow", "param", "numpy", "yaml", "rich", "orchestrator"}
SQL = "SELECT name, length(name) AS n, [1, 2] AS many FROM unit ORDER BY name"
USED = "$ORCH emit usage --input-tokens 1200 --output-tokens 300 --usd 0.5 --model big; $ORCH emit session --id talk-1"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One with a unit that used something, two that failed alike, and two that touch the same files."""
    server = Server(make_project(tmp_path_factory.mktemp("asking") / "work"))
    server.ok("submit", "spends", "-p", USED)
    server.ok("submit", "fails-1", "-p", "echo no room for 3 files >&2; exit 3")
    server.ok("submit", "fails-2", "-p", "echo no room for 4 files >&2; exit 3")
    server.ok("submit", "holds", "-p", "sleep 600", "--touches", "src/**")
    server.ok("wait", "spends", "--timeout", "60")
    server.ok("wait", "fails-1", "fails-2", "--for", "NEEDS_ATTENTION", "--timeout", "60")
    server.ok("wait", "holds", "--for", "RUNNING", "--timeout", "60")
    server.ok("submit", "clashes", "-p", "exit 0", "--touches", "src/a.py")
    server.ok("wait", "clashes", "--for", "NEEDS_ATTENTION", "--timeout", "60")
    yield server
    server.end()


def answers(root: Path, folder: Path) -> list[object]:
    """The same question in each format: what its readers make of it."""
    folder.mkdir()
    wrote = [run(root, "query", SQL, "-o", str(folder / name)) for name in ("a.parquet", "a.arrow", "a.json")]
    assert all(done.code == 0 and done.err == "" and done.out.startswith("Wrote ") for done in wrote), wrote
    piped = subprocess.run(
        [*ORCH, "query", SQL, "--format", "arrow"], cwd=root, capture_output=True, env=environment(), timeout=60
    )
    assert (piped.returncode, piped.stderr) == (0, b"")
    return [
        pyarrow.parquet.read_table(folder / "a.parquet").to_pylist(),
        pyarrow.ipc.open_stream(folder / "a.arrow").read_all().to_pylist(),
        pyarrow.ipc.open_stream(io.BytesIO(piped.stdout)).read_all().to_pylist(),
        json.loads((folder / "a.json").read_text()),
    ]


def test_a_query_answers_in_every_format_of_a_running_and_of_a_stopped_project(tmp_path: Path) -> None:
    server = Server(make_project(tmp_path / "work"))
    try:
        server.ok("pause", "--dispatch")
        server.ok("submit", "one", "-p", "exit 0")
        running = answers(server.root, tmp_path / "running")
    finally:
        server.end()
    stopped = answers(server.root, tmp_path / "stopped")

    assert running == stopped == [[{"name": "one", "n": 3, "many": [1, 2]}]] * 4


def test_what_is_no_text_is_not_written_on_a_terminal_and_an_old_file_stays_when_a_query_fails(
    server: Server, tmp_path: Path
) -> None:
    outer, inner = pty.openpty()
    done = subprocess.run(
        [*ORCH, "query", SQL, "--format", "parquet"],
        cwd=server.root, stdout=inner, stderr=subprocess.PIPE, env=environment(), timeout=60,
    )  # fmt: skip
    os.close(inner)
    os.close(outer)
    (tmp_path / "kept.csv").write_text("old")

    assert (done.returncode, done.stderr.decode()) == (
        2, "orch: parquet is nothing for a terminal: give -o FILE, or a pipe\n",
    )  # fmt: skip
    assert_one_line(server.orch("query", "SELEKT", "-o", str(tmp_path / "kept.csv")), 2, "query")
    assert_one_line(server.orch("query", SQL, "-o", str(tmp_path / "no" / "x.csv")), 2, "no directory")
    assert_one_line(server.orch("query", SQL, "-o", str(tmp_path)), 1, str(tmp_path))
    assert_one_line(server.orch("query", SQL, "--json", "--format", "csv"), 2, "--json", "csv")
    assert [file.name for file in tmp_path.iterdir()] == ["kept.csv"]
    assert (tmp_path / "kept.csv").read_text() == "old"


def test_budget_says_what_was_used_in_all_and_by_what(server: Server) -> None:
    answer, told = server.json("budget"), server.ok("budget")

    used = {"input_tokens": 1200, "output_tokens": 300, "usd": 0.5}
    assert answer == {
        "total": used, "today": used, "phases": [{"phase": "RUN", **used}], "models": [{"model": "big", **used}],
        "units": [{"unit": "spends", **used}],
    }  # fmt: skip
    assert [line.split() for line in told.splitlines()][-1] == ["unit", "spends", "1,200", "300", "0.50"]
    assert server.json("budget", "fails-1")["total"]["usd"] == 0
    assert_one_line(server.orch("budget", "spend"), 1, "did you mean spends?")


def test_conflicts_name_both_units_and_the_files(server: Server) -> None:
    (found,) = server.json("conflicts")

    assert (found["unit"], found["kind"], found["other"]) == ("clashes", "overlap", "holds")
    assert server.json("conflicts", "holds") == [found] and server.json("conflicts", "spends") == []
    assert f"{found['item']}  clashes  overlap  holds" in server.ok("conflicts")
    assert "`orch attention clashes`" in server.ok("conflicts")
    assert server.orch("conflicts", "spends").err == "no conflicts\n"


def test_errors_that_are_alike_are_one_line(server: Server) -> None:
    (found,) = server.json("errors", "--since", "1h")

    assert found["count"] == 2 and sorted(found["units"]) == ["fails-1", "fails-2"]
    assert "no room for # files" in server.ok("errors")
    assert server.json("errors", "--search", "nothing of the kind") == []
    assert server.json("errors", "--since", "2999-01-01") == []
    assert_one_line(server.orch("errors", "--since", "yesterday"), 2, "yesterday", "30m")


def test_sessions_are_those_that_agents_have_named(server: Server) -> None:
    (found,) = server.json("sessions", "spends")

    assert (found["unit"], found["session"], found["attempt"]) == ("spends", "talk-1", 1)
    assert server.ok("sessions").splitlines()[1].endswith("spends  RUN      1  talk-1")


def test_what_programs_are_given_is_what_the_api_gives(server: Server) -> None:
    client = connect(server.root)
    lists = {
        "ls": "/units units", "attention": "/attention items", "sessions": "/sessions sessions",
        "story fails-1": "/units/fails-1/story transitions", "conflicts": "/conflicts conflicts",
        "errors": "/errors/summary found",
    }  # fmt: skip

    for command, where in lists.items():
        path, key = where.split()
        assert server.json(*command.split()) == client.get(path)[key] != [], command
    for command, path in {"status": "/status", "show spends": "/units/spends", "check": "/check"}.items():
        shown, answer = server.json(*command.split()), client.get(path)
        assert {key: shown[key] for key in answer} == answer, command
    (running,) = server.json("ps")
    assert {key: value for key, value in running.items() if key != "pid"} == client.get("/units/holds")
    records = client.changes(0)["records"]
    assert [json.loads(line) for line in server.ok("events", "--since", "0", "--json").split("\n")[:-1]] == records


@pytest.mark.parametrize(
    "arguments",
    [
        ("--version",), ("ls",), ("ps",), ("status",), ("attention", "clashes"), ("show", "spends"), ("story", "holds"),
        ("logs", "spends"), ("events",), ("wait", "spends"), ("sessions",), ("conflicts",), ("errors",), ("budget",),
        ("query", "SELECT 1"), ("check",), ("pause", "--dispatch"), ("resume", "--dispatch"), ("completion", "bash"),
    ],
    ids=lambda arguments: arguments[0].strip("-"),
)  # fmt: skip
def test_what_talks_to_a_server_loads_none_of_its_libraries(server: Server, arguments: tuple[str, ...]) -> None:
    code = (
        f"import sys; sys.path.insert(0, {SOURCES!r}); from orchestrator_app.cli import main\n"
        f"code = main({list(arguments)!r}); print(*sys.modules, file=sys.stderr); sys.exit(code)"
    )

    done = subprocess.run(
        [sys.executable, "-c", code], cwd=server.root, capture_output=True, text=True, env=environment(), timeout=60
    )

    assert done.returncode == 0, done
    loaded = done.stderr.splitlines()[-1].split()
    assert not {module.removeprefix("orchestrator_app.").split(".")[0] for module in loaded} & HEAVY


def test_a_process_of_its_own_exits_with_the_code_of_its_command(server: Server, tmp_path: Path) -> None:
    codes = [spawn(server.root, *words).code for words in (["status"], ["show", "nobody"], ["ls", "--limit", "x"])]

    assert [*codes, spawn(make_project(tmp_path / "work"), "ls").code] == [0, 1, 2, 3]
