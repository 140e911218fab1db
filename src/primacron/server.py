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

from primacron.cluster.base import Backend
from primacron.config import Options
from primacron.content import Message
from primacron.contexts import own_current_context
from primacron.contract.validation import Contract
from primacron.emitter import Emitter, Listener, Once
from primacron.entries import Name
from primacron.errors import NotListening, Refused, WrongLoop
from primacron.exits import contained
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
from primacron.sessions.session import Session
from primacron.targets import AccountTarget, Everyone, SessionInfo, SessionTarget
from primacron.times import Times
from primacron.transports import polling

F = TypeVar("F", bound=Callable[..., Any])
P = TypeVar("P", bound=Page)

#: What is written of a server whose event loop was closed under it.
_LOST: Final = (
    "the event loop of the server was closed without `await server.destroy()`: {} sessions are lost; "
    "a test client that makes a loop for each request must be entered: `with TestClient(app) as client`"
)


class Server:
    """What all ways of serving have in common; applications use :class:`primacron.Primacron`."""

    def __init__(self, options: Options, open_backend: Callable[[], Backend] | None = None) -> None:
        self.options = options
        #: In which it was made; see :meth:`start`.
        self.context = copy_context()
        self._open_backend = open_backend
        self._times = Times()
        self.metrics = Metrics()
        self._emitter = Emitter()
        self._contract = Contract(max_args=options.max_args, max_name=options.max_name)
        self._handlers = Handlers(options, self._contract, self._emitter, self.metrics)
        self._pipe_authorizer: Callable[..., Any] | None = None
        #: Paths that the application answers itself; see :meth:`get`.
        self.pages = Pages(options)
        self._node: Node | None = None
        self._joined: asyncio.Task[None] | None = None
        self._is_ended = False
        #: The event loop in which it has ended, if it has.
        self._ended_in: asyncio.AbstractEventLoop | None = None
        #: Bearers of the control routes.
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
        Let a function decide about each handshake; use it as a decorator, or override it.

        The function gets the :class:`HttpRequest`, may be asynchronous, and returns
        the account, or True for the one that the query names. False or
        :class:`Refused` turns the client away, and so does anything else, None too:
        that is ``error::handler``, as a ``return`` may be missing.
        """
        self._handlers.authorizer = _checked_hook("authorize", hook)
        return hook

    def authorize_pipe(self, hook: F) -> F:
        """
        Let a function decide who may follow whom; use it as a decorator, or override it.

        The function gets the following :class:`Session`, and account and id of the
        one to be followed, may be asynchronous, and returns True to allow it. False
        or :class:`Refused` forbids it, and so does anything else, which is
        ``error::handler``. Without it both must be of one account.
        """
        self._pipe_authorizer = _checked_hook("authorize_pipe", hook)
        return hook

    def uuid(self, generator: Callable[..., Any]) -> Any:
        """
        Let a function name new sessions; override it for the same.

        The function gets the :class:`HttpRequest`, may be asynchronous, and returns
        1 to 128 characters without controls. Returns the server.
        """
        self._handlers.generator = _checked_hook("uuid", generator)
        return self

    # Events of clients

    def event(self, name: str, *, thread: bool = False) -> Callable[[F], F]:
        """
        Return a decorator that makes a function the handler of an event.

        The annotations of its parameters after the first, which gets the
        :class:`Session`, are the validator. What it returns answers a client that
        asked for it: None is no value, a tuple several. ``thread`` runs a plain
        function in a pool of threads.

        Raises:
            RegistrationError: if the name has a validator already or is one of the
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

        It gets the arguments, may be asynchronous, and returns None or True to
        accept them, False to refuse them, or :class:`Transformed` to replace them.
        What it raises refuses them: the client reads the text of a ValueError, an
        AssertionError or :class:`Refused`, and of nothing else, which is
        ``error::handler``. Accepted events are heard with ``on("stream::<event>")``.

        Raises:
            RegistrationError: if the name has a validator already, or is one of the
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

    # Pages

    def get(self, path: str) -> Callable[[P], P]:
        """
        Return a decorator that lets a function answer GET and HEAD requests for exactly this path.

        The function gets the :class:`HttpRequest`, may be asynchronous, and returns
        text or bytes, whose type the ending of the path tells (HTML where it has
        none), or an :class:`HttpResponse`. :class:`Refused` answers with its status;
        anything else that is raised is ``error::handler`` and the status 500.

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
        Let a function hear an event of the server; without a function, return a decorator.

        The event of ``stream::<event>`` may be registered later, until the server starts.

        Raises:
            RegistrationError: if there is no such event, or the function does not
                take what it is called with.

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
        """Let a function hear the next event of this name; ``off`` takes it back."""
        name = read_own_event(event, "once")
        self._listen_for(name, Once(self._emitter, name, listener), listener)
        return self

    def off(self, event: str, listener: Listener) -> Self:
        """Let a function no longer hear an event."""
        self._emitter.remove(read_own_event(event, "off"), listener)
        return self

    def _listen_for(self, event: str, listener: Listener, function: Listener) -> None:
        if event in EVENTS:
            check_parameters(function, f"listener of {event!r}", EVENTS[event])
        elif self._node is not None:
            check_stream(event, function, self._contract.events)
        self._emitter.add(event, listener)

    def _check_streams(self) -> None:
        """Refuse to start with a listener of accepted events that no client can send."""
        for event, listener in self._emitter:
            if event.startswith(STREAM):
                check_stream(event, listener, self._contract.events)

    @property
    def log(self) -> Log:
        """Where what no listener hears is written."""
        return self._handlers.log

    def log_errors(self, logger: logging.Logger) -> Self:
        """
        Write every ``error::`` event to a logger, in the place of ``primacron``'s one line a minute.

        It is a listener of ``error::*``: what is written here is not written there.
        """

        def log(error: Exception, context: Context) -> None:
            write(logger, logging.WARNING, describe(error, context), error if has_traceback(error) else None)

        return self.on(ALL_ERRORS, log)

    # Targets

    def session(self, account: str, id: str) -> SessionTarget:
        """Return one session as a target, wherever it is."""
        return SessionTarget(self.node, account, id)

    def account(self, id: str) -> AccountTarget:
        """Return all sessions of an account as a target."""
        return AccountTarget(self.node, id)

    @property
    def everyone(self) -> Everyone:
        """All sessions, as a target."""
        return Everyone(self.node)

    # The original's names, as thin forms of the above

    async def find(self, account: str, session: str) -> SessionInfo | None:
        """
        Return where a session is, or None.

        Raises:
            BackendUnavailable: if the other servers cannot be asked now, or may not all
                have written their sessions yet, as right after an outage.

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
            TypeError: if ``event`` is no text, or a value cannot be encoded.
            WrongThread: if called from another thread.

        """
        self.node.hub.demand_thread("forward")
        return self.session(account, session).send(Message.of(message))

    async def pipe(self, follower: Session, account: str, session: str, *, received: bool = False) -> Receipt:
        """
        Let a session of this process follow another one, wherever that is.

        The follower's client gets each event that the followed one sends, once it has
        passed its validator, with ``"origin": {"account", "session", "direction"}``
        beside it; with ``received`` also what the followed one gets. It lasts until
        :meth:`unpipe` or the follower's end, and over a return of the followed one
        with the same session id.

        The receipt is ``accepted``, ``unknown_session``, ``refused`` (it has
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
        """Let a session of this process follow another one no longer."""
        return await self.node.feature(Following).unpipe(follower, _name(account, session))

    def broadcast(self, message: Any) -> Delivery[Reach]:
        """Send a message to everyone; see :meth:`forward`."""
        self.node.hub.demand_thread("broadcast")
        return self.everyone.send(Message.of(message))

    def socket(self, session: str) -> Session | None:
        """Return a session of this process by its id alone, after a look at all of them."""
        wanted = as_name(session, "session")
        return next((each for each in self.node.hub.sessions if each.id == wanted), None)

    # For the routes of operators

    def problem(self, error: Exception, **context: Any) -> None:
        """Count an error and tell its listeners."""
        self._handlers.problem(error, **context)

    async def session_of(self, sid: str) -> SessionTarget | Receipt:
        """Return the session of a connection as a target, wherever that is; or why nothing can be sent there."""
        found = await self.node.router.whose(Sid(sid))
        return found if isinstance(found, Receipt) else self.session(*found)

    def unready(self) -> list[str]:
        """Return why the server should get no new clients now; empty when it may."""
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
        """Who finds the sessions of this process, and whether what that takes answers, as people are told."""
        return self.node.cluster.reach

    def details(self) -> dict[str, Any]:
        """Return what operators may want to see beside readiness."""
        return {
            "accounts": "authorized" if self._handlers.authorizer is not None else "unverified",
            "sessions": self.count(),
            "lag": round(self.node.hub.wheel.lag, 3),
            **self.node.cluster.details(),
        }

    # Life

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
        """Whether it is started, in the event loop that runs now."""
        return self._node is not None and self._node.loop is asyncio.get_running_loop()

    @property
    def endpoint_path(self) -> str:
        """The path of the stream."""
        return self.options.endpoint

    def count(self) -> int:
        """Return the number of sessions of this process."""
        return 0 if self._node is None else len(self._node.hub.sessions)

    @property
    def is_shared(self) -> bool:
        """Whether other processes may have sessions of the same server."""
        return self._open_backend is not None

    async def start(self, context: Surroundings | None = None) -> None:
        """
        Join the cluster; nothing happens if the server did already.

        One that has ended starts as new: with what is registered, and its counters.
        Handlers and listeners run in copies of ``context``; None is the current one.

        Raises:
            NotListening: while it ends.
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
            self._handlers.log.later = self._call_later
            self._joined = self._node.loop.create_task(self._node.join())
        elif self._is_ended:
            raise NotListening
        if self._joined is not None and not self._joined.done():
            await asyncio.shield(self._joined)

    async def start_by_request(self) -> None:
        """
        Join the cluster because somebody asks for something, who hears of no lifespan.

        Raises:
            NotListening: if it has ended in this event loop; requests may come late.

        """
        if self._ended_in is asyncio.get_running_loop():
            raise NotListening
        await self.start(self.context)  # not in that of a request, which others must not see

    def _renew(self) -> None:
        """Make new what belongs to one life of a server."""
        self._is_ended = False
        self._ended_in = None

    def _demand_loop(self) -> None:
        """Refuse another event loop than the server's; one that is closed has taken everything with it."""
        if self._node is None or self._node.loop is asyncio.get_running_loop():
            return
        if not self._node.loop.is_closed():
            raise WrongLoop
        if self.count():
            write(LOGGER, logging.WARNING, _LOST.format(self.count()))
        self._node.threads.close()
        self._abandon()

    def _abandon(self) -> None:
        """Let go of what a closed event loop has left."""
        self._forget_node()

    def _forget_node(self) -> None:
        self._handlers.log.later = None
        self._handlers.log.flush()
        self._node = None

    async def destroy(self) -> None:
        """End the sessions and leave the cluster; works before the start, and twice."""
        await self.end()

    async def end(self) -> None:
        """End the sessions and leave the cluster; nothing happens if the server did already."""
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
        loop = self.node.loop  # not that of who calls: an ASGI server may do so from another thread
        loop.call_soon_threadsafe(loop.call_later, seconds, function)

    def cancel_work(self) -> None:
        """Cancel the handlers and hooks that run, and wait for none any more when the server ends."""
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
