"""The command line, `orch`.

Importing this loads nothing but itself: `orch emit`, which agents may call often, needs the standard library only, and
every other command loads what it needs when it runs.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `orch` with these arguments (by default the process's own) and return its exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if "_ORCH_COMPLETE" in os.environ:
            from orchestrator_app.cli import completing

            return completing.complete()
        if arguments[:1] == ["emit"]:
            from orchestrator_app.cli import emit

            return emit.main(arguments[1:])
        from orchestrator_app.cli import program

        return program.run(arguments)
    except KeyboardInterrupt:  # while it was still loading
        return 130
