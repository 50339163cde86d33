"""How the whole stands: the server, and how many units are in each status."""

from __future__ import annotations

from typing import Any

import click

from orchestrator_app.claim import server_info
from orchestrator_app.cli import text
from orchestrator_app.cli import watch as live
from orchestrator_app.cli.client import no_server
from orchestrator_app.cli.commands import json_option, watch_option
from orchestrator_app.cli.place import Place
from orchestrator_app.cli.source import Live
from orchestrator_app.errors import NoServerError


@click.command("status", short_help="How the server is, and how many units stand where.")
@watch_option
@json_option
@click.pass_obj
def status_command(place: Place, watch: bool, as_json: bool) -> None:
    """How the server is, and how many units stand in each status. Exit code 3 when no server runs."""

    def look(source: Live, _: int | None = None) -> dict[str, Any]:
        answer = source.status()
        info = source.client.info
        return {**answer, "url": info["url"], "version": info.get("version")}

    if watch:
        live.watch(place, look, _status, as_json)
    if server_info(place.state) is None:
        if as_json:
            print(text.as_json({"state": "stopped", "project": str(place.root)}))
        raise NoServerError(no_server(place.root))
    text.show(look(Live(place.client())), as_json, _status)


def _status(answer: dict[str, Any]) -> str:
    counts = ", ".join(f"{number} {status}" for status, number in answer["counts"].items() if number)
    asked = answer["attention"]
    return text.facts(
        {
            "project": answer["project"],
            "server": f"{answer['url']}, process {answer['pid']}, up {text.ago(answer['started_at'])}",
            "state": answer["state"],
            "recovered": answer.get("recovered"),
            "dispatch": "on" if answer["dispatch"] == "on" else "paused; `orch resume --dispatch` lets it go on",
            "running": f"{answer['running']} of {answer['slots']} slots",
            "units": counts or "none yet",
            "attention": f"{asked} open; `orch attention` lists them" if asked else "nothing",
        }
    )
