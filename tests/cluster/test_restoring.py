"""Entries that are written again: those of sessions that live, and no others."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from primacron.cluster.memory import Shared
from primacron.cluster.registry import Outcome, Swapped
from primacron.entries import Entry
from primacron.ids import AccountId, NodeId, SessionId, Sid
from tests.cluster.fleet import Fleet, local, registration_of, until
from tests.support.hearing import Hearing

ANN, ONE = AccountId("ann"), SessionId("one")


@pytest.fixture
async def shared(anyio_backend: object) -> Shared:
    return Shared()


@pytest.fixture
async def fleet(shared: Shared, namespace: str) -> AsyncIterator[Fleet]:
    async with Fleet(lambda: shared, namespace, []) as fleet:
        yield fleet


def entry_in(shared: Shared) -> Entry | None:
    return shared.entries.get(ANN, {}).get(ONE)


async def test_an_entry_that_was_written_after_its_session_had_ended_is_removed(fleet: Fleet, shared: Shared) -> None:
    [server] = await fleet.started(1)
    client = await fleet.join(server, "ann", "one")
    entry = local(server, "ann", "one").entry
    await client.close()
    await until(lambda: entry_in(shared) is None, "the session has ended")
    # As of a list that was made before the end, and is written piece by piece.
    [found] = await shared.backend().registry.restore([(ANN, entry)])
    assert found == Swapped(Outcome.DONE, entry)
    registration_of(server).restored(ANN, entry, found)
    await until(lambda: entry_in(shared) is None, "the entry is removed")


async def test_an_entry_that_was_written_for_a_session_that_came_back_stays(fleet: Fleet, shared: Shared) -> None:
    [server] = await fleet.started(1)
    old = Entry(ONE, server.node.id, 1, Sid("old"))
    await fleet.join(server, "ann", "one")
    entry = local(server, "ann", "one").entry
    registration_of(server).restored(ANN, old, Swapped(Outcome.DONE, old))
    assert entry_in(shared) == entry
    assert local(server, "ann", "one").connected


async def test_a_session_whose_name_has_a_later_claim_is_closed(fleet: Fleet, shared: Shared) -> None:
    server = fleet.new()
    ended = Hearing(server, "disconnection")
    await fleet.start(server)
    await fleet.join(server, "ann", "one")
    entry = local(server, "ann", "one").entry
    later = Entry(ONE, NodeId("elsewhere"), entry.generation + 1, Sid("other"))
    shared.entries[ANN][ONE] = later
    [found] = await shared.backend().registry.restore([(ANN, entry)])
    assert found is not None
    registration_of(server).restored(ANN, entry, found)
    assert (await ended.next())[1] == "replaced"
    assert entry_in(shared) == later


async def test_all_entries_are_written_again_after_the_registry_was_emptied(fleet: Fleet, shared: Shared) -> None:
    servers = await fleet.started(3, lease=0.8)
    names = [f"s{number}" for number in range(60)]
    for number, name in enumerate(names):
        await fleet.join(servers[number % 3], "ann", name)
    before = dict(shared.entries[ANN])
    assert len(before) == 60
    shared.clear()
    await until(lambda: shared.entries.get(ANN) == before, "all entries are there again")
