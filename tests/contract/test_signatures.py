"""What is read of a handler's or validator's signature."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import pytest
from msgspec import Meta

from primacron.contract.arguments import Arguments, Parameter, read_signature
from primacron.errors import RegistrationError
from tests.contract.arguing import WHAT, failure, read

if TYPE_CHECKING:
    from fractions import Fraction  # a type that is there for the type checker alone


class Bid(msgspec.Struct):
    lot: str


def arguments_of(function: Callable[..., Any], *, skip: int = 1, default: Any = None, max_args: int = 32) -> Arguments:
    return Arguments(read_signature(function, WHAT, skip=skip, default=default), WHAT, max_args=max_args)


def refusal(function: Any, *, skip: int = 1, default: Any = None, max_args: int = 32) -> str:
    """Return with which words a function is refused."""
    with pytest.raises(RegistrationError) as caught:
        arguments_of(function, skip=skip, default=default, max_args=max_args)
    assert str(caught.value).startswith(f"{WHAT}: ")
    return str(caught.value).removeprefix(f"{WHAT}: ")


# What is read


def test_the_first_parameter_takes_the_session_whatever_its_annotation() -> None:
    def bare(session, a: int): ...  # type: ignore[no-untyped-def]
    def annotated(session: str, a: int) -> None: ...
    def optional(session: Any = None, a: int = 1) -> None: ...

    assert read_signature(bare, WHAT, skip=1).positional == (Parameter("a", int),)
    assert read_signature(annotated, WHAT, skip=1).positional == (Parameter("a", int),)
    assert read_signature(optional, WHAT, skip=1).positional == (Parameter("a", int, optional=True),)


def test_parameters_keep_their_order_their_constraints_and_whether_they_may_be_left_out() -> None:
    def handler(session: Any, a: Annotated[int, Meta(gt=0)], /, b: list[Bid], c: str = "x", *rest: float) -> None: ...

    signature = read_signature(handler, WHAT, skip=1)
    assert signature.positional == (
        Parameter("a", Annotated[int, Meta(gt=0)]),
        Parameter("b", list[Bid]),
        Parameter("c", str, optional=True),
    )
    assert signature.variadic == Parameter("rest", float)
    assert not signature.is_fixed
    assert signature.bounds(32) == (2, 32)


def test_a_validator_without_annotations_takes_everything() -> None:
    signature = read_signature(lambda a, b=1, *rest: True, WHAT, skip=0, default=Any)
    assert signature.positional == (Parameter("a", Any), Parameter("b", Any, optional=True))
    assert signature.variadic == Parameter("rest", Any)


def test_none_as_an_annotation_is_the_type_of_none() -> None:
    def handler(session: Any, nothing: None) -> None: ...

    assert read(arguments_of(handler), [None]) == (None,)
    assert failure(arguments_of(handler), [5]) == ("Expected `null`, got `int`", "$[0]")


def test_a_default_of_none_does_not_let_clients_send_null() -> None:
    def handler(session: Any, a: int = None) -> None: ...  # type: ignore[assignment]  # noqa: RUF013

    assert read(arguments_of(handler), []) == ()
    assert failure(arguments_of(handler), [None]) == ("Expected `int`, got `null`", "$[0]")


def test_keyword_only_parameters_with_a_default_are_the_applications_own() -> None:
    def handler(session: Any, a: int, *, clock: Any = None, undefined: int = 5) -> None: ...

    assert arguments_of(handler).signature.positional == (Parameter("a", int),)
    assert read(arguments_of(handler), [1]) == (1,)
    assert failure(arguments_of(handler), [1, 2]) == ("Expected `array` of length 1", "")


class Shop:
    def bid(self, session: Any, a: int) -> None: ...

    @classmethod
    def ask(cls, session: Any, a: int) -> None: ...

    @staticmethod
    def buy(session: Any, a: int) -> None: ...


def wrapping(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


@pytest.mark.parametrize("function", [Shop().bid, Shop.ask, Shop.buy, wrapping(Shop.buy), wrapping(wrapping(Shop.buy))])
def test_methods_and_wrapped_functions_are_read_through(function: Callable[..., Any]) -> None:
    assert read(arguments_of(function), [5]) == (5,)
    assert failure(arguments_of(function), ["x"]) == ("Expected `int`, got `str`", "$[0]")


# What is refused


def no_type(session: Any, a): ...  # type: ignore[no-untyped-def]
def no_type_of_many(session: Any, *a): ...  # type: ignore[no-untyped-def]
def keywords(session: Any, **more: int) -> None: ...
def keyword(session: Any, *, a: int) -> None: ...
def no_parameter() -> None: ...
def only_many(*args: int) -> None: ...
def only_keyword(*, session: Any = None) -> None: ...


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (no_type, "parameter 'a' has no type: write `a: int` or the like; Any accepts everything"),
        (no_type_of_many, "parameter 'a' has no type: write `a: int` or the like; Any accepts everything"),
        (lambda session, a: None, "parameter 'a' has no type: write `a: int` or the like; Any accepts everything"),
        (keywords, "**more cannot come from a client"),
        (keyword, "keyword-only 'a' cannot come from a client"),
        (no_parameter, "its first parameter must take the session"),
        (only_many, "its first parameter must take the session"),
        (only_keyword, "its first parameter must take the session"),
        (Shop, "its first parameter must take the session"),
        (5, "its annotations cannot be read: 5 is not a callable object"),
        (None, "its annotations cannot be read: None is not a callable object"),
        (int, "its annotations cannot be read: "),
        (functools.partial(keyword, a=1), "its annotations cannot be read: "),
    ],
    ids=lambda value: getattr(value, "__name__", str(value))[:40],
)
def test_what_cannot_come_from_a_client_is_refused_at_registration(function: Any, words: str) -> None:
    assert refusal(function).startswith(words)


def test_more_parameters_than_max_args_are_refused() -> None:
    def handler(session: Any, a: int, b: int, c: int = 0) -> None: ...

    assert refusal(handler, max_args=2) == "3 arguments, max_args is 2"
    assert arguments_of(handler, max_args=3)


def with_text(annotation: str) -> Callable[..., Any]:
    def handler(session: Any, a: Any) -> None: ...

    handler.__annotations__["a"] = annotation
    return handler


@pytest.mark.parametrize("annotation", ["int |", "1 / 0", "[", "a b", "int()[0]", "Bid.missing", "'unclosed"])
def test_annotations_that_are_broken_are_refused_with_what_is_wrong(annotation: str) -> None:
    assert refusal(with_text(annotation)).startswith("its annotations cannot be read: ")


LOOK_UP = (
    "; the names in annotations are looked up in their module: define or import them there, "
    "at its top level, not inside of a function and not only under `if TYPE_CHECKING`"
)


def test_a_type_local_to_a_function_is_not_found_by_annotations_that_are_text() -> None:
    class Local(msgspec.Struct):
        x: int

    def handler(session: Any, local: Local) -> None: ...

    assert handler.__annotations__["local"] == "Local", "this module has postponed annotations"
    assert refusal(handler) == "name 'Local' is not defined" + LOOK_UP


def test_neither_is_one_that_only_the_type_checker_imports() -> None:
    def handler(session: Any, part: Fraction) -> None: ...
    def unused(session: Fraction, part: int) -> None: ...

    assert refusal(handler) == "name 'Fraction' is not defined" + LOOK_UP
    assert refusal(unused) == "name 'Fraction' is not defined" + LOOK_UP


def test_a_local_type_whose_fields_are_local_types_is_refused_as_well() -> None:
    class Local(msgspec.Struct):
        x: int

    class Outer(msgspec.Struct):
        local: Local

    handler = with_text("")
    handler.__annotations__["a"] = Outer
    assert refusal(handler) == "parameter 'a': name 'Local' is not defined" + LOOK_UP


def test_a_local_type_is_taken_when_the_annotation_is_the_type_itself() -> None:
    class Local(msgspec.Struct):
        x: int

    handler = with_text("")
    handler.__annotations__["a"] = Local
    assert read(arguments_of(handler), [{"x": 1}]) == (Local(1),)


def test_a_type_of_the_module_is_found_by_annotations_that_are_text() -> None:
    assert read(arguments_of(with_text("list[Bid] | None")), [[{"lot": "a"}]]) == ([Bid("a")],)


# Arity


def fixed(session: Any, a: int, b: str) -> None: ...
def foreign(session: Any, a: int, b: str | bytes) -> None: ...
def optional(session: Any, a: int, b: str = "x", c: int = 0) -> None: ...
def many(session: Any, a: int, *rest: str) -> None: ...
def nothing(session: Any) -> None: ...
def anything(session: Any, *rest: Any) -> None: ...


@pytest.mark.parametrize(
    ("function", "args"),
    [
        (fixed, [1, "a"]),
        (foreign, [1, "a"]),
        (optional, [1]),
        (optional, [1, "a"]),
        (optional, [1, "a", 2]),
        (many, [1]),
        (many, [1, "a"]),
        (many, [1, *["a"] * 4]),
        (nothing, []),
        (anything, []),
        (anything, [None] * 5),
    ],
)
def test_the_declared_number_of_arguments_is_taken(function: Callable[..., Any], args: list[Any]) -> None:
    assert read(arguments_of(function, max_args=5), args) == tuple(args)


@pytest.mark.parametrize(
    ("function", "args", "words"),
    [
        (fixed, [], "Expected `array` of length 2"),
        (fixed, [1], "Expected `array` of length 2"),
        (fixed, [1, "a", None], "Expected `array` of length 2"),
        (foreign, [1], "Expected `array` of length 2, got 1"),
        (foreign, [1, "a", 2], "Expected `array` of length 2, got 3"),
        (optional, [], "Expected `array` of length 1 to 3, got 0"),
        (optional, [1, "a", 2, 3], "Expected `array` of length 1 to 3, got 4"),
        (many, [], "Expected `array` of length 1 to 5, got 0"),
        (many, [1, *["a"] * 5], "Expected `array` of length 1 to 5, got 6"),
        (nothing, [1], "Expected `array` of length 0"),
        (anything, [None] * 6, "Expected `array` of length 0 to 5, got 6"),
    ],
)
def test_any_other_number_is_refused(function: Callable[..., Any], args: list[Any], words: str) -> None:
    said, path = failure(arguments_of(function, max_args=5), args)
    assert said.startswith(words)
    assert path == ""


def test_too_many_arguments_are_refused_before_any_is_decoded() -> None:
    assert failure(arguments_of(many, max_args=5), ["wrong"] * 6)[0].endswith("got 6")
