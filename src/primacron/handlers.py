"""From a message to the application's code, and from failures to its listeners."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextvars import Context as Surroundings
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import UNSET

from primacron.cluster.errors import BackendUnavailable
from primacron.config import Options
from primacron.content import Event
from primacron.contexts import Apart, call_apart, call_in, own_context, own_current_context
from primacron.contract.validation import BrokenCheck, Contract, EventContract, judge_check, read_refusal
from primacron.dialects.base import (
    AnswerError,
    ChannelRequest,
    Control,
    Dialect,
    Form,
    Incoming,
    Joining,
    Leaving,
    Request,
)
from primacron.dialects.socketio import find_namespace, write_connect_error
from primacron.emitter import Emitter
from primacron.errors import (
    CallRefused,
    HandlerTimedOut,
    HookUndecided,
    InvalidMessage,
    LimitExceeded,
    MessageError,
    PrimacronError,
    Refused,
    SocketIoClient,
    ValidationFailed,
)
from primacron.exits import contained
from primacron.ids import is_usable_id, new_session_id
from primacron.logs import Log
from primacron.metrics import Metrics
from primacron.natives import as_name
from primacron.problems import FAILED, Context, event_of, log_problem
from primacron.protocol.close_reasons import BAD_MESSAGES, CloseReason
from primacron.sessions.calls import Answer
from primacron.sessions.lifecycle import State
from primacron.sessions.session import Session
from primacron.web import HttpRequest

try:
    import cython  # type: ignore[import-untyped, unused-ignore]
except ImportError:  # needed to build, not to run
    from primacron import uncompiled as cython

if TYPE_CHECKING:
    from primacron.node import Node
    from primacron.sessions.connection import Connection

if not cython.compiled:

    def run_in(
        own: Surroundings,
        handlers: Handlers,
        session: Session,
        dialect: Dialect,
        incoming: Incoming,
        message: str | bytes,
    ) -> asyncio.Task[Any] | None:
        """Validate and handle an event in a context."""
        return own.run(handlers._validate_and_handle, own, session, dialect, incoming, message)  # noqa: SLF001


ALL_ERRORS: Final = "error::*"


class Handlers:
    """
    Runs the application's code: hooks, validators, handlers and listeners.

    It is the node's :class:`primacron.node.Application`.
    """

    def __init__(self, options: Options, contract: Contract, emitter: Emitter, metrics: Metrics) -> None:
        self.node: Node
        self.authorizer: Callable[[HttpRequest], Any] | None = None
        self.generator: Callable[[HttpRequest], Any] | None = None
        #: Does what a client asks of a channel, and answers that; its failures are a handler's.
        self.channels: Callable[[Session, ChannelRequest, Callable[[Any], None]], Coroutine[Any, Any, None]] = (
            _refuse_channel
        )
        #: Gets the errors that have no listener.
        self.log = Log()
        self._options = options
        self._contract = contract
        self._emitter = emitter
        self._heard = emitter.heard
        self._metrics = metrics

    # Handshake hooks

    @property
    def has_hooks(self) -> bool:
        """Whether the application has hooks that a handshake must await."""
        return self.authorizer is not None or self.generator is not None

    async def authorize(self, request: HttpRequest) -> str | None:
        """
        Ask the application's ``authorize``, if there is one; None stands for the account in the query.

        Raises:
            Refused: if it says no.
            HookUndecided: if it says neither yes nor no.

        """
        if self.authorizer is None:
            return None
        verdict = await call_apart(self._begin_of(request), self.authorizer, request)
        if verdict is True:
            return None
        if verdict is False:
            raise Refused
        if isinstance(verdict, str) and is_usable_id(account := as_name(verdict, "account")):
            return account
        raise HookUndecided("authorize", verdict, "the account, or True for the one that the query names")

    async def name_session(self, request: HttpRequest) -> str:
        """Ask the application's ``uuid``, or generate a random id."""
        if self.generator is None:
            return new_session_id()
        name = await call_apart(self._begin_of(request), self.generator, request)
        return _demand_text(name, "uuid", "a session id")

    async def allows(self, name: str, hook: Callable[..., Any], session: Session, *args: Any) -> bool:
        """Ask an application hook whether a session may do something; only True allows it."""
        verdict = await call_apart(self._begin(session), hook, session, *args)
        if not isinstance(verdict, bool):
            self.problem(HookUndecided(name, verdict, "True to allow it"), session=session)
        return verdict is True

    # The context of application code

    def _begin(self, session: Session | None) -> Surroundings:
        """Return the context of a session's current transport, or that of the server."""
        connection = None if session is None else session.connection
        context = None if connection is None else connection.transport.context
        return self.node.context if context is None else context

    def _begin_of(self, request: HttpRequest | None) -> Surroundings:
        """Return the context in which a request arrived, or that of the server."""
        context = None if request is None else request.context
        return self.node.context if context is None else context

    # Messages; see primacron.sessions.session.Receiver

    def message(self, session: Session, message: str | bytes) -> None:
        """Handle a client's message; nothing in it can make this raise."""
        connection = session.connection
        if connection is None:
            return
        self._metrics.messages_received += 1
        dialect = connection.dialect
        try:
            incoming = dialect.read(message, connection.sid)
        except MessageError as error:
            self._refuse_unread(session, dialect, error, message)
            return
        if incoming.event is UNSET or incoming.ack is not UNSET:
            self._take_other(session, dialect, incoming, message)
            return
        context = connection.transport.context
        if context is None:
            context = self.node.context
        if session.inbox is None:
            task = run_in(own_context(context), self, session, dialect, incoming, message)
            if task is not None:
                session.occupy(task)
        else:
            job = functools.partial(self._run, context, session, dialect, incoming, message)
            session.queue(job, _size(message), message)

    def _take_other(
        self,
        session: Session,
        dialect: Dialect,
        incoming: Incoming | Control | ChannelRequest,
        message: str | bytes,
    ) -> None:
        """Handle what is not an event: only requests for channels wait behind other messages."""
        if isinstance(incoming, (Joining, Leaving)):
            self._ask_channel(session, dialect, incoming, message)
            return
        if isinstance(incoming, Control):
            if incoming.reply is not None and session.connection is not None:
                session.connection.send(incoming.reply)
            return
        number = incoming.ack
        # An unexpected answer is not decoded: as answers skip the queue, clients could send such work at will.
        if not isinstance(number, int) or not session.awaits(number):
            self._metrics.count("answers_unknown")
            return
        try:
            answer = _read_answer(incoming, dialect.form)
        except MessageError as error:
            self._refuse(session, dialect, error, message)
            return
        session.answered(number, answer)

    def _ask_channel(self, session: Session, dialect: Dialect, request: ChannelRequest, message: str | bytes) -> None:
        """Do what a client asks of a channel, in its turn."""
        job = functools.partial(self._enter, self._begin(session), session, dialect, request, message)
        if session.inbox is not None:
            session.queue(job, _size(message), message)
        elif (task := job()) is not None:
            session.occupy(task)

    def _enter(
        self,
        context: Surroundings,
        session: Session,
        dialect: Dialect,
        request: ChannelRequest,
        message: str | bytes,
    ) -> asyncio.Task[Any] | None:
        """Do what a client asks of a channel; return the task if it is not finished."""
        if session.state is State.ENDED:
            return None
        own = own_context(context)
        eager = self.node.eager
        try:
            task = own.run(eager.start, self._answer_channel(session, dialect, request), own)
            if task is None:
                return None
        except BaseException as error:
            self._failed(session, dialect, request, message, contained(error))
            return None
        self._watch(task, session, dialect, request, message)
        return task

    async def _answer_channel(self, session: Session, dialect: Dialect, request: ChannelRequest) -> object:
        """Answer a request for a channel, which is an accepted message if that is possible."""

        # In the midst of it, since what the session gets from then on comes behind the answer.
        def answer(result: Any) -> None:
            self._answer(session, dialect, request, result)

        await self.channels(session, request, answer)
        if session.connection is not None:
            session.connection.strikes = 0
        return _ANSWERED

    def _run(
        self, context: Surroundings, session: Session, dialect: Dialect, incoming: Incoming, message: str | bytes
    ) -> asyncio.Task[Any] | None:
        """Validate and handle one event in a context of its own; return the task if it is not finished."""
        return run_in(own_context(context), self, session, dialect, incoming, message)

    def _validate_and_handle(
        self, own: Surroundings, session: Session, dialect: Dialect, incoming: Incoming, message: str | bytes
    ) -> asyncio.Task[Any] | None:
        node = self.node
        try:
            event = self._contract.find(str(incoming.event))
            args = event.read(incoming.args, dialect.form)
        except MessageError as error:
            self._refuse(session, dialect, error, message, incoming)
            return None
        except BaseException as error:  # a bug in one of the application's types
            found = contained(error)
            broken = BrokenCheck(found) if isinstance(found, Exception) else found
            self._failed(session, dialect, incoming, message, broken)
            return None
        connection = session.connection
        if connection is not None and connection.strikes and event.check is None:
            connection.strikes = 0
        hub = node.hub
        if event.check is None and session in hub.taps:
            hub.tell_taps(session, Event(event.name, args), "in")
        try:
            if event.is_plain and event.stream not in self._heard:
                work = event.handler(session, *args)  # type: ignore[misc]  # a plain event has one
                if not event.handler_is_async:
                    if not hasattr(work, "__await__"):
                        self._answer(session, dialect, incoming, work)
                        return None
                    work = _wait_for(work)
            else:
                work = self._handle(session, event, args)
            eager = node.eager
            task = eager.start(work, own)
            if task is None:
                if incoming.id is not UNSET:
                    self._answer(session, dialect, incoming, eager.value)
                return None
        except BaseException as error:
            self._failed(session, dialect, incoming, message, contained(error))
            return None
        self._watch(task, session, dialect, incoming, message)
        return task

    async def _handle(self, session: Session, event: EventContract, args: tuple[Any, ...]) -> Any:
        """Handle an event in full generality: a validator, a thread, stream listeners."""
        if event.check is not None:
            args = await self._check(event, args)
            if session.connection is not None:
                session.connection.strikes = 0
            if session in self.node.hub.taps:
                self.node.hub.tell_taps(session, Event(event.name, args), "in")
        result = None
        context = copy_context()
        if event.handler is not None:
            if event.in_thread:
                own = own_context(context)
                result = await self.node.threads.run(call_in, own, event.handler, session, *args)
                if inspect.isawaitable(result):
                    result = await Apart(result, own)
            else:
                result = await call_apart(context, event.handler, session, *args)
        for listener in self._emitter.listeners(event.stream):
            await call_apart(context, listener, session, *args)
        return result

    async def _check(self, event: EventContract, args: tuple[Any, ...]) -> tuple[Any, ...]:
        assert event.check is not None
        own = own_current_context()
        try:
            outcome = call_in(own, event.check, *args)
            if inspect.isawaitable(outcome):
                outcome = await self._in_time(Apart(outcome, own))
            return judge_check(outcome, args)
        except ValidationFailed:
            raise
        except Exception as error:
            raise read_refusal(error) from error

    async def _in_time(self, check: Awaitable[Any]) -> Any:
        seconds = self._options.validation_timeout
        try:
            async with asyncio.timeout(seconds) as deadline:
                return await check
        except TimeoutError:
            if deadline.expired():
                raise ValidationFailed(f"the validator took longer than {seconds:g} s") from None
            raise

    def _watch(
        self,
        task: asyncio.Task[Any],
        session: Session,
        dialect: Dialect,
        incoming: Request,
        message: str | bytes,
    ) -> None:
        """Answer once a pending handler has finished, and cancel it if it takes too long."""
        timeout = self._options.handler_timeout
        timed_out = False

        def give_up() -> None:
            nonlocal timed_out
            timed_out = task.cancel()

        alarm = None if timeout is None else self.node.hub.wheel.alarm(timeout, give_up)

        def ended(task: asyncio.Task[Any]) -> None:
            if alarm is not None:
                self.node.hub.wheel.cancel(alarm)
            error: BaseException | None
            if task.cancelled():
                error = asyncio.CancelledError()
                if timed_out and timeout is not None:
                    error = HandlerTimedOut(self._name_handler(incoming), timeout)
            else:
                error = task.exception()
            if error is None:
                self._answer(session, dialect, incoming, task.result())
            else:
                self._failed(session, dialect, incoming, message, error)

        self.node.track(task)
        task.add_done_callback(ended)

    # Answers

    def _answer(self, session: Session, dialect: Dialect, incoming: Request, result: Any) -> None:
        if incoming.id is UNSET or session.connection is None or result is _ANSWERED:
            return
        args = () if result is None else result if isinstance(result, tuple) else (result,)
        try:
            packet = dialect.write_answer(incoming.id, args)
        except (TypeError, ValueError, RecursionError) as error:
            self._failed(session, dialect, incoming, None, error)
            return
        session.connection.send(packet)

    def _failed(
        self,
        session: Session,
        dialect: Dialect,
        incoming: Request,
        message: str | bytes | None,
        error: BaseException,
    ) -> None:
        """Report what the application's code raised; the client learns no more than it should."""
        if isinstance(error, ValidationFailed):
            self._refuse(session, dialect, error, message, incoming)
            return
        if isinstance(error, BrokenCheck):
            self.problem(error.cause, session=session, event=_text(incoming.event), message=message)
            self._answer_error(session, dialect, incoming, AnswerError("refused", "refused"))
            return
        failure = error if isinstance(error, Exception) else HandlerCancelled(self._name_handler(incoming))
        if isinstance(failure, BackendUnavailable) and not isinstance(incoming, Incoming):
            # The loss of the link is reported once, not for each client that asks meanwhile.
            self._metrics.count("joins_unavailable")
            self._answer_error(session, dialect, incoming, _answer_to(failure, incoming))
            return
        self.problem(failure, session=session, event=_text(incoming.event), message=message)
        self._answer_error(session, dialect, incoming, _answer_to(failure, incoming))

    def _name_handler(self, incoming: Request) -> str:
        """Describe a handler that was given up; one in a thread keeps running there."""
        if not isinstance(incoming, Incoming):
            return f"a request for the channel {incoming.channel!r}"
        event = self._contract.events.get(str(incoming.event))
        where = ", whose thread nobody waits for any more," if event is not None and event.in_thread else ""
        return f"the handler of {incoming.event!r}{where}"

    def _refuse_unread(self, session: Session, dialect: Dialect, error: MessageError, message: str | bytes) -> None:
        """Refuse what the dialect cannot read; a Socket.IO client is told so in its own protocol."""
        namespace = find_namespace(message) if dialect.name == "primacron" else None
        if namespace is None or session.connection is None:
            about = None if error.id is None else Incoming(id=error.id)
            self._refuse(session, dialect, error, message, about)
            return
        mistaken = SocketIoClient()
        session.connection.send(write_connect_error(namespace, mistaken))
        self._refuse(session, dialect, mistaken, message)

    def _refuse(
        self,
        session: Session,
        dialect: Dialect,
        error: MessageError,
        message: str | bytes | None,
        incoming: Request | None = None,
    ) -> None:
        """Report a message that is not delivered; too many in a row close the connection."""
        event = _text(incoming.event) if incoming is not None else None
        self.problem(error, session=session, event=event, message=message)
        if incoming is not None:
            self._answer_error(session, dialect, incoming, AnswerError(error.kind, str(error), error.path))
        connection = session.connection
        if connection is not None:
            connection.strikes += 1
            if connection.strikes >= self._options.bad_messages:
                connection.end(BAD_MESSAGES)

    @staticmethod
    def _answer_error(session: Session, dialect: Dialect, incoming: Request, error: AnswerError) -> None:
        if incoming.id is not UNSET and session.connection is not None:
            session.connection.send(dialect.write_refusal(incoming.id, error))

    # The lifecycle of a session; see primacron.sessions.session.Receiver

    def opened(self, session: Session) -> None:
        """Notify the listeners of a new session; its messages wait for them."""
        self._metrics.count("sessions_opened")
        task = self._start_listeners(self._begin(session), "connection", session)
        if task is not None:
            session.occupy(task)

    def leaving(self, session: Session) -> None:
        """Notify the listeners that a session has moved to another node."""
        self._metrics.count("sessions_left")
        self._start_listeners(self._begin(session), "leaving", session)

    def arrived(self, session: Session, messages: list[str | bytes]) -> None:
        """Notify the listeners of a session that moved here; its messages wait for them."""
        self._metrics.count("sessions_arrived")
        task = self._start_listeners(self._begin(session), "arrived", session)
        if task is not None:
            session.occupy(task)
        for message in messages:
            self.message(session, message)

    def channel_joined(self, session: Session, channel: str) -> None:
        """Notify the listeners that a session has joined a channel."""
        if "channel::join" in self._heard:
            self._start_listeners(self._begin(session), "channel::join", session, channel)

    def channel_left(self, session: Session, channel: str) -> None:
        """Notify the listeners that a session has left a channel, or is about to end."""
        if "channel::leave" in self._heard:
            self._start_listeners(self._begin(session), "channel::leave", session, channel)

    def closed(self, session: Session, reason: CloseReason) -> None:
        """End a session; listeners are notified once its last message is handled."""
        self._metrics.count("sessions_closed")
        self.node.admissions.ended(session, reason)
        context = self._begin(session)
        connection = session.connection
        rest = None if connection is None else connection.take_rest(reason)
        session.end()
        if connection is not None and rest is not None:
            session.defer()
            session.queue(functools.partial(self._handle_rest, context, session, connection, rest), 0)
        job = functools.partial(self._start_listeners, context, "disconnection", session, reason.text)
        if session.inbox is None:
            job()
        else:
            session.queue(job, 0)
            session.release()  # it was held for a handoff that will not happen

    def _handle_rest(
        self, context: Surroundings, session: Session, connection: Connection, messages: Iterator[str | bytes]
    ) -> asyncio.Task[Any] | None:
        """Handle the next event among those a client sent before it left, and then the rest."""
        message, inbox = next(messages, None), session.inbox
        if message is None or inbox is None:
            return None
        inbox.put_back(functools.partial(self._handle_rest, context, session, connection, messages))
        dialect = connection.dialect
        try:
            incoming = dialect.read(message, connection.sid)
        except MessageError as error:
            self._refuse(session, dialect, error, message)
            return None
        if incoming.event is UNSET or incoming.ack is not UNSET:
            return None  # nobody is waiting for it any more, nor in any channel
        return self._run(context, session, dialect, incoming, message)

    # Listeners

    def emit(self, event: str, *args: Any) -> None:
        """Call the listeners of an event."""
        self._start_listeners(self.node.context, event, *args)

    def problem(self, error: Exception, **context: Any) -> None:
        """Count a failure and report it to its listeners; if there are none, log it."""
        event = event_of(error)
        self._metrics.count(event)
        own, of_all = self._emitter.listeners(event), self._emitter.listeners(ALL_ERRORS)
        listeners = (*own, *of_all)
        about = Context(**context)
        if not listeners:
            self._write(error, about)
        else:
            begin = self._begin_of(about.request) if about.session is None else self._begin(about.session)
            for listener in listeners:
                self._start(self._call(begin, listener, event, error, about))

    def _start_listeners(self, context: Surroundings, event: str, *args: Any) -> asyncio.Task[Any] | None:
        listeners = self._emitter.listeners(event)
        if not listeners:
            return None
        return self._start(self._call_all(context, listeners, event, args))

    async def _call_all(
        self, context: Surroundings, listeners: tuple[Callable[..., Any], ...], event: str, args: tuple[Any, ...]
    ) -> None:
        for listener in listeners:
            await self._call(context, listener, event, *args)

    async def _call(self, context: Surroundings, listener: Callable[..., Any], event: str, *args: Any) -> None:
        try:
            await call_apart(context, listener, *args)
        except Exception as error:
            session = next((each for each in args if isinstance(each, Session)), None)
            self._listener_failed(error, event, session)

    def _listener_failed(self, error: Exception, event: str, session: Session | None) -> None:
        # Only logged: a failing error listener must not be told of its own failure.
        if event.startswith("error::"):
            self._metrics.count(FAILED)
            self._write(error, Context(session=session, event=event))
        else:
            self.problem(error, session=session, event=event)

    def _write(self, error: Exception, about: Context) -> None:
        """Write to the log; if the application's own logging handlers or filters raise, that is counted."""
        try:
            log_problem(self.log, error, about, self._contract.events)
        except Exception:
            self._metrics.count(FAILED)

    def _start(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any] | None:
        return self.node.run(work, lambda *_: None)


