"""The picture of the timeline: a Bokeh figure, and what stands in it.

What a bar is about is told by the page's own hint and opened by the page itself: the figure only says, by an event in
the browser, which bar the pointer is on. So nothing that units and agents say is ever part of the figure.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from bokeh.models import (
    ColumnDataSource,
    CustomJS,
    DatetimeTickFormatter,
    FixedTicker,
    GlyphRenderer,
    HoverTool,
    PanTool,
    PlainText,
    Range1d,
    Span,
    TapTool,
    WheelZoomTool,
)
from bokeh.plotting import figure

from orchestrator_app.dashboard.attempts import FAILED, OUTCOMES, Attempts, Row, View

MINUTE = 60_000.0
HAIR = 0.01
MONTH = 31 * 24 * 60 * MINUTE
#: How much of the visible time is drawn beside it on either side, so that there is something to pan to.
MARGIN = 0.5
#: The least part of the visible time that a bar takes, so that it can be seen and pointed at.
LEAST = 0.002

# Okabe and Ito's colours, told apart with any kind of colour blindness; in the order in which phases get them.
BLUE, ORANGE, GREEN, PURPLE, SKY, RED, YELLOW, GREY = (
    "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#8a8f98",
)  # fmt: skip
PHASES = (BLUE, ORANGE, GREEN, PURPLE, SKY, YELLOW, RED, GREY)
#: By outcome, in the order of OUTCOMES.
ENDS = (SKY, GREEN, YELLOW, ORANGE, GREY, GREY, RED, PURPLE)
#: So that colour is not the only sign.
HATCHES = (" ", " ", " ", ".", " ", "-", "/", "x")
FAULTY = np.arange(len(OUTCOMES)) >= FAILED


@dataclass(frozen=True)
class Theme:
    ink: str
    soft: str
    line: str
    edge: str
    hatch: str


LIGHT = Theme("#1b2330", "#5b6676", "#dfe3ea", "#3d4756", "#14181f")
DARK = Theme("#e8ecf2", "#a3afc0", "#323b49", "#c5cedb", "#0b0e13")


@dataclass(frozen=True)
class Columns:
    """What a view puts into the figure; made off the session's thread."""

    rows: list[Row]
    height: int
    bars: dict[str, Any]
    bins: dict[str, Any]
    #: Where among the bars those are that still run.
    running: list[int]

    @property
    def binned(self) -> bool:
        return bool(len(self.bins["left"]))


def columns(attempts: Attempts, view: View, now: float, span: float, shift: float, by_outcome: bool) -> Columns:
    """A view's bars and bins, with their times moved by `shift` to what the browser's clocks show."""
    seen = view.attempts
    left = seen["started"] + shift
    right = np.minimum(seen["ended"], now) + shift
    colour = np.array(ENDS)[seen["outcome"]] if by_outcome else np.array(PHASES)[seen["phase"] % len(PHASES)]
    bars = {
        "left": left,
        "right": np.maximum(right, left + LEAST * span),
        "lane": view.lanes.astype(float),
        "seq": seen["seq"].astype(float),
        "unit": [attempts.units[number] for number in seen["unit"]],
        "colour": colour.tolist(),
        "hatch": np.array(HATCHES)[seen["outcome"]].tolist(),
        "edge": np.where(FAULTY[seen["outcome"]] | (seen["outcome"] == 0), 1.6, 0.6),
    }
    bins = {
        "left": np.array([one.left + shift for one in view.bins]),
        "right": np.array([one.right + shift for one in view.bins]),
        "lane": np.array([float(one.lane) for one in view.bins]),
        "share": np.array([one.share for one in view.bins]),
        "alpha": np.array([0.15 + 0.8 * one.share for one in view.bins]),
        "count": np.array([float(one.count) for one in view.bins]),
        "failed": np.array([float(one.failed) for one in view.bins]),
        "hatch": ["/" if one.failed else " " for one in view.bins],
        "faults": np.array([min(1.0, 0.1 + 2 * one.failed / one.count) for one in view.bins]),
    }
    return Columns(view.rows, view.height, bars, bins, np.flatnonzero(np.isinf(seen["ended"])).tolist())


