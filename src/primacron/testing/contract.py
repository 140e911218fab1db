"""
What every backend has to do, as a suite.

With pytest::

    @pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
    async def test_my_backend(case):
        await case(Ground(open_backend))

where ``open_backend`` returns a :class:`primacron.cluster.backend.Backend` for one
more node, all on the same, initially empty store; each case is a coroutine function.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

from primacron.cluster.backend import Backend
from primacron.cluster.bus import Bus
from primacron.cluster.lists import Appended, Kept, Lists, Page, Position, Published, unpack_published
from primacron.cluster.registry import Lease, Outcome, Registry, Renewal, Swapped
from primacron.cluster.sets import Sets
from primacron.cluster.topics import Topics
from primacron.entries import Entry, Name
from primacron.ids import AccountId, NodeId, SessionId, Sid

#: Seconds anything may take.
DEADLINE: Final = 5.0
KEY: Final = b"k" * 32

ANN: Final = AccountId("ann")
ONE: Final = SessionId("one")
TWO: Final = SessionId("two")
SID: Final = Sid("sid-1")
OTHER_SID: Final = Sid("sid-2")
#: Kinds of session sets.
KIND: Final = "one kind"
OTHER_KIND: Final = "two"


class Ground:
    """What a case runs on: backends on one store, which are closed afterwards."""

    def __init__(self, open_backend: Callable[[], Backend]) -> None:
        self._open = open_backend
        self._open_ones: list[Backend] = []

    def backend(self) -> Backend:
        """Return the backend of another node."""
        backend = self._open()
        backend.registry.kinds = (KIND, OTHER_KIND)
        self._open_ones.append(backend)
        return backend

    @property
    def registry(self) -> Registry:
        """The registry of another node."""
        return self.backend().registry

    @property
    def sets(self) -> Sets:
        """The sets of another node."""
        return self.backend().sets

    async def close(self) -> None:
        """Close all backends."""
        for backend in self._open_ones:
            await backend.bus.leave()
            await backend.topics.leave()
            await backend.close()


Case: TypeAlias = Callable[[Ground], Awaitable[None]]
CASES: Final[list[Case]] = []


def case(function: Case) -> Case:
    """Add a case to the suite."""

    async def run(ground: Ground) -> None:
        try:
            async with asyncio.timeout(6 * DEADLINE):
                await function(ground)
        finally:
            await ground.close()

    run.__name__ = getattr(function, "__name__", "case")
    run.__doc__ = function.__doc__
    CASES.append(run)
    return run


async def renew(registry: Registry, node: str, *, seconds: float = 30.0, lease: Lease | None = None) -> Renewal:
    """Renew a lease."""
    return await registry.renew(NodeId(node), lease or Lease(hint=f"hint-{node}"), seconds, [], KEY)


async def find(registry: Registry, name: Name) -> Entry | None:
    """Return the entry of a session."""
    return (await registry.find(name[0], [name[1]]))[0]


# Entries


@case
async def a_claim_is_found_with_its_node_and_sid(ground: Ground) -> None:
    registry = ground.registry
    claim = await registry.claim(ANN, ONE, NodeId("a"), SID)
    assert claim.before is None
    assert claim.entry is not None
    assert (claim.entry.id, claim.entry.node, claim.entry.sid) == (ONE, "a", SID)
    assert await find(ground.registry, (ANN, ONE)) == claim.entry


@case
async def what_nobody_claimed_is_not_found(ground: Ground) -> None:
    registry = ground.registry
    await registry.claim(ANN, ONE, NodeId("a"), SID)
    assert await registry.find(ANN, [TWO, ONE, TWO]) == [None, await find(registry, (ANN, ONE)), None]
    assert await registry.find(AccountId("bob"), [ONE]) == [None]
    assert (await registry.sessions(AccountId("bob")))[0] == []


@case
async def a_later_claim_replaces_the_earlier_one_with_a_higher_generation(ground: Ground) -> None:
    registry = ground.registry
    first = (await registry.claim(ANN, ONE, NodeId("a"), SID)).entry
    second = await registry.claim(ANN, ONE, NodeId("b"), OTHER_SID)
    assert first is not None
    assert second.entry is not None
    assert second.before == first
    assert second.entry.generation > first.generation
    assert await find(registry, (ANN, ONE)) == second.entry


@case
async def a_claim_that_must_not_replace_is_refused_and_tells_who_is_there(ground: Ground) -> None:
    registry = ground.registry
    first = (await registry.claim(ANN, ONE, NodeId("a"), SID, replace=False)).entry
    refused = await registry.claim(ANN, ONE, NodeId("b"), OTHER_SID, replace=False)
    assert refused.entry is None
    assert refused.before == first
    assert await find(registry, (ANN, ONE)) == first


@case
async def of_many_claims_at_once_one_is_the_last_and_each_other_was_replaced_once(ground: Ground) -> None:
    registries = [ground.registry for _ in range(4)]
    claims = await asyncio.gather(
        *(
            registry.claim(ANN, ONE, NodeId(f"node-{number}"), Sid(f"sid-{number}-{turn}"))
            for turn in range(10)
            for number, registry in enumerate(registries)
        )
    )
    entries = [claim.entry for claim in claims if claim.entry is not None]
    assert len({entry.generation for entry in entries}) == len(entries) == 40
    last = max(entries, key=lambda entry: entry.generation)
    assert await find(registries[0], (ANN, ONE)) == last
    replaced = [claim.before for claim in claims if claim.before is not None]
    assert sorted(entry.sid for entry in replaced) == sorted(entry.sid for entry in entries if entry != last)


@case
async def a_release_removes_its_own_claim_only(ground: Ground) -> None:
    registry = ground.registry
    first = (await registry.claim(ANN, ONE, NodeId("a"), SID)).entry
    second = (await registry.claim(ANN, ONE, NodeId("a"), OTHER_SID)).entry
    assert first is not None
    assert second is not None
    assert not await registry.release(ANN, first)
    assert await find(registry, (ANN, ONE)) == second
    assert await registry.release(ANN, second)
    assert await find(registry, (ANN, ONE)) is None
    assert not await registry.release(ANN, second)


@case
async def the_sessions_of_an_account_are_its_own(ground: Ground) -> None:
    registry = ground.registry
    one = (await registry.claim(ANN, ONE, NodeId("a"), SID)).entry
    two = (await registry.claim(ANN, TWO, NodeId("b"), OTHER_SID)).entry
    await registry.claim(AccountId("bob"), ONE, NodeId("a"), Sid("sid-3"))
    entries, _ = await registry.sessions(ANN)
    assert sorted(entry.id for entry in entries) == ["one", "two"]
    assert {entry.id: entry for entry in entries} == {"one": one, "two": two}


@case
async def names_with_separators_are_never_confused(ground: Ground) -> None:
    registry = ground.registry
    names = [
        ("a::b", "c"),
        ("a", "b::c"),
        ("a b", "c"),
        ("a", "b c"),
        ("{a}", "b"),
        ("a}", "b"),
        ("*", "?"),
        ("é", "✓"),
    ]
    for number, (account, session) in enumerate(names):
        await registry.claim(AccountId(account), SessionId(session), NodeId("a"), Sid(f"sid-{number}"))
    for number, (account, session) in enumerate(names):
        entry = await find(registry, (AccountId(account), SessionId(session)))
        assert entry is not None
        assert (entry.id, entry.sid) == (session, f"sid-{number}")
    _, indexed = await registry.indexed(NodeId("a"), 0)
    assert sorted(indexed) == sorted(names)


# Compare-and-set


@case
async def a_swap_needs_exactly_the_entry_that_it_expects(ground: Ground) -> None:
    registry = ground.registry
    old = (await registry.claim(ANN, ONE, NodeId("a"), SID)).entry
    assert old is not None
    new = Entry(ONE, NodeId("b"), old.generation + 1, SID)
    assert (await registry.swap(ANN, new, old)).outcome is Outcome.OTHER
    absent = Entry(TWO, NodeId("a"), 1, SID)
    assert (await registry.swap(ANN, absent, absent)).outcome is Outcome.ABSENT
    swapped = await registry.swap(ANN, old, new)
    assert (swapped.outcome, swapped.current) == (Outcome.DONE, new)
    again = await registry.swap(ANN, old, new)
    assert (again.outcome, again.current) == (Outcome.OTHER, new)
    assert await find(registry, (ANN, ONE)) == new


@case
async def of_two_swaps_of_one_entry_one_wins(ground: Ground) -> None:
    registries = [ground.registry, ground.registry]
    old = (await registries[0].claim(ANN, ONE, NodeId("a"), SID)).entry
    assert old is not None
    wanted = [Entry(ONE, NodeId(node), old.generation + 1, SID) for node in ("b", "c")]
    swaps = await asyncio.gather(
        *(registry.swap(ANN, old, new) for registry, new in zip(registries, wanted, strict=True))
    )
    assert sorted(swap.outcome.name for swap in swaps) == ["DONE", "OTHER"]
    winner = wanted[[swap.outcome for swap in swaps].index(Outcome.DONE)]
    assert all(swap.current == winner for swap in swaps)


@case
async def a_restored_entry_goes_in_the_place_of_none_or_of_a_lower_rank(ground: Ground) -> None:
    registry = ground.registry
    entry = Entry(ONE, NodeId("b"), 1000, SID)
    assert [found and found.outcome for found in await registry.restore([(ANN, entry)])] == [Outcome.DONE]
    assert await find(registry, (ANN, ONE)) == entry
    lower = [Entry(ONE, NodeId("c"), 999, OTHER_SID), Entry(ONE, NodeId("a"), 1000, OTHER_SID)]
    for each in lower:
        (found,) = await registry.restore([(ANN, each)])
        assert found is not None
        assert (found.outcome, found.current) == (Outcome.OTHER, entry)
    for each in (Entry(ONE, NodeId("c"), 1000, OTHER_SID), Entry(ONE, NodeId("a"), 1001, SID)):
        (found,) = await registry.restore([(ANN, each)])
        assert found == Swapped(Outcome.DONE, each, entry)
        assert await find(registry, (ANN, ONE)) == each
        entry = each
    for again in (entry, Entry(ONE, NodeId("a"), 1002, SID)):
        assert await registry.restore([(ANN, again)]) == [Swapped(Outcome.DONE, again)]


@case
async def a_restored_entry_takes_over_the_generation_that_its_claim_got(ground: Ground) -> None:
    registry = ground.registry
    claimed = (await registry.claim(ANN, ONE, NodeId("a"), SID)).entry
    assert claimed is not None
    (found,) = await registry.restore([(ANN, Entry(ONE, NodeId("a"), 5, SID))])
    assert found is not None
    assert (found.outcome, found.current) == (Outcome.DONE, claimed)


@case
async def many_entries_are_restored_in_one_go(ground: Ground) -> None:
    registry = ground.registry
    entries = [(AccountId(f"account-{i % 50}"), Entry(SessionId(f"s{i}"), NodeId("a"), i + 1, SID)) for i in range(500)]
    found = await registry.restore(entries)
    assert all(each is not None and each.outcome is Outcome.DONE for each in found)
    assert len((await registry.sessions(AccountId("account-7")))[0]) == 10
    assert (await renew(registry, "a")).indexed == 500


# Leases


@case
async def a_renewal_tells_of_all_nodes_and_what_they_say_of_themselves(ground: Ground) -> None:
    registry = ground.registry
    lease = Lease(address="http://a", version=3, started=7, hint="hint-a", draining=True, deaf=True, complete=("x",))
    assert not (await renew(registry, "a", lease=lease)).was_alive
    renewal = await renew(ground.registry, "b")
    assert {node: each for node, (each, _) in renewal.leases.items()} == {"a": lease, "b": Lease(hint="hint-b")}
    assert all(25 < left <= 30 for _, left in renewal.leases.values())
    assert (await renew(registry, "a")).was_alive


@case
async def an_ended_lease_is_told_as_ended_until_it_is_forgotten(ground: Ground) -> None:
    registry = ground.registry
    await renew(registry, "a", seconds=0.05)
    await registry.forget(NodeId("b"))
    await asyncio.sleep(0.1)
    _, left = (await renew(registry, "b")).leases[NodeId("a")]
    assert -DEADLINE < left <= 0
    assert not (await renew(registry, "a", seconds=0.05)).was_alive
    await asyncio.sleep(0.1)
    await registry.forget(NodeId("a"))
    assert set((await renew(registry, "b")).leases) == {"b"}


@case
async def whenever_a_node_begins_to_attend_the_number_is_another_one(ground: Ground) -> None:
    registry = ground.registry
    lease, attends = Lease(attends=False), Lease(attends=True)
    numbers = [(await renew(registry, "a", lease=lease)).attended]
    for node, begins, said in (
        ("a", True, attends),
        ("a", False, attends),
        ("b", False, lease),
        ("b", True, attends),
        ("a", False, lease),
        ("a", True, attends),
    ):
        number = (await renew(registry, node, lease=said)).attended
        assert (number != numbers[-1]) is begins
        assert await registry.attended() == number
        numbers.append(number)
    assert len(set(numbers)) == 4
    await renew(registry, "b", lease=attends, seconds=0.05)
    await asyncio.sleep(0.1)
    assert (await renew(registry, "b", lease=attends)).attended not in numbers


@case
async def a_living_lease_is_not_forgotten(ground: Ground) -> None:
    registry = ground.registry
    await renew(registry, "a")
    await registry.forget(NodeId("a"))
    assert set((await renew(registry, "b")).leases) == {"a", "b"}


@case
async def a_node_that_retires_leaves_neither_lease_nor_index(ground: Ground) -> None:
    registry = ground.registry
    await renew(registry, "a")
    entry = (await registry.claim(ANN, ONE, NodeId("a"), SID)).entry
    assert entry is not None
    await registry.release(ANN, entry)
    await registry.retire(NodeId("a"))
    assert set((await renew(registry, "b")).leases) == {"b"}
    assert await registry.indexed(NodeId("a"), 0) == (0, [])


@case
async def what_a_node_that_retires_could_not_release_can_be_swept(ground: Ground) -> None:
    registry = ground.registry
    await renew(registry, "a")
    await registry.claim(ANN, ONE, NodeId("a"), SID)
    await registry.retire(NodeId("a"))
    assert (await renew(registry, "b")).leases[NodeId("a")][1] <= 0
    assert await registry.indexed(NodeId("a"), 0) == (0, [(ANN, ONE)])
    await registry.drop(NodeId("a"), [(ANN, ONE)])
    await registry.forget(NodeId("a"))
    assert set((await renew(registry, "b")).leases) == {"b"}
    assert await registry.find(ANN, [ONE]) == [None]


@case
async def cluster_keys_are_shared_and_the_oldest_comes_first(ground: Ground) -> None:
    registry = ground.registry
    first = await registry.renew(NodeId("a"), Lease(), 30, [], b"a" * 32)
    assert first.keys == [b"a" * 32]
    assert (await registry.renew(NodeId("b"), Lease(), 30, [], b"b" * 32)).keys == [b"a" * 32]
    await asyncio.sleep(0.01)
    added = await registry.renew(NodeId("b"), Lease(), 30, [b"0" * 32, b"a" * 32], b"b" * 32)
    assert added.keys == [b"a" * 32, b"0" * 32]


@case
async def an_epoch_lasts_and_grows_older(ground: Ground) -> None:
    registry = ground.registry
    (before, *_) = (await renew(registry, "a")).epochs
    await asyncio.sleep(0.05)
    (after, *_) = (await renew(ground.registry, "b")).epochs
    assert before.id == after.id
    assert before.age < after.age
    entry = (await registry.claim(ANN, ONE, NodeId("a"), SID)).entry
    entries, epoch = await registry.find_surely(ANN, [TWO, ONE])
    assert entries == [None, entry]
    assert epoch.id in {each.id for each in (await renew(registry, "a")).epochs}


# The index of a node


async def index_of(registry: Registry, node: str) -> list[Name]:
    """Return all names in a node's index."""
    names: list[Name] = []
    cursor = 0
    while True:
        cursor, some = await registry.indexed(NodeId(node), cursor)
        names += some
        if cursor == 0:
            return sorted(set(names))


