"""What the command line prints: harmless, aligned, as wide as the terminal; and how it starts and fails."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from math import inf
from pathlib import Path

import click
import pytest

from orchestrator_app.cli import main, program, text

ROOT = Path(__file__).parents[2]
HEAVY = {"panel", "bokeh", "tornado", "duckdb", "pandas", "pyarrow", "param", "numpy", "yaml", "rich"}


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("\x1b[2Jx", "\\x1b[2Jx"),
        ("a\0b\x07\x7f\x9b", "a\\x00b\\x07\\x7f\\x9b"),
        ("left\u202eright\u2066", "left\\u202eright\\u2066"),
        ("\udcff", "\\udcff"),
        ("line\nline\ttab", "line\nline\ttab"),
        ("ünïcode 漢字 [bold]", "ünïcode 漢字 [bold]"),
    ],
)
def test_control_characters_are_shown(hostile: str, shown: str) -> None:
    assert text.safe(hostile) == shown


def test_a_cell_is_one_line_and_columns_are_aligned_by_what_is_seen() -> None:
    table = text.table(("NAME", "N"), [("漢字", 1), ("two\nlines\x1b", 22)], right=("N",))

    assert table.splitlines() == ["NAME            N", "漢字            1", "two lines\\x1b  22"]


def test_what_is_too_long_is_cut_with_an_ellipsis() -> None:
    assert text.cut("漢字漢字", 5) == "漢字…"
    assert text.cut("short", 5) == "short"
    assert text.width_of(text.cut("x" * 1_000, 40)) == 40


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(-3, "0 s"), (59.9, "59 s"), (60, "1 min 0 s"), (7_500, "2 h 5 min"), (90_000, "1 d 1 h")],
)
def test_spans_have_their_two_largest_units(seconds: float, shown: str) -> None:
    assert text.span(seconds) == shown


def test_times_are_utc_from_whatever_source() -> None:
    time = datetime(2026, 1, 31, 12, tzinfo=UTC)

    for value in (time, "2026-01-31T12:00:00.000000Z", time.replace(tzinfo=None), time.timestamp()):
        assert text.clock(value) == "2026-01-31 12:00:00Z"
    assert text.ago(datetime.now(UTC) - timedelta(hours=3)) == "3 h 0 min"


@pytest.mark.parametrize(
    "arguments", [["--help"], ["ls"], ["submit", "x"], ["show", "x"], ["logs", "x"], ["wait", "x"]]
)
def test_no_command_loads_what_only_a_server_needs(arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "orchestrator.toml").write_text("")
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from orchestrator_app.cli import main; main({arguments!r})"

    done = subprocess.run(
        [sys.executable, "-c", f"{code}; print(*sys.modules)"], cwd=tmp_path, capture_output=True, text=True, check=True
    )

    assert not {module.split(".")[0] for module in done.stdout.splitlines()[-1].split()} & HEAVY


def test_a_start_costs_no_more_than_ten_bare_pythons() -> None:
    bare, ours = [sys.executable, "-c", "pass"], [sys.executable, "-m", "orchestrator_app", "--version"]

    best = {id(command): inf for command in (bare, ours)}
    for command in (bare, ours) * 5:
        began = time.perf_counter()
        subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
        best[id(command)] = min(best[id(command)], time.perf_counter() - began)

    assert best[id(ours)] < 10 * best[id(bare)]


def test_every_column_keeps_a_few_letters_and_those_without_room_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("NO_COLOR", "1")
    rows = [("a-long-name\x1b[2J", "NEEDS_ATTENTION", "漢字漢字漢字", 3)]

    for width in range(1, 100):
        monkeypatch.setenv("COLUMNS", str(width))
        lines = text.table(("NAME", "STATUS", "WHAT", "N"), rows).splitlines()
        assert max(text.width_of(line) for line in lines) <= max(width, 11), width  # one column is never left out
        assert "\x1b" not in "".join(lines)
    monkeypatch.setenv("COLUMNS", "55")
    assert text.table(("NAME", "STATUS", "WHAT"), [("a-name", "DONE", "x" * 90)]).splitlines()[1].startswith("a-name ")


def test_every_command_of_the_list_is_there_with_a_help_of_its_own() -> None:
    for name in program.MODULES:
        command = program.orch.get_command(click.Context(program.orch), name)
        assert command.name == name
        assert command.short_help and (command.help or name == "emit")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["lss"], "did you mean ls?"),
        (["frobnicate"], "`orch --help`"),
        (["ls", "--colour"], "orch ls --help"),
        (["answer", "x"], "TEXT"),
        (["resolve", "a", "--with", "b", "fight"], "serialize"),
        (["wait"], "--all"),
        (["pause"], "--dispatch"),
        (["ls", "--limit", "0"], "x>=1"),
    ],
)
def test_wrong_usage_is_one_line_with_a_way_out(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "orchestrator.toml").write_text("")

    assert main(["--project", str(tmp_path), *arguments]) == 2

    told = capsys.readouterr()
    assert words in told.err and len(told.err.splitlines()) == 1
    assert told.out == ""


def test_an_error_that_nobody_expected_is_one_line_that_says_where_its_details_are(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(program, "Place", lambda given: 1 / 0)

    assert main(["ls"]) == 1

    told = capsys.readouterr().err
    (kept,) = tmp_path.glob("orch-error-*.txt")
    assert told == f"orch: unexpected error: ZeroDivisionError: division by zero; details are in {kept}\n"
    assert "Traceback" in kept.read_text()
