"""Questions in SQL and the export over the API."""

from __future__ import annotations

import csv
import io
import json
import os
import socket
from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path

import psutil
import pyarrow
import pyarrow.parquet
import pytest
from raw_client import Client, Running, request_bytes

from orchestrator_app.api import questions


def test_a_query_sees_what_was_committed_before_it(client: Client, unit: Callable[..., str]) -> None:
    name = unit()

    reply = client.api("POST", "/query", {"sql": f"SELECT name, version >= 1 AS there FROM unit WHERE name = '{name}'"})

    assert reply.status == 200
    assert reply.json == {
        "columns": ["name", "there"],
        "types": ["VARCHAR", "BOOLEAN"],
        "rows": [[name, True]],
        "truncated": False,
    }


def test_an_answer_comes_as_csv(client: Client) -> None:
    sql = """SELECT 1 AS a, NULL AS b, 'x,"y"\né' AS c, [1, 2] AS d, now() IS NULL AS e"""

    reply = client.api("POST", "/query", {"sql": sql, "format": "csv"})

    assert reply.status == 200
    assert reply.header("content-type") == "text/csv; charset=utf-8"
    rows = list(csv.reader(io.StringIO(reply.body.decode(), newline="")))
    assert rows == [["a", "b", "c", "d", "e"], ["1", "", 'x,"y"\né', "[1, 2]", "False"]]


SQL = """
SELECT i AS number, 'é' || i AS text, TIMESTAMP '2030-01-02 03:04:05' AS moment, [1, NULL] AS list, {'a': 1} AS struct,
       '{"b": 2}'::JSON AS json, NULL AS nothing, now() IS NOT NULL AS flag
FROM range(5) AS numbers(i)
"""


@pytest.mark.parametrize("named", ["format", "accept"])
@pytest.mark.parametrize("form", ["arrow", "parquet"])
def test_an_answer_comes_as_arrow_and_as_parquet_with_its_types(client: Client, form: str, named: str) -> None:
    kinds = {"arrow": "application/vnd.apache.arrow.stream", "parquet": "application/vnd.apache.parquet"}
    if named == "format":
        reply = client.api("POST", "/query", {"sql": SQL, "format": form, "limit": 4})
    else:
        reply = client.api("POST", "/query", {"sql": SQL, "limit": 4}, ("Accept", kinds[form]))

    assert (reply.status, reply.header("content-type")) == (200, kinds[form])
    assert reply.header("x-orch-truncated") == "true"
    source = io.BytesIO(reply.body)
    table = pyarrow.ipc.open_stream(source).read_all() if form == "arrow" else pyarrow.parquet.read_table(source)
    assert table.num_rows == 4
    row = table.to_pylist()[3]
    assert (row["number"], row["text"], row["list"], row["struct"]) == (3, "é3", [1, None], {"a": 1})
    assert row["moment"] == datetime(2030, 1, 2, 3, 4, 5)


@pytest.mark.parametrize(
    "sql", ["SHOW TABLES", "DESCRIBE unit", "EXPLAIN SELECT 1", "VALUES (1)", "SELECT 1 AS a, 2 AS a"]
)
def test_every_statement_that_reads_has_an_answer_in_arrow(client: Client, sql: str) -> None:
    reply = client.api("POST", "/query", {"sql": sql, "format": "arrow"})

    assert reply.status == 200, reply.body
    assert pyarrow.ipc.open_stream(io.BytesIO(reply.body)).read_all().num_rows


def test_an_empty_answer_still_has_its_columns(client: Client) -> None:
    reply = client.api("POST", "/query", {"sql": "SELECT * FROM unit WHERE false", "format": "arrow"})

    table = pyarrow.ipc.open_stream(io.BytesIO(reply.body)).read_all()

    assert table.num_rows == 0 and "status" in table.column_names
    assert reply.header("x-orch-truncated") == "false"


BOMB = "SELECT count(*) FROM range(1000000000) a, range(1000000) b"


def asked() -> set[int]:
    """The processes that answer queries of this server now."""
    mine = {child.pid for child in psutil.Process().children()}
    return {pid for pid in mine if "sandbox.py" in command(str(pid))}


def ask(client: Client, sql: str) -> socket.socket:
    """A client that has asked and not yet heard."""
    headers = [("Host", client.host), client.bearer, ("Content-Type", "application/json")]
    connection = socket.create_connection(("127.0.0.1", client.port), timeout=20)
    connection.sendall(request_bytes("POST", "/api/v1/query", headers, json.dumps({"sql": sql}).encode()))
    return connection


def test_a15_a_query_ends_when_its_client_has_gone(client: Client, wait_until) -> None:
    before = asked()
    with ask(client, BOMB):
        wait_until(lambda: asked() - before)

    wait_until(lambda: not asked() - before)
    assert client.api("POST", "/query", {"sql": "SELECT 1"}).status == 200


