"""The destination's side of a handoff, from the request for the session on; see :mod:`primacron.handoff.states`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Final, Protocol

import msgspec

from primacron.cluster.cluster import Cluster
from primacron.cluster.errors import BackendUnavailable
from primacron.cluster.items import Answer, Claimed, Fetch, Inquire, Request, Settle
from primacron.cluster.requests import NODE_GONE
from primacron.dialects.choice import Dialects
from primacron.entries import Entry, Name
from primacron.errors import PrimacronError, ProtocolError
from primacron.handoff.snapshot import (
    SessionSnapshot,
    check_snapshot,
    last_words,
    messages_of,
    read_goodbye,
    read_snapshot,
    restore,
)
from primacron.handoff.states import (
    DestinationAction,
    DestinationEvent,
    DestinationState,
    claimed,
    read_as_destination,
    transfer_destination,
)
from primacron.ids import NodeId, Sid
from primacron.protocol.close_reasons import REPLACED, CloseReason
from primacron.protocol.engine import Phase
from primacron.protocol.outgoing import OutgoingPacket
from primacron.routing.transit import Arriving, DeferredActs, Transits
from primacron.sessions.connection import Connection
from primacron.sessions.hub import Hub
from primacron.sessions.recent import Recent
from primacron.sessions.session import Session
from primacron.sessions.transport import Transport
from primacron.times import Times

#: Seconds without an answer after which a request to the source is repeated.
ASK_AGAIN: Final = 1.0
#: Seconds after which a fetch is repeated when the source could not hand the session over yet.
FETCH_AGAIN: Final = 0.1
#: Seconds between two attempts to claim an entry.
CLAIM_AGAIN: Final = 0.5
#: Number of handoffs whose verdict is kept for a source that may still inquire.
MAX_VERDICTS: Final = 65_536
#: The verdict sent to the source when this node gives up the session.
_WHY: Final = {DestinationAction.LEAVE: "left", DestinationAction.YIELD: "beaten"}


class Claimant(Protocol):
    """The client that waits for an incoming session, whatever its transport."""

    @property
    def transport(self) -> Transport:
        """The transport of the session's connection on this node; a null transport if the client has disconnected."""

    @property
    def phase(self) -> Phase:
        """The phase in which that connection starts."""

    @property
    def gone(self) -> CloseReason | None:
        """Why the client disconnected; None while it is connected."""

    def attach(self, connection: Connection) -> None:
        """Bind the client to the restored connection, which receives its packets from now on."""

    def catch_up(self, connection: Connection) -> None:
        """Replay to the connection the frames that the client sent before it was attached."""

    def close(self, reason: CloseReason | None = None, packets: Sequence[OutgoingPacket] = ()) -> None:
        """Disconnect the client, if it is still connected, after its last packets; None keeps the recorded reason."""


