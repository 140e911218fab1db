"""
Presence on this node: who is in its channels on all nodes, and what its sessions are told of that.

Everything that follows from what happens in a tick is done at its end: changes are told to
each member in one message. A session is told who is there before it is told of changes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

import msgspec

from primacron.channels.kinds import Kind
from primacron.channels.notices import Changes, Count, Notice
from primacron.channels.parts import Delta, Reply, Snapshot, pack_delta, unpack_delta
from primacron.channels.presence import Action, Announce, Ask, Inquiry, Presence, Publish, Ready, Send, Tell
from primacron.cluster.cluster import Cluster
from primacron.cluster.envelope import encode_item
from primacron.cluster.items import Answer, ComparePresence, PresenceDelta, PresencePart
from primacron.cluster.outgoing import Dispatch, Fate
from primacron.cluster.registry import SETTLED_AFTER
from primacron.cluster.requests import UNSUPPORTED
from primacron.cluster.solo import Solo
from primacron.dialects.base import Dialect
from primacron.entries import Name
from primacron.features.channels.local import Channel, LocalChannels
from primacron.features.channels.members import Members, Seen, read_member, read_members
from primacron.ids import NodeId
from primacron.protocol.outgoing import OutgoingPacket
from primacron.sessions.connection import Connection
from primacron.sessions.hub import Hub
from primacron.sessions.memberships import NOT_SEEN, Membership, Memberships
from primacron.sessions.session import Session
from primacron.wheel import Alarm

#: Seconds for which an application waits at most for the parts of other nodes.
PATIENCE: Final = 1.0
#: Seconds that another node has to answer before it is asked again.
ASK_FOR: Final = 2.0

_REPLY: Final = msgspec.msgpack.Decoder(Reply)
_SNAPSHOTS: Final = msgspec.msgpack.Decoder(dict[str, Snapshot])


class _Guest:
    """A session that is to be told who is there, and before that to join by ``enter``, if it still can."""

    __slots__ = ("enter", "entered", "session", "told")

    def __init__(
        self,
        session: Session,
        told: Callable[[Seen], None],
        enter: Callable[[], bool] | None = None,
        entered: asyncio.Future[None] | None = None,
    ) -> None:
        self.session = session
        self.told = told
        self.enter = enter
        self.entered = entered

    def come_in(self) -> bool:
        """Join, if that is still to be done; return whether the session is to be told."""
        if self.enter is None or self.entered is None:
            return True
        if self.entered.done():  # nobody waits for it any more
            return False
        try:
            is_in = self.enter()
        except Exception as error:  # for who waits to handle
            self.entered.set_exception(error)
            return False
        if not is_in:
            self.entered.set_result(None)
        return is_in

    def tell(self, seen: Seen) -> None:
        """Tell it who is there; a failure is for who waits to handle, if anybody does."""
        entered = self.entered
        try:
            self.told(seen)
        except Exception as error:
            if entered is None or entered.done():
                raise
            entered.set_exception(error)
        else:
            if entered is not None and not entered.done():
                entered.set_result(None)


class Attendance:
    """What this node keeps of a channel with presence beside the members themselves."""

    __slots__ = ("_presence", "channel", "guests", "untold")

    def __init__(self, channel: Channel, presence: Presence) -> None:
        self.channel = channel
        self._presence = presence
        #: Who waits to be told, and members that were not told yet.
        self.guests: list[_Guest] = []
        self.untold: set[Session] = set()

    @property
    def digest(self) -> int:
        """What stands for the members of whom all were told that are not in ``untold``."""
        return self._presence.digest(self.channel.name)


class _Publication(Dispatch):
    """A delta on its way to the nodes that hear the channel; ``done`` is called with their number, None if unsure."""

    __slots__ = ("_channel", "_delta", "_done")

    def __init__(self, channel: str, delta: Delta, done: Callable[[int | None], None]) -> None:
        self._channel = channel
        self._delta = delta
        self._done = done

    def encode(self) -> bytes:
        """Encode the item."""
        return encode_item(PresenceDelta(self._channel, msgspec.Raw(pack_delta(self._delta))))

    def left(self, fate: Fate, nodes: int) -> None:
        """Pass on what has become of it."""
        self._done(nodes if fate is Fate.SENT else None)


class Presences:
    """Who is in the channels of this node that have presence."""

    def __init__(self, hub: Hub, cluster: Cluster | Solo, local: LocalChannels) -> None:
        self._hub = hub
        self._loop = hub.loop
        self._cluster = cluster if isinstance(cluster, Cluster) else None
        self._local = local
        node = NodeId("") if self._cluster is None else self._cluster.node
        self._presence = Presence(node, limit=hub.options.presence_limit, grace=hub.options.presence_grace)
        self._attendances: dict[str, Attendance] = {}
        #: Those with guests that can be let in.
        self._inviting: dict[str, Attendance] = {}
        #: Applications that wait until a channel's other parts are known, or late.
        self._awaited: dict[str, list[asyncio.Future[None]]] = {}
        self._inquiries: dict[int, tuple[Inquiry, asyncio.Future[None]]] = {}
        self._is_flushing = self._is_due = False
        self._alarm: Alarm | None = None
        self._alarm_at = 0.0
        local.on_added.append(self._added)
        local.on_heard.append(partial(self._heard, heard=True))
        local.on_lost.append(partial(self._heard, heard=False))
        local.needed_by.append(self._needs)
        local.on_dropped.append(self._dropped)
        if self._cluster is not None:
            self._listen(self._cluster)

    def _listen(self, cluster: Cluster) -> None:
        cluster.on(PresenceDelta, lambda item, _: self._take_delta(item))
        cluster.on(PresencePart, self._take_part)
        cluster.on(ComparePresence, lambda item, _: self._compare(item))
        cluster.on_fallen.append(self._fallen)
        cluster.on_leases.append(self._renewed)
        cluster.on_back.append(self._back)

    # Channels

    def of(self, channel: Channel) -> Attendance:
        """Return what is kept of a channel with presence, which this node hears or is about to."""
        channel = self._local.current(channel)  # that of one that was dropped would have no members
        attendance = self._attendances.get(channel.name)
        if attendance is None:
            attendance = self._attendances[channel.name] = Attendance(channel, self._presence)
            self._presence.open(channel.name, self._loop.time())
            self._heard(channel, heard=self._local.hears(channel.name))
        return attendance

    def _added(self, channel: Channel) -> None:
        if channel.kind is not None and channel.kind.presence:
            self.of(channel)

    def _heard(self, channel: Channel, *, heard: bool) -> None:
        if channel.name in self._attendances:
            self._presence.heard(channel.name, heard=heard, now=self._loop.time())
            self._wake()

    def _needs(self, channel: Channel) -> bool:
        attendance = self._attendances.get(channel.name)
        return attendance is not None and bool(attendance.guests)

    def _dropped(self, channel: Channel) -> None:
        if self._attendances.pop(channel.name, None) is not None:
            self._presence.close(channel.name)
            self._let_go(channel.name)
            self._wake()

    # Sessions of this node

    def enter(
        self, session: Session, channel: Channel, enter: Callable[[], bool], told: Callable[[Seen], None]
    ) -> asyncio.Future[None]:
        """
        Let a session join by ``enter`` once its other members are known, or late, and tell it who is there.

        Both are done in one step, so that it gets nothing in between. ``enter`` returns whether it could. The future
        is done then, with the exception that it raised.
        """
        entered: asyncio.Future[None] = self._loop.create_future()
        self._invite(channel, _Guest(session, told, enter, entered))
        return entered

    def welcome(self, session: Session, channel: Channel, told: Callable[[Seen], None]) -> None:
        """Tell a member who is there, as soon as that is known, or late; and from then on what changes."""
        self.of(channel).untold.add(session)
        membership = _membership(session, channel.name)
        if membership is not None:
            membership.seen = NOT_SEEN
        self._invite(channel, _Guest(session, told))

    def _invite(self, channel: Channel, guest: _Guest) -> None:
        attendance = self.of(channel)
        attendance.guests.append(guest)
        if self._presence.is_ready(channel.name):
            self._inviting[channel.name] = attendance
            self._flush_soon()

    def joined(self, session: Session, channel: Channel, info: msgspec.Raw) -> None:
        """Note a new member, or its new info."""
        attendance, membership = self.of(channel), _membership(session, channel.name)
        if membership is None or membership.seen is not attendance:
            attendance.untold.add(session)
        self._presence.join(channel.name, (session.account, session.id), bytes(info), self._loop.time())
        self._wake()

    def leave(self, session: Session, name: str, *, moved: bool = False) -> None:
        """Note that a member has left the channel; ``moved`` if its session goes on elsewhere, or may join again."""
        attendance = self._attendances.get(name)
        if attendance is not None:
            attendance.untold.discard(session)
            self._presence.leave(name, (session.account, session.id), self._loop.time(), moved=moved)
            self._wake()

    def arrive(self, session: Session, channel: Channel, membership: Membership) -> None:
        """Note a member that comes from another node; it is told who is there unless it knows that."""
        known = membership.seen.digest
        self.joined(session, channel, membership.info)

        def told(seen: Seen) -> None:
            if not known or seen.digest != known:
                self._tell_members(session, channel.name, seen)

        self._invite(channel, _Guest(session, told))

    def opted_in(self, session: Session) -> None:
        """Tell a session who is in its channels, as it has not known of them until now."""
        memberships = session.peek(Memberships)
        for name in () if memberships is None else memberships.channels:
            attendance = self._attendances.get(name)
            if attendance is not None:
                self.welcome(session, attendance.channel, partial(self._tell_members, session, name))

    def _tell_members(self, session: Session, name: str, seen: Seen) -> None:
        members, count = seen.members, seen.count
        if members is None:
            self._send({session}, lambda dialect: dialect.write_count(name, count))
        else:
            self._send({session}, lambda dialect: dialect.write_members(name, members))

    # What applications ask

    async def members(self, name: str, kind: Kind) -> Members:
        """Return the members of a channel on all nodes."""
        if name in self._attendances:
            await self._until_ready(name)
        if name in self._attendances:
            members, is_certain = self._presence.members(name), self._presence.is_certain(name)
        else:
            members, is_certain = await self._inquire(name)
        return Members(read_members(members, kind.read_info), certain=is_certain)

    async def _until_ready(self, name: str) -> None:
        if not self._presence.is_ready(name):
            awaited: asyncio.Future[None] = self._loop.create_future()
            self._awaited.setdefault(name, []).append(awaited)
            await awaited

    def _let_go(self, name: str) -> None:
        for awaited in self._awaited.pop(name, ()):
            if not awaited.done():
                awaited.set_result(None)

    async def _inquire(self, name: str) -> tuple[dict[Name, bytes], bool]:
        """Ask all nodes that have a channel; return who is there, and whether all have answered."""
        if self._cluster is None:
            return {}, True
        inquiry, answered = self._presence.inquire(self._loop.time()), self._loop.create_future()
        self._inquiries[inquiry.asks] = inquiry, answered

        def published(nodes: int | None) -> None:
            inquiry.expected = None if nodes is None else nodes - self._local.hears(name)
            if not answered.done() and (nodes is None or inquiry.is_complete):
                answered.set_result(None)

        self._cluster.send_by_topic(name, _Publication(name, inquiry.delta, published))
        try:
            await asyncio.wait({answered}, timeout=PATIENCE)
        finally:
            del self._inquiries[inquiry.asks]
            self._presence.forget(inquiry)
        return inquiry.members, inquiry.is_complete

    # Other nodes

    def _take_delta(self, item: PresenceDelta) -> None:
        self._presence.hear(item.channel, unpack_delta(item.delta), self._loop.time())
        self._wake()

    def _take_part(self, item: PresencePart, sender: NodeId) -> None:
        reply = _REPLY.decode(item.reply)
        self._presence.replied(sender, reply, self._loop.time())
        inquiry, answered = self._inquiries.get(reply.asks, (None, None))
        if inquiry is not None and answered is not None and inquiry.is_complete and not answered.done():
            answered.set_result(None)
        self._wake()

    def _compare(self, item: ComparePresence) -> None:
        assert self._cluster is not None
        found = msgspec.Raw(msgspec.msgpack.encode(self._presence.answer(item.known)))
        self._cluster.answer(item, "accepted", found, bulk=True)

    def _fallen(self, nodes: set[NodeId]) -> None:
        self._presence.fallen(nodes, self._loop.time())
        self._wake()

    def _renewed(self) -> None:
        assert self._cluster is not None
        is_settled = self._cluster.is_settled(SETTLED_AFTER)
        self._presence.renewed(self._cluster.rebuilt(), self._loop.time(), is_settled=is_settled)
        self._wake()

    def _back(self) -> None:
        self._presence.connect(is_connected=True)
        self._wake()

    # At the end of a tick, and in time

    def _wake(self) -> None:
        """See to it that what has happened is not left without consequences."""
        due = self._presence.due
        if due is None or self._is_flushing:
            return
        seconds = due - self._loop.time()
        if seconds <= 0:
            self._flush_soon()
        elif self._alarm is None or due < self._alarm_at:
            if self._alarm is not None:
                self._hub.wheel.cancel(self._alarm)
            self._alarm, self._alarm_at = self._hub.wheel.alarm(seconds, self._elapsed), due

    def _elapsed(self) -> None:
        self._alarm = None
        self._wake()

    def _flush_soon(self) -> None:
        if not self._is_due:
            self._is_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._is_due = False
        self._is_flushing = True
        try:
            self._settle(self._loop.time())
        finally:
            self._is_flushing = False
        self._wake()

    def _settle(self, now: float) -> None:
        """Let sessions in, do what follows, and tell the new ones who is there."""
        if self._cluster is not None:
            self._presence.connect(is_connected=self._cluster.link.is_reachable)
        entered: list[tuple[Attendance, list[_Guest]]] = []
        while True:
            let_in = self._let_in()
            entered += let_in
            due = self._presence.due
            if not let_in and (due is None or due > now):
                break
            for action in self._presence.flush(now):
                self._do(action)
        for attendance, guests in entered:
            self._tell_guests(attendance, guests)

    def _let_in(self) -> list[tuple[Attendance, list[_Guest]]]:
        """Let guests in where the other members are known, or late."""
        inviting, self._inviting = self._inviting, {}
        let_in: list[tuple[Attendance, list[_Guest]]] = []
        for attendance in inviting.values():
            guests, attendance.guests = attendance.guests, []
            guests = [guest for guest in guests if guest.come_in()]
            # One that joins again is told who is there, in the place of what it has changed itself.
            attendance.untold.update(guest.session for guest in guests)
            let_in.append((attendance, guests))
        return let_in

    def _tell_guests(self, attendance: Attendance, guests: list[_Guest]) -> None:
        """Tell guests who is there; who has left again is told only if it waits for that."""
        seen = self._seen(attendance.channel.name)
        for guest in guests:
            membership = _membership(guest.session, attendance.channel.name)
            is_member = membership is not None and guest.session in attendance.channel.members
            if membership is not None and is_member:
                attendance.untold.discard(guest.session)
                membership.seen = attendance
            if is_member or guest.entered is not None:
                self._tell_guest(guest, seen)

    def _tell_guest(self, guest: _Guest, seen: Seen) -> None:
        try:
            guest.tell(seen)
        except Exception as error:  # the others must be told all the same
            self._hub.receiver.problem(error, session=guest.session)

    def _seen(self, name: str) -> Seen:
        presence, members = self._presence, self._presence.members(name)
        named = None if presence.counts(name) else read_members(members)
        return Seen(named, len(members), presence.is_certain(name), presence.digest(name))

    def _do(self, action: Action) -> None:
        match action:
            case Publish(channel, delta):
                self._publish(channel, delta)
            case Tell(channel, notice):
                self._tell(channel, notice)
            case Ask(node, known):
                self._ask(node, dict(known))
            case Send(node, reply):
                self._reply(node, reply)
            case Ready(channel):
                self._ready(channel)
            case Announce(rebuilt):
                if self._cluster is not None:
                    self._cluster.announce_rebuilt(rebuilt)

    def _ready(self, channel: str) -> None:
        """Go on with who has waited for the other parts of a channel."""
        self._let_go(channel)
        attendance = self._attendances.get(channel)
        if attendance is not None and attendance.guests:
            self._inviting[channel] = attendance

    def _publish(self, channel: str, delta: Delta) -> None:
        if self._cluster is None:
            self._presence.sent(channel, delta, 0)
        else:
            self._cluster.send_by_topic(channel, _Publication(channel, delta, partial(self._published, channel, delta)))

    def _published(self, channel: str, delta: Delta, nodes: int | None) -> None:
        if nodes is None:
            self._presence.unsent(channel, self._loop.time())
        else:
            self._presence.sent(channel, delta, nodes - self._local.hears(channel))
        self._wake()

    def _ask(self, node: NodeId, known: dict[str, int]) -> None:
        """Ask a node for its parts."""
        assert self._cluster is not None
        origin = self._cluster.node
        settled = partial(self._answered, node)
        self._cluster.ask(node, lambda number: ComparePresence(number, origin, known), ASK_FOR, settled, bulk=True)

    def _answered(self, node: NodeId, answer: Answer) -> None:
        now = self._loop.time()
        if answer.status == "accepted":
            self._presence.answered(node, _SNAPSHOTS.decode(answer.value), now)
        elif answer.status == UNSUPPORTED:  # an earlier version, which has no presence
            self._presence.answered(node, {}, now)
        else:
            self._presence.unanswered(node, now)
        self._wake()

    def _reply(self, node: NodeId, reply: Reply) -> None:
        """Send a node the part for which it has asked on the topic."""
        assert self._cluster is not None
        self._cluster.tell(node, PresencePart(msgspec.Raw(msgspec.msgpack.encode(reply))), bulk=True)

    def _tell(self, channel: str, notice: Notice) -> None:
        """Tell the members on this node what has changed."""
        attendance = self._attendances.get(channel)
        if attendance is None:
            return
        sessions = attendance.channel.members - attendance.untold
        if isinstance(notice, Changes):
            changes = [(change.what, read_member(change.name, change.info)) for change in notice.changes]
            self._send(sessions, lambda dialect: dialect.write_presence(channel, changes))
        elif isinstance(notice, Count):
            count = notice.count
            self._send(sessions, lambda dialect: dialect.write_count(channel, count))
        else:
            members = read_members(notice.members)
            self._send(sessions, lambda dialect: dialect.write_members(channel, members))

    def _send(self, sessions: Iterable[Session], write: Callable[[Dialect], OutgoingPacket | None]) -> None:
        """Send sessions what their dialect has words for, encoded once for each dialect."""
        packets: dict[Dialect, OutgoingPacket] = {}
        mute: set[Dialect] = set()
        connections: list[Connection] = []
        for connection in self._hub.connections_of(sessions):
            dialect = connection.dialect
            if dialect not in packets and dialect not in mute:
                packet = self._write(dialect, write)
                if packet is None:
                    mute.add(dialect)
                else:
                    packets[dialect] = packet
            if dialect not in mute:
                connections.append(connection)
        self._hub.send_each(connections, packets)

    def _write(self, dialect: Dialect, write: Callable[[Dialect], OutgoingPacket | None]) -> OutgoingPacket | None:
        try:
            return write(dialect)
        except (TypeError, ValueError, RecursionError):  # the info of some member
            self._hub.metrics.count("messages_unwritable")
            return None


def _membership(session: Session, name: str) -> Membership | None:
    memberships = session.peek(Memberships)
    return None if memberships is None else memberships.channels.get(name)
