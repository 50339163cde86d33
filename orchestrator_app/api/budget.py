"""What was used: tokens and dollars, as the agents said, from the log's own rows."""

from __future__ import annotations

from typing import Any

from orchestrator_app.api.routing import Call, Field, Route
from orchestrator_app.api.rows import PAGE, limit_of, paged
from orchestrator_app.api.shapes import COUNT, NUMBER, TEXT, listed, page, thing

_SUMS = (
    "coalesce(sum(input_tokens), 0)::BIGINT AS input_tokens, coalesce(sum(output_tokens), 0)::BIGINT AS output_tokens,"
    " coalesce(sum(usd), 0)::DOUBLE AS usd"
)
_TODAY = "occurred_at >= date_trunc('day', now()::TIMESTAMP)"
USED = {"input_tokens": COUNT, "output_tokens": COUNT, "usd": NUMBER}


async def budget(call: Call) -> Any:
    only, params = ("unit = ?", [call.query["unit"]]) if "unit" in call.query else ("true", [])
    cursor, limit = call.query.get("cursor", ""), limit_of(call) + 1

    def read() -> dict[str, Any]:
        rows = call.orchestrator.rows

        def by(column: str) -> list[dict[str, Any]]:
            sql = f"SELECT {column}, {_SUMS} FROM usage WHERE {only} GROUP BY 1 ORDER BY 1"
            return rows(sql, params)

        units = rows(
            f"SELECT unit, {_SUMS} FROM usage WHERE {only} AND unit > ? GROUP BY 1 ORDER BY 1 LIMIT ?",
            [*params, cursor, limit],
        )
        shown, following = paged(units, call, "unit")
        return {
            "total": rows(f"SELECT {_SUMS} FROM usage WHERE {only}", params)[0],
            "today": rows(f"SELECT {_SUMS} FROM usage WHERE {only} AND {_TODAY}", params)[0],
            "phases": by("phase"),
            "models": by("model"),
            "units": shown,
            "next": following,
        }

    return await call.aside(read)


ROUTES = (
    Route(
        "GET",
        "/budget",
        "What agents said they used, in all, today (UTC), by phase, by model, and by unit, a page of units at a time."
        " There are no limits to compare it with.",
        budget,
        query=(Field("unit", "string", "only what this unit used"), *PAGE),
        gives=page(
            "units",
            thing(unit=TEXT, **USED),
            total=thing(**USED),
            today=thing(**USED),
            phases=listed(thing(phase=TEXT, **USED)),
            models=listed(thing(model=TEXT, **USED)),
        ),
    ),
)
