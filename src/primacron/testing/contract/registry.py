"""What a registry does with entries."""

from __future__ import annotations

import asyncio
from typing import Final

from primacron.cluster.registry import Outcome, Registry, Swapped
from primacron.entries import Entry, Name
from primacron.ids import AccountId, NodeId, SessionId, Sid
from primacron.testing.contract.ground import (
    ANN,
    DEADLINE,
    ONE,
    OTHER_SID,
    SID,
    TWO,
    Case,
    Ground,
    adding_to,
    find,
    renew,
)

CASES: Final[list[Case]] = []
case: Final = adding_to(CASES)


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
