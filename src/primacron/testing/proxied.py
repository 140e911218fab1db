"""One connection through a proxy: a client's side and a server's, each a TCP connection."""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias, cast, get_args

#: How a connection drops; see ``Proxy.drop``.
Drop: TypeAlias = Literal["clean", "half-open", "silent", "one-way", "repeat"]
#: A direction in which bytes go.
Way: TypeAlias = Literal["to_client", "to_server"]
#: What becomes of new connections.
New: TypeAlias = Literal["pass", "refuse", "silent"]

#: How many of the bytes that a client sent last are kept; a longer request is not repeated.
KEPT: Final = 16_384
#: SO_LINGER without time: closing the socket sends a reset.
NO_LINGER: Final = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)


@dataclass(frozen=True, slots=True)
class Effect:
    """What a drop does: which sides are reset, and in which directions nothing passes any more."""

    resets_client: bool = False
    resets_server: bool = False
    cuts: frozenset[Way] = frozenset()


BOTH: Final[frozenset[Way]] = frozenset(get_args(Way))
#: The drops for which nothing else counts.
EFFECTS: Final[Mapping[Drop, Effect]] = {
    "clean": Effect(resets_client=True, resets_server=True, cuts=BOTH),
    "half-open": Effect(resets_client=True, cuts=BOTH),
    "silent": Effect(cuts=BOTH),
}


@dataclass
class Traffic:
    """What the connections of a proxy share."""

    #: Opens the server's side, to the next server.
    connect: Callable[[Callable[[], asyncio.Protocol]], Awaitable[object]]
    new: New = "pass"
    latency: float = 0.0
    lost: int = 0
    connections: list[ProxiedConnection] = field(default_factory=list)


class ProxiedConnection:
    """
    A client's connection through a :class:`Proxy`, as ``proxy.connections`` has it.

    ``client`` is the client's address: host and port.
    """

    def __init__(self, traffic: Traffic) -> None:
        self.client = ("", 0)
        self.client_side = Side(self, traffic, "to_server")
        #: The directions in which nothing passes any more.
        self.cuts: set[Way] = set()
        self._traffic = traffic
        self._server_side: Side | None = None
        #: The sides of servers that were lost by a repeat.
        self._abandoned: list[Side] = []
        self._opening: asyncio.Task[None] | None = None
        self._sent = bytearray()
        #: What the client has sent since it last got something.
        self._request = bytearray()

    @property
    def is_opening(self) -> bool:
        """Whether the server's side is being opened."""
        return self._opening is not None

    @property
    def sent(self) -> bytes:
        """The last 16 kB that the client sent; they tell which connection it is."""
        return bytes(self._sent[-KEPT:])

    async def drop(self, kind: Drop, *, way: Way = "to_client") -> bool:
        """
        Drop this connection, as :meth:`Proxy.drop` does all of them.

        Returns False if ``repeat`` finds no GET that waits.

        Raises:
            ValueError: if ``kind`` or ``way`` is none of those.

        """
        check(kind, Drop)
        check(way, Way)
        dropped = self.begin_drop(kind, way)
        await until_all(dropped or ())
        return dropped is not None

    def begin_drop(self, kind: Drop, way: Way) -> Iterable[asyncio.Future[None]] | None:
        """Drop it; return what to wait for, or None if there was nothing to drop."""
        if kind == "repeat":
            return self._repeat()
        effect = EFFECTS.get(kind) or Effect(cuts=frozenset([way]))
        self.cuts |= effect.cuts
        awaited: list[asyncio.Future[None]] = []
        if effect.resets_client:
            awaited += [self.client_side.reset(), *([self._opening] if self._opening is not None else [])]
        if effect.resets_server:
            awaited += [side.reset() for side in self.sides() if side is not self.client_side]
        for side in self.sides():
            if side.way in self.cuts:
                side.read_on()  # for nobody
        return awaited

    # The server's side

    def _open(self, first: bytes = b"") -> asyncio.Task[None]:
        """Connect to a server, and let these bytes be the first for it."""
        self._opening = asyncio.get_running_loop().create_task(self._connect(first))
        return self._opening

    async def _connect(self, first: bytes) -> None:
        try:
            await self._traffic.connect(lambda: Side(self, self._traffic, "to_client", first))
        except OSError:
            self.client_side.reset()
        finally:
            self._opening = None

    @property
    def _waits(self) -> bool:
        """Whether the client waits for the answer to a GET."""
        request = self._request
        return request.startswith(b"GET ") and request.endswith(b"\r\n\r\n") and len(request) <= KEPT

    def _repeat(self) -> Iterable[asyncio.Future[None]] | None:
        if self._server_side is None or self.client_side.has_ended or not self._waits:
            return None
        lost, self._server_side = self._server_side, None
        self._abandoned.append(lost)
        lost.other = self.client_side.other = None
        lost.read_on()
        self.cuts.clear()
        return [self._open(bytes(self._request))]

    def sides(self) -> list[Side]:
        """Return the sides that there have been so far, the client's first."""
        return [self.client_side, *self._abandoned, *([self._server_side] if self._server_side is not None else [])]

    # From the sides

    def begin(self, side: Side) -> None:
        """Join a side that is open now to the other one."""
        if side is self.client_side:
            self._begin_client(side)
        elif self.client_side.transport.is_closing():
            side.reset()
        else:
            self._server_side = side
            self.client_side.other, side.other = side, self.client_side
            self.client_side.pass_held()

    def _begin_client(self, side: Side) -> None:
        if self._traffic.new == "refuse":
            side.reset()
            return
        self.client = side.transport.get_extra_info("peername")[:2]
        self._traffic.connections.append(self)
        if self._traffic.new == "silent":
            self.cuts |= BOTH
        else:
            self._open()

    def heard_client(self, data: bytes) -> None:
        """Remember what a client sent."""
        self._sent += data
        if len(self._sent) > 2 * KEPT:
            del self._sent[:-KEPT]
        if len(self._request) <= KEPT:
            self._request += data

    def heard_server(self) -> None:
        """Forget the request: the client gets something."""
        self._request.clear()

    def settle(self) -> None:
        """Close what has nothing more to tell, or to be told."""
        for side in self.sides():
            if side.is_over and (side.other is None or side.other.is_over):
                side.transport.close()
        if self in self._traffic.connections and all(side.gone.done() for side in self.sides()):
            self._traffic.connections.remove(self)


