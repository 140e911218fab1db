"""What the sets of sessions do."""

from __future__ import annotations

from typing import Final

from primacron.ids import NodeId
from primacron.testing.contract.ground import (
    ANN,
    KIND,
    ONE,
    OTHER_KIND,
    OTHER_SID,
    SID,
    TWO,
    Case,
    Ground,
    adding_to,
    find,
)

CASES: Final[list[Case]] = []
case: Final = adding_to(CASES)


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