class HandlerCancelled(PrimacronError):
    """A handler was cancelled, or let a cancellation of something it awaited propagate."""

    event = "error::handler"

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} was cancelled")


def _answer_to(failure: Exception, request: Request) -> AnswerError:
    """Return what a client is told of a failure."""
    if isinstance(failure, Refused):
        return AnswerError("refused", str(failure))
    if isinstance(request, Incoming):
        return AnswerError("handler", "the handler failed")
    if isinstance(failure, LimitExceeded):
        return AnswerError("limit", str(failure))
    if isinstance(failure, BackendUnavailable):
        return AnswerError("unavailable", "the channel is not available now")
    return AnswerError("refused", "refused")


#: The result of a request that has been answered.
_ANSWERED: Final = object()


async def _refuse_channel(_: Session, request: ChannelRequest, _answer: Callable[[Any], None]) -> None:
    """Refuse any request for a channel, as none is open to clients."""
    raise Refused(403, f"no channel {request.channel[:100]!r} that clients may join")


async def _wait_for(work: Awaitable[Any]) -> Any:
    """Await what a plain function returned, such as one that wraps a coroutine function."""
    return await work


def _read_answer(incoming: Incoming, form: Form) -> Answer:
    if incoming.error is not UNSET:
        return Answer((), CallRefused(incoming.error.type, incoming.error.message, incoming.error.path))
    decode = msgspec.json.decode if form is Form.JSON else msgspec.msgpack.decode
    try:
        return Answer(tuple(decode(incoming.args, type=list[Any])))
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        raise InvalidMessage(f"args: {error}") from None


def _demand_text(value: Any, hook: str, expected: str) -> str:
    if not isinstance(value, str) or not is_usable_id(as_name(value, hook)):
        raise TypeError(f"{hook} returned {value!r}; expected {expected}, 1 to 128 characters without controls")
    return as_name(value, hook)


def _text(event: Any) -> str | None:
    return event if isinstance(event, str) else None


def _size(message: str | bytes) -> int:
    if isinstance(message, bytes) or message.isascii():
        return len(message)
    return len(message.encode("utf-8", "surrogatepass"))
