"""Clients that do not read or poll: what waits for them is bounded, and past that they are closed with the reason."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import tracemalloc
from typing import Any

import pytest

from primacron import Context, Primacron, Receipt, Session
from primacron.errors import SlowClient
from tests.hostile.arena import BOTH, until
from tests.hostile.conftest import Attack
from tests.hostile.sluggish import Sluggish, assert_slow
from tests.support.engine import SEPARATOR
from tests.support.websocket import encode_frame

# What waits for one client


@pytest.mark.parametrize("by", BOTH)
async def test_a_client_that_takes_nothing_is_closed_at_the_limit(kind: str, attack: Attack, by: str) -> None:
    arena = await attack(outbox_limit=300_000)
    client = await Sluggish.open(arena, by)
    while client.session.connected:
        client.session.emit("news", "x" * 10_000)
        assert arena.server.node.hub.blocked_bytes <= 310_100
        await asyncio.sleep(0)
    error = await assert_slow(arena, client.session, 300_000)
    assert 300_000 < error.waiting < 450_000
    assert arena.server.node.hub.blocked_bytes == 0


async def test_a_client_that_never_polls_is_told_of_its_end_when_it_does(kind: str, attack: Attack) -> None:
    arena = await attack(outbox_limit=1000)
    polling = await arena.poll_in()
    session = arena.session("mallory")
    for number in range(100):
        session.emit("news", number)
    await assert_slow(arena, session, 1000)
    assert (await polling.poll()).text == "1"
    response = await polling.poll()
    assert (response.status, response.json()["code"]) == (400, 1)


async def test_a_websocket_that_was_to_take_over_is_closed_with_the_code(kind: str, attack: Attack) -> None:
    arena = await attack(outbox_limit=1000)
    for number, probes in enumerate((False, True)):
        polling = await arena.poll_in(f"mallory-{number}")
        socket = await polling.probe()
        if probes:
            await socket.send("2probe")
            assert await socket.receive() == "3probe"
        session = arena.session(f"mallory-{number}")
        for message in range(100):
            session.emit("news", message)
        await assert_slow(arena, session, 1000)
        if probes:
            await socket.send("5")
        close = await socket.receive_close()
        assert (close.code, close.reason) == (1013, "slow")


@pytest.mark.parametrize("by", BOTH)
async def test_a_client_that_asks_and_takes_no_answers_is_closed_at_the_limit(
    kind: str, attack: Attack, by: str
) -> None:
    arena = await attack(outbox_limit=100_000)
    packet = json.dumps({"event": "echo", "args": ["x" * 1000], "id": 1})
    if by == "polling":
        polling = await arena.poll_in()
        session = arena.session("mallory")
        assert (await polling.post(SEPARATOR.join([f"4{packet}"] * 200))).text == "ok"  # the rest of it is let go
        await assert_slow(arena, session, 100_000)
    else:
        client = await arena.client.connect("account=mallory")
        client.socket.raw.writer.transport.pause_reading()  # type: ignore[attr-defined]
        session = arena.session("mallory")
        with contextlib.suppress(OSError):
            while session.connected:
                await client.socket.raw.send(encode_frame(f"4{packet}".encode()) * 100)
        await assert_slow(arena, session, 100_000)
    assert arena.is_quiet


@pytest.mark.parametrize("by", BOTH)
async def test_the_newest_message_alone_never_closes(kind: str, attack: Attack, by: str) -> None:
    arena = await attack(outbox_limit=1000)
    client = await Sluggish.open(arena, by)
    if by == "polling":
        client.session.emit("small", "first")
    receipt = await client.session.emit("large", "x" * 12_000_000)
    assert receipt == Receipt("accepted")
    await asyncio.sleep(0)
    assert arena.is_quiet
    expected = ["first", "x" * 12_000_000] if by == "polling" else ["x" * 12_000_000]
    assert await client.wake(len(expected)) == expected


@pytest.mark.parametrize("by", BOTH)
async def test_messages_behind_one_over_the_limit_close(kind: str, attack: Attack, by: str) -> None:
    arena = await attack(outbox_limit=1000)
    client = await Sluggish.open(arena, by)
    client.session.emit("large", "x" * 12_000_000)
    more = 0
    while client.session.connected and more < 100:
        await asyncio.sleep(0)
        client.session.emit("one more", "x" * 2000)
        more += 1
    # An outer server takes some of it before it says that the client takes none.
    assert more <= (100 if kind == "asgi" else 3)
    await assert_slow(arena, client.session, 1000)


@pytest.mark.parametrize("by", BOTH)
async def test_a_client_that_catches_up_in_time_gets_all_in_order(kind: str, attack: Attack, by: str) -> None:
    arena = await attack(outbox_limit=2_000_000)
    client = await Sluggish.open(arena, by)
    if by == "websocket":
        await client.stick()
    before = client.connection.waiting
    for number in range(5000):
        client.session.emit("news", number)
    assert client.connection.waiting > before
    assert arena.server.node.hub.blocked_bytes == client.connection.waiting or by == "polling"
    found: list[Any] = []
    while 4999 not in found:
        found += await client.wake(1)
    assert [each for each in found if isinstance(each, int)] == list(range(5000))
    assert arena.server.node.hub.blocked_bytes == 0


async def test_who_hears_that_a_client_is_slow_may_send_to_it_again(kind: str, attack: Attack) -> None:
    server = Primacron(outbox_limit=1000)
    heard: list[Session] = []

    @server.on("error::slow")
    def slow(error: SlowClient, context: Context) -> None:
        assert context.session is not None
        heard.append(context.session)
        for _ in range(100):
            context.session.emit("are you there?")
            server.account("mallory").emit("are you there?")

    arena = await attack(server)
    await arena.poll_in()
    session = arena.session("mallory")
    for number in range(100):
        session.emit("news", number)
    await assert_slow(arena, session, 1000)
    assert heard == [session]


async def test_tiny_messages_count_for_what_they_weigh(kind: str, attack: Attack) -> None:
    arena = await attack(outbox_limit=1_000_000)
    await arena.poll_in()
    session = arena.session("mallory")
    gc.collect()
    tracemalloc.start()
    try:
        count = 0
        while session.connected:
            session.emit("x")
            count += 1
            assert tracemalloc.get_traced_memory()[0] < 4_000_000
    finally:
        tracemalloc.stop()
    assert 10_000 < count < 20_000
    await assert_slow(arena, session, 1_000_000)


# What waits for all


@pytest.mark.parametrize("by", BOTH)
async def test_when_all_is_too_much_the_largest_is_closed_and_the_others_get_theirs(
    kind: str, attack: Attack, by: str
) -> None:
    arena = await attack(outbox_limit=50_000_000, outbox_total=10_000_000)
    clients = [await Sluggish.open(arena, by, f"mallory-{number}") for number in range(4)]
    if by == "websocket":
        for client in clients:
            await client.stick()
    hub = arena.server.node.hub
    sizes = (1_500_000, 4_000_000, 2_500_000, 500_000)
    for client, size in zip(clients, sizes, strict=True):
        client.session.emit("kept", "x" * size)
    await until(lambda: hub.blocked_bytes > 8_500_000, "what waits")
    assert arena.is_quiet
    clients[3].session.emit("one more", "y" * 1_500_000)
    error = await assert_slow(arena, clients[1].session, 10_000_000)
    assert error.waiting > 10_000_000
    assert hub.blocked_bytes < 7_500_000
    assert set(arena.ended) == {"mallory-1"}
    for client in (clients[0], clients[2], clients[3]):
        kept = "y" if client is clients[3] else "x"
        while (found := await client.wake(1))[-1][0] != kept or len(found[-1]) < 1_500_000:
            pass
    assert arena.is_quiet


async def test_when_a_fan_out_is_too_much_for_all_clients_are_closed_until_it_fits(kind: str, attack: Attack) -> None:
    arena = await attack(outbox_limit=50_000_000, outbox_total=1_100_000)
    for _ in range(10):
        await arena.poll_in()
    arena.server.account("mallory").emit("news", "x" * 300_000)
    await until(lambda: arena.server.node.hub.blocked_bytes > 0, "what waits")
    await until(lambda: len(arena.ended.get("mallory", ())) == 7, "seven ends")
    assert arena.ended["mallory"] == ["slow"] * 7
    assert arena.server.node.hub.blocked_bytes < 1_100_000
    for _ in range(7):
        await arena.error("error::slow")
    assert arena.is_quiet
