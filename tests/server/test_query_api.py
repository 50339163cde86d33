"""Questions in SQL and the export over the API."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable

import pytest
from raw_client import Client, Running


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
        ({"sql": 1}, "sql"),
    ],
)
def test_a_query_that_can_not_be_answered_is_a_problem_in_one_line(client: Client, body: dict, word: str) -> None:
    reply = client.api("POST", "/query", body)

    assert reply.status == 400
    assert reply.header("content-type") == "application/problem+json"
    assert word in reply.json["detail"]
    assert "\n" not in reply.json["detail"]


@pytest.mark.parametrize("path", ["/query", "/export"])
def test_nobody_asks_or_exports_without_the_token(client: Client, path: str) -> None:
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
