"""Names of events, each with its listeners."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from primacron.emitter import Emitter, Once


class Ear:
    """Keeps what it heard."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    def listen(self, *args: Any) -> str:
        self.heard.append(args)
        return "heard"


def call(emitter: Emitter, event: str, *args: Any) -> list[Any]:
    return [listener(*args) for listener in emitter.listeners(event)]


def test_listeners_hear_their_event_in_the_order_in_which_they_came() -> None:
    emitter, order = Emitter(), []

    def listener(number: int) -> Callable[[], None]:
        return lambda: order.append(number)

    for number in range(5):
        emitter.add("a", listener(number))
    emitter.add("b", listener(9))
    call(emitter, "a")
    assert order == [0, 1, 2, 3, 4]
    assert emitter.listeners("nobody listens") == ()


def test_one_that_was_added_twice_hears_twice_and_is_removed_altogether() -> None:
    emitter, ear = Emitter(), Ear()
    emitter.add("a", ear.listen)
    emitter.add("a", ear.listen)
    call(emitter, "a", 1)
    assert ear.heard == [(1,), (1,)]
    emitter.remove("a", ear.listen)
    assert emitter.listeners("a") == ()


def test_a_bound_method_is_the_same_listener_each_time_it_is_named_and_that_of_another_object_is_not() -> None:
    emitter, first, second = Emitter(), Ear(), Ear()
    emitter.add("a", first.listen)
    emitter.add("a", second.listen)
    emitter.remove("a", first.listen)
    call(emitter, "a", 1)
    assert (first.heard, second.heard) == ([], [(1,)])


def test_removing_what_is_not_there_changes_nothing() -> None:
    emitter, ear = Emitter(), Ear()
    emitter.remove("a", ear.listen)
    emitter.add("a", ear.listen)
    emitter.remove("b", ear.listen)
    emitter.remove("a", print)
    assert len(emitter.listeners("a")) == 1


def test_once_hears_one_time_and_passes_on_what_the_function_returns() -> None:
    emitter, ear = Emitter(), Ear()
    emitter.add("a", Once(emitter, "a", ear.listen))
    emitter.add("a", ear.listen)
    assert call(emitter, "a", 1) == ["heard", "heard"]
    assert call(emitter, "a", 2) == ["heard"]
    assert ear.heard == [(1,), (1,), (2,)]


def test_once_is_removed_by_its_function_and_each_of_two_hears_one_time() -> None:
    emitter, ear = Emitter(), Ear()
    emitter.add("a", Once(emitter, "a", ear.listen))
    emitter.add("a", Once(emitter, "a", ear.listen))
    call(emitter, "a", 1)
    call(emitter, "a", 2)
    assert ear.heard == [(1,), (1,)]
    emitter.add("a", Once(emitter, "a", ear.listen))
    emitter.remove("a", ear.listen)
    assert emitter.listeners("a") == ()


def test_listeners_may_come_and_go_while_their_event_is_told() -> None:
    emitter, order = Emitter(), []

    def first() -> None:
        order.append("first")
        emitter.remove("a", first)
        emitter.add("a", late)

    def second() -> None:
        order.append("second")

    def late() -> None:
        order.append("late")

    emitter.add("a", first)
    emitter.add("a", second)
    call(emitter, "a")
    assert order == ["first", "second"]
    call(emitter, "a")
    assert order == ["first", "second", "second", "late"]


@pytest.mark.parametrize("wrong", [None, 5, "print", object()])
def test_what_cannot_be_called_is_refused_where_it_is_added(wrong: Any) -> None:
    emitter = Emitter()
    for listener in (wrong, Once(emitter, "a", wrong)):
        with pytest.raises(TypeError, match="listener of 'a': expected a function, got"):
            emitter.add("a", listener)
    assert emitter.listeners("a") == ()


def test_clear_forgets_all() -> None:
    emitter = Emitter()
    emitter.add("a", print)
    emitter.add("b", print)
    emitter.clear()
    assert (emitter.listeners("a"), emitter.listeners("b")) == ((), ())
