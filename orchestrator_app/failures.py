"""What went wrong, grouped: the same error of a thousand units is one group with a count.

Two messages are of one group when they are equal but for numbers, ids, paths, times and names: `fold` says so. The
grouping itself happens in the database, by the same table of patterns, so that 100,000 errors take no Python.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from orchestrator_app.errors import NotFoundError
from orchestrator_app.executors.output import decoded, read_piece
from orchestrator_app.orchestrator import Orchestrator
from orchestrator_app.states import Status

#: Characters of a message that count, before and after folding.
READ, KEPT = 1_000, 300
#: Bars of a group's sparkline, and the minutes of one of them: together the last hour.
BARS, BAR_MINUTES = 12, 5
#: Units that a group names, and occurrences that its details hold.
NAMED, NEWEST = 20, 10
EXCERPT_LINES, EXCERPT_BYTES = 40, 16_384

_DURATION = r"[0-9]+([.,][0-9]+)? ?(ms|us|µs|ns|s|secs?|seconds?|min|mins|minutes?|m|h|hours?|d|days?)\b"
#: In this order. Only what Python and RE2 (the database's) understand alike: no look-around, no \d, \w or \s, whose
#: meaning differs, and no pattern that matches nothing. The unit's own name is folded by then: it may be in a path.
FOLDS: tuple[tuple[str, str], ...] = (
    (r"\x1b\[[0-9;?]*[ -/]*[@-~]", ""),
    (r"[\x00-\x20\x7f]+", " "),
    (r"https?://([^ \"'<>()]|<unit>)+", "<url>"),
    (
        r"[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}([.,][0-9]+)?)?(Z|[+-][0-9]{2}:?[0-9]{2})?)?",
        "<time>",
    ),
    (r"[0-9]{1,2}:[0-9]{2}:[0-9]{2}([.,][0-9]+)?", "<time>"),
    (r"[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}", "#"),
    (r"\"[^\"]+\"", '"…"'),
    (r"`[^`]+`", "`…`"),
    (r"(^|[^A-Za-z0-9])'[^']+'", r"\1'…'"),
    (r"(^|[ (=:,\[])(~|[.][.]?)?/([^ \"'():,;<>]|<unit>)+", r"\1<path>"),
    (r"[A-Za-z]:\\([^ \"'():,;<>]|<unit>)+", "<path>"),
    (r"([A-Za-z0-9_.@-]|<unit>)+(/([A-Za-z0-9_.@+-]|<unit>)+)+[.][A-Za-z0-9]+", "<path>"),
    (rf"\b{_DURATION}( {_DURATION})*", "<duration>"),
    (r"\b0x[0-9a-fA-F]+", "#"),
    (r"\b[0-9]+([.,][0-9]+)*\b", "#"),
    (r"\b[0-9a-f]{7,64}\b", "#"),
    (r"(^|[^A-Za-z0-9])[0-9]+", r"\1#"),
)  # fmt: skip
_FOLDS = [(re.compile(pattern, re.ASCII), instead) for pattern, instead in FOLDS]
#: A unit's name is one only where no such character stands before or behind it.
_PART_OF_NAME = re.compile("[A-Za-z0-9_-]")


def fold(message: str, unit: str | None = None) -> str:
    """The message with whatever differs between two occurrences of one error replaced; `unit` is whose error it is."""
    text = message[:READ]
    place = text.find(unit) if unit else -1
    if place >= 0 and not _PART_OF_NAME.search(text[max(0, place - 1) : place] + text[place + len(unit) :][:1]):
        text = text.replace(unit, "<unit>")
    for pattern, instead in _FOLDS:
        text = pattern.sub(instead, text)
    return text.strip(" ")[:KEPT]


def named_sql(message: str, unit: str) -> str:
    """The first half of `fold` as SQL over two columns; the second half then has far fewer values to fold."""
    text, place = f"left({message}, {READ})", f"strpos({message}, {unit})"
    around = f"substr(' ' || {text}, {place}, 1) || substr({text}, {place} + length({unit}), 1)"
    alone = f"{place} > 0 AND NOT regexp_matches({around}, '{_PART_OF_NAME.pattern}')"
    return f"CASE WHEN {alone} THEN replace({text}, {unit}, '<unit>') ELSE {text} END"


def folded_sql(text: str) -> str:
    """The second half of `fold` as SQL over a column."""
    for pattern, instead in FOLDS:
        text = "regexp_replace({}, '{}', '{}', 'g')".format(
            text, pattern.replace("'", "''"), instead.replace("'", "''")
        )
    return f"left(trim({text}, ' '), {KEPT})"


#: A failure's reason says how the attempt ended; the last line of its output, which its attention item has, says why.
#: A clash while it runs is one of its merge; a clash before is an overlap to rule on, and no error.
_WRONG = f"""
WITH said AS (
    SELECT unit, cause, trim(regexp_extract(right(text, 500), '[^\\n]*$')) AS line
    FROM attention_change
    WHERE change = 'opened' AND kind = 'error' AND severity = 'error' AND occurred_at >= $since
),
happened AS (
    SELECT seq, unit, trigger AS kind, occurred_at,
           CASE WHEN line <> '' AND NOT contains(reason, line) THEN reason || ': ' || line
                ELSE coalesce(reason, trigger) END AS message
    FROM transition LEFT JOIN said USING (unit, cause)
    WHERE occurred_at >= $since AND (
        trigger IN ('fail', 'lose', 'stall', 'exceed') OR (trigger = 'clash' AND from_status = 'RUNNING')
        OR CASE WHEN trigger = 'defer' THEN json_exists(detail, '$.set.failures') ELSE FALSE END
    )
    UNION ALL
    SELECT seq, unit, 'said', occurred_at, CASE WHEN message = '' THEN type ELSE message END
    FROM event WHERE level = 'error' AND occurred_at >= $since
),
named AS MATERIALIZED (SELECT *, {named_sql("message", "unit")} AS named FROM happened),
folded AS MATERIALIZED (SELECT named, {folded_sql("named")} AS folded FROM (SELECT DISTINCT named FROM named)),
wrong AS MATERIALIZED (SELECT *, left(md5(kind || ':' || folded), 12) AS key FROM named JOIN folded USING (named))
"""

_BARS = ", ".join(
    f"count(*) FILTER (occurred_at > $now - INTERVAL {(BARS - bar) * BAR_MINUTES} MINUTE"
    f" AND occurred_at <= $now - INTERVAL {(BARS - bar - 1) * BAR_MINUTES} MINUTE)"
    for bar in range(BARS)
)
_SUMMARY = f"""
{_WRONG},
per_unit AS (
    SELECT key, unit, any_value(kind) AS kind, any_value(folded) AS folded, arg_max(message, seq) AS sample,
           count(*) AS count, min(occurred_at) AS first, max(occurred_at) AS last, max(seq) AS seq,
           [{_BARS}] AS bars,
           bool_or(contains(lower(message), $search) OR contains(unit, $search)) AS found
    FROM wrong
    GROUP BY key, unit
),
grouped AS (
    SELECT key, any_value(kind) AS kind, any_value(folded) AS message, left(arg_max(sample, seq), 2000) AS sample,
           sum(count)::BIGINT AS count, min(first) AS first, max(last) AS last, max(seq) AS seq, count(unit) AS total,
           (list(unit ORDER BY seq DESC) FILTER (unit IS NOT NULL))[1:{NAMED}] AS units,
           [{", ".join(f"sum(bars[{bar + 1}])::BIGINT" for bar in range(BARS))}] AS bars
    FROM per_unit
    GROUP BY key
    HAVING bool_or(found)
)
SELECT *, sum(count) OVER ()::BIGINT AS errors, count(*) OVER () AS groups
FROM grouped
"""
ORDERS = {"count": "count", "last": "seq"}


def summary(
    orchestrator: Orchestrator,
    since: datetime | None = None,
    limit: int = 100,
    *,
    search: str = "",
    order: str = "count",
    now: datetime | None = None,
) -> dict[str, Any]:
    """The groups of what went wrong since then (UTC without a zone; None: ever), the most frequent first.

    {errors, groups, found: [{key, kind, message (folded), sample, count, first, last, units (the newest), total (of
    units), bars (occurrences in each 5 minutes of the last hour)}]}; `errors` and `groups` count those beyond `limit`
    too. Reads the database.
    """
    parameters = {
        "since": since or datetime.min,
        "now": now or _now(),
        "search": search.strip().lower(),
        "limit": limit,
    }
    rows = _rows(orchestrator, f"{_SUMMARY} ORDER BY {ORDERS[order]} DESC, seq DESC LIMIT $limit", parameters)
    whole = {"errors": rows[0]["errors"], "groups": rows[0]["groups"]} if rows else {"errors": 0, "groups": 0}
    dropped = ("errors", "groups", "seq")
    found = [{name: value for name, value in row.items() if name not in dropped} for row in rows]
    return {**whole, "found": [{**row, "units": row["units"] or []} for row in found]}


def top(orchestrator: Orchestrator, seconds: float = 3600, n: int = 5) -> list[dict[str, Any]]:
    """The most frequent groups of the last `seconds`. Reads the database."""
    return summary(orchestrator, _now() - timedelta(seconds=seconds), n)["found"]


_OCCURRENCES = f"""
{_WRONG},
stopped AS (
    SELECT unit, max(seq) AS seq FROM wrong WHERE kind IN ('fail', 'stall', 'clash', 'exceed')
    GROUP BY unit HAVING arg_max(key, seq) = $key
)
SELECT seq, kind, folded, count(*) OVER () AS count, min(occurred_at) OVER () AS first,
       (SELECT list(unit ORDER BY seq DESC) FROM stopped) AS stopped
