"""The whole project: its status, attention queue, sessions, settings, questions in SQL, and the server itself."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any

from orchestrator_app.api.routing import Answer, Call, Field, Route
from orchestrator_app.api.rows import opened, page_of
from orchestrator_app.errors import NotFoundError, UsageError
from orchestrator_app.stopping import Stop

LIMIT = 1_000


async def status(call: Call) -> Any:
    return await call.aside(call.orchestrator.status)


async def attention(call: Call) -> Any:
    items = sorted(list(call.orchestrator.board.attention.values()), key=lambda item: item.id)
    return {"items": [{each.name: getattr(item, each.name) for each in fields(item)} for item in items]}


async def seen(call: Call) -> Any:
    number = int(call.name) if call.name.isdecimal() and len(call.name) < 19 else -1
    if number < 0:
        raise NotFoundError(f"there is no open attention item {call.name[:40]}; `orch attention` lists them")
    return await call.request("see", item=number)


async def sessions(call: Call) -> Any:
    limit, since = page_of(call, LIMIT), call.query.get("since", 0)
    rows = await call.aside(
        call.orchestrator.rows, 'SELECT * FROM "session" WHERE seq > ? ORDER BY seq LIMIT ?', (since, limit + 1)
    )
    more = len(rows) > limit
    return {"sessions": [opened(row) for row in rows[:limit]], "next": rows[limit - 1]["seq"] if more else None}


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
    return Answer({"url": call.server.login_url()}, status=201)


async def stop(call: Call) -> Any:
    word = call.body.get("how") or Stop.LEAVE
    if word not in list(Stop):
        raise UsageError(f"how must be one of {', '.join(Stop)}")
    return Answer({"stopping": call.server.stop_soon(Stop(word))}, status=202)


ROUTES = (
    Route("GET", "/status", "The state of the whole: counts, slots, attention, dispatch.", status),
    Route("GET", "/attention", "What needs a person now, oldest first.", attention),
    Route("POST", "/attention/{id}/seen", "Say that a person has seen an item.", seen, body=()),
    Route(
        "GET",
        "/sessions",
        "The agent conversations that attempts have named.",
        sessions,
        query=(
            Field("since", "integer", "only those after this seq"),
            Field("limit", "integer", f"at most so many; {LIMIT} at most"),
        ),
    ),
    Route(
        "POST",
        "/dispatch",
        "Pause or go on with the starting of attempts.",
        dispatch,
        body=(Field("paused", "boolean", "whether to hold all starts", required=True),),
    ),
    Route("GET", "/config", "The settings in force, and where each comes from.", config),
    Route("POST", "/login-code", "A new URL that signs one browser in, once.", login_code, body=()),
    Route(
        "POST",
        "/stop",
        "Stop the server; `stopping` says how it goes, which is another way if one was under way already.",
        stop,
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
