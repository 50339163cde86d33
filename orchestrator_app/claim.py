"""Who serves a project: its state directory, its token, the lock held for life, and `server.json`.

Standard library only, so that the command line may use it without loading a server.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import stat
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from orchestrator_app.errors import AlreadyServedError, UsageError

ENDING = 15.0
"""Seconds that a start waits for a server that is ending already."""
DYING = 2.0
"""Seconds that it waits for one that has let go of its lock, but is still there."""
VIEWER_TOKEN = "viewer-token"
"""The file with the secret of those who may only look; who deletes it signs them out."""


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


def viewer_token(state: Path) -> str:
    """The secret of those who may look and change nothing; empty where none was made, or it can't be used."""
    try:
        text = (state / VIEWER_TOKEN).read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""
    return text if len(text) >= 32 else ""


def make_viewer_token(state: Path) -> Path:
    """The file with that secret, mode 0600, made if it isn't there. Raises UsageError."""
    path = state / VIEWER_TOKEN
    try:
        if not viewer_token(state):
            write_privately(path, secrets.token_urlsafe(32) + "\n")
        os.chmod(path, 0o600)
    except OSError as error:
        raise UsageError(f"{path} can't be written: {error.strerror}; make room or make it writable.") from None
    return path


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
        """Waits for a server that is just ending. Raises AlreadyServedError, which says who holds it."""
        self._state = state
        self._lock = self._take()
        before = _read(os.pread(self._lock, 4096, 0))
        #: The port of the server before, so that open pages come back; None if that isn't known.
        self.last_port: int | None = before.get("port") if isinstance(before.get("port"), int) else None
        #: Whether the server before ended without a word.
        self.after_crash = "pid" in before
        for draft in (*state.glob(".server.json.*"), *state.glob(".token.*")):
            draft.unlink(missing_ok=True)  # of a process that died while it wrote
        self._about: dict[str, Any] = {
            "pid": os.getpid(),
            "start_time": start_time(os.getpid()),
            "boot_id": boot_id(),
            "started_at": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        }
        self._note(self._about)

    def _take(self) -> int:
        began, told = time.monotonic(), False
        while True:
            lock = os.open(self._state / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                holder, patience = server_info(self._state), DYING
                if holder is None:
                    return lock
                # The lock file was deleted under a running server; or it was killed, and the kernel is not done yet.
            except OSError:
                holder = _read(os.pread(lock, 4096, 0))
                patience = ENDING if holder.get("ending") or not _is_alive(holder) else 0.0
            os.close(lock)
            waited = time.monotonic() - began
            if waited >= patience:
                raise AlreadyServedError(_who(self._state, holder))
            if waited > 0.5 and not told:
                told = True
                who = f"process {holder['pid']}, which serves" if "pid" in holder else "the process that served"
                print(f"Waiting for {who} {self._state.parent}, to end.", file=sys.stderr, flush=True)
            time.sleep(0.02)

    def announce(self, **about: Any) -> None:
        """Tell others where the server is: `server.json`, and the lock's own text. Raises UsageError."""
        self._about.update(about)
        self._note(self._about)
        path = self._state / "server.json"
        try:
            write_privately(path, json.dumps(self._about, indent=1) + "\n")
        except OSError as error:
            raise UsageError(f"{path} can't be written: {error.strerror}; make room or make it writable.") from None

    def note_end(self) -> None:
        """Say that this server is ending, so that the next one waits for it."""
        with suppress(OSError):
            self._note({**self._about, "ending": True})

    def release(self) -> None:
        """Let go of the project. A second call does nothing."""
        if self._lock < 0:
            return
        lock, self._lock = self._lock, -1
        with suppress(OSError):
            (self._state / "server.json").unlink(missing_ok=True)
            port = self._about.get("port", self.last_port)
            _write(lock, {} if port is None else {"port": port})
        os.close(lock)

    def _note(self, about: dict[str, Any]) -> None:
        try:
            _write(self._lock, about)
        except OSError as error:
            raise UsageError(f"{self._state / 'lock'} can't be written: {error.strerror}; make room.") from None


def _write(lock: int, about: dict[str, Any]) -> None:
    os.ftruncate(lock, 0)
    os.pwrite(lock, json.dumps(about).encode(), 0)


def _read(text: bytes) -> dict[str, Any]:
    """What a lock says; nothing, if it says nothing or was half written."""
    try:
        about = json.loads(text)
    except ValueError:
        return {}
    return about if isinstance(about, dict) else {}


def server_info(state: Path) -> dict[str, Any] | None:
    """What `server.json` says, if the very process that wrote it is alive: pid, start_time, boot_id, url, host, port,
    version, started_at. None if no server runs, whatever a killed one left behind."""
    try:
        about = json.loads((state / "server.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return about if isinstance(about, dict) and _is_alive(about) else None


def _is_alive(about: dict[str, Any]) -> bool:
    """Whether the process that wrote this about itself is alive, and not a stranger with its number."""
    pid = about.get("pid")
    if type(pid) is not int or pid <= 0 or about.get("boot_id", boot_id()) != boot_id():
        return False
    try:
        os.kill(pid, 0)
    except PermissionError:
        pass  # it lives, as another user
    except (OSError, OverflowError):
        return False
    return start_time(pid) == about.get("start_time")


def start_time(pid: int) -> int | None:
    """Clock ticks from boot to the start of a process: with the pid it names one process until the next boot.
    None if it has ended, and where there is no /proc (systems other than Linux)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] in (b"Z", b"X") else int(fields[19])  # ended, and nobody has asked how yet


def boot_id() -> str | None:
    """Which start of the machine this is; None where the system doesn't say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None


def installed_version() -> str:
    from importlib.metadata import PackageNotFoundError, version  # here: most commands never ask

    try:
        return version("orchestrator-app")
    except PackageNotFoundError:
        return "uninstalled"  # run from a checkout


def _who(state: Path, about: dict[str, Any]) -> str:
    project, pid, url = state.parent, about.get("pid"), about.get("url")
    if not isinstance(pid, int):
        return f"{project} is already served by another process, which is starting or ending; try again."
    if about.get("ending"):
        return f"{project} is still served by process {pid}, which is ending; try again when it has."
    where = f"at {url}" if url else "and not ready yet"
    return (
        f"{project} is already served by process {pid} {where}, since {about.get('started_at')}; "
        "open it with `orch open`, or end it with `orch stop`."
    )
