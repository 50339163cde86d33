"""The pages say what is there: the log's columns, the settings, links that lead somewhere."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import duckdb
import pytest

from orchestrator_app.errors import UsageError
from orchestrator_app.fields import check_fields
from orchestrator_app.units_file import load_units

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])


def documented() -> dict[str, list[tuple[str, str]]]:
    """Column names and types of each table and view that docs/transition-log.md describes."""
    found: dict[str, list[tuple[str, str]]] = {}
    section = ""
    for line in (ROOT / "docs" / "transition-log.md").read_text().splitlines():
        if line.startswith("## "):
            section = line.removeprefix("## ")
            found[section] = []
        elif match := re.match(r"\| `(\w+)` \| ([\w\[\]]+) \|", line):
            found[section].append((match[1], match[2]))
    found["illegal_move"] = found["transition"]  # as its text says
    return found


def test_the_logs_page_has_every_table_and_column_of_the_log() -> None:
    connection = duckdb.connect()
    connection.execute((ROOT / "orchestrator_app" / "store" / "schema.sql").read_text())
    there = {}
    for (name,) in connection.execute("SELECT table_name FROM information_schema.tables").fetchall():
        there[name] = [(row[0], row[1]) for row in connection.execute(f'DESCRIBE "{name}"').fetchall()]
    connection.close()

    assert documented() == there


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_to_a_file_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s#]+)[^)]*\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_operating_lists_every_field_of_a_unit() -> None:
    page = (ROOT / "docs" / "operating.md").read_text()
    with pytest.raises(UsageError) as caught:
        check_fields({"no-such-field": 1})

    for field in str(caught.value).partition("there are ")[2].split(", "):
        assert f"`{field}`" in page or field == "name", field


def test_the_units_file_of_the_readme_loads(tmp_path: Path) -> None:
    text = re.search(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[1]
    (tmp_path / "units.yaml").write_text(text)

    assert [unit["name"] for unit in load_units(tmp_path / "units.yaml")] == ["fix-login", "audit-log"]


def test_the_words_that_are_not_ours_are_not_in_the_pages() -> None:
    not_ours = re.compile(r"\b(?:jobs?|tickets?|handlers?|managers?|utils|helpers?)\b", re.IGNORECASE)
    done = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True)

    for name in done.stdout.split():
        found = not_ours.search((ROOT / name).read_text())
        assert not found, f"{name} says {found and found[0]}"
