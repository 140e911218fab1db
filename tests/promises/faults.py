"""What goes wrong, two at a time: each fault lasts for some seconds, is undone at its end, and says what it does."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final, TypeAlias

from tests.promises.clients import Returning
from tests.promises.scene import Scene, Server
from tests.support.redis import in_thread

#: One fault: what it does to a scene, for the time of the block.
Fault: TypeAlias = Callable[[Scene, random.Random], AbstractAsyncContextManager[None]]
#: Seconds for which one lasts.
LASTS: Final = (0.5, 6.0)
#: The session for which many ask at once.
CONTESTED: Final = ("contested", "one")


@asynccontextmanager
async def _some_server(scene: Scene, choices: random.Random, what: str) -> AsyncIterator[Server]:
    """Choose a server to which nothing else happens."""
    server = choices.choice(scene.untouched)
    scene.untouched.remove(server)
    scene.say(f"{what} {server.node}")
    try:
        yield server
    finally:
        scene.untouched.append(server)


@asynccontextmanager
async def a_server_is_killed(scene: Scene, choices: random.Random) -> AsyncIterator[None]:
    """Kill a server, and start it again."""
    async with _some_server(scene, choices, "kill -9 of server") as server:
        scene.write(await server.end(signal.SIGKILL))
        yield
        await server.start()
        await server.begin()
        scene.say(f"it is back as {server.node}")


@asynccontextmanager
async def a_server_is_ended(scene: Scene, choices: random.Random) -> AsyncIterator[None]:
    """End a server in order, and start it again."""
    async with _some_server(scene, choices, "SIGTERM to server") as server:
        scene.write(await server.end())
        yield
        await server.start()
        await server.begin()
        scene.say(f"it is back as {server.node}")


@asynccontextmanager
async def a_server_stands_still(scene: Scene, choices: random.Random) -> AsyncIterator[None]:
    """Stop a server where it is, and let it go on."""
    async with _some_server(scene, choices, "SIGSTOP to server") as server:
        async with scene.trouble(server):
            server.program.send_signal(signal.SIGSTOP)
            yield
            server.program.send_signal(signal.SIGCONT)
        scene.say(f"{server.node} goes on")


@asynccontextmanager
async def a_server_is_cut_off(scene: Scene, choices: random.Random) -> AsyncIterator[None]:
    """Let nothing pass between a server and Redis, though its connections stay open."""
    async with _some_server(scene, choices, "half-open cut from Redis of server") as server:
        async with scene.trouble(server):
            await server.proxy.cut()
            yield
            await server.proxy.restore()
        scene.say(f"{server.node} reaches Redis")


@asynccontextmanager
async def a_server_is_deaf(scene: Scene, choices: random.Random) -> AsyncIterator[None]:
    """Let nothing more come to a server on what it has subscribed."""
    async with _some_server(scene, choices, "no more messages for server") as server:
        await server.proxy.deafen(b"SUBSCRIBE")
        yield


@asynccontextmanager
async def redis_is_emptied(scene: Scene, choices: random.Random) -> AsyncIterator[None]:
    """Remove everything from Redis."""
    scene.say("FLUSHALL")
    await _command(scene, "FLUSHALL")
    yield


@asynccontextmanager
async def redis_is_killed(scene: Scene, choices: random.Random) -> AsyncIterator[None]:
    """Kill Redis, and start it again, empty."""
    scene.say("Redis is killed")
    async with scene.trouble():
        await in_thread(scene.redis.kill)
        yield
        await in_thread(scene.redis.start)
    scene.say("Redis is back")


@asynccontextmanager
async def redis_stands_still(scene: Scene, choices: random.Random) -> AsyncIterator[None]:
    """Stop Redis where it is, and let it go on."""
    scene.say("Redis stands still")
    async with scene.trouble():
        scene.redis.freeze()
        yield
        scene.redis.thaw()
    scene.say("Redis goes on")


@asynccontextmanager
async def all_subscribers_are_cut(scene: Scene, choices: random.Random) -> AsyncIterator[None]:
    """Let Redis close all connections on which servers hear."""
    scene.say("CLIENT KILL of all subscribers")
    await _command(scene, "CLIENT", "KILL", "TYPE", "pubsub")
    yield


@asynccontextmanager
async def one_subscriber_is_cut(scene: Scene, choices: random.Random) -> AsyncIterator[None]:
    """Let Redis close one connection on which a server hears."""
    listed = (await _command(scene, "CLIENT", "LIST", "TYPE", "pubsub")).splitlines()
    if listed:
        number = choices.choice(sorted(listed)).split()[0].removeprefix("id=")
        scene.say(f"CLIENT KILL of one subscriber, {number}")
        await _command(scene, "CLIENT", "KILL", "ID", number)
    yield


@asynccontextmanager
async def many_claim_one_session(scene: Scene, choices: random.Random) -> AsyncIterator[None]:
    """Let clients ask all servers for the same session, in a tight loop."""
    scene.say("a session is claimed in a tight loop")
    claiming = [
        asyncio.create_task(_claim(scene, server, kind, random.Random(choices.random())))
        for server in scene.servers
        for kind in ("websocket", "polling")
    ]
    try:
        yield
    finally:
        for task in claiming:
            task.cancel()
        await asyncio.gather(*claiming, return_exceptions=True)
        scene.say("nobody claims it any more")


async def _claim(scene: Scene, server: Server, kind: str, choices: random.Random) -> None:
    while True:
        scene.add(
            Returning(kind, lambda: server.port, CONTESTED, scene.write, choices, comes_back=False, is_settled=True)
        )
        await asyncio.sleep(choices.uniform(0.02, 0.2))


@asynccontextmanager
async def nginx_is_reloaded(scene: Scene, choices: random.Random) -> AsyncIterator[None]:
    """Let new processes of nginx take over."""
    scene.say("nginx is reloaded")
    scene.nginx.reload()
    yield


async def _command(scene: Scene, *parts: str) -> str:
    """Ask Redis for something, if it can be asked."""
    with contextlib.suppress(TimeoutError):
        return str(await in_thread(scene.redis.command, *parts))
    return ""


FAULTS: Final[tuple[Fault, ...]] = (
    a_server_is_killed,
    a_server_is_ended,
    a_server_stands_still,
    a_server_is_cut_off,
    a_server_is_deaf,
    redis_is_emptied,
    redis_is_killed,
    redis_stands_still,
    all_subscribers_are_cut,
    one_subscriber_is_cut,
    many_claim_one_session,
    nginx_is_reloaded,
)
#: Of these only one at a time: Redis cannot stand still while it is not there.
_EXCLUSIVE: Final = frozenset({redis_is_killed, redis_stands_still})


async def strike(scene: Scene, first: Fault, second: Fault) -> None:
    """Let two faults happen so that they overlap."""
    choices = random.Random(scene.choices.random())
    lasts = choices.uniform(*LASTS)
    async with asyncio.TaskGroup() as group:
        group.create_task(_happen(scene, first, choices, 0.0, lasts))
        group.create_task(_happen(scene, second, choices, choices.uniform(0.0, lasts), choices.uniform(*LASTS)))


async def _happen(scene: Scene, fault: Fault, choices: random.Random, after: float, seconds: float) -> None:
    await asyncio.sleep(after)
    async with fault(scene, choices):
        await asyncio.sleep(seconds)


def choose_pair(choices: random.Random) -> tuple[Fault, Fault]:
    """Return two faults that can happen together; some of them to two servers."""
    while True:
        first, second = choices.choice(FAULTS), choices.choice(FAULTS)
        if not {first, second} <= _EXCLUSIVE:
            return first, second
