"""Print docs/api.md."""

from __future__ import annotations

from orchestrator_app.api import document

print(document(), end="")
