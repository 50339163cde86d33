"""What the headless demo prints: a live table on a terminal, plain lines elsewhere, and a summary at the end."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Sequence
from threading import Lock

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from orchestrator_app.demo.cast import PARTS
from orchestrator_app.demo.verdict import triggers_of
from orchestrator_app.model import Board, Unit
from orchestrator_app.orchestrator import Orchestrator
from orchestrator_app.store.records import Record, Transition

_COLOURS = {"RUNNING": "cyan", "NEEDS_ATTENTION": "yellow", "DONE": "green", "CANCELLED": "red", "BLOCKED": "magenta"}
#: What a trigger in a story means, said shortly.
_HAPPENED = {
    "ask": "asked",
    "answer": "answered",
    "continue": "answered",
    "clash": "conflict",
    "retry": "retried by the operator",
    "rework": "sent back by REVIEW",
    "fail": "failed",
    "lose": "lost",
}


class Display:
    """Shows what happens on the board while it is open (`with display:`)."""

    def __init__(self, board: Board, console: Console) -> None:
        self._board, self._console = board, console
        self._began = time.monotonic()
        self._recent: deque[str] = deque(maxlen=6)
        self._lock = Lock()
        self._live = Live(get_renderable=self._render, console=console, refresh_per_second=8, transient=True)

    def __enter__(self) -> Display:
        self._unwatch = self._board.watch(self._see)
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._unwatch()
        if self._console.is_terminal:
            self._live.stop()

    def _see(self, records: Sequence[Record]) -> None:
        for row in records:
            if type(row) is Transition:
                passed = time.monotonic() - self._began
                words = f"{passed:6.1f} s  {row.unit:16} {row.phase:10} {row.trigger:10} {row.to_status:16}"
                line = f"{words}{(row.reason or '').splitlines()[0] if row.reason else ''}".rstrip()
                if self._console.is_terminal:
                    with self._lock:
                        self._recent.append(line)
                else:
                    print(line, flush=True)

    def _render(self) -> Group:
        table = Table.grid(padding=(0, 2))
        for part in PARTS:
            unit = self._board.units.get(part.name)
            if unit is not None:
                table.add_row(part.name, Text(unit.status, _COLOURS.get(unit.status, "")), unit.phase, _progress(unit))
        counts = self._board.counts
        head = f"{counts['DONE']} of {len(PARTS)} done, {counts['RUNNING']} running"
        with self._lock:
            recent = Text("\n".join(self._recent), "dim", no_wrap=True, overflow="ellipsis")
        return Group(ProgressBar(len(PARTS), counts["DONE"], width=60), head, table, recent)


def _progress(unit: Unit) -> Text | ProgressBar:
    percent = (unit.progress or {}).get("percent")
    if unit.status == "RUNNING" and isinstance(percent, int | float):
        return ProgressBar(100, min(100.0, max(0.0, percent)), width=20)
    return Text(str((unit.progress or {}).get("step") or "") if unit.status == "RUNNING" else "", "dim")


def summary(orchestrator: Orchestrator, console: Console) -> None:
    """One row per unit: how it ended, in how many attempts, how long it took, and what happened to it."""
    sql = """SELECT unit, epoch(max(occurred_at)) - epoch(min(occurred_at)) AS seconds
             FROM transition GROUP BY unit"""
    seconds = {row["unit"]: row["seconds"] for row in orchestrator.rows(sql)}
    table = Table("unit", "status", "attempts", "seconds", "what happened", title="The demo's work units")
    for part in PARTS:
        unit = orchestrator.board.units.get(part.name)
        if unit is None:
            continue
        table.add_row(
            part.name,
            Text(unit.status, _COLOURS.get(unit.status, "")),
            str(unit.attempt),
            f"{seconds[part.name]:.1f}",
            escape(_happened(orchestrator, unit, triggers_of(orchestrator, part.name))),
        )
    console.print(table)


def _happened(orchestrator: Orchestrator, unit: Unit, seen: Counter[str]) -> str:
    words = [f"waited for {', '.join(unit.after)}"] if unit.after else []
    words += [
        word if seen[trigger] == 1 else f"{word} {seen[trigger]} times"
        for trigger, word in _HAPPENED.items()
        if seen[trigger]
    ]
    sql = "SELECT reason FROM transition WHERE unit = ? AND trigger = 'defer' ORDER BY seq"
    words += [row["reason"] for row in orchestrator.rows(sql, [unit.name])]
    return "; ".join(words) or "went straight through"
