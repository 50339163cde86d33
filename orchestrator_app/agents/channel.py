"""An attempt's own channel to the server: the token that opens it, and what is said over it.

What is said goes the way of every message, into the attempt's `events.jsonl`; so it outlives the server that took it.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import stat
from pathlib import Path

from orchestrator_app.errors import NotFoundError


def attempt_token(secret: str, unit: str, attempt: int) -> str:
    """The token of one attempt: it opens nothing but that attempt's channel, and tells nothing of `secret`."""
    return f"{unit}.{attempt}.{_mac(secret, unit, attempt)}"


def attempt_of(secret: str, token: str) -> tuple[str, int] | None:
    """The unit and the number of the attempt that the token is of; None where it is of none."""
    unit, number, given = ["", "", *token.strip().rsplit(".", 2)][-3:]
    if not unit or not (number.isascii() and number.isdecimal()) or len(number) > 9:
        return None
    mac = _mac(secret, unit, int(number))
    return (unit, int(number)) if hmac.compare_digest(given.encode(errors="replace"), mac.encode()) else None


def _mac(secret: str, unit: str, attempt: int) -> str:
    words = f"attempt|{unit}|{attempt}".encode(errors="replace")
    return hmac.new(secret.encode(), words, hashlib.sha256).hexdigest()


def channel_environment(state: Path, unit: str, attempt: int) -> dict[str, str]:
    """`ORCH_TOKEN`, once a server has made the project's token. The address is in `server.json`, for it may change."""
    try:
        secret = (state / "token").read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return {}
    return {"ORCH_TOKEN": attempt_token(secret, unit, attempt)} if secret else {}


def say(run_dir: Path, text: str) -> int:
    """Append a message, a JSON object without line breaks, to what the attempt says; the position behind it.

    Raises NotFoundError where there is no such attempt, OSError where it can't be written.
    """
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        file = os.open(run_dir / "events.jsonl", flags, 0o600)
    except FileNotFoundError:
        raise NotFoundError("the attempt has no directory any more: what it says is lost") from None
    try:
        about = os.fstat(file)
        if not stat.S_ISREG(about.st_mode):
            raise OSError(f"{run_dir}/events.jsonl is no file")
        size = about.st_size
        torn = size > 0 and os.pread(file, 1, size - 1) != b"\n"  # a line that was only begun must not spoil this one
        line = (("\n" if torn else "") + text + "\n").encode()
        if os.write(file, line) < len(line):  # one call: lines of several writers don't mix
            raise OSError("the disk took only a part of the message")
        return os.lseek(file, 0, os.SEEK_CUR)
    finally:
        os.close(file)
