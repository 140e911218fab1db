"""The session, as handlers see it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final, Literal, Protocol, TypeAlias, TypeVar, get_origin

import msgspec

from primacron.accounts import AccountMap
from primacron.config import Options
from primacron.content import Content, Event
from primacron.contexts import call_in, own_current_context
from primacron.entries import Entry, Name
from primacron.errors import CallTimedOut, SessionGone, SessionMoved, WrongThread
from primacron.exits import Contained
from primacron.ids import AccountId, NodeId
from primacron.metrics import Metrics
from primacron.natives import as_name
from primacron.protocol.close_reasons import FORCED_CLOSE, CloseReason, forced
from primacron.receipts import ACCEPTED, REFUSED, UNKNOWN_SESSION, UNSENT, Delivery, Receipt
from primacron.sessions.calls import Answer, Calls
from primacron.sessions.connection import Connection
from primacron.sessions.feature_state import FeatureState
from primacron.sessions.inbox import CALL_FACTOR, Inbox, Job
from primacron.sessions.lifecycle import DELIVERABLE, Change, State, change
from primacron.sessions.memberships import Memberships
from primacron.sessions.runtime import Runtime
from primacron.web import Query

try:
    import cython  # type: ignore[import-untyped, unused-ignore]
except ImportError:  # needed to build, not to run
    from primacron import uncompiled as cython

T = TypeVar("T")
S = TypeVar("S", bound=FeatureState)

#: Whether content was received from a session's client (``in``) or is sent to it (``out``).
Direction: TypeAlias = Literal["in", "out"]
#: Observes the content that a session sends and receives; must not raise.
Tap: TypeAlias = "Callable[[Session, Content, Direction], None]"

# Bound to plain names: on Python 3.11 looking up an enum member takes ten times as long.
DETACHED, MOVED, ENDED = State.DETACHED, State.MOVED, State.ENDED
ATTACH, QUIESCE, RELEASE, FREEZE, HAND_OFF, CLOSE = Change

_NO_DATA: Final = msgspec.msgpack.encode(None)


class Receiver(Protocol):
    """Receives the events of sessions; none of these methods may raise."""

    def opened(self, session: Session) -> None:
        """Handle a new session, which has its connection but has received no message yet."""

    def message(self, session: Session, message: str | bytes) -> None:
        """Handle a message from the client."""

    def closed(self, session: Session, reason: CloseReason) -> None:
        """Handle the end of a session."""

    def channel_joined(self, session: Session, channel: str) -> None:
        """Handle a session that has joined a channel."""

    def channel_left(self, session: Session, channel: str) -> None:
        """Handle a session that has left a channel, or is about to end."""

    def problem(self, error: Exception, **context: Any) -> None:
        """Report an error that the application may want to know about."""


class Router(Protocol):
    """Reaches sessions that have no connection on this node."""

    def to_session(
        self, name: Name, content: Content, *, volatile: bool, receipt: bool, key: str | None
    ) -> Delivery[Receipt]:
        """Send to a session, wherever it is."""

    async def call(self, name: Name, event: str, args: tuple[Any, ...], timeout: float | None) -> Any:
        """Send an event to a session, wherever it is, and return what its client answers."""

    def disconnect(self, name: Name, reason: str) -> Delivery[Receipt]:
        """Close the connection of a session, wherever it is."""

    def relay(self, name: Name, node: NodeId, number: int, answer: Answer) -> None:
        """Relay a client's answer to the node where the call was made."""


class Channels(Protocol):
    """Puts sessions into channels."""

    def join(self, session: Session, name: str, info: Any) -> Delivery[Receipt]:
        """Put a session into a channel, wherever the session is."""

    def leave(self, session: Session, name: str) -> Delivery[Receipt]:
        """Take a session out of a channel, wherever the session is."""

    def change(self, name: Name, channel: str, info: Any, *, joins: bool) -> Delivery[Receipt]:
        """Put a session into a channel or take it out, by its name."""

    def read_name(self, name: Any) -> str:
        """Return the name of a channel as a plain string, or raise a TypeError or ValueError."""

    def pack_info(self, info: Any) -> msgspec.Raw:
        """Encode the info of a member, or raise a TypeError or ValueError."""


