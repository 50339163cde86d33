"""What stands in front of every route of the server, Bokeh's own included.

Whoever reaches this server can run commands, so nothing is served to a request that has not passed, in this order:

1. Host: exactly one, and one of ours. A page whose name was rebound to this machine carries its own name here (421).
2. Size: a body that announces more than `MAX_BODY` bytes is not read (413), and far less where nobody is known yet.
3. Origin and Sec-Fetch-Site: whatever a browser says comes from elsewhere is refused (403). A plain navigation is let
   through to step 4, where it finds no cookie, because the cookie is SameSite=Strict.
4. Who it is: a token in `Authorization: Bearer` for programs, a cookie for browsers (401, or the sign-in page).
   A request that changes something with a cookie must also prove where it comes from.
5. What they may: viewers look. Of what isn't a GET they have only what is declared as reading (403).

Only the paths in `OPEN` skip step 4, and the way to a login provider where there is one. Every answer, errors and
upgrades included, carries `HEADERS`.
Bokeh's and Tornado's own origin checks stay on behind this and are not relied on: since Tornado 6.6 they accept any
Origin that equals the Host.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple
from urllib.parse import quote

from bokeh.util.token import get_token_payload
from tornado.httputil import HTTPHeaders, HTTPServerRequest
from tornado.web import Application, OutputTransform, RequestHandler, stream_request_body

from orchestrator_app.access import Access, Who
from orchestrator_app.agents.channel import attempt_of
from orchestrator_app.sign_in import PROVIDER, Login, Logout, foreign_page

OPEN = frozenset({"/healthz", "/login", "/favicon.ico"})
"""The only paths that answer without a token. All are exact; none changes the project or tells about it."""

CHANNEL = "/ws"
"""The only path that the token of an attempt opens: there it hears of its answers and says what it says."""

LOGOUT = "/logout"

MAX_BODY = 16 * 1024 * 1024
"""Bytes of a request's body: 10,000 units with 1,600 bytes each."""
SMALL = 16 * 1024
"""Bytes of a body from somebody who may not be known yet."""
MOST_PAGES = 1_000
"""Pages that are open at once; one costs some hundred kilobytes, and is given back soon after it was left."""
MAX_MESSAGE = 8 * 1024 * 1024
"""Bytes of one WebSocket message from a browser."""

