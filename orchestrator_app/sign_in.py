"""The sign-in page: by a one-time link, by a token, by a password, or by a login provider."""

from __future__ import annotations

import html
import math
from urllib.parse import parse_qs, quote, urlsplit

from tornado.httputil import HTTPServerRequest
from tornado.web import RequestHandler

from orchestrator_app.access import COOKIE_LIFE, Access

PROVIDER = "/oauth"
"""Leads to the login provider, and back."""


def safe_next(page: str) -> str:
    """A path on this server, whatever was asked for."""
    local = page.startswith("/") and not page.startswith(("//", "/\\")) and page.isprintable() and "\\" not in page
    return page if local else "/"


def foreign_page(request: HTTPServerRequest) -> bool:
    """Whether a browser says that a page of another site asks."""
    return request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin")


def is_secure(request: HTTPServerRequest) -> bool:
    """Whether the browser speaks https, be it to a proxy in front. Who lies here harms only their own cookie."""
    said = (request.headers.get("X-Forwarded-Proto", ""), request.headers.get("Origin", "").partition("://")[0])
    return "https" in (request.protocol, *said)


def from_provider(uri: str) -> str | None:
    """What a login provider says by an address that it sent a browser back to: the root, or this page."""
    query = urlsplit(uri).query
    said = parse_qs(query)
    if "next" in said:
        query = urlsplit(said["next"][0]).query
        said = parse_qs(query)
    return query if "state" in said and ("code" in said or "error" in said) else None


class Page(RequestHandler):
    """What the pages of signing in have in common."""

    def initialize(self, access: Access, cookie_name: str) -> None:
        self._access = access
        self._cookie_name = cookie_name

    def enter(self, page: str, way: str, name: str = "") -> None:
        """Sign this browser in, and go to the page."""
        self.set_cookie(
            self._cookie_name,
            self._access.new_cookie(way, name),
            max_age=COOKIE_LIFE,
            path="/",
            httponly=True,
            samesite="Strict",
            **({"secure": True} if is_secure(self.request) else {}),
        )
        self.go(page)

    def go(self, page: str) -> None:
        self.set_header("Cache-Control", "no-store")
        if foreign_page(self.request):
            # A redirect would still count as coming from the other site; a refresh comes from this page.
            self.finish(PAGE.format(head=f'<meta http-equiv="refresh" content="0;url={html.escape(page)}">', body=""))
        else:
            self.redirect(page, status=303)

    def form(self, page: str, trouble: str) -> None:
        sign_in = self._access.sign_in
        word = "Password, or " if sign_in.password or sign_in.viewer_password or sign_in.users is not None else "Paste "
        self.set_header("Cache-Control", "no-store")
        form = FORM.format(
            notice=f'<p role="alert">{html.escape(trouble)}</p>' if trouble else "",
            name=NAME if sign_in.users is not None else "",
            label=f"{word}the content of the file <code>.orchestrator/token</code>",
            provider=OTHER.format(page=quote(page, safe="")) if sign_in.provider else "",
            page=html.escape(page),
        )
        self.finish(PAGE.format(head="", body=form))


class Logout(Page):
    """Takes the cookie back. Whose it was has passed the edge, which asks where a request with a cookie comes from."""

    def post(self) -> None:
        self.clear_cookie(self._cookie_name, path="/")
        self.finish({"signed_out": True})


class Login(Page):
    """Signs a browser in: by a one-time code in the URL, or by a secret typed into a form."""

    def get(self) -> None:
        code, page = self.get_query_argument("code", ""), safe_next(self.get_query_argument("next", "/"))
        cookie = self.request.cookies.get(self._cookie_name)
        said = from_provider(self.request.uri or "") if self._access.sign_in.provider else None
        if said is not None:
            self.redirect(f"{PROVIDER}?{said}")
        elif way := self._access.spend(code):
            self.enter(page, way)
        elif cookie is not None and self._access.of_cookie(cookie.value) is not None:
            self.go(page)
        elif foreign_page(self.request):
            # Reached by a link on another site: the browser kept a Strict cookie back. Asked again from a page of
            # ours it sends it, if there is one.
            self.go(self.request.uri or "/login")
        elif code:
            self.set_status(403)
            self.form(page, "That link was used before or is too old.")
        else:
            self.form(page, "")

    def post(self) -> None:
        page = safe_next(self.get_body_argument("next", "/"))
        name, given = self.get_body_argument("name", ""), self.get_body_argument("token", "")
        way = self._access.way_of_token(given)
        if way is not None:
            self.enter(page, way)
            return
        guessed = self._access.sign_in.some
        wait = self._access.wait(self.request.remote_ip or "") if guessed else 0.0
        if wait:
            self.set_status(429)
            self.set_header("Retry-After", str(math.ceil(wait)))
            self.form(page, f"Too many wrong tries: wait {math.ceil(wait)} seconds.")
            return
        way = self._access.way_of_password(name, given) if guessed else None
        if way is not None:
            self.enter(page, way, name if way == "user" else "")
            return
        if guessed:
            self._access.failed(self.request.remote_ip or "")
        self.set_status(403)
        self.form(page, "That is not right." if guessed else "That is not this project's token.")


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
NAME = """<label for="name">Name</label><input id="name" name="name" autocomplete="username" autofocus>"""
OTHER = """<p><a href="/oauth?next={page}">Sign in with the login provider</a></p>"""
FORM = """<main>
<h1>Sign in</h1>{notice}{provider}
<form method="post" action="/login">{name}
<label for="token">{label}</label>
<input id="token" name="token" type="password" autocomplete="current-password" required autofocus>
<input type="hidden" name="next" value="{page}">
<button type="submit">Sign in</button>
</form>
<p>Run <code>orch open</code> in the project's directory: it opens this page signed in.
<code>orch serve</code> prints such a link when it starts. Each link works once.</p></main>"""
