"""The one orchestrator of a process and the server in front of it, however that server was started.

`orch serve` makes the server here; `panel serve orchestrator_app` (app_hooks.py) has one already. Both go through
`Serving`, so both give the same routes behind the same edge.
"""

from __future__ import annotations

import errno
import ipaddress
import logging
import os
import signal
import threading
import webbrowser
from collections.abc import Callable
from types import FrameType
from typing import Any

from bokeh.server.server import BaseServer
from panel.io.server import get_server
from tornado.web import StaticFileHandler

from orchestrator_app import api, claim, open_files
from orchestrator_app.api.changes import Changes
from orchestrator_app.dashboard import page
from orchestrator_app.dashboard.console import ASSETS
from orchestrator_app.edge import MAX_BODY, MAX_MESSAGE, Edge
from orchestrator_app.errors import NoServerError, OrchError, UsageError
from orchestrator_app.orchestrator import Orchestrator
from orchestrator_app.settings import Project

log = logging.getLogger(__name__)

MORE_PORTS = 20
"""How many ports after the default one are tried when that is taken."""


class Assets(StaticFileHandler):
    """The modules of the dashboard. A browser keeps them and asks each time whether they are still the same."""

    def set_extra_headers(self, path: str) -> None:
        self.set_header("Cache-Control", "no-cache")


class Serving:
    """A project that this process serves, from the lock to the last open page."""

    orchestrator: Orchestrator
    changes: Changes
    edge: Edge
    url: str

    def __init__(self, project: Project) -> None:
        """Claim the project. Raises UsageError or AlreadyServedError; nothing is started yet."""
        self.project = project
        self._page_path = "/"
        claim.open_state(project.state)
        self._token = claim.token(project.state)
        self._claim = claim.Claim(project.state)
        self._server: BaseServer | None = None
        self._stopping = False
        self._ended = False

    def start(self, server: BaseServer, host: str, page_path: str = "/") -> None:
        """Start the orchestrator, and put the edge and the API on a server that has not answered anything yet.

        `host`: the loopback address it listens on; `page_path`: where its dashboard is."""
        app, port = server._tornado, server.port
        self._server, self._page_path = server, page_path
        open_files.raise_limit()
        open_files.rest_when_reached(server)
        name = f"[{host}]" if ":" in host else host
        self.edge = Edge(self._token, port, names=[name])
        self.url = f"http://{name}:{port}"
        orchestrator = Orchestrator(self.project)
        orchestrator.start()
        self.orchestrator = orchestrator
        self.changes = Changes(self.orchestrator.board, server.io_loop.asyncio_loop)
        server._http.conn_params.max_body_size = MAX_BODY
        app.settings["websocket_max_message_size"] = MAX_MESSAGE
        # Bokeh's own checks stay on behind the edge: they must know the same names, and a session's id must be ours.
        app.websocket_origins.update(self.edge.hosts)
        app._secret_key, app._sign_sessions = self.edge.session_key(), True
        app.settings["serving"] = self
        app.add_handlers(".*", [*api.ROUTES, (r"/assets/(.+)", Assets, {"path": ASSETS})])
        self.edge.install(app, self._health)
        self._claim.announce(url=self.url, host=host, port=port, version=claim.installed_version())
        global _current
        _current = self

    def login_url(self) -> str:
        """A URL that signs one browser in, once. From any thread."""
        return self.edge.login_url(self.url, self._page_path)

    def stop_soon(self, leave_agents: bool = False) -> None:
        """Begin an orderly stop; the loop ends when it is done. From the loop's thread."""
        if self._stopping or self._server is None:
            return
        self._stopping = True
        loop = self._server.io_loop
        done = loop.run_in_executor(None, self._stop_orchestrator, leave_agents)
        loop.add_future(done, lambda _: loop.stop())

    def stop_from_any_thread(self, leave_agents: bool = False) -> None:
        if self._server is not None:
            self._server.io_loop.add_callback(self.stop_soon, leave_agents)

    def end(self) -> None:
        """Stop what still runs and let go of the project. Blocks; a second call does nothing."""
        global _current
        if self._ended:
            return
        self._ended = True
        if not self._stopping:
            self._stopping = True
            self._stop_orchestrator(False)
        self._claim.release()
        _current = None

    def abandon(self) -> None:
        """Leave at once, as a kill would, but without a trace of a running server. Agents go on."""
        self._claim.release()
        os._exit(1)

    @property
    def stopping(self) -> bool:
        return self._stopping

    def _stop_orchestrator(self, leave_agents: bool) -> None:
        try:
            if hasattr(self, "changes"):
                self.changes.close()
            if hasattr(self, "orchestrator"):
                self.orchestrator.stop(leave_agents=leave_agents)
        except Exception:
            log.exception("The orchestrator did not stop in order; its next start recovers from the log.")

    def _health(self) -> tuple[bool, str]:
        if self._stopping:
            return False, "stopping"
        word = self.orchestrator.status()["state"].partition(":")[0]
        return word == "ok", word


