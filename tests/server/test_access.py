"""Secrets, cookies and guesses, without a server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestrator_app import access
from orchestrator_app.access import OPERATOR, VIEWER, Access, SignIn, Who
from orchestrator_app.claim import make_viewer_token
from orchestrator_app.doors import check_host, password_of
from orchestrator_app.errors import UsageError

LONG = "correct horse"
OTHER = "battery staple"


def made(state: Path | None = None, **ways) -> Access:
    return Access("t" * 43, state, SignIn(**ways))


def test_each_way_in_gives_its_role_and_its_name() -> None:
    door = made(password=LONG, viewer_password=OTHER, users={"ana": "ana's secret"}, provider="github")

    assert door.of_cookie(door.new_cookie()) == OPERATOR
    assert door.of_cookie(door.new_cookie("password")) == OPERATOR
    assert door.of_cookie(door.new_cookie("viewer_password")) == VIEWER
    assert door.of_cookie(door.new_cookie("user", "ana")) == Who(True, "ana")
    assert door.of_cookie(door.new_cookie("provider", "bo@example.org")) == Who(True, "bo@example.org")


def test_only_the_named_operators_may_act_among_those_with_a_name() -> None:
    door = made(users={"ana": LONG, "bo": OTHER}, operators=("ana",))

    assert door.of_cookie(door.new_cookie("user", "ana")) == Who(True, "ana")
    assert door.of_cookie(door.new_cookie("user", "bo")) == Who(False, "bo")
    assert door.of_cookie(door.new_cookie()) == OPERATOR


def test_a_way_that_was_closed_lets_nobody_in_with_an_old_cookie(tmp_path: Path) -> None:
    before = made(tmp_path, password=LONG, users={"ana": LONG}, provider="github")
    make_viewer_token(tmp_path)
    cookies = [before.new_cookie(*way) for way in (("password",), ("user", "ana"), ("provider", "bo"), ("viewer",))]
    assert all(before.of_cookie(one) for one in cookies)

    after = made(tmp_path, password=OTHER, users={"ana": OTHER})
    (tmp_path / "viewer-token").unlink()

    assert [after.of_cookie(one) for one in cookies] == [None] * 4


@pytest.mark.parametrize("name", ["", "bo", "ANA", "ana\0"])
def test_a_password_opens_only_its_owners_way(name: str) -> None:
    door = made(users={"ana": LONG})

    assert door.way_of_password("ana", LONG) == "user"
    assert door.way_of_password(name, LONG) is None
    assert door.way_of_password("ana", "") is None


def test_without_a_password_no_word_is_one() -> None:
    assert made().way_of_password("", "") is None
    assert made().way_of_token("") is None


def test_users_of_a_file_come_and_go_with_it(tmp_path: Path) -> None:
    file = tmp_path / "users.json"
    file.write_text(json.dumps({"ana": LONG}))
    door = made(users=file)
    cookie = door.new_cookie("user", "ana")

    file.write_text(json.dumps({"bo": OTHER}))

    assert door.of_cookie(cookie) is None
    assert door.way_of_password("bo", OTHER) == "user"


@pytest.mark.parametrize(
    "ways",
    [
        {"password": "short"},
        {"password": LONG, "viewer_password": LONG},
        {"users": {"ana": ""}},
        {"users": Path("/no/such/file")},
    ],
)
def test_what_protects_nothing_is_refused_in_one_line(ways: dict) -> None:
    with pytest.raises(UsageError) as refused:
        SignIn(**ways)

    assert "\n" not in str(refused.value)


def test_wrong_passwords_of_an_address_are_slowed_and_of_others_not(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(access.time, "monotonic", lambda: now)
    door = made(password=LONG)
    for _ in range(access.FREE):
        assert door.wait("192.0.2.1") == 0
        door.failed("192.0.2.1")

    assert door.wait("192.0.2.1") == pytest.approx(access.EVERY)
    assert door.wait("192.0.2.2") == 0
    now += access.EVERY
    assert door.wait("192.0.2.1") == pytest.approx(0)


def test_one_machine_with_many_addresses_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    door = made(password=LONG)
    for number in range(access.FREE + 1):
        door.failed(f"2001:db8::{number:x}")

    assert door.wait("2001:db8::ffff") > 0
    assert door.wait("2001:db8:0:1::1") == 0


def test_a17_addresses_that_guessed_are_not_remembered_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "ADDRESSES", 10)
    door = made(password=LONG)

    for number in range(100):
        door.failed(f"192.0.2.{number}")

    assert len(door._failed) <= 10


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_a5_this_machine_alone_needs_no_password(host: str) -> None:
    assert check_host(host, SignIn()) == host


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "localhost.example.org", ""])
def test_a5_the_network_needs_a_way_to_sign_in(host: str) -> None:
    with pytest.raises(UsageError, match="--password-file"):
        check_host(host, SignIn())

    assert check_host(host, SignIn(password=LONG)) == host


def test_a14_a_password_is_taken_out_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    monkeypatch.setenv("ORCH_PASSWORD", LONG)

    assert password_of("ORCH_PASSWORD", None) == LONG
    assert "ORCH_PASSWORD" not in os.environ


def test_a19_a_password_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(LONG + "\n")
    file.chmod(0o640)

    with pytest.raises(UsageError, match="chmod 600"):
        password_of("ORCH_PASSWORD", file)

    file.chmod(0o600)
    assert password_of("ORCH_PASSWORD", file) == LONG
