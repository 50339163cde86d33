"""What stands in front of every route of the server, Bokeh's own included.

Whoever reaches this server can run commands, so nothing is served to a request that has not passed, in this order:

1. Host: exactly one, and one of ours. A page whose name was rebound to this machine carries its own name here (421).
2. Size: a body that announces more than `MAX_BODY` bytes is not read (413).
3. Origin and Sec-Fetch-Site: whatever a browser says comes from elsewhere is refused (403). A plain navigation is let
   through to step 4, where it finds no cookie, because the cookie is SameSite=Strict.
4. The token: `Authorization: Bearer` for programs, a cookie made from it for browsers (401, or the sign-in page).
   A request that changes something with a cookie must also prove where it comes from.

Only the paths in `OPEN` skip step 4. Every answer, errors and upgrades included, carries `HEADERS`.
Bokeh's and Tornado's own origin checks stay on behind this and are not relied on: since Tornado 6.6 they accept any
Origin that equals the Host.
"""

from __future__ import annotations

import hashlib
import hmac
import html
import json
import secrets
import time
from collections.abc import Callable, Iterable
from threading import Lock
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

from tornado.httputil import HTTPHeaders, HTTPServerRequest
from tornado.web import Application, OutputTransform, RequestHandler

from orchestrator_app.agents.channel import attempt_of

OPEN = frozenset({"/healthz", "/login", "/favicon.ico"})
"""The only paths that answer without a token. All are exact; none changes the project or tells about it."""

CHANNEL = "/ws"
"""The only path that the token of an attempt opens: there it hears of its answers and says what it says."""

MAX_BODY = 4 * 1024 * 1024
"""Bytes of a request's body."""
MAX_MESSAGE = 8 * 1024 * 1024
"""Bytes of one WebSocket message from a browser."""
CODE_LIFE = 3600.0
"""Seconds for which a one-time sign-in code can be used."""
COOKIE_LIFE = 30 * 24 * 3600
"""Seconds for which a browser stays signed in."""

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
    """The rules for one server on one port, and who is signed in. All methods belong to the server's loop thread,
    except `login_url`, which any thread may call."""

    def __init__(self, token: str, port: int, names: Iterable[str] = ()) -> None:
        """`names`: further host names, without a port, under which the server may be addressed."""
        self._token = token.encode()
        self.port = port
        known = ("127.0.0.1", "localhost", "[::1]", *(name.lower() for name in names))
        self.hosts = frozenset(f"{name}:{port}" for name in known) | (frozenset(known) if port == 80 else frozenset())
        self.origins = frozenset(f"http://{host}" for host in self.hosts)
        self.cookie_name = f"orch_session_{port}"
        self._codes: dict[str, float] = {}
        self._codes_lock = Lock()

    # -- in front of the application ---------------------------------------------------------------------------

    def install(self, app: Application, health: Callable[[], tuple[bool, str]]) -> None:
        """Stand in front of every handler of `app`, now and later added, and add the sign-in page and /healthz.

        `health()` returns whether all is well and one word for it."""
        app.add_handlers(".*", [(r"/login", Login, {"edge": self}), (r"/healthz", Healthz, {"health": health})])
        app.add_transform(SecureHeaders)
        app.settings["edge"] = self
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
        if length.isdigit() and int(length) > MAX_BODY:
            return Refusal(413, "Too large", f"A request's body may have {MAX_BODY} bytes at most.")
        foreign = self._comes_from_elsewhere(request)
        if foreign is not None:
            return foreign
        if request.path in OPEN or self.has_token(request):
            return None
        if self.attempt_of(request) is not None:
            if request.path == CHANNEL and not is_bokehs(request):
                return None
            return Refusal(403, "Not for attempts", f"The token of an attempt opens {CHANNEL} and nothing else.")
        if not self.is_signed_in(request):
            return Refusal(401, "Not signed in", "Send the token of .orchestrator/token, or sign in at /login.")
        if changes_something(request) and "Origin" not in headers and headers.get("Sec-Fetch-Site") != "same-origin":
            return Refusal(403, "Origin missing", "A request with a cookie must say where it comes from.")
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
        if headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin") and not navigation:
            return Refusal(403, "Foreign site", "Pages of other sites have no access to this server.")
        return None

    # -- who it is ----------------------------------------------------------------------------------------------

    def has_token(self, request: HTTPServerRequest) -> bool:
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        return scheme.lower() == "bearer" and self.is_token(given)

    def attempt_of(self, request: HTTPServerRequest) -> tuple[str, int] | None:
        """The unit and number of the attempt that asks, by the token it was given ($ORCH_TOKEN)."""
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        return attempt_of(self._token.decode(), given) if scheme.lower() == "bearer" else None

    def is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.strip().encode(errors="replace"), self._token)

    def is_signed_in(self, request: HTTPServerRequest) -> bool:
        cookie = request.cookies.get(self.cookie_name)
        expires, _, rest = (cookie.value if cookie else "").partition(".")
        nonce, _, given = rest.partition(".")
        if not expires.isdecimal() or len(expires) > 12 or int(expires) < time.time():
            return False
        return hmac.compare_digest(given.encode(errors="replace"), self._mac(expires, nonce).encode())

    def new_cookie(self) -> str:
        """A value that proves knowledge of the token. It outlives a restart of the server, so open pages reconnect."""
        expires, nonce = str(int(time.time()) + COOKIE_LIFE), secrets.token_urlsafe(12)
        return f"{expires}.{nonce}.{self._mac(expires, nonce)}"

    def _mac(self, expires: str, nonce: str) -> str:
        return hmac.new(self._token, f"cookie|{expires}|{nonce}".encode(), hashlib.sha256).hexdigest()

    def session_key(self) -> bytes:
        """The key that signs Bokeh's session ids: secret, and the same after a restart."""
        return hmac.new(self._token, b"bokeh sessions", hashlib.sha256).hexdigest().encode()

    def login_url(self, base: str, page: str = "/") -> str:
        """A URL under `base` (http://127.0.0.1:PORT) that signs one browser in, once, within `CODE_LIFE` seconds."""
        code, now = secrets.token_urlsafe(24), time.monotonic()
        with self._codes_lock:
            self._codes = {old: until for old, until in list(self._codes.items())[-99:] if until > now}
            self._codes[code] = now + CODE_LIFE
        query = {"code": code} if page == "/" else {"code": code, "next": page}
        return f"{base}/login?{urlencode(query)}"

    def spend(self, code: str) -> bool:
        """Whether the code was good; it is not any more."""
        with self._codes_lock:
            return self._codes.pop(code, 0.0) > time.monotonic()


