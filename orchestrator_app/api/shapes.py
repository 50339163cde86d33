"""Shapes of answers, as JSON Schema. Those of rows follow from the types of the rows, so neither leaves the other."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import Enum
from typing import Any

from orchestrator_app.model import AttentionItem, Unit
from orchestrator_app.states import Status
from orchestrator_app.store.records import TABLES

Shape = Mapping[str, Any]

ANY: Shape = {}
TEXT: Shape = {"type": "string"}
NUMBER: Shape = {"type": "number"}
COUNT: Shape = {"type": "integer", "minimum": 0}
FLAG: Shape = {"type": "boolean"}
TIME: Shape = {"type": "string", "format": "date-time"}
FREE: Shape = {"type": "object"}
STATUS: Shape = {"enum": list(Status.__members__)}

_PLAIN = {str: TEXT, bool: FLAG, int: {"type": "integer"}, float: NUMBER, datetime: TIME, Any: ANY}


def maybe(shape: Shape) -> Shape:
    return {"anyOf": [shape, {"type": "null"}]}


def listed(shape: Shape) -> Shape:
    return {"type": "array", "items": shape}


def thing(**values: Shape) -> Shape:
    """An object that has all of these."""
    return {"type": "object", "required": list(values), "properties": values}


def page(name: str, row: Shape, **more: Shape) -> Shape:
    """A page of a list, and the cursor of the next one."""
    return thing(**more, **{name: listed(row)}, next=maybe(TEXT))


def of_type(kind: Any) -> Shape:
    """What a value of this type is in JSON."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        (one,) = (each for each in inner if each is not type(None))
        return maybe(of_type(one))
    if origin in (list, tuple):
        return listed(of_type(inner[0]))
    if origin in (dict, Mapping, types.MappingProxyType) or kind in (dict, Mapping):
        return FREE
    if isinstance(kind, type) and issubclass(kind, Enum):
        return {"enum": [each.value for each in kind]}
    return _PLAIN[kind]


def of_fields(kind: type, names: Iterable[str] | None = None) -> Shape:
    """An object with these fields of a class, all of them if none are named."""
    hints = {**typing.get_type_hints(kind), **_properties(kind)}
    return thing(**{name: of_type(hints[name]) for name in (names or typing.get_type_hints(kind))})


def _properties(kind: type) -> dict[str, Any]:
    return {
        name: typing.get_type_hints(value.fget)["return"]
        for name, value in vars(kind).items()
        if isinstance(value, property)
    }


ROWS = {table: of_fields(record) for record, table in TABLES.items()}
"""The rows of each table of the log."""
RECORD: Shape = {"oneOf": [thing(table={"const": table}, **shape["properties"]) for table, shape in ROWS.items()]}
"""A row of any table, which says of which."""
ITEM = of_fields(AttentionItem)


def unit(names: Iterable[str]) -> Shape:
    return thing(**of_fields(Unit, names)["properties"], waits_for=listed(TEXT))


MOVED = thing(unit=TEXT, status=STATUS, version=COUNT, seq=COUNT)
"""What a request about one unit is answered: where it left the unit."""
