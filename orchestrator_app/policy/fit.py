"""Whether the settings still have what a unit in the log needs: they may have changed since it was submitted."""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator_app.model import Unit
from orchestrator_app.settings import Project


def missing(project: Project, unit: Unit) -> str | None:
    """What the unit needs and the settings don't have (any more), in words; None if they have it all."""
    workflow = project.workflows.get(unit.workflow)
    if workflow is None:
        return f"no workflow {unit.workflow}"
    if not any(phase.name == unit.phase for phase in workflow.phases):
        return f"no phase {unit.phase} in the workflow {unit.workflow}"
    if unit.agent is not None and unit.agent not in project.agents:
        return f"no agent {unit.agent}"
    return None


def misfits(project: Project, units: Iterable[Unit]) -> list[tuple[str, str]]:
    """The unfinished units that can't go on with these settings, each with what is missing."""
    known: dict[tuple[str, str, str | None], str | None] = {}  # there may be a million units, but few kinds of them
    found = []
    for unit in units:
        if unit.ended:
            continue
        key = (unit.workflow, unit.phase, unit.agent)
        if key not in known:
            known[key] = missing(project, unit)
        if known[key] is not None:
            found.append((unit.name, known[key]))
    return found
