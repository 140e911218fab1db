"""Which kind a channel is of, what its function is called with, and what is refused at registration."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import functools
import uuid
from collections.abc import Callable
from typing import Annotated, Any, Literal, NewType

import annotated_types
import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from primacron.channels.kinds import KEEP_LAST, Kind, Kinds
from primacron.errors import ChannelNameTooLong, RegistrationError, ValidationFailed
from tests.channels import reference
from tests.channels.test_patterns import patterns

UUID = "9f0c7c0e-5b0c-4c39-9f2e-0d6f3a0c9b11"
LotNumber = NewType("LotNumber", int)


class Colour(enum.Enum):
    RED = "red"
    DARK_RED = "dark red"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Seat(msgspec.Struct):
    name: str


class Model(pydantic.BaseModel):
    name: str


def kinds(*given_patterns: str, max_name: int = 255) -> Kinds:
    """Return kinds that everyone may join."""
    found = Kinds(max_name=max_name)
    for pattern in given_patterns:
        found.add(pattern)
    return found


def deciding(pattern: str, function: Any) -> Kinds:
    """Return one kind with its function."""
    found = Kinds(max_name=255)
    found.attach(found.add(pattern), function)
    return found


def taking(annotation: Any) -> Kinds:
    """Return one kind whose function takes one field of this type."""

    def enter(session: Any, field: Any) -> None: ...

    enter.__annotations__["field"] = annotation
    return deciding("lot:{field}", enter)


def refusal(register: Callable[[], object]) -> str:
    """Return with which words something is refused at registration."""
    with pytest.raises(RegistrationError) as caught:
        register()
    return str(caught.value)


def args(found: Kinds, name: str) -> tuple[Any, ...]:
    """Return what the function of a channel is called with behind the session."""
    kind = found.find(name)
    assert kind is not None
    return kind[1]


def pattern_of(found: Kinds, name: str) -> str | None:
    """Return the pattern that a name belongs to."""
    kind = found.find(name)
    return None if kind is None else kind[0].pattern.text


# Which kind


@pytest.mark.parametrize(
    ("given_patterns", "name", "pattern"),
    [
        ([], "news", None),
        (["news"], "news", "news"),
        (["news"], "staff", None),
        (["lot:{n}", "lot:vip"], "lot:vip", "lot:vip"),
        (["lot:vip", "lot:{n}"], "lot:vip", "lot:vip"),
        (["lot:{n}", "lot:vip"], "lot:vi", "lot:{n}"),
        (["{a}", "lot:{n}", "lot:vip-{n}"], "lot:vip-7", "lot:vip-{n}"),
        (["{a}", "lot:{n}", "lot:vip-{n}"], "lot:vip-", "lot:{n}"),
        (["{a}", "lot:{n}", "lot:vip-{n}"], "lots", "{a}"),
        (["{a}", "lot:{n}", "lot:vip-{n}"], "lot:", None),
        (["lot:{n}", "lot:{n}:bids"], "lot:7:bids", "lot:{n}:bids"),
        (["lot:{n}", "lot:{n}:bids"], "lot:7", "lot:{n}"),
        (["lot:{n}:x", "lo{a}:{b}"], "lot:7", "lo{a}:{b}"),
    ],
)
def test_a_name_is_of_the_kind_with_the_longest_beginning(
    given_patterns: list[str], name: str, pattern: str | None
) -> None:
    assert pattern_of(kinds(*given_patterns), name) == pattern


@given(st.lists(patterns(), max_size=5), st.text("ab-:", min_size=1, max_size=10))
def test_finding_agrees_with_comparing_with_each_pattern(drawn: list[str], name: str) -> None:
    found, accepted = Kinds(max_name=255), []
    for pattern in drawn:
        try:
            found.add(pattern)
        except RegistrationError:
            continue
        accepted.append(pattern)
    kind = found.find(name)
    assert (None if kind is None else (kind[0].pattern.text, kind[1])) == reference.find(accepted, name)


@given(patterns(), patterns())
def test_two_patterns_are_refused_only_if_a_name_is_as_much_of_one_as_of_the_other(one: str, two: str) -> None:
    found = kinds(one)
    same_head = reference.take_apart(one)[0][0] == reference.take_apart(two)[0][0]
    shared = [name for name in reference.names("a-:", 5) if reference.read(one, name) and reference.read(two, name)]
    try:
        found.add(two)
    except RegistrationError:
        assert same_head
    else:
        assert not (same_head and shared)


def test_patterns_that_cannot_be_told_apart_are_refused_with_both_their_names() -> None:
    found = kinds("lot:{number}", "news")
    assert refusal(lambda: found.add("lot:{id}")) == (
        "channels 'lot:{id}': cannot be told apart from 'lot:{number}', as both begin with 'lot:' and some names match"
        " both"
    )
    assert refusal(lambda: found.add("news")).startswith("channels 'news': cannot be told apart from 'news', ")
    found.add("lot:{id}:bids")
    found.add("lot:v{id}")


# Names


@pytest.mark.parametrize("byte", range(256))
def test_every_character_up_to_255_is_part_of_a_name_unless_it_is_a_control_or_a_colon(byte: int) -> None:
    found = kinds("lot:{a}")
    name = f"lot:x{chr(byte)}y"
    if byte < 32 or 127 <= byte < 160:
        with pytest.raises(ValidationFailed) as caught:
            found.find(name)
        assert caught.value.path == ""
    else:
        assert (pattern_of(found, name) is None) is (chr(byte) == ":")


@given(st.text())
def test_any_text_is_found_or_refused(name: str) -> None:
    found = kinds("{a}", "{a}:{b}", "lot:{a}", "é{b}")
    try:
        pattern = pattern_of(found, name)
    except ValidationFailed:
        assert not name or any(ord(each) < 32 or 127 <= ord(each) < 160 for each in name)
    except ChannelNameTooLong:
        assert len(name.encode()) > 255
    else:
        assert len(name.encode()) <= 255
        assert (pattern is None) is (name.count(":") > 1 or name[0] == ":" or name[-1] == ":")


@pytest.mark.parametrize("name", ["", "\ud800", "a\udfff", "a\n"])
def test_an_unusable_name_is_refused(name: str) -> None:
    with pytest.raises(ValidationFailed):
        kinds("{a}").find(name)


@pytest.mark.parametrize("name", ["a" * 256, "é" * 128, "\x00" * 256, "\ud800" * 256, "a" * 1_000_000])
def test_a_name_that_is_too_long_is_refused_as_a_limit(name: str) -> None:
    with pytest.raises(ChannelNameTooLong, match="bytes of the name of a channel: the limit is 255"):
        kinds("{a}").find(name)


def test_the_longest_name_is_found() -> None:
    assert args(kinds("{a}"), "é" * 127 + "a") == ("é" * 127 + "a",)


# Fields


@pytest.mark.parametrize(
    ("annotation", "text", "value"),
    [
        (str, "7", "7"),
        (str, "07", "07"),
        (Any, "7", "7"),
        (object, "7", "7"),
        (int, "7", 7),
        (int, "0", 0),
        (int, "-7", -7),
        (int, str(2**80), 2**80),
        (float, "1.5", 1.5),
        (float, "2.0", 2.0),
        (bool, "true", True),
        (uuid.UUID, UUID, uuid.UUID(UUID)),
        (Colour, "dark red", Colour.DARK_RED),
        (Level, "2", Level.HIGH),
        (Literal["open", 3], "open", "open"),
        (Literal["open", 3], "3", 3),
        (dt.date, "2026-02-28", dt.date(2026, 2, 28)),
        (dt.timedelta, "P1D", dt.timedelta(days=1)),
        (decimal.Decimal, "1.50", decimal.Decimal("1.50")),
        (bytes, "aGk=", b"hi"),
        (int | None, "null", None),
        (Annotated[int, Meta(ge=1)], "1", 1),
        (LotNumber, "7", 7),
    ],
)
def test_a_field_is_converted_to_the_type_of_its_parameter(annotation: Any, text: str, value: object) -> None:
    (found,) = args(taking(annotation), f"lot:{text}")
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("annotation", "text", "words"),
    [
        (int, "x", "Expected `int`, got `str`"),
        (int, "07", "Expected `int`, got `str`"),
        (int, "+7", "Expected `int`, got `str`"),
        (int, " 7", "Expected `int`, got `str`"),
        (int, "7 ", "Expected `int`, got `str`"),
        (int, "7_0", "Expected `int`, got `str`"),
        (int, "\N{ARABIC-INDIC DIGIT SEVEN}", "Expected `int`, got `str`"),
        (int, "-0", "Expected '0', got '-0'"),
        (int, "7.0", "Expected '7', got '7.0'"),
        (int, "1e3", "Expected '1000', got '1e3'"),
        (Annotated[int, Meta(ge=1)], "0", "Expected `int` >= 1"),
        (Annotated[str, Meta(max_length=2)], "abc", "Expected `str` of length <= 2"),
        (float, "1", "Expected '1.0', got '1'"),
        (float, "nan", "Expected 'null', got 'nan'"),
        (float, "inf", "Expected 'null', got 'inf'"),
        (float, "1e999", "Number out of range"),
        (bool, "1", "Expected 'true', got '1'"),
        (bool, "True", "Expected 'true', got 'True'"),
        (uuid.UUID, UUID.upper(), f"Expected {UUID!r}, got {UUID.upper()!r}"),
        (uuid.UUID, UUID.replace("-", ""), f"Expected {UUID!r}, got {UUID.replace('-', '')!r}"),
        (uuid.UUID, "7", "Invalid UUID"),
        (Colour, "Red", "Invalid enum value 'Red'"),
        (Level, "02", "Expected `int`, got `str`"),
        (Level, "3", "Invalid enum value 3"),
        (bytes, "aGk", "Invalid base64 encoded string"),
        (decimal.Decimal, "1e3", "Expected '1E+3', got '1e3'"),
        (dt.date, "2026-02-30", "Invalid RFC3339 encoded date"),
        (dt.timedelta, "PT86400S", "Expected 'P1D', got 'PT86400S'"),
    ],
)
def test_a_field_that_does_not_convert_or_is_written_otherwise_is_refused_by_its_name(
    annotation: Any, text: str, words: str
) -> None:
    with pytest.raises(ValidationFailed) as caught:
        taking(annotation).find(f"lot:{text}")
    assert (str(caught.value), caught.value.path) == (words, "field")


@pytest.mark.parametrize(
    "annotation",
    [
        int,
        float,
        bool,
        bytes,
        uuid.UUID,
        decimal.Decimal,
        dt.date,
        dt.timedelta,
        Level,
        int | None,
        Literal["a", 1],
    ],
    ids=str,
)
@given(text=st.text("0123456789+-.eEPTDSnulaf_ ", min_size=1, max_size=12) | st.text(min_size=1, max_size=5))
def test_a_channel_has_one_name(annotation: Any, text: str) -> None:
    try:
        found = taking(annotation).find(f"lot:{text}")
    except ValidationFailed:
        return
    if found is not None:
        plain = msgspec.to_builtins(found[1][0])
        assert text == (plain if isinstance(plain, str) else str(plain) if type(plain) is int else plain_text(plain))


def plain_text(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def test_fields_are_handed_over_in_the_order_of_the_parameters() -> None:
    def enter(session: Any, c: int, a: str, b: float) -> None: ...

    assert args(deciding("{a}:{b}:{c}", enter), "x:1.5:7") == (7, "x", 1.5)


def test_the_first_field_that_is_wrong_is_named() -> None:
    def enter(session: Any, c: int, a: int) -> None: ...

    with pytest.raises(ValidationFailed) as caught:
        deciding("{a}:{c}", enter).find("x:y")
    assert caught.value.path == "a"


def test_without_a_function_fields_are_text_and_anything_is_good() -> None:
    found = kinds("lot:{number}")
    assert args(found, "lot:07") == ("07",)
    kind = found.find("lot:07")
    assert kind is not None
    assert kind[0].function is None


# What a kind says of itself


def test_the_annotation_of_what_the_function_returns_is_the_type_of_the_info() -> None:
    def bare(session): ...  # type: ignore[no-untyped-def]
    def none(session: Any) -> None: ...
    async def seat(session: Any) -> Seat: ...  # type: ignore[empty-body]

    for function, info in ((bare, Any), (none, type(None)), (seat, Seat)):
        found = deciding("news", function).find("news")
        assert found is not None
        assert (found[0].function, found[0].info) == (function, info)


def numbers(**options: Any) -> tuple[int, int, bool]:
    """Return history, keep and presence of a kind."""
    kind: Kind = Kinds(max_name=255).add("news", **options)
    return kind.history, kind.keep, kind.presence


def test_nothing_is_kept_and_nobody_is_shown_unless_asked_for() -> None:
    assert numbers() == (0, 0, False)
    assert numbers(history=100, keep=3600, presence=True) == (100, 3600, True)
    assert numbers(history=Level.HIGH, keep=Level.LOW) == (2, 1, False)
    assert numbers(history=2**31 - 1, keep=31_536_000) == (2**31 - 1, 31_536_000, False)


def test_a_last_value_is_kept_for_a_day_unless_told_otherwise() -> None:
    assert numbers(history=1) == (1, KEEP_LAST, False)
    assert numbers(history=1, keep=60) == (1, 60, False)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"history": 100}, "history=100 needs keep, the seconds for which messages are kept"),
        ({"history": 2, "keep": 0}, "history=2 needs keep, the seconds for which messages are kept"),
        ({"keep": 60}, "keep=60 needs history, the number of messages that are kept"),
        ({"history": -1, "keep": 60}, "history: expected an integer from 0 to 2147483647, got -1"),
        ({"history": 2**31, "keep": 60}, "history: expected an integer from 0 to 2147483647, got 2147483648"),
        ({"history": 1.0, "keep": 60}, "history: expected an integer from 0 to 2147483647, got 1.0"),
        ({"history": True, "keep": 60}, "history: expected an integer from 0 to 2147483647, got True"),
        ({"history": "1", "keep": 60}, "history: expected an integer from 0 to 2147483647, got '1'"),
        ({"history": None}, "history: expected an integer from 0 to 2147483647, got None"),
        ({"history": 1, "keep": -1}, "keep: expected an integer from 0 to 31536000, got -1"),
        ({"history": 1, "keep": 31_536_001}, "keep: expected an integer from 0 to 31536000, got 31536001"),
        ({"history": 1, "keep": 0.5}, "keep: expected an integer from 0 to 31536000, got 0.5"),
        ({"history": 1, "keep": False}, "keep: expected an integer from 0 to 31536000, got False"),
        ({"history": 1, "keep": None}, "keep: expected an integer from 0 to 31536000, got None"),
        ({"presence": 1}, "presence: expected True or False, got 1"),
        ({"presence": None}, "presence: expected True or False, got None"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(options: dict[str, Any], words: str) -> None:
    assert refusal(lambda: numbers(**options)) == f"channels 'news': {words}"


# Which functions


def no_parameter() -> None: ...
def no_field(session: Any) -> None: ...
def other_field(session: Any, id: int) -> None: ...
def one_more(session: Any, number: int, other: int = 0) -> None: ...
def many(session: Any, number: int, *rest: int) -> None: ...
def only_many(session: Any, *number: int) -> None: ...
def keyword(session: Any, *, number: int) -> None: ...
def keywords(session: Any, number: int, **more: int) -> None: ...
def untyped(session, number): ...  # type: ignore[no-untyped-def]
def of_session(number: Any) -> None: ...


TYPE = "or another type that msgspec reads from text without colons"


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (no_parameter, "its first parameter must take the session"),
        (no_field, "{number} is not a parameter of the function"),
        (other_field, "{number} is not a parameter of the function"),
        (of_session, "{number} is not a parameter of the function"),
        (only_many, "{number} is not a parameter of the function"),
        (one_more, "the parameter 'other' is not a field of the pattern"),
        (many, "the parameter '*rest' is not a field of the pattern"),
        (keyword, "keyword-only 'number' cannot come from a client"),
        (keywords, "**more cannot come from a client"),
        (untyped, "parameter 'number' has no type: write `number: int` or the like; Any accepts everything"),
        (5, "its annotations cannot be read: 5 is not a callable object"),
        (None, "its annotations cannot be read: None is not a callable object"),
        ("lot", "its annotations cannot be read: 'lot' is not a callable object"),
    ],
    ids=lambda value: getattr(value, "__name__", str(value))[:40],
)
def test_a_function_whose_parameters_are_not_the_fields_is_refused(function: Any, words: str) -> None:
    assert refusal(lambda: deciding("lot:{number}", function)) == f"channels 'lot:{{number}}': {words}"


@pytest.mark.parametrize(
    "annotation",
    [
        Seat,
        Model,
        list[int],
        dict[str, int],
        int | Seat,
        int | list[int],
        complex,
        msgspec.Raw,
        dt.datetime,
        dt.time,
        pydantic.PositiveInt,
        Annotated[int, annotated_types.Gt(0)],
        Callable[..., Any],
        enum.Enum,
    ],
    ids=str,
)
def test_a_type_that_no_field_can_have_is_refused(annotation: Any) -> None:
    said = refusal(lambda: taking(annotation))
    assert said.startswith("channels 'lot:{field}': parameter 'field': the type ")
    assert said.endswith(TYPE)


def test_an_annotation_that_names_nothing_is_refused() -> None:
    assert "name 'Nothing' is not defined" in refusal(lambda: taking("Nothing"))


class Shop:
    def enter(self, session: Any, number: int) -> None: ...

    @staticmethod
    def leave(session: Any, number: int, *, clock: Any = None) -> None: ...


@functools.wraps(Shop.leave)
def wrapped(*args: Any) -> None: ...


@pytest.mark.parametrize("function", [Shop().enter, Shop.leave, wrapped])
def test_methods_and_wrapped_functions_decide_as_well(function: Any) -> None:
    assert args(deciding("lot:{number}", function), "lot:7") == (7,)


def test_a_kind_whose_function_is_refused_is_gone_rather_than_open_to_everyone() -> None:
    found = kinds("news", "lot:{id}:bids")
    kind = found.add("lot:{number}")
    assert pattern_of(found, "lot:7") == "lot:{number}"
    refusal(lambda: found.attach(kind, other_field))
    assert pattern_of(found, "lot:7") is None
    assert pattern_of(found, "lot:7:bids") == "lot:{id}:bids"
    found.add("lot:{other}")
    assert pattern_of(found, "news") == "news"


def test_the_last_kind_of_its_beginning_leaves_nothing_behind() -> None:
    found = Kinds(max_name=255)
    refusal(lambda: found.attach(found.add("lot:{number}"), other_field))
    assert found.find("lot:7") is None


def test_a_second_function_is_refused_and_the_first_goes_on() -> None:
    def enter(session: Any, number: int) -> None: ...

    found = Kinds(max_name=255)
    kind = found.add("lot:{number}")
    found.attach(kind, enter)
    assert refusal(lambda: found.attach(kind, enter)) == "channels 'lot:{number}': it already has a function"
    assert args(found, "lot:7") == (7,)
