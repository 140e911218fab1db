"""Forced validation in the original's form: functions of the arguments."""

from __future__ import annotations

import asyncio
import json
import traceback
from typing import Annotated, Any

import msgspec
import pydantic
import pytest

from primacron import Primacron, Refused, Session, Transformed
from primacron.errors import ValidationFailed
from tests.conftest import Serve
from tests.support.engine import Events
from tests.support.hearing import Hearing


async def connect(serve: Serve, server: Primacron) -> Events:
    return await (await serve(server)).connect("account=ann")


async def test_an_event_without_a_validator_is_refused(serve: Serve) -> None:
    server = Primacron()
    errors = Hearing(server, "error::validation")
    client = await connect(serve, server)
    await client.emit("bid", 1, id=4)
    answer = await client.receive()
    assert answer == {
        "ack": 4,
        "error": {"type": "validation", "message": "no validator for the event 'bid'", "path": ""},
    }
    error, context = await errors.next_error()
    assert isinstance(error, ValidationFailed)
    assert (context.event, context.message) == ("bid", '{"event": "bid", "args": [1], "id": 4}')


def accept_none(value: int) -> None: ...
def accept_true(value: int) -> bool:
    return True


async def accept_later(value: int) -> bool:
    await asyncio.sleep(0)
    return True


@pytest.mark.parametrize("validator", [accept_none, accept_true, accept_later])
async def test_an_accepted_event_is_heard_with_its_session(serve: Serve, validator: Any) -> None:
    server = Primacron().validate("bid", validator)
    stream = Hearing(server, "stream::bid")
    client = await connect(serve, server)
    await client.emit("bid", 5)
    session, value = await stream.next()
    assert isinstance(session, Session)
    assert (session.account, value) == ("ann", 5)


def refuse_false(value: int) -> bool:
    return False


def refuse_error(value: int) -> None:
    raise ValueError("too low")


async def refuse_later(value: int) -> bool:
    await asyncio.sleep(0)
    return False


def refuse_assertion(value: int) -> None:
    raise AssertionError("too low")


def refuse_without_words(value: int) -> None:
    raise ValueError


async def refuse_in_words_later(value: int) -> None:
    await asyncio.sleep(0)
    raise Refused(403, "not today")


class Limit(msgspec.Struct):
    value: Annotated[int, msgspec.Meta(le=3)]


def refuse_by_msgspec(value: int) -> None:
    msgspec.convert({"value": value}, Limit)


class Model(pydantic.BaseModel):
    value: Annotated[int, pydantic.Field(le=3)]


def refuse_by_pydantic(value: int) -> None:
    Model(value=value)


@pytest.mark.parametrize(
    ("validator", "words"),
    [
        (refuse_false, "Failed to validate the data"),
        (refuse_error, "too low"),
        (refuse_later, "Failed to validate the data"),
        (refuse_assertion, "too low"),
        (refuse_without_words, "Failed to validate the data"),
        (refuse_in_words_later, "not today"),
        (refuse_by_msgspec, "Expected `int` <= 3"),
        (refuse_by_pydantic, "less than or equal to 3"),
    ],
)
async def test_a_refused_event_is_an_error_and_never_heard(serve: Serve, validator: Any, words: str) -> None:
    server = Primacron().validate("bid", validator)
    errors, stream = Hearing(server, "error::validation"), Hearing(server, "stream::bid")
    client = await connect(serve, server)
    await client.emit("bid", 5, id=1)
    assert words in (await client.receive())["error"]["message"]
    error, context = await errors.next_error()
    assert words in str(error)
    assert context.event == "bid"
    assert stream.is_empty


PASSWORD = "hunter2"
STOCK: dict[str, int] = {}


def misspell(value: int) -> None:
    pasword(value)  # type: ignore[name-defined]  # noqa: F821


def add_what_cannot_be_added(value: int) -> None:
    value + PASSWORD  # type: ignore[operator]


async def lose_the_database(value: int) -> None:
    await asyncio.sleep(0)
    raise TimeoutError(f"the database, {PASSWORD}")


def look_up(value: int) -> None:
    STOCK[PASSWORD]


class Broken(msgspec.Struct):
    value: int

    def __post_init__(self) -> None:
        self.value + PASSWORD  # type: ignore[operator]


class BrokenModel(pydantic.BaseModel):
    value: int

    @pydantic.field_validator("value")
    @classmethod
    def look(cls, value: int) -> int:
        return value + STOCK[PASSWORD]


def take_broken(value: Broken) -> None: ...
def take_broken_model(value: BrokenModel) -> None: ...
def take_one_of_several(value: Broken, *rest: Any) -> None: ...


