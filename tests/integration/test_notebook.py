"""The notebook, executed as a person would, on a history that real attempts have made."""

from __future__ import annotations

import inspect
import json
import os
import re
import threading
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import nbformat
import pytest
from cli_kit import Server

from orchestrator_app.connection import Connection
from orchestrator_app.orchestrator import Orchestrator
from orchestrator_app.settings import load_project
from orchestrator_app.stopping import Stop

with warnings.catch_warnings():  # what Jupyter's packages say of each other's and Python's versions
    warnings.simplefilter("ignore")
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "notebooks" / "queue_history.ipynb"
DRIVING = ROOT / "notebooks" / "drive_a_queue.ipynb"

# A unit's prompt is the script that its attempt runs.
SETTINGS = """
[project]
slots = 2
grace = 1
[retry]
delay = 0.05
[workflow]
isolation = "none"
phases = ["RUN", "CHECK"]
[phases.RUN]
agent = "shell"
retries = 1
[phases.CHECK]
agent = "check"
[agents.shell]
command = ["sh", "-c", '. "$ORCH_PROMPT_FILE"']
[agents.check]
command = ["sh", "-c", "exit 0"]
"""
# It asks, ends, and is run again with the answer (which follows in its prompt, so it ends before that).
ASKS = """test -n "$ORCH_ANSWER" || echo '{"type": "ask", "text": "Tea or coffee?"}' >> "$ORCH_EVENTS"; exit 0"""

# An agent that asks in its first phase, and greets.
GREETER = """test "$ORCH_UNIT" = greeting || exit 0
test -n "$ORCH_ANSWER" || exec echo '{"type": "ask", "text": "Whom?", "options": ["world", "me"]}' >> "$ORCH_EVENTS"
echo "hello, $ORCH_ANSWER"
"""

# The last cell: the notebook's own tables, as the test reads them.
RESULTS = """
import json
print(json.dumps({
    "units": by_status["units"].to_dict(),
    "statuses": sorted(time_in_status.index),
    "seconds": float(time_in_status["total"].sum()),
    "phases": {phase: [int(row.attempts), int(row.failed)] for phase, row in phases.iterrows()},
    "slowest": slowest["unit"].iloc[0],
    "attention": {kind: [int(row["items"]), int(row["open"])] for kind, row in by_kind.iterrows()},
    "waited": [str(time) for time in attention["waited"] if time < pd.Timedelta(0)],
    "done": int(throughput.sum()),
    "story": [name, list(story["trigger"])],
    "busiest": dict(zip(busiest["unit"], busiest["attempts"].astype(int))),
}))
"""


class Play:
    """A project with a running orchestrator."""

    def __init__(self, root: Path) -> None:
        root.mkdir()
        (root / "orchestrator.toml").write_text(SETTINGS)
        self.root = root
        self.orchestrator = Orchestrator(load_project(root))
        self.orchestrator.start()

    def submit(self, name: str, prompt: str = "exit 0", **fields: Any) -> None:
        self.orchestrator.request("submit", units=[{"name": name, "prompt": prompt, **fields}]).result(20)

    def until(self, name: str, status: str) -> None:
        board, there = self.orchestrator.board, threading.Event()

        def look(_: object = None) -> None:
            if board.units[name].status == status:
                there.set()

        end = board.watch(look)
        look()
        assert there.wait(30), f"{name} is {board.units[name]}"
        end()

    def triggers(self, name: str) -> list[str]:
        rows = self.orchestrator.rows("SELECT trigger FROM transition WHERE unit = ? ORDER BY seq", [name])
        return [row["trigger"] for row in rows]


class Played(NamedTuple):
    """A project that has come to rest: its directory, and what its log says of the unit with the longest story."""

    root: Path
    longest: str
    story: list[str]


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    play = Play(tmp_path_factory.mktemp("notebook") / "project")
    try:
        play.submit("slow", "sleep 1.2")
        play.submit("after-slow", after=["slow"])
        play.submit("plain")
        play.submit("asks", ASKS)
        play.submit("fails", "exit 3")
        play.until("asks", "NEEDS_ATTENTION")
        play.orchestrator.request("answer", "asks", text="tea").result(20)
        for name in ("slow", "after-slow", "plain", "asks"):
            play.until(name, "DONE")
        play.until("fails", "NEEDS_ATTENTION")
        longest = max(play.orchestrator.board.units, key=lambda name: len(play.triggers(name)))
        return Played(play.root, longest, play.triggers(longest))
    finally:
        play.orchestrator.stop(Stop.AGENTS)


@pytest.fixture(autouse=True)
def _own_jupyter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Jupyter keeps its files here, not in the home directory of whoever runs the tests."""
    for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))


def execute(root: Path, more: str, file: Path = NOTEBOOK) -> tuple[nbformat.NotebookNode, Any]:
    """Run the notebook on a project, with one more cell at its end; that cell's output is JSON."""
    notebook = nbformat.read(file, as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell(more, id="results"))
    path = os.pathsep.join(part for part in (str(ROOT), os.environ.get("PYTHONPATH")) if part)
    environment = {**os.environ, "ORCH_PROJECT": str(root), "PYTHONPATH": path}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        client = NotebookClient(notebook, timeout=120, kernel_name="python3")
        client.execute(env=environment, cwd=str(root.parent))
    said = [output.text for output in notebook.cells[-1].outputs if output.output_type == "stream"]
    return notebook, json.loads(said[-1])


