"""Requests for connections that nobody has, and for those that cannot be reached now."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from primacron.times import Times
from tests.cluster.fleet import Fleet, cluster_of, forwarder_of, until
from tests.cluster.fronts import CODE_1, Fronts, messages, refused_with_code_1
from tests.support.engine import Polling
from tests.support.hearing import Hearing
from tests.support.redis import RedisProcess

BACKENDS = ("memory", "redis")

Front = Callable[..., Awaitable[Fronts]]


@pytest.fixture
def front(fleet: Fleet) -> Front:
    return lambda count=3, **options: Fronts.start(fleet, count, **options)


# Connections that nobody has


def forged(sid: str) -> list[str]:
    """Return sids that no server has issued."""
    changed = [sid[:at] + ("B" if sid[at] == "A" else "A") + sid[at + 1 :] for at in (0, 10, len(sid) - 1)]
    return ["nobody", "", "x" * 30, *changed, sid[:-1], sid + "A", "A" * 7_000]


@pytest.mark.parametrize("backend", ["memory"])
async def test_forged_sids_are_refused_without_asking_anybody(front: Front, fleet: Fleet) -> None:
    fronts = await front(2)
    polling = await fronts.handshake()
    fleet.given().away = True
    for sid in forged(polling.sid):
        await refused_with_code_1(Polling(fronts.clients[1], {"sid": sid}, 4))


@pytest.mark.parametrize("backend", ["redis", "redis-cluster", "redis-sentinel"])
async def test_forged_sids_cost_redis_nothing(front: Front, fleet: Fleet) -> None:
    fronts = await front(2)
    polling = await fronts.handshake()

    def lookups() -> list[str]:
        lines = [line for each in fleet.primaries for line in each.command("INFO", "commandstats").splitlines()]
        return [line.partition(",")[0] for line in lines if line.startswith("cmdstat_get:")]

    before = lookups()
    for sid in forged(polling.sid):
        await refused_with_code_1(Polling(fronts.clients[1], {"sid": sid}, 4))
    assert lookups() == before


async def test_connections_that_have_ended_are_unknown_through_any_server(front: Front) -> None:
    fronts = await front()
    polling = await fronts.handshake()
    await polling.post("1")
    for number in range(3):
        await refused_with_code_1(fronts.via(polling, number))


async def test_connections_of_a_server_that_has_ended_are_unknown(front: Front) -> None:
    fronts = await front(2)
    polling = await fronts.handshake()
    poll = await fronts.poll(fronts.via(polling, 1))
    await fronts.owner.destroy()
    assert (await poll).text == "1"
    await refused_with_code_1(fronts.via(polling, 1))


async def test_a_held_poll_of_a_server_that_died_is_unknown_when_its_lease_ends(front: Front) -> None:
    fronts = await front(2, lease=1.0)
    polling = await fronts.handshake()
    poll = await fronts.poll(fronts.via(polling, 1))
    cluster = cluster_of(fronts.owner)
    assert cluster._running is not None
    cluster._running.cancel()
    response = await poll
    assert (response.status, response.json()) == (400, CODE_1)
    await refused_with_code_1(fronts.via(polling, 1))


# Without the link


@pytest.mark.parametrize("backend", ["memory"])
async def test_requests_wait_for_the_link_and_are_answered_once_it_is_back(front: Front, fleet: Fleet) -> None:
    fronts = await front(2, times=Times(forward_again=0.3))
    held, other = await fronts.handshake(), await fronts.handshake("account=bob&session=b")
    poll = await fronts.poll(fronts.via(held, 1))
    fleet.given().away = True
    post = asyncio.create_task(fronts.via(held, 1).emit("echo", 1))
    late_poll = asyncio.create_task(fronts.via(other, 1).poll())
    forwarded = forwarder_of(fronts.servers[1])
    await until(lambda: len(forwarded._forwarded) == 3, "all three requests")
    fronts.owner.session("bob", "b").emit("meanwhile")
    await asyncio.sleep(0.05)
    assert not any(task.done() for task in (poll, post, late_poll))
    fleet.given().away = False
    assert (await post).text == "ok"
    assert messages(await poll) == [{"event": "echo", "args": [1]}]
    assert messages(await late_poll) == [{"event": "meanwhile", "args": []}]
    assert fronts.echoed == [1]


@pytest.mark.parametrize(("takes_away", "brings_back"), [("freeze", "thaw"), ("kill", "start")])
async def test_requests_wait_while_redis_is_away(namespace: str, takes_away: str, brings_back: str) -> None:
    with RedisProcess() as process:
        async with Fleet(lambda: process.url, namespace, [process]) as fleet:
            servers = await fleet.started(2, redis_timeout=0.3, lease=8, times=Times(forward_again=0.3))
            fronts = Fronts(servers, [await fleet.serve(server) for server in servers])
            back = [Hearing(server, "error::bus") for server in servers]
            polling = await fronts.handshake()
            getattr(process, takes_away)()
            for hearing in back:
                await hearing.next()
            poll = asyncio.create_task(fronts.via(polling, 1).poll())
            fronts.owner.session("ann", "a").emit("meanwhile")
            await until(lambda: len(forwarder_of(fronts.servers[1])._forwarded) == 1, "the request")
            await asyncio.to_thread(getattr(process, brings_back))
            assert messages(await poll) == [{"event": "meanwhile", "args": []}]


@pytest.mark.parametrize("backend", ["memory"])
async def test_requests_that_waited_for_the_link_too_long_are_503(front: Front, fleet: Fleet) -> None:
    fronts = await front(2, ping_timeout=0.3, times=Times(forward_again=0.1))
    polling = await fronts.handshake()
    fleet.given().away = True
    for response in await asyncio.gather(fronts.via(polling, 1).poll(), fronts.via(polling, 1).emit("echo", 1)):
        assert response.status == 503
        assert response.json()["code"] == 3
    assert fronts.echoed == []
