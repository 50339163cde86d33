"""Set up a project, start its server, stop it."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import click

from orchestrator_app.access import SignIn
from orchestrator_app.claim import server_info, start_time
from orchestrator_app.cli import text
from orchestrator_app.cli.client import Client
from orchestrator_app.cli.commands import json_option
from orchestrator_app.cli.place import Place
from orchestrator_app.doors import VARIABLES, Door, password_of
from orchestrator_app.errors import NoServerError, OrchError
from orchestrator_app.settings import STATE_NAME
from orchestrator_app.stopping import Stop

FILE = click.Path(exists=True, dir_okay=False, path_type=Path, resolve_path=True)


@click.command("init", short_help="Write orchestrator.toml in this repository.")
@click.option("--isolation", type=click.Choice(["worktree", "none"]), default="worktree", show_default=True,
              help="Each unit in a git worktree of its own, or all in the directory itself, without git.")  # fmt: skip
@click.pass_obj
def init_command(place: Place, isolation: str) -> None:
    """Write a commented orchestrator.toml at the top of this repository (or of --project DIR).

    Looks for agent programs on the PATH, for the base branch, and for the command that runs the tests. Changes nothing
    else, and never replaces a file.
    """
    from orchestrator_app.init_project import init_project

    report = init_project(Path(place.given) if place.given else Path.cwd(), isolation=isolation)
    print(text.safe("\n".join(report.lines())))


@click.command("demo", short_help="Show it all on a scratch repository.")
@click.option(
    "--headless", is_flag=True, help="Without a browser: answer by itself, and exit 0 if all ended as it should."
)
@click.option("--dir", "directory", metavar="DIR", help="Where to make the scratch repository.")
@click.option("--keep", is_flag=True, help="Keep the scratch repository that is made without --dir.")
@click.option("--open/--no-open", "open_browser", default=True, help="Whether to open a browser.")
@click.pass_context
def demo_command(context: click.Context, headless: bool, directory: str | None, keep: bool, open_browser: bool) -> None:
    """Make a scratch repository with a dozen work units, and run them on a live dashboard."""
    from orchestrator_app import demo

    where = Path(directory).absolute() if directory else None
    opened = open_browser and has_display()
    context.exit(demo.run(headless=headless, directory=where, open_browser=opened, keep=keep))


@click.command("serve", short_help="Start the server and its dashboard.")
@click.option(
    "--port", type=click.IntRange(0, 65535), metavar="N", help="This port and no other; 0 takes any free one."
)
@click.option("--open/--no-open", "open_browser", default=False, help="Open the dashboard in a browser.")
@click.option("--address", metavar="ADDR", help="Listen there, in the place of the settings' host; beyond this machine "
              "only with one of the ways to sign in that follow.")  # fmt: skip
@click.option("--allow-host", "names", multiple=True, metavar="NAME[:PORT]",
              help="A name that browsers reach this server by; may be repeated.")  # fmt: skip
@click.option("--password-file", type=FILE, help="A file with the password of operators; or $ORCH_PASSWORD.")
@click.option("--viewer-password-file", type=FILE,
              help="A file with the password of those who may only look; or $ORCH_VIEWER_PASSWORD.")  # fmt: skip
@click.option("--basic-auth", "users", type=FILE, help="A JSON file of names and passwords, as Panel takes it.")
@click.option("--oauth-provider", "provider", metavar="NAME",
              help="Sign in by a login provider that Panel knows; its secret is in $PANEL_OAUTH_SECRET.")  # fmt: skip
@click.option("--oauth-key", metavar="ID", help="This server's name at the login provider.")
@click.option("--oauth-redirect-uri", metavar="URL", help="Where the login provider sends browsers back to.")
@click.option("--oauth-extra-params", metavar="JSON", help="More for the login provider, as Panel takes it.")
@click.option("--oauth-jwt-user", metavar="KEY", help="What of the provider's answer is the user's name.")
@click.pass_context
def serve_command(
    context: click.Context,
    port: int | None,
    open_browser: bool,
    address: str | None,
    names: tuple[str, ...],
    password_file: Path | None,
    viewer_password_file: Path | None,
    users: Path | None,
    provider: str | None,
    **oauth: str | None,
) -> None:
    """Serve the project until Ctrl-C or `orch stop`. Prints a link that signs a browser in, once.

    Running agents go on when it ends, and the next server takes them back. As process 1 of a container, where nothing
    can go on, it ends them first.
    """
    sign_in = SignIn(
        password=password_of(VARIABLES["password"], password_file),
        viewer_password=password_of(VARIABLES["viewer_password"], viewer_password_file),
        users=users,
        provider=provider or "",
        operators=context.obj.project.operators,
    )
    project = context.obj.project  # its errors come first: they need no server, and leave nothing behind
    if project.isolation == "worktree":
        from orchestrator_app.workspace.worktrees import check_repository

        check_repository(project.root, project.base)
    is_first = os.getpid() == 1
    if is_first:
        from orchestrator_app.cli.first_process import stand_in_front

        code = stand_in_front()
        if code is not None:
            context.exit(code)
    from orchestrator_app.serve import serve

    context.exit(
        serve(
            project,
            port=port,
            open_browser=open_browser,
            keep_agents=not is_first,
            address=address,
            door=Door(sign_in, names, {name: value for name, value in oauth.items() if value}),
        )
    )


@click.command("open", short_help="Print a link that signs a browser in, and open it.")
@click.option(
    "--browser/--no-browser", default=None, help="Open it, or print it only; by default, open it if there is a display."
)
@click.option("--viewer", is_flag=True, help="Let that browser look and change nothing. Programs do the same with the "
              "token in .orchestrator/viewer-token; who deletes that file ends it.")  # fmt: skip
@json_option
@click.pass_obj
def open_command(place: Place, browser: bool | None, viewer: bool, as_json: bool) -> None:
    """Print a fresh link to the dashboard. It signs one browser in, once."""
    url = place.client().post("/login-code", {"viewer": viewer})["url"]
    text.show({"url": url}, as_json, lambda answer: answer["url"])
    if browser or (browser is None and has_display() and sys.stdout.isatty()):
        import webbrowser

        webbrowser.open(url)


def has_display() -> bool:
    """Whether a browser could show up; on a terminal alone, opening one would take the terminal away."""
    return sys.platform == "darwin" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


@click.command("stop", short_help="Stop the server; its agents go on, unless told otherwise.")
@click.option("--drain", is_flag=True, help="Start nothing new, and stop when what runs has ended.")
@click.option("--agents", is_flag=True, help="End the running attempts too; their phases run again at the next start.")
@json_option
@click.pass_obj
def stop_command(place: Place, drain: bool, agents: bool, as_json: bool) -> None:
    """Stop the server, and wait until it is gone. Its running attempts go on, and the next server takes them back.

    With --drain it waits for the running attempts, but for those that wait for a person: they go on without a server.
    Ctrl-C ends the waiting, not the drain; `orch stop`, or with --agents, ends a drain at once.

    Stops the very process that serves this project, and no other.
    """
    if drain and agents:
        raise click.UsageError("--drain waits for running attempts and --agents ends them: choose one")
    client = place.client()
    info, wanted = client.info, Stop.DRAIN if drain else Stop.AGENTS if agents else Stop.LEAVE
    try:
        grace = client.get("/config")["settings"]["grace"]
        going = client.post("/stop", {"how": wanted})["stopping"]
    except NoServerError:
        if server_info(place.state) is None:
            raise
        kill = f"end it with `kill -9 {info['pid']}`; its attempts go on, and the next server takes them back"
        raise OrchError(f"the server of {place.root} (process {info['pid']}) doesn't answer: {kill}") from None
    if going != wanted and wanted is not Stop.LEAVE:
        print(f"it can't, or is stopping another way already: {_FATES[going]}", file=sys.stderr)
    try:
        if going == Stop.DRAIN:
            _watch_drain(client)
        _wait_until_gone(client, grace + PATIENCE)
    except KeyboardInterrupt:
        print("\nit goes on stopping without you watching; `orch status` says how far it is", file=sys.stderr)
        raise
    if (place.state / "server.json").exists() and server_info(place.state) is None:
        raise OrchError(
            f"process {info['pid']} has ended, but not in order: nothing that was acknowledged is lost; "
            "the next `orch serve` takes back what runs"
        )
    answer = {"stopped": True, "pid": info["pid"], "how": going}
    told = f"Stopped the server of {text.safe(place.root)} (process {info['pid']}); {_FATES[going]}."
    text.show(answer, as_json, lambda _: told)


PATIENCE = 60.0
"""Seconds that a server may take to stop, beside the grace that it gives to attempts."""

_FATES = {
    Stop.LEAVE: "running attempts go on, and the next server takes them back",
    Stop.DRAIN: "what ran has ended, and attempts that wait for a person go on",
    Stop.AGENTS: "running attempts were ended, and run again under the next server",
}


def _watch_drain(client: Client) -> None:
    """Say what a drain waits for, whenever that changes, until it is over or has become another stop."""
    said = ""
    while True:
        try:
            status = client.get("/status")
        except NoServerError:
            return
        # At first it may not have begun yet; and a server that answers here later may be the next one.
        if status["ending"] not in (None, Stop.DRAIN) or status["pid"] != client.info["pid"]:
            return
        awaited = ", ".join(status["awaited"])
        if awaited != said and status["ending"] is not None:
            said = awaited
            print(f"waiting for {text.safe(awaited)}" if awaited else "nothing runs any more", file=sys.stderr)
        time.sleep(0.25)


def _wait_until_gone(client: Client, patience: float) -> None:
    """Until the very process has ended. Says every few seconds that it still waits; raises OrchError after all."""
    pid, started = client.info["pid"], client.info["start_time"]
    began = said = time.monotonic()
    while start_time(pid) == started and server_info(client.root / STATE_NAME) is not None:
        now = time.monotonic()
        if now - began > patience:
            raise OrchError(
                f"process {pid} still runs after {patience:.0f} s: look at its output, or end it with `kill -9 {pid}`; "
                "its attempts go on, and the next server takes them back"
            )
        if now - said > 2:
            said = now
            print(f"waiting for process {pid} to end ({now - began:.0f} s)", file=sys.stderr)
        time.sleep(0.05)