def test_a15_a17_two_queries_run_at_once_the_others_wait_and_hold_up_nothing_else(
    client: Client, unit: Callable[..., str], wait_until, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(questions, "MOST", 4)
    low = min(19, os.nice(0) + 15)

    def priorities() -> list[int]:
        return [psutil.Process(pid).nice() for pid in asked()]

    with ExitStack() as bombs:
        for _ in range(4):
            bombs.enter_context(ask(client, BOMB))
        wait_until(lambda: priorities() == [low, low])
        wait_until(lambda: client.api("POST", "/query", {"sql": "SELECT 1"}).status == 503)
        refused = client.api("POST", "/query", {"sql": "SELECT 1"})
        name = unit()
        wait_until(lambda: client.api("GET", f"/units/{name}").json["status"] == "DONE")

        assert refused.json["detail"].startswith("4 queries are under way or wait already")
        assert len(asked()) == 2
    wait_until(lambda: not asked())
    wait_until(lambda: client.api("POST", "/query", {"sql": "SELECT 1"}).status == 200)


@pytest.mark.parametrize("form", ["json", "csv", "arrow", "parquet"])
def test_a15_rows_without_end_are_cut_in_every_format(client: Client, form: str) -> None:
    sql = "SELECT i, repeat('x', 1000) AS text FROM range(1000000000000) AS numbers(i)"

    reply = client.api("POST", "/query", {"sql": sql, "format": form, "limit": 2_000})

    assert reply.status == 200 and len(reply.body) < 4_000_000
    assert reply.json["truncated"] if form == "json" else reply.header("x-orch-truncated") == "true"


def command(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def test_errors_are_summed_up(client: Client, unit: Callable[..., str], wait_until) -> None:
    names = [unit("echo no such table 1; exit 3"), unit("echo no such table 2; exit 3")]
    for name in names:
        wait_until(lambda name=name: client.api("GET", f"/units/{name}").json["status"] == "NEEDS_ATTENTION")

    for since in ("", "?since=3600", "?since=2020-01-01T00:00:00Z"):
        answer = client.api("GET", f"/errors/summary{since}").json
        (group,) = [each for each in answer["found"] if names[0] in each["units"]]
        assert group["count"] >= 2 and set(names) <= set(group["units"])

    assert client.api("GET", "/errors/summary?since=2099-01-01").json["found"] == []
    assert client.api("GET", "/errors/summary?since=tomorrow").status == 400


def test_an_answer_is_cut_at_its_limit(client: Client) -> None:
    answer = client.api("POST", "/query", {"sql": "SELECT * FROM range(100)", "limit": 3}).json

    assert (answer["rows"], answer["truncated"]) == ([[0], [1], [2]], True)


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({"sql": "SELECT nope FROM unit"}, "nope"),
        ({"sql": "DROP TABLE transition"}, "this is DROP"),
        ({"sql": "SELECT content FROM read_text('/etc/passwd')"}, "disabled"),
        ({"sql": "SELECT 1; SELECT 2"}, "exactly one statement"),
        ({"sql": "SELECT 1", "limit": 0}, "limit"),
        ({"sql": "SELECT 1", "limit": 1_000_000}, "limit"),
        ({"sql": "SELECT 1", "format": "xml"}, "format"),
        ({"sql": "SELECT nope", "format": "arrow"}, "nope"),
        ({"sql": "WITH x AS (DELETE FROM transition RETURNING *) SELECT * FROM x", "format": "parquet"}, "read-only"),
        ({"sql": 1}, "sql"),
    ],
)
def test_a15_a_query_that_can_not_be_answered_is_a_problem_in_one_line(client: Client, body: dict, word: str) -> None:
    reply = client.api("POST", "/query", body)

    assert reply.status == 400
    assert reply.header("content-type") == "application/problem+json"
    assert word in reply.json["detail"]
    assert "\n" not in reply.json["detail"]


@pytest.mark.parametrize("path", ["/query", "/export"])
def test_a4_a15_nobody_asks_or_exports_without_the_token(client: Client, path: str) -> None:
    body = {"sql": "SELECT 1"} if path == "/query" else {}

    assert client("POST", f"/api/v1{path}", body, bearer=False).status == 401


def test_an_export_brings_the_files_up_to_date(running: Running, client: Client, unit: Callable[..., str]) -> None:
    unit()
    head = client.api("GET", "/status").json["seq"]

    answer = client.api("POST", "/export", {}).json

    assert answer["seq"] >= head
    assert answer["directory"] == str(running.state / "export")
    assert answer["rows"]["transition"] == sum(
        file["rows"] for file in answer["files"] if file["path"].startswith("transition/day=")
    )
    assert all((running.state / "export" / file["path"]).is_file() for file in answer["files"])
