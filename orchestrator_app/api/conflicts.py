"""The conflicts that wait for a person: overlaps of files, merges that conflict, a base that can't advance."""

from __future__ import annotations

from typing import Any

from orchestrator_app.api.routing import Call, Field, Route
from orchestrator_app.api.rows import PAGE, limit_of, paged, seq_of
from orchestrator_app.api.shapes import COUNT, TEXT, TIME, listed, maybe, page, thing
from orchestrator_app.model import AttentionItem

OVERLAP, MERGE = "overlap", "merge"


async def conflicts(call: Call) -> Any:
    unit, kind, after = call.query.get("unit"), call.query.get("kind"), seq_of(call)
    base = call.server.project.base

    def read() -> list[dict[str, Any]]:
        found = [
            item
            for item in list(call.orchestrator.board.attention.values())
            if item.kind == "conflict" and item.id > after and unit in (None, item.unit, item.other)
        ]
        rows = (_row(item, base) for item in sorted(found, key=lambda item: item.id))
        return [row for row in rows if kind in (None, row["kind"])][: limit_of(call) + 1]

    rows, following = paged(await call.aside(read), call, "item")
    return {"conflicts": rows, "next": following}


def _row(item: AttentionItem, base: str) -> dict[str, Any]:
    """An open item as a conflict: with another unit, if it names one, else of a merge with the base branch."""
    return {
        "item": item.id,
        "unit": item.unit,
        "kind": MERGE if item.other is None else OVERLAP,
        "other": item.other,
        "branch": base if item.other is None else f"orch/{item.other}",
        "files": item.files,
        "since": item.opened_at,
        "title": item.title,
        "text": item.text,
        "options": item.options,
    }


CONFLICT = thing(
    item=COUNT,
    unit=TEXT,
    kind={"enum": [OVERLAP, MERGE]},
    other=maybe(TEXT),
    branch=TEXT,
    files=listed(TEXT),
    since=TIME,
    title=TEXT,
    text=TEXT,
    options=listed(TEXT),
)

ROUTES = (
    Route(
        "GET",
        "/conflicts",
        "Open conflicts, oldest first: the unit, the other unit and branch, the files, since when. `item` is the"
        " attention item; `options` are what it can be settled with.",
        conflicts,
        query=(
            Field("unit", "string", "only those that this unit is in"),
            Field(
                "kind",
                "string",
                "overlap (two units touch the same files) or merge (with the base branch)",
                rule={"enum": [OVERLAP, MERGE]},
            ),
            *PAGE,
        ),
        gives=page("conflicts", CONFLICT),
    ),
)
