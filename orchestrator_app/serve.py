"""The one orchestrator of a process and the server in front of it, however that server was started.

`orch serve` makes the server here; `panel serve orchestrator_app` (app_hooks.py) has one already. Both go through
`Serving`, so both give the same routes behind the same edge.
"""

from __future__ import annotations

import asyncio
import errno
import gc
import logging
import os
import time
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import panel as pn
from bokeh.application.handlers import Handler
from bokeh.document import Document
from bokeh.server.server import BaseServer
from panel.io.server import get_server
from tornado.httputil import HTTPServerRequest
from tornado.web import StaticFileHandler

from orchestrator_app import api, open_files
from orchestrator_app.access import VIEWER, Access
from orchestrator_app.api.changes import Changes
from orchestrator_app.claim import DYING, Claim, installed_version, make_viewer_token, open_state, token
from orchestrator_app.dashboard import page
from orchestrator_app.dashboard.console import ASSETS
from orchestrator_app.doors import LOOPBACK, Door, check_host, reachable
from orchestrator_app.edge import MAX_BODY, MAX_MESSAGE, Edge, who_in
from orchestrator_app.errors import NoServerError, OrchError
from orchestrator_app.loop_watch import LoopWatch
from orchestrator_app.orchestrator import Orchestrator
from orchestrator_app.panel_auth import hide_secrets, stand_behind_edge, use_provider
from orchestrator_app.settings import Project
from orchestrator_app.stopping import Signals, Stop, say

log = logging.getLogger(__name__)

