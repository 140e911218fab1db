"""
Upgrades across nodes: a session moves to the node that its client's websocket has reached.

Each side has a proxy for the other. At the source it acts as the websocket that probes the
connection, at the destination as the connection that is probed; the two communicate over
the bus. The client's upgrade packet starts the handoff.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from weakref import WeakValueDictionary

import msgspec

from primacron.cluster.cluster import Cluster
from primacron.cluster.finder import Absence, Finder
from primacron.cluster.items import Answer, CanUpgrade, Fetch, Quiesce, UpgradeOver
from primacron.cluster.requests import TIMED_OUT
from primacron.entries import Entry
from primacron.errors import (
    AlreadyUpgraded,
    BadRequest,
    FrameError,
    Overloaded,
    PrimacronError,
    ProtocolError,
    UnknownSid,
)
from primacron.handoff.destination import ASK_AGAIN, Destinations, IncomingHandoff
from primacron.handoff.snapshot import pack_goodbye
from primacron.handoff.source import Key, Sources
from primacron.handoff.states import (
    DestinationEvent,
    DestinationProbe,
    DestinationProbeAction,
    DestinationProbeEvent,
    DestinationState,
    SourceProbe,
    SourceProbeAction,
    SourceProbeEvent,
    probe_destination,
    probe_source,
)
from primacron.ids import NodeId, Sid
from primacron.protocol.close_reasons import SHUTDOWN, TOO_LARGE, TRANSPORT_CLOSE, TRANSPORT_ERROR, CloseReason, known
from primacron.protocol.engine import ENDED, Channel, Phase, Verdict, judge
from primacron.protocol.handshake import Format, TransportName, find_format
from primacron.protocol.outgoing import PROBE_PONG, OutgoingPacket
from primacron.protocol.packets import decode_binary, decode_text
from primacron.sessions.connection import Connection
from primacron.sessions.hub import Hub
from primacron.sessions.transport import Transport, WebSocket

#: The verdicts that the destination may give on an upgrade before the transfer.
_VERDICTS: Final = {"cancelled": SourceProbeEvent.CANCELLED, "left": SourceProbeEvent.LEFT}


# At the source


def end_left(hub: Hub, sid: Sid) -> None:
    """End a connection whose client has left polling, which makes it unreachable."""
    connection = hub.connections.get(sid)
    if connection is not None and connection.transport.keeps_for_poll:
        connection.end(TRANSPORT_ERROR)


class OutgoingUpgrades:
    """Connections of this node that are being probed by websockets of other nodes."""

    def __init__(self, hub: Hub, cluster: Cluster, sources: Sources) -> None:
        self.hub = hub
        self.cluster = cluster
        self.sources = sources
        self._probing: dict[Key, OutgoingUpgrade] = {}
        cluster.on(CanUpgrade, self._can_upgrade)
        cluster.on(Quiesce, self._quiesce)

    def _can_upgrade(self, item: CanUpgrade, _: NodeId) -> None:
        connection = self.hub.connection(item.sid)
        if connection is None:
            self.cluster.answer(item, "unknown_session")
        elif item.account is not None and item.account != connection.session.claimed_account:
            self.cluster.answer(item, "other_account")
        elif not connection.may_upgrade:
            self.cluster.answer(item, "busy")
        else:
            self.cluster.answer(item, "accepted", msgspec.Raw(msgspec.msgpack.encode(connection.format.version)))

    def _quiesce(self, item: Quiesce, _: NodeId) -> None:
        key = (item.origin, item.handoff)
        upgrade = self._probing.get(key)
        if upgrade is not None:
            upgrade.ask_again(item)
            return
        if self.sources.has_handed_over(key):
            return
        connection = self.hub.connection(item.sid)
        if connection is None or not connection.may_upgrade:
            self.cluster.answer(item, "refused")
        elif connection.backlog is not None:
            self.cluster.answer(item, "refused")  # a POST in progress cannot be handed off: the client keeps polling
        else:
            upgrade = self._probing[key] = OutgoingUpgrade(self, connection, item)
            upgrade.begin()

    def forget(self, key: Key) -> None:
        """Drop an upgrade that has failed, or whose session is handed over."""
        self._probing.pop(key, None)


class OutgoingUpgrade:
    """
    A connection of this node that is being probed by a websocket of another node.

    It stands in for that websocket towards the connection (see
    :class:`primacron.sessions.transport.Transport`), and is an
    :class:`~primacron.handoff.source.Offer` to :class:`Sources`.
    """

    def __init__(self, upgrades: OutgoingUpgrades, connection: Connection, item: Quiesce) -> None:
        self._upgrades = upgrades
        self._hub = upgrades.hub
        self._cluster = upgrades.cluster
        self._sources = upgrades.sources
        self._connection = connection
        self._session = upgrades.hub.session_of(connection)
        self._request = item
        self._key: Key = (item.origin, item.handoff)
        self.state = SourceProbe.CALMING
        self.ready = True

    def begin(self) -> None:
        """Quiesce the session: start no further handler, and wait for the running one."""
        self._hub.moving.add(self._session)
        self._sources.offer(self._key, self)
        self._connection.begin_probe(self)
        self._session.quiesce(lambda: self._step(SourceProbeEvent.CALMED))

    def ask_again(self, item: Quiesce) -> None:
        """Handle a repeated request to quiesce, whose answer may have been lost."""
        self._request = item
        self._step(SourceProbeEvent.ASKED)

    def _step(self, event: SourceProbeEvent) -> None:
        """Apply an event to the state machine and carry out the resulting action."""
        self.state, action = probe_source(self.state, event)
        if action is SourceProbeAction.SAY_CALM:
            self._connection.allow_probe(self)
        elif action is SourceProbeAction.GO_ON:
            self._forget()
            self._connection.lose(self)
            self._session.release()
        elif action is SourceProbeAction.CLOSE:
            self._forget()
            self._connection.end(TRANSPORT_ERROR)
            self._session.release()

    def _forget(self) -> None:
        self._upgrades.forget(self._key)
        self._sources.withdraw(self._key)
        self._hub.moving.discard(self._session)

    # For the connection, while it polls

    name = TransportName.WEBSOCKET
    can_upgrade = False
    keeps_for_poll = False
    context = None

    def write(self, packets: list[OutgoingPacket]) -> None:
        """Allow the destination to answer the probe."""
        self._cluster.answer(self._request, "accepted")

    def backlog(self) -> int:
        """Return 0, as nothing is buffered."""
        return 0

    def pause(self) -> None:
        """Do nothing, as nothing is read."""

    def resume(self) -> None:
        """Do nothing, as nothing is read."""

    def close(self, reason: CloseReason) -> None:
        """Handle a timeout or the end of the session: the destination closes the websocket with this reason."""
        if self.state is SourceProbe.HANDED_OVER:
            return  # the websocket takes over the session
        node, number = self._key
        self._cluster.tell(node, UpgradeOver(number, reason.text, reason.code))
        self._cluster.answer(self._request, "refused")
        self._step(SourceProbeEvent.EXPIRED)

    # For the destination

    def settle(self, why: str) -> None:
        """Handle the loss of the websocket."""
        event = _VERDICTS.get(why)
        if event is not None:
            self._step(event)

    def fetch(self, item: Fetch) -> None:
        """Hand the session over once it is quiescent; if it has ended, send the packets kept for its client."""
        if self.state is not SourceProbe.CALM:
            return
        if self._connection.phase is Phase.LINGERING:
            packets, reason = self._connection.leave_elsewhere()
            self._cluster.answer(item, "ended", pack_goodbye(packets, reason))
        elif self._connection.phase is not Phase.PROBING:
            self._cluster.answer(item, "refused")
        elif not self._sources.can_travel(self._session):
            self._cluster.answer(item, "refused")
            self._step(SourceProbeEvent.LEFT)
        else:
            self._hand_over(item)

    def _hand_over(self, item: Fetch) -> None:
        self.state, action = probe_source(self.state, SourceProbeEvent.FETCHED)
        if action is SourceProbeAction.HAND_OVER:
            self._upgrades.forget(self._key)
            self._sources.hand_over(self._key, self._connection, self._hub.options.upgrade_timeout).send(item)


# At the destination


class IncomingUpgrades:
    """Websockets of this node that probe connections of other nodes."""

    def __init__(self, hub: Hub, cluster: Cluster, finder: Finder, destinations: Destinations) -> None:
        self.hub = hub
        self.cluster = cluster
        self.destinations = destinations
        self._finder = finder
        #: Upgrades in progress, by the number of the handoff.
        self._under_way: WeakValueDictionary[int, IncomingUpgrade] = WeakValueDictionary()
        self._is_ending = False
        cluster.on(UpgradeOver, self._over)

    def _over(self, item: UpgradeOver, sender: NodeId) -> None:
        upgrade = self._under_way.get(item.handoff)
        if upgrade is not None and upgrade.source == sender:
            upgrade.hear_end(known(item.text, item.code))

    def finish(self) -> None:
        """Accept no more sessions, as this node shuts down; clients that have not begun to leave polling stay on it."""
        self._is_ending = True
        for upgrade in tuple(self._under_way.values()):
            upgrade.give_up()

    async def ask(self, sid: Sid, account: str | None) -> IncomingUpgrade:
        """
        Ask the owner of a connection whether a websocket may take it over.

        Raises:
            UnknownSid: if no node has the connection.
            AlreadyUpgraded: if the connection is no longer polling, on whichever node.
            BadRequest: if it belongs to another account.
            Overloaded: if its node does not answer, or this one is shutting down.

        """
        node = await self._finder.find_issuer(sid)
        if node is None or node == self.cluster.node:
            raise await self._why_unknown(sid)
        cluster = self.cluster
        await cluster.attend()
        seconds = self.hub.options.handshake_timeout
        answer = await cluster.asked(node, lambda id_: CanUpgrade(id_, cluster.node, sid, account), seconds)
        if self._is_ending:
            raise Overloaded("the server is ending")
        if answer.status == "accepted":
            version = msgspec.msgpack.decode(answer.value, type=int)
            return self._new(sid, node, find_format(4 if version == 4 else 3, base64=False))
        if answer.status == "unknown_session":
            raise await self._why_unknown(sid)
        if answer.status == "other_account":
            raise BadRequest("the account is not that of the handshake")
        if answer.status == "busy":
            raise AlreadyUpgraded
        raise Overloaded("the server of the connection does not answer")

    def _new(self, sid: Sid, source: NodeId, format: Format) -> IncomingUpgrade:
        number = self.cluster.requests.next_id()
        upgrade = self._under_way[number] = IncomingUpgrade(self, number, sid, source, format)
        return upgrade

    async def _why_unknown(self, sid: Sid) -> PrimacronError:
        """Return the error for a connection that is no longer on the node which opened it, but may be on another."""
        found = await self._finder.locate(sid)
        place = found[1] if isinstance(found, tuple) else found
        if isinstance(place, Entry):
            return AlreadyUpgraded()  # to another node: only upgrades move connections
        if place is Absence.AWAY:
            return Overloaded("the registry cannot be asked where the connection is")
        return UnknownSid()


class IncomingUpgrade:
    """
    A websocket of this node that is to take over a connection of another node.

    It stands in for the connection towards the websocket (see
    :class:`primacron.sessions.transport.ConnectionOwner`), and is the
    :class:`~primacron.handoff.destination.Claimant` of :class:`IncomingHandoff`.
    """

    phase: Final = Phase.UPGRADED

    def __init__(self, upgrades: IncomingUpgrades, number: int, sid: Sid, source: NodeId, format: Format) -> None:
        self._hub = upgrades.hub
        self._cluster = upgrades.cluster
        self._destinations = upgrades.destinations
        self._number = number
        self._sid = sid
        self._websocket: WebSocket | None = None
        #: None until the client's upgrade packet has been received.
        self._handoff: IncomingHandoff | None = None
        self._buffered: list[str | bytes] = []
        self._size = 0
        self._reason: CloseReason = TRANSPORT_ERROR
        self.source = source
        self.format = format
        self.state = DestinationProbe.OPEN

    def begin(self, websocket: WebSocket) -> None:
        """Attach the websocket and start the timeout."""
        self._websocket = websocket
        websocket.connection = self
        self._hub.wheel.alarm(self._hub.options.upgrade_timeout, lambda: self._step(DestinationProbeEvent.EXPIRED))

    def give_up(self) -> None:
        """Close the websocket, unless its probe may have been answered: then the client no longer polls."""
        if self.state in (DestinationProbe.OPEN, DestinationProbe.ASKING):
            self._reason = SHUTDOWN
            self._step(DestinationProbeEvent.EXPIRED)

    def _step(self, event: DestinationProbeEvent) -> None:
        """Apply an event to the state machine and carry out the resulting action."""
        self.state, action = probe_destination(self.state, event)
        if action is DestinationProbeAction.ASK:
            self._ask_for_calm()
        elif action is DestinationProbeAction.ANSWER:
            if self._websocket is not None and self._websocket.ready:
                self._websocket.write([PROBE_PONG])
        elif action is DestinationProbeAction.CLOSE:
            self.close()
        elif action is DestinationProbeAction.CANCEL:
            self.close()
            self._destinations.let_go(self._number, self.source, self._sid, "cancelled")
        elif action is DestinationProbeAction.FETCH:
            timeout = self._hub.options.upgrade_timeout
            self._handoff = IncomingHandoff(self._destinations, self._number, self.source, self._sid, self, timeout)
            self._handoff.begin()

    # With the source

    def _ask_for_calm(self) -> None:
        def settled(answer: Answer) -> None:
            if answer.status == "accepted":
                self._step(DestinationProbeEvent.ALLOWED)
            elif answer.status == TIMED_OUT and self.state is DestinationProbe.ASKING:
                self._ask_for_calm()
            elif answer.status != TIMED_OUT:
                self._step(DestinationProbeEvent.REFUSED)

        node, number, sid = self._cluster.node, self._number, self._sid
        self._cluster.ask(self.source, lambda id_: Quiesce(id_, node, number, sid), ASK_AGAIN, settled)

    def hear_end(self, reason: CloseReason) -> None:
        """Handle the end of the session before it was handed over, or a timeout at the source."""
        handoff = self._handoff
        if handoff is None:
            if self.state in (DestinationProbe.ASKING, DestinationProbe.ALLOWED):
                self._reason = reason
            self._step(DestinationProbeEvent.REFUSED)
        elif handoff.state is DestinationState.FETCHING:
            self._reason = reason  # the last packets arrive with the answer to the fetch

    # For the websocket

    def receive_text(self, text: str, transport: Transport) -> None:
        """Handle a text frame."""
        self._receive(text)

    def receive_binary(self, data: bytes, transport: Transport) -> None:
        """Handle a binary frame."""
        self._receive(data)

    def _receive(self, frame: str | bytes) -> None:
        if self._handoff is not None:
            self._buffer(frame)
            return
        try:
            version = self.format.version
            packet = decode_text(frame, version) if isinstance(frame, str) else decode_binary(frame, version)
            verdict = judge(packet, version, Channel.PROBE)
        except ProtocolError as error:
            self.refuse(error, None, TRANSPORT_ERROR)
            return
        if verdict is Verdict.PROBE:
            self._step(DestinationProbeEvent.PROBED)
        elif self.state in (DestinationProbe.OPEN, DestinationProbe.ASKING):
            self.refuse(ProtocolError("UPGRADE before the answer to the probe"), None, TRANSPORT_ERROR)
        else:
            self._step(DestinationProbeEvent.UPGRADED)

    def _buffer(self, frame: str | bytes) -> None:
        """Buffer what the client sends before the session arrives, up to ``max_payload`` bytes."""
        self._size += len(frame)
        if self._size > self._hub.options.max_payload:
            limit = self._hub.options.max_payload
            self.refuse(FrameError(1009, f"more than {limit} bytes before the upgrade was done"), None, TOO_LARGE)
        else:
            self._buffered.append(frame)

    def refuse(self, error: Exception, transport: Transport | None, reason: CloseReason) -> None:
        """Report a protocol violation and close the websocket."""
        self._hub.receiver.problem(error)
        self._reason = reason
        self._lose()

    def lose(self, transport: Transport) -> None:
        """Handle a lost websocket."""
        self._websocket = None
        self._reason = TRANSPORT_CLOSE
        self._lose()

    def _lose(self) -> None:
        if self._handoff is None:
            self._step(DestinationProbeEvent.LOST)
        else:
            self._handoff.step(DestinationEvent.LOST)

    def flush(self) -> None:
        """Do nothing, as queued packets arrive with the session."""

    # For the handoff

    @property
    def transport(self) -> Transport:
        """The websocket, or a null transport if it is closed."""
        return self._websocket if self._websocket is not None else Gone()

    @property
    def gone(self) -> CloseReason | None:
        """Why the websocket was closed; None while it is open."""
        return self._reason if self._websocket is None else None

    def attach(self, connection: Connection) -> None:
        """Bind the websocket to the connection."""
        if self._websocket is not None:
            self._websocket.connection = connection

    def catch_up(self, connection: Connection) -> None:
        """Replay the buffered frames to the connection."""
        websocket = self._websocket
        for frame in self._buffered:
            if websocket is None or connection.phase in ENDED:
                return
            if isinstance(frame, str):
                connection.receive_text(frame, websocket)
            else:
                connection.receive_binary(frame, websocket)

    def close(self, reason: CloseReason | None = None, packets: Sequence[OutgoingPacket] = ()) -> None:
        """Close the websocket, if it is open."""
        if reason is not None:
            self._reason = reason
        websocket, self._websocket = self._websocket, None
        if websocket is not None:
            # Usually empty; then nothing is written.
            if packets and websocket.ready:
                websocket.write([*packets])
            websocket.connection = None
            websocket.close(self._reason)


class Gone:
    """The null transport, in place of a websocket that is closed."""

    name = TransportName.WEBSOCKET
    can_upgrade = False
    keeps_for_poll = False
    ready = False
    context = None

    def write(self, packets: object) -> None:
        """Discard the packets."""

    def backlog(self) -> int:
        """Return 0, as nothing is buffered."""
        return 0

    def pause(self) -> None:
        """Do nothing."""

    def resume(self) -> None:
        """Do nothing."""

    def close(self, reason: CloseReason) -> None:
        """Do nothing."""
