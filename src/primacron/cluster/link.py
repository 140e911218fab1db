"""Whether this node reaches the others: one table, and what it means for whoever wants something of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from enum import Enum
from typing import Final, ParamSpec, TypeVar

from primacron.cluster.base import BackendUnavailable, CommandRefused
from primacron.errors import PrimacronError

P = ParamSpec("P")
T = TypeVar("T")


class State(Enum):
    """Where the link stands."""

    NEW = "nothing was tried yet"
    UP = "the backend answers, and messages arrive"
    DEAF = "the backend answers, but messages do not arrive"
    AWAY = "the backend does not answer"


class Event(Enum):
    """What can happen to it."""

    PROVEN = "the backend has answered what a node needs of it"
    FAILED = "the backend did not answer in time, or refused to work"
    HEARD = "messages arrive again"
    SILENT = "no message came for too long"


# Every move of the link; docs/topics/cluster draws it.
MOVES: Final[dict[tuple[State, Event], State]] = {
    (State.NEW, Event.PROVEN): State.DEAF,
    (State.NEW, Event.FAILED): State.AWAY,
    (State.DEAF, Event.HEARD): State.UP,
    (State.DEAF, Event.FAILED): State.AWAY,
    (State.UP, Event.SILENT): State.DEAF,
    (State.UP, Event.FAILED): State.AWAY,
    # What is heard of it is known apart: a link that was proven hears, or finds out that it does not.
    (State.AWAY, Event.PROVEN): State.DEAF,
}

#: States in which the backend may be asked.
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
    The state of the link; ``changed`` is called with the state before and the reason.

    Calls to the backend go through :meth:`ask`: while it is away nobody waits for it.
    """

    __slots__ = ("_changed", "is_reachable", "state")

    def __init__(self, changed: Callable[[State, str], None]) -> None:
        self._changed = changed
        self.state = State.NEW
        #: Whether the backend may be asked; looked at for each send.
        self.is_reachable = False

    def step(self, event: Event, why: str = "") -> None:
        """Make a move, if the table has it."""
        before = self.state
        self.state = MOVES.get((before, event), before)
        if self.state is not before:
            self.is_reachable = self.state in REACHABLE
            self._changed(before, why)

    async def ask(self, method: Callable[P, Awaitable[T]], *args: P.args, **keywords: P.kwargs) -> T:
        """
        Call a method of the backend.

        Raises:
            BackendUnavailable: at once while it is away, else if it does not answer.
            CommandRefused: if it answers, but not this; that is no failure of the link.

        """
        if not self.is_reachable:
            raise BackendUnavailable("it is away")
        try:
            return await method(*args, **keywords)
        except CommandRefused:
            raise
        except BackendUnavailable as error:
            self.step(Event.FAILED, str(error))
            raise
