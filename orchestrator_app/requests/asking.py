"""What is asked of units: submitting them, changing what is asked, and a word to the next attempt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from orchestrator_app.errors import IllegalMoveError, NotFoundError, UsageError
from orchestrator_app.fields import DEFAULTS, check_fields, complete_fields
from orchestrator_app.gate import Draft
from orchestrator_app.policy import refusals
from orchestrator_app.policy.conflicts import check_glob
from orchestrator_app.policy.cycles import in_order
from orchestrator_app.requests.wish import Context, Request
from orchestrator_app.settings import Project
from orchestrator_app.states import Trigger


class NewUnit(NamedTuple):
    """A unit to submit: what it is given, its first phase, and the blockers that must be there already."""

    given: dict[str, Any]
    phase: str
    blockers: tuple[str, ...]


class Batch(NamedTuple):
    """Units to submit, found right as far as that can be told without the log. `ordered`: each after its blockers."""

    names: list[str]
    ordered: dict[str, NewUnit]


def batch_of(units: object, project: Project) -> Batch:
    """What takes long about many units is done here, on any thread. Raises UsageError."""
    if isinstance(units, Batch):
        return units
    if not isinstance(units, list) or not units:
        raise UsageError("there is no unit to submit: give at least one")
    new: dict[str, dict[str, Any]] = {}
    for number, unit in enumerate(units, 1):
        try:
            fields = complete_fields(unit)
            check_references(fields, project)
        except UsageError as error:
            raise _of_many(error, number, units) from None
        if fields["name"] in new:
            raise UsageError(f"a work unit {fields['name']!r} exists already, in this very request")
        new[fields["name"]] = fields
    order = in_order({name: fields["after"] for name, fields in new.items()})
    return Batch(list(new), {name: _new_unit(new[name], new, project) for name in order})


def _of_many(error: UsageError, number: int, units: list[Any]) -> UsageError:
    """The refusal of one unit among many, with which one it is."""
    if len(units) == 1:
        return error
    name = units[number - 1].get("name") if isinstance(units[number - 1], Mapping) else None
    called = f" ({name[:100]})" if isinstance(name, str) and name.isprintable() else ""
    return UsageError(f"unit {number:,} of {len(units):,}{called}: {error}; none was submitted")


def _new_unit(fields: Mapping[str, Any], new: Mapping[str, Any], project: Project) -> NewUnit:
    given = {key: value for key, value in fields.items() if key != "name" and _is_said(key, value)}
    given["workflow"] = fields["workflow"]
    phase = project.workflows[fields["workflow"]].first.name
    return NewUnit(given, phase, tuple(one for one in fields["after"] if one not in new))


def submit(request: Request, draft: Draft, context: Context, *, units: list[dict[str, Any]] | Batch) -> dict[str, Any]:
    """Add units, all or none. They may name each other as blockers, in any order."""
    batch = batch_of(units, context.project)
    for name in batch.names:
        if draft.has(name):
            raise UsageError(f"a work unit {name!r} exists already: choose another name")
        for blocker in batch.ordered[name].blockers:
            if not draft.has(blocker):
                raise NotFoundError(f"{name} is to come after {blocker!r}, which doesn't exist: submit that one first")
    for name, new in batch.ordered.items():
        draft.move(name, Trigger.SUBMIT, actor=request.actor, cause=request.cause, phase=new.phase, fields=new.given)
    return {"units": batch.names, "seq": draft.next_seq - 1}


def _is_said(field: str, value: Any) -> bool:
    """Whether a field was given: 0 retries are something else than none said."""
    return bool(value) if DEFAULTS[field] is list else value != DEFAULTS[field]


def check_references(fields: Mapping[str, Any], project: Project) -> None:
    """The workflow, agent and globs that a unit names must be there."""
    workflow, agent = fields.get("workflow"), fields.get("agent")
    if workflow is not None and workflow not in project.workflows:
        raise UsageError(f"no workflow {workflow!r} in orchestrator.toml; there are {', '.join(project.workflows)}")
    if agent is not None and agent not in project.agents:
        raise UsageError(f"no agent {agent!r} in orchestrator.toml; there are {', '.join(project.agents)}")
    for glob in fields.get("touches") or ():
        check_glob(glob)


def edit(request: Request, draft: Draft, context: Context, *, set: dict[str, Any]) -> None:
    """Change what is asked of a unit. Its name and workflow stay."""
    unit = draft.unit(request.unit)
    fields = check_fields(set)
    if not fields:
        raise UsageError(f"nothing to change in {unit.name}: name a field")
    for fixed in ("name", "workflow"):
        if fixed in fields:
            raise UsageError(f"the {fixed} of {unit.name} can't be changed: submit a new unit")
    check_references(fields, context.project)
    for blocker in fields.get("after", ()):
        if not draft.has(blocker):
            raise NotFoundError(f"{unit.name} is to come after {blocker!r}, which doesn't exist")
        if draft.closes_cycle(unit.name, blocker):
            raise UsageError(f"{unit.name} can't come after {blocker}, which waits for it: that would be a cycle")
    reason = ", ".join(refusals.edited(name, getattr(unit, name), value) for name, value in fields.items())
    draft.move(unit.name, Trigger.EDIT, actor=request.actor, cause=request.cause, reason=reason, fields=fields)


#: Characters of one comment, and of all that wait for one attempt: they come to it in an environment variable.
COMMENT, COMMENTS = 10_000, 60_000


def comment(
    request: Request, draft: Draft, context: Context, *, text: str, file: str | None = None, line: int | None = None
) -> None:
    """A word for the unit's next attempt, on a line of a file or on the whole: it gets it as feedback."""
    unit = draft.unit(request.unit)
    if unit.ended:
        raise IllegalMoveError(f"{unit.name} is {unit.status}: no attempt will read a comment on it")
    if not isinstance(text, str) or not text.strip():
        raise UsageError(f"the comment on {unit.name} is empty: say something")
    if file is not None and (not isinstance(file, str) or not file.strip() or not file.isprintable()):
        raise UsageError("comment: file must be the path of a file")
    if line is not None and (isinstance(line, bool) or not isinstance(line, int) or line < 1 or file is None):
        raise UsageError("comment: line must be the number of a line of a file")
    where = f"{file}:{line}" if line else file
    entry = f"{where}: {text.strip()}" if where else text.strip()
    if len(entry) > COMMENT or sum(map(len, unit.comments)) + len(entry) > COMMENTS:
        raise UsageError(
            f"that is too much for the next attempt of {unit.name}: {COMMENT} characters in one comment at most,"
            f" {COMMENTS} in all; change its prompt instead"
        )
    reason = f"comment on {where}" if where else "comment"
    fields = {"comments": [*unit.comments, entry]}
    draft.move(unit.name, Trigger.EDIT, actor=request.actor, cause=request.cause, reason=reason, fields=fields)
