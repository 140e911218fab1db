"""
Listening sockets, and what happens to them when the process runs out of file descriptors.

Out of descriptors, uvloop accepts clients only to drop them, and asyncio retries
without a pause and logs thousands of lines. So accepting stops shortly before that
point: clients wait in the kernel's queue until there is room.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
import ssl as tls
from collections.abc import Callable, Coroutine
from typing import Any, Final

from primacron.errors import OutOfDescriptors
from primacron.standalone.connection import HttpConnection
from primacron.standalone.listener import Listener
from primacron.wheel import Alarm, Wheel

#: Descriptors kept free for everything but clients: files, Redis, the application. A third, if the limit is low.
RESERVE: Final = 32
#: Clients accepted between checks of the free descriptors.
LOOK_EVERY: Final = 16
#: Free descriptors beyond the reserve at which accepting resumes.
ENOUGH: Final = 8
#: Seconds between periodic checks, whether or not anybody connects.
LOOK_AFTER: Final = 1.0

_UNIX: Final = getattr(socket, "AF_UNIX", None)


class Acceptor:
    """One listening socket; holds a descriptor of its own, so that the queue outlives the event loop's server."""

    def __init__(
        self, sock: socket.socket, listener: Listener, ssl: tls.SSLContext | None, backlog: int, *, is_given: bool
    ) -> None:
        self._sock = sock
        self._listener = listener
        self._backlog = backlog
        #: Whether the caller owns the socket and keeps it.
        self._is_given = is_given
        self._server: asyncio.Server | None = None
        self._is_open = False
        self._settings: dict[str, Any] = {"ssl": ssl}
        if ssl is not None:  # the event loop's defaults are 60 and 30 seconds
            self._settings["ssl_handshake_timeout"] = listener.options.header_timeout
            self._settings["ssl_shutdown_timeout"] = listener.options.body_timeout

    async def open(self, greet: Callable[[], object]) -> None:
        """Accept clients; ``greet`` is called for each."""
        if self._is_open:
            return
        self.close()
        loop, listener = self._listener.loop, self._listener

        def take() -> HttpConnection:
            greet()
            return HttpConnection(listener)

        create: Callable[..., Coroutine[Any, Any, asyncio.Server]] = loop.create_server
        if self._sock.family == _UNIX:
            create = loop.create_unix_server
        # asyncio accepts up to ``backlog`` connections per wakeup.
        batch = LOOK_EVERY if self._is_asyncios else self._backlog
        self._server = await create(take, sock=self._sock.dup(), backlog=batch, **self._settings)
        self._is_open = True
        if batch != self._backlog:
            self._sock.listen(self._backlog)

    @property
    def _is_asyncios(self) -> bool:
        return isinstance(self._listener.loop, asyncio.SelectorEventLoop)

    def pause(self) -> None:
        """Stop accepting for now; :meth:`open` resumes."""
        if self._server is None or (self._is_asyncios and self._sock.family == _UNIX):
            return  # some versions of asyncio unlink the path on close
        self._is_open = False
        if not self._is_asyncios:
            self._server.close()
        else:  # connections accepted just now still need its server
            for sock in self._server.sockets:
                self._listener.loop.remove_reader(sock.fileno())

    def close(self) -> None:
        """Close the event loop's server."""
        server, self._server = self._server, None
        self._is_open = False
        if server is not None:
            server.close()

    def abandon(self) -> None:
        """Release the socket after the event loop was closed."""
        with contextlib.suppress(RuntimeError):  # some event loops complain that they are closed
            self.close()
        if not self._is_given:
            with contextlib.suppress(OSError):
                self._sock.shutdown(socket.SHUT_RDWR)  # the event loop's duplicate may stay open
        self._sock.close()

    async def accept_queued(self, seconds: float) -> None:
        """Accept the backlog, whose connections the kernel would otherwise reset, and close the socket."""
        came: list[socket.socket] = []
        if not self._is_given:
            self._sock.setblocking(False)
            with contextlib.suppress(OSError):  # it would block: the backlog is empty
                while True:
                    came.append(self._sock.accept()[0])
        self._sock.close()
        connect, listener = self._listener.loop.connect_accepted_socket, self._listener
        accept = [connect(lambda: HttpConnection(listener), each, **self._settings) for each in came]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):  # a TLS handshake may take a while
                await asyncio.gather(*accept, return_exceptions=True)


