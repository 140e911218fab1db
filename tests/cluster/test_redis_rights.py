"""A user of Redis who lacks a right: which one is told, and nothing goes round in circles."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
import redis.asyncio
from redis.asyncio.cluster import ClusterNode

from primacron import Primacron
from primacron.backends import choose_backend
from primacron.cluster.cluster import CHECK_EVERY
from primacron.cluster.errors import RightsMissing
from primacron.cluster.registry import Registry
from primacron.config import read_options
from tests.cluster.fleet import Fleet, until
from tests.support.redis import HOST, RedisProcess, redis_cluster

#: What the user of the documentation may do.
RIGHTS = [
    "eval", "evalsha", "time", "info", "get", "set", "del", "exists", "pexpire", "persist", "hget", "hmget", "hgetall",
    "hset", "hsetnx", "hdel", "sadd", "srem", "scard", "smembers", "sscan", "rpush", "ltrim", "llen", "lrange",
    "publish", "subscribe", "unsubscribe", "client|id", "client|list",
]  # fmt: skip
CLUSTER_RIGHTS = ["spublish", "ssubscribe", "sunsubscribe", "asking"]
KEYS = ("resetkeys", "~shop:*", "resetchannels", "&shop:*")


def allow(process: RedisProcess, *rights: str, keys: tuple[str, ...] = KEYS) -> None:
    """Make the user anew, with these rights only."""
    granted = ["cluster|slots", "command", *rights]
    answer = process.command(
        "ACL", "SETUSER", "shop", "reset", "on", ">password", *keys, "-@all", *(f"+{right}" for right in granted)
    )
    assert answer == "OK", answer


@pytest.fixture(scope="module")
def process() -> Iterator[RedisProcess]:
    with RedisProcess() as process:
        yield process


@pytest.fixture(scope="module")
def shards() -> Iterator[list[RedisProcess]]:
    with redis_cluster() as nodes:
        yield nodes


def url_of(process: RedisProcess) -> str:
    return f"redis://shop:password@{HOST}:{process.port}"


async def check(given: object) -> RightsMissing | None:
    """Return what a user lacks."""
    open_backend = choose_backend(given, read_options({"namespace": "shop", "redis_timeout": 5}))
    assert open_backend is not None
    backend = open_backend()
    registry: Registry = backend.registry
    try:
        return await registry.check()
    finally:
        await backend.bus.leave()
        await backend.close()


async def test_nothing_is_missing_where_all_is_allowed(process: RedisProcess) -> None:
    allow(process, *RIGHTS)
    process.command("ACL", "LOG", "RESET")
    assert await check(url_of(process)) is None
    assert process.command("ACL", "LOG") == ""
    async with asyncio.timeout(5):
        while process.command("KEYS", "*"):  # what was tried is gone at once
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("right", RIGHTS)
async def test_a_right_that_is_missing_is_named(right: str, process: RedisProcess) -> None:
    allow(process, *(each for each in RIGHTS if each != right))
    missing = await check(url_of(process))
    assert missing is not None
    assert right in missing.names
    assert right in str(missing)


@pytest.mark.parametrize("keys", [("resetkeys", "~other:*", "&shop:*"), ("resetkeys", "~shop:*", "&other:*")])
async def test_rights_to_keys_and_channels_are_tried_as_well(keys: tuple[str, ...], process: RedisProcess) -> None:
    allow(process, *RIGHTS, keys=("resetchannels", *keys))
    missing = await check(url_of(process))
    assert missing is not None
    assert re.search("no permissions to access .*(key|channel)", str(missing), re.IGNORECASE)


@pytest.mark.parametrize("right", CLUSTER_RIGHTS)
async def test_a_right_that_is_missing_in_a_cluster_is_named(right: str, shards: list[RedisProcess]) -> None:
    nodes = [ClusterNode(HOST, node.port) for node in shards]
    for node in shards:
        allow(node, *RIGHTS, *CLUSTER_RIGHTS)
    given = redis.asyncio.RedisCluster(startup_nodes=nodes, username="shop", password="password")
    assert await check(given) is None
    # On one of the servers only.
    allow(shards[1], *RIGHTS, *(each for each in CLUSTER_RIGHTS if each != right))
    missing = await check(given)
    assert missing is not None
    assert right in missing.names


@pytest.fixture
async def fleet(process: RedisProcess, anyio_backend: object) -> AsyncIterator[Fleet]:
    process.command("FLUSHALL")
    async with Fleet(lambda: url_of(process), "shop", [process]) as fleet:
        yield fleet


def calls(process: RedisProcess, command: str) -> int:
    found = re.search(rf"cmdstat_{command}:calls=(\d+)", process.command("INFO", "commandstats"))
    return int(found[1]) if found is not None else 0


def hearing(server: Primacron) -> list[Exception]:
    heard: list[Exception] = []
    listen: Callable[[Exception, Any], None] = lambda error, _: heard.append(error)  # noqa: E731
    server.on("error::bus", listen)
    return heard


async def test_a_server_without_a_right_says_so_and_writes_its_entries_less_and_less_often(
    fleet: Fleet, process: RedisProcess
) -> None:
    allow(process, *(each for each in RIGHTS if each != "sadd"))
    server = fleet.new(lease=0.4)
    heard = hearing(server)
    await server.start()
    try:
        assert any(isinstance(each, RightsMissing) and each.names == ("sadd",) for each in heard)
        [reason] = server.unready()
        assert "the user of Redis lacks rights: sadd" in reason
        for number in range(50):
            await fleet.join(server, f"account-{number}", "one")
        before = calls(process, "hget")
        renewals = calls(process, "hsetnx")
        # Renewals come four times a lease: after thirty of them an entry must not have been written thirty times.
        async with asyncio.timeout(30):
            while calls(process, "hsetnx") < renewals + 30:
                await asyncio.sleep(0.05)
        assert calls(process, "hget") - before <= 30 + 50 * 4
        allow(process, *RIGHTS)
        await until(lambda: not server.unready(), "the right is there", CHECK_EVERY + 10)
    finally:
        await server.destroy()


@pytest.mark.parametrize("right", ["subscribe", "client|id"])
async def test_a_server_that_may_not_listen_says_why(right: str, fleet: Fleet, process: RedisProcess) -> None:
    allow(process, *(each for each in RIGHTS if each != right))
    server = fleet.new(redis_timeout=0.5)
    heard = hearing(server)
    await server.start()
    try:
        assert any(isinstance(each, RightsMissing) and right in each.names for each in heard)
        [reason] = server.unready()
        assert "messages do not arrive" in reason
        assert right in reason
        told = len(heard)
        allow(process, *RIGHTS)
        await until(lambda: not server.unready(), "the right is there", CHECK_EVERY + 10)
        assert len(heard) <= told + 2
    finally:
        await server.destroy()


async def test_a_right_that_is_taken_away_is_told(fleet: Fleet, process: RedisProcess) -> None:
    allow(process, *RIGHTS)
    server = fleet.new()
    heard = hearing(server)
    await fleet.start(server)
    assert server.unready() == []
    client = await fleet.join(server, "ann", "one")
    allow(process, *(each for each in RIGHTS if each != "hdel"))
    await client.close()
    await until(server.unready, "it is known", CHECK_EVERY + 10)
    assert "hdel" in server.unready()[0]
    assert any(isinstance(each, RightsMissing) and each.names == ("hdel",) for each in heard)
    allow(process, *RIGHTS)
