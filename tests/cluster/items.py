"""Hypothesis strategies for items of every kind."""

from __future__ import annotations

import typing
from types import UnionType
from typing import Any, Final

import msgspec
from hypothesis import strategies as st

from primacron.cluster.items import KINDS, Item
from primacron.ids import NodeId

INTEGERS: Final = st.integers(-(2**63), 2**64 - 1)
#: What MessagePack can represent of an application's values; shallow, since depth is tested elsewhere.
VALUES: Final[st.SearchStrategy[Any]] = st.recursive(
    st.none()
    | st.booleans()
    | INTEGERS
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
    | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)
RAW: Final = VALUES.map(lambda value: msgspec.Raw(msgspec.msgpack.encode(value)))
NODES: Final = st.from_regex(r"[A-Za-z0-9_-]{16}", fullmatch=True).map(NodeId)

_SIMPLE: Final[dict[Any, st.SearchStrategy[Any]]] = {
    int: INTEGERS,
    str: st.text(max_size=40),
    float: st.floats(allow_nan=False),
    bool: st.booleans(),
    bytes: st.binary(max_size=100),
    msgspec.Raw: RAW,
    type(None): st.none(),
}


def values_of(annotation: Any) -> st.SearchStrategy[Any]:
    """Return a strategy for a field's type."""
    annotation = getattr(annotation, "__supertype__", annotation)
    origin, args = typing.get_origin(annotation), [values_of(each) for each in typing.get_args(annotation)]
    if origin is UnionType or origin is typing.Union:
        return st.one_of(args)
    if origin is list:
        return st.lists(args[0], max_size=3)
    if origin is tuple:
        return st.tuples(*args)
    if origin is dict:
        return st.dictionaries(*args, max_size=3)
    if annotation in _SIMPLE:
        return _SIMPLE[annotation]
    return structs(annotation)


def structs(kind: Any) -> st.SearchStrategy[Any]:
    """Return a strategy for instances of a Struct."""
    hints = typing.get_type_hints(kind)
    return st.builds(kind, **{field: values_of(hints[field]) for field in kind.__struct_fields__})


ITEMS: Final[st.SearchStrategy[Item]] = st.one_of([structs(kind) for kind in KINDS])
