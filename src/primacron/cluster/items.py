"""
What nodes say to each other over the bus.

Messages are *envelopes*, each a MessagePack list::

    [version, node, epoch, number, flags, item, item, ...]

``number`` counts the envelopes of one epoch of the sender's stream to one
destination (a node, or all), so that a receiver can detect gaps. ``flags`` tell
whether the envelope went to all, and whether the receiver is to return a
:class:`Confirm`, which makes room for more. Each item is a list that begins with its
kind, and is decoded and counted on its own: one that is malformed, or newer than
this node, does not affect the others.

Requests begin with an ``id`` and the node that made them (``origin``); an ``id`` of 0
wants no answer. The answer is an :class:`Answer` with the same id.
"""

from __future__ import annotations

from typing import Final

import msgspec

from primacron.ids import AccountId, NodeId, SessionId, Sid

VERSION: Final = 2
NO_ID: Final = 0

#: The flags of an envelope.
TO_ALL: Final = 1
CONFIRM: Final = 2

NIL: Final = msgspec.Raw(b"\xc0")


class Item(msgspec.Struct, array_like=True, gc=False, frozen=True):
    """Anything that travels in an envelope."""


class Request(Item, frozen=True):
    """An item that may be answered."""

    id: int
    origin: NodeId


# To sessions


class SessionRequest(Request, frozen=True):
    """
    A request that concerns one session.

    ``generation`` is that of the entry that led here. A node from which the session has
    moved away forwards the request; ``hops`` counts how often.
    """

    account: AccountId
    session: SessionId
    generation: int
    hops: int

    @property
    def size(self) -> int:
        """Bytes of its payload."""
        return 0


class ToSession(SessionRequest, tag="session", frozen=True):
    """Send content to one session; answered with a status."""

    content: msgspec.Raw
    volatile: bool
    key: str

    @property
    def size(self) -> int:
        """Bytes of the content."""
        return len(self.content)


class Call(SessionRequest, tag="call", frozen=True):
    """Call one session; answered with what its client answers within ``seconds``."""

    event: str
    args: msgspec.Raw
    seconds: float

    @property
    def size(self) -> int:
        """Bytes of the arguments."""
        return len(self.args)


class Disconnect(SessionRequest, tag="disconnect", frozen=True):
    """Close a session's connection; answered with a status."""

    reason: str


class ToFeature(SessionRequest, tag="feature", frozen=True):
    """Have a feature act on one session; answered with a status."""

    feature: str
    body: msgspec.Raw

    @property
    def size(self) -> int:
        """Bytes of the body."""
        return len(self.body)


class Flush(SessionRequest, tag="flush", frozen=True):
    """Answered where the session is: everything sent there before, by the same route, has arrived."""


class ToMany(Request, tag="many", frozen=True):
    """
    Apply an act to all sessions of an audience that the node holds; answered with their number.

    ``serial`` is the fan-out's number at its origin: a session that moves meanwhile gets it only once. Audience and
    act are decoded by :mod:`primacron.routing`.
    """

    serial: int
    audience: msgspec.Raw
    act: msgspec.Raw


class ToChannels(ToMany, tag="channels", frozen=True):
    """The same for an audience of channels, sent on the topic of each; a node may get it several times."""


class HasMembers(Request, tag="has_members", frozen=True):
    """
    Answered, with a number of 0, by nodes that have no member of any of these channels.

    The others answer what was sent on the channels' topics.
    """

    channels: list[str]


class Fence(Request, tag="fence", frozen=True):
    """Answered once everything sent before has arrived."""


class TopicFence(Request, tag="topic_fence", frozen=True):
    """Sent on a topic, answered by one of the nodes that hear it: everything sent on it before has arrived there."""

    node: NodeId


class ListSessions(Request, tag="who", frozen=True):
    """Answered with the names of the sessions of an audience that the node holds."""

    audience: msgspec.Raw


class SessionOfConnection(Request, tag="whose", frozen=True):
    """Answered with the name of the session that has this connection."""

    sid: Sid


class Replace(Request, tag="replace", frozen=True):
    """Close a connection whose session was claimed by the requesting node; answered when it is closed."""

    account: AccountId
    session: SessionId
    sid: Sid
    generation: int


class Holds(Request, tag="holds", frozen=True):
    """Tell whether the node holds a session, registered or not: ``accepted`` if so, else ``unknown_session``."""

    account: AccountId
    session: SessionId


# HTTP requests that reached a node other than that of their connection


class Forward(Request, tag="carry", frozen=True):
    """
    Handle a client's HTTP request; repeating the id asks for the same answer again.

    Answered with ``held`` if it was repeated and there is no answer yet, with
    ``elsewhere`` if the connection is not here, with ``dropped`` if the client's
    connection is to be dropped, otherwise with the response: status, headers and body.
    """

    sid: Sid
    method: str
    path: str
    query: str
    headers: dict[str, str]
    peer: str
    secure: bool
    host: str
    body: bytes


