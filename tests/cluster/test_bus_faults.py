"""Faults of the bus, each caused for real: what is noticed, what is lost and counted, and that all heals by itself."""

from __future__ import annotations

import asyncio
import pickle
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest
import redis as redis_py

from primacron import Primacron, Receipt
from primacron.cluster.envelope import encode_envelope, encode_item
from primacron.cluster.items import TO_ALL, VERSION, Answer, Confirm, Fragment, Moved
from primacron.cluster.link import LinkBack, LinkLost
from primacron.ids import AccountId, NodeId, SessionId
from primacron.testing import Client
from tests.cluster.fleet import Fleet, cluster_of, until
from tests.support.hearing import Hearing
from tests.support.proxy import RedisProxy
from tests.support.redis import HOST, RedisProcess, in_thread

#: Seconds within which a server knows that it hears nothing, and within which all is as before; on a slow machine.
NOTICED_WITHIN: Final = 3.0 + 0.5
HEALED_WITHIN: Final = 3.0 + 0.5
#: Seconds between two probes, and those that a slow machine may take.
PROBE: Final = 1.0
SLACK: Final = 0.5
PASSWORD: Final = "a password"
#: Keys that take a while to load.
FILL: Final = "for i = 1, 100 do redis.call('SET', 'filling' .. i, string.rep('x', 20000)) end"
FORGER: Final = NodeId("forger-forger-fo")


class Pair:
    """Two servers with a client each, on a Redis of their own that is reached through a proxy."""

    def __init__(self, redis: RedisProcess, proxy: RedisProxy, servers: list[Primacron], clients: list[Client]) -> None:
        self.redis = redis
        self.proxy = proxy
        self.here, self.there = servers
        self.near, self.far = clients
        self.troubles = [Hearing(server, "error::bus") for server in servers]
        self.others = [Hearing(server, f"error::{kind}") for server in servers for kind in ("handler", "connect")]

    async def send(self, number: object) -> Receipt:
        """Send from one server to the client of the other."""
        return await self.here.session("far", "far").emit("told", number)

    async def send_locally(self, number: object) -> Receipt:
        """Send to a client of the same server."""
        return await self.here.session("near", "near").emit("told", number)

    async def received(self) -> Any:
        """Return the next number that came to the other server's client."""
        return (await self.far.receive()).args[0]

    async def until_accepted(self, first: int, seconds: float) -> int:
        """Send until one of the numbers is accepted; return that one."""
        async with asyncio.timeout(seconds):
            number = first
            while (await self.send(number)).status != "accepted":
                number += 1
                await asyncio.sleep(0.01)
            return number

    def gaps(self) -> int:
        """Return how many envelopes the other server has missed."""
        return self.there.metrics["bus_envelopes_missed"]

    async def heard(self, number: int, kind: type[Exception], seconds: float) -> None:
        """Wait until a server has told of its link."""
        async with asyncio.timeout(seconds):
            error, _ = await self.troubles[number].next_error()
        assert isinstance(error, kind), error

    @property
    def is_quiet(self) -> bool:
        """Whether no server has told of anything more."""
        return all(hearing.is_empty for hearing in (*self.troubles, *self.others))


@asynccontextmanager
async def pair(namespace: str, *redis_options: str, **options: Any) -> AsyncIterator[Pair]:
    """Run two servers."""
    with RedisProcess(*redis_options) as redis:
        async with (
            RedisProxy(redis.port) as proxy,
            Fleet(lambda: proxy.url, namespace, [redis]) as fleet,
        ):
            servers = await fleet.started(2, **{"redis_timeout": 0.5, **options})
            clients = [
                await fleet.join(server, name, name) for server, name in zip(servers, ("near", "far"), strict=True)
            ]
            two = Pair(redis, proxy, servers, clients)
            assert (await two.send(0)).status == "accepted"
            assert await two.received() == 0
            yield two


def link_of(server: Primacron) -> str:
    """Return how the link of a server is."""
    return cluster_of(server).link.state.name