@case
async def an_index_has_all_entries_of_its_node_and_is_counted(ground: Ground) -> None:
    registry = ground.registry
    entries = []
    for number in range(300):
        claim = await registry.claim(ANN, SessionId(f"s{number:03}"), NodeId("a"), SID)
        entries.append(claim.entry)
    assert await index_of(registry, "a") == [(ANN, f"s{number:03}") for number in range(300)]
    assert (await renew(registry, "a")).indexed == 300
    assert entries[0] is not None
    await registry.release(ANN, entries[0])
    assert (await renew(registry, "a")).indexed == 299
    assert await index_of(registry, "b") == []


@case
async def a_swap_moves_the_entry_from_one_index_to_the_other(ground: Ground) -> None:
    registry = ground.registry
    old = (await registry.claim(ANN, ONE, NodeId("a"), SID)).entry
    assert old is not None
    await registry.swap(ANN, old, Entry(ONE, NodeId("b"), old.generation + 1, SID))
    assert await index_of(registry, "b") == [(ANN, ONE)]
    async with asyncio.timeout(DEADLINE):
        while await index_of(registry, "a"):
            await asyncio.sleep(0.01)


@case
async def what_is_dropped_goes_only_if_it_is_the_nodes(ground: Ground) -> None:
    registry = ground.registry
    await registry.claim(ANN, ONE, NodeId("a"), SID)
    await registry.claim(ANN, TWO, NodeId("a"), SID)
    other = (await registry.claim(ANN, TWO, NodeId("b"), OTHER_SID)).entry
    await registry.drop(NodeId("a"), [(ANN, ONE), (ANN, TWO)])
    assert await registry.find(ANN, [ONE, TWO]) == [None, other]
    assert await index_of(registry, "a") == []


