"""Nodes that tell each other of members over a network that loses and delays, and clients that listen to them."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from typing import Any

import msgspec

from primacron.channels.notices import Changes, Count, Members, Notice
from primacron.channels.parts import MISSING, Delta, Reply, Snapshot, pack_delta, unpack_delta
from primacron.channels.presence import Announce, Ask, Presence, Publish, Ready, Send, Tell
from primacron.entries import Name
from primacron.ids import AccountId, NodeId, SessionId

CHANNELS = ("c0", "c1")
#: Seconds after which whoever gets no answer gives up.
TIMEOUT = 2.0


def name(number: int) -> Name:
    return AccountId(f"a{number}"), SessionId("s")


class Client:
    """A client in a channel, who knows nothing but what it is told."""

    def __init__(self, *, waits: bool) -> None:
        #: Whether its join is answered only once the channel is ready.
        self.waits = waits
        self.is_answered = False
        self.members: dict[Name, bytes] | None = None
        self.count = 0
        self.left: Counter[Name] = Counter()

    def answer(self, members: dict[Name, bytes], *, counts: bool) -> None:
        self.is_answered = True
        self.members, self.count = (None if counts else members), len(members)

    def hear(self, notice: Notice) -> None:
        if isinstance(notice, Count):
            self.members, self.count = None, notice.count
        elif isinstance(notice, Members):
            self.members = dict(notice.members)
        else:
            self._change(notice)

    def _change(self, notice: Changes) -> None:
        assert self.members is not None, "changes by name came after a count"
        for what, who, info in notice.changes:
            if what == "leave":
                assert self.members.pop(who) == info
                self.left[who] += 1
            else:
                assert (who in self.members) == (what == "update")
                assert self.members.get(who) != info
                self.members[who] = info


class Node:
    """One node: its presence, its true members, its subscriptions and its clients."""

    def __init__(self, world: World, number: int, limit: int) -> None:
        self.world = world
        self.id = NodeId(f"n{number}")
        self.presence = Presence(self.id, limit=limit, grace=5.0)
        self.members: dict[str, dict[Name, bytes]] = {channel: {} for channel in CHANNELS}
        self.clients: dict[str, Client] = {}
        self.wanted: set[str] = set()
        self.heard: set[str] = set()
        self.lost: set[str] = set()
        self.rebuilt = 0
        self.lives = True
        self.is_lapsed = False

    def enter(self, channel: str, *, hears: bool) -> None:
        """Have a member; ``hears`` if the subscription is confirmed at once."""
        self.presence.open(channel, self.world.now)
        if channel in self.heard:
            self.presence.heard(channel, heard=True, now=self.world.now)
        self.wanted.add(channel)
        self.clients.setdefault(channel, Client(waits=not self.presence.is_ready(channel)))
        if hears:
            self.hear_new()

    def close(self, channel: str) -> None:
        if channel in self.wanted and not self.members[channel]:
            self.presence.close(channel)
            self.clients.pop(channel, None)
            self.flush()
            if channel not in self.presence:
                self.wanted.discard(channel)
                self.heard.discard(channel)
                self.lost.discard(channel)

    def hear_new(self) -> None:
        """Have new subscriptions confirmed."""
        self._hear(self.wanted - self.heard - self.lost)

    def _hear(self, channels: set[str]) -> None:
        for channel in sorted(channels):
            self.heard.add(channel)
            self.presence.heard(channel, heard=True, now=self.world.now)

    def cut(self) -> None:
        """Lose all subscriptions, and what was under way."""
        for channel in sorted(self.heard):
            self.presence.heard(channel, heard=False, now=self.world.now)
        self.lost |= self.heard
        self.heard.clear()
        for (_, to), queue in self.world.topics.items():
            if to == self.id:
                queue.clear()

    def rebuild(self) -> None:
        """Have lost subscriptions again."""
        if self.lost:
            lost, self.lost = self.lost, set()
            self._hear(lost)

    def flush(self) -> None:
        presence, now = self.presence, self.world.now
        while (due := presence.due) is not None and due <= now and self.lives:
            for action in presence.flush(now):
                self._do(action)
            for channel, client in self.clients.items():
                if not client.is_answered and not client.waits:
                    self._answer(channel, client)

    def _answer(self, channel: str, client: Client) -> None:
        client.answer(dict(self.presence.members(channel)), counts=self.presence.counts(channel))

    def _do(self, action: object) -> None:
        match action:
            case Publish(channel, delta):
                self.world.publish(self, channel, delta)
            case Tell(channel, notice):
                client = self.clients.get(channel)
                if client is not None and client.is_answered:
                    client.hear(notice)
            case Ready(channel):
                if channel in self.clients:
                    self._answer(channel, self.clients[channel])
            case Ask(node, known):
                self.world.ask(self, node, dict(known))
            case Announce(rebuilt):
                self.rebuilt = rebuilt
            case Send(node, reply):
                self.world.send(self.id, node, ("reply", msgspec.msgpack.encode(reply)))
            case _:
                raise AssertionError(action)


class World:
    """All nodes and what is between them; messages between two nodes are in order, by topics and by the bus each."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.now = 1_000.0
        self.nodes: dict[NodeId, Node] = {}
        self.topics: dict[tuple[NodeId, NodeId], deque[tuple[str, bytes]]] = {}
        self.bus: dict[tuple[NodeId, NodeId], deque[Any]] = {}
        self.outcomes: deque[Callable[[], None]] = deque()
        #: Questions without an answer: who asked whom, and when.
        self.open: dict[int, tuple[Node, NodeId, float]] = {}
        self.asked = 0
        self.born = 0
        self.fails = False
        self.vanishes = False
        #: How often each may be heard leaving.
        self.may_leave: Counter[tuple[str, Name]] = Counter()
        self.troubled_since: float | None = None

    # Nodes

    @property
    def living(self) -> list[Node]:
        return [node for node in self.nodes.values() if node.lives]

    def start(self) -> Node:
        self.born += 1
        node = Node(self, self.born, self.limit)
        self.nodes[node.id] = node
        return node

    def truth(self, channel: str) -> dict[Name, bytes]:
        found: dict[Name, bytes] = {}
        for node in sorted(self.living, key=lambda node: node.id):
            found |= node.members[channel]
        return found

    def kill(self, node: Node) -> None:
        node.lives = False
        self.excuse()

    def lapse(self, node: Node) -> None:
        """Let the lease of a node end that lives."""
        node.is_lapsed = True
        self.excuse()
        for other in self.living:
            if other is not node:
                other.presence.fallen({node.id}, self.now)

    def bury(self) -> None:
        gone = {node.id for node in self.nodes.values() if not node.lives}
        for node in self.living:
            node.presence.fallen(gone, self.now)
        for id in gone:
            del self.nodes[id]

    def renew(self) -> None:
        """Have all read the leases."""
        counts = {node.id: node.rebuilt for node in self.nodes.values() if not node.is_lapsed}
        for node in self.living:
            node.presence.renewed(counts, self.now, is_settled=True)

    def excuse(self) -> None:
        """Let anybody be heard leaving once more."""
        for channel in CHANNELS:
            for who in {who for node in self.nodes.values() for who in node.members[channel]}:
                self.may_leave[channel, who] += 1

    # Messages

    def publish(self, node: Node, channel: str, delta: Delta) -> None:
        presence = node.presence
        if self.fails:
            self.outcomes.append(lambda: presence.unsent(channel, self.now))
            return
        body = pack_delta(delta)
        others = [] if self.vanishes else [each for each in self.living if channel in each.heard and each is not node]
        for other in others:
            self.topics.setdefault((node.id, other.id), deque()).append((channel, body))
        self.outcomes.append(lambda: presence.sent(channel, delta, len(others)))

    def ask(self, node: Node, to: NodeId, known: dict[str, int]) -> None:
        assert known
        self.asked += 1
        self.open[self.asked] = node, to, self.now
        self.send(node.id, to, ("ask", self.asked, known))

    def send(self, node: NodeId, to: NodeId, message: Any) -> None:
        self.bus.setdefault((node, to), deque()).append(message)

    def give_up(self) -> None:
        for number, (node, to, asked) in [*self.open.items()]:
            if self.now - asked >= TIMEOUT:
                del self.open[number]
                node.presence.unanswered(to, self.now)

    def settle_outcome(self) -> None:
        if self.outcomes:
            self.outcomes.popleft()()

    def deliver_topic(self, pair: tuple[NodeId, NodeId]) -> None:
        channel, body = self.topics[pair].popleft()
        node = self.nodes.get(pair[1])
        if node is not None and node.lives and channel in node.heard:
            node.presence.hear(channel, unpack_delta(body), self.now)

    def deliver_bus(self, pair: tuple[NodeId, NodeId]) -> None:
        message = self.bus[pair].popleft()
        node = self.nodes.get(pair[1])
        if node is None or not node.lives:
            return
        match message:
            case ("reply", body):
                node.presence.replied(pair[0], msgspec.msgpack.decode(body, type=Reply), self.now)
            case ("ask", number, known):
                self.send(pair[1], pair[0], ("answer", number, msgspec.msgpack.encode(node.presence.answer(known))))
            case ("answer", number, body):
                if self.open.pop(number, None) is not None:
                    node.presence.answered(pair[0], msgspec.msgpack.decode(body, type=dict[str, Snapshot]), self.now)

    @property
    def is_quiet(self) -> bool:
        return not (any(self.topics.values()) or any(self.bus.values()) or self.outcomes)

    def deliver_all(self) -> None:
        while True:
            for node in self.living:
                node.flush()
            if self.is_quiet:
                return
            while self.outcomes:
                self.settle_outcome()
            for pair, queue in [*self.topics.items()]:
                while queue:
                    self.deliver_topic(pair)
            for pair, messages in [*self.bus.items()]:
                while messages:
                    self.deliver_bus(pair)

    def pass_time(self, seconds: float) -> None:
        if not self.is_quiet or any(node.presence.due == 0.0 for node in self.living):
            self.trouble()  # nothing takes that long
        self.now += seconds
        self.give_up()
        if self.troubled_since is not None and self.now - self.troubled_since > MISSING - 1:
            self.excuse()

    def trouble(self) -> None:
        if self.troubled_since is None:
            self.troubled_since = self.now

    def calm(self) -> None:
        """End all trouble, and let everything arrive."""
        self.fails = self.vanishes = False
        self.bury()
        for node in self.living:
            node.rebuild()
            node.hear_new()
            node.is_lapsed = False
        for _ in range(16):
            self.renew()
            self.deliver_all()
            self.pass_time(1.0)
        self.troubled_since = None
        self.check()

    def check(self) -> None:
        for node in self.living:
            for channel, client in node.clients.items():
                truth = self.truth(channel)
                assert node.presence.members(channel) == truth, (node.id, channel)
                assert node.presence.is_certain(channel)
                assert client.is_answered
                assert client.count == len(truth) if client.members is None else client.members == truth
                for who, times in client.left.items():
                    assert times <= self.may_leave[channel, who], (node.id, channel, who)
