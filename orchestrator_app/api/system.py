"""The whole project: its status, attention queue, sessions, settings, questions in SQL, and the server itself."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any

from orchestrator_app.api.routing import REFUSES, Call, Field, Route
from orchestrator_app.api.rows import PAGE, limit_of, opened, paged, seq_of
from orchestrator_app.api.shapes import COUNT, FLAG, FREE, ITEM, NUMBER, ROWS, TEXT, listed, maybe, page, thing
from orchestrator_app.errors import NotFoundError, UsageError
from orchestrator_app.stopping import Stop


async def status(call: Call) -> Any:
    return await call.aside(call.orchestrator.status)


async def attention(call: Call) -> Any:
    unit, kind, after = call.query.get("unit"), call.query.get("kind"), seq_of(call)
    items = sorted(
        (
            item
            for item in list(call.orchestrator.board.attention.values())
            if item.id > after and unit in (None, item.unit) and kind in (None, item.kind)
        ),
        key=lambda item: item.id,
    )
    rows = [{each.name: getattr(item, each.name) for each in fields(item)} for item in items[: limit_of(call) + 1]]
    page, following = paged(rows, call, "id")
    return {"items": page, "next": following}


async def seen(call: Call) -> Any:
    number = int(call.name) if call.name.isdecimal() and len(call.name) < 19 else -1
    if number < 0:
        raise NotFoundError(f"there is no open attention item {call.name[:40]}; `orch attention` lists them")
    return await call.request("see", item=number)


async def sessions(call: Call) -> Any:
    unit = call.query.get("unit")
    sql = 'SELECT * FROM "session" WHERE seq > ? AND (? IS NULL OR unit = ?) ORDER BY seq LIMIT ?'
    rows = await call.aside(call.orchestrator.rows, sql, (seq_of(call), unit, unit, limit_of(call) + 1))
    page, following = paged(rows, call, "seq")
    return {"sessions": [opened(row) for row in page], "next": following}


async def dispatch(call: Call) -> Any:
    return await call.request("dispatch", paused=call.body["paused"])


async def config(call: Call) -> Any:
    project = call.server.project
    values = asdict(project)
    sources = values.pop("sources")
    for agent in values["agents"].values():
        agent["env"] = dict.fromkeys(agent["env"], "…")  # may hold keys and passwords
    return {"settings": values, "sources": sources}


async def login_code(call: Call) -> Any:
    return {"url": call.server.login_url(viewer=call.body.get("viewer") is True)}


async def stop(call: Call) -> Any:
    word = call.body.get("how") or Stop.LEAVE
    if word not in list(Stop):
        raise UsageError(f"how must be one of {', '.join(Stop)}")
    return {"stopping": call.server.stop_soon(Stop(word))}


STANDING = thing(
    state=TEXT,
    ending=maybe({"enum": list(Stop)}),
    awaited=listed(TEXT),
    seq=COUNT,
    counts={"type": "object", "additionalProperties": COUNT},
    running=COUNT,
    slots=COUNT,
    attention=COUNT,
    dispatch={"enum": ["on", "paused"]},
    recovered=TEXT,
    pid=COUNT,
    started_at=NUMBER,
    project=TEXT,
)

ROUTES = (
    Route("GET", "/status", "The state of the whole: counts, slots, attention, dispatch.", status, gives=STANDING),
    Route(
        "GET",
        "/attention",
        "What needs a person now, oldest first.",
        attention,
        gives=page("items", ITEM),
        query=(
            Field("unit", "string", "only what is about this unit"),
            Field("kind", "string", "only of this kind: question, approval, error, conflict, stall, blocked"),
            *PAGE,
        ),
    ),
    Route(
        "POST",
        "/attention/{id}/seen",
        "Say that a person has seen an item.",
        seen,
        body=(),
        gives=thing(item=COUNT, seq=COUNT),
        refuses=REFUSES,
    ),
    Route(
        "GET",
        "/sessions",
        "The agent conversations that attempts have named.",
        sessions,
        gives=page("sessions", ROWS["session"]),
        query=(
            Field("unit", "string", "only those of this unit"),
            Field("since", "integer", "only those after this seq"),
            *PAGE,
        ),
    ),
    Route(
        "POST",
        "/dispatch",
        "Pause or go on with the starting of attempts.",
        dispatch,
        gives=thing(paused=FLAG, seq=COUNT),
        refuses=REFUSES,
        body=(Field("paused", "boolean", "whether to hold all starts", required=True),),
    ),
    Route(
        "GET",
        "/config",
        "The settings in force, and where each comes from.",
        config,
        gives=thing(settings=FREE, sources={"type": "object", "additionalProperties": TEXT}),
    ),
    Route(
        "POST",
        "/login-code",
        "A new URL that signs one browser in, once.",
        login_code,
        body=(Field("viewer", "boolean", "let that browser look and change nothing"),),
        gives=thing(url=TEXT),
        status=201,
    ),
    Route(
        "POST",
        "/stop",
        "Stop the server; `stopping` says how it goes, which is another way if one was under way already.",
        stop,
        gives=thing(stopping={"enum": list(Stop)}),
        status=202,
        body=(
            Field(
                "how",
                "string",
                "leave: running attempts go on, and the next server takes them back (if not given); "
                "drain: start nothing new and wait for them; agents: end them",
            ),
        ),
    ),
)
