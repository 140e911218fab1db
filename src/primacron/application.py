"""The server class that applications import."""

from __future__ import annotations

import asyncio
import socket
import ssl as tls
import warnings
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from functools import cached_property
from typing import Self, TypeAlias

from primacron.asgi import AsgiApplication, lifespan
from primacron.backends import choose_backend
from primacron.config import MOST, READYZ, read_options
from primacron.contexts import own_current_context
from primacron.errors import NotListening, OptionError
from primacron.natives import as_name
from primacron.routes.endpoint import Endpoint, OperationsEndpoint
from primacron.running import run, supervise
from primacron.server import Server
from primacron.standalone.acceptors import Acceptors
from primacron.standalone.frames import COMPILED
from primacron.standalone.listener import Listener
from primacron.standalone.packet_socket import WebSocketStream
from primacron.standalone.sockets import bind, bind_path, is_loopback
from primacron.standalone.workers import Worker

#: Seconds clients have to receive their last responses when the server shuts down.
LAST_ANSWERS = 1.0

_EVERY_ADDRESS = ("", "::", "0.0.0.0")  # noqa: S104 (compared with, not bound)

Bound: TypeAlias = Callable[[], object]
Address: TypeAlias = tuple[str, int] | str


class Primacron(Server):
    """
    A real-time server with an Engine.IO endpoint.

    ``Primacron(redis, options)``, with options as a mapping or as keywords; see
    :class:`primacron.config.Options`. Without ``redis`` it is complete in a single
    process.

    Raises:
        OptionError: naming the option, what it accepts and what it got.

    """

    def __init__(self, redis: object = None, options: Mapping[str, object] | None = None, **keywords: object) -> None:
        checked = read_options({**_mapping(options), **keywords})
        super().__init__(checked, choose_backend(redis, checked))
        self._starting: set[asyncio.Task[Self]] = set()
        #: Those that the shutdown waits for.
        self._awaited: set[asyncio.Task[Self]] = set()
        self._destroying: asyncio.Task[None] | None = None
        self._shown: tuple[str | None, int | None] = (self.options.address, self.options.port)
        self._warned = False
        self._renew()

    def _renew(self) -> None:
        super()._renew()
        self._listeners: list[Listener] = []
        self._acceptors = Acceptors(self.problem)
        self._addresses: list[Address] = []
        self._has_ended = asyncio.Event()
        self._is_secure = False
        self._has_control = False
        #: Whether the server is reachable from this machine only.
        self.is_local = True
        #: The address of the control routes, if the option ``control`` gives them their own.
        self.control_address: Address | None = None

    def _abandon(self) -> None:
        super()._abandon()
        self._acceptors.abandon()
        self._starting.clear()
        self._destroying = None
        self._renew()

    # As an ASGI application

    @cached_property
    def asgi(self) -> AsgiApplication:
        """The server as an ASGI application, to mount in FastAPI, Starlette or Django; it starts by itself."""
        return AsgiApplication(self)

    def lifespan(self, app: object = None) -> AbstractAsyncContextManager[None]:
        """Return a context manager that starts and ends the server: ``FastAPI(lifespan=server.lifespan)``."""
        return lifespan(self)

    # Listening

    def listen(
        self,
        port: int | Bound = 0,
        host: str | Bound | None = None,
        bound: Bound | None = None,
        *,
        path: str | None = None,
        sock: socket.socket | None = None,
        ssl: tls.SSLContext | None = None,
        backlog: int = 4096,
        reuse_port: bool = False,
    ) -> asyncio.Task[Self]:
        """
        Listen for clients: on ``host`` and ``port``, on the Unix socket ``path``, or on ``sock``.

        ``host`` None means every address, port 0 a free one. A function passed as the last
        positional argument is called once the server is bound. Awaiting the result is
        optional: the server keeps the task. A destroyed server starts afresh once its
        shutdown is complete; registrations and counters are kept.

        Raises:
            RuntimeError: if no event loop is running.
            WrongLoop: when awaited, if the server was started in another event loop
                that is still open.
            OSError: when awaited, if the address is taken or not available.

        """
        given = [each for each in (port, host, bound) if callable(each)]
        port_number = 0 if callable(port) else port
        if isinstance(port_number, bool) or not isinstance(port_number, int) or not 0 <= port_number <= 65535:
            raise OptionError("port", "an integer from 0 to 65535", port)
        if isinstance(backlog, bool) or not isinstance(backlog, int) or not 0 <= backlog <= MOST:
            raise OptionError("backlog", f"an integer from 0 to {MOST}", backlog)
        if ssl is not None and not isinstance(ssl, tls.SSLContext):
            raise OptionError("ssl", "an ssl.SSLContext", ssl)
        place = _Place(port_number, None if callable(host) else host, path, sock, ssl, backlog, reuse_port)
        task = asyncio.get_running_loop().create_task(self._listen(place, given, self._ending()))
        self._starting.add(task)
        task.add_done_callback(self._starting.discard)
        return task

    async def _listen(self, place: _Place, bound: list[Bound], former: asyncio.Task[None] | None) -> Self:
        self._demand_loop()
        if former is not None:
            await asyncio.wait({former})  # the shutdown of the previous run
        await self.start()
        sockets = place.sockets()
        try:
            control = self._control_sockets(reuse_port=place.reuse_port)
        except OSError:
            for each in sockets:
                each.close()
            raise
        self.is_local = self.is_local and all(map(is_loopback, sockets))
        self._warn_if_open()
        listener = self._new_listener(Endpoint(self), secure=place.ssl is not None)
        for each in sockets:
            self._addresses.append(await self._serve(each, listener, place))
        if control:
            await self._listen_for_control(control)
        self._is_secure = self._is_secure or listener.secure
        self.node.cluster.address = self.uri
        self._handlers.emit("listening")
        for function in bound:
            own_current_context().run(function)
        return self

    def _control_sockets(self, *, reuse_port: bool) -> list[socket.socket]:
        """Return the bound sockets of the option ``control``, the first time only."""
        if self.options.control is None or self._has_control:
            return []
        host, port = self.options.control
        sockets = bind(host, port, reuse_port=reuse_port)
        self._has_control = True
        return sockets

    async def _listen_for_control(self, sockets: list[socket.socket]) -> None:
        listener = self._new_listener(OperationsEndpoint(self), secure=False)
        for each in sockets:
            self.control_address = await self._serve(each, listener, _Place(0, None))

    def _new_listener(self, endpoint: Endpoint | OperationsEndpoint, *, secure: bool) -> Listener:
        node = self.node
        hub = node.hub
        listener = Listener(
            endpoint,
            self.options,
            node.loop,
            hub.wheel,
            hub.turns,
            WebSocketStream,
            secure=secure,
            unfinished=hub.unfinished,
        )
        self._listeners.append(listener)
        return listener

    async def _serve(self, sock: socket.socket, listener: Listener, place: _Place) -> Address:
        name = sock.getsockname()
        await self._acceptors.add(sock, listener, place.ssl, place.backlog, is_given=place.is_given)
        return name if isinstance(name, str) else (name[0], name[1])

    def unready(self) -> list[str]:
        """Return why the server should get no new clients now; empty if it may."""
        reasons = super().unready()
        if self._acceptors.is_paused:
            reasons.append("hardly any file descriptors are left: nobody is accepted")
        return reasons

    def _warn_if_open(self) -> None:
        if self._warned or self.is_local or self._handlers.authorizer is not None:
            return
        self._warned = True
        warnings.warn(
            "listening beyond this machine without `authorize`: an account is whatever a client says it is",
            stacklevel=2,
        )

    def address(self) -> Address:
        """
        Return the bound address, ``(host, port)`` or the path of a Unix socket; the first if there are several.

        Raises:
            NotListening: before ``listen`` is done, and after ``destroy``.

        """
        if not self._addresses:
            raise NotListening
        return self._addresses[0]

    def network(self, address: str | None = None, port: int | None = None) -> Self:
        """Set what ``uri`` shows, like the options ``address`` and ``port``; None leaves it unchanged."""
        shown = None if address is None else as_name(address, "address")
        self._shown = (shown or self._shown[0], port or self._shown[1])
        return self

    @property
    def uri(self) -> str:
        """The server's address for display; nothing connects to it."""
        host, port = self._shown
        if self._addresses and isinstance(self._addresses[0], tuple):
            bound_host, bound_port = self._addresses[0]
            host = host or (socket.gethostname() if bound_host in _EVERY_ADDRESS else bound_host)
            port = port or bound_port
        host = host or "localhost"
        text = f"{'https' if self._is_secure else 'http'}://{f'[{host}]' if ':' in host else host}"
        return f"{text}:{port}" if port else text

    @property
    def place(self) -> str:
        """Where clients find the stream: its URL, or the Unix socket and the path."""
        address = self.address()
        return f"{address}, {self.endpoint_path}" if isinstance(address, str) else f"{self.uri}{self.endpoint_path}"

    @property
    def about(self) -> str:
        """What the person at the terminal wants to know about a server that has started."""
        return f"{'compiled' if COMPILED else 'plain Python, not compiled'}; {self.reach}"

    def explain_secret(self, secret: str) -> str:
        """Describe what a secret generated for this run is good for."""
        return (
            f'"Authorization: Bearer {secret}" opens PUT {self.options.broadcast_path} and the details of {READYZ}, '
            "until the end; the option secret sets one of yours"
        )

    def run(
        self,
        port: int = 0,
        host: str | None = None,
        *,
        path: str | None = None,
        sock: socket.socket | None = None,
        ssl: tls.SSLContext | None = None,
        backlog: int = 4096,
        reuse_port: bool = False,
        workers: int = 1,
    ) -> None:
        """
        Listen, and serve until SIGTERM or SIGINT: the blocking form of :meth:`listen`.

        Runs on uvloop where that is installed. Shutdown takes at most 5 seconds, even
        while handlers block; a second signal ends the process at once. Also returns when
        the server is destroyed. Outside the main thread there are no signals: end it with
        ``server.from_thread(server.destroy)``.

        With ``workers`` the program is started that many times on one port; each is a
        server of its own, so Redis is required. A worker that exits is replaced, and
        SIGHUP replaces all of them, one after another.

        Raises:
            RuntimeError: if an event loop is already running.
            OptionError: if there are to be several workers without a Redis, or not
                on a port.
            OSError: if the address is taken or not available.

        """
        if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
            raise OptionError("workers", "an integer of at least 1", workers)
        worker = Worker.of_environment()
        if workers > 1 and worker is None:
            self._supervise(port, host, workers, is_elsewhere=path is not None or sock is not None)
            return
        if worker is not None:
            port, reuse_port = worker.port, True
        place = {"path": path, "sock": sock, "ssl": ssl, "backlog": backlog, "reuse_port": reuse_port}
        run(self, lambda: self.listen(port, host, **place), worker)  # type: ignore[arg-type]

    def _supervise(self, port: int, host: str | None, workers: int, *, is_elsewhere: bool) -> None:
        if not self.is_shared:
            raise OptionError("workers", "1 without a Redis: several workers need one to share their sessions", workers)
        if is_elsewhere:
            raise OptionError("workers", "1 on a path or a given socket: several workers share a port", workers)
        supervise(self, port, host, workers)

    # Shutdown

    async def destroy(self) -> None:
        """
        Disconnect all clients and stop listening.

        Waits for handlers and the registry, at most 5 seconds, and closes what the
        server opened. May be called before ``listen``, and more than once. Afterwards the
        server can be started afresh.
        """
        self._demand_loop()
        if self.is_started:
            self.node.excuse(asyncio.current_task())  # a handler may shut down the server
        ending = self._ending()
        if ending is None or self._starting - self._awaited:
            self._awaited = {*self._starting}
            ending = self._destroying = asyncio.get_running_loop().create_task(self._destroy({*self._awaited}))
        await asyncio.shield(ending)

    def _ending(self) -> asyncio.Task[None] | None:
        """Return the shutdown in progress, if any."""
        ending = self._destroying
        is_running = ending is not None and not ending.done() and ending.get_loop() is asyncio.get_running_loop()
        return ending if is_running else None

    async def wait_ended(self) -> None:
        """Wait until the server has shut down, whoever asked for that."""
        await self._has_ended.wait()

    def hurry(self) -> None:
        """Stop waiting for anything during shutdown: cancel handlers, drop connections."""
        self.cancel_work()
        for listener in self._listeners:
            listener.abort()

    async def _destroy(self, starting: set[asyncio.Task[Self]]) -> None:
        # Not those that start from now on: they wait for this one.
        if starting:
            await asyncio.wait(starting)
        await self._acceptors.close(LAST_ANSWERS)
        await self.end()
        await self._close_listeners()
        self._addresses.clear()
        self.control_address = None
        self._has_ended.set()

    async def _close_listeners(self) -> None:
        for listener in self._listeners:
            listener.close()
        try:
            async with asyncio.timeout(LAST_ANSWERS):
                await self._all_closed()
        except TimeoutError:
            for listener in self._listeners:
                listener.abort()
            await self._all_closed()
        self._listeners.clear()

    async def _all_closed(self) -> None:
        for listener in self._listeners:
            await listener.wait_closed()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.destroy()


