"""Which program a command means, and a clear line for each way it can't be started. Standard library only."""

from __future__ import annotations

import errno
import os


class CannotStart(Exception):
    """The attempt can't be started; the message is one line for the operator."""


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


def why_not(program: str, error: OSError | ValueError) -> str:
    """One line for a spawn that failed."""
    number = getattr(error, "errno", None)
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
