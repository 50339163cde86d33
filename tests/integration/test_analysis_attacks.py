"""What hostile SQL may try, and that it gets nowhere: it sees a copy, writes nothing, and ends."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from orchestrator_app import analysis
from orchestrator_app.errors import OrchError, UsageError
from orchestrator_app.orchestrator import Orchestrator
from orchestrator_app.settings import Project, load_project
from orchestrator_app.store.asking import ask
from orchestrator_app.store.export import export_stopped

SETTINGS = """
[workflow]
isolation = "none"
phases = ["RUN"]
[phases.RUN]
agent = "none"
[agents.none]
command = ["true"]
"""

# {0} is a directory with the file `canary.csv`, which has the word CANARY in it.
READS = [
    "SELECT * FROM read_csv('{0}/canary.csv')",
    "SELECT content FROM read_text('{0}/canary.csv')",
    "SELECT * FROM read_blob('{0}/canary.csv')",
    "SELECT * FROM read_parquet('{0}/canary.csv')",
    "SELECT * FROM parquet_metadata('{0}/canary.csv')",
    "SELECT * FROM sniff_csv('{0}/canary.csv')",
    "SELECT * FROM glob('{0}/*')",
    "SELECT * FROM '{0}/canary.csv'",
    "SELECT * FROM query_table('{0}/canary.csv')",
    "SELECT * FROM query('FROM read_text(''{0}/canary.csv'')')",
    "SELECT getenv('HOME')",
    "SELECT * FROM duckdb_secrets()",
    "SELECT * FROM secret_rows",  # a variable of this process
    "SELECT * FROM question",  # a variable of the process that answers
]
WRITES = [
    "COPY transition TO '{0}/out.csv'",
    "COPY (SELECT 1) TO '{0}/out.parquet'",
    "ATTACH '{0}/other.duckdb' AS other",
    "ATTACH ':memory:' AS other",
    "EXPORT DATABASE '{0}/exported'",
    "IMPORT DATABASE '{0}'",
    "PRAGMA profiling_output='{0}/profile.json'",
    "SET profile_output='{0}/profile.json'",
    "SET log_query_path='{0}/queries.log'",
    "CALL enable_logging(storage='file', storage_config={{'path': '{0}/log'}})",
    "CREATE TABLE more (a INTEGER)",
    "CREATE TEMP TABLE more AS SELECT 1",
    "CREATE MACRO f(x) AS x",
    "CREATE SECRET s (TYPE s3, KEY_ID 'a', SECRET 'b')",
    "INSERT INTO transition SELECT * FROM transition",
    "UPDATE transition SET unit = 'other'",
    "DELETE FROM transition",
    "DROP TABLE transition",
    "DROP VIEW unit",
    "WITH gone AS (DELETE FROM transition RETURNING *) SELECT * FROM gone",
    "EXPLAIN ANALYZE DELETE FROM transition",
    "SELECT * FROM query('DROP TABLE transition')",
    "SELECT nextval('numbers')",
    "CHECKPOINT",
    "FORCE CHECKPOINT",
    "PREPARE gone AS DELETE FROM transition",
    "EXECUTE gone",
]
ESCAPES = [
    "SET enable_external_access = true",
    "RESET enable_external_access",
    "SET lock_configuration = false",
    "SET memory_limit = '100GB'",
    "SET threads = 64",
    "SET allowed_directories = ['/']",
    "PRAGMA database_list",
    "CALL pragma_version()",
    "USE memory",
    "INSTALL httpfs",
    "LOAD httpfs",
    "COMMIT",
    "SELECT 1; DROP TABLE transition",
    "COMMIT; DROP TABLE transition",
    "SELECT * FROM query('SELECT 1; DROP TABLE transition')",
    "",
    "-- nothing",
    "SELEC 1",
]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A stopped project with a unit that is done."""
    root = tmp_path_factory.mktemp("attacked") / "project"
    root.mkdir()
    (root / "orchestrator.toml").write_text(SETTINGS)
    project = load_project(root)
    orchestrator = Orchestrator(project)
    orchestrator.start()
    orchestrator.request("submit", units=[{"name": "victim"}]).result(20)
    orchestrator.stop()
    export_stopped(project.state)
    return project


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    (tmp_path / "canary.csv").write_text("word\nCANARY\n")
    return tmp_path


