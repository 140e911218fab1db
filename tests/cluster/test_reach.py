"""What a send to many says when servers are deaf, silent or new, or sessions move: a certain reach is exact."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest

from primacron import BackendUnavailable, Primacron, Reach
from primacron.times import Times
from tests.cluster.fleet import Fleet, cluster_of, until
from tests.cluster.nodes import NodeProcess, node_process
from tests.cluster.walker import Scene
from tests.support.hearing import DEADLINE
from tests.support.proxy import RedisProxy
from tests.support.redis import RedisProcess, in_thread

BACKENDS = ("redis",)

#: Seconds that a reach may take where nobody has to be waited for; far below any deadline.
SOON: Final = 1.5
#: Seconds after which a server that does not renew its lease is out of every answer.
GONE_WITHIN: Final = 5.0
LARGE: Final = "x" * 250_000


async def timed(sent: Any) -> tuple[Reach, float]:
    """Return a reach, and the seconds that it took."""
    began = asyncio.get_running_loop().time()
    reach: Reach = await sent
    return reach, asyncio.get_running_loop().time() - began


async def kill_subscriber(redis: RedisProcess, server: Primacron) -> None:
    """Let Redis close the connection on which a server listens."""
    subscription = cluster_of(server).bus._readers[0]._subscription  # type: ignore[attr-defined]
    if subscription is not None:
        await in_thread(redis.command, "CLIENT", "KILL", "ID", subscription.id)


@asynccontextmanager
async def half_open(fleet: Fleet, redis: RedisProcess) -> AsyncIterator[tuple[Primacron, RedisProxy]]:
    """Run one more server, whose way to Redis can be cut without anybody's noticing."""
    async with RedisProxy(redis.port) as proxy:
        server = Primacron(proxy.url, namespace=fleet.namespace, redis_timeout=0.5)
        await fleet.start(server)
        yield server, proxy
        await proxy.restore()
        await until(lambda: not server.unready(), "the link")


# Servers that do not hear


async def test_a_server_whose_subscriber_is_cut_is_missing_until_it_hears_again(
    fleet: Fleet, redis_process: RedisProcess
) -> None:
    near, far = await fleet.started(2)
    await fleet.join(far, "ann", "far")
    reaches: list[Reach] = []
    for _ in range(30):
        await kill_subscriber(redis_process, far)
        for target in (near.everyone, near.account("ann")):
            reach, seconds = await timed(target.emit("x"))
            assert seconds < SOON
            assert not reach.certain or reach.sessions == 1, reach
            reaches.append(reach)
    assert any(reach.missing for reach in reaches)
    async with asyncio.timeout(DEADLINE):
        while await near.everyone.emit("x") != Reach(2, 1):
            await asyncio.sleep(0.05)


@pytest.fixture
async def frozen(fleet: Fleet, redis_process: RedisProcess) -> AsyncIterator[tuple[NodeProcess, Primacron, Primacron]]:
    """One server in a process of its own, and two here; each has a session."""
    async with node_process({"url": redis_process.url}, namespace=fleet.namespace) as process:
        await process.ask("/crowd", name="far", count="1")
        near, other = await fleet.started(2)
        await fleet.join(near, "ann", "near")
        await fleet.join(other, "ann", "other")
        async with asyncio.timeout(DEADLINE):
            while await near.everyone.emit("x") != Reach(3, 3):
                await asyncio.sleep(0.05)
        yield process, near, other


async def test_a_server_that_stands_still_is_waited_for_as_long_as_its_lease_lives(
    frozen: tuple[NodeProcess, Primacron, Primacron],
) -> None:
    process, near, _ = frozen
    process.freeze()
    reach, seconds = await timed(near.everyone.emit("x"))
    assert reach == Reach(2, 2, certain=False, missing=1)
    assert seconds < GONE_WITHIN + SOON
    async with asyncio.timeout(GONE_WITHIN + SOON):
        while cluster_of(near).others() >= {(await in_process(near, "far-0")) or near.node.id}:
            await asyncio.sleep(0.1)
    # Redis goes on handing it everything.
    for target in (near.everyone, near.account("ann"), near.everyone):
        reach, seconds = await timed(target.emit("x"))
        assert reach == Reach(2, 2)
        assert seconds < SOON


