"""What the API's reading routes give: spending, conflicts, and for each of them what its description says."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fastjsonschema
import pytest
from raw_client import SETTINGS, Client, make_project
from serve_kit import Process

USES = """
use() { echo '{"type":"usage","model":"'$1'","input_tokens":'$2',"output_tokens":'$3',"usd":'$4'}' >> "$ORCH_EVENTS"; }
"""


def test_the_budget_tells_what_was_used_in_all_and_by_unit_phase_and_model(
    client: Client, unit: Callable[..., str], wait_until: Callable[..., Any]
) -> None:
    before = client.api("GET", "/budget").json
    first = unit(f"{USES} use small 100 10 0.5; use large 1 1 1.25")
    second = unit(f"{USES} use small 7 3 0.25")
    for name in (first, second):
        wait_until(lambda name=name: client.api("GET", f"/units/{name}").json["status"] == "DONE")

    after = client.api("GET", "/budget").json
    page = client.api("GET", f"/budget?limit=1&cursor={first}").json
    only = client.api("GET", f"/budget?unit={first}").json

    for share in ("total", "today"):
        grew = {key: after[share][key] - before[share][key] for key in after[share]}
        assert grew == {"input_tokens": 108, "output_tokens": 14, "usd": 2.0}
    assert [(each["unit"], each["usd"]) for each in after["units"]][-2:] == [(first, 1.75), (second, 0.25)]
    assert ([each["unit"] for each in page["units"]], page["next"]) == ([second], None)
    assert only["models"] == [
        {"model": "large", "input_tokens": 1, "output_tokens": 1, "usd": 1.25},
        {"model": "small", "input_tokens": 100, "output_tokens": 10, "usd": 0.5},
    ]
    assert only["phases"] == [{"phase": "RUN", "input_tokens": 101, "output_tokens": 11, "usd": 1.75}]
    assert only["total"] == only["today"] == {"input_tokens": 101, "output_tokens": 11, "usd": 1.75}


IN_GIT = SETTINGS.replace('isolation = "none"\nphases = ["RUN"]', 'phases = ["RUN", "MERGE"]').replace(
    "[project]", '[project]\ntouches = "ask"'
)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = make_project(tmp_path / "repository", IN_GIT)
    (root / "file.txt").write_text("the first line\n")
    for words in ("init -q -b main", "config user.name T", "config user.email t@localhost", "add -A", "commit -qm one"):
        subprocess.run(["git", *words.split()], cwd=root, check=True)
    return root


def test_conflicts_name_the_units_the_branch_the_files_and_the_item(
    repository: Path, start: Callable[..., Process], wait_until: Callable[..., Any]
) -> None:
    process = start(repository)

    def conflicts(query: str = "") -> list[dict[str, Any]]:
        return process.client.api("GET", f"/conflicts{query}").json["conflicts"]

    go = repository.parent / "go"
    script = f"while ! test -e {go}; do sleep 0.02; done; echo $ORCH_UNIT > file.txt"
    process.submit("early", script, touches=["file.txt"])
    wait_until(lambda: process.unit("early")["status"] == "RUNNING")
    process.submit("late", script, touches=["*.txt"])
    (overlap,) = wait_until(conflicts)
    ruled = {"other": "early", "ruling": "parallelize", "item": overlap["item"]}
    assert process.client.api("POST", "/units/late/resolve", ruled).status == 200
    wait_until(lambda: process.unit("late")["status"] == "RUNNING")
    no_longer = conflicts()
    go.touch()
    (merge,) = wait_until(conflicts)

    assert (overlap["unit"], overlap["other"], overlap["branch"]) == ("late", "early", "orch/early")
    assert (overlap["kind"], overlap["files"]) == ("overlap", ["*.txt and file.txt"])
    assert overlap["item"] < merge["item"] and overlap["since"] < merge["since"]
    assert no_longer == []
    assert merge["unit"] in ("early", "late")
    assert (merge["kind"], merge["other"], merge["branch"], merge["files"]) == ("merge", None, "main", ["file.txt"])
    assert conflicts("?kind=overlap") == [] and conflicts("?unit=neither") == []
    assert conflicts(f"?kind=merge&unit={merge['unit']}") == [merge]
    assert conflicts(f"?cursor={merge['item']}") == []
    assert process.client.api("GET", "/conflicts?kind=quarrel").status == 400


EVERYTHING = """
echo '{"type":"session","id":"s-1"}' >> "$ORCH_EVENTS"
echo '{"type":"progress","percent":40,"step":"half"}' >> "$ORCH_EVENTS"
echo '{"type":"usage","input_tokens":1,"output_tokens":1,"usd":0.01}' >> "$ORCH_EVENTS"
echo '{"type":"note","level":"error","message":"it went wrong"}' >> "$ORCH_EVENTS"
echo '{"type":"ask","question":"Which?","options":["a","b"]}' >> "$ORCH_EVENTS"
"""

EMPTY = ("/conflicts", "/check", "/status")


def test_every_route_that_reads_gives_what_the_description_says_and_nothing_more(
    client: Client, unit: Callable[..., str], wait_until: Callable[..., Any]
) -> None:
    name = unit(EVERYTHING, after=[unit("exit 0")], labels=["one"])
    wait_until(lambda: client.api("GET", f"/units/{name}").json["status"] == "NEEDS_ATTENTION")
    paths = client.api("GET", "/openapi.json").json["paths"]
    reading = {path: each["get"] for path, each in paths.items() if "get" in each and not path.endswith("/diff")}

    for path, operation in reading.items():
        query = "?since=0" if path.endswith("/feed") else ""
        reply = client("GET", path.replace("{name}", name) + query)
        shape = operation["responses"]["200"]["content"]["application/json"]["schema"]
        assert reply.status == 200, path
        fastjsonschema.validate(closed(shape), reply.json)
        lists = [value for value in reply.json.values() if isinstance(value, list)]
        assert not lists or any(lists) or path.endswith(("/conflicts", "/check", "/status")), (
            f"{path} gave an empty list"
        )


def closed(schema: Any) -> Any:
    """The same, where no object has a value that isn't named."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {key: closed(value) for key, value in schema.items()}
    return {**inner, "additionalProperties": False} if isinstance(schema.get("properties"), dict) else inner


