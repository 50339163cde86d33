"""`orch` with one crash point armed: `server.py PLAN [ORCH ARGUMENT]...`. The product's code knows nothing of it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[1])  # not this folder: its modules are `crash.*`
    from crash.points import arm

    plan = json.loads(sys.argv.pop(1))
    if plan:
        arm(plan)
    from orchestrator_app.cli import main

    sys.exit(main(sys.argv[1:]))
