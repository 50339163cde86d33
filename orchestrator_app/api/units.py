"""Work units: listing, submitting, changing, and what operators may say about one."""

from __future__ import annotations

import heapq
from typing import Any

from orchestrator_app.api.routing import Answer, Call, Field, Route
from orchestrator_app.api.rows import opened, page_of
from orchestrator_app.errors import NotFoundError, UsageError
from orchestrator_app.model import ASKED
from orchestrator_app.states import Status

UNIT_KEYS = (
    *("name", *ASKED),
    *("status", "phase", "attempt", "version", "since", "created_at", "reason"),
    *("progress", "failures", "feedback", "comments", "session", "base", "branch", "not_before", "item"),
)
LIMIT = 1_000

_TEXT, _LIST = "string", "array"
UNIT_FIELDS = (
    Field("name", _TEXT, "lower-case letters, digits, . _ -", required=True),
    Field("prompt", _TEXT, "what is asked; at most 200,000 bytes"),
    Field("workflow", _TEXT, "the name of a workflow of the settings"),
    Field("agent", _TEXT, "an agent of the settings, in place of the phases' own"),
    Field("priority", "integer", "higher starts first"),
    Field("after", _LIST, "names of the units that must be DONE before"),
    Field("labels", _LIST, "words to find and to limit units by"),
    Field("touches", _LIST, "globs of the files it will change"),
    Field("timeout", "number", "seconds that one attempt may take"),
    Field("retries", "integer", "attempts after a failed one, in place of the phases' own"),
)
PAGE = (
    Field("limit", "integer", f"at most so many; {LIMIT} at most"),
    Field("cursor", _TEXT, "the `next` of the page before"),
)


def unit_row(unit: Any, board: Any) -> dict[str, Any]:
    """A unit as the API gives it; `waits_for` are the blockers that are not DONE."""
    waits_for = [name for name in unit.after if name in board.units and board.units[name].status != Status.DONE]
    return {**{key: getattr(unit, key) for key in UNIT_KEYS}, "waits_for": waits_for}


async def list_units(call: Call) -> Any:
    status, label = call.query.get("status"), call.query.get("label")
    if status is not None and status.upper() not in Status.__members__:
        raise UsageError(f'no status "{status[:40]}"; there are {", ".join(Status.__members__)}')
    limit, after = page_of(call, LIMIT), call.query.get("cursor", "")

    def read() -> list[dict[str, Any]]:
        board = call.orchestrator.board
        found = (
            unit
            for unit in list(board.units.values())
            if unit.name > after
            and (status is None or unit.status == status.upper())
            and (label is None or label in unit.labels)
        )
        return [unit_row(unit, board) for unit in heapq.nsmallest(limit + 1, found, key=lambda unit: unit.name)]

    rows = await call.aside(read)
    more = len(rows) > limit
    return {"units": rows[:limit], "next": rows[limit - 1]["name"] if more else None}


async def submit(call: Call) -> Any:
    if "units" in call.body:
        if len(call.body) > 1:
            raise UsageError('send either one unit, or {"units": [...]}')
        units = call.body["units"]
    else:
        units = [call.body]
    if not units:
        raise UsageError("there is no unit in this request")
    return Answer(await call.request("submit", units=units), status=201)


async def show(call: Call) -> Any:
    unit = call.unit()
    return Answer(unit_row(unit, call.orchestrator.board), headers={"Etag": f'"{unit.version}"'})


async def edit(call: Call) -> Any:
    call.unit()
    if not call.body:
        raise UsageError("there is nothing to change in this request")
    return await call.request("edit", call.name, set=call.body)


async def story(call: Call) -> Any:
    call.unit()
    rows = await call.aside(
        call.orchestrator.rows, 'SELECT * FROM "transition" WHERE unit = ? ORDER BY seq', (call.name,)
    )
    return {"unit": call.name, "transitions": [opened(row) for row in rows]}


