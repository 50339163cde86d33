"""Who may come in and what they may do: the ways to sign in, and the cookie that stands for having done so.

Operators may do everything, viewers only look. Somebody who signed in under a name of their own (a line of a users
file, a login provider) stands in the log under that name; who came with a secret that several may share chooses one.
Standard library only.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import ipaddress
import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import NamedTuple
from urllib.parse import urlencode

from orchestrator_app.claim import viewer_token
from orchestrator_app.errors import UsageError
from orchestrator_app.operators import is_operator

CODE_LIFE = 3600.0
"""Seconds for which a one-time sign-in code can be used."""
COOKIE_LIFE = 30 * 24 * 3600
"""Seconds for which a browser stays signed in."""
SHORTEST = 8
"""Characters that a password must have."""
FREE = 5
"""Wrong passwords that an address may send in a row."""
EVERY = 10.0
"""Seconds until it may send one more."""
ADDRESSES = 10_000
"""Addresses that are remembered for it."""


class Who(NamedTuple):
    """`name` is proven; where it is empty, whoever it is may choose one."""

    may_act: bool
    name: str = ""


OPERATOR, VIEWER = Who(True), Who(False)


@dataclass(frozen=True)
class SignIn:
    """The ways to sign in beside the project's tokens. `users`: names and their passwords, or the file with them;
    `provider`: the login provider that Panel speaks to; `operators`: those of them who may act, None for all."""

    password: str = ""
    viewer_password: str = ""
    users: Path | Mapping[str, str] | None = None
    provider: str = ""
    operators: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        """Raises UsageError for what protects nothing."""
        given = [word for word in (self.password, self.viewer_password) if word]
        for word in (*given, *self.known_users().values()):
            if len(word) < SHORTEST:
                raise UsageError(f"a password must have {SHORTEST} characters or more; choose a longer one.")
        if self.password and self.password == self.viewer_password:
            raise UsageError("viewers and operators have the same password; choose another one for viewers.")

    @property
    def some(self) -> bool:
        """Whether anybody could sign in without reading a file of this machine."""
        return bool(self.password or self.viewer_password or self.users is not None or self.provider)

    def known_users(self) -> Mapping[str, str]:
        """Names and passwords as they are now. Raises UsageError."""
        if not isinstance(self.users, Path):
            return self.users or {}
        try:
            users = json.loads(self.users.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UsageError(
                f"{self.users} can't be used ({error}); it must hold names and passwords as JSON."
            ) from None
        if not isinstance(users, dict) or not all(is_operator(name) and isinstance(users[name], str) for name in users):
            raise UsageError(f'{self.users} must hold names and passwords as JSON: {{"ana": "…"}}.')
        return users


class Access:
    """Who is who, for one server. All methods belong to the server's loop thread, except `login_url`."""

    def __init__(self, token: str, state: Path | None, sign_in: SignIn | None = None) -> None:
        self.token, self._state = token, state
        self.sign_in = sign_in or SignIn()
        self._codes: dict[str, tuple[float, str]] = {}
        self._codes_lock = Lock()
        self._failed: dict[str, tuple[float, float]] = {}

    # -- secrets that programs send, and people type

    def of_secret(self, given: str) -> Who | None:
        """Whose token it is."""
        way = self.way_of_token(given)
        return None if way is None else self._who(way, "")

    def way_of_token(self, given: str) -> str | None:
        return next((way for way in ("token", "viewer") if _same(given.strip(), self._secret(way))), None)

    def way_of_password(self, name: str, given: str) -> str | None:
        """The way that this password opens. Every one there is is compared, so that time tells nothing."""
        users = self.users()
        fits = [way for way in ("password", "viewer_password") if _same(given, self._secret(way))]
        if _same(given, users.get(name) or secrets.token_hex(16)):
            fits.insert(0, "user")
        return fits[0] if fits else None

    def users(self) -> Mapping[str, str]:
        try:
            return self.sign_in.known_users()
        except UsageError:
            return {}  # the file is being written, or is gone: nobody of it comes in

    # -- cookies

    def new_cookie(self, way: str = "token", name: str = "") -> str:
        """A value that proves that somebody came in this way. It outlives a restart of the server."""
        said = base64.urlsafe_b64encode(name.encode()).decode().rstrip("=")
        text = f"{int(time.time()) + COOKIE_LIFE}.{way}.{said}.{secrets.token_urlsafe(12)}"
        return f"{text}.{self.mac(text)}"

    def of_cookie(self, value: str) -> Who | None:
        """Who came in, if they still may: a secret that was changed, or a user who was removed, opens nothing more."""
        text, _, given = value.rpartition(".")
        parts = text.split(".")
        if len(parts) != 4 or not parts[0].isdecimal() or len(parts[0]) > 12 or int(parts[0]) < time.time():
            return None
        if not hmac.compare_digest(given.encode(errors="replace"), self.mac(text).encode()):
            return None
        name = _name(parts[2])
        return None if name is None or not self._secret(parts[1], name) else self._who(parts[1], name)

    def mac(self, text: str) -> str:
        """What nobody can make who doesn't know the project's token; it also changes with the secret of the way."""
        _, way, name, _ = [*text.split("."), "", "", "", ""][:4]
        key = f"{self.token}|{self._secret(way, _name(name) or '')}"
        return hmac.new(key.encode(), f"cookie|{text}".encode(errors="replace"), hashlib.sha256).hexdigest()

    def session_key(self) -> bytes:
        """The key that signs Bokeh's session ids: secret, and the same after a restart."""
        return hmac.new(self.token.encode(), b"bokeh sessions", hashlib.sha256).hexdigest().encode()

    def _who(self, way: str, name: str) -> Who:
        if way in ("user", "provider"):
            return Who(self.sign_in.operators is None or name in self.sign_in.operators, name)
        return OPERATOR if way in ("token", "password") else VIEWER

    def _secret(self, way: str, name: str = "") -> str:
        """What opens this way now; empty: nothing does."""
        match way:
            case "token":
                return self.token
            case "viewer":
                return "" if self._state is None else viewer_token(self._state)
            case "password":
                return self.sign_in.password
            case "viewer_password":
                return self.sign_in.viewer_password
            case "user":
                return self.users().get(name, "")
            case "provider":
                return self.sign_in.provider
        return ""

    # -- links

    def login_url(self, base: str, page: str = "/", way: str = "token") -> str:
        """A URL under `base` (http://127.0.0.1:PORT) that signs one browser in, once, within `CODE_LIFE` seconds."""
        code, now = secrets.token_urlsafe(24), time.monotonic()
        with self._codes_lock:
            self._codes = {old: kept for old, kept in list(self._codes.items())[-99:] if kept[0] > now}
            self._codes[code] = now + CODE_LIFE, way
        query = {"code": code} if page == "/" else {"code": code, "next": page}
        return f"{base}/login?{urlencode(query)}"

    def spend(self, code: str) -> str | None:
        """The way that the code opens; it opens none any more."""
        with self._codes_lock:
            until, way = self._codes.pop(code, (0.0, ""))
        return way if until > time.monotonic() else None

    # -- guessing

    def wait(self, address: str) -> float:
        """Seconds until this address may send another password; 0 is now."""
        return max(0.0, (self._debt(_network(address)) - FREE + 1) * EVERY)

    def failed(self, address: str) -> None:
        """It has sent a wrong one."""
        network = _network(address)
        debt = self._debt(network) + 1
        self._failed.pop(network, None)
        while len(self._failed) >= ADDRESSES:
            del self._failed[next(iter(self._failed))]
        self._failed[network] = debt, time.monotonic()

    def _debt(self, network: str) -> float:
        debt, since = self._failed.get(network, (0.0, 0.0))
        return max(0.0, debt - (time.monotonic() - since) / EVERY)


def _same(given: str, secret: str) -> bool:
    """Constant in time, whatever the lengths; an empty secret is none."""
    one, other = (hashlib.sha256(text.encode(errors="replace")).digest() for text in (given, secret))
    return hmac.compare_digest(one, other) and bool(secret)


def _name(said: str) -> str | None:
    try:
        return base64.urlsafe_b64decode(said + "=" * (-len(said) % 4)).decode()
    except (binascii.Error, ValueError):
        return None


def _network(address: str) -> str:
    """What one machine has of addresses: of the new kind it can have very many."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    return str(ipaddress.ip_network(f"{found}/64", strict=False)) if found.version == 6 else str(found)
