"""A client that is closed leaves no connection to Redis open, whatever its attempts were at just then."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final

import pytest
import redis.asyncio
import redis.credentials
from redis.asyncio.sentinel import Sentinel

from primacron.cluster.errors import BackendUnavailable
from primacron.cluster.redis.client import RedisClient, open_client
from primacron.cluster.redis.settings import read_settings
from tests.hostile.arena import until
from tests.support.redis import HOST, RedisProcess

TIMEOUT: Final = 20.0
#: Turns of the loop after which an attempt is interrupted: it takes some twenty, of which the last ones matter.
TURNS: Final = 40
#: A reply takes some turns more or less, so that no turn is certain to be the one.
ROUNDS: Final = 3


async def listen(client: RedisClient) -> None:
    await (await client.listen("channel")).close()


async def tags(client: RedisClient) -> None:
    await client.tags()


async def execute(client: RedisClient) -> None:
    await client.execute([("GET", "key")])


Attempt = Callable[[RedisClient], Awaitable[None]]


def single_at(port: int, **settings: Any) -> Any:
    return redis.asyncio.Redis(host=HOST, port=port, **settings)


def cluster_at(port: int, **settings: Any) -> Any:
    return redis.asyncio.RedisCluster(host=HOST, port=port, **settings)


def sentinel_at(port: int) -> Any:
    return Sentinel([(HOST, port)]).master_for("service")  # type: ignore[no-untyped-call]


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """asyncio's own loop: uvloop's does not close while a connection is open, so that a failure would hang."""
    return "asyncio", {"use_uvloop": False}


@pytest.fixture
def alone() -> Iterator[RedisProcess]:
    """A Redis without other clients."""
    with RedisProcess() as process:
        yield process


@pytest.fixture
def all_slots() -> Iterator[RedisProcess]:
    """The one server of a Redis Cluster, without other clients."""
    with RedisProcess("--cluster-enabled", "yes") as process:
        assert process.command("CLUSTER", "ADDSLOTSRANGE", 0, 16383) == "OK"
        yield process


def begin(attempt: Attempt, client: RedisClient) -> asyncio.Task[None]:
    async def fail_or_not() -> None:
        with contextlib.suppress(BackendUnavailable):
            await attempt(client)

    return asyncio.create_task(fail_or_not())


async def turn(turns: int) -> None:
    for _ in range(turns):
        await asyncio.sleep(0)


async def end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait({task})


async def nothing_is_left(process: RedisProcess) -> None:
    """Wait until Redis has no client but the one that asks it."""
    await until(lambda: len(process.command("CLIENT", "LIST").splitlines()) == 1, "the connections to be closed")


@pytest.mark.parametrize("attempt", [listen, tags, execute])
@pytest.mark.parametrize("given", [single_at, cluster_at, sentinel_at])
async def test_of_attempts_that_are_cancelled_while_they_fail(
    given: Callable[[int], Any], attempt: Attempt, alone: RedisProcess, anyio_backend: object
) -> None:
    for turns in [*range(TURNS)] * ROUNDS:
        client = open_client(read_settings(given(alone.port)), TIMEOUT, ())
        task = begin(attempt, client)
        await turn(turns)
        await end(task)
        await client.close()
        await nothing_is_left(alone)


@pytest.mark.parametrize("attempt", [listen, tags, execute])
async def test_of_attempts_at_a_cluster_that_are_cancelled(
    attempt: Attempt, all_slots: RedisProcess, anyio_backend: object
) -> None:
    for turns in [*range(TURNS)] * ROUNDS:
        client = open_client(read_settings(cluster_at(all_slots.port)), TIMEOUT, ())
        task = begin(attempt, client)
        await turn(turns)
        await end(task)
        await client.close()
        await nothing_is_left(all_slots)


async def test_of_attempts_that_are_running_when_it_is_closed(all_slots: RedisProcess, anyio_backend: object) -> None:
    for turns in range(TURNS):
        client = open_client(read_settings(cluster_at(all_slots.port)), TIMEOUT, ())
        task = begin(tags, client)
        await turn(turns)
        await client.close()
        await task
        await nothing_is_left(all_slots)


async def test_of_attempts_after_it_was_closed(all_slots: RedisProcess, anyio_backend: object) -> None:
    client = open_client(read_settings(cluster_at(all_slots.port)), TIMEOUT, ())
    await client.tags()
    await client.close()
    for attempt in (client.tags, client.refresh, lambda: client.listen("channel")):
        with pytest.raises(BackendUnavailable, match="the server is ending"):
            await attempt()
    await nothing_is_left(all_slots)


class Slow(redis.credentials.CredentialProvider):
    """Credentials that are being fetched for ever."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()

    async def get_credentials_async(self) -> tuple[str]:
        """Never return."""
        self.asked.set()
        await asyncio.Event().wait()
        return ("",)


@pytest.mark.parametrize("attempt", [listen, execute])
@pytest.mark.parametrize("given", [single_at, cluster_at])
async def test_of_attempts_that_are_cancelled_while_they_wait_for_credentials(
    given: Callable[..., Any], attempt: Attempt, alone: RedisProcess, anyio_backend: object
) -> None:
    slow = Slow()
    client = open_client(read_settings(given(alone.port, credential_provider=slow)), 0.2, ())
    task = begin(attempt, client)
    await slow.asked.wait()
    await end(task)
    await client.close()
    await nothing_is_left(alone)
