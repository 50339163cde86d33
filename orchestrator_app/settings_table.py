"""Every setting of `orchestrator.toml`, once: its name, type, default and meaning.

Validation, the commented file that `orch init` writes and `docs/settings.md` all follow from `SETTINGS`.
`NAME` in a dotted name stands for a name that the user chooses.
"""

from __future__ import annotations

import json
import re
from typing import NamedTuple


class Setting(NamedTuple):
    """A row of the table. `type` is a key of `READERS`, or choices separated by ` | `."""

    name: str
    type: str
    default: object
    meaning: str

    @property
    def section(self) -> str:
        return self.name.rpartition(".")[0]

    @property
    def key(self) -> str:
        return self.name.rpartition(".")[2]


_BRANCH = re.compile(r"[^\s~^:?*\[\\\x00-\x20\x7f/.-][^\s~^:?*\[\\\x00-\x20\x7f]*")

DEFAULT_PHASES = ("PLAN", "IMPLEMENT", "REVIEW", "COMPLETE", "MERGE")

SETTINGS: tuple[Setting, ...] = (
    Setting("project.base", "branch", "main", "the branch that work starts from and is merged into"),
    Setting("project.slots", "integer, 1 or more", 4, "how many attempts run at once"),
    Setting(
        "project.verify",
        "command",
        None,
        "run on the merged tree before the base branch advances; without it nothing is checked",
    ),
    Setting(
        "project.touches",
        "serialize | ask | ignore",
        "serialize",
        "two units declare that they touch the same files: run one after the other, ask the operator, or ignore it",
    ),
    Setting("project.grace", "seconds", 10.0, "time that a stopped attempt has to end by itself before it is killed"),
    Setting(
        "project.label_slots", "table of integers", {}, "how many units with a label run at once, for example {gpu = 1}"
    ),
    Setting(
        "project.output_limit",
        "megabytes",
        100.0,
        "how much output of one attempt is kept: of a longer one its beginning and its end; 0 is no limit",
    ),
    Setting(
        "project.low_disk",
        "megabytes",
        200.0,
        "nothing new is started while less than this is free where `.orchestrator` lies; 0 is never",
    ),
    Setting("server.host", "address", "127.0.0.1", "the address the server listens on"),
    Setting("server.port", "port", 5006, "the port of the dashboard and the API; 0 takes a free one"),
    Setting(
        "access.operators",
        "list of names",
        None,
        "who of those that sign in under a name of their own (`--basic-auth FILE`, a login provider) may change"
        " something; the others look. Without it all of them may",
    ),
    Setting("retry.delay", "seconds", 2.0, "the wait before the first automatic retry"),
    Setting("retry.factor", "number, 1 or more", 2.0, "each further wait is this many times the one before"),
    Setting("retry.max_delay", "seconds", 300.0, "no wait is longer"),
    Setting(
        "health.stale",
        "seconds",
        120.0,
        "silence (no message, no output) after which the screens call a running attempt stale; 0 is never."
        " This only shows; a phase's `stall` acts",
    ),
    Setting(
        "health.stuck",
        "seconds",
        900.0,
        "silence after which the screens call it stuck; 0 is never. An attempt that `stall` has acted on"
        " is stuck whatever this says",
    ),
    Setting(
        "workflow.isolation",
        "worktree | none",
        "worktree",
        "each unit works in a git worktree of its own, or (none) all in the project's directory, without git",
    ),
    Setting(
        "workflow.phases",
        "list of names",
        DEFAULT_PHASES,
        "the phases of the default workflow, in order; without isolation the default has no MERGE",
    ),
    Setting("workflows.NAME.phases", "list of names", None, "the phases of a further workflow, in order"),
    Setting(
        "phases.NAME.kind",
        "agent | review | merge",
        "agent",
        "REVIEW is a review and MERGE a merge unless said otherwise",
    ),
    Setting("phases.NAME.agent", "text", None, "the agent that runs the phase; without it the first agent of the file"),
    Setting(
        "phases.NAME.prompt", "text", "", "what the agent is told about the phase; the unit's own prompt comes with it"
    ),
    Setting(
        "phases.NAME.retries", "integer, 0 or more", 1, "automatic retries after a failure, before it needs a person"
    ),
    Setting(
        "phases.NAME.timeout",
        "seconds",
        3600.0,
        "an attempt that runs longer is stopped and counts as failed; 0 is no limit",
    ),
    Setting(
        "phases.NAME.stall",
        "seconds",
        0.0,
        "silence (no message, no output) after which `on_stall` is done; 0 is never."
        " What the screens call stale and stuck stands in [health]",
    ),
    Setting(
        "phases.NAME.on_stall",
        "ask | restart | cancel",
        "ask",
        "what is done about a silent attempt: ask a person while it goes on, stop it and run the phase again as if"
        " it had failed (with its retries), or cancel the unit",
    ),
    Setting(
        "phases.NAME.memory",
        "megabytes",
        0.0,
        "an attempt whose processes together hold more memory is stopped and counts as failed; 0 is no limit",
    ),
    Setting(
        "phases.NAME.slots",
        "integer, 0 or more",
        0,
        "how many units are in this phase at once; 0 is only the project's limit",
    ),
    Setting(
        "phases.NAME.back_to",
        "text",
        None,
        "the earlier phase that a review which asks for changes, or a merge conflict, goes back to;"
        " a review's default is IMPLEMENT, or the phase before it",
    ),
    Setting("phases.NAME.reworks", "integer, 0 or more", 3, "how often it may go back before it needs a person"),
    Setting(
        "agents.NAME.command",
        "command",
        None,
        "the program that runs an attempt; a text is run by /bin/sh, a list as it is",
    ),
    Setting("agents.NAME.env", "table of texts", {}, "added to the environment of the agent"),
)

