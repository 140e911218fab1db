"""One session has one owner, however many clients want it at once, and whatever the registry goes through."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from primacron import HttpRequest, Primacron
from primacron.ids import AccountId
from tests.cluster.contest import ACCOUNT, ID, Contest
from tests.cluster.fleet import Fleet, cluster_of, until
from tests.support.proxy import RedisProxy
from tests.support.redis import RedisProcess, in_thread

BACKENDS = ("redis",)

#: Seconds for which clients take the session from each other.
CONTESTED_FOR = 2.0

Begin = Callable[..., Awaitable[Contest]]


@pytest.fixture
async def begin(namespace: str, anyio_backend: object) -> AsyncIterator[Begin]:
    with RedisProcess() as redis:
        async with Fleet(lambda: redis.url, namespace, [redis]) as fleet:

            async def begin(count: int = 3, **options: Any) -> Contest:
                servers = await fleet.started(count, **options)
                return Contest(fleet, servers, [await fleet.serve(server) for server in servers])

            yield begin


async def test_of_clients_that_take_a_session_from_each_other_one_has_it_at_the_end(begin: Begin) -> None:
    contest = await begin()
    await contest.run(CONTESTED_FOR)
    await contest.has_one_owner()
    assert len(contest.sockets) > 50


async def test_one_has_it_at_the_end_when_the_registry_is_emptied_meanwhile(begin: Begin) -> None:
    contest = await begin()
    running = asyncio.create_task(contest.run(CONTESTED_FOR))
    for _ in range(4):
        await asyncio.sleep(CONTESTED_FOR / 5)
        await in_thread(contest.redis.command, "FLUSHALL")
    await running
    await contest.has_one_owner()


async def test_one_has_it_at_the_end_when_the_registry_is_away_meanwhile(begin: Begin) -> None:
    contest = await begin(redis_timeout=0.5)
    running = asyncio.create_task(contest.run(2 * CONTESTED_FOR))
    for take, give in ((contest.redis.freeze, contest.redis.thaw), (contest.redis.kill, contest.redis.start)):
        await asyncio.sleep(CONTESTED_FOR / 4)
        await in_thread(take)
        await asyncio.sleep(CONTESTED_FOR / 2)
        await in_thread(give)
    await running
    await contest.has_one_owner()


async def test_one_has_it_at_the_end_on_a_server_that_is_alone(namespace: str, anyio_backend: object) -> None:
    async with Fleet(lambda: None, namespace, []) as fleet:
        server = fleet.new()

        @server.authorize
        async def authorize(request: HttpRequest) -> bool:
            await asyncio.sleep(0)
            return True

        async with server:
            contest = Contest(fleet, [server], [await fleet.serve(server)])
            await contest.run(CONTESTED_FOR)
            await contest.has_one_owner()


# A server whose lease the other one has not read

#: Seconds of leases that nobody renews or reads again during a test.
LONG = 120.0


@pytest.fixture
async def strangers(begin: Begin) -> AsyncIterator[Begin]:
    """Start two servers of which the first one has not read the lease of the second."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(**options: Any) -> Contest:
            contest = await begin(1, lease=LONG, **options)
            second = contest.fleet.new(lease=LONG, **options)
            stack.push_async_callback(second.destroy)
            contest.add(second, await contest.fleet.serve(second))
            cluster_of(second)._membership.up_since -= LONG
            assert not cluster_of(contest.servers[0]).knows(second.node.id)
            return contest

        yield start


@pytest.fixture
async def emptied(begin: Begin) -> Begin:
    """Start two servers of which the second has a session, and lose all that they have written."""

    async def start(**options: Any) -> Contest:
        contest = await begin(2, lease=LONG, **options)
        assert (await contest.connect(contest.fronts[1])).response.status == 101
        await in_thread(contest.redis.command, "FLUSHALL")
        return contest

    return start


async def write_again(contest: Contest) -> None:
    """Let the first server read the leases before the second has written its own again, which then writes all."""
    first, second = map(cluster_of, contest.servers)
    await first.meet()
    membership = first._membership
    await until(lambda: membership.complete == membership._epochs and not membership._wakes.is_set(), "the first")
    await second.meet()
    async with asyncio.timeout(10):
        while not (await second.registry.sessions(AccountId(ACCOUNT)))[0]:
            await asyncio.sleep(0.01)


async def test_a_session_of_a_server_whose_lease_was_not_read_yet_is_replaced(strangers: Begin) -> None:
    contest = await strangers()
    for front in reversed(contest.fronts):
        assert (await contest.connect(front)).response.status == 101
    assert (await contest.has_one_owner()).entry.node == contest.servers[0].node.id


async def test_a_session_of_a_server_whose_lease_was_lost_is_replaced(emptied: Begin) -> None:
    contest = await emptied()
    await write_again(contest)
    assert (await contest.connect(contest.fronts[0])).response.status == 101
    assert (await contest.has_one_owner()).entry.node == contest.servers[0].node.id


async def test_a_session_whose_entry_was_lost_is_replaced_once_its_server_writes_it_again(emptied: Begin) -> None:
    contest = await emptied()
    assert (await contest.connect(contest.fronts[0])).response.status == 101
    await cluster_of(contest.servers[1]).meet()
    assert (await contest.has_one_owner()).entry.node == contest.servers[0].node.id


