"""`--watch`: the output of a reading command, live. It follows the log's feed, so a change is shown as it happens.

On a terminal one picture is redrawn in its place; in a pipe, and with --json, each change is a new block.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, NoReturn

from orchestrator_app.cli import text
from orchestrator_app.cli.place import Place
from orchestrator_app.cli.returning import Returning
from orchestrator_app.cli.source import Live

LONGEST = 50.0
"""Seconds of one long poll; the server answers as soon as anything was committed."""
TICK = 1.0
"""Seconds after which a picture is drawn again because its times have gone on."""
UNASKED = 5
"""How often it is drawn so; then the server is asked again, for what is no record: the process of an attempt."""
REST = 0.2
"""Seconds between two looks, however much happens; or as long as the look took, where there is much to see."""

Look = Callable[[Live, int | None], Any]


def watch(
    place: Place,
    look: Look,
    human: Callable[[Any], str],
    as_json: bool,
    *,
    empty: str = "",
    rows: Callable[[Any], Any] = lambda seen: seen,
) -> NoReturn:
    """Show what `look` sees, anew whenever it has changed, until Ctrl-C. Raises NoServerError if none runs at first.

    `look` gets the server and how many rows can be shown; `rows` makes of what it saw what a program is given, and
    `empty` stands for nothing to be seen."""
    if sys.stdout.isatty() and os.environ.get("TERM") != "dumb" and not as_json:
        with Picture() as picture:
            _redraw(place, look, lambda seen: human(seen) or empty, picture)
    _print_blocks(place, look, human, as_json, empty, rows)


def _print_blocks(
    place: Place, look: Look, human: Callable[[Any], str], as_json: bool, empty: str, rows: Callable[[Any], Any]
) -> NoReturn:
    source, shown = Live(Returning(place)), None
    seq = source.status()["seq"]  # before looking: what happens in between is then in the feed
    while True:
        began = time.monotonic()
        seen, before = look(source, None), shown
        rest = max(REST, time.monotonic() - began)
        if _lasting(seen) != _lasting(before):
            if as_json:
                print(text.as_json(rows(seen), indent=None), flush=True)
            else:
                print(("\n" if before is not None else "") + (human(seen) or empty), flush=True)
            shown = seen
        time.sleep(rest)
        while (head := source.changes(seq, wait=LONGEST, limit=1)["head"]) == seq:
            pass
        seq = head


def _lasting(seen: Any) -> Any:
    """It without the place in the log, which moves with every record."""
    return {key: value for key, value in seen.items() if key != "seq"} if isinstance(seen, dict) else seen


def _redraw(place: Place, look: Look, human: Callable[[Any], str], picture: Picture) -> NoReturn:
    source = Live(Returning(place, tell=picture.note))
    while True:
        seq = source.status()["seq"]
        seen = look(source, picture.height)
        picture.draw(lambda seen=seen: human(seen))
        time.sleep(REST)
        for _ in range(UNASKED):
            if source.changes(seq, wait=TICK, limit=1)["head"] != seq:
                break
            picture.draw()


class Picture:
    """The terminal's other screen, with one text on it; the last one is left on the usual screen."""

    def __init__(self) -> None:
        self._made: Callable[[], str] = str
        self._note = ""

    @property
    def height(self) -> int:
        """Lines that it has room for."""
        return shutil.get_terminal_size().lines - 2

    def __enter__(self) -> Picture:
        self._ended = signal.signal(signal.SIGTERM, _end)
        _write("\x1b[?1049h\x1b[?25l\x1b[?7l")  # the other screen, no cursor, no wrapped lines
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        _write("\x1b[?7h\x1b[?25h\x1b[?1049l")
        signal.signal(signal.SIGTERM, self._ended)
        if self._made is not str:
            print("\n".join(self._lines()))

    def note(self, line: str) -> None:
        """A line above the text, until the next: that the server has gone, and that it is back."""
        self._note = line
        self.draw()

    def draw(self, made: Callable[[], str] | None = None) -> None:
        """Draw a text anew; or the same once more, as it is by now."""
        if made is not None:
            self._made, self._note = made, ""
        now = datetime.now(UTC).strftime("%H:%M:%SZ")
        note = text.paint("warning", text.one_line(self._note)) if self._note else "Ctrl-C ends this"
        _write("\x1b[H" + "\x1b[K\r\n".join([f"{now}  {note}", "", *self._lines()]) + "\x1b[K\x1b[J")

    def _lines(self) -> list[str]:
        lines = self._made().splitlines()
        if len(lines) > self.height:
            lines = [*lines[: self.height - 1], "… and more than fits here: ask for fewer, or make it larger"]
        return lines


def _write(codes: str) -> None:
    sys.stdout.write(codes)
    sys.stdout.flush()


def _end(number: int, _: object) -> NoReturn:
    raise SystemExit(128 + number)
