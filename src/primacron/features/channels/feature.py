"""The channels of this node's sessions: who joins and leaves, and what follows from it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, ClassVar, Final

import msgspec
from msgspec import UNSET

from primacron.channels.info import pack_info
from primacron.channels.kinds import Kind, Kinds
from primacron.channels.replay import Answer
from primacron.cluster.cluster import Cluster
from primacron.cluster.solo import Solo
from primacron.dialects.base import Dialect, Joined
from primacron.dialects.encoding import NIL
from primacron.errors import LimitExceeded, TooManyChannels, ValidationFailed
from primacron.features.channels.histories import Histories
from primacron.features.channels.local import Channel, LocalChannels
from primacron.features.channels.members import Seen
from primacron.features.channels.presence import Presences
from primacron.features.feature import Feature
from primacron.ids import AccountId, NodeId, SessionId
from primacron.natives import as_name
from primacron.protocol.close_reasons import REPLACED, CloseReason
from primacron.protocol.outgoing import OutgoingPacket
from primacron.receipts import ACCEPTED, REFUSED, UNKNOWN_SESSION, UNSENT, Delivery, Receipt
from primacron.routing.router import Router
from primacron.sessions.hub import Hub
from primacron.sessions.lifecycle import DELIVERABLE, State
from primacron.sessions.memberships import Membership, Memberships
from primacron.sessions.session import Session

#: What a client hears when the server takes it out of a channel.
FORCED_LEAVE: Final = "forced leave"
#: Seconds that a session may wait, before it moves here, until this node hears its channels.
PREPARED_WITHIN: Final = 1.0


class _Change(msgspec.Struct, array_like=True):
    """A request to the node of a session: the channel, the member's info, and whether it joins or leaves."""

    channel: str
    info: msgspec.Raw  # never None: msgspec reads nothing else where that is allowed
    joins: bool


_CHANGE: Final = msgspec.msgpack.Decoder(_Change)


def describe(name: str, answer: Answer) -> Joined:
    """Return what a client is told of its place in the history of a channel."""
    recovered = UNSET if answer.recovered is None else answer.recovered
    return Joined(name, answer.position.epoch, answer.position.offset, recovered)


