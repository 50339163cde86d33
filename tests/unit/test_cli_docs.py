"""docs/cli.md is what the commands say of themselves."""

from __future__ import annotations

from pathlib import Path

from orchestrator_app.cli.docs import document

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"


def test_the_command_lines_page_is_what_the_commands_say_of_themselves() -> None:
    assert PAGE.read_text() == document(), "run `make docs`"
