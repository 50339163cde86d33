"""The timeline: which attempts ran when, side by side, live."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Set
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import panel as pn

from orchestrator_app.dashboard.attempts import MOST, OUTCOMES, Attempts, attempts_of
from orchestrator_app.dashboard.screen import Screen
from orchestrator_app.dashboard.timeline import MARGIN, MINUTE, MONTH, Columns, Picture, columns, legend
from orchestrator_app.dashboard.views import milliseconds

#: Milliseconds of the time that is shown first.
FIRST_SPAN = 60 * MINUTE
#: A time that no clock shows.
FAR = 1e14
#: Seconds between two looks at the log.
LOOK = 0.2
#: Attempts that the table lists.
LISTED = 100
#: Transitions before an attempt that its hint tells of.
BEFORE = 4

#: The picture stands below the page, and as wide as it; see assets/console.css.
BESIDE = """
:host { width: 100%; max-width: 1680px; box-sizing: border-box; margin: -36px auto 24px; padding: 0 44px; }
@media (max-width: 760px) { :host { margin-top: -28px; padding: 0 14px; } }
"""

STORY = """
(SELECT seq, trigger, from_status, to_status, phase, attempt, actor, left(reason, 400) AS reason, occurred_at
 FROM transition WHERE unit = ? AND seq < ? AND from_status <> to_status ORDER BY seq DESC LIMIT ?)
UNION ALL
(SELECT seq, trigger, from_status, to_status, phase, attempt, actor, left(reason, 400), occurred_at
 FROM transition WHERE unit = ? AND seq >= ? AND from_status <> to_status ORDER BY seq LIMIT 2)
ORDER BY seq
"""
UNIT_OF = "SELECT unit FROM transition WHERE seq = ?"
REASONS = """
SELECT start.seq, left(arg_min(stop.reason, stop.seq), 200) AS reason
FROM transition AS start JOIN transition AS stop
     ON stop.unit = start.unit AND stop.seq > start.seq AND stop.from_status <> stop.to_status