# Connections that have moved


@case
async def a_place_is_kept_for_its_time(ground: Ground) -> None:
    registry = ground.registry
    name = (AccountId("a:b"), SessionId("c d"))
    await registry.place(SID, name, 30)
    assert (await ground.registry.locate(SID))[0] == name
    assert (await registry.locate(OTHER_SID))[0] is None
    await registry.place(OTHER_SID, name, 0.05)
    async with asyncio.timeout(DEADLINE):
        while (await registry.locate(OTHER_SID))[0] is not None:
            await asyncio.sleep(0.01)


# Session sets


@case
async def sets_come_back_with_their_session(ground: Ground) -> None:
    registry, sets = ground.registry, ground.sets
    first = (await registry.claim(ANN, ONE, NodeId("a"), SID)).entry
    assert first is not None
    for member in (b"x", b"y", b"z", b"y"):
        await sets.add(KIND, (ANN, ONE), member)
    await ground.sets.remove(KIND, (ANN, ONE), b"z")
    await sets.remove(KIND, (ANN, ONE), b"never there")
    await sets.add(OTHER_KIND, (ANN, ONE), b"x")
    await registry.release(ANN, first)
    claim = await ground.registry.claim(ANN, ONE, NodeId("b"), OTHER_SID)
    assert {kind: sorted(members) for kind, members in claim.sets.items()} == {KIND: [b"x", b"y"], OTHER_KIND: [b"x"]}