_current: Serving | None = None


def current() -> Serving:
    """What this process serves. Raises NoServerError if it serves nothing."""
    if _current is None:
        raise NoServerError("No orchestrator runs in this process; start one with `orch serve`.")
    return _current


def build_page() -> Any:
    """The dashboard, made anew for each browser session."""
    return page(current().orchestrator)


def serve(
    project: Project,
    *,
    port: int | None = None,
    open_browser: bool = False,
    on_ready: Callable[[Serving], None] | None = None,
) -> int:
    """Serve a project until a signal or a request stops it; the exit code. Blocks; only the main thread hears signals.

    `port`: this one and no other (0: any free one); None: the settings' port, and where that is only the default,
    one of the next `MORE_PORTS`. `on_ready(serving)` is called on the loop once requests are answered.
    Raises UsageError, AlreadyServedError or what starting the orchestrator raises; then nothing stays behind."""
    host = check_host(project.host)
    serving = Serving(project)
    try:
        server = _listen(project, host, port)
        try:
            serving.start(server, host)
            server.start()
            _obey_signals(serving, server)
            server.io_loop.add_callback(_announce, serving, open_browser, on_ready)
            server.io_loop.start()
        finally:
            server.stop()
    finally:
        serving.end()
    return 0


def check_host(host: str) -> str:
    """The host, if nobody on the network can reach it. Raises UsageError."""
    try:
        if host == "localhost" or ipaddress.ip_address(host).is_loopback:
            return host
    except ValueError:
        pass  # a name, and names can lead anywhere
    raise UsageError(
        f'host "{host}" would let the network in, and whoever reaches this server can run commands on this machine; '
        "listen on 127.0.0.1, and reach it from elsewhere through an SSH tunnel."
    )


def _listen(project: Project, host: str, port: int | None) -> BaseServer:
    first = project.port if port is None else port
    searches = port is None and project.sources.get("server.port", "default") == "default" and first != 0
    last = first + MORE_PORTS if searches else first
    for candidate in range(first, last + 1):
        try:
            return get_server(
                {"/": build_page},
                port=candidate,
                address=host,
                title=f"{project.root.name} · orchestrator",
            )
        except (OSError, OverflowError) as error:
            taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
            if not taken:
                raise OrchError(f"{host}:{candidate} can't be listened on: {error}; choose another --port.") from None
    if searches:
        raise OrchError(f"No free port: {first} to {last} are all taken; end what uses them, or choose a --port.")
    raise OrchError(f"Port {first} is taken by another program; choose another --port, or 0 for any free one.")


def _obey_signals(serving: Serving, server: BaseServer) -> None:
    def stop(number: int, frame: FrameType | None) -> None:
        if serving.stopping:
            print("Leaving at once; running agents go on and are taken back at the next start.", flush=True)
            serving.abandon()
        print(f"Stopping; agents get {serving.project.grace:g} s to end. Once more to leave at once.", flush=True)
        server.io_loop.add_callback_from_signal(serving.stop_soon)

    if threading.current_thread() is threading.main_thread():  # Python lets no other one listen to signals
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop)


def _announce(serving: Serving, open_browser: bool, on_ready: Callable[[Serving], None] | None) -> None:
    url = serving.login_url()
    print(f"Serving {serving.project.root}\nOpen the dashboard (this link works once): {url}", flush=True)
    if open_browser:
        webbrowser.open(url)
    if on_ready is not None:
        on_ready(serving)
