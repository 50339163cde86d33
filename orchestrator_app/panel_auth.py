"""Panel's own ways to sign in, behind the edge: `--basic-auth`, and the login providers (OAuth).

Panel would look at who is signed in where it serves a page, and nowhere else. So the edge does it, with its own cookie:
a page of ours takes the passwords of `--basic-auth`, and a login provider's word for who somebody is ends in the same
cookie. None of what the provider hands out is kept.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bokeh.server.auth_provider import AuthProvider
from panel.auth import AUTH_PROVIDERS, CODE_COOKIE_NAME, STATE_COOKIE_NAME, BasicAuthProvider, OAuthProvider
from panel.config import config
from tornado.web import Application, RequestHandler

from orchestrator_app.access import Access, SignIn
from orchestrator_app.errors import UsageError
from orchestrator_app.operators import is_operator
from orchestrator_app.sign_in import PROVIDER, Page, is_secure, safe_next

SECRETS = {"PANEL_OAUTH_SECRET": "oauth_secret", "PANEL_COOKIE_SECRET": "cookie_secret"}
"""Variables with secrets of Panel's, and what they set."""


def sign_in_of(app: Application, operators: tuple[str, ...] | None, **more: str) -> SignIn:
    """What the options of `panel serve` ask for, with `more` of ours. Raises UsageError."""
    provider = app.auth_provider
    if isinstance(provider, OAuthProvider):
        return SignIn(provider=config.oauth_provider, operators=operators, **more)
    if not isinstance(provider, BasicAuthProvider):
        if provider.get_user is not None or provider.get_user_async is not None:
            raise UsageError("of Panel's ways to sign in only --basic-auth and --oauth-provider are known here.")
        return SignIn(operators=operators, **more)
    users = config.basic_auth
    if isinstance(users, Mapping):
        return SignIn(users=dict(users), operators=operators, **more)
    if Path(users).is_file():
        return SignIn(users=Path(users).absolute(), operators=operators, **more)
    if operators is not None:
        raise UsageError(
            "a password that all share tells nobody apart, and [access] operators names people: "
            "give --basic-auth a file of names and passwords as JSON."
        )
    return SignIn(**{**more, "password": users})


def hide_secrets() -> None:
    """Take Panel's secrets out of the environment, so that no agent finds them there."""
    for variable, name in SECRETS.items():
        if variable in os.environ:
            setattr(config, name, os.environ.pop(variable))


def use_provider(name: str, given: Mapping[str, str]) -> None:
    """What `panel serve` does with its options for a login provider. Raises UsageError."""
    if name not in AUTH_PROVIDERS:
        raise UsageError(f"no login provider {name}; Panel knows {', '.join(sorted(AUTH_PROVIDERS))}.")
    config.oauth_provider = name
    for key, value in given.items():
        setattr(config, key, _parameters(value) if key == "oauth_extra_params" else value)
    if name != "pam" and not (config.oauth_key and config.oauth_secret):
        raise UsageError("a login provider needs --oauth-key and a secret in $PANEL_OAUTH_SECRET.")


def _parameters(text: str) -> dict[str, Any]:
    try:
        said = json.loads(text)
    except ValueError as error:
        raise UsageError(f"--oauth-extra-params is not JSON: {error}") from None
    if not isinstance(said, dict):
        raise UsageError("--oauth-extra-params must be a JSON object.")
    return said


def stand_behind_edge(app: Application, access: Access, cookie_name: str) -> None:
    """Have Panel's pages believe the edge, and add the page that leads to the login provider, if there is one."""
    provider = app.auth_provider
    app.settings["cookie_secret"] = app.settings.get("cookie_secret") or access.session_key().decode()
    if access.sign_in.provider:
        provider = provider if isinstance(provider, OAuthProvider) else OAuthProvider(login_endpoint=PROVIDER)
        base = provider.login_handler
        handler = type("ProviderLogin", (_Provided, Page, base), {"_login_endpoint": PROVIDER})
        app.add_handlers(".*", [(PROVIDER, handler, {"access": access, "cookie_name": cookie_name})])
    app.auth_provider = _Behind()


class _Behind(AuthProvider):
    """Whoever gets as far as a handler of Panel's has been let in by the edge."""

    @property
    def get_user(self) -> Any:
        return lambda handler: "signed in"

    @property
    def login_url(self) -> str:
        return "/login"


class _Provided:
    """In front of a login handler of Panel's: what it would keep of somebody becomes our own cookie."""

    _user: str | None = None

    def prepare(self) -> None:
        wait = self._access.wait(self.request.remote_ip or "") if self.request.method == "POST" else 0.0
        if wait:
            self.set_status(429)
            self.set_header("Retry-After", str(math.ceil(wait)))
            self.finish("Too many wrong tries: wait.")

    def set_secure_cookie(self, name: str, value: Any, *args: Any, **kwargs: Any) -> None:
        if name == "user":
            self._user = value
        elif name in (STATE_COOKIE_NAME, CODE_COOKIE_NAME):
            # The provider sends the browser back from its own site, where a Strict cookie would be kept back.
            more = {"httponly": True, "samesite": "Lax", **({"secure": True} if is_secure(self.request) else {})}
            RequestHandler.set_secure_cookie(self, name, value, *args, **{**kwargs, **more})

    def redirect(self, url: str, *args: Any, **kwargs: Any) -> None:
        if self._user is None:
            RequestHandler.redirect(self, url, *args, **kwargs)
        elif is_operator(self._user):
            self.enter(safe_next(url), "provider", self._user)
        else:
            self.set_status(403)
            self.form("/", "The provider's name for you can't stand in the log: letters, digits, . _ @ - only.")

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        self.set_status(status_code)
        self.form("/", "The login provider did not let you in, or its answer was not for this browser: try again.")

    def on_finish(self) -> None:
        if self.request.method == "POST" and self._user is None:
            self._access.failed(self.request.remote_ip or "")