MORE_PORTS = 20
"""How many ports after the default one are tried when that is taken."""
LAST_ANSWERS = 5.0
"""Seconds that a stop waits, at its very end, for answers that are still on their way to a client."""


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

    def __init__(self, project: Project, *, door: Door = LOOPBACK, keep_agents: bool = True) -> None:
        """Claim the project. Raises UsageError or AlreadyServedError; nothing is started yet.

        `door`: who may come in, and by which names; `keep_agents`: whether agents may outlive this server; else a
        stop that would leave them ends them."""
        self.project = project
        self._door = door
        #: How it comes to its end, once that has begun.
        self.ending: Stop | None = None
        self._keep_agents = keep_agents
        self._page_path = "/"
        open_state(project.state)
        self.claim = Claim(project.state)
        self._server: BaseServer | None = None
        self._answering = 0
        self._ended = False
        try:
            self._token = token(project.state)
        except BaseException:
            self.claim.release()
            raise

    def start(self, server: BaseServer, host: str, page_path: str = "/") -> None:
        """Start the orchestrator, and put the edge and the API on a server that has not answered anything yet.

        `host`: the address it listens on; `page_path`: where its dashboard is."""
        app, port = server._tornado, server.port
        self._server, self._page_path = server, page_path
        hide_secrets()  # before anything is started that inherits the environment
        open_files.raise_limit()
        open_files.rest_when_reached(server)
        host = reachable(host)
        name = f"[{host}]" if ":" in host else host
        self.access = Access(self._token, self.project.state, self._door.sign_in)
        scheme = "https" if server._http.ssl_options else "http"
        self.edge = Edge(self.access, port, [name], self._door.names, api.READING, scheme)
        self.url = f"{scheme}://{name}:{port}"
        orchestrator = Orchestrator(self.project)
        orchestrator.start()
        self.orchestrator = orchestrator
        self.changes = Changes(self.orchestrator.board, server.io_loop.asyncio_loop)
        self.loop_watch = LoopWatch(server.io_loop.asyncio_loop)
        # Tornado hangs up on a larger body without a word; up to twice as much is read, to say what is wrong with it.
        server._http.conn_params.max_body_size = 2 * MAX_BODY
        app.settings["websocket_max_message_size"] = MAX_MESSAGE
        # Bokeh's own checks stay on behind the edge: they must know the same names, and a session's id must be ours.
        app.websocket_origins.update(self.edge.hosts)
        app._secret_key, app._sign_sessions = self.access.session_key(), True
        # A page carries what its session is told: no cookie, no token.
        app._include_headers, app._include_cookies = ["Host", "User-Agent", "Accept-Language"], ["orch-dark"]
        for context in app._applications.values():
            context.application.add(Visitors(self.edge))
        app.settings["serving"] = self
        app.add_handlers(".*", [*api.ROUTES, api.SOCKET, (r"/assets/(.+)", Assets, {"path": ASSETS})])
        stand_behind_edge(app, self.access, self.edge.cookie_name)
        self.edge.install(app, self._health)
        self.claim.announce(url=self.url, host=host, port=port, version=installed_version())
        # What is here by now stays. A full collection that goes over all of it stops every thread, for 60 ms and more.
        gc.collect()
        gc.freeze()
        global _current
        _current = self

    def login_url(self, *, viewer: bool = False) -> str:
        """A URL that signs one browser in, once. From any thread."""
        if viewer:
            make_viewer_token(self.project.state)
        return self.access.login_url(self.url, self._page_path, "viewer" if viewer else "token")

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Around each answer of the API: a stop waits for those under way."""
        self._answering += 1
        try:
            yield
        finally:
            self._answering -= 1

    def stop_soon(self, how: Stop = Stop.LEAVE) -> Stop:
        """Begin an orderly stop; the loop ends when it is done. From the loop's thread.

        A stronger way than the one under way takes its place. Returns the way it goes now."""
        how = self._way(how)
        if not how.outdoes(self.ending):
            return self.ending
        began, self.ending = self.ending is not None, how
        if how is not Stop.DRAIN:
            self.claim.note_end()
        stopping = self._server.io_loop.asyncio_loop.run_in_executor(None, self._stop_orchestrator, how)
        if not began:
            self._last_steps = asyncio.ensure_future(self._leave_when(stopping))
        return how

    def stop_from_any_thread(self, how: Stop = Stop.LEAVE) -> None:
        if self._server is not None:
            self._server.io_loop.add_callback(self.stop_soon, how)

    async def _leave_when(self, stopped: asyncio.Future[None]) -> None:
        """End the loop when the orchestrator has stopped and what was asked until then has been answered."""
        loop = self._server.io_loop
        try:
            await stopped
            self.changes.close()
            self._server._http.stop()
            deadline = loop.time() + LAST_ANSWERS
            while self._answering and loop.time() < deadline:
                await asyncio.sleep(0.01)
        finally:
            loop.stop()

    def obey(self, signals: Signals) -> None:
        """From now on the first signal stops this server in order, and the second one leaves at once."""
        way = self._way(Stop.LEAVE)
        fate = "go on, and the next server takes them back" if way is Stop.LEAVE else "are ended"

        def stop() -> None:
            say(f"Stopping; running agents {fate}. Once more to leave at once.")
            self._server.io_loop.add_callback_from_signal(self.stop_soon, way)

        signals.obey(stop, self.abandon)

    def end(self) -> None:
        """Stop what still runs and let go of the project. Blocks; a second call does nothing."""
        global _current
        if self._ended:
            return
        self._ended = True
        if self.ending is None:
            self.ending = self._way(Stop.LEAVE)
            self._stop_orchestrator(self.ending)
        self.claim.release()
        gc.unfreeze()
        _current = None

    def abandon(self) -> None:
        """Leave at once, as a kill would, but without a trace of a running server. Agents go on."""
        with suppress(OSError):
            self.claim.release()
        os._exit(1)

    def _way(self, how: Stop) -> Stop:
        """The way a stop can go that is asked to go this way."""
        if not (hasattr(self, "orchestrator") and self.orchestrator.alive):
            return Stop.LEAVE  # nobody is there any more who could await or end anything
        return Stop.AGENTS if how is Stop.LEAVE and not self._keep_agents else how

    def _stop_orchestrator(self, how: Stop) -> None:
        try:
            if hasattr(self, "orchestrator"):
                self.orchestrator.stop(how)
        except Exception:
            log.exception("The orchestrator did not stop in order; its next start recovers from the log.")

    def _health(self) -> tuple[bool, str]:
        if self.ending not in (None, Stop.DRAIN):
            return False, "stopping"
        word = self.orchestrator.status()["state"].partition(":")[0]
        if word == "ok" and self.loop_watch.slow:
            return True, "slow"
        return word in ("ok", "draining"), word


_current: Serving | None = None


def current() -> Serving:
    """What this process serves. Raises NoServerError if it serves nothing."""
    if _current is None:
        raise NoServerError("No orchestrator runs in this process; start one with `orch serve`.")
    return _current


def build_page() -> Any:
    """The dashboard, made anew for each browser session, for who opens it."""
    context = pn.state.curdoc.session_context if pn.state.curdoc is not None else None
    said = context.token_payload if context is not None else {}
    return page(current().orchestrator, who_in(said) or VIEWER)


class Visitors(Handler):
    """Tells each new session of Bokeh's who it is for; it stands, signed, in the page's own token."""

    def __init__(self, edge: Edge) -> None:
        super().__init__()
        self._edge = edge

    def modify_document(self, doc: Document) -> None:
        pass

    def process_request(self, request: HTTPServerRequest) -> dict[str, Any]:
        return {"who": list(self._edge.who(request) or VIEWER)}


def serve(
    project: Project,
    *,
    port: int | None = None,
    open_browser: bool = False,
    on_ready: Callable[[Serving], None] | None = None,
    keep_agents: bool = True,
    address: str | None = None,
    door: Door = LOOPBACK,
) -> int:
    """Serve a project until a signal or a request stops it; the exit code. Blocks; only the main thread hears signals.

    `port`: this one and no other (0: any free one); None: the settings' port, and where that is only the default, the
    one it had before or one of the next `MORE_PORTS`. `on_ready(serving)` is called on the loop once requests are
    answered. `keep_agents`: whether agents may outlive this server; else a stop that would leave them ends them.
    `address`: in the place of the settings' host; `door`: who may come in.
    Raises UsageError, AlreadyServedError or what starting the orchestrator raises; then nothing stays behind."""
    host = check_host(address or project.host, door.sign_in)
    if door.sign_in.provider:
        use_provider(door.sign_in.provider, door.oauth)
    signals = Signals()
    signals.listen()
    serving = Serving(project, door=door, keep_agents=keep_agents)
    try:
        server = _listen(project, host, port, serving.claim)
        try:
            serving.start(server, host)
            server.start()
            server.io_loop.add_callback(_announce, serving, open_browser, on_ready)
            serving.obey(signals)
            server.io_loop.start()
        finally:
            server.stop()
    finally:
        serving.end()
    return 0


def _listen(project: Project, host: str, port: int | None, claim: Claim) -> BaseServer:
    first = project.port if port is None else port
    searches = port is None and project.sources.get("server.port", "default") == "default" and first != 0
    ports = range(first, first + MORE_PORTS + 1) if searches else (first,)
    before = claim.last_port
    if before in ports:  # where pages are that were left open
        ports = dict.fromkeys((before, *ports))
    for candidate in ports:
        patience = DYING if claim.after_crash and candidate == before else 0.0
        server = _bind(project, host, candidate, patience)
        if server is not None:
            return server
    if searches:
        last = first + MORE_PORTS
        raise OrchError(f"No free port: {first} to {last} are all taken; end what uses them, or choose a --port.")
    raise OrchError(f"Port {first} is taken by another program; choose another --port, or 0 for any free one.")


def _bind(project: Project, host: str, port: int, patience: float) -> BaseServer | None:
    """A server on this port; None if it is taken, and still is after `patience` seconds. Raises OrchError."""
    until, told = time.monotonic() + patience, False
    while True:
        try:
            return get_server({"/": build_page}, port=port, address=host, title=f"{project.root.name} · orchestrator")
        except (OSError, OverflowError) as error:
            if not isinstance(error, OSError) or error.errno != errno.EADDRINUSE:
                raise OrchError(f"{host}:{port} can't be listened on: {error}; choose another --port.") from None
        if time.monotonic() >= until:
            return None
        if not told:
            told = True
            say(f"Waiting for port {port}: the server before, which was killed, may still hold it.")
        time.sleep(0.05)


def _announce(serving: Serving, open_browser: bool, on_ready: Callable[[Serving], None] | None) -> None:
    url = serving.login_url()
    print(f"Serving {serving.project.root}\nOpen the dashboard (this link works once): {url}", flush=True)
    if open_browser:
        webbrowser.open(url)
    if on_ready is not None:
        on_ready(serving)
