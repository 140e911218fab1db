"""The server as applications see it: events, validators, listeners, targets."""

from __future__ import annotations

import asyncio
import concurrent.futures
import inspect
import logging
from collections.abc import Callable
from contextvars import Context as Surroundings
from contextvars import copy_context
from typing import Any, Final, Self, TypeVar, overload

from primacron.channels.kinds import Kinds
from primacron.cluster.backend import Backend
from primacron.config import Options
from primacron.content import Message
from primacron.contexts import own_current_context
from primacron.contract.validation import Contract
from primacron.emitter import Emitter, Listener, Once
from primacron.entries import Name
from primacron.errors import NotListening, Refused, WrongLoop
from primacron.exits import contained
from primacron.features.channels import Channels, ChannelTarget
from primacron.features.channels.joins import Joins
from primacron.features.follow import Following, demand_own
from primacron.handlers import ALL_ERRORS, Handlers
from primacron.ids import AccountId, SessionId, Sid
from primacron.logs import LOGGER, Log, write
from primacron.metrics import Metrics
from primacron.natives import as_name
from primacron.node import Node
from primacron.pages import Page, Pages
from primacron.problems import Context, describe, has_traceback
from primacron.receipts import Delivery, Reach, Receipt
from primacron.registration import (
    EVENTS,
    HOOKS,
    STREAM,
    check_event_name,
    check_parameters,
    check_stream,
    check_subclass,
    demand_name,
    read_own_event,
    refuse_assignment,
)
from primacron.routing.targets import AccountTarget, Everyone, SessionInfo, SessionTarget
from primacron.sessions.session import Session
from primacron.times import Times
from primacron.transports import polling

F = TypeVar("F", bound=Callable[..., Any])
P = TypeVar("P", bound=Page)

#: Logged for a server whose event loop was closed while it was running.
_LOST: Final = (
    "the event loop of the server was closed without `await server.destroy()`: {} sessions are lost; "
    "a test client that makes a loop for each request must be entered: `with TestClient(app) as client`"
)