class SessionRuntime(Runtime):
    """The runtime extended by what sessions need: a receiver of events, a router to others, channels, and taps."""

    if not cython.compiled:
        __slots__ = ("channels", "receiver", "router", "sessions", "taps")

    def __init__(self, options: Options, loop: asyncio.AbstractEventLoop, receiver: Receiver, metrics: Metrics) -> None:
        super().__init__(options, loop, metrics)
        self.receiver = receiver
        self.router: Router
        self.channels: Channels
        self.sessions: AccountMap[Session] = AccountMap()
        #: The taps of each session that has any.
        self.taps: dict[Session, tuple[Tap, ...]] = {}

    def tap(self, session: Session, tap: Tap) -> None:
        """Add a tap to a session, unless it already has it."""
        taps = self.taps.get(session, ())
        if tap not in taps:
            self.taps[session] = (*taps, tap)

    def untap(self, session: Session, tap: Tap) -> None:
        """Remove a tap from a session."""
        if session not in self.taps:
            return
        left = tuple(each for each in self.taps[session] if each != tap)
        if left:
            self.taps[session] = left
        else:
            del self.taps[session]

    def tell_taps(self, session: Session, content: Content, direction: Direction) -> None:
        """Call the taps of a session with content that it has sent, already validated, or is being sent."""
        for tap in self.taps.get(session, ()):
            tap(session, content, direction)