WHERE start.seq IN (SELECT unnest(?::BIGINT[])) AND stop.seq > ?
GROUP BY 1
"""


@dataclass(frozen=True)
class Place:
    """What the operator looks at. Times are milliseconds since 1970."""

    start: float
    end: float
    follow: bool = True
    by_phase: bool = False
    by_outcome: bool = False

    @property
    def span(self) -> float:
        return self.end - self.start


class Timeline(Screen):
    def open(self, args: dict[str, str]) -> None:
        now = _now()
        self._place = _asked(args, now)
        #: Milliseconds by which the clocks of the browser differ from UTC; bars are drawn by them.
        self._shift = 0.0
        self._all = args.get("last") == "all"
        #: The place of the last beat, and the last one that the browser was told twice; see Picture.confirm.
        self._rests = self._confirmed = self._place
        self._picture: Picture | None = None
        self._drawn: Columns | None = None
        self._drawn_at = now
        self._closed = False
        self._news = False
        self._listing = False
        self._due: dict[str, Any] = {"opened": True}
        self._wanted = asyncio.Event()
        self._watch = self.session.param.watch(self._themed, "dark")
        self.run(self._keep_drawn())

    def close(self) -> None:
        self._closed = True
        self.session.param.unwatch(self._watch)
        super().close()

    def changes(self, units: Set[str], items: Set[int]) -> Any | None:
        self._news = self._news or bool(units)
        due, self._due = self._due, {}
        return due or None

    # -- what the browser says

    def hear(self, message: dict[str, Any]) -> None:
        match message:
            case {"zone": int() | float() as minutes} if abs(minutes) <= 24 * 60:
                self._shift = minutes * MINUTE
                self._wanted.set()
            case {"beat": _}:
                self._beat()
            case {"last": "all"}:
                self._all = True
                self._wanted.set()
            case {"last": int() | float() as span} if MINUTE <= span <= MONTH:
                now = _now()
                self._look_at(replace(self._place, start=now - span, end=now, follow=True))
            case {"from": int() | float() as start, "to": int() | float() as end} if 0 < start < end < FAR:
                self._look_at(replace(self._place, start=float(start), end=float(end), follow=False))
            case {"move": int() | float() as share} if abs(share) <= 1:
                self._look_at(_moved(self._place, share))
            case {"zoom": int() | float() as factor} if 0.1 <= factor <= 10:
                self._look_at(_zoomed(self._place, factor, _now()))
            case {"follow": bool() as follow}:
                now = _now()
                start = now - self._place.span if follow else self._place.start
                self._look_at(replace(self._place, follow=follow, start=start, end=start + self._place.span))
            case {"rows": "slot" | "phase" as rows}:
                self._look_at(replace(self._place, by_phase=rows == "phase"))
            case {"color": "phase" | "outcome" as colour}:
                self._look_at(replace(self._place, by_outcome=colour == "outcome"))
            case {"table": bool() as listing}:
                self._listing = listing
                self._wanted.set()
            case {"story": int() as seq}:
                self.run(self._tell_story(seq))

    def _look_at(self, place: Place) -> None:
        self._all = False
        self._place = place
        if self._picture is not None:
            self._move(_now())
        self._wanted.set()

    def _beat(self) -> None:
        """A second has passed in the browser: let time go on."""
        self._look_where_the_user_does()
        now = _now()
        place, drawn = self._place, self._drawn
        if place.follow and now - place.end > place.span / 2000:  # less can't be seen
            self._place = place = replace(place, start=now - place.span, end=now)
        grown = drawn is not None and drawn.binned and now - self._drawn_at > place.span / 200
        if self._news or grown or now - self._drawn_at > place.span * MARGIN / 2:
            self._wanted.set()
        if self._picture is not None:
            self._move(now)
            if self._confirmed is not place and self._rests is place and not place.follow:
                self._picture.confirm()
                self._confirmed = place
            self._rests = place

    def _look_where_the_user_does(self) -> None:
        """Take over what was panned or zoomed in the picture. Zooming goes on following; panning doesn't."""
        picture, place = self._picture, self._place
        if self._closed or picture is None or not picture.was_moved():
            return
        start, end = (edge - self._shift for edge in picture.range())
        zoomed = abs((end - start) / place.span - 1) > 1e-6
        now = _now()
        if place.follow and zoomed and start < now - MINUTE / 2:
            self._place = replace(place, start=now - (end - start), end=now)
        else:
            self._place = replace(place, start=start, end=end, follow=False)
        self._all = False
        self._move(now)
        self._wanted.set()

    def _themed(self, event: Any) -> None:
        if self._picture is not None:
            self._picture.style(event.new)

    # -- the picture

    async def _keep_drawn(self) -> None:
        attempts = attempts_of(self.session.orchestrator)
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            self._news = False
            place, drawn, due = await asyncio.to_thread(self._look, attempts, self._place, self._all)
            if self._all:
                self._place, self._all = place, False
            self.soon(partial(self._show, drawn, due))
            await asyncio.sleep(LOOK)

    def _look(self, attempts: Attempts, place: Place, everything: bool) -> tuple[Place, Columns, dict[str, Any]]:
        """Read the log up to now and prepare what is shown. Not on the session's thread."""
        now = _now()
        attempts.read(self.session.orchestrator.log)
        first = attempts.first()
        if everything and first is not None:
            start = min(first, now - MINUTE)
            place = replace(place, start=start - (now - start) * 0.02, end=now, follow=True)
        beside = place.span * MARGIN
        view = attempts.view(place.start - beside, place.end + beside, now, place.by_phase)
        visible = attempts.within(place.start, place.end, now)
        due = {
            "view": {
                "from": place.start,
                "to": place.end,
                "follow": place.follow,
                "rows": "phase" if place.by_phase else "slot",
                "color": "outcome" if place.by_outcome else "phase",
                "total": len(visible),
                "binned": bool(view.bins),
                "first": first,
                "cut": len(attempts) >= MOST,
            },
            "legend": legend(attempts.phases, place.by_outcome, bool(view.bins)),
        }
        if self._listing:
            due["table"] = self._list(attempts, visible[-LISTED:][::-1])
        return place, columns(attempts, view, now, place.span, self._shift, place.by_outcome), due

    def _list(self, attempts: Attempts, listed: np.ndarray) -> list[dict[str, Any]]:
        seqs = listed["seq"].tolist()
        found = self.session.orchestrator.rows(REASONS, [seqs, min(seqs)]) if seqs else []
        reasons = {row["seq"]: row["reason"] for row in found}
        return [
            {
                "seq": seq,
                "unit": attempts.units[row["unit"]],
                "phase": attempts.phases[row["phase"]],
                "attempt": int(row["attempt"]),
                "started": float(row["started"]),
                "ended": None if math.isinf(row["ended"]) else float(row["ended"]),
                "outcome": OUTCOMES[row["outcome"]],
                "reason": reasons.get(seq) or "",
            }
            for seq, row in zip(seqs, listed, strict=True)
        ]

    def _show(self, drawn: Columns, due: dict[str, Any]) -> None:
        if self._closed:
            return
        now, first, fresh = _now(), due["view"]["first"], self._picture is None
        if first is not None:
            self._look_where_the_user_does()
            self._picture = picture = self._picture or Picture(self.session.dark)
            picture.limit((now - first) * 1.1)
            self._move(now)
            picture.draw(drawn)
            if fresh:  # complete: what is placed can't be changed in the same breath
                picture.on_moved(partial(self.soon, self._look_where_the_user_does))
                self.place(pn.Column(picture.figure, sizing_mode="stretch_width", stylesheets=[BESIDE]))
        self._drawn, self._drawn_at = drawn, now
        self._due.update(due)
        self.touch()

    def _move(self, now: float) -> None:
        self._picture.move(self._place.start + self._shift, self._place.end + self._shift, now + self._shift)

    # -- the story of one attempt

    async def _tell_story(self, seq: int) -> None:
        story = await asyncio.to_thread(self._story, seq)
        if story is not None:
            self.tell({"story": story})

    def _story(self, seq: int) -> dict[str, Any] | None:
        rows = self.session.orchestrator.rows
        found = rows(UNIT_OF, [seq])
        if not found:
            return None
        unit = found[0]["unit"]
        moves = rows(STORY, [unit, seq, BEFORE, unit, seq])
        moves = [{**move, "occurred_at": milliseconds(move["occurred_at"])} for move in moves]
        return {"seq": seq, "unit": unit, "moves": moves}


def _now() -> float:
    return time.time() * 1000


def _asked(args: dict[str, str], now: float) -> Place:
    """The place that an address asks for; without one, the last hour."""
    place = Place(
        now - FIRST_SPAN, now, by_phase=args.get("rows") == "phase", by_outcome=args.get("color") == "outcome"
    )
    if "from" in args and "to" in args:
        start, end = _number(args["from"]), _number(args["to"])
        if start is not None and end is not None and 0 < start < end < FAR:
            return replace(place, start=start, end=end, follow=False)
    span = _number(args.get("last", ""))
    return replace(place, start=now - span) if span and MINUTE <= span <= MONTH else place


def _number(said: str) -> float | None:
    try:
        number = float(said)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _moved(place: Place, share: float) -> Place:
    by = place.span * share
    return replace(place, start=place.start + by, end=place.end + by, follow=False)


def _zoomed(place: Place, factor: float, now: float) -> Place:
    span = max(MINUTE, min(place.span * factor, max(MONTH, place.span)))
    if place.follow:
        return replace(place, start=now - span, end=now)
    middle = (place.start + place.end) / 2
    return replace(place, start=middle - span / 2, end=middle + span / 2)
