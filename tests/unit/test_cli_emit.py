"""`orch emit`: what an agent may say, appended whole, and one line where it can't be."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from orchestrator_app.cli import main
from orchestrator_app.cli.emit import TYPES, parser
from orchestrator_app.reports import SPOKEN

ROOT = Path(__file__).parents[2]


@pytest.fixture
def events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "events.jsonl"
    monkeypatch.setenv("ORCH_EVENTS", str(file))
    return file


def said(events: Path) -> list[dict]:
    return [json.loads(line) for line in events.read_text().splitlines() if line]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["progress", "--percent", "40", "--step", "writing tests", "--iteration", "2"],
            {"type": "progress", "percent": 40, "step": "writing tests", "iteration": 2},
        ),
        (
            ["ask", "--question", "Which?", "--option", "a", "--option", "b", "--kind", "approval"],
            {"type": "ask", "question": "Which?", "options": ["a", "b"], "kind": "approval"},
        ),
        (["review", "--decision", "changes", "--feedback", "no test"], {"decision": "changes", "feedback": "no test"}),
        (["usage", "--input-tokens", "12", "--usd", "0.5"], {"input_tokens": 12, "usd": 0.5}),
        (["test", "--name", "test_x", "--state", "passed"], {"name": "test_x", "state": "passed"}),
        (["session", "--id", "abc"], {"type": "session", "id": "abc"}),
        (["heartbeat"], {"type": "heartbeat"}),
        (["note", "--message", "ünïcode\n\x1b", "--data", '{"a": 1}'], {"message": "ünïcode\n\x1b", "data": {"a": 1}}),
        (["defer", "--until", "2030-01-01T00:00:00Z"], {"until": "2030-01-01T00:00:00Z"}),
        (["--json", '{"type": "note", "message": "x", "more": [1]}'], {"type": "note", "more": [1]}),
        (["note", "--json", '{"message": "x"}'], {"type": "note", "message": "x"}),
    ],
)
def test_a_message_is_one_line_of_json(events: Path, arguments: list[str], message: dict) -> None:
    assert main(["emit", *arguments]) == 0

    assert len(events.read_bytes().splitlines()) == 1
    assert message.items() <= said(events)[0].items()


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ([], "say the type"),
        (["shout"], "shout"),
        (["ask"], "--question"),
        (["review", "--decision", "maybe"], "maybe"),
        (["progress", "--percent", "101"], "0 to 100"),
        (["progress", "--percent", "nan"], "0 to 100"),
        (["progress", "--percent", "half"], "half"),
        (["progress", "--question", "x"], "progress has no --question"),
        (["usage", "--usd", "-1"], "--usd"),
        (["defer", "--until", "tomorrow"], "tomorrow"),
        (["--json", "{"], "not JSON"),
        (["--json", '{"type": "note", "x": NaN}'], "NaN"),
        (["--json", "[1]"], "a JSON object"),
        (["--json", '{"type": "shout"}'], "shout"),
        (["note", "--message", "x", "--json", "{}"], "no other option"),
        (["note", "--message", "x" * 70_000], "at most 65,536"),
    ],
)
def test_a_wrong_message_is_one_line_and_nothing_is_written(
    events: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], word: str
) -> None:
    assert main(["emit", *arguments]) == 2

    told = capsys.readouterr().err
    assert word in told and len(told.splitlines()) == 1
    assert not events.exists()


def test_outside_of_an_attempt_it_says_so(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ORCH_EVENTS", raising=False)

    assert main(["emit", "heartbeat"]) == 1

    assert "ORCH_EVENTS is not set" in capsys.readouterr().err


def test_a_file_that_cannot_be_written_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in (tmp_path / "gone" / "events.jsonl", tmp_path):
        monkeypatch.setenv("ORCH_EVENTS", str(path))

        assert main(["emit", "heartbeat"]) == 1

        told = capsys.readouterr().err
        assert str(path) in told and len(told.splitlines()) == 1


def test_half_a_line_of_someone_else_swallows_no_message(events: Path) -> None:
    events.write_text('{"type": "note"')

    main(["emit", "ask", "--question", "still heard?"])

    assert json.loads(events.read_text().splitlines()[1])["question"] == "still heard?"


def test_many_at_once_are_all_whole(events: Path) -> None:
    command = [sys.executable, "-m", "orchestrator_app", "emit", "note", "--message"]

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda letter: subprocess.run([*command, letter * 20_000], cwd=ROOT, check=True), "abcdefgh"))

    assert sorted(message["message"][0] for message in said(events)) == list("abcdefgh")
    assert all(len(set(message["message"])) == 1 for message in said(events))


def test_it_knows_every_message_that_the_orchestrator_knows() -> None:
    assert set(TYPES) == set(SPOKEN)
    assert all(
        f"--{field.replace('_', '-')}" in parser().format_help() for _, fields, _ in TYPES.values() for field in fields
    )


def test_it_loads_the_standard_library_only() -> None:
    program = "import sys; from orchestrator_app.cli import main; main(['emit', 'x']); print(*sys.modules)"

    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)

    tops = {module.split(".")[0] for module in done.stdout.split()}
    before = subprocess.run(
        [sys.executable, "-c", "import sys; print(*sys.modules)"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    new = tops - {module.split(".")[0] for module in before.stdout.split()} - {"orchestrator_app"}
    assert new <= sys.stdlib_module_names