HEADERS = {
    # Panel and Bokeh evaluate code of their own ('unsafe-eval'), start it from inline scripts, and load components
    # from blob: addresses. Inline event attributes, which hostile text would use, stay forbidden.
    "Content-Security-Policy": "; ".join(
        (
            "default-src 'self'",
            "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",
            "script-src-attr 'none'",
            "style-src 'self' 'unsafe-inline'",
            "img-src 'self' data: blob:",
            "font-src 'self' data:",
            "connect-src 'self' blob:",
            "worker-src 'self' blob:",
            "frame-src 'none'",
            "object-src 'none'",
            "base-uri 'none'",
            "frame-ancestors 'none'",
            "form-action 'self'",
        )
    ),
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Refusal(NamedTuple):
    """Why a request goes no further."""

    status: int
    title: str
    detail: str


class Edge:
    """The rules for one server on one port. All methods belong to the server's loop thread, except `login_url`."""

    def __init__(
        self,
        access: Access,
        port: int,
        names: Iterable[str] = (),
        allowed: Iterable[str] = (),
        reading: Iterable[tuple[str, str]] = (),
        scheme: str = "http",
    ) -> None:
        """`names`: further host names, without a port, under which the server may be addressed; `allowed`: the same,
        with a port or without, also by https (a proxy in front has ports and certificates of its own);
        `reading`: methods and paths that change nothing, though they aren't GET; `scheme`: what it speaks itself."""
        self.access = access
        self.port = port
        known = ("127.0.0.1", "localhost", "[::1]", *(name.lower() for name in names))
        ours = {f"{name}:{port}" for name in known} | (
            set(known) if port == {"http": 80, "https": 443}[scheme] else set()
        )
        others = {host for name in allowed for host in _hosts(name.lower(), port)} - ours
        self.hosts = frozenset(ours | others)
        self.origins = frozenset({f"{scheme}://{host}" for host in self.hosts} | {f"https://{host}" for host in others})
        self.cookie_name = f"orch_session_{port}"
        self._reading = frozenset(reading) | {("POST", LOGOUT)}
        self._pages: frozenset[str] = frozenset()
        self._count_pages: Callable[[], int] = lambda: 0
        self._open = OPEN | {PROVIDER} if access.sign_in.provider else OPEN

    # -- in front of the application ---------------------------------------------------------------------------

    def install(self, app: Application, health: Callable[[], tuple[bool, str]]) -> None:
        """Stand in front of every handler of `app`, now and later added, and add the sign-in page and /healthz.

        `health()` returns whether all is well and one word for it."""
        login = {"access": self.access, "cookie_name": self.cookie_name}
        healthz = (r"/healthz", Healthz, {"health": health})
        app.add_handlers(".*", [(r"/login", Login, login), (LOGOUT, Logout, login), healthz])
        app.add_transform(SecureHeaders)
        app.settings["edge"] = self
        contexts = app._applications  # a BokehTornado's: by path
        self._pages = frozenset(path.rstrip("/") + end for path in contexts for end in ("", "/", "/autoload.js"))
        self._count_pages = lambda: sum(len(context.sessions) for context in contexts.values())
        route = app.find_handler

        def find_handler(request: HTTPServerRequest, **kwargs: Any) -> Any:
            refusal = self.judge(request)
            if refusal is None:
                return route(request, **kwargs)
            return app.get_handler_delegate(request, Refused, {"refusal": refusal})

        app.find_handler = find_handler  # type: ignore[method-assign]

    def judge(self, request: HTTPServerRequest) -> Refusal | None:
        """None if the request may go on to its handler."""
        headers = request.headers
        hosts = headers.get_list("Host")
        if len(hosts) != 1 or hosts[0].lower() not in self.hosts:
            return Refusal(421, "Unknown host", f"This server answers only to {', '.join(sorted(self.hosts))}.")
        length = headers.get("Content-Length", "0")
        most = SMALL if request.path in self._open else MAX_BODY
        if (length.isdigit() and int(length) > most) or (most == SMALL and "Transfer-Encoding" in headers):
            return Refusal(413, "Too large", f"The body of this request may have {most} bytes at most.")
        foreign = self._comes_from_elsewhere(request)
        if foreign is not None:
            return foreign
        if request.path in self._open:
            return None
        who = self.of_bearer(request)
        if who is None:
            if self.attempt_of(request) is not None:
                if request.path == CHANNEL and not is_bokehs(request):
                    return None
                return Refusal(403, "Not for attempts", f"The token of an attempt opens {CHANNEL} and nothing else.")
            who = self.of_cookie(request)
            if who is None:
                return Refusal(401, "Not signed in", "Send the token of .orchestrator/token, or sign in at /login.")
            if (
                changes_something(request)
                and "Origin" not in headers
                and headers.get("Sec-Fetch-Site") != "same-origin"
            ):
                return Refusal(403, "Origin missing", "A request with a cookie must say where it comes from.")
        if not (who.may_act or request.method in ("GET", "HEAD") or (request.method, request.path) in self._reading):
            return Refusal(403, "Viewers only look", "You may look at everything here and change nothing.")
        if request.path in self._pages and self._count_pages() >= MOST_PAGES:
            return Refusal(503, "Too many pages", f"{MOST_PAGES} pages are open: close some, and try again soon.")
        if is_bokehs(request) and "Upgrade" in headers and session_of(request) not in (None, who):
            return Refusal(403, "Not your page", "This page was opened by somebody else: load it anew.")
        return None

    def _comes_from_elsewhere(self, request: HTTPServerRequest) -> Refusal | None:
        headers = request.headers
        for origin in headers.get_list("Origin"):
            if origin.lower() not in self.origins:
                return Refusal(403, "Foreign origin", "Pages of other origins have no access to this server.")
        navigation = (
            not changes_something(request)
            and headers.get("Sec-Fetch-Mode") == "navigate"
            and headers.get("Sec-Fetch-Dest") == "document"
        )
        if foreign_page(request) and not navigation:
            return Refusal(403, "Foreign site", "Pages of other sites have no access to this server.")
        return None

    # -- who it is ----------------------------------------------------------------------------------------------

    def who(self, request: HTTPServerRequest) -> Who | None:
        """Who sends this; None for attempts, and for those who have not signed in."""
        return self.of_bearer(request) or self.of_cookie(request)

    def of_bearer(self, request: HTTPServerRequest) -> Who | None:
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        return self.access.of_secret(given) if scheme.lower() == "bearer" else None

    def of_cookie(self, request: HTTPServerRequest) -> Who | None:
        cookie = request.cookies.get(self.cookie_name)
        return self.access.of_cookie(cookie.value) if cookie else None

    def attempt_of(self, request: HTTPServerRequest) -> tuple[str, int] | None:
        """The unit and number of the attempt that asks, by the token it was given ($ORCH_TOKEN)."""
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        return attempt_of(self.access.token, given) if scheme.lower() == "bearer" else None


def changes_something(request: HTTPServerRequest) -> bool:
    return request.method not in ("GET", "HEAD") or "Upgrade" in request.headers


def is_bokehs(request: HTTPServerRequest) -> bool:
    """Whether a page's own socket is asked for: it may have the same path as the API's (`CHANNEL`)."""
    return "bokeh" in _protocols(request)


def session_of(request: HTTPServerRequest) -> Who | None:
    """Who the page was made for whose socket this is to be; None where it says nothing that can be read.

    Whether the page is one of ours, its signature says, and Bokeh looks at that."""
    for word in _protocols(request)[1:2]:
        try:
            return who_in(get_token_payload(word))
        except Exception:  # whatever was sent in its place
            return None
    return None


def who_in(payload: Mapping[str, Any]) -> Who | None:
    """Who a page was made for, by what its session was told (see `serve.Visitors`)."""
    said = payload.get("who")
    return Who(said[0] is True, str(said[1])) if isinstance(said, list) and len(said) == 2 else None


def _protocols(request: HTTPServerRequest) -> list[str]:
    return [word.strip() for word in request.headers.get("Sec-WebSocket-Protocol", "").split(",")]


def _hosts(name: str, port: int) -> tuple[str, ...]:
    """What a Host header may say of this name."""
    return (name,) if name.rpartition(":")[2].isdecimal() and not name.endswith("]") else (name, f"{name}:{port}")


class SecureHeaders(OutputTransform):
    """Puts `HEADERS` on every answer of every handler, errors and upgrades included."""

    def __init__(self, request: HTTPServerRequest) -> None:
        pass

    def transform_first_chunk(
        self, status_code: int, headers: HTTPHeaders, chunk: bytes, finishing: bool
    ) -> tuple[int, HTTPHeaders, bytes]:
        for name, value in HEADERS.items():
            headers[name] = value
        headers.pop("Server", None)
        return status_code, headers, chunk


@stream_request_body
class Refused(RequestHandler):
    """Answers a request that `Edge.judge` stopped: people get the sign-in page, programs a problem document.

    It answers before the body has come, and keeps none of it."""

    def initialize(self, refusal: Refusal) -> None:
        self._refusal = refusal

    def data_received(self, chunk: bytes) -> None:
        pass

    def prepare(self) -> None:
        refusal = self._refusal
        wants_page = "text/html" in self.request.headers.get("Accept", "") and not changes_something(self.request)
        if refusal.status == 401 and wants_page:
            page = self.request.uri or "/"
            self.redirect("/login" if page == "/" else f"/login?next={quote(page, safe='')}")
            return
        self.set_status(refusal.status)
        if refusal.status == 401:
            self.set_header("WWW-Authenticate", "Bearer")
        if refusal.status == 503:
            self.set_header("Retry-After", "15")
        self.set_header("Content-Type", "application/problem+json")
        self.set_header("Cache-Control", "no-store")
        self.finish(json.dumps({"type": "about:blank", **refusal._asdict()}))


class Healthz(RequestHandler):
    """For monitors: 200 while all is well, else 503. Needs no token, so it says no more than that."""

    def initialize(self, health: Callable[[], tuple[bool, str]]) -> None:
        self._health = health

    def get(self) -> None:
        well, word = self._health()
        self.set_status(200 if well else 503)
        self.set_header("Cache-Control", "no-store")
        self.finish({"state": word})
