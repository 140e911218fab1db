"""Redis' clock is set while servers run: nobody who lives counts as dead, and nobody who is dead as living."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Final

import pytest

from primacron import Reach, Receipt
from primacron.cluster.leases import MAX_STEP, BackendClock
from tests.cluster.fleet import Fleet, cluster_of, until
from tests.cluster.nodes import node_process
from tests.support.hearing import DEADLINE
from tests.support.redis import RedisProcess

#: Seconds after which a server that died is out of every answer.
GONE_WITHIN: Final = 5.0
SLACK: Final = 1.5


@pytest.fixture
def clocked() -> Iterator[RedisProcess]:
    """A Redis whose clock the test sets."""
    with RedisProcess.with_clock() as redis:
        yield redis


@pytest.fixture
async def clocked_fleet(clocked: RedisProcess, namespace: str, anyio_backend: object) -> AsyncIterator[Fleet]:
    """Servers on it."""
    async with Fleet(lambda: clocked.url, namespace, [clocked]) as fleet:
        yield fleet


@pytest.mark.parametrize("ahead", [5.0, -5.0, 3600.0, -3600.0])
async def test_living_servers_stay_in_every_answer_when_the_clock_is_set(
    clocked_fleet: Fleet, clocked: RedisProcess, ahead: float
) -> None:
    near, far = await clocked_fleet.started(2)
    fallen: list[object] = []
    cluster_of(near).on_fallen.append(fallen.extend)
    await clocked_fleet.join(far, "ann", "far")
    owner = await (await clocked_fleet.serve(far)).poll_in("account=poller")
    through = await clocked_fleet.serve(near)
    poll = asyncio.create_task(through.fetch("GET", f"/stream/?EIO=4&transport=polling&sid={owner.sid}"))
    assert await near.session("ann", "far").emit("x") == Receipt("accepted")
    clocked.set_clock(ahead)
    began = asyncio.get_running_loop().time()
    while asyncio.get_running_loop().time() - began < 3.0:
        assert await near.session("ann", "far").emit("x") == Receipt("accepted")
        for reach in (await near.everyone.emit("x"), await near.account("ann").emit("x")):
            assert reach.sessions >= 1, reach
            assert not reach.missing, reach
        assert far.node.id in cluster_of(near).others()
        await asyncio.sleep(0.05)
    assert not fallen
    assert cluster_of(near).came_back_within(5.0)  # as after an outage: nothing is called gone for a while
    assert poll.done(), "it carried what was sent to all"
    assert poll.result().status == 200
    assert not near.unready()


@pytest.mark.parametrize("ahead", [5.0, -5.0, -3600.0])
async def test_a_server_that_dies_when_the_clock_is_set_does_not_live_on(
    clocked_fleet: Fleet, clocked: RedisProcess, ahead: float
) -> None:
    async with node_process({"url": clocked.url}, namespace=clocked_fleet.namespace) as process:
        await process.ask("/crowd", name="far", count="1")
        (near,) = await clocked_fleet.started(1)
        async with asyncio.timeout(DEADLINE):
            while await near.everyone.emit("x") != Reach(2, 1):
                await asyncio.sleep(0.05)
        process.kill()
        clocked.set_clock(ahead)
        await until(lambda: not cluster_of(near).others(), "the end of its lease", GONE_WITHIN + SLACK)
        assert (await near.session("far-0", "far-0").emit("x")).status in ("unsent", "node_gone")


# What is a jump


def test_a_clock_that_goes_as_ours_does_has_not_jumped() -> None:
    clock = BackendClock()
    assert not any(clock.has_jumped(1000.0 + now, now, now + 0.2) for now in (0.0, 1.0, 2.0, 50.0))


@pytest.mark.parametrize("step", [MAX_STEP + 0.25, -MAX_STEP - 0.25, 5.0, -5.0])
def test_a_step_is_seen_once(step: float) -> None:
    clock = BackendClock()
    assert not clock.has_jumped(1000.0, 0.0, 0.1)
    assert clock.has_jumped(1001.0 + step, 1.0, 1.1)
    assert not clock.has_jumped(1002.0 + step, 2.0, 2.1)


def test_a_small_step_is_none() -> None:
    clock = BackendClock()
    assert not clock.has_jumped(1000.0, 0.0, 0.1)
    assert not clock.has_jumped(1001.4, 1.0, 1.1)


@pytest.mark.parametrize("step", [5.0, -5.0])
def test_a_reading_that_took_long_hides_no_step(step: float) -> None:
    clock = BackendClock()
    assert not clock.has_jumped(1000.0, 0.0, 0.1)
    assert not clock.has_jumped(1012.0, 1.0, 12.0)  # this process was late, and so is the answer
    assert clock.has_jumped(1013.0 + step, 13.0, 13.1)
