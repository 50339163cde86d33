"""The settings in force, where each comes from, and what the server is."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

from orchestrator_app.claim import installed_version
from orchestrator_app.dashboard.screen import Screen
from orchestrator_app.settings import FILE_NAME, Project
from orchestrator_app.settings_table import SETTINGS, as_toml


class Settings(Screen):
    """Told once: settings are read when the server starts."""

    def open(self, args: dict[str, str]) -> None:
        self._told = False

    def changes(self, units: Set[str], items: Set[int]) -> Any | None:
        if self._told:
            return None
        self._told = True
        orchestrator = self.session.orchestrator
        project = orchestrator.project
        return {
            "file": str(project.root / FILE_NAME),
            "settings": effective(project),
            "server": {
                "version": installed_version(),
                "pid": orchestrator.status()["pid"],
                "started": orchestrator.started_at * 1000 if orchestrator.started_at else None,
                "recovered": orchestrator.log.recovered if orchestrator.log else "",
            },
        }


def effective(project: Project) -> list[dict[str, Any]]:
    """Each setting in force: name, value as it would stand in the file, source, default, meaning.

    Values in an agent's environment are left out: they may be keys and passwords.
    """
    table = {setting.name: setting for setting in SETTINGS}
    phases = {phase.name: phase for workflow in project.workflows.values() for phase in workflow.phases}
    rows = []
    for name, source in project.sources.items():
        section, _, key = name.rpartition(".")
        top, _, own = section.partition(".")
        if top == "phases" and own not in phases:
            continue  # in the file, but in no workflow
        setting = table[f"{top}.NAME.{key}" if own else name]
        rows.append(
            {
                "name": name,
                "value": _shown(_value(project, phases, top, own, key)),
                "source": source,
                "default": _shown(setting.default),
                "meaning": setting.meaning,
            }
        )
    return rows


def _value(project: Project, phases: Mapping[str, Any], top: str, own: str, key: str) -> Any:
    match top:
        case "phases":
            return getattr(phases[own], key)
        case "agents":
            value = getattr(project.agents[own], key)
            return dict.fromkeys(value, "…") if key == "env" else value
        case "workflow" | "workflows" if key == "phases":
            return [phase.name for phase in project.workflows[own or "default"].phases]
    return getattr(project, key) if hasattr(project, key) else getattr(project, f"{top}_{key}")


def _shown(value: Any) -> str:
    return "" if value is None else as_toml(value)