async def is_refused(contest: Contest) -> None:
    """Check that the first server turns away who wants the session of the second one, which lives on."""
    assert (await contest.connect(contest.fronts[0])).response.status == 409
    await cluster_of(contest.servers[1]).meet()
    assert (await contest.has_one_owner()).entry.node == contest.servers[1].node.id


async def test_a_session_of_a_server_whose_lease_was_not_read_yet_is_not_given_to_another(strangers: Begin) -> None:
    contest = await strangers(same_session="refuse")
    assert (await contest.connect(contest.fronts[1])).response.status == 101
    await is_refused(contest)


async def test_a_session_of_a_server_whose_lease_was_lost_is_not_given_to_another(emptied: Begin) -> None:
    contest = await emptied(same_session="refuse")
    await write_again(contest)
    await is_refused(contest)


@pytest.mark.parametrize("reads_leases", [False, True])
async def test_a_session_whose_entry_was_lost_is_not_given_to_another(emptied: Begin, reads_leases: bool) -> None:
    contest = await emptied(same_session="refuse")
    if reads_leases:
        await cluster_of(contest.servers[0]).meet()
    await is_refused(contest)


async def test_a_session_that_nobody_has_can_be_had_right_after_the_registry_was_emptied(emptied: Begin) -> None:
    contest = await emptied(same_session="refuse")
    contest.sockets.pop().raw.abort()
    await until(lambda: contest.ended, "the end")
    contest.ended.clear()
    contest.opened.clear()
    assert (await contest.connect(contest.fronts[0])).response.status == 101
    assert (await contest.has_one_owner()).entry.node == contest.servers[0].node.id


# The registry is away, or does not answer


async def until_away(*servers: Primacron) -> None:
    await until(lambda: not any(cluster_of(server).link.is_reachable for server in servers), "the end of the link")


@pytest.mark.parametrize("order", [(0, 1), (1, 0), (0, 1, 0, 1), (1, 1, 0, 0)])
async def test_of_those_who_came_while_the_registry_was_away_the_last_one_stays(
    begin: Begin, order: tuple[int, ...]
) -> None:
    contest = await begin(2, redis_timeout=0.5)
    await in_thread(contest.redis.kill)
    await until_away(*contest.servers)
    for number in order:
        assert (await contest.connect(contest.fronts[number])).response.status == 101
        # Claims are ordered by what each server knows of Redis' clock: on a busy machine that is some milliseconds off.
        await asyncio.sleep(0.05)
    await in_thread(contest.redis.start)
    assert (await contest.has_one_owner()).entry.node == contest.servers[order[-1]].node.id


async def test_refuse_holds_on_a_server_while_the_registry_is_away(begin: Begin) -> None:
    contest = await begin(1, redis_timeout=0.5, same_session="refuse")
    await in_thread(contest.redis.kill)
    await until_away(*contest.servers)
    assert [(await contest.connect(contest.fronts[0])).response.status for _ in range(2)] == [101, 409]
    await in_thread(contest.redis.start)
    await contest.has_one_owner()


async def test_what_a_claim_replaced_is_closed_although_its_answer_was_lost(
    namespace: str, anyio_backend: object
) -> None:
    with RedisProcess() as redis:
        async with RedisProxy(redis.port) as proxy:
            urls = [proxy.url]
            async with Fleet(lambda: urls[-1], namespace, [redis]) as fleet:
                first = fleet.new(redis_timeout=0.5)
                urls.append(redis.url)
                second = fleet.new()
                await fleet.start(first, second)
                contest = Contest(fleet, [first, second], [await fleet.serve(first), await fleet.serve(second)])
                await contest.connect(contest.fronts[1])
                await cluster_of(first).attend()
                await proxy.deafen(first.node.id.encode())
                assert (await contest.connect(contest.fronts[0])).response.status == 101
                entries, _ = await cluster_of(second).registry.sessions(AccountId(ACCOUNT))
                assert [entry.node for entry in entries] == [first.node.id]
                assert (await contest.has_one_owner()).entry.node == first.node.id


async def test_a_claim_whose_client_went_away_meanwhile_leaves_nobody(begin: Begin) -> None:
    contest = await begin(2)
    await contest.connect(contest.fronts[1])
    first = contest.servers[0].node
    await cluster_of(contest.servers[0]).attend()
    contest.redis.freeze()
    raw = await contest.fronts[0].raw()
    await raw.send_request("GET", f"/stream/?EIO=4&transport=polling&account={ACCOUNT}&session={ID}")
    await until(lambda: first.admissions.being_claimed, "the claim")
    raw.abort()
    await asyncio.sleep(0.1)
    await in_thread(contest.redis.thaw)
    await until(lambda: contest.ended, "the end of the one that was replaced")
    assert [reason for _, reason in contest.ended] == ["replaced"]
    assert not contest.living
    registry = cluster_of(contest.servers[1]).registry
    async with asyncio.timeout(10):
        while (await registry.sessions(AccountId(ACCOUNT)))[0]:
            await asyncio.sleep(0.01)
    assert len(contest.opened) == 1
