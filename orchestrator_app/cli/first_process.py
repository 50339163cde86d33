"""Process 1 of a container, in front of the server. Standard library only.

To process 1 come all orphans of the container, and of the signals only those that it listens to. The server is no good
at either: it may not wait for processes that it doesn't know, for some are git's, waited for elsewhere. So it runs in a
child, and process 1 only passes signals on and collects what has ended. When it ends, the kernel ends the rest.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress

PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def stand_in_front() -> int | None:
    """Fork. In the child: None, and it is to go on as the server. In the parent: the child's exit code, at its end."""
    listened = {signal.SIGCHLD, *PASSED_ON}
    signal.pthread_sigmask(signal.SIG_BLOCK, listened)
    server = os.fork()
    if server == 0:
        os.setpgid(0, 0)  # Ctrl-C in a terminal reaches it once, through the parent
        signal.pthread_sigmask(signal.SIG_UNBLOCK, listened)
        return None
    while True:
        number = signal.sigwait(listened)
        if number == signal.SIGCHLD:
            code = _collect(server)
            if code is not None:
                return code
        else:
            with suppress(ProcessLookupError):
                os.kill(server, number)


def _collect(server: int) -> int | None:
    """Take in all that has ended; the server's exit code if it has."""
    while True:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == server:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
        if pid == 0:
            return None
