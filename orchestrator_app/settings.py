"""A project: what `orchestrator.toml` says, checked and completed with the defaults."""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from orchestrator_app.errors import NotFoundError, SettingsError
from orchestrator_app.fields import check_fields, check_name, complete_fields
from orchestrator_app.settings_table import BUILT_IN_PHASES, DEFAULT_PHASES, SETTINGS, read_value
from orchestrator_app.toml_lines import key_lines, line_of, syntax_error

__all__ = [
    "FILE_NAME",
    "SETTINGS",
    "STATE_NAME",
    "Agent",
    "Phase",
    "Project",
    "Workflow",
    "check_fields",
    "check_name",
    "complete_fields",
    "find_project",
    "load_project",
]

FILE_NAME = "orchestrator.toml"
STATE_NAME = ".orchestrator"
MEGABYTE = 1 << 20

_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_BY_NAME = {setting.name: setting for setting in SETTINGS}
_SECTIONS = {setting.section for setting in SETTINGS}
_TOP = dict.fromkeys(section.partition(".")[0] for section in _SECTIONS)


@dataclass(frozen=True)
class Agent:
    """A program that runs attempts. `command` is an argv; `env` is added to its environment."""

    name: str
    command: tuple[str, ...]
    env: dict[str, str]


@dataclass(frozen=True)
class Phase:
    """A step of a workflow. Times are seconds, `memory` is in bytes; None is no limit."""

    name: str
    agent: str | None
    prompt: str
    kind: str  # "agent" | "review" | "merge"
    retries: int
    timeout: float | None
    stall: float | None
    on_stall: str  # "ask" | "restart" | "cancel"
    memory: int | None
    slots: int | None
    back_to: str | None
    reworks: int


@dataclass(frozen=True)
class Workflow:
    """A list of phases, never empty."""

    name: str
    phases: tuple[Phase, ...]

    def phase(self, name: str) -> Phase:
        for phase in self.phases:
            if phase.name == name:
                return phase
        names = ", ".join(phase.name for phase in self.phases)
        raise NotFoundError(f'workflow "{self.name}" has no phase "{name}"; it has {names}')

    def after(self, name: str) -> Phase | None:
        """The phase that follows, or None after the last one."""
        position = self.phases.index(self.phase(name)) + 1
        return self.phases[position] if position < len(self.phases) else None

    @property
    def first(self) -> Phase:
        return self.phases[0]


@dataclass(frozen=True)
class Project:
    """Everything that the settings decide. `state` is the directory of the log, the runs and the worktrees.

    `output_limit` and `low_disk` are bytes; 0 is no limit."""

    root: Path
    state: Path
    base: str
    slots: int
    isolation: str  # "worktree" | "none"
    verify: tuple[str, ...] | None
    workflows: dict[str, Workflow]
    agents: dict[str, Agent]
    label_slots: dict[str, int]
    touches: str  # "serialize" | "ask" | "ignore"
    host: str
    port: int
    grace: float
    output_limit: int
    low_disk: int
    retry_delay: float
    retry_factor: float
    retry_max_delay: float
    health_stale: float
    health_stuck: float
    sources: dict[str, str]
    operators: tuple[str, ...] | None = None


def find_project(start: Path) -> Path:
    """The nearest directory at or above `start` that has an `orchestrator.toml`."""
    start = start.absolute()
    for directory in (start, *start.parents):
        if (directory / FILE_NAME).is_file():
            return directory
    raise SettingsError(f"no {FILE_NAME} in {start} or above; run `orch init` in your repository")


def load_project(root: Path) -> Project:
    """The project in `root`. Raises SettingsError with file, line and key when its settings can't be used."""
    root = Path(root).absolute()
    try:
        text = (root / FILE_NAME).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise SettingsError(f"no {FILE_NAME} in {root}; run `orch init` there") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise SettingsError(f"{root / FILE_NAME} can't be read: {reason}") from None
    return _Reader(text).project(root)


