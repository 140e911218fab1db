"""What is sent, before the dialects of its receivers are known, and how it travels to other servers."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, Final, Literal, Self, TypeAlias

import msgspec

from primacron.dialects.base import Dialect, Origin
from primacron.dialects.encoding import ENCODING, Encoding
from primacron.natives import as_name
from primacron.protocol.outgoing import OutgoingPacket


class Content(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """Something every dialect can encode; it travels to other servers as a list of its kind and its fields."""

    #: Whether clients that know of channels get another packet than the others.
    names_channel: ClassVar[bool] = False

    @abstractmethod
    def write(self, dialect: Dialect) -> OutgoingPacket:
        """Encode it as a packet in a dialect."""

    def as_event(self) -> tuple[str, tuple[Any, ...]] | None:
        """Return the event and its arguments, for followers; None for what has been mirrored already."""
        return None

    def pack(self, encoding: Encoding = ENCODING) -> bytes:
        """
        Encode it as MessagePack for other servers.

        Raises:
            TypeError: if a value cannot be encoded.
            ValueError: if a number is NaN, infinite or too large: integers have 64 bits between servers.

        """
        return encoding.pack(self)


class Event(Content, tag="event", frozen=True):
    """An event with its arguments."""

    name: str
    args: tuple[Any, ...]

    def write(self, dialect: Dialect) -> OutgoingPacket:
        """Encode the event and its arguments."""
        return dialect.write_event(self.name, self.args)

    def as_event(self) -> tuple[str, tuple[Any, ...]]:
        """Return the event and its arguments."""
        return self.name, self.args


class InChannel(Content, tag="in", frozen=True):
    """An event of a channel whose name clients know; ``offset`` is its place in the history, if there is one."""

    names_channel: ClassVar[bool] = True

    name: str
    args: tuple[Any, ...]
    channel: str
    offset: int | None = None

    def write(self, dialect: Dialect) -> OutgoingPacket:
        """Encode the event and its arguments, with the channel and the offset where the dialect has a place."""
        return dialect.write_in_channel(self.name, self.args, self.channel, self.offset)

    def as_event(self) -> tuple[str, tuple[Any, ...]]:
        """Return the event and its arguments."""
        return self.name, self.args


class Message(Content, tag="message", frozen=True):
    """A forwarded message: an object with ``event`` goes out as it is, anything else as the event ``message``."""

    content: Any

    @classmethod
    def of(cls, content: Any) -> Self:
        """
        Return the message for what an application sends.

        Raises:
            TypeError: if it is an object whose ``event`` is not a string.

        """
        if isinstance(content, dict) and "event" in content:
            as_name(content["event"], "event")
        return cls(content)

    def write(self, dialect: Dialect) -> OutgoingPacket:
        """Encode the event and its arguments."""
        return dialect.write_message(self.content)

    def as_event(self) -> tuple[str, tuple[Any, ...]]:
        """Return the event ``message`` with the content as its argument."""
        return "message", (self.content,)


class Mirrored(Content, tag="mirrored", frozen=True):
    """An event that a followed session sent or received, for its follower; the last three fields are its origin."""

    name: str
    args: tuple[Any, ...]
    account: str
    session: str
    direction: Literal["in", "out"]

    @classmethod
    def of(cls, name: str, args: tuple[Any, ...], origin: Origin) -> Self:
        """Return an event together with its origin."""
        return cls(name, args, origin.account, origin.session, origin.direction)

    @property
    def origin(self) -> Origin:
        """The source of the event."""
        return Origin(self.account, self.session, self.direction)

    def write(self, dialect: Dialect) -> OutgoingPacket:
        """Encode the event and its arguments."""
        return dialect.write_with_origin(self.name, self.args, self.origin)


#: All kinds of content; a new kind is a class above and a name here.
AnyContent: TypeAlias = Event | InChannel | Message | Mirrored


def pack_values(values: tuple[Any, ...], encoding: Encoding = ENCODING) -> msgspec.Raw:
    """Encode values as MessagePack for other servers; see :meth:`Content.pack` for the errors."""
    return msgspec.Raw(encoding.pack(values))


def unpack(data: bytes | msgspec.Raw) -> Content:
    """
    Decode content from another server.

    Raises:
        ValueError: if it is malformed, or of a kind unknown to this server.

    """
    try:
        content: Content = _CONTENT.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        raise ValueError(f"content: {error}") from None
    return content


_CONTENT: Final = msgspec.msgpack.Decoder(AnyContent)
