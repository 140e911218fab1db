"""What is sent, before it is known which dialects its receivers speak, and how it travels to other servers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from primacron.dialects.base import Dialect, Origin
from primacron.dialects.primacron import PACKER
from primacron.protocol.parcels import Parcel


class Content(ABC):
    """Something that each dialect can write."""

    @abstractmethod
    def write(self, dialect: Dialect) -> Parcel:
        """Return it as a packet, in a dialect."""

    @abstractmethod
    def fields(self) -> tuple[Any, ...]:
        """Return what travels to other servers: the kind, and what belongs to it."""

    def pack(self) -> bytes:
        """
        Return it as MessagePack, for other servers.

        Raises:
            TypeError: if a value cannot be encoded.
            ValueError: if a number is too large: 64 bits travel between servers.

        """
        return bytes(pack_values(self.fields()))


@dataclass(frozen=True, slots=True)
class Event(Content):
    """An event with its arguments."""

    name: str
    args: tuple[Any, ...]

    def write(self, dialect: Dialect) -> Parcel:
        """See :meth:`Content.write`."""
        return dialect.write_event(self.name, self.args)

    def fields(self) -> tuple[Any, ...]:
        """See :meth:`Content.fields`."""
        return "event", self.name, self.args


@dataclass(frozen=True, slots=True)
class Message(Content):
    """A forwarded message: an object with ``event`` goes out as it is, anything else as the event ``message``."""

    content: Any

    def write(self, dialect: Dialect) -> Parcel:
        """See :meth:`Content.write`."""
        return dialect.write_message(self.content)

    def fields(self) -> tuple[Any, ...]:
        """See :meth:`Content.fields`."""
        return "message", self.content


@dataclass(frozen=True, slots=True)
class Mirrored(Content):
    """An event that a followed session sent or got, for its follower."""

    name: str
    args: tuple[Any, ...]
    origin: Origin

    def write(self, dialect: Dialect) -> Parcel:
        """See :meth:`Content.write`."""
        return dialect.write_mirrored(self.name, self.args, self.origin)

    def fields(self) -> tuple[Any, ...]:
        """See :meth:`Content.fields`."""
        return "mirrored", self.name, self.args, self.origin.account, self.origin.session, self.origin.direction


def pack_values(values: tuple[Any, ...]) -> msgspec.Raw:
    """Return values as MessagePack, for other servers; see :meth:`Content.pack` for the errors."""
    try:
        return msgspec.Raw(PACKER.encode(values))
    except OverflowError as error:
        raise ValueError(f"not for other servers: {error}") from None


def unpack(data: bytes | msgspec.Raw) -> Content:
    """
    Read content that came from another server.

    Raises:
        ValueError: if it is malformed, or of a kind that this server does not know.

    """
    try:
        fields = _FIELDS.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        raise ValueError(f"content: {error}") from None
    match fields:
        case ["event", str(name), list(args)]:
            return Event(name, tuple(args))
        case ["message", content]:
            return Message(content)
        case ["mirrored", str(name), list(args), str(account), str(session), "in" | "out" as direction]:
            return Mirrored(name, tuple(args), Origin(account, session, direction))
    raise ValueError("content of an unknown kind")


_FIELDS: Final = msgspec.msgpack.Decoder(list[Any])
