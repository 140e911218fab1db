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
from primacron.standalone.reader import RequestReader
from primacron.turns import Turns
from primacron.wheel import Wheel

try:
    import cython  # type: ignore[import-untyped, unused-ignore]
except ImportError:  # needed to build, not to run
    from primacron import uncompiled as cython

if TYPE_CHECKING:
    from primacron.sessions.carrier import Wire
    from primacron.standalone.deflate import Agreement
    from primacron.web import Exchange, WebSocketExchange

#: Bytes in a socket's own queue from which a client counts as one that takes no data, and where it does again.
WRITE_LIMITS: Final = (65_536, 16_384)
#: Bytes of websocket frames that are read from one connection before others have their turn: a message of 64 kB with
#: its head, and a little. What a client has sent beyond its turn is kept, so this bounds it.
FRAMES_READ: Final = 81_920
#: Bytes that may wait to be decrypted, and at how many more are read: while we read nothing, the end of the connection
#: must not be read either, as uvloop throws away then what still waits.
TLS_LIMITS: Final = (1, 0)
#: Bytes of HTTP that are read from one connection before others have their turn.
HTTP_READ: Final = 65_536
#: Bytes of the block that tells the C library how much to keep; the most that glibc takes notice of is 32 MB.
KEPT: Final = 8_388_608


class Routes(Protocol):
    """Who answers requests."""

    def handle(self, exchange: Exchange) -> None:
        """Answer one HTTP request, now or later."""

    def upgrade(self, exchange: WebSocketExchange[Wire]) -> None:
        """Accept or refuse one websocket handshake."""

    def problem(self, error: Exception, **context: Any) -> None:
        """Hear of a request that broke the rules of HTTP."""


class Abortable(Protocol):
    """A connection, as far as the end of a listener needs it."""

    def close_when_idle(self) -> None:
        """Close at once, or after the answer that is being made."""

    def abort(self) -> None:
        """Drop the connection."""


class WebSocket(Protocol):
    """What takes the place of a connection that spoke HTTP, as far as that one needs it."""

    ready: bool

    def begin_with(self, rest: bytearray) -> None:
        """Read first what came together with the handshake."""


#: Makes a websocket: for a listener, on a transport with a descriptor, with the head of its answer and its compression.
MakeWebSocket: TypeAlias = "Callable[[Listener, asyncio.Transport, int, bytes, Agreement | None], WebSocket]"


def keep_freed_memory() -> None:
    """
    Let the process keep some megabytes that were freed, for the next large message.

    glibc gives what is free at the end of its heap back to the system, and a message of
    64 kB would wait for the same pages again and again. It keeps twice as much as the
    largest block that was ever freed, so this one need not be written to.
    """
    bytearray(KEPT)


class Listener:
    """One listening socket: who answers, the buffer that all connections are read into, the open ones."""

    if not cython.compiled:
        __slots__ = (
            "_all_closed",
            "_date",
            "_reader",
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
        #: What clients hold of messages and requests; shared with other listeners of the process.
        self.unfinished = unfinished if unfinished is not None else Unfinished(options.input_total)
        self.frames = FrameSettings(options.max_payload, FRAMES_READ)
        #: What HTTP is read into: less than frames, as all requests of one read are answered in one go.
        self.http_buffer = memoryview(self.frames.buffer)[:HTTP_READ]
        #: Connections that speak HTTP, and websockets in their closing handshake; others belong to their sessions.
        self.open: set[Abortable] = set()
        self.closing = False
        self._all_closed: asyncio.Future[None] | None = None
        self._date = b""
        self._second = 0
        self._reader: RequestReader | None = None

    def date(self) -> bytes:
        """Return the Date field's value, made once a second."""
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._date = formatdate(second, usegmt=True).encode("ascii")
        return self._date

    def take_reader(self) -> RequestReader:
        """Return a reader for a request; it comes back by :meth:`give_reader` when the request is whole."""
        reader, self._reader = self._reader, None
        return reader if reader is not None else RequestReader(self.options, secure=self.secure)

    def give_reader(self, reader: RequestReader) -> None:
        """Keep a reader for the next request, whoever sends it."""
        reader.leave()
        if self._reader is None:
            self._reader = reader
        else:
            reader.drop()

    def close(self) -> None:
        """End all connections once they have their answer."""
        self.closing = True
        for connection in tuple(self.open):
            connection.close_when_idle()

    def forget(self, connection: Abortable) -> None:
        """Take note that a connection is closed."""
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
