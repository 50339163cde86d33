"""The story of a history, in lines that can be read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from orchestrator_app.store.records import AttentionChange, Event, Record, Transition

from .world import World


def told(world: World) -> Iterator[str]:
    project = world.project
    verify = "verified" if project.verify else "not verified"
    stall = project.workflows["default"].phase("IMPLEMENT").on_stall
    yield (
        f"{project.slots} slots, touches = {project.touches}, isolation = {project.isolation}, merges {verify}, "
        f"on_stall = {stall}, low_disk = {project.low_disk >> 20} MB"
    )
    for kind, *words in world.story:
        if kind == "commit":
            yield from (f"    {_record(record)}" for record in words[0])
        else:
            yield f"{kind} {' '.join(_word(word) for word in words if word is not None)}".rstrip()


def _word(word: Any) -> str:
    if isinstance(word, dict):
        return ", ".join(f"{key}={value}" for key, value in word.items())
    return str(word)


def _record(record: Record) -> str:
    match record:
        case Transition():
            given = record.detail.get("set")
            more = f" {given}" if given else ""
            why = f" ({record.reason})" if record.reason else ""
            what = f"{record.from_status} --{record.trigger}--> {record.to_status}, {record.phase}/{record.attempt}"
            return f"{record.seq} {record.unit}: {what}{why}{more}"
        case AttentionChange():
            return f"{record.seq} {record.unit}: item {record.item} {record.change}: {record.title or record.text}"
        case Event():
            return (
                f"{record.seq} {record.unit or 'project'}: {record.type} {record.message} {record.data or ''}".rstrip()
            )
    return f"{record.seq} {record.unit}: {type(record).__name__}"
