"""Bars of the timeline never lie on one another, and shaded bins say what the bars would."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator_app.dashboard import attempts as timeline
from orchestrator_app.dashboard.attempts import FAILED, OUTCOMES, Attempts, binned
from orchestrator_app.dashboard.timeline import LEAST, columns, legend

ENDS = ("advance", "finish", "rework", "ask", "defer", "pause", "cancel", "fail", "stall", "lose")

#: A story of starts and ends: which unit moves next, in which phase, how it ends, and how much later.
STORIES = st.lists(
    st.tuples(st.integers(0, 7), st.sampled_from("PIR"), st.sampled_from(ENDS), st.integers(1, 50)), max_size=120
)


def told(story) -> tuple[Attempts, int, dict[str, int], float]:
    """The attempts of a story, the most that ran at once (in all, and by phase), and when it ends."""
    attempts, running, now = Attempts(), {}, 0.0
    most, by_phase = 0, {}
    for seq, (unit, phase, end, later) in enumerate(story, 1):
        now += later
        if unit in running:
            attempts.add(seq, f"u{unit}", running.pop(unit), seq, end, False, now)
        else:
            running[unit] = phase
            attempts.add(seq, f"u{unit}", phase, seq, "start", True, now)
        most = max(most, len(running))
        for one in set(running.values()):
            by_phase[one] = max(by_phase.get(one, 0), list(running.values()).count(one))
    return attempts, most, by_phase, now + 1


def overlapping(view, now: float) -> list:
    order = np.lexsort((view.attempts["started"], view.lanes))
    lanes, rows = view.lanes[order], view.attempts[order]
    ended = np.minimum(rows["ended"], now)
    return [at for at in range(1, len(rows)) if lanes[at] == lanes[at - 1] and rows["started"][at] < ended[at - 1]]


@given(STORIES)
def test_bars_never_overlap_and_there_are_only_as_many_lanes_as_attempts_that_ran_at_once(story):
    attempts, most, by_phase, now = told(story)

    by_slot, phases = attempts.view(0, now, now, False), attempts.view(0, now, now, True)

    assert not overlapping(by_slot, now) and not overlapping(phases, now)
    assert len(by_slot.rows) == most
    assert {row.label: row.lanes for row in phases.rows} == by_phase
    assert phases.height == max(1, sum(by_phase.values()))


@given(STORIES)
def test_a_bar_keeps_its_lane_whatever_part_of_the_time_is_looked_at(story):
    attempts, _, _, now = told(story)
    whole = attempts.view(0, now, now, False)

    part = attempts.view(now / 3, now / 2, now, False)

    lanes = dict(zip(whole.attempts["seq"].tolist(), whole.lanes.tolist(), strict=True))
    assert all(lanes[seq] == lane for seq, lane in zip(part.attempts["seq"].tolist(), part.lanes, strict=True))
    inside = [row["seq"] for row in whole.attempts if row["started"] < now / 2 and min(row["ended"], now) >= now / 3]
    assert part.attempts["seq"].tolist() == inside


@given(STORIES, st.integers(0, 40), st.integers(1, 60))
def test_a_bin_says_how_busy_its_lane_was_and_how_many_attempts_touch_it(story, begin, length):
    attempts, _, _, now = told(story)
    start, end = now * begin / 100, now * (begin + length) / 100
    seen = attempts.within(start, end, now)
    ended = np.minimum(seen["ended"], now)

    bins = binned(seen["started"], ended, seen["slot"], seen["outcome"] >= FAILED, start, end)

    for one in bins:
        own = seen["slot"] == one.lane
        inside = np.minimum(ended[own], one.right) - np.maximum(seen["started"][own], one.left)
        busy = float(np.maximum(inside, 0).sum() / (one.right - one.left))
        assert one.share == pytest.approx(busy, abs=1e-6)
        assert (inside > 1e-6).sum() <= one.count <= (inside > -1e-6).sum()
        assert 0 <= one.failed <= one.count
    total = float(np.maximum(np.minimum(ended, end) - np.maximum(seen["started"], start), 0).sum())
    assert sum(one.share * (one.right - one.left) for one in bins) == pytest.approx(total, abs=1e-3)


def test_too_many_bars_are_shaded_bins_of_a_bounded_number():
    attempts = Attempts()
    for number in range(4_000):
        attempts.add(2 * number + 1, f"u{number}", "RUN", 1, "start", True, number * 1000.0)
        attempts.add(
            2 * number + 2, f"u{number}", "RUN", 1, "fail" if number == 7 else "finish", False, number * 1000.0 + 500
        )

    view = attempts.view(0, 4e6, 4e6, False)
    near = attempts.view(0, 60_000, 4e6, False)

    assert not len(view.attempts) and 0 < len(view.bins) <= timeline.MOST_BINS
    assert sum(one.failed for one in view.bins) == 1
    assert all(one.share == pytest.approx(0.5, abs=0.03) for one in view.bins)
    assert len(near.attempts) == 60 and not near.bins


def test_of_a_history_without_end_the_newest_attempts_and_those_that_still_run_are_kept(monkeypatch):
    monkeypatch.setattr(timeline, "MOST", 1_000)
    attempts = Attempts()
    attempts.add(-2, "short", "RUN", 1, "start", True, 0.0)
    attempts.add(-1, "short", "RUN", 1, "finish", False, 1.0)
    attempts.add(1, "long", "RUN", 1, "start", True, 2.0)

    for number in range(1, 5_000):
        attempts.add(2 * number, f"u{number}", "RUN", 1, "start", True, number * 10.0)
        attempts.add(2 * number + 1, f"u{number}", "RUN", 1, "finish", False, number * 10.0 + 9)
    attempts.add(20_000, "long", "RUN", 1, "lose", False, 60_000.0)

    kept = attempts.within(0, 70_000, 70_000)
    assert 500 <= len(kept) < 2_500
    assert attempts.units[kept["unit"][0]] == "long" and kept["ended"][0] == 60_000
    assert attempts.units[kept["unit"][-1]] == "u4999"


def test_every_bar_is_wide_enough_to_be_seen_and_one_that_runs_lasts_until_now():
    attempts = Attempts()
    attempts.add(1, "short", "RUN", 1, "start", True, 1_000.0)
    attempts.add(2, "short", "RUN", 1, "finish", False, 1_001.0)
    attempts.add(3, "runs", "RUN", 1, "start", True, 2_000.0)

    drawn = columns(
        attempts, attempts.view(0, 60_000, 50_000, False), 50_000, 60_000, shift=3_600_000, by_outcome=False
    )

    assert drawn.bars["unit"] == ["short", "runs"] and drawn.running == [1]
    assert drawn.bars["left"].tolist() == [3_601_000, 3_602_000]
    assert drawn.bars["right"].tolist() == [3_601_000 + LEAST * 60_000, 3_650_000]


@pytest.mark.parametrize("by_outcome", [True, False])
def test_what_failed_or_was_lost_is_told_by_a_pattern_as_well_as_by_colour(by_outcome):
    said = {entry["name"]: entry for entry in legend(["PLAN"], by_outcome, binned=False)}

    patterns = [said["failed"]["hatch"], said["lost"]["hatch"], said["asked"]["hatch"], said["stopped"]["hatch"]]
    assert all(patterns) and len(set(patterns)) == 4
    assert all(name in said for name in (OUTCOMES if by_outcome else ("PLAN",)))
