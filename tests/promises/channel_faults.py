"""What goes wrong under channels; each lasts until the end of its block, and has been undone then."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final, TypeAlias

from tests.promises.channel_scene import ChannelScene
from tests.promises.scene import Server
from tests.promises.stores import SentinelStore
from tests.support.redis import in_thread

#: One fault: what it does to a scene, for about so many seconds.
Fault: TypeAlias = Callable[[ChannelScene, random.Random, float], AbstractAsyncContextManager[None]]
#: Seconds between two cuts, two kills of a server, for which Redis stands still, and for which it is away.
CUT_EVERY: Final = 3.0
KILL_EVERY: Final = 10.0
FROZEN_FOR: Final = 8.0
AWAY_FOR: Final = 2.0


@asynccontextmanager
async def nothing(scene: ChannelScene, choices: random.Random, seconds: float) -> AsyncIterator[None]:
    """Let all be well."""
    yield


@asynccontextmanager
async def _again(work: Callable[[], object], every: float) -> AsyncIterator[None]:
    """Do something at once, and every so many seconds for the time of the block."""

    async def repeat() -> None:
        while True:
            await in_thread(work)
            await asyncio.sleep(every)

    task = asyncio.create_task(repeat())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@asynccontextmanager
async def subscribers_are_cut(scene: ChannelScene, choices: random.Random, seconds: float) -> AsyncIterator[None]:
    """Let Redis close all connections on which servers hear, again and again."""

    def cut() -> None:
        scene.say("CLIENT KILL of all subscribers")
        scene.store.command("CLIENT", "KILL", "TYPE", "pubsub")

    async with _again(cut, min(CUT_EVERY, seconds / 2)):
        yield


@asynccontextmanager
async def redis_stands_still(scene: ChannelScene, choices: random.Random, seconds: float) -> AsyncIterator[None]:
    """Stop Redis where it is, and let it go on."""
    scene.say("Redis stands still")
    async with scene.trouble():
        await in_thread(scene.store.freeze)
        try:
            await asyncio.sleep(min(FROZEN_FOR, seconds))
        finally:
            await in_thread(scene.store.thaw)
    scene.say("Redis goes on")
    yield


@asynccontextmanager
async def redis_is_killed(scene: ChannelScene, choices: random.Random, seconds: float) -> AsyncIterator[None]:
    """Kill Redis, and start it again, empty."""
    scene.say("Redis is killed")
    scene.empty()
    async with scene.trouble():
        await in_thread(scene.store.kill)
        await asyncio.sleep(min(AWAY_FOR, seconds / 2))
        await in_thread(scene.store.start)
    scene.say("Redis is back, empty")
    yield


@asynccontextmanager
async def redis_is_emptied(scene: ChannelScene, choices: random.Random, seconds: float) -> AsyncIterator[None]:
    """Remove everything from Redis."""
    scene.say("FLUSHALL")
    scene.empty()
    await in_thread(scene.store.command, "FLUSHALL")
    yield


@asynccontextmanager
async def redis_fails_over(scene: ChannelScene, choices: random.Random, seconds: float) -> AsyncIterator[None]:
    """Kill the primary, so that a replica takes over; bring the old one back as a replica."""
    store = scene.store
    assert isinstance(store, SentinelStore)
    scene.say("the primary is killed")
    scene.empty()
    async with scene.trouble():
        bring_back = await in_thread(store.fail_over)
    scene.say("a replica has taken over")
    yield
    await in_thread(bring_back)


@asynccontextmanager
async def servers_are_killed(scene: ChannelScene, choices: random.Random, seconds: float) -> AsyncIterator[None]:
    """Kill a server and start it again, one after the other."""

    is_over = asyncio.Event()

    async def kill() -> None:
        await _kill(scene, choices.choice(scene.servers), min(1.0, seconds / 4))

    async def repeat() -> None:
        while not is_over.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(KILL_EVERY):
                    await is_over.wait()
                    return
            await kill()

    await kill()
    task = asyncio.create_task(repeat())
    try:
        yield
    finally:
        is_over.set()
        await task


async def _kill(scene: ChannelScene, server: Server, seconds: float) -> None:
    """Kill a server, and start it again after so many seconds."""
    scene.say(f"kill -9 of server {server.node}")
    scene.write(await server.end(signal.SIGKILL))
    await asyncio.sleep(seconds)
    await server.start()
    await server.begin()
    scene.say(f"it is back as {server.node}")


#: The faults that each store can have.
ANYWHERE: Final[tuple[Fault, ...]] = (
    nothing,
    subscribers_are_cut,
    redis_stands_still,
    redis_is_killed,
    redis_is_emptied,
    servers_are_killed,
)
FAULTS: Final[dict[str, tuple[Fault, ...]]] = {
    "redis": ANYWHERE,
    "redis-cluster": ANYWHERE,
    "redis-sentinel": (redis_fails_over,),
}
#: Of these only one at a time: Redis cannot stand still while it is not there.
_EXCLUSIVE: Final = frozenset({redis_is_killed, redis_stands_still, redis_fails_over})


def choose_pair(place: str, choices: random.Random) -> tuple[Fault, Fault]:
    """Return two faults that can happen together on such a store."""
    # Sentinel would replace a primary that is away, or stands still.
    possible = [fault for fault in {**dict.fromkeys(FAULTS[place]), **dict.fromkeys(ANYWHERE)} if fault is not nothing]
    if place == "redis-sentinel":
        possible = [fault for fault in possible if fault not in {redis_is_killed, redis_stands_still}]
    while True:
        first, second = choices.sample(possible, 2)
        if not {first, second} <= _EXCLUSIVE:
            return first, second
