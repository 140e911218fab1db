"""Sends that are left out, refused or fail: receipts say so, and nobody gets half of it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from primacron import Primacron, Reach, Receipt, ReceiptNotRequested, Session
from tests.conftest import Serve
from tests.support.engine import Client, Events
from tests.support.hearing import Hearing
from tests.support.websocket import WebSocket


class Room:
    """A served server, and clients that are connected to it."""

    def __init__(self, server: Primacron, front: Client) -> None:
        self.server = server
        self.front = front
        self._opened = Hearing(server, "connection")

    async def join(self, account: str) -> tuple[Events, Session]:
        client = await self.front.connect(f"account={account}")
        (session,) = await self._opened.next()
        return client, session

    async def join_packed(self, account: str) -> tuple[WebSocket, Session]:
        socket = await self.front.websocket(f"account={account}&format=msgpack")
        await socket.receive()
        (session,) = await self._opened.next()
        return socket, session

    async def join_by_polling(self, account: str) -> tuple[Any, Session]:
        client = await self.front.poll_in(f"account={account}")
        (session,) = await self._opened.next()
        return client, session


@pytest.fixture
async def room(serve: Serve) -> Room:
    server = Primacron(outbox_limit=1_000)
    return Room(server, await serve(server))


# Left out


async def test_except_takes_one_session_or_any_number(room: Room) -> None:
    sessions = [(await room.join("ann"))[1] for _ in range(3)]
    everyone, account = room.server.everyone, room.server.account("ann")
    for target in (everyone, account):
        assert await target.emit("x") == Reach(1, 3)
        assert await target.emit("x", except_=sessions[0]) == Reach(1, 2)
        assert await target.emit("x", except_=sessions) == Reach(1, 0)
        assert await target.emit("x", except_=tuple(sessions[:2])) == Reach(1, 1)
        assert await target.emit("x", except_={sessions[0]}) == Reach(1, 2)
        assert await target.emit("x", except_=(each for each in sessions[1:])) == Reach(1, 1)
        assert await target.emit("x", except_=[]) == Reach(1, 3)
    one = room.server.session("ann", sessions[0].id)
    assert await one.emit("x", except_=sessions[1]) == Receipt("accepted")
    assert await one.emit("x", except_=sessions[0]) == Receipt("unsent")
    assert await one.emit("x", except_=sessions) == Receipt("unsent")


async def test_a_session_that_has_ended_may_be_left_out(room: Room) -> None:
    ended = Hearing(room.server, "disconnection")
    client, session = await room.join("ann")
    await room.join("ben")
    await client.close()
    await ended.next()
    assert await room.server.everyone.emit("x", except_=session) == Reach(1, 1)


@pytest.mark.parametrize("how", ["id", "ids", "account", "number"])
async def test_what_is_no_session_cannot_be_left_out(room: Room, how: str) -> None:
    client, session = await room.join("ann")
    wrong: dict[str, Any] = {
        "id": session.id,
        "ids": [session.id],
        "account": "ann",
        "number": 7,
    }
    targets: list[Any] = [
        room.server.everyone,
        room.server.account("ann"),
        room.server.session("ann", session.id),
        room.server.session("ann", "nobody"),
    ]
    for target in targets:
        with pytest.raises(TypeError):
            target.emit("x", except_=wrong[how])
    room.server.everyone.emit("last")
    assert await client.receive() == {"event": "last", "args": []}


# Refused


async def test_a_send_to_a_client_that_is_closed_because_of_it_is_refused(room: Room) -> None:
    _, session = await room.join_by_polling("ann")
    other, _ = await room.join("ben")
    slow = Hearing(room.server, "error::slow")
    targets: list[Any] = [session, room.server.session("ann", session.id)]
    assert await session.emit("x", "x" * 2_000) == Receipt("accepted")
    refused = [each.emit("x", "x") for each in targets]
    assert await refused[0] == Receipt("refused", certain=True)
    assert await refused[1] == Receipt("unknown_session", certain=True)
    await slow.next_error()
    assert slow.is_empty
    assert await room.server.everyone.emit("last") == Reach(1, 1)
    assert await other.receive() == {"event": "last", "args": []}


async def test_a_send_to_one_that_is_refused_is_told_by_each_target(serve: Serve) -> None:
    for kind in ("session", "server.session", "account", "everyone"):
        server = Primacron(outbox_limit=1_000)
        room = Room(server, await serve(server))
        _, session = await room.join_by_polling("ann")
        targets: dict[str, Any] = {
            "session": session,
            "server.session": server.session("ann", session.id),
            "account": server.account("ann"),
            "everyone": server.everyone,
        }
        assert await session.emit("x", "x" * 2_000) == Receipt("accepted")
        outcome = await targets[kind].emit("x", "x")
        assert outcome == (Receipt("refused") if "session" in kind else Reach(1, 0)), kind


async def test_a_refused_send_tells_later_only_what_it_was_asked_to(room: Room) -> None:
    _, session = await room.join_by_polling("ann")
    session.emit("x", "x" * 2_000)
    asked = session.emit("x", receipt=True)
    await asyncio.sleep(0)
    assert await asked == Receipt("refused")
    _, session = await room.join_by_polling("ben")
    session.emit("x", "x" * 2_000)
    forgotten = session.emit("x")
    await asyncio.sleep(0)
    with pytest.raises(ReceiptNotRequested):
        await forgotten


async def test_a_session_that_waits_for_its_last_poll_is_reached_by_nobody(room: Room) -> None:
    polling, session = await room.join_by_polling("ann")
    await room.join("ben")
    ended = Hearing(room.server, "disconnection")
    session.disconnect("enough")
    await ended.next()
    assert len(room.server.node.hub.connections) == 2
    assert await room.server.everyone.emit("x") == Reach(1, 1)
    assert await room.server.account("ann").emit("x") == Reach(1, 0)
    assert await room.server.session("ann", session.id).emit("x") == Receipt("unknown_session")
    assert await session.emit("x") == Receipt("unknown_session")
    assert await room.server.everyone.disconnect("closed") == Reach(1, 1)
    assert (await ended.next())[1] == "closed"
    assert (await polling.poll()).text == "1"


# Whole or nothing


@pytest.mark.parametrize("target", ["everyone", "account"])
async def test_what_one_dialect_cannot_write_is_sent_to_nobody(room: Room, target: str) -> None:
    first, _ = await room.join("ann")
    packed, _ = await room.join_packed("ann")
    last, _ = await room.join("ann")
    many = room.server.everyone if target == "everyone" else room.server.account("ann")
    with pytest.raises(ValueError, match="format=msgpack"):
        many.emit("x", 2**70)
    assert await many.emit("last", 1) == Reach(1, 3)
    for client in (first, last):
        assert await client.receive() == {"event": "last", "args": [1]}
    assert await packed.receive() == b"\x82\xa5event\xa4last\xa4args\x91\x01"


async def test_what_no_dialect_can_write_is_sent_to_nobody(room: Room) -> None:
    client, session = await room.join("ann")
    targets: list[Any] = [
        session,
        room.server.session("ann", session.id),
        room.server.session("ann", "nobody"),
        room.server.account("ann"),
        room.server.account("nobody"),
        room.server.everyone,
    ]
    for target in targets:
        for wrong in (object(), {1, object()}, lambda: None):
            with pytest.raises(TypeError):
                target.emit("x", "right", wrong)
        with pytest.raises(UnicodeEncodeError):
            target.emit("x", "\ud800")
    room.server.everyone.emit("last")
    assert await client.receive() == {"event": "last", "args": []}


# By the original's names


async def test_thin_forms_return_what_the_targets_do(room: Room) -> None:
    ann, session = await room.join("ann")
    assert await room.server.forward("ann", session.id, {"event": "x", "args": [1]}) == Receipt("accepted")
    assert await room.server.forward("nobody", session.id, "x") == Receipt("unknown_session")
    assert await room.server.broadcast(None) == Reach(1, 1)
    assert [await ann.receive() for _ in range(2)] == [
        {"event": "x", "args": [1]},
        {"event": "message", "args": [None]},
    ]
    found = await room.server.find("ann", session.id)
    assert found is not None
    assert (found.account, found.id, found.node) == ("ann", session.id, room.server.node.id)
    assert await room.server.find("ben", session.id) is None
    assert room.server.socket(session.id) is session
    assert room.server.network("shop.example", 80).uri == "http://shop.example:80"
    assert room.server.uuid(lambda request: "x") is room.server
    assert room.server.validate("y", lambda text: True) is room.server
