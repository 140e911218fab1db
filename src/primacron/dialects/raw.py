"""The raw dialect: each text or binary message is the event ``message`` with one argument."""

from __future__ import annotations

from typing import Any, Final

from primacron.dialects.base import Dialect, Form, Incoming, Origin
from primacron.dialects.encoding import ENCODING, Encoding
from primacron.natives import as_native
from primacron.protocol.outgoing import MESSAGE, OutgoingPacket
from primacron.protocol.payload import SEPARATOR

_ONE: Final = "a raw message takes one argument, a str or bytes"


class RawDialect(Dialect):
    """
    Messages as they are, both ways.

    ``separated`` tells that some clients may poll with protocol 4, which has no
    way to escape its record separator.
    """

    name = "raw"
    form = Form.VALUE
    answers = False
    restricts = True

    def __init__(self, encoding: Encoding = ENCODING, *, separated: bool = True) -> None:
        self._encoding = encoding
        self._separated = separated

    def read(self, message: str | bytes, sid: str) -> Incoming:
        """Return the message as the only argument of the event ``message``."""
        return Incoming("message", (message,))  # type: ignore[arg-type]

    def write_event(self, event: str, args: tuple[Any, ...], call: int | None = None) -> OutgoingPacket:
        """Encode the argument of the event ``message``; this dialect has no other events."""
        if event != "message" or call is not None:
            raise ValueError(f"event {event!r}: the raw dialect has only 'message', without an answer")
        if len(args) != 1:
            raise TypeError(_ONE)
        return self._packet(args[0])

    def write_with_origin(self, event: str, args: tuple[Any, ...], origin: Origin) -> OutgoingPacket:
        """Encode the event's argument alone; there is no place for the origin."""
        return self.write_message(args[0]) if event == "message" and len(args) == 1 else self.write_event(event, args)

    def write_message(self, content: Any) -> OutgoingPacket:
        """Return text and bytes as they are, any other value as JSON."""
        return self._packet(content if isinstance(content, (str, bytes)) else self._encoding.json(content).decode())

    def _packet(self, content: Any) -> OutgoingPacket:
        kind = content.__class__
        if kind is not str and kind is not bytes:
            if not isinstance(content, (str, bytes)):
                raise TypeError(_ONE)
            content = as_native(content)
        if content.__class__ is bytes:
            return OutgoingPacket(b"", content, binary=True)
        # The polling response would be split there, and the client would take the rest for packets of the server.
        if self._separated and SEPARATOR in content:
            raise ValueError("a raw text with U+001E, which separates packets for clients that poll: send it as bytes")
        return OutgoingPacket(MESSAGE, content.encode())
