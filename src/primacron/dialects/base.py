"""What a dialect is, and what it makes of a message."""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Any, ClassVar, Final, Literal, TypeAlias

import msgspec
from msgspec import UNSET, Meta, UnsetType

from primacron.natives import as_native
from primacron.protocol.parcels import Parcel

try:
    import cython  # type: ignore[import-untyped, unused-ignore]
except ImportError:  # needed to build, not to run
    from primacron import uncompiled as cython

MAX_ACK: Final = 2**53 - 1
AckId: TypeAlias = Annotated[int, Meta(ge=0, le=MAX_ACK)]

NO_ARGS: Final = msgspec.Raw(b"[]")


class Form(Enum):
    """In which form the arguments of an event arrive."""

    # That of Enum is Python code, and each message asks for it.
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
    What a client sent: an event, or (when ``ack`` is set) the answer to a call.

    ``args`` are still undecoded, in the form that the dialect names.
    """

    event: str | UnsetType = UNSET
    args: msgspec.Raw = NO_ARGS
    id: AckId | UnsetType = UNSET
    ack: AckId | UnsetType = UNSET
    error: AnswerError | UnsetType = UNSET


class Origin(msgspec.Struct, frozen=True):
    """Where an event comes from: a session, and whether that sent it (``in``) or got it (``out``)."""

    account: str
    session: str
    direction: Literal["in", "out"]


class Control:
    """A message of the dialect's own protocol; ``reply`` goes back to the client, if there is one."""

    __slots__ = ("reply",)

    event: ClassVar[UnsetType] = UNSET

    def __init__(self, reply: Parcel | None = None) -> None:
        self.reply = reply


class Dialect:
    """
    Translates between messages and events, for all connections that speak it.

    A dialect keeps no state of a connection.
    """

    if not cython.compiled:
        __slots__ = ()

        name: ClassVar[str]
        form: ClassVar[Form]
        #: Whether clients can answer, so that ``call`` works.
        answers: ClassVar[bool]
    #: Whether some events cannot be written, so that even one for other servers has to be tried first.
    restricts = False

    def read(self, message: str | bytes, sid: str) -> Incoming | Control:
        """
        Return what a client sent on the connection ``sid``.

        Raises:
            UndecodableMessage: if the message cannot be decoded.
            InvalidMessage: if it is no envelope.

        """
        raise NotImplementedError

    def write_event(self, event: str, args: tuple[Any, ...], call: int | None = None) -> Parcel:
        """
        Return an event for a client; ``call`` asks it for an answer of that number.

        Raises:
            TypeError: if an argument cannot be encoded.
            ValueError: if the dialect has no such event.

        """
        raise NotImplementedError

    def write_message(self, content: Any) -> Parcel:
        """Return a forwarded message for a client: the event ``message`` with one argument."""
        return self.write_event("message", (content,))

    def write_with_origin(self, event: str, args: tuple[Any, ...], origin: Origin) -> Parcel:
        """Return an event with its origin, which is left out where there is no place for it."""
        return self.write_event(event, args)

    def write_answer(self, number: int, args: tuple[Any, ...]) -> Parcel:
        """Return the answer to an event that the client sent with this id."""
        raise ValueError(f"the {self.name} dialect has no answers")

    def write_refusal(self, number: int, error: AnswerError) -> Parcel:
        """Return the error form of an answer."""
        raise ValueError(f"the {self.name} dialect has no answers")

    def write_session(self, account: str, session: str) -> Parcel | None:
        """Return what tells a client that connects with ``resume=1`` who it is, if the dialect has words for it."""
        return None

    def write_heartbeat(self, milliseconds: int) -> Parcel | None:
        """Return what the dialect sends beside each Engine.IO ping, if anything."""
        return None

    def write_goodbye(self) -> Parcel | None:
        """Return what tells a client that the end is final and it should not connect again, if anything does."""
        return None


def to_plain(value: Any) -> Any:
    """Turn what msgspec does not know into what it does; pydantic models are known by their method."""
    if isinstance(value, (str, bytes, int, float)):
        return as_native(value)
    dump = getattr(value, "model_dump", None)
    if dump is None:
        raise TypeError(f"cannot encode {type(value).__qualname__} for a client")
    return dump(mode="json")
