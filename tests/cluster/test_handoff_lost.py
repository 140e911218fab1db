"""A session whose move goes wrong: messages are lost, the registry forgets, another node claims it, one dies."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from primacron import Primacron, Session
from primacron.cluster.envelope import decode_envelope, decode_item
from primacron.cluster.items import Answer, ApplyLate, Claimed, Fetch, Inquire, Item, Replace, Settle, ToMany
from primacron.cluster.memory import Shared
from primacron.handoff.snapshot import SessionSnapshot, read_snapshot
from primacron.ids import AccountId, NodeId, SessionId, Sid
from tests.cluster.fleet import Fleet, cluster_of, until
from tests.support.engine import Polling
from tests.support.hearing import Hearing
from tests.support.websocket import WebSocket

LEASE = 0.8


class Post:
    """What the nodes say to each other: each item is seen, and lost with its envelope if it is one to be lost."""

    def __init__(self) -> None:
        self.seen: list[type[Item]] = []
        #: Called with each item; True loses the envelope.
        self.loses: Callable[[Item], bool] = lambda _: False

    def passes(self, _: NodeId | None, body: bytes) -> bool:
        items = [item for raw in decode_envelope(body).items if isinstance(item := decode_item(raw), Item)]
        self.seen += map(type, items)
        return not sum(self.loses(item) for item in items)


def snapshot_of(item: Item) -> SessionSnapshot | None:
    """Return the session that is handed over, if this hands one over."""
    try:
        return read_snapshot(item.value) if isinstance(item, Answer) else None
    except ValueError:
        return None


class Road:
    """A source, a destination, and a client that moves from one to the other."""

    def __init__(self, fleet: Fleet, shared: Shared) -> None:
        self.fleet = fleet
        self.shared = shared
        self.post = Post()
        self.source: Primacron
        self.destination: Primacron
        self.ends: list[tuple[str, str]] = []
        self.gone: Hearing
        self.left: Hearing
        self.arrived: Hearing

    async def open(self, upgrade_timeout: float = 0.3) -> None:
        self.source = self.fleet.new(lease=LEASE, upgrade_timeout=upgrade_timeout)
        self.destination = self.fleet.new(lease=LEASE, upgrade_timeout=upgrade_timeout)
        for name, server in (("source", self.source), ("destination", self.destination)):
            server.on("disconnection", lambda _, reason, name=name: self.ends.append((name, reason)))
        self.gone = Hearing(self.source, "disconnection")
        self.left = Hearing(self.source, "leaving")
        self.arrived = Hearing(self.destination, "arrived")
        await self.fleet.start(self.source, self.destination)
        self.shared.passes = self.post.passes

    async def set_out(self, *events: str) -> tuple[Polling, WebSocket]:
        """Let a client connect to the source, and send its upgrade packet to the destination, some events before it."""
        polling = await (await self.fleet.serve(self.source)).poll_in("account=ann&session=one")
        there = await self.fleet.serve(self.destination)
        websocket = await there.websocket(f"sid={polling.sid}")
        await websocket.send("2probe")
        assert await websocket.receive() == "3probe"
        for event in events:
            assert (await polling.emit(event)).status == 200
        await websocket.send("5")
        return polling, websocket

    def session_at(self, server: Primacron) -> Session | None:
        return server.node.hub.sessions.get(AccountId("ann"), SessionId("one"))

    def entry_node(self) -> NodeId | None:
        entry = self.shared.entries.get(AccountId("ann"), {}).get(SessionId("one"))
        return None if entry is None else entry.node


@pytest.fixture
async def road(anyio_backend: object, namespace: str) -> AsyncIterator[Road]:
    shared = Shared()
    async with Fleet(lambda: shared, namespace, []) as fleet:
        yield Road(fleet, shared)
        shared.passes = lambda *_: True


async def test_a_source_that_does_not_hear_of_the_claim_asks_for_it(road: Road) -> None:
    road.post.loses = lambda item: isinstance(item, Claimed)
    await road.open()
    _, websocket = await road.set_out()
    await road.left.next()
    await road.arrived.next()
    assert Inquire in road.post.seen
    assert road.session_at(road.source) is None
    assert road.entry_node() == road.destination.node.id
    await road.source.session("ann", "one").emit("hello", receipt=True)
    assert '"hello"' in str(await websocket.receive())
    assert road.ends == []


async def test_the_end_of_a_session_that_has_moved_is_told_once_although_the_source_knows_nothing(road: Road) -> None:
    road.post.loses = lambda item: isinstance(item, Claimed)
    await road.open()
    _, websocket = await road.set_out()
    await road.arrived.next()
    await websocket.close()
    await road.left.next()
    await until(lambda: road.entry_node() is None, "the entry is gone")
    assert road.ends == [("destination", "transport close")]
    assert road.session_at(road.source) is None


async def test_a_source_that_does_not_hear_that_the_destination_let_go_asks_for_it(road: Road) -> None:
    road.post.loses = lambda item: isinstance(item, Settle) or snapshot_of(item) is not None
    await road.open()
    await road.set_out()
    await road.gone.next()
    assert Inquire in road.post.seen
    assert road.ends == [("source", "transport error")]
    await until(lambda: road.entry_node() is None, "the entry is gone")


async def test_a_websocket_lost_after_the_upgrade_packet_ends_the_session_at_once(road: Road) -> None:
    road.post.loses = lambda item: snapshot_of(item) is not None
    await road.open()
    _, websocket = await road.set_out()
    await until(lambda: road.post.seen[-1:] == [Answer], "the session was handed over")
    await websocket.close()
    await road.gone.next()
    assert Inquire not in road.post.seen
    assert road.ends == [("source", "transport error")]


async def test_messages_that_were_taken_before_a_move_that_fails_are_handled(road: Road) -> None:
    road.post.loses = lambda item: snapshot_of(item) is not None
    await road.open()
    order: list[str] = []
    road.source.event("note")(lambda session: order.append("note"))
    road.source.on("disconnection", lambda *_: order.append("disconnection"))
    _, websocket = await road.set_out("note", "note")
    await until(lambda: road.post.seen[-1:] == [Answer], "the session was handed over")
    assert order == []
    await websocket.close()
    await road.gone.next()
    assert order == ["note", "note", "disconnection"]


async def test_a_session_claimed_by_somebody_else_before_the_destination_knew_of_its_claim_is_closed(
    road: Road,
) -> None:
    await road.open()
    registry, other = cluster_of(road.destination).registry, road.shared.backend().registry
    swap = registry.swap

    async def swap_and_be_replaced(*args: Any) -> Any:
        swapped = await swap(*args)
        claim = await other.claim(AccountId("ann"), SessionId("one"), road.source.node.id, Sid("other"))
        assert claim.before is not None
        assert claim.entry is not None
        assert claim.before.node == road.destination.node.id
        source, generation = cluster_of(road.source), claim.entry.generation
        await source.asked(
            road.destination.node.id,
            lambda number: Replace(number, source.node, AccountId("ann"), SessionId("one"), Sid("other"), generation),
            5.0,
        )
        return swapped

    registry.swap = swap_and_be_replaced  # type: ignore[method-assign, assignment]
    _, websocket = await road.set_out()
    await road.left.next()
    await websocket.receive_close()
    await until(lambda: road.ends, "the session has ended")
    assert road.ends == [("destination", "replaced")]
    assert road.session_at(road.destination) is None


async def test_a_session_moves_although_the_registry_was_emptied_on_its_way(road: Road) -> None:
    emptied: list[Sid] = []

    def empty(item: Item) -> bool:
        snapshot = snapshot_of(item)
        if snapshot is not None and not emptied:
            emptied.append(snapshot.sid)
            road.shared.clear()
        return False

    road.post.loses = empty
    await road.open(upgrade_timeout=10)
    polling, websocket = await road.set_out()
    # Who has lost its entry writes it again; the destination tries as long as there is time.
    await road.arrived.next()
    assert emptied == [polling.sid]
    await websocket.send('4{"event":"x"}')
    assert road.ends == []
    await until(lambda: road.entry_node() == road.destination.node.id, "the registry knows")


async def test_what_was_sent_while_nobody_knew_where_a_session_was_does_not_come_behind_later_sends(
    road: Road,
) -> None:
    await road.open(upgrade_timeout=10)
    third = road.fleet.new(lease=LEASE)
    await road.fleet.start(third)
    await (await road.fleet.serve(road.destination)).poll_in("account=ann&session=two")
    road.post.loses = lambda item: isinstance(item, Fetch)
    _, websocket = await road.set_out()
    await until(lambda: road.destination.node.admissions.transits.arriving, "the destination to ask for the session")

    ann = third.account("ann")
    entry = road.shared.entries[AccountId("ann")].pop(SessionId("one"))
    before = await ann.emit("news", 1, receipt=True)  # to the destination alone: the registry has lost the entry
    road.shared.entries[AccountId("ann")][SessionId("one")] = entry
    after = await ann.emit("news", 2, receipt=True)
    assert (before.sessions, before.certain) == (1, False)
    assert (after.sessions, after.certain) == (2, False)

    road.post.loses = lambda _: False
    await road.arrived.next()
    assert (await ann.emit("news", 3, receipt=True)).sessions == 2
    assert [await websocket.receive() for _ in range(2)] == [f'4{{"event":"news","args":[{each}]}}' for each in (2, 3)]
    assert road.destination.metrics["messages_late_dropped"] == 1


async def test_what_reached_the_destination_alone_does_not_come_behind_what_the_source_passes_on(road: Road) -> None:
    await road.open(upgrade_timeout=10)
    road.post.loses = lambda item: isinstance(item, Fetch | ToMany)
    _, websocket = await road.set_out()
    await until(lambda: road.destination.node.admissions.transits.arriving, "the destination to ask for the session")
    everyone = road.destination.everyone
    everyone.emit("news", 1)
    await until(lambda: ToMany in road.post.seen, "the loss of the message")

    road.post.loses = lambda item: isinstance(item, Claimed)
    await road.arrived.next()
    assert not (await everyone.emit("news", 2, receipt=True)).certain
    road.post.loses = lambda _: False
    await road.left.next()
    await everyone.emit("news", 3, receipt=True)
    assert [await websocket.receive() for _ in range(2)] == [f'4{{"event":"news","args":[{each}]}}' for each in (2, 3)]
    assert road.destination.metrics["messages_late_dropped"] == 1


async def test_what_is_passed_on_to_a_session_that_has_moved_is_not_for_its_next_connection(road: Road) -> None:
    await road.open()
    third = road.fleet.new(lease=LEASE)
    await road.fleet.start(third)
    await (await road.fleet.serve(road.source)).poll_in("account=ann&session=two")
    _, websocket = await road.set_out()
    await road.left.next()
    await websocket.close()
    await until(lambda: road.entry_node() is None, "the end of the session")
    anew = await (await road.fleet.serve(third)).websocket("account=ann&session=one")
    await anew.receive()

    await third.account("ann").emit("news", 1, receipt=True)
    # From where it had moved to where that had ended, and from there to where it is.
    await until(lambda: road.post.seen.count(ApplyLate) == 2, "the source to pass it on")
    assert (await road.destination.session("ann", "one").emit("news", 2, receipt=True)).ok
    assert [await anew.receive() for _ in range(2)] == [f'4{{"event":"news","args":[{each}]}}' for each in (1, 2)]


async def test_a_session_that_somebody_else_claims_on_its_way_ends_as_replaced(road: Road) -> None:
    registry = road.shared.backend().registry

    def claim(item: Item) -> bool:
        if snapshot_of(item) is not None and road.entry_node() == road.source.node.id:
            coroutine = registry.claim(AccountId("ann"), SessionId("one"), NodeId("third"), Sid("other"))
            with pytest.raises(StopIteration):
                coroutine.send(None)
        return False

    road.post.loses = claim
    await road.open()
    _, websocket = await road.set_out()
    await road.gone.next()
    assert road.ends == [("source", "replaced")]
    assert road.entry_node() == "third"
    await websocket.receive_close()


def killed_at(road: Road, is_moment: Callable[[Item], bool]) -> Callable[[Item], bool]:
    """Return what lets the destination fall silent at a moment: it hears nothing, and renews no lease."""

    def kill(item: Item) -> bool:
        destination = cluster_of(road.destination)
        if is_moment(item) and destination._running is not None:
            destination._running.cancel()
            road.destination.node._is_hurried = True  # when the test ends it waits for nobody
            road.shared.buses.pop(destination.node, None)
        return destination.node not in road.shared.buses

    return kill


async def test_a_session_whose_destination_dies_before_its_claim_ends_at_the_source(road: Road) -> None:
    road.post.loses = killed_at(road, lambda item: snapshot_of(item) is not None)
    await road.open()
    await road.set_out()
    await road.gone.next()
    assert road.ends == [("source", "transport error")]
    await until(lambda: road.entry_node() is None, "the entry is gone")


async def test_a_session_whose_destination_dies_after_its_claim_is_gone_with_it(road: Road) -> None:
    road.post.loses = killed_at(road, lambda item: isinstance(item, Claimed))
    await road.open()
    await road.set_out()
    await road.left.next()
    assert road.ends == []
    assert road.session_at(road.source) is None
    receipt = await road.source.session("ann", "one").emit("hello", receipt=True)
    assert receipt.status in ("node_gone", "unsent")
