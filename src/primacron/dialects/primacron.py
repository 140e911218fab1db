"""
The native dialect: envelopes in JSON or MessagePack.

Both directions use ``{"event": name, "args": [...]}``, with ``"id"`` if an answer is
requested; answers are ``{"ack": id, "args": [...]}`` or ``{"ack": id, "error":
{...}}``. From clients there are also ``{"join": channel, "id": ...}`` and ``{"leave":
channel, "id": ...}``; any other object is the event ``message``.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from typing import Any, Final

import msgspec
from msgspec import UNSET

from primacron.dialects.base import (
    NO_ARGS,
    AckId,
    AnswerError,
    ChannelRequest,
    Dialect,
    Form,
    Incoming,
    Origin,
    Request,
)
from primacron.dialects.encoding import ENCODING, SHORT, Encoding
from primacron.dialects.halves import judge_undecodable
from primacron.dialects.msgpack import check_structure
from primacron.dialects.objects import JSON, MSGPACK, REQUESTS, ObjectReader, may_ask, may_ask_packed
from primacron.errors import InvalidMessage, MessageError, UndecodableMessage
from primacron.protocol.outgoing import MESSAGE, OutgoingPacket

try:
    import cython  # type: ignore[import-untyped, unused-ignore]
except ImportError:  # needed to build, not to run
    from primacron import uncompiled as cython

_DECODER: Final = msgspec.json.Decoder(Incoming)
_UNPACKER: Final = msgspec.msgpack.Decoder(Incoming)
_NO_PACKED_ARGS: Final = msgspec.Raw(b"\x90")

#: Elements charged for a number that msgspec parses digit by digit: about 8 microseconds instead of 0.02.
EXTREME: Final = 32
#: Digits of a long number charged as one more element: conversion takes quadratic time.
DIGITS: Final = 16
LONG: Final = 128
#: Digits from which Python refuses to convert an integer, so that further ones cost nothing.
LONGEST: Final = 4_300
#: A message is harmless if it has fewer characters than allowed elements divided by this: the shortest expensive
#: number has five characters, and a comma.
SHORTEST: Final = 8
# An unterminated string extends to the end of the text, so that any text is scanned only once.
_STRING: Final = re.compile(r'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)', re.DOTALL)
_BROKEN: Final = (msgspec.DecodeError, RecursionError, UnicodeError)

_MAX_HEADS: Final = 4096

if not cython.compiled:
    from primacron.dialects.encoding import has_null, is_plain

    _SUSPECT: Final = re.compile(r"[0-9][eE][-+0-9]|[0-9]{16}")
    _NUMBER: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)(?:[eE][-+]?([0-9]+))?")

    def weigh_roughly(text: str) -> int:
        """Return an upper bound of :func:`weigh`, faster: the contents of strings count too."""
        return count_marks(text) + EXTREME * sum(1 for _ in _SUSPECT.finditer(text))

    def weigh(text: str) -> int:
        """Return the number of elements in a text, counting numbers that are slow to parse as several."""
        bare = _STRING.sub(" ", text)
        return count_marks(bare) + sum(_weigh_number(found[1], found[2] or "") for found in _NUMBER.finditer(bare))

    def count_marks(text: str) -> int:
        """Count the characters that may begin an element."""
        return text.count(",") + text.count("[") + text.count("{")

    def _weigh_number(digits: str, exponent: str) -> int:
        shown = exponent.lstrip("0")
        size = int(shown or 0) if len(shown) < 4 else 1000
        # Up to here one multiplication of integers finds the nearest float.
        is_extreme = size > 250 or (size > 22 and len(digits) > 20)
        length = min(len(digits), LONGEST) if len(digits) >= LONG else 0
        return length // DIGITS + (EXTREME if is_extreme else 0)


class EnvelopeDialect(Dialect):
    """What both envelope formats have in common."""

    name = "primacron"
    answers = True

    def write_session(self, account: str, session: str) -> OutgoingPacket:
        """Return the event ``session``, with the account and the session id."""
        return self.write_event("session", ({"account": account, "session": session, "recovered": False},))


class JsonDialect(EnvelopeDialect):
    """Envelopes as JSON text."""

    form = Form.JSON

    def __init__(self, max_items: int, encoding: Encoding = ENCODING) -> None:
        self._max_items = max_items
        self._encoding = encoding
        # What Encoding.json does, minus one call per event.
        self._encode: Callable[[Any], bytes] = encoding.encode_json
        # The encoded text before the arguments, by event name: applications use few names, often.
        self._heads: dict[str, bytes] = {}

    def read(self, message: str | bytes, sid: str) -> Request:
        """Decode a JSON envelope; binary messages are refused."""
        if message.__class__ is bytes:
            raise InvalidMessage("binary message: connect with format=msgpack to send binary data")
        if len(message) > self._max_items // SHORTEST:
            check_items(message, self._max_items)  # type: ignore[arg-type]
        try:
            incoming = _DECODER.decode(message)
        except msgspec.ValidationError as error:
            request = _read_other(JSON, message, error)
        except _BROKEN as error:
            raise _undecodable(message, error) from None
        else:
            if incoming.event is not UNSET or incoming.ack is not UNSET:
                return incoming
            request = _read_other(JSON, message, None) if may_ask(message) else None  # type: ignore[arg-type]
        if request is not None:
            return request
        return Incoming("message", msgspec.Raw(b"[" + message.encode() + b"]"))  # type: ignore[union-attr]

    def write_event(self, event: str, args: tuple[Any, ...], call: int | None = None) -> OutgoingPacket:
        """Encode an event as JSON; the part before its arguments is cached."""
        head = self._heads.get(event) or self._new_head(event)
        data = self._encode(args)
        if (len(data) <= SHORT or not is_plain(args)) and has_null(data):
            self._encoding.demand_finite(args)
        if call is None:
            return OutgoingPacket(MESSAGE, head + data + b"}")
        return OutgoingPacket(MESSAGE, b'%b%b,"id":%d}' % (head, data, call))

    def write_message(self, content: Any) -> OutgoingPacket:
        """Encode an object with ``event`` as it is, anything else as the event ``message``."""
        if isinstance(content, dict) and "event" in content:
            return OutgoingPacket(MESSAGE, self._encoding.json(content))
        return super().write_message(content)

    def write_with_origin(self, event: str, args: tuple[Any, ...], origin: Origin) -> OutgoingPacket:
        """Encode an event, with ``origin`` in the envelope."""
        head = self._heads.get(event) or self._new_head(event)
        return OutgoingPacket(
            MESSAGE, b'%b%b,"origin":%b}' % (head, self._encoding.json(args), self._encoding.json(origin))
        )

    def write_answer(self, number: int, args: tuple[Any, ...]) -> OutgoingPacket:
        """Encode an answer as JSON."""
        return OutgoingPacket(MESSAGE, b'{"ack":%d,"args":%b}' % (number, self._encoding.json(args)))

    def write_refusal(self, number: int, error: AnswerError) -> OutgoingPacket:
        """Encode an error answer as JSON."""
        return OutgoingPacket(MESSAGE, b'{"ack":%d,"error":%b}' % (number, self._encode(error)))

    def _new_head(self, event: str) -> bytes:
        if len(self._heads) >= _MAX_HEADS:
            self._heads.clear()
        head = self._heads[event] = b'{"event":' + self._encode(event) + b',"args":'
        return head


class MsgpackDialect(EnvelopeDialect):
    """Envelopes as MessagePack in binary messages, for clients that connect with ``format=msgpack``."""

    form = Form.MSGPACK

    def __init__(self, max_items: int, encoding: Encoding = ENCODING) -> None:
        self._max_items = max_items
        self._encoding = encoding

    def read(self, message: str | bytes, sid: str) -> Request:
        """Decode a MessagePack envelope; text messages are refused."""
        if isinstance(message, str):
            raise InvalidMessage("text message from a client that connected with format=msgpack")
        check_structure(message, self._max_items)
        try:
            incoming = _UNPACKER.decode(message)
        except msgspec.ValidationError as error:
            request = _read_other(MSGPACK, message, error)
        except _BROKEN as error:
            raise _undecodable(message, error) from None
        else:
            if incoming.args is NO_ARGS:
                incoming.args = _NO_PACKED_ARGS
            if incoming.event is not UNSET or incoming.ack is not UNSET:
                return incoming
            request = _read_other(MSGPACK, message, None) if may_ask_packed(message) else None
        if request is not None:
            return request
        return Incoming("message", msgspec.Raw(b"\x91" + message))

    def write_event(self, event: str, args: tuple[Any, ...], call: int | None = None) -> OutgoingPacket:
        """Encode an event as MessagePack."""
        envelope: dict[str, Any] = {"event": event, "args": args}
        if call is not None:
            envelope["id"] = call
        return self._packet(envelope)

    def write_message(self, content: Any) -> OutgoingPacket:
        """Encode an object with ``event`` as it is, anything else as the event ``message``."""
        if isinstance(content, dict) and "event" in content:
            return self._packet(content)
        return super().write_message(content)

    def write_with_origin(self, event: str, args: tuple[Any, ...], origin: Origin) -> OutgoingPacket:
        """Encode an event, with ``origin`` in the envelope."""
        return self._packet({"event": event, "args": args, "origin": origin})

    def write_answer(self, number: int, args: tuple[Any, ...]) -> OutgoingPacket:
        """Encode an answer as MessagePack."""
        return self._packet({"ack": number, "args": args})

    def write_refusal(self, number: int, error: AnswerError) -> OutgoingPacket:
        """Encode an error answer as MessagePack."""
        return self._packet({"ack": number, "error": error})

    def _packet(self, envelope: dict[str, Any]) -> OutgoingPacket:
        return OutgoingPacket(b"", self._encoding.msgpack(envelope), binary=True)


def check_items(text: str, limit: int) -> None:
    """Refuse text with more elements than the limit, as counted by :func:`weigh`, before anything is built from it."""
    if weigh_roughly(text) > limit and weigh(text) > limit:
        raise InvalidMessage(f"more than {limit} elements")


def _read_other(
    objects: ObjectReader, message: str | bytes, error: msgspec.ValidationError | None
) -> ChannelRequest | None:
    """
    Read what is no well-formed event or answer; None if it is the event ``message``.

    ``error`` is why it is not well-formed, if it has such fields at all.
    """
    try:
        fields = objects.fields(message)
        if error is None or not fields.is_envelope:
            return objects.read_request(message, fields)
    except msgspec.ValidationError as not_object:
        raise _invalid_or_undecodable(message, not_object) from None
    except _BROKEN as broken:
        raise _undecodable(message, broken) from None
    invalid = InvalidMessage(str(error))
    invalid.id = objects.number(fields)
    raise invalid


def _undecodable(message: str | bytes, error: Exception) -> MessageError:
    """Return the error for a message that cannot be decoded: malformed, or with lone surrogates."""
    if isinstance(message, bytes):
        return _undecodable_bytes(message, error)
    judged, value = judge_undecodable(message, error)
    if isinstance(value, dict) and "ack" not in value and not REQUESTS.isdisjoint(value):
        with contextlib.suppress(*_BROKEN):  # it may contain a lone surrogate itself
            judged.id = msgspec.convert(value.get("id"), AckId)
    return judged


def _undecodable_bytes(message: bytes, error: Exception) -> MessageError:
    """Return the error for MessagePack: its structure is validated by then, so non-UTF-8 text is an invalid value."""
    if not isinstance(error, UnicodeError):
        return UndecodableMessage(str(error))
    judged = InvalidMessage(f"a text that is not UTF-8: {error}")
    with contextlib.suppress(*_BROKEN):
        judged.id = MSGPACK.number(MSGPACK.fields(message))
    return judged


def _invalid_or_undecodable(message: str | bytes, error: msgspec.ValidationError) -> MessageError:
    """Distinguish a value that is not an object from malformed text that merely begins like one."""
    try:
        if isinstance(message, str):
            msgspec.json.decode(message, type=msgspec.Raw)
    except _BROKEN as broken:
        return _undecodable(message, broken)
    return InvalidMessage(str(error))
