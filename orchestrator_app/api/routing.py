"""One table says what the API is; the handlers, the OpenAPI document and docs/api.md all follow from it."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from functools import cached_property, partial
from http.client import responses
from typing import Any

import fastjsonschema
from tornado.iostream import StreamClosedError
from tornado.web import HTTPError, RequestHandler

from orchestrator_app.errors import NoServerError, OrchError, StaleVersionError, UsageError
from orchestrator_app.fields import check_name
from orchestrator_app.operators import default_operator, is_operator

PREFIX = "/api/v1"
REFUSES = (404, 409, 422, 504)
"""With what the scheduler may refuse a request: `refuses` of the routes that send one."""
LARGE = 64 * 1024
"""Bytes of a body that is read off the server's loop."""
PATIENCE = 30.0
"""Seconds to wait for the scheduler's word on a request."""

log = logging.getLogger(__name__)
MOST = 10**15
"""No number of a query is larger."""


@dataclass(frozen=True)
class Field:
    """A value that a request may carry, in its body, its query or its path.

    `kind` is a type of JSON Schema, `rule` what else that says of the value: both for the check and for the document.
    """

    name: str
    kind: str
    meaning: str
    required: bool = False
    rule: Mapping[str, Any] = field(default_factory=dict)

    @property
    def schema(self) -> dict[str, Any]:
        least = {"minimum": 0, "maximum": MOST} if self.kind in ("integer", "number") else {}
        return {"type": self.kind, **least, **self.rule}

    @cached_property
    def _validate(self) -> Callable[[Any], Any]:
        return fastjsonschema.compile(self.schema)

    def check(self, value: Any, what: str) -> Any:
        """The value, if it may be one. Raises UsageError; `what` says where it stands."""
        try:
            self._validate(value)
        except fastjsonschema.JsonSchemaException as error:
            raise UsageError(f'{what} "{self.name}" {_wrong(error, value)}: {self.meaning}') from None
        return int(value) if self.kind == "integer" else value


@dataclass(frozen=True)
class Route:
    """What one method of one path does. `{name}` is a unit's name, `{id}` a number.

    `gives` is the JSON Schema of its answer, `kinds` the media types that it may have instead of JSON, `refuses` the
    statuses of its own refusals; those that follow from the rest of the declaration are added by the description.
    `current(call)` is the present state of what a request that saw an old version was about.
    """

    method: str
    path: str
    summary: str
    answer: Callable[[Call], Awaitable[Any]]
    body: tuple[Field, ...] | None = None
    query: tuple[Field, ...] = ()
    versioned: str = ""  # "" | "may" | "must" be told the version of the unit, in If-Match
    current: Callable[[Call], Any] | None = None
    gives: Mapping[str, Any] = field(default_factory=dict)
    status: int = 200
    kinds: tuple[str, ...] = ()
    refuses: tuple[int, ...] = ()
    reads: bool = False  # it changes nothing, though it isn't a GET: viewers may have it


@dataclass
class Answer:
    """An answer that is more than a JSON value."""

    content: Any = None
    status: int | None = None  # the route's own
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Call:
    """One request, checked: what a route's function gets."""

    server: Any  # serve.Serving: project, orchestrator, changes, login_url(), stop_soon(), answering()
    name: str
    query: dict[str, Any]
    body: dict[str, Any]
    actor: str
    version: int | None
    key: str | None
    accepts: str
    gone: threading.Event  # set when the client has closed the connection
    large: bool  # whether so much was sent that looking at it would hold up the server's loop

    @property
    def orchestrator(self) -> Any:
        return self.server.orchestrator

    async def request(self, kind: str, unit: str | None = None, **args: Any) -> dict[str, Any]:
        """Queue a request for the scheduler and wait for what it says."""
        said = {"actor": self.actor, "version": self.version, "key": self.key, **args}
        ask = partial(self.orchestrator.request, kind, unit, **said)
        future = await self.aside(ask) if self.large else ask()
        try:
            return await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(future)), PATIENCE)
        except TimeoutError:
            raise HTTPError(504, reason="The scheduler has not answered; whether it happened is not known") from None

    async def aside(self, work: Callable[..., Any], *args: Any) -> Any:
        """Run what may block (SQL, files, git) off the server's loop."""
        return await _aside(work, *args)

    def unit(self) -> Any:
        """The unit that the path names. Raises NotFoundError."""
        return self.orchestrator.board.row(check_name(self.name))


