"""
Who is in the channels of a node, as all nodes together know it.

Each node with members of a channel tells the others of its *part* by *deltas* on the
channel's topic, and keeps a copy of their parts. It asks for parts when it has its first
member, when a version shows that it has missed a delta, and whenever messages may have been
lost. Nothing is stored anywhere else, and members that neither come nor go cost nothing.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from primacron.channels.notices import Notice
from primacron.channels.parts import NOTHING, Delta, Reply, Snapshot
from primacron.channels.roster import PATIENCE, Roster, Sign, Survey, Sync
from primacron.entries import Name
from primacron.ids import NodeId

#: Seconds before a node that did not answer is asked again.
ASK_AGAIN: Final = 1.0
#: Seconds after which a node counts as gone that was heard of, but has no lease.
UNPROVEN: Final = 10.0
#: Seconds for which messages of a node that is gone may still arrive.
LATEST: Final = 60.0


@dataclass(frozen=True, slots=True)
class Publish:
    """Publish a delta on a channel's topic; then call :meth:`Presence.sent` or :meth:`Presence.unsent`, once."""

    channel: str
    delta: Delta


@dataclass(frozen=True, slots=True)
class Tell:
    """Tell the channel's members on this node, except those whose join is not answered yet."""

    channel: str
    notice: Notice


@dataclass(frozen=True, slots=True)
class Ready:
    """Answer the joins that wait: other parts are known, or late."""

    channel: str


@dataclass(frozen=True, slots=True)
class Ask:
    """
    Ask a node for parts, by :meth:`Presence.answer`, of which it has not these versions.

    Then call :meth:`Presence.answered` or :meth:`Presence.unanswered`.
    """

    node: NodeId
    known: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Send:
    """Send a node what it has asked for on a topic, to be given to :meth:`Presence.replied`."""

    node: NodeId
    reply: Reply


class Inquiry(Survey):
    """Who is in a channel, asked by a node without members: publish ``delta``, then set ``expected``."""

    __slots__ = ("_snapshots", "delta")

    def __init__(self, node: NodeId, asks: int, until: float) -> None:
        super().__init__(asks, until)
        self.delta = Delta(node, NOTHING, NOTHING, (), asks)
        self._snapshots: dict[NodeId, Snapshot] = {}

    def take(self, node: NodeId, snapshot: Snapshot) -> None:
        """Take a node's answer."""
        self.replied.add(node)
        self._snapshots[node] = snapshot

    @property
    def members(self) -> dict[Name, bytes]:
        """All members of whom was heard, with their packed info."""
        found = [member for _, snapshot in sorted(self._snapshots.items()) for member in snapshot.members]
        return {member.name: member.info for member in found}


@dataclass(frozen=True, slots=True)
class Announce:
    """Let all nodes know, by :meth:`Presence.renewed`, how often this one has lost subscriptions."""

    rebuilt: int


Action: TypeAlias = Publish | Tell | Ready | Ask | Send | Announce


class _Peer:
    """Another node: the channels in which to ask for its part, those in which it is asked, and when to ask again."""

    __slots__ = ("absent_since", "asked", "counted", "retry_at", "wants")

    def __init__(self) -> None:
        self.wants: set[str] = set()
        self.asked: set[str] = set()
        self.retry_at = 0.0
        #: How often it had lost subscriptions when its parts were last compared, None if they never were.
        self.counted: int | None = None
        #: Since when it is known to have no lease.
        self.absent_since: float | None = None


