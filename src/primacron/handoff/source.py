"""The source's side of a handoff, from the snapshot on; see :mod:`primacron.handoff.states`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Coroutine
from typing import Any, Final, Protocol, TypeAlias
from weakref import WeakValueDictionary

import msgspec

from primacron.cluster.cluster import Cluster
from primacron.cluster.errors import BackendUnavailable
from primacron.cluster.items import Answer, Claimed, Fetch, Inquire, Reply, Settle
from primacron.entries import Entry, Name
from primacron.errors import CallRefused
from primacron.handoff.snapshot import take_snapshot
from primacron.handoff.states import (
    SourceAction,
    SourceEvent,
    SourceState,
    claimed,
    fenced,
    read_as_source,
    transfer_source,
)
from primacron.ids import AccountId, NodeId, Sid
from primacron.protocol.close_reasons import REPLACED, TRANSPORT_CLOSE, TRANSPORT_ERROR, CloseReason
from primacron.routing.transit import DeferredActs, Departing, Transits
from primacron.sessions.calls import Answer as CallAnswer
from primacron.sessions.calls import Calls
from primacron.sessions.connection import Connection
from primacron.sessions.hub import Hub
from primacron.sessions.session import Session

#: Seconds between two inquiries about the outcome of a handoff, and the timeout of each.
ASK_EVERY: Final = 0.5
ANSWERED_IN: Final = 1.0
#: Identifies a handoff across the cluster: the destination, and its number for the handoff.
Key: TypeAlias = tuple[NodeId, int]

#: The verdicts that the destination may give on a handoff.
_VERDICTS: Final = {"claimed": SourceEvent.CLAIMED, "left": SourceEvent.LEFT, "beaten": SourceEvent.BEATEN}


class Offer(Protocol):
    """A session that another node may fetch."""

    def fetch(self, item: Fetch) -> None:
        """Answer the destination's request for the session."""

    def settle(self, why: str) -> None:
        """Handle the destination's refusal of the session; see :class:`Settle`."""