class Destinations:
    """The incoming handoffs of this node, and what they share."""

    def __init__(
        self,
        hub: Hub,
        cluster: Cluster,
        dialects: Dialects,
        transits: Transits,
        deferred: DeferredActs,
        expected: Callable[[dict[str, msgspec.Raw], NodeId], Awaitable[None]],
        arrived: Callable[[Session, Connection, list[str | bytes]], None],
        catch_up: Callable[[Name, asyncio.Future[None]], None],
        run: Callable[[Coroutine[Any, Any, Any]], object],
        times: Times,
    ) -> None:
        self.hub = hub
        self.cluster = cluster
        self.dialects = dialects
        #: Called with the packed states of a session's features, and its node, before it is claimed: to prepare for it.
        self.expected = expected
        #: Called with a session that has arrived, and its unhandled messages.
        self.arrived = arrived
        #: Called with a session's name, and a future that is done once everything sent to its old node has arrived.
        self.catch_up = catch_up
        self.run = run
        self.times = times
        #: Includes sessions that have been received and whose entry is being claimed.
        self.transits = transits
        #: What is held for sessions that have arrived.
        self.deferred = deferred
        #: Verdicts of handoffs that their source has not confirmed yet.
        self._verdicts: dict[int, str] = {}
        cluster.on(Inquire, self._inquire)

    def _inquire(self, item: Inquire, _: NodeId) -> None:
        # An unknown handoff has been abandoned.
        self.cluster.answer(item, self._verdicts.get(item.handoff, "left"))

    def record(self, handoff: int, verdict: str) -> None:
        """Record the verdict of a handoff, or that it is still ``open``."""
        if len(self._verdicts) >= MAX_VERDICTS:
            del self._verdicts[next(iter(self._verdicts))]
        self._verdicts[handoff] = verdict

    def forget(self, handoff: int) -> None:
        """Discard the verdict of a handoff, which its source has confirmed."""
        self._verdicts.pop(handoff, None)

    def let_go(self, handoff: int, source: NodeId, sid: Sid, why: str) -> None:
        """Tell a source that this node does not take over the session, and why; see :class:`Settle`."""
        heard = self.cluster.loop.create_future()
        self.settle(handoff, source, why, lambda id_: Settle(id_, self.cluster.node, handoff, sid, why), heard)

    def settle(
        self,
        handoff: int,
        source: NodeId,
        verdict: str,
        make: Callable[[int], Request],
        heard: asyncio.Future[None],
    ) -> None:
        """Send a source the verdict until it confirms it or its lease has expired; shutdown waits for that."""
        self.record(handoff, verdict)
        self._tell(handoff, source, make, heard)
        self.run(_wait(heard))

    def _tell(self, handoff: int, source: NodeId, make: Callable[[int], Request], heard: asyncio.Future[None]) -> None:
        def settled(answer: Answer) -> None:
            if answer.status == "accepted":
                self.forget(handoff)
            elif not self.cluster.is_gone(source):
                self.hub.wheel.alarm(ASK_AGAIN, lambda: self._tell(handoff, source, make, heard))
                return
            if not heard.done():
                heard.set_result(None)

        self.cluster.ask(source, make, ASK_AGAIN, settled)


async def _wait(heard: asyncio.Future[None]) -> None:
    await asyncio.wait({heard})