def tornado_rules(routes: Sequence[Route]) -> list[tuple[str, type[RequestHandler], dict[str, Any]]]:
    """The same table as Tornado wants it: a pattern per path, with the routes of each method."""
    paths: dict[str, dict[str, Route]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method] = route
    return [
        (PREFIX + path.replace("{name}", "([^/]+)").replace("{id}", "([^/]+)"), ApiHandler, {"routes": methods})
        for path, methods in paths.items()
    ]


class ApiHandler(RequestHandler):
    """Checks a request against its route, calls the route's function, and writes what it gives back."""

    def initialize(self, routes: dict[str, Route]) -> None:
        self._routes = routes
        self._asked: tuple[Route, Call] | None = None
        self._gone = threading.Event()

    def on_connection_close(self) -> None:
        self._gone.set()

    async def prepare(self) -> None:
        route = self._routes.get(self.request.method or "")
        if route is None:
            raise HTTPError(405, reason=f"Only {', '.join(sorted(self._routes))} here")
        if "edge" not in self.application.settings or "serving" not in self.application.settings:
            raise HTTPError(503, reason="The orchestrator is not running in this server")
        with self.application.settings["serving"].answering():
            large = len(self.request.body) > LARGE
            body = await _aside(self._body, route) if large else self._body(route)
            call = self._call(route, body, large)
            self._asked = route, call
            answer = await route.answer(call)
            with suppress(StreamClosedError):
                await self._write(answer if isinstance(answer, Answer) else Answer(answer))

    def _call(self, route: Route, body: dict[str, Any], large: bool) -> Call:
        server = self.application.settings["serving"]
        return Call(
            server=server,
            name=self.path_args[0] if self.path_args else "",
            query=self._query(route),
            body=body,
            large=large,
            actor=self._actor(),
            version=self._version(route),
            key=self.request.headers.get("Idempotency-Key"),
            accepts=self.request.headers.get("Accept", ""),
            gone=self._gone,
        )

    def _query(self, route: Route) -> dict[str, Any]:
        values: dict[str, Any] = {}
        known = {each.name: each for each in route.query}
        for key in self.request.query_arguments:
            if key not in known:
                raise UsageError(f'unknown query parameter "{key[:60]}"; there are {", ".join(known) or "none"}')
            values[key] = known[key].check(_from_text(known[key], self.get_query_argument(key)), "query parameter")
        for each in route.query:
            if each.required and each.name not in values:
                raise UsageError(f'query parameter "{each.name}" is missing: {each.meaning}')
        return values

    def _body(self, route: Route) -> dict[str, Any]:
        raw = self.request.body
        if route.body is None:
            if raw:
                raise UsageError("this request takes no body")
            return {}
        if raw and self.request.headers.get("Content-Type", "").partition(";")[0].strip().lower() != "application/json":
            raise HTTPError(415, reason="Send the body as application/json")
        try:
            body = json.loads(raw) if raw else {}
        except (ValueError, RecursionError) as error:
            raise UsageError(f"the body is not JSON: {error}") from None
        if not isinstance(body, dict):
            raise UsageError("the body must be a JSON object")
        known = {each.name: each for each in route.body}
        for key, value in body.items():
            if key not in known:
                raise UsageError(f'unknown field "{key[:60]}"; there are {", ".join(known) or "none"}')
            if value is not None:
                body[key] = known[key].check(value, "field")
        for each in route.body:
            if each.required and body.get(each.name) is None:
                raise UsageError(f'field "{each.name}" is missing: {each.meaning}')
        return body

    def _actor(self) -> str:
        who = self.application.settings["edge"].who(self.request)
        if who is not None and who.name:
            return f"operator:{who.name}"  # proven, whatever the request says
        name = self.request.headers.get("X-Orch-Operator")
        if name is None:
            return f"operator:{default_operator()}"
        if not is_operator(name):
            raise UsageError("X-Orch-Operator must be a name of letters, digits, . _ @ -, at most 64 of them")
        return f"operator:{name}"

    def _version(self, route: Route) -> int | None:
        text = self.request.headers.get("If-Match")
        if text is None and route.versioned == "must":
            raise HTTPError(428, reason='Say in If-Match which version of the unit you saw, or "*" for any')
        if text is None or not route.versioned or text.strip() == "*":
            return None
        number = text.strip().strip('"')
        if not number.isdecimal():
            raise UsageError("If-Match must be the version of a unit, a number")
        return int(number)

    def _write(self, answer: Answer) -> Awaitable[None]:
        """Resolved when it is on its way to the client."""
        assert self._asked is not None
        self.set_status(answer.status or self._asked[0].status)
        self.set_header("Cache-Control", "no-store")
        content: bytes = answer.content
        if not isinstance(answer.content, bytes):
            self.set_header("Content-Type", "application/json; charset=utf-8")
            content = as_json(answer.content).encode()
        for name, value in answer.headers.items():
            self.set_header(name, value)
        return self.finish(content)

    def log_exception(self, typ: Any, value: BaseException | None, tb: Any) -> None:
        if not isinstance(value, OrchError):
            super().log_exception(typ, value, tb)

    def compute_etag(self) -> str | None:
        return None  # an ETag here is the version of a unit, not a hash of the answer

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        error = kwargs.get("exc_info", (None, None, None))[1]
        status, detail, story = status_code, "The server failed on this request; its log says why.", ()
        if isinstance(error, OrchError):
            status, detail, story = error.http_status, str(error), getattr(error, "story", ())
        elif isinstance(error, HTTPError):
            detail = self._reason
        problem = {"type": "about:blank", "title": responses.get(status, "Error"), "status": status, "detail": detail}
        if status == 405 and status_code == 405:
            self.set_header("Allow", ", ".join(sorted(self._routes)))
        if isinstance(error, NoServerError):
            self.set_header("Retry-After", "1")  # nothing was done, and the next server may do it
        if isinstance(error, StaleVersionError) and self._asked is not None and self._asked[0].current is not None:
            problem["current"] = self._asked[0].current(self._asked[1])
        if story:
            problem["story"] = [step if isinstance(step, str) else as_plain(step) for step in story]
        self.set_status(status)
        self.set_header("Content-Type", "application/problem+json")
        self.set_header("Cache-Control", "no-store")
        self.finish(as_json(problem))


