"""A change that is not legal, logged and broadcast can't be made."""

from __future__ import annotations

import resource
from contextlib import contextmanager

import pytest

from orchestrator_app.errors import IllegalMoveError, ReadOnlyModelError, StoreError, WatcherWriteError
from orchestrator_app.gate import new_cause
from orchestrator_app.states import MOVES, Status, Trigger
from orchestrator_app.store.records import Transition


@contextmanager
def full_disk():
    """No file of this process may grow, as on a full disk (the error differs, the moment doesn't)."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.NEW])
def test_in_every_status_the_legal_triggers_move_and_the_others_change_nothing(hand, status):
    for trigger in Trigger:
        name = f"{status}-{trigger}".lower().replace("_", "-")
        hand.bring(name, status)
        seq, version = hand.board.seq, hand.board.row(name).version

        if (status, trigger) in MOVES:
            records = hand.move(name, trigger)

            first = next(row for row in records if type(row) is Transition)
            assert (first.from_status, first.trigger, first.to_status) == (status, trigger, MOVES[status, trigger])
        else:
            with pytest.raises(IllegalMoveError, match="possible"):
                hand.move(name, trigger)

            assert (hand.board.seq, hand.board.row(name).version) == (seq, version)


def test_a_unit_that_does_not_exist_can_only_be_submitted(hand):
    for trigger in Trigger:
        if trigger not in (Trigger.SUBMIT, Trigger.START):
            with pytest.raises(IllegalMoveError):
                hand.move("nobody", trigger)

    assert not hand.board.units


def test_a_commit_that_fails_moves_nothing_and_tells_nobody(hand):
    hand.bring("a", Status.READY)
    before = hand.board.seq

    with full_disk(), pytest.raises(StoreError, match="could not be written"):
        hand.move("a", Trigger.START)

    assert hand.status("a") is Status.READY
    assert hand.board.seq == before == hand.subscriber.seqs[-1]
    hand.move("a", Trigger.START)
    assert hand.status("a") is Status.RUNNING


def test_a_commit_over_several_tables_that_fails_leaves_none_of_them_changed(hand):
    hand.bring("a", Status.RUNNING)

    with full_disk(), pytest.raises(StoreError):
        hand.move("a", Trigger.FAIL)

    assert hand.log.rows("SELECT count(*) AS n FROM attention_change") == [{"n": 0}]
    hand.move("a", Trigger.FAIL)
    assert hand.log.rows("SELECT count(*) AS n FROM attention_change") == [{"n": 1}]


def test_a_draft_made_before_another_commit_is_refused(hand):
    hand.bring("a", Status.READY)
    late = hand.draft()
    late.move("a", Trigger.START, actor="scheduler", cause=new_cause(), attempt=1)
    hand.move("a", Trigger.PAUSE)

    with pytest.raises(IllegalMoveError, match="out of date"):
        hand.gate.commit(late)

    assert hand.status("a") is Status.PAUSED


def test_a_record_that_says_another_status_than_the_log_is_refused(hand):
    hand.bring("a", Status.READY)
    draft = hand.draft()
    draft.move("a", Trigger.START, actor="scheduler", cause=new_cause(), attempt=1)
    draft.records[0] = draft.records[0]._replace(to_status=Status.DONE)

    with pytest.raises(IllegalMoveError, match="no rule"):
        hand.gate.commit(draft)


def test_f4_a_raising_watcher_silences_no_other_and_moves_nothing(hand, caplog):
    seen = []
    hand.bring("a", Status.READY)
    face = hand.board.unit("a")

    def broken(*_):
        raise RuntimeError("planted")

    hand.board.watch(broken)
    hand.board.param.watch(broken, "transition")
    face.param.watch(broken, "status")
    hand.board.watch(lambda records: seen.append("board"))
    hand.board.param.watch(lambda event: seen.append(event.new.trigger), "transition")
    face.param.watch(lambda event: seen.append(event.new), "status")

    hand.move("a", Trigger.START)

    assert seen == [Trigger.START, Status.RUNNING, "board"]
    assert caplog.text.count("RuntimeError: planted") == 3


def test_a_watcher_that_writes_is_told_that_it_may_not(hand):
    errors = []
    hand.bring("a", Status.READY)

    def writes(_):
        try:
            hand.gate.commit(hand.draft())
        except WatcherWriteError as error:
            errors.append(error)

    hand.board.watch(writes)

    hand.move("a", Trigger.START)

    assert len(errors) == 1 and "observes" in str(errors[0])


def test_f5_no_value_of_the_model_can_be_set_from_outside(hand):
    hand.bring("a", Status.READY)

    with pytest.raises(ReadOnlyModelError):
        hand.board.unit("a").status = Status.DONE
    with pytest.raises(ReadOnlyModelError):
        hand.board.seq = 0
    with pytest.raises(TypeError):
        hand.board.units["b"] = hand.board.row("a")

    assert hand.board.unit("a").status is Status.READY


def test_f5_every_transition_is_one_param_event_in_order(hand):
    seen = []
    hand.board.param.watch(lambda event: seen.append(event.new.seq), "transition")

    hand.bring("a", Status.DONE)
    hand.bring("b", Status.BLOCKED)

    logged = hand.log.rows("SELECT seq FROM transition ORDER BY seq")
    assert seen == [row["seq"] for row in logged]


def test_f6_dependents_become_free_in_the_transaction_that_finishes_their_last_blocker(hand):
    hand.bring("a", Status.RUNNING)
    hand.bring("b", Status.RUNNING)
    hand.move("c", Trigger.SUBMIT, fields={"after": ["a", "b"]})
    assert hand.status("c") is Status.BLOCKED

    first = hand.move("a", Trigger.FINISH)
    second = hand.move("b", Trigger.FINISH)

    assert [row.unit for row in first] == ["a"]
    assert [(row.unit, row.trigger) for row in second] == [("b", Trigger.FINISH), ("c", Trigger.UNBLOCK)]
    assert len({row.cause for row in second}) == 1


def test_only_done_frees_dependents_and_a_cancelled_blocker_asks_the_operator(hand):
    hand.bring("a", Status.READY)
    hand.move("b", Trigger.SUBMIT, fields={"after": ["a"]})

    hand.move("a", Trigger.CANCEL)

    assert hand.status("b") is Status.BLOCKED
    (item,) = hand.board.attention.values()
    assert (item.unit, item.kind, item.other) == ("b", "blocked", "a")
    hand.move("a", Trigger.REOPEN)
    assert not hand.board.attention


def test_f6_a_serialized_unit_whose_other_is_done_already_is_free_at_once(hand):
    hand.bring("a", Status.DONE)
    hand.bring("b", Status.NEEDS_ATTENTION)

    hand.move("b", Trigger.SERIALIZE, fields={"after": ["a"]})

    assert hand.status("b") is Status.READY
    assert not hand.board.attention


def test_removing_the_last_blocker_frees_a_unit_and_adding_one_blocks_it(hand):
    hand.bring("a", Status.READY)
    hand.bring("b", Status.READY)

    hand.move("b", Trigger.EDIT, fields={"after": ["a"]})
    assert hand.status("b") is Status.BLOCKED
    hand.move("b", Trigger.EDIT, fields={"after": []})

    assert hand.status("b") is Status.READY


def test_leaving_attention_settles_the_open_item(hand):
    hand.bring("a", Status.NEEDS_ATTENTION)
    assert len(hand.board.attention) == 1

    hand.move("a", Trigger.RETRY)

    assert not hand.board.attention
    rows = hand.log.rows("SELECT resolved_by, resolution FROM attention")
    assert rows == [{"resolved_by": "operator:test", "resolution": "retry"}]


def test_a_nested_draft_that_is_not_merged_leaves_no_trace(hand):
    hand.bring("a", Status.READY)
    draft = hand.draft()
    trial = draft.nested()
    trial.move("a", Trigger.CANCEL, actor="operator:test", cause=new_cause())

    draft.move("a", Trigger.PAUSE, actor="operator:test", cause=new_cause())
    hand.gate.commit(draft)

    assert hand.status("a") is Status.PAUSED
