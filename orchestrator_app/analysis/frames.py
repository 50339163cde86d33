"""An answer in SQL as a pandas data frame. The dtypes follow from the SQL types, not from the rows."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd

_INTEGERS = frozenset(
    f"{sign}{size}" for sign in ("", "U") for size in ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT")
)


def frame(answer: dict[str, Any]) -> pd.DataFrame:
    """`answer` is what `store.asking.ask` gives.

    Integers become Int64, other numbers float64, booleans boolean, text string (each may hold NA), times
    datetime64[us, UTC], dates datetime64[us]; JSON, lists and structs become Python objects.
    """
    columns = list(zip(*answer["rows"], strict=True)) or [()] * len(answer["columns"])
    typed = {
        at: _series(list(values), kind) for at, (values, kind) in enumerate(zip(columns, answer["types"], strict=True))
    }
    made = pd.DataFrame(typed)
    made.columns = pd.Index(answer["columns"])  # two columns may have the same name
    return made


def _series(values: list[Any], kind: str) -> pd.Series:
    if kind in ("HUGEINT", "UHUGEINT") and any(value is not None and abs(value) >= 1 << 63 for value in values):
        return pd.Series(values, dtype="float64")
    if kind in _INTEGERS:
        return pd.Series(values, dtype="Int64")
    if kind in ("DOUBLE", "FLOAT") or kind.startswith("DECIMAL"):
        return pd.Series(values, dtype="float64")
    if kind == "BOOLEAN":
        return pd.Series(values, dtype="boolean")
    if kind.startswith("TIMESTAMP"):
        return _times(values, utc=True).astype("datetime64[us, UTC]")
    if kind == "DATE":
        return _times(values, utc=False).astype("datetime64[us]")
    if kind in ("VARCHAR", "UUID"):
        return pd.Series(values, dtype="string")
    if kind == "JSON":
        return pd.Series([None if value is None else json.loads(value) for value in values], dtype="object")
    return pd.Series(values, dtype="object")


def _times(values: list[Any], utc: bool) -> pd.Series:
    # A time that pandas can't hold (the year 10000, infinity) becomes NaT.
    return pd.to_datetime(pd.Series(values, dtype="object"), utc=utc, format="ISO8601", errors="coerce")
