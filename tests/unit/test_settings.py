"""Settings: what a file means, and the one clear line for each way it can be wrong."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator_app import settings_table
from orchestrator_app.errors import NotFoundError, SettingsError, UsageError
from orchestrator_app.fields import complete_fields
from orchestrator_app.settings import SETTINGS, check_fields, check_name, find_project, load_project
from orchestrator_app.toml_lines import key_lines, line_of

AGENT = '[agents.robot]\ncommand = ["robot", "-p"]\n'


@pytest.fixture
def load(tmp_path: Path):
    def load(text: str):
        (tmp_path / "orchestrator.toml").write_text(text)
        return load_project(tmp_path)

    return load


def test_an_agent_alone_makes_a_project_with_every_default(load, tmp_path: Path) -> None:
    project = load(AGENT)

    assert (project.root, project.state) == (tmp_path, tmp_path / ".orchestrator")
    assert (project.base, project.slots, project.isolation, project.verify) == ("main", 4, "worktree", None)
    assert (project.touches, project.host, project.port, project.grace) == ("serialize", "127.0.0.1", 5006, 10)
    workflow = project.workflows["default"]
    assert [(phase.name, phase.kind, phase.agent, phase.back_to) for phase in workflow.phases] == [
        ("PLAN", "agent", "robot", None),
        ("IMPLEMENT", "agent", "robot", None),
        ("REVIEW", "review", "robot", "IMPLEMENT"),
        ("COMPLETE", "agent", "robot", None),
        ("MERGE", "merge", None, None),
    ]
    assert workflow.first.name == "PLAN"
    assert workflow.after("COMPLETE").name == "MERGE" and workflow.after("MERGE") is None
    with pytest.raises(NotFoundError, match="has no phase"):
        workflow.phase("DEPLOY")


def test_what_the_file_says_wins_and_every_value_knows_its_source(load) -> None:
    project = load(
        """\
[project]
base = "trunk"
verify = "pytest -q"
label_slots = {gpu = 1}

[workflow]
phases = ["IMPLEMENT", "CHECK", "MERGE"]
[workflows.quick]
phases = ["IMPLEMENT"]

