"""Every fault and attack has a test that proves what holds, or a reason why not."""

from __future__ import annotations

import importlib.util
from pathlib import Path

ROOT = Path(__file__).parents[2]
spec = importlib.util.spec_from_file_location("rows", ROOT / "tests" / "rows.py")
rows = importlib.util.module_from_spec(spec)
spec.loader.exec_module(rows)


def test_every_fault_and_attack_has_a_test_or_a_reason_why_not() -> None:
    found = rows.proofs()

    assert [
        number for number, row in (rows.FAULTS | rows.ATTACKS).items() if not (row.untested or found.get(number))
    ] == []


def test_no_test_names_a_row_that_does_not_exist() -> None:
    assert rows.proofs().keys() <= (rows.FAULTS | rows.ATTACKS).keys()


def test_the_page_of_faults_is_the_one_generated() -> None:
    assert (ROOT / "docs" / "faults.md").read_text() == rows.page(), "run `make docs`"
