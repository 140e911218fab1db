"""Sessions in the registry: they come, end, are claimed by another server, and go with a server that dies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from primacron import BackendUnavailable, Primacron, Receipt, SessionUnreachable
from primacron.entries import Entry
from primacron.features.follow import Follows
from primacron.ids import AccountId, NodeId, SessionId, Sid
from primacron.testing import Client, ClientRefused
from primacron.times import Times
from tests.cluster.fleet import Fleet, cluster_of, local, until
from tests.support.hearing import Hearing
from tests.support.redis import RedisProcess

BACKENDS = ("memory", "redis", "redis-cluster")

ANN = AccountId("ann")
FAR = SessionId("far")


async def found_at(server: Primacron, account: str, session: str) -> NodeId | None:
    """Return the node at which a server finds a session."""
    info = await server.find(account, session)
    return None if info is None else info.node


async def die(server: Primacron) -> None:
    """Let a server stop doing anything for its place in the cluster, as one that was killed does."""
    cluster = cluster_of(server)
    assert cluster._running is not None
    cluster._running.cancel()
    await cluster.bus.leave()


async def claim(fleet: Fleet, server: Primacron) -> Client | None:
    """Connect, or be told that somebody else has, or that this is not known for the moment."""
    try:
        return await fleet.join(server, ANN, FAR)
    except ClientRefused as refused:
        if refused.status not in (409, 503):
            raise
        return None


async def find_until(server: Primacron, wanted: NodeId | None) -> None:
    """Look for a session until it is found at a node."""
    async with asyncio.timeout(10):
        while await found_at(server, ANN, FAR) != wanted:
            await asyncio.sleep(0.01)


# An orderly end


async def test_a_session_that_ends_is_gone_for_all_at_once(fleet: Fleet) -> None:
    near, far = await fleet.started(2)
    client = await fleet.join(far, ANN, FAR)
    assert await found_at(near, ANN, FAR) == far.node.id
    await client.close()
    await find_until(near, None)
    assert await near.account(ANN).sessions() == []


async def test_a_server_that_ends_leaves_nobody_behind(fleet: Fleet) -> None:
    near, far = await fleet.started(2)
    for number in range(20):
        await fleet.join(far, f"account {number % 3}", f"s{number}")
    assert len(await near.everyone.sessions()) == 20
    await far.destroy()
    for number in range(20):
        assert await found_at(near, f"account {number % 3}", f"s{number}") is None
    assert await near.session("account 0", "s0").emit("x") == Receipt("unknown_session")
    assert await near.everyone.sessions() == []


async def test_no_session_is_left_in_redis_after_an_orderly_end(fleet: Fleet) -> None:
    near, far = await fleet.started(2)
    clients = [await fleet.join(far, "ann", f"s{number}") for number in range(5)]
    await far.pipe(local(far, "ann", "s0"), "ann", "s1")
    await clients[0].close()
    await far.destroy()
    await near.destroy()
    kept = [key.removeprefix(f"{fleet.namespace}:") for key in fleet.stored()]
    assert [key for key in kept if not key.startswith(("epoch:", "{nodes}:keys", "{nodes}:attended"))] == []
    if fleet.primaries:
        assert len([key for key in kept if key == "{nodes}:keys"]) == 1


async def test_what_was_being_written_when_a_server_ended_is_removed(fleet: Fleet) -> None:
    near, far = await fleet.started(2)
    registry = cluster_of(far).registry
    entry = Entry(FAR, far.node.id, 1, Sid("late"))
    await registry.restore([(ANN, entry)])
    assert await found_at(near, ANN, FAR) == far.node.id
    await far.destroy()
    assert await cluster_of(near).registry.find(ANN, [FAR]) == [None]
    assert await cluster_of(near).registry.indexed(entry.node, 0) == (0, [])


@pytest.mark.parametrize("backend", ["redis", "redis-cluster"])
async def test_what_sessions_have_in_redis_is_documented(fleet: Fleet) -> None:
    near, far = await fleet.started(2)
    await fleet.join(far, "a:{b", "s 1")
    await fleet.join(near, "follower", "f")

    @near.authorize_pipe
    def allow(*_: Any) -> bool:
        return True

    assert (await near.pipe(local(near, "follower", "f"), "a:{b", "s 1")).ok
    kept = {key.removeprefix(f"{fleet.namespace}:") for key in fleet.stored()}
    assert {key for key in kept if not key.startswith("epoch:")} == {
        "{nodes}:leases",
        "{nodes}:keys",
        "{nodes}:attended",
        "account:{a%3A%7Bb}",
        "account:{follower}",
        "set:{a%3A%7Bb}:s%201:follow",
        f"index:{{{near.node.id}}}",
        f"index:{{{far.node.id}}}",
    }
    assert len([key for key in kept if key.startswith("epoch:")]) == len(fleet.primaries)


# A server that dies


async def test_sessions_of_a_dead_server_are_gone_when_its_lease_ends(fleet: Fleet) -> None:
    near, far = await fleet.started(2, lease=1.5)
    await fleet.join(far, ANN, FAR)
    assert (await near.session(ANN, FAR).emit("x")).ok
    died_at = asyncio.get_running_loop().time()
    await die(far)
    assert await near.session(ANN, FAR).emit("x") == Receipt("unsent", certain=True)
    await find_until(near, None)
    assert asyncio.get_running_loop().time() - died_at < 5
    assert await near.session(ANN, FAR).emit("x") == Receipt("node_gone", certain=True)
    assert await near.account(ANN).sessions() == []
    assert (await near.everyone.emit("x")).sessions == 0


@pytest.mark.parametrize("backend", ["memory"])
async def test_a_lease_is_kept_whatever_goes_wrong_meanwhile(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    near, far = await fleet.started(2, lease=2.0)
    failures = Hearing(far, "error::handler")
    membership, before = cluster_of(far)._membership, cluster_of(far)._membership.leases
    with monkeypatch.context() as patch:
        patch.setattr(membership, "leases", None)
        error, _ = await failures.next()
        assert isinstance(error, AttributeError)
    assert membership.leases is before
    await fleet.join(far, ANN, FAR)
    renewed = membership._renewed_at
    await until(lambda: membership._renewed_at > renewed, "the lease to be renewed again")
    assert await found_at(near, ANN, FAR) == far.node.id


async def test_whoever_waits_for_a_dead_server_is_told_when_its_lease_ends(fleet: Fleet) -> None:
    near, far = await fleet.started(2, lease=1.5, receipt_timeout=60)
    client = await fleet.join(far, ANN, FAR)
    call = asyncio.create_task(near.session(ANN, FAR).call("ask", timeout=60))
    await client.receive()
    cluster_of(far)._handlers.clear()  # it hears, and does nothing any more
    receipt = near.session(ANN, FAR).emit("x", receipt=True)
    renewing = cluster_of(far)._running
    assert renewing is not None
    renewing.cancel()
    async with asyncio.timeout(10):
        assert await receipt == Receipt("node_gone", certain=False)
        with pytest.raises(SessionUnreachable, match="node_gone"):
            await call
    assert await near.session(ANN, FAR).emit("x") == Receipt("node_gone", certain=True)


async def test_a_dead_servers_entries_are_swept_a_minute_later(fleet: Fleet) -> None:
    near, far = await fleet.started(2, lease=1.0, times=Times(sweep=0.05, swept=0.2))
    for number in range(30):
        await fleet.join(far, f"account {number % 4}", f"s{number}")
    survivor = await fleet.join(near, "account 0", "survivor")
    gone = far.node.id
    await die(far)
    registry = cluster_of(near).registry
    async with asyncio.timeout(10):
        while [
            entry for number in range(4) for entry in (await registry.sessions(AccountId(f"account {number}")))[0]
        ] != [local(near, "account 0", "survivor").entry]:
            await asyncio.sleep(0.02)
        while cluster_of(near).knows(gone):
            await asyncio.sleep(0.02)
    assert await registry.indexed(gone, 0) == (0, [])
    assert await near.session("account 1", "s1").emit("x") == Receipt("unknown_session")
    assert (await near.session("account 0", "survivor").emit("x")).ok
    assert (await survivor.receive()).event == "x"


async def test_a_session_claimed_elsewhere_survives_the_sweep_of_the_dead_server(fleet: Fleet) -> None:
    near, far = await fleet.started(2, lease=1.0, times=Times(sweep=0.05, swept=0.2))
    await fleet.join(far, ANN, FAR)
    await fleet.join(far, ANN, "other")
    gone = far.node.id
    await die(far)
    await fleet.join(near, ANN, FAR)
    await until(lambda: not cluster_of(near).knows(gone), "the sweep")
    entries, _ = await cluster_of(near).registry.sessions(ANN)
    assert [entry.id for entry in entries] == [FAR]
    assert await found_at(near, ANN, FAR) == near.node.id


# Two connections of one session


async def test_a_session_replaces_that_of_another_server(fleet: Fleet) -> None:
    near, far, third = await fleet.started(3)
    ended = Hearing(far, "disconnection")
    old = await fleet.join(far, ANN, FAR)
    session = local(far, ANN, FAR)
    new = await fleet.join(near, ANN, FAR)
    assert await old.closed() == "replaced"
    assert await ended.next() == (session, "replaced")
    for server in (near, far, third):
        assert await found_at(server, ANN, FAR) == near.node.id
        assert (await server.session(ANN, FAR).emit("x")).ok
        assert (await new.receive()).event == "x"
    assert far.count() == 0
    assert ended.is_empty


async def test_the_end_of_a_replaced_session_leaves_the_newer_one(fleet: Fleet) -> None:
    near, far = await fleet.started(2)
    for number in range(10):
        server = (near, far)[number % 2]
        client = await fleet.join(server, ANN, FAR)
        for each in (near, far):
            await find_until(each, server.node.id)
    await until(lambda: near.count() + far.count() == 1, "the end of those replaced")
    assert await found_at(near, ANN, FAR) == far.node.id
    await client.close()
    await find_until(near, None)


async def test_same_session_refuse_turns_the_second_one_away_on_every_server(fleet: Fleet) -> None:
    near, far = await fleet.started(2, same_session="refuse")
    first = await fleet.join(far, ANN, FAR)
    for server in (near, far):
        with pytest.raises(ClientRefused) as refused:
            await fleet.join(server, ANN, FAR)
        assert refused.value.status == 409
    assert (await near.session(ANN, FAR).emit("x")).ok
    assert (await first.receive()).event == "x"
    await first.close()
    await find_until(near, None)
    await fleet.join(near, ANN, FAR)
    assert await found_at(far, ANN, FAR) == near.node.id


async def test_a_session_of_a_dead_server_can_be_taken_in_spite_of_refuse(fleet: Fleet) -> None:
    near, far = await fleet.started(2, same_session="refuse", lease=1.0)
    await fleet.join(far, ANN, FAR)
    await fleet.join(near, ANN, "follower")
    await near.pipe(local(near, ANN, "follower"), ANN, FAR)
    await die(far)
    async with asyncio.timeout(10):
        while await claim(fleet, near) is None:
            await asyncio.sleep(0.02)
    assert await found_at(near, ANN, FAR) == near.node.id
    assert list(local(near, ANN, FAR).demand(Follows).followers) == [(ANN, "follower")]


@pytest.mark.parametrize("same_session", ["replace", "refuse"])
async def test_of_connections_that_race_for_a_session_exactly_one_wins(fleet: Fleet, same_session: str) -> None:
    servers = await fleet.started(3, same_session=same_session)
    ended = [Hearing(server, "disconnection") for server in servers]
    opened = [Hearing(server, "connection") for server in servers]
    for _ in range(10):
        clients = await asyncio.gather(*(claim(fleet, server) for server in servers for _ in range(2)))
        await until(lambda: sum(server.count() for server in servers) == 1, "the end of the losers")
        (winner,) = [server for server in servers if server.count()]
        for server in servers:
            assert await found_at(server, ANN, FAR) == winner.node.id
            assert (await server.session(ANN, FAR).emit("won")).ok
        sid = local(winner, ANN, FAR).entry.sid
        (client,) = [each for each in clients if each is not None and each.opened["sid"] == sid]
        assert [(await client.receive()).event for _ in servers] == ["won"] * 3
        for other in clients:
            if other is not None and other is not client:
                assert await other.closed() == "replaced"
        await client.close()
        await find_until(servers[0], None)
    for hears_end, hears_start in zip(ended, opened, strict=True):
        assert hears_end.heard.qsize() == hears_start.heard.qsize()


async def test_sends_that_come_to_the_old_server_of_a_replaced_session_are_passed_on(fleet: Fleet) -> None:
    near, far, third = await fleet.started(3)
    await fleet.join(far, ANN, FAR)
    target, locations = near.session(ANN, FAR), cluster_of(near).locations
    assert (await target.emit("x")).ok
    remembered = locations.get((ANN, FAR), asyncio.get_running_loop().time())
    new = await fleet.join(third, ANN, FAR)
    await until(lambda: not far.count(), "the end of the old one")
    assert remembered is not None
    locations.put((ANN, FAR), remembered, asyncio.get_running_loop().time())
    sends = [target.emit("y", number) for number in range(20)]
    assert await asyncio.gather(*sends) == [Receipt("accepted")] * 20
    assert [(await new.receive()).args for _ in range(20)] == [(number,) for number in range(20)]
    await until(
        lambda: locations.get((ANN, FAR), asyncio.get_running_loop().time()) != remembered, "word of the new place"
    )


async def test_a_claim_that_was_replaced_before_its_connection_opened_is_refused(fleet: Fleet) -> None:
    near, far = await fleet.started(2)
    registry, admissions = cluster_of(far).registry, far.node.admissions
    claim = registry.claim
    later: list[Client] = []

    async def claim_and_wait(*args: Any, **keywords: Any) -> Any:
        claimed = await claim(*args, **keywords)
        later.append(await fleet.join(near, ANN, FAR))
        name = (ANN, FAR)
        await until(lambda: cluster_of(far).tombstones.get(name, 0.0) is not None, "word of the newer claim")
        return claimed

    registry.claim = claim_and_wait  # type: ignore[method-assign]
    with pytest.raises(ClientRefused) as refused:
        await fleet.join(far, ANN, FAR)
    assert refused.value.status == 409
    assert not admissions.pending
    assert far.count() == 0
    assert await found_at(far, ANN, FAR) == near.node.id
    assert (await far.session(ANN, FAR).emit("x")).ok
    assert (await later[0].receive()).event == "x"


@pytest.mark.parametrize("backend", ["memory"])
async def test_a_server_that_turned_its_only_client_away_hears_no_longer_what_is_sent_to_all(fleet: Fleet) -> None:
    near, far = await fleet.started(2, same_session="refuse", times=Times(attend=0.5))
    await fleet.join(far, ANN, FAR)
    with pytest.raises(ClientRefused):
        await fleet.join(near, ANN, FAR)
    assert cluster_of(near).bus.attends
    await until(lambda: not cluster_of(near).bus.attends, "the server to stop")
    assert cluster_of(far).bus.attends


# What the registry lost, or has too much of


@pytest.fixture
def own_redis() -> Iterator[RedisProcess]:
    """A Redis that may be emptied."""
    with RedisProcess() as process:
        yield process


@pytest.fixture
async def own_fleet(own_redis: RedisProcess, namespace: str) -> AsyncIterator[Fleet]:
    """Servers on a Redis of their own."""
    async with Fleet(lambda: own_redis.url, namespace, [own_redis]) as fleet:
        yield fleet


async def test_everything_is_written_again_when_redis_was_emptied(own_fleet: Fleet, own_redis: RedisProcess) -> None:
    near, far = await own_fleet.started(2)
    for number in range(50):
        await own_fleet.join((near, far)[number % 2], f"account {number % 7}", f"s{number}")
    own_redis.command("FLUSHALL")
    loop = asyncio.get_running_loop()
    emptied_at = loop.time()
    with pytest.raises(BackendUnavailable, match="may not know all"):
        await near.account("account 0").sessions()
    registry = cluster_of(near).registry
    while (
        len([entry for name in ("account 0", "account 1") for entry in (await registry.sessions(AccountId(name)))[0]])
        < 8 + 7
    ):
        assert loop.time() - emptied_at < 3
        await asyncio.sleep(0.01)
    for number in range(50):
        server = (near, far)[(number + 1) % 2]
        assert (await server.session(f"account {number % 7}", f"s{number}").emit("x")).ok
    # Nobody is called unknown right after, since not everything may be there again.
    assert await near.session("nobody", "nobody").emit("x") == Receipt("unsent", certain=True)
    await own_fleet.meet()
    assert await near.session("nobody", "nobody").emit("x") == Receipt("unknown_session")


async def test_an_entry_that_got_lost_is_written_again(fleet: Fleet) -> None:
    near, far = await fleet.started(2)
    clients = [await fleet.join(far, ANN, f"s{number}") for number in range(10)]
    registry = cluster_of(near).registry
    await registry.drop(far.node.id, [(ANN, SessionId("s3")), (ANN, SessionId("s7"))])
    assert await found_at(near, ANN, "s3") is None
    async with asyncio.timeout(10):
        while len(await near.account(ANN).sessions()) < 10:
            await asyncio.sleep(0.01)
    assert (await near.session(ANN, "s3").emit("x")).ok
    assert (await clients[3].receive()).event == "x"


async def test_entries_that_nobody_has_any_more_are_removed(fleet: Fleet) -> None:
    near, far = await fleet.started(2)
    await fleet.join(far, ANN, FAR)
    registry = cluster_of(far).registry
    ghosts = [(AccountId(f"ghost {number}"), SessionId("g")) for number in range(600)]
    entries = [(account, Entry(session, far.node.id, 1, Sid("none"))) for account, session in ghosts]
    await registry.restore(entries)
    assert await found_at(near, "ghost 7", "g") == far.node.id
    cluster_of(far)._membership._surplus_at = 0.0
    async with asyncio.timeout(10):
        while any([(await registry.sessions(account))[0] for account, _ in ghosts[::50]]):
            await asyncio.sleep(0.02)
    assert await found_at(near, ANN, FAR) == far.node.id


async def test_a_copy_that_another_server_has_claimed_is_closed_when_the_registry_tells(fleet: Fleet) -> None:
    near, far = await fleet.started(2)
    client = await fleet.join(far, ANN, FAR)
    entry = local(far, ANN, FAR).entry
    other = Entry(FAR, near.node.id, entry.generation + 5, Sid("another"))
    await cluster_of(near).registry.swap(ANN, entry, other)
    cluster_of(far)._membership._missing.set()
    assert await client.closed() == "replaced"
    assert far.count() == 0


# What idle connections cost


@pytest.mark.parametrize("backend", ["redis"])
async def test_idle_connections_cost_redis_nothing(fleet: Fleet) -> None:
    near, far = await fleet.started(2)

    def calls() -> int:
        """Return how often the servers have asked for anything."""
        total = 0
        for primary in fleet.primaries:
            for line in primary.command("INFO", "commandstats").splitlines():
                if not line.startswith(("cmdstat_info:", "cmdstat_replconf:", "cmdstat_ping:", "cmdstat_client|")):
                    total += int(line.partition("calls=")[2].partition(",")[0] or 0)
        return total

    async def in_three_seconds() -> int:
        before = calls()
        await asyncio.sleep(3)
        return calls() - before

    idle = await in_three_seconds()
    for number in range(50):
        await fleet.join((near, far)[number % 2], "ann", f"s{number}")
    crowded = await in_three_seconds()
    assert crowded < idle + 50, "less than one for each connection, in three seconds"


async def test_the_first_session_of_a_server_disturbs_nobody(fleet: Fleet) -> None:
    near, far = await fleet.started(2)
    troubles = [Hearing(server, "error::*") for server in (near, far)]
    await fleet.join(near, ANN, "near")
    await fleet.join(far, ANN, FAR)
    for server in (near, far):
        await cluster_of(server).meet()
        assert (await server.everyone.emit("x")).sessions == 2
        assert server.unready() == []
    assert all(trouble.is_empty for trouble in troubles)
