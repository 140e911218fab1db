"""
What nodes say to each other over the bus.

What is published is an *envelope*, a MessagePack list::

    [version, node, epoch, number, flags, item, item, ...]

``number`` counts the envelopes of one epoch of the sender's link to one
destination (a node, or all), so that a receiver sees what is missing. ``flags``
tell whether the envelope went to all, and whether the receiver is to answer with
a :class:`Confirm`, which frees room for more. Each item is a list that begins with its kind and is decoded and counted
by itself: one that is malformed, or newer than this node, spoils no other.

Items that ask for something begin with the ``id`` of the request and the node
that made it (``origin``); an ``id`` of 0 wants no answer. The answer is an
:class:`Answer` with that id.
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
    A request about one session.

    ``generation`` is that of the entry that led here. A node that has passed the
    session on passes the request on, too; ``hops`` counts how often.
    """

    account: AccountId
    session: SessionId
    generation: int
    hops: int

    @property
    def size(self) -> int:
        """Bytes of what it carries."""
        return 0


class ToSession(SessionRequest, tag="session", frozen=True):
    """Send content to one session; answered with a status."""

    content: msgspec.Raw
    volatile: bool
    key: str

    @property
    def size(self) -> int:
        """See :attr:`SessionRequest.size`."""
        return len(self.content)


class Ask(SessionRequest, tag="call", frozen=True):
    """Send an event to one session; answered with what its client answers within so many seconds."""

    event: str
    args: msgspec.Raw
    seconds: float

    @property
    def size(self) -> int:
        """See :attr:`SessionRequest.size`."""
        return len(self.args)


class Disconnect(SessionRequest, tag="disconnect", frozen=True):
    """Close the connection of a session; answered with a status."""

    reason: str


class ToFeature(SessionRequest, tag="feature", frozen=True):
    """Have a feature do something with one session; answered with a status."""

    feature: str
    body: msgspec.Raw

    @property
    def size(self) -> int:
        """See :attr:`SessionRequest.size`."""
        return len(self.body)


class Flush(SessionRequest, tag="flush", frozen=True):
    """Answer where the session is: what was sent there before, by the same way, has come."""


class ToMany(Request, tag="many", frozen=True):
    """
    Do something to all sessions of an audience that the node holds; answered with their number.

    ``serial`` is its number at its origin: to a session that moves meanwhile it is done once. Audience and act
    are read by :mod:`primacron.routing`.
    """

    serial: int
    audience: msgspec.Raw
    act: msgspec.Raw


class Fence(Request, tag="fence", frozen=True):
    """Answer: what was sent before has come."""


class Who(Request, tag="who", frozen=True):
    """Answer with the names of all sessions that the node holds."""


class Whose(Request, tag="whose", frozen=True):
    """Answer with the name of the session that has this connection."""

    sid: Sid


class Replace(Request, tag="replace", frozen=True):
    """Close a connection whose session was claimed by the node that asks; answered when it is closed."""

    account: AccountId
    session: SessionId
    sid: Sid
    generation: int


class Holds(Request, tag="holds", frozen=True):
    """Tell whether the node holds a session, be it not registered: ``accepted`` if so, else ``unknown_session``."""

    account: AccountId
    session: SessionId


# Requests of clients that reached another node than that of their connection


class Carry(Request, tag="carry", frozen=True):
    """
    Answer a client's request; the same id again asks for the answer once more.

    Answered with ``held`` when it was asked again and there is no answer yet, with
    ``elsewhere`` when the connection is not here, with ``dropped`` when the client's
    connection is to be dropped, else with status, headers and body of the answer.
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


class Still(Request, tag="still", frozen=True):
    """Ask again for the answer to the request that was carried under this id; answered like that, or ``again``."""


class Abort(Item, tag="abort", frozen=True):
    """The client went away before the answer to the request that was carried under this id."""

    carried: int
    origin: NodeId


class Release(Item, tag="release", frozen=True):
    """The node ends that carried a poll under this id: answer it now, be it with nothing."""

    carried: int
    origin: NodeId


# A session goes to another node; ``handoff`` is the number of all that belongs to one time that it does


class CanUpgrade(Request, tag="can_upgrade", frozen=True):
    """Tell whether the connection may be upgraded; answered with its protocol."""

    sid: Sid
    account: str | None


class Quiesce(Request, tag="quiesce", frozen=True):
    """Start no further handler of the session; answered when none runs any more."""

    handoff: int
    sid: Sid


class Settle(Request, tag="settle", frozen=True):
    """
    The destination does not take the session, now or later; answered when that was heard.

    ``why`` is ``cancelled`` where the client still polls, ``left`` where it has left
    polling, ``beaten`` where somebody else has claimed the session.
    """

    handoff: int
    sid: Sid
    why: str


class Fetch(Request, tag="fetch", frozen=True):
    """Hand the session over; answered with all of it. The same again asks for the same answer."""

    handoff: int
    sid: Sid


class Claimed(Request, tag="claimed", frozen=True):
    """The session has its new entry: forget it, and pass on what has come for it; answered when that is done."""

    handoff: int
    sid: Sid


class UpgradeOver(Item, tag="over", frozen=True):
    """The session has ended before it was handed over, or the source's time is up: close the websocket, and why."""

    handoff: int
    text: str
    code: int


class Inquire(Request, tag="inquire", frozen=True):
    """Tell what became of a handoff: answered with ``claimed``, the reason of a :class:`Settle`, or as yet ``open``."""

    handoff: int


class Late(SessionRequest, tag="late", frozen=True):
    """
    What was done to many while the session was in transit; answered with a status.

    ``sender`` and ``serial`` name it: it may have been done to the session already.
    It is for the connection ``sid`` alone: a later one of the session is reached by itself.
    """

    sid: Sid
    act: msgspec.Raw
    sender: NodeId
    serial: int

    @property
    def size(self) -> int:
        """See :attr:`SessionRequest.size`."""
        return len(self.act)


class Reply(Item, tag="reply", frozen=True):
    """What the client answered to a call that was made before the session moved."""

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
    """What was sent for this session was passed on: it is elsewhere now."""

    account: AccountId
    session: SessionId


class Confirm(Item, tag="confirm", frozen=True):
    """The envelopes up to this number have come; ``to_all`` tells that they went to all nodes."""

    epoch: int
    number: int
    to_all: bool


class Part(Item, tag="part", frozen=True):
    """A part of an item that is too large for one envelope; the parts of a ``serial`` come in their order."""

    serial: int
    index: int
    total: int
    data: bytes


class Probe(Item, tag="probe", frozen=True):
    """Nothing: a node asks itself whether it hears."""


KINDS: Final[tuple[type[Item], ...]] = (
    ToSession, Ask, Disconnect, ToFeature, Flush, ToMany, Fence, Who, Whose, Replace, Holds,
    Carry, Still, Abort, Release,
    CanUpgrade, Quiesce, Settle, Fetch, Claimed, UpgradeOver, Inquire, Late, Reply, Answer, Moved, Confirm, Part, Probe,
)  # fmt: skip
