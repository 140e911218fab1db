"""All sessions and connections of this process, and what a tick of it sends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, TypeVar

from primacron.accounts import AccountMap
from primacron.config import Options
from primacron.content import Content
from primacron.dialects.base import Dialect
from primacron.dialects.encoding import ENCODING
from primacron.entries import Name
from primacron.errors import ForwardFailed, SlowClient, WrongThread
from primacron.ids import NodeId, Sid
from primacron.metrics import Metrics
from primacron.protocol.closing import SLOW, CloseReason
from primacron.protocol.parcels import Parcel
from primacron.receipts import ACCEPTED, Delivery, Receipt, Tick
from primacron.sessions.answers import Answers
from primacron.sessions.calls import Answer, Calls
from primacron.sessions.feature import FeatureState
from primacron.sessions.lifecycle import DELIVERABLE
from primacron.sessions.limits import Limits
from primacron.sessions.recent import Recent
from primacron.sessions.send_keys import SendKeys
from primacron.sessions.unfinished import Unfinished
from primacron.turns import Turns
from primacron.wheel import Wheel

try:
    import cython  # type: ignore[import-untyped, unused-ignore]
except ImportError:  # needed to build, not to run
    from primacron import uncompiled as cython

if TYPE_CHECKING:
    from primacron.sessions.connection import Connection
    from primacron.sessions.session import Session

if not cython.compiled:
    from threading import get_ident

    def is_held_once(_thing: object) -> bool:
        """Tell whether nobody else can have it, where that is known: plain Python makes another one."""
        return False


T = TypeVar("T")

#: Whether a session has sent something (``in``), or gets it.
Direction: TypeAlias = Literal["in", "out"]
#: Sees what a session sends and gets; it must not raise.
Tap: TypeAlias = "Callable[[Session, Content, Direction], None]"


class Receiver(Protocol):
    """Who is told what happens to sessions; none of these may raise."""

    def opened(self, session: Session) -> None:
        """Hear of a new session with its connection; nothing was received from it yet."""

    def message(self, session: Session, message: str | bytes) -> None:
        """Take a message that came in."""

    def closed(self, session: Session, reason: CloseReason) -> None:
        """Hear that a session has ended."""

    def problem(self, error: Exception, **context: Any) -> None:
        """Hear of something that went wrong and that applications may want to know."""


class Router(Protocol):
    """Who sends to sessions that have no connection here."""

    def to_session(
        self, name: Name, content: Content, *, volatile: bool, receipt: bool, key: str | None
    ) -> Delivery[Receipt]:
        """Send to a session, wherever it is."""

    async def call(self, name: Name, event: str, args: tuple[Any, ...], timeout: float | None) -> Any:
        """Send an event to a session, wherever it is, and return what its client answers."""

    def disconnect(self, name: Name, reason: str) -> Delivery[Receipt]:
        """Close the connection of a session, wherever it is."""

    def relay(self, name: Name, node: NodeId, number: int, answer: Answer) -> None:
        """Hand what a client answered to the node where the call was made."""


class Hub:
    """The sessions of a process by account and id, its connections by sid, its wheel and its outgoing tick."""

    if not cython.compiled:
        __slots__ = (
            "_accepted",
            "_blocked",
            "_blocked_bytes",
            "_call_soon",
            "_dirty",
            "_end",
            "_has_told",
            "_is_flushing",
            "_outcomes",
            "_thread",
            "_tick",
            "answers",
            "connections",
            "encoding",
            "kinds",
            "limits",
            "loop",
            "metrics",
            "moving",
            "options",
            "receiver",
            "router",
            "sessions",
            "taps",
            "turns",
            "unfinished",
            "wheel",
        )

    def __init__(self, options: Options, loop: asyncio.AbstractEventLoop, receiver: Receiver, metrics: Metrics) -> None:
        self.options = options
        self.loop = loop
        self.receiver = receiver
        self.metrics = metrics
        self.wheel = Wheel(loop)
        self.limits = Limits(options)
        self.unfinished = Unfinished(options.input_total)
        self.turns = Turns(loop)
        self.connections: dict[Sid, Connection] = {}
        self.sessions: AccountMap[Session] = AccountMap()
        #: What polling clients were answered last.
        self.answers = Answers(options.outbox_total)
        #: Who sees what sessions send and get.
        self.taps: dict[Session, tuple[Tap, ...]] = {}
        #: Those that are about to move, or have just come.
        self.moving: set[Session] = set()
        self.router: Router
        self.encoding = ENCODING
        #: What features keep with sessions, by their names.
        self.kinds: dict[str, type[FeatureState]] = {kind.name: kind for kind in (Calls, SendKeys, Recent)}
        self._dirty: list[Connection] = []
        self._accepted: Delivery[Receipt] | None = None
        # One for all sends of a tick that had the same outcome: a loop that sends a million times must not make them.
        self._outcomes: dict[Any, Delivery[Any]] = {}
        # Deliveries that it made can be asked for until it is over.
        self._tick = Tick()
        # Whether there are others than the accepted one.
        self._has_told = False
        # Whether the end of this tick is scheduled.
        self._is_flushing = False
        # By their own names: each tick needs them.
        self._call_soon = loop.call_soon
        self._end = self.flush
        self._blocked: set[Connection] = set()
        self._blocked_bytes = 0
        self._thread = get_ident()

    # Who is here

    def connection(self, sid: str) -> Connection | None:
        """Return the living connection of a sid; one past its deadline ends now."""
        connection = self.connections.get(Sid(sid))
        if connection is not None and connection.is_overdue(self.loop.time()):
            connection.give_up()
            return None
        return connection

    def live(self, name: Name) -> Session | None:
        """Return a session that is delivered to here: one on its way to another node is not."""
        session = self.sessions.get(*name)
        return session if session is not None and session.state in DELIVERABLE else None

    def add(self, session: Session, connection: Connection) -> Session | None:
        """
        Let a session and its connection be found.

        Of two claims of one session the later has the place. The other one is
        returned, be it the one that was added: whoever calls ends its connection.
        """
        self.connections[connection.sid] = connection
        earlier: Session | None = self.sessions.add(session.account, session)
        if earlier is None or earlier.entry.is_older_than(session.entry):
            return earlier
        self.sessions.add(session.account, earlier)
        return session

    def remove(self, connection: Connection) -> None:
        """Forget a connection of which nothing is kept any more; only now another one may have its place."""
        if self.connections.pop(connection.sid, None) is not None:
            self.limits.leave(connection.session.peer)

    def close(self) -> None:
        """Forget everything."""
        self.wheel.close()
        self.connections.clear()
        self._blocked.clear()

    # What others see of a session

    def tap(self, session: Session, tap: Tap) -> None:
        """Let a function see what a session sends and gets."""
        taps = self.taps.get(session, ())
        if tap not in taps:
            self.taps[session] = (*taps, tap)

    def untap(self, session: Session, tap: Tap) -> None:
        """Let a function see it no longer."""
        left = tuple(each for each in self.taps.get(session, ()) if each != tap)
        if left:
            self.taps[session] = left
        else:
            self.taps.pop(session, None)

    def tell_taps(self, session: Session, content: Content, direction: Direction) -> None:
        """Show what a session has sent, which has passed its validator, or what it gets."""
        for tap in self.taps.get(session, ()):
            tap(session, content, direction)

    # What a tick sends

    def mark(self, connection: Connection) -> None:
        """Let the connection send what it has at the end of this tick."""
        if not self._is_flushing:
            self._flush_later()
        self._dirty.append(connection)

    def accepted(self) -> Delivery[Receipt]:
        """Return the outcome of a send that was accepted in this tick."""
        if not self._is_flushing:
            self._flush_later()
        delivery = self._accepted
        if delivery is None:
            delivery = self._accepted = Delivery(self.loop, self._tick, False)
            delivery.settle(ACCEPTED)
        return delivery

    def delivered(self, outcome: T, *, requested: bool) -> Delivery[T]:
        """Return the outcome of a send, known already."""
        delivery: Delivery[T] | None = None if requested else self._outcomes.get(outcome)
        if delivery is None:
            delivery = self.delivery(requested=requested)
            delivery.settle(outcome)
            if not requested:
                self._outcomes[outcome] = delivery
        return delivery

    def delivery(self, *, requested: bool) -> Delivery[Any]:
        """Return the outcome of a send, not known yet."""
        if not requested and not self._is_flushing:
            self._flush_later()
        self._has_told = True
        return Delivery(self.loop, self._tick, requested)

    def report(self, delivery: Delivery[Receipt], outcome: Receipt, name: Name) -> None:
        """Tell of a send to a session that failed, and of which nobody wants to know."""
        if not delivery.wanted:
            self.receiver.problem(ForwardFailed(outcome.status, f"session {name[0]}/{name[1]}"), key=name)

    def send_each(self, connections: Iterable[Connection], parcels: dict[Dialect, Parcel]) -> int:
        """Send each connection the packet in its dialect; return how many took it."""
        reached = 0
        for connection in connections:
            reached += connection.send(parcels[connection.dialect])
        return reached

    def _flush_later(self) -> None:
        self._is_flushing = True
        self._call_soon(self._end)

    def flush(self) -> None:
        """End the tick: send what it has queued, one write per connection."""
        self._is_flushing = False
        dirty, self._dirty = self._dirty, []
        self._end_deliveries()
        for connection in dirty:
            connection.flush()

    def _end_deliveries(self) -> None:
        """Let nobody ask any more for what this tick has told; a delivery that nobody has kept serves the next one."""
        accepted, self._accepted = self._accepted, None
        if not self._has_told:
            if accepted is None:
                return
            if is_held_once(accepted) and not accepted.wanted:
                self._accepted = accepted
                return
        self._has_told = False
        self._tick.is_over = True
        self._tick = Tick()
        self._outcomes.clear()

    # What waits for slow clients

    def block(self, connection: Connection, size: int) -> None:
        """Count bytes that wait for a client which takes none; close the largest when all are too much."""
        self.count_blocked(connection, size)
        if self._blocked_bytes > self.options.outbox_total:
            self._make_room()

    def count_blocked(self, connection: Connection, size: int) -> None:
        """Count bytes that go on waiting, which there was room for before."""
        self._blocked.add(connection)
        self._blocked_bytes += size

    def _make_room(self) -> None:
        """Close the clients that are furthest behind, in one go and so many that the next ones find room."""
        limit = self.options.outbox_total
        enough = limit - limit // 10
        for connection in sorted(self._blocked, key=lambda each: each.waiting, reverse=True):
            if self._blocked_bytes <= enough:
                break
            if connection not in self._blocked:
                continue  # what its predecessors' listeners did has ended it
            error = SlowClient(self._blocked_bytes, limit)
            # In this order: who hears of the error may send again, and must not be told again.
            connection.end(SLOW)
            self.receiver.problem(error, session=connection.session)

    def is_blocked(self, connection: Connection) -> bool:
        """Tell whether bytes of the connection are counted as waiting."""
        return connection in self._blocked

    def unblock(self, connection: Connection) -> None:
        """Take back what :meth:`block` counted."""
        if connection in self._blocked:
            self._blocked.discard(connection)
            self._blocked_bytes -= connection.waiting

    @property
    def blocked_bytes(self) -> int:
        """Bytes that wait for clients which take none now."""
        return self._blocked_bytes

    def demand_thread(self, method: str) -> None:
        """
        Refuse a call from another thread.

        Raises:
            WrongThread: naming the method.

        """
        if get_ident() != self._thread:
            raise WrongThread(method)
