"""Sessions of this node that go to another one, from the snapshot on; see :mod:`primacron.handoff.states`."""

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

#: Seconds between two questions what became of a session, and for which an answer is awaited.
ASK_EVERY: Final = 0.5
ANSWERED_IN: Final = 1.0
#: One handoff, everywhere: the node where the session is to go, and the number of the handoff there.
Key: TypeAlias = tuple[NodeId, int]

#: What the destination may say became of a handoff.
_VERDICTS: Final = {"claimed": SourceEvent.CLAIMED, "left": SourceEvent.LEFT, "beaten": SourceEvent.BEATEN}


class Offer(Protocol):
    """A session that another node may fetch."""

    def fetch(self, item: Fetch) -> None:
        """Answer the node that asks for the session."""

    def settle(self, why: str) -> None:
        """Hear why that node does not take it; see :class:`Settle`."""


class Sources:
    """All sessions that are offered to other nodes, are in transit to them, or have gone there a moment ago."""

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
        #: Called with a session that another node has now.
        self.departed = departed
        #: Takes an entry back that was written for a session which has gone.
        self.release = release
        self.run = run
        self._transits = transits
        self._deferred = deferred
        #: Called with a connection that another node asks for, or lets go of, and that is not offered.
        self._strayed = strayed
        self._offers: dict[Key, Offer] = {}
        self._handoffs: dict[Key, OutgoingHandoff] = {}
        #: Sessions that have gone and that somebody here still holds: answers to their calls may come.
        self._gone: WeakValueDictionary[Name, Session] = WeakValueDictionary()
        cluster.on(Fetch, self._fetch)
        cluster.on(Settle, self._settle)
        cluster.on(Claimed, self._claimed)
        cluster.on(Reply, self._reply)

    # Before the transfer

    def offer(self, key: Key, offer: Offer) -> None:
        """Let another node fetch a session."""
        self._offers[key] = offer

    def withdraw(self, key: Key) -> None:
        """Let nobody fetch it any more."""
        self._offers.pop(key, None)

    def can_travel(self, session: Session) -> bool:
        """Tell whether a session can be packed; listeners of errors hear why not."""
        try:
            session.pack_data()
        except TypeError as error:
            self.hub.receiver.problem(error, session=session)
            return False
        return True

    def hand_over(self, key: Key, connection: Connection, timeout: float) -> OutgoingHandoff:
        """
        Freeze a session, and have its snapshot fetched.

        ``timeout`` is in seconds: the destination is asked when nothing was heard from it by then.
        """
        self.withdraw(key)
        handoff = self._handoffs[key] = OutgoingHandoff(self, key, connection)
        self._transits[handoff.name] = handoff
        self.hub.moving.add(handoff.session)
        self.run(handoff.outcome())  # a server that ends waits for it
        self.hub.wheel.alarm(timeout, lambda: handoff.step(SourceEvent.EXPIRED))
        return handoff

    # What the destination says

    def has_handed_over(self, key: Key) -> bool:
        """Tell whether the transfer of a session is under way."""
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

    # What is left of sessions that have gone

    def _reply(self, item: Reply, _: NodeId) -> None:
        session = self._gone.get((item.account, item.session))
        if session is not None:
            refusal = None if item.error is None else CallRefused(*item.error)
            args = () if item.error is not None else msgspec.msgpack.decode(item.args, type=list[Any])
            session.demand(Calls).settle(item.number, CallAnswer(tuple(args), refusal))

    def of(self, name: Name, entry: Entry) -> OutgoingHandoff | None:
        """Return the handoff of a session that is neither here nor there, and has this entry."""
        transit = self._transits.get(name)
        return transit if isinstance(transit, OutgoingHandoff) and transit.entry.sid == entry.sid else None

    def forget(self, handoff: OutgoingHandoff) -> None:
        """Forget a session that is in transit no more."""
        self._handoffs.pop(handoff.key, None)
        if self._transits.get(handoff.name) is handoff:
            del self._transits[handoff.name]
        self.hub.moving.discard(handoff.session)

    def depart(self, handoff: OutgoingHandoff, entry: Entry) -> None:
        """Record where a session has gone."""
        name, session = handoff.name, handoff.session
        self.cluster.leave_tombstone(name, entry)
        self.cluster.locations.put(name, entry, self.hub.loop.time())
        self._deferred.depart(session, entry)
        if session.demand(Calls).waiting:
            self._gone[name] = session


class OutgoingHandoff(Departing):
    """One session that goes to another node, from its snapshot on."""

    def __init__(self, sources: Sources, key: Key, connection: Connection) -> None:
        session = sources.hub.session_of(connection)
        super().__init__(session)
        self._sources = sources
        self._hub = sources.hub
        self._cluster = sources.cluster
        self._destination, self._number = key
        #: Whether this node has written the entry again, as the registry had lost it.
        self._is_rewritten = False
        self.key = key
        self.state = SourceState.FROZEN
        snapshot = take_snapshot(session, connection, self._cluster.node, self._hub.loop.time())
        self._packed = msgspec.Raw(msgspec.msgpack.encode(snapshot))
        connection.give_away(TRANSPORT_CLOSE)
        session.freeze()

    def step(self, event: SourceEvent) -> None:
        """Act on an event, as the table says."""
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
        """Send the snapshot."""
        self._cluster.answer(item, "accepted", self._packed)

    def _pass_on(self) -> None:
        """Let go of the session: the destination has it."""
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
        """End the session: nobody reaches its client any more, or another claim has its name."""
        self._sources.forget(self)
        self.session.close(reason)
        self.session.release()  # the client was told that these messages are here
        self.release(None)

    # What the destination says

    def fetch(self, item: Fetch) -> None:
        """Send the snapshot again: it may have been lost."""
        self.state, action = transfer_source(self.state, SourceEvent.FETCHED)
        if action is SourceAction.SEND_AGAIN:
            self.send(item)

    def settle(self, why: str) -> None:
        """Hear what became of the handoff."""
        event = _VERDICTS.get(why)
        if event is not None:
            self.step(event)

    def _inquire(self) -> None:
        """Ask the destination what became of the session, unless that is known meanwhile."""
        if self.state is SourceState.FROZEN:
            node, number = self._cluster.node, self._number
            self._cluster.ask(self._destination, lambda id_: Inquire(id_, node, number), ANSWERED_IN, self._told)

    def _told(self, answer: Answer) -> None:
        self.settle(answer.status)
        if self._cluster.is_gone(self._destination):
            self.step(SourceEvent.GONE)
        else:
            self._hub.wheel.alarm(ASK_EVERY, self._inquire)

    # What the registry says

    def rewritten(self) -> None:
        """Record that this node has written the entry again, as the registry had lost it."""
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
        """Keep the destination from claiming the entry any more."""
        try:
            ask, registry = self._cluster.link.ask, self._cluster.registry
            swapped = await ask(registry.swap, self.name[0], self.entry, fenced(self.entry))
        except BackendUnavailable:
            self._look_later()
        else:
            self._read(swapped.current)
