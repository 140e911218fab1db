"""
A list that loses what a real one may lose, nodes that follow it, and clients that write down what they get.

Nothing happens by itself: each message, answer and page arrives when a test says so.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from primacron.channels import replay as replays
from primacron.channels import stream as streams
from primacron.channels.replay import Answer, ReadNewest, Replay
from primacron.channels.stream import Base, Begin, Deliver, Gap, Read, Stream, Wait
from primacron.cluster.kept import Appended, Page, Published
from primacron.positions import Position


def content(epoch: str, offset: int) -> bytes:
    """Return what is published as the message of this number, which nothing else contains."""
    return f"{epoch}/{offset}".encode()


@dataclass(frozen=True)
class Numbers:
    """What a primary knows of a list; ``run`` is the primary that wrote last."""

    run: int
    epoch: str
    start: int
    before: str
    top: int
    items: tuple[bytes, ...]


class Registry:
    """The list, and everything that was ever appended to it."""

    def __init__(self, kept: int, page_items: int = 1_000) -> None:
        self.kept = kept
        #: A page has no more items than this, as if they were large.
        self.page_items = page_items
        self.run = 1
        self.epochs = 0
        self.numbers: Numbers | None = None
        self.states: list[Numbers] = []
        self.ever: set[tuple[str, int]] = set()

    def _now(self) -> Numbers:
        if self.numbers is None:
            self.epochs += 1
            self.numbers = Numbers(self.run, f"e{self.epochs}", 1, "", 0, ())
        return self.numbers

    def append(self) -> Appended:
        now = self._now()
        if now.run != self.run:
            self.epochs += 1
            now = replace(now, run=self.run, epoch=f"e{self.epochs}", start=now.top + 1, before=now.epoch)
        top = now.top + 1
        items = (*now.items, content(now.epoch, top))
        if len(items) > self.kept * 1.25:
            items = items[-self.kept :]
        self.numbers = replace(now, top=top, items=items)
        self.states.append(self.numbers)
        self.ever.add((now.epoch, top))
        return Appended(Position(now.epoch, top), now.start)

    def read(self, wish: Read | ReadNewest) -> Page:
        now = self._now()
        limit = min(wish.limit, self.page_items)
        oldest = now.top - len(now.items) + 1
        after = now.top - limit if isinstance(wish, ReadNewest) else wish.after
        first = max(after + 1, oldest)
        items = now.items[first - oldest :][:limit]
        return Page(Position(now.epoch, now.top), now.start, now.before, first, items)

    def fail_over(self, lost: int) -> None:
        """Let another primary go on, which has not heard of the last appends."""
        self.run += 1
        del self.states[max(0, len(self.states) - lost) :]
        self.numbers = self.states[-1] if self.states else None

    def flush(self) -> None:
        self.numbers = None
        self.states.clear()

    def clear(self) -> None:
        if self.numbers is not None:
            self.numbers = replace(self.numbers, items=())
            self.states.append(self.numbers)


class Client:
    """
    Who is told what: checks that nothing is doubled, mixed up or silently missing.

    Its position is that of the last message or gap, as an application would keep it.
    """

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.position: Position | None = None
        self.got: set[tuple[str, int]] = set()
        self.gaps: list[Gap] = []
        self.answers: list[Answer] = []
        #: A gap that was told ahead of what comes before it.
        self.gap_ahead: Gap | None = None
        self.wants_gap = False
        self.newest = 0
        #: Whether the position that it gives is one that it was told.
        self.is_honest = True
        self.was_away = False

    def joins(self, newest: int) -> None:
        self.newest = newest
        self.gap_ahead = None

    def take(self, actions: Sequence[Answer | Deliver | Gap]) -> None:
        if not self.is_honest:
            return
        for action in actions:
            if isinstance(action, Answer):
                self._answer(action)
            elif isinstance(action, Gap):
                self._lose(action)
            else:
                self._get(action)
        assert not self.wants_gap

    def _answer(self, answer: Answer) -> None:
        self.answers.append(answer)
        assert (answer.recovered is None) is (self.position is None)
        if self.position is None:
            self.position = answer.position
        self.wants_gap = answer.recovered is False
        if answer.recovered:
            self.newest = 0

    def _get(self, message: Deliver) -> None:
        assert not self.wants_gap
        assert self.position is not None
        name = (message.epoch, message.offset)
        if self.newest and message.offset <= self.position.offset:
            self.newest -= 1
            assert message.item.endswith(f"/{message.offset}".encode())
            self.got.add(name)
            return
        self.newest = 0
        assert message.item == content(*name)
        assert message.epoch == self.position.epoch
        assert message.offset == self.position.offset + 1
        assert name not in self.got
        self.got.add(name)
        self._move(message.offset)

    def _lose(self, gap: Gap) -> None:
        assert self.position is not None
        self.gaps.append(gap)
        may_be_ahead, self.wants_gap = self.wants_gap, False
        if gap.end is None:
            assert gap.epoch != self.position.epoch or self.newest or may_be_ahead
            self.position = Position(gap.epoch, gap.start - 1)
            if may_be_ahead:
                # It begins anew, perhaps below what it has had and the backend has lost.
                self.got -= {
                    (epoch, offset) for epoch, offset in self.got if epoch == gap.epoch and offset >= gap.start
                }
            return
        assert gap.epoch == self.position.epoch
        assert gap.start <= gap.end
        lost = {(gap.epoch, offset) for offset in range(gap.start, gap.end + 1)}
        assert lost <= self.registry.ever
        assert not lost & self.got
        if gap.start == self.position.offset + 1:
            self._move(gap.end)
        else:
            assert may_be_ahead
            assert gap.start > self.position.offset
            self.gap_ahead = gap

    def _move(self, offset: int) -> None:
        assert self.position is not None
        if self.gap_ahead is not None and self.gap_ahead.start == offset + 1:
            assert self.gap_ahead.end is not None
            offset, self.gap_ahead = self.gap_ahead.end, None
        self.position = Position(self.position.epoch, offset)


@dataclass
class Reading:
    """A page that is asked for, and that is on its way once the list was read."""

    wish: Read | ReadNewest
    page: Page | None = None


@dataclass(eq=False)
class Member:
    """A client at a node."""

    client: Client
    node: Node
    replay: Replay | None
    reading: Reading | None = None

    def position(self) -> Position | None:
        """Return the position that its session takes along."""
        return self.node.stream.position if self.replay is None else self.replay.position

    def act(self, actions: Sequence[replays.Action]) -> None:
        told: list[Answer | Deliver | Gap] = []
        for action in actions:
            if isinstance(action, Read | ReadNewest):
                assert self.reading is None
                self.reading = Reading(action)
            else:
                told.append(action)
        self.client.take(told)
        if self.replay is not None and self.replay.state is replays.State.LIVE:
            self.replay = None

    def begin(self, base: Base | None) -> None:
        if base is not None and self.replay is not None:
            self.act(self.replay.begin(base))

    def take_page(self) -> None:
        base, reading, self.reading = self.node.stream.base, self.reading, None
        assert base is not None
        assert self.replay is not None
        assert reading is not None
        assert reading.page is not None
        self.act(self.replay.page(reading.page, base))


@dataclass(eq=False)
class Node:
    """A node that follows the list."""

    registry: Registry
    stream: Stream = field(default_factory=Stream)
    is_heard: bool = False
    topic: deque[Published] = field(default_factory=deque)
    answers: deque[tuple[Appended, bytes]] = field(default_factory=deque)
    reading: Reading | None = None
    is_waiting: bool = False
    members: list[Member] = field(default_factory=list)

    def act(self, actions: Sequence[streams.Action]) -> None:
        for action in actions:
            if isinstance(action, Read):
                assert self.reading is None
                self.reading = Reading(action)
            elif isinstance(action, Wait):
                self.is_waiting = True
            elif isinstance(action, Begin):
                for member in self.members:
                    member.begin(action.base)
            else:
                self._tell(action)

    def _tell(self, action: Deliver | Gap) -> None:
        for member in self.members:
            member.act([action] if member.replay is None else member.replay.take(action))

    def join(self, client: Client, since: Position | None = None, newest: int = 0) -> Member:
        member = Member(client, self, Replay(since, newest))
        client.joins(newest)
        self.members.append(member)
        member.begin(self.stream.base)
        return member

    def hear(self) -> None:
        self.is_heard = True
        self.act(self.stream.heard())

    def lose(self, arrived: int) -> None:
        """Lose the subscription, and what is on its way but for the first."""
        self.is_heard = False
        while len(self.topic) > arrived:
            self.topic.pop()
        self.stream.unheard()

    def take_message(self) -> None:
        self.act(self.stream.published(self.topic.popleft()))

    def take_answer(self) -> None:
        self.act(self.stream.appended(*self.answers.popleft()))

    def take_page(self) -> None:
        reading, self.reading = self.reading, None
        assert reading is not None
        assert reading.page is not None
        self.act(self.stream.page(reading.page))

    def fail(self) -> None:
        self.reading = None
        self.act(self.stream.failed())

    def elapse(self) -> None:
        self.is_waiting = False
        self.act(self.stream.elapsed())


class World:
    """A list and its nodes."""

    def __init__(self, kept: int, nodes: int = 2, page_items: int = 1_000) -> None:
        self.registry = Registry(kept, page_items)
        self.nodes = [Node(self.registry) for _ in range(nodes)]

    def append(self, by: Node | None = None, *, is_large: bool = False) -> Position:
        """Append and publish; the answer goes to a node, or is lost."""
        appended = self.registry.append()
        item = content(appended.position.epoch, appended.position.offset)
        for node in self.nodes:
            if node.is_heard:
                node.topic.append(Published(appended.position, appended.start, None if is_large else item))
        if by is not None:
            by.answers.append((appended, item))
        return appended.position

    @property
    def members(self) -> list[Member]:
        return [member for node in self.nodes for member in node.members]

    def readings(self) -> list[Reading]:
        found = [*(node.reading for node in self.nodes), *(member.reading for member in self.members)]
        return [each for each in found if each is not None]

    def serve(self) -> None:
        """Read for all that have asked for a page."""
        for reading in self.readings():
            reading.page = reading.page or self.registry.read(reading.wish)

    def _go_on(self, node: Node) -> bool:
        """Let whatever is on its way to a node arrive; tell if there was anything."""
        if node.topic:
            node.take_message()
        elif node.answers:
            node.take_answer()
        elif node.reading is not None:
            node.take_page()
        elif node.is_waiting:
            node.elapse()
        else:
            return False
        return True

    def settle(self) -> None:
        """Let everything arrive, in any order that a quiet network may have."""
        for _ in range(10_000):
            self.serve()
            moved = [self._go_on(node) for node in self.nodes]
            for member in self.members:
                if member.reading is not None:
                    self.serve()
                    member.take_page()
                    moved.append(True)
            if not any(moved):
                return
        raise AssertionError("it does not come to rest")
