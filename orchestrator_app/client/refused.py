"""What can go wrong between a client and its server. Every message is the server's own line, where it gave one."""

from __future__ import annotations

import json
from typing import Any

from orchestrator_app.errors import (
    KeyReusedError,
    NoServerError,
    NotFoundError,
    OrchError,
    StaleVersionError,
    UsageError,
)


class Refused(OrchError):
    """The server said no; `status` is the HTTP status of its answer, `problem` the whole of it, `passing` whether it
    says that nothing was done and the same may be asked again soon: it is about to end, say."""

    def __init__(
        self, status: int, detail: str, problem: dict[str, Any] | None = None, *, passing: bool = False
    ) -> None:
        super().__init__(detail)
        self.status = self.http_status = status
        self.problem = problem or {}
        self.passing = passing
        self.exit_code = 2 if status == 400 else 1


class Conflict(Refused, StaleVersionError):
    """The unit has changed since the version that the request was made for (412)."""

    @property
    def current(self) -> dict[str, Any]:
        """The unit as it is now."""
        return self.problem.get("current", {})


class _WrongWords(Refused, UsageError):
    """400"""


class _Unknown(Refused, NotFoundError):
    """404"""


class _KeyReused(Refused, KeyReusedError):
    """422"""


class Unanswered(NoServerError):
    """Nobody answered. `late`: somebody took the request, and was silent for too long."""

    def __init__(self, message: str, *, late: bool = False) -> None:
        super().__init__(message)
        self.late = late


_KINDS: dict[int, type[Refused]] = {400: _WrongWords, 404: _Unknown, 412: Conflict, 422: _KeyReused}


def refusal(status: int, data: bytes, silent: str, *, passing: bool) -> Refused:
    """The error that an answer is. `silent` is what to say if it says nothing itself."""
    try:
        problem = json.loads(data)
        detail = str(problem["detail"])
    except (ValueError, KeyError, TypeError):
        problem, detail = None, silent
    return _KINDS.get(status, Refused)(status, detail, problem, passing=passing)
