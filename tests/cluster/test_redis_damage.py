"""What somebody else has written into the keys of the namespace harms nobody but whom it is about, and is told."""

from __future__ import annotations

import asyncio

import pytest

from primacron import Primacron
from primacron.cluster.errors import BackendUnavailable, CommandRefused
from primacron.cluster.link import LinkLost, State
from primacron.cluster.redis.keys import Keys
from primacron.cluster.registry import Lease
from primacron.entries import Entry
from primacron.ids import AccountId, NodeId, SessionId, Sid
from primacron.times import Times
from tests.cluster.fleet import Fleet, cluster_of, local, registration_of, until
from tests.support.hearing import Hearing
from tests.support.redis import RedisProcess

BACKENDS = ("redis", "redis-cluster")
ANN, ONE = AccountId("ann"), SessionId("one")
HUGE = "9" * 5000


def write(fleet: Fleet, *command: object) -> None:
    """Run a command on the server that has its key."""
    answers = [process.command(*command) for process in fleet.primaries]
    assert any(not answer.startswith(("MOVED", "WRONGTYPE", "ERR")) for answer in answers), answers


def spoil(fleet: Fleet, key: str) -> None:
    """Put another type in the place of a key."""
    write(fleet, "DEL", key)
    write(fleet, "SET", key, "nonsense")


def hear_bus(server: Primacron) -> list[Exception]:
    """Return the list in which all errors of the bus are put that a server tells."""
    heard: list[Exception] = []

    @server.on("error::bus")
    def listen(error: Exception, _: object) -> None:
        heard.append(error)

    return heard


async def started(fleet: Fleet, times: Times | None = None) -> tuple[Primacron, Primacron, list[Exception]]:
    """Start two servers; return them, and what the first one tells of the bus."""
    first, second = fleet.new(times=times, lease=0.8), fleet.new(lease=0.8)
    heard = hear_bus(first)
    await fleet.start(first, second)
    return first, second, heard


def is_up(*servers: Primacron) -> bool:
    return all(cluster_of(server).link.state is State.UP for server in servers)


async def test_a_key_of_a_wrong_type_harms_its_own_account_only(fleet: Fleet) -> None:
    first, second, heard = await started(fleet)
    for name in ("ann", "bob"):
        await fleet.join(second, name, "one")
    key = Keys(fleet.namespace).account(ANN)
    spoil(fleet, key)
    statuses = []
    for _ in range(20):
        to_ann = first.session("ann", "one").emit("hello", receipt=True)
        to_bob = first.session("bob", "one").emit("hello", receipt=True)
        statuses.append(((await to_ann).status, (await to_bob).status))
        with pytest.raises(CommandRefused, match=key):
            await first.account("ann").sessions()
    assert {*statuses} == {("unsent", "accepted")}
    assert is_up(first, second)
    [error] = heard
    assert isinstance(error, CommandRefused)
    assert (error.event, error.key) == ("error::bus", key)
    assert "WRONGTYPE" in str(error)


async def test_who_comes_with_such_an_account_is_let_in_and_registered_once_it_is_mended(fleet: Fleet) -> None:
    first = fleet.new(lease=0.8)
    connects = Hearing(first, "error::connect")
    heard = hear_bus(first)
    second = fleet.new(lease=0.8)
    await fleet.start(first, second)
    key = Keys(fleet.namespace).account(ANN)
    write(fleet, "SET", key, "nonsense")
    await fleet.join(first, "ann", "one")
    error, context = await connects.next_error()
    assert context.key == (ANN, ONE)
    assert isinstance(error.__cause__, CommandRefused)
    assert error.__cause__.key == key
    await fleet.join(first, "bob", "one")
    assert connects.is_empty
    assert is_up(first, second)
    write(fleet, "DEL", key)
    await until(lambda: not registration_of(first).unregistered, "the session is registered")
    assert (await second.find("ann", "one")) is not None
    assert {type(each) for each in heard} == {CommandRefused}


