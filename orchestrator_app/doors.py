"""Where a server may listen, under which names it answers, and who may come in there.

Whoever reaches the server can run commands on this machine. So it listens for the network only where a password or a
login provider stands in the way.
"""

from __future__ import annotations

import ipaddress
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator_app.access import SignIn
from orchestrator_app.errors import UsageError

VARIABLES = {"password": "ORCH_PASSWORD", "viewer_password": "ORCH_VIEWER_PASSWORD"}
"""Where passwords may stand in the environment."""


@dataclass(frozen=True)
class Door:
    """`names`: host names, with a port or without, that lead here from elsewhere; `oauth`: what Panel is to know of a
    login provider, by Panel's own names."""

    sign_in: SignIn = field(default_factory=SignIn)
    names: tuple[str, ...] = ()
    oauth: Mapping[str, str] = field(default_factory=dict)


LOOPBACK = Door()
"""Nothing but the project's tokens."""


def check_host(host: str, sign_in: SignIn) -> str:
    """The host, if nobody on the network can reach it, or everybody there has to sign in. Raises UsageError."""
    if sign_in.some or is_loopback(host):
        return host
    raise UsageError(
        f'host "{host}" would let the network in, and whoever reaches this server can run commands on this machine; '
        "set a password (`orch serve --password-file FILE`, or `panel serve --basic-auth FILE`), or listen on "
        "127.0.0.1 and reach it through an SSH tunnel."
    )


def is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False  # a name, and names can lead anywhere


def reachable(host: str) -> str:
    """The address under which programs of this machine reach a server that listens there."""
    try:
        every = ipaddress.ip_address(host).is_unspecified
    except ValueError:
        every = False
    return ("::1" if ":" in host else "127.0.0.1") if every else host


def password_of(variable: str, file: Path | None) -> str:
    """The password in a file that nobody else can read, or else in the environment, from where it is taken away, so
    that no agent finds it there; empty where there is none. Raises UsageError."""
    given = os.environ.pop(variable, "")
    if file is None:
        return given
    try:
        text, mode = file.read_text(encoding="utf-8").strip(), file.stat().st_mode
    except (OSError, ValueError) as error:
        raise UsageError(f"{file} can't be read ({error}); write a password into it.") from None
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise UsageError(f"{file} can be read by other users; run `chmod 600 {file}`, and choose another password.")
    if not text:
        raise UsageError(f"{file} is empty; write a password into it.")
    return text
