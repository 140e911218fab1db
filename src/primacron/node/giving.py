"""Sessions of this node that move to another one; see :mod:`primacron.cluster.move`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakValueDictionary

import msgspec

from primacron.cluster.base import BackendUnavailable
from primacron.cluster.cluster import Cluster
from primacron.cluster.move import Give, Giver, Giving, claimed, fenced, give, read_as_giver
from primacron.cluster.wire import (
    NIL,
    NO_ID,
    Claimed,
    Inquire,
    Knock,
    Late,
    Over,
    Quiet,
    Reply,
    Settle,
    Take,
)
from primacron.cluster.wire import Answer as NodeAnswer
from primacron.entries import Entry, Name
from primacron.errors import CallRefused
from primacron.ids import NodeId, Sid
from primacron.node.baggage import Baggage, pack, pack_goodbye
from primacron.node.journeys import Journey, Journeys
from primacron.protocol.closing import REPLACED, TRANSPORT_CLOSE, TRANSPORT_ERROR, CloseReason
from primacron.protocol.engine import Phase
from primacron.protocol.parcels import Parcel
from primacron.routing.acts import Act
from primacron.routing.audience import Audience
from primacron.routing.local import Local
from primacron.sessions.calls import Answer, Calls
from primacron.sessions.hub import Hub
from primacron.sessions.recent import Serial

if TYPE_CHECKING:
    from primacron.node.admission import Admissions
    from primacron.node.hooks import Application
    from primacron.sessions.connection import Connection
    from primacron.sessions.session import Session

#: Seconds between two questions what became of a session, and for which an answer is awaited.
ASK_EVERY: Final = 0.5
ANSWERED_IN: Final = 1.0
#: Seconds by which something that was sent to many may come later than word of a move, at most.
OVERTAKEN_BY: Final = 2.0
#: What the taker may say became of a move.
_VERDICTS: Final = {
    "claimed": Give.CLAIMED,
    "cancelled": Give.CANCELLED,
    "left": Give.LEFT,
    "beaten": Give.BEATEN,
}


class Givings:
    """All sessions that are about to move away, are on their way, or have moved."""

    def __init__(
        self,
        hub: Hub,
        cluster: Cluster,
        application: Application,
        admissions: Admissions,
        local: Local,
        journeys: Journeys,
        run: Callable[[Coroutine[Any, Any, Any]], object],
    ) -> None:
        self.hub = hub
        self.cluster = cluster
        self.application = application
        self.admissions = admissions
        self.local = local
        self.run = run
        self._by_sid: dict[Sid, Handover] = {}
        self._journeys = journeys
        #: Where sessions went that were here a moment ago.
        self._just_left: dict[Name, Entry] = {}
        #: Sessions that have moved and that somebody here still holds: answers to their calls may come.
        self._departed: WeakValueDictionary[Name, Session] = WeakValueDictionary()
        cluster.on(Knock, self._knock)
        cluster.on(Quiet, self._quiet)
        cluster.on(Settle, self._settle)
        cluster.on(Take, self._take)
        cluster.on(Claimed, self._claimed)
        cluster.on(Reply, self._reply)

    def of(self, entry: Entry) -> Handover | None:
        """Return the handover of a session that is neither here nor there."""
        handover = self._by_sid.get(entry.sid)
        return handover if handover is not None and self._journeys.get(handover.name) is handover else None

    def hold(self, audience: Audience, act: Act, serial: Serial | None, *, is_alone: bool = False) -> bool:
        """
        Keep what is done to an audience for those of it that are on their way.

        ``is_alone`` tells that this node was asked by itself: those that were here a
        moment ago were meant as well. Returns whether there may be any that are not
        counted here.
        """
        # What went to all may come behind word of a move where the two have connections of their own.
        may_be_late = is_alone or not self.cluster.bus.keeps_order
        if not (self._journeys or self._journeys.coming or (may_be_late and self._just_left)):
            return False
        assert serial is not None
        packed = act.pack(self.hub.encoding)

        def is_meant(name: Name) -> bool:
            return audience.matches(name) and not act.spares(name)

        handovers = [each for name, each in self._journeys.items() if isinstance(each, Handover) and is_meant(name)]
        for handover in handovers:
            if self._has_room(handover, act):
                handover.hold(partial(self._do_late, handover.name, handover.entry.sid, packed, serial), len(packed))
        left = [(name, entry) for name, entry in self._just_left.items() if is_meant(name)]
        for name, entry in left if is_alone else ():
            self._do_late(name, entry.sid, packed, serial, entry)
        comings = self._journeys.who_miss(serial[0])
        for coming in comings:
            if self._has_room(coming, act):
                order = None if act.must_arrive else serial
                coming.miss(audience, order, partial(act.apply_late, self.local, serial), len(packed))
        return bool(handovers or comings or (left and may_be_late))

    def _has_room(self, journey: Journey, act: Act) -> bool:
        if not journey.is_full or act.must_arrive:
            return True
        self.hub.metrics.count("messages_late_dropped")
        return False

    def _do_late(self, name: Name, sid: Sid, act: bytes, serial: Serial, entry: Entry | None) -> None:
        if entry is not None:
            head = (NO_ID, self.cluster.node, *name, entry.generation, 0)
            self.cluster.tell(entry.node, Late(*head, sid, msgspec.Raw(act), *serial))

    # What the taker asks

    def _knock(self, item: Knock, _: NodeId) -> None:
        connection = self.hub.connection(item.sid)
        if connection is None:
            self.cluster.answer(item, "unknown_session")
        elif item.account is not None and item.account != connection.session.claimed_account:
            self.cluster.answer(item, "other_account")
        elif connection.phase is not Phase.POLLING or connection.probe is not None:
            self.cluster.answer(item, "busy")
        else:
            self.cluster.answer(item, "accepted", msgspec.Raw(msgspec.msgpack.encode(connection.format.version)))

    def _quiet(self, item: Quiet, _: NodeId) -> None:
        handover = self._by_sid.get(item.sid)
        if handover is not None and handover.move == item.move:
            handover.ask_again(item)
            return
        connection = self.hub.connection(item.sid)
        if connection is None or connection.phase is not Phase.POLLING or connection.probe is not None:
            self.cluster.answer(item, "refused")
            return
        if connection.backlog is not None:
            self.cluster.answer(item, "refused")  # a long POST does not travel: its client stays on polling
            return
        handover = self._by_sid[item.sid] = Handover(self, connection, item)
        handover.begin()

    def _settle(self, item: Settle, _: NodeId) -> None:
        handover = self._by_sid.get(item.sid)
        if handover is not None and handover.move == item.move:
            handover.hear(item.why)
        elif item.why != "cancelled":
            self._close_left(item.sid)
        self.cluster.answer(item, "accepted")

    def _take(self, item: Take, _: NodeId) -> None:
        handover = self._by_sid.get(item.sid)
        if handover is not None and handover.move == item.move:
            handover.take(item)
            return
        self.cluster.answer(item, "refused")
        self._close_left(item.sid)

    def _close_left(self, sid: Sid) -> None:
        """End a connection whose client has left polling, so that nobody can reach it any more."""
        connection = self.hub.connections.get(sid)
        if connection is not None and connection.phase is not Phase.WEBSOCKET:
            connection.end(TRANSPORT_ERROR)

    def _claimed(self, item: Claimed, _: NodeId) -> None:
        handover = self._by_sid.get(item.sid)
        if handover is not None and handover.move == item.move:
            handover.step(Give.CLAIMED)
        self.cluster.answer(item, "accepted")

    # What is left of sessions that have moved

    def _reply(self, item: Reply, _: NodeId) -> None:
        session = self._departed.get((item.account, item.session))
        if session is not None:
            refusal = None if item.error is None else CallRefused(*item.error)
            args = () if item.error is not None else msgspec.msgpack.decode(item.args, type=list[Any])
            session.demand(Calls).settle(item.number, Answer(tuple(args), refusal))

    def freeze(self, handover: Handover) -> None:
        """Take note that a session is on its way; a server that ends waits for it."""
        self._journeys[handover.name] = handover
        self.run(handover.outcome())

    def forget(self, handover: Handover) -> None:
        """Take note that the session is here or elsewhere, but not on its way."""
        self._by_sid.pop(handover.entry.sid, None)
        if self._journeys.get(handover.name) is handover:
            del self._journeys[handover.name]
        self.hub.moving.discard(handover.session)

    def depart(self, handover: Handover, entry: Entry) -> None:
        """Take note that a session is elsewhere."""
        now = self.hub.loop.time()
        self.cluster.bury(handover.name, entry)
        self.cluster.locations.put(handover.name, entry, now)
        self._just_left[handover.name] = entry
        self.hub.wheel.alarm(OVERTAKEN_BY, partial(self._forget_left, handover.name, entry))
        if handover.session.demand(Calls).waiting:
            self._departed[handover.name] = handover.session

    def _forget_left(self, name: Name, entry: Entry) -> None:
        if self._just_left.get(name) is entry:
            del self._just_left[name]


class Handover(Journey):
    """
    One session that moves away.

    To its connection it is the websocket that probes it; see
    :class:`primacron.sessions.carrier.Carrier`.
    """

    def __init__(self, givings: Givings, connection: Connection, item: Quiet) -> None:
        super().__init__()
        self._givings = givings
        self._hub = givings.hub
        self._cluster = givings.cluster
        self._connection = connection
        self._request = item
        self._taker = item.origin
        self._baggage: Baggage | None = None
        #: Whether this node has written the entry again, as the registry had lost it.
        self._is_rewritten = False
        self.state = Giving.CALMING
        self.move = item.move
        self.session = connection.session
        self.entry = connection.session.entry
        self.name: Name = (self.session.account, self.session.id)
        self.ready = True

    def begin(self) -> None:
        """Let the session become calm."""
        self._hub.moving.add(self.session)
        self._connection.begin_probe(self)
        self.session.quiesce(lambda: self.step(Give.CALMED))

    def ask_again(self, item: Quiet) -> None:
        """Hear the question for calm once more: its answer may have been lost."""
        self._request = item
        self.step(Give.ASKED)

    def step(self, event: Give) -> None:
        """Make a move of the table."""
        self.state, action = give(self.state, event)
        if action is Giver.SAY_CALM:
            self._connection.allow_probe(self)
        elif action is Giver.GO_ON:
            self._go_on()
        elif action is Giver.PASS_ON:
            self._pass_on()
        elif action is Giver.CLOSE:
            self._close()
        elif action is Giver.INQUIRE:
            self._inquire()
        elif action is Giver.LOOK:
            self._givings.run(self._look())
        elif action is Giver.REGISTER:
            self._givings.run(self._register())
        elif action is Giver.FENCE:
            self._givings.run(self._fence())
        elif action in (Giver.END, Giver.END_REPLACED):
            self._end(TRANSPORT_ERROR if action is Giver.END else REPLACED)

    # For the connection, as long as it polls

    context = None

    def write(self, parcels: list[Parcel]) -> None:
        """Let the taker answer the probe."""
        self._cluster.answer(self._request, "accepted")

    def backlog(self) -> int:
        """Return 0: nothing is sent here."""
        return 0

    def pause(self) -> None:
        """Do nothing: nothing is read here."""

    def resume(self) -> None:
        """Do nothing: nothing is read here."""

    def close(self, reason: CloseReason) -> None:
        """Hear that the time is up, or that the session has ended: the client's websocket is closed for this reason."""
        if self.state is Giving.FROZEN:
            return  # it is the one that takes over
        self._cluster.tell(self._taker, Over(self.move, reason.text, reason.code))
        self._cluster.answer(self._request, "refused")
        self.step(Give.EXPIRED)

    def _go_on(self) -> None:
        self._givings.forget(self)
        self._connection.lose(self)
        self.session.release()

    def _close(self) -> None:
        self._givings.forget(self)
        self._connection.end(TRANSPORT_ERROR)
        self.session.release()

    # From the client's upgrade packet on

    def take(self, item: Take) -> None:
        """Hand the session over, or say again what was said before."""
        if self.state is Giving.CALM and self._connection.phase is Phase.LINGERING:
            parcels, reason = self._connection.leave_elsewhere()
            self._cluster.answer(item, "ended", pack_goodbye(parcels, reason))
            return
        if self.state is Giving.CALM and self._connection.phase is not Phase.PROBING:
            self._cluster.answer(item, "refused")  # it has ended meanwhile
            return
        if self.state is Giving.CALM and not self._can_travel():
            self._cluster.answer(item, "refused")
            self.step(Give.LEFT)
            return
        self.state, action = give(self.state, Give.TAKEN)
        if action is Giver.HAND_OVER:
            self._freeze()
        if action in (Giver.HAND_OVER, Giver.SEND_AGAIN):
            packed = NIL if self._baggage is None else msgspec.Raw(msgspec.msgpack.encode(self._baggage))
            self._cluster.answer(item, "accepted", packed)

    def _can_travel(self) -> bool:
        """Tell whether the session's data can be sent."""
        try:
            self.session.pack_data()
        except TypeError as error:
            self._givings.application.problem(error, session=self.session)
            return False
        return True

    def _freeze(self) -> None:
        self._baggage = pack(self.session, self._connection, self._cluster.node, self._hub.loop.time())
        self._connection.give_away(TRANSPORT_CLOSE)
        self.session.freeze()
        self._givings.freeze(self)
        self._hub.wheel.alarm(self._hub.options.upgrade_timeout, lambda: self.step(Give.EXPIRED))

    def _pass_on(self) -> None:
        """Let go of the session: the taker has it."""
        entry = claimed(self.entry, self._taker)
        self._givings.forget(self)
        self._hub.sessions.remove(self.session.account, self.session)
        self._givings.depart(self, entry)
        self._givings.admissions.moved(self.session)
        if self._is_rewritten:
            self._givings.admissions.release(self.session.account, self.entry)
        self._givings.application.leaving(self.session)
        self.session.hand_off()
        self.release(entry)

    def _end(self, reason: CloseReason) -> None:
        """End the session: nobody reaches its client any more, or another claim has its name."""
        self._givings.forget(self)
        self.session.close(reason)
        self.session.release()  # the client was told that these messages are here
        self.release(None)

    # What the taker says

    def hear(self, verdict: str) -> None:
        """Hear what became of the move."""
        event = _VERDICTS.get(verdict)
        if event is not None:
            self.step(event)

    def _inquire(self) -> None:
        """Ask the taker what became of the session, unless that is known meanwhile."""
        if self.state is Giving.FROZEN:
            node, move = self._cluster.node, self.move
            self._cluster.ask(self._taker, lambda id_: Inquire(id_, node, move), ANSWERED_IN, self._told)

    def _told(self, answer: NodeAnswer) -> None:
        self.hear(answer.status)
        if self._cluster.is_gone(self._taker):
            self.step(Give.GONE)
        else:
            self._hub.wheel.alarm(ASK_EVERY, self._inquire)

    # What the registry says

    def rewritten(self) -> None:
        """Take note that this node has written the entry again, as the registry had lost it."""
        self._is_rewritten = True

    async def _look(self) -> None:
        if self.state is not Giving.FENCING:
            return
        try:
            ask, registry = self._cluster.link.ask, self._cluster.registry
            found = await ask(registry.find, self.name[0], [self.entry.id])
        except BackendUnavailable:
            self._look_later()
        else:
            self._read(found[0])

    def _read(self, entry: Entry | None) -> None:
        event = read_as_giver(entry, self.entry, self._taker)
        if event is Give.FENCED:
            self.session.entry = fenced(self.entry)
        self.step(event)

    def _look_later(self) -> None:
        self._hub.wheel.alarm(ASK_EVERY, lambda: self._givings.run(self._look()))

    async def _register(self) -> None:
        self.rewritten()
        with contextlib.suppress(BackendUnavailable):
            await self._cluster.link.ask(self._cluster.registry.restore, [(self.name[0], self.entry)])
        self._look_later()

    async def _fence(self) -> None:
        """Keep the taker from claiming the entry any more."""
        try:
            ask, registry = self._cluster.link.ask, self._cluster.registry
            swapped = await ask(registry.swap, self.name[0], self.entry, fenced(self.entry))
        except BackendUnavailable:
            self._look_later()
        else:
            self._read(swapped.current)
