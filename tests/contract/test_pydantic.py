"""Types that pydantic checks, and what becomes of them where it is not installed."""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import Annotated, Any, Generic, NewType, TypeVar

import annotated_types
import msgspec
import pydantic
import pytest
from msgspec import Meta
from typing_extensions import TypedDict  # pydantic takes none of typing's before Python 3.12

from primacron.contract.arguments import read_arguments
from primacron.contract.models import MSGSPEC, PYDANTIC, find_marks
from primacron.dialects.base import Form
from primacron.errors import InvalidMessage, UndecodableMessage, ValidationFailed
from tests.contract.arguing import DECODED, failure, read, read_text, registration_error, taking

T = TypeVar("T")


class Item(pydantic.BaseModel):
    name: str
    cents: int = pydantic.Field(default=1, gt=0)


class Order(pydantic.BaseModel):
    items: list[Item]
    note: bytes = b""

    @pydantic.model_validator(mode="after")
    def not_too_many(self) -> Order:
        if len(self.items) > 2:
            raise ValueError("too many items")
        if any(item.name == "bomb" for item in self.items):
            raise RuntimeError("went off")
        return self

    def model_post_init(self, context: Any, /) -> None:
        if any(item.name == "key" for item in self.items):
            raise KeyError("key")


class Wrapped(pydantic.BaseModel, Generic[T]):
    content: T


@pydantic.dataclasses.dataclass
class Limited:
    count: Annotated[int, pydantic.Field(le=3)]


@dataclasses.dataclass
class Holder:
    limited: Limited


class Strict(TypedDict):
    __pydantic_config__ = pydantic.ConfigDict(extra="forbid")  # type: ignore[misc]
    a: int


class Mixed(msgspec.Struct):
    order: Order


class Overlooked(msgspec.Struct):
    count: Annotated[int, pydantic.Field(le=3)]


Positive = Annotated[int, annotated_types.Gt(0)]
Even = Annotated[int, pydantic.AfterValidator(lambda value: value - value % 2)]
Count = NewType("Count", Limited)