FROM wrong WHERE key = $key
ORDER BY seq DESC LIMIT {NEWEST}
"""
_WHOLE = """
SELECT seq, unit, attempt, phase, actor, reason AS words, NULL AS data, occurred_at,
       (SELECT any_value(text) FROM attention_change AS item
        WHERE item.change = 'opened' AND item.unit = transition.unit AND item.cause = transition.cause) AS item
FROM transition WHERE list_contains($seqs, seq)
UNION ALL
SELECT seq, unit, attempt, NULL, actor, message, data, occurred_at, NULL FROM event WHERE list_contains($seqs, seq)
ORDER BY seq DESC
"""


def detail(orchestrator: Orchestrator, key: str) -> dict[str, Any]:
    """A group whole: its newest occurrences, the end of the newest one's output, what to do, and whom it stops.

    `stopped` are the units that wait for a person because of it, with the versions they have: what a retry is for.
    Reads the database and a file; raises NotFoundError.
    """
    found = _rows(orchestrator, _OCCURRENCES, {"since": datetime.min, "key": key})
    if not found:
        raise NotFoundError(f"no error {key!r} is in the log")
    kind, message = found[0]["kind"], found[0]["folded"]
    newest = _rows(orchestrator, _WHOLE, {"seqs": [row["seq"] for row in found]})
    return {
        "key": key,
        "kind": kind,
        "message": message,
        "count": found[0]["count"],
        "first": found[0]["first"],
        "occurrences": newest,
        "excerpt": excerpt(orchestrator, newest[0]["unit"], newest[0]["attempt"]),
        "advice": advice(kind, newest[0]["words"] or message),
        "stopped": _stopped(orchestrator, found[0]["stopped"] or ()),
    }


def _stopped(orchestrator: Orchestrator, names: Sequence[str]) -> list[dict[str, Any]]:
    units = [orchestrator.board.row(name) for name in names]
    return [{"unit": unit.name, "version": unit.version} for unit in units if unit.status is Status.NEEDS_ATTENTION]


def excerpt(orchestrator: Orchestrator, unit: str | None, attempt: int | None) -> dict[str, Any] | None:
    """The last lines of an attempt's output, as they are; None where there is none."""
    if unit is None or not attempt:
        return None
    runs = orchestrator.project.state / "runs"
    try:
        piece = read_piece(runs, (unit, str(attempt), "output.log"), None, EXCERPT_LINES, EXCERPT_BYTES)
    except NotFoundError:
        return None
    if piece is None or not piece.data:
        return None
    return {"unit": unit, "attempt": attempt, "text": decoded(piece)[0], "whole": piece.offset == 0}


