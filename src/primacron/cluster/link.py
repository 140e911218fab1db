"""The link to the other nodes: a state machine, and backend calls that fail fast while it is down."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from enum import Enum
from typing import Final, ParamSpec, TypeVar

from primacron.cluster.errors import BackendUnavailable, CommandRefused, NothingDone
from primacron.errors import PrimacronError

P = ParamSpec("P")
T = TypeVar("T")


class State(Enum):
    """States of the link."""

    NEW = "nothing was tried yet"
    UP = "the backend answers, and messages arrive"
    DEAF = "the backend answers, but messages do not arrive"
    AWAY = "the backend does not answer"


class Event(Enum):
    """Events that change the state."""

    PROVEN = "the backend has answered what a node needs of it"
    FAILED = "the backend did not answer in time, or refused to work"
    HEARD = "messages arrive again"
    SILENT = "no message came for too long"


# Every transition of the link; docs/topics/cluster draws it.
MOVES: Final[dict[tuple[State, Event], State]] = {
    (State.NEW, Event.PROVEN): State.DEAF,
    (State.NEW, Event.FAILED): State.AWAY,
    (State.DEAF, Event.HEARD): State.UP,
    (State.DEAF, Event.FAILED): State.AWAY,
    (State.UP, Event.SILENT): State.DEAF,
    (State.UP, Event.FAILED): State.AWAY,
    # Whether messages arrive is tracked separately: HEARD follows if they do.
    (State.AWAY, Event.PROVEN): State.DEAF,
}

#: States in which the backend may be queried.
REACHABLE: Final = frozenset({State.UP, State.DEAF})


class LinkLost(PrimacronError):
    """The link to the other servers went down."""

    event = "error::bus"

    def __init__(self, why: str) -> None:
        super().__init__(f"the link to the other servers is down: {why}")


class LinkBack(PrimacronError):
    """The link to the other servers came back."""

    event = "error::bus"

    def __init__(self, seconds: float) -> None:
        super().__init__(f"the link to the other servers is back after {seconds:.1f} s")
        self.seconds = seconds


class Link:
    """
    The state of the link; ``changed`` is called with the previous state and the reason.

    Calls to the backend go through :meth:`ask`, which fails fast while the backend is away.
    """

    __slots__ = ("_changed", "is_reachable", "state")

    def __init__(self, changed: Callable[[State, str], None]) -> None:
        self._changed = changed
        self.state = State.NEW
        #: Whether the backend may be queried; checked on every send.
        self.is_reachable = False

    def step(self, event: Event, why: str = "") -> None:
        """Apply an event; one that the table does not have is ignored."""
        before = self.state
        self.state = MOVES.get((before, event), before)
        if self.state is not before:
            self.is_reachable = self.state in REACHABLE
            self._changed(before, why)

    async def ask(self, method: Callable[P, Awaitable[T]], *args: P.args, **keywords: P.kwargs) -> T:
        """
        Call a method of the backend.

        Raises:
            NothingDone: immediately while it is away.
            BackendUnavailable: if it does not answer.
            CommandRefused: if it rejects this call; that is not a failure of the link.

        """
        if not self.is_reachable:
            raise NothingDone("it is away")
        try:
            return await method(*args, **keywords)
        except BackendUnavailable as error:
            self.failed(error)
            raise

    def failed(self, error: BackendUnavailable) -> None:
        """Take a failure of the backend; that of one command alone is none of the link."""
        if not isinstance(error, CommandRefused):
            self.step(Event.FAILED, str(error))
