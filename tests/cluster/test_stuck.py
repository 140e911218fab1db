"""The event loop of a server stands still, because of a handler that blocks, while its process lives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

import pytest

from primacron import Primacron, Reach
from primacron.cluster.loop_watchdog import COVERED_FOR
from tests.cluster.fleet import Fleet, cluster_of, until
from tests.cluster.nodes import NodeProcess, node_process
from tests.support.engine import Events
from tests.support.hearing import DEADLINE

BACKENDS = ("redis", "redis-cluster")

LEASE: Final = 2.0
#: Seconds that what is sent may take where nobody has to be waited for, and by which a slow machine may be late.
SOON: Final = 1.0
SLACK: Final = 2.0


@pytest.fixture
def place(backend: str, request: pytest.FixtureRequest) -> dict[str, Any]:
    """Where the Redis of a server in a process of its own is."""
    if backend == "redis":
        return {"url": request.getfixturevalue("redis_process").url}
    return {"cluster": [node.port for node in request.getfixturevalue("cluster_processes")]}


@pytest.fixture
async def pair(fleet: Fleet, place: dict[str, Any]) -> AsyncIterator[tuple[Primacron, NodeProcess, Events]]:
    """One server here, another one in a process of its own, and a client there."""
    async with node_process(place, namespace=fleet.namespace, lease=LEASE) as process:
        client = await process.client.connect("account=far")
        (near,) = await fleet.started(1, lease=LEASE, receipt_timeout=0.5)
        async with asyncio.timeout(DEADLINE):
            while await near.everyone.emit("ready") != Reach(2, 1):
                await asyncio.sleep(0.05)
        await client.emit("tell", "far", "far", 1)
        yield near, process, client


async def received(client: Events, event: str) -> Any:
    """Return the arguments of the next event of a name."""
    async with asyncio.timeout(DEADLINE):
        while True:
            message = await client.receive()
            if message.get("event") == event:
                return message["args"]


async def test_a_server_that_is_late_keeps_its_lease_and_its_sessions(
    pair: tuple[Primacron, NodeProcess, Events],
) -> None:
    near, process, client = pair
    far = (await process.state())["node"]
    fallen: list[object] = []
    cluster_of(near).on_fallen.append(fallen.extend)
    await client.emit("block", LEASE * 2.5)
    await received(client, "blocking")
    loop = asyncio.get_running_loop()
    began = loop.time()
    await until(lambda: far in cluster_of(near).stuck(), "it says that it is stuck", LEASE)
    while loop.time() - began < LEASE * 2:
        assert far in cluster_of(near).others()
        assert (await near.find("far", "far")) is not None
        receipt = await near.session("far", "far").emit("told", 7)
        assert (receipt.status, receipt.certain) == ("timed_out", False)
        sent_at = loop.time()
        reach = await near.everyone.emit("late")
        assert (reach, loop.time() - sent_at < SOON) == (Reach(1, 0, certain=False, missing=1), True)
    await received(client, "late")  # what was sent meanwhile was only late
    await until(lambda: not cluster_of(near).stuck(), "it says that it is not stuck any more", LEASE + SLACK)
    assert not fallen
    async with asyncio.timeout(DEADLINE):
        while await near.everyone.emit("again") != Reach(2, 1):
            await asyncio.sleep(0.05)
    await received(client, "again")
    state = await process.state()
    assert (state["node"], state["sessions"], state["ended"]) == (far, 1, [])


async def test_a_server_that_hangs_for_good_is_out_of_every_answer(
    pair: tuple[Primacron, NodeProcess, Events],
) -> None:
    near, process, client = pair
    await client.emit("block", 1000.0)
    await received(client, "blocking")
    await until(lambda: not cluster_of(near).others(), "the end of its lease", COVERED_FOR * LEASE + SLACK)
    await until(lambda: cluster_of(near).is_settled(5.0), "nothing else has happened")
    assert (await near.session("far", "far").emit("told", 7)).status == "node_gone"
    assert await near.everyone.emit("x") == Reach(1, 0)
    assert await near.find("far", "far") is None
    process.kill()