#: What to do: the first whose kind fits and whose pattern is in the message.
ADVICE: tuple[tuple[str, str, str], ...] = (
    ("fail", r"verify failed", "The work passed, but not on the merged tree: read the output of the verify command, "
     "mend the branch in the unit's worktree, then retry."),
    ("fail", r"not found|No such file|Permission denied|can't be started|could not be started",
     "Its program could not be run: check the agent's command in the settings, and that it is installed; then retry."),
    ("fail", r"too long|timed out|timeout|deadline", "It ran into its time limit: see what it was doing in its output; "
     "raise the phase's timeout or split the work, then retry."),
    ("fail", r"unexpected error", "The orchestrator itself could not go on with it: the server's log has the whole "
     "error. Retry; report it if it comes back."),
    ("fail", r"asked for changes|asks for changes", "Its review keeps asking for changes: read the feedback, make the "
     "prompt clearer or mend the work in its worktree, then retry."),
    ("fail", "", "Read the end of its output for the cause. Mend it, then retry; accept the unit if its work is good "
     "after all."),
    ("defer", "", "It is tried again by itself, after a wait. If all of its retries end like this, the cause is not a "
     "passing one: read the output."),
    ("lose", "", "Its process vanished without a result, and the phase runs again by itself. If it keeps happening, "
     "look for a killer: memory, a reboot, someone's kill."),
    ("stall", "", "It gave no sign of life for too long. Look at its output: let it go on, or retry it, which stops it."
     " If silence is normal for this work, raise the stall setting."),
    ("clash", "", "Its work can't be merged as it is. Look at the unit's worktree, resolve the conflict there, then "
     "retry."),
    ("exceed", "", "Its budget is spent. Raise the budget in the settings, or make the work smaller; then retry."),
    ("said", "", "The agent reported this while it went on. Read what it did before and after in its output."),
)  # fmt: skip


def advice(kind: str, message: str) -> str:
    """One line: what a person does about an error of this kind."""
    return next((words for for_kind, pattern, words in ADVICE if for_kind == kind and re.search(pattern, message)), "")


def _rows(orchestrator: Orchestrator, sql: str, parameters: dict[str, Any]) -> list[dict[str, Any]]:
    """Named parameters as DuckDB's positional ones; each may stand more than once."""
    for place, name in enumerate(parameters, 1):
        sql = re.sub(rf"\${name}\b", f"${place}", sql)
    return orchestrator.rows(sql, list(parameters.values()))


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)