async def in_process(server: Primacron, name: str) -> Any:
    """Return the node of a session as the registry has it, whether it lives or not."""
    [entry] = await cluster_of(server).registry.find(name, [name])  # type: ignore[arg-type, list-item]
    return None if entry is None else entry.node


@pytest.mark.parametrize("first", ["small", "large"])
async def test_what_is_large_holds_nothing_back_but_what_goes_to_a_silent_server(
    fleet: Fleet, redis_process: RedisProcess, first: str
) -> None:
    async with node_process({"url": redis_process.url}, namespace=fleet.namespace) as process:
        await process.ask("/crowd", name="far", count="1")
        near, other = await fleet.started(2)
        client = await fleet.join(other, "ann", "other")
        async with asyncio.timeout(DEADLINE):
            while await near.everyone.emit("ready") != Reach(3, 2):
                await asyncio.sleep(0.05)
        process.freeze()
        began = asyncio.get_running_loop().time()
        sent = [near.everyone.emit("n", -1, receipt=True)] if first == "small" else []
        for number in range(30):
            content = LARGE if number % 10 == 0 else "small"
            sent.append(near.everyone.emit("n", number, content, receipt=True))
            await asyncio.sleep(0.01)
        numbers: list[int] = []
        async with asyncio.timeout(SOON + 30 * 0.01):
            while not numbers or numbers[-1] < 29:
                received = await client.receive()
                numbers += received.args[:1] if received.event == "n" else ()
        assert numbers == [*range(0 if first == "large" else -1, 30)]
        reaches = await asyncio.gather(*sent)
        assert asyncio.get_running_loop().time() - began < GONE_WITHIN + 2 * SOON
        assert {(reach.nodes, reach.sessions, reach.certain) for reach in reaches} == {(2, 1, False)}
        # Everything goes at once to all again, in order, once that server is out of all answers.
        async with asyncio.timeout(DEADLINE):
            while near.node.router.fanout._per_node.is_open:  # type: ignore[attr-defined]
                await near.everyone.emit("n", 0)
        assert await near.everyone.emit("last") == Reach(2, 1)


async def test_a_server_whose_host_has_no_power_is_out_of_every_answer_when_its_lease_has_ended(
    fleet: Fleet, redis_process: RedisProcess
) -> None:
    (near,) = await fleet.started(1)
    async with half_open(fleet, redis_process) as (far, proxy):
        await fleet.join(far, "ann", "far")
        assert await near.everyone.emit("x") == Reach(2, 1)
        await proxy.cut()
        reach, seconds = await timed(near.everyone.emit("x"))
        assert reach == Reach(1, 0, certain=False, missing=1)
        assert seconds < GONE_WITHIN + SOON
        await until(lambda: not cluster_of(near).others(), "the end of its lease", GONE_WITHIN + SOON)
        for _ in range(3):
            reach, seconds = await timed(near.everyone.emit("x"))
            assert reach == Reach(1, 0)
            assert seconds < SOON


async def test_a_server_that_hears_nothing_itself_waits_for_no_answer(
    fleet: Fleet, redis_process: RedisProcess
) -> None:
    near, far = await fleet.started(2)
    await fleet.join(far, "ann", "far")
    assert await near.everyone.emit("x") == Reach(2, 1)
    await kill_subscriber(redis_process, near)
    await until(lambda: not cluster_of(near).bus.hearing, "it hears nothing")
    reach, seconds = await timed(near.everyone.emit("x"))
    assert (reach.nodes, reach.certain, reach.missing) == (1, False, 1)
    assert seconds < SOON


# Servers that begin and cease to have sessions


async def test_the_first_session_of_a_server_is_in_every_reach_from_its_opening_on(fleet: Fleet) -> None:
    servers = await fleet.started(6)
    near = servers[0]
    for count, server in enumerate(servers[1:], start=1):
        for target in (near.everyone, near.account("ann")):
            assert (await target.emit("x")).sessions == count - 1
        await fleet.join(server, "ann", f"s{count}")
        for target in (near.everyone, near.account("ann")):
            reach, seconds = await timed(target.emit("x", LARGE if count % 2 else ""))
            assert reach == Reach(1 + count, count)
            assert seconds < SOON