class Session:
    """
    One client under one account.

    ``account`` and ``id`` identify it throughout the cluster. ``peer`` is the client's
    address, as far as it can be trusted. ``state`` is its state in the lifecycle, see
    :mod:`primacron.sessions.lifecycle`.
    """

    if not cython.compiled:
        __slots__ = (
            "__weakref__",
            "_claimed_account",
            "_data",
            "_features",
            "_query",
            "_runtime",
            "_tasks",
            "account",
            "connection",
            "entry",
            "id",
            "inbox",
            "peer",
            "state",
        )

    def __init__(
        self,
        runtime: SessionRuntime,
        account: AccountId,
        entry: Entry,
        peer: str,
        query_string: str,
        claimed_account: str | None,
    ) -> None:
        self._runtime = runtime
        self.account = account
        self._claimed_account = claimed_account
        self.id = entry.id
        self.peer = peer
        self.state = DETACHED
        #: Its connection: set exactly while the state is deliverable.
        self.connection: Connection | None = None
        #: Its entry in the registry, so that only this claim is released.
        self.entry = entry
        #: Jobs queued behind the running handler; None if there is none.
        self.inbox: Inbox | None = None
        #: The query string, or once its parameters have been accessed, the parsed query.
        self._query: str | Query = query_string
        self._data: Any = None
        #: Feature states by name; None until there is one, and a lone one by itself: most sessions need no dict.
        self._features: Any = None
        self._tasks: set[asyncio.Task[Any]] | None = None

    # Properties

    @property
    def query(self) -> Query:
        """The parameters of the handshake's query."""
        query = self._query
        if not isinstance(query, Query):
            query = self._query = Query(query)
        return query

    @property
    def query_string(self) -> str:
        """The handshake's query, unparsed."""
        return self._query.text if isinstance(self._query, Query) else self._query

    @property
    def claimed_account(self) -> str | None:
        """The account named in the handshake's query; ``authorize`` may have replaced it."""
        return self._claimed_account

    @property
    def data(self) -> Any:
        """
        The application's data for this session, of the type set by the option ``data``.

        Raises:
            TypeError: on assignment of another type.
            SessionMoved: if the session has moved to another server.

        """
        if self.state is MOVED:
            raise SessionMoved(self.id)
        if self._data is None:
            self._data = _initial(self._runtime.options.data)
        return self._data

    @data.setter
    def data(self, value: Any) -> None:
        if self.state is MOVED:
            raise SessionMoved(self.id)
        wanted = self._runtime.options.data
        try:
            right = msgspec.convert(msgspec.to_builtins(value), wanted)
        except (TypeError, ValueError, RecursionError) as error:
            raise TypeError(f"session.data: expected {wanted!r}, got {type(value).__qualname__}: {error}") from None
        if not _is_of(value, right, wanted):
            raise TypeError(f"session.data: expected {wanted!r}, got {type(value).__qualname__}")
        self._data = value

    def pack_data(self) -> msgspec.Raw:
        """
        Encode the data for a snapshot; as None if it was never accessed.

        Raises:
            TypeError: if the data contains something that cannot be encoded.

        """
        try:
            return msgspec.Raw(msgspec.msgpack.encode(self._data))
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise TypeError(f"session.data cannot travel to another server: {error}") from None

    def unpack_data(self, packed: msgspec.Raw) -> None:
        """Restore the data from a snapshot; raises what :func:`read_data` raises."""
        self._data = call_in(own_current_context(), read_data, packed, self._runtime.options.data)

    @property
    def features(self) -> dict[str, Any]:
        """Feature states by name; those of features unknown to this node stay packed."""
        states = self._features
        if states.__class__ is not dict:
            states = self._features = {} if states is None else {states.name: states}
        return states

    def demand(self, kind: type[S]) -> S:
        """Return the state of a feature, created on first use."""
        state: S | None = self.peek(kind)
        if state is None:
            state = kind()
            if self._features is None:
                self._features = state
            else:
                self.features[kind.name] = state
        return state

    def peek(self, kind: type[S]) -> S | None:
        """Return the state of a feature, or None if it has none."""
        states = self._features
        if states.__class__ is dict:
            return states.get(kind.name)
        return states if states is not None and states.name == kind.name else None

    @property
    def connected(self) -> bool:
        """Whether the session has a connection in this process."""
        return self.connection is not None

    # Sending

    def emit(
        self, event: str, *args: Any, volatile: bool = False, receipt: bool = False, key: str | None = None
    ) -> Delivery[Receipt]:
        """
        Send an event to the client.

        With ``volatile`` the event is dropped while the client is not taking data. For
        ``receipt`` see :class:`Delivery`. ``key`` makes the send idempotent, see
        :meth:`primacron.routing.targets.Target.emit`.

        Raises:
            TypeError: if ``event`` is not a string, or an argument cannot be encoded.
            ValueError: if the client's dialect cannot express the event.
            WrongThread: if called from another thread.

        """
        runtime = self._runtime
        runtime.demand_thread("emit")
        if type(event) is not str:
            event = as_name(event, "event")
        connection = self.connection
        if connection is None and self.state is ENDED:
            runtime.metrics.count("messages_to_ended_sessions")
            return runtime.delivered(UNKNOWN_SESSION, requested=receipt)
        if connection is None or key is not None:
            name = (self.account, self.id)
            key = None if key is None else as_name(key, "key")
            return runtime.router.to_session(name, Event(event, args), volatile=volatile, receipt=receipt, key=key)
        if volatile and connection.is_stuck:
            runtime.metrics.count("messages_volatile_dropped")
            return runtime.delivered(UNSENT, requested=receipt)
        if not connection.send(connection.dialect.write_event(event, args)):
            return runtime.delivered(REFUSED, requested=receipt)
        if runtime.taps and self in runtime.taps:
            runtime.tell_taps(self, Event(event, args), "out")
        return runtime.delivered(ACCEPTED, requested=True) if receipt else runtime.accepted()

    async def call(self, event: str, *args: Any, timeout: float | None = None) -> Any:
        """
        Send an event and wait for the client's answer.

        Returns the values of the answer: None, a single value, or a tuple of several.
        ``timeout`` is in seconds and defaults to the option ``call_timeout``.

        Raises:
            CallTimedOut: if there is no answer in time.
            CallRefused: if the client answered with an error.
            SessionGone: if the session has ended, or ends before the answer.
            SessionUnreachable: if its server cannot be reached; the session may still be alive.
            TypeError: if ``event`` is not a string, or an argument cannot be encoded.
            ValueError: if clients of this dialect cannot answer.

        """
        event = as_name(event, "event")
        connection = self.connection
        if self.state is ENDED:
            raise SessionGone(self.id)
        if connection is None:
            return await self._runtime.router.call((self.account, self.id), event, args, timeout)
        calls = self.demand(Calls)
        number, answer = calls.open(event, self._runtime.loop)
        seconds = self._runtime.options.call_timeout if timeout is None else timeout
        try:
            connection.send(connection.dialect.write_event(event, args, number))
            self._read_on()
            async with asyncio.timeout(seconds):
                return await answer
        except CallTimedOut:
            raise
        except TimeoutError:
            raise CallTimedOut(event, f"no answer within {seconds:g} s") from None
        finally:
            calls.forget(number)

    def awaits(self, number: int) -> bool:
        """Tell whether an answer with this number is expected."""
        calls = self.peek(Calls)
        return calls is not None and calls.awaits(number)

    def answered(self, number: int, answer: Answer) -> None:
        """Resolve a call with the client's answer, or relay the answer to the node where the call was made."""
        calls = self.demand(Calls)
        node = calls.relays.pop(number, None)
        if node is not None:
            self._runtime.router.relay((self.account, self.id), node, number, answer)
        else:
            calls.settle(number, answer)

    def disconnect(self, reason: str = FORCED_CLOSE.text) -> None:
        """
        Close the session's connection; the reason is passed to the client and to ``disconnection``.

        Raises:
            TypeError: if the reason is not a string.
            WrongThread: if called from another thread.

        """
        runtime = self._runtime
        runtime.demand_thread("disconnect")
        reason = as_name(reason, "reason")
        if self.connection is not None:
            self.connection.end(forced(reason))
        elif self.state is not ENDED:
            runtime.router.disconnect((self.account, self.id), reason)

    # Channels

    @property
    def channels(self) -> frozenset[str]:
        """The names of the channels that it is in."""
        memberships = self.peek(Memberships)
        return frozenset() if memberships is None else frozenset(memberships.channels)

    def join(self, channel: str, info: Any = None) -> Delivery[Receipt]:
        """
        Join a channel: from now on the session receives what is sent to it on this server.

        The receipt is ``accepted`` once the server also receives what others send to the
        channel, ``refused`` if the session is in ``max_channels`` already. ``info`` is what
        other members see of it, in a channel with presence.

        Raises:
            TypeError: if the name is not a string, or ``info`` cannot be encoded.
            ValueError: if the name is empty, longer than ``max_channel_name``, or has
                control characters, or ``info`` takes more than 1 kB.
            WrongThread: if called from another thread.

        """
        self._runtime.demand_thread("join")
        return self._runtime.channels.join(self, as_name(channel, "channel"), info)

    def leave(self, channel: str) -> Delivery[Receipt]:
        """
        Leave a channel; the receipt is ``accepted`` even if the session was not in it.

        Raises:
            TypeError: if the name is not a string.
            WrongThread: if called from another thread.

        """
        self._runtime.demand_thread("leave")
        return self._runtime.channels.leave(self, as_name(channel, "channel"))

    # Tasks

    def task(self, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """
        Run a coroutine alongside the handlers; it is cancelled when the session ends or moves to another process.

        Raises:
            WrongThread: if called from another thread.

        """
        try:
            self._runtime.demand_thread("task")
        except WrongThread:
            coroutine.close()  # nobody will await it
            raise
        task = self._runtime.loop.create_task(Contained(coroutine), context=own_current_context())
        self._tasks = self._tasks or set()
        self._tasks.add(task)
        task.add_done_callback(self._task_done)
        if self.connection is None:
            task.cancel()
        return task

    def _task_done(self, task: asyncio.Task[Any]) -> None:
        if self._tasks is not None:
            self._tasks.discard(task)
        if not task.cancelled() and isinstance(error := task.exception(), Exception):
            self.problem(error)

    # Called by the connection, see Owner

    def receive(self, message: str | bytes) -> None:
        """Handle a message from the client."""
        self._runtime.receiver.message(self, message)

    def problem(self, error: Exception) -> None:
        """Report an error in what the client sent or is being sent."""
        self._runtime.receiver.problem(error, session=self)

    def close(self, reason: CloseReason) -> None:
        """End the session, as its connection has ended or another claim has replaced it."""
        self._runtime.sessions.remove(self.account, self)
        self._runtime.receiver.closed(self, reason)

    # Called by the receiver

    def occupy(self, task: asyncio.Task[None]) -> None:
        """Queue further messages until ``task`` is done."""
        self._demand_inbox().occupy(task)

    def defer(self) -> None:
        """Defer messages to a later turn of the event loop."""
        self._demand_inbox().defer()

    def _demand_inbox(self) -> Inbox:
        inbox = self.inbox
        if inbox is None:
            inbox = self.inbox = Inbox(self._runtime.options.inbox_limit, self._relieve, self._runtime.turns)
        return inbox

    def queue(self, job: Job, size: int, message: str | bytes | None = None) -> None:
        """Queue a job behind the running handler; pause reading when the inbox is full."""
        inbox = self.inbox
        if inbox is None:
            raise RuntimeError("a session without a running handler has no queue")
        inbox.put(job, size, message)
        connection = self.connection
        if connection is None or not inbox.is_full():
            return
        if inbox.is_calm and not inbox.is_full(CALL_FACTOR):
            return  # the inbox moves with the session, and the client must be able to finish its last POST
        calls = self.peek(Calls)
        if calls is not None and calls.waiting:
            if not inbox.is_full(CALL_FACTOR):
                return
            calls.fail(lambda event: CallTimedOut(event, "too many messages came before its answer"))
        connection.hold()

    @property
    def is_full(self) -> bool:
        """Whether reading from the client is paused."""
        return self.connection is not None and self.connection.is_held

    def _relieve(self) -> None:
        """Discard the inbox if it is idle, and resume reading if it has room."""
        inbox = self.inbox
        if inbox is None:
            return
        if inbox.is_idle:
            self.inbox = None
        if self.connection is not None and self.connection.is_held and inbox.is_low:
            self.connection.release()

    def _read_on(self) -> None:
        """Resume reading although the inbox is full, as the answer to a call is behind the queued messages."""
        connection, inbox = self.connection, self.inbox
        if connection is not None and connection.is_held and inbox is not None and not inbox.is_full(CALL_FACTOR):
            connection.release()

    # Lifecycle

    def _change(self, event: Change) -> None:
        """Apply a change, and drop the connection if the new state has none; nothing else does either."""
        self.state = change(self.state, event)
        if self.state not in DELIVERABLE:
            self.connection = None

    def attach(self, connection: Connection) -> None:
        """Open the session with its connection."""
        self.connection = connection
        self._change(ATTACH)

    def quiesce(self, calmed: Callable[[], None]) -> None:
        """Start no further handler; ``calmed`` is called once none is running."""
        self._change(QUIESCE)
        inbox = self._demand_inbox()
        inbox.calm(calmed)
        if self.connection is not None and self.connection.is_held and not inbox.is_full(CALL_FACTOR):
            self.connection.release()

    def release(self) -> None:
        """Resume handlers; if the session has ended meanwhile, those still queued run all the same."""
        self._change(RELEASE)
        if self.inbox is not None and self.inbox.is_calm:
            self.inbox.go_on()

    def freeze(self) -> None:
        """Detach from the connection, as the session is in transit to another node."""
        self._change(FREEZE)

    def hand_off(self) -> None:
        """Complete the move: cancel the tasks; pending calls remain, as the destination relays their answers."""
        self._change(HAND_OFF)
        self._cancel_tasks()

    def end(self) -> None:
        """Cancel the tasks and fail the pending calls; the receiver calls this when the session is closed."""
        self._change(CLOSE)
        calls = self.peek(Calls)
        if calls is not None:
            calls.fail(lambda _: SessionGone(self.id))
        self._cancel_tasks()

    def _cancel_tasks(self) -> None:
        for task in tuple(self._tasks or ()):
            task.cancel()

    def __repr__(self) -> str:
        return f"<Session {self.account}/{self.id}>"


def _is_of(value: Any, right: Any, wanted: Any) -> bool:
    """Tell whether a value that converts to ``right`` is itself of that type, unlike a dict converted to a struct."""
    if wanted is Any or isinstance(value, type(right)):
        return True
    origin = get_origin(wanted)  # a tuple is a Sequence, and an int is accepted for a float
    return (isinstance(origin, type) and isinstance(value, origin)) or (type(value) is int and type(right) is float)


def read_data(packed: msgspec.Raw, kind: Any) -> Any:
    """
    Decode a session's data as a type, or return None if there is none.

    Raises:
        ValueError: if the data does not match the type.

    """
    try:
        return None if bytes(packed) == _NO_DATA else msgspec.msgpack.decode(packed, type=kind)
    except RecursionError as error:
        raise ValueError(str(error)) from None


def _initial(kind: Any) -> Any:
    """Return an empty value of a type, or None if it has none."""
    try:
        return kind()
    except TypeError:
        return None
