"""What one client of `/ws` wants to hear, and how far it has come. No socket and no loop: bytes come out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from typing import Any, NamedTuple

from orchestrator_app.api.messages import AGENT, TOPICS, frame, frames_of, tables_of
from orchestrator_app.api.tail import Frames
from orchestrator_app.errors import UsageError
from orchestrator_app.fields import check_name

BATCH = 64 * 1024
"""Bytes that are given to a client at once, and not yet taken by it, at most; a single record may be larger."""
STRIDE = 2_000
"""Records looked at before the loop does something else, however few of them are wanted."""
PARAMETERS = ("since", "topics", "unit", "monitor")


class Wanted(NamedTuple):
    """What a client asked for in its address."""

    topics: frozenset[str] = frozenset(TOPICS)
    unit: str | None = None
    since: int | None = None


def wanted_of(query: Mapping[str, Sequence[str]]) -> Wanted:
    """From the parameters of an address. Raises UsageError, which says what there is."""
    for name, values in query.items():
        if name not in PARAMETERS:
            raise UsageError(f'unknown parameter "{name[:60]}"; there are {", ".join(PARAMETERS)}')
        if len(values) > 1:
            raise UsageError(f'parameter "{name}" is given {len(values)} times; give it once')
    said = {name: values[0] for name, values in query.items() if values}
    topics = frozenset(filter(None, said["topics"].split(","))) if "topics" in said else frozenset(TOPICS)
    for topic in sorted(topics.difference(TOPICS)):
        raise UsageError(f'no topic "{topic[:40]}"; there are {", ".join(TOPICS)}')
    if "monitor" in said:
        if said["monitor"] != "agents":
            raise UsageError(f'monitor can only be "agents", not "{said["monitor"][:40]}"')
        topics |= {AGENT}
    if not topics:
        raise UsageError(f"topics is empty: name some of {', '.join(TOPICS)}, or leave it out for all")
    since = said.get("since")
    if since is not None and not re.fullmatch(r"[0-9]{1,18}", since):
        raise UsageError(f'since must be the seq of a message, a number, not "{since[:40]}"')
    unit = check_name(said["unit"]) if "unit" in said else None
    return Wanted(topics, unit, None if since is None else int(since))


class Must(Enum):
    """What has to happen before there can be more."""

    WAIT = "nothing is new"
    READ = "what is missing has to be read from the log"


class Place:
    """Where a client is: everything up to `cursor` was given to it.

    Who begins with `since` may be any number of records behind, which are read from the log until the newest ones are
    reached. From then on a client that falls behind by more than those is told of a gap, and goes on from the head.
    """

    def __init__(self, wanted: Wanted, cursor: int) -> None:
        self.wanted = wanted
        self.cursor = cursor
        self._live = wanted.since is None
        self.tables = tables_of(wanted.topics)

    def next(self, frames: Frames) -> bytes | Must:
        """What to give to the client now; the cursor is behind it already."""
        if self.cursor >= frames.head:
            self._live = True
            return Must.WAIT
        if not frames.has_after(self.cursor):
            if not self._live:
                return Must.READ
            gap = {"type": "gap", "from": self.cursor + 1, "to": frames.head}
            self.cursor = frames.head
            return frame(gap)
        self._live = True
        batch: list[bytes] = []
        size, last = 0, min(frames.head, self.cursor + STRIDE)
        while self.cursor < last and size < BATCH:
            self.cursor += 1
            piece = frames.piece(self.cursor)
            if self.wanted.unit is None or piece.unit == self.wanted.unit:
                chosen = [each for topic, each in piece.frames if topic in self.wanted.topics]
                batch += chosen
                size += sum(map(len, chosen))
        return b"".join(batch)

    def batches(self, rows: Iterable[Mapping[str, Any]]) -> list[bytes]:
        """The wanted messages of rows of the log, in pieces of about `BATCH` bytes. From any thread."""
        batches = [bytearray()]
        for row in rows:
            for topic, each in frames_of(row):
                if topic in self.wanted.topics:
                    batches[-1] += each
            if len(batches[-1]) >= BATCH:
                batches.append(bytearray())
        return [bytes(batch) for batch in batches if batch]