@case
async def sets_that_have_nothing_are_not_there(ground: Ground) -> None:
    registry, sets = ground.registry, ground.sets
    await registry.claim(ANN, ONE, NodeId("a"), SID)
    await sets.add(KIND, (ANN, ONE), b"x")
    await sets.remove(KIND, (ANN, ONE), b"x")
    assert dict((await registry.claim(ANN, ONE, NodeId("b"), OTHER_SID)).sets) == {}
    assert dict((await registry.claim(ANN, TWO, NodeId("b"), OTHER_SID)).sets) == {}


@case
async def a_session_that_is_replaced_or_dropped_leaves_its_sets_to_the_next(ground: Ground) -> None:
    registry, sets = ground.registry, ground.sets
    await registry.claim(ANN, ONE, NodeId("a"), SID)
    await sets.add(KIND, (ANN, ONE), b"x")
    assert dict((await registry.claim(ANN, ONE, NodeId("a"), OTHER_SID)).sets) == {KIND: [b"x"]}
    await registry.drop(NodeId("a"), [(ANN, ONE)])
    assert await find(registry, (ANN, ONE)) is None
    assert dict((await registry.claim(ANN, ONE, NodeId("b"), SID)).sets) == {KIND: [b"x"]}


@case
async def a_claim_that_is_refused_tells_no_sets(ground: Ground) -> None:
    registry = ground.registry
    await registry.claim(ANN, ONE, NodeId("a"), SID)
    await ground.sets.add(KIND, (ANN, ONE), b"x")
    assert dict((await registry.claim(ANN, ONE, NodeId("b"), OTHER_SID, replace=False)).sets) == {}


