"""The contract: event name to validator, and what a validator's outcome lets through."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from primacron.contract.validation import BrokenCheck, Contract, Transformed, judge_check
from primacron.dialects.base import Form
from primacron.errors import RegistrationError, ValidationFailed


def handler(session: Any, a: int) -> None: ...
async def later(session: Any, a: int) -> None: ...
def check(a: Any) -> bool:
    return True


async def check_later(a: int) -> bool:
    return True


@pytest.fixture
def contract() -> Contract:
    """A contract without events."""
    return Contract(max_args=4, max_name=10)


def test_an_event_is_found_by_its_name(contract: Contract) -> None:
    event = contract.add_handler("bid", handler, in_thread=False)
    assert contract.find("bid") is event
    assert (event.name, event.stream) == ("bid", "stream::bid")
    assert event.read(msgspec.Raw(b"[5]"), Form.JSON) == (5,)
    with pytest.raises(ValidationFailed, match="Expected `int`, got `str`"):
        event.read(msgspec.Raw(b'["x"]'), Form.JSON)


@pytest.mark.parametrize("name", ["ask", "", "Bid", "bid ", "__class__", "events", "é", "\x00", "x" * 10])
def test_an_event_without_a_validator_is_not_found(contract: Contract, name: str) -> None:
    contract.add_handler("bid", handler, in_thread=False)
    with pytest.raises(ValidationFailed) as caught:
        contract.find(name)
    assert str(caught.value) == f"no validator for the event {name!r}"
    assert caught.value.path == ""


def test_a_long_name_is_cut_in_the_answer(contract: Contract) -> None:
    with pytest.raises(ValidationFailed) as caught:
        contract.find("x" * 1_000_000)
    assert str(caught.value) == "no validator for the event 'xxxxxxxxxx...'"


def test_handlers_are_run_as_they_are_written(contract: Contract) -> None:
    event = contract.add_handler("plain", handler, in_thread=False)
    assert (event.handler, event.handler_is_async, event.in_thread, event.is_plain) == (handler, False, False, True)
    event = contract.add_handler("async", later, in_thread=False)
    assert (event.handler, event.handler_is_async, event.in_thread, event.is_plain) == (later, True, False, True)
    event = contract.add_handler("thread", handler, in_thread=True)
    assert (event.handler, event.handler_is_async, event.in_thread, event.is_plain) == (handler, False, True, False)
    assert event.check is None


def test_validators_are_asked_as_they_are_written(contract: Contract) -> None:
    event = contract.add_validator("bid", check)
    assert (event.check, event.check_is_async, event.is_plain, event.handler) == (check, False, False, None)
    event = contract.add_validator("ask", check_later)
    assert (event.check, event.check_is_async, event.is_plain) == (check_later, True, False)
    with pytest.raises(ValidationFailed):
        event.read(msgspec.Raw(b'["x"]'), Form.JSON)


def test_a_second_validator_for_a_name_is_refused_in_every_combination(contract: Contract) -> None:
    contract.add_handler("bid", handler, in_thread=False)
    contract.add_validator("ask", check)
    for name in ("bid", "ask"):
        with pytest.raises(RegistrationError, match=f"^the event '{name}' already has a validator$"):
            contract.add_handler(name, handler, in_thread=False)
        with pytest.raises(RegistrationError, match=f"^the event '{name}' already has a validator$"):
            contract.add_validator(name, check)
    assert contract.find("bid").handler is handler
    assert contract.find("ask").check is check


@pytest.mark.parametrize("name", ["", "x" * 11, None, 5, b"bid", ["bid"]])
def test_a_name_is_a_text_of_1_to_max_name_characters(contract: Contract, name: Any) -> None:
    with pytest.raises(RegistrationError, match="expected a text of 1 to 10 characters"):
        contract.add_handler(name, handler, in_thread=False)
    with pytest.raises(RegistrationError, match="expected a text of 1 to 10 characters"):
        contract.add_validator(name, check)
    assert contract.events == {}


def test_a_thread_takes_no_coroutine_function(contract: Contract) -> None:
    with pytest.raises(RegistrationError, match="thread=True takes a plain function, not a coroutine function"):
        contract.add_handler("bid", later, in_thread=True)


def too_many(session: Any, a: int, b: int, c: int, d: int, e: int) -> None: ...
def without_session() -> None: ...


@pytest.mark.parametrize(
    ("function", "in_thread"),
    [(later, True), (without_session, False), (too_many, False), (lambda session, a: None, False), (5, False)],
    ids=["thread", "session", "arguments", "type", "callable"],
)
def test_what_was_refused_leaves_its_name_free(contract: Contract, function: Any, in_thread: bool) -> None:
    with pytest.raises(RegistrationError, match="handler of 'bid'"):
        contract.add_handler("bid", function, in_thread=in_thread)
    assert contract.events == {}
    assert contract.add_handler("bid", handler, in_thread=False) is contract.find("bid")


def test_a_refused_validator_leaves_its_name_free(contract: Contract) -> None:
    with pytest.raises(RegistrationError, match="validator of 'bid'"):
        contract.add_validator("bid", lambda **more: True)
    assert contract.add_validator("bid", check) is contract.find("bid")


# What a validator's outcome lets through


@pytest.mark.parametrize("outcome", [None, True])
def test_none_and_true_let_the_arguments_through(outcome: object) -> None:
    args = (1, "a")
    assert judge_check(outcome, args) is args


@pytest.mark.parametrize("given", [(), (1,), [1, 2], (None, "a", 3)])
def test_transformed_replaces_the_arguments(given: Any) -> None:
    assert judge_check(Transformed(given), (9, 9)) == tuple(given)


def test_false_refuses_in_the_usual_words() -> None:
    with pytest.raises(ValidationFailed) as caught:
        judge_check(False, (1,))
    assert str(caught.value) == "Failed to validate the data"


@pytest.mark.parametrize(
    "outcome",
    [0, 1, "", "yes", [], (1,), {}, 0.0, object(), Transformed, ValueError("no")],
    ids=lambda value: type(value).__name__,
)
def test_anything_else_says_neither_and_refuses(outcome: object) -> None:
    with pytest.raises(BrokenCheck) as caught:
        judge_check(outcome, (1,))
    assert isinstance(caught.value.cause, TypeError)
    assert str(caught.value.cause) == (
        f"the validator returned {type(outcome).__name__}, not None, True, False or Transformed"
    )