class _Place:
    """Where to listen."""

    def __init__(
        self,
        port: int,
        host: str | None,
        path: str | None = None,
        sock: socket.socket | None = None,
        ssl: tls.SSLContext | None = None,
        backlog: int = 4096,
        reuse_port: bool = False,
    ) -> None:
        self._port = port
        self._host = host
        self._path = path
        self._sock = sock
        self.reuse_port = reuse_port
        self.ssl = ssl
        self.backlog = backlog

    @property
    def is_given(self) -> bool:
        """Whether the caller owns the socket and keeps it."""
        return self._sock is not None

    def sockets(self) -> list[socket.socket]:
        """Return the bound sockets; the caller's own is duplicated, as the event loop closes what it serves."""
        if self._sock is not None:
            return [self._sock.dup()]
        if self._path is not None:
            return [bind_path(self._path)]
        return bind(self._host, self._port, reuse_port=self.reuse_port)


def _mapping(options: Mapping[str, object] | None) -> Mapping[str, object]:
    if options is None:
        return {}
    if not isinstance(options, Mapping):
        raise OptionError("options", "a mapping", options)
    return options


def create_server(redis: object = None, options: Mapping[str, object] | None = None, **keywords: object) -> Primacron:
    """Return a server; the same as :class:`Primacron`."""
    return Primacron(redis, options, **keywords)


primacron = create_server
