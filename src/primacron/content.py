"""What is sent, before it is known which dialects its receivers speak, and how it travels to other servers."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Final, Literal, Self, TypeAlias

import msgspec

from primacron.dialects.base import Dialect, Origin
from primacron.dialects.encoding import ENCODING, Encoding
from primacron.natives import as_name
from primacron.protocol.parcels import Parcel


class Content(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """Something that each dialect can write; to other servers it travels as a list of its kind and its fields."""

    @abstractmethod
    def write(self, dialect: Dialect) -> Parcel:
        """Return it as a packet, in a dialect."""

    def pack(self, encoding: Encoding = ENCODING) -> bytes:
        """
        Return it as MessagePack, for other servers.

        Raises:
            TypeError: if a value cannot be encoded.
            ValueError: if a number is NaN, infinite, or too large: 64 bits travel between servers.

        """
        return encoding.pack(self)


class Event(Content, tag="event", frozen=True):
    """An event with its arguments."""

    name: str
    args: tuple[Any, ...]

    def write(self, dialect: Dialect) -> Parcel:
        """See :meth:`Content.write`."""
        return dialect.write_event(self.name, self.args)


class Message(Content, tag="message", frozen=True):
    """A forwarded message: an object with ``event`` goes out as it is, anything else as the event ``message``."""

    content: Any

    @classmethod
    def of(cls, content: Any) -> Self:
        """
        Return a message that an application sends.

        Raises:
            TypeError: if it is an object whose ``event`` is no text.

        """
        if isinstance(content, dict) and "event" in content:
            as_name(content["event"], "event")
        return cls(content)

    def write(self, dialect: Dialect) -> Parcel:
        """See :meth:`Content.write`."""
        return dialect.write_message(self.content)


class Mirrored(Content, tag="mirrored", frozen=True):
    """An event that a followed session sent or got, for its follower; the last three fields are its origin."""

    name: str
    args: tuple[Any, ...]
    account: str
    session: str
    direction: Literal["in", "out"]

    @classmethod
    def of(cls, name: str, args: tuple[Any, ...], origin: Origin) -> Self:
        """Return an event with where it comes from."""
        return cls(name, args, origin.account, origin.session, origin.direction)

    @property
    def origin(self) -> Origin:
        """Where it comes from."""
        return Origin(self.account, self.session, self.direction)

    def write(self, dialect: Dialect) -> Parcel:
        """See :meth:`Content.write`."""
        return dialect.write_with_origin(self.name, self.args, self.origin)


#: All there is; a new one is a class above, and a name here.
AnyContent: TypeAlias = Event | Message | Mirrored


def pack_values(values: tuple[Any, ...], encoding: Encoding = ENCODING) -> msgspec.Raw:
    """Return values as MessagePack, for other servers; see :meth:`Content.pack` for the errors."""
    return msgspec.Raw(encoding.pack(values))


def unpack(data: bytes | msgspec.Raw) -> Content:
    """
    Read content that came from another server.

    Raises:
        ValueError: if it is malformed, or of a kind that this server does not know.

    """
    try:
        content: Content = _CONTENT.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        raise ValueError(f"content: {error}") from None
    return content


_CONTENT: Final = msgspec.msgpack.Decoder(AnyContent)