def test_every_operation_of_the_description_tells_its_answer_and_its_refusals(client: Client) -> None:
    document = client.api("GET", "/openapi.json").json

    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            answers = dict(operation["responses"])
            assert not {"default", "2XX"} & set(answers), f"{method} {path}"
            (done,) = (answers.pop(status) for status in list(answers) if status.startswith("2"))
            assert done["content"]["application/json"]["schema"], f"{method} {path} has no shape"
            assert {"400", "401", "403", "421", "500", "503"} <= set(answers)
            assert all("application/problem+json" in refusal["content"] for refusal in answers.values())


def test_lists_can_be_narrowed_and_paged(
    client: Client, unit: Callable[..., str], wait_until: Callable[..., Any]
) -> None:
    noisy = 'for i in 1 2 3; do echo \'{"type":"note","level":"error","message":"\'$w$i\'"}\' >> "$ORCH_EVENTS"; done'
    names = [unit(f"w={word}; {noisy}; {EVERYTHING}") for word in ("apple", "plum")]
    for name in names:
        wait_until(lambda name=name: client.api("GET", f"/units/{name}").json["status"] == "NEEDS_ATTENTION")

    def every(path: str, key: str) -> list[Any]:
        found, cursor = [], ""
        while cursor is not None:
            page = client.api("GET", f"{path}{'&' if '?' in path else '?'}limit=1{cursor and f'&cursor={cursor}'}").json
            assert len(page[key]) <= 1 and len(found) < 100
            found, cursor = found + page[key], page["next"]
        return found

    assert {each["unit"] for each in every("/sessions", "sessions")[-2:]} == set(names)
    assert [each["unit"] for each in every(f"/sessions?unit={names[1]}", "sessions")] == [names[1]]
    assert {each["unit"] for each in every("/attention?kind=question", "items")} >= set(names)
    errors = every("/errors/summary?search=apple", "found")
    assert [each["units"] for each in errors] == [[names[0]]] * len(errors) and errors
    assert len(every("/errors/summary", "found")) == client.api("GET", "/errors/summary").json["groups"]
    assert client.api("GET", "/errors/summary?cursor=x").status == 400