@pytest.mark.parametrize(
    ("validator", "value", "kind", "place"),
    [
        (misspell, 5, NameError, "misspell"),
        (add_what_cannot_be_added, 5, TypeError, "add_what_cannot_be_added"),
        (lose_the_database, 5, TimeoutError, "lose_the_database"),
        (look_up, 5, KeyError, "look_up"),
        (lambda value: PASSWORD, 5, TypeError, "judge_check"),
        (lambda value: 1, 5, TypeError, "judge_check"),
        (take_broken, {"value": 5}, TypeError, "__post_init__"),
        (take_one_of_several, {"value": 5}, TypeError, "__post_init__"),
        (take_broken_model, {"value": 5}, KeyError, "look"),
    ],
)
async def test_a_mistake_in_a_validator_refuses_and_its_text_stays_here(
    serve: Serve, validator: Any, value: Any, kind: type[Exception], place: str
) -> None:
    server = Primacron(bad_messages=2).validate("bid", validator)
    errors, stream = Hearing(server, "error::handler"), Hearing(server, "stream::bid")
    refused = Hearing(server, "error::validation")
    client = await connect(serve, server)
    for number in range(3):
        await client.emit("bid", value, id=number)
        answer = await client.receive()
        assert answer == {"ack": number, "error": {"type": "refused", "message": "refused", "path": ""}}
        error, context = await errors.next_error()
        assert type(error) is kind
        assert (context.event, json.loads(str(context.message))["id"]) == ("bid", number)
        if place != "judge_check":
            assert place in "".join(traceback.format_exception(error))
    assert stream.is_empty
    assert refused.is_empty


@pytest.mark.parametrize("validator", [refuse_false, refuse_later])
async def test_refusals_of_a_validator_in_a_row_end_the_connection(serve: Serve, validator: Any) -> None:
    server = Primacron(bad_messages=3).validate("bid", validator).validate("fine", accept_later)
    client = await connect(serve, server)
    for event in ("bid", "bid", "fine", "bid", "bid"):
        await client.emit(event, 5, id=1)
        assert ("error" in await client.receive()) is (event == "bid")
    await client.emit("bid", 5)
    assert await client.receive_close() == (1008, "bad messages")


async def test_a_validator_may_replace_the_arguments(serve: Serve) -> None:
    server = Primacron()

    @server.validate("bid")
    def whole(value: float, currency: str = "EUR") -> Transformed:
        return Transformed((round(value), currency.upper()))

    stream = Hearing(server, "stream::bid")
    client = await connect(serve, server)
    await client.emit("bid", 4.6)
    assert (await stream.next())[1:] == (5, "EUR")
    await client.emit("bid", 4.4, "usd")
    assert (await stream.next())[1:] == (4, "USD")


@pytest.mark.parametrize("args", [(), (1, 2), (1, 2, 3)])
async def test_declared_arity_is_enforced(serve: Serve, args: tuple[int, ...]) -> None:
    server = Primacron().validate("bid", lambda value: True)
    errors = Hearing(server, "error::validation")
    client = await connect(serve, server)
    await client.emit("bid", *args)
    error, _ = await errors.next_error()
    assert "length 1" in str(error)


async def test_star_args_take_any_number_up_to_max_args(serve: Serve) -> None:
    server = Primacron(max_args=3).validate("sum", lambda *values: True)
    stream, errors = Hearing(server, "stream::sum"), Hearing(server, "error::validation")
    client = await connect(serve, server)
    for args in ((), (1,), (1, 2, 3)):
        await client.emit("sum", *args)
        assert (await stream.next())[1:] == args
    await client.emit("sum", 1, 2, 3, 4)
    error, _ = await errors.next_error()
    assert "0 to 3" in str(error)


async def test_annotations_of_a_validator_are_checked_before_it_is_asked(serve: Serve) -> None:
    server = Primacron()
    asked: list[int] = []

    @server.validate("bid")
    def bid(value: int) -> None:
        asked.append(value)

    errors = Hearing(server, "error::validation")
    client = await connect(serve, server)
    await client.emit("bid", "5", id=1)
    assert (await client.receive())["error"]["path"] == "$[0]"
    await errors.next_error()
    assert asked == []


async def test_a_validator_that_never_answers_is_given_up(serve: Serve) -> None:
    server = Primacron(validation_timeout=0.1)

    @server.validate("bid")
    async def bid(value: int) -> None:
        await asyncio.Event().wait()

    errors = Hearing(server, "error::validation")
    client = await connect(serve, server)
    await client.emit("bid", 5)
    error, _ = await errors.next_error()
    assert "longer than 0.1 s" in str(error)


async def test_asynchronous_validators_of_a_session_keep_the_order(serve: Serve) -> None:
    server = Primacron()

    @server.validate("n")
    async def number(value: int) -> None:
        for _ in range(10 - value):
            await asyncio.sleep(0)

    stream = Hearing(server, "stream::n")
    client = await connect(serve, server)
    for value in range(10):
        await client.emit("n", value)
    assert [(await stream.next())[1] for _ in range(10)] == list(range(10))


async def test_an_asynchronous_listener_delays_the_answer_and_later_messages(serve: Serve) -> None:
    server = Primacron().validate("n", lambda value: True)
    order: list[int] = []

    async def hear(session: Session, value: int) -> None:
        await asyncio.sleep(0.01 / (value + 1))
        order.append(value)

    server.on("stream::n", hear)
    client = await connect(serve, server)
    for value in range(3):
        await client.emit("n", value, id=value)
    assert [(await client.receive())["ack"] for _ in range(3)] == [0, 1, 2]
    assert order == [0, 1, 2]
