"""`python -m tests.crash --kills 100 --seed 7`: a campaign, and what the checker says of it. Exit code 1 at a fault."""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

from .campaign import Campaign
from .report import run, told


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description=__doc__)
    parser.add_argument("--kills", type=int, default=100, help="how often the server is killed (100)")
    parser.add_argument("--seed", type=int, default=None, help="repeats a campaign's choices, though not its timing")
    parser.add_argument("--folder", type=Path, default=None, help="where; it is kept. Without: a temporary one")
    parser.add_argument("--only", default="", help="kill only at points whose name holds this, as in move-base")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(10**6)
    folder = (options.folder or Path(tempfile.mkdtemp(prefix="orch-crash-"))).absolute()
    print(f"seed {seed}, {options.kills} kills, in {folder}", flush=True)
    began = time.monotonic()

    def say(campaign: Campaign) -> None:
        number = len(campaign.killed_at)
        if number % 10 == 0:
            print(f"{number} kills, {time.monotonic() - began:.0f} s", flush=True)

    result = run(folder, seed, options.kills, say, options.only)
    print(told(result))
    if result.faults:
        print(f"kept: {folder}")
        return 1
    if options.folder is None:
        shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
