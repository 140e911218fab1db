"""
What is written down about servers and their clients while they run, as plain data.

All times are seconds of one clock. ``time.monotonic`` is the same for all
processes of a machine, so each can write its own records, and all are judged
together afterwards.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple, TypeAlias

import msgspec

#: The event by which numbered messages are sent; its arguments are those of :class:`Mark`.
EVENT: Final = "promise"


class Mark(NamedTuple):
    """
    Which send it was: who sent it, by which kind of target, and its number among all sends of both.

    ``sender`` is the node's id, ``kind`` one of ``session``, ``account`` and ``everyone``.
    """

    sender: str
    kind: str
    number: int

    def __str__(self) -> str:
        return f"{self.kind} send {self.number} of node {self.sender}"


class Place(NamedTuple):
    """A session, and the node that is said to hold it."""

    account: str
    session: str
    node: str


class Record(msgspec.Struct, frozen=True, tag_field="what", tag=str.lower):
    """What all records have: when it was."""

    at: float


# Sends


class Sent(Record, frozen=True):
    """A send began; ``account`` and ``session`` are empty where the target names none."""

    mark: Mark
    account: str = ""
    session: str = ""


class Told(Record, frozen=True):
    """The receipt of a send to one session came."""

    mark: Mark
    status: str
    certain: bool


class Reached(Record, frozen=True):
    """The reach of a send to many came."""

    mark: Mark
    nodes: int
    sessions: int
    certain: bool
    missing: int = 0


class Arrived(Record, frozen=True):
    """A client got what was sent."""

    sid: str
    mark: Mark


# Connections, as their clients see them


class Opened(Record, frozen=True):
    """A client has read its open packet, or was told its sid in another way."""

    sid: str
    account: str
    session: str


class Closed(Record, frozen=True):
    """A client noticed that its connection is lost, was told so, or went away by itself."""

    sid: str
    reason: str = ""


# Sessions, as the listeners of a node hear of them


class Began(Record, frozen=True):
    """A node heard ``connection``, or ``arrived`` if the session has moved there."""

    node: str
    sid: str
    account: str
    session: str
    moved: bool = False


class Ended(Record, frozen=True):
    """A node heard ``disconnection``, or ``leaving`` if the session has moved away."""

    node: str
    sid: str
    reason: str = ""
    moved: bool = False


class Handled(Record, frozen=True):
    """A node handled a message of a client; clients number theirs from 1, anew for each connection."""

    node: str
    sid: str
    number: int


# Answers


class Found(Record, frozen=True):
    """``find`` answered a question that was asked at ``asked``; ``found`` is a node, empty for None."""

    asked: float
    node: str
    account: str
    session: str
    found: str


class Listed(Record, frozen=True):
    """``sessions()`` answered a question that was asked at ``asked``; ``account`` is empty for everyone."""

    asked: float
    node: str
    account: str
    places: tuple[Place, ...]


# Nodes


class Died(Record, frozen=True):
    """The process of a node has ended, however."""

    node: str


class Trouble(Record, frozen=True):
    """
    Until ``until`` a node could not do what it promises: it stood still, or was cut from Redis.

    An empty ``node`` is all of them, as when Redis is away. A Redis that was emptied is no trouble.
    """

    until: float
    node: str = ""


# What there is at a quiet moment


class Holds(Record, frozen=True):
    """The sessions that a node really has: account, session, and sid."""

    node: str
    sessions: tuple[tuple[str, str, str], ...]


class Stored(Record, frozen=True):
    """The entries of the registry and the sid of each, taken right after what the nodes hold."""

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
    """Return a record as one line of JSON, so that several processes can append to one file."""
    return _ENCODER.encode(record) + b"\n"


def decode_records(lines: Iterable[bytes | str]) -> list[AnyRecord]:
    """
    Return the records of such lines.

    Raises:
        msgspec.ValidationError: if a line is no record.
        msgspec.DecodeError: if a line is no JSON, as one that was cut by the end of its process.

    """
    return [_DECODER.decode(line) for line in lines if line.strip()]
