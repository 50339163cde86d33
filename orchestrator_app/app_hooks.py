"""What `panel serve orchestrator_app` runs at its start and end: the one orchestrator of the process.

The project is the one in `$ORCH_PROJECT`, or at or above the working directory. The server gets the same edge and API
as `orch serve` gives it, with or without `--plugins orchestrator_app.api`. Whatever fails here ends the process: a
server without its edge must not answer.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Any

from bokeh.server.server import BaseServer
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets

from orchestrator_app.access import SignIn
from orchestrator_app.doors import VARIABLES, Door, check_host, password_of
from orchestrator_app.errors import NoServerError, OrchError
from orchestrator_app.panel_auth import sign_in_of
from orchestrator_app.serve import Serving, current
from orchestrator_app.settings import find_project, load_project
from orchestrator_app.stopping import Signals

HOST = "127.0.0.1"


def on_server_loaded(server_context: Any) -> None:
    try:
        serving = _start(server_context.application_context)
    except OrchError as error:
        print(f"orchestrator_app: {error}", file=sys.stderr, flush=True)
        sys.exit(error.exit_code)
    except Exception:
        logging.getLogger(__name__).exception("The orchestrator could not be started.")
        sys.exit(1)
    print(f"Open the dashboard (this link works once): {serving.login_url()}", flush=True)


def on_server_unloaded(server_context: Any) -> None:
    with contextlib.suppress(NoServerError):  # it ends before it has begun when the start failed
        current().end()


def _start(context: Any) -> Serving:
    root = os.environ.get("ORCH_PROJECT")
    project = load_project(Path(root) if root else find_project(Path.cwd()))
    server = _server_of(context)
    given = {name: password_of(variable, None) for name, variable in VARIABLES.items()}
    sign_in = sign_in_of(server._tornado, project.operators, **given)
    host = _keep_to_loopback(server, sign_in)
    serving = Serving(project, door=Door(sign_in, tuple(server._tornado.websocket_origins)))
    atexit.register(serving.end)  # Bokeh calls no hook when a signal ends it early
    serving.start(server, host, context.url)
    server.io_loop.add_callback(_listen_to_signals, serving, server)
    return serving


def _listen_to_signals(serving: Serving, server: BaseServer) -> None:
    """In the place of Bokeh, which by now listens to TERM itself, and to nothing else."""
    server.io_loop.asyncio_loop.remove_signal_handler(signal.SIGTERM)
    serving.obey(Signals())


def _server_of(context: Any) -> BaseServer:
    """The server that runs this application. Bokeh tells its hooks of the application only, so look for it."""
    for each in gc.get_objects():
        if issubclass(type(each), BaseServer) and context in each._tornado._applications.values():
            return each
    raise RuntimeError("the server that runs this application was not found")


def _keep_to_loopback(server: BaseServer, sign_in: SignIn) -> str:
    """The address listened on. Panel listens on every interface unless told otherwise: take that back."""
    if server.address:
        return check_host(server.address, sign_in)
    before = server._http
    before.stop()
    server._http = HTTPServer(server._tornado, ssl_options=before.ssl_options, xheaders=before.xheaders)
    server._http.add_sockets(bind_sockets(server.port, HOST))
    return HOST