@case
async def sets_of_a_session_that_is_not_there_are_kept_for_its_return(ground: Ground) -> None:
    registry, sets = ground.registry, ground.sets
    assert await sets.keep(KIND, (ANN, ONE), [b"f", b"g"])
    assert await sets.keep(KIND, (ANN, ONE), [b"f"])
    claim = await registry.claim(ANN, ONE, NodeId("a"), SID)
    assert {kind: sorted(members) for kind, members in claim.sets.items()} == {KIND: [b"f", b"g"]}
    assert not await sets.keep(KIND, (ANN, ONE), [b"h"])
    claim = await registry.claim(ANN, ONE, NodeId("b"), OTHER_SID)
    assert {kind: sorted(members) for kind, members in claim.sets.items()} == {KIND: [b"f", b"g"]}


# The bus


class Subscriber:
    """The messages received by a node."""

    def __init__(self, bus: Bus, node: str) -> None:
        self.bus = bus
        self.node = NodeId(node)
        self.heard: asyncio.Queue[bytes] = asyncio.Queue()
        self.changes: list[bool] = []

    @classmethod
    async def join(cls, ground: Ground, node: str, *, attends: bool = False) -> Subscriber:
        """Subscribe a node to its messages."""
        subscriber = cls(ground.backend().bus, node)
        await subscriber.bus.join(subscriber.node, subscriber.hear, subscriber.changes.append)
        if attends:
            await subscriber.bus.attend()
        return subscriber

    def hear(self, body: bytes) -> None:
        """Take a message, unless it is one of the backend's own probes."""
        if not body.startswith(b"\xdc"):
            self.heard.put_nowait(body)

    async def next(self) -> bytes:
        """Return the next message."""
        async with asyncio.timeout(DEADLINE):
            return await self.heard.get()


