"""
The dialect of the Primus client (engine.io transformer, with or without primus-emit).

Every packet is one JSON value. Strings beginning with ``primus::`` belong to its
own protocol, ``{"emit": [name, ...]}`` is an event, and anything else is the event
``message``.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import UNSET, UnsetType

from primacron.dialects.base import Control, Dialect, Form, Incoming, Origin
from primacron.dialects.encoding import ENCODING, Encoding
from primacron.dialects.halves import judge_undecodable
from primacron.dialects.primacron import SHORTEST, check_items
from primacron.errors import InvalidMessage
from primacron.protocol.outgoing import MESSAGE, OutgoingPacket


class _Emit(msgspec.Struct, gc=False):
    emit: msgspec.Raw | UnsetType = UNSET


_EMIT: Final = msgspec.json.Decoder(_Emit)
_LIST: Final = msgspec.json.Decoder(list[msgspec.Raw])
_ANY: Final = msgspec.json.Decoder(msgspec.Raw)
_NAME: Final = msgspec.json.Decoder(str)
_PREFIX: Final = "primus::"


class PrimusDialect(Dialect):
    """The dialect of the official Primus client."""

    name = "primus"
    form = Form.JSON
    answers = False

    def __init__(self, max_items: int, encoding: Encoding = ENCODING) -> None:
        self._max_items = max_items
        self._encoding = encoding

    def read(self, message: str | bytes, sid: str) -> Incoming | Control:
        """Decode a JSON value: an event, or part of Primus' own protocol; binary messages are refused."""
        if isinstance(message, bytes):
            raise InvalidMessage("binary message from a Primus client")
        text = message.lstrip(" \t\r\n")
        if len(text) > self._max_items // SHORTEST:
            check_items(text, self._max_items)
        try:
            if text.startswith('"primus::'):
                return _control(_NAME.decode(text), sid)
            if text.startswith("{") and '"emit"' in text:
                return _emitted(_EMIT.decode(text), text)
            _ANY.decode(text)
        except msgspec.ValidationError as error:
            raise InvalidMessage(str(error)) from None
        except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
            raise judge_undecodable(text, error)[0] from None
        return _plain(text)

    def write_event(self, event: str, args: tuple[Any, ...], call: int | None = None) -> OutgoingPacket:
        """Encode an event as primus-emit does; ``message`` goes out as the bare value."""
        if call is not None:
            raise ValueError("a Primus client cannot answer a call")
        if event == "message" and len(args) == 1:
            bare = _packet(args[0], self._encoding)
            # Wrapped, lest it be taken for Primus' protocol: one client's text must not disconnect the others.
            if not bare.data.startswith(b'"primus::'):
                return bare
        return _packet({"emit": (event, *args)}, self._encoding)

    def write_with_origin(self, event: str, args: tuple[Any, ...], origin: Origin) -> OutgoingPacket:
        """Encode the event as primus-emit does, with the origin beside it."""
        return _packet({"emit": (event, *args), "origin": origin}, self._encoding)

    def write_heartbeat(self, milliseconds: int) -> OutgoingPacket:
        """Return Primus' own ping; its client gives up after 45 s without one."""
        return _packet(f"primus::ping::{milliseconds}")

    def write_goodbye(self) -> OutgoingPacket:
        """Return the message that keeps its client from reconnecting."""
        return _GOODBYE


def _control(text: str, sid: str) -> Control:
    kind, _, rest = text.removeprefix(_PREFIX).partition("::")
    if kind == "id":
        return Control(_packet(f"primus::id::{sid}"))
    if kind == "ping":  # clients before Primus 7
        return Control(_packet(f"primus::pong::{rest[:32]}"))
    return Control()


def _emitted(packet: _Emit, text: str) -> Incoming:
    # As in primus-emit: with anything but an array, the object is ordinary data.
    if packet.emit is UNSET or bytes(packet.emit)[:1] != b"[":
        return _plain(text)
    parts = _LIST.decode(packet.emit)
    if not parts:
        raise InvalidMessage("emit: expected the name of an event")
    name = _NAME.decode(parts[0])
    return Incoming(name, msgspec.Raw(b"[" + b",".join(map(bytes, parts[1:])) + b"]"))


def _plain(text: str) -> Incoming:
    return Incoming("message", msgspec.Raw(b"[" + text.encode() + b"]"))


def _packet(value: Any, encoding: Encoding = ENCODING) -> OutgoingPacket:
    # As in Primus: in older JavaScript these two are line terminators.
    wire = encoding.json(value)
    return OutgoingPacket(MESSAGE, wire.replace(b"\xe2\x80\xa8", b"\\u2028").replace(b"\xe2\x80\xa9", b"\\u2029"))


_GOODBYE: Final = _packet("primus::server::close")
