"""Kinds of channels are registered as decorators or bare, before the start or later; slips say what to write."""

from __future__ import annotations

from typing import Any

import pytest

from primacron import Primacron, RegistrationError, Session
from tests.conftest import Serve


def nothing(*args: Any) -> None: ...


def refused(server: Primacron, pattern: Any, *functions: Any) -> str:
    """Return what a registration that is refused says: of a bare call, or of a function."""
    with pytest.raises(RegistrationError) as caught:
        register(server, pattern, *functions)
    return str(caught.value)


def register(server: Primacron, pattern: Any, *functions: Any) -> None:
    decorate = server.channels(pattern)
    for function in functions:
        decorate(function)


def test_the_decorator_returns_the_function_as_it_was() -> None:
    def enter(session: Session, number: int) -> None: ...

    server = Primacron()
    assert server.channels("lot:{number}", history=100, keep=3600, presence=True)(enter) is enter


def test_a_decorator_without_its_parentheses_says_what_to_write() -> None:
    said = refused(Primacron(), nothing)
    assert said == "server.channels takes a name first: write @server.channels('lot:{number}') above nothing"


def test_a_bare_call_registers_already() -> None:
    server = Primacron()
    server.channels("news", history=1)
    assert refused(server, "news").startswith("channels 'news': cannot be told apart from 'news'")


def test_a_pattern_may_be_registered_again_after_its_function_was_refused() -> None:
    server = Primacron()
    assert refused(server, "lot:{number}", lambda session: None) == (
        "channels 'lot:{number}': {number} is not a parameter of the function"
    )

    @server.channels("lot:{number}")
    async def enter(session: Session, number: int) -> str:
        return session.account

    assert refused(server, "lot:{number}", enter).startswith("channels 'lot:{number}': cannot be told apart from")


def test_a_decorator_is_used_once() -> None:
    def enter(session: Session) -> None: ...

    server = Primacron()
    decorate = server.channels("news")
    decorate(enter)
    with pytest.raises(RegistrationError, match="it already has a function"):
        decorate(enter)


def test_everything_but_the_pattern_is_named() -> None:
    server: Any = Primacron()
    with pytest.raises(TypeError, match="positional"):
        server.channels("lot:{number}", 100)
    with pytest.raises(TypeError, match="positional"):
        server.channels("lot:{number}", nothing)


def test_the_longest_name_is_an_option() -> None:
    server = Primacron(max_channel_name=4)
    server.channels("news")
    assert refused(server, "news!") == "channels 'news!': bytes of the name of a channel: the limit is 4"


async def test_after_the_start_kinds_are_registered_like_events(serve: Serve) -> None:
    server = Primacron()
    server.event("echo")(lambda session: None)
    await serve(server)
    server.event("later")(lambda session: None)
    server.channels("later")(lambda session: None)
    assert refused(server, "later").startswith("channels 'later': cannot be told apart from")