class Presence:
    """
    The channels of a node in which members are told of each other.

    Something changes by any call; what follows from it is returned by :meth:`flush`, which is to be called by the
    time that :attr:`due` says, at the earliest at the end of the tick. Times are in seconds, on any clock that does
    not go back.
    """

    def __init__(self, node: NodeId, *, limit: int, grace: float) -> None:
        self._node = node
        self._limit = limit
        self._grace = grace
        self._rosters: dict[str, Roster] = {}
        self._peers: dict[NodeId, _Peer] = {}
        #: Nodes that are gone, and since when.
        self._gone: dict[NodeId, float] = {}
        self._version = NOTHING
        #: How often subscriptions were lost and are there again, those of a tick counted once.
        self._rebuilt = 0
        self._has_rebuilt = False
        self._is_connected = True
        self._asks = 0
        self._inquiries: dict[int, Inquiry] = {}
        self._dirty: dict[str, None] = {}
        self._sends: list[Send] = []
        self._wakes: list[tuple[float, str]] = []

    def __contains__(self, channel: object) -> bool:
        return channel in self._rosters

    # The members of this node

    def open(self, channel: str, now: float) -> None:
        """Begin to keep a copy of the other parts, before the first member joins."""
        roster = self._rosters.get(channel)
        if roster is None:
            self._rosters[channel] = Roster(self._node, self._number, self._limit, self._grace, now)
        else:
            roster.is_closing = False
        self._dirty[channel] = None

    def close(self, channel: str) -> None:
        """Stop keeping it, as soon as all know that there are no members any more; its topic is not heard now."""
        roster = self._rosters.get(channel)
        if roster is not None:
            roster.is_closing = True
            roster.step(Sign.SILENT)
            self._dirty[channel] = None

    def join(self, channel: str, name: Name, info: bytes, now: float) -> None:
        """Add a member with its packed info, or change that."""
        self._touch(channel).join(name, info, now)

    def leave(self, channel: str, name: Name, now: float, *, moved: bool = False) -> None:
        """Remove a member; ``moved`` if its session goes on at another node."""
        self._touch(channel).leave(name, now, moved=moved)

    def away(self, channel: str, name: Name, now: float) -> None:
        """Note that a member is away: it leaves unless it is back in time, or is removed."""
        self._touch(channel).away(name, now)

    def back(self, channel: str, name: Name, now: float) -> None:
        """Note that a member is back: it joins again if it had left."""
        self._touch(channel).back(name, now)

    def members(self, channel: str) -> Mapping[Name, bytes]:
        """Return all members with their packed info."""
        return self._rosters[channel].view

    def counts(self, channel: str) -> bool:
        """Tell whether there are too many members to be told by name; may change with each flush."""
        return self._rosters[channel].notices.counts

    def digest(self, channel: str) -> int:
        """Return what stands for the members as they were last told, on all nodes; 0 if they are told as a number."""
        return self._rosters[channel].notices.digest

    def is_ready(self, channel: str) -> bool:
        """Tell whether joins can be answered without waiting for :class:`Ready`."""
        return self._rosters[channel].answer_by is None

    def is_certain(self, channel: str) -> bool:
        """Tell whether all other parts are known."""
        roster = self._rosters[channel]
        is_steady = roster.sync is Sync.STEADY and not roster.misses_changes
        return is_steady and not any(channel in peer.wants or channel in peer.asked for peer in self._peers.values())

    def _touch(self, channel: str) -> Roster:
        self._dirty[channel] = None
        return self._rosters[channel]

    def _number(self) -> int:
        self._version += 1
        return self._version

    def connect(self, *, is_connected: bool) -> None:
        """Note whether anything can be sent; until it can, changes of this node are only collected."""
        if is_connected and not self._is_connected:
            self._dirty.update((channel, None) for channel, roster in self._rosters.items() if not roster.is_told)
        self._is_connected = is_connected

    # The topics

    def heard(self, channel: str, *, heard: bool, now: float) -> None:
        """Note that the channel's topic is received, or no longer."""
        roster = self._rosters.get(channel)
        if roster is None or not roster.step(Sign.HEARD if heard else Sign.SILENT):
            return
        self._dirty[channel] = None
        # What this node has told meanwhile may have gone to a primary that was replaced.
        self._has_rebuilt = self._has_rebuilt or (heard and roster.is_lost)
        roster.is_lost = not heard
        if roster.sync is Sync.ASKING:
            roster.survey = Survey(self._next_asks(), now + PATIENCE)
        elif roster.sync is Sync.STEADY:
            self._want(channel)
        else:
            roster.survey = None

    def hear(self, channel: str, delta: Delta, now: float) -> None:
        """Take a message from a channel's topic."""
        if delta.node == self._node:
            return
        roster = self._rosters.get(channel)
        if delta.asks:
            snapshot = Snapshot(self._version, ()) if roster is None else roster.snapshot()
            self._sends.append(Send(delta.node, Reply(channel, delta.asks, snapshot)))
        if roster is not None and delta.node not in self._gone:
            self._dirty[channel] = None
            roster.take(delta, now)
            self._look(channel, roster, delta.node)

    def sent(self, channel: str, delta: Delta, others: int) -> None:
        """Note that a delta was published, and to how many other nodes."""
        roster = self._rosters.get(channel)
        if roster is not None:
            self._dirty[channel] = None
            roster.sent()
            if roster.survey is not None and roster.survey.asks == delta.asks:
                roster.survey.expected = others

    def unsent(self, channel: str, now: float) -> None:
        """Note that a delta may not have been published."""
        roster = self._rosters.get(channel)
        if roster is not None:
            self._dirty[channel] = None
            roster.unsent(now)

    def replied(self, node: NodeId, reply: Reply, now: float) -> None:
        """Take a node's answer to what was asked on a topic."""
        inquiry = self._inquiries.get(reply.asks)
        if inquiry is not None:
            inquiry.take(node, reply.snapshot)
            return
        roster = self._rosters.get(reply.channel)
        survey = None if roster is None else roster.survey
        if roster is not None and survey is not None and survey.asks == reply.asks and node not in self._gone:
            self._dirty[reply.channel] = None
            self._peer(node)
            survey.replied.add(node)
            roster.take_snapshot(node, reply.snapshot, now)

    def inquire(self, now: float) -> Inquiry:
        """Ask who is in a channel of which this node has no members; :meth:`forget` it when done."""
        asks = self._next_asks()
        self._inquiries[asks] = Inquiry(self._node, asks, now + PATIENCE)
        return self._inquiries[asks]

    def forget(self, inquiry: Inquiry) -> None:
        """Let answers to a question come too late."""
        del self._inquiries[inquiry.asks]

    def _next_asks(self) -> int:
        self._asks += 1
        return self._asks

    def _look(self, channel: str, roster: Roster, node: NodeId) -> None:
        """Ask a node for its part if some of its changes were missed."""
        part = roster.parts.get(node)
        if part is not None:
            peer = self._peer(node)
            if part.missed is not None and channel not in peer.asked:
                peer.wants.add(channel)

    # The other nodes

    def answer(self, known: Mapping[str, int]) -> dict[str, Snapshot]:
        """Return this node's parts of channels, unless another node knows their versions."""
        found: dict[str, Snapshot] = {}
        for channel, version in known.items():
            roster = self._rosters.get(channel)
            if roster is not None and version != roster.own.version:
                found[channel] = roster.snapshot()
            elif roster is None and version != NOTHING:
                found[channel] = Snapshot(self._version, ())
        return found

    def answered(self, node: NodeId, snapshots: Mapping[str, Snapshot], now: float) -> None:
        """Take the parts for which a node was asked."""
        peer = self._peers.get(node)
        if peer is None:
            return
        asked, peer.asked = peer.asked, set()
        for channel in asked:
            roster, snapshot = self._rosters[channel], snapshots.get(channel)
            if snapshot is not None:
                roster.take_snapshot(node, snapshot, now)
            self._look(channel, roster, node)
            self._dirty[channel] = None

    def unanswered(self, node: NodeId, now: float) -> None:
        """Note that a node did not answer: it is asked again, unless it is gone."""
        peer = self._peers.get(node)
        if peer is not None:
            peer.wants |= peer.asked
            peer.asked = set()
            peer.retry_at = now + ASK_AGAIN

    def renewed(self, counts: Mapping[NodeId, int], now: float, *, is_settled: bool) -> None:
        """
        Take the living nodes, and how often each has lost subscriptions: then others may have missed what it told.

        ``is_settled`` tells whether whoever is not among them does not live.
        """
        for node, count in counts.items():
            self._gone.pop(node, None)
            if node != self._node:
                self._compare(self._peer(node), count)
        unproven = [(node, peer) for node, peer in self._peers.items() if node not in counts]
        for _, peer in unproven:
            since = now if peer.absent_since is None else peer.absent_since
            peer.absent_since = since if is_settled else None
        self.fallen({node for node, peer in unproven if now - (peer.absent_since or now) >= UNPROVEN}, now)
        self._gone = {node: since for node, since in self._gone.items() if now - since < LATEST}

    def _compare(self, peer: _Peer, count: int) -> None:
        peer.absent_since = None
        if peer.counted != count:
            peer.counted = count
            peer.wants.update(self._rosters)

    def fallen(self, nodes: set[NodeId], now: float) -> None:
        """Forget nodes that are gone, and their parts."""
        for node in nodes - {self._node}:
            self._gone[node] = now
            self._peers.pop(node, None)
            for channel, roster in self._rosters.items():
                if roster.drop(node, now):
                    self._dirty[channel] = None

    def _peer(self, node: NodeId) -> _Peer:
        peer = self._peers.get(node)
        if peer is None:
            peer = self._peers[node] = _Peer()
        return peer

    def _want(self, channel: str) -> None:
        for peer in self._peers.values():
            peer.wants.add(channel)

    # What follows

    @property
    def due(self) -> float | None:
        """When to flush: a time that has passed if at the end of this tick, None if nothing is to be done."""
        if self._dirty or self._sends:
            return 0.0
        times: list[float] = []
        if self._is_connected:
            times += [peer.retry_at for peer in self._peers.values() if peer.wants and not peer.asked]
        if self._wakes:
            times.append(self._wakes[0][0])
        return min(times, default=None)

    def flush(self, now: float) -> list[Action]:
        """Return what is to be done now, in this order."""
        while self._wakes and self._wakes[0][0] <= now:
            time, channel = heapq.heappop(self._wakes)
            roster = self._rosters.get(channel)
            if roster is not None and roster.wakes == time:
                roster.wakes = None
                self._dirty[channel] = None
        dirty, self._dirty = self._dirty, {}
        actions: list[Action] = []
        for channel in dirty:
            if channel in self._rosters:
                actions += self._flush(channel, self._rosters[channel], now)
        if self._has_rebuilt:
            self._has_rebuilt = False
            self._rebuilt += 1
            actions.append(Announce(self._rebuilt))
        if self._is_connected:
            actions += self._questions(now)
        actions += self._sends
        self._sends = []
        return actions

    def _flush(self, channel: str, roster: Roster, now: float) -> list[Action]:
        roster.expire(now)
        self._end_survey(channel, roster, now)
        actions: list[Action] = []
        if self._is_connected:
            actions += [Publish(channel, delta) for delta in roster.deltas(now)]
        notice = roster.notices.take(roster.view, now)
        if notice is not None:
            actions.append(Tell(channel, notice))
        if roster.answer_by is not None and (now >= roster.answer_by or self.is_certain(channel)):
            roster.answer_by = None
            actions.append(Ready(channel))
        if roster.is_over:
            self._end(channel)
        else:
            self._schedule(channel, roster)
        return actions

    def _end_survey(self, channel: str, roster: Roster, now: float) -> None:
        survey = roster.survey
        if survey is None:
            return
        if survey.is_complete:
            roster.survey = None
            roster.step(Sign.ANSWERED)
        elif now >= survey.until:
            roster.survey = None
            roster.step(Sign.LATE)
            self._want(channel)

    def _end(self, channel: str) -> None:
        del self._rosters[channel]
        for peer in self._peers.values():
            peer.wants.discard(channel)
            peer.asked.discard(channel)

    def _schedule(self, channel: str, roster: Roster) -> None:
        due = roster.due(is_connected=self._is_connected)
        if due is not None and (roster.wakes is None or due < roster.wakes):
            roster.wakes = due
            heapq.heappush(self._wakes, (due, channel))

    def _questions(self, now: float) -> list[Action]:
        """Return what to ask other nodes; each is asked one question at a time."""
        actions: list[Action] = []
        for node, peer in self._peers.items():
            if peer.wants and not peer.asked and now >= peer.retry_at:
                peer.asked, peer.wants = peer.wants, set()
                known = {channel: self._rosters[channel].known(node) for channel in peer.asked}
                actions.append(Ask(node, known))
        return actions
