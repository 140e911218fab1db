"""`session.data`: of the declared type and no other that merely looks like it."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import enum
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple, TypedDict

import msgspec
import pytest

from primacron.sessions.session import Session
from tests.sessions.line import Bench


class Basket(msgspec.Struct):
    items: list[str] = msgspec.field(default_factory=list)


class GiftBasket(Basket):
    card: str = ""


@dataclasses.dataclass
class Point:
    x: int = 0


class Address(TypedDict):
    street: str


class Pair(NamedTuple):
    left: int
    right: int


class Color(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    LOW = 1


SessionOf = Callable[[Any], Session]


@pytest.fixture
def session_of(anyio_backend: object) -> Iterator[SessionOf]:
    """Return a function that makes a session whose data has this type."""
    benches: list[Bench] = []

    def make(kind: Any) -> Session:
        bench = Bench(data=kind)
        benches.append(bench)
        return bench.hub.session_of(bench.connect("ann")[0])

    yield make
    for each in benches:
        each.close()


MOMENT = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (dict, {}),
        (dict, {"at": MOMENT, "of": {"a": [1, None]}}),
        (dict, collections.Counter("aab")),
        (dict[str, int], {"a": 1}),
        (list[int], [1, 2]),
        (tuple[int, ...], (1, 2)),
        (set[str], {"a"}),
        (Sequence[int], [1]),
        (Sequence[int], (1,)),
        (Basket, Basket(["a"])),
        (Basket, GiftBasket(["a"], "b")),
        (Point, Point(1)),
        (Address, {"street": "a"}),
        (Pair, Pair(1, 2)),
        (Color, Color.RED),
        (int, 5),
        (int, Level.LOW),
        (float, 5.5),
        (float, 5),
        (bytes, b"\xff"),
        (uuid.UUID, uuid.UUID(int=1)),
        (dt.datetime, MOMENT),
        (Literal["a", "b"], "b"),
        (int | None, None),
        (int | None, 5),
        (Basket | None, Basket()),
        (Any, MOMENT),
        (Any, {"a": Basket()}),
    ],
)
async def test_a_value_of_the_declared_type_is_kept_as_it_is(session_of: SessionOf, kind: Any, value: Any) -> None:
    session = session_of(kind)
    session.data = value
    assert session.data is value


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (dict, None),
        (dict, []),
        (dict, Basket()),
        (dict, Point()),
        (dict, {1, 2}),
        (dict, {"a": object()}),
        (dict, {"a": lambda: None}),
        (dict[str, int], {"a": "b"}),
        (dict[str, int], {1: 1}),
        (list[int], (1, 2)),
        (list[int], ["a"]),
        (tuple[int, ...], [1, 2]),
        (Basket, {"items": []}),
        (Basket, {}),
        (Basket, Point()),
        (Basket, None),
        (Basket, Basket),
        (Basket, Basket([5])),  # type: ignore[list-item]
        (Point, {"x": 1}),
        (Address, {"street": 5}),
        (Address, {}),
        (Pair, (1, 2)),
        (Color, "red"),
        (int, True),
        (int, 5.0),
        (int, "5"),
        (float, True),
        (str, MOMENT),
        (str, b"a"),
        (str, Color.RED),
        (bytes, "YQ=="),
        (uuid.UUID, str(uuid.UUID(int=1))),
        (dt.datetime, MOMENT.isoformat()),
        (Literal["a", "b"], "c"),
        (int | None, "5"),
        (Basket | None, {"items": []}),
        (Any, object()),
    ],
)
async def test_any_other_value_is_refused_and_what_was_there_stays(
    session_of: SessionOf, kind: Any, value: Any
) -> None:
    session = session_of(kind)
    before = session.data
    with pytest.raises(TypeError, match=r"session\.data: expected .*, got "):
        session.data = value
    assert session.data == before


async def test_a_value_that_holds_itself_is_refused(session_of: SessionOf) -> None:
    session = session_of(list)
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(TypeError, match=r"session\.data"):
        session.data = endless


async def test_the_first_value_is_an_empty_one_and_each_session_has_its_own(session_of: SessionOf) -> None:
    kinds: list[tuple[Any, Any]] = [(dict, {}), (list[int], []), (Basket, Basket()), (Point, Point()), (str, "")]
    for kind, empty in kinds:
        first, second = session_of(kind), session_of(kind)
        assert first.data == empty
        assert first.data is first.data
        if isinstance(first.data, dict):
            first.data["a"] = 1
            assert second.data == {}
    without: list[Any] = [int | None, Pair, Literal["a"], Any]
    for kind in without:
        assert session_of(kind).data is None


async def test_data_is_left_when_the_session_ends(session_of: SessionOf) -> None:
    session = session_of(dict)
    session.data = {"a": 1}
    session.disconnect()
    assert not session.connected
    assert session.data == {"a": 1}
    session.data = {"b": 2}
    assert session.data == {"b": 2}