@case
async def what_is_published_to_a_node_reaches_it_alone_and_in_order(ground: Ground) -> None:
    sender, receiver, other = [await Subscriber.join(ground, node) for node in "abc"]
    sent = [sender.bus.publish(receiver.node, b"%d" % number) for number in range(200)]
    assert [await receiver.next() for _ in range(200)] == [b"%d" % number for number in range(200)]
    assert [await each for each in sent] == [1] * 200
    await other.bus.publish(other.node, b"last")
    assert await other.next() == b"last"
    assert sender.heard.empty()


@case
async def what_is_published_to_all_reaches_those_that_attend(ground: Ground) -> None:
    first = await Subscriber.join(ground, "a", attends=True)
    second = await Subscriber.join(ground, "b", attends=True)
    third = await Subscriber.join(ground, "c")
    assert first.bus.attends
    assert not third.bus.attends
    assert await third.bus.publish(None, b"hello") == 2
    assert [await first.next(), await second.next()] == [b"hello"] * 2
    second.bus.quit()
    async with asyncio.timeout(DEADLINE):
        while await third.bus.publish(None, b"again") != 1:
            await first.next()
    assert await first.next() == b"again"
    assert third.heard.empty()


@case
async def a_node_that_never_joined_or_has_left_gets_nothing(ground: Ground) -> None:
    sender = await Subscriber.join(ground, "a")
    gone = await Subscriber.join(ground, "b")
    assert await sender.bus.publish(NodeId("never"), b"x") == 0
    await gone.bus.leave()
    async with asyncio.timeout(DEADLINE):
        while await sender.bus.publish(gone.node, b"x"):
            await asyncio.sleep(0.01)
    assert not gone.bus.hearing


@case
async def publishing_does_not_run_the_receiver_inside_the_sender(ground: Ground) -> None:
    subscriber = await Subscriber.join(ground, "a")
    sent = subscriber.bus.publish(subscriber.node, b"x")
    assert subscriber.heard.empty()
    assert await subscriber.next() == b"x"
    assert await sent == 1


@case
async def large_messages_come_whole(ground: Ground) -> None:
    sender, receiver = [await Subscriber.join(ground, node) for node in "ab"]
    bodies = [bytes([number]) * 262_144 for number in range(8)]
    for body in bodies:
        sender.bus.publish(receiver.node, body)
    assert [await receiver.next() for _ in bodies] == bodies


@case
async def a_bus_that_has_joined_hears(ground: Ground) -> None:
    subscriber = await Subscriber.join(ground, "a")
    async with asyncio.timeout(DEADLINE):
        while not subscriber.bus.hearing:
            await asyncio.sleep(0.01)
    assert subscriber.changes == [True]


# Topics


class TopicEars:
    """The messages that a node received on topics, and the changes of its subscriptions."""

    def __init__(self, topics: Topics) -> None:
        self.topics = topics
        self.heard: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()
        self.changes: list[tuple[str, bool]] = []
        self._has_changed = asyncio.Event()

    @classmethod
    async def join(cls, ground: Ground, node: str, *topics: str) -> TopicEars:
        """Subscribe a node to topics, and wait until the subscriptions are active."""
        subscriber = cls(ground.backend().topics)
        await subscriber.topics.join(
            NodeId(node), lambda topic, body: subscriber.heard.put_nowait((topic, body)), subscriber._change
        )
        await subscriber.subscribe(*topics)
        return subscriber

    def _change(self, topic: str, heard: bool) -> None:
        self.changes.append((topic, heard))
        self._has_changed.set()

    async def subscribe(self, *topics: str) -> None:
        """Subscribe to topics, and wait until the subscriptions are active."""
        for topic in topics:
            self.topics.subscribe(topic)
        await self.until_told(*((topic, True) for topic in topics))

    async def until_told(self, *changes: tuple[str, bool]) -> None:
        """Wait until all these changes were reported, in any order, and clear them."""
        async with asyncio.timeout(DEADLINE):
            while not set(changes) <= set(self.changes):
                self._has_changed.clear()
                await self._has_changed.wait()
        self.changes.clear()

    async def next(self) -> tuple[str, bytes]:
        """Return the next message, with its topic."""
        async with asyncio.timeout(DEADLINE):
            return await self.heard.get()


