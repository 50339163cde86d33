"""Wrong input to the command line: one clear line, the right exit code, and nothing half-done."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cli_kit import SETTINGS, Server, assert_one_line, make_project, run, spawn

from orchestrator_app.claim import server_info


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(make_project(tmp_path_factory.mktemp("bad") / "work"))
    server.ok("pause", "--dispatch")
    server.ok("submit", "there", "-p", "exit 0")
    yield server
    server.end()


@pytest.fixture
def unchanged(server: Server) -> Iterator[None]:
    """After the test the log is what it was before."""
    before = server.json("status")["seq"]
    yield
    assert server.json("status")["seq"] == before


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    "name", ["../evil", "a/b", "with space", "--upload-pack=x", "-x", "Upper", "", "a..b", "x.lock", "a\nb", "x" * 101]
)
def test_a_name_that_cannot_be_one_is_refused(server: Server, name: str) -> None:
    for arguments in (("submit", "-p", "exit 0", "--", name), ("show", "--", name), ("cancel", "--", name)):
        assert_one_line(server.orch(*arguments), 2, "name")
    assert_one_line(server.orch("logs", "--", name), 2, "name")


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("submit", "there"), 2, ("there", "exists already")),
        (("submit", "new", "--after", "nobody"), 1, ("nobody", "doesn't exist")),
        (("submit", "new", "--after", "new"), 2, ("new", "after itself")),
        (("submit", "new", "--workflow", "none"), 2, ("none", "default", "two")),
        (("submit", "new", "--agent", "none"), 2, ("none", "shell")),
        (("submit", "new", "--timeout", "-1"), 2, ("timeout",)),
        (("submit", "new", "--priority", "high"), 2, ("high",)),
        (("submit", "new", "--label", "two words"), 2, ("labels", "two words")),
        (("submit", "new", "-p", "x", "--prompt-file", "y"), 2, ("--prompt-file",)),
        (("submit", "new", "--prompt-file", "no-such-file"), 2, ("no-such-file",)),
        (("submit", "--upload-pack", "x"), 2, ("--upload-pack",)),
        (("edit", "there", "--after", "there"), 2, ("there",)),
        (("edit", "there"), 2, ("there", "what to change")),
        (("answer", "there", "x"), 1, ("there", "READY")),
        (("approve", "there"), 1, ("there",)),
        (("accept", "there", "--reason", "x"), 1, ("there", "READY")),
        (("resume", "there"), 1, ("there", "READY")),
        (("retry", "there", "--phase", "NONE"), 1, ("NONE",)),
        (("resolve", "there", "--with", "nobody", "serialize"), 1, ("nobody",)),
        (("logs", "there", "--attempt", "7"), 1, ("there", "7")),
        (("diff", "there"), 1, ("there", "no branch")),
        (("ls", "--status", "sleepy"), 2, ("sleepy", "READY")),
        (("wait", "there", "--for", "sleepy"), 2, ("sleepy",)),
    ],
)
def test_what_cannot_be_done_is_refused(
    server: Server, arguments: tuple[str, ...], code: int, words: tuple[str, ...]
) -> None:
    assert_one_line(server.orch(*arguments), code, *words)


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("command", ["show", "story", "logs", "cancel", "retry", "wait", "diff", "attention"])
def test_an_unknown_unit_is_told_with_the_names_that_are_close(server: Server, command: str) -> None:
    assert_one_line(server.orch(command, "theer"), 1, "theer", "did you mean there?")


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    ("name", "content", "code", "words"),
    [
        ("units.yaml", b"", 2, ("units.yaml", "no units")),
        ("units.yaml", b"- name: a\n- name: b\n  prioritee: 1\n", 2, ("units.yaml:3", "prioritee", "priority")),
        ("units.yaml", b"- name: a\n- name: '../b'\n", 2, ("units.yaml:2", "../b")),
        ("units.yaml", b"- name: a\n  x: [\n", 2, ("units.yaml", "not valid YAML")),
        ("units.toml", b"[[units]]\nname = \n", 2, ("units.toml:2", "not valid TOML")),
        ("units.json", b'[{"name": "a"}, {"name": "a"}]', 2, ("units.json:1", "twice")),
        ("units.yaml", b"- name: a\n  after: [b]\n- name: b\n  after: [a]\n", 2, ("cycle", "a after b after a")),
        ("units.yaml", b"- name: a\n- name: b\n  after: [nobody]\n", 1, ("nobody",)),
        ("units.yaml", b"- name: a\n- name: there\n", 2, ("there", "exists already")),
        ("units.txt", b"a", 2, ("units.txt", ".yaml")),
        ("units.yaml", b"\xff\xfe\x00", 2, ("units.yaml", "UTF-8")),
    ],
)
def test_an_import_is_all_or_nothing(
    server: Server, tmp_path: Path, name: str, content: bytes, code: int, words: tuple[str, ...]
) -> None:
    (tmp_path / name).write_bytes(content)

    assert_one_line(server.orch("import", str(tmp_path / name)), code, *words)


def test_a_file_that_is_not_there_and_one_that_is_too_much_for_a_request_are_named(
    server: Server, tmp_path: Path
) -> None:
    big = tmp_path / "big.json"
    big.write_text(json.dumps([{"name": f"unit-{number}", "prompt": "x" * 190_000} for number in range(100)]))

    assert_one_line(server.orch("import", str(tmp_path / "gone.yaml")), 2, "gone.yaml")
    assert_one_line(server.orch("import", str(big)), 2, "in parts")


def test_a_cycle_made_by_an_edit_is_refused(server: Server) -> None:
    server.ok("submit", "later", "--after", "there")

    assert_one_line(server.orch("edit", "there", "--after", "later"), 2, "later", "cycle")


def test_a_second_server_says_who_serves_the_project(server: Server) -> None:
    done = spawn(server.root, "serve", "--port", "0")

    assert_one_line(done, 1, f"process {server.popen.pid}", "orch stop")
    assert server.json("status")["pid"] == server.popen.pid


def test_a_token_that_was_replaced_is_told(server: Server) -> None:
    token = server.root / ".orchestrator" / "token"
    kept = token.read_text()
    token.write_text("x" * 43)

    done = server.orch("status")

    token.write_text(kept)
    assert_one_line(done, 1, "token", "orch serve")


# -- without a server


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_project(tmp_path / "work")


@pytest.fixture
def git(tmp_path: Path) -> Callable[..., None]:
    def call(*arguments: str) -> None:
        identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
        subprocess.run(["git", *identity, *arguments], cwd=tmp_path / "work", check=True, capture_output=True)

    return call


@pytest.mark.parametrize(
    "arguments",
    [
        *(
            ["submit", "x"],
            ["status"],
            ["ps"],
            ["stop"],
            ["open"],
            ["wait", "x"],
            ["answer", "x", "y"],
            ["cancel", "x"],
        ),
        *(
            ["edit", "x", "--priority", "1"],
            ["events", "-f"],
            ["pause", "--dispatch"],
            ["ls"],
            ["check"],
            ["show", "x"],
        ),
    ],
)
def test_without_a_server_each_command_says_how_to_start_one(root: Path, arguments: list[str]) -> None:
    assert_one_line(run(root, *arguments), 3, f"no server runs for {root}", "`orch serve`")
    assert sorted(os.listdir(root)) == ["orchestrator.toml"]


def test_what_a_killed_server_left_behind_counts_as_no_server(root: Path) -> None:
    server = Server(root)
    server.popen.kill()
    server.popen.wait(30)
    assert (root / ".orchestrator" / "server.json").exists()

    assert_one_line(run(root, "submit", "x"), 3, "no server runs")
    assert_one_line(run(root, "stop"), 3, "no server runs")


def test_outside_of_any_project_it_says_so(tmp_path: Path) -> None:
    for arguments in (["ls"], ["serve"], ["submit", "x"]):
        assert_one_line(spawn(tmp_path, *arguments), 2, "no orchestrator.toml", "`orch init`")
    assert_one_line(run(tmp_path, "--project", "nowhere", "ls"), 2, str(tmp_path / "nowhere"))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("[project\n", ("orchestrator.toml:1", "not valid TOML")),
        ("[project]\nslot = 1\n", ("orchestrator.toml:2", '"slot"', "slots")),
        (SETTINGS.replace('agent = "check"', 'agent = "chekc"'), ("chekc", "check")),
        (SETTINGS.replace('phases = ["RUN"]', 'phases = ["RNU"]'), ("RNU", "RUN")),
        (SETTINGS + '[server]\nhost = "0.0.0.0"\n', ("0.0.0.0", "127.0.0.1")),
    ],
)
def test_settings_that_cannot_be_used_are_told_with_their_line(
    tmp_path: Path, settings: str, words: tuple[str, ...]
) -> None:
    root = make_project(tmp_path / "work", settings)

    assert_one_line(spawn(root, "serve", "--port", "0"), 2, *words)
    assert sorted(os.listdir(root)) == ["orchestrator.toml"]


def test_serve_needs_a_repository_with_a_commit_and_the_base_branch(tmp_path: Path, git: Callable[..., None]) -> None:
    settings = SETTINGS.replace('isolation = "none"', 'isolation = "worktree"')
    root = make_project(tmp_path / "work", settings)

    assert_one_line(spawn(root, "serve"), 1, str(root), "not a git repository", "git init")
    git("init", "-q", "-b", "trunk")
    assert_one_line(spawn(root, "serve"), 1, str(root), "no commit")
    git("commit", "-q", "--allow-empty", "-m", "start")
    assert_one_line(spawn(root, "serve"), 1, "no branch main", "trunk")
    assert sorted(os.listdir(root)) == [".git", "orchestrator.toml"]


def test_init_needs_a_repository_with_a_commit_and_no_settings_yet(tmp_path: Path, git: Callable[..., None]) -> None:
    root = tmp_path / "work"
    root.mkdir()

    assert_one_line(run(root, "init"), 1, str(root), "git init")
    git("init", "-q", "-b", "trunk")
    assert_one_line(run(root, "init"), 1, "no commit")
    assert os.listdir(root) == [".git"]
    git("commit", "-q", "--allow-empty", "-m", "start")
    written = run(root, "init")
    assert written.code == 0 and "Wrote" in written.out and "orch serve" in written.out
    text = (root / "orchestrator.toml").read_text()
    assert 'base = "trunk"' in text
    assert_one_line(run(root, "init"), 2, "orchestrator.toml", "already")
    assert (root / "orchestrator.toml").read_text() == text


def test_init_works_without_git_and_where_it_is_told_to(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()

    done = run(tmp_path, "--project", "plain", "init", "--isolation", "none")

    assert done.code == 0 and (tmp_path / "plain" / "orchestrator.toml").is_file()
    assert_one_line(run(tmp_path, "--project", "nowhere", "init"), 2, "nowhere")


def test_ports_that_are_taken_are_named(tmp_path: Path, root: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]

        assert_one_line(spawn(root, "serve", "--port", str(port)), 1, f"Port {port} is taken", "--port")
    assert_one_line(spawn(root, "serve", "--port", "70000"), 2, "70000")
    assert server_info(root / ".orchestrator") is None


def test_a_state_directory_that_cannot_be_made_is_named(root: Path) -> None:
    (root / ".orchestrator").write_text("in the way")

    for arguments in (["serve", "--port", "0"], ["ls"], ["submit", "x"]):
        done = spawn(root, *arguments)
        assert done.code in (2, 3)
        assert_one_line(done, done.code, str(root))
    assert (root / ".orchestrator").read_text() == "in the way"