def legend(phases: list[str], by_outcome: bool, binned: bool) -> list[dict[str, str]]:
    """What the colours and patterns mean; a pattern means the same whatever the colours do."""
    if binned:
        return [
            {"name": "busy", "colour": BLUE, "hatch": ""},
            {"name": "some failed or were lost", "colour": "", "hatch": "/"},
        ]
    ends = [
        {"name": name, "colour": colour if by_outcome else "", "hatch": hatch.strip()}
        for name, colour, hatch in zip(OUTCOMES, ENDS, HATCHES, strict=True)
        if by_outcome or hatch.strip()
    ]
    if by_outcome:
        return ends
    names = [{"name": name, "colour": PHASES[at % len(PHASES)], "hatch": ""} for at, name in enumerate(phases)]
    return names + ends


# Tells the page's own module which bar the pointer is on, or which was clicked; see assets/timeline.js.
_SAY = """
const tell = (what, of, source, at) => {
  const names = Object.keys(source.data)
  const bar = at === undefined ? null : Object.fromEntries(names.map((name) => [name, source.data[name][at]]))
  window.dispatchEvent(new CustomEvent("orch-timeline", {detail: {what, of, bar}}))
}
"""
_HOVER = _SAY + 'tell("hover", kind, cb_data.renderer.data_source, cb_data.index.indices.at(-1))'
_TAP = (
    _SAY
    + """
const source = cb_data.source
tell("tap", source === bars ? "bar" : "bin", source, source.inspected.indices.at(-1))
"""
)
_LEAVE = 'window.dispatchEvent(new CustomEvent("orch-timeline", {detail: {what: "leave"}}))'


