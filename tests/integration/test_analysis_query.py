"""Analysts may ask anything and change nothing: not the log, not a file, not the server."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import threading
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest
import requests
from analysis_kit import live_through, make_project, running, serving

from orchestrator_app.analysis import query
from orchestrator_app.errors import NotFoundError, OrchError, UsageError
from orchestrator_app.settings import Project
from orchestrator_app.store import asking
from orchestrator_app.store.log import Log

VIEWS = [
    *("transition", "event", "attention", "attention_change", "verdict", "usage", "session", "rule"),
    *("unit", "time_in_status", "phase_duration", "throughput", "broken_chain", "illegal_move", "broken_numbering"),
]

ATTACKS = [
    "SELECT * FROM read_csv('/etc/passwd', sep=':', header=false) LIMIT 1",
    "SELECT content[:20] FROM read_text('/etc/passwd')",
    "SELECT size FROM read_blob('/etc/hostname')",
    "SELECT * FROM glob('/etc/host*')",
    "SELECT * FROM '/etc/passwd'",
    "SELECT * FROM read_parquet('{export}/transition/*/*.parquet')",
    "SELECT * FROM parquet_metadata('{export}/transition/*/*.parquet')",
    "SELECT * FROM sniff_csv('/etc/passwd')",
    "SELECT * FROM query_table('/etc/passwd')",
    "SELECT * FROM query('FROM read_text(''/etc/passwd'')')",
    "SELECT * FROM duckdb_secrets()",
    "SELECT * FROM question",
    "COPY transition TO '{out}/out.csv'",
    "COPY (SELECT 1) TO '{out}/out.parquet'",
    "ATTACH '{out}/other.db' AS o",
    "ATTACH ':memory:' AS mm",
    "ATTACH '{export}/../orchestrator.duckdb' AS live",
    "INSTALL httpfs",
    "LOAD httpfs",
    "EXPORT DATABASE '{out}/all'",
    "IMPORT DATABASE '{out}/all'",
    "SET enable_external_access = true",
    "RESET enable_external_access",
    "SET lock_configuration = false",
    "SET memory_limit = '100GB'",
    "SET threads = 64",
    "SET temp_directory = '{out}/tmp'",
    "CREATE SECRET s (TYPE s3, KEY_ID 'a', SECRET 'b')",
    "CREATE TABLE evil (a INT)",
    "CREATE TEMP TABLE evil AS SELECT 1",
    "CREATE MACRO f(x) AS x",
    "DELETE FROM transition WHERE seq < 5",
    "UPDATE transition SET actor = 'me'",
    "INSERT INTO rule VALUES ('a', 'b', 'c')",
    "DROP TABLE transition",
    "WITH x AS (DELETE FROM transition RETURNING *) SELECT * FROM x",
    "EXPLAIN ANALYZE DELETE FROM transition",
    "SELECT * FROM query('DROP TABLE transition')",
    "SELECT 1; DROP TABLE transition",
    "COMMIT; DROP TABLE transition",
    "BEGIN; SELECT 1",
    "SET VARIABLE a = 1",
    "CHECKPOINT",
    "FORCE CHECKPOINT",
    "PRAGMA enable_profiling = 'json'",
    "SET profile_output = '{out}/profile.json'",
    "SET log_query_path = '{out}/q.log'",
    "CALL enable_logging(storage = 'file', storage_config = {'path': '{out}/log'})",
    "PREPARE p AS DELETE FROM transition",
    "EXECUTE p",
    "PIVOT transition ON to_status USING count(*) GROUP BY unit",
    "USE memory",
    "SELECT * FROM secrets_of_python",
    "SELECT getenv('HOME')",
    "",
    " -- nothing",
    "SELEKT 1",
    "SELECT nope FROM transition",
    "SELECT '\udcff', 1 FROM nowhere",
    "SELECT " + "(" * 5_000 + "1" + ")" * 5_000,
    "SELECT '" + "x" * 100_000 + "'",
]


class Made(NamedTuple):
    project: Project
    seq: int


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A stopped project with a history."""
    project = make_project(tmp_path_factory.mktemp("query") / "project")
    with running(project) as orchestrator:
        live_through(orchestrator)
        seq = orchestrator.board.seq
    return Made(project, seq)


