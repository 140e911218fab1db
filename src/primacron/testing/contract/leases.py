"""What a registry does with leases, cluster keys and epochs."""

from __future__ import annotations

import asyncio
from typing import Final

from primacron.cluster.registry import Lease
from primacron.ids import NodeId
from primacron.testing.contract.ground import ANN, DEADLINE, ONE, SID, TWO, Case, Ground, adding_to, renew

CASES: Final[list[Case]] = []
case: Final = adding_to(CASES)


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
