"""Whether there is room on the disk to start anything."""

from __future__ import annotations

import shutil
from pathlib import Path

MEGABYTE = 1 << 20

#: Seconds between two looks, at least.
PAUSE = 1.0

#: Once there was too little, there must be this many times as much, so that it does not go to and fro.
AGAIN = 1.25


class Room:
    """The free space where `path` lies; under `low` bytes there is none to start anything (0: there always is)."""

    def __init__(self, path: Path, low: int) -> None:
        self._path = path
        self._low = low
        self._look_at = float("-inf")
        #: What is wrong, in one line; None if there is room.
        self.lack: str | None = None

    def look(self, now: float) -> str | None:
        """`lack`, as of now or a moment ago."""
        if self._low and now >= self._look_at:
            self._look_at = now + PAUSE
            free = shutil.disk_usage(self._path).free
            if free >= self._low * (AGAIN if self.lack else 1):
                self.lack = None
            else:
                self.lack = (
                    f"low disk space: {free // MEGABYTE} MB are free where {self._path} lies; nothing new is started"
                    f" until there are {self._low * AGAIN / MEGABYTE:.0f} MB"
                )
        return self.lack
