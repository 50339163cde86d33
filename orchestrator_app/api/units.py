"""Work units: listing, submitting, changing, and what operators may say about one."""

from __future__ import annotations

import heapq
from typing import Any

from orchestrator_app.api.routing import REFUSES, Answer, Call, Field, Route
from orchestrator_app.api.rows import PAGE, limit_of, opened, paged, seq_of
from orchestrator_app.api.shapes import COUNT, FLAG, MOVED, ROWS, TEXT, listed, page, thing
from orchestrator_app.api.shapes import unit as unit_shape
from orchestrator_app.errors import NotFoundError, UsageError
from orchestrator_app.fields import (
    GLOB_PATTERN,
    LABEL_PATTERN,
    LIST_LENGTH,
    NAME_LENGTH,
    NAME_PATTERN,
    PROMPT_BYTES,
    WORD_PATTERN,
)
from orchestrator_app.model import ASKED
from orchestrator_app.states import Status

UNIT_KEYS = (
    *("name", *ASKED),
    *("status", "phase", "attempt", "version", "since", "created_at", "reason"),
    *("progress", "failures", "feedback", "comments", "session", "base", "branch", "not_before", "item"),
)
_TEXT, _LIST = "string", "array"
NAME = {"pattern": NAME_PATTERN, "maxLength": NAME_LENGTH}
WORD = {"pattern": WORD_PATTERN}
SOMETHING = {"pattern": r"\S"}


def _list_of(item: dict[str, Any]) -> dict[str, Any]:
    return {"items": {"type": "string", **item}, "maxItems": LIST_LENGTH}


UNIT_FIELDS = (
    Field("name", _TEXT, "lower-case letters, digits, . _ -", required=True, rule=NAME),
    Field("prompt", _TEXT, "what is asked; at most 200,000 bytes", rule={"maxLength": PROMPT_BYTES}),
    Field("workflow", _TEXT, "the name of a workflow of the settings", rule=WORD),
    Field("agent", _TEXT, "an agent of the settings, in place of the phases' own", rule=WORD),
    Field("priority", "integer", "higher starts first", rule={"minimum": -1_000_000, "maximum": 1_000_000}),
    Field("after", _LIST, "names of the units that must be DONE before", rule=_list_of(NAME)),
    Field("labels", _LIST, "words to find and to limit units by", rule=_list_of({"pattern": LABEL_PATTERN})),
    Field("touches", _LIST, "globs of the files it will change", rule=_list_of({"pattern": GLOB_PATTERN})),
    Field("timeout", "number", "seconds that one attempt may take", rule={"exclusiveMinimum": 0, "maximum": 10**8}),
    Field("retries", "integer", "attempts after a failed one, in place of the phases' own", rule={"maximum": 1_000}),
)


def unit_row(unit: Any, board: Any) -> dict[str, Any]:
    """A unit as the API gives it; `waits_for` are the blockers that are not DONE."""
    waits_for = [name for name in unit.after if name in board.units and board.units[name].status != Status.DONE]
    return {**{key: getattr(unit, key) for key in UNIT_KEYS}, "waits_for": waits_for}


async def list_units(call: Call) -> Any:
    status, label, after = call.query.get("status"), call.query.get("label"), call.query.get("cursor", "")

    def read() -> list[dict[str, Any]]:
        board = call.orchestrator.board
        found = (
            unit
            for unit in list(board.units.values())
            if unit.name > after
            and (status is None or unit.status == status)
            and (label is None or label in unit.labels)
        )
        return [
            unit_row(unit, board) for unit in heapq.nsmallest(limit_of(call) + 1, found, key=lambda unit: unit.name)
        ]

    units, following = paged(await call.aside(read), call, "name")
    return {"units": units, "next": following}


async def submit(call: Call) -> Any:
    if "units" in call.body:
        if len(call.body) > 1:
            raise UsageError('send either one unit, or {"units": [...]}')
        units = call.body["units"]
    else:
        units = [call.body]
    if not units:
        raise UsageError("there is no unit in this request")
    return await call.request("submit", units=units)


async def show(call: Call) -> Any:
    unit = call.unit()
    return Answer(unit_row(unit, call.orchestrator.board), headers={"Etag": f'"{unit.version}"'})


async def edit(call: Call) -> Any:
    call.unit()
    if not call.body:
        raise UsageError("there is nothing to change in this request")
    return await call.request("edit", call.name, set=call.body)


async def story(call: Call) -> Any:
    return await _rows_of(call, "transition", "transitions")


async def events(call: Call) -> Any:
    return await _rows_of(call, "event", "events")


async def sessions(call: Call) -> Any:
    return await _rows_of(call, "session", "sessions")


async def _rows_of(call: Call, table: str, key: str) -> Any:
    """A page of what a table of the log has about the unit."""
    call.unit()
    sql = f'SELECT * FROM "{table}" WHERE unit = ? AND seq > ? ORDER BY seq LIMIT ?'
    rows = await call.aside(call.orchestrator.rows, sql, (call.name, seq_of(call), limit_of(call) + 1))
    page, following = paged(rows, call, "seq")
    return {"unit": call.name, key: [opened(row) for row in page], "next": following}


async def diff(call: Call) -> Any:
    from orchestrator_app.workspace.worktrees import Worktrees

    unit, project = call.unit(), call.server.project
    if project.isolation == "none" or not unit.base:
        raise NotFoundError(f'unit "{unit.name}" has no branch of its own, so there is no diff')
    text = await call.aside(Worktrees(project.root, project.state).diff, unit.name, unit.base)
    most = 1_000_000
    return {"unit": unit.name, "base": unit.base, "diff": text[:most], "truncated": len(text) > most}


