"""The page of `panel serve orchestrator_app`: run once for every browser session."""

from __future__ import annotations

from orchestrator_app.serve import build_page

build_page().servable()
