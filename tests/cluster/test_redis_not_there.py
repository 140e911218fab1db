"""Redis is not there at the start, or not what was expected: the server starts, says why, and heals."""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
import redis.asyncio
from redis.asyncio.sentinel import Sentinel

from primacron import Primacron, Session
from primacron.cluster.redis.client import heed
from tests.hostile.arena import until
from tests.support.engine import Client
from tests.support.hearing import Hearing
from tests.support.redis import RedisProcess, SentinelSetup, free_port, in_thread, redis_cluster, redis_sentinel
from tests.support.serving import port_of

DEADLINE = 40.0
NOBODY = "no.such.host.invalid"


def cluster_at(port: int, host: str = "127.0.0.1") -> Any:
    return redis.asyncio.RedisCluster(host=host, port=port)


def sentinel_at(port: int, host: str = "127.0.0.1") -> Any:
    return Sentinel([(host, port)]).master_for("service")  # type: ignore[no-untyped-call]


def sentinels_of(setup: SentinelSetup) -> Any:
    return Sentinel([*setup.addresses]).master_for(setup.service)  # type: ignore[no-untyped-call]


def url_of(port: int, host: str = "127.0.0.1") -> str:
    return f"redis://{host}:{port}"


async def serves(server: Primacron) -> None:
    """Use the server as one that is alone."""
    front = Client(port_of(server))
    try:
        client = await front.connect("account=ann")
        server.everyone.emit("hello")
        assert (await client.receive())["event"] == "hello"
    finally:
        await front.close()


async def starts_without(given: object) -> str:
    """Start a server, use it, end it; return what it tells of the link."""
    server = Primacron(given)
    lost = Hearing(server, "error::bus")
    async with asyncio.timeout(DEADLINE):
        await server.listen(0, "127.0.0.1")
        error, _ = await lost.next_error()
        assert server.unready() == ["the link to the other servers: the backend does not answer"]
        await serves(server)
        await server.destroy()
    assert lost.is_empty
    return str(error)


@pytest.mark.parametrize("host", ["127.0.0.1", NOBODY])
@pytest.mark.parametrize("given", [url_of, cluster_at, sentinel_at])
async def test_it_starts_where_nobody_answers(
    given: Callable[[int, str], Any], host: str, anyio_backend: object
) -> None:
    assert "the link to the other servers is down" in await starts_without(given(free_port(), host))


@pytest.fixture
def locked() -> Iterator[RedisProcess]:
    with RedisProcess() as process:
        process.command("CONFIG", "SET", "requirepass", "right")
        yield process


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (url_of, "AuthenticationError: Authentication required"),
        (lambda port: f"redis://:wrong@127.0.0.1:{port}", "AuthenticationError: invalid username-password pair"),
        (cluster_at, "RedisClusterException: .*Authentication required"),
        (sentinel_at, "MasterNotFoundError: .*AuthenticationError"),
    ],
    ids=["no password", "a wrong one", "no password for a cluster", "no password for a sentinel"],
)
async def test_a_password_that_is_wrong_or_missing_is_told(
    given: Callable[[int], Any], why: str, locked: RedisProcess, anyio_backend: object
) -> None:
    assert_matches(why, await starts_without(given(locked.port)))


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (cluster_at, "RedisClusterException: .*Cluster mode is not enabled on this node"),
        (sentinel_at, "unknown command 'SENTINEL'"),
        (lambda port: f"redis://127.0.0.1:{port}/99", "DB index is out of range"),
    ],
    ids=["cluster", "sentinel", "database"],
)
async def test_a_redis_that_is_something_else_is_told(
    given: Callable[[int], Any], why: str, anyio_backend: object
) -> None:
    with RedisProcess() as process:
        assert_matches(why, await starts_without(given(process.port)))


async def test_one_server_of_a_cluster_is_told_to_be_one(
    cluster_processes: list[RedisProcess], anyio_backend: object
) -> None:
    for process in cluster_processes:
        said = await starts_without(process.url)
        assert ": this is a Redis Cluster: pass a redis.asyncio.RedisCluster in the place of" in said