class Picture:
    """The figure of one page. Everything but `columns` is for the session's thread."""

    def __init__(self, dark: bool) -> None:
        empty: list[Any] = []
        names = ("left", "right", "lane", "seq", "unit", "colour", "hatch", "edge")
        self.bars = ColumnDataSource({name: empty for name in names})
        names = ("left", "right", "lane", "share", "alpha", "count", "failed", "hatch", "faults")
        self.bins = ColumnDataSource({name: empty for name in names})
        self._running: list[int] = []
        self._put = (0.0, 1.0)
        self._rows: list[Row] = []
        pan, wheel = PanTool(dimensions="width"), WheelZoomTool(dimensions="width")
        self.figure = figure(
            x_axis_type="datetime",
            x_range=Range1d(0, 1, min_interval=MINUTE, max_interval=MONTH),
            y_range=Range1d(0.5, -0.5),
            tools=[pan, wheel],
            active_drag=pan,
            active_scroll=wheel,
            toolbar_location=None,
            sizing_mode="stretch_width",
            height=220,
            min_border_right=16,
            output_backend="canvas",
        )
        shaded = self.figure.hbar(
            y="lane", left="left", right="right", height=0.82, source=self.bins, fill_alpha="alpha", line_alpha=0,
            hatch_pattern={"field": "hatch"}, hatch_alpha="faults", hatch_scale=7, hatch_weight=1,
        )  # fmt: skip
        single = self.figure.hbar(
            y="lane", left="left", right="right", height=0.82, source=self.bars, fill_color="colour",
            line_width="edge", hatch_pattern={"field": "hatch"}, hatch_scale=7, hatch_weight=1.2,
        )  # fmt: skip
        self._glyphs: dict[str, GlyphRenderer] = {"bar": single, "bin": shaded}
        for kind, renderer in self._glyphs.items():
            hover = CustomJS(args={"kind": kind}, code=_HOVER)
            self.figure.add_tools(HoverTool(renderers=[renderer], tooltips=None, callback=hover))
        tap = CustomJS(args={"bars": self.bars}, code=_TAP)
        self.figure.add_tools(TapTool(renderers=[single, shaded], behavior="inspect", callback=tap))
        self.figure.js_on_event("mouseleave", CustomJS(code=_LEAVE))
        self._now = Span(dimension="height", line_dash=[4, 4], line_width=1)
        self.figure.add_layout(self._now)
        self._lay_axes()
        self.style(dark)

    def _lay_axes(self) -> None:
        plot, day = self.figure, "%d %b"
        kinds = ("microseconds", "milliseconds", "seconds", "minsec", "minutes", "hourmin", "hours")
        plot.xaxis.formatter = DatetimeTickFormatter(
            milliseconds="%H:%M:%S.%3N", seconds="%H:%M:%S", minsec="%H:%M:%S", minutes="%H:%M", hourmin="%H:%M",
            hours="%H:%M", days=day, months="%b %Y", years="%Y", strip_leading_zeros=False,
            context=DatetimeTickFormatter(**dict.fromkeys(kinds, day), days="", months="", years=""),
            context_which="start",
        )  # fmt: skip
        plot.yaxis.ticker = FixedTicker(ticks=[])
        plot.ygrid.ticker = FixedTicker(ticks=[])
        plot.yaxis.major_tick_line_color = plot.yaxis.axis_line_color = plot.outline_line_color = None
        plot.axis.major_label_text_font_size = "12px"
        plot.xaxis.minor_tick_line_color = None

    def style(self, dark: bool) -> None:
        theme, plot = DARK if dark else LIGHT, self.figure
        plot.background_fill_color = plot.border_fill_color = None
        plot.axis.major_label_text_color = theme.soft
        plot.grid.grid_line_color = theme.line
        plot.xaxis.axis_line_color = plot.xaxis.major_tick_line_color = theme.line
        self._now.line_color = theme.soft
        bar, shade = self._glyphs["bar"].glyph, self._glyphs["bin"].glyph
        bar.line_color, bar.hatch_color = theme.edge, theme.hatch
        shade.fill_color, shade.hatch_color = BLUE, theme.ink

    def limit(self, span: float) -> None:
        """Let the user zoom out to `span`, and to a month in any case."""
        self.figure.x_range.max_interval = max(MONTH, span)

    def range(self) -> tuple[float, float]:
        time = self.figure.x_range
        return time.start, time.end

    def was_moved(self) -> bool:
        """Whether the user has panned or zoomed since the last `move`."""
        start, end = self.range()
        return abs(start - self._put[0]) > 1 or abs(end - self._put[1]) > 1

    def on_moved(self, said: Callable[[], None]) -> None:
        """Have `said` called after each change of the time shown. Both of its edges have not always changed then."""
        for edge in ("start", "end"):
            self.figure.x_range.on_change(edge, lambda attr, old, new: said())

    def move(self, start: float, end: float, now: float) -> None:
        """Show this time; what runs lasts until `now`."""
        self._put = (start, end)
        if self.range() != self._put:
            self.figure.x_range.update(start=start, end=end)
        self._now.location = now
        if self._running:
            self.bars.patch({"right": [(at, max(now, self.bars.data["left"][at])) for at in self._running]})

    def confirm(self) -> None:
        """Say again where the picture is. What the user did while a move was on its way is overruled in the browser
        and yet known here; a hair's breadth makes it a change, without which nothing would be sent."""
        start, end = self.range()
        self.figure.x_range.update(start=start + HAIR, end=end + HAIR)

    def draw(self, drawn: Columns) -> None:
        """Put other bars in, leaving what the user looks at where it is."""
        self._running = drawn.running
        self.bars.data, self.bins.data = drawn.bars, drawn.bins
        if drawn.rows == self._rows:
            return
        self._rows = drawn.rows
        plot, rows = self.figure, drawn.rows
        middles = {row.first + (row.lanes - 1) / 2: row.label for row in rows[:: math.ceil(len(rows) / 24) or 1]}
        plot.yaxis.ticker.ticks = list(middles)
        # Plain, because a text between dollar signs would be set as a formula.
        plot.yaxis.major_label_overrides = {at: PlainText(text=_short(label)) for at, label in middles.items()}
        plot.ygrid.ticker.ticks = [row.first - 0.5 for row in rows[1:]]
        plot.y_range.start = drawn.height - 0.5
        plot.height = 56 + min(480, max(110, 28 * drawn.height))


def _short(label: str, most: int = 14) -> str:
    return label if len(label) <= most else label[: most - 1] + "…"
