"""Who is in a channel while servers, Redis or the network fail, for real: no ghosts, and nobody is missing."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

from redis import Redis
from redis.asyncio.sentinel import Sentinel

from primacron import Primacron, Session
from primacron.features.channels import Channels
from tests.channels.watchers import Watcher
from tests.cluster.fleet import Fleet, cluster_of, until
from tests.cluster.nodes import NodeProcess, node_processes
from tests.support.engine import Client
from tests.support.proxy import RedisProxy
from tests.support.redis import RedisProcess, in_thread, redis_sentinel

LOT: Final = "lot:7"
#: Seconds between two probes, and within which all is as before once Redis is back; on a slow machine.
PROBE: Final = 1.0
HEALED_WITHIN: Final = 15.0
#: Seconds after which the members of a server that was killed are gone.
GONE_WITHIN: Final = 6.0


class Ground:
    """Some servers, and a client at each that stays in a channel."""

    def __init__(self, servers: list[Primacron], fronts: list[Client], watchers: list[Watcher]) -> None:
        self.servers = servers
        self.fronts = fronts
        self.watchers = watchers

    async def join(self, server: int, account: str) -> Watcher:
        """Let one more client join, which is not told of as a watcher."""
        return await Watcher.join(self.fronts[server], account)

    async def until_all_see(self, *accounts: str, seconds: float = HEALED_WITHIN) -> None:
        """Wait until all see these, beside themselves, and are right in that."""
        names = [*accounts, *(f"w{number}" for number in range(len(self.watchers)))]
        for watcher in self.watchers:
            await watcher.until_sees(*names, seconds=seconds)

    async def until_certain(self) -> None:
        """Wait until all servers know that they know all."""
        async with asyncio.timeout(HEALED_WITHIN):
            while not all([(await server.channel(LOT).members()).certain for server in self.servers]):
                await asyncio.sleep(0.02)

    async def until_healed(self) -> None:
        """Wait until all servers are ready."""
        await until(lambda: all(server.unready() == [] for server in self.servers), "the return", HEALED_WITHIN)


@contextlib.asynccontextmanager
async def ground_on(
    given: Callable[[int], Any], namespace: str, count: int = 2, **options: Any
) -> AsyncIterator[Ground]:
    """Start servers; ``given`` is what each takes as its Redis."""
    options = {"redis_timeout": 1, "probe": PROBE, **options}
    async with Fleet(lambda: given(0), namespace, []) as fleet:
        servers: list[Primacron] = []
        for number in range(count):
            server = Primacron(given(number), namespace=namespace, **options)
            server.uuid(lambda request: request.query["account"])
            server.channels("lot:{number}", presence=True)
            await server.start()
            fleet.servers.append(server)
            fleet._stack.push_async_callback(server.destroy)
            servers.append(server)
        fronts = [await fleet.serve(server) for server in servers]
        for server in servers:
            await until(lambda server=server: len(cluster_of(server).others()) == count - 1, "the others")  # type: ignore[misc]
        watchers = [await Watcher.join(front, f"w{number}") for number, front in enumerate(fronts)]
        ground = Ground(servers, fronts, watchers)
        await ground.until_all_see()
        try:
            yield ground
        finally:
            for watcher in ground.watchers:
                await watcher.close()


def kill_subscribers(process: RedisProcess) -> None:
    """Let Redis close the connections on which topics are heard."""
    with Redis(port=process.port) as client:
        client.client_kill_filter(_type="pubsub")


# Subscriptions


async def test_what_changes_while_subscriptions_are_lost_is_found(namespace: str, anyio_backend: object) -> None:
    with RedisProcess() as process:
        async with ground_on(lambda _: process.url, namespace) as ground:
            leaving = await ground.join(1, "leaving")
            await ground.until_all_see("leaving")
            await in_thread(kill_subscribers, process)
            staying = [await ground.join(number, f"a{number}") for number in range(2)]
            await leaving.close()
            await ground.until_all_see("a0", "a1")
            await ground.until_certain()
            for watcher in (*ground.watchers, *staying):
                assert not any(change.startswith("leave a") for change in watcher.seen.changes)
                await watcher.until_sees("a0", "a1", "w0", "w1")
            for watcher in staying:
                await watcher.close()


async def test_the_last_change_before_a_silence_is_found(namespace: str, anyio_backend: object) -> None:
    with RedisProcess() as process:
        async with RedisProxy(process.port) as proxy:
            urls = [process.url, proxy.url]
            async with ground_on(lambda number: urls[number], namespace) as ground:
                leaving = await ground.join(0, "leaving")
                await ground.until_all_see("leaving")
                await proxy.deafen(b"SUBSCRIBE")
                await leaving.close()
                staying = await ground.join(0, "staying")
                await ground.until_all_see("staying")
                await ground.until_certain()
                await staying.close()
                await ground.until_all_see()


async def test_a_change_that_was_told_to_nobody_is_found(namespace: str, anyio_backend: object) -> None:
    """A server that had lost its subscription tells that, and is asked."""
    with RedisProcess() as process:
        async with ground_on(lambda _: process.url, namespace) as ground:
            topics = cluster_of(ground.servers[0]).topics
            publish = topics.publish

            def vanish(topic: str, body: bytes) -> Any:
                done = asyncio.get_running_loop().create_future()
                done.set_result(0)
                return done

            # As by a primary that was replaced, which nobody hears any more.
            topics.publish = vanish  # type: ignore[method-assign]
            lost = await ground.join(0, "lost")
            topics.publish = publish  # type: ignore[method-assign]
            await in_thread(kill_subscribers, process)
            await ground.until_all_see("lost")
            await lost.close()
            await ground.until_all_see()


# Redis


async def test_while_redis_is_away_joins_are_answered_uncertain_and_all_is_told_later(
    namespace: str, anyio_backend: object
) -> None:
    with RedisProcess() as process:
        async with ground_on(lambda _: process.url, namespace) as ground:
            leaving = await ground.join(0, "leaving")
            await ground.until_all_see("leaving")
            await in_thread(process.kill)
            for server in ground.servers:
                await until(lambda server=server: not cluster_of(server).link.is_reachable, "the loss of the link")  # type: ignore[misc]
            meanwhile = [await ground.join(number, f"a{number}") for number in range(2)]
            for number, watcher in enumerate(meanwhile):
                assert not watcher.seen.is_certain
                await ground.watchers[number].until_sees(f"a{number}", "leaving", "w0", "w1")
            loop = asyncio.get_running_loop()
            began = loop.time()
            first = await Watcher.join(ground.fronts[0], "first", "lot:8")
            assert loop.time() - began >= 1.0
            assert (first.seen.accounts, first.seen.is_certain) == (["first"], False)
            await leaving.close()
            assert not (await ground.servers[0].channel(LOT).members()).certain
            await in_thread(process.start)
            await ground.until_healed()
            await ground.until_all_see("a0", "a1")
            await ground.until_certain()
            second = await Watcher.join(ground.fronts[1], "second", "lot:8")
            assert second.seen.accounts == ["first", "second"]
            await first.until_sees("first", "second")
            for watcher in (first, second, *meanwhile):
                await watcher.close()


async def test_a_failover_leaves_no_ghosts(namespace: str, anyio_backend: object) -> None:
    with redis_sentinel() as setup:

        def given(_: int) -> Any:
            return Sentinel(setup.addresses).master_for(setup.service)  # type: ignore[no-untyped-call]

        async with ground_on(given, namespace) as ground:
            stop = asyncio.Event()

            async def come_and_go(server: int) -> None:
                (session,) = ground.servers[server].node.hub.sessions.of(f"w{server}")  # type: ignore[arg-type]
                number = 0
                while not stop.is_set():
                    number += 1
                    session.join(LOT, number)
                    await asyncio.sleep(0.02)
                session.join(LOT, "end")

            changing = [asyncio.create_task(come_and_go(server)) for server in range(2)]
            leaving = await ground.join(0, "leaving")
            await ground.until_all_see("leaving")
            await in_thread(setup.primary.kill)
            await leaving.close()
            await until(lambda: not cluster_of(ground.servers[0]).link.is_reachable, "the loss of the link")
            await until(lambda: all(server.unready() == [] for server in ground.servers), "the failover", 25)
            stop.set()
            await asyncio.gather(*changing)
            await ground.until_all_see()
            for watcher in ground.watchers:
                await watcher.until(
                    lambda watcher=watcher: set((watcher.seen.members or {}).values()) == {"end"},  # type: ignore[misc]
                    "the last info",
                    HEALED_WITHIN,
                )


async def test_thousands_of_channels_are_compared_after_a_restart(namespace: str, anyio_backend: object) -> None:
    with RedisProcess() as process:
        async with ground_on(lambda _: process.url, namespace, max_channels=3_001) as ground:
            names = [f"lot:{number}" for number in range(10, 3_010)]
            sessions: list[Session] = []
            for number, server in enumerate(ground.servers):
                (session,) = server.node.hub.sessions.of(f"w{number}")  # type: ignore[arg-type]
                sessions.append(session)
                await asyncio.wait([session.join(name) for name in names])

            async def all_see(*accounts: str) -> None:
                async with asyncio.timeout(30):
                    for server in ground.servers:
                        for name in names[::500]:
                            while sorted(each.account for each in await server.channel(name).members()) != [*accounts]:
                                await asyncio.sleep(0.05)

            await all_see("w0", "w1")
            await in_thread(process.kill)
            await until(lambda: not cluster_of(ground.servers[0]).link.is_reachable, "the loss of the link")
            for name in names:
                sessions[1].leave(name)
            await in_thread(process.start)
            await ground.until_healed()
            await all_see("w0")


# Servers


@contextlib.asynccontextmanager
async def three(redis: RedisProcess, namespace: str) -> AsyncIterator[tuple[list[NodeProcess], list[Watcher]]]:
    """Run three servers, and a client at each."""
    async with node_processes(3, {"url": redis.url}, namespace=namespace) as nodes:
        watchers = [await Watcher.join(node.client, f"w{number}") for number, node in enumerate(nodes)]
        for watcher in watchers:
            await watcher.until_sees("w0", "w1", "w2")
        yield nodes, watchers
        for watcher in watchers:
            await watcher.close()


async def members_at(node: NodeProcess) -> Any:
    """Return who is in the channel, as a server says, and whether that is certain."""
    return await node.ask("/members", lot=LOT)


async def until_members(nodes: list[NodeProcess], *accounts: str, seconds: float) -> None:
    """Wait until servers agree who is in the channel."""
    async with asyncio.timeout(seconds):
        while [await members_at(node) for node in nodes] != [[[*accounts], True]] * len(nodes):
            await asyncio.sleep(0.05)


async def test_the_members_of_a_killed_server_leave(
    redis_process: RedisProcess, namespace: str, anyio_backend: object
) -> None:
    async with three(redis_process, namespace) as (nodes, watchers):
        lost = watchers.pop()
        nodes[2].kill()
        await nodes[2].program.wait()
        for watcher in watchers:
            await watcher.until_sees("w0", "w1", seconds=GONE_WITHIN)
            assert watcher.seen.changes[-1] == "leave w2"
        await until_members(nodes[:2], "w0", "w1", seconds=GONE_WITHIN)
        # Whoever comes now does not wait for the dead.
        late = await Watcher.join(nodes[0].client, "late")
        assert (late.seen.accounts, late.seen.is_certain) == (["late", "w0", "w1"], True)
        await late.close()
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, AssertionError):
            await lost.close()


async def test_a_server_that_stands_still_is_left_out_and_comes_back(
    redis_process: RedisProcess, namespace: str, anyio_backend: object
) -> None:
    async with three(redis_process, namespace) as (nodes, watchers):
        *awake, frozen = watchers
        nodes[2].freeze()
        for watcher in awake:
            await watcher.until_sees("w0", "w1", seconds=GONE_WITHIN)
        late = await Watcher.join(nodes[0].client, "late")
        nodes[2].thaw()
        for watcher in (*watchers, late):
            await watcher.until_sees("late", "w0", "w1", "w2", seconds=HEALED_WITHIN)
        await late.close()
        for watcher in watchers:
            await watcher.until_sees("w0", "w1", "w2", seconds=HEALED_WITHIN)
        await until_members(nodes, "w0", "w1", "w2", seconds=HEALED_WITHIN)
        assert [change for change in frozen.seen.changes if change.startswith("leave")] == ["leave late"]


async def test_a_server_that_ends_in_order_is_not_waited_for(namespace: str, anyio_backend: object) -> None:
    with RedisProcess() as process:
        async with ground_on(lambda _: process.url, namespace, 3) as ground:
            gone = ground.watchers.pop()
            await ground.servers[2].destroy()
            for number, watcher in enumerate(ground.watchers):
                await watcher.until_sees("w0", "w1", seconds=2.0)
                presences = ground.servers[number].node.feature(Channels).presences
                assert presences._presence.is_certain(LOT)
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, AssertionError):
                await gone.close()