@case
async def what_is_published_on_a_topic_reaches_those_that_subscribed_and_in_order(ground: Ground) -> None:
    first, second = [await TopicEars.join(ground, node, "lot:7") for node in "ab"]
    other = await TopicEars.join(ground, "c", "lot:8")
    sent = [first.topics.publish("lot:7", b"%d" % number) for number in range(200)]
    assert [await each for each in sent] == [2] * 200
    for subscriber in (first, second):
        assert [await subscriber.next() for _ in range(200)] == [("lot:7", b"%d" % number) for number in range(200)]
    assert await first.topics.publish("lot:8", b"last") == 1
    assert await other.next() == ("lot:8", b"last")
    assert first.heard.empty()
    assert await first.topics.publish("lot:9", b"to nobody") == 0


@case
async def a_topic_that_is_given_up_is_heard_no_longer(ground: Ground) -> None:
    sender = await TopicEars.join(ground, "a")
    receiver = await TopicEars.join(ground, "b", "lot:7", "lot:8")
    receiver.topics.unsubscribe("lot:7")
    assert not receiver.topics.hears("lot:7")
    async with asyncio.timeout(DEADLINE):
        while await sender.topics.publish("lot:7", b"x"):
            await asyncio.sleep(0.01)
    assert await sender.topics.publish("lot:8", b"y") == 1
    assert await receiver.next() == ("lot:8", b"y")
    assert receiver.heard.empty()
    assert receiver.changes == []


@case
async def a_topic_that_is_given_up_and_wanted_again_is_told_again(ground: Ground) -> None:
    sender = await TopicEars.join(ground, "a")
    receiver = await TopicEars.join(ground, "b", "lot:7")
    for waits in (False, True) * 10:
        receiver.topics.unsubscribe("lot:7")
        if waits:
            await asyncio.sleep(0)
        await receiver.subscribe("lot:7")
        assert receiver.topics.hears("lot:7")
        assert await sender.topics.publish("lot:7", b"x") == 1
        assert await receiver.next() == ("lot:7", b"x")


@case
async def thousands_of_topics_are_heard_at_once(ground: Ground) -> None:
    names = [f"lot:{number}" for number in range(3_000)]
    receiver = await TopicEars.join(ground, "a", *names)
    assert receiver.topics.is_complete
    sent = [receiver.topics.publish(name, name.encode()) for name in names]
    assert set(await asyncio.gather(*sent)) == {1}
    assert {await receiver.next() for _ in names} == {(name, name.encode()) for name in names}


@case
async def topics_have_names_of_any_characters(ground: Ground) -> None:
    names = ["a", "A", "a:b", "a b", "{a}", "a}{b", "%61", "*", "[ab]?", "\x00", "\r\n", "ä", "💥", "x" * 255]
    receiver = await TopicEars.join(ground, "a", *names)
    for name in names:
        assert await receiver.topics.publish(name, name.encode()) == 1
        assert await receiver.next() == (name, name.encode())


@case
async def a_node_that_has_left_its_topics_gets_nothing(ground: Ground) -> None:
    sender = await TopicEars.join(ground, "a")
    gone = await TopicEars.join(ground, "b", "lot:7")
    await gone.topics.leave()
    async with asyncio.timeout(DEADLINE):
        while await sender.topics.publish("lot:7", b"x"):
            await asyncio.sleep(0.01)
    assert gone.changes == []


# Lists

KEPT: Final = Kept(items=8, seconds=60, outlives=60)
TOPIC: Final = "lot:7"


def offsets(page: Page) -> list[tuple[int, bytes]]:
    """Return the items of a page with their offsets."""
    return [(page.first + place, item) for place, item in enumerate(page.items)]


async def append(lists: Lists, *items: bytes, kept: Kept = KEPT) -> list[Appended]:
    """Append items one after another."""
    return [await lists.append(TOPIC, item, kept) for item in items]


@case
async def items_are_numbered_from_one_and_read_by_their_offset(ground: Ground) -> None:
    lists, others = ground.backend().lists, ground.backend().lists
    appended = await append(lists, b"a", b"b", b"c")
    assert [each.position.offset for each in appended] == [1, 2, 3]
    assert {each.position.epoch for each in appended} == {appended[0].position.epoch}
    page = await others.read(TOPIC, KEPT, 1, 10)
    assert offsets(page) == [(2, b"b"), (3, b"c")]
    assert (page.top, page.start) == (appended[-1].position, 1)
    assert offsets(await others.read(TOPIC, KEPT, 0, 2)) == [(1, b"a"), (2, b"b")]
    assert offsets(await others.last(TOPIC, KEPT, 2)) == [(2, b"b"), (3, b"c")]
    assert offsets(await others.last(TOPIC, KEPT, 10)) == [(1, b"a"), (2, b"b"), (3, b"c")]
    for after in (3, 4, 1_000):
        page = await others.read(TOPIC, KEPT, after, 10)
        assert (page.top, [*page.items]) == (appended[-1].position, [])