def _say(kind: str, summary: str, *body: Field) -> Route:
    """A route by which an operator says one thing about one unit."""

    async def answer(call: Call) -> Any:
        call.unit()
        return await call.request(kind, call.name, **call.body)

    return Route("POST", f"/units/{{name}}/{kind}", summary, answer, body=body, **_MOVES)


def _now(call: Call) -> dict[str, Any]:
    return unit_row(call.unit(), call.orchestrator.board)


UNIT = unit_shape(UNIT_KEYS)
_MOVES: dict[str, Any] = {"versioned": "may", "current": _now, "gives": MOVED, "refuses": REFUSES}

_SINCE = Field("since", "integer", "only those after this seq")
_UNITS = {
    "items": {
        "type": "object",
        "required": ["name"],
        "additionalProperties": False,
        "properties": {each.name: each.schema for each in UNIT_FIELDS},
    },
    "minItems": 1,
}
_REASON = Field("reason", _TEXT, "why; it stands in the unit's story")
_FEEDBACK = Field("feedback", _TEXT, "what to do differently; the next attempt gets it")
_ITEM = Field("item", "integer", "the attention item that is meant; refused if somebody has settled it")

ROUTES = (
    Route(
        "GET",
        "/units",
        "Work units by name, a page at a time.",
        list_units,
        gives=page("units", UNIT),
        query=(
            Field("status", _TEXT, "only those in this status", rule={"enum": list(Status.__members__)}),
            Field("label", _TEXT, "only those with this label"),
            *PAGE,
        ),
    ),
    Route(
        "POST",
        "/units",
        "Submit one unit, or many at once as `units`: all of them or none.",
        submit,
        gives=thing(units=listed(TEXT), seq=COUNT),
        status=201,
        refuses=REFUSES,
        body=(
            Field("units", _LIST, "many units, each an object of the fields below", rule=_UNITS),
            *(Field(each.name, each.kind, each.meaning, rule=each.rule) for each in UNIT_FIELDS),
        ),
    ),
    Route("GET", "/units/{name}", "One unit. Its version is the answer's ETag.", show, gives=UNIT),
    Route(
        "PATCH",
        "/units/{name}",
        "Change a unit's fields, if it is still at the version in If-Match.",
        edit,
        body=tuple(each for each in UNIT_FIELDS if each.name not in ("name", "workflow")),
        **{**_MOVES, "versioned": "must"},
    ),
    Route(
        "GET",
        "/units/{name}/story",
        "Every transition of a unit, oldest first.",
        story,
        query=(_SINCE, *PAGE),
        gives=page("transitions", ROWS["transition"], unit=TEXT),
    ),
    Route(
        "GET",
        "/units/{name}/events",
        "What a unit's agents said: progress, notes, tests, warnings.",
        events,
        query=(_SINCE, *PAGE),
        gives=page("events", ROWS["event"], unit=TEXT),
    ),
    Route(
        "GET",
        "/units/{name}/sessions",
        "The agent conversations of a unit, as its attempts named them.",
        sessions,
        query=(_SINCE, *PAGE),
        gives=page("sessions", ROWS["session"], unit=TEXT),
    ),
    Route(
        "GET",
        "/units/{name}/diff",
        "What a unit's branch changes against its base, at most 1 MB.",
        diff,
        gives=thing(unit=TEXT, base=TEXT, diff=TEXT, truncated=FLAG),
        refuses=(409,),
    ),
    _say(
        "answer",
        "Answer the unit's question.",
        Field("text", _TEXT, "the answer", required=True, rule=SOMETHING),
        _ITEM,
    ),
    _say("approve", "Approve what the unit asks approval for.", _ITEM),
    _say("reject", "Reject it; the phase runs again.", _FEEDBACK, _ITEM),
    _say(
        "resolve",
        "Rule on a conflict between two units; the ruling holds for the pair.",
        Field("other", _TEXT, "the other unit", required=True, rule=NAME),
        Field(
            "ruling",
            _TEXT,
            "serialize (this unit after the other) or parallelize",
            required=True,
            rule={"enum": ["serialize", "parallelize"]},
        ),
        _ITEM,
    ),
    _say(
        "retry",
        "Make another attempt.",
        Field("phase", _TEXT, "from this phase, if not the present one", rule=WORD),
        _FEEDBACK,
        _ITEM,
    ),
    _say(
        "accept",
        "Close a unit as done.",
        Field("reason", _TEXT, "why it counts as done", required=True, rule=SOMETHING),
        _ITEM,
    ),
    _say("cancel", "Withdraw a unit; a running attempt is killed with all its descendants.", _REASON, _ITEM),
    _say("pause", "Hold a unit; a running attempt is stopped, its session kept.", _REASON),
    _say("resume", "Let a paused unit go on.", _REASON),
    _say("restart", "Stop the running attempt; its phase starts again, with its session.", _REASON),
    _say("reopen", "Take a cancelled unit back.", _REASON),
    _say(
        "comment",
        "Say something to the unit's next attempt, on a line of a file or on the whole: it gets it as feedback.",
        Field("text", _TEXT, "the comment", required=True, rule=SOMETHING),
        Field("file", _TEXT, "the path of the file that it is about", rule={"minLength": 1}),
        Field("line", "integer", "the number of the line", rule={"minimum": 1}),
    ),
)