async def events(call: Call) -> Any:
    call.unit()
    limit, since = page_of(call, LIMIT), call.query.get("since", 0)
    rows = await call.aside(
        call.orchestrator.rows,
        'SELECT * FROM "event" WHERE unit = ? AND seq > ? ORDER BY seq LIMIT ?',
        (call.name, since, limit + 1),
    )
    more = len(rows) > limit
    return {
        "unit": call.name,
        "events": [opened(row) for row in rows[:limit]],
        "next": rows[limit - 1]["seq"] if more else None,
    }


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

    return Route("POST", f"/units/{{name}}/{kind}", summary, answer, body=body, versioned="may")


_REASON = Field("reason", _TEXT, "why; it stands in the unit's story")
_FEEDBACK = Field("feedback", _TEXT, "what to do differently; the next attempt gets it")
_ITEM = Field("item", "integer", "the attention item that is meant; refused if somebody has settled it")

ROUTES = (
    Route(
        "GET",
        "/units",
        "Work units by name, a page at a time.",
        list_units,
        query=(
            Field("status", _TEXT, "only those in this status"),
            Field("label", _TEXT, "only those with this label"),
            *PAGE,
        ),
    ),
    Route(
        "POST",
        "/units",
        "Submit one unit, or many at once as `units`: all of them or none.",
        submit,
        body=(
            Field("units", _LIST, "many units, each an object of the fields below"),
            *(Field(each.name, each.kind, each.meaning) for each in UNIT_FIELDS),
        ),
    ),
    Route("GET", "/units/{name}", "One unit. Its version is the answer's ETag.", show),
    Route(
        "PATCH",
        "/units/{name}",
        "Change a unit's fields, if it is still at the version in If-Match.",
        edit,
        body=tuple(each for each in UNIT_FIELDS if each.name not in ("name", "workflow")),
        versioned="must",
    ),
    Route("GET", "/units/{name}/story", "Every transition of a unit, oldest first.", story),
    Route(
        "GET",
        "/units/{name}/events",
        "What a unit's agents said: progress, notes, tests, warnings.",
        events,
        query=(Field("since", "integer", "only those after this seq"), PAGE[0]),
    ),
    Route("GET", "/units/{name}/diff", "What a unit's branch changes against its base, at most 1 MB.", diff),
    _say(
        "answer",
        "Answer the unit's question.",
        Field("text", _TEXT, "the answer", required=True),
        _ITEM,
    ),
    _say("approve", "Approve what the unit asks approval for.", _ITEM),
    _say("reject", "Reject it; the phase runs again.", _FEEDBACK, _ITEM),
    _say(
        "resolve",
        "Rule on a conflict between two units; the ruling holds for the pair.",
        Field("other", _TEXT, "the other unit", required=True),
        Field("ruling", _TEXT, "serialize (this unit after the other) or parallelize", required=True),
        _ITEM,
    ),
    _say(
        "retry",
        "Make another attempt.",
        Field("phase", _TEXT, "from this phase, if not the present one"),
        _FEEDBACK,
        _ITEM,
    ),
    _say("accept", "Close a unit as done.", Field("reason", _TEXT, "why it counts as done", required=True), _ITEM),
    _say("cancel", "Withdraw a unit; a running attempt is killed with all its descendants.", _REASON, _ITEM),
    _say("pause", "Hold a unit; a running attempt is stopped, its session kept.", _REASON),
    _say("resume", "Let a paused unit go on.", _REASON),
    _say("restart", "Stop the running attempt; its phase starts again, with its session.", _REASON),
    _say("reopen", "Take a cancelled unit back.", _REASON),
    _say(
        "comment",
        "Say something to the unit's next attempt, on a line of a file or on the whole: it gets it as feedback.",
        Field("text", _TEXT, "the comment", required=True),
        Field("file", _TEXT, "the path of the file that it is about"),
        Field("line", "integer", "the number of the line"),
    ),
)
