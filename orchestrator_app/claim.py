"""Who serves a project: its state directory, its token, the lock held for life, and `server.json`.

Standard library only, so that the command line may use it without loading a server.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import stat
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from orchestrator_app.errors import AlreadyServedError, UsageError


def open_state(state: Path) -> None:
    """Make the state directory if it isn't there, and see that it is ours, private and writable; else UsageError."""
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        info = state.stat()
    except OSError as error:
        raise UsageError(f"{state} can't be made: {error.strerror}. Free that path or make it writable.") from None
    if info.st_uid != os.geteuid():
        raise UsageError(f"{state} belongs to another user (uid {info.st_uid}); serve the project as that user.")
    if info.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise UsageError(f"{state} can be written by other users; look what is in it, then run `chmod 700 {state}`.")
    try:
        state.chmod(0o700)
    except OSError as error:
        raise UsageError(f"{state} can't be made private: {error.strerror}.") from None
    if not os.access(state, os.W_OK | os.X_OK):
        raise UsageError(f"{state} can't be written; give its owner write permission.")


def token(state: Path) -> str:
    """The project's secret, made on first use; the file has mode 0600. Raises UsageError if it can't be used."""
    path = state / "token"
    try:
        if not path.exists():
            write_privately(path, secrets.token_urlsafe(32) + "\n")
        os.chmod(path, 0o600)
        text = path.read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} can't be used ({error}); delete it and a new one is made.") from None
    if len(text) < 32:
        raise UsageError(f"{path} is too short to be a token; delete it and a new one is made.")
    return text


def write_privately(path: Path, text: str) -> None:
    """Replace `path` in one step, so that a reader sees the old text or the new; mode 0600."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(draft, path)


class Claim:
    """The right of one process to serve a project: a lock that the kernel lets go of when the process ends."""

    def __init__(self, state: Path) -> None:
        """Raises AlreadyServedError, which says who holds it."""
        self._state = state
        self._about: dict[str, Any] = {
            "pid": os.getpid(),
            "start_time": start_time(os.getpid()),
            "started_at": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        }
        self._lock = os.open(state / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            text = os.pread(self._lock, 4096, 0)
            os.close(self._lock)
            raise AlreadyServedError(_who(state, text)) from None
        self._write_lock()

    def announce(self, **about: Any) -> None:
        """Tell others where the server is: `server.json`, and the lock's own text."""
        self._about.update(about)
        self._write_lock()
        write_privately(self._state / "server.json", json.dumps(self._about, indent=1) + "\n")

    def release(self) -> None:
        (self._state / "server.json").unlink(missing_ok=True)
        os.ftruncate(self._lock, 0)
        os.close(self._lock)

    def _write_lock(self) -> None:
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, json.dumps(self._about).encode(), 0)


def server_info(state: Path) -> dict[str, Any] | None:
    """What `server.json` says, if the very process that wrote it is alive: pid, start_time, url, host, port, version,
    started_at. None if no server runs, whatever a killed one left behind."""
    try:
        about = json.loads((state / "server.json").read_text(encoding="utf-8"))
        os.kill(about["pid"], 0)
    except PermissionError:
        pass  # it lives, as another user
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return about if start_time(about["pid"]) == about.get("start_time") else None


def start_time(pid: int) -> int | None:
    """Clock ticks from boot to the start of a process: with the pid it names one process until the next boot.
    None where there is no /proc (systems other than Linux)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return int(fields[19])


def installed_version() -> str:
    try:
        return version("orchestrator-app")
    except PackageNotFoundError:
        return "uninstalled"  # run from a checkout


def _who(state: Path, text: bytes) -> str:
    try:
        about = json.loads(text)
        pid, since, url = about["pid"], about["started_at"], about.get("url")
    except (ValueError, KeyError, TypeError):
        return f"{state.parent} is already served by another process, which is starting or ending; try again."
    where = f"at {url}" if url else "and not ready yet"
    return (
        f"{state.parent} is already served by process {pid} {where}, since {since}; "
        "open it with `orch open`, or end it with `orch stop`."
    )
