"""What programs reach a running server with: one HTTP client, its errors, the verbs of the API, and /ws as it speaks.

Quick to import: nothing here needs more than the standard library before it is used.
"""

from __future__ import annotations

from orchestrator_app.client.http import Client, unit_path
from orchestrator_app.client.refused import Conflict, Refused, Unanswered

__all__ = ["Client", "Conflict", "Refused", "Unanswered", "unit_path"]