async def test_the_one_server_that_has_all_slots_of_a_cluster_is_told_to_be_one(anyio_backend: object) -> None:
    with RedisProcess("--cluster-enabled", "yes") as process:
        assert process.command("CLUSTER", "ADDSLOTSRANGE", 0, 16383) == "OK"
        while "cluster_state:ok" not in process.command("CLUSTER", "INFO"):
            await asyncio.sleep(0.01)
        assert ": this is a Redis Cluster: pass a" in await starts_without(process.url)


@contextlib.contextmanager
def single() -> Iterator[tuple[list[RedisProcess], Any]]:
    with RedisProcess() as process:
        yield [process], process.url


@contextlib.contextmanager
def cluster() -> Iterator[tuple[list[RedisProcess], Any]]:
    with redis_cluster() as processes:
        yield processes, cluster_at(processes[0].port)


@contextlib.contextmanager
def sentinel() -> Iterator[tuple[list[RedisProcess], Any]]:
    with redis_sentinel() as setup:
        yield [*setup.sentinels], sentinels_of(setup)


@pytest.mark.parametrize("place", [single, cluster, sentinel])
async def test_it_heals_when_redis_comes_after_it(
    place: Callable[[], contextlib.AbstractContextManager[tuple[list[RedisProcess], Any]]],
    namespace: str,
    anyio_backend: object,
) -> None:
    with place() as (processes, given):
        for process in processes:
            process.kill()
        servers = [Primacron(given, namespace=namespace) for _ in range(2)]
        heard = [Hearing(server, "error::bus") for server in servers]
        async with asyncio.timeout(DEADLINE):
            for server, hearing in zip(servers, heard, strict=True):
                await server.listen(0, "127.0.0.1")
                assert "is down" in str((await hearing.next_error())[0])
            front = Client(port_of(servers[0]))
            client = await front.connect("account=ann")
            for process in processes:
                await in_thread(process.start)
            for hearing in heard:
                assert "is back" in str((await hearing.next_error())[0])
            await until(lambda: not any(server.unready() for server in servers), "the servers to be ready")
            while (await servers[1].account("ann").emit("hello")).sessions == 0:
                await asyncio.sleep(0.01)
            assert (await client.receive())["event"] == "hello"
            await front.close()
            for server in servers:
                await server.destroy()


def assert_matches(why: str, said: str) -> None:
    assert re.search(why, said), said


async def test_no_cancellation_is_lost_in_what_redis_py_waits_for(anyio_backend: object) -> None:
    class Lost(Exception):
        pass

    async def lose(outcome: object) -> object:
        try:
            await asyncio.sleep(DEADLINE)
        except asyncio.CancelledError:
            if isinstance(outcome, Exception):
                raise outcome from None
        return outcome

    for outcome in (5, Lost()):
        task = asyncio.create_task(heed(lose(outcome)))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    async with asyncio.timeout(DEADLINE):
        assert await heed(asyncio.sleep(0, 5)) == 5
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await heed(lose(5))


@pytest.mark.parametrize("anyio_backend", [("asyncio", {"use_uvloop": False}), ("asyncio", {"use_uvloop": True})])
async def test_handlers_that_block_their_threads_do_not_keep_the_link_from_coming_back(
    redis_process: RedisProcess, namespace: str, anyio_backend: object
) -> None:
    # By name, which asyncio looks up in a thread of its own pool.
    server = Primacron(f"redis://localhost:{redis_process.port}", namespace=namespace)
    inside, gate = threading.Semaphore(0), threading.Event()

    @server.event("block", thread=True)
    def block(session: Session) -> None:
        inside.release()
        assert gate.wait(DEADLINE)

    async with asyncio.timeout(DEADLINE), server:
        await server.listen(0, "127.0.0.1")
        front = Client(port_of(server))
        try:
            for number in range(30):  # asyncio's pool has as many threads as processors, and four
                await (await front.connect(f"account=blocking{number}")).emit("block")
            for _ in range(30):
                await until(lambda: inside.acquire(blocking=False), "a handler to block")
            for kind in ("normal", "pubsub"):
                redis_process.command("CLIENT", "KILL", "TYPE", kind)
            probe = await front.connect("account=probe")
            while not (await server.account("probe").emit("hello")).certain:
                await asyncio.sleep(0.01)
            await until(lambda: not server.unready(), "the link to be there")
            assert (await probe.receive())["event"] == "hello"
        finally:
            gate.set()
            await front.close()