class ForwardStatus(Request, tag="still", frozen=True):
    """Ask again for the response to the request forwarded under this id; answered with it, or with ``again``."""


class AbortForward(Item, tag="abort", frozen=True):
    """The client went away before the response to the request forwarded under this id."""

    forwarded: int
    origin: NodeId


class ReleaseForward(Item, tag="release", frozen=True):
    """The node that forwarded a poll under this id is shutting down: answer it now, if need be without a packet."""

    forwarded: int
    origin: NodeId


# Handoff of a session to another node; ``handoff`` identifies the messages of one handoff


class CanUpgrade(Request, tag="can_upgrade", frozen=True):
    """Ask whether a connection may be upgraded; answered with its protocol."""

    sid: Sid
    account: str | None


class Quiesce(Request, tag="quiesce", frozen=True):
    """Start no more handlers of the session; answered once none is running."""

    handoff: int
    sid: Sid


class Settle(Request, tag="settle", frozen=True):
    """
    The destination will not take the session, now or later; answered once that is recorded.

    ``why`` is ``cancelled`` if the client still polls, ``left`` if it has stopped
    polling, ``beaten`` if another connection has claimed the session.
    """

    handoff: int
    sid: Sid
    why: str


class Fetch(Request, tag="fetch", frozen=True):
    """Hand the session over; answered with its snapshot. Repeating it asks for the same answer."""

    handoff: int
    sid: Sid


class Claimed(Request, tag="claimed", frozen=True):
    """The session has its new entry: forget it, and forward what has arrived for it; answered when that is done."""

    handoff: int
    sid: Sid


class UpgradeOver(Item, tag="over", frozen=True):
    """The session ended before the handoff, or the source's time is up: close the websocket with this reason."""

    handoff: int
    text: str
    code: int


class Inquire(Request, tag="inquire", frozen=True):
    """Ask what became of a handoff: answered with ``claimed``, the reason of a :class:`Settle`, or ``open``."""

    handoff: int


class ApplyLate(SessionRequest, tag="late", frozen=True):
    """
    A fan-out that happened while the session was in transit; answered with a status.

    ``sender`` and ``serial`` identify it: it may have been applied to the session already. It applies to the connection
    ``sid`` alone: a later one of the session is reached directly. ``kind`` is that of its audience.
    """

    sid: Sid
    act: msgspec.Raw
    sender: NodeId
    serial: int
    kind: str = ""

    @property
    def size(self) -> int:
        """Bytes of the act."""
        return len(self.act)


class Reply(Item, tag="reply", frozen=True):
    """A client's answer to a call that was made before the session moved."""

    account: AccountId
    session: SessionId
    number: int
    args: msgspec.Raw
    error: tuple[str, str, str] | None


# Between the nodes themselves


class Answer(Item, tag="answer", frozen=True):
    """The answer to a request."""

    id: int
    status: str
    value: msgspec.Raw = NIL


class Moved(Item, tag="moved", frozen=True):
    """What was sent to this session was forwarded: it has moved away."""

    account: AccountId
    session: SessionId


class Confirm(Item, tag="confirm", frozen=True):
    """All envelopes up to this number have arrived; ``to_all`` tells which stream is meant."""

    epoch: int
    number: int
    to_all: bool


class Fragment(Item, tag="part", frozen=True):
    """A fragment of an item too large for one envelope; those of a ``serial`` arrive in order."""

    serial: int
    index: int
    total: int
    data: bytes


# Who is in channels; the bodies are of :mod:`primacron.channels.parts`


class PresenceDelta(Item, tag="presence", frozen=True):
    """By topic: how a node's part of a channel has changed, or a question to all that hear the channel."""

    channel: str
    delta: msgspec.Raw


class PresencePart(Item, tag="present", frozen=True):
    """A node's part of a channel, for one that has asked on the topic."""

    reply: msgspec.Raw


class ComparePresence(Request, tag="compare", frozen=True):
    """Answered with a node's parts of those channels of which it has another version than the one that is known."""

    known: dict[str, int]


class Probe(Item, tag="probe", frozen=True):
    """Empty: a node sends it to itself to check that messages arrive."""


KINDS: Final[tuple[type[Item], ...]] = (
    ToSession, Call, Disconnect, ToFeature, Flush, ToMany, ToChannels, HasMembers,
    Fence, TopicFence, ListSessions, SessionOfConnection, Replace, Holds,
    Forward, ForwardStatus, AbortForward, ReleaseForward,
    CanUpgrade, Quiesce, Settle, Fetch, Claimed, UpgradeOver, Inquire, ApplyLate, Reply,
    PresenceDelta, PresencePart, ComparePresence,
    Answer, Moved, Confirm, Fragment, Probe,
)  # fmt: skip
