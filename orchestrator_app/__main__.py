"""`python -m orchestrator_app` is `orch`."""

from __future__ import annotations

import sys

from orchestrator_app.cli import main

sys.exit(main())
