"""Many units in one request: all of them or none, once, and nobody else waits for it."""

from __future__ import annotations

import http.client
import json
import threading
import time
from contextlib import closing
from typing import Any

import pytest
from raw_client import Client, Reply, request_bytes, send

MANY = 10_000


@pytest.fixture
def held(client: Client) -> None:
    """Nothing is started, from now to the end of this server."""
    client.api("POST", "/dispatch", {"paused": True})


def batch(word: str, size: int = MANY, **last: Any) -> list[dict[str, Any]]:
    units: list[dict[str, Any]] = [
        {"name": f"{word}-{number}", "prompt": "what is asked " * 12, "labels": [word]} for number in range(size)
    ]
    for number in range(1, size, 3):
        units[number]["after"] = [f"{word}-{number - 1}"]
    units[-2].update(last)
    return units


def seq(client: Client) -> int:
    return client.api("GET", "/status").json["seq"]


def listed(client: Client, label: str) -> int:
    return len(client.api("GET", f"/units?label={label}&limit=1000").json["units"])


@pytest.mark.parametrize(
    ("wrong", "status", "word"),
    [
        ({"prompt": 7}, 400, 'number 9,999 (bad-9998), "prompt"'),
        ({"workflow": "none-such"}, 400, "unit 9,999 of 10,000 (bad-9998): no workflow 'none-such'"),
        ({"name": "bad-17"}, 400, "'bad-17' exists already, in this very request"),
        ({"after": ["bad-9999"]}, 400, "in a cycle"),
        ({"after": ["nowhere"]}, 404, "bad-9998 is to come after 'nowhere', which doesn't exist"),
        ({"prompt": "a\0b"}, 400, 'unit 9,999 of 10,000 (bad-9998): field "prompt" must not contain a NUL'),
    ],
)
def test_ten_thousand_units_are_refused_as_a_whole_for_one_and_the_refusal_names_it(
    client: Client, held: None, wrong: dict[str, Any], status: int, word: str
) -> None:
    units = batch("bad", **wrong)
    if wrong.get("after") == ["bad-9999"]:
        units[-1]["after"] = ["bad-9998"]
    before = seq(client)

    refused = client.api("POST", "/units", {"units": units})

    assert refused.status == status and word in refused.json["detail"], refused.body
    assert seq(client) == before and listed(client, "bad") == 0


def test_ten_thousand_units_are_there_at_once_and_a_repeated_key_adds_nothing(client: Client, held: None) -> None:
    units, key = batch("good"), ("Idempotency-Key", "ten-thousand")
    before = seq(client)

    replies = [client.api("POST", "/units", {"units": units}, key) for _ in range(2)]

    assert [reply.status for reply in replies] == [201, 201], replies[0].body[:300]
    assert replies[0].body == replies[1].body
    assert replies[0].json["units"] == [unit["name"] for unit in units]
    blocked = len(range(1, MANY, 3))
    assert seq(client) == before + MANY + blocked
    counted = {"sql": "SELECT status, count(*) FROM unit WHERE name LIKE 'good-%' GROUP BY 1 ORDER BY 1"}
    assert client.api("POST", "/query", counted).json["rows"] == [["BLOCKED", blocked], ["READY", MANY - blocked]]
    again = client.api("POST", "/units", {"units": batch("other", 2)}, key)
    assert again.status == 422 and listed(client, "other") == 0


def test_a_batch_beyond_the_limit_of_a_body_is_refused_with_a_word_before_it_is_sent(client: Client) -> None:
    words = [("Host", client.host), client.bearer, ("Content-Type", "application/json"), ("Content-Length", "20000000")]

    refused = send(client.port, request_bytes("GET", "/api/v1/units", words).replace(b"GET", b"POST", 1))

    assert refused.status == 413 and refused.header("Content-Type") == "application/problem+json"
    assert "16777216 bytes at most" in refused.json["detail"]


def test_the_server_answers_others_while_a_batch_comes_in(client: Client, held: None) -> None:
    """Ratios of one run: the longest wait of a small request beside a batch, to how long that batch itself took."""
    ratios: list[float] = []

    while len(ratios) < 3 and min(ratios, default=1) > 0.15:  # a processor that others took away is no proof
        ratios.append(longest_wait_beside(client, {"units": batch(f"beside-{len(ratios)}")}))

    assert min(ratios) < 0.15, ratios


def longest_wait_beside(client: Client, body: dict[str, Any]) -> float:
    raw = json.dumps(body).encode()
    waits: list[float] = []
    reply: list[Reply] = []
    sender = threading.Thread(target=lambda: reply.append(client("POST", "/api/v1/units", raw)))
    began = time.monotonic()
    sender.start()
    with closing(http.client.HTTPConnection("127.0.0.1", client.port, timeout=20)) as connection:
        while sender.is_alive():
            asked = time.monotonic()
            connection.request("GET", "/healthz")
            assert connection.getresponse().read()
            waits.append(time.monotonic() - asked)
    took = time.monotonic() - began
    sender.join()
    assert reply[0].status == 201
    return max(waits) / took