@case
async def a_list_that_nobody_has_written_has_an_epoch_that_its_first_item_shares(ground: Ground) -> None:
    lists = ground.backend().lists
    page = await lists.read(TOPIC, KEPT, 0, 10)
    assert (page.top.offset, page.start, page.before, [*page.items]) == (0, 1, "", [])
    assert page.top.epoch
    assert (await lists.read(TOPIC, KEPT, 5, 10)).top == page.top
    (appended,) = await append(lists, b"a")
    assert appended == Appended(Position(page.top.epoch, 1), 1)


@case
async def a_list_keeps_its_newest_items(ground: Ground) -> None:
    lists = ground.backend().lists
    items = [b"%d" % number for number in range(1, 41)]
    await append(lists, *items)
    page = await lists.read(TOPIC, KEPT, 0, 100)
    assert KEPT.items <= len(page.items) <= KEPT.items * 1.25
    assert offsets(page) == [(int(item), item) for item in items[-len(page.items) :]]
    assert page.top.offset == 40
    last_value = Kept(1, 60, 60)
    for item in items:
        await lists.append("price", item, last_value)
    assert offsets(await lists.last("price", last_value, 1)) == [(40, b"40")]


@case
async def what_is_appended_is_published_with_its_position(ground: Ground) -> None:
    lists, subscriber = ground.backend().lists, await TopicEars.join(ground, "a", TOPIC)
    for item in (b"a", b"", bytes(range(256)), b"x" * 200_000, b"y" * 200_001):
        (appended,) = await append(lists, item)
        topic, body = await subscriber.next()
        carried = item if len(item) <= 200_000 else None
        assert (topic, unpack_published(body)) == (TOPIC, Published(appended.position, 1, carried))
    assert offsets(await lists.last(TOPIC, KEPT, 1)) == [(5, b"y" * 200_001)]


@case
async def an_item_with_a_key_is_appended_once(ground: Ground) -> None:
    lists, others = ground.backend().lists, ground.backend().lists
    subscriber = await TopicEars.join(ground, "a", TOPIC)
    first = await lists.append(TOPIC, b"a", KEPT, "key 1")
    again = await others.append(TOPIC, b"a", KEPT, "key 1")
    assert (first.position, first.is_repeat) == (again.position, not again.is_repeat)
    assert (await others.append(TOPIC, b"b", KEPT, "key 2")).position.offset == 2
    assert (await others.append("lot:8", b"a", KEPT, "key 1")).position.offset == 1
    assert [unpack_published((await subscriber.next())[1]).item for _ in range(2)] == [b"a", b"b"]
    assert subscriber.heard.empty()


@case
async def a_list_that_is_cleared_goes_on_with_its_numbers(ground: Ground) -> None:
    lists = ground.backend().lists
    (*_, third) = await append(lists, b"a", b"b", b"c")
    await lists.clear(TOPIC)
    page = await lists.read(TOPIC, KEPT, 0, 10)
    assert (page.top, page.first, [*page.items]) == (third.position, 4, [])
    (fourth,) = await append(lists, b"d")
    assert fourth.position == Position(third.position.epoch, 4)
    assert offsets(await lists.read(TOPIC, KEPT, 0, 10)) == [(4, b"d")]


@case
async def items_are_forgotten_in_time_and_their_numbers_later(ground: Ground) -> None:
    lists = ground.backend().lists
    short = Kept(items=8, seconds=0.6, outlives=0.8)
    (*_, third) = await append(lists, b"a", b"b", b"c", kept=short)
    async with asyncio.timeout(DEADLINE):
        while (await lists.read(TOPIC, short, 0, 10)).items:
            await asyncio.sleep(0.02)
    (fourth,) = await append(lists, b"d", kept=short)
    assert fourth.position == Position(third.position.epoch, 4)
    assert offsets(await lists.read(TOPIC, short, 0, 10)) == [(4, b"d")]
    async with asyncio.timeout(DEADLINE):
        while (page := await lists.read(TOPIC, short, 0, 10)).top.offset:
            await asyncio.sleep(0.1)
    assert (page.top.offset, [*page.items]) == (0, [])


@case
async def items_that_go_on_coming_are_not_forgotten(ground: Ground) -> None:
    lists = ground.backend().lists
    short = Kept(items=100, seconds=1.5, outlives=0.5)
    for number in range(1, 21):
        (appended,) = await append(lists, b"%d" % number, kept=short)
        await asyncio.sleep(0.1)
    assert appended.position.offset == 20
    assert len((await lists.last(TOPIC, short, 100)).items) == 20