class Sources:
    """The sessions of this node that are offered to other nodes, in transit to them, or have just moved."""

    def __init__(
        self,
        hub: Hub,
        cluster: Cluster,
        transits: Transits,
        deferred: DeferredActs,
        departed: Callable[[Session], None],
        release: Callable[[AccountId, Entry], None],
        strayed: Callable[[Sid], None],
        run: Callable[[Coroutine[Any, Any, Any]], object],
    ) -> None:
        self.hub = hub
        self.cluster = cluster
        #: Called with a session that another node now owns.
        self.departed = departed
        #: Removes an entry that was written for a session which has moved.
        self.release = release
        self.run = run
        self._transits = transits
        self._deferred = deferred
        #: Called with the sid of a connection that another node requests or gives up, but that is not on offer.
        self._strayed = strayed
        self._offers: dict[Key, Offer] = {}
        self._handoffs: dict[Key, OutgoingHandoff] = {}
        #: Sessions that have moved but are still referenced on this node: their calls may still be answered.
        self._gone: WeakValueDictionary[Name, Session] = WeakValueDictionary()
        cluster.on(Fetch, self._fetch)
        cluster.on(Settle, self._settle)
        cluster.on(Claimed, self._claimed)
        cluster.on(Reply, self._reply)

    # Before the transfer

    def offer(self, key: Key, offer: Offer) -> None:
        """Offer a session to another node."""
        self._offers[key] = offer

    def withdraw(self, key: Key) -> None:
        """Withdraw an offer."""
        self._offers.pop(key, None)

    def can_travel(self, session: Session) -> bool:
        """Tell whether a session can be serialized; if it cannot, the error is reported to the application."""
        try:
            session.pack_data()
        except TypeError as error:
            self.hub.receiver.problem(error, session=session)
            return False
        return True

    def hand_over(self, key: Key, connection: Connection, timeout: float) -> OutgoingHandoff:
        """
        Freeze a session and take its snapshot, for the destination to fetch.

        ``timeout`` is in seconds: without a verdict by then, the source inquires at the destination.
        """
        self.withdraw(key)
        handoff = self._handoffs[key] = OutgoingHandoff(self, key, connection)
        self._transits[handoff.name] = handoff
        self.hub.moving.add(handoff.session)
        self.run(handoff.outcome())  # shutdown waits for it
        self.hub.wheel.alarm(timeout, lambda: handoff.step(SourceEvent.EXPIRED))
        return handoff

    # Requests of the destination

    def has_handed_over(self, key: Key) -> bool:
        """Tell whether the transfer of a session is in progress."""
        return key in self._handoffs

    def _fetch(self, item: Fetch, _: NodeId) -> None:
        offer = self._find(item)
        if offer is not None:
            offer.fetch(item)
            return
        self.cluster.answer(item, "refused")
        self._strayed(item.sid)

    def _settle(self, item: Settle, _: NodeId) -> None:
        offer = self._find(item)
        if offer is not None:
            offer.settle(item.why)
        elif item.why != "cancelled":
            self._strayed(item.sid)
        self.cluster.answer(item, "accepted")

    def _find(self, item: Fetch | Settle) -> Offer | None:
        key = (item.origin, item.handoff)
        return self._handoffs.get(key) or self._offers.get(key)

    def _claimed(self, item: Claimed, _: NodeId) -> None:
        handoff = self._handoffs.get((item.origin, item.handoff))
        if handoff is not None:
            handoff.step(SourceEvent.CLAIMED)
        self.cluster.answer(item, "accepted")

    # Sessions that have moved

    def _reply(self, item: Reply, _: NodeId) -> None:
        session = self._gone.get((item.account, item.session))
        if session is not None:
            refusal = None if item.error is None else CallRefused(*item.error)
            args = () if item.error is not None else msgspec.msgpack.decode(item.args, type=list[Any])
            session.demand(Calls).settle(item.number, CallAnswer(tuple(args), refusal))

    def of(self, name: Name, entry: Entry) -> OutgoingHandoff | None:
        """Return the outgoing handoff of the session with this entry; None if it is not in transit."""
        transit = self._transits.get(name)
        return transit if isinstance(transit, OutgoingHandoff) and transit.entry.sid == entry.sid else None

    def forget(self, handoff: OutgoingHandoff) -> None:
        """Drop a handoff whose session is no longer in transit."""
        self._handoffs.pop(handoff.key, None)
        if self._transits.get(handoff.name) is handoff:
            del self._transits[handoff.name]
        self.hub.moving.discard(handoff.session)

    def depart(self, handoff: OutgoingHandoff, entry: Entry) -> None:
        """Record where a session has moved to."""
        name, session = handoff.name, handoff.session
        self.cluster.leave_tombstone(name, entry)
        self.cluster.locations.put(name, entry, self.hub.loop.time())
        self._deferred.depart(session, entry)
        if session.demand(Calls).waiting:
            self._gone[name] = session


