"""Lines of supervisor and keepers in `supervisor.log`, which is their standard error. Standard library only."""

from __future__ import annotations

import os
import stat
import sys
import time
import traceback

LIMIT = 1 << 20
"""Bytes after which the file begins anew: a fault that comes back for days must not fill the disk."""


def complain(text: str) -> None:
    """Say what went wrong, if that can be said at all."""
    try:
        info = os.fstat(2)
        if stat.S_ISREG(info.st_mode) and info.st_size > LIMIT:
            os.ftruncate(2, 0)
        sys.stderr.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {os.getpid()}: {text}\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        pass


def complain_of_error() -> None:
    """The exception that is being dealt with, as an error of this program."""
    complain(traceback.format_exc().rstrip())
