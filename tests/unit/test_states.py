"""The table and what is made from it agree."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator_app.states import MOVES, RULES, Status, Trigger, as_markdown


def test_the_documentation_shows_the_table_as_it_is():
    page = Path(__file__).parents[2] / "docs" / "state-machine.md"

    assert page.read_text() == as_markdown(), "run `make docs`"


def test_every_trigger_has_one_rule_and_every_status_can_be_reached():
    assert [rule.trigger for rule in RULES] == list(Trigger)
    assert {target for target in MOVES.values()} | {Status.NEW} == set(Status)


@pytest.mark.parametrize("status", [status for status in Status if status not in (Status.NEW, Status.DONE)])
def test_every_status_but_done_can_be_left(status):
    assert any(target is not status for (source, _), target in MOVES.items() if source is status)


def test_nothing_leads_out_of_done():
    assert {trigger for source, trigger in MOVES if source is Status.DONE} == {Trigger.EDIT}
