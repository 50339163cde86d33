"""Units that are waited for: where each stands, and whether it still gets where it should."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from orchestrator_app.errors import OrchError, UsageError
from orchestrator_app.states import Status


class NotReached(OrchError):
    """Units that were waited for are not where they should be; `statuses` says where they are."""

    def __init__(self, message: str, statuses: dict[str, str]) -> None:
        super().__init__(message)
        self.statuses = statuses


class Awaited:
    """`units` are rows of the API."""

    def __init__(self, units: Sequence[dict[str, Any]], goal: Sequence[str]) -> None:
        """Raises UsageError for a status that there isn't."""
        for status in goal:
            if status not in Status.__members__:
                raise UsageError(f"there is no status {status!r}: there are {', '.join(Status.__members__)}")
        self.goal = goal
        self.statuses: dict[str, str] = {unit["name"]: unit["status"] for unit in units}
        self._asked = {unit["name"] for unit in units if unit["item"]}

    def take(self, row: dict[str, Any]) -> None:
        """Bring it up to a record."""
        name = row.get("unit")
        if name not in self.statuses:
            return
        if row.get("table") == "transition":
            self.statuses[name] = row["to_status"]
        elif row.get("table") == "attention_change" and row["change"] == "opened":
            self._asked.add(name)
        elif row.get("table") == "attention_change" and row["change"] == "resolved":
            self._asked.discard(name)

    @property
    def reached(self) -> bool:
        """Whether all are there."""
        return all(status in self.goal for status in self.statuses.values())

    @property
    def stuck(self) -> str | None:
        """One that won't get there by itself."""
        for name, status in self.statuses.items():
            ends = status in ("DONE", "CANCELLED", "NEEDS_ATTENTION") or (status == "BLOCKED" and name in self._asked)
            if status not in self.goal and ends:
                return name
        return None

    def without_end(self, name: str, items: Sequence[dict[str, Any]]) -> NotReached:
        """`items`: what of this unit needs a person."""
        why = f": {items[-1]['title']}" if items else ""
        return NotReached(f"{name} is {self.statuses[name]}, not {' or '.join(self.goal)}{why}", self.statuses)

    def late(self, timeout: float | None) -> NotReached:
        still = [f"{name} is {status}" for name, status in self.statuses.items() if status not in self.goal]
        shown = ", ".join(still[:5]) + (f" and {len(still) - 5} more" if len(still) > 5 else "")
        return NotReached(f"not {' or '.join(self.goal)} within {timeout or 0:g} s: {shown}", self.statuses)
