"""Half of ten thousand histories; the other half is in a file of its own, so that two workers play at a time."""

from __future__ import annotations

import pytest

from .history import play


@pytest.mark.slow
def test_f1_f2_f3_f4_f6_f7_f10_f11_f36_even_histories_of_faults_keep_every_invariant_and_come_to_their_end():
    played, faults = play(range(0, 10_000, 2))

    assert played == 5_000
    assert not faults, f"`python -m tests.simulation --seed {faults[0][0]}` tells: {faults[0][1]}"
