"""Three servers and a balancer that goes round: nobody notices that there are several servers."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest

from tests.cluster.nodes import NodeProcess, node_processes, until_link
from tests.cluster.traffic import problems, traffic, troubles
from tests.support.engine import Client
from tests.support.forms import Length
from tests.support.nginx import round_robin
from tests.support.node import run_node
from tests.support.redis import RedisProcess, SentinelSetup, in_thread, redis_sentinel

MESSAGES: Final = 50
#: Milliseconds that a client waits at most after every fifth message, so that it sends for 7 seconds or so.
LONG_PAUSE: Final = 1_000
#: Seconds within which all is as before once Redis is there again, with some for a machine that does more than this,
#: and those that a failover may take.
HEALED_WITHIN: Final = 3.0 + 2.0
DEADLINE: Final = 20.0


@pytest.fixture
def clients(length: Length) -> int:
    """How many clients connect at once."""
    return length.choose(30, 200, 500)


@pytest.fixture(params=["redis", "redis-cluster"])
def place(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Where the Redis of a server in another process is."""
    if request.param == "redis":
        process: RedisProcess = request.getfixturevalue("redis_process")
        return {"url": process.url}
    shards: list[RedisProcess] = request.getfixturevalue("cluster_processes")
    return {"cluster": [shard.port for shard in shards]}


async def test_clients_behind_a_balancer_lose_nothing_and_get_nothing_twice(
    place: dict[str, Any], namespace: str, clients: int, anyio_backend: object
) -> None:
    async with node_processes(3, place, namespace=namespace) as nodes, round_robin([n.port for n in nodes]) as port:
        for transports in ("polling", "both"):
            [outcome] = await run_node("cluster.mjs", port, clients, MESSAGES, transports)
            assert outcome == flawless(clients, upgraded=clients if transports == "both" else 0)
        await all_have_left(nodes)
        for node in nodes:
            state = await node.state()
            assert (problems(state), troubles(state)) == ([], {})
            assert state["counters"]["sessions_opened"] > clients // 3  # the balancer has spread them


def flawless(clients: int, upgraded: int) -> dict[str, Any]:
    """Return what the script tells when all clients got all of their messages."""
    return {"finished": clients, "failed": [], "failures": 0, "disordered": 0, "extra": 0, "upgraded": upgraded}


async def all_have_left(nodes: list[NodeProcess]) -> None:
    """Wait until no server has a session."""
    for node in nodes:
        while (await node.state())["sessions"]:
            await asyncio.sleep(0.05)


async def test_large_posts_through_other_servers_do_not_disturb_the_bus(
    place: dict[str, Any], namespace: str, clients: int, anyio_backend: object
) -> None:
    text = "x" * 999_900
    body = ("4" + json.dumps({"event": "blob", "args": [text]})).encode()
    async with node_processes(3, place, namespace=namespace) as nodes, traffic(nodes) as running:

        async def post(number: int) -> int:
            polling = await nodes[number % 3].client.poll_in(f"account=poster{number}")
            through = Client(nodes[(number + 1) % 3].port)
            response = await through.fetch("POST", polling.target, None, body)
            return response.status

        assert await asyncio.gather(*map(post, range(clients))) == [200] * clients
        await running.stop()
        await running.check()
        assert {*running.statuses} == {("accepted", True)}
        assert running.closed == {}
        states = [await node.state() for node in nodes]
        assert sum(state["blobs"] for state in states) == clients
        for state in states:
            assert (problems(state), troubles(state)) == ([], {})


async def test_clients_notice_nothing_of_a_sentinel_failover(
    namespace: str, clients: int, anyio_backend: object
) -> None:
    async with three_behind_sentinel(namespace) as (setup, nodes, port), traffic(nodes) as running:
        kinds = ("websocket", "polling")
        scripts = [run_node("cluster.mjs", port, clients // 2, MESSAGES, kind, LONG_PAUSE) for kind in kinds]
        async with asyncio.TaskGroup() as group:
            runs = [group.create_task(script) for script in scripts]
            everybody = clients + len(running.talkers)
            while sum([(await node.state())["sessions"] for node in nodes]) < everybody:
                await asyncio.sleep(0.05)
            await in_thread(setup.primary.kill)
            await until_link(nodes, up=False, seconds=DEADLINE)
            await in_thread(has_failed_over, setup)
            await until_link(nodes, up=True, seconds=HEALED_WITHIN)
            await running.until_accepted()
            assert not any(run.done() for run in runs)
        for run in runs:
            assert run.result() == [flawless(clients // 2, upgraded=0)]
        await running.stop()
        await running.check()
        assert running.closed == {}
        for node in nodes:
            state = await node.state()
            assert state["unready"] == []
            assert [error for error, _ in problems(state)] == ["error::bus", "error::bus"], state["errors"]


@asynccontextmanager
async def three_behind_sentinel(namespace: str) -> AsyncIterator[tuple[SentinelSetup, list[NodeProcess], int]]:
    """Run three servers whose Redis is behind Sentinel; also returns the balancer's port."""
    with redis_sentinel() as setup:
        place = {"sentinels": [each.port for each in setup.sentinels], "service": setup.service}
        async with node_processes(3, place, namespace=namespace) as nodes, round_robin([n.port for n in nodes]) as port:
            yield setup, nodes, port


def has_failed_over(setup: SentinelSetup) -> None:
    """Wait until the replica is the primary."""
    deadline = time.monotonic() + DEADLINE
    while setup.current() != setup.replica.port or "role:master" not in setup.replica.command("INFO", "replication"):
        assert time.monotonic() < deadline, "the sentinels do not fail over"
        time.sleep(0.05)
