"""Sessions that move to this node, because it has their websocket; see :mod:`primacron.cluster.move`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakValueDictionary

import msgspec

from primacron.cluster.base import BackendUnavailable
from primacron.cluster.cluster import Cluster
from primacron.cluster.finder import Absence, Finder
from primacron.cluster.move import Take, Taker, Taking, claimed, read_as_taker, take
from primacron.cluster.requests import NODE_GONE, TIMED_OUT
from primacron.cluster.wire import Answer, Claimed, Inquire, Knock, Over, Quiet, Request, Settle
from primacron.cluster.wire import Take as TakeRequest
from primacron.dialects.choice import Dialects
from primacron.entries import Entry, Name
from primacron.errors import (
    AlreadyUpgraded,
    BadRequest,
    FrameError,
    Overloaded,
    PrimacronError,
    ProtocolError,
    UnknownSid,
)
from primacron.ids import NodeId, Sid
from primacron.node.baggage import Baggage, check, last_words, read, read_goodbye, unpack
from primacron.node.journeys import Coming, Journeys
from primacron.protocol.closing import (
    REPLACED,
    SHUTDOWN,
    TOO_LARGE,
    TRANSPORT_CLOSE,
    TRANSPORT_ERROR,
    CloseReason,
    known,
)
from primacron.protocol.engine import ENDED, Channel, Verdict, judge
from primacron.protocol.handshake import Format, find_format
from primacron.protocol.packets import decode_binary, decode_text
from primacron.protocol.parcels import PROBE_PONG, Parcel
from primacron.sessions.carrier import Carrier, Wire
from primacron.sessions.hub import Hub
from primacron.sessions.recent import Recent

if TYPE_CHECKING:
    from primacron.sessions.connection import Connection
    from primacron.sessions.session import Session

#: Seconds without an answer after which the giver is asked again.
ASK_AGAIN: Final = 1.0
#: Seconds between two tries to claim an entry.
CLAIM_AGAIN: Final = 0.5
#: Moves of which the giver may still ask what became of them.
MAX_VERDICTS: Final = 65_536
#: What the giver is told when this node lets go.
_WHY: Final = {Taker.CANCEL: "cancelled", Taker.LEAVE: "left", Taker.YIELD: "beaten"}
#: Seconds for which a session that has come remembers what was sent to many.
REMEMBERS: Final = 10.0


class Takings:
    """What all sessions that move here have in common."""

    def __init__(
        self,
        hub: Hub,
        cluster: Cluster,
        finder: Finder,
        dialects: Dialects,
        journeys: Journeys,
        arrived: Callable[[Session, Connection, Baggage], None],
        catch_up: Callable[[Name, asyncio.Future[None]], None],
        run: Callable[[Coroutine[Any, Any, Any]], object],
    ) -> None:
        self.hub = hub
        self.cluster = cluster
        self.finder = finder
        self.dialects = dialects
        self.arrived = arrived
        #: Called with a session, and with what is done once all has come that was sent from here to where it was.
        self.catch_up = catch_up
        self.run = run
        #: Sessions that have come, and whose entry is being claimed, are among these.
        self.journeys = journeys
        #: What became of moves whose giver does not know it yet.
        self._verdicts: dict[int, str] = {}
        #: Those under way, by the number of the move.
        self.under_way: WeakValueDictionary[int, Takeover] = WeakValueDictionary()
        self._is_ending = False
        cluster.on(Inquire, self._inquire)
        cluster.on(Over, self._over)

    def settle(self, move: int, verdict: str) -> None:
        """Take note of what became of a move, or that it is still ``open``."""
        if len(self._verdicts) >= MAX_VERDICTS:
            del self._verdicts[next(iter(self._verdicts))]
        self._verdicts[move] = verdict

    def forget(self, move: int) -> None:
        """Take note that the giver knows what became of a move."""
        self._verdicts.pop(move, None)

    def _inquire(self, item: Inquire, _: NodeId) -> None:
        # Nothing is done any more for a move that is not known.
        self.cluster.answer(item, self._verdicts.get(item.move, "left"))

    def _over(self, item: Over, sender: NodeId) -> None:
        takeover = self.under_way.get(item.move)
        if takeover is not None and takeover.giver == sender:
            takeover.hear_end(known(item.text, item.code))

    def finish(self) -> None:
        """Take no session any more, as this node ends: clients that have not begun to leave polling stay there."""
        self._is_ending = True
        for takeover in tuple(self.under_way.values()):
            takeover.give_up()

    async def knock(self, sid: Sid, account: str | None) -> Takeover:
        """
        Ask the node of a connection whether a websocket may take it over.

        Raises:
            UnknownSid: if no node has the connection.
            AlreadyUpgraded: if the connection is no longer on polling, wherever it is.
            BadRequest: if it is not the account's.
            Overloaded: if its node does not answer, or this one ends.

        """
        node = await self.finder.find_issuer(sid)
        if node is None or node == self.cluster.node:
            raise await self._why_unknown(sid)
        cluster = self.cluster
        await cluster.attend()
        seconds = self.hub.options.handshake_timeout
        answer = await cluster.asked(node, lambda id_: Knock(id_, cluster.node, sid, account), seconds)
        if self._is_ending:
            raise Overloaded("the server is ending")
        if answer.status == "accepted":
            version = msgspec.msgpack.decode(answer.value, type=int)
            return Takeover(self, sid, node, find_format(4 if version == 4 else 3, base64=False))
        if answer.status == "unknown_session":
            raise await self._why_unknown(sid)
        if answer.status == "other_account":
            raise BadRequest("the account is not that of the handshake")
        if answer.status == "busy":
            raise AlreadyUpgraded
        raise Overloaded("the server of the connection does not answer")

    async def _why_unknown(self, sid: Sid) -> PrimacronError:
        """Return what a client is told whose connection is not where it was opened: another node may have it."""
        found = await self.finder.locate(sid)
        place = found[1] if isinstance(found, tuple) else found
        if isinstance(place, Entry):
            return AlreadyUpgraded()  # by another node: nothing else moves a connection
        if place is Absence.AWAY:
            return Overloaded("the registry cannot be asked where the connection is")
        return UnknownSid()


class Takeover(Coming):
    """
    A websocket that is to take over a connection of another node.

    To the websocket it is the connection; see
    :class:`primacron.sessions.carrier.Passenger`.
    """

    def __init__(self, takings: Takings, sid: Sid, giver: NodeId, format: Format) -> None:
        super().__init__(giver)
        self._takings = takings
        self._hub = takings.hub
        self._cluster = takings.cluster
        self._sid = sid
        self._wire: Wire | None = None
        self._baggage: Baggage | None = None
        self._buffered: list[str | bytes] = []
        self._size = 0
        self._reason: CloseReason = TRANSPORT_ERROR
        #: Done once the giver has heard what became of the move: what it passes on comes before its answer.
        self._caught_up: asyncio.Future[None] = takings.hub.loop.create_future()
        self.format = format
        self.state = Taking.OPEN
        self.move = takings.cluster.requests.next_id()
        takings.under_way[self.move] = self

    def begin(self, wire: Wire) -> None:
        """Take the websocket."""
        self._wire = wire
        wire.connection = self
        self._expire_later()

    def _expire_later(self) -> None:
        state = self.state
        self._hub.wheel.alarm(self._hub.options.upgrade_timeout, lambda: self._expire(state))

    def _expire(self, since: Taking) -> None:
        """Act on a deadline, unless it was that of an earlier part of the move."""
        is_before = (Taking.OPEN, Taking.ASKING, Taking.ALLOWED)
        if (since in is_before) is (self.state in is_before):
            self.step(Take.EXPIRED)

    def give_up(self) -> None:
        """Close the websocket, unless the answer to its probe may have come: then its client polls no longer."""
        if self.state in (Taking.OPEN, Taking.ASKING):
            self._reason = SHUTDOWN
            self.step(Take.EXPIRED)

    def step(self, event: Take) -> None:
        """Make a move of the table."""
        self.state, action = take(self.state, event)
        if action is Taker.ASK:
            self._ask_for_calm()
        elif action is Taker.ANSWER:
            if self._wire is not None and self._wire.ready:
                self._wire.write([PROBE_PONG])
        elif action is Taker.FETCH:
            self._takings.settle(self.move, "open")
            self._takings.journeys.coming.add(self)
            self._expire_later()
            self._fetch()
        elif action is Taker.CLAIM:
            self._takings.journeys[self._name] = self
            self._takings.run(self._claim())
        elif action is Taker.CLAIM_AGAIN:
            self._hub.wheel.alarm(CLAIM_AGAIN, lambda: self._takings.run(self._claim()))
        elif action in (Taker.OPEN, Taker.OPEN_ENDED):
            self._open()
        elif action is not Taker.NOTHING:
            self._fail(action)

    def _fail(self, action: Taker) -> None:
        if action is Taker.YIELD:
            self._say_replaced()
        self._close_wire()
        if action is Taker.LET_GO:
            return
        why = _WHY.get(action)
        if why is None:
            self._takings.forget(self.move)
        else:
            self._settle(why, lambda id_: Settle(id_, self._cluster.node, self.move, self._sid, why))
        self._end_journey(None)
        self._baggage = None

    def _end_journey(self, entry: Entry | None) -> None:
        """Let what came for the session go to it, or look for it."""
        journeys = self._takings.journeys
        journeys.coming.discard(self)
        if self._baggage is not None and journeys.get(self._name) is self:
            del journeys[self._name]
        self.release(entry)

    def _close_wire(self) -> None:
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.connection = None
            wire.close(self._reason)

    # For the websocket

    def receive_text(self, text: str, carrier: Carrier) -> None:
        """Take a text frame."""
        self._receive(text)

    def receive_binary(self, data: bytes, carrier: Carrier) -> None:
        """Take a binary frame."""
        self._receive(data)

    def _receive(self, frame: str | bytes) -> None:
        if self.state in (Taking.TAKING, Taking.CLAIMING):
            self._buffer(frame)
            return
        try:
            version = self.format.version
            packet = decode_text(frame, version) if isinstance(frame, str) else decode_binary(frame, version)
            verdict = judge(packet, version, Channel.PROBE)
        except ProtocolError as error:
            self.refuse(error, None, TRANSPORT_ERROR)
            return
        self.step(Take.PROBED if verdict is Verdict.PROBE else Take.UPGRADED)
        if self.state in (Taking.OPEN, Taking.ASKING) and verdict is Verdict.UPGRADE:
            self.refuse(ProtocolError("UPGRADE before the answer to the probe"), None, TRANSPORT_ERROR)

    def _buffer(self, frame: str | bytes) -> None:
        """Keep what the client sends before the session is here; as much as it may send at once."""
        self._size += len(frame)
        if self._size > self._hub.options.max_payload:
            limit = self._hub.options.max_payload
            self.refuse(FrameError(1009, f"more than {limit} bytes before the upgrade was done"), None, TOO_LARGE)
        else:
            self._buffered.append(frame)

    def refuse(self, error: Exception, carrier: Carrier | None, reason: CloseReason) -> None:
        """Act on a broken rule: the websocket is closed."""
        self._hub.receiver.problem(error)
        self._reason = reason
        self.step(Take.LOST)

    def lose(self, carrier: Carrier) -> None:
        """Act on a client that is gone."""
        self._wire = None
        self._reason = TRANSPORT_CLOSE
        self.step(Take.LOST)

    def flush(self) -> None:
        """Do nothing: what waits comes with the session."""

    # With the giver

    def _ask_for_calm(self) -> None:
        def settled(answer: Answer) -> None:
            if answer.status == "accepted":
                self.step(Take.ALLOWED)
            elif answer.status == TIMED_OUT and self.state is Taking.ASKING:
                self._ask_for_calm()
            elif answer.status != TIMED_OUT:
                self.step(Take.REFUSED)

        cluster = self._cluster
        cluster.ask(self.giver, lambda id_: Quiet(id_, cluster.node, self.move, self._sid), ASK_AGAIN, settled)

    def _fetch(self) -> None:
        def settled(answer: Answer) -> None:
            if answer.status == "accepted":
                self._take_baggage(answer.value)
            elif answer.status == "ended":
                self._say_goodbye(answer.value)
            elif answer.status in ("refused", NODE_GONE) or self._cluster.is_gone(self.giver):
                self.step(Take.REFUSED)
            elif self.state is Taking.TAKING:
                self._hub.wheel.alarm(0.1, self._fetch)

        if self.state is Taking.TAKING:
            cluster = self._cluster
            cluster.ask(
                self.giver, lambda id_: TakeRequest(id_, cluster.node, self.move, self._sid), ASK_AGAIN, settled
            )

    def hear_end(self, reason: CloseReason) -> None:
        """Hear that the session has ended before it was handed over, or that the giver's time is up."""
        if self.state in (Taking.ASKING, Taking.ALLOWED, Taking.TAKING):
            self._reason = reason
        if self.state is not Taking.TAKING:  # else the last packets come, as an answer
            self.step(Take.REFUSED)

    def _say_goodbye(self, packed: msgspec.Raw) -> None:
        """Let the client have the last packets of a session that has ended meanwhile."""
        try:
            parcels, self._reason = read_goodbye(packed)
        except ValueError as error:
            self._hub.receiver.problem(ProtocolError(f"last packets that cannot be read: {error}"))
        else:
            self._write_last(parcels)
        self.step(Take.REFUSED)

    def _say_replaced(self) -> None:
        """Let the client have what it has not got yet of a session that somebody else has claimed."""
        self._reason = REPLACED
        if self._baggage is not None:
            self._write_last(last_words(self._baggage, self._takings.dialects))

    def _write_last(self, parcels: list[Parcel]) -> None:
        # Often there are none: then there is nothing to be written.
        if parcels and self._wire is not None and self._wire.ready:
            self._wire.write(parcels)

    def _take_baggage(self, packed: msgspec.Raw) -> None:
        if self.state is not Taking.TAKING:
            return
        try:
            baggage = read(packed)
            check(baggage, self._hub, self._takings.dialects)
        except (PrimacronError, ValueError) as error:
            self._hub.receiver.problem(ProtocolError(f"a session that cannot be read: {error}"))
            self.step(Take.LOST)
        else:
            self._baggage = baggage
            self.step(Take.HANDED)

    def _settle(self, verdict: str, make: Callable[[int], Request]) -> None:
        """Tell the giver what became of the move; a server that ends waits until it has heard."""
        self._takings.settle(self.move, verdict)
        self._tell_giver(make)
        self._takings.run(self._is_heard())

    async def _is_heard(self) -> None:
        await asyncio.wait({self._caught_up})

    def _tell_giver(self, make: Callable[[int], Request]) -> None:
        """Tell the giver something until it says that it heard, or is gone."""

        def settled(answer: Answer) -> None:
            if answer.status == "accepted":
                self._takings.forget(self.move)
            elif not self._cluster.is_gone(self.giver):
                self._hub.wheel.alarm(ASK_AGAIN, lambda: self._tell_giver(make))
                return
            if not self._caught_up.done():
                self._caught_up.set_result(None)

        self._cluster.ask(self.giver, make, ASK_AGAIN, settled)

    # With the registry

    @property
    def _name(self) -> Name:
        baggage = self._baggage
        assert baggage is not None
        return baggage.account, baggage.session

    @property
    def _entries(self) -> tuple[Entry, Entry]:
        """The giver's entry, and the one that is to take its place."""
        baggage = self._baggage
        assert baggage is not None
        old = Entry(baggage.session, self.giver, baggage.generation, baggage.sid)
        return old, claimed(old, self._cluster.node)

    async def _claim(self) -> None:
        baggage = self._baggage
        if baggage is None:
            return
        old, new = self._entries
        ask, registry = self._cluster.link.ask, self._cluster.registry
        try:
            name = (baggage.account, baggage.session)
            await ask(registry.place, baggage.sid, name, self._hub.options.timeout)
            swapped = await ask(registry.swap, baggage.account, old, new)
        except BackendUnavailable:
            self.step(Take.UNKNOWN)
        else:
            self.step(read_as_taker(swapped.outcome, swapped.current, new))

    def _open(self) -> None:
        """Open the session, which is this node's now."""
        baggage = self._baggage
        assert baggage is not None
        self._settle("claimed", lambda id_: Claimed(id_, self._cluster.node, self.move, self._sid))
        wire: Wire | _Gone = self._wire if self._wire is not None else _Gone()
        _, entry = self._entries
        session, connection = unpack(baggage, self._hub, self._takings.dialects, wire, entry, self._hub.loop.time())
        self._hub.moving.add(session)
        self._hub.wheel.alarm(REMEMBERS, lambda: self._settle_down(session))
        if isinstance(wire, _Gone):
            self._takings.arrived(session, connection, baggage)
            connection.end(self._reason)
        else:
            wire.connection = connection
            self._takings.arrived(session, connection, baggage)
            self._hub.metrics.count("messages_late_dropped", self.catch_up(session))
            self._end_if_replaced(entry, connection)
            self._read_buffered(connection, wire)
        self._takings.catch_up(self._name, self._caught_up)
        self._end_journey(entry)

    def _end_if_replaced(self, entry: Entry, connection: Connection) -> None:
        """End a session that was claimed by somebody else before this node knew that it had it."""
        other = self._cluster.tombstones.get(self._name, self._hub.loop.time())
        if other is not None and other.rank > entry.rank:
            connection.end(REPLACED)

    def _read_buffered(self, connection: Connection, wire: Wire) -> None:
        for frame in self._buffered:
            if connection.phase in ENDED:
                return
            if isinstance(frame, str):
                connection.receive_text(frame, wire)
            else:
                connection.receive_binary(frame, wire)

    def _settle_down(self, session: Session) -> None:
        """Forget what was sent to many around the move."""
        self._hub.moving.discard(session)
        session.demand(Recent).serials.clear()


class _Gone:
    """In the place of a websocket that is gone."""

    ready = False
    connection = None
    context = None

    def write(self, parcels: object) -> None:
        """Send nothing."""

    def backlog(self) -> int:
        """Return 0."""
        return 0

    def pause(self) -> None:
        """Do nothing."""

    def resume(self) -> None:
        """Do nothing."""

    def close(self, reason: CloseReason) -> None:
        """Do nothing."""