class Side(asyncio.Protocol):
    """One of the two TCP connections; ``way`` is where its bytes go."""

    transport: asyncio.Transport
    #: Done when it is closed.
    gone: asyncio.Future[None]

    def __init__(self, connection: ProxiedConnection, traffic: Traffic, way: Way, first: bytes = b"") -> None:
        self.way: Final = way
        self.other: Side | None = None
        #: Whether nothing more comes from it.
        self.has_ended = False
        self._connection = connection
        self._traffic = traffic
        self._first = first
        #: What is on its way for as long as the latency; None is the end of the stream.
        self._late: deque[bytes | None] = deque()
        #: What is held back until there is another side.
        self._held: deque[bytes | None] = deque()

    @property
    def is_over(self) -> bool:
        """Whether nothing more comes from it, and all that came has been passed on."""
        return self.has_ended and not self._late and not self._held

    @property
    def _is_early(self) -> bool:
        connection = self._connection
        return (
            self.way == "to_server" and connection.is_opening and self.other is None and self.way not in connection.cuts
        )

    def reset(self) -> asyncio.Future[None]:
        """Close it by a reset; return what to wait for."""
        if not self.gone.done():
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
            self.transport.abort()
        return self.gone

    def read_on(self) -> None:
        """Read again."""
        if not self.transport.is_closing():
            self.transport.resume_reading()

    def _pass(self, data: bytes | None) -> None:
        """Pass on bytes or, with None, the end of the stream."""
        if self._traffic.latency or self._late:
            self._late.append(data)
            asyncio.get_running_loop().call_later(self._traffic.latency, self._pass_late)
        else:
            self._pass_now(data)

    def _pass_late(self) -> None:
        self._pass_now(self._late.popleft())
        self._connection.settle()

    def pass_held(self) -> None:
        """Pass on what was held back."""
        while self._held:
            self._pass_now(self._held.popleft())
        self.read_on()

    def _pass_now(self, data: bytes | None) -> None:
        other = self.other
        if self._is_early:
            self._held.append(data)
            self.transport.pause_reading()  # not before: uvloop forgets it when a connection is new
            return
        if other is None or other.transport.is_closing() or self.way in self._connection.cuts:
            self._traffic.lost += len(data or b"")
            return
        if self.way == "to_client":
            self._connection.heard_server()
        if data is None:
            other.transport.write_eof()
        else:
            other.transport.write(data)

    # From the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self.transport = cast("asyncio.Transport", transport)
        self.gone = asyncio.get_running_loop().create_future()
        if self._first:
            self.transport.write(self._first)
        self._connection.begin(self)

    def data_received(self, data: bytes) -> None:
        """Pass bytes on, or throw them away."""
        if self.way == "to_server":
            self._connection.heard_client(data)
        self._pass(data)

    def eof_received(self) -> bool:
        """Pass on the end of the stream; return True to stay open for what goes the other way."""
        self.has_ended = True
        self._pass(None)
        self._connection.settle()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass a reset on."""
        self.has_ended = True
        self.gone.set_result(None)
        if exc is not None and self.other is not None and self.way not in self._connection.cuts:
            self.other.reset()
        self._connection.settle()

    def pause_writing(self) -> None:
        """Read no more than the other side takes."""
        if self.other is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        """Read again."""
        if self.other is not None:
            self.other.read_on()


def check(value: str, alternatives: object) -> None:
    """
    Check that a value is one of those of a literal type.

    Raises:
        ValueError: if it is none of them.

    """
    if value not in get_args(alternatives):
        raise ValueError(f"{value!r} is none of {', '.join(get_args(alternatives))}")


async def until_all(futures: Iterable[asyncio.Future[None]]) -> None:
    """Wait until all of them are done, however they end."""
    if awaited := [*futures]:
        await asyncio.wait(awaited)