def complaints(notebook: nbformat.NotebookNode) -> list[str]:
    """What the cells wrote on standard error."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    return [output.text for output in outputs if output.output_type == "stream" and output.name == "stderr"]


def check(played: Played, notebook: nbformat.NotebookNode, told: dict[str, Any]) -> None:
    assert complaints(notebook) == []
    assert told["units"] == {"DONE": 4, "NEEDS_ATTENTION": 1}
    assert set(told["statuses"]) == {"BLOCKED", "READY", "RUNNING", "NEEDS_ATTENTION", "DONE"}
    assert told["seconds"] > 1.2
    assert told["phases"] == {"RUN": [7, 2], "CHECK": [4, 0]}
    assert told["slowest"] == "slow"
    assert told["attention"] == {"question": [1, 0], "error": [1, 1]}
    assert told["waited"] == []
    assert told["done"] == 4
    assert told["story"] == [played.longest, played.story]
    assert told["busiest"] == {"asks": 3, "fails": 2, "slow": 2, "plain": 2, "after-slow": 2}


def test_the_notebook_tells_what_the_units_of_a_stopped_project_went_through(played: Played) -> None:
    notebook, told = execute(played.root, RESULTS)

    check(played, notebook, told)


def test_the_notebook_tells_the_same_while_a_server_runs(played: Played) -> None:
    server = Server(played.root)
    try:
        notebook, told = execute(played.root, RESULTS)
    finally:
        server.end()

    assert "live" in notebook.cells[1].outputs[0]["data"]["text/plain"]
    check(played, notebook, told)


def test_the_notebook_runs_on_a_project_where_nothing_has_happened(tmp_path: Path) -> None:
    Play(tmp_path / "project").orchestrator.stop()

    notebook, told = execute(tmp_path / "project", "print([len(units), len(story), len(throughput), len(attention)])")

    assert complaints(notebook) == []
    assert told == [0, 0, 0, 0]


def test_the_notebook_fails_in_one_line_where_there_is_no_project(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()

    with pytest.raises(CellExecutionError) as failure:
        execute(tmp_path / "empty", "")

    assert failure.value.ename == "SettingsError"
    assert "orch init" in failure.value.evalue


@pytest.mark.parametrize("file", [NOTEBOOK, DRIVING], ids=lambda file: file.stem)
def test_the_notebook_is_kept_without_outputs(file: Path) -> None:
    notebook = nbformat.read(file, as_version=4)

    assert all(not cell.outputs and cell.execution_count is None for cell in notebook.cells if cell.cell_type == "code")


def test_the_notebook_that_drives_submits_follows_answers_and_may_be_run_again(tmp_path: Path) -> None:
    root = tmp_path / "project"
    root.mkdir()
    (root / "agent.sh").write_text(GREETER)
    command = """command = ["sh", "-c", '. "$ORCH_PROMPT_FILE"']"""
    assert command in SETTINGS
    (root / "orchestrator.toml").write_text(SETTINGS.replace(command, 'command = ["sh", "agent.sh"]'))
    cells = {cell.id: cell.source for cell in nbformat.read(DRIVING, as_version=4).cells}
    more = f"""{cells["connect"]}
{cells["submit"]}
again = orch.wait(names, timeout=5)
import json
print(json.dumps([reached, list(story["trigger"]), len(attempts), view.object, orch.log("greeting", 2), again]))
orch.close()"""
    server = Server(root)
    try:
        notebook, told = execute(root, more, DRIVING)
    finally:
        server.end()

    reached, story, attempts, view, log, again = told
    assert complaints(notebook) == []
    assert reached == dict.fromkeys(("greeting", "greeting-test", "greeting-docs"), "DONE")
    assert [each for each in story if each in ("submit", "ask", "answer", "finish")] == [
        "submit", "ask", "answer", "finish"
    ]  # fmt: skip
    assert attempts == 7
    assert view.count("**DONE**") == 3
    assert log == "hello, world\n"
    assert again == reached


def test_the_page_on_notebooks_names_everything_that_a_connection_offers(
    played: Played, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (ROOT / "docs" / "notebooks.md").read_text()
    rows = re.findall(r"^\| `(\w+)(\(.*?\))?` \|", page, re.MULTILINE)
    offered = {name for name in dir(Connection) if not name.startswith("_")}

    assert {name for name, _ in rows} == offered and len(rows) == len(offered)
    for name, arguments in rows:
        known = getattr(Connection, name)
        assert bool(arguments) == callable(known), name
        if arguments:
            parameters = list(inspect.signature(known).parameters.values())[1:]
            told = (each.name + ("" if each.default is each.empty else f"={each.default!r}") for each in parameters)
            assert arguments == f"({', '.join(told)})", name

    monkeypatch.setenv("ORCH_PROJECT", str(played.root))
    names: dict[str, Any] = {}
    server = Server(played.root)
    try:
        for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
            exec(block, names)  # fails if the page is wrong
        assert names["view"]().object["DONE"] == 5
        names["orch"].close()
    finally:
        server.end()
    said = capsys.readouterr().out
    assert "after-slow" in said and "unit:submit" in said and "unit:finish" in said
