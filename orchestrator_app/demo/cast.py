"""The demo's work units: what each is asked, what it shows, and what its story must have in it at the end."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Part:
    """One unit. `triggers`: moves that its story must have (` or ` between alternatives), and how often. It must end
    DONE, without having needed a person for a failure."""

    name: str
    shows: str
    prompt: str
    fields: dict[str, Any] = field(default_factory=dict)
    triggers: dict[str, int] = field(default_factory=dict)

    def unit(self) -> dict[str, Any]:
        """The unit as it is submitted."""
        return {"name": self.name, "prompt": self.prompt, **self.fields}


_QUICK = {"workflow": "quick"}


def _after(*names: str) -> dict[str, Any]:
    return {**_QUICK, "after": list(names)}


PARTS: tuple[Part, ...] = (
    Part(
        "title-short",
        "edits the same line: a merge conflict for you to settle",
        "Make the title of the report short.",
        {"priority": 10},
        {"clash": 1, "retry": 1},
    ),
    Part(
        "title-formal",
        "edits the same line as title-short, and is merged first",
        "Make the title of the report formal.",
        {**_QUICK, "priority": 10},
    ),
    Part(
        "currency-symbol",
        "the first of a chain of four",
        "format_price should take a currency symbol.",
        {"labels": ["money"]},
    ),
    Part("price-report", "waits for the first", "Show prices in euros.", _after("currency-symbol"), {"unblock": 1}),
    Part("csv-export", "waits for the second", "Export the stock as CSV.", _after("price-report"), {"unblock": 1}),
    Part("changelog", "waits for two", "Write a change log.", _after("csv-export", "discount"), {"unblock": 1}),
    Part(
        "date-format",
        "asks you a question, and goes on with your answer",
        "Put a date on the report.",
        {"priority": 5},
        {"ask": 1, "answer or continue": 1},
    ),
    Part(
        "drop-legacy",
        "asks for your approval, and waits for it alive",
        "Delete the legacy module.",
        {**_QUICK, "priority": 5},
        {"ask": 1, "continue": 1},
    ),
    Part(
        "discount",
        "its test fails first, and passes on the automatic retry",
        "Calculate discounts, rounded to a whole cent.",
        _QUICK,
        {"defer": 1},
    ),
    Part("sort-items", "REVIEW sends it back to IMPLEMENT", "Sort items by price.", {}, {"rework": 1}),
    Part("exchange-rates", "is told to try later, and defers", "Fetch exchange rates.", _QUICK, {"defer": 1}),
    Part("bulk-import", "takes long, and reports its progress", "Import the catalogue.", {**_QUICK, "priority": 8}),
    Part(
        "search-by-name",
        "touches the same file as the next one",
        "Find items by name.",
        {**_QUICK, "priority": 9, "touches": ["stockroom/search.py"]},
    ),
    Part(
        "search-by-count",
        "touches the same file, and so runs after the one before",
        "Find items that run out.",
        {**_QUICK, "priority": 9, "touches": ["stockroom/se*.py"]},
        {"block": 1, "unblock": 1},
    ),
    Part("benchmark-money", "one benchmark at a time", "Measure it.", {**_QUICK, "labels": ["benchmark"]}),
    Part("benchmark-stock", "one benchmark at a time", "Measure it.", {**_QUICK, "labels": ["benchmark"]}),
)