def changes_something(request: HTTPServerRequest) -> bool:
    return request.method not in ("GET", "HEAD") or "Upgrade" in request.headers


def is_bokehs(request: HTTPServerRequest) -> bool:
    """Whether a page's own socket is asked for: it may have the same path as the API's (`CHANNEL`)."""
    return "bokeh" in [word.strip() for word in request.headers.get("Sec-WebSocket-Protocol", "").split(",")]


def safe_next(page: str) -> str:
    """A path on this server, whatever was asked for."""
    local = page.startswith("/") and not page.startswith(("//", "/\\")) and page.isprintable() and "\\" not in page
    return page if local else "/"


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


class Refused(RequestHandler):
    """Answers a request that `Edge.judge` stopped: people get the sign-in page, programs a problem document."""

    def initialize(self, refusal: Refusal) -> None:
        self._refusal = refusal

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


class Login(RequestHandler):
    """Signs a browser in: by a one-time code in the URL, or by the token pasted into a form."""

    def initialize(self, edge: Edge) -> None:
        self._edge = edge

    def get(self) -> None:
        code, page = self.get_query_argument("code", ""), safe_next(self.get_query_argument("next", "/"))
        if self._edge.is_signed_in(self.request):
            self._go(page)
        elif code and self._edge.spend(code):
            self._enter(page)
        elif self.request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
            # Reached by a link on another site: the browser kept a Strict cookie back. Asked again from a page of
            # ours it sends it, if there is one.
            self._go(self.request.uri or "/login")
        elif code:
            self.set_status(403)
            self._form(page, "That link was used before or is too old.")
        else:
            self._form(page, "")

    def post(self) -> None:
        page = safe_next(self.get_body_argument("next", "/"))
        if self._edge.is_token(self.get_body_argument("token", "")):
            self._enter(page)
        else:
            self.set_status(403)
            self._form(page, "That is not this project's token.")

    def _enter(self, page: str) -> None:
        self.set_cookie(
            self._edge.cookie_name,
            self._edge.new_cookie(),
            path="/",
            httponly=True,
            samesite="Strict",
            max_age=COOKIE_LIFE,
        )
        self._go(page)

    def _go(self, page: str) -> None:
        self.set_header("Cache-Control", "no-store")
        if self.request.headers.get("Sec-Fetch-Site", "none") in ("none", "same-origin"):
            self.redirect(page, status=303)
        else:
            # A redirect would still count as coming from the other site; a refresh comes from this page.
            self.finish(PAGE.format(head=f'<meta http-equiv="refresh" content="0;url={html.escape(page)}">', body=""))

    def _form(self, page: str, trouble: str) -> None:
        self.set_header("Cache-Control", "no-store")
        notice = f'<p role="alert">{html.escape(trouble)}</p>' if trouble else ""
        self.finish(PAGE.format(head="", body=FORM.format(notice=notice, page=html.escape(page))))


# The referrer rule of the page replaces that of the header: without it browsers send "Origin: null" with the form.
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Sign in</title>
<meta name="viewport" content="width=device-width"><meta name="referrer" content="same-origin">{head}
<style>
:root {{ color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }}
main {{ max-width: 34rem; margin: 12vh auto; padding: 0 1rem }}
input, button {{ font: inherit; padding: .5rem .75rem; border: 1px solid; border-radius: .4rem }}
input {{ width: 100%; box-sizing: border-box; margin: .25rem 0 .75rem }}
code {{ font-size: .95em }}
[role=alert] {{ border-left: .25rem solid #c62828; padding-left: .75rem }}
</style></head><body>{body}</body></html>
"""
FORM = """<main>
<h1>Sign in</h1>{notice}
<p>Run <code>orch open</code> in the project's directory: it opens this page signed in.
<code>orch serve</code> prints such a link when it starts. Each link works once.</p>
<form method="post" action="/login">
<label for="token">Or paste the content of the file <code>.orchestrator/token</code></label>
<input id="token" name="token" type="password" autocomplete="off" required autofocus>
<input type="hidden" name="next" value="{page}">
<button type="submit">Sign in</button>
</form></main>"""
