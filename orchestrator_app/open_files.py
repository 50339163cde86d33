"""The limit of open files: it is raised at the start, and where it is reached all the same, the server takes a rest.

Without the rest, a server that can't accept a connection is told of it again at once, for ever: a whole processor, and
a traceback in its output each time.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import resource
from typing import Any

from bokeh.server.server import BaseServer
from tornado.netutil import add_accept_handler

logger = logging.getLogger(__name__)

#: As many as are wanted; more would only slow down the programs that close every number there is.
WANTED = 65_536

#: Seconds without new connections when there was no room for one.
REST = 1.0

#: A connection that sends no whole request for so many seconds is closed.
PATIENCE = 60.0


def raise_limit() -> None:
    """Allow this process, and what it starts, as many open files as the system lets it have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = WANTED if hard == resource.RLIM_INFINITY else min(WANTED, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def rest_when_reached(server: BaseServer) -> None:
    """Have a server that is not yet running accept no connections for a while when it can open no more."""
    http, io_loop = server._http, server.io_loop
    http.conn_params.header_timeout = http.conn_params.body_timeout = PATIENCE
    resting = False

    def rest(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        nonlocal resting
        error = context.get("exception")
        if not isinstance(error, OSError) or error.errno not in (errno.EMFILE, errno.ENFILE):
            loop.default_exception_handler(context)
        elif not resting:
            resting = True
            logger.warning("too many open files: for %g s no connection is accepted", REST)
            for remove in http._handlers.values():
                remove()
            io_loop.call_later(REST, go_on)

    def go_on() -> None:
        nonlocal resting
        resting = False
        for number, sock in http._sockets.items():
            http._handlers[number] = add_accept_handler(sock, http._handle_connection)

    io_loop.asyncio_loop.set_exception_handler(rest)
