"""One campaign from its beginning to the checker's verdict, and its figures in words."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import check_agents, check_git, check_log
from .campaign import UNITS_PER_KILL, Campaign
from .evidence import Evidence
from .operators import Crowd
from .stage import Stage


@dataclass
class Result:
    """`found` is None where there was nothing to check."""

    seed: int
    campaign: Campaign
    found: Evidence
    faults: list[str]
    seconds: float


def run(folder: Path, seed: int, kills: int, say: Any = None, only: str = "") -> Result:
    began = time.monotonic()
    stage = Stage(folder, seed)
    campaign = Campaign(stage, seed, kills, only=only)
    crowd = Crowd(stage, seed, most=6 + round(kills * UNITS_PER_KILL))
    try:
        campaign.run(crowd, say)
        shown = campaign.settle(crowd)
    finally:
        crowd.over.set()
        stage.clear()
    if not (stage.state / "orchestrator.duckdb").exists():
        raise AssertionError(f"no server has ever made a log: {campaign.faults}")
    found = Evidence(stage, shown, campaign.orphaned, campaign.served)
    faults = [*campaign.faults]
    for check in (check_log, check_agents, check_git):
        faults += check.faults(found)
    return Result(seed, campaign, found, faults, time.monotonic() - began)


def told(result: Result) -> str:
    """The figures, a line each, then the faults."""
    campaign, found = result.campaign, result.found
    results = Counter(request["result"] for request in found.requests)
    attempts = sum(row["trigger"] == "start" for row in found.rows["transition"])
    lost = sum(row["trigger"] == "lose" for row in found.rows["transition"])
    ended = Counter(found.status(unit) for unit in found.stories)
    kinds = Counter(point.partition(":")[0] for point in campaign.by_point.elements())
    lines = [
        f"seed {result.seed}: the server was killed {len(campaign.killed_at)} times in {result.seconds:.0f} s,"
        f" at {len(campaign.by_point)} different points",
        "kills by effect: " + ", ".join(f"{name} {number}" for name, number in sorted(kinds.items())),
        "killed besides: " + (", ".join(f"{name} {number}" for name, number in campaign.company.items()) or "nothing"),
        f"requests: {results['ok']} acknowledged, {results['refused']} refused, {results['unknown']} unknown,"
        f" {sum(request['repeated'] for request in found.requests)} of them repeated",
        f"attempts: {attempts}, of which {campaign.adopted} were alive when the server died and were taken back,"
        f" {lost} lost and run again",
        f"units: {len(found.stories)}, " + ", ".join(f"{number} {name}" for name, number in sorted(ended.items())),
        f"rows in the log: {sum(map(len, found.rows.values()))}; a follower was shown {len(found.followed)}",
        f"faults: {len(result.faults)}",
        *(f"  - {fault}" for fault in result.faults),
    ]
    return "\n".join(lines)
