"""What is left of pages that were opened and closed while much happened."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.slow
@pytest.mark.usefixtures("browser")  # skips, or fails, where there is none
def test_closed_pages_leave_no_watcher_and_no_document_behind():
    command = [sys.executable, BENCHMARKS / "soak.py", "--minutes", "0.2", "--tabs", "3"]

    done = subprocess.run(command, cwd=BENCHMARKS, capture_output=True, text=True, timeout=240, env=dict(os.environ))

    assert done.returncode == 0, done.stdout + done.stderr
