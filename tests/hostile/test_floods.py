"""Applications that flood their own targets, and clients that send faster than they are served."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc

import pytest

from primacron import Primacron, Session
from tests.hostile.arena import BOTH, assert_lives, until
from tests.hostile.conftest import Attack
from tests.hostile.sluggish import Sluggish, assert_slow
from tests.support.engine import SEPARATOR, Polling
from tests.support.websocket import encode_frame

# Applications that send too much


@pytest.mark.parametrize("by", BOTH)
async def test_two_hundred_thousand_messages_to_clients_that_do_not_read_are_bounded(
    kind: str, attack: Attack, by: str
) -> None:
    arena = await attack(outbox_limit=200_000)
    clients = [await Sluggish.open(arena, by, f"mallory-{number}") for number in range(5)]
    hub = arena.server.node.hub
    for number in range(200_000):
        for client in clients:
            client.session.emit("news", "x" * 100, number)
        if number % 100 == 0:
            await asyncio.sleep(0)
            assert hub.blocked_bytes < 5 * 200_200
    for client in clients:
        assert await arena.reason(client.session.account) == "slow"
        await arena.error("error::slow")
    assert arena.is_quiet
    assert hub.blocked_bytes == 0


async def test_a_flood_in_one_tick_is_bounded_for_a_client_that_reads_too(kind: str, attack: Attack) -> None:
    arena = await attack(outbox_limit=500_000)
    await arena.client.connect("account=mallory")
    session = arena.session("mallory")
    gc.collect()
    tracemalloc.start()
    try:
        for number in range(200_000):
            session.emit("news", number)
        assert tracemalloc.get_traced_memory()[1] < 8_000_000
    finally:
        tracemalloc.stop()
    await assert_slow(arena, session, 500_000)


async def test_a_flood_that_waits_now_and_then_reaches_a_client_that_reads(kind: str, attack: Attack) -> None:
    arena = await attack(outbox_limit=500_000)
    client = await arena.client.connect("account=mallory")
    session = arena.session("mallory")

    async def flood() -> None:
        for number in range(20_000):
            session.emit("news", number)
            while session.connection is not None and session.connection.waiting > 100_000:
                await asyncio.sleep(0)
            if number % 200 == 0:
                await asyncio.sleep(0)

    flooding = asyncio.create_task(flood())
    for number in range(20_000):
        assert await client.receive() == {"event": "news", "args": [number]}
    await flooding
    assert arena.is_quiet


async def test_other_clients_of_the_same_account_are_served_beside_a_slow_one(kind: str, attack: Attack) -> None:
    arena = await attack(outbox_limit=100_000)
    slow = await arena.poll_in("shared")
    session = arena.session("shared")
    quick = await arena.client.connect("account=shared")
    for number in range(3000):
        arena.server.account("shared").emit("news", number)
        if number % 100 == 0:
            await asyncio.sleep(0)
    _, context = await arena.error("error::slow")
    assert context.session is session
    for number in range(3000):
        assert await quick.receive() == {"event": "news", "args": [number]}
    assert (await slow.poll()).text == "1"
    assert arena.ended == {"shared": ["slow"]}
    other = await arena.poll_in("other")
    await assert_lives(other)


# Clients that send faster than they are served


@pytest.mark.parametrize("by", BOTH)
async def test_a_client_that_floods_a_handler_that_waits_is_read_no_further(kind: str, attack: Attack, by: str) -> None:
    server = Primacron(inbox_limit=10, ping_interval=0.2, ping_timeout=0.7)
    gate = asyncio.Event()
    handled: list[int] = []

    @server.event("work")
    async def work(session: Session, number: int) -> None:
        await gate.wait()
        handled.append(number)

    arena = await attack(server)
    work_of = '4{{"event":"work","args":[{}]}}'.format
    if by == "websocket":
        client = await arena.client.connect("account=mallory")
        frames = b"".join(encode_frame(work_of(number).encode()) for number in range(20_000))
        sending = asyncio.create_task(client.socket.raw.send(frames))
    else:
        polling = await arena.poll_in()
        assert (await polling.post(SEPARATOR.join(work_of(number) for number in range(1000)))).text == "ok"
        sending = asyncio.create_task(post_rest(polling, work_of(1000)))
    session = arena.session("mallory")
    connection = session.connection
    assert connection is not None
    await until(lambda: connection.is_held, "the end of the reading")
    assert session.inbox is not None
    assert len(session.inbox._jobs) <= (10 if by == "websocket" else 1000)
    due = connection.due
    await until(lambda: connection.due > due + 1, "pings that demand nothing")
    assert arena.ended == {}
    gate.set()
    await sending
    count = 20_000 if by == "websocket" else 1001
    await until(lambda: len(handled) == count, "all of it")
    assert handled == list(range(count))
    assert arena.is_quiet


async def test_a_large_post_that_has_waited_for_a_handler_is_read_to_its_end(kind: str, attack: Attack) -> None:
    server = Primacron(inbox_limit=1)
    gate = asyncio.Event()
    handled: list[int] = []

    @server.event("work")
    async def work(session: Session, text: str) -> None:
        await gate.wait()
        handled.append(len(text))

    arena = await attack(server)
    polling = await arena.poll_in()
    for size in (1, 2):
        assert (await polling.emit("work", "x" * size)).text == "ok"
    connection = arena.session("mallory").connection
    assert connection is not None
    await until(lambda: connection.is_held, "the end of the reading")
    sending = asyncio.create_task(post_rest(polling, '4{"event":"work","args":["' + "x" * 500_000 + '"]}'))
    transport = connection.transport
    await until(lambda: transport._waiting, "the POST")  # type: ignore[attr-defined]
    gate.set()
    await sending
    await until(lambda: handled == [1, 2, 500_000], "all of it")
    assert arena.is_quiet


async def post_rest(polling: Polling, body: str) -> None:
    """Send a POST that waits until it is read."""
    assert (await polling.post(body)).text == "ok"