class Server:
    """What all ways of serving have in common; applications use :class:`primacron.Primacron`."""

    def __init__(self, options: Options, open_backend: Callable[[], Backend] | None = None) -> None:
        self.options = options
        #: The context in which it was created; see :meth:`start`.
        self.context = copy_context()
        self._open_backend = open_backend
        self._times = Times()
        self.metrics = Metrics()
        self._emitter = Emitter()
        self._contract = Contract(max_args=options.max_args, max_name=options.max_name)
        self._kinds = Kinds(max_name=options.max_channel_name)
        self._handlers = Handlers(options, self._contract, self._emitter, self.metrics)
        self._pipe_authorizer: Callable[..., Any] | None = None
        #: Paths that the application answers itself; see :meth:`get`.
        self.pages = Pages(options)
        self._node: Node | None = None
        self._joined: asyncio.Task[None] | None = None
        self._is_ended = False
        #: The event loop in which it has ended, if it has.
        self._ended_in: asyncio.AbstractEventLoop | None = None
        #: Bearer tokens of the control routes.
        self.secrets = options.secret
        for hook in HOOKS:
            if getattr(type(self), hook) is not getattr(Server, hook):
                getattr(Server, hook)(self, getattr(self, hook))

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        check_subclass(cls, Server)

    def __setattr__(self, name: str, value: object) -> None:
        if name in HOOKS:
            refuse_assignment(name)
        super().__setattr__(name, value)

    # Hooks

    def authorize(self, hook: F) -> F:
        """
        Register the function that decides each handshake; use as a decorator, or override.

        The function takes the :class:`HttpRequest`, may be asynchronous, and returns
        the account, or True for the account in the query. False or :class:`Refused` turns
        the client away. So does anything else, including None, which is also reported as
        ``error::handler``, since a ``return`` may be missing.
        """
        self._handlers.authorizer = _checked_hook("authorize", hook)
        return hook

    def authorize_pipe(self, hook: F) -> F:
        """
        Register the function that decides who may follow whom; use as a decorator, or override.

        The function takes the :class:`Session` of the follower, and account and id of the
        session to follow, may be asynchronous, and returns True to allow it. False or
        :class:`Refused` forbids it, and so does anything else, which is also reported as
        ``error::handler``. Without such a function both must belong to one account.
        """
        self._pipe_authorizer = _checked_hook("authorize_pipe", hook)
        return hook

    def uuid(self, generator: Callable[..., Any]) -> Any:
        """
        Register the function that names new sessions; may be overridden instead.

        The function takes the :class:`HttpRequest`, may be asynchronous, and returns
        1 to 128 characters without control characters. Returns the server.
        """
        self._handlers.generator = _checked_hook("uuid", generator)
        return self

    # Client events

    def event(self, name: str, *, thread: bool = False) -> Callable[[F], F]:
        """
        Return a decorator that makes a function the handler of an event.

        Its first parameter takes the :class:`Session`; the annotations of the others are
        the validator. If the client asked for an answer, the return value is sent: None
        is no value, a tuple several. ``thread`` runs a plain function in a thread pool.

        Raises:
            RegistrationError: if the name already has a validator or is one of the
                server's own, or a type cannot be checked.

        """
        check_event_name(name)

        def register(handler: F) -> F:
            self._contract.add_handler(name, handler, in_thread=thread)
            return handler

        return register

    @overload
    def validate(self, event: str) -> Callable[[F], F]: ...

    @overload
    def validate(self, event: str, validator: Callable[..., Any]) -> Self: ...

    def validate(self, event: str, validator: Callable[..., Any] | None = None) -> Any:
        """
        Register a validator; without a function, return a decorator.

        It takes the arguments, may be asynchronous, and returns None or True to accept
        them, False to refuse them, or :class:`Transformed` to replace them. Raising
        refuses them: the client is shown the text of a ValueError, an AssertionError or
        :class:`Refused`, but of nothing else, which is reported as ``error::handler``.
        Listen for accepted events with ``on("stream::<event>")``.

        Raises:
            RegistrationError: if the name already has a validator, or is one of the
                server's own.

        """
        check_event_name(event, "validate")
        if validator is None:

            def register(function: F) -> F:
                self._contract.add_validator(event, function)
                return function

            return register
        self._contract.add_validator(event, validator)
        return self

    # Channels

    def channels(self, pattern: str, *, history: int = 0, keep: int = 0, presence: bool = False) -> Callable[[F], F]:
        """
        Let clients join the channels whose names match a pattern, and return a decorator for who decides.

        The pattern is text with ``{fields}``, such as ``lot:{number}``; a field stands for one
        or more characters without a colon. Of several patterns that match a name, the one
        with the longest text before its first field counts.

        The function takes the :class:`Session` and the fields, each as its parameter of the
        same name, converted to the type of its annotation. It may be asynchronous, and
        returns what the other members see of this one, at most 1 kB, or None; raising
        :class:`Refused` turns the client away. Without a function every client may join.

        ``history`` messages are kept for ``keep`` seconds after the last, a day if it is a
        single one and nothing else is said; whoever may join may read all of them. With
        ``presence`` the members are told of each other.

        Raises:
            RegistrationError: if the pattern cannot be told apart from another one, fields
                and parameters differ, or a type cannot be read from text.

        """
        demand_name(pattern, "channels", "lot:{number}")
        kind = self._kinds.add(pattern, history=history, keep=keep, presence=presence)

        def register(function: F) -> F:
            self._kinds.attach(kind, function)
            return function

        return register

    # Pages

    def get(self, path: str) -> Callable[[P], P]:
        """
        Return a decorator that lets a function answer GET and HEAD requests for exactly this path.

        The function takes the :class:`HttpRequest`, may be asynchronous, and returns
        text or bytes, whose type follows from the suffix of the path (HTML if there is
        none), or an :class:`HttpResponse`. :class:`Refused` answers with its status;
        any other exception is reported as ``error::handler`` and answered with status 500.

        Raises:
            RegistrationError: if the path is taken, or belongs to the server: the
                endpoint, the PUT path, and all below ``/primacron/``; or if the
                function does not take the request.

        """
        demand_name(path, "get", "/")

        def register(page: P) -> P:
            check_parameters(page, f"page {path!r}", ("request",))
            self.pages.add(path, page)
            return page

        return register

    # Listeners

    @overload
    def on(self, event: str) -> Callable[[F], F]: ...

    @overload
    def on(self, event: str, listener: Listener) -> Self: ...

    def on(self, event: str, listener: Listener | None = None) -> Any:
        """
        Register a listener for a server event; without a function, return a decorator.

        The event of ``stream::<event>`` may be registered later, until the server starts.

        Raises:
            RegistrationError: if there is no such event, or the function does not
                take its arguments.

        """
        name = read_own_event(event, "on")
        if listener is None:

            def register(function: F) -> F:
                self._listen_for(name, function, function)
                return function

            return register
        self._listen_for(name, listener, listener)
        return self

    def once(self, event: str, listener: Listener) -> Self:
        """Register a listener for the next event of this name only; ``off`` removes it."""
        name = read_own_event(event, "once")
        self._listen_for(name, Once(self._emitter, name, listener), listener)
        return self

    def off(self, event: str, listener: Listener) -> Self:
        """Remove a listener."""
        self._emitter.remove(read_own_event(event, "off"), listener)
        return self

    def _listen_for(self, event: str, listener: Listener, function: Listener) -> None:
        if event in EVENTS:
            check_parameters(function, f"listener of {event!r}", EVENTS[event])
        elif self._node is not None:
            check_stream(event, function, self._contract.events)
        self._emitter.add(event, listener)

    def _check_streams(self) -> None:
        """Refuse to start with a listener for accepted events that no client can send."""
        for event, listener in self._emitter:
            if event.startswith(STREAM):
                check_stream(event, listener, self._contract.events)

    @property
    def log(self) -> Log:
        """Gets the errors that have no listener."""
        return self._handlers.log

    def log_errors(self, logger: logging.Logger) -> Self:
        """
        Log every ``error::`` event to a logger, instead of one line a minute to ``primacron``.

        It is a listener of ``error::*``: what is logged here is not logged there.
        """

        def log(error: Exception, context: Context) -> None:
            write(logger, logging.WARNING, describe(error, context), error if has_traceback(error) else None)

        return self.on(ALL_ERRORS, log)

    # Targets

    def session(self, account: str, id: str) -> SessionTarget:
        """Return one session as a target, wherever it is."""
        return SessionTarget(self.node.router, account, id)

    def account(self, id: str) -> AccountTarget:
        """Return all sessions of an account as a target."""
        return AccountTarget(self.node.router, id)

    @property
    def everyone(self) -> Everyone:
        """All sessions, as a target."""
        return Everyone(self.node.router)

    def channel(self, *names: str) -> ChannelTarget:
        """
        Return the members of a channel as a target; with several names the union, each session once.

        Raises:
            TypeError: if there is no name, or one is not a string.
            ValueError: if no channel may have this name.

        """
        return ChannelTarget(self.node.router, self.node.feature(Channels), names)

    # The original's names, as thin wrappers of the above

    async def find(self, account: str, session: str) -> SessionInfo | None:
        """
        Return where a session is, or None.

        Raises:
            BackendUnavailable: if the other servers cannot be asked now, or may not have
                registered all their sessions yet, as right after an outage.

        """
        name = _name(account, session)
        entry = await self.node.router.find(name)
        return None if entry is None else SessionInfo(name[0], entry.id, entry.node)

    def forward(self, account: str, session: str, message: Any) -> Delivery[Receipt]:
        """
        Send a message to one session.

        An object with ``event`` goes out as it is, anything else as the event
        ``message`` with one argument.

        Raises:
            TypeError: if ``event`` is not a string, or a value cannot be encoded.
            WrongThread: if called from another thread.

        """
        self.node.hub.demand_thread("forward")
        return self.session(account, session).send(Message.of(message))

    async def pipe(self, follower: Session, account: str, session: str, *, received: bool = False) -> Receipt:
        """
        Let a session of this process follow another session, wherever that is.

        The follower's client receives each event that the followed session sends, once
        validated, with ``"origin": {"account", "session", "direction"}`` beside it; with
        ``received`` also what the followed session receives. This lasts until
        :meth:`unpipe` or the end of the follower, and continues if the followed session
        comes back with the same session id.

        The receipt is ``accepted``, ``unknown_session``, ``refused`` (it already has
        ``max_followers``), or tells why its server could not be asked.

        Raises:
            Refused: if ``authorize_pipe`` does not allow it.

        """
        name = _name(account, session)
        if self._pipe_authorizer is None:
            demand_own(follower, name)
        elif not await self._handlers.allows("authorize_pipe", self._pipe_authorizer, follower, *name):
            raise Refused(403, "this session may not be followed")
        return await self.node.feature(Following).pipe(follower, name, received=received)

    async def unpipe(self, follower: Session, account: str, session: str) -> Receipt:
        """Stop a session of this process from following another one."""
        return await self.node.feature(Following).unpipe(follower, _name(account, session))

    def broadcast(self, message: Any) -> Delivery[Reach]:
        """Send a message to everyone; see :meth:`forward`."""
        self.node.hub.demand_thread("broadcast")
        return self.everyone.send(Message.of(message))

    def socket(self, session: str) -> Session | None:
        """Return a session of this process by its id alone; searches through all of them."""
        wanted = as_name(session, "session")
        return next((each for each in self.node.hub.sessions if each.id == wanted), None)

    # For the control routes

    def problem(self, error: Exception, **context: Any) -> None:
        """Count an error and report it to its listeners."""
        self._handlers.problem(error, **context)

    async def session_of(self, sid: str) -> SessionTarget | Receipt:
        """Return the session of a connection as a target, wherever it is; or why nothing can be sent there."""
        found = await self.node.router.session_of(Sid(sid))
        return found if isinstance(found, Receipt) else self.session(*found)

    def unready(self) -> list[str]:
        """Return why the server should get no new clients now; empty if it may."""
        reasons = []
        if self._is_ended:
            reasons.append("the server is ending")
        lag = self.node.hub.wheel.lag
        if lag >= self._times.lag:
            reasons.append(f"the event loop is late by {lag:.1f} s")
        trouble = self.node.cluster.why_unready()
        if trouble is not None:
            reasons.append(trouble)
        return reasons

    @property
    def reach(self) -> str:
        """Describe who can find the sessions of this process, and whether the backend for that responds."""
        return self.node.cluster.reach

    def details(self) -> dict[str, Any]:
        """Return what operators may want to see beside readiness."""
        return {
            "accounts": "authorized" if self._handlers.authorizer is not None else "unverified",
            "sessions": self.count(),
            "lag": round(self.node.hub.wheel.lag, 3),
            **self.node.cluster.details(),
        }

    # Lifecycle

    @property
    def node(self) -> Node:
        """
        The node: this process in the cluster.

        Raises:
            NotListening: if the server was not started, or has ended.

        """
        if self._node is None:
            raise NotListening
        return self._node

    @property
    def is_started(self) -> bool:
        """Whether the server has joined the cluster and not left it yet."""
        return self._node is not None

    @property
    def is_in_this_loop(self) -> bool:
        """Whether it is started, in the event loop that is now running."""
        return self._node is not None and self._node.loop is asyncio.get_running_loop()

    @property
    def endpoint_path(self) -> str:
        """The path of the stream."""
        return self.options.endpoint

    def count(self) -> int:
        """Return the number of sessions in this process."""
        return 0 if self._node is None else len(self._node.hub.sessions)

    @property
    def is_shared(self) -> bool:
        """Whether other processes may have sessions of the same server."""
        return self._open_backend is not None

    async def start(self, context: Surroundings | None = None) -> None:
        """
        Join the cluster; does nothing if the server already has.

        A server that has ended starts afresh, keeping its registrations and counters.
        Handlers and listeners run in copies of ``context``; None is the current one.

        Raises:
            NotListening: while it is shutting down.
            WrongLoop: if it was started in another event loop, which is still open.
            RegistrationError: if a listener waits for ``stream::<event>``, and there is
                no such event.

        """
        self._demand_loop()
        if self._node is None:
            self._check_streams()
            self._renew()
            backend = None if self._open_backend is None else self._open_backend()
            self._node = Node(
                self.options,
                self._handlers,
                backend,
                self.metrics,
                copy_context() if context is None else context,
                self._times,
                polling.answer_carried,
                polling.release_carried,
            )
            self._handlers.node = self._node
            channels = self._node.feature(Channels)
            channels.kinds = self._kinds
            self._handlers.channels = Joins(self._kinds, channels, self._node.dialects.aware).ask
            self._handlers.log.later = self._call_later
            self._joined = self._node.loop.create_task(self._node.join())
        elif self._is_ended:
            raise NotListening
        if self._joined is not None and not self._joined.done():
            await asyncio.shield(self._joined)

    async def start_by_request(self) -> None:
        """
        Join the cluster on behalf of a request, in an application that gets no lifespan.

        Raises:
            NotListening: if it has ended in this event loop; requests may come late.

        """
        if self._ended_in is asyncio.get_running_loop():
            raise NotListening
        await self.start(self.context)  # not in the context of a request, which others must not see

    def _renew(self) -> None:
        """Recreate everything that belongs to a single run."""
        self._is_ended = False
        self._ended_in = None

    def _demand_loop(self) -> None:
        """Refuse any event loop but the server's; if that is closed, its run is gone with it."""
        if self._node is None or self._node.loop is asyncio.get_running_loop():
            return
        if not self._node.loop.is_closed():
            raise WrongLoop
        if self.count():
            write(LOGGER, logging.WARNING, _LOST.format(self.count()))
        self._node.threads.close()
        self._abandon()

    def _abandon(self) -> None:
        """Release what a closed event loop has left behind."""
        self._forget_node()

    def _forget_node(self) -> None:
        self._handlers.log.later = None
        self._handlers.log.flush()
        self._node = None

    async def destroy(self) -> None:
        """End the sessions and leave the cluster; may be called before the start, and more than once."""
        await self.end()

    async def end(self) -> None:
        """End the sessions and leave the cluster; does nothing if the server already has."""
        self._demand_loop()
        self._is_ended = True
        self._ended_in = asyncio.get_running_loop()
        node = self._node
        if node is not None:
            deadline = node.loop.time() + self._times.finish
            node.end_sessions()
            await node.finish(deadline)
            self._handlers.emit("close")
            await node.finish(max(deadline, node.loop.time() + self._times.cancel))
            await node.leave()
            self._forget_node()

    def _call_later(self, seconds: float, function: Callable[[], object]) -> None:
        loop = self.node.loop  # not the caller's: an ASGI server may call from another thread
        loop.call_soon_threadsafe(loop.call_later, seconds, function)

    def cancel_work(self) -> None:
        """Cancel running handlers and hooks, and wait for none of them at shutdown."""
        if self._node is not None:
            self._node.hurry()

    def from_thread(self, function: Callable[..., Any], *args: Any) -> concurrent.futures.Future[Any]:
        """
        Run a function in the server's thread, from any other.

        Returns a future of what the function returns, or of what awaiting that gives.

        Raises:
            NotListening: if the server was not started.

        """
        loop = self.node.loop
        outcome: concurrent.futures.Future[Any] = concurrent.futures.Future()

        async def call() -> None:
            if not outcome.set_running_or_notify_cancel():
                return
            try:
                result = function(*args)
                if inspect.isawaitable(result):
                    result = await result
            except BaseException as error:
                outcome.set_exception(found := contained(error))
                if not isinstance(found, Exception):
                    raise
            else:
                outcome.set_result(result)

        context = own_current_context()
        loop.call_soon_threadsafe(lambda: self.node.track(loop.create_task(call(), context=context)))
        return outcome


def _checked_hook(name: str, hook: Callable[..., Any]) -> Callable[..., Any]:
    check_parameters(hook, name, HOOKS[name])
    return hook


def _name(account: str, session: str) -> Name:
    return AccountId(as_name(account, "account")), SessionId(as_name(session, "session"))
