"""What a dialect is, and what it makes of a message."""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Any, ClassVar, Final, Literal, TypeAlias

import msgspec
from msgspec import UNSET, Meta, UnsetType

from primacron.natives import as_native
from primacron.protocol.outgoing import OutgoingPacket

try:
    import cython  # type: ignore[import-untyped, unused-ignore]
except ImportError:  # needed to build, not to run
    from primacron import uncompiled as cython

MAX_ACK: Final = 2**53 - 1
AckId: TypeAlias = Annotated[int, Meta(ge=0, le=MAX_ACK)]

NO_ARGS: Final = msgspec.Raw(b"[]")


class Form(Enum):
    """The encoding in which the arguments of an event arrive."""

    # Enum's own is Python code, and every message needs it.
    __hash__ = object.__hash__

    JSON = "JSON text of an array"
    MSGPACK = "MessagePack of an array"
    VALUE = "a tuple of one str or bytes"


class AnswerError(msgspec.Struct, gc=False):
    """The error form of an answer."""

    type: str = ""
    message: str = ""
    path: str = ""


class Incoming(msgspec.Struct, gc=False):
    """
    A decoded client message: an event, or the answer to a call if ``ack`` is set.

    ``args`` are still undecoded, in the form that the dialect names.
    """

    event: str | UnsetType = UNSET
    args: msgspec.Raw = NO_ARGS
    id: AckId | UnsetType = UNSET
    ack: AckId | UnsetType = UNSET
    error: AnswerError | UnsetType = UNSET


class Origin(msgspec.Struct, frozen=True):
    """The source of an event: a session, and whether it sent (``in``) or received (``out``) the event."""

    account: str
    session: str
    direction: Literal["in", "out"]


class Control:
    """A message of the dialect's own protocol; ``reply`` is sent back to the client, if set."""

    __slots__ = ("reply",)

    event: ClassVar[UnsetType] = UNSET

    def __init__(self, reply: OutgoingPacket | None = None) -> None:
        self.reply = reply


class Dialect:
    """
    Translates between messages and events, for all connections that use it.

    A dialect keeps no per-connection state.
    """

    if not cython.compiled:
        __slots__ = ()

        name: ClassVar[str]
        form: ClassVar[Form]
        #: Whether clients can answer, as ``call`` requires.
        answers: ClassVar[bool]
    #: Whether some events cannot be encoded, so that encoding must be tried even for other servers.
    restricts = False

    def read(self, message: str | bytes, sid: str) -> Incoming | Control:
        """
        Decode a message that arrived on the connection ``sid``.

        Raises:
            UndecodableMessage: if the message cannot be decoded.
            InvalidMessage: if it is not an envelope.

        """
        raise NotImplementedError

    def write_event(self, event: str, args: tuple[Any, ...], call: int | None = None) -> OutgoingPacket:
        """
        Encode an event for a client; ``call`` is the number under which an answer is requested.

        Raises:
            TypeError: if an argument cannot be encoded.
            ValueError: if the dialect cannot express the event.

        """
        raise NotImplementedError

    def write_message(self, content: Any) -> OutgoingPacket:
        """Encode a forwarded message: the event ``message`` with one argument."""
        return self.write_event("message", (content,))

    def write_with_origin(self, event: str, args: tuple[Any, ...], origin: Origin) -> OutgoingPacket:
        """Encode an event with its origin; a dialect without a place for the origin omits it."""
        return self.write_event(event, args)

    def write_answer(self, number: int, args: tuple[Any, ...]) -> OutgoingPacket:
        """Encode the answer to an event that the client sent with this id."""
        raise ValueError(f"the {self.name} dialect has no answers")

    def write_refusal(self, number: int, error: AnswerError) -> OutgoingPacket:
        """Encode an error answer."""
        raise ValueError(f"the {self.name} dialect has no answers")

    def write_session(self, account: str, session: str) -> OutgoingPacket | None:
        """Tell a client that connects with ``resume=1`` who it is; None if the dialect has no message for that."""
        return None

    def write_heartbeat(self, milliseconds: int) -> OutgoingPacket | None:
        """Return what the dialect sends along with each Engine.IO ping, if anything."""
        return None

    def write_goodbye(self) -> OutgoingPacket | None:
        """Return what tells a client not to reconnect, if the dialect has such a message."""
        return None


def to_plain(value: Any) -> Any:
    """Convert what msgspec does not know into what it does; pydantic models are recognised by their method."""
    if isinstance(value, (str, bytes, int, float)):
        return as_native(value)
    dump = getattr(value, "model_dump", None)
    if dump is None:
        raise TypeError(f"cannot encode {type(value).__qualname__} for a client")
    return dump(mode="json")
