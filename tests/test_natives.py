"""Subclasses of built-in types at the border: they are what they are based on."""

from __future__ import annotations

from enum import Enum, IntEnum, StrEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from primacron.natives import as_name, as_native


class Text(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "something else"


class Whole(int):
    def __int__(self) -> int:
        return 13


class Real(float):
    def __float__(self) -> float:
        return 13.0


class Blob(bytes):
    def __bytes__(self) -> bytes:
        return b"something else"


class Kind(StrEnum):
    OPEN = "open"


class Mixed(str, Enum):  # noqa: UP042 (older applications have these)
    OPEN = "open"


class Number(IntEnum):
    ONE = 1


@given(st.text(), st.integers(), st.floats(allow_nan=False), st.binary())
def test_a_subclass_becomes_its_base_whatever_it_overrides(text: str, whole: int, real: float, blob: bytes) -> None:
    for base, value in ((text, Text(text)), (whole, Whole(whole)), (real, Real(real)), (blob, Blob(blob))):
        found = as_native(value)
        assert type(found) is type(base)
        assert found == base
        assert as_native(base) is base or type(base) in (int, float)


@pytest.mark.parametrize(
    ("value", "base"), [(Kind.OPEN, "open"), (Mixed.OPEN, "open"), (Number.ONE, 1), (True, True), (None, None)]
)
def test_members_of_enums_are_their_values_and_the_rest_is_left(value: Any, base: Any) -> None:
    assert as_native(value) == base
    assert type(as_native(value)) is type(base)


@pytest.mark.parametrize("value", ["open", Text("open"), Kind.OPEN, Mixed.OPEN])
def test_a_name_is_a_str(value: str) -> None:
    name = as_name(value, "event")
    assert type(name) is str
    assert name == "open"


@pytest.mark.parametrize("value", [None, 5, 1.5, b"open", ["open"], True, object()])
def test_nothing_else_is_a_name(value: Any) -> None:
    with pytest.raises(TypeError, match=rf"^event: expected a str, got {type(value).__name__}$"):
        as_name(value, "event")
