"""What features keep with a session travels with it, by way of nodes that know them or not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, ClassVar

import msgspec
import pytest

from primacron.dialects.choice import Dialects
from primacron.entries import Entry
from primacron.handoff.snapshot import SessionSnapshot, check_snapshot, read_snapshot, restore, take_snapshot
from primacron.ids import NodeId
from primacron.protocol.engine import Phase
from primacron.protocol.handshake import TransportName
from primacron.sessions.connection import Connection
from primacron.sessions.hub import Hub
from primacron.sessions.session import Session
from tests.sessions.line import Bench, Line


class Visits:
    """How often a session has been seen: a feature that nobody else knows."""

    name: ClassVar[str] = "visits"

    def __init__(self) -> None:
        self.number = 0

    def dump(self, node: NodeId, now: float) -> Any:
        return self.number or None

    def load(self, packed: msgspec.Raw, now: float) -> None:
        self.number = msgspec.msgpack.decode(packed, type=int)


@pytest.fixture
async def hub() -> AsyncIterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def make(*kinds: type[Visits]) -> Bench:
        bench = Bench()
        bench.hub.kinds |= {kind.name: kind for kind in kinds}
        made.append(bench)
        return bench

    yield make
    for bench in made:
        bench.close()


def opened(bench: Bench) -> tuple[Session, Connection]:
    """Open a session on polling."""
    connection, _ = bench.connect("ann", TransportName.POLLING)
    return bench.hub.session_of(connection), connection


def packed(session: Session, connection: Connection) -> bytes:
    """Pack a session with its connection, as its node does when it gives them away."""
    now = asyncio.get_running_loop().time()
    return msgspec.msgpack.encode(take_snapshot(session, connection, NodeId("source"), now))


def moved(snapshot: SessionSnapshot, hub: Hub) -> tuple[Session, Connection]:
    """Unpack a session at another node."""
    dialects = Dialects(hub.options)
    check_snapshot(snapshot, hub, dialects)
    entry = Entry(snapshot.session, NodeId("destination"), snapshot.generation + 1, snapshot.sid)
    return restore(snapshot, hub, dialects, Line(), Phase.UPGRADED, entry, asyncio.get_running_loop().time())


async def test_a_feature_travels_by_way_of_a_node_that_does_not_know_it(hub: Callable[..., Bench]) -> None:
    first, second, third = hub(Visits), hub(), hub(Visits)
    session, connection = opened(first)
    session.demand(Visits).number = 7
    there = moved(read_snapshot(packed(session, connection)), second.hub)
    assert there[0].features["visits"] == msgspec.Raw(b"\x07")
    back, _ = moved(read_snapshot(packed(*there)), third.hub)
    assert back.demand(Visits).number == 7


async def test_a_feature_without_anything_to_carry_does_not_travel(hub: Callable[..., Bench]) -> None:
    session, connection = opened(hub(Visits))
    session.demand(Visits)
    assert read_snapshot(packed(session, connection)).features == {}


async def test_a_session_whose_feature_cannot_be_read_is_refused_before_it_is_taken(hub: Callable[..., Bench]) -> None:
    first, second = hub(), hub(Visits)
    session, connection = opened(first)
    session.features["visits"] = msgspec.Raw(msgspec.msgpack.encode("seven"))
    with pytest.raises(ValueError, match="Expected `int`, got `str`"):
        check_snapshot(read_snapshot(packed(session, connection)), second.hub, Dialects(second.hub.options))
