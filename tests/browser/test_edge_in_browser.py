"""What a real browser can do to the server from a hostile page, and what its owner can do.

Chromium resolves every name under `.localhost` to this machine: a page there is what a rebound page is."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from orchestrator_app.serve import Serving, serve
from orchestrator_app.settings import load_project
from orchestrator_app.stopping import Stop

SETTINGS = """
[workflow]
isolation = "none"
phases = ["RUN"]
[phases.RUN]
agent = "true"
[agents.true]
command = ["true"]
"""
ATTACK = """
async (target) => {
  const tried = {};
  const said = async (name, work) => { try { tried[name] = await work() } catch (error) { tried[name] = 'refused' } };
  const socket = (path, protocols) => new Promise((resolve) => {
    const each = new WebSocket(target.replace('http', 'ws') + path, protocols);
    each.onopen = () => resolve('open');
    each.onerror = () => resolve('refused');
  });
  const post = (type, mode) => fetch(target + '/api/v1/dispatch', {
    method: 'POST', mode, credentials: 'include', headers: {'Content-Type': type}, body: '{"paused": true}'
  }).then((reply) => reply.status);
  await said('blind post', () => post('text/plain', 'no-cors'));
  await said('json post', () => post('application/json', 'cors'));
  await said('delete', () => fetch(target + '/api/v1/units/a', {method: 'DELETE', credentials: 'include'})
    .then((reply) => reply.status));
  await said('read', () => fetch(target + '/api/v1/status', {credentials: 'include'}).then((reply) => reply.status));
  await said('page', () => fetch(target + '/', {credentials: 'include'}).then((reply) => reply.status));
  await said('bokeh socket', () => socket('/ws', ['bokeh', 'token']));
  await said('frame', () => new Promise((resolve) => {
    const frame = document.createElement('iframe');
    frame.onload = () => { try { resolve(frame.contentDocument ? 'blank' : 'foreign') } catch { resolve('foreign') } };
    frame.src = target + '/';
    document.body.append(frame);
  }));
  return tried;
}
"""


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    root = tmp_path_factory.mktemp("project")
    (root / "orchestrator.toml").write_text(SETTINGS)
    started: list[Serving] = []
    ready = threading.Event()

    def on_ready(each: Serving) -> None:
        started.append(each)
        ready.set()

    thread = threading.Thread(target=partial(serve, load_project(root), port=0, on_ready=on_ready), daemon=True)
    thread.start()
    assert ready.wait(60), "the server did not start"
    yield started[0]
    started[0].stop_from_any_thread(Stop.AGENTS)
    thread.join(60)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of another server on this machine, with an empty page."""
    root = tmp_path_factory.mktemp("hostile")
    (root / "index.html").write_text("<!doctype html><title>hostile</title>")

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(root)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


@pytest.fixture
def context(browser: Any) -> Iterator[Any]:
    """A browser profile of its own; nobody is signed in."""
    context = browser.new_context()
    yield context
    context.close()


def sign_in(context: Any, serving: Serving) -> Any:
    page = context.new_page()
    page.goto(serving.login_url())
    return page


def test_a2_a_rebound_page_is_refused(context: Any, serving: Serving) -> None:
    sign_in(context, serving)
    page = context.new_page()
    rebound = f"http://evil.localhost:{serving.edge.port}"

    answer = page.goto(rebound + "/")
    tried = page.evaluate(ATTACK, rebound)

    assert answer.status == 421
    assert tried["bokeh socket"] == "refused"
    assert [tried[name] for name in ("json post", "delete", "read", "page")] == [421] * 4
    assert serving.orchestrator.status()["dispatch"] == "on"


@pytest.mark.parametrize("site", ["127.0.0.1", "localhost", "evil.localhost"])
def test_a1_a3_a20_a_page_of_another_origin_reads_and_changes_nothing(
    context: Any, serving: Serving, hostile: int, site: str
) -> None:
    sign_in(context, serving)
    page = context.new_page()
    page.goto(f"http://{site}:{hostile}/")
    before = serving.orchestrator.board.seq

    tried = page.evaluate(ATTACK, serving.url)

    assert tried.pop("blind post") in (0, "refused")  # a blind request tells its page nothing
    assert tried.pop("frame") == "foreign"  # the browser's own error page
    assert set(tried.values()) == {"refused"}
    assert serving.orchestrator.board.seq == before
    assert serving.orchestrator.status()["dispatch"] == "on"


def test_a_link_signs_in_and_the_page_comes_alive_without_a_complaint_of_the_policy(
    context: Any, serving: Serving
) -> None:
    page = context.new_page()
    said: list[str] = []
    elsewhere: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("request", lambda each: elsewhere.append(each.url))

    with page.expect_websocket() as opening:
        page.goto(serving.login_url())
    opening.value.wait_for_event("framereceived")
    page.wait_for_function("window.Bokeh && Bokeh.documents.length > 0 && Bokeh.documents[0].is_idle")

    assert page.url.rstrip("/") == serving.url
    assert page.evaluate("document.cookie") == ""
    assert not [text for text in said if "Content Security Policy" in text]
    assert not [url for url in elsewhere if not url.startswith((serving.url, "data:", "blob:"))]


def test_the_pasted_token_signs_in(context: Any, serving: Serving) -> None:
    page = context.new_page()
    page.goto(serving.url + "/?unit=a")

    page.get_by_label("Paste").fill((Path(serving.project.state) / "token").read_text())
    page.get_by_role("button", name="Sign in").click()

    page.wait_for_url("**/?unit=a")


def test_a_link_on_another_site_finds_the_reader_still_signed_in(context: Any, serving: Serving, hostile: int) -> None:
    sign_in(context, serving)
    page = context.new_page()
    page.goto(f"http://evil.localhost:{hostile}/")

    page.evaluate("(target) => { location.href = target }", serving.url + "/?unit=a")

    page.wait_for_url(serving.url + "/?unit=a")
