"""Keeping the write-ahead log short: copy the database, then put the WAL into it by a checkpoint.

A checkpoint that is killed can leave a database that doesn't open, so it is made only when a durable copy of the file
stands beside it. The copy is made in a thread: between checkpoints the file itself never changes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from orchestrator_app.store.files import in_one_line

#: A checkpoint is due when the WAL is longer than this: one of it takes some 30 ms, which nothing may exceed by much.
CHECKPOINT_BYTES = 2 << 20
#: Seconds until the next try after a copy or a checkpoint that failed.
RETRY = 10.0


class Upkeep:
    """When to copy and when to checkpoint. All but `held` is for the thread that writes."""

    def __init__(self, copy: Callable[[], None], checkpoint: Callable[[], None], length: Callable[[], int]) -> None:
        self._copy, self._checkpoint, self._length = copy, checkpoint, length
        self._thread: threading.Thread | None = None
        self._copied = False
        self._retry_at = 0.0
        self._hold = threading.Lock()
        self._holders = 0
        #: Why the WAL grows on and on; None when it doesn't.
        self.fault: str | None = None

    def tend(self, *, needed: bool = False) -> None:
        """Begin a copy when a checkpoint is due (or `needed`), or checkpoint when the copy is there. Never waits."""
        if self._thread is not None:
            if not self._thread.is_alive():
                self._thread = None
                if self._copied:
                    self._put_in()
        elif (needed or self._length() > CHECKPOINT_BYTES) and time.monotonic() >= self._retry_at:
            self._thread = threading.Thread(target=self._try_copy, name="orch-log-copy", daemon=True)
            self._thread.start()

    def put_in_now(self) -> None:
        """Copy and checkpoint at once, if there is anything to put in."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._length():
            self._try_copy()
            if self._copied:
                self._put_in()

    @contextmanager
    def held(self) -> Iterator[None]:
        """No checkpoint meanwhile: the database file stays as it is. Any thread."""
        with self._hold:
            self._holders += 1
        try:
            yield
        finally:
            with self._hold:
                self._holders -= 1

    def _try_copy(self) -> None:
        self._copied = False
        try:
            self._copy()
            self._copied = True
        except OSError as error:
            self._note(f"the log can't be copied, which comes before each checkpoint ({in_one_line(error)})")

    def _put_in(self) -> None:
        with self._hold:
            if self._holders:
                return
            try:
                self._checkpoint()
                self.fault = None
            except Exception as error:
                self._note(f"the log's checkpoint failed ({in_one_line(error)})")

    def _note(self, what: str) -> None:
        self._retry_at = time.monotonic() + RETRY
        size = self._length() / 1e6
        self.fault = f"{what}: its write-ahead log has {size:.0f} MB and grows until there is room; nothing is lost"
