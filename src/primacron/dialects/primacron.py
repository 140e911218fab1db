"""
The module's own dialect: envelopes in JSON, or in MessagePack.

Both ways ``{"event": name, "args": [...]}``, with ``"id"`` when an answer is
wanted; answers are ``{"ack": id, "args": [...]}`` or ``{"ack": id, "error":
{...}}``. Any other object from a client is the event ``message``.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from typing import Any, Final

import msgspec
from msgspec import UNSET, UnsetType

from primacron.dialects.base import NO_ARGS, AckId, AnswerError, Dialect, Form, Incoming, Origin
from primacron.dialects.encoding import ENCODING, SHORT, Encoding
from primacron.dialects.halves import judge_undecodable
from primacron.dialects.msgpack import check_structure
from primacron.errors import InvalidMessage, MessageError, UndecodableMessage
from primacron.protocol.parcels import MESSAGE, Parcel

try:
    import cython  # type: ignore[import-untyped, unused-ignore]
except ImportError:  # needed to build, not to run
    from primacron import uncompiled as cython

_DECODER: Final = msgspec.json.Decoder(Incoming)
_FIELDS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ID: Final = msgspec.json.Decoder(AckId)
_UNPACKER: Final = msgspec.msgpack.Decoder(Incoming)
_PACKED_FIELDS: Final = msgspec.msgpack.Decoder(dict[str, msgspec.Raw])
_PACKED_ID: Final = msgspec.msgpack.Decoder(AckId)
_NO_PACKED_ARGS: Final = msgspec.Raw(b"\x90")


class _Asking(msgspec.Struct, gc=False):
    """An event that wants an answer, whatever its texts are."""

    event: msgspec.Raw
    id: AckId
    ack: msgspec.Raw | UnsetType = UNSET


_ASKING: Final = msgspec.msgpack.Decoder(_Asking)

#: Elements for which a number counts that msgspec reads digit by digit: about eight microseconds instead of 0.02.
EXTREME: Final = 32
#: Digits of a long number that count for one element more: to convert them takes the square of their count.
DIGITS: Final = 16
LONG: Final = 128
#: Digits from which Python refuses to convert an integer, so that more of them cost nothing.
LONGEST: Final = 4_300
#: Of a message with fewer characters than elements are allowed, divided by this, nothing can weigh too much: the
#: shortest extreme number has five, and a comma.
SHORTEST: Final = 8
# One that does not end is taken to the end of the text, so that a text is gone through once, whatever it holds.
_STRING: Final = re.compile(r'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)', re.DOTALL)
_BROKEN: Final = (msgspec.DecodeError, RecursionError, UnicodeError)

_MAX_HEADS: Final = 4096

if not cython.compiled:
    from primacron.dialects.encoding import has_null, is_plain

    _SUSPECT: Final = re.compile(r"[0-9][eE][-+0-9]|[0-9]{16}")
    _NUMBER: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)(?:[eE][-+]?([0-9]+))?")

    def weigh_roughly(text: str) -> int:
        """Return at least as much as :func:`weigh`, and sooner: what stands in strings counts as well."""
        return count_marks(text) + EXTREME * sum(1 for _ in _SUSPECT.finditer(text))

    def weigh(text: str) -> int:
        """Return how many elements a text has, where numbers that take long to read count as several."""
        bare = _STRING.sub(" ", text)
        return count_marks(bare) + sum(_weigh_number(found[1], found[2] or "") for found in _NUMBER.finditer(bare))

    def count_marks(text: str) -> int:
        """Return how many characters may begin an element."""
        return text.count(",") + text.count("[") + text.count("{")

    def _weigh_number(digits: str, exponent: str) -> int:
        shown = exponent.lstrip("0")
        size = int(shown or 0) if len(shown) < 4 else 1000
        # Up to here a product of two integers tells which float is nearest.
        is_extreme = size > 250 or (size > 22 and len(digits) > 20)
        length = min(len(digits), LONGEST) if len(digits) >= LONG else 0
        return length // DIGITS + (EXTREME if is_extreme else 0)


class EnvelopeDialect(Dialect):
    """What both forms of envelopes have in common."""

    name = "primacron"
    answers = True

    def write_session(self, account: str, session: str) -> Parcel:
        """Return the event ``session``; see :meth:`Dialect.write_session`."""
        return self.write_event("session", ({"account": account, "session": session, "recovered": False},))


class JsonDialect(EnvelopeDialect):
    """Envelopes as JSON text."""

    form = Form.JSON

    def __init__(self, max_items: int, encoding: Encoding = ENCODING) -> None:
        self._max_items = max_items
        self._encoding = encoding
        # What Encoding.json does, with a call less for each event.
        self._encode: Callable[[Any], bytes] = encoding.encode_json
        # What stands before the arguments, by event name: applications use few names, often.
        self._heads: dict[str, bytes] = {}

    def read(self, message: str | bytes, sid: str) -> Incoming:
        """See :meth:`Dialect.read`."""
        if message.__class__ is bytes:
            raise InvalidMessage("binary message: connect with format=msgpack to send binary data")
        if len(message) > self._max_items // SHORTEST:
            check_items(message, self._max_items)  # type: ignore[arg-type]
        try:
            incoming = _DECODER.decode(message)
        except msgspec.ValidationError as error:
            _demand_other_object(_FIELDS, _ID, message, error)
        except _BROKEN as error:
            raise _undecodable(message, error) from None
        else:
            if incoming.event is not UNSET or incoming.ack is not UNSET:
                return incoming
        return Incoming("message", msgspec.Raw(b"[" + message.encode() + b"]"))  # type: ignore[union-attr]

    def write_event(self, event: str, args: tuple[Any, ...], call: int | None = None) -> Parcel:
        """See :meth:`Dialect.write_event`."""
        head = self._heads.get(event) or self._new_head(event)
        data = self._encode(args)
        if (len(data) <= SHORT or not is_plain(args)) and has_null(data):
            self._encoding.demand_finite(args)
        if call is None:
            return Parcel(MESSAGE, head + data + b"}")
        return Parcel(MESSAGE, b'%b%b,"id":%d}' % (head, data, call))

    def write_message(self, content: Any) -> Parcel:
        """Return an object with ``event`` as it is; see :meth:`Dialect.write_message`."""
        if isinstance(content, dict) and "event" in content:
            return Parcel(MESSAGE, self._encoding.json(content))
        return super().write_message(content)

    def write_with_origin(self, event: str, args: tuple[Any, ...], origin: Origin) -> Parcel:
        """See :meth:`Dialect.write_with_origin`."""
        head = self._heads.get(event) or self._new_head(event)
        return Parcel(MESSAGE, b'%b%b,"origin":%b}' % (head, self._encoding.json(args), self._encoding.json(origin)))

    def write_answer(self, number: int, args: tuple[Any, ...]) -> Parcel:
        """See :meth:`Dialect.write_answer`."""
        return Parcel(MESSAGE, b'{"ack":%d,"args":%b}' % (number, self._encoding.json(args)))

    def write_refusal(self, number: int, error: AnswerError) -> Parcel:
        """See :meth:`Dialect.write_refusal`."""
        return Parcel(MESSAGE, b'{"ack":%d,"error":%b}' % (number, self._encode(error)))

    def _new_head(self, event: str) -> bytes:
        if len(self._heads) >= _MAX_HEADS:
            self._heads.clear()
        head = self._heads[event] = b'{"event":' + self._encode(event) + b',"args":'
        return head


class MsgpackDialect(EnvelopeDialect):
    """Envelopes as MessagePack in binary messages (a client that connects with ``format=msgpack``)."""

    form = Form.MSGPACK

    def __init__(self, max_items: int, encoding: Encoding = ENCODING) -> None:
        self._max_items = max_items
        self._encoding = encoding

    def read(self, message: str | bytes, sid: str) -> Incoming:
        """See :meth:`Dialect.read`."""
        if isinstance(message, str):
            raise InvalidMessage("text message from a client that connected with format=msgpack")
        check_structure(message, self._max_items)
        try:
            incoming = _UNPACKER.decode(message)
        except msgspec.ValidationError as error:
            _demand_other_object(_PACKED_FIELDS, _PACKED_ID, message, error)
        except _BROKEN as error:
            raise _undecodable(message, error) from None
        else:
            if incoming.args is NO_ARGS:
                incoming.args = _NO_PACKED_ARGS
            if incoming.event is not UNSET or incoming.ack is not UNSET:
                return incoming
        return Incoming("message", msgspec.Raw(b"\x91" + message))

    def write_event(self, event: str, args: tuple[Any, ...], call: int | None = None) -> Parcel:
        """See :meth:`Dialect.write_event`."""
        envelope: dict[str, Any] = {"event": event, "args": args}
        if call is not None:
            envelope["id"] = call
        return self._parcel(envelope)

    def write_message(self, content: Any) -> Parcel:
        """Return an object with ``event`` as it is; see :meth:`Dialect.write_message`."""
        if isinstance(content, dict) and "event" in content:
            return self._parcel(content)
        return super().write_message(content)

    def write_with_origin(self, event: str, args: tuple[Any, ...], origin: Origin) -> Parcel:
        """See :meth:`Dialect.write_with_origin`."""
        return self._parcel({"event": event, "args": args, "origin": origin})

    def write_answer(self, number: int, args: tuple[Any, ...]) -> Parcel:
        """See :meth:`Dialect.write_answer`."""
        return self._parcel({"ack": number, "args": args})

    def write_refusal(self, number: int, error: AnswerError) -> Parcel:
        """See :meth:`Dialect.write_refusal`."""
        return self._parcel({"ack": number, "error": error})

    def _parcel(self, envelope: dict[str, Any]) -> Parcel:
        return Parcel(b"", self._encoding.msgpack(envelope), binary=True)


def check_items(text: str, limit: int) -> None:
    """Refuse text with more elements than the limit, before anything is built from it; see :func:`weigh`."""
    if weigh_roughly(text) > limit and weigh(text) > limit:
        raise InvalidMessage(f"more than {limit} elements")


def _demand_other_object(decoder: Any, id_decoder: Any, message: str | bytes, error: msgspec.ValidationError) -> None:
    """Return when the message is an object without ``event`` and ``ack``: it is no envelope and need not be one."""
    try:
        fields = decoder.decode(message)
    except msgspec.ValidationError:
        raise _invalid_or_undecodable(message, error) from None
    except _BROKEN as broken:
        raise _undecodable(message, broken) from None
    if "event" in fields or "ack" in fields:
        invalid = InvalidMessage(str(error))
        if "id" in fields and "ack" not in fields:
            with contextlib.suppress(msgspec.ValidationError):
                invalid.id = id_decoder.decode(fields["id"])
        raise invalid


def _undecodable(message: str | bytes, error: Exception) -> MessageError:
    """Return what is wrong with a message that cannot be decoded: its form, or texts that cannot be written again."""
    if isinstance(message, bytes):
        return _undecodable_bytes(message, error)
    judged, value = judge_undecodable(message, error)
    if isinstance(value, dict) and "event" in value and "ack" not in value:
        with contextlib.suppress(*_BROKEN):  # it may be half a pair itself
            judged.id = msgspec.convert(value.get("id"), AckId)
    return judged


def _undecodable_bytes(message: bytes, error: Exception) -> MessageError:
    """See above: of MessagePack the form was checked before, so that a text which is not UTF-8 is a wrong value."""
    if not isinstance(error, UnicodeError):
        return UndecodableMessage(str(error))
    judged = InvalidMessage(f"a text that is not UTF-8: {error}")
    with contextlib.suppress(*_BROKEN):
        asking = _ASKING.decode(message)
        if asking.ack is UNSET:
            judged.id = asking.id
    return judged


def _invalid_or_undecodable(message: str | bytes, error: msgspec.ValidationError) -> MessageError:
    """Tell a value that is no object from text that only began like one."""
    try:
        if isinstance(message, str):
            msgspec.json.decode(message, type=msgspec.Raw)
    except _BROKEN as broken:
        return _undecodable(message, broken)
    return InvalidMessage(str(error))
