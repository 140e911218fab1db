"""The history of one channel on this node: it follows the list, and delivers to the members here."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from primacron.channels.replay import ReadNewest
from primacron.channels.stream import Action, Base, Begin, Deliver, Gap, Read, State, Stream
from primacron.cluster.kept import Appended, Kept, Page, Published
from primacron.dialects.base import Dialect
from primacron.features.channels.entrance import Entrance
from primacron.features.channels.items import read_item
from primacron.features.channels.local import Channel
from primacron.features.channels.reading import PageReader, TakePage
from primacron.positions import Position
from primacron.protocol.outgoing import OutgoingPacket
from primacron.routing.router import Router
from primacron.sessions.hub import Hub
from primacron.sessions.memberships import Memberships, Progress
from primacron.sessions.session import Session
from primacron.wheel import Alarm

#: Seconds for which the topic may bring what the list does not have, before it counts as lost.
PATIENCE: Final = 0.1
#: Seconds before a failed read is repeated.
AGAIN: Final = 1.0


class History:
    """The history of a channel, as this node delivers it."""

    __slots__ = (
        "_alarm",
        "_before_page",
        "_channel",
        "_entrances",
        "_first_page",
        "_hub",
        "_is_closed",
        "_reader",
        "_router",
        "_sent",
        "_stream",
        "_unanswered",
        "awaited",
        "is_written",
        "kept",
    )

    def __init__(self, hub: Hub, router: Router, reader: PageReader, channel: Channel, kept: Kept) -> None:
        self._hub = hub
        self._router = router
        self._reader = reader
        self._channel = channel
        self.kept = kept
        self._stream = Stream()
        #: Sessions that do not get what this node delivers as it does; some are not members yet.
        self._entrances: dict[Session, Entrance] = {}
        self._alarm: Alarm | None = None
        self._is_closed = False
        #: The numbers of this node's appends without an answer.
        self._unanswered: set[int] = set()
        self._sent = 0
        #: The first page, if some of these were sent before it came: those for whose answers it waits.
        self._first_page: Page | None = None
        self._before_page: set[int] = set()
        #: Joins that wait for their turn, or for an answer.
        self.awaited = 0
        #: Whether something was appended since it was last compared with the list.
        self.is_written = False

    # Where it stands

    @property
    def base(self) -> Base | None:
        """Where this node stands, or None if that is not known yet."""
        return self._stream.base

    @property
    def position(self) -> Position | None:
        """How far members have received the history that are not on their way."""
        return self._stream.position

    @property
    def is_followed(self) -> bool:
        """Whether it follows the list; if not, its position is not known soon."""
        return self._stream.state is not State.UNHEARD

    def known_to(self, session: Session) -> Position | None:
        """Return from where a session gets what comes, without reading anything; None if that has to be found out."""
        entrance = self._entrances.get(session)
        if entrance is None:
            return self.position
        return entrance.position if entrance.is_ahead else None

    def reached_by(self, session: Session) -> Position | None:
        """Return how far a member has received the history."""
        return self._entrances.get(session, self).position

    # What happens to the list

    def heard(self) -> None:
        """Follow the topic, from now on or again."""
        self._act(self._stream.heard())

    def unheard(self) -> None:
        """Do without the topic."""
        self._stream.unheard()

    def published(self, published: Published) -> None:
        """Take a message from the topic."""
        self._act(self._stream.published(published))

    def sent(self) -> int:
        """Expect the answer to an append of this node; returns its number, for :meth:`answered`."""
        self._sent += 1
        self._unanswered.add(self._sent)
        return self._sent

    def answered(self, number: int, appended: Appended | None, item: bytes) -> None:
        """Take the answer to an append, or that nothing was appended as far as this node knows."""
        self._unanswered.discard(number)
        if appended is not None and not appended.is_repeat:
            self._act(self._stream.appended(appended, item))
        if self._first_page is not None:
            self._before_page.discard(number)
            if not self._before_page:
                page, self._first_page = self._first_page, None
                self._act(self._stream.page(page))

    def compare(self) -> None:
        """Look whether something was lost unnoticed, unless nobody follows it any more."""
        self.is_written = False
        if self._is_closed:
            return
        self._act(self._stream.compare())

    def close(self) -> None:
        """Stop, as the channel has no members."""
        self._is_closed = True
        self._set_alarm(None)
        for entrance in tuple(self._entrances.values()):
            entrance.abandon()

    # Sessions on their way, see Source

    def read(self, wish: Read | ReadNewest, take: TakePage) -> None:
        """Read a page."""
        self._reader.read(self._channel.name, self.kept, wish, take)

    def started(self, entrance: Entrance) -> Position | None:
        """Hand what is delivered to an entrance from now on, in the place of its session."""
        session = entrance.session
        earlier = self._entrances.get(session)
        progress: Progress = self if earlier is None else earlier
        position = progress.position if session in self._channel.members else None
        if earlier is not None and earlier is not entrance:
            earlier.end()
        self._entrances[session] = entrance
        self._set_progress(session, entrance)
        return position

    def settled(self, entrance: Entrance) -> None:
        """Deliver to the session itself from now on, if it is a member."""
        if self._entrances.get(entrance.session) is entrance:
            del self._entrances[entrance.session]
            self._set_progress(entrance.session, self)

    def joined(self, session: Session) -> None:
        """Note where a new member gets its messages from."""
        self._set_progress(session, self._entrances.get(session, self))

    def leave(self, session: Session) -> None:
        """Forget a session."""
        entrance = self._entrances.pop(session, None)
        if entrance is not None:
            entrance.end()

    def _set_progress(self, session: Session, progress: Progress) -> None:
        memberships = session.peek(Memberships)
        membership = None if memberships is None else memberships.channels.get(self._channel.name)
        if membership is not None:
            membership.progress = progress

    # What follows from it

    def _act(self, actions: Sequence[Action]) -> None:
        for action in actions:
            if isinstance(action, Deliver):
                self._deliver(action)
            elif isinstance(action, Gap):
                self._tell_all(action)
            elif isinstance(action, Begin):
                for entrance in tuple(self._entrances.values()):
                    entrance.begin_at(action.base)
            elif isinstance(action, Read):
                self.read(action, self._take_page)
            else:
                self._set_alarm(AGAIN if self._stream.state is State.FAILED else PATIENCE)

    def _take_page(self, page: Page | None) -> None:
        if page is not None and self.base is None and self._unanswered:
            # Members are to get what this node has sent since they joined, even if the page has it already.
            # What is sent from now on is newer than the page: to wait for that, too, might never end.
            self._first_page, self._before_page = page, self._unanswered.copy()
            return
        self._act(self._stream.failed() if page is None else self._stream.page(page))
        if self.base is None:
            for entrance in tuple(self._entrances.values()):
                entrance.unavailable()

    def _set_alarm(self, seconds: float | None) -> None:
        if self._alarm is not None:
            self._hub.wheel.cancel(self._alarm)
        self._alarm = None if seconds is None else self._hub.wheel.alarm(seconds, self._elapsed)

    def _elapsed(self) -> None:
        self._alarm = None
        self._act(self._stream.elapsed())

    # Delivery

    def _deliver(self, message: Deliver) -> None:
        self._send_each(self._direct(), message)
        for entrance in tuple(self._entrances.values()):
            entrance.take(message)

    def _tell_all(self, gap: Gap) -> None:
        self._tell_each(self._direct(), gap)
        for entrance in tuple(self._entrances.values()):
            entrance.take(gap)

    def _direct(self) -> Collection[Session]:
        """Return the members that get what this node delivers as it does."""
        members = self._channel.members
        return [each for each in members if each not in self._entrances] if self._entrances else members

    def send(self, session: Session, action: Deliver | Gap) -> None:
        """Send a message, or tell of a gap, to one session."""
        if isinstance(action, Deliver):
            self._send_each((session,), action)
        else:
            self._tell_each((session,), action)

    def _send_each(self, sessions: Collection[Session], message: Deliver) -> None:
        if not sessions:
            return
        try:
            item = read_item(message.item)
            content = item.content(self._channel.name, message.offset)
            self._router.deliver_each(sessions, content, item.options)
        except (TypeError, ValueError, RecursionError):
            self._hub.metrics.count("messages_unwritable")

    def _tell_each(self, sessions: Collection[Session], gap: Gap) -> None:
        packets: dict[Dialect, OutgoingPacket | None] = {}
        for session in sessions:
            connection = session.connection
            if connection is None:
                continue
            dialect = connection.dialect
            if dialect not in packets:
                packets[dialect] = dialect.write_gap(self._channel.name, gap.epoch, gap.start, gap.end)
            packet = packets[dialect]
            if packet is not None:
                connection.send(packet)
