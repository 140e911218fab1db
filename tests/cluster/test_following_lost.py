"""A follow goes on when the registry is emptied or away, and receipts tell what became of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from primacron import Receipt
from primacron.cluster.redis.keys import Keys
from primacron.errors import ForwardFailed
from primacron.features.follow import Follows
from primacron.ids import AccountId, SessionId
from primacron.testing import Client
from tests.cluster.agents import Agents, came_from, is_empty_after, next_of
from tests.cluster.fleet import Fleet, cluster_of, is_found, local, until
from tests.support.redis import RedisProcess, in_thread

BACKENDS = ("redis",)

ACCEPTED = Receipt("accepted", certain=True)
#: Seconds within which a follow is there again.
AGAIN_WITHIN = 15.0


@pytest.fixture
def redis() -> Iterator[RedisProcess]:
    """A Redis that may be emptied, stopped and killed."""
    with RedisProcess() as process:
        yield process


@pytest.fixture
async def agents(redis: RedisProcess, namespace: str, anyio_backend: object) -> AsyncIterator[Agents]:
    async with Fleet(lambda: redis.url, namespace, [redis]) as fleet:
        yield await Agents.start(fleet, redis_timeout=0.5)


def kept(agents: Agents) -> int:
    """Return for how many seconds Redis keeps the followers of a session: -1 is for ever, -2 that it has none."""
    key = Keys(agents.fleet.namespace).set("follow", (AccountId("ann"), SessionId("b")))
    (redis,) = agents.fleet.primaries
    return int(redis.command("TTL", key) or -2)


async def end(agents: Agents, client: Client) -> None:
    """Let the followed one go away."""
    await client.close()
    await until(
        lambda: all(not server.node.hub.sessions.get(AccountId("ann"), SessionId("b")) for server in agents.servers),
        "the end",
    )
    async with asyncio.timeout(AGAIN_WITHIN):
        while await cluster_of(agents.servers[0]).registry.find(AccountId("ann"), [SessionId("b")]) != [None]:
            await asyncio.sleep(0.01)


async def until_followed(agents: Agents, number: int) -> None:
    """Wait until the followed one has its follower at a server."""
    session = local(agents.servers[number], "ann", "b")
    await until(lambda: session.demand(Follows).followers, "the follow", AGAIN_WITHIN)


async def is_mirrored(agents: Agents, followed: Client, follower: Client) -> None:
    """Check that a follower gets what the followed one sends, as soon as all find the follower."""
    async with asyncio.timeout(AGAIN_WITHIN):
        while not all([await is_found(server, "ann", "f") for server in agents.servers]):
            await asyncio.sleep(0.01)
    await followed.call("say", "hello")
    assert await next_of(follower) == ("say", ("hello",), came_from("b"))


@pytest.mark.parametrize("number", [0, 1, 2])
async def test_a_follow_goes_on_when_the_followed_one_returns_after_the_registry_was_emptied(
    agents: Agents, redis: RedisProcess, number: int
) -> None:
    followed, follower = await agents.join(1, "b"), await agents.join(0, "f")
    assert await agents.pipe(0, "f", "b", received=True) == ACCEPTED
    redis.command("FLUSHALL")
    await until(lambda: kept(agents) == -1, "the follower in the registry", AGAIN_WITHIN)
    await end(agents, followed)
    again = await agents.join(number, "b")
    await is_mirrored(agents, again, follower)
    await agents.servers[2].session("ann", "b").emit("news")
    assert await next_of(follower) == ("news", (), came_from("b", "out"))


@pytest.mark.parametrize("number", [1, 2])
async def test_a_follow_goes_on_when_the_registry_was_emptied_while_the_followed_one_was_away(
    agents: Agents, redis: RedisProcess, number: int
) -> None:
    followed, follower = await agents.join(1, "b"), await agents.join(0, "f")
    assert await agents.pipe(0, "f", "b", received=True) == ACCEPTED
    await end(agents, followed)
    redis.command("FLUSHALL")
    await until(lambda: kept(agents) > 800, "the follower in the registry", AGAIN_WITHIN)
    again = await agents.join(number, "b")
    await is_mirrored(agents, again, follower)
    assert kept(agents) == -1


@pytest.mark.parametrize("number", [1, 2])
async def test_a_follow_goes_on_when_the_followed_one_returns_before_anybody_knows_that_the_registry_was_emptied(
    agents: Agents, redis: RedisProcess, number: int
) -> None:
    followed, follower = await agents.join(1, "b"), await agents.join(0, "f")
    assert await agents.pipe(0, "f", "b") == ACCEPTED
    await end(agents, followed)
    redis.command("FLUSHALL")
    again = await agents.join(number, "b")
    await until_followed(agents, number)
    await is_mirrored(agents, again, follower)


@pytest.mark.parametrize("number", [0, 2])
async def test_a_follow_goes_on_when_the_followed_one_is_replaced_right_after_the_registry_was_emptied(
    agents: Agents, redis: RedisProcess, number: int
) -> None:
    followed, follower = await agents.join(1, "b"), await agents.join(0, "f")
    assert await agents.pipe(0, "f", "b") == ACCEPTED
    redis.command("FLUSHALL")
    again = await agents.join(number, "b")
    await until_followed(agents, number)
    assert await followed.closed() == "replaced"
    await is_mirrored(agents, again, follower)


async def test_a_follow_that_cannot_go_on_is_told(agents: Agents, redis: RedisProcess) -> None:
    await agents.join(1, "b")
    for name in ("f", "f1", "f2"):
        await agents.join(0, name)
    assert await agents.pipe(0, "f", "b") == ACCEPTED
    del (
        local(agents.servers[1], "ann", "b").demand(Follows).followers[AccountId("ann"), SessionId("f")]
    )  # as if it had come back without
    for name in ("f1", "f2"):
        assert await agents.pipe(0, name, "b") == ACCEPTED
    redis.command("FLUSHALL")
    error, context = await agents.errors[0].next_error()
    assert isinstance(error, ForwardFailed)
    assert str(error) == "message to follower ann/f of ann/b: refused"
    assert context.session is local(agents.servers[0], "ann", "f")
    assert not local(agents.servers[0], "ann", "f").demand(Follows).following


# While it is away


async def until_away(agents: Agents) -> None:
    await until(lambda: not any(cluster_of(each).link.is_reachable for each in agents.servers), "the end of the link")


async def until_back(agents: Agents) -> None:
    await until(lambda: not any(each.unready() for each in agents.servers), "the link", AGAIN_WITHIN)


@pytest.mark.parametrize("empties", [False, True])
async def test_a_follow_that_began_while_the_registry_was_away_is_accepted_and_goes_on(
    agents: Agents, redis: RedisProcess, empties: bool
) -> None:
    followed, follower = await agents.join(1, "b"), await agents.join(1, "f")
    await in_thread(redis.kill if empties else redis.freeze)
    await until_away(agents)
    assert await agents.pipe(1, "f", "b") == ACCEPTED
    await followed.call("say", "hello")
    assert await next_of(follower) == ("say", ("hello",), came_from("b"))
    await in_thread(redis.start if empties else redis.thaw)
    await until(lambda: kept(agents) == -1, "the follower in the registry", AGAIN_WITHIN)
    await until_back(agents)
    await end(agents, followed)
    again = await agents.join(2, "b")
    await is_mirrored(agents, again, follower)


async def test_a_session_elsewhere_is_not_followed_while_it_cannot_be_asked(
    agents: Agents, redis: RedisProcess
) -> None:
    followed, follower = await agents.join(1, "b"), await agents.join(0, "f")
    await in_thread(redis.freeze)
    await until_away(agents)
    assert await agents.pipe(0, "f", "b") == Receipt("unsent", certain=True)
    await in_thread(redis.thaw)
    await until_back(agents)
    await followed.call("say", "unheard")
    assert await is_empty_after(agents.servers[1], follower, "f")
    assert not local(agents.servers[0], "ann", "f").demand(Follows).following


async def test_a_follow_that_ended_while_the_registry_was_away_does_not_come_back(
    agents: Agents, redis: RedisProcess
) -> None:
    followed, follower = await agents.join(1, "b"), await agents.join(1, "f")
    assert await agents.pipe(1, "f", "b", received=True) == ACCEPTED
    await in_thread(redis.freeze)
    await until_away(agents)
    assert await agents.servers[1].unpipe(local(agents.servers[1], "ann", "f"), "ann", "b") == ACCEPTED
    await in_thread(redis.thaw)
    await until(lambda: kept(agents) == -2, "the end of the follow", AGAIN_WITHIN)
    await until_back(agents)
    await end(agents, followed)
    again = await agents.join(2, "b")
    await again.call("say", "unheard")
    assert await is_empty_after(agents.servers[2], follower, "f")


async def test_a_follow_whose_end_could_not_be_told_goes_on(agents: Agents, redis: RedisProcess) -> None:
    followed, follower = await agents.join(1, "b"), await agents.join(0, "f")
    assert await agents.pipe(0, "f", "b") == ACCEPTED
    session = local(agents.servers[0], "ann", "f")
    await in_thread(redis.freeze)
    await until_away(agents)
    assert await agents.servers[0].unpipe(session, "ann", "b") == Receipt("unsent", certain=True)
    await in_thread(redis.thaw)
    await until_back(agents)
    await is_mirrored(agents, followed, follower)
    await follower.close()
    b = local(agents.servers[1], "ann", "b")
    await until(lambda: not b.demand(Follows).followers, "the end of the follow", AGAIN_WITHIN)