#: Phases that a workflow may name without a [phases.NAME] table, and what differs from the defaults above.
BUILT_IN_PHASES: dict[str, dict[str, object]] = {
    "PLAN": {
        "prompt": "Read the code and plan the change described below. Change nothing yet except a file for the plan,"
        " if you want one. List each file that the change will touch on a line of its own: `Location: PATH`."
    },
    "IMPLEMENT": {"prompt": "Make the change described below, with tests. Run the tests before you end."},
    "REVIEW": {
        "kind": "review",
        "prompt": "Review the change on this branch against the description below. Report your decision with"
        " `orch emit review --decision approve` or `orch emit review --decision changes --feedback TEXT`.",
    },
    "COMPLETE": {
        "prompt": "Bring the change described below to an end: run the whole test suite, bring the docs up to date,"
        " remove what was left over, commit everything."
    },
    "MERGE": {"kind": "merge", "retries": 0, "reworks": 0},
}


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("must be a text in quotes")
    if "\0" in value:
        raise ValueError("must not contain a NUL character")
    return value


def _branch(value: object) -> str:
    if not _BRANCH.fullmatch(_text(value)) or ".." in value or "@{" in value or value.endswith((".lock", "/", ".")):
        raise ValueError(f"can't be a branch's name: {json.dumps(value)}")
    return value


def _address(value: object) -> str:
    # An empty address would listen on every interface.
    if not re.fullmatch(r"[A-Za-z0-9.:-]+", _text(value)):
        raise ValueError(f'must be an address or a host name, as in "127.0.0.1", not {json.dumps(value)}')
    return value


def _integer(value: object, least: int, most: int | None = None) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError("must be a whole number")
    if value < least:
        raise ValueError(f"must be {least} or more, not {value}")
    if most is not None and value > most:
        raise ValueError(f"must be {most} or less, not {value}")
    return value


def _number(value: object, least: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("must be a number")
    if not least <= value < 1e9:  # also refuses nan and inf, which TOML has
        raise ValueError(f"must be {least:g} or more, not {value}")
    return float(value)


def _command(value: object) -> tuple[str, ...]:
    if isinstance(value, str) and value.strip():
        return ("/bin/sh", "-c", _text(value))
    if isinstance(value, list) and value and all(isinstance(word, str) for word in value) and value[0]:
        return tuple(_text(word) for word in value)
    raise ValueError("must be a command: a text, or a list of texts, not empty")


def _names(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise ValueError("must be a list of names in quotes")
    return tuple(value)


def _integers(value: object) -> dict[str, int]:
    if not isinstance(value, dict):
        raise ValueError("must be a table of whole numbers, for example {gpu = 1}")
    try:
        return {key: _integer(item, 1) for key, item in value.items()}
    except ValueError as error:
        raise ValueError(f"each value {error}") from None


def _texts(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        raise ValueError('must be a table of texts, for example {LANG = "C"}')
    for key, item in value.items():
        if not isinstance(item, str) or "\0" in item or not key or "=" in key or "\0" in key:
            raise ValueError(f"has an unusable entry {json.dumps(key)}: names without =, and values in quotes")
    return dict(value)


#: What a value of each type is read by: returns the value as the program uses it, or raises ValueError("must be ...").
READERS = {
    "text": _text,
    "branch": _branch,
    "address": _address,
    "integer, 0 or more": lambda value: _integer(value, 0),
    "integer, 1 or more": lambda value: _integer(value, 1),
    "number, 1 or more": lambda value: _number(value, 1),
    "seconds": lambda value: _number(value, 0),
    "megabytes": lambda value: _number(value, 0),
    "port": lambda value: _integer(value, 0, 65535),
    "command": _command,
    "list of names": _names,
    "table of integers": _integers,
    "table of texts": _texts,
}


def read_value(setting: Setting, value: object) -> object:
    """The value as the program uses it; ValueError says what it must be."""
    if "|" not in setting.type:
        return READERS[setting.type](value)
    choices = setting.type.split(" | ")
    if value not in choices:
        raise ValueError(f"must be one of {', '.join(choices)}, not {json.dumps(value, default=str)}")
    return value


def as_toml(value: object) -> str:
    """A default as it would stand in the file."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {as_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value, ensure_ascii=False)


def as_markdown() -> str:
    """`docs/settings.md`, whole."""
    lines = [
        "# Settings",
        "",
        "Written by `make docs` from `orchestrator_app/settings_table.py`; a test compares the two.",
        "",
        "Settings stand in `orchestrator.toml` in the project's directory; `orch init` writes one with comments.",
        "Whatever is left out has its default. A text as a command is run by `/bin/sh -c`; a list is run as it is.",
        "`NAME` stands for a name that you choose.",
    ]
    section = None
    for setting in SETTINGS:
        if setting.section != section:
            section = setting.section
            lines += ["", f"## [{section}]", "", "| key | type | default | meaning |", "| --- | --- | --- | --- |"]
        default = "" if setting.default is None else f"`{as_toml(setting.default)}`"
        cells = (f"`{setting.key}`", setting.type.replace("|", "\\|"), default, setting.meaning)
        lines.append("| " + " | ".join(cells) + " |")
    lines += [
        "",
        "## Phases that are there without a table",
        "",
        "`phases` may name these without a `[phases.NAME]` table; a table changes what it names and leaves the rest.",
        "",
        "| phase | differs from the defaults by |",
        "| --- | --- |",
    ]
    for name, differences in BUILT_IN_PHASES.items():
        words = "; ".join(f"{key} = {value}" for key, value in differences.items())
        lines.append(f"| {name} | {words} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    print(as_markdown(), end="")