@pytest.fixture(autouse=True)
def _nothing_is_left(project: Project, canary: Path) -> Iterator[None]:
    """Whatever a test does: the log and its copy are as before, no file is new, no process is left."""
    before = contents(project.state)

    yield

    assert contents(project.state) == before
    assert list(canary.iterdir()) == [canary / "canary.csv"]
    assert not [child for child in psutil.Process().children() if "sandbox.py" in " ".join(child.cmdline())]


def contents(folder: Path) -> dict[str, str]:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def refusal(project: Project, sql: str) -> str:
    secret_rows = [("CANARY",)]  # as a data frame would be in a notebook
    with pytest.raises(UsageError) as failure:
        analysis.query(project, sql)
    del secret_rows
    return str(failure.value)


@pytest.mark.parametrize("sql", READS + WRITES + ESCAPES)
def test_a_query_that_reads_elsewhere_or_writes_is_refused_in_one_line(
    project: Project, canary: Path, sql: str
) -> None:
    said = refusal(project, sql.format(canary))

    assert said.startswith("the query can't be answered: ")
    assert "\n" not in said
    assert "CANARY" not in said


def ask_it(project: Project, sql: str, *, limit: int = 10, seconds: float = 30) -> dict:
    return ask(project.state / "export", 1_000_000, sql, limit, seconds=seconds)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT count(*) FROM range(1000000000000) t(i)",
        "SELECT max(length(repeat('x', 1000000000))) FROM range(1000)",
        "WITH RECURSIVE r AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM r) SELECT max(i) FROM r",
    ],
)
def test_a_query_that_would_never_end_is_ended(project: Project, sql: str) -> None:
    began = time.monotonic()

    with pytest.raises(
        OrchError, match=r"longer than 2 s|needed more than it may use|can't be answered: Out of Memory"
    ):
        ask_it(project, sql, seconds=2)

    assert time.monotonic() - began < 20  # a limit, never an expectation


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT list(i) FROM range(300000000) t(i)",
        "SELECT string_agg(repeat('y', 1000), '') FROM range(3000000)",
        "SELECT repeat('x', 3000000000)",
    ],
)
def test_a_query_that_wants_all_memory_is_ended(project: Project, sql: str) -> None:
    with pytest.raises(OrchError) as failure:
        ask_it(project, sql, seconds=20)

    assert "\n" not in str(failure.value)


def test_a_long_answer_is_cut_and_says_so(project: Project) -> None:
    answer = ask_it(project, "SELECT unnest(range(100000)) AS number", limit=10)
    whole = ask_it(project, "SELECT unnest(range(10)) AS number", limit=10)

    assert answer["rows"] == whole["rows"] == [[number] for number in range(10)]
    assert (answer["truncated"], whole["truncated"]) == (True, False)


def test_a_wide_answer_is_cut_and_says_so(project: Project) -> None:
    answer = ask_it(project, "SELECT repeat('x', 1000000) AS text FROM range(1000)", limit=1000)

    assert answer["truncated"]
    assert 0 < len(answer["rows"]) < 70


def test_a_query_knows_nothing_of_the_server_s_environment(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCH_SECRET", "CANARY")

    answer = ask_it(project, "SELECT * FROM duckdb_settings()", limit=1000)

    assert answer["rows"]
    assert "CANARY" not in str(answer)
    assert os.path.expanduser("~") not in {row[1] for row in answer["rows"]}


def test_what_units_and_agents_say_is_given_as_it_is(project: Project) -> None:
    hostile = "<img src=x onerror=alert(1)>\x1b[31m\x00 'quoted' \u202e"

    answer = ask_it(project, f"SELECT '{hostile.replace(chr(39), chr(39) * 2)}' AS text")

    assert answer["rows"] == [[hostile]]


def test_a_query_longer_than_any_person_writes_is_refused(project: Project) -> None:
    with pytest.raises(UsageError, match="characters long"):
        ask_it(project, "SELECT 1 -- " + "x" * 200_000)


def test_a_deep_query_is_refused_in_one_line(project: Project) -> None:
    with pytest.raises(OrchError) as failure:
        ask_it(project, "SELECT " + "(" * 20_000 + "1" + ")" * 20_000)

    assert "\n" not in str(failure.value)
