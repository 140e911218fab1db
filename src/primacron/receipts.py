"""The outcome of a send."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextvars import Context
from dataclasses import dataclass
from typing import Any, Final, Self, TypeVar

from primacron.contexts import own_current_context
from primacron.errors import ReceiptNotRequested
from primacron.positions import Position

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Receipt:
    """
    The outcome of a send to one session.

    ``status`` is ``accepted`` (queued on the session's connection), ``acknowledged``
    (the client answered), ``unknown_session``, ``refused`` (too large, over a limit, or
    not possible in the client's dialect), ``unsent`` (the link to the session's server
    is down, or nobody listens there), ``node_gone`` (that server died) or
    ``timed_out``. ``certain`` tells whether the status is known for sure; any certain
    status but the first two means that the message did not arrive and never will. It
    describes this send alone: an earlier one with the same key may have arrived.
    """

    status: str
    certain: bool = True

    @property
    def ok(self) -> bool:
        """Whether the message got through, going by the status."""
        return self.status in ("accepted", "acknowledged")


@dataclass(frozen=True, slots=True)
class Reach:
    """
    The outcome of a send to many: how many nodes answered, and how many sessions they reached.

    If ``certain``, the counts are exact. It is False if ``missing`` nodes should have
    answered but did not, if a session was in transit between nodes, or if some nodes may
    be unknown, as right after an outage.

    In a channel with history a message is stored, and each member gets it from there, now
    or on its return: the counts are of this server alone, and ``position`` tells where
    the message is. Without one, ``status`` tells why: ``unsent`` (the backend was away;
    certain: nobody gets it) or ``timed_out`` (there was no answer; not certain: repeat it
    with the same ``key``).
    """

    nodes: int
    sessions: int
    certain: bool = True
    missing: int = 0
    position: Position | None = None
    status: str = "accepted"


ACCEPTED: Final = Receipt("accepted")
UNKNOWN_SESSION: Final = Receipt("unknown_session")
UNSENT: Final = Receipt("unsent")
REFUSED: Final = Receipt("refused")
#: The lease of the session's server had expired before anything was published.
NODE_GONE: Final = Receipt("node_gone")
#: The lease expired while the answer was pending.
NODE_LOST: Final = Receipt("node_gone", certain=False)
TIMED_OUT: Final = Receipt("timed_out", certain=False)


class Tick:
    """A turn of the event loop, shared by everything sent in it."""

    __slots__ = ("is_over",)

    def __init__(self) -> None:
        self.is_over = False


class Delivery(asyncio.Future[T]):
    """
    The future outcome of a send.

    It must be awaited, or given a callback, in the tick of the event loop that
    created it; later only if the send requested its receipt.
    """

    # A send that nobody awaits must cost nothing, so one object may stand for all accepted sends of a tick.

    __slots__ = ("_tick", "wanted")

    def __init__(self, loop: asyncio.AbstractEventLoop, tick: Tick, requested: bool) -> None:
        super().__init__(loop=loop)
        #: Whether anybody wants the outcome.
        self.wanted = requested
        self._tick = tick

    def settle(self, outcome: T) -> None:
        """Set the outcome, unless it is already set."""
        if not self.done():
            super().set_result(outcome)

    def _touch(self) -> None:
        if not self.wanted:
            if self._tick.is_over:
                raise ReceiptNotRequested
            self.wanted = True

    def add_done_callback(self, fn: Callable[[Self], object], /, *, context: Context | None = None) -> None:
        """Call a function with this future once the outcome is known."""
        self._touch()
        super().add_done_callback(fn, context=own_current_context() if context is None else context)

    def result(self) -> T:
        """Return the outcome."""
        self._touch()
        return super().result()

    def exception(self) -> BaseException | None:
        """Return the exception that kept the outcome from being known."""
        self._touch()
        return super().exception()

    def __await__(self) -> Generator[Any, None, T]:
        self._touch()
        return super().__await__()

    __iter__ = __await__
