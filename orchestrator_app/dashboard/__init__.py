"""The dashboard: one page per browser session, kept up to date by a feed."""

from __future__ import annotations

from typing import Any

import panel as pn
import panel_material_ui as pmui

from orchestrator_app.access import OPERATOR, Who
from orchestrator_app.dashboard.console import Console
from orchestrator_app.dashboard.submit import SubmitForm
from orchestrator_app.orchestrator import Orchestrator

THEME = {
    "palette": {"primary": {"main": "#3657c9"}},
    "typography": {"fontFamily": "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif"},
    "shape": {"borderRadius": 8},
}


def page(orchestrator: Orchestrator, who: Who = OPERATOR) -> pmui.Page:
    """The page of the browser session that is being made now, for `who` opens it."""
    console = Console(orchestrator, who, sizing_mode="stretch_width")
    form = SubmitForm(console)
    followed = set(_followers_of_busy())
    built = pmui.Page(
        title=f"Orchestrator · {orchestrator.project.root.name}",
        header=[pn.layout.HSpacer(), *([form.button] if who.may_act else [])],
        main=[
            pmui.Column(console, console.holder, *([form.dialog] if who.may_act else []), sizing_mode="stretch_width")
        ],
        theme_toggle=True,
        dark_theme=pn.state.cookies.get("orch-dark") == "yes",  # as chosen in this browser before
        theme_config=THEME,
        busy_indicator=None,
    )
    # A page follows the server's one `busy` flag, so every word of every browser would be told to each open page, and
    # no page that was closed would ever be let go of. Nothing here shows that flag.
    for watcher in set(_followers_of_busy()) - followed:
        pn.state.param.unwatch(watcher)
    console.dark = built.dark_theme
    built.param.watch(lambda event: setattr(console, "dark", event.new), "dark_theme")
    if pn.state.curdoc is not None:
        pn.state.on_session_destroyed(console.release)
    return built


def _followers_of_busy() -> list[Any]:
    return pn.state.param.watchers.get("busy", {}).get("value", [])
