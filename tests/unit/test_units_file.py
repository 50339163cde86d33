"""Unit files: what they may look like, and the one clear line for each way they can be wrong."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from orchestrator_app.errors import SettingsError
from orchestrator_app.units_file import load_units

YAML = """\
# two units
- name: schema
  prompt: |
    Make the tables.
    name: not a field
- name: queries
  after: [schema]
  priority: 5
"""


def error_of(path: Path, text: str | bytes) -> str:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(SettingsError) as caught:
        load_units(path)
    message = str(caught.value)
    assert "\n" not in message
    return message.replace(str(path), path.name)


def test_yaml_toml_and_json_say_the_same_units(tmp_path: Path) -> None:
    (tmp_path / "u.yaml").write_text(YAML)
    (tmp_path / "u.toml").write_text(
        '[[units]]\nname = "schema"\nprompt = """\nMake the tables.\nname: not a field\n"""\n'
        '[[units]]\nname = "queries"\nafter = ["schema"]\npriority = 5\n'
    )
    expected = [
        {"name": "schema", "prompt": "Make the tables.\nname: not a field\n"},
        {"name": "queries", "after": ["schema"], "priority": 5},
    ]
    (tmp_path / "u.json").write_text(json.dumps({"units": expected}))
    (tmp_path / "list.json").write_text(json.dumps(expected))

    for name in ("u.yaml", "u.toml", "u.json", "list.json"):
        assert load_units(tmp_path / name) == expected


def test_a_yaml_table_gives_units_by_name(tmp_path: Path) -> None:
    (tmp_path / "u.yml").write_text("schema:\nqueries: {after: [schema], labels: [sql]}\n")

    assert load_units(tmp_path / "u.yml") == [
        {"name": "schema"},
        {"name": "queries", "after": ["schema"], "labels": ["sql"]},
    ]


def test_a_units_own_fields_win_over_merged_ones(tmp_path: Path) -> None:
    (tmp_path / "u.yaml").write_text("- &a {name: a, priority: 1, labels: [x]}\n- {<<: *a, name: b, priority: 2}\n")

    assert load_units(tmp_path / "u.yaml")[1] == {"name": "b", "priority": 2, "labels": ["x"]}


@pytest.mark.parametrize("text", [YAML, '[{"name": "schema"}, {"name": "queries"}]'])
def test_standard_input_is_yaml_or_json(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(text.encode())))

    assert [unit["name"] for unit in load_units("-")] == ["schema", "queries"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "- name: a\n  priorty: 3\n",
            'units.yaml:2: unknown field "priorty" of a unit; did you mean "priority"?',
        ),
        ("- name: a\n\n  priority: high\n", 'units.yaml:3: field "priority" must be a whole number, not "high"'),
        ("- name: a\n- name: b\n- name: a\n", 'units.yaml:3: unit "a" is in this file twice, first on line 1'),
        ("- name: a\n- prompt: b\n", "units.yaml:2: this unit has no name"),
        ("- name: a\n  prompt: b\n  prompt: c\n", 'units.yaml:3: field "prompt" is given twice'),
        ("a:\n  after: [a]\n", 'units.yaml:2: unit "a" can\'t come after itself'),
        ("a: 3\n", "units.yaml:1: a unit must be a table of fields"),
        ("- name: a\n  after: [\n", "units.yaml:3: not valid YAML: "),
        ("- name: a\n\tprompt: b\n", "units.yaml:2: not valid YAML: "),
        ("- name: a\n  prompt: *b\n", "units.yaml:2: not valid YAML: "),
        ("- name: a\n  ? [x]\n  : y\n", "units.yaml:2: a field's name must be a text"),
        ("- name: ../a\n", 'units.yaml:1: unit name "../a": use only '),
        ("- !!python/object/apply:os.system [touch hacked]\n", "units.yaml:1: a unit must be a table of fields"),
        ("- name: !!python/object/apply:os.system [touch hacked]\n", "units.yaml:1: not valid YAML: "),
        ("- name: a\n  prompt: 2024-13-40\n", "units.yaml: not valid YAML: "),
        ("just words", "units.yaml:1: it must be a list of units, or units under the key"),
        ("", "units.yaml: there are no units in it"),
        ("# only words\n", "units.yaml: there are no units in it"),
        ("[]", "units.yaml: there are no units in it"),
        (b"- name: a\n  prompt: \xff\n", "units.yaml:2: it is not UTF-8 text"),
        ("[" * 100_000, "units.yaml: "),
    ],
)
def test_a_wrong_yaml_file_is_one_line_with_its_place(tmp_path: Path, text: str | bytes, message: str) -> None:
    assert error_of(tmp_path / "units.yaml", text).startswith(message)
    assert not Path("hacked").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[[units]]\nname = "a"\n[[units]]\nname = "b"\nlables = ["x"]\n', "units.toml:5: unknown field"),
        ('[[units]]\nname = "a"\n[[units]]\nprompt = "b"\n', "units.toml:3: this unit has no name"),
        ('[[units]]\nname = "a\n', "units.toml:2: not valid TOML: "),
        ('[[unit]]\nname = "a"\n', 'units.toml:1: unknown key "unit"; units are written as [[units]]'),
        ('[units]\nname = "a"\n', "units.toml:1: units are written as [[units]]"),
        ("units = [3]\n", "units.toml:1: a unit must be a table"),
        ("", "units.toml: there are no units in it"),
    ],
)
def test_a_wrong_toml_file_is_one_line_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    assert error_of(tmp_path / "units.toml", text).startswith(message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[\n {"name": "a"},\n {"name": "b",\n  "retries": -1}\n]', 'units.json:4: field "retries" must be from 0'),
        ('[\n {"name": "a"},\n {"name": "a"}\n]', 'units.json:3: unit "a" is in this file twice, first on line 2'),
        ('[\n {"name": "a", "name": "b"}\n]', 'units.json:2: field "name" is given twice'),
        ('[\n {"name": "a"},\n]', "units.json:"),
        ('{"name": "a"}', "units.json:1: it must be a list of units"),
        ('{"units": {}}', "units.json:1: it must be a list of units"),
        ("[3]", "units.json:1: a unit must be an object"),
        ('{"units": []}', "units.json: there are no units in it"),
        ("", "units.json: there are no units in it"),
        ("[" * 100_000, "units.json: it is nested too deeply"),
    ],
)
def test_a_wrong_json_file_is_one_line_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    assert error_of(tmp_path / "units.json", text).startswith(message)


def test_aliases_that_mean_gigabytes_cost_nothing(tmp_path: Path) -> None:
    lines = ["a0: &a0 {labels: [x]}"]
    lines += [f"a{n}: &a{n} {{labels: [{', '.join([f'*a{n - 1}'] * 9)}]}}" for n in range(1, 30)]

    assert error_of(tmp_path / "units.yaml", "\n".join(lines)).startswith(
        'units.yaml:2: field "labels" has an unusable'
    )


def test_a_file_that_is_not_there_or_has_another_ending_is_said(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"none\.yaml can't be read: No such file"):
        load_units(tmp_path / "none.yaml")
    with pytest.raises(SettingsError, match=r"u\.txt: can't tell what it is; name it \.yaml"):
        load_units(tmp_path / "u.txt")