class Acceptors:
    """All listening sockets of a server, opened and shut together."""

    def __init__(self, problem: Callable[[Exception], object]) -> None:
        self._problem = problem
        self._acceptors: list[Acceptor] = []
        self._left = LOOK_EVERY
        #: The descriptor of one of them, duplicated to probe how many are free.
        self._known = -1
        self._wheel: Wheel | None = None
        self._alarm: Alarm | None = None
        self._opening: asyncio.Task[None] | None = None
        #: Whether accepting is suspended.
        self.is_paused = False

    async def add(
        self, sock: socket.socket, listener: Listener, ssl: tls.SSLContext | None, backlog: int, *, is_given: bool
    ) -> None:
        """Accept clients on a bound socket."""
        acceptor = Acceptor(sock, listener, ssl, backlog, is_given=is_given)
        try:
            await acceptor.open(self._count)
        except BaseException:
            sock.close()
            raise
        self._acceptors.append(acceptor)
        self._known = sock.fileno()
        if self._wheel is None:
            self._wheel = listener.wheel
            self._look_later(self._wheel)

    def _count(self) -> None:
        self._left -= 1
        if self._left <= 0:
            self._look()

    def _look(self) -> None:
        self._left = LOOK_EVERY
        if self._acceptors and not self.is_paused and not has_room(self._known):
            self.is_paused = True
            # Deferred: the connection being accepted still needs the event loop's server.
            asyncio.get_running_loop().call_soon(self._pause)

    def _pause(self) -> None:
        for acceptor in self._acceptors:
            acceptor.pause()
        self._problem(OutOfDescriptors(limit()))

    def _look_later(self, wheel: Wheel) -> None:
        self._alarm = wheel.alarm(LOOK_AFTER, lambda: self._look_again(wheel))

    def _look_again(self, wheel: Wheel) -> None:
        self._look_later(wheel)
        if not self.is_paused:
            self._look()
        elif self._opening is None and has_room(self._known, ENOUGH):
            self._opening = asyncio.get_running_loop().create_task(self._open())

    async def _open(self) -> None:
        try:
            for acceptor in self._acceptors:
                await acceptor.open(self._count)
            self.is_paused = False
        except OSError as error:
            self._problem(error)  # and retried
        finally:
            self._opening = None

    def abandon(self) -> None:
        """Release all sockets after the event loop was closed."""
        for acceptor in self._acceptors:
            acceptor.abandon()
        self._acceptors.clear()

    async def close(self, seconds: float) -> None:
        """Stop accepting, except for the backlog, which has ``seconds`` for its TLS handshakes."""
        acceptors, self._acceptors = self._acceptors, []
        if self._alarm is not None and self._wheel is not None:
            self._wheel.cancel(self._alarm)
        if self._opening is not None:
            await asyncio.wait({self._opening})
        for acceptor in acceptors:
            acceptor.close()
        for acceptor in acceptors:
            await acceptor.accept_queued(seconds)


def limit() -> int:
    """Return the process's descriptor limit; read each time, since applications may change it."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft if soft != resource.RLIM_INFINITY else 1 << 30


def has_room(known: int, beyond: int = 0) -> bool:
    """
    Tell whether that many descriptors are free beyond the reserve.

    The kernel hands out the lowest free descriptor: all below it are in use. ``known``
    is one that can be duplicated to find it.
    """
    most = limit()
    try:
        lowest = os.dup(known)
    except OSError:
        return False
    os.close(lowest)
    return most - lowest > min(RESERVE, most // 3) + beyond
