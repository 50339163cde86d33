"""Being built."""

from __future__ import annotations

from orchestrator_app.dashboard.screen import Screen


class Settings(Screen):
    pass
