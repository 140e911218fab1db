"""Targets: who gets what, and what becomes of it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from primacron import Primacron, Reach, Receipt, ReceiptNotRequested, Session
from tests.conftest import Serve
from tests.support.engine import Client, Events
from tests.support.hearing import Hearing


class Room:
    """A served server, and clients that are connected to it."""

    def __init__(self, server: Primacron, front: Client) -> None:
        self.server = server
        self.front = front
        self._opened = Hearing(server, "connection")

    async def join(self, account: str, extra: str = "") -> tuple[Events, Session]:
        client = await self.front.connect(f"account={account}{extra}")
        (session,) = await self._opened.next()
        return client, session


@pytest.fixture
async def room(serve: Serve) -> Room:
    server = Primacron()
    return Room(server, await serve(server))


async def test_a_session_target_reaches_one_session(room: Room) -> None:
    first, session = await room.join("ann")
    second, _ = await room.join("ann")
    receipt = await room.server.session("ann", session.id).emit("hello", 1)
    assert receipt == Receipt("accepted", certain=True)
    assert receipt.ok
    assert await first.receive() == {"event": "hello", "args": [1]}
    room.server.everyone.emit("last")
    assert await second.receive() == {"event": "last", "args": []}


async def test_an_account_target_reaches_all_sessions_of_the_account(room: Room) -> None:
    clients = [(await room.join("ann"))[0] for _ in range(3)]
    other, _ = await room.join("bob")
    assert await room.server.account("ann").emit("hello") == Reach(nodes=1, sessions=3)
    assert [await client.receive() for client in clients] == [{"event": "hello", "args": []}] * 3
    room.server.everyone.emit("last")
    assert await other.receive() == {"event": "last", "args": []}


async def test_everyone_reaches_every_session_and_except_leaves_some_out(room: Room) -> None:
    (ann, session), (bob, second), (cid, _) = [await room.join(name) for name in ("ann", "bob", "cid")]
    assert await room.server.everyone.emit("one", except_=session) == Reach(1, 2)
    assert await room.server.everyone.emit("two", except_=[session, second]) == Reach(1, 1)
    room.server.everyone.emit("last")
    for client, events in ((ann, ["last"]), (bob, ["one", "last"]), (cid, ["one", "two", "last"])):
        assert [(await client.receive())["event"] for _ in events] == events


async def test_an_unknown_session_is_told_with_certainty(room: Room) -> None:
    await room.join("ann")
    assert await room.server.session("ann", "nobody").emit("x") == Receipt("unknown_session", certain=True)
    assert await room.server.session("nobody", "nobody").emit("x") == Receipt("unknown_session", certain=True)
    assert await room.server.account("nobody").emit("x") == Reach(1, 0)


async def test_what_a_session_sends_after_its_end_is_unknown_session(room: Room) -> None:
    ended = Hearing(room.server, "disconnection")
    client, session = await room.join("ann")
    await client.close()
    await ended.next()
    assert await session.emit("x") == Receipt("unknown_session")
    assert not session.connected


async def test_a_send_can_be_gathered_waited_for_and_called_back(room: Room) -> None:
    _, session = await room.join("ann")
    receipts = await asyncio.gather(session.emit("a"), room.server.session("ann", session.id).emit("b"))
    assert list(receipts) == [Receipt("accepted")] * 2
    assert await asyncio.wait_for(session.emit("c"), 1) == Receipt("accepted")
    done, _ = await asyncio.wait({session.emit("d")})
    assert [each.result() for each in done] == [Receipt("accepted")]
    called: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()
    session.emit("e").add_done_callback(lambda delivery: called.set_result(delivery.result()))
    assert await called == Receipt("accepted")


@pytest.mark.parametrize("target", ["session", "account", "everyone", "of a handler", "unknown"])
async def test_a_send_that_is_first_looked_at_in_a_later_tick_has_no_receipt(room: Room, target: str) -> None:
    _, session = await room.join("ann")
    targets: dict[str, Any] = {
        "session": room.server.session("ann", session.id),
        "account": room.server.account("ann"),
        "everyone": room.server.everyone,
        "of a handler": session,
        "unknown": room.server.session("ann", "nobody"),
    }
    forgotten, asked = targets[target].emit("x"), targets[target].emit("x", receipt=True)
    await asyncio.sleep(0.01)
    with pytest.raises(ReceiptNotRequested):
        await forgotten
    with pytest.raises(ReceiptNotRequested):
        forgotten.result()
    with pytest.raises(ReceiptNotRequested):
        forgotten.add_done_callback(lambda _: None)
    assert (await asked) in (Receipt("accepted"), Receipt("unknown_session"), Reach(1, 1))


async def test_what_a_tick_sends_leaves_in_one_piece_and_in_order(room: Room) -> None:
    client, session = await room.join("ann")
    for number in range(100):
        session.emit("n", number)
    piece = await client.socket.raw.reader.read(65536)
    assert piece.count(b'{"event":"n"') == 100
    assert piece.index(b"[0]") < piece.index(b"[50]") < piece.index(b"[99]")


async def test_sends_by_different_targets_arrive(room: Room) -> None:
    client, session = await room.join("ann")
    room.server.everyone.emit("one")
    room.server.account("ann").emit("two")
    room.server.session("ann", session.id).emit("three")
    session.emit("four")
    assert [(await client.receive())["event"] for _ in range(4)] == ["one", "two", "three", "four"]


@pytest.mark.parametrize("target", ["session", "account", "everyone"])
async def test_disconnect_closes_with_the_reason(room: Room, target: str) -> None:
    ended = Hearing(room.server, "disconnection")
    client, session = await room.join("ann")
    targets: dict[str, Any] = {
        "session": room.server.session("ann", session.id),
        "account": room.server.account("ann"),
        "everyone": room.server.everyone,
    }
    targets[target].disconnect("closing time")
    assert await client.receive_close() == (1000, "closing time")
    assert await ended.next() == (session, "closing time")


async def test_disconnect_without_a_reason_is_a_forced_close(room: Room) -> None:
    client, session = await room.join("ann")
    session.emit("last words")
    session.disconnect()
    assert await client.receive() == {"event": "last words", "args": []}
    assert await client.receive_close() == (1000, "forced close")


async def test_sessions_tells_who_is_there(room: Room) -> None:
    _, first = await room.join("ann")
    _, second = await room.join("ann")
    _, third = await room.join("bob")
    assert {each.id for each in await room.server.account("ann").sessions()} == {first.id, second.id}
    assert [each.account for each in await room.server.session("bob", third.id).sessions()] == ["bob"]
    assert {each.id for each in await room.server.everyone.sessions()} == {first.id, second.id, third.id}
    assert await room.server.session("ann", "nobody").sessions() == []
    found = await room.server.find("bob", third.id)
    assert found is not None
    assert found.node == room.server.node.id
    assert await room.server.find("bob", "nobody") is None
    assert room.server.socket(third.id) is third
    assert room.server.socket("nobody") is None


@pytest.mark.parametrize(
    ("message", "arrives"),
    [
        ({"event": "news", "args": [1], "more": True}, {"event": "news", "args": [1], "more": True}),
        ({"no": "event"}, {"event": "message", "args": [{"no": "event"}]}),
        ("text", {"event": "message", "args": ["text"]}),
        ([1, 2], {"event": "message", "args": [[1, 2]]}),
        (None, {"event": "message", "args": [None]}),
        (5, {"event": "message", "args": [5]}),
    ],
)
async def test_a_forwarded_message_arrives_as_it_is_or_as_the_event_message(
    room: Room, message: Any, arrives: Any
) -> None:
    client, session = await room.join("ann")
    assert await room.server.forward("ann", session.id, message) == Receipt("accepted")
    assert await client.receive() == arrives
    assert await room.server.broadcast(message) == Reach(1, 1)
    assert await client.receive() == arrives
    assert await room.server.forward("ann", "nobody", message) == Receipt("unknown_session")


async def test_a_forwarded_message_is_bare_for_a_primus_client(room: Room) -> None:
    client, session = await room.join("ann", "&_primuscb=x")
    room.server.forward("ann", session.id, {"event": "news", "args": []})
    room.server.forward("ann", session.id, "text")
    assert [await client.receive(), await client.receive()] == [{"event": "news", "args": []}, "text"]


@pytest.mark.parametrize("target", ["session", "account", "everyone", "of a handler"])
async def test_what_cannot_be_encoded_raises_where_it_is_sent(room: Room, target: str) -> None:
    client, session = await room.join("ann")
    targets: dict[str, Any] = {
        "session": room.server.session("ann", session.id),
        "account": room.server.account("nobody"),
        "everyone": room.server.everyone,
        "of a handler": session,
    }
    with pytest.raises(TypeError, match="cannot encode object"):
        targets[target].emit("x", object())
    room.server.everyone.emit("last")
    assert (await client.receive())["event"] == "last"


async def test_one_fan_out_serves_each_client_in_its_dialect(room: Room) -> None:
    plain, _ = await room.join("ann")
    primus, _ = await room.join("bob", "&_primuscb=x")
    packed, _ = await room.join("cid", "&format=msgpack")
    assert await room.server.everyone.emit("news", {"n": 1}) == Reach(1, 3)
    assert await plain.receive() == {"event": "news", "args": [{"n": 1}]}
    assert await primus.receive() == {"emit": ["news", {"n": 1}]}
    import msgspec

    data = await packed.socket.receive()
    assert isinstance(data, bytes)
    assert msgspec.msgpack.decode(data) == {"event": "news", "args": [{"n": 1}]}


async def test_the_raw_dialect_sends_messages_as_they_are(serve: Serve) -> None:
    server = Primacron(dialect="raw")

    @server.event("message")
    def echo(session: Session, content: str | bytes) -> None:
        session.emit("message", content)

    client = await (await serve(server)).connect()
    await client.socket.send("4plain")
    assert await client.socket.receive() == "4plain"
    await client.socket.send(b"\x00\x01")
    assert await client.socket.receive() == b"\x00\x01"
    with pytest.raises(ValueError, match="only 'message'"):
        server.everyone.emit("news")
    with pytest.raises(TypeError, match="str or bytes"):
        server.everyone.emit("message", 5)
    assert await server.broadcast({"a": 1}) == Reach(1, 1)
    assert json.loads(str(await client.socket.receive())[1:]) == {"a": 1}


async def test_a_volatile_event_is_dropped_for_a_client_that_takes_none(serve: Serve) -> None:
    server = Primacron(outbox_limit=100_000_000)
    front = await serve(server)
    opened = Hearing(server, "connection")
    raw = await front.websocket("account=ann")
    (session,) = await opened.next()
    raw.raw.writer.transport.pause_reading()  # type: ignore[attr-defined]
    sent = 0
    while (await session.emit("filler", "x" * 100_000, volatile=True)).ok:
        sent += 1
        assert sent < 1000
        await asyncio.sleep(0)
    assert await session.emit("dropped", volatile=True) == Receipt("unsent")
    assert await server.session("ann", session.id).emit("dropped", volatile=True) == Receipt("unsent")
    assert await server.everyone.emit("dropped", volatile=True) == Reach(1, 0)
    assert await session.emit("kept") == Receipt("accepted")
    raw.raw.writer.transport.resume_reading()  # type: ignore[attr-defined]
    received = 0
    while not str(message := await raw.receive()).startswith('4{"event":"kept"'):
        received += str(message).startswith('4{"event":"filler"')
    assert received == sent
    assert server.metrics["messages_volatile_dropped"] == 4
