"""What one server sends to a session arrives in its order, whichever way each send takes."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.cluster.fleet import Fleet, cluster_of
from tests.cluster.walker import NAME, Scene, Walker
from tests.support.proxy import RedisProxy
from tests.support.redis import RedisProcess

#: Seconds by which what the server publishes that had the session comes late.
LATE = 0.3


@asynccontextmanager
async def moved(redis_process: RedisProcess, namespace: str) -> AsyncIterator[tuple[Scene, Walker]]:
    """Let a session move to which the third server has sent; what its first server passes on is late from now on."""
    async with RedisProxy(redis_process.port) as proxy:
        urls = itertools.chain([proxy.url], itertools.repeat(redis_process.url))
        async with Fleet(lambda: next(urls), namespace, [redis_process]) as fleet:
            servers = await fleet.started(3)
            scene = Scene(fleet, servers, [await fleet.serve(server) for server in servers])
            walker = await scene.walker()
            assert (await scene.third.session(*NAME).emit("number", 0)).ok
            assert (await walker.receive())["args"] == [0]
            await walker.upgrade()
            await scene.arrival()
            proxy.latency = LATE
            yield scene, walker
            proxy.latency = 0.0
            await scene.close()


async def test_a_place_that_is_forgotten_lets_no_send_overtake_those_that_went_there(
    redis_process: RedisProcess, namespace: str, anyio_backend: object
) -> None:
    async with moved(redis_process, namespace) as (scene, walker):
        sender = scene.third
        sender.session(*NAME).emit("number", 1)  # by way of the server where the session was
        await asyncio.sleep(0)
        cluster_of(sender).locations.drop(NAME)  # as after ten seconds
        second = sender.session(*NAME).emit("number", 2, receipt=True)
        assert [(await walker.receive())["args"] for _ in range(2)] == [[1], [2]]
        assert (await second).ok


async def test_a_call_does_not_overtake_what_was_sent_before_its_session_moved(
    redis_process: RedisProcess, namespace: str, anyio_backend: object
) -> None:
    async with moved(redis_process, namespace) as (scene, walker):
        sender = scene.third
        sender.session(*NAME).emit("number", 1)
        await asyncio.sleep(0)
        cluster_of(sender).locations.drop(NAME)
        call = asyncio.ensure_future(sender.session(*NAME).call("question", timeout=5))
        assert (await walker.receive())["args"] == [1]
        question = await walker.receive()
        await walker.send({"ack": question["id"], "args": ["answer"]})
        assert await call == "answer"
