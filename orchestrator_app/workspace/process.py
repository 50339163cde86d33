"""Run one git process: bounded in time and in output, stopped in two stages, with all that it started."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from orchestrator_app.errors import GitError, PassingError
from orchestrator_app.workspace.places import printable

OUTPUT_LIMIT = 256 * 1024 * 1024  # bytes of stdout; a list of a few million files
ERROR_LIMIT = 1024 * 1024  # bytes of stderr that are kept
TERM_PATIENCE = 2.0  # seconds between TERM and KILL; git removes its lock files at TERM


@dataclass(frozen=True)
class Completed:
    """What a git command said. Text is UTF-8; other bytes are surrogate-escaped, `printable` makes them showable."""

    code: int
    out: str
    err: str
    cut: bool = False  # `out` ends early, at the limit that was asked for


def run_process(
    argv: list[str],
    cwd: Path,
    env: dict[str, str],
    *,
    name: str,
    timeout: float,
    input: bytes | None = None,
    limit: int | None = None,
) -> Completed:
    """Run `argv` (called `name` in errors) for at most `timeout` seconds. Output is cut after `limit` bytes, if given.

    Raises GitError when it can't be started, takes too long, or writes more than OUTPUT_LIMIT.
    """
    where = printable(str(cwd))
    try:
        process = subprocess.Popen(
            argv,
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL if input is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            process_group=0,  # so that what git starts is stopped with it
        )
    except (FileNotFoundError, NotADirectoryError) as error:
        if not cwd.is_dir():
            raise GitError(f"{where} is not a directory, so git can't run there; check that it wasn't moved") from error
        raise GitError("git is not installed or not on PATH; install git 2.38 or newer") from error
    except OSError as error:
        kind = GitError if isinstance(error, PermissionError) else PassingError
        raise kind(f"git can't be started in {where}: {error.strerror}; free what is short, then try again") from error
    try:
        out, err, why = _converse(process, input, time.monotonic() + timeout, OUTPUT_LIMIT if limit is None else limit)
    except BaseException:
        _stop(process)
        raise
    finally:
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream:
                stream.close()
    if why == "late":
        raise GitError(f"{name} in {where} took more than {timeout:.3g} s and was stopped; see what it waits for there")
    if why == "long" and limit is None:
        raise GitError(
            f"{name} in {where} wrote more than {OUTPUT_LIMIT:,} bytes and was stopped; see what it lists there"
        )
    return Completed(
        process.returncode,
        out.decode("utf-8", "surrogateescape"),
        err.decode("utf-8", "surrogateescape"),
        cut=why == "long",
    )


def _converse(
    process: subprocess.Popen, input: bytes | None, deadline: float, limit: int
) -> tuple[bytearray, bytearray, str]:
    """Feed and read git until it has ended, or is too late or too long; in those cases it is stopped."""
    out, err = bytearray(), bytearray()
    rest = memoryview(input or b"")
    why = ""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ, out)
        selector.register(process.stderr, selectors.EVENT_READ, err)
        if process.stdin:
            selector.register(process.stdin, selectors.EVENT_WRITE)
        while selector.get_map() and not why:
            ready = selector.select(max(0.0, min(0.5, deadline - time.monotonic())))
            for key, _ in ready:
                if key.fileobj is process.stdin:
                    try:
                        rest = rest[os.write(key.fd, rest[:4096]) :] if rest else rest
                    except BrokenPipeError:
                        rest = rest[:0]
                    if not rest:
                        selector.unregister(process.stdin)
                        process.stdin.close()
                    continue
                block = os.read(key.fd, 65536)
                if not block:
                    selector.unregister(key.fileobj)
                elif key.data is err:
                    err += block[: max(0, ERROR_LIMIT - len(err))]
                else:
                    out += block
            if len(out) > limit:
                del out[limit:]
                why = "long"
            elif time.monotonic() > deadline:
                why = "late"
            elif not ready and process.poll() is not None:
                break  # git has ended; something it left behind holds the pipe open
    if not why:
        try:
            process.wait(max(0.05, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            why = "late"
    if why:
        _stop(process)
    return out, err, why


def _stop(process: subprocess.Popen) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            pass
        try:
            process.wait(TERM_PATIENCE)
            return
        except subprocess.TimeoutExpired:
            continue
