"""What the log says of one unit, for its page: the story, the attempts and what they used. Reads the database."""

from __future__ import annotations

from typing import Any

from orchestrator_app.dashboard.views import milliseconds
from orchestrator_app.orchestrator import Orchestrator

#: `stayed` are the seconds that it had been in the status which a transition ended.
STORY = """
WITH moved AS (
    SELECT seq, epoch(occurred_at) - epoch(lag(occurred_at) OVER (ORDER BY seq)) AS stayed
    FROM transition WHERE unit = ? AND from_status <> to_status
)
SELECT seq, 'transition' AS kind, trigger AS what, from_status, to_status, phase, attempt, actor, cause,
       left(reason, 4000) AS text, 'info' AS level, stayed, occurred_at
FROM transition LEFT JOIN moved USING (seq)
WHERE unit = ? AND seq > ? AND seq < ?
UNION ALL
SELECT seq, 'event', type, NULL, NULL, NULL, attempt, actor, cause, left(message, 4000), level, NULL, occurred_at
FROM event WHERE unit = ? AND seq > ? AND seq < ? AND type NOT IN ('heartbeat', 'progress')
ORDER BY seq DESC LIMIT ?
"""

#: An attempt that waited for an answer ran more than once; what it took is the time it ran.
ATTEMPTS = """
WITH run AS (
    SELECT attempt, arg_max(phase, seq) AS phase, min(started_at) AS started_at, max(ended_at) AS ended_at,
           sum(seconds) AS seconds, bool_or(ended_at IS NULL) AS runs, max(started_at) AS last_started_at,
           arg_max(ended_by, seq) AS ended_by, left(arg_max(reason, seq), 1000) AS reason
    FROM phase_duration WHERE unit = ? GROUP BY attempt
), used AS (
    SELECT attempt, sum(input_tokens)::BIGINT AS input_tokens, sum(output_tokens)::BIGINT AS output_tokens,
           sum(usd) AS usd, left(string_agg(DISTINCT nullif(model, ''), ', '), 200) AS model
    FROM usage WHERE unit = ? GROUP BY attempt
), talk AS (
    SELECT attempt, left(arg_max(session, seq), 200) AS session FROM session WHERE unit = ? GROUP BY attempt
)
SELECT * FROM run LEFT JOIN used USING (attempt) LEFT JOIN talk USING (attempt) ORDER BY attempt DESC LIMIT ?
"""

TOTALS = """
SELECT phase, count(DISTINCT attempt) AS attempts, coalesce(sum(seconds), 0) AS seconds
FROM phase_duration WHERE unit = ? GROUP BY phase
"""

USED = """
SELECT coalesce(sum(input_tokens), 0)::BIGINT AS input_tokens, coalesce(sum(output_tokens), 0)::BIGINT AS output_tokens,
       coalesce(sum(usd), 0) AS usd
FROM usage WHERE unit = ?
"""

REWORKS = "SELECT count(*) AS reworks FROM transition WHERE unit = ? AND trigger = 'rework'"

_END = 2**62


def story(
    orchestrator: Orchestrator, name: str, *, since: int = 0, before: int = _END, most: int
) -> list[dict[str, Any]]:
    """The newest transitions and events of a unit between two numbers, newest first."""
    between = (since, before)
    rows = orchestrator.rows(STORY, [name, name, *between, name, *between, most])
    return [{**row, "occurred_at": milliseconds(row["occurred_at"])} for row in rows]


def attempts(orchestrator: Orchestrator, name: str, most: int) -> list[dict[str, Any]]:
    """The attempts of a unit, newest first."""
    times = ("started_at", "ended_at", "last_started_at")
    rows = orchestrator.rows(ATTEMPTS, [name, name, name, most])
    return [{**row, **{key: milliseconds(row[key]) for key in times}} for row in rows]


def totals(orchestrator: Orchestrator, name: str) -> dict[str, Any]:
    """What all attempts of a unit took and used, by phase and together."""
    phases = {row.pop("phase"): row for row in orchestrator.rows(TOTALS, [name])}
    used = orchestrator.rows(USED, [name])[0]
    return {"phases": phases, **used, "reworks": orchestrator.rows(REWORKS, [name])[0]["reworks"]}
