"""Calls to a client that wait for its answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import msgspec

from primacron.content import pack_values
from primacron.errors import CallError, CallRefused, CallTimedOut, SessionGone, SessionUnreachable
from primacron.ids import NodeId


@dataclass(frozen=True, slots=True)
class Answer:
    """What a client answered: values, or a refusal."""

    args: tuple[Any, ...] = ()
    refusal: CallRefused | None = None

    @property
    def value(self) -> Any:
        """None without values, the value if there is one, else all as a tuple."""
        return self.args if len(self.args) > 1 else self.args[0] if self.args else None


class Calls:
    """The open calls of one session, by number; see :class:`FeatureState`."""

    __slots__ = ("_open", "last", "relays")

    name: ClassVar[str] = "calls"

    def __init__(self) -> None:
        #: The number of the last call.
        self.last = -1
        #: Calls that were made on another node before the session moved.
        self.relays: dict[int, NodeId] = {}
        self._open: dict[int, tuple[str, asyncio.Future[Any]]] = {}

    @property
    def waiting(self) -> bool:
        """Whether an answer is awaited."""
        return bool(self._open)

    def open(self, event: str, loop: asyncio.AbstractEventLoop) -> tuple[int, asyncio.Future[Any]]:
        """Return the number of a new call, and the future of its answer."""
        self.last += 1
        answer: asyncio.Future[Any] = loop.create_future()
        self._open[self.last] = event, answer
        return self.last, answer

    def awaits(self, number: int) -> bool:
        """Tell whether somebody waits for this answer."""
        if number in self.relays:
            return True
        _, waiting = self._open.get(number, ("", None))
        return waiting is not None and not waiting.done()

    def forget(self, number: int) -> None:
        """Wait no longer for an answer."""
        self._open.pop(number, None)

    def settle(self, number: int, answer: Answer) -> bool:
        """Hand an answer to who waits for it; False if nobody does."""
        _, waiting = self._open.pop(number, ("", None))
        if waiting is None or waiting.done():
            return False
        if answer.refusal is None:
            waiting.set_result(answer.value)
        else:
            waiting.set_exception(answer.refusal)
        return True

    def fail(self, error: Callable[[str], Exception]) -> None:
        """End all calls; the function makes the error from the name of the event."""
        for event, waiting in self._open.values():
            if not waiting.done():
                waiting.set_exception(error(event))
        self._open.clear()

    def dump(self, node: NodeId, now: float) -> Any:
        """See :meth:`FeatureState.dump`: their answers come back to this node, or to the one that it relays to."""
        return self.last, {**self.relays, **dict.fromkeys(self._open, node)}

    def load(self, packed: msgspec.Raw, now: float) -> None:
        """See :meth:`FeatureState.load`."""
        self.last, self.relays = _DECODER.decode(packed)


_DECODER: Final = msgspec.msgpack.Decoder(tuple[int, dict[int, NodeId]])


def pack_value(value: Any) -> msgspec.Raw:
    """
    Return what a client answered as it travels.

    Raises:
        ValueError: if a number is too large for other servers.

    """
    return pack_values(() if value is None else value if isinstance(value, tuple) else (value,))


def unpack_value(value: msgspec.Raw) -> Any:
    """Read what a client answered."""
    return Answer(tuple(msgspec.msgpack.decode(value, type=list[Any]))).value


def pack_call_error(error: CallError) -> msgspec.Raw:
    """Return a call's error as it travels."""
    if isinstance(error, CallRefused):
        fields = ["refused", error.type, error.message, error.path]
    elif isinstance(error, SessionUnreachable):
        fields = ["unreachable", error.status, "", "certain" if error.certain else ""]
    else:
        fields = ["gone" if isinstance(error, SessionGone) else "timed_out", "", str(error), ""]
    return msgspec.Raw(msgspec.msgpack.encode(fields))


def unpack_call_error(value: msgspec.Raw, event: str, session: str) -> CallError:
    """Read a call's error."""
    kind, type, message, path = msgspec.msgpack.decode(value, type=tuple[str, str, str, str])
    if kind == "refused":
        return CallRefused(type, message, path)
    if kind == "unreachable":
        return SessionUnreachable(session, type, certain=path == "certain")
    return SessionGone(session) if kind == "gone" else CallTimedOut(event, message)
