"""What a dialect is, and what it makes of a message."""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import Enum
from typing import Annotated, Any, ClassVar, Final, Literal, TypeAlias

import msgspec
from msgspec import UNSET, Meta, UnsetType

from primacron.natives import as_native
from primacron.protocol.outgoing import OutgoingPacket

try:
    import cython  # type: ignore[import-untyped, unused-ignore]
except ImportError:  # needed to build, not to run
    from primacron import uncompiled as cython

MAX_ACK: Final = 2**53 - 1
AckId: TypeAlias = Annotated[int, Meta(ge=0, le=MAX_ACK)]

NO_ARGS: Final = msgspec.Raw(b"[]")

# Greedy, for the last path: earlier text may be the client's. For the key of a map msgspec names the map.
_PATH: Final = re.compile(r"(.*) - at (?:`key` in )?`([^`]*)`", re.DOTALL)


class Form(Enum):
    """The encoding in which the arguments of an event arrive."""

    # Enum's own is Python code, and every message needs it.
    __hash__ = object.__hash__

    JSON = "JSON text of an array"
    MSGPACK = "MessagePack of an array"
    VALUE = "a tuple of one str or bytes"


class AnswerError(msgspec.Struct, gc=False):
    """The error form of an answer."""

    type: str = ""
    message: str = ""
    path: str = ""


class Incoming(msgspec.Struct, gc=False):
    """
    A decoded client message: an event, or the answer to a call if ``ack`` is set.

    ``args`` are still undecoded, in the form that the dialect names.
    """

    event: str | UnsetType = UNSET
    args: msgspec.Raw = NO_ARGS
    id: AckId | UnsetType = UNSET
    ack: AckId | UnsetType = UNSET
    error: AnswerError | UnsetType = UNSET


class Since(msgspec.Struct, frozen=True, gc=False):
    """The position in the history of a channel up to which a client has everything."""

    epoch: str
    offset: Annotated[int, Meta(ge=0, le=MAX_ACK)]


class Joining(msgspec.Struct, frozen=True, gc=False):
    """
    A client's request to join a channel.

    It asks for what the client has missed ``since`` a position, or for the ``last``
    messages, as many as that; never for both.
    """

    event: ClassVar[UnsetType] = UNSET

    channel: str = msgspec.field(name="join")
    id: AckId
    since: Since | UnsetType = UNSET
    last: Annotated[int, Meta(ge=1, le=MAX_ACK)] | UnsetType = UNSET


class Leaving(msgspec.Struct, frozen=True, gc=False):
    """A client's request to leave a channel."""

    event: ClassVar[UnsetType] = UNSET

    channel: str = msgspec.field(name="leave")
    id: AckId


ChannelRequest: TypeAlias = Joining | Leaving
#: What a client may want an answer to, under its ``id``.
Request: TypeAlias = Incoming | ChannelRequest


class Joined(msgspec.Struct, omit_defaults=True, gc=False):
    """
    What a session is told of a channel that it is in from now on.

    ``epoch`` and ``offset`` are its position, where there is history, and ``recovered``
    tells whether it has missed nothing since the position that it named. ``members``, or
    in large channels their ``count``, are there with presence; ``certain`` is false if
    some may be missing.
    """

    channel: str
    epoch: str | UnsetType = UNSET
    offset: int | UnsetType = UNSET
    recovered: bool | UnsetType = UNSET
    members: Sequence[Any] | UnsetType = UNSET
    count: int | UnsetType = UNSET
    certain: bool | UnsetType = UNSET


class Origin(msgspec.Struct, frozen=True):
    """The source of an event: a session, and whether it sent (``in``) or received (``out``) the event."""

    account: str
    session: str
    direction: Literal["in", "out"]


class Control:
    """A message of the dialect's own protocol; ``reply`` is sent back to the client, if set."""

    __slots__ = ("reply",)

    event: ClassVar[UnsetType] = UNSET

    def __init__(self, reply: OutgoingPacket | None = None) -> None:
        self.reply = reply


