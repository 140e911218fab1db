"""Both forms of envelopes behind one face, and what a dialect makes of any message."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from hypothesis import strategies as st

from primacron.dialects.base import ChannelRequest, Control, Dialect, Incoming, Joining, Leaving
from primacron.dialects.primacron import JsonDialect, MsgpackDialect
from primacron.errors import InvalidMessage, MessageError, UndecodableMessage, ValidationFailed
from primacron.protocol.outgoing import OutgoingPacket

SID: Final = "the-sid-of-the-connection"

# What travels in both forms and comes back equal: no NaN, 64 bits, no lone surrogates.
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"))
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=4)
    ),
    max_leaves=12,
)


def heard(dialect: Dialect, message: str | bytes) -> Incoming:
    """Return the event or answer in a message."""
    incoming = dialect.read(message, SID)
    assert isinstance(incoming, Incoming)
    return incoming


def asked(dialect: Dialect, message: str | bytes) -> ChannelRequest:
    """Return the request for a channel in a message."""
    request = dialect.read(message, SID)
    assert isinstance(request, (Joining, Leaving))
    return request


def arguments(incoming: Incoming) -> Any:
    """Return what stands for the arguments, in whatever form."""
    return incoming.args


def refusal(dialect: Dialect, message: str | bytes) -> type[MessageError] | None:
    """Return the error with which a message is refused; one that is not documented fails the test."""
    try:
        dialect.read(message, SID)
    except (InvalidMessage, UndecodableMessage, ValidationFailed) as error:
        return type(error)
    return None


@dataclass(frozen=True)
class Tongue:
    """A dialect of envelopes, and how its messages are made and read by a client."""

    dialect: JsonDialect | MsgpackDialect

    @property
    def is_json(self) -> bool:
        """Whether messages are text."""
        return isinstance(self.dialect, JsonDialect)

    def pack(self, value: object) -> str | bytes:
        """Return a value as a message."""
        return json.dumps(value) if self.is_json else msgspec.msgpack.encode(value)

    def unpack(self, raw: msgspec.Raw | bytes) -> Any:
        """Return the value of undecoded data."""
        return msgspec.json.decode(raw) if self.is_json else msgspec.msgpack.decode(raw)

    def sent(self, packet: OutgoingPacket) -> Any:
        """Return what a client decodes of an outgoing message."""
        assert packet.binary is not self.is_json
        return self.unpack(packet.data)

    def back(self, packet: OutgoingPacket) -> Incoming:
        """Return what the server would read of its own message."""
        return heard(self.dialect, packet.data.decode() if self.is_json else packet.data)

    def heard(self, value: object) -> Incoming:
        """Return the event or answer in a value sent as a message."""
        return heard(self.dialect, self.pack(value))

    def asked(self, value: object) -> ChannelRequest:
        """Return the request for a channel in a value sent as a message."""
        return asked(self.dialect, self.pack(value))

    def refusal(self, value: object) -> type[MessageError] | None:
        """Return the error with which a value is refused."""
        return refusal(self.dialect, self.pack(value))


def control(dialect: Dialect, message: str) -> bytes | None:
    """Return the reply to a message of the dialect's own protocol."""
    found = dialect.read(message, SID)
    assert isinstance(found, Control)
    return None if found.reply is None else found.reply.data
