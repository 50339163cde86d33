"""What the command line does with a project whose server was stopped, or is being stopped."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.dataset
import pytest
from cli_kit import Done, Server, assert_one_line, environment, has_a_socket, make_project, run

from orchestrator_app.claim import server_info

Wait = Callable[..., Any]
READING = (
    ("ls",),
    ("show", "asks"),
    ("story", "done"),
    ("attention",),
    ("events", "--since", "0"),
    ("check",),
    ("query", 'SELECT unit, "trigger", seq FROM transition ORDER BY seq'),
)


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, ...], Any]:
    """What a running server said, and how `stop` went; the project is stopped now."""
    server = Server(make_project(tmp_path_factory.mktemp("stopped") / "work"))
    try:
        server.ok("submit", "done", "-p", "seq 3; $ORCH emit note --message 'a word'", "--label", "old")
        server.ok("submit", "asks", "-p", "$ORCH emit ask --question 'Which?' --option a --option b", "--after", "done")
        server.ok("submit", "waits", "-p", "exit 0", "--after", "asks")
        server.ok("wait", "asks", "--for", "NEEDS_ATTENTION", "--timeout", "60")
        said: dict[tuple[str, ...], Any] = {arguments: server.orch(*arguments, "--json") for arguments in READING}
        said["root",] = server.root
        said["stop",] = server.orch("stop")
        said["exit",] = server.popen.wait(30)
    finally:
        server.end()
    return said


@pytest.fixture(scope="module")
def root(live: dict[tuple[str, ...], Any]) -> Path:
    return live["root",]


def test_stop_waits_until_the_server_is_gone(live: dict[tuple[str, ...], Any], root: Path) -> None:
    stopped: Done = live["stop",]

    told = rf"Stopped the server of {root} \(process \d+\); running .*\n"
    assert stopped.code == 0 and re.fullmatch(told, stopped.out)
    assert live["exit",] == 0
    assert server_info(root / ".orchestrator") is None


@pytest.mark.parametrize("arguments", READING, ids=lambda arguments: arguments[0])
def test_a_stopped_project_says_what_its_server_said(
    live: dict[tuple[str, ...], Any], root: Path, arguments: tuple[str, ...]
) -> None:
    before, after = live[arguments], run(root, *arguments, "--json")

    assert (before.code, after.code, after.err) == (0, 0, "")
    if arguments[0] == "events":
        assert after.out == before.out
    else:
        volatile = {"waits_because"}
        old, new = before.json, after.json
        if isinstance(old, dict):
            old, new = ({key: value for key, value in each.items() if key not in volatile} for each in (old, new))
        assert new == old


def test_a_stopped_project_reads_well_too(root: Path) -> None:
    listed, shown = run(root, "ls", "--label", "old"), run(root, "show", "waits")

    assert re.search(r"^done +DONE ", listed.out, re.MULTILINE) and "asks" not in listed.out
    assert re.search(r"^waits +waits for asks$", shown.out, re.MULTILINE)
    assert run(root, "logs", "done").out == "1\n2\n3\n"
    assert run(root, "logs", "-f", "done", "--tail", "1").out == "3\n"
    assert run(root, "check").out.startswith("sound: ")
    assert_one_line(run(root, "show", "dnoe"), 1, "did you mean done?")


def test_query_prints_tables_csv_and_json(root: Path) -> None:
    sql = "SELECT unit, count(*) AS n, 'a,\"b' AS odd FROM transition WHERE unit <> 'waits' GROUP BY unit ORDER BY unit"

    table, objects = run(root, "query", sql), run(root, "query", sql, "--json")
    comma = run(root, "query", "-", "--format", "csv", stdin=sql)

    assert (table.err, objects.err, comma.err) == ("", "", "")
    assert re.fullmatch(r'unit +n  odd\nasks +\d  a,"b\ndone +\d  a,"b\n', table.out)
    assert [row[0] for row in csv.reader(io.StringIO(comma.out))] == ["unit", "asks", "done"]
    assert [(row["unit"], row["odd"]) for row in objects.json] == [("asks", 'a,"b'), ("done", 'a,"b')]
    limited = run(root, "query", "SELECT * FROM range(5)", "--limit", "2", "--format", "csv")
    assert limited.out == "range\n0\n1\n" and "only the first 2 rows" in limited.err


@pytest.mark.parametrize(
    "sql",
    ["SELEKT 1", "SELECT * FROM nothing", "DELETE FROM transition", "DROP TABLE transition", "SELECT 1; SELECT 2", ""],
)
def test_a_query_that_is_none_or_would_change_something_is_refused(root: Path, sql: str) -> None:
    assert_one_line(run(root, "query", sql), 2, "query")
    assert run(root, "check").code == 0


def test_export_writes_parquet_that_others_can_read(root: Path, tmp_path: Path) -> None:
    told, answer = run(root, "export", str(tmp_path / "out")), run(root, "export", "--json")

    assert re.match(r"\d+ rows in \d+ files under ", told.out), told
    table = pyarrow.dataset.dataset(tmp_path / "out" / "transition", format="parquet").to_table()
    assert table.num_rows == answer.json["rows"]["transition"] > 0
    (tmp_path / "file").write_text("")
    assert_one_line(run(root, "export", str(tmp_path / "file")), 2, str(tmp_path / "file"))


def test_check_lists_what_is_wrong_with_a_log(root: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(root, broken, ignore=shutil.ignore_patterns("*.sock"))
    with duckdb.connect(str(broken / ".orchestrator" / "orchestrator.duckdb")) as connection:
        connection.execute("UPDATE transition SET to_status = 'PAUSED' WHERE unit = 'asks' AND version = 1")

    done = run(broken, "check")

    assert done.code == 1
    assert "broken_chain" in done.err and "illegal_move" in done.err and "Traceback" not in done.err
    assert run(broken, "check", "--json").json["faults"]


def test_a_log_that_lost_its_newest_rows_is_not_shown_as_if_it_were_whole(root: Path, tmp_path: Path) -> None:
    short = tmp_path / "short"
    shutil.copytree(root, short, ignore=shutil.ignore_patterns("*.sock"))
    state = short / ".orchestrator"
    with duckdb.connect(str(state / "orchestrator.duckdb")) as connection:
        last = connection.execute("SELECT max(seq) FROM transition").fetchone()[0]
    body = json.dumps({"seq": last + 50, "wal": 0, "rows": []})
    (state / "journal").write_text(f"{zlib.crc32(body.encode()):08x} {body}\n")

    assert_one_line(run(short, "ls"), 1, "lacks its newest", "orch serve")


def test_a_file_that_is_no_log_is_told(tmp_path: Path) -> None:
    root = make_project(tmp_path / "work")
    (root / ".orchestrator").mkdir()
    (root / ".orchestrator" / "orchestrator.duckdb").write_bytes(b"not a database" * 1_000)

    for arguments in (["ls"], ["show", "x"], ["check"]):
        assert_one_line(run(root, *arguments), 1, "orchestrator.duckdb", "orch check --repair")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(make_project(tmp_path / "work"))
    yield server
    server.end()


def test_stop_ends_running_attempts_or_leaves_them_to_the_next_server(server: Server, wait_until: Wait) -> None:
    server.ok("submit", "long", "-p", 'echo $$ > "$ORCH_RUN_DIR/pid"; while :; do sleep 0.1; done')
    file = server.root / ".orchestrator" / "runs" / "long" / "1" / "pid"
    wait_until(lambda: file.exists() and file.read_text().strip(), 30)
    process = Path("/proc") / file.read_text().strip()

    server.ok("stop")
    lived = process.exists()
    again = Server(server.root)
    try:
        running = again.json("ps")
        again.stop()
    finally:
        again.end()

    assert lived
    assert [(unit["name"], unit["attempt"]) for unit in running] == [("long", 1)]
    wait_until(lambda: not process.exists(), 30)


def test_a_wait_whose_server_is_stopped_for_good_ends_with_a_line(server: Server, wait_until: Wait) -> None:
    server.ok("submit", "long", "-p", "sleep 600")
    impatient = "from orchestrator_app.cli import main; from orchestrator_app.cli.commands import waiting"
    code = f"{impatient}; waiting.SOON = 0.5; raise SystemExit(main(['wait', 'long']))"
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=server.root, stderr=subprocess.PIPE, env=environment()
    ) as waiting:
        wait_until(lambda: has_a_socket(waiting.pid), 30)
        server.stop()
        _, told = waiting.communicate(timeout=60)

    assert waiting.returncode == 3 and len(told.decode().splitlines()) == 1, told
