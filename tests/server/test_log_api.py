"""Logs of any size and any content, a bounded piece at a time."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from raw_client import Client, Running

Submit = Callable[..., str]
GIB = 1024**3


@pytest.fixture
def log(running: Running, client: Client, unit: Submit, wait_until: Callable[..., Any]) -> tuple[str, Path]:
    """A unit that has run, and the file of its output."""
    name = unit("echo first; echo second; echo third")
    wait_until(lambda: client.api("GET", f"/units/{name}").json["status"] == "DONE")
    return f"/units/{name}/log", running.state / "runs" / name / "1" / "output.log"


def test_a_log_is_read_on_from_where_the_last_piece_ended(client: Client, log: tuple[str, Path]) -> None:
    path, _ = log

    first = client.api("GET", f"{path}?offset=0&limit=8").json
    second = client.api("GET", f"{path}?offset={first['next']}").json
    end = client.api("GET", f"{path}?offset={second['next']}").json

    assert (first["text"], second["text"], end["text"]) == ("first\nse", "cond\nthird\n", "")
    assert end["next"] == end["size"] == len("first\nsecond\nthird\n")


def test_the_last_lines_are_read_from_the_end(client: Client, log: tuple[str, Path]) -> None:
    path, _ = log

    assert client.api("GET", f"{path}?tail=2").json["text"] == "second\nthird\n"
    assert client.api("GET", f"{path}?tail=0").json["text"] == ""
    assert client.api("GET", f"{path}?tail=99").json["text"] == "first\nsecond\nthird\n"


def test_a_log_of_1_gb_is_never_read_whole(client: Client, log: tuple[str, Path]) -> None:
    path, file = log
    with open(file, "r+b") as output:
        output.truncate(GIB)
        output.seek(GIB)
        output.write(b"\nthe end\n")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    middle = client.api("GET", f"{path}?offset={GIB // 2}&limit={1024 * 1024}").json
    end = client.api("GET", f"{path}?tail=1").json
    whole = client.api("GET", path, None, ("Accept", "text/plain"))

    assert (len(middle["text"]), middle["size"]) == (1024 * 1024, GIB + 9)
    assert (end["text"], end["next"]) == ("the end\n", GIB + 9)
    assert len(whole.body) == 64 * 1024
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


@pytest.mark.parametrize("words", ["limit=0", f"limit={1024 * 1024 + 1}", "offset=-1", "tail=2&offset=0", "lines=3"])
def test_a_piece_that_nobody_should_ask_for_is_refused(client: Client, log: tuple[str, Path], words: str) -> None:
    assert client.api("GET", f"{log[0]}?{words}").status == 400


def test_a13_nuls_and_invalid_utf8_come_as_text_and_raw_as_they_are(client: Client, log: tuple[str, Path]) -> None:
    path, file = log
    raw = b"a\0b \xff\xfe \x1b[31mred\x1b[0m \xe2\x82"
    file.write_bytes(raw)

    text = client.api("GET", f"{path}?offset=0").json
    plain = client.api("GET", f"{path}?offset=0", None, ("Accept", "text/plain"))

    assert text["text"] == "a\0b \ufffd\ufffd \x1b[31mred\x1b[0m "
    assert text["next"] == len(raw) - 2  # a character cut off at the end waits for its rest
    assert plain.body == raw
    assert plain.header("Content-Type") == "text/plain; charset=utf-8"
    assert plain.header("X-Next-Offset") == str(len(raw))


def test_a_character_cut_by_a_piece_comes_whole_with_the_next(client: Client, log: tuple[str, Path]) -> None:
    path, file = log
    file.write_text("ab€cd", encoding="utf-8")

    first = client.api("GET", f"{path}?offset=0&limit=3").json
    second = client.api("GET", f"{path}?offset={first['next']}").json

    assert (first["text"], second["text"]) == ("ab", "€cd")


def test_a12_nothing_but_a_plain_file_in_its_own_place_is_read(client: Client, log: tuple[str, Path]) -> None:
    path, file = log
    secret = file.parents[3] / "token"

    file.unlink()
    file.symlink_to(secret)
    link = client.api("GET", path)
    file.unlink()
    os.mkfifo(file)
    pipe = client.api("GET", path)
    file.unlink()
    file.mkdir()
    directory = client.api("GET", path)
    file.rmdir()
    moved = file.parent.rename(file.parent.with_name("elsewhere"))
    file.parent.symlink_to(moved)
    (moved / "output.log").write_text("elsewhere")
    parent = client.api("GET", path)

    assert [reply.status for reply in (link, pipe, directory, parent)] == [404] * 4


def test_a_unit_that_has_not_started_has_an_empty_log(client: Client, unit: Submit) -> None:
    client.api("POST", "/dispatch", {"paused": True})
    name = unit("exit 0")

    reply = client.api("GET", f"/units/{name}/log")
    other = client.api("GET", f"/units/{name}/log?attempt=7")
    client.api("POST", "/dispatch", {"paused": False})

    assert (reply.status, reply.json["text"], reply.json["size"]) == (200, "", 0)
    assert other.status == 404
