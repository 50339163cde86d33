"""Where the units of a dependency graph stand in a picture. Pure: names and edges in, positions out.

Layered drawing after Sugiyama, Tagawa and Toda (1981): a unit's layer is its longest distance from a unit that waits
for none; within the layers, units are ordered by the mean place of their neighbours, which removes most crossings.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

#: Passes over the layers to and fro; more change little.
SWEEPS = 6


def layers_of(blockers: Mapping[str, Collection[str]]) -> list[list[str]]:
    """The units by layer, every one behind all of its blockers. `blockers` maps each unit to those it waits for; names
    that are not units of their own are passed over. Raises ValueError where units wait for each other in a cycle."""
    waits = {name: {one for one in after if one in blockers} for name, after in blockers.items()}
    behind: dict[str, list[str]] = {name: [] for name in blockers}
    for name, after in waits.items():
        for one in after:
            behind[one].append(name)
    missing = {name: len(after) for name, after in waits.items()}
    layers, layer, placed = [], sorted(name for name, count in missing.items() if not count), 0
    while layer:
        layers.append(layer)
        placed += len(layer)
        following = []
        for name in layer:
            for one in behind[name]:
                missing[one] -= 1
                if not missing[one]:
                    following.append(one)
        layer = sorted(following)
    if placed < len(blockers):
        raise ValueError("units wait for each other in a cycle")
    return layers


def ordered(layers: Sequence[Sequence[str]], blockers: Mapping[str, Collection[str]]) -> list[list[str]]:
    """The layers with their units in an order that lets few edges cross. The same input gives the same order."""
    neighbours: dict[str, list[str]] = {name: [] for layer in layers for name in layer}
    for name in neighbours:
        for one in blockers[name]:
            if one in neighbours:
                neighbours[name].append(one)
                neighbours[one].append(name)
    drawn = [list(layer) for layer in layers]
    place = {name: _share(at, layer) for layer in drawn for at, name in enumerate(layer)}
    for sweep in range(SWEEPS):
        for layer in drawn if sweep % 2 == 0 else reversed(drawn):
            around = {name: [place[one] for one in neighbours[name]] for name in layer}
            layer.sort(key=lambda name: (sum(around[name]) / len(around[name]) if around[name] else place[name], name))
            place.update((name, _share(at, layer)) for at, name in enumerate(layer))
    return drawn


def _share(at: int, layer: Sequence[str]) -> float:
    """A place in a layer as a share of its height, so that layers of different sizes compare."""
    return (at + 0.5) / len(layer)


def positions(blockers: Mapping[str, Collection[str]]) -> dict[str, tuple[int, float]]:
    """Column and row of each unit: columns from 0, rows a distance of at least 1 apart, each layer centred on 0."""
    placed = {}
    for column, layer in enumerate(ordered(layers_of(blockers), blockers)):
        for at, name in enumerate(layer):
            placed[name] = (column, at - (len(layer) - 1) / 2)
    return placed


def critical_path(blockers: Mapping[str, Collection[str]], weight: Mapping[str, float]) -> list[str]:
    """The heaviest chain of units that wait for one another, first to last; `weight` is what is left of each, 0 for
    what is done. Units without a weight left are not on it. Of equals, the first by name."""
    heaviest: dict[str, tuple[float, str | None]] = {}
    for layer in layers_of(blockers):
        for name in layer:
            before = [one for one in blockers[name] if one in heaviest and weight[one] > 0]
            best = max(sorted(before), key=lambda one: heaviest[one][0], default=None)
            heaviest[name] = (weight[name] + (heaviest[best][0] if best is not None else 0), best)
    left = sorted(name for name in heaviest if weight[name] > 0)
    at = max(left, key=lambda name: heaviest[name][0], default=None)
    chain = []
    while at is not None:
        chain.append(at)
        at = heaviest[at][1]
    return chain[::-1]
