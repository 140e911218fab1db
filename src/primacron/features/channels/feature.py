"""The channels of this node's sessions: who joins and leaves, and what follows from it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, ClassVar, Final

import msgspec

from primacron.channels.names import check_name
from primacron.cluster.cluster import Cluster
from primacron.cluster.solo import Solo
from primacron.errors import LimitExceeded, TooManyChannels, ValidationFailed
from primacron.features.channels.local import LocalChannels
from primacron.features.feature import Feature
from primacron.ids import AccountId, NodeId, SessionId
from primacron.natives import as_name
from primacron.receipts import ACCEPTED, REFUSED, UNKNOWN_SESSION, UNSENT, Delivery, Receipt
from primacron.routing.router import Router
from primacron.sessions.hub import Hub
from primacron.sessions.lifecycle import DELIVERABLE, State
from primacron.sessions.memberships import Membership, Memberships
from primacron.sessions.session import Session

#: Bytes of the info that a member may have.
MAX_INFO: Final = 1_024
#: Seconds that a session may wait, before it moves here, until this node hears its channels.
PREPARED_WITHIN: Final = 1.0


class _Change(msgspec.Struct, array_like=True):
    """A request to the node of a session: the channel, the member's info, and whether it joins or leaves."""

    channel: str
    info: msgspec.Raw | None
    joins: bool


_CHANGE: Final = msgspec.msgpack.Decoder(_Change)


class Channels(Feature):
    """Manages the channels of this node's sessions."""

    name: ClassVar[str] = Memberships.name
    state = Memberships

    def __init__(
        self, hub: Hub, router: Router, cluster: Cluster | Solo, run: Callable[[Coroutine[Any, Any, Any]], object]
    ) -> None:
        super().__init__(hub, router, cluster, run)
        self.local = LocalChannels(hub, cluster)
        hub.channels = self

    # Joining and leaving

    def join(self, session: Session, name: str, info: Any) -> Delivery[Receipt]:
        """Put a session into a channel; see :meth:`Session.join`."""
        name = self.read_name(name)
        packed = self.pack_info(info)
        if session.state in DELIVERABLE:
            return self._join_here(session, name, packed)
        return self._ask(session, _Change(name, packed, joins=True))

    def leave(self, session: Session, name: str) -> Delivery[Receipt]:
        """Take a session out of a channel; see :meth:`Session.leave`."""
        if session.state in DELIVERABLE:
            self.leave_here(session, name)
            return self._hub.accepted()
        return self._ask(session, _Change(name, None, joins=False))

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
            check_name(text, self._hub.options.max_channel_name)
        except (ValidationFailed, LimitExceeded) as error:
            raise ValueError(f"channel {text[:300]!r}: {error}") from None
        return text

    def pack_info(self, info: Any) -> msgspec.Raw | None:
        """
        Encode the info of a member.

        Raises:
            TypeError: if it cannot be encoded.
            ValueError: if it is too large.

        """
        if info is None:
            return None
        packed = self._hub.encoding.pack(info)
        if len(packed) > MAX_INFO:
            raise ValueError(f"info: expected at most {MAX_INFO} bytes, got {len(packed)}")
        return msgspec.Raw(packed)

    def _join_here(self, session: Session, name: str, info: msgspec.Raw | None) -> Delivery[Receipt]:
        channels = session.demand(Memberships).channels
        is_new = name not in channels
        limit = self._hub.options.max_channels
        if is_new and len(channels) >= limit:
            self._hub.receiver.problem(TooManyChannels(limit), session=session)
            return self._hub.delivered(REFUSED, requested=True)
        channels[name] = None if info is None else Membership(info)
        channel = self.local.add(session, name)
        if is_new:
            self._hub.receiver.channel_joined(session, name)
        return self.local.heard(channel)

    def leave_here(self, session: Session, name: str) -> bool:
        """Take a session of this node out of a channel; return whether it was in it."""
        memberships = session.peek(Memberships)
        if memberships is None or name not in memberships.channels:
            return False
        del memberships.channels[name]
        self.local.remove(session, name)
        self._hub.receiver.channel_left(session, name)
        return True

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
            return await self._join_here(session, change.channel, change.info)
        self.leave_here(session, change.channel)
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
        for name in () if memberships is None else memberships.channels:
            self.local.add(session, name)

    def left(self, session: Session) -> None:
        """Take a session that has moved to another node out of its channels here."""
        memberships = session.peek(Memberships)
        for name in () if memberships is None else memberships.channels:
            self.local.remove(session, name)

    def ended(self, session: Session) -> None:
        """Take a session that has ended out of its channels."""
        memberships = session.peek(Memberships)
        for name in () if memberships is None else tuple(memberships.channels):
            self.leave_here(session, name)
