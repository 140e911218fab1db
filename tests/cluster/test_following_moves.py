"""A follow goes on when one of both moves to another server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from primacron import Receipt
from primacron.features.follow import Follows
from tests.cluster.agents import Agents, came_from, is_empty_after, next_of
from tests.cluster.fleet import Fleet, local, until
from tests.cluster.walker import Scene, hold_claims, is_frozen

BACKENDS = ("memory", "redis", "redis-cluster")

ACCEPTED = Receipt("accepted", certain=True)


@pytest.fixture
async def agents(fleet: Fleet) -> Agents:
    return await Agents.start(fleet)


@pytest.fixture
async def scene(agents: Agents) -> AsyncIterator[Scene]:
    scene = Scene(agents.fleet, agents.servers, [await agents.fleet.serve(server) for server in agents.servers])
    yield scene
    await scene.close()


async def test_a_follow_goes_on_when_the_followed_one_moves(agents: Agents, scene: Scene) -> None:
    follower, walker = await agents.join(2, "f"), await scene.walker()
    assert await agents.pipe(2, "f", "a", received=True) == ACCEPTED
    await walker.emit("say", "before")
    assert await next_of(follower) == ("say", ("before",), came_from("a"))
    await walker.upgrade()
    await scene.arrival()
    await walker.emit("say", "after")
    assert await next_of(follower) == ("say", ("after",), came_from("a"))
    assert await agents.servers[1].session("ann", "a").emit("got") == ACCEPTED
    assert await next_of(follower) == ("got", (), came_from("a", "out"))
    assert not agents.servers[0].node.hub.taps
    assert await agents.servers[2].unpipe(local(agents.servers[2], "ann", "f"), "ann", "a") == ACCEPTED
    await walker.emit("say", "unheard")
    await until(lambda: agents.servers[1].metrics.messages_received >= 2, "the last message")
    assert await is_empty_after(agents.servers[1], follower, "f")


async def test_a_follow_goes_on_when_the_follower_moves_and_ends_with_it(agents: Agents, scene: Scene) -> None:
    followed, walker = await agents.join(2, "b"), await scene.walker()
    assert await agents.pipe(0, "a", "b") == ACCEPTED
    await walker.upgrade()
    assert (await scene.arrival()).demand(Follows).following == {("ann", "b")}
    await followed.call("say", 1)
    assert await walker.receive() == {"event": "say", "args": [1], "origin": came_from("b")}
    await walker.close()
    await until(lambda: not local(agents.servers[2], "ann", "b").demand(Follows).followers, "the end of the follow")
    await until(lambda: not any("followers" in key for key in agents.fleet.stored()), "the registry to forget it")


async def test_what_is_mirrored_around_a_move_comes_once_and_in_order(agents: Agents, scene: Scene) -> None:
    follower, walker = await agents.join(2, "f"), await scene.walker()
    assert await agents.pipe(2, "f", "a") == ACCEPTED
    count = 300

    async def talk() -> None:
        for number in range(0, count, 10):
            await walker.send(*({"event": "say", "args": [each]} for each in range(number, number + 10)))

    talking = asyncio.create_task(talk())
    assert (await follower.receive()).args == (0,)
    await walker.upgrade()
    await talking
    assert [(await follower.receive()).args[0] for _ in range(1, count)] == [*range(1, count)]
    assert await is_empty_after(agents.servers[1], follower, "f")


async def test_what_is_sent_to_many_around_a_move_is_mirrored_once(agents: Agents, scene: Scene) -> None:
    follower, walker = await agents.join(2, "f", account="bob"), await scene.walker()
    server = agents.servers[2]

    @server.authorize_pipe
    def allow(*_: Any) -> bool:
        return True

    assert await server.pipe(local(server, "bob", "f"), "ann", "a", received=True) == ACCEPTED
    numbers: list[int] = []
    stop = asyncio.Event()

    async def send() -> None:
        while not stop.is_set():
            numbers.append(len(numbers))
            agents.servers[numbers[-1] % 3].account("ann").emit("n", numbers[-1])
            await asyncio.sleep(0.001)

    sending = asyncio.create_task(send())
    assert (await follower.receive()).event == "n"
    go_on = hold_claims(agents.servers[1])
    upgrade = asyncio.create_task(walker.upgrade())
    await until(lambda: is_frozen(agents.servers[0]), "the session to be in transit")
    before = len(numbers)
    await until(lambda: len(numbers) > before + 10, "some sends")
    go_on.set()
    await upgrade
    await until(lambda: len(numbers) > before + 50, "more sends")
    stop.set()
    await sending
    got = [0] + [(await follower.receive()).args[0] for _ in numbers[1:]]
    assert sorted(got) == numbers
    assert await is_empty_after(agents.servers[1], follower, "f", account="bob")


async def test_what_is_repeated_under_a_key_is_mirrored_once(agents: Agents) -> None:
    followed, follower = await agents.join(1, "b", account="bob"), await agents.join(0, "f")
    server = agents.servers[0]

    @server.authorize_pipe
    def allow(*_: Any) -> bool:
        return True

    assert await server.pipe(local(server, "ann", "f"), "bob", "b", received=True) == ACCEPTED
    for sender in agents.servers:
        await sender.session("bob", "b").emit("pay", key="k")
        await sender.account("bob").emit("pay", key="k")
    assert (await followed.receive()).event == (await follower.receive()).event == "pay"
    assert followed.is_quiet
    assert await is_empty_after(agents.servers[1], follower, "f")