class OutgoingHandoff(Departing):
    """The handoff of one session to another node, from its snapshot on."""

    def __init__(self, sources: Sources, key: Key, connection: Connection) -> None:
        session = sources.hub.session_of(connection)
        super().__init__(session)
        self._sources = sources
        self._hub = sources.hub
        self._cluster = sources.cluster
        self._destination, self._number = key
        #: Whether this node has restored the entry after the registry lost it.
        self._is_rewritten = False
        self.key = key
        self.state = SourceState.FROZEN
        snapshot = take_snapshot(session, connection, self._cluster.node, self._hub.loop.time())
        self._packed = msgspec.Raw(msgspec.msgpack.encode(snapshot))
        connection.give_away(TRANSPORT_CLOSE)
        session.freeze()

    def step(self, event: SourceEvent) -> None:
        """Apply an event to the state machine and carry out the resulting action."""
        self.state, action = transfer_source(self.state, event)
        if action is SourceAction.PASS_ON:
            self._pass_on()
        elif action is SourceAction.END:
            self._end(TRANSPORT_ERROR)
        elif action is SourceAction.END_REPLACED:
            self._end(REPLACED)
        elif action is SourceAction.INQUIRE:
            self._inquire()
        elif action is SourceAction.LOOK:
            self._sources.run(self._look())
        elif action is SourceAction.REGISTER:
            self._sources.run(self._register())
        elif action is SourceAction.FENCE:
            self._sources.run(self._fence())

    # The session

    def send(self, item: Fetch) -> None:
        """Answer a fetch with the snapshot."""
        self._cluster.answer(item, "accepted", self._packed)

    def _pass_on(self) -> None:
        """Release the session and everything held for it to the destination, which now owns it."""
        entry, sources = claimed(self.entry, self._destination), self._sources
        sources.forget(self)
        self._hub.sessions.remove(self.session.account, self.session)
        sources.depart(self, entry)
        if self._is_rewritten:
            sources.release(self.session.account, self.entry)
        sources.departed(self.session)
        self.session.hand_off()
        self.release(entry)

    def _end(self, reason: CloseReason) -> None:
        """End the session: its client is no longer reachable, or another claim has replaced it."""
        self._sources.forget(self)
        self.session.close(reason)
        self.session.release()  # these messages are still handled: the client knows that they were received
        self.release(None)

    # Requests of the destination

    def fetch(self, item: Fetch) -> None:
        """Send the snapshot again, as it may have been lost."""
        self.state, action = transfer_source(self.state, SourceEvent.FETCHED)
        if action is SourceAction.SEND_AGAIN:
            self.send(item)

    def settle(self, why: str) -> None:
        """Apply the destination's verdict."""
        event = _VERDICTS.get(why)
        if event is not None:
            self.step(event)

    def _inquire(self) -> None:
        """Ask the destination for its verdict, unless it is known by now."""
        if self.state is SourceState.FROZEN:
            node, number = self._cluster.node, self._number
            self._cluster.ask(self._destination, lambda id_: Inquire(id_, node, number), ANSWERED_IN, self._told)

    def _told(self, answer: Answer) -> None:
        self.settle(answer.status)
        if self._cluster.is_gone(self._destination):
            self.step(SourceEvent.GONE)
        else:
            self._hub.wheel.alarm(ASK_EVERY, self._inquire)

    # The registry

    def rewritten(self) -> None:
        """Record that this node has restored the entry after the registry lost it."""
        self._is_rewritten = True

    async def _look(self) -> None:
        if self.state is not SourceState.FENCING:
            return
        try:
            ask, registry = self._cluster.link.ask, self._cluster.registry
            found = await ask(registry.find, self.name[0], [self.entry.id])
        except BackendUnavailable:
            self._look_later()
        else:
            self._read(found[0])

    def _read(self, entry: Entry | None) -> None:
        event = read_as_source(entry, self.entry, self._destination)
        if event is SourceEvent.FENCED:
            self.session.entry = fenced(self.entry)
        self.step(event)

    def _look_later(self) -> None:
        self._hub.wheel.alarm(ASK_EVERY, lambda: self._sources.run(self._look()))

    async def _register(self) -> None:
        self.rewritten()
        with contextlib.suppress(BackendUnavailable):
            await self._cluster.link.ask(self._cluster.registry.restore, [(self.name[0], self.entry)])
        self._look_later()

    async def _fence(self) -> None:
        """Raise the generation of the entry, so that the destination can no longer claim it."""
        try:
            ask, registry = self._cluster.link.ask, self._cluster.registry
            swapped = await ask(registry.swap, self.name[0], self.entry, fenced(self.entry))
        except BackendUnavailable:
            self._look_later()
        else:
            self._read(swapped.current)