def fingerprint(folder: Path) -> dict[str, str]:
    """Every file under the folder with its content's hash."""
    return {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("sql", ATTACKS, ids=lambda sql: sql[:40])
def test_a15_an_attack_ends_in_one_line_and_changes_nothing(made: Made, tmp_path: Path, sql: str) -> None:
    out = tmp_path / "out"
    out.mkdir()
    secrets_of_python = {"secret": ["hunter2"]}
    before = fingerprint(made.project.root)
    sql = sql.replace("{out}", str(out)).replace("{export}", str(made.project.state / "export"))

    with pytest.raises(OrchError) as caught:
        query(made.project, sql)

    assert "\n" not in str(caught.value) and 10 < len(str(caught.value)) < 800
    assert "Traceback" not in str(caught.value) and secrets_of_python["secret"][0] not in str(caught.value)
    assert fingerprint(made.project.root) == before
    assert list(out.iterdir()) == []


def test_a15_a_bomb_is_killed_at_the_deadline_and_leaves_no_process(made: Made) -> None:
    export = made.project.state / "export"

    for bomb in (
        "SELECT max(length(repeat('x', 1000000000))) FROM range(1000)",
        "SELECT count(*) FROM range(1000000000000)",
        "SELECT count(*) FROM transition a, transition b, transition c, transition d, range(1000000) e",
        "WITH RECURSIVE t(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM t) SELECT max(i) FROM t",
    ):
        with pytest.raises(OrchError, match=r"^the query took longer than 1 s and was stopped: ask for less$"):
            asking.ask(export, made.seq, bomb, 10, seconds=1)

    assert not [one for one in psutil.Process().children(True) if "sandbox.py" in " ".join(one.cmdline())]


def test_a15_a_query_that_needs_too_much_memory_is_refused(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "MEMORY", 200 << 20)

    for bomb in (
        "SELECT list(i) FROM range(300000000) t(i)",
        "SELECT string_agg(repeat('y', 1000000), '') FROM range(2000)",
    ):
        with pytest.raises(OrchError, match=r"(?i)memory"):
            query(made.project, bomb)


@pytest.mark.parametrize("view", VIEWS)
def test_every_name_of_the_log_answers_as_the_log_itself(made: Made, view: str) -> None:
    # What lasts until now is a little longer the second time.
    sql = f"SELECT * FROM {view}" + (" WHERE left_at IS NOT NULL" if view == "time_in_status" else "")
    log = Log(made.project.state)
    rows = [[_as_json(value) for value in row.values()] for row in log.rows(sql)]
    log.close()

    answer = query(made.project, sql)

    assert sorted(answer["rows"], key=repr) == sorted(rows, key=repr)
    assert len(answer["columns"]) == len(answer["types"])
    assert (not rows) == (view in ("broken_chain", "illegal_move", "broken_numbering", "verdict"))


def _as_json(value: object) -> object:
    return value.isoformat(timespec="microseconds") + "Z" if isinstance(value, datetime) else value


def test_every_kind_of_value_becomes_json(made: Made) -> None:
    sql = """
        SELECT 1::TINYINT AS a, 2::HUGEINT << 70 AS b, 1.5::DECIMAL(9, 2) AS c, 'nan'::DOUBLE AS d, '-inf'::FLOAT AS e,
        NULL AS f, true AS g, '\\xAA'::BLOB AS h, DATE '2026-01-31' AS i, TIMESTAMP '2026-01-31 12:00:00.25' AS j,
        TIMESTAMPTZ '2026-01-31 12:00:00+02' AS k, INTERVAL 90 SECOND AS l, [1, NULL] AS m,
        {'x': [1.5], 'y': 'z'} AS n, MAP {1: 'one'} AS o, uuid() AS p, TIME '10:00:00' AS q, '{"a": 1}'::JSON AS r,
        7 AS a, 'é' || chr(0) AS "q""t", {'t': now()} AS s, '290000-01-01'::TIMESTAMP AS t -- and a comment"""

    answer = query(made.project, sql)

    json.dumps(answer, allow_nan=False)
    assert answer["columns"] == [*"abcdefghijklmnopqr", "a", 'q"t', "s", "t"]
    (row,) = answer["rows"]
    values = dict(zip(answer["columns"], row, strict=True))
    assert (values["b"], values["c"], values["d"], values["e"], values["h"]) == (2 << 70, 1.5, None, None, "aa")
    assert (values["i"], values["j"]) == ("2026-01-31", "2026-01-31T12:00:00.250000Z")
    assert (values["k"], values["l"]) == ("2026-01-31T10:00:00.000000Z", 90.0)
    assert (values["m"], values["n"], values["o"]) == ([1, None], {"x": [1.5], "y": "z"}, {"1": "one"})


def test_an_answer_is_cut_behind_its_limit_and_says_so(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    assert query(made.project, "FROM range(10)", 10)["truncated"] is False
    cut = query(made.project, "FROM range(11)", 10)
    monkeypatch.setattr(asking, "ANSWER", 10_000)
    wide = query(made.project, "SELECT repeat('x', 1000) FROM range(100)", 1_000)

    assert (len(cut["rows"]), cut["truncated"]) == (10, True)
    assert 5 < len(wide["rows"]) < 15 and wide["truncated"]


@pytest.mark.parametrize(
    "sql",
    [
        *("EXPLAIN SELECT 1", "SHOW TABLES", "DESCRIBE unit", "SUMMARIZE transition", "VALUES (1)", "FROM unit"),
        *(
            "PIVOT transition ON to_status IN ('DONE') USING count(*) GROUP BY unit;",
            "WITH a AS (SELECT 1 AS x) FROM a",
        ),
    ],
)
def test_statements_that_only_read_are_welcome(made: Made, sql: str) -> None:
    assert query(made.project, sql)["rows"]


def test_a14_a15_a_query_needs_no_environment_and_gives_none_away(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {}
    real = asking.subprocess.Popen
    monkeypatch.setenv("API_KEY", "hunter2")
    monkeypatch.setenv("PYTHONPATH", "/nowhere")
    monkeypatch.setattr(
        asking.subprocess, "Popen", lambda *args, **kwargs: seen.update(kwargs) or real(*args, **kwargs)
    )

    assert query(made.project, "SELECT count(*) > 5 FROM transition")["rows"] == [[True]]
    assert set(seen["env"]) <= {"PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH"}


def test_a_project_without_a_log_says_what_to_do(tmp_path: Path) -> None:
    project = make_project(tmp_path / "project")

    with pytest.raises(NotFoundError, match=r"project has no log yet: start it with `orch serve`$"):
        query(project, "SELECT 1")


def test_a_query_sees_every_commit_before_it(tmp_path: Path) -> None:
    project = make_project(tmp_path / "project")

    with running(project) as orchestrator:
        for number in range(6):
            orchestrator.request("submit", units=[{"name": f"unit-{number}"}]).result(20)
            answer = query(project, "SELECT count(*) FROM unit", exporter=orchestrator.exporter)
            assert answer["rows"] == [[number + 1]]


def test_the_server_answers_queries_while_others_hang(tmp_path: Path) -> None:
    project = make_project(tmp_path / "project")

    with serving(project) as server:
        server.orchestrator.request("submit", units=[{"name": "one"}]).result(20)
        slow = threading.Thread(target=_ignore, args=(project, "SELECT count(*) FROM range(3000000000)"))
        slow.start()

        answer = query(project, "SELECT name FROM unit", 5)
        with pytest.raises(UsageError, match=r'^the query can.t be answered: .*Referenced column "nope" not found'):
            query(project, "SELECT nope FROM unit")

        slow.join(60)
        assert (answer["columns"], answer["rows"], answer["types"]) == (["name"], [["one"]], ["VARCHAR"])
        assert os.path.isfile(project.state / "server.json")


def test_the_api_gives_csv_and_says_how_far_the_files_are(tmp_path: Path) -> None:
    project = make_project(tmp_path / "project")

    with serving(project) as server:
        server.orchestrator.request("submit", units=[{"name": "one", "labels": ["a", "b"]}]).result(20)
        api = f"{server.url}/api/v1"
        headers = {"Authorization": f"Bearer {(project.state / 'token').read_text().strip()}"}
        sql = "SELECT name, labels, NULL AS x FROM unit"
        reply = requests.post(f"{api}/query", json={"sql": sql, "format": "csv"}, headers=headers, timeout=60)
        refused = requests.post(f"{api}/query", json={"sql": "DROP TABLE unit"}, headers=headers, timeout=60)
        files = requests.post(f"{api}/export", json={}, headers=headers, timeout=60).json()

    assert list(csv.reader(reply.text.splitlines())) == [["name", "labels", "x"], ["one", '["a", "b"]', ""]]
    assert (refused.status_code, refused.headers["Content-Type"]) == (400, "application/problem+json")
    assert refused.json()["detail"] == "the query can't be answered: a query is a SELECT, and this is DROP"
    assert files["seq"] >= 1 and files["rows"]["transition"] >= 1


def _ignore(project: Project, sql: str) -> None:
    try:
        query(project, sql)
    except OrchError:
        pass  # whether it ends in time depends on the machine
