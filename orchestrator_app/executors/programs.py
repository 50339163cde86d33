"""Which program a command means, and a clear line for each way it can't be started. Standard library only."""

from __future__ import annotations

import errno
import os

REMEDIES = {
    errno.EAGAIN: "the limit of processes of this user or machine is reached; end some, or raise it (`ulimit -u`)",
    errno.ENOMEM: "the machine is short of memory; free some",
    errno.ENOSPC: "the disk is full; make room",
    errno.EFBIG: "a limit on the size of files is reached; raise it (`ulimit -f`)",
    errno.EDQUOT: "the disk quota is used up; make room",
    errno.EROFS: "the file system is read-only; make it writable",
    errno.EMFILE: "too many files are open; raise the limit (`ulimit -n`)",
    errno.ENFILE: "too many files are open on this machine; close some",
    errno.ETXTBSY: "the program is being written at this moment; wait until it is whole",
}
"""What to do about errors that pass: the same act may succeed a moment later."""


class CannotStart(Exception):
    """The attempt can't be started; the message is one line for the operator. `passing`: it may work later."""

    def __init__(self, message: str, passing: bool = False) -> None:
        super().__init__(message)
        self.passing = passing


def cannot(what: str, error: OSError, otherwise: str) -> CannotStart:
    """That `what` failed: with what to do about it, `otherwise` unless there is a remedy for this very error."""
    number = error.errno or 0
    remedy = REMEDIES.get(number)
    return CannotStart(f"{what}: {remedy or f'{error.strerror}; {otherwise}'}", remedy is not None)


def find_program(name: bytes, path: bytes) -> bytes:
    """What `name` means on this PATH, as a shell would find it. Raises CannotStart."""
    shown = os.fsdecode(name)
    if not name:
        raise CannotStart("the command is empty; give the agent a command in orchestrator.toml")
    if b"/" in name:
        return name
    refused = False
    for directory in path.split(b":"):
        candidate = os.path.join(directory or b".", name)
        if os.path.isfile(candidate):
            if os.access(candidate, os.X_OK):
                return candidate
            refused = True
    if refused:
        raise CannotStart(f"program {shown} is on the PATH but not executable; chmod +x it")
    raise CannotStart(f"program {shown} was not found on the PATH; install it, or name it by its full path")


def why_not(program: str, error: OSError | ValueError) -> CannotStart:
    """A spawn that failed."""
    number = getattr(error, "errno", None)
    if number in REMEDIES:
        return cannot(f"program {program} could not be started", error, "")
    return CannotStart(_why_never(program, error, number))


def _why_never(program: str, error: OSError | ValueError, number: int | None) -> str:
    if number == errno.ENOENT:
        what = "was found, but not the interpreter its first line names" if os.path.exists(program) else "was not found"
        return f"program {program} {what}; install it, or correct the command"
    if number == errno.EACCES:
        return f"program {program} is not executable; chmod +x it, or correct the command"
    if number == errno.ENOEXEC:
        return f"program {program} is nothing this machine can run; a script needs a first line such as #!/bin/sh"
    if number == errno.E2BIG:
        return f"program {program} got more arguments and environment than fit; pass long texts in a file"
    return f"program {program} could not be started: {getattr(error, 'strerror', None) or error}"