async def test_all_other_entries_are_written_again(fleet: Fleet) -> None:
    first, second, heard = await started(fleet, times=Times(tell_again=0.0))
    for number in range(20):
        await fleet.join(first, f"account-{number}", "one")
    await fleet.join(first, "ann", "one")
    keys = Keys(fleet.namespace)
    for process in fleet.primaries:
        process.command("FLUSHALL")
    write(fleet, "SET", keys.account(ANN), "nonsense")
    async with asyncio.timeout(10):
        for number in range(20):
            while await cluster_of(second).registry.find(AccountId(f"account-{number}"), [ONE]) == [None]:
                await asyncio.sleep(0.01)
    await until(lambda: any(isinstance(each, CommandRefused) for each in heard), "it is told")
    assert is_up(first, second)
    assert not any(isinstance(each, LinkLost) for each in heard)
    assert local(first, "ann", "one").connected


async def test_the_sweep_goes_on_past_it(fleet: Fleet) -> None:
    [server] = await fleet.started(1, times=Times(sweep=0.2, swept=0.5))
    registry, keys = cluster_of(server).registry, Keys(fleet.namespace)
    for node in (NodeId("a"), NodeId("b")):
        await registry.renew(node, Lease(), 0.1, [], b"k" * 32)
        for name in ("ann", "bob"):
            await registry.claim(AccountId(f"{name}-{node}"), ONE, node, Sid("sid"))
    spoil(fleet, keys.index(NodeId("a")))
    spoil(fleet, keys.account(AccountId("ann-b")))
    await cluster_of(server).meet()

    def left() -> list[str]:
        return [key for key in fleet.stored() if "index:{b}" in key or "bob-b" in key]

    assert left()
    await until(lambda: not left(), "the second node is swept")
    assert is_up(server)


# Of the right type, with nonsense in it


@pytest.mark.parametrize(
    "entry", ["", "nonsense", "a b c", "a -1 b", f"a {HUGE} b", f"a {HUGE[:20]} b", "\x00 1 \x00 1"]
)
@pytest.mark.parametrize("same_session", ["replace", "refuse"])
async def test_an_entry_that_no_node_has_written_is_none(fleet: Fleet, entry: str, same_session: str) -> None:
    server = fleet.new(same_session=same_session)
    heard = hear_bus(server)
    await fleet.start(server)
    key = Keys(fleet.namespace).account(ANN)
    write(fleet, "HSET", key, "one", entry)
    write(fleet, "HSET", key, "%ZZ %", entry)
    assert await server.find("ann", "one") is None
    assert await server.account("ann").sessions() == []
    await fleet.join(server, "ann", "one")
    [found] = await cluster_of(server).registry.find(ANN, [ONE])
    assert found == local(server, "ann", "one").entry
    assert found is not None
    write(fleet, "HSET", key, "one", entry)
    [swapped] = await cluster_of(server).registry.restore([(ANN, found)])
    assert swapped is not None
    assert swapped.current == found
    assert heard == []


async def test_nonsense_in_what_all_nodes_read_is_passed_over(fleet: Fleet) -> None:
    first, second, heard = await started(fleet)
    keys = Keys(fleet.namespace)
    for number, value in enumerate(("", "nonsense", f"{HUGE} \x80", f"{'9' * 400} \x80", "1 \xc1", "-1 \x80")):
        write(fleet, "HSET", keys.leases, f"strange-{number}", value)
        write(fleet, "HSET", keys.keys, f"strange-{number}", value)
        write(fleet, "HSET", keys.keys, f"{number:064x}", value or HUGE)
        write(fleet, "SADD", keys.index(first.node.id), value or "a b c")
        write(fleet, "SET", keys.attended, value)
        assert await cluster_of(first).registry.attended() >= 0
        await cluster_of(first).meet()
    for server in (first, second):
        await cluster_of(server).meet()
    assert cluster_of(first).others() == {second.node.id}
    await fleet.join(second, "ann", "one")
    assert (await first.session("ann", "one").emit("hello", receipt=True)).status == "accepted"
    assert is_up(first, second)
    assert heard == []


