"""
Records of what servers and their clients do, as plain data.

All times are seconds on one clock. ``time.monotonic`` is the same for all
processes of a machine, so each can write its own records, and all are judged
together afterwards.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple, TypeAlias

import msgspec

#: The event that numbered messages are sent as; its arguments are those of :class:`Mark`.
EVENT: Final = "promise"


class Mark(NamedTuple):
    """
    Identifies a send: its sender, the kind of target, and its number among the sender's sends of that kind.

    ``sender`` is the node's id, ``kind`` one of ``session``, ``account``, ``everyone`` and
    ``channel:``, followed by its name.
    """

    sender: str
    kind: str
    number: int

    @property
    def channel(self) -> str:
        """The name of the channel that it was sent to; empty if it was none."""
        return self.kind.partition(":")[2]

    def __str__(self) -> str:
        return f"{self.kind} send {self.number} of node {self.sender}"


class Place(NamedTuple):
    """A session, and the node said to hold it."""

    account: str
    session: str
    node: str


class Record(msgspec.Struct, frozen=True, tag_field="what", tag=str.lower):
    """Common to all records: when it happened."""

    at: float


# Sends


class Sent(Record, frozen=True):
    """A send began; ``account`` and ``session`` are empty if the target names none."""

    mark: Mark
    account: str = ""
    session: str = ""


class Told(Record, frozen=True):
    """The receipt of a send to one session arrived."""

    mark: Mark
    status: str
    certain: bool


class Reached(Record, frozen=True):
    """
    The reach of a send to many arrived; with the position, if the channel has a history.

    No position means that the history does not have it; not certain: that it may.
    """

    mark: Mark
    nodes: int
    sessions: int
    certain: bool
    missing: int = 0
    epoch: str = ""
    offset: int = 0


class Arrived(Record, frozen=True):
    """A client received a message."""

    sid: str
    mark: Mark


# Channels, as their clients see them


class Joined(Record, frozen=True):
    """
    A client received the answer to a join.

    ``since`` is the position that it gave; ``recovered`` is None if it gave none. ``epoch``
    and ``offset`` are the answer's, empty and 0 if the channel has no history.
    """

    sid: str
    channel: str
    epoch: str = ""
    offset: int = 0
    since: tuple[str, int] | None = None
    recovered: bool | None = None


class Left(Record, frozen=True):
    """A client left a channel, or was told that it is not in it any more."""

    sid: str
    channel: str


class Took(Record, frozen=True):
    """A client received a message that names its channel; ``offset`` is 0 if the channel has no history."""

    sid: str
    channel: str
    mark: Mark
    offset: int = 0


class Missed(Record, frozen=True):
    """A client was told of a gap, from ``begin`` to ``end``; without an end something in front of ``begin`` is lost."""

    sid: str
    channel: str
    epoch: str
    begin: int
    end: int | None


class Shown(Record, frozen=True):
    """Who is in a channel, as a client was told so far: accounts and sessions."""

    sid: str
    channel: str
    members: tuple[tuple[str, str], ...]


# Connections, as their clients see them


class Opened(Record, frozen=True):
    """A client has read its open packet, or learned its sid otherwise."""

    sid: str
    account: str
    session: str


class Closed(Record, frozen=True):
    """A client found its connection lost, was told of its end, or left."""

    sid: str
    reason: str = ""


# Sessions, as reported to the listeners of a node


class Began(Record, frozen=True):
    """A node emitted ``connection``, or ``arrived`` if the session moved there."""

    node: str
    sid: str
    account: str
    session: str
    moved: bool = False


class Ended(Record, frozen=True):
    """A node emitted ``disconnection``, or ``leaving`` if the session moved away."""

    node: str
    sid: str
    reason: str = ""
    moved: bool = False


class Handled(Record, frozen=True):
    """A node handled a client's message; clients number theirs from 1 for each connection."""

    node: str
    sid: str
    number: int


# Members of channels, as reported to the listeners of a node


class Entered(Record, frozen=True):
    """A session joined a channel; ``heard`` tells that the node hears the channel from the others by now."""

    node: str
    sid: str
    channel: str
    heard: bool = False


class Exited(Record, frozen=True):
    """A session left a channel, or ended."""

    node: str
    sid: str
    channel: str


# Answers


class Found(Record, frozen=True):
    """``find``, called at ``asked``, returned; ``found`` is a node, empty for None."""

    asked: float
    node: str
    account: str
    session: str
    found: str


class Listed(Record, frozen=True):
    """``sessions()``, called at ``asked``, returned; ``account`` is empty for everyone."""

    asked: float
    node: str
    account: str
    places: tuple[Place, ...]


class Named(Record, frozen=True):
    """``members()`` of a channel, called at ``asked``, returned: accounts and sessions."""

    asked: float
    node: str
    channel: str
    members: tuple[tuple[str, str], ...]
    certain: bool


class Counted(Record, frozen=True):
    """``count()`` of a channel, called at ``asked``, returned."""

    asked: float
    node: str
    channel: str
    count: int
    certain: bool


# Nodes


class Died(Record, frozen=True):
    """The process of a node ended, in whatever way."""

    node: str


class Trouble(Record, frozen=True):
    """
    A node could not keep its promises until ``until``: it was suspended, or cut off from Redis.

    An empty ``node`` means all of them, as in a Redis outage. A Redis that lost its data is not trouble.
    """

    until: float
    node: str = ""


class Emptied(Record, frozen=True):
    """Redis may have lost data: it was restarted or emptied, or a replica took over."""


# The state at a quiet moment


class Holds(Record, frozen=True):
    """The sessions that a node actually has: account, session and sid."""

    node: str
    sessions: tuple[tuple[str, str, str], ...]


class Seated(Record, frozen=True):
    """
    The sessions that a node actually has in its channels: channel, account, session and sid.

    What :class:`Named`, :class:`Counted` and :class:`Shown` say between the last of these
    and :class:`Settled` is compared with them exactly.
    """

    node: str
    seats: tuple[tuple[str, str, str, str], ...]


class Settled(Record, frozen=True):
    """The end of a quiet moment of channels."""


class Stored(Record, frozen=True):
    """The registry's entries, each with its sid, taken right after what the nodes hold."""

    entries: tuple[tuple[Place, str], ...]


AnyRecord: TypeAlias = (
    Sent
    | Told
    | Reached
    | Arrived
    | Joined
    | Left
    | Took
    | Missed
    | Shown
    | Opened
    | Closed
    | Began
    | Ended
    | Handled
    | Entered
    | Exited
    | Found
    | Listed
    | Named
    | Counted
    | Died
    | Trouble
    | Emptied
    | Holds
    | Seated
    | Settled
    | Stored
)

_ENCODER: Final = msgspec.json.Encoder()
_DECODER: Final = msgspec.json.Decoder(AnyRecord)


def encode_record(record: AnyRecord) -> bytes:
    """Encode a record as one line of JSON, so that several processes can append to one file."""
    return _ENCODER.encode(record) + b"\n"


def decode_records(lines: Iterable[bytes | str]) -> list[AnyRecord]:
    """
    Decode the records of such lines.

    Raises:
        msgspec.ValidationError: if a line is not a record.
        msgspec.DecodeError: if a line is not JSON, such as one cut short when its process ended.

    """
    return [_DECODER.decode(line) for line in lines if line.strip()]
