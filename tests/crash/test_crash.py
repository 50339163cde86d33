"""A short campaign; the long one is `python -m tests.crash --kills 100`."""

from __future__ import annotations

from pathlib import Path

from .report import run, told

KILLS, SEED = 12, 20


def test_f16_whatever_kills_the_server_nothing_acknowledged_is_lost_and_nothing_is_done_twice(tmp_path: Path) -> None:
    result = run(tmp_path / "campaign", SEED, KILLS)

    print(told(result))
    assert len(result.campaign.killed_at) == KILLS
    assert result.faults == []