def publish_once(redis: RedisProcess, channel: str, body: bytes) -> int:
    """Publish something that no server has sent; return how many hear it."""
    with redis_py.Redis(port=redis.port) as client:
        return int(client.publish(channel, body))


def kill_subscribers(redis: RedisProcess) -> None:
    """Let Redis close the connections on which servers listen."""
    with redis_py.Redis(port=redis.port) as client:
        for each in client.client_list(_type="pubsub"):
            client.client_kill_filter(_id=each["id"])


async def test_killed_subscribers_are_noticed_and_no_receipt_lies(namespace: str, anyio_backend: object) -> None:
    async with pair(namespace, receipt_timeout=1) as two:
        await in_thread(kill_subscribers, two.redis)
        await asyncio.gather(*(two.heard(number, LinkLost, NOTICED_WITHIN) for number in (0, 1)))
        receipt = await two.send(1)
        accepted = await two.until_accepted(2, HEALED_WITHIN)
        await asyncio.gather(*(two.heard(number, LinkBack, HEALED_WITHIN) for number in (0, 1)))
        numbers = [await two.received()]
        while numbers[-1] != accepted:
            numbers.append(await two.received())
        if receipt.certain:
            assert receipt.ok == (1 in numbers)
        assert numbers == sorted({*numbers})
        assert two.is_quiet


async def test_a_subscriber_that_hears_nothing_more_is_noticed_in_time(namespace: str, anyio_backend: object) -> None:
    async with pair(namespace, receipt_timeout=1) as two:
        began = asyncio.get_running_loop().time()
        await two.proxy.deafen(b"SUBSCRIBE")
        receipt = await two.send(1)
        assert receipt == Receipt("timed_out", certain=False)
        left = NOTICED_WITHIN - (asyncio.get_running_loop().time() - began)
        await asyncio.gather(*(two.heard(number, LinkLost, left) for number in (0, 1)))
        assert (await two.send_locally(1)).status == "accepted"
        await asyncio.gather(*(two.heard(number, LinkBack, HEALED_WITHIN) for number in (0, 1)))
        accepted = await two.until_accepted(2, HEALED_WITHIN)
        assert await two.received() == accepted
        assert two.gaps() > 0
        assert two.is_quiet


async def test_a_subscriber_that_overflows_is_noticed_and_the_gap_counted(
    namespace: str, anyio_backend: object
) -> None:
    async with pair(namespace, receipt_timeout=1) as two:
        await in_thread(two.redis.command, "CONFIG", "SET", "client-output-buffer-limit", "pubsub 65536 0 0")
        assert await two.send("x" * 200_000) == Receipt("timed_out", certain=False)
        await two.heard(1, LinkLost, NOTICED_WITHIN)
        await two.heard(1, LinkBack, HEALED_WITHIN)
        accepted = await two.until_accepted(1, HEALED_WITHIN)
        assert await two.received() == accepted
        assert two.gaps() > 0
        assert link_of(two.here) == "UP"
        assert two.is_quiet


async def test_a_slow_redis_only_makes_all_slower(namespace: str, anyio_backend: object) -> None:
    async with pair(namespace) as two:
        two.proxy.latency = 0.1
        for number in range(1, 6):
            assert (await two.send(number)).status == "accepted"
            assert await two.received() == number
        late = await Client.connect(two.there, "late")
        assert (await two.here.session("late", "late").emit("told", 1)).status == "accepted"
        await late.close()
        assert {link_of(two.here), link_of(two.there)} == {"UP"}
        assert two.is_quiet


# Redis answers, but does not work


def no_memory(redis: RedisProcess) -> None:
    """Let Redis refuse to write."""
    redis.command("CONFIG", "SET", "maxmemory", 1)


def memory(redis: RedisProcess) -> None:
    """Let it write again."""
    redis.command("CONFIG", "SET", "maxmemory", 0)


def replica(redis: RedisProcess) -> None:
    """Make it a replica of nobody, as it is after a failover that the servers were not told of."""
    redis.command("REPLICAOF", HOST, 1)


