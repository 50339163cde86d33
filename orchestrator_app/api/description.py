"""What the API's table says, for programs (OpenAPI) and for people (docs/api.md)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from orchestrator_app.api.routing import MOST, PREFIX, Field, Route
from orchestrator_app.fields import NAME_LENGTH, NAME_PATTERN

_ERRORS = {
    400: "the request's words are wrong",
    401: "no token",
    403: "from another origin, or by a viewer what changes something",
    404: "no such thing",
    405: "no such method on this path",
    409: "refused, as things stand",
    412: "the unit has changed since",
    413: "the body is too large",
    415: "the body is not JSON",
    421: "for another host",
    422: "its key was used for another request",
    428: "If-Match is missing",
    500: "the server failed; its log says why",
    503: "the log or the scheduler can't serve it now; with `Retry-After`, nothing was done: ask again",
    504: "the scheduler has not answered in time; whether it happened is not known",
}
_ALWAYS = (400, 401, 403, 421, 500, 503)
#: What stands for a unit's name and an item's number in a path, and for a version in If-Match.
_PLACES = {
    "name": {"type": "string", "pattern": NAME_PATTERN, "maxLength": NAME_LENGTH},
    "id": {"type": "integer", "minimum": 0, "maximum": MOST},
}
_VERSION = {"type": "string", "pattern": r'^(\*|"?[0-9]{1,15}"?)$'}


def openapi(routes: Sequence[Route], version: str) -> dict[str, Any]:
    """The OpenAPI 3.1 document of these routes."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(PREFIX + route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {"title": "orchestrator_app", "version": version},
        "paths": paths,
        "security": [{"token": []}],
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": {
                "Problem": {
                    "type": "object",
                    "required": ["type", "title", "status", "detail"],
                    "properties": {
                        **{key: {"type": "string"} for key in ("type", "title", "detail")},
                        "status": {"type": "integer"},
                        "story": {"type": "array"},
                        "current": {"type": "object"},
                    },
                }
            },
        },
    }


def _operation(route: Route) -> dict[str, Any]:
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": _PLACES[name]}
        for name in re.findall(r"\{(\w+)\}", route.path)
    ]
    parameters += [
        {
            "name": each.name,
            "in": "query",
            "required": each.required,
            "description": each.meaning,
            "schema": each.schema,
        }
        for each in route.query
    ]
    if route.versioned:
        parameters.append(
            {"name": "If-Match", "in": "header", "required": route.versioned == "must", "schema": _VERSION}
        )
    operation: dict[str, Any] = {
        "operationId": _identifier(route),
        "summary": route.summary,
        "responses": _responses(route),
    }
    if parameters:
        operation["parameters"] = parameters
    if route.body is not None:
        schema = {
            "type": "object",
            "additionalProperties": False,
            "required": [each.name for each in route.body if each.required],
            "properties": {each.name: _body_field(each) for each in route.body},
        }
        operation["requestBody"] = {"content": {"application/json": {"schema": schema}}}
    return operation


def _responses(route: Route) -> dict[str, Any]:
    """What it may answer, by status: everything, for a status that isn't here is an error of the server."""
    kinds = {"application/json": {"schema": route.gives}, **{kind: {} for kind in route.kinds}}
    done: dict[str, Any] = {"description": "done", "content": kinds}
    problem = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    refused = {status: {"description": _ERRORS[status], "content": problem} for status in sorted(statuses_of(route))}
    return {str(status): said for status, said in ({route.status: done} | refused).items()}


def statuses_of(route: Route) -> set[int]:
    """Every status other than that of success."""
    return {
        *_ALWAYS,
        *route.refuses,
        *([404] if "{" in route.path else []),
        *([412] if route.versioned else []),
        *([428] if route.versioned == "must" else []),
        *([413, 415] if route.body is not None else []),
    }


def _body_field(each: Field) -> dict[str, Any]:
    """What is not required may be null, which is as if it weren't there."""
    schema = each.schema if each.required else {"anyOf": [each.schema, {"type": "null"}]}
    return {**schema, "description": each.meaning}


def _identifier(route: Route) -> str:
    return "_".join([route.method.lower(), *re.findall(r"[a-z]+", route.path)])


def markdown(routes: Sequence[Route]) -> str:
    """docs/api.md."""
    lines = [
        "# REST API",
        "",
        "Generated from the table of routes by `python -m orchestrator_app.api`; a test compares the two.",
        "",
        f"Every path stands under `{PREFIX}` of the server, whose address is in `.orchestrator/server.json`.",
        "Programs send `Authorization: Bearer TOKEN` with the content of `.orchestrator/token`; browsers sign in by a",
        "link from `orch open`. Bodies are JSON objects (`Content-Type: application/json`); an unknown field is an",
        "error. Times are UTC. `X-Orch-Operator: NAME` says who asks, for the log; without it, the user who runs the",
        "server.",
        "",
        "An error is an `application/problem+json` document with `type`, `title`, `status` and `detail`, a line that",
        "says what to do. Its status:",
        "",
        *(f"- {status}: {meaning}" for status, meaning in _ERRORS.items()),
        "",
        "`If-Match: VERSION` makes a request fail with 412 if the unit has changed since that version (`ETag`,",
        "`version`); the problem's `current` is the unit as it is now.",
        "",
        "A list comes in pages: at most `limit` rows, and `next`, the `cursor` of the next page, null on the last.",
        "",
        "`Idempotency-Key: KEY` makes a request that changes units, attention or dispatch safe to send again, after a",
        "lost answer or a restart of the server: with the same key it is done once and answered the same. A key is any",
        "1 to 200 printable characters, new for each wish; the newest 10,000 are remembered. A refused request may be",
        "sent again with its key and is looked at anew.",
        "",
        "A body may have 16 MB. Ten thousand units in one POST /units are there at once or not at all; a refusal says",
        "which of them is wrong.",
        "",
    ]
    for route in routes:
        lines += [f"## {route.method} {route.path}", "", route.summary, ""]
        lines += _fields("Query", route.query) + _fields("Body", route.body or ())
        if route.versioned == "must":
            lines += ["`If-Match` is required.", ""]
    lines += [
        "## GET /healthz",
        "",
        "Outside the prefix and without a token: 200 while all is well, else 503. `slow`: something blocked the server",
        "for more than a second just now, and its log says how long.",
        "",
        "## GET /metrics",
        "",
        "Outside the prefix, with the token (Prometheus: `authorization: {credentials_file: …/.orchestrator/token}`):",
        "units by status, transitions, the time of commits, steps and dispatch, the lag of pages and of who listens,",
        "the age of the queue, attempts, tokens, cost.",
        "",
    ]
    return "\n".join(lines)


def _fields(title: str, fields: Sequence[Field]) -> list[str]:
    if not fields:
        return []
    rows = [
        f"| `{each.name}` | {each.kind}{', required' if each.required else ''} | {each.meaning} |" for each in fields
    ]
    return [f"| {title} | | |", "| --- | --- | --- |", *rows, ""]
