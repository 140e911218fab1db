"""Two nodes of one process that share a backend."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from primacron.accounts import AccountMap
from primacron.cluster.memory import MemoryBus, MemoryRegistry
from primacron.cluster.wire import VERSION, CloseReplaced
from primacron.config import read_options
from primacron.contract.validation import Contract
from primacron.emitter import Emitter
from primacron.handlers import Handlers
from primacron.ids import AccountId, NodeId, Sid
from primacron.metrics import Metrics
from primacron.node import Admission, Applicant, Node
from primacron.protocol.closing import CloseReason
from primacron.protocol.engine import Phase
from primacron.protocol.handshake import V4
from primacron.protocol.parcels import Parcel
from primacron.sessions.session import Session
from primacron.web import HttpRequest


class Line:
    """A carrier that keeps what it is given."""

    def __init__(self) -> None:
        self.ready = True
        self.sent: list[Parcel] = []
        self.closed: asyncio.Future[CloseReason] = asyncio.get_running_loop().create_future()

    def write(self, parcels: list[Parcel]) -> None:
        self.sent += parcels

    def backlog(self) -> int:
        return 0

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def close(self, reason: CloseReason) -> None:
        self.closed.set_result(reason)


def make_node(registry: MemoryRegistry, bus: MemoryBus) -> Node:
    options = read_options({})
    handlers = Handlers(options, Contract(max_args=8, max_name=64), Emitter(), Metrics())
    handlers.generator = lambda request: request.query["session"]
    handlers.node = Node(options, handlers, registry, bus, Metrics())
    return handlers.node


async def connect(node: Node, session: str) -> tuple[Session, Line]:
    request = HttpRequest("GET", "/stream/", f"account=ann&session={session}", {})
    applicant = Applicant(request, AccountId("ann"), V4, node.dialects.main)
    admission: Admission = await node.admit(applicant)
    line = Line()
    return node.open(admission, line, Phase.WEBSOCKET).session, line


@pytest.fixture
async def nodes() -> AsyncIterator[tuple[Node, Node]]:
    registry, bus = MemoryRegistry(), MemoryBus()
    pair = make_node(registry, bus), make_node(registry, bus)
    for node in pair:
        await node.join()
    yield pair
    for node in pair:
        node.end_sessions()
        await node.finish(node.loop.time() + 1.0)
        await node.leave()


async def test_a_session_claimed_by_another_node_is_closed_where_it_was(nodes: tuple[Node, Node]) -> None:
    first, second = nodes
    _, old = await connect(first, "one")
    session, new = await connect(second, "one")
    assert (await asyncio.wait_for(old.closed, 5)).text == "replaced"
    assert not new.closed.done()
    assert len(first.hub.sessions) == 0
    entry = await first.registry.find(AccountId("ann"), session.id)
    assert entry is not None
    assert entry.node == second.id


async def test_the_end_of_a_replaced_session_leaves_the_newer_one_in_the_registry(nodes: tuple[Node, Node]) -> None:
    first, second = nodes
    old, _ = await connect(first, "one")
    new, _ = await connect(second, "one")
    assert old.connection is not None
    old.connection.end(CloseReason("test", 1000))
    assert await first.registry.find(AccountId("ann"), new.id) == new.entry


@pytest.mark.parametrize(
    "body",
    [b"", b"\xc1", b"bad", b"\x93\xc0", b"\x90", CloseReplaced(Sid("x"), VERSION + 1).encode(), b"\x92\xa1x\xa1y"],
)
async def test_a_message_that_cannot_be_read_is_counted_and_dropped(nodes: tuple[Node, Node], body: bytes) -> None:
    first, second = nodes
    session, line = await connect(second, "one")
    assert await first.bus.publish(first.id, second.id, body) == 1
    assert await first.bus.publish(first.id, NodeId("nobody"), body) == 0
    await first.bus.publish(first.id, second.id, CloseReplaced(session.entry.sid).encode())
    await asyncio.wait_for(line.closed, 5)
    assert second.metrics["bus_messages_unreadable"] == 1


def test_an_account_map_keeps_one_or_many_and_counts_them() -> None:
    class Thing:
        def __init__(self, id: str) -> None:
            self.id = id

    things: AccountMap[Thing] = AccountMap()
    ann, bob = AccountId("ann"), AccountId("bob")
    one, two, other = Thing("one"), Thing("two"), Thing("one")
    for account, thing in ((ann, one), (ann, two), (bob, one)):
        things.add(account, thing)
    assert (len(things), list(things), things.of(ann)) == (3, [one, two, one], [one, two])
    assert things.get(ann, "two") is two  # type: ignore[arg-type]
    assert things.get(bob, "two") is None  # type: ignore[arg-type]
    things.add(ann, other)
    assert not things.remove(ann, one)
    assert things.remove(ann, other)
    assert things.remove(ann, two)
    assert things.remove(bob, one)
    assert not things.remove(bob, one)
    assert (len(things), list(things), things.of(ann), things.get(ann, "one")) == (0, [], [], None)  # type: ignore[arg-type]
