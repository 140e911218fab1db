"""
How an object from a client is read: as ``ack``, else as ``event``, else as ``join``, else as ``leave``.

Answers and events, nearly all messages, are decoded at once; this is for the others.
"""

from __future__ import annotations

import contextlib
from typing import Any, Final

import msgspec
from msgspec import UNSET, UnsetType

from primacron.dialects.base import AckId, ChannelRequest, Joining, Leaving, split_path
from primacron.errors import ValidationFailed

#: The fields of a request, which has an answer if it has an ``id``.
REQUESTS: Final = frozenset({"event", "join", "leave"})


class Fields(msgspec.Struct, gc=False):
    """The fields that decide how an object is read, undecoded."""

    ack: msgspec.Raw | UnsetType = UNSET
    event: msgspec.Raw | UnsetType = UNSET
    join: msgspec.Raw | UnsetType = UNSET
    leave: msgspec.Raw | UnsetType = UNSET
    id: msgspec.Raw | UnsetType = UNSET

    @property
    def is_envelope(self) -> bool:
        """Whether it is an event or an answer, well-formed or not."""
        return self.event is not UNSET or self.ack is not UNSET

    @property
    def is_request(self) -> bool:
        """Whether an error is answered, if there is an ``id``."""
        if self.ack is not UNSET:
            return False
        return self.event is not UNSET or self.join is not UNSET or self.leave is not UNSET


class ObjectReader:
    """Reads objects in one format; ``decoder`` is msgspec's class."""

    __slots__ = ("_id", "_joining", "_leaving", "fields")

    def __init__(self, decoder: Any) -> None:
        #: Decodes the fields that decide; raises msgspec's errors.
        self.fields = decoder(Fields).decode
        self._id = decoder(AckId).decode
        self._joining = decoder(Joining).decode
        self._leaving = decoder(Leaving).decode

    def number(self, fields: Fields) -> int | None:
        """Return the number under which a request wants its answer; None if it has none, or no valid one."""
        if fields.id is not UNSET and fields.is_request:
            with contextlib.suppress(msgspec.ValidationError):
                number: int = self._id(fields.id)
                return number
        return None

    def read_request(self, message: str | bytes, fields: Fields) -> ChannelRequest | None:
        """
        Read an object that is no envelope as a request for a channel; None if it is the event ``message``.

        Raises:
            ValidationFailed: if a field is malformed.
            msgspec.DecodeError, RecursionError, UnicodeError: if one cannot be decoded.

        """
        if fields.join is UNSET and fields.leave is UNSET:
            return None
        number = self.number(fields)
        if number is None:
            return None
        try:
            return self._read(message, fields)
        except msgspec.ValidationError as error:
            refused = ValidationFailed(*split_path(error))
        except ValidationFailed as error:
            refused = error
        refused.id = number
        raise refused

    def _read(self, message: str | bytes, fields: Fields) -> ChannelRequest:
        if fields.join is UNSET:
            leaving: Leaving = self._leaving(message)
            return leaving
        joining: Joining = self._joining(message)
        if joining.since is not UNSET and joining.last is not UNSET:
            raise ValidationFailed("expected either `since` or `last`", "$.last")
        return joining


JSON: Final = ObjectReader(msgspec.json.Decoder)
MSGPACK: Final = ObjectReader(msgspec.msgpack.Decoder)


def may_ask(text: str) -> bool:
    """Tell whether a JSON text may have a key ``join`` or ``leave``, possibly written with escapes."""
    return '"join"' in text or '"leave"' in text or "\\" in text


def may_ask_packed(data: bytes) -> bool:
    """Tell whether MessagePack data may have a key ``join`` or ``leave``."""
    # `in` first tries the bytes as an integer, and raises an error internally.
    return data.find(b"join") >= 0 or data.find(b"leave") >= 0
