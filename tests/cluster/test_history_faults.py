"""Channels with history while Redis or the network fails, each fault caused for real: nothing is lost untold."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

from redis import Redis
from redis.asyncio.sentinel import Sentinel

from primacron import Primacron, Reach
from primacron.cluster.errors import CommandRefused
from primacron.cluster.link import LinkLost
from primacron.positions import Position
from tests.channels.followers import Follower
from tests.channels.talkers import Talker
from tests.cluster.fleet import Fleet, cluster_of, until
from tests.support.engine import Client
from tests.support.hearing import Hearing
from tests.support.proxy import RedisProxy
from tests.support.redis import RedisProcess, in_thread, redis_sentinel

#: Seconds between two probes, and within which all is as before once Redis is back; on a slow machine.
PROBE: Final = 1.0
HEALED_WITHIN: Final = 8.0
LOT: Final = "lot:7"


class Ground:
    """Two servers and a client at each, in one channel."""

    def __init__(self, servers: list[Primacron], fronts: list[Client], followers: list[Follower]) -> None:
        self.servers = servers
        self.fronts = fronts
        self.followers = followers

    async def emit(self, number: int, server: int = 0) -> Position:
        """Publish, and return where it is."""
        reach = await self.servers[server].channel(LOT).emit("bid", number)
        assert reach.position is not None, reach
        return reach.position

    async def emit_surely(self, number: int, server: int = 0) -> Position:
        """Publish until it is certain."""
        async with asyncio.timeout(HEALED_WITHIN):
            while True:
                reach = await self.servers[server].channel(LOT).emit("bid", number, key=f"{server} {number}")
                if reach.position is not None:
                    return reach.position
                await asyncio.sleep(0.05)

    async def until_all_at(self, position: Position) -> None:
        """Wait until all have everything up to a position."""
        for follower in self.followers:
            await follower.until_at(position, HEALED_WITHIN)

    async def until_healed(self) -> None:
        """Wait until all servers are ready."""
        await until(lambda: all(server.unready() == [] for server in self.servers), "the return", HEALED_WITHIN)


@contextlib.asynccontextmanager
async def ground_on(
    given: Callable[[int], Any], namespace: str, *, history: int = 1_000, **options: Any
) -> AsyncIterator[Ground]:
    """Start two servers; ``given`` is what each takes as its Redis."""
    options = {"redis_timeout": 1, "probe": PROBE, **options}
    async with Fleet(lambda: given(0), namespace, []) as fleet:
        servers: list[Primacron] = []
        for number in range(2):
            server = Primacron(given(number), namespace=namespace, **options)
            server.channels("lot:{number}", history=history, keep=60)
            await server.start()
            fleet.servers.append(server)
            fleet._stack.push_async_callback(server.destroy)
            servers.append(server)
        fronts = [await fleet.serve(server) for server in servers]
        followers = [await Follower.join(front, f"a{number}", LOT) for number, front in enumerate(fronts)]
        try:
            yield Ground(servers, fronts, followers)
        finally:
            for follower in followers:
                await follower.close()


def kill_subscribers(process: RedisProcess) -> None:
    """Let Redis close the connections on which topics are heard."""
    with Redis(port=process.port) as client:
        client.client_kill_filter(_type="pubsub")


async def test_nothing_is_lost_when_subscriptions_are(namespace: str, anyio_backend: object) -> None:
    with RedisProcess() as process:
        async with ground_on(lambda _: process.url, namespace) as ground:
            for number in range(200):
                if number % 50 == 25:
                    await in_thread(kill_subscribers, process)
                last = await ground.emit(number, number % 2)
            await ground.until_all_at(last)
            for follower in ground.followers:
                assert follower.contents == [[number] for number in range(200)]
                assert not follower.gaps


async def test_what_was_missed_and_is_not_kept_is_told_exactly(namespace: str, anyio_backend: object) -> None:
    with RedisProcess() as process:
        async with RedisProxy(process.port) as proxy:
            urls = [process.url, proxy.url]
            async with ground_on(lambda number: urls[number], namespace, history=8) as ground:
                first = await ground.emit(1)
                await ground.until_all_at(first)
                await proxy.deafen(b"SUBSCRIBE")
                for number in range(2, 31):
                    last = await ground.emit(number)
                await ground.until_all_at(last)
                here, there = ground.followers
                assert here.contents == [[number] for number in range(1, 31)]
                (gap,) = there.gaps
                assert (gap["epoch"], gap["from"]) == (last.epoch, 2)
                assert 30 - 10 <= gap["to"] <= 30 - 8
                assert there.contents == [[1], *([number] for number in range(gap["to"] + 1, 31))]


async def test_while_redis_stands_still_the_outcome_is_not_certain(namespace: str, anyio_backend: object) -> None:
    with RedisProcess() as process:
        async with ground_on(lambda _: process.url, namespace) as ground:
            await ground.until_all_at(await ground.emit(1))
            process.freeze()
            lot = ground.servers[0].channel(LOT)
            sent = [lot.emit("bid", number, key=f"0 {number}", receipt=True) for number in range(2, 6)]
            reaches = [await delivery for delivery in sent]
            assert {(reach.status, reach.certain, reach.position) for reach in reaches} == {("timed_out", False, None)}
            await until(lambda: not cluster_of(ground.servers[0]).link.is_reachable, "the loss of the link")
            assert await ground.servers[0].channel(LOT).emit("bid", 6) == Reach(0, 0, status="unsent")
            await in_thread(process.thaw)
            await ground.until_healed()
            for number in range(2, 6):
                last = await ground.emit_surely(number)
            await ground.until_all_at(last)
            for follower in ground.followers:
                assert follower.contents == [[number] for number in range(1, 6)]


async def test_while_redis_is_away_nothing_is_sent_and_nobody_let_in(namespace: str, anyio_backend: object) -> None:
    with RedisProcess() as process:
        async with ground_on(lambda _: process.url, namespace) as ground:
            last = await ground.emit(1)
            await ground.until_all_at(last)
            lost = Hearing(ground.servers[0], "error::bus")
            await in_thread(process.kill)
            await until(lambda: not cluster_of(ground.servers[0]).link.is_reachable, "the loss of the link")
            assert isinstance((await lost.next_error())[0], LinkLost)
            assert await ground.servers[0].channel(LOT).emit("bid", 2) == Reach(0, 0, status="unsent")
            reach = await ground.servers[0].channel(LOT).emit("bid", 3, history=False)
            assert (reach.sessions, reach.certain) == (1, False)
            talker = await Talker.connect(ground.fronts[0], "late")
            for request in ({}, {"last": 3}, {"since": {"epoch": last.epoch, "offset": 0}}):
                answer = await talker.ask({"join": LOT, "id": 1, **request})
                assert answer["error"]["type"] == "unavailable"
            assert ground.servers[0].metrics["joins_unavailable"] == 3
            assert lost.is_empty
            await in_thread(process.start)
            await ground.until_healed()
            position = await ground.emit_surely(4)
            assert position == Position(position.epoch, 1)
            await ground.until_all_at(position)
            for follower in ground.followers:
                assert [gap["to"] for gap in follower.gaps] == [None]
                assert [args for (epoch, _), args in follower.got.items() if epoch == position.epoch] == [[4]]
            answer = await talker.ask({"join": LOT, "id": 1, "since": {"epoch": last.epoch, "offset": 1}})
            assert answer["args"][0] == {
                "channel": LOT,
                "epoch": position.epoch,
                "offset": 1,
                "recovered": False,
            }
            gap = {"epoch": position.epoch, "from": 2, "to": None}
            assert await talker.hear() == {"channel": LOT, "gap": gap}


async def test_a_new_epoch_follows_what_a_redis_had_saved(namespace: str, anyio_backend: object) -> None:
    with RedisProcess() as process:
        async with ground_on(lambda _: process.url, namespace) as ground:
            for number in (1, 2):
                old = await ground.emit(number)
            await in_thread(process.command, "SAVE")
            await ground.until_all_at(await ground.emit(3))
            await in_thread(process.kill)
            await in_thread(process.start)
            await ground.until_healed()
            new = await ground.emit_surely(4)
            assert (new.offset, new.epoch != old.epoch) == (3, True)
            await ground.until_all_at(new)
            for follower in ground.followers:
                assert follower.gaps == [{"epoch": new.epoch, "from": 3, "to": None}]
                assert follower.contents == [[1], [2], [3], [4]]
            talker = await Talker.connect(ground.fronts[0], "late")
            answer = await talker.ask({"join": LOT, "id": 1, "since": {"epoch": old.epoch, "offset": 1}})
            assert answer["args"][0]["recovered"] is True
            told = [await talker.hear() for _ in range(3)]
            assert [each.get("args", each.get("gap")) for each in told] == [
                [2],
                {"epoch": new.epoch, "from": 3, "to": None},
                [4],
            ]
            answer = await talker.ask({"join": LOT, "id": 1, "since": {"epoch": old.epoch, "offset": 3}})
            assert answer["args"][0]["recovered"] is False


async def test_an_emptied_redis_begins_anew(namespace: str, anyio_backend: object) -> None:
    with RedisProcess() as process:
        async with ground_on(lambda _: process.url, namespace) as ground:
            for round in range(3):
                for number in range(3):
                    last = await ground.emit_surely(10 * round + number, number % 2)
                await ground.until_all_at(last)
                await in_thread(process.command, "FLUSHALL")
            for follower in ground.followers:
                assert [args[0] for args in follower.contents] == [0, 1, 2, 10, 11, 12, 20, 21, 22]
                assert [gap["to"] for gap in follower.gaps] == [None, None]


async def test_a_failover_loses_nothing_untold(namespace: str, anyio_backend: object) -> None:
    with redis_sentinel() as setup:

        def given(_: int) -> Any:
            return Sentinel(setup.addresses).master_for(setup.service)  # type: ignore[no-untyped-call]

        async with ground_on(given, namespace) as ground:
            for number in range(20):
                last = await ground.emit(number, number % 2)
            await ground.until_all_at(last)
            stop = asyncio.Event()
            sent: dict[int, Position] = {}

            async def keep_on_emitting(server: int) -> None:
                number = 100 + server
                while not stop.is_set():
                    reach = await ground.servers[server].channel(LOT).emit("bid", number)
                    if reach.position is not None:
                        sent[number] = reach.position
                    number += 2
                    await asyncio.sleep(0.01)

            emitting = [asyncio.create_task(keep_on_emitting(server)) for server in range(2)]
            await asyncio.sleep(0.3)
            await in_thread(setup.primary.kill)
            await until(lambda: any(each.epoch != last.epoch for each in sent.values()), "the failover", 20)
            await asyncio.sleep(0.3)
            stop.set()
            await asyncio.gather(*emitting)
            end = await ground.emit_surely(1)
            await ground.until_all_at(end)
            for follower in ground.followers:
                told = [gap for gap in follower.gaps if gap["to"] is None]
                assert [gap["epoch"] for gap in told] == [end.epoch]
                got = {args[0]: Position(*name) for name, args in follower.got.items()}
                for number, position in sent.items():
                    lost = any(
                        gap["epoch"] == position.epoch and gap["from"] <= position.offset <= (gap["to"] or 0)
                        for gap in follower.gaps
                    )
                    # What the dead primary alone had seen may be behind all that anybody got of its epoch.
                    behind = max(each.offset for each in got.values() if each.epoch == position.epoch)
                    assert got.get(number) == position or lost or position.offset > behind, (number, position)


async def test_ten_thousand_channels_go_on_after_a_restart(namespace: str, anyio_backend: object) -> None:
    with RedisProcess() as process:
        async with ground_on(lambda _: process.url, namespace, max_channels=10_001) as ground:
            names = [f"lot:{number}" for number in range(10, 10_010)]
            (session,) = ground.servers[0].node.hub.sessions.of("a0")  # type: ignore[arg-type]
            joins = [session.join(name) for name in names]
            await asyncio.wait(joins)
            await in_thread(process.kill)
            await in_thread(process.start)
            await ground.until_healed()
            for name in names[::1_000]:
                reach = await ground.servers[1].channel(name).emit("bid", 1)
                assert reach.position is not None
            await ground.until_all_at(await ground.emit_surely(1))


async def test_a_page_that_cannot_be_read_is_read_again(namespace: str, anyio_backend: object) -> None:
    with RedisProcess() as process:
        async with ground_on(lambda _: process.url, namespace) as ground:
            last = await ground.emit(1)
            await ground.until_all_at(last)
            lists = cluster_of(ground.servers[1]).lists
            read = lists.read
            failures = 0

            async def fail_at_first(*args: Any) -> Any:
                nonlocal failures
                failures += 1
                if failures <= 2:
                    raise CommandRefused("read", "key", "for the test")
                return await read(*args)

            lists.read = fail_at_first  # type: ignore[method-assign, assignment]
            await in_thread(kill_subscribers, process)
            for number in range(2, 6):
                last = await ground.emit(number)
            await ground.until_all_at(last)
            assert failures > 2
