"""
A session goes to the node that its client's websocket has reached.

Each side has a stand-in. At the source it plays the websocket that probes a connection, at
the destination the connection that a websocket probes; between them they speak over the
bus. With the client's upgrade packet the handoff begins.
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
from primacron.protocol.handshake import Format, find_format
from primacron.protocol.outgoing import PROBE_PONG, OutgoingPacket
from primacron.protocol.packets import decode_binary, decode_text
from primacron.sessions.connection import Connection
from primacron.sessions.hub import Hub
from primacron.sessions.transport import Transport, WebSocket

#: What the destination may say of an upgrade before the transfer.
_VERDICTS: Final = {"cancelled": SourceProbeEvent.CANCELLED, "left": SourceProbeEvent.LEFT}


# At the source


def end_left(hub: Hub, sid: Sid) -> None:
    """End a connection whose client has left polling, so that nobody can reach it any more."""
    connection = hub.connections.get(sid)
    if connection is not None and connection.phase is not Phase.WEBSOCKET:
        connection.end(TRANSPORT_ERROR)


class OutgoingUpgrades:
    """Connections of this node that websockets of other nodes probe."""

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
        elif connection.phase is not Phase.POLLING or connection.probe is not None:
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
        if connection is None or connection.phase is not Phase.POLLING or connection.probe is not None:
            self.cluster.answer(item, "refused")
        elif connection.backlog is not None:
            self.cluster.answer(item, "refused")  # a long POST does not travel: its client stays on polling
        else:
            upgrade = self._probing[key] = OutgoingUpgrade(self, connection, item)
            upgrade.begin()

    def forget(self, key: Key) -> None:
        """Forget an upgrade that comes to nothing, or whose session is handed over."""
        self._probing.pop(key, None)


class OutgoingUpgrade:
    """
    A connection that the websocket of another node probes.

    To the connection it is that websocket, see :class:`primacron.sessions.transport.Transport`;
    to :class:`Sources` it is an :class:`~primacron.handoff.source.Offer`.
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
        """Let the session become calm."""
        self._hub.moving.add(self._session)
        self._sources.offer(self._key, self)
        self._connection.begin_probe(self)
        self._session.quiesce(lambda: self._step(SourceProbeEvent.CALMED))

    def ask_again(self, item: Quiesce) -> None:
        """Hear the question for calm once more: its answer may have been lost."""
        self._request = item
        self._step(SourceProbeEvent.ASKED)

    def _step(self, event: SourceProbeEvent) -> None:
        """Act on an event, as the table says."""
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

    # For the connection, as long as it polls

    context = None

    def write(self, packets: list[OutgoingPacket]) -> None:
        """Let the destination answer the probe."""
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
        if self.state is SourceProbe.HANDED_OVER:
            return  # it is the websocket that takes over
        node, number = self._key
        self._cluster.tell(node, UpgradeOver(number, reason.text, reason.code))
        self._cluster.answer(self._request, "refused")
        self._step(SourceProbeEvent.EXPIRED)

    # For the destination

    def settle(self, why: str) -> None:
        """Hear that the websocket is gone."""
        event = _VERDICTS.get(why)
        if event is not None:
            self._step(event)

    def fetch(self, item: Fetch) -> None:
        """Hand the session over, if it is calm; or what was kept for the client, if it has ended meanwhile."""
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
        #: Those under way, by the number of the handoff.
        self._under_way: WeakValueDictionary[int, IncomingUpgrade] = WeakValueDictionary()
        self._is_ending = False
        cluster.on(UpgradeOver, self._over)

    def _over(self, item: UpgradeOver, sender: NodeId) -> None:
        upgrade = self._under_way.get(item.handoff)
        if upgrade is not None and upgrade.source == sender:
            upgrade.hear_end(known(item.text, item.code))

    def finish(self) -> None:
        """Let no session come any more, as this node ends: clients that have not begun to leave polling stay there."""
        self._is_ending = True
        for upgrade in tuple(self._under_way.values()):
            upgrade.give_up()

    async def ask(self, sid: Sid, account: str | None) -> IncomingUpgrade:
        """
        Ask the node of a connection whether a websocket may take it over.

        Raises:
            UnknownSid: if no node has the connection.
            AlreadyUpgraded: if the connection is no longer on polling, wherever it is.
            BadRequest: if it is not the account's.
            Overloaded: if its node does not answer, or this one ends.

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
        """Return what a client is told whose connection is not where it was opened: another node may have it."""
        found = await self._finder.locate(sid)
        place = found[1] if isinstance(found, tuple) else found
        if isinstance(place, Entry):
            return AlreadyUpgraded()  # by another node: nothing else moves a connection
        if place is Absence.AWAY:
            return Overloaded("the registry cannot be asked where the connection is")
        return UnknownSid()


class IncomingUpgrade:
    """
    A websocket that is to take over a connection of another node.

    To the websocket it is the connection, see :class:`primacron.sessions.transport.ConnectionOwner`;
    to :class:`IncomingHandoff` it is the :class:`~primacron.handoff.destination.Claimant`.
    """

    phase: Final = Phase.WEBSOCKET

    def __init__(self, upgrades: IncomingUpgrades, number: int, sid: Sid, source: NodeId, format: Format) -> None:
        self._hub = upgrades.hub
        self._cluster = upgrades.cluster
        self._destinations = upgrades.destinations
        self._number = number
        self._sid = sid
        self._websocket: WebSocket | None = None
        #: None until the client's upgrade packet has come.
        self._handoff: IncomingHandoff | None = None
        self._buffered: list[str | bytes] = []
        self._size = 0
        self._reason: CloseReason = TRANSPORT_ERROR
        self.source = source
        self.format = format
        self.state = DestinationProbe.OPEN

    def begin(self, websocket: WebSocket) -> None:
        """Take the websocket."""
        self._websocket = websocket
        websocket.connection = self
        self._hub.wheel.alarm(self._hub.options.upgrade_timeout, lambda: self._step(DestinationProbeEvent.EXPIRED))

    def give_up(self) -> None:
        """Close the websocket, unless the answer to its probe may have come: then its client polls no longer."""
        if self.state in (DestinationProbe.OPEN, DestinationProbe.ASKING):
            self._reason = SHUTDOWN
            self._step(DestinationProbeEvent.EXPIRED)

    def _step(self, event: DestinationProbeEvent) -> None:
        """Act on an event, as the table says."""
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
        """Hear that the session has ended before it was handed over, or that the source's time is up."""
        handoff = self._handoff
        if handoff is None:
            if self.state in (DestinationProbe.ASKING, DestinationProbe.ALLOWED):
                self._reason = reason
            self._step(DestinationProbeEvent.REFUSED)
        elif handoff.state is DestinationState.FETCHING:
            self._reason = reason  # the last packets come, as an answer

    # For the websocket

    def receive_text(self, text: str, transport: Transport) -> None:
        """Take a text frame."""
        self._receive(text)

    def receive_binary(self, data: bytes, transport: Transport) -> None:
        """Take a binary frame."""
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
        """Keep what the client sends before the session is here; as much as it may send at once."""
        self._size += len(frame)
        if self._size > self._hub.options.max_payload:
            limit = self._hub.options.max_payload
            self.refuse(FrameError(1009, f"more than {limit} bytes before the upgrade was done"), None, TOO_LARGE)
        else:
            self._buffered.append(frame)

    def refuse(self, error: Exception, transport: Transport | None, reason: CloseReason) -> None:
        """Act on a broken rule: the websocket is closed."""
        self._hub.receiver.problem(error)
        self._reason = reason
        self._lose()

    def lose(self, transport: Transport) -> None:
        """Act on a client that is gone."""
        self._websocket = None
        self._reason = TRANSPORT_CLOSE
        self._lose()

    def _lose(self) -> None:
        if self._handoff is None:
            self._step(DestinationProbeEvent.LOST)
        else:
            self._handoff.step(DestinationEvent.LOST)

    def flush(self) -> None:
        """Do nothing: what waits comes with the session."""

    # For the handoff

    @property
    def transport(self) -> Transport:
        """The websocket, or what takes its place if it is gone."""
        return self._websocket if self._websocket is not None else Gone()

    @property
    def gone(self) -> CloseReason | None:
        """Why the websocket is gone."""
        return self._reason if self._websocket is None else None

    def attach(self, connection: Connection) -> None:
        """Let the websocket work for the connection."""
        if self._websocket is not None:
            self._websocket.connection = connection

    def catch_up(self, connection: Connection) -> None:
        """Let the connection have the frames that came before it."""
        websocket = self._websocket
        for frame in self._buffered:
            if websocket is None or connection.phase in ENDED:
                return
            if isinstance(frame, str):
                connection.receive_text(frame, websocket)
            else:
                connection.receive_binary(frame, websocket)

    def close(self, reason: CloseReason | None = None, packets: Sequence[OutgoingPacket] = ()) -> None:
        """Close the websocket, unless it is gone."""
        if reason is not None:
            self._reason = reason
        websocket, self._websocket = self._websocket, None
        if websocket is not None:
            # Often there are none: then there is nothing to be written.
            if packets and websocket.ready:
                websocket.write([*packets])
            websocket.connection = None
            websocket.close(self._reason)


class Gone:
    """In the place of a websocket that is gone."""

    ready = False
    context = None

    def write(self, packets: object) -> None:
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
