"""The dashboard: one page per browser session, kept up to date by a feed."""

from __future__ import annotations

import panel as pn
import panel_material_ui as pmui
from panel.util import edit_readonly

from orchestrator_app.dashboard.console import Console
from orchestrator_app.dashboard.submit import SubmitForm
from orchestrator_app.orchestrator import Orchestrator

THEME = {
    "palette": {"primary": {"main": "#3657c9"}},
    "typography": {"fontFamily": "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif"},
    "shape": {"borderRadius": 8},
}


def page(orchestrator: Orchestrator) -> pmui.Page:
    """The page of the browser session that is being made now."""
    console = Console(orchestrator, sizing_mode="stretch_width")
    form = SubmitForm(console)
    built = pmui.Page(
        title=f"Orchestrator · {orchestrator.project.root.name}",
        header=[pn.layout.HSpacer(), form.button],
        main=[pmui.Column(console, console.holder, form.dialog, sizing_mode="stretch_width")],
        theme_toggle=True,
        dark_theme=pn.state.cookies.get("orch-dark") == "yes",  # as chosen in this browser before
        theme_config=THEME,
        busy_indicator=None,
    )
    # A page follows the server's one `busy` flag, so any word of any browser would be told to every open page, and a page
    # that was closed would be kept for ever. Nothing here shows it: let go of it.
    with edit_readonly(built):
        built.busy = False
    console.dark = built.dark_theme
    built.param.watch(lambda event: setattr(console, "dark", event.new), "dark_theme")
    if pn.state.curdoc is not None:
        pn.state.on_session_destroyed(console.release)
    return built
