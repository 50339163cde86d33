"""The stream of everything that was committed, as light rows: the newest in memory, the older ones by SQL.

One `Recent` serves all sessions that look at the stream of one board: it watches while there is at least one of them.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from orchestrator_app.dashboard.views import milliseconds
from orchestrator_app.model import Board
from orchestrator_app.orchestrator import Orchestrator
from orchestrator_app.states import Trigger
from orchestrator_app.store.records import AttentionChange, Event, Record, Session, Transition, Usage, Verdict

#: Records that are kept in memory, and characters of a row's text.
KEPT, TEXT = 2_000, 400

KINDS = ("transition", "event", "progress", "attention", "verdict", "usage", "session")
LEVELS = ("info", "warning", "error")
#: What a transition is to someone who looks for trouble; every other one is plain information.
TROUBLE = {"fail": "error"} | dict.fromkeys(("lose", "stall", "clash", "exceed", "defer"), "warning")
#: What an attempt says so often that it is a kind of its own.
OFTEN = ("heartbeat", "progress")

WRONG = (Trigger.FAIL, Trigger.LOSE, Trigger.STALL, Trigger.CLASH, Trigger.EXCEED, Trigger.DEFER)


class Recent:
    """The newest records of a board since the first session asked."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._records: deque[Record] = deque(maxlen=KEPT)
        #: The number of the newest record that is here; the board may be a moment ahead.
        self.seq = 0
        #: Counts what may stand on the page of errors.
        self.wrong = 0

    def notice(self, records: Sequence[Record]) -> None:
        """After a commit, on the scheduler's thread."""
        wrong = sum(
            record.trigger in WRONG if type(record) is Transition else type(record) is Event and record.level == "error"
            for record in records
        )
        with self._lock:
            self._records.extend(records)
            self.seq = records[-1].seq
            self.wrong += wrong

    def since(self, seq: int) -> list[Record]:
        """Those behind `seq`, the newest first; no more than there is room for."""
        found = []
        with self._lock:
            for record in reversed(self._records):
                if record.seq <= seq:
                    break
                found.append(record)
        return found


_shared: WeakKeyDictionary[Board, tuple[Recent, Any, list[object]]] = WeakKeyDictionary()
_sharing = threading.Lock()


def join(board: Board, who: object) -> Recent:
    """The one Recent of the board, for `who` until it leaves."""
    with _sharing:
        if board not in _shared:
            recent = Recent()
            recent.seq = board.seq
            _shared[board] = (recent, board.watch(recent.notice), [])
        recent, _, users = _shared[board]
        users.append(who)
        return recent


def leave(board: Board, who: object) -> None:
    """The last one to leave ends the watching."""
    with _sharing:
        if board not in _shared:
            return
        _, end, users = _shared[board]
        users[:] = [user for user in users if user is not who]
        if not users:
            end()
            del _shared[board]


def row(record: Record) -> dict[str, Any]:
    """A record as a light row of the stream. `STREAM` says the same in SQL; a test compares the two."""
    light: dict[str, Any] = {"seq": record.seq, "unit": record.unit, "level": "info", "actor": None, "attempt": None}
    match record:
        case Transition():
            light |= {"kind": "transition", "what": str(record.trigger), "text": record.reason or ""}
            light |= {"from": str(record.from_status), "to": str(record.to_status), "phase": record.phase}
            light |= {"actor": record.actor, "attempt": record.attempt, "level": TROUBLE.get(record.trigger, "info")}
        case Event():
            kind = "progress" if record.type in OFTEN else "event"
            light |= {"kind": kind, "what": record.type, "text": record.message, "level": record.level}
            light |= {"actor": record.actor, "attempt": record.attempt}
        case AttentionChange():
            opened = record.change == "opened"
            light |= {"kind": "attention", "what": f"{record.kind} {record.change}", "actor": record.actor}
            light |= {"text": record.title if opened else record.text, "level": record.severity if opened else "info"}
            light |= {"phase": record.phase, "attempt": record.attempt}
        case Verdict():
            light |= {"kind": "verdict", "what": record.verdict, "text": f"with {record.other}: {record.reason}"}
            light |= {"level": "warning" if record.verdict == "ASK_OPERATOR" else "info", "actor": record.actor}
        case Usage():
            said = f"{record.input_tokens} tokens in, {record.output_tokens} out, ${record.usd:.4f}"
            light |= {"kind": "usage", "what": record.model or "usage", "text": said}
            light |= {"phase": record.phase, "attempt": record.attempt}
        case Session():
            light |= {"kind": "session", "what": "session", "text": record.session}
            light |= {"phase": record.phase, "attempt": record.attempt}
    light["text"] = light["text"][:TEXT]
    return {"from": None, "to": None, "phase": None, **light, "at": milliseconds(record.occurred_at)}