def primary(redis: RedisProcess) -> None:
    """Make it a primary again."""
    redis.command("REPLICAOF", "NO", "ONE")


def locked(redis: RedisProcess) -> None:
    """Let Redis want a password that nobody has."""
    with redis_py.Redis(port=redis.port) as client:
        client.config_set("requirepass", PASSWORD)
        for kind in ("normal", "pubsub"):
            client.client_kill_filter(_type=kind, skipme=True)


def unlocked(redis: RedisProcess) -> None:
    """Let it want none."""
    with redis_py.Redis(port=redis.port, password=PASSWORD) as client:
        client.config_set("requirepass", "")


FAULTS: Final[dict[str, tuple[Callable[[RedisProcess], None], Callable[[RedisProcess], None]]]] = {
    "OOM": (no_memory, memory),
    "READONLY": (replica, primary),
    "NOAUTH": (locked, unlocked),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_redis_that_refuses_to_work_is_as_one_that_is_away(
    fault: str, namespace: str, anyio_backend: object
) -> None:
    begin, end = FAULTS[fault]
    async with pair(namespace) as two:
        await in_thread(begin, two.redis)
        await asyncio.gather(*(two.heard(number, LinkLost, NOTICED_WITHIN) for number in (0, 1)))
        await until(lambda: link_of(two.here) == link_of(two.there) == "AWAY", "both know it", NOTICED_WITHIN)
        assert await two.send(1) == Receipt("unsent")
        assert (await two.send_locally(1)).status == "accepted"
        assert two.here.unready() == ["the link to the other servers: the backend does not answer"]
        await in_thread(end, two.redis)
        await asyncio.gather(*(two.heard(number, LinkBack, HEALED_WITHIN) for number in (0, 1)))
        accepted = await two.until_accepted(2, HEALED_WITHIN)
        assert await two.received() == accepted
        assert two.is_quiet


async def test_a_redis_that_loads_what_it_had_saved_is_away_until_it_has(namespace: str, anyio_backend: object) -> None:
    slowly = ("--key-load-delay", "30000", "--loading-process-events-interval-bytes", "1024")
    async with pair(namespace, *slowly, receipt_timeout=0.5) as two:
        await in_thread(two.redis.command, "EVAL", FILL, 0)
        await in_thread(two.redis.command, "SAVE")
        await in_thread(two.redis.kill)
        starting = asyncio.create_task(in_thread(two.redis.start))
        answers = set()
        while not starting.done():
            answers.add((await in_thread(two.redis.command, "PING")).partition(" ")[0])
            assert not (await two.send(1)).ok
            assert (await two.send_locally(1)).ok
        assert "LOADING" in answers
        await asyncio.gather(*(two.heard(number, LinkLost, NOTICED_WITHIN) for number in (0, 1)))
        await asyncio.gather(*(two.heard(number, LinkBack, HEALED_WITHIN) for number in (0, 1)))
        accepted = await two.until_accepted(2, HEALED_WITHIN)
        assert await two.received() == accepted
        assert two.is_quiet


# Messages that no server has sent


def envelope(number: int, *items: bytes, node: NodeId = FORGER, epoch: int = 1) -> bytes:
    """Return an envelope of one who has no part in the cluster."""
    return encode_envelope(node, epoch, number, 0, items)


def rubbish() -> list[bytes]:
    """Return what is no envelope, and envelopes of which something is wrong."""
    dice = random.Random(29)
    good = envelope(1, encode_item(Answer(1, "accepted")))
    newer = good.replace(bytes([VERSION]), bytes([VERSION + 1]), 1)
    return [
        b"",
        b"bad",
        b"\xc1",
        b"\x93\xc0",
        b"\xdd\xff\xff\xff\xff",
        b"\x91" * 100_000,
        b'{"event": "told"}',
        pickle.dumps(Receipt("accepted")),
        bytes(33_000_000),
        newer,
        *(good[:size] for size in range(1, len(good), 3)),
        *(dice.randbytes(dice.randrange(200)) for _ in range(200)),
    ]


async def test_rubbish_on_the_bus_is_counted_and_disturbs_nobody(namespace: str, anyio_backend: object) -> None:
    async with pair(namespace) as two:
        keys = cluster_of(two.there).bus._keys  # type: ignore[attr-defined]
        published = rubbish()

        def publish() -> None:
            with redis_py.Redis(port=two.redis.port) as client:
                # As an operator must: the limit of Redis is about the size of what a server may send.
                client.config_set("client-output-buffer-limit", "pubsub 0 0 0")
                for channel in (keys.node(two.there.node.id), keys.all):
                    for body in published:
                        assert client.publish(channel, body) > 0

        await in_thread(publish)
        assert (await two.send(1)).status == "accepted"
        assert await two.received() == 1
        assert two.there.metrics["bus_envelopes_unreadable"] == 2 * len(published)
        assert two.here.metrics["bus_envelopes_unreadable"] == len(published)
        assert link_of(two.there) == "UP"
        assert two.is_quiet


async def test_forged_items_never_make_a_wrong_receipt(namespace: str, anyio_backend: object) -> None:
    async with pair(namespace) as two:
        keys = cluster_of(two.here).bus._keys  # type: ignore[attr-defined]
        asked = asyncio.create_task(two.here.session("far", "far").call("question", 1))
        question = await two.far.receive()
        far = (AccountId("far"), SessionId("far"))
        forged = [
            *(Answer(id, "acknowledged") for id in range(1, 50)),
            *(Answer(id, "no such status") for id in range(1, 50)),
            Moved(*far),
            *(Confirm(epoch, 2**31, to_all) for epoch in range(5) for to_all in (False, True)),
            Fragment(1, 0, 2**31, b"x"),
            Fragment(1, 5, 2, b"x"),
        ]
        bodies = [envelope(number + 1, encode_item(item)) for number, item in enumerate(forged)]
        bodies += [envelope(len(forged) + 1, b"\xc0", b"\x91\xa5other", b"\x93\xa5other\x01\xa1x")]

        def publish() -> None:
            with redis_py.Redis(port=two.redis.port) as client:
                for body in bodies:
                    assert client.publish(keys.node(two.here.node.id), body) == 1

        await in_thread(publish)
        await until(lambda: two.here.metrics["bus_items_unsupported"] > 0, "all was read")
        assert two.here.metrics["bus_answers_unknown"] == 98
        assert not asked.done()
        await two.far.answer(question, "in earnest")
        assert await asked == "in earnest"
        for number in range(1, 20):
            assert (await two.send(number)).status == "accepted"
            assert await two.received() == number
        assert (await two.here.session("far", "nobody").emit("told", 1)).status == "unknown_session"
        assert two.is_quiet


@pytest.mark.parametrize("to_all", [False, True])
async def test_one_envelope_in_the_name_of_a_server_does_not_keep_it_from_being_heard(
    namespace: str, anyio_backend: object, to_all: bool
) -> None:
    async with pair(namespace) as two:
        keys = cluster_of(two.there).bus._keys  # type: ignore[attr-defined]
        channel = keys.all if to_all else keys.node(two.there.node.id)
        body = encode_envelope(two.here.node.id, 2**31, 1, TO_ALL if to_all else 0, [])

        async def gets_through(number: int) -> bool:
            if to_all:
                return (await two.here.everyone.emit("told", number)).sessions == 2
            return (await two.send(number)).ok

        assert await gets_through(1)
        assert await in_thread(publish_once, two.redis, channel, body) > 0
        first = asyncio.create_task(gets_through(2))
        await until(two.there.unready, "what is refused is told")
        assert two.here.node.id in two.there.unready()[0]
        async with asyncio.timeout(PROBE + SLACK):
            others = [asyncio.create_task(gets_through(number)) for number in range(3, 6)]
            while not any(each.done() and each.result() for each in others):
                others.append(asyncio.create_task(gets_through(3 + len(others))))
                await asyncio.sleep(0.05)
        assert two.there.unready() == []
        for each in (first, *others):
            each.cancel()
        assert link_of(two.there) == "UP"