[phases.CHECK]
kind = "review"
agent = "second"
timeout = 0
stall = 30
slots = 2
[phases.IMPLEMENT]
prompt = \"\"\"
agent = "not a key"
\"\"\"
[agents.robot]
command = ["robot"]
[agents.second]
command = "second | tee log"
env = {LANG = "C"}
"""
    )

    assert (project.base, project.verify, project.label_slots) == ("trunk", ("/bin/sh", "-c", "pytest -q"), {"gpu": 1})
    check = project.workflows["default"].phase("CHECK")
    assert (check.agent, check.timeout, check.stall, check.slots) == ("second", None, 30, 2)
    assert check.back_to == "IMPLEMENT"
    assert [phase.name for phase in project.workflows["quick"].phases] == ["IMPLEMENT"]
    assert project.agents["second"].command == ("/bin/sh", "-c", "second | tee log")
    assert project.agents["second"].env == {"LANG": "C"}
    assert project.sources["project.base"] == "orchestrator.toml:2"
    assert project.sources["project.slots"] == "default"
    assert project.sources["agents.second.env"] == "orchestrator.toml:25"


def test_without_isolation_the_default_workflow_merges_nothing(load) -> None:
    project = load('[workflow]\nisolation = "none"\n' + AGENT)

    assert [phase.name for phase in project.workflows["default"].phases] == ["PLAN", "IMPLEMENT", "REVIEW", "COMPLETE"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[project]\n\nslotz = 3\n", '3: unknown key "slotz" in [project]; did you mean "slots"?'),
        ("[projekt]\n", '1: unknown table "projekt"; did you mean "project"?'),
        ("[server]\nport = 70000\n", "2: server.port must be 65535 or less, not 70000"),
        ('[server]\nhost = ""\n', "2: server.host must be an address"),
        ("[project]\nslots = 0\n", "2: project.slots must be 1 or more, not 0"),
        ("[project]\nslots = true\n", "2: project.slots must be a whole number"),
        ("[project]\ngrace = nan\n", "2: project.grace must be 0 or more, not nan"),
        ('[project]\nbase = "--upload-pack=x"\n', "2: project.base can't be a branch's name"),
        ('[project]\nbase = "x"\nverify = []\n', "3: project.verify must be a command"),
        ('[project]\nverify = ""\n', "2: project.verify must be a command"),
        ('[project]\nverify = "a\\u0000b"\n', "2: project.verify must not contain a NUL"),
        ('[project]\ntouches = "maybe"\n', '2: project.touches must be one of serialize, ask, ignore, not "maybe"'),
        ("[project]\nlabel_slots = {gpu = 0}\n", "2: project.label_slots each value must be 1 or more, not 0"),
        ("project = 3\n", "1: project must be a table"),
        ("[workflows]\nquick = 3\n", "2: workflows.quick must be a table"),
        ("[workflows.quick]\n", '1: workflow "quick" has no phases'),
        ('[workflows.default]\nphases = ["PLAN"]\n', "1: the default workflow's table is [workflow]"),
        ("[workflow]\nphases = []\n", '2: workflow "default" has no phases'),
        ('[workflow]\nphases = ["PLAN", "IMPLMENT"]\n', '2: unknown phase "IMPLMENT"; did you mean "IMPLEMENT"?'),
        ('[workflows.q]\nphases = ["PLAN", "XYZ"]\n', '2: unknown phase "XYZ"; add [phases.XYZ]'),
        ('[workflow]\nphases = ["PLAN", "PLAN"]\n', '2: workflow "default" lists phase "PLAN" twice'),
        ('[workflow]\nphases = ["MERGE", "PLAN"]\n', '2: MERGE must be the last phase of workflow "default"'),
        ('[workflow]\nisolation = "none"\nphases = ["PLAN", "MERGE"]\n', '3: MERGE needs isolation = "worktree"'),
        ('[phases.PLAN]\nagent = "robto"\n', '2: no agent "robto" for PLAN; did you mean "robot"?'),
        ('[phases.PLAN]\nkind = "revue"\n', "2: phases.PLAN.kind must be one of agent, review, merge"),
        ('[phases.REVIEW]\nback_to = "COMPLETE"\n', '2: no phase "COMPLETE" before REVIEW in workflow "default"'),
        ('[phases.MERGE]\nagent = "robot"\n', '2: "agent" has no meaning in MERGE'),
        ("[phases.PLANS]\nretries = 1\n", '1: no workflow has a phase "PLANS"; did you mean "PLAN"?'),
        ("[agents.second]\n", '1: agent "second" has no command'),
        ('[agents."a b"]\n', '1: "a b" can\'t be a name'),
        ('[agents.second]\ncommand = "x"\nenv = {A = 3}\n', "3: agents.second.env has an unusable entry"),
        ("[project]\nslots = \n", "2: not valid TOML: "),
        ('[project]\nbase = "x"\nbase = "y"\n', "3: not valid TOML: "),
    ],
)
def test_a_wrong_file_is_one_line_with_its_place(load, text: str, message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(text + AGENT)

    assert str(caught.value).startswith(f"orchestrator.toml:{message}")
    assert "\n" not in str(caught.value)


def test_a_project_without_an_agent_says_how_to_add_one(load) -> None:
    with pytest.raises(SettingsError, match=r"no agent is defined to run PLAN; add \[agents.NAME\]"):
        load("")


def test_a_file_that_is_not_text_or_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="run `orch init` there"):
        load_project(tmp_path)
    (tmp_path / "orchestrator.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match="not UTF-8"):
        load_project(tmp_path)


def test_the_project_is_found_from_a_directory_below_it(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    with pytest.raises(SettingsError, match=r"or above; run `orch init`"):
        find_project(tmp_path / "a" / "b")

    (tmp_path / "orchestrator.toml").write_text(AGENT)

    assert find_project(tmp_path / "a" / "b") == tmp_path


def test_the_settings_page_is_what_the_table_says() -> None:
    page = Path(__file__).parents[2] / "docs" / "settings.md"

    assert page.read_text() == settings_table.as_markdown(), "run `make docs`"


def test_every_default_is_what_its_own_type_allows() -> None:
    for setting in SETTINGS:
        if setting.default is not None and (setting.type != "text" or setting.default):
            value = tomllib.loads(f"x = {settings_table.as_toml(setting.default)}")["x"]
            assert settings_table.read_value(setting, value) == setting.default, setting.name


def test_lines_are_found_past_texts_of_many_lines_and_for_quoted_and_dotted_keys() -> None:
    text = '[a]\nx = """\n[b]\ny = 1 \\""" still\n"""\n"q r".s = 2 # """\n'
    text += "t = '''one'''\n[[c]]\nz = 1\n[[c]]\nz = 2\n"
    lines = key_lines(text)

    assert lines[("a", "x")] == 2 and ("b",) not in lines and ("a", "y") not in lines
    assert lines[("a", "q r", "s")] == 6 and lines[("a", "t")] == 7
    assert lines[("c", 0, "z")] == 9 and lines[("c", 1, "z")] == 11
    assert line_of(lines, ("a", "x", "deeper")) == 2 and line_of(lines, ("nowhere",)) == 1