_TROUBLE = " ".join(f"WHEN '{trigger}' THEN '{level}'" for trigger, level in TROUBLE.items())
STREAM = f"""
SELECT seq, unit, 'transition' AS kind, trigger AS what, left(coalesce(reason, ''), {TEXT}) AS text,
       CASE trigger {_TROUBLE} ELSE 'info' END AS level,
       from_status AS "from", to_status AS "to", phase, attempt, actor, occurred_at
FROM transition WHERE seq > $1 AND seq < $2
UNION ALL
SELECT seq, unit, CASE WHEN type IN {OFTEN} THEN 'progress' ELSE 'event' END, type, left(message, {TEXT}), level,
       NULL, NULL, NULL, attempt, actor, occurred_at
FROM event WHERE seq > $1 AND seq < $2
UNION ALL
SELECT seq, unit, 'attention', kind || ' ' || change,
       left(CASE WHEN change = 'opened' THEN title ELSE text END, {TEXT}),
       CASE WHEN change = 'opened' THEN severity ELSE 'info' END, NULL, NULL, phase, attempt, actor, occurred_at
FROM attention_change WHERE seq > $1 AND seq < $2
UNION ALL
SELECT seq, unit, 'verdict', verdict, left('with ' || other || ': ' || reason, {TEXT}),
       CASE WHEN verdict = 'ASK_OPERATOR' THEN 'warning' ELSE 'info' END, NULL, NULL, NULL, NULL, actor, occurred_at
FROM verdict WHERE seq > $1 AND seq < $2
UNION ALL
SELECT seq, unit, 'usage', CASE WHEN model = '' THEN 'usage' ELSE model END,
       format('{{}} tokens in, {{}} out, ${{:.4f}}', input_tokens, output_tokens, usd), 'info',
       NULL, NULL, phase, attempt, NULL, occurred_at
FROM usage WHERE seq > $1 AND seq < $2
UNION ALL
SELECT seq, unit, 'session', 'session', left(session, {TEXT}), 'info', NULL, NULL, phase, attempt, NULL, occurred_at
FROM session WHERE seq > $1 AND seq < $2
"""


@dataclass(frozen=True)
class Wanted:
    """What of the stream is to be seen. Empty: everything."""

    kinds: frozenset[str] = frozenset()
    unit: str = ""
    level: str = "info"
    text: str = ""

    @classmethod
    def of(cls, args: dict[str, Any]) -> Wanted:
        """From an address, or from what a browser said: whatever makes no sense is left out."""
        kinds = frozenset(str(args.get("kinds") or "").split(",")) & frozenset(KINDS)
        level = args.get("level")
        words = [str(args.get(name) or "")[:200].strip().lower() for name in ("unit", "text")]
        return cls(kinds, words[0], level if level in LEVELS else "info", words[1])

    def fits(self, light: dict[str, Any]) -> bool:
        return (
            (not self.kinds or light["kind"] in self.kinds)
            and LEVELS.index(light["level"]) >= LEVELS.index(self.level)
            and self.unit in (light["unit"] or "")
            and (not self.text or self.text in _searched(light))
        )

    def sql(self) -> tuple[str, list[Any]]:
        """The same as a condition over STREAM, with its parameters from the third on."""
        return (
            "($3 = '' OR list_contains(string_split($3, ','), kind)) AND list_contains(string_split($4, ','), level)"
            " AND contains(coalesce(unit, ''), $5) AND contains(lower(concat_ws(' ', unit, what, actor, text)), $6)",
            [",".join(self.kinds), ",".join(LEVELS[LEVELS.index(self.level) :]), self.unit, self.text],
        )


def _searched(light: dict[str, Any]) -> str:
    return " ".join(light[name] for name in ("unit", "what", "actor", "text") if light[name] is not None).lower()


def older(orchestrator: Orchestrator, wanted: Wanted, before: int, count: int, floor: int = 0) -> list[dict[str, Any]]:
    """The `count` newest rows with `floor < seq < before`, the newest first. Reads the database.

    It looks back in ever greater strides: the newest of a long log are found without reading all of it.
    """
    condition, parameters = wanted.sql()
    found: list[dict[str, Any]] = []
    stride, upper = max(count, 1_000), before
    while len(found) < count and upper > floor + 1:
        lower = max(floor, upper - stride - 1)
        rows = orchestrator.rows(
            f"SELECT * FROM ({STREAM}) WHERE {condition} ORDER BY seq DESC LIMIT {count - len(found)}",
            [lower, upper, *parameters],
        )
        found += [{**_without(row, "occurred_at"), "at": milliseconds(row["occurred_at"])} for row in rows]
        stride, upper = stride * 10, lower + 1
    return found


def _without(row: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != name}


_TABLES = {"progress": "event", "attention": "attention_change"}


def whole(orchestrator: Orchestrator, kind: str, seq: int) -> dict[str, Any] | None:
    """A row of the stream with everything that the log has of it. Reads the database."""
    if kind not in KINDS:
        return None
    rows = orchestrator.rows(f"SELECT * FROM {_TABLES.get(kind, kind)} WHERE seq = ?", [seq])
    return rows[0] if rows else None


def lights(records: Iterable[Record], wanted: Wanted) -> list[dict[str, Any]]:
    """The rows of those records that are wanted."""
    return [light for light in map(row, records) if wanted.fits(light)]