class Dialect:
    """
    Translates between messages and events, for all connections that use it.

    A dialect keeps no per-connection state.
    """

    if not cython.compiled:
        __slots__ = ()

        name: ClassVar[str]
        form: ClassVar[Form]
        #: Whether clients can answer, as ``call`` requires.
        answers: ClassVar[bool]
    #: Whether some events cannot be encoded, so that encoding must be tried even for other servers.
    restricts = False

    def read(self, message: str | bytes, sid: str) -> Request | Control:
        """
        Decode a message that arrived on the connection ``sid``.

        Raises:
            UndecodableMessage: if the message cannot be decoded.
            InvalidMessage: if it is not an envelope.
            ValidationFailed: if it asks for a channel in a way that is not provided.

        """
        raise NotImplementedError

    def write_event(self, event: str, args: tuple[Any, ...], call: int | None = None) -> OutgoingPacket:
        """
        Encode an event for a client; ``call`` is the number under which an answer is requested.

        Raises:
            TypeError: if an argument cannot be encoded.
            ValueError: if the dialect cannot express the event.

        """
        raise NotImplementedError

    def write_message(self, content: Any) -> OutgoingPacket:
        """Encode a forwarded message: the event ``message`` with one argument."""
        return self.write_event("message", (content,))

    def write_with_origin(self, event: str, args: tuple[Any, ...], origin: Origin) -> OutgoingPacket:
        """Encode an event with its origin; a dialect without a place for the origin omits it."""
        return self.write_event(event, args)

    def write_in_channel(
        self, event: str, args: tuple[Any, ...], channel: str, offset: int | None = None
    ) -> OutgoingPacket:
        """
        Encode an event of a channel, with its offset where there is history.

        A dialect without a place for these omits them.
        """
        return self.write_event(event, args)

    def write_answer(self, number: int, args: tuple[Any, ...]) -> OutgoingPacket:
        """Encode the answer to an event that the client sent with this id."""
        raise ValueError(f"the {self.name} dialect has no answers")

    def write_refusal(self, number: int, error: AnswerError) -> OutgoingPacket:
        """Encode an error answer."""
        raise ValueError(f"the {self.name} dialect has no answers")

    def write_session(self, account: str, session: str) -> OutgoingPacket | None:
        """Tell a client that connects with ``resume=1`` who it is; None if the dialect has no message for that."""
        return None

    # What clients that know of channels are told of one; None if the dialect has no message for that

    def write_about_channel(self, channel: str, key: str, value: Any) -> OutgoingPacket | None:
        """
        Encode what there is to say of a channel; the following methods say what that can be.

        Raises:
            TypeError: if a value cannot be encoded.
            ValueError: if a number is NaN, infinite or, in MessagePack, too large.

        """
        return None

    def write_presence(self, channel: str, changes: Sequence[tuple[str, Any]]) -> OutgoingPacket | None:
        """Tell who came and went: pairs of ``join``, ``leave`` or ``update`` and a member, in order."""
        return self.write_about_channel(channel, "presence", changes)

    def write_members(self, channel: str, members: Sequence[Any]) -> OutgoingPacket | None:
        """Tell who is in the channel: objects with ``account``, ``session`` and ``info``."""
        return self.write_about_channel(channel, "members", members)

    def write_count(self, channel: str, count: int) -> OutgoingPacket | None:
        """Tell how many are in a channel that has too many to name them."""
        return self.write_about_channel(channel, "count", count)

    def write_server_join(self, channel: str, joined: Joined) -> OutgoingPacket | None:
        """Tell a session that the server made it join."""
        return self.write_about_channel(channel, "joined", joined)

    def write_left(self, channel: str, reason: str) -> OutgoingPacket | None:
        """Tell a session that the server made it leave."""
        return self.write_about_channel(channel, "left", reason)

    def write_gap(self, channel: str, epoch: str, start: int, end: int | None) -> OutgoingPacket | None:
        """
        Tell of messages that the client will not get: those from offset ``start`` to ``end``, both included.

        None for ``end`` says that something from ``start`` on may be missing.
        """
        return self.write_about_channel(channel, "gap", {"epoch": epoch, "from": start, "to": end})

    # What belongs to the connection

    def write_heartbeat(self, milliseconds: int) -> OutgoingPacket | None:
        """Return what the dialect sends along with each Engine.IO ping, if anything."""
        return None

    def write_goodbye(self) -> OutgoingPacket | None:
        """Return what tells a client not to reconnect, if the dialect has such a message."""
        return None


def split_path(error: msgspec.ValidationError) -> tuple[str, str]:
    """Split the text of an error into what is wrong and the path of the value, which is empty for the outermost."""
    text = str(error)
    where = _PATH.fullmatch(text)
    return (text, "") if where is None else (where[1], where[2])


def to_plain(value: Any) -> Any:
    """Convert what msgspec does not know into what it does; pydantic models are recognised by their method."""
    if isinstance(value, (str, bytes, int, float)):
        return as_native(value)
    dump = getattr(value, "model_dump", None)
    if dump is None:
        raise TypeError(f"cannot encode {type(value).__qualname__} for a client")
    return dump(mode="json")