class _Reader:
    """One reading of a settings file; keeps the text's lines for messages and the sources of values."""

    def __init__(self, text: str) -> None:
        self._lines = key_lines(text)
        self._sources: dict[str, str] = {}
        try:
            self._document = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            line, message = syntax_error(error, text)
            raise SettingsError(f"{FILE_NAME}:{line}: not valid TOML: {message}") from None

    def project(self, root: Path) -> Project:
        for key in self._document:
            if key not in _TOP:
                raise self._error((key,), f'unknown table "{key}"{_meant(key, _TOP)}')
        project, server, access, retry, health, workflow = (
            self._section(name, self._table((name,)), name)
            for name in ("project", "server", "access", "retry", "health", "workflow")
        )
        if 0 < health["stuck"] < health["stale"]:
            raise self._error(("health", "stuck"), "health.stuck must not be less than health.stale")
        agents = self._agents()
        isolation = workflow["isolation"]
        if isolation == "none" and "phases" not in self._document.get("workflow", {}):
            workflow["phases"] = tuple(name for name in DEFAULT_PHASES if name != "MERGE")
        lists = {"default": (("workflow", "phases"), workflow["phases"])}
        for name, table in self._named("workflows"):
            path = ("workflows", name)
            if name == "default":
                raise self._error(path, "the default workflow's table is [workflow]")
            phases = self._section("workflows.NAME", table, *path)["phases"]
            if phases is None:
                raise self._error(path, f'workflow "{name}" has no phases; add phases = [...]')
            lists[name] = ((*path, "phases"), phases)
        tables = dict(self._named("phases"))
        listed = dict.fromkeys(phase for _, phases in lists.values() for phase in phases)
        for name in tables:
            if name not in listed and name not in BUILT_IN_PHASES:
                raise self._error(("phases", name), f'no workflow has a phase "{name}"{_meant(name, listed)}')
        read = {name: self._phase(name, tables.get(name, {}), agents) for name in listed if self._known(name, tables)}
        workflows = {
            name: self._workflow(name, path, phases, read, isolation) for name, (path, phases) in lists.items()
        }
        return Project(
            root=root,
            state=root / STATE_NAME,
            base=project["base"],
            slots=project["slots"],
            isolation=isolation,
            verify=project["verify"],
            workflows=workflows,
            agents=agents,
            label_slots=project["label_slots"],
            touches=project["touches"],
            host=server["host"],
            port=server["port"],
            grace=project["grace"],
            output_limit=int(project["output_limit"] * MEGABYTE),
            low_disk=int(project["low_disk"] * MEGABYTE),
            retry_delay=retry["delay"],
            retry_factor=retry["factor"],
            retry_max_delay=retry["max_delay"],
            health_stale=health["stale"],
            health_stuck=health["stuck"],
            sources=self._sources,
            operators=access["operators"],
        )

    def _agents(self) -> dict[str, Agent]:
        agents = {}
        for name, table in self._named("agents"):
            values = self._section("agents.NAME", table, "agents", name)
            if values["command"] is None:
                raise self._error(("agents", name), f'agent "{name}" has no command; add command = [...]')
            agents[name] = Agent(name, values["command"], values["env"])
        return agents

    def _phase(self, name: str, table: Mapping[str, object], agents: Mapping[str, Agent]) -> Phase:
        path = ("phases", name)
        values = self._section("phases.NAME", table, *path, defaults=BUILT_IN_PHASES.get(name, {}))
        kind, agent = values["kind"], values["agent"]
        if kind == "merge":
            for key in ("agent", "prompt"):
                if values[key]:
                    raise self._error((*path, key), f'"{key}" has no meaning in {name}: the orchestrator itself merges')
        elif not agents:
            raise SettingsError(f"{FILE_NAME}: no agent is defined to run {name}; add [agents.NAME] with a command")
        elif agent is None:
            agent = next(iter(agents))
        elif agent not in agents:
            raise self._error((*path, "agent"), f'no agent "{agent}" for {name}{_meant(agent, agents)}')
        return Phase(
            name=name,
            agent=agent,
            prompt=values["prompt"],
            kind=kind,
            retries=values["retries"],
            timeout=values["timeout"] or None,
            stall=values["stall"] or None,
            on_stall=values["on_stall"],
            memory=int(values["memory"] * MEGABYTE) or None,
            slots=values["slots"] or None,
            back_to=values["back_to"],
            reworks=values["reworks"],
        )

    def _known(self, name: str, tables: Mapping[str, object]) -> bool:
        """True; an error at the workflow that names a phase nobody describes."""
        if name in tables or name in BUILT_IN_PHASES:
            return True
        for path in ("workflow", "phases"), *(("workflows", each, "phases") for each, _ in self._named("workflows")):
            if name in self._at(path):
                meant = _meant(name, [*tables, *BUILT_IN_PHASES])
                raise self._error(path, f'unknown phase "{name}"{meant or f"; add [phases.{name}]"}')
        raise AssertionError(name)

    def _workflow(
        self, name: str, path: tuple[str, ...], phases: tuple[str, ...], read: Mapping[str, Phase], isolation: str
    ) -> Workflow:
        if not phases:
            raise self._error(path, f'workflow "{name}" has no phases')
        done: list[Phase] = []
        for position, phase_name in enumerate(phases):
            phase = read[phase_name]
            if phase_name in phases[:position]:
                raise self._error(path, f'workflow "{name}" lists phase "{phase_name}" twice')
            if phase.kind == "merge" and isolation == "none":
                raise self._error(
                    path, f'{phase_name} needs isolation = "worktree"; without isolation nothing is merged'
                )
            if phase.kind == "merge" and position != len(phases) - 1:
                raise self._error(path, f'{phase_name} must be the last phase of workflow "{name}"')
            done.append(self._with_back_to(phase, done, name))
        return Workflow(name, tuple(done))

    def _with_back_to(self, phase: Phase, before: list[Phase], workflow: str) -> Phase:
        """The phase as this workflow has it: where it goes back to is one of the phases before it."""
        names = [each.name for each in before]
        target = phase.back_to
        if target is None:
            if phase.kind != "review" or not names:
                return phase
            target = "IMPLEMENT" if "IMPLEMENT" in names else names[-1]
        elif target not in names:
            path = ("phases", phase.name, "back_to")
            raise self._error(
                path, f'no phase "{target}" before {phase.name} in workflow "{workflow}"{_meant(target, names)}'
            )
        return Phase(**{**vars(phase), "back_to": target})

    def _section(
        self, section: str, table: Mapping[str, object], *path: str, defaults: Mapping[str, object] | None = None
    ) -> dict[str, object]:
        """The values of one table, completed; `section` is its name in SETTINGS, `path` in the file."""
        settings = {setting.key: setting for setting in SETTINGS if setting.section == section}
        for key in table:
            if key not in settings:
                shown = ".".join(path)
                raise self._error((*path, key), f'unknown key "{key}" in [{shown}]{_meant(key, settings)}')
        values = {}
        for key, setting in settings.items():
            dotted = ".".join((*path, key))
            if key not in table:
                values[key] = (defaults or {}).get(key, setting.default)
                self._sources[dotted] = "default"
                continue
            try:
                values[key] = read_value(setting, table[key])
            except ValueError as error:
                raise self._error((*path, key), f"{dotted} {error}") from None
            self._sources[dotted] = f"{FILE_NAME}:{line_of(self._lines, (*path, key))}"
        return values

    def _named(self, section: str) -> Iterable[tuple[str, Mapping[str, object]]]:
        for name in self._table((section,)):
            if not _WORD.fullmatch(name):
                raise self._error((section, name), f"{json.dumps(name)} can't be a name: use letters, digits, . _ -")
            yield name, self._table((section, name))

    def _table(self, path: tuple[str, ...]) -> Mapping[str, object]:
        value = self._at(path)
        if not isinstance(value, Mapping):
            shown = ".".join(path)
            raise self._error(path, f"{shown} must be a table: [{shown}]")
        return value

    def _at(self, path: tuple[str, ...]) -> object:
        value: object = self._document
        for key in path:
            value = value.get(key, {}) if isinstance(value, Mapping) else {}
        return value

    def _error(self, path: tuple[str, ...], message: str) -> SettingsError:
        return SettingsError(f"{FILE_NAME}:{line_of(self._lines, path)}: {message}")


def _meant(word: str, known: Iterable[str]) -> str:
    """`; did you mean "..."?` when one of the known words is close, else nothing."""
    close = difflib.get_close_matches(word.lower(), {each.lower(): each for each in known}, 1, 0.6)
    matches = [each for each in known if close and each.lower() == close[0]]
    return f'; did you mean "{matches[0]}"?' if matches else ""