class IncomingHandoff(Arriving):
    """The handoff of one session to this node, where its client waits."""

    def __init__(
        self, destinations: Destinations, handoff: int, source: NodeId, sid: Sid, claimant: Claimant, timeout: float
    ) -> None:
        super().__init__(source)
        self._destinations = destinations
        self._hub = destinations.hub
        self._cluster = destinations.cluster
        self._number = handoff
        self._sid = sid
        self._claimant = claimant
        self._timeout = timeout
        self._snapshot: SessionSnapshot | None = None
        #: Done once the source has confirmed the verdict: what it passes on arrives before its answer.
        self._caught_up: asyncio.Future[None] = destinations.hub.loop.create_future()
        self.state = DestinationState.FETCHING

    def begin(self) -> None:
        """Request the session from the source."""
        self._destinations.record(self._number, "open")
        self._destinations.transits.arriving.add(self)
        self._hub.wheel.alarm(self._timeout, lambda: self.step(DestinationEvent.EXPIRED))
        self._fetch()

    def step(self, event: DestinationEvent) -> None:
        """Apply an event to the state machine and carry out the resulting action."""
        self.state, action = transfer_destination(self.state, event)
        if action is DestinationAction.CLAIM:
            self._destinations.transits[self._name] = self
            self._destinations.run(self._claim())
        elif action is DestinationAction.CLAIM_AGAIN:
            self._hub.wheel.alarm(CLAIM_AGAIN, lambda: self._destinations.run(self._claim()))
        elif action in (DestinationAction.OPEN, DestinationAction.OPEN_ENDED):
            self._open()
        elif action is DestinationAction.LET_GO:
            self._claimant.close()
        elif action is not DestinationAction.NOTHING:
            self._fail(action)

    def _fail(self, action: DestinationAction) -> None:
        snapshot = self._snapshot
        if action is DestinationAction.YIELD and snapshot is not None:
            self._claimant.close(REPLACED, last_words(snapshot, self._destinations.dialects))
        else:
            self._claimant.close()
        why = _WHY.get(action)
        if why is None:
            self._destinations.forget(self._number)
        else:
            self._destinations.let_go(self._number, self.source, self._sid, why)
        self._end_transit(None)
        self._snapshot = None

    def _end_transit(self, entry: Entry | None) -> None:
        """Release what was held for the session in transit."""
        transits = self._destinations.transits
        transits.arriving.discard(self)
        if self._snapshot is not None and transits.get(self._name) is self:
            del transits[self._name]
        self.release(entry)

    # With the source

    def _fetch(self) -> None:
        def settled(answer: Answer) -> None:
            if answer.status == "accepted":
                self._take(answer.value)
            elif answer.status == "ended":
                self._say_goodbye(answer.value)
            elif answer.status in ("refused", NODE_GONE) or self._cluster.is_gone(self.source):
                self.step(DestinationEvent.REFUSED)
            elif self.state is DestinationState.FETCHING:
                self._hub.wheel.alarm(FETCH_AGAIN, self._fetch)

        if self.state is DestinationState.FETCHING:
            node, number, sid = self._cluster.node, self._number, self._sid
            self._cluster.ask(self.source, lambda id_: Fetch(id_, node, number, sid), ASK_AGAIN, settled)

    def _say_goodbye(self, packed: msgspec.Raw) -> None:
        """Deliver the last packets of a session that ended before it was handed over."""
        try:
            packets, reason = read_goodbye(packed)
        except ValueError as error:
            self._hub.receiver.problem(ProtocolError(f"last packets that cannot be read: {error}"))
        else:
            self._claimant.close(reason, packets)
        self.step(DestinationEvent.REFUSED)

    def _take(self, packed: msgspec.Raw) -> None:
        if self.state is not DestinationState.FETCHING:
            return
        try:
            snapshot = read_snapshot(packed)
            check_snapshot(snapshot, self._hub, self._destinations.dialects)
        except (PrimacronError, ValueError) as error:
            self._hub.receiver.problem(ProtocolError(f"a session that cannot be read: {error}"))
            self.step(DestinationEvent.LOST)
        else:
            self._snapshot = snapshot
            self.step(DestinationEvent.HANDED)

    # With the registry

    @property
    def _name(self) -> Name:
        snapshot = self._snapshot
        assert snapshot is not None
        return snapshot.account, snapshot.session

    @property
    def _entries(self) -> tuple[Entry, Entry]:
        """The source's entry, and the one that is to replace it."""
        snapshot = self._snapshot
        assert snapshot is not None
        old = Entry(snapshot.session, self.source, snapshot.generation, snapshot.sid)
        return old, claimed(old, self._cluster.node)

    async def _claim(self) -> None:
        snapshot = self._snapshot
        if snapshot is None:
            return
        old, new = self._entries
        ask, registry = self._cluster.link.ask, self._cluster.registry
        await self._destinations.expected(snapshot.features, self.source)
        try:
            await ask(registry.place, snapshot.sid, self._name, self._hub.options.timeout)
            swapped = await ask(registry.swap, snapshot.account, old, new)
        except BackendUnavailable:
            self.step(DestinationEvent.UNKNOWN)
        else:
            self.step(read_as_destination(swapped.outcome, swapped.current, new))

    # The session

    def _open(self) -> None:
        """Restore the session, which this node now owns."""
        snapshot, claimant = self._snapshot, self._claimant
        assert snapshot is not None
        self._settle_claimed()
        _, entry = self._entries
        now, dialects, reason = self._hub.loop.time(), self._destinations.dialects, claimant.gone
        session, connection = restore(snapshot, self._hub, dialects, claimant.transport, claimant.phase, entry, now)
        self._hub.moving.add(session)
        self._hub.wheel.alarm(self._destinations.times.remember, lambda: self._settle_down(session))
        self._destinations.deferred.follow(session, self, self._caught_up)
        claimant.attach(connection)
        self._destinations.arrived(session, connection, messages_of(snapshot))
        if reason is not None:
            connection.end(reason)
        else:
            self.apply_urgent(session)
            self._end_if_replaced(entry, connection)
            claimant.catch_up(connection)
        self._destinations.catch_up(self._name, self._caught_up)
        self._end_transit(entry)

    def _settle_claimed(self) -> None:
        node, number, sid = self._cluster.node, self._number, self._sid
        self._destinations.settle(
            number, self.source, "claimed", lambda id_: Claimed(id_, node, number, sid), self._caught_up
        )

    def _end_if_replaced(self, entry: Entry, connection: Connection) -> None:
        """End a session that another claim replaced before this node knew that it owned it."""
        other = self._cluster.tombstones.get(self._name, self._hub.loop.time())
        if other is not None and other.rank > entry.rank:
            connection.end(REPLACED)

    def _settle_down(self, session: Session) -> None:
        """Stop tracking the fan-out serials that were needed to deduplicate sends around the handoff."""
        self._hub.moving.discard(session)
        session.demand(Recent).serials.clear()
