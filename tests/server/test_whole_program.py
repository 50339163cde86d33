"""The program of docs/api.md, run as it stands there, against a server that is killed and one that is stopped."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from raw_client import SETTINGS, make_project
from serve_kit import Process

import orchestrator_app

PAGE = Path(orchestrator_app.__file__).parents[1] / "docs" / "api.md"
#: `schema` asks, and ends; with the answer it waits for a file, as `loader` does.
AGENT = """
if [ $ORCH_UNIT = schema ] && [ -z "$ORCH_ANSWER" ]; then
  echo '{{"type":"ask","question":"Which database?"}}' >> "$ORCH_EVENTS"; exit 0
fi
echo "$ORCH_ANSWER" > {here}/$ORCH_UNIT.runs.new; mv {here}/$ORCH_UNIT.runs.new {here}/$ORCH_UNIT.runs
while ! test -e {here}/$ORCH_UNIT.go; do sleep 0.02; done
"""


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[[Path], subprocess.Popen]]:
    begun: list[subprocess.Popen] = []

    def begin(root: Path) -> subprocess.Popen:
        (program,) = re.findall(r"```python\n(import asyncio\n.*?)```", PAGE.read_text(), re.DOTALL)
        with open(tmp_path / "said", "wb") as said:
            begun.append(subprocess.Popen([sys.executable, "-c", program], cwd=root, stdout=said, stderr=said))
        return begun[-1]

    yield begin
    for one in begun:
        one.kill()
        one.wait()


def test_the_program_of_the_page_follows_its_units_through_restarts_answers_and_reads_the_history(
    tmp_path: Path, run: Callable[..., Any], start: Callable[..., Process], wait_until: Callable[..., Any]
) -> None:
    (tmp_path / "agent.sh").write_text(AGENT.format(here=tmp_path))
    root = make_project(tmp_path / "work", SETTINGS.replace('. "$ORCH_PROMPT_FILE"', f". {tmp_path}/agent.sh"))
    process = start(root)

    program = run(root)
    wait_until((tmp_path / "schema.runs").exists)
    process.end(signal.SIGKILL)
    (tmp_path / "schema.go").touch()
    process = start(root)
    wait_until((tmp_path / "loader.runs").exists)
    assert process.end(signal.SIGTERM) == 0
    (tmp_path / "loader.go").touch()
    process = start(root)
    said = (tmp_path / "said").read_text if program.wait(60) == 0 else None
    assert said, (tmp_path / "said").read_text()

    assert (tmp_path / "schema.runs").read_text() == "sqlite\n"
    told = re.findall(r"^(\d+) ((?:unit|attention):\S+) (\S+)$", said(), re.MULTILINE)
    records = process.client.api("GET", "/feed?since=0&tables=transition,attention_change").json["records"]
    followed = [row for row in records if int(told[0][0]) <= row["seq"] <= int(told[-1][0])]
    assert [int(seq) for seq, _, _ in told] == [row["seq"] for row in followed]
    assert [row["trigger"] for row in records if row["seq"] < int(told[0][0])] == ["submit", "submit", "block"]
    kinds = [f"{kind} {name}" for _, kind, name in told]
    assert kinds[-1] == "unit:finish loader"
    assert {"attention:added schema", "unit:answer schema", "unit:finish schema", "unit:unblock loader"} <= set(kinds)
    assert [row["unit"] for row in records if row.get("trigger") == "submit"] == ["schema", "loader"]
    for row in records:
        if "trigger" in row:
            assert re.search(rf"\b{row['seq']} +{row['unit']} +{row['trigger']} +{row['to_status']}\b", said())
