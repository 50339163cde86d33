"""Tab in a real bash: commands, options, names and statuses, of a running server and of a stopped log; and no noise."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_kit import ORCH, SOURCES, Server, environment, make_project, run

from orchestrator_app.cli import completing

# Presses Tab behind the last word, by the very function that the script has registered for `orch`.
PRESS = """
compopt() { :; }
eval "$(orch completion bash)"
complete -p orch > /dev/null || exit 9
while read -r line; do
  COMP_WORDS=(); for word in $line; do COMP_WORDS+=("${word//@/}"); done
  COMP_CWORD=$(( ${#COMP_WORDS[@]} - 1 )); COMPREPLY=(); _orch_completion orch; echo "${COMPREPLY[*]}"
done
"""


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory for the PATH with this `orch`, as its installer would put it."""
    folder = tmp_path_factory.mktemp("bin")
    (folder / "orch").write_text(
        f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {SOURCES!r})\n"
        "from orchestrator_app.cli import main\nsys.exit(main())\n"
    )
    (folder / "orch").chmod(0o755)
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(make_project(tmp_path_factory.mktemp("completion") / "work"))
    server.ok("pause", "--dispatch")
    units = "".join(f"- name: many-{number:04}\n" for number in range(1_500))
    server.ok("import", "-", stdin=f"{units}- name: mine\n- name: other\n- name: zebra\n")
    server.ok("cancel", "zebra")
    yield server
    server.end()


def pressed(shell: Path, root: Path, *lines: str) -> list[list[str]]:
    """What bash offers behind each line, of which @ is an empty word; nothing may be written beside it."""
    env = environment(PATH=f"{shell}{os.pathsep}{os.environ['PATH']}")
    done = subprocess.run(
        ["bash", "--norc", "-c", PRESS], cwd=root, env=env, capture_output=True, text=True, timeout=60,
        input="".join(f"orch {line}\n" for line in lines),
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, ""), done
    return [line.split() for line in done.stdout.splitlines()]


def test_bash_completes_commands_options_and_the_words_they_take(shell: Path, server: Server) -> None:
    found = pressed(
        shell, server.root, "st", "ls --la", "ls --status ne", "wait --for DONE,ca", "submit x --agent @",
        "submit x --workflow @", "retry x --phase @", "query x --format p", "emit @", "emit ask --o",
        "emit ask --kind @",
    )  # fmt: skip

    assert found[0] == ["stop", "status", "story"]
    assert found[1:4] == [["--label"], ["NEEDS_ATTENTION"], ["DONE,CANCELLED"]]
    assert found[4:8] == [["check", "shell"], ["default", "two"], ["RUN", "CHECK"], ["parquet"]]
    assert {"progress", "ask", "defer"} < set(found[8])
    assert found[9:] == [["--option"], ["question", "approval"]]


def test_bash_completes_the_names_of_units_that_a_command_is_for(shell: Path, server: Server) -> None:
    found = pressed(
        shell, server.root, "show mi", "show z", "cancel mine mi", "reopen @", "resume @", "show many-14999",
        "show many-149", "submit new --after mine,o", "show M", "show many-1499",
    )  # fmt: skip

    assert found[:6] == [["mine"], ["zebra"], [], ["zebra"], [], []]
    assert found[6:] == [[f"many-{number}" for number in range(1490, 1500)], ["mine,other"], [], ["many-1499"]]


def test_bash_completes_names_from_the_log_of_a_stopped_project(shell: Path, tmp_path: Path) -> None:
    server = Server(make_project(tmp_path / "work"))
    try:
        server.ok("pause", "--dispatch")
        server.ok("submit", "left-behind", "-p", "exit 0")
        server.ok("submit", "left-out", "-p", "exit 0")
        server.ok("cancel", "left-out", "--reason", "x")
    finally:
        server.end()

    assert pressed(shell, server.root, "show left", "reopen @") == [["left-behind", "left-out"], ["left-out"]]


def test_a_reader_of_a_long_list_that_has_had_enough_is_no_error(shell: Path, server: Server) -> None:
    env = environment(PATH=f"{shell}{os.pathsep}{os.environ['PATH']}")
    command = "set -o pipefail; orch ls --json | head -1; echo $?; orch ls | head -1; echo $?"

    done = subprocess.run(["bash", "-c", command], cwd=server.root, env=env, capture_output=True, text=True, timeout=60)

    assert done.stdout.splitlines()[:2] == ["[", "141"] and done.stdout.splitlines()[2].startswith("NAME ")
    assert done.stdout.splitlines()[3] in ("141", "0") and done.stderr == ""  # it may fit into the pipe


@pytest.mark.parametrize("trouble", ["no project", "no log", "no settings", "no token", "no answer"])
def test_tab_offers_nothing_and_says_nothing_where_there_is_nothing_to_ask(
    shell: Path, tmp_path: Path, trouble: str
) -> None:
    root = tmp_path if trouble == "no project" else make_project(tmp_path / "work")
    if trouble == "no settings":
        (root / "orchestrator.toml").write_text("[project\n")
    elif trouble == "no token":
        (root / ".orchestrator").mkdir()
        (root / ".orchestrator" / "server.json").write_text("{}")
    elif trouble == "no answer":
        (root / ".orchestrator").mkdir()
        (root / ".orchestrator" / "orchestrator.duckdb").write_bytes(b"nonsense" * 1_000)

    assert pressed(shell, root, "show @", "submit x --agent @")[0] == []


def test_whatever_a_completion_stumbles_on_no_word_of_it_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stumble(_: object) -> None:
        print("a warning", file=sys.stderr)
        raise RuntimeError("and an error")

    monkeypatch.setattr(completing, "_place", stumble)

    done = run(tmp_path, _ORCH_COMPLETE="bash_complete", COMP_WORDS="orch show ", COMP_CWORD="2")

    assert done == (0, "", "")


@pytest.mark.parametrize(
    ("shell_name", "word"), [("zsh", "#compdef orch"), ("fish", "complete --no-files --command orch")]
)
def test_other_shells_have_their_script(tmp_path: Path, shell_name: str, word: str) -> None:
    done = run(tmp_path, "completion", shell_name)

    assert (done.code, done.err) == (0, "") and word in done.out
    assert "_ORCH_COMPLETE" in done.out


def test_a_reader_of_completions_that_goes_away_is_no_error(tmp_path: Path) -> None:
    env = environment(_ORCH_COMPLETE="bash_complete", COMP_WORDS="orch ", COMP_CWORD="1")

    done = subprocess.run(
        ["bash", "-c", f"{' '.join(ORCH)} | true"], cwd=tmp_path, env=env, capture_output=True, timeout=60
    )

    assert (done.stdout, done.stderr) == (b"", b"")