async def test_while_servers_begin_to_have_sessions_no_certain_reach_misses_one(fleet: Fleet) -> None:
    near, *others = await fleet.started(5)
    opened = 0

    async def fill() -> None:
        nonlocal opened
        for number, server in enumerate(others):
            await fleet.join(server, "ann", f"s{number}")
            opened += 1

    filling = asyncio.create_task(fill())
    while not filling.done():
        before = opened
        for target in (near.everyone, near.account("ann")):
            reach = await target.emit("x")
            assert not reach.certain or reach.sessions >= before, (reach, before)
    await filling


async def test_a_server_whose_last_session_has_ended_is_not_waited_for(fleet: Fleet) -> None:
    near, far = await fleet.started(2, lease=1.0, times=Times(attend=0.1))
    client = await fleet.join(far, "ann", "far")
    assert await near.everyone.emit("x") == Reach(2, 1)
    await client.close()
    async with asyncio.timeout(DEADLINE):
        while (reach := await near.everyone.emit("x")).nodes == 2:
            assert (reach.sessions, reach.certain) == (0, True)
            await asyncio.sleep(0.02)
    assert reach == Reach(1, 0)
    await until(lambda: not cluster_of(far).bus.attends, "it listens no longer to what is sent to all")
    await fleet.join(far, "ann", "far")
    assert await near.everyone.emit("x") == Reach(2, 1)


# Sessions in transit


@pytest.mark.parametrize("backend", ["memory", "redis", "redis-cluster"])
async def test_a_session_that_moves_is_counted_once_or_the_reach_is_not_certain(fleet: Fleet) -> None:
    dice = random.Random(7)
    servers = await fleet.started(3)
    scene = Scene(fleet, servers, [await fleet.serve(server) for server in servers])
    walkers = [await scene.walker(query=f"account=ann&session=w{number}") for number in range(12)]
    uncertain = 0

    async def move() -> None:
        for walker in walkers:
            await walker.upgrade(dice.choice((1, 2)))

    moving = asyncio.create_task(move())
    while not moving.done():
        for server in servers:
            for target in (server.everyone, server.account("ann")):
                reach = await target.emit("x")
                assert not reach.certain or reach.sessions == len(walkers), reach
                uncertain += not reach.certain
    await moving
    await until(lambda: servers[0].count() == 0, "all have moved")
    for server in servers:
        for target in (server.everyone, server.account("ann")):
            async with asyncio.timeout(DEADLINE):
                while not (reach := await target.emit("y")).certain:
                    await asyncio.sleep(0.02)
            assert reach.sessions == len(walkers)
    await scene.close()


# An emptied registry


async def test_in_an_emptied_registry_nothing_is_certain_until_all_is_written_again(
    namespace: str, anyio_backend: object
) -> None:
    with RedisProcess() as redis:
        async with Fleet(lambda: redis.url, namespace, [redis]) as fleet:
            near, far = await fleet.started(2)
            await fleet.join(far, "ann", "far")
            for _ in range(3):
                await in_thread(redis.command, "FLUSHALL")
                emptied_at = asyncio.get_running_loop().time()
                unknown = 0
                while asyncio.get_running_loop().time() - emptied_at < 2.0:
                    unknown += await looks_certain(near)
                assert unknown
                assert not near.unready()
                assert not far.unready()
            assert far.count() == 1
            await fleet.meet()
            for server in (near, far):
                membership = cluster_of(server)._membership
                await until(lambda m=membership: not m.was_shaken_within(5.0), "five quiet seconds")  # type: ignore[misc]
            assert await near.everyone.emit("x") == Reach(2, 1)
            assert await near.account("ann").emit("x") == Reach(2, 1)
            assert await near.find("ann", "nobody") is None


async def looks_certain(near: Primacron) -> bool:
    """Check that nothing wrong is said for certain; return whether anything was not known."""
    unknown = False
    for target in (near.everyone, near.account("ann")):
        reach, seconds = await timed(target.emit("x"))
        assert seconds < SOON
        assert not reach.certain or reach.sessions == 1, reach
        unknown |= not reach.certain
    receipt = await near.session("ann", "far").emit("x")
    assert receipt.status in ("accepted", "unsent"), receipt
    for looking in (near.find("ann", "far"), near.account("ann").sessions(), near.everyone.sessions()):
        try:
            assert await looking
        except BackendUnavailable:
            unknown = True
    return unknown
