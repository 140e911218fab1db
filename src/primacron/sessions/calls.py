"""Pending calls to a client."""

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
    """A client's answer: values, or a refusal."""

    args: tuple[Any, ...] = ()
    refusal: CallRefused | None = None

    @property
    def value(self) -> Any:
        """None for no values, the value itself for one, a tuple for several."""
        return self.args if len(self.args) > 1 else self.args[0] if self.args else None


class Calls:
    """The pending calls of one session, by number, as a :class:`FeatureState`."""

    __slots__ = ("_open", "last", "relays")

    name: ClassVar[str] = "calls"

    def __init__(self) -> None:
        #: Number of the most recent call; -1 before the first.
        self.last = -1
        #: Calls made on other nodes before the session moved: the node to which each answer is relayed.
        self.relays: dict[int, NodeId] = {}
        self._open: dict[int, tuple[str, asyncio.Future[Any]]] = {}

    @property
    def waiting(self) -> bool:
        """Whether a call made on this node is pending."""
        return bool(self._open)

    def open(self, event: str, loop: asyncio.AbstractEventLoop) -> tuple[int, asyncio.Future[Any]]:
        """Register a call; return its number and the future of its answer."""
        self.last += 1
        answer: asyncio.Future[Any] = loop.create_future()
        self._open[self.last] = event, answer
        return self.last, answer

    def awaits(self, number: int) -> bool:
        """Tell whether an answer with this number is expected, on this node or another."""
        if number in self.relays:
            return True
        _, waiting = self._open.get(number, ("", None))
        return waiting is not None and not waiting.done()

    def forget(self, number: int) -> None:
        """Discard a call, so that its answer is no longer expected."""
        self._open.pop(number, None)

    def settle(self, number: int, answer: Answer) -> bool:
        """Resolve a call with its answer; return False if the call is not pending."""
        _, waiting = self._open.pop(number, ("", None))
        if waiting is None or waiting.done():
            return False
        if answer.refusal is None:
            waiting.set_result(answer.value)
        else:
            waiting.set_exception(answer.refusal)
        return True

    def fail(self, error: Callable[[str], Exception]) -> None:
        """Fail all pending calls; ``error`` makes the exception from the event's name."""
        for event, waiting in self._open.values():
            if not waiting.done():
                waiting.set_exception(error(event))
        self._open.clear()

    def dump(self, node: NodeId, now: float) -> Any:
        """Pack the numbering and, for each pending call, the node to which its answer is to be relayed."""
        return self.last, {**self.relays, **dict.fromkeys(self._open, node)}

    def load(self, packed: msgspec.Raw, now: float) -> None:
        """Restore the numbering and the relays from another node's snapshot."""
        self.last, self.relays = _DECODER.decode(packed)


_DECODER: Final = msgspec.msgpack.Decoder(tuple[int, dict[int, NodeId]])


def pack_value(value: Any) -> msgspec.Raw:
    """
    Encode a client's answer for another node.

    Raises:
        ValueError: if a number is too large for other servers.

    """
    return pack_values(() if value is None else value if isinstance(value, tuple) else (value,))


def unpack_value(value: msgspec.Raw) -> Any:
    """Decode a client's answer from another node."""
    return Answer(tuple(msgspec.msgpack.decode(value, type=list[Any]))).value


def pack_call_error(error: CallError) -> msgspec.Raw:
    """Encode the error of a call for another node."""
    if isinstance(error, CallRefused):
        fields = ["refused", error.type, error.message, error.path]
    elif isinstance(error, SessionUnreachable):
        fields = ["unreachable", error.status, "", "certain" if error.certain else ""]
    else:
        fields = ["gone" if isinstance(error, SessionGone) else "timed_out", "", str(error), ""]
    return msgspec.Raw(msgspec.msgpack.encode(fields))


def unpack_call_error(value: msgspec.Raw, event: str, session: str) -> CallError:
    """Decode the error of a call from another node."""
    kind, type, message, path = msgspec.msgpack.decode(value, type=tuple[str, str, str, str])
    if kind == "refused":
        return CallRefused(type, message, path)
    if kind == "unreachable":
        return SessionUnreachable(session, type, certain=path == "certain")
    return SessionGone(session) if kind == "gone" else CallTimedOut(event, message)
