"""What every test may use: waiting for a condition, and a scrubbed environment."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import pytest

for name in [name for name in os.environ if name.startswith(("ORCH_", "GIT_"))]:
    if name != "ORCH_REQUIRE_BROWSER":  # for tests/browser
        del os.environ[name]


def wait_until(condition: Callable[[], object], timeout: float = 20.0, what: str = "") -> object:
    """Return the first true value of `condition()`; fail after `timeout` seconds (a limit, never an expectation)."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            pytest.fail(f"waited {timeout:g} s in vain for {what or condition}")
        time.sleep(0.01)


@pytest.fixture(name="wait_until", scope="session")
def _wait_until() -> Callable[..., object]:
    return wait_until
