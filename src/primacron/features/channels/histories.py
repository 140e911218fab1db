"""The histories of channels: appending to them, following them on this node, and letting sessions in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Final

from primacron.channels.kinds import Kind
from primacron.channels.replay import Answer, Replay
from primacron.cluster.cluster import Cluster
from primacron.cluster.errors import BackendUnavailable, CommandRefused, NothingDone
from primacron.cluster.kept import Appended, Kept, Page, Published
from primacron.cluster.solo import Solo
from primacron.errors import ForwardFailed
from primacron.features.channels.entrance import Entrance, Lanes
from primacron.features.channels.history import History
from primacron.features.channels.items import Item
from primacron.features.channels.local import Channel, LocalChannels
from primacron.features.channels.pages import HistoryPage, knows, read_page
from primacron.features.channels.reading import PageReader
from primacron.positions import Position
from primacron.receipts import Delivery, Reach
from primacron.routing.router import Router
from primacron.sessions.hub import Hub
from primacron.sessions.lifecycle import State as SessionState
from primacron.sessions.session import Session

#: Seconds for which the numbers of a list outlive its items, so that positions can be told from unknown ones.
OUTLIVES: Final = 120.0
#: Seconds between looks whether the last message of a channel was lost.
COMPARE_EVERY: Final = 15.0

_UNSENT: Final = Reach(0, 0, status="unsent")
_TIMED_OUT: Final = Reach(0, 0, certain=False, status="timed_out")


def kept_by(kind: Kind) -> Kept:
    """Return what the lists of a kind keep."""
    return Kept(kind.history, kind.keep, OUTLIVES)


class Histories:
    """The histories of this node's channels."""

    def __init__(
        self,
        hub: Hub,
        router: Router,
        cluster: Cluster | Solo,
        run: Callable[[Coroutine[Any, Any, Any]], object],
        local: LocalChannels,
    ) -> None:
        self._hub = hub
        self._router = router
        self._cluster = cluster
        self._run = run
        self._local = local
        self._reader = PageReader(cluster, run)
        self._histories: dict[str, History] = {}
        self._lanes = Lanes(hub.loop, hub.wheel)
        #: Those to which something was appended since they were last compared with their lists.
        self._written: list[History] = []
        #: Bytes that were sent to be appended, without an answer yet.
        self._unanswered = 0
        local.on_heard.append(self._heard)
        local.on_lost.append(self._unheard)
        local.needed_by.append(self._needs)
        local.on_added.append(self._added)
        local.on_dropped.append(self._dropped)
        cluster.on_published.append(self._published)

    # Following

    def of(self, channel: Channel, kind: Kind) -> History:
        """Return the history of a channel that this node hears, or is about to."""
        channel = self._local.current(channel)  # the history of one that was dropped would have no members
        history = self._histories.get(channel.name)
        if history is None:
            history = self._histories[channel.name] = History(
                self._hub, self._router, self._reader, channel, kept_by(kind)
            )
            if self._cluster.topics.hears(channel.name):
                history.heard()
        return history

    def _added(self, channel: Channel) -> None:
        if channel.kind is not None and channel.kind.history:
            self.of(channel, channel.kind)

    def _needs(self, channel: Channel) -> bool:
        history = self._histories.get(channel.name)
        return history is not None and history.awaited > 0

    def _heard(self, channel: Channel) -> None:
        history = self._histories.get(channel.name)
        if history is not None:
            history.heard()

    def _unheard(self, channel: Channel) -> None:
        history = self._histories.get(channel.name)
        if history is not None:
            history.unheard()

    def _dropped(self, channel: Channel) -> None:
        history = self._histories.pop(channel.name, None)
        if history is not None:
            history.close()

    def _published(self, topic: str, published: Published) -> None:
        history = self._histories.get(topic)
        if history is not None:
            history.published(published)
            self._note_written(history)

    def _note_written(self, history: History) -> None:
        """Look later whether something was lost that nothing has followed."""
        if history.is_written:
            return
        history.is_written = True
        self._written.append(history)
        if len(self._written) == 1:
            self._hub.wheel.alarm(COMPARE_EVERY, self._compare)

    def _compare(self) -> None:
        written, self._written = self._written, []
        for history in written:
            history.compare()

    # Appending

    def append(self, name: str, kind: Kind, item: Item, key: str | None, *, receipt: bool) -> Delivery[Reach]:
        """
        Append a message, which reaches the members on all nodes.

        Raises:
            TypeError: if a value cannot be encoded.
            ValueError: if the server's dialect has no such event, or a number is too large.

        """
        self._router.check(item.content(name, 0))
        packed = item.pack(self._hub.encoding)
        delivery: Delivery[Reach] = self._hub.delivery(requested=receipt)
        is_full = self._unanswered + len(packed) > self._hub.options.outbox_total
        if is_full or not self._cluster.link.is_reachable:
            # Later, so that its sender may await it: who does is not told elsewhere.
            self._hub.loop.call_soon(self._end, name, _UNSENT, delivery)
            return delivery
        self._unanswered += len(packed)
        history, number = self._histories.get(name), 0
        if history is not None:
            number = history.sent()
            self._note_written(history)
        appended = self._cluster.lists.append(name, packed, kept_by(kind), key)
        appended.add_done_callback(partial(self._answered, name, history, number, packed, delivery))
        return delivery

    def _answered(
        self,
        name: str,
        history: History | None,
        number: int,
        item: bytes,
        delivery: Delivery[Reach],
        answered: asyncio.Future[Appended],
    ) -> None:
        self._unanswered -= len(item)
        appended, outcome = None, _TIMED_OUT
        error = None if answered.cancelled() else answered.exception()
        if isinstance(error, BackendUnavailable):
            self._cluster.link.failed(error)
            outcome = _UNSENT if isinstance(error, (NothingDone, CommandRefused)) else _TIMED_OUT
        elif not answered.cancelled():
            appended = answered.result()
            outcome = Reach(1, len(self._hub.groups.get(name, ())), position=appended.position)
        if history is not None:
            history.answered(number, appended, item)
        self._end(name, outcome, delivery)

    def _end(self, name: str, outcome: Reach, delivery: Delivery[Reach]) -> None:
        """Tell the outcome to the sender; if nobody wants it, report a failure."""
        if outcome.position is None and not delivery.wanted:
            self._hub.receiver.problem(ForwardFailed(outcome.status, f"channel {name}"), key=name)
        delivery.settle(outcome)

    # Reading

    async def page(self, name: str, kind: Kind, since: Position | None, limit: int) -> HistoryPage:
        """
        Return messages of a channel: the oldest above a position, or the newest.

        Raises:
            BackendUnavailable: if they cannot be read now.

        """
        ask, lists, kept = self._cluster.link.ask, self._cluster.lists, kept_by(kind)
        page: Page | None = None
        if since is not None:
            page = await ask(lists.read, name, kept, since.offset, limit)
        if page is None or (since is not None and not knows(page, since)):
            page = await ask(lists.last, name, kept, limit)
        return read_page(page, since, partial(self._hub.metrics.count, "messages_unwritable"))

    async def clear(self, name: str) -> None:
        """
        Remove all messages of a channel.

        Raises:
            BackendUnavailable: if it is not known whether that was done.

        """
        await self._cluster.link.ask(self._cluster.lists.clear, name)

    # Sessions

    async def admit(
        self, session: Session, channel: Channel, kind: Kind, since: Position | None, last: int
    ) -> tuple[Answer, Entrance | None] | None:
        """
        Let a session in, on its client's request, with what it has missed since a position or the ``last`` messages.

        Returns what it is told, and what waits behind that: :meth:`Entrance.release` sends it,
        :meth:`Entrance.abandon` does not. If nothing waits, what it is told holds only until something
        is delivered: :meth:`reached_by` tells then. Returns None if the session has ended meanwhile.

        Raises:
            BackendUnavailable: if the history cannot be read now.

        """
        history = self.of(channel, kind)
        if not (self._cluster.link.is_reachable and history.is_followed):
            raise BackendUnavailable("the history cannot be read now")
        is_new = session not in channel.members
        newest = last or int(kind.history == 1 and (is_new or since is not None))
        position = history.known_to(session)
        if since is None and not newest and position is not None:
            return Answer(position, None), None
        answered: asyncio.Future[Answer | None] = self._hub.loop.create_future()
        entrance = Entrance(
            history,
            session,
            self._lanes,
            self._hub.wheel,
            Replay(since, newest),
            partial(_settle, answered),
            holds=True,
            patient=False,
        )
        history.awaited += 1
        try:
            entrance.queue()
            answer = await answered
        except asyncio.CancelledError:
            entrance.abandon()
            raise
        finally:
            history.awaited -= 1
        if answer is None and session.state is SessionState.ENDED:
            return None
        if answer is None:
            raise BackendUnavailable("the history cannot be read now")
        return answer, entrance

    def join(self, session: Session, channel: Channel, kind: Kind, told: Callable[[Answer], None]) -> None:
        """Let a session in that the server makes join; ``told`` is called with its position, perhaps later."""
        history = self.of(channel, kind)
        position = history.known_to(session)
        if kind.history > 1 and position is not None:
            told(Answer(position, None))
        else:
            self._start(history, session, Replay(None, int(kind.history == 1)), partial(_tell, told))

    def arrive(self, session: Session, channel: Channel, kind: Kind, since: Position | None) -> None:
        """Let a member in that comes from another node, where it has had everything up to a position."""
        self._start(self.of(channel, kind), session, Replay(since, int(kind.history == 1)), partial(_tell, None))

    def _start(
        self, history: History, session: Session, replay: Replay, answered: Callable[[Answer | None], None]
    ) -> None:
        Entrance(history, session, self._lanes, self._hub.wheel, replay, answered, holds=False, patient=True).begin()

    def reached_by(self, session: Session, name: str) -> Position | None:
        """Return how far a member has received the history of a channel; None if it has none, or that is not known."""
        history = self._histories.get(name)
        return None if history is None else history.reached_by(session)

    def joined(self, session: Session, name: str) -> None:
        """Note a new member."""
        history = self._histories.get(name)
        if history is not None:
            history.joined(session)

    def ended(self, session: Session) -> None:
        """Let nothing wait for a session that has ended."""
        self._lanes.close(session)

    def leave(self, session: Session, name: str) -> None:
        """Forget a member that has left the channel, or this node."""
        history = self._histories.get(name)
        if history is not None:
            history.leave(session)


def _tell(told: Callable[[Answer], None] | None, answer: Answer | None) -> None:
    if told is not None and answer is not None:
        told(answer)


def _settle(answered: asyncio.Future[Answer | None], answer: Answer | None) -> None:
    if not answered.done():
        answered.set_result(answer)
