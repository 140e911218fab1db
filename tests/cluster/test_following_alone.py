"""Following where there is one server: what the registry keeps elsewhere it keeps itself."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from primacron import Primacron, Session
from primacron.cluster.solo import Solo
from primacron.features.follow import Follows
from primacron.receipts import ACCEPTED, UNKNOWN_SESSION
from tests.cluster.agents import came_from, is_empty_after, next_of
from tests.cluster.fleet import Fleet, local, until


@pytest.fixture
async def fleet(anyio_backend: object) -> AsyncIterator[Fleet]:
    async with Fleet(lambda: None, "alone", []) as fleet:
        yield fleet


@pytest.fixture
async def server(fleet: Fleet) -> AsyncIterator[Primacron]:
    server = fleet.new()

    @server.event("say")
    def say(session: Session, *args: Any) -> list[Any]:
        return [*args]

    await server.start()
    yield server
    await server.destroy()


async def test_a_follow_survives_the_return_of_the_followed_one(fleet: Fleet, server: Primacron) -> None:
    followed, follower = await fleet.join(server, "ann", "b"), await fleet.join(server, "ann", "f")
    assert await server.pipe(local(server, "ann", "f"), "ann", "b", received=True) == ACCEPTED
    for _ in range(2):
        await followed.close()
        await until(lambda: server.count() == 1, "the end")
        followed = await fleet.join(server, "ann", "b")
        await followed.call("say", "back")
        assert await next_of(follower) == ("say", ("back",), came_from("b"))
    assert await server.unpipe(local(server, "ann", "f"), "ann", "b") == ACCEPTED
    await followed.close()
    await until(lambda: server.count() == 1, "the end")
    await (await fleet.join(server, "ann", "b")).call("say", "unheard")
    assert await is_empty_after(server, follower, "f")


async def test_a_follow_survives_that_the_followed_one_is_replaced(fleet: Fleet, server: Primacron) -> None:
    old, follower = await fleet.join(server, "ann", "b"), await fleet.join(server, "ann", "f")
    await server.pipe(local(server, "ann", "f"), "ann", "b")
    new = await fleet.join(server, "ann", "b")
    assert await old.closed() == "replaced"
    await new.call("say", "here")
    assert await next_of(follower) == ("say", ("here",), came_from("b"))
    await new.close()
    await until(lambda: server.count() == 1, "the end")
    await (await fleet.join(server, "ann", "b")).call("say", "again")
    assert await next_of(follower) == ("say", ("again",), came_from("b"))


async def test_followers_of_a_gone_session_are_forgotten_after_the_timeout(fleet: Fleet, server: Primacron) -> None:
    followed = await fleet.join(server, "ann", "b")
    await fleet.join(server, "ann", "f")
    await server.pipe(local(server, "ann", "f"), "ann", "b")
    await followed.close()
    await until(lambda: server.count() == 1, "the end")
    cluster = server.node.cluster
    assert isinstance(cluster, Solo)
    shared, later = cluster.sets._shared, server.node.loop.time() + server.options.timeout + 1
    assert shared.sets
    shared.clock = lambda: later
    await fleet.join(server, "ann", "b")
    assert not local(server, "ann", "b").demand(Follows).followers
    assert not shared.sets


async def test_nobody_follows_who_is_not_here(fleet: Fleet, server: Primacron) -> None:
    await fleet.join(server, "ann", "f")
    assert await server.pipe(local(server, "ann", "f"), "ann", "b") == UNKNOWN_SESSION
