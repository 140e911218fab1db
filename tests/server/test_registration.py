"""Slips in what is registered are refused where they stand, with what to write."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from primacron import HttpRequest, OptionError, Primacron, RegistrationError, Session
from primacron.registration import EVENTS
from tests.conftest import Serve


def nothing(*args: Any) -> None: ...


def refused(register: Callable[[], object]) -> str:
    """Return what a registration that is refused says."""
    with pytest.raises(RegistrationError) as raised:
        register()
    return str(raised.value)


@pytest.mark.parametrize(
    ("method", "example"),
    [("event", "bid"), ("validate", "bid"), ("on", "connection"), ("get", "/")],
)
def test_a_decorator_without_its_parentheses_says_what_to_write(method: str, example: str) -> None:
    server: Any = Primacron()
    said = refused(lambda: getattr(server, method)(nothing))
    assert said == f"server.{method} takes a name first: write @server.{method}({example!r}) above nothing"


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("conection", "connection"),
        ("connect", "connection"),
        ("disconnect", "disconnection"),
        ("Connection", "connection"),
        ("closed", "close"),
        ("error", "error::*"),
        ("error::validaton", "error::validation"),
        ("error:handler", "error::handler"),
    ],
)
@pytest.mark.parametrize("method", ["on", "once", "off"])
def test_an_event_of_the_server_that_does_not_exist_is_refused_with_the_nearest(
    method: str, written: str, meant: str
) -> None:
    server: Any = Primacron()
    assert refused(lambda: getattr(server, method)(written, nothing)) == (
        f"the server has no event {written!r}; did you mean {meant!r}?"
    )


@pytest.mark.parametrize("name", ["bid", "message", "stream::", ""])
def test_an_event_of_clients_is_not_heard_by_on(name: str) -> None:
    server = Primacron()
    server.event("bid")(lambda session: None)
    assert refused(lambda: server.on(name)) == (
        f"the server has no event {name!r}: @server.event({name!r}) handles what clients send, "
        f"on('stream::{name}') hears what was accepted"
    )


def test_every_event_of_the_server_can_be_heard_with_and_without_a_decorator() -> None:
    server = Primacron()
    for name in (*EVENTS, "stream::bid"):
        assert server.on(name)(nothing) is nothing
        assert server.on(name, nothing) is server.once(name, nothing) is server.off(name, nothing) is server


async def test_a_stream_may_be_listened_to_before_its_event_is_registered(serve: Serve) -> None:
    server = Primacron()
    heard: list[str] = []
    server.on("stream::bid", lambda session: heard.append("stream"))

    @server.event("bid")
    def bid(session: Session) -> None:
        heard.append("handler")

    client = await (await serve(server)).connect()
    await client.emit("bid", id=1)
    await client.receive()
    assert heard == ["handler", "stream"]


@pytest.mark.parametrize("method", ["on", "once"])
async def test_a_server_does_not_start_while_somebody_listens_for_an_event_that_nobody_can_send(method: str) -> None:
    server = Primacron()

    @server.event("bid")
    def bid(session: Session) -> None: ...

    def hear(session: Session) -> None: ...

    getattr(server, method)("stream::bidd", hear)
    with pytest.raises(RegistrationError) as raised:
        await server.listen(0, "127.0.0.1")
    line = hear.__code__.co_firstlineno
    assert str(raised.value) == (
        f"hear ({__file__}, line {line}) listens for 'stream::bidd', "
        "but there is no event 'bidd'; did you mean 'stream::bid'?"
    )
    server.off("stream::bidd", hear)
    await server.listen(0, "127.0.0.1")
    assert "no event 'sell'; @server.event('sell') would register it" in refused(
        lambda: getattr(server, method)("stream::sell", hear)
    )
    await server.destroy()


@pytest.mark.parametrize("name", ["connection", "disconnection", "error::handler", "error::*", "stream::bid"])
@pytest.mark.parametrize("method", ["event", "validate"])
def test_an_event_of_the_server_is_not_registered_as_one_of_clients(method: str, name: str) -> None:
    server: Any = Primacron()
    assert refused(lambda: getattr(server, method)(name)) == (
        f"{name!r} is an event of the server, which no client sends: write @server.on({name!r})"
    )


@pytest.mark.parametrize(
    ("event", "listener", "takes"),
    [
        ("connection", lambda: None, "()"),
        ("disconnection", lambda session: None, "(session)"),
        ("listening", lambda server: None, "(server)"),
        ("error::*", lambda error: None, "(error)"),
        ("error::handler", lambda a, b, c: None, "(a, b, c)"),
    ],
)
def test_a_listener_that_cannot_be_called_with_its_event_is_refused(
    event: str, listener: Callable[..., Any], takes: str
) -> None:
    server = Primacron()
    for register in (lambda: server.on(event, listener), lambda: server.on(event)(listener)):
        said = refused(register)
        assert said.startswith(f"listener of {event!r}: it is called with ({', '.join(EVENTS[event])}), but <lambda> (")
        assert said.endswith(f") takes {takes}")
    assert refused(lambda: server.once(event, listener))


def test_hooks_and_pages_that_do_not_take_what_they_get_are_refused() -> None:
    server = Primacron()

    def forgetful() -> bool:
        return True

    for register, what in (
        (lambda: server.authorize(forgetful), "authorize: it is called with (request)"),
        (lambda: server.authorize_pipe(forgetful), "authorize_pipe: it is called with (session, account, id)"),
        (lambda: server.uuid(forgetful), "uuid: it is called with (request)"),
        (lambda: server.get("/")(forgetful), "page '/': it is called with (request)"),  # type: ignore[type-var]
    ):
        assert refused(register).startswith(what)
    assert refused(lambda: server.authorize("ann")) == "authorize: expected a function, got 'ann'"  # type: ignore[type-var]
    assert "its first parameter must take the session" in refused(lambda: server.event("bid")(forgetful))


def test_what_does_not_tell_its_parameters_is_taken_as_it_is() -> None:
    server = Primacron()
    server.on("connection", {}.pop)
    server.on("error::*", print)
    server.on("close", asyncio.Event().set)


def test_a_parameter_without_a_type_says_what_to_write() -> None:
    server = Primacron()
    said = refused(lambda: server.event("bid")(lambda session, cents: None))
    assert (
        said
        == "handler of 'bid': parameter 'cents' has no type: write `cents: int` or the like; Any accepts everything"
    )


@pytest.mark.parametrize(
    ("written", "meant"), [("authorise", "authorize"), ("authorize_pipes", "authorize_pipe"), ("uuid4", "uuid")]
)
def test_an_overridden_hook_that_is_misspelt_is_refused(written: str, meant: str) -> None:
    said = refused(lambda: type("Shop", (Primacron,), {written: nothing}))
    assert said.startswith(f"Shop.{written} is no hook of the server; did you mean {meant!r}? ")
    type("Shop", (Primacron,), {"_" + written: nothing, "authorities": nothing, "uid": 5})


@pytest.mark.parametrize("name", ["authorize", "authorize_pipe", "uuid"])
def test_a_hook_cannot_be_assigned(name: str) -> None:
    server = Primacron()
    assert refused(lambda: setattr(server, name, nothing)) == (
        f"server.{name} cannot be assigned: call server.{name}(function), or write @server.{name} above it"
    )


async def test_an_overridden_hook_is_asked(serve: Serve) -> None:
    class Shop(Primacron):
        def authorize(self, request: HttpRequest) -> str:  # type: ignore[override]
            return "ann"

        def uuid(self, request: HttpRequest) -> str:  # type: ignore[override]
            return "phone"

    server = Shop()
    await (await serve(server)).connect("account=x")
    assert server.socket("phone") is not None


def test_an_option_that_is_misspelt_is_refused_with_the_nearest() -> None:
    with pytest.raises(OptionError, match=r"unknown option 'orgins'; did you mean 'origins'[?] known are address, "):
        Primacron(orgins="*")