@pytest.mark.parametrize("form", DECODED, ids=lambda form: form.name)
@pytest.mark.parametrize(
    ("annotation", "sent", "got"),
    [
        (Order, {"items": [{"name": "a"}]}, Order(items=[Item(name="a")])),
        (list[Item], [{"name": "a", "cents": 2}], [Item(name="a", cents=2)]),
        (Item | None, None, None),
        (Item | int, 5, 5),
        (dict[str, Item], {"a": {"name": "a"}}, {"a": Item(name="a")}),
        (Wrapped[int], {"content": 5}, Wrapped[int](content=5)),
        (Limited, {"count": 3}, Limited(3)),
        (Holder, {"limited": {"count": 3}}, Holder(Limited(3))),
        (Positive, 1, 1),
        (pydantic.PositiveInt, 1, 1),
        (Even, 5, 4),
        (Strict, {"a": 1}, {"a": 1}),
        (Item, {"name": "a", "cents": "5"}, Item(name="a", cents=5)),  # pydantic's rules, not msgspec's
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_of_pydantic_is_checked_by_pydantic(annotation: Any, sent: Any, got: Any, form: Form) -> None:
    assert read(taking(annotation), [sent], form) == (got,)
    assert read(taking(int, annotation), [1, sent], form) == (1, got)


@pytest.mark.parametrize("form", DECODED, ids=lambda form: form.name)
@pytest.mark.parametrize(
    ("annotation", "sent", "words", "path"),
    [
        (Order, {"items": [{"name": "a"}, {"name": 5}]}, "Input should be a valid string", "$[0].items[1].name"),
        (Order, {}, "Field required", "$[0].items"),
        (Order, {"items": [{"name": "a", "cents": 0}]}, "Input should be greater than 0", "$[0].items[0].cents"),
        (Order, {"items": [{"name": "a"}] * 3}, "Value error, too many items", "$[0]"),
        (Order, 5, "Input should be a", "$[0]"),
        (list[Item], [{"name": "a"}, {}], "Field required", "$[0][1].name"),
        (dict[str, Item], {"a": {}}, "Field required", "$[0].a.name"),
        (Limited, {"count": 4}, "Input should be less than or equal to 3", "$[0].count"),
        (Holder, {"limited": {"count": 4}}, "Input should be less than or equal to 3", "$[0].limited.count"),
        (list[Limited], [{"count": 4}], "Input should be less than or equal to 3", "$[0][0].count"),
        (Count, {"count": 4}, "Input should be less than or equal to 3", "$[0].count"),
        (Positive, 0, "Input should be greater than 0", "$[0]"),
        (list[Positive], [1, 0], "Input should be greater than 0", "$[0][1]"),
        (Strict, {"a": 1, "b": 2}, "Extra inputs are not permitted", "$[0].b"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_pydantics_first_problem_is_told_with_its_path(
    annotation: Any, sent: Any, words: str, path: str, form: Form
) -> None:
    for arguments, args, expected in (
        (taking(annotation), [sent], path),
        (taking(int, annotation), [1, sent], path.replace("$[0]", "$[1]", 1)),
    ):
        said, where = failure(arguments, args, form)
        assert said.startswith(words)
        assert where == expected


def test_arity_is_checked_before_pydantic_is_asked() -> None:
    arguments = taking(int, Order, rest=Item)
    assert failure(arguments, [1]) == ("Expected `array` of length 2 to 32, got 1", "")
    assert failure(arguments, [1, {"items": []}, {}]) == ("Field required", "$[2].name")
    assert read(arguments, [1, {"items": []}, {"name": "a"}])[2] == Item(name="a")
    with pytest.raises(InvalidMessage):
        read(arguments, {"items": []})


@pytest.mark.parametrize(
    "item",
    ["NaN", "nul", '{"items":NaN}', "[" * 100_000 + "]" * 100_000, '{"items":[],"note":"\\ud800"}', '"\ud800"'],
    ids=lambda item: item[:12],
)
def test_what_is_not_json_is_refused_before_or_by_pydantic(item: str) -> None:
    with pytest.raises((UndecodableMessage, ValidationFailed)) as caught:
        read_text(taking(Order), f"[{item}]")
    assert "attribute" not in str(caught.value)


@pytest.mark.parametrize("number", ["1e999", "9" * 5_000], ids=["1e999", "5000 digits"])
def test_numbers_beyond_all_bounds_are_refused(number: str) -> None:
    with pytest.raises(ValidationFailed):
        read_text(taking(Item), f'[{{"name":"a","cents":{number}}}]')


def test_text_of_messagepack_that_is_not_utf8_is_a_wrong_value() -> None:
    reader = taking(Order).readers[Form.MSGPACK]
    with pytest.raises(InvalidMessage, match="args: a text that is not UTF-8"):
        read_arguments(reader, msgspec.Raw(b"\x91\xa3\xff\xfe\xfd"))


def test_the_raw_dialect_has_no_models_but_constraints() -> None:
    assert failure(taking(Item), ("a",), Form.VALUE)[0].startswith("Expected a type that the raw dialect does not have")
    short = taking(Annotated[str, pydantic.Field(max_length=1)])
    assert read(short, ("a",), Form.VALUE) == ("a",)
    assert failure(short, ("ab",), Form.VALUE) == ("String should have at most 1 character", "$[0]")


# Marks


@pytest.mark.parametrize(
    ("annotation", "marks"),
    [
        (int, set()),
        (Any, set()),
        (list[dict[str, int]], set()),
        (Annotated[int, "in words"], set()),
        (Annotated[int, Meta(gt=0)], {MSGSPEC}),
        (list[Annotated[int, Meta(gt=0)] | None], {MSGSPEC}),
        (Item, {PYDANTIC}),
        (list[Item] | None, {PYDANTIC}),
        (Limited, {PYDANTIC}),
        (Holder, {PYDANTIC}),
        (Wrapped[int], {PYDANTIC}),
        (Mixed, {PYDANTIC}),
        (Overlooked, {PYDANTIC}),
        (Count, {PYDANTIC}),
        (Positive, {PYDANTIC}),
        (dict[str, tuple[Positive, ...]], {PYDANTIC}),
        (Annotated[int, Meta(gt=0), pydantic.Field(lt=9)], {MSGSPEC, PYDANTIC}),
        (tuple[Item, Annotated[int, Meta(gt=0)]], {MSGSPEC, PYDANTIC}),
        (5, set()),
        ([int], set()),
    ],
    ids=lambda value: "-".join(sorted(value)) if isinstance(value, set) else str(value)[:50],
)
def test_marks_are_found_at_any_depth(annotation: Any, marks: set[str]) -> None:
    assert find_marks(annotation) == marks


class Node(msgspec.Struct):
    next: Node | None = None
    previous: Node | None = None
    count: Positive = 1


def test_types_that_contain_themselves_are_gone_through_once() -> None:
    assert find_marks(Node) == {PYDANTIC}


@pytest.mark.parametrize("annotation", [Mixed, Overlooked, Node, list[Overlooked]])
def test_constraints_that_msgspec_would_overlook_are_refused_at_registration(annotation: Any) -> None:
    assert "cannot be checked; use a msgspec type" in registration_error(annotation)


@pytest.mark.parametrize(
    "annotation",
    [
        Annotated[int, Meta(gt=0), pydantic.Field(lt=9)],
        list[Item | Annotated[int, Meta(gt=0)]],
        Annotated[str | bytes | None, Meta(max_length=3)],
        Annotated[Item, Meta(description="an item")],
    ],
)
def test_constraints_that_pydantic_would_overlook_are_refused_at_registration(annotation: Any) -> None:
    assert "cannot be checked, as it mixes msgspec's Meta with other types" in registration_error(annotation)


def test_a_model_that_names_what_is_not_defined_is_refused_at_registration() -> None:
    class Early(pydantic.BaseModel):
        late: Late  # type: ignore[name-defined]  # noqa: F821

    assert "cannot be checked, as it names types that are not defined; use" in registration_error(Early)


def test_a_model_of_a_function_may_name_its_neighbours() -> None:
    class Inner(pydantic.BaseModel):
        n: int

    class Outer(pydantic.BaseModel):
        inner: Inner

    assert failure(taking(Outer), [{"inner": {"n": "x"}}])[1] == "$[0].inner.n"
    assert read(taking(Outer), [{"inner": {"n": 1}}]) == (Outer(inner=Inner(n=1)),)


@pytest.mark.parametrize("annotation", [Item, Limited, Positive, list[Item], str | bytes | None])
def test_without_pydantic_its_types_are_refused_at_registration(
    annotation: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pydantic", None)
    text = registration_error(annotation)
    assert text.endswith("use a msgspec type, a dataclass or (with pydantic installed) a pydantic model")


def test_without_pydantic_all_other_types_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydantic", None)
    arguments = taking(int, str | bytes, object, Annotated[int, Meta(gt=0)], optional=1)
    assert read_text(arguments, json.dumps([1, "a", {"b": 2}, 3])) == (1, "a", {"b": 2}, 3)


@pytest.mark.parametrize(("name", "kind"), [("bomb", RuntimeError), ("key", KeyError)])
@pytest.mark.parametrize("form", DECODED, ids=lambda form: form.name)
def test_a_mistake_in_a_models_own_check_is_not_taken_for_a_refusal(
    name: str, kind: type[Exception], form: Form
) -> None:
    for arguments, args in ((taking(Order), ()), (taking(int, Order), (1,))):
        with pytest.raises(kind):
            read(arguments, [*args, {"items": [{"name": name}]}], form)
