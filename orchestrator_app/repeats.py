"""A request that is sent again, after a lost reply or by a second click, is done once and answered the same.

Whoever asks may give a request a key of their own. The cause of all that the request leads to is then made from the key
and from what was asked, so the log itself says what a key has done, also after a restart and to every reader. A refused
request leaves no row: sent again, it is looked at anew.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator_app.errors import UsageError
from orchestrator_app.states import Status
from orchestrator_app.store.records import Record, Transition

#: So many of the newest requests with a key are remembered: an older one is taken for a new one.
REMEMBERED_KEYS = 10_000

#: What the cause of a request with a key begins with; no other cause does.
KEYED = "key-"
_KEY = re.compile(r"[!-~]{1,200}")


def cause_of(key: str, actor: str, asked: Mapping[str, Any]) -> str:
    """The cause of a request with a key: the same for the same actor, key and wish."""
    if not isinstance(key, str) or not _KEY.fullmatch(key):
        raise UsageError("the key of a request must be 1 to 200 printable characters without spaces")
    wish = json.dumps(asked, sort_keys=True, default=repr)
    return f"{KEYED}{_digest(f'{actor} {key}')}-{_digest(wish)}"


def _digest(words: str) -> str:
    return hashlib.sha256(words.encode("utf-8", "surrogatepass")).hexdigest()[:16]


@dataclass(slots=True)
class Done:
    """What a request with a key has led to: where it left the first unit that it moved, and its last row."""

    cause: str
    seq: int
    unit: str | None = None
    status: Status | None = None
    version: int = 0


class Repeats:
    """The newest requests with a key, and what they have led to. Made from the log's rows alone."""

    def __init__(self) -> None:
        self._done: OrderedDict[str, Done] = OrderedDict()

    def fold(self, record: Record) -> None:
        cause = getattr(record, "cause", "")
        if not cause.startswith(KEYED):
            return
        key = _key_of(cause)
        done = self._done.get(key)
        if done is None:
            done = self._done[key] = Done(cause, record.seq)
            if len(self._done) > REMEMBERED_KEYS:
                self._done.popitem(last=False)
        done.seq = record.seq
        if type(record) is Transition and done.unit in (None, record.unit):
            done.unit, done.status, done.version = record.unit, record.to_status, record.version

    def find(self, cause: str) -> Done | None:
        """What was done under the same key as that of this cause, be the wish the same or not."""
        return self._done.get(_key_of(cause)) if cause.startswith(KEYED) else None


def _key_of(cause: str) -> str:
    return cause.rpartition("-")[0]