@pytest.mark.parametrize("name", ["a", "fix-login", "0.1_b", "x" * 100])
def test_a_slug_is_a_name(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../x", 'unit name "../x": use only a-z, 0-9, . _ - and begin with a letter or digit, as in "x"'),
        ("Fix Login", 'as in "fix-login"'),
        ("--upload-pack", 'as in "upload-pack"'),
        ("a/b", "use only"),
        ("a\n", "use only"),
        ("a\0b", "use only"),
        ("é", "use only"),
        (".a", "use only"),
        ("a..b", 'must not contain ".."'),
        ("a.lock", 'must not end in "." or ".lock"'),
        ("a.", 'must not end in "." or ".lock"'),
        ("x" * 101, "101 characters, at most 100"),
        ("", "not empty"),
        (7, "must be a text"),
    ],
)
def test_what_can_not_be_a_name_is_one_line_that_says_why(name: object, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_name(name)

    assert message in str(caught.value)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


@given(st.text(alphabet=st.sampled_from("ab0./_-~^:\\ @{\n\0é") | st.characters(), max_size=110))
def test_every_accepted_name_is_safe_as_branch_path_and_argument(name: str) -> None:
    try:
        check_name(name)
    except UsageError:
        return

    assert name.isascii() and name[0].isalnum() and "/" not in name and ".." not in name and len(name) <= 100


def test_fields_are_normalised_and_only_the_given_ones_come_back() -> None:
    assert check_fields({"after": ["b", "a", "b"], "timeout": 5, "agent": None}) == {
        "after": ["b", "a"],
        "timeout": 5.0,
        "agent": None,
    }


def test_a_new_unit_has_every_field() -> None:
    first, second = complete_fields({"name": "a"}), complete_fields({"name": "b", "priority": 3})

    assert first["prompt"] == "" and first["workflow"] == "default" and first["retries"] is None
    assert second["priority"] == 3 and first["after"] is not second["after"]
    with pytest.raises(UsageError, match="has no name"):
        complete_fields({"prompt": "x"})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"promt": "x"}, 'unknown field "promt" of a unit; did you mean "prompt"?'),
        ({"zzz": 1}, 'unknown field "zzz" of a unit; there are name, prompt'),
        ({"prompt": "x" * 200_001}, '"prompt" is 200,001 bytes long, at most 200,000'),
        ({"prompt": "é" * 100_001}, '"prompt" is 200,002 bytes long'),
        ({"prompt": "a\0b"}, "must not contain a NUL"),
        ({"prompt": "\ud800"}, "not valid Unicode"),
        ({"prompt": 3}, "must be a text, not 3"),
        ({"priority": True}, "must be a whole number, not true"),
        ({"priority": 10**9}, "must be from -1000000 to 1000000"),
        ({"after": "build"}, "must be a list, as in [build, lint]"),
        ({"after": ["../x"]}, 'unit name "../x"'),
        ({"name": "a", "after": ["a"]}, "can't come after itself"),
        ({"labels": ["a b"]}, "unusable label"),
        ({"touches": ["/etc/**"]}, "outside the repository"),
        ({"touches": ["src/../../x"]}, "outside the repository"),
        ({"timeout": 0}, "must be a number of seconds above 0"),
        ({"timeout": float("nan")}, "must be a number of seconds above 0"),
        ({"retries": -1}, "must be from 0"),
        ({"workflow": "a b"}, "must be a name of the settings file"),
        ([], "must be a table of fields, not a list"),
    ],
)
def test_a_wrong_field_is_named(fields: dict, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_fields(fields)

    assert message in str(caught.value)
