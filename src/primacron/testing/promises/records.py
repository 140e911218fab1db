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

    ``sender`` is the node's id, ``kind`` one of ``session``, ``account`` and ``everyone``.
    """

    sender: str
    kind: str
    number: int

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
    """The reach of a send to many arrived."""

    mark: Mark
    nodes: int
    sessions: int
    certain: bool
    missing: int = 0


class Arrived(Record, frozen=True):
    """A client received a message."""

    sid: str
    mark: Mark


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


# The state at a quiet moment


class Holds(Record, frozen=True):
    """The sessions that a node actually has: account, session and sid."""

    node: str
    sessions: tuple[tuple[str, str, str], ...]


class Stored(Record, frozen=True):
    """The registry's entries, each with its sid, taken right after what the nodes hold."""

    entries: tuple[tuple[Place, str], ...]


AnyRecord: TypeAlias = (
    Sent
    | Told
    | Reached
    | Arrived
    | Opened
    | Closed
    | Began
    | Ended
    | Handled
    | Found
    | Listed
    | Died
    | Trouble
    | Holds
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
