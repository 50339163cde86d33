"""The picture of a dependency graph: each unit behind its blockers, none on top of another, the longest chain found."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator_app.dashboard.layout import critical_path, layers_of, ordered, positions


@st.composite
def graphs(draw) -> dict[str, list[str]]:
    """Units that wait for earlier ones only, so without a cycle."""
    names = [f"u{number}" for number in range(draw(st.integers(0, 12)))]
    return {
        name: draw(st.lists(st.sampled_from(names[:at]), unique=True)) if at else [] for at, name in enumerate(names)
    }


@given(graphs())
def test_every_unit_stands_in_a_later_column_than_its_blockers_and_on_no_other(graph):
    placed = positions(graph)

    assert set(placed) == set(graph) and len(set(placed.values())) == len(graph)
    for name, after in graph.items():
        for one in after:
            assert placed[one][0] < placed[name][0]
    for name, (column, row) in placed.items():
        assert all(abs(row - placed[one][1]) >= 1 for one in graph if one != name and placed[one][0] == column)


@given(graphs(), st.randoms(use_true_random=False))
def test_the_same_units_stand_in_the_same_places_whatever_order_they_are_told_in(graph, chance):
    shuffled = list(graph.items())
    chance.shuffle(shuffled)

    assert positions(dict(shuffled)) == positions(graph)


def chains(graph, weight):
    """Every chain of units with something left, by trying all."""
    for name in graph:
        if weight[name] > 0:
            before = [one for one in graph[name] if weight[one] > 0]
            yield [name]
            for chain in chains_to(graph, weight, before):
                yield [*chain, name]


def chains_to(graph, weight, ends):
    for end in ends:
        yield [end]
        for chain in chains_to(graph, weight, [one for one in graph[end] if weight[one] > 0]):
            yield [*chain, end]


@given(st.data())
def test_no_chain_of_units_is_longer_than_the_critical_path(data):
    graph = data.draw(graphs().filter(lambda one: len(one) < 9))
    weight = {name: data.draw(st.sampled_from([0, 1, 2])) for name in graph}

    path = critical_path(graph, weight)

    assert all(one in graph[name] for one, name in pairwise(path))
    assert all(weight[name] > 0 for name in path)
    longest = max((sum(weight[name] for name in chain) for chain in chains(graph, weight)), default=0)
    assert sum(weight[name] for name in path) == longest


def test_a_cycle_is_said_and_blockers_that_are_not_drawn_are_passed_over():
    assert layers_of({"a": ["gone"], "b": ["a"]}) == [["a"], ["b"]]
    with pytest.raises(ValueError, match="cycle"):
        layers_of({"a": ["b"], "b": ["a"]})


def test_two_chains_side_by_side_are_drawn_without_a_crossing():
    graph = {"a1": [], "z1": [], "z2": ["a1"], "a2": ["z1"]}  # by name alone the two edges would cross

    drawn = ordered(layers_of(graph), graph)

    sources, targets = drawn
    assert (sources.index("a1") < sources.index("z1")) == (targets.index("z2") < targets.index("a2"))
