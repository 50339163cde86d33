"""An answer in SQL as a pandas data frame. The dtypes follow from the SQL types, not from the rows."""

from __future__ import annotations

import json

import pandas as pd
import pyarrow as pa
from pyarrow import compute, ipc

_INTEGERS = frozenset(
    f"{sign}{size}" for sign in ("", "U") for size in ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT")
)
_DTYPES = {pa.int64(): pd.Int64Dtype(), pa.bool_(): pd.BooleanDtype()}


def table_of(content: bytes) -> pa.Table:
    """The Arrow table of a stream as the server sends it."""
    return ipc.open_stream(content).read_all()


def frame(table: pa.Table) -> pd.DataFrame:
    """`table` is an answer of the log: its metadata has DuckDB's names of the types.

    Integers become Int64, other numbers float64, booleans boolean, text string (each may hold NA), times
    datetime64[us, UTC], dates datetime64[us]; JSON, lists and structs become Python objects.
    """
    types = json.loads((table.schema.metadata or {}).get(b"types", b"null")) or [""] * table.num_columns
    columns = enumerate(zip(table.columns, types, strict=True))
    made = pd.DataFrame({at: _series(column, kind) for at, (column, kind) in columns})
    made.columns = pd.Index(table.column_names)  # two columns may have the same name
    return made


def _series(column: pa.ChunkedArray, kind: str) -> pd.Series:
    if kind in _INTEGERS:
        try:
            return column.cast(pa.int64()).to_pandas(types_mapper=_DTYPES.get)
        except pa.ArrowInvalid:  # larger than any
            return column.cast(pa.float64()).to_pandas()
    if kind in ("DOUBLE", "FLOAT") or kind.startswith("DECIMAL"):
        return column.cast(pa.float64()).to_pandas().astype("float64")
    if kind == "BOOLEAN":
        return column.to_pandas(types_mapper=_DTYPES.get)
    if kind.startswith("TIMESTAMP"):
        return _times(column, pa.timestamp("us", "UTC"))
    if kind == "DATE":
        return _times(column, pa.timestamp("us"))
    if kind in ("VARCHAR", "UUID"):
        return pd.Series(column.to_pylist(), dtype="string")
    values = column.to_pylist()
    if kind == "JSON":
        values = [None if value is None else json.loads(value) for value in values]
    return pd.Series(values, dtype="object")


def _times(column: pa.ChunkedArray, kind: pa.TimestampType) -> pd.Series:
    if pa.types.is_timestamp(column.type) and column.type.tz:
        column = column.cast(pa.timestamp("us", column.type.tz)).cast(kind)
    elif pa.types.is_timestamp(column.type) and kind.tz:
        column = compute.assume_timezone(column.cast(pa.timestamp("us")), "UTC").cast(kind)
    else:
        column = column.cast(kind)
    return column.to_pandas().astype("datetime64[us, UTC]" if kind.tz else "datetime64[us]")
