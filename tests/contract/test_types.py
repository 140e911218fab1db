"""The types of arguments: what each takes, in each form, and how it refuses."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import uuid
from collections.abc import Mapping, Sequence
from typing import (
    Annotated,
    Any,
    ClassVar,
    Generic,
    Literal,
    NamedTuple,
    NewType,
    NoReturn,
    NotRequired,
    Optional,
    TypedDict,
    TypeVar,
    Union,
)

import msgspec
import pytest
from msgspec import Meta

from primacron.dialects.base import Form
from primacron.errors import InvalidMessage, Refused, UndecodableMessage, ValidationFailed
from tests.contract.arguing import DECODED, failure, read, read_text, registration_error, taking

T = TypeVar("T")


class Bid(msgspec.Struct):
    lot: str
    cents: int = 1


class Strict(msgspec.Struct, forbid_unknown_fields=True):
    lot: str


class Renamed(msgspec.Struct, rename="camel"):
    lot_number: int


class Row(msgspec.Struct, array_like=True):
    a: int
    b: str


class Cat(msgspec.Struct, tag=True):
    lives: int


class Dog(msgspec.Struct, tag=True):
    tricks: list[str]


class Tree(msgspec.Struct):
    name: str
    children: list[Tree] = []


class Box(msgspec.Struct, Generic[T]):
    content: T


@dataclasses.dataclass
class Point:
    x: float
    y: float = 0.0


class Address(TypedDict):
    street: str
    number: NotRequired[int]


class Pair(NamedTuple):
    first: int
    second: str = "none"


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


Lot = NewType("Lot", str)
Cents = Annotated[int, Meta(ge=0, le=1_000)]

TAKEN: list[tuple[Any, Any, Any]] = [
    (int, 5, 5),
    (int, -(2**63), -(2**63)),
    (float, 1.5, 1.5),
    (float, 1, 1.0),
    (bool, True, True),
    (str, "é😀", "é😀"),
    (None, None, None),
    (Any, {"a": [1, None]}, {"a": [1, None]}),
    (object, ["x"], ["x"]),
    (Bid, {"lot": "a"}, Bid("a")),
    (Bid, {"lot": "a", "cents": 2, "unknown": [{}]}, Bid("a", 2)),
    (Renamed, {"lotNumber": 3}, Renamed(3)),
    (Row, [1, "b"], Row(1, "b")),
    (Cat | Dog, {"type": "Dog", "tricks": ["sit"]}, Dog(["sit"])),
    (Tree, {"name": "a", "children": [{"name": "b"}]}, Tree("a", [Tree("b")])),
    (Box[int], {"content": 1}, Box(1)),
    (Point, {"x": 1}, Point(1.0)),
    (Address, {"street": "s"}, {"street": "s"}),
    (Address, {"street": "s", "number": 4}, {"street": "s", "number": 4}),
    (Pair, [1], Pair(1)),
    (Pair, [1, "b"], Pair(1, "b")),
    (Literal["a", "b"], "b", "b"),
    (Literal[1, "a", None], None, None),
    (Color, "red", Color.RED),
    (Level, 2, Level.HIGH),
    (Lot, "a", "a"),
    (Cents, 1_000, 1_000),
    (Annotated[str, Meta(pattern="^[a-z]+$", max_length=3)], "abc", "abc"),
    (Annotated[list[int], Meta(min_length=1)], [1], [1]),
    (Annotated[int, "the price, for readers"], 5, 5),
    (Optional[int], None, None),  # noqa: UP045 (this form, too)
    (Union[int, str], "a", "a"),  # noqa: UP007
    (int | None, 5, 5),
    (int | str | None, "a", "a"),
    (str | bytes, "a", "a"),
    (str | bytes | None, None, None),
    (list[Bid], [{"lot": "a"}], [Bid("a")]),
    (list, [1, "a"], [1, "a"]),
    (dict[str, int], {"a": 1}, {"a": 1}),
    (dict[Literal["a"], int], {"a": 1}, {"a": 1}),
    (tuple[int, str], [1, "a"], (1, "a")),
    (tuple[int, ...], [1, 2], (1, 2)),
    (set[int], [1, 1, 2], {1, 2}),
    (frozenset[str], ["a"], frozenset("a")),
    (Sequence[int], [1], [1]),
    (Mapping[str, int], {"a": 1}, {"a": 1}),
    (dt.datetime, "2025-11-25T16:00:00Z", dt.datetime(2025, 11, 25, 16, tzinfo=dt.UTC)),
    (dt.date, "2025-11-25", dt.date(2025, 11, 25)),
    (dt.time, "16:00:00", dt.time(16)),
    (dt.timedelta, "PT1.5S", dt.timedelta(seconds=1.5)),
    (uuid.UUID, "12345678-1234-5678-1234-567812345678", uuid.UUID("12345678123456781234567812345678")),
    (decimal.Decimal, "1.10", decimal.Decimal("1.10")),
]


@pytest.mark.parametrize("form", DECODED, ids=lambda form: form.name)
@pytest.mark.parametrize(("annotation", "sent", "got"), TAKEN, ids=lambda value: str(value)[:50])
def test_a_type_takes_its_values(annotation: Any, sent: Any, got: Any, form: Form) -> None:
    value = read(taking(annotation), [sent], form)
    assert value == (got,)
    assert type(value[0]) is type(got)
    # Beside an argument that may be left out each is read apart.
    assert read(taking(annotation, int, optional=1), [sent], form) == (got,)
    assert read(taking(annotation, rest=int), [sent, 1, 2], form) == (got, 1, 2)


REFUSED: list[tuple[Any, Any, str, str]] = [
    (int, "5", "Expected `int`, got `str`", "$[0]"),
    (int, 5.0, "Expected `int`, got `float`", "$[0]"),
    (int, True, "Expected `int`, got `bool`", "$[0]"),
    (str, 5, "Expected `str`, got `int`", "$[0]"),
    (bool, 1, "Expected `bool`, got `int`", "$[0]"),
    (float, "1", "Expected `float`, got `str`", "$[0]"),
    (Bid, [], "Expected `object`, got `array`", "$[0]"),
    (Bid, {}, "Object missing required field `lot`", "$[0]"),
    (Bid, {"lot": "a", "cents": "x"}, "Expected `int`, got `str`", "$[0].cents"),
    (Bid, {"lot": 5}, "Expected `str`, got `int`", "$[0].lot"),
    (Strict, {"lot": "a", "more": 1}, "Object contains unknown field `more`", "$[0]"),
    (Renamed, {"lotNumber": "x"}, "Expected `int`, got `str`", "$[0].lotNumber"),
    (Row, [1], "Expected `array` of at least length 2, got 1", "$[0]"),
    (Row, [1, 2], "Expected `str`, got `int`", "$[0][1]"),
    (Cat | Dog, {"type": "Cow"}, "Invalid value 'Cow'", "$[0].type"),
    (Cat | Dog, {"type": "Dog", "tricks": [1]}, "Expected `str`, got `int`", "$[0].tricks[0]"),
    (Tree, {"name": "a", "children": [{"name": 1}]}, "Expected `str`, got `int`", "$[0].children[0].name"),
    (Box[int], {"content": "x"}, "Expected `int`, got `str`", "$[0].content"),
    (Point, {"x": "1"}, "Expected `float`, got `str`", "$[0].x"),
    (Address, {"number": 1}, "Object missing required field `street`", "$[0]"),
    (Pair, [], "Expected `array` of length 1 to 2", "$[0]"),
    (Pair, {"first": 1}, "Expected `array`, got `object`", "$[0]"),
    (Literal["a", "b"], "c", "Invalid enum value 'c'", "$[0]"),
    (Color, "green", "Invalid enum value 'green'", "$[0]"),
    (Level, 3, "Invalid enum value 3", "$[0]"),
    (Cents, -1, "Expected `int` >= 0", "$[0]"),
    (Cents, 1_001, "Expected `int` <= 1000", "$[0]"),
    (Annotated[str, Meta(pattern="^[a-z]+$")], "A", "Expected `str` matching regex '^[a-z]+$'", "$[0]"),
    (int | None, "x", "Expected `int | null`, got `str`", "$[0]"),
    (str | bytes, 5, "Expected `str` or `bytes`, got `int`", "$[0]"),
    (str | bytes, None, "Expected `str` or `bytes`, got `NoneType`", "$[0]"),
    (list[Bid], [{"lot": "a"}, {"lot": "b", "cents": []}], "Expected `int`, got `array`", "$[0][1].cents"),
    (dict[str, int], {"a": "x"}, "Expected `int`, got `str`", "$[0][...]"),
    (dict[Literal["a"], int], {"b": 1}, "Invalid enum value 'b'", "$[0]"),
    (dict[str, dict[Literal["a"], int]], {"x": {"b": 1}}, "Invalid enum value 'b'", "$[0][...]"),
    (tuple[int, str], [1], "Expected `array` of length 2", "$[0]"),
    (tuple[int, str], [1, 2], "Expected `str`, got `int`", "$[0][1]"),
    (set[int], [1, "a"], "Expected `int`, got `str`", "$[0][1]"),
    (dt.datetime, "2025", "Invalid RFC3339 encoded datetime", "$[0]"),
    (dt.date, "2025-13-01", "Invalid RFC3339 encoded date", "$[0]"),
    (uuid.UUID, "x", "Invalid UUID", "$[0]"),
    (decimal.Decimal, "x", "Invalid decimal string", "$[0]"),
]


@pytest.mark.parametrize("form", DECODED, ids=lambda form: form.name)
@pytest.mark.parametrize(("annotation", "sent", "words", "path"), REFUSED, ids=lambda value: str(value)[:50])
def test_a_type_refuses_other_values_and_says_where(
    annotation: Any, sent: Any, words: str, path: str, form: Form
) -> None:
    second = path.replace("$[0]", "$[1]", 1)
    for arguments, args, expected in (
        (taking(annotation), [sent], path),
        (taking(annotation, int, optional=1), [sent], path),
        (taking(int, annotation), [1, sent], second),
        (taking(int, rest=annotation), [1, sent], second),
    ):
        said, where = failure(arguments, args, form)
        assert said.startswith(words)
        assert where == expected


# Bytes, which JSON does not have


def test_bytes_are_base64_in_json_and_themselves_in_messagepack() -> None:
    assert read(taking(bytes), ["AQI="]) == (b"\1\2",)
    assert read(taking(bytes), [b"\1\2"], Form.MSGPACK) == (b"\1\2",)
    assert read(taking(list[bytes] | None), [["AQI="]]) == ([b"\1\2"],)
    assert failure(taking(bytes), ["***"]) == ("Invalid base64 encoded string", "$[0]")
    assert failure(taking(bytes), [5]) == ("Expected `bytes`, got `int`", "$[0]")
    assert failure(taking(str), [b"a"], Form.MSGPACK) == ("Expected `str`, got `bytes`", "$[0]")


def test_either_text_or_bytes_is_always_text_in_json() -> None:
    assert read(taking(str | bytes), ["AQI="]) == ("AQI=",)
    assert read(taking(bytes | str), ["a"], Form.MSGPACK) == ("a",)
    assert read(taking(bytes | str), [b"\xff"], Form.MSGPACK) == (b"\xff",)
    assert read(taking(int, str | bytes), [1, b"\xff"], Form.MSGPACK) == (1, b"\xff")


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (str, "a"),
        (bytes, b"a"),
        (str | bytes, "a"),
        (str | bytes, b"a"),
        (Any, "a"),
        (object, b"a"),
        (Annotated[str, Meta(max_length=1)], "a"),
        (Annotated[bytes, Meta(max_length=1)], b"a"),
        (Annotated[str | bytes, Meta(max_length=1)], b"a"),
        (Annotated[Any, "anything"], "a"),
    ],
)
def test_raw_messages_are_taken_as_they_are(annotation: Any, value: str | bytes) -> None:
    assert read(taking(annotation), (value,), Form.VALUE) == (value,)


@pytest.mark.parametrize(
    ("annotation", "value", "words"),
    [
        (str, b"a", "Expected `str`, got `bytes`"),
        (bytes, "a", "Expected `bytes`, got `str`"),
        (Annotated[str, Meta(max_length=1)], "ab", "Expected `str` of length <= 1"),
        (Annotated[bytes, Meta(max_length=1)], b"ab", "Expected `bytes` of length <= 1"),
        (int, "5", "Expected a type that the raw dialect does not have, got `str`"),
        (Bid, '{"lot":"a"}', "Expected a type that the raw dialect does not have, got `str`"),
        (list[str], "a", "Expected a type that the raw dialect does not have, got `str`"),
    ],
)
def test_raw_messages_are_decoded_for_no_type(annotation: Any, value: str | bytes, words: str) -> None:
    assert failure(taking(annotation), (value,), Form.VALUE) == (words, "$[0]")


@pytest.mark.parametrize("form", DECODED, ids=lambda form: form.name)
def test_constraints_of_either_text_or_bytes_are_checked(form: Form) -> None:
    short = taking(Annotated[str | bytes, Meta(min_length=1, max_length=3)])
    assert read(short, ["abc"], form) == ("abc",)
    assert failure(short, ["abcd"], form) == ("Expected `str` of length <= 3", "$[0]")
    assert failure(short, [""], form) == ("Expected `str` of length >= 1", "$[0]")
    assert failure(short, [5], form) == ("Expected `str` or `bytes`, got `int`", "$[0]")
    assert failure(short, [b"abcd"], Form.MSGPACK) == ("Expected `bytes` of length <= 3", "$[0]")


# Text that no type takes


@pytest.mark.parametrize("annotation", [Any, int, float, Bid, list[Any], dict[str, Any], str | bytes])
@pytest.mark.parametrize(
    "item",
    ["NaN", "Infinity", "-Infinity", "1e", "nul", "[1,]", '"\\ud800"', "'a'", "[" * 100_000 + "]" * 100_000],
    ids=lambda item: item[:12],
)
def test_what_is_not_json_cannot_be_decoded_whatever_the_type(annotation: Any, item: str) -> None:
    for text in (f"[{item}]", f'[{{"lot":{item}}}]'):
        with pytest.raises((UndecodableMessage, ValidationFailed)):
            read_text(taking(annotation), text)
    with pytest.raises(UndecodableMessage, match="args: "):
        read_text(taking(Any), f"[{item}]")


@pytest.mark.parametrize("annotation", [int, float, Any, Cents])
@pytest.mark.parametrize(
    "number", ["1e999", "-1e999", "9" * 5_000, "-" + "9" * 5_000, "9" * 400 + ".5"], ids=lambda n: n[:6]
)
def test_numbers_beyond_all_bounds_are_refused(annotation: Any, number: str) -> None:
    with pytest.raises(ValidationFailed, match=r"out of range|Expected `int`") as caught:
        read_text(taking(annotation), f"[{number}]")
    assert caught.value.path == "$[0]"


@pytest.mark.parametrize("wire", [b'["\xff"]', b'["\xed\xa0\x80"]', b'[{"lot":"\xc3("}]'])
@pytest.mark.parametrize("annotation", [Any, str, Bid, str | bytes])
def test_text_that_is_not_utf8_is_a_wrong_value(annotation: Any, wire: bytes) -> None:
    with pytest.raises((InvalidMessage, ValidationFailed)):
        read_text(taking(annotation), wire)
    with pytest.raises(InvalidMessage, match="not UTF-8"):
        read_text(taking(Any), wire)


@pytest.mark.parametrize("value", [None, 5, "text", {}, {"0": 1}, True])
@pytest.mark.parametrize("form", DECODED, ids=lambda form: form.name)
def test_arguments_that_are_no_array_are_invalid(value: object, form: Form) -> None:
    for arguments in (taking(int), taking(int, optional=1), taking(str | bytes), taking(rest=Any), taking()):
        with pytest.raises(InvalidMessage, match="args: Expected `array`, got"):
            read(arguments, value, form)


# Types that run the application's code


class Refusing(msgspec.Struct):
    how: int

    def __post_init__(self) -> None:
        raise [
            ValueError("not for sale"),
            TypeError("wrong kind"),
            ValueError(),
            KeyError("lot"),
            ZeroDivisionError(),
            RuntimeError("with - at `a path` in it"),
            ValueError("with - at `a path` in it"),
        ][self.how]


@pytest.mark.parametrize(
    ("how", "words", "path"),
    [
        (0, "not for sale", "$[0].inner"),
        (2, "Failed to validate the data", "$[0].inner"),
        (6, "with - at `a path` in it", "$[0].inner"),
    ],
)
@pytest.mark.parametrize("form", DECODED, ids=lambda form: form.name)
def test_what_a_types_own_check_raises_refuses_the_value(how: int, words: str, path: str, form: Form) -> None:
    class Outer(msgspec.Struct):
        inner: Refusing

    for arguments in (taking(Outer), taking(Outer, int, optional=1)):
        assert failure(arguments, [{"inner": {"how": how}}], form) == (words, path)


@pytest.mark.parametrize(("how", "kind"), [(1, TypeError), (3, KeyError), (4, ZeroDivisionError), (5, RuntimeError)])
@pytest.mark.parametrize("form", DECODED, ids=lambda form: form.name)
def test_a_mistake_in_a_types_own_check_is_not_taken_for_a_refusal(how: int, kind: type[Exception], form: Form) -> None:
    class Outer(msgspec.Struct):
        inner: Refusing

    for arguments in (taking(Outer), taking(Outer, int, optional=1)):
        with pytest.raises(kind) as caught:
            read(arguments, [{"inner": {"how": how}}], form)
        assert any(each.name == "__post_init__" for each in caught.traceback)


@pytest.mark.parametrize("error", [AssertionError("at least two"), Refused(403, "at least two")])
@pytest.mark.parametrize("form", DECODED, ids=lambda form: form.name)
def test_assertions_and_refusals_of_a_types_own_check_refuse_the_value(error: Exception, form: Form) -> None:
    class Own(msgspec.Struct):
        number: int

        def __post_init__(self) -> None:
            raise error

    for arguments in (taking(Own), taking(Own, int, optional=1)):
        assert failure(arguments, [{"number": 1}], form) == ("at least two", "")


def test_what_ends_the_process_is_not_taken_for_a_refusal() -> None:
    @dataclasses.dataclass
    class Ending:
        how: int

        def __post_init__(self) -> None:
            raise SystemExit(self.how)

    with pytest.raises(SystemExit):
        read(taking(Ending), [{"how": 3}])


def test_a_clients_words_do_not_pass_for_a_path() -> None:
    assert failure(taking(Color), ["x - at `$[9]`"]) == ("Invalid enum value 'x - at `$[9]`'", "$[0]")
    assert failure(taking(int, Color), [1, "` - at `$.a"]) == ("Invalid enum value '` - at `$.a'", "$[1]")


# Types that nobody can check


class Foreign:
    pass


class Holder(msgspec.Struct):
    foreign: Foreign


class Unknown(msgspec.Struct):
    missing: Missing  # type: ignore[name-defined]  # noqa: F821


@pytest.mark.parametrize(
    "annotation",
    [
        Foreign,
        Holder,
        list[Foreign],
        Foreign | int,
        Bid | Tree,
        Bid | Point,
        msgspec.UnsetType,
        NoReturn,
        ClassVar[int],
        3,
        [int],
        {"a": int},
        (int, str),
        Ellipsis,
        Annotated[str | bytes, Meta(gt=3)],
        Annotated[str | bytes, Meta(pattern="a")],
    ],
    ids=str,
)
def test_a_type_that_cannot_be_checked_is_refused_at_registration_in_our_words(annotation: Any) -> None:
    text = registration_error(int, annotation)
    assert text.startswith(f"handler of 'bid': parameter 'p1': the type {annotation!r} cannot be checked")
    assert text.endswith("use a msgspec type, a dataclass or (with pydantic installed) a pydantic model")


def test_a_type_with_an_unknown_name_inside_is_refused_with_that_name() -> None:
    for annotation in (Unknown, list[Unknown], Unknown | None):
        text = registration_error(annotation)
        assert text.startswith("handler of 'bid': parameter 'p0': name 'Missing' is not defined; ")
        assert "at its top level" in text
