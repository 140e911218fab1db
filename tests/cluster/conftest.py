"""
The backends that the tests run on: in memory, one Redis, a Redis Cluster, Redis behind Sentinel.

A module whose subject is independent of the backend lists those that it needs in ``BACKENDS``.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
import redis.asyncio
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.sentinel import Sentinel

from primacron.cluster.memory import Shared
from tests.cluster.fleet import Fleet
from tests.support.redis import HOST, RedisProcess, SentinelSetup, redis_cluster, redis_sentinel

BACKENDS = ("memory", "redis", "redis-cluster", "redis-sentinel")

_NUMBERS = itertools.count()


@pytest.fixture(scope="session")
def redis_process() -> Iterator[RedisProcess]:
    """One Redis, shared by all tests that do not disrupt it."""
    with RedisProcess() as process:
        yield process


@pytest.fixture(scope="session")
def cluster_processes() -> Iterator[list[RedisProcess]]:
    """A Redis Cluster of three shards, shared by all tests that do not disrupt it."""
    with redis_cluster() as nodes:
        yield nodes


@pytest.fixture(scope="session")
def sentinel_setup() -> Iterator[SentinelSetup]:
    """Redis behind Sentinel, shared by all tests that do not disrupt it."""
    with redis_sentinel() as setup:
        yield setup


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test on the backends of its module, unless it names its own."""
    named = [mark.args[0] for mark in metafunc.definition.iter_markers("parametrize")]
    if "backend" in metafunc.fixturenames and "backend" not in named:
        metafunc.parametrize("backend", getattr(metafunc.module, "BACKENDS", BACKENDS))


@pytest.fixture
def given(backend: str, request: pytest.FixtureRequest) -> Callable[[], Any]:
    """Return a factory of what a server takes as its Redis; all results share one store."""
    if backend == "memory":
        shared = Shared()
        return lambda: shared
    if backend == "redis":
        process: RedisProcess = request.getfixturevalue("redis_process")
        return lambda: process.url
    if backend == "redis-cluster":
        nodes: list[RedisProcess] = request.getfixturevalue("cluster_processes")
        return lambda: redis.asyncio.RedisCluster(startup_nodes=[ClusterNode(HOST, node.port) for node in nodes])
    setup: SentinelSetup = request.getfixturevalue("sentinel_setup")
    return lambda: Sentinel(setup.addresses).master_for(setup.service)  # type: ignore[no-untyped-call]


@pytest.fixture
def namespace() -> str:
    """Return a namespace that is unique to the test."""
    return f"test-{next(_NUMBERS)}"


@pytest.fixture
def primaries(backend: str, request: pytest.FixtureRequest) -> list[RedisProcess]:
    """The Redis processes that hold the data of servers made with ``given``; none in memory."""
    if backend == "memory":
        return []
    if backend == "redis":
        return [request.getfixturevalue("redis_process")]
    if backend == "redis-cluster":
        return [*request.getfixturevalue("cluster_processes")]
    setup: SentinelSetup = request.getfixturevalue("sentinel_setup")
    current = setup.current()
    return [process for process in (setup.primary, setup.replica) if process.port == current]


@pytest.fixture
async def fleet(
    given: Callable[[], Any], namespace: str, primaries: list[RedisProcess], anyio_backend: object
) -> AsyncIterator[Fleet]:
    """Servers that share a backend, destroyed after the test."""
    async with Fleet(given, namespace, primaries) as fleet:
        yield fleet


@pytest.fixture(autouse=True)
def nothing_is_left_open() -> Iterator[contextlib.ExitStack]:
    """Close what the test has opened itself."""
    with contextlib.ExitStack() as stack:
        yield stack
