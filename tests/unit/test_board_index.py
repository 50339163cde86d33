"""What the board shows is what a fresh sort of all units would show, whatever happened in between."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from itertools import chain

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator_app.dashboard import bulk
from orchestrator_app.dashboard.index import GROUPS, SORTS, Index, Query, matcher, read, statuses
from orchestrator_app.errors import IllegalMoveError, UsageError
from orchestrator_app.model import Board, Unit
from orchestrator_app.states import MOVES, Status, Trigger
from orchestrator_app.store.log import utc
from orchestrator_app.store.records import Transition

NAMES = ["a-1", "a-2", "a-10", "b", "c"]


def move(board: Board, name: str, trigger: Trigger, phase: str = "RUN", **fields) -> None:
    unit = board.units.get(name)
    status, version = (unit.status, unit.version) if unit else (Status.NEW, 0)
    board.fold(
        [
            Transition(
                board.seq + 1, name, version + 1, status, trigger, MOVES[status, trigger], phase, 0, "operator:ann",
                "c", None, {"set": fields}, utc(board.seq),
            )
        ]
    )  # fmt: skip


def submitted(*names: str, board: Board | None = None, **fields) -> Board:
    board = board or Board()
    for name in names:
        move(board, name, Trigger.SUBMIT, **fields)
    return board


def built(index: Index) -> Index:
    index.built.result(10)
    while not index.catch_up():
        pass
    return index


def shown(index: Index) -> dict[str, list[str]]:
    return {column: index.names(column, 0, 1000) for column in sorted(index.columns())}


def sorted_anew(board: Board, query: Query) -> dict[str, list[str]]:
    columns: dict[str, list[tuple]] = {}
    for unit in board.units.values():
        if matcher(query.text)(unit):
            place = (SORTS[query.sort](unit, len(board.dependents(unit.name))), unit.name)
            columns.setdefault(GROUPS[query.group](unit), []).append(place)
    return {column: [name for _, name in sorted(columns[column])] for column in sorted(columns)}


QUERIES = st.builds(
    Query, st.sampled_from(["", "gpu", "status:ready,blocked", "a-1"]), st.sampled_from([*GROUPS]),
    st.sampled_from([*SORTS]),
)  # fmt: skip
EVENTS = st.tuples(
    st.sampled_from(NAMES),
    st.sampled_from(list(Trigger)),
    st.sampled_from(["PLAN", "RUN"]),
    st.fixed_dictionaries(
        {},
        optional={
            "priority": st.integers(-2, 2),
            "labels": st.sampled_from([["gpu"], []]),
            "after": st.lists(st.sampled_from(NAMES), max_size=2, unique=True),
        },
    ),
    st.booleans(),
)


@given(QUERIES, st.lists(EVENTS, max_size=12), st.lists(EVENTS, max_size=40))
@settings(deadline=None)
def test_an_index_always_equals_a_fresh_sort_of_the_board(query, before, events):
    board = submitted(*NAMES[:3])

    def happen(name, trigger, phase, fields):
        status = board.units[name].status if name in board.units else Status.NEW
        if (status, trigger) in MOVES:
            fields = fields if trigger in (Trigger.SUBMIT, Trigger.EDIT, Trigger.SERIALIZE) else {}
            fields = {**fields, "after": [one for one in fields.get("after", ()) if one in board.units and one != name]}
            move(board, name, trigger, phase, **fields)

    for name, trigger, phase, fields, _ in before:
        happen(name, trigger, phase, fields)
    index = Index(board, query)
    for name, trigger, phase, fields, look in events:
        happen(name, trigger, phase, fields)
        if look and index.built.done():
            built(index)
            assert shown(index) == sorted_anew(board, query)

    built(index)
    assert shown(index) == sorted_anew(board, query)
    assert sorted(index.all()) == sorted(chain.from_iterable(shown(index).values()))
    for column, names in shown(index).items():
        assert [index.position(column, name) for name in names] == list(range(len(names)))
    index.end()


def test_a_unit_that_more_others_wait_for_comes_earlier_and_falls_back_when_they_no_longer_do():
    board = submitted("a", "b", "c")
    index = built(Index(board, Query()))

    move(board, "d", Trigger.SUBMIT, after=["c"])
    assert built(index).names("status:READY", 0, 9) == ["c", "a", "b", "d"]
    move(board, "d", Trigger.EDIT, after=[])

    assert built(index).names("status:READY", 0, 9) == ["a", "b", "c", "d"]


def test_numbers_in_names_are_sorted_as_numbers():
    board = submitted("a-10", "a-9", "A-1")

    assert built(Index(board, Query(sort="name"))).names("status:READY", 0, 9) == ["A-1", "a-9", "a-10"]


def test_everyone_who_looks_at_the_same_shares_one_index_which_ends_with_the_last():
    board = submitted("a")
    first, second, other = read(board, Query("gpu")), read(board, Query("gpu")), read(board, Query("cpu"))
    assert first.index is second.index is not other.index

    first.close()
    other.close()
    assert len(board._watchers) == 1
    second.close()

    assert not board._watchers
    assert read(board, Query("gpu")).index is not first.index


@pytest.mark.parametrize(
    "text, found",
    [
        ("", True),
        ("  One ", True),
        ("two", False),
        ("GPU claude", True),
        ("gpu codex", False),
        ("status:ready", True),
        ("status:RUNNING,READY", True),
        ("status:NEEDS-ATTENTION", False),
        ("label:gpu label:night", True),
        ("label:gp", False),
        ("agent:claude phase:plan workflow:default", True),
        ('label:"gpu"', True),
        ("priority:3", True),
        ("when:now", False),
        ("(", False),
        ("label:", True),
        ('"', False),
    ],
)
def test_a_filter_finds_words_anywhere_and_fields_exactly(text, found):
    unit = Unit("unit-one", labels=("gpu", "night", "label:"), agent="Claude", phase="PLAN", priority=3)
    unit.status = Status.READY

    assert matcher(text)(unit) is found


def test_only_the_statuses_that_a_filter_leaves_have_a_column():
    assert statuses("gpu status:ready,running") == [Status.RUNNING, Status.READY]
    assert len(statuses("ready")) == 7


def test_sense_is_made_of_any_arguments_of_an_address():
    assert Query.of(None, "x", 7) == Query()
    assert Query.of(["a"], [], {}) == Query()
    assert Query.of(" a   b ", "phase", "name") == Query("a b", "phase", "name")


def test_putting_very_much_into_place_is_done_in_shares():
    board = submitted(*(f"a-{number}" for number in range(100)))
    index = built(Index(board, Query()))
    reader = read(board, Query("elsewhere"))
    submitted(*(f"b-{number}" for number in range(3_000)), board=board)

    shares = 1
    while not index.catch_up():
        shares += 1

    assert shares > 1 and len(index) == 3_100
    reader.close()


# -- one wish for many


class Scheduler:
    """Answers requests on the board, late: each when the next one comes, the last at once."""

    def __init__(self, board: Board) -> None:
        self.board = board
        self.most = 0
        self.open = 0

    def request(self, kind: str, name: str, **args) -> Future:
        future: Future = Future()
        self.open += 1
        self.most = max(self.most, self.open)
        asyncio.get_running_loop().call_soon(self.answer, kind, name, args, future)
        return future

    def answer(self, kind, name, args, future) -> None:
        self.open -= 1
        if name == "stubborn":
            future.set_exception(IllegalMoveError("stubborn stays"))
            return
        move(self.board, name, bulk.KINDS[kind], **args.get("set", {}))
        future.set_result({})


def test_a_wish_for_many_is_asked_in_shares_and_says_who_was_refused_and_why():
    names = [f"a-{number}" for number in range(600)]
    board = submitted(*names, "stubborn", "gone")
    move(board, "gone", Trigger.CANCEL)
    scheduler, told = Scheduler(board), []

    outcome = asyncio.run(
        bulk.act(scheduler.request, board, [*names, "stubborn", "gone", "nobody"], "cancel", {}, told.append)
    )

    assert (outcome["total"], outcome["done"], outcome["failed"]) == (603, 600, 3)
    assert outcome["refused"] == [
        {"name": "stubborn", "why": "stubborn stays"},
        {"name": "gone", "why": "it is CANCELLED"},
        {"name": "nobody", "why": "there is no such unit"},
    ]
    assert told == [250, 500, 603] and scheduler.most <= 250
    assert board.counts["CANCELLED"] == 601


def test_of_many_refusals_the_first_are_told_and_all_are_counted():
    names = [f"a-{number}" for number in range(50)]
    board = submitted(*names)

    outcome = asyncio.run(bulk.act(Scheduler(board).request, board, names, "retry", {}, lambda count: None))

    assert outcome["failed"] == 50 and [one["name"] for one in outcome["refused"]] == names[: bulk.TOLD]


def test_what_a_wish_would_meet_is_counted_by_status():
    board = submitted("a", "b", "c")
    move(board, "c", Trigger.CANCEL)

    assert bulk.weigh(board, ["a", "b", "c", "nobody"], "pause") == {
        "total": 4,
        "able": {"READY": 2},
        "others": {"CANCELLED": 1},
    }


@pytest.mark.parametrize(
    "kind, args",
    [
        ("accept", {}),
        (["cancel"], {}),
        (None, {}),
        ("edit", {}),
        ("edit", None),
        ("edit", {"priority": True}),
        ("edit", {"priority": "7"}),
        ("edit", {"priority": 10**9}),
    ],
)
def test_nothing_else_is_asked_of_many(kind, args):
    with pytest.raises(UsageError):
        bulk.check(kind, args)


def test_of_many_only_the_priority_can_be_edited():
    assert bulk.check("edit", {"priority": 7, "prompt": "x"}) == {"set": {"priority": 7}}
    assert bulk.check("cancel", {"phase": "x"}) == {}
