"""What all connections of one listening socket share."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

from primacron.config import Options
from primacron.sessions.unfinished import Unfinished
from primacron.standalone.frames import FrameSettings
from primacron.standalone.parser import RequestParser
from primacron.turns import Turns
from primacron.wheel import Wheel

try:
    import cython  # type: ignore[import-untyped, unused-ignore]
except ImportError:  # needed to build, not to run
    from primacron import uncompiled as cython

if TYPE_CHECKING:
    from primacron.sessions.transport import WebSocket
    from primacron.standalone.deflate import Agreement
    from primacron.web import Exchange, WebSocketExchange

#: Bytes in the write buffer above which a client counts as not reading, and below which it counts as reading again.
WRITE_LIMITS: Final = (65_536, 16_384)
#: Bytes of websocket frames read from one connection per turn: a 64 kB message with its header, and some slack. Input
#: beyond the turn is kept, so this bounds it too.
FRAMES_READ: Final = 81_920
#: TLS read-buffer limits, as small as possible: while reading is paused, EOF must not be read either, because uvloop
#: then discards what is still undecrypted.
TLS_LIMITS: Final = (1, 0)
#: Bytes of HTTP read from one connection per turn.
HTTP_READ: Final = 65_536
#: Bytes of the block that raises glibc's trim threshold; glibc ignores blocks above 32 MB.
KEPT: Final = 8_388_608


class Routes(Protocol):
    """Answers requests."""

    def handle(self, exchange: Exchange) -> None:
        """Answer one HTTP request, now or later."""

    def upgrade(self, exchange: WebSocketExchange[WebSocket]) -> None:
        """Accept or refuse one websocket handshake."""

    def problem(self, error: Exception, **context: Any) -> None:
        """Report a request that violated HTTP."""


class Abortable(Protocol):
    """A connection, as far as shutting down a listener needs it."""

    def close_when_idle(self) -> None:
        """Close now, or after the response in progress."""

    def abort(self) -> None:
        """Drop the connection."""


class Successor(Protocol):
    """The successor of an HTTP connection after an upgrade, as far as that connection needs it."""

    ready: bool

    def begin_with(self, rest: bytearray) -> None:
        """Parse the input that arrived with the handshake first."""


#: Makes a websocket from a listener, a transport, its descriptor, the head of the 101 response and the compression.
MakeWebSocket: TypeAlias = "Callable[[Listener, asyncio.Transport, int, bytes, Agreement | None], Successor]"


def keep_freed_memory() -> None:
    """
    Let the process keep some megabytes of freed memory for the next large message.

    glibc returns free memory at the top of its heap to the system, so every 64 kB message
    would fault in the same pages again. It retains twice the size of the largest
    mmapped block ever freed, which is why this one need not even be written to.
    """
    bytearray(KEPT)


class Listener:
    """One listening socket: its routes, the shared read buffer, and the open connections."""

    if not cython.compiled:
        __slots__ = (
            "_all_closed",
            "_date",
            "_parser",
            "_second",
            "closing",
            "frames",
            "http_buffer",
            "loop",
            "open",
            "options",
            "routes",
            "secure",
            "turns",
            "unfinished",
            "websocket",
            "wheel",
        )

    def __init__(
        self,
        routes: Routes,
        options: Options,
        loop: asyncio.AbstractEventLoop,
        wheel: Wheel,
        turns: Turns,
        websocket: MakeWebSocket,
        *,
        secure: bool,
        unfinished: Unfinished | None = None,
    ) -> None:
        keep_freed_memory()
        self.routes = routes
        self.options = options
        self.loop = loop
        self.wheel = wheel
        self.turns = turns
        self.websocket = websocket
        self.secure = secure
        #: Accounts for unfinished messages and requests; shared by all listeners of the process.
        self.unfinished = unfinished if unfinished is not None else Unfinished(options.input_total)
        self.frames = FrameSettings(options.max_payload, FRAMES_READ)
        #: Read buffer for HTTP: smaller than that for frames, as all requests of one read are answered in one go.
        self.http_buffer = memoryview(self.frames.buffer)[:HTTP_READ]
        #: Connections speaking HTTP, and websockets in their closing handshake; others belong to their sessions.
        self.open: set[Abortable] = set()
        self.closing = False
        self._all_closed: asyncio.Future[None] | None = None
        self._date = b""
        self._second = 0
        self._parser: RequestParser | None = None

    def date(self) -> bytes:
        """Return the value of the Date field, formatted once a second."""
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._date = formatdate(second, usegmt=True).encode("ascii")
        return self._date

    def take_parser(self) -> RequestParser:
        """Return a parser for a request; :meth:`give_parser` returns it once the request is complete."""
        parser, self._parser = self._parser, None
        return parser if parser is not None else RequestParser(self.options, secure=self.secure)

    def give_parser(self, parser: RequestParser) -> None:
        """Keep a parser for the next request of any connection."""
        parser.leave()
        if self._parser is None:
            self._parser = parser
        else:
            parser.drop()

    def close(self) -> None:
        """Close each connection once its current request is answered."""
        self.closing = True
        for connection in tuple(self.open):
            connection.close_when_idle()

    def forget(self, connection: Abortable) -> None:
        """Record that a connection is closed."""
        self.open.discard(connection)
        if not self.open and self._all_closed is not None and not self._all_closed.done():
            self._all_closed.set_result(None)

    async def wait_closed(self) -> None:
        """Wait until the last connection is closed."""
        if self.open:
            self._all_closed = self.loop.create_future()
            await self._all_closed

    def abort(self) -> None:
        """Drop all connections."""
        for connection in tuple(self.open):
            connection.abort()