class UnknownPath(ApiHandler):
    """Everything below the prefix that no route knows: a problem document, not Bokeh's page."""

    async def prepare(self) -> None:
        raise HTTPError(404, reason=f"No such path; {PREFIX}/openapi.json describes the API")


def _aside(work: Callable[..., Any], *args: Any) -> Awaitable[Any]:
    return asyncio.get_running_loop().run_in_executor(None, work, *args)


def as_json(value: Any) -> str:
    return json.dumps(value, default=as_plain)


def as_plain(value: Any) -> Any:
    """What JSON has no word for: times (UTC, as in 2026-01-31T12:00:00.000000Z), sets, other mappings, rows."""
    if isinstance(value, datetime):
        return value.isoformat(timespec="microseconds") + "Z"
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, set | frozenset):
        return sorted(value)
    if isinstance(value, Mapping):
        return dict(value)
    if hasattr(value, "_asdict"):
        return value._asdict()
    return str(value)


def _wrong(error: fastjsonschema.JsonSchemaException, whole: Any) -> str:
    """What is wrong with a value, without a regular expression."""
    where = _place(error.path[1:], whole)
    if error.rule in ("pattern", "enum", "anyOf"):
        shown = as_json(error.value)
        known = f"; there are {', '.join(error.rule_definition)}" if error.rule == "enum" else ""
        return f"{where}can't be {shown if len(shown) <= 100 else shown[:97] + '...'}{known}"
    return where + error.message.removeprefix(error.name).strip()[:300]


def _place(path: Sequence[str], whole: Any) -> str:
    """Where in a value something is wrong: `number 7 (its name), "labels", number 2 `; nothing for the value itself."""
    words = [f'"{word}"' if not word.isdecimal() else f"number {int(word) + 1:,}" for word in path]
    if words and isinstance(whole, list):
        entry = whole[int(path[0])]
        name = entry.get("name") if isinstance(entry, dict) else None
        words[0] += f" ({name[:100]})" if isinstance(name, str) and name.isprintable() else ""
    return ", ".join(words) + " " if words else ""


def _from_text(known: Field, text: str) -> Any:
    """A value of a query, which is all text, as what it is to be; the text itself where it can't be that."""
    try:
        if known.kind == "integer":
            return int(text) if re.fullmatch(r"-?\d{1,18}", text) else text
        return float(text) if known.kind == "number" else text
    except ValueError:
        return text