class Channels(Feature):
    """Manages the channels of this node's sessions."""

    name: ClassVar[str] = Memberships.name
    state = Memberships

    def __init__(
        self, hub: Hub, router: Router, cluster: Cluster | Solo, run: Callable[[Coroutine[Any, Any, Any]], object]
    ) -> None:
        super().__init__(hub, router, cluster, run)
        self.local = LocalChannels(hub, cluster, self._kind_here)
        #: The channels whose names clients are told.
        self.kinds = Kinds(max_name=hub.options.max_channel_name)
        self.histories = Histories(hub, router, cluster, run, self.local)
        self.presences = Presences(hub, cluster, self.local)
        hub.channels = self

    # Joining and leaving

    def join(self, session: Session, name: str, info: Any) -> Delivery[Receipt]:
        """Put a session into a channel; see :meth:`Session.join`."""
        name = self.read_name(name)
        packed = self.pack_info(info)
        if session.state in DELIVERABLE:
            return self._join_by_server(session, name, packed)
        return self._ask(session, _Change(name, packed, joins=True))

    def leave(self, session: Session, name: str) -> Delivery[Receipt]:
        """Take a session out of a channel; see :meth:`Session.leave`."""
        if session.state in DELIVERABLE:
            self._leave_by_server(session, name)
            return self._hub.accepted()
        return self._ask(session, _Change(name, NIL, joins=False))

    def read_name(self, name: Any) -> str:
        """
        Return the name of a channel as a plain string.

        Raises:
            TypeError, ValueError: if no channel may have this name.

        """
        text = as_name(name, "channel")
        if text in self.local:  # it was checked before
            return text
        try:
            self.kinds.kind_of(text)
        except (ValidationFailed, LimitExceeded) as error:
            raise ValueError(f"channel {text[:300]!r}: {error}") from None
        return text

    def pack_info(self, info: Any) -> msgspec.Raw:
        """
        Encode the info of a member.

        Raises:
            TypeError: if it cannot be encoded.
            ValueError: if it is too large.

        """
        return pack_info(info, self._hub.encoding)

    def demand_place(self, session: Session, name: str) -> None:
        """
        Refuse a session that is in as many channels as it may be, unless this is one of them.

        Raises:
            TooManyChannels: if it is.

        """
        memberships, limit = session.peek(Memberships), self._hub.options.max_channels
        if memberships is not None and len(memberships.channels) >= limit and name not in memberships.channels:
            raise TooManyChannels(limit)

    async def prepare(self, name: str, kind: Kind) -> Channel:
        """Return a channel once this node hears it from the others; at once if they cannot be heard at all."""
        channel = self.local.demand(name)
        channel.kind = kind  # it may be newer than the channel
        if self._cluster.link.is_reachable and not self.local.hears(name):
            await self.local.heard(channel)
            channel = self.local.demand(name)  # it may have been dropped as soon as nobody waited
            channel.kind = kind
        return channel

    def join_here(self, session: Session, name: str, info: msgspec.Raw) -> bool:
        """Put a session of this node into a channel, or renew its info; return whether it was not in it."""
        channels = session.demand(Memberships).channels
        is_new = name not in channels
        channel = self.local.add(session, name)
        membership = channels.setdefault(name, Membership() if channel.is_remembered else None)
        if membership is not None:
            membership.info = info
            self.histories.joined(session, name)
            if channel.kind is not None and channel.kind.presence:
                self.presences.joined(session, channel, info)
        if is_new:
            self._hub.receiver.channel_joined(session, name)
        return is_new

    def leave_here(self, session: Session, name: str, *, moved: bool = False) -> bool:
        """
        Take a session of this node out of a channel; return whether it was in it.

        ``moved`` if it may be about to join again, under the same name.
        """
        memberships = session.peek(Memberships)
        if memberships is None or name not in memberships.channels:
            return False
        del memberships.channels[name]
        self.local.remove(session, name)
        self.histories.leave(session, name)
        self.presences.leave(session, name, moved=moved)
        self._hub.receiver.channel_left(session, name)
        return True

    def _join_by_server(self, session: Session, name: str, info: msgspec.Raw) -> Delivery[Receipt]:
        try:
            self.demand_place(session, name)
        except TooManyChannels as error:
            self._hub.receiver.problem(error, session=session)
            return self._hub.delivered(REFUSED, requested=True)
        is_new = self.join_here(session, name, info)
        channel = self.local.demand(name)
        if is_new:
            self._enter(session, channel)
        return self.local.heard(channel)

    def _enter(self, session: Session, channel: Channel) -> None:
        """Tell a session that the server has made it join, from where on it gets the history, and who is there."""
        name, kind = channel.name, channel.kind
        if kind is None:
            return

        def tell(joined: Joined, seen: Seen | None = None) -> None:
            if seen is not None:
                seen.fill(joined)
                self.renew_position(session, joined)
            self._tell(session, lambda dialect: dialect.write_server_join(name, joined))

        def found(joined: Joined) -> None:
            if kind.presence:
                self.presences.welcome(session, channel, partial(tell, joined))
            else:
                tell(joined)

        if kind.history:
            self.histories.join(session, channel, kind, lambda answer: found(describe(name, answer)))
        else:
            found(Joined(name))

    def renew_position(self, session: Session, joined: Joined) -> None:
        """Let a member be told how far it has received the history by now, if that goes on while its answer waits."""
        position = self.histories.reached_by(session, joined.channel)
        if position is not None:
            joined.epoch, joined.offset = position.epoch, position.offset

    def _leave_by_server(self, session: Session, name: str) -> None:
        channel = self.local.get(name)
        if self.leave_here(session, name) and channel is not None and channel.kind is not None:
            self._tell(session, lambda dialect: dialect.write_left(name, FORCED_LEAVE))

    @staticmethod
    def _tell(session: Session, write: Callable[[Dialect], OutgoingPacket | None]) -> None:
        """Tell a client about a channel, if its dialect has words for that."""
        connection = session.connection
        packet = None if connection is None else write(connection.dialect)
        if connection is not None and packet is not None:
            connection.send(packet)

    def kind_of(self, name: str) -> Kind | None:
        """Return the kind of a channel with a usable name; None if it is a room."""
        channel = self.local.get(name)
        if channel is not None:
            return channel.kind
        return self.kinds.kind_of(name)

    def _kind_here(self, name: str) -> Kind | None:
        """
        Return the kind of a channel that this node is to have; None if it is a room.

        The name may come with a session, or a request, from a server of another version, whose kinds take it. Here
        the channel is a room then.
        """
        try:
            return self.kinds.kind_of(name)
        except (ValidationFailed, LimitExceeded) as error:
            self._hub.receiver.problem(error, key=name)
            return None

    # Sessions of other nodes, or in transit

    def change(self, name: tuple[AccountId, SessionId], channel: str, info: Any, *, joins: bool) -> Delivery[Receipt]:
        """Put a session into a channel or take it out, wherever the session is."""
        session = self._hub.live(name)
        if session is not None:
            return self.join(session, channel, info) if joins else self.leave(session, channel)
        return self._request(name, _Change(self.read_name(channel), self.pack_info(info), joins))

    def _ask(self, session: Session, change: _Change) -> Delivery[Receipt]:
        if session.state is State.ENDED:
            return self._hub.delivered(UNKNOWN_SESSION, requested=False)
        return self._request((session.account, session.id), change)

    def _request(self, name: tuple[AccountId, SessionId], change: _Change) -> Delivery[Receipt]:
        delivery: Delivery[Receipt] = self._hub.delivery(requested=True)
        self._run(self._settle(delivery, name, msgspec.Raw(msgspec.msgpack.encode(change))))
        return delivery

    async def _settle(
        self, delivery: Delivery[Receipt], name: tuple[AccountId, SessionId], change: msgspec.Raw
    ) -> None:
        outcome = UNSENT
        try:
            outcome = await self._router.ask(name, self.name, change)
        finally:
            delivery.settle(outcome)

    async def asked(self, session: Session, body: msgspec.Raw) -> Receipt:
        """Put a session of this node into a channel or take it out, as another node requests."""
        change = _CHANGE.decode(body)
        if change.joins:
            return await self._join_by_server(session, change.channel, msgspec.Raw(bytes(change.info)))
        self._leave_by_server(session, change.channel)
        return ACCEPTED

    # Lifecycle of sessions

    async def expected(self, packed: msgspec.Raw, source: NodeId) -> None:
        """
        Hear the channels of a session before it moves to this node, so that it misses nothing meanwhile.

        What was sent before this node heard them is passed on by the source, which must have
        received it by the time that it lets the session go.
        """
        memberships = Memberships()
        memberships.load(packed, 0.0)
        names = [*memberships.channels]
        waiting = [self.local.heard(self.local.demand(name)) for name in names]
        if waiting and isinstance(self._cluster, Cluster):
            await asyncio.wait(waiting, timeout=PREPARED_WITHIN)
            await asyncio.gather(*(self._cluster.fence(name, source, PREPARED_WITHIN) for name in names))

    def arrived(self, session: Session) -> None:
        """Put a session that was handed off to this node into its channels here."""
        memberships = session.peek(Memberships)
        for name, membership in () if memberships is None else memberships.channels.items():
            channel = self.local.add(session, name)
            if membership is not None and channel.kind is not None:
                self._arrive(session, channel, channel.kind, membership)

    def _arrive(self, session: Session, channel: Channel, kind: Kind, membership: Membership) -> None:
        """Let a session go on with what it has had of a channel on another node."""
        since = membership.progress.position
        if kind.presence:
            self.presences.arrive(session, channel, membership)
        if kind.history and since is not None:
            self.histories.arrive(session, channel, kind, since)
        elif kind.history:
            self._enter(session, channel)

    def left(self, session: Session) -> None:
        """Take a session that has moved to another node out of its channels here."""
        memberships = session.peek(Memberships)
        for name in () if memberships is None else memberships.channels:
            self.local.remove(session, name)
            self.histories.leave(session, name)
            self.presences.leave(session, name, moved=True)

    def ended(self, session: Session, reason: CloseReason) -> None:
        """Take a session that has ended out of its channels."""
        memberships = session.peek(Memberships)
        for name in () if memberships is None else tuple(memberships.channels):
            # Its client has connected again, and is about to join again: that is no leave and no join.
            self.leave_here(session, name, moved=reason is REPLACED)
        self.histories.ended(session)