async def test_nonsense_in_an_index_is_removed_when_it_is_read(fleet: Fleet) -> None:
    [server] = await fleet.started(1)
    registry, key = cluster_of(server).registry, Keys(fleet.namespace).index(NodeId("other"))
    for value in ("nonsense", "a b c", "ann one", "%41nn one", "\xff \xff"):
        write(fleet, "SADD", key, value)
    assert await registry.indexed(NodeId("other"), 0) == (0, [(ANN, ONE)])
    assert await registry.indexed(NodeId("other"), 0) == (0, [(ANN, ONE)])
    await registry.drop(NodeId("other"), [(ANN, ONE)])
    assert not any("index:{other}" in each for each in fleet.stored())


async def test_nonsense_for_a_connection_that_has_moved_is_nobodys(fleet: Fleet) -> None:
    [server] = await fleet.started(1)
    registry, keys = cluster_of(server).registry, Keys(fleet.namespace)
    write(fleet, "SADD", keys.sid(Sid("moved")), "nonsense")
    with pytest.raises(CommandRefused):
        await registry.locate(Sid("moved"))
    await registry.place(Sid("moved"), (ANN, ONE), 60)  # what is written takes its place
    assert (await registry.locate(Sid("moved")))[0] == (ANN, ONE)
    write(fleet, "SET", keys.sid(Sid("moved")), "\xff")
    assert (await registry.locate(Sid("moved")))[0] != (ANN, ONE)
    assert is_up(server)


async def test_a_claim_is_done_as_a_whole_or_not_at_all(fleet: Fleet) -> None:
    [server] = await fleet.started(1)
    registry, keys = cluster_of(server).registry, Keys(fleet.namespace)
    write(fleet, "SET", keys.set("follow", (ANN, ONE)), "nonsense")
    with pytest.raises(CommandRefused):
        await registry.claim(ANN, ONE, NodeId("here"), Sid("sid"))
    assert await registry.find(ANN, [ONE]) == [None]


async def test_a_lost_epoch_is_written_anew(fleet: Fleet) -> None:
    [server] = await fleet.started(1)
    for key in [each for each in fleet.stored() if ":epoch:" in each]:
        write(fleet, "SET", key, "\xff nonsense")
    await cluster_of(server).meet()
    entries, epoch = await cluster_of(server).registry.find_surely(ANN, [ONE])
    assert entries == [None]
    assert epoch.id
    assert is_up(server)


# What is a trouble of Redis itself


@pytest.mark.parametrize("backend", ["redis"])
async def test_what_stops_all_of_redis_is_a_trouble_of_the_link(namespace: str, backend: str) -> None:
    with RedisProcess() as process:
        async with Fleet(lambda: process.url, namespace, [process]) as fleet:
            server = fleet.new(lease=0.8, redis_timeout=1)
            heard = hear_bus(server)
            await fleet.start(server)
            process.command("CONFIG", "SET", "maxmemory", "1")
            with pytest.raises(BackendUnavailable) as failed:
                await cluster_of(server).sets.add("follow", (ANN, ONE), b"a")
            assert not isinstance(failed.value, CommandRefused)
            await until(lambda: heard, "it is told")
            assert isinstance(heard[0], LinkLost)
            assert "OutOfMemoryError" in str(heard[0])
            entry = Entry(ONE, server.node.id, 1, Sid("sid"))
            with pytest.raises(BackendUnavailable) as failed:
                await cluster_of(server).registry.restore([(ANN, entry)])
            assert not isinstance(failed.value, CommandRefused)
            process.command("CONFIG", "SET", "maxmemory", "0")
            await until(lambda: is_up(server), "it is up again")
