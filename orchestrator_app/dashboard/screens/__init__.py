"""The pages, by the name they have in an address."""

from __future__ import annotations

from importlib import import_module

from orchestrator_app.dashboard.screen import Screen

#: In the order of the navigation; `unit` is reached through links.
NAMES = ("overview", "board", "timeline", "graph", "sessions", "events", "errors", "settings", "unit")


def screen_of(page: str) -> type[Screen]:
    """The class of a page's server half. Raises KeyError for a page that there isn't."""
    if page not in NAMES:
        raise KeyError(page)
    return getattr(import_module(f"orchestrator_app.dashboard.screens.{page}"), page.capitalize())
