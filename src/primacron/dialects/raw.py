"""The raw dialect: each text or binary message is the event ``message`` with one argument."""

from __future__ import annotations

from typing import Any

from primacron.dialects.base import Dialect, Form, Incoming
from primacron.dialects.primacron import ENCODER
from primacron.protocol.parcels import Parcel


class RawDialect(Dialect):
    """Messages as they are, both ways."""

    name = "raw"
    form = Form.VALUE
    answers = False
    restricts = True

    def read(self, message: str | bytes, sid: str) -> Incoming:
        """See :meth:`Dialect.read`."""
        return Incoming("message", (message,))  # type: ignore[arg-type]

    def write_event(self, event: str, args: tuple[Any, ...], call: int | None = None) -> Parcel:
        """Return the message of the event ``message``; see :meth:`Dialect.write_event`."""
        if event != "message" or call is not None:
            raise ValueError(f"event {event!r}: the raw dialect has only 'message', without an answer")
        if len(args) != 1 or not isinstance(args[0], str | bytes):
            raise TypeError("a raw message takes one argument, a str or bytes")
        return Parcel.message(args[0])

    def write_message(self, content: Any) -> Parcel:
        """Return text and bytes as they are, any other value as JSON."""
        return Parcel.message(content if isinstance(content, str | bytes) else ENCODER.encode(content).decode())
