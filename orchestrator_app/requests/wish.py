"""A request on its way: who wants what, and what it may be judged by."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from orchestrator_app.settings import Project


@dataclass
class Request:
    """A wish, who has it, and where its answer goes. `version` is the version of the unit that the wisher saw."""

    kind: str
    unit: str | None
    actor: str
    args: dict[str, Any]
    cause: str
    version: int | None = None
    future: Future = field(default_factory=Future)


@dataclass(frozen=True)
class Context:
    """What a request may look at besides the draft: the project, and which units have a live attempt."""

    project: Project
    live: Mapping[str, int]
