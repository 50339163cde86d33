"""Names that lead elsewhere, and secrets that could stand where somebody else reads them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from raw_client import Client, Running
from serve_kit import Process

NAMES = (
    *(
        "../x",
        "..",
        ".",
        "a/../../b",
        "a/b",
        "/etc/passwd",
        "a\\b",
        "%2e%2e%2fx",
        "a\0b",
        "a" * 300,
        "-x",
        "--output=x",
    ),
    *("a.lock", "a..b", "A", "a\n", " a", "a b", "ä", "~", "$HOME", "@{-1}", ".git", "x:y", "\ud800", "con\u202e"),
)


def everything(root: Path) -> set[Path]:
    return {Path(folder) / name for folder, folders, files in os.walk(root) for name in (*folders, *files)}


@pytest.mark.parametrize("name", NAMES)
def test_a8_a_name_that_leads_elsewhere_names_no_unit(running: Running, client: Client, name: str) -> None:
    before, seq = everything(running.state.parent.parent), running.serving.orchestrator.board.seq

    made = client.api("POST", "/units", {"name": name, "prompt": "exit 0"})
    asked = [client("GET", f"/api/v1/units/{quote(name, safe='', errors='replace')}{end}") for end in ("", "/log")]

    assert made.status == 400 and "\n" not in made.json["detail"]
    assert {reply.status for reply in asked} <= {400, 404}
    assert running.serving.orchestrator.board.seq == seq
    assert everything(running.state.parent.parent) == before


@given(name=st.text(alphabet=st.characters(codec="utf-8"), max_size=40))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a8_whatever_a_path_says_nothing_outside_is_read_or_made(running: Running, client: Client, name: str) -> None:
    reply = client("GET", f"/api/v1/units/{quote(name, safe='')}/log")

    assert reply.status in (400, 404)
    assert "root:" not in reply.body.decode(errors="replace")


def test_a14_the_secrets_stand_nowhere_but_in_their_files(
    root: Path, start: Callable[..., Process], wait_until: Callable[..., Any]
) -> None:
    process = start(root, "serve", "--port", "0", command=(sys.executable, "-m", "orchestrator_app", "--project"))
    client = process.client
    link = client.api("POST", "/login-code", {"viewer": True}).json["url"]
    client("GET", link.partition(f":{client.port}")[2], bearer=False)
    client("GET", "/")
    process.submit("one", f"env > {root}/environment; exit 3")
    wait_until(lambda: process.unit("one")["status"] == "NEEDS_ATTENTION", 30, "the unit to fail")
    lines = b"".join(read(file) for file in Path("/proc").glob("[0-9]*/cmdline"))
    assert process.end() == 0

    secrets = [(root / ".orchestrator" / name).read_bytes().strip() for name in ("token", "viewer-token")]
    places = {file: read(file) for file in (*everything(root.parent), process.output) if file.is_file()}
    for secret in secrets:
        assert len(secret) > 32
        assert [str(file) for file, text in places.items() if secret in text] == [
            str(root / ".orchestrator" / ("token" if secret is secrets[0] else "viewer-token"))
        ]
        assert secret not in lines


def read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:  # of a process that has ended
        return b""
