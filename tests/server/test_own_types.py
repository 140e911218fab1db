"""The option ``enc_hook``: types of the application as arguments, answers and in calls, here and on other servers."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest

from primacron import Primacron, Session
from tests.conftest import Serve
from tests.support.hearing import Hearing


class Money:
    def __init__(self, cents: int) -> None:
        self.cents = cents


def encode(value: Any) -> Any:
    if isinstance(value, Money):
        return {"cents": value.cents}
    raise NotImplementedError


async def test_clients_of_each_form_get_what_the_hook_returned(kind: str, serve: Serve) -> None:
    server = Primacron(enc_hook=encode)

    @server.event("price")
    def price(session: Session) -> Money:
        return Money(7)

    front = await serve(server)
    client = await front.connect("account=ann")
    packed = await front.websocket("account=bob&format=msgpack")
    await packed.receive()
    server.everyone.emit("sold", [Money(5)])
    assert await client.receive() == {"event": "sold", "args": [[{"cents": 5}]]}
    frame = await packed.receive()
    assert isinstance(frame, bytes)
    assert msgspec.msgpack.decode(frame) == {"event": "sold", "args": [[{"cents": 5}]]}
    await client.emit("price", id=1)
    assert await client.receive() == {"ack": 1, "args": [{"cents": 7}]}


async def test_of_a_fan_out_that_one_form_cannot_hold_nobody_gets_anything(kind: str, serve: Serve) -> None:
    server = Primacron()
    front = await serve(server)
    client = await front.connect("account=ann")
    packed = await front.websocket("account=bob&format=msgpack")
    await packed.receive()
    for odd in (math.nan, [math.inf], {"a": -math.inf}, 2**70):
        with pytest.raises(ValueError, match=r"cannot be sent|not for"):
            server.everyone.emit("x", odd)
    server.everyone.emit("last", {1: None})
    assert await client.receive() == {"event": "last", "args": [{"1": None}]}
    frame = await packed.receive()
    assert isinstance(frame, bytes)
    assert msgspec.msgpack.decode(frame) == {"event": "last", "args": [{"1": None}]}


async def test_an_answer_that_is_no_number_is_the_handlers_mistake(serve: Serve) -> None:
    server = Primacron()

    @server.event("ratio")
    def ratio(session: Session) -> float:
        return math.nan

    errors = Hearing(server, "error::handler")
    client = await (await serve(server)).connect()
    await client.emit("ratio", id=1)
    assert (await client.receive())["error"] == {"type": "handler", "message": "the handler failed", "path": ""}
    assert "nan cannot be sent" in str((await errors.next_error())[0])
