"""A server without sockets and without waiting: requests and websockets in memory, a clock that is moved by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from primacron import Primacron, Session
from primacron.protocol.close_reasons import CloseReason
from primacron.protocol.engine import BEFORE_UPGRADE, ENDED, MOVES, Phase
from primacron.protocol.handshake import V4, TransportName
from primacron.protocol.outgoing import OutgoingPacket
from primacron.routes.endpoint import Endpoint
from primacron.sessions.connection import Connection
from primacron.sessions.transport import ConnectionOwner, Transport
from primacron.transports.polling import Polling
from primacron.web import Body, HttpRequest, HttpResponse

QUERY = "/stream/"


class Loop(asyncio.SelectorEventLoop):
    """An event loop that makes one turn at a time and whose time stands still in between."""

    def __init__(self) -> None:
        self.now = 1000.0
        super().__init__()
        self.failures: list[Any] = []
        self.set_exception_handler(lambda _, context: self.failures.append(context))

    def time(self) -> float:
        return self.now

    def turn(self, function: Callable[[], object] | None = None, *, times: int = 1) -> None:
        """Call a function inside the loop, and let it make so many turns."""
        if function is not None:
            self.call_soon(function)
        for _ in range(times):
            self.call_soon(self.stop)
            self.run_forever()

    def advance(self, seconds: float) -> None:
        """Let time pass, in steps that no deadline is missed by."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + 0.05)
            self.turn(times=4)


class MemoryExchange:
    """One request; see :class:`primacron.web.Exchange`."""

    def __init__(self, client: Client, request: HttpRequest, body: bytes, *, is_whole: bool) -> None:
        self.client = client
        self.request = request
        self.body = body
        self.is_whole = is_whole
        self.on_abort: Callable[[], None] | None = None
        self.response: HttpResponse | None = None
        self.is_lost = False
        self.is_dropped = False
        self._done: Callable[[Body], None] | None = None

    @property
    def is_over(self) -> bool:
        """Whether the client no longer waits for it."""
        return self.response is not None or self.is_lost or self.is_dropped

    def respond(self, response: HttpResponse) -> None:
        if not self.is_over:
            self.response = response
            self.on_abort = None
            self.client.take_response(self)

    def receive(self, limit: int, done: Callable[[Body], None]) -> None:
        self._done = done
        self._hand_over()

    def fail(self, error: Exception) -> None:
        raise error

    def abort(self) -> None:
        self.is_dropped = True
        self.on_abort = None

    # For the client

    def finish(self) -> None:
        """Send the rest of the body."""
        self.is_whole = True
        self._hand_over()

    def lose(self) -> None:
        """Go away."""
        self.is_lost = True
        on_abort, self.on_abort = self.on_abort, None
        if on_abort is not None:
            on_abort()

    def _hand_over(self) -> None:
        if self.is_whole and self._done is not None and not self.is_over:
            done, self._done = self._done, None
            done(self.body)


class MemoryWebSocket:
    """One websocket, its handshake first; see :class:`primacron.sessions.transport.WebSocket`."""

    name = TransportName.WEBSOCKET
    can_upgrade = False
    keeps_for_poll = False

    def __init__(self, client: Client, request: HttpRequest) -> None:
        self.client = client
        self.request = request
        self.on_abort: Callable[[], None] | None = None
        self.context = None
        self.connection: ConnectionOwner | None = None
        self.ready = True
        self.response: HttpResponse | None = None
        self.reason: CloseReason | None = None
        self.is_lost = False
        self._is_paused = False
        self._unread: list[str | bytes] = []

    @property
    def is_over(self) -> bool:
        """Whether the websocket was refused, closed or lost."""
        return self.response is not None or self.reason is not None or self.is_lost

    def respond(self, response: HttpResponse) -> None:
        assert self.reason is None
        assert self.response is None
        self.response = response

    def fail(self, error: Exception) -> None:
        raise error

    def accept(self) -> MemoryWebSocket:
        self.client.websockets.append(self)
        return self

    def write(self, packets: list[OutgoingPacket]) -> None:
        assert self.ready
        assert not self.is_over
        wire_format = self.connection.format if self.connection is not None else V4
        for packet in packets:
            _, data = packet.content(wire_format.version, wire_format.base64)
            self.client.take_packet(data.decode())

    def backlog(self) -> int:
        return 0

    def pause(self) -> None:
        self._is_paused = True

    def resume(self) -> None:
        self._is_paused = False
        asyncio.get_running_loop().call_soon(self._read)

    def close(self, reason: CloseReason) -> None:
        assert self.reason is None
        self.reason = reason
        self.connection = None

    # For the client

    def send(self, packet: str | bytes) -> None:
        """Send a frame."""
        self._unread.append(packet)
        self._read()

    def stall(self) -> None:
        """Take no data any more."""
        self.ready = False

    def flow(self) -> None:
        """Take data again."""
        self.ready = True
        if self.connection is not None:
            self.connection.flush()

    def lose(self) -> None:
        """Go away."""
        self.is_lost = True
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.lose(self)

    def _read(self) -> None:
        while self._unread and not self._is_paused and self.connection is not None:
            packet = self._unread.pop(0)
            if isinstance(packet, str):
                self.connection.receive_text(packet, self)
            else:
                self.connection.receive_binary(packet, self)


class Client:
    """A client that may break every rule, and what it saw."""

    def __init__(self, world: World, index: int, version: int) -> None:
        self.world = world
        self.index = index
        self.version = version
        self.sid: str | None = None
        self.polls: list[MemoryExchange] = []
        self.posts: list[tuple[MemoryExchange, list[int]]] = []
        self.websockets: list[MemoryWebSocket] = []
        self.session: Session | None = None
        self.connection: Connection | None = None
        #: Numbers of messages: sent to the server, promised by its ``ok``, handled there; sent by it, arrived here.
        self.sent = 0
        self.promised: list[int] = []
        self.handled: list[int] = []
        self.emitted = 0
        self.arrived: list[int] = []
        self.ends: list[str] = []

    @property
    def is_on_polling(self) -> bool:
        """Whether the server takes polls and posts of it."""
        connection = self.connection
        return connection is not None and connection.phase not in ENDED and connection.transport.keeps_for_poll

    def request(self, method: str, transport: str) -> HttpRequest:
        """Return a request; with a sid once there is one."""
        known = f"&sid={self.sid}" if self.sid else f"&account=a&client={self.index}"
        return HttpRequest(method, QUERY, f"EIO={self.version}&transport={transport}{known}", {"host": "h"}, peer="p")

    def poll(self) -> MemoryExchange:
        """Send a GET; without a sid it is the handshake."""
        exchange = MemoryExchange(self, self.request("GET", "polling"), b"", is_whole=True)
        self.polls.append(exchange)
        self.world.endpoint.handle(exchange)
        return exchange

    def post(self, body: bytes, numbers: list[int], *, is_whole: bool) -> None:
        """Send a POST with these messages."""
        exchange = MemoryExchange(self, self.request("POST", "polling"), body, is_whole=is_whole)
        self.posts.append((exchange, numbers))
        self.world.endpoint.handle(exchange)

    def open_websocket(self) -> None:
        """Send a websocket handshake; with a sid it is to take over."""
        self.world.endpoint.upgrade(MemoryWebSocket(self, self.request("GET", "websocket")))

    def new_messages(self, count: int, pause: int) -> tuple[list[int], list[str]]:
        """Return the numbers and packets of new messages; ``pause`` is how long their handlers take."""
        numbers = list(range(self.sent, self.sent + count))
        self.sent += count
        return numbers, [f"4{number}:{pause}" for number in numbers]

    def encode(self, packets: list[str]) -> bytes:
        """Return a payload."""
        if self.version == 4:
            return "\x1e".join(packets).encode()
        return "".join(f"{len(packet)}:{packet}" for packet in packets).encode()

    # What arrives

    def take_response(self, exchange: MemoryExchange) -> None:
        response = exchange.response
        assert response is not None
        if exchange.request.method == "POST":
            if response.body == b"ok":
                self.promised += next(numbers for each, numbers in self.posts if each is exchange)
        elif response.status == 200:
            for packet in self._decode(response.body.decode()):
                self.take_packet(packet)

    def take_packet(self, packet: str) -> None:
        if packet[0] == "0":
            self.sid = packet.split('"')[3]
        elif packet[0] == "4":
            number = int(packet[1:].partition(":")[0])
            assert number == len(self.arrived), f"{number} behind {self.arrived}"
            self.arrived.append(number)

    def _decode(self, payload: str) -> list[str]:
        if self.version == 4:
            return payload.split("\x1e")
        packets = []
        while payload:
            length, _, payload = payload.partition(":")
            packets.append(payload[: int(length)])
            payload = payload[int(length) :]
        return packets


class World:
    """One server and its clients."""

    def __init__(self, **options: object) -> None:
        self.loop = Loop()
        self.server = Primacron(None, {"dialect": "raw", **options})
        self.clients: list[Client] = []
        self._phases: dict[Connection, Phase] = {}
        self._first: dict[Connection, Transport] = {}
        self.server.event("message")(self._handle)
        self.server.on("connection", self._opened)
        self.server.on("disconnection", self._closed)
        self.loop.run_until_complete(self.server.start())
        self.endpoint = Endpoint(self.server)
        self.hub = self.server.node.hub

    def _client(self, session: Session) -> Client:
        return self.clients[int(session.query["client"])]

    def _opened(self, session: Session) -> None:
        client = self._client(session)
        client.session = session
        client.connection = session.connection

    async def _handle(self, session: Session, content: str) -> None:
        number, _, pause = content.partition(":")
        client = self._client(session)
        client.handled.append(int(number))
        if pause != "0":
            await asyncio.sleep(int(pause) / 100)

    def _closed(self, session: Session, reason: str) -> None:
        self._client(session).ends.append(reason)

    def emit(self, client: Client, count: int, size: int) -> None:
        """Send numbered messages to a client."""
        for _ in range(count):
            if client.session is not None and client.session.connected:
                client.session.emit("message", f"{client.emitted}:{'x' * size}")
                client.emitted += 1

    # What must hold

    def check(self) -> None:
        """Check what must hold at any time."""
        assert self.loop.failures == []
        for client in self.clients:
            assert client.handled == sorted(set(client.handled))
            assert len(client.ends) <= 1
        for connection in {*self._phases, *self.hub.connections.values()}:
            self._check_connection(connection)
        assert self.hub.blocked_bytes == sum(each.waiting for each in self.hub._blocked)
        assert len(self.hub.sessions) == sum(each.phase not in ENDED for each in self.hub.connections.values())

    def _check_connection(self, connection: Connection) -> None:
        phase = connection.phase
        before = self._phases.get(connection)
        assert before is None or phase in REACHABLE[before], f"{phase} after {before}"
        self._phases[connection] = phase
        assert (connection.sid in self.hub.connections) == (phase is not Phase.CLOSED)
        first = self._first.setdefault(connection, connection.transport)
        if phase in BEFORE_UPGRADE:
            assert connection.transport is first
        if phase in (Phase.PROBING, Phase.LINGERING):
            assert isinstance(connection.transport, Polling)
        if phase is Phase.UPGRADED:
            assert isinstance(first, Polling)
            assert isinstance(connection.transport, MemoryWebSocket)
        if phase is Phase.PROBING:
            assert connection.probe is not None
        if phase is Phase.CLOSED:
            assert connection.outbox is None
            assert connection.bucket is None
            assert connection.probe is None

    def finish(self) -> None:
        """Let clients that live take what is theirs, end everything, and check that nothing is left."""
        self.loop.turn(times=8)
        for client in self.clients:
            self._check_losses(client)
        for client in self.clients:
            for post, _ in client.posts:
                self.loop.turn(post.finish)
            if client.session is not None:
                self.loop.turn(client.session.disconnect)
        self.loop.advance(2.0)
        self.check()
        self._check_leftovers()

    def _check_losses(self, client: Client) -> None:
        connection = client.connection
        if connection is None or connection.phase in ENDED:
            return
        for websocket in client.websockets:
            if not websocket.is_over:
                self.loop.turn(websocket.flow, times=4)
        if client.is_on_polling and not any(not poll.is_over for poll in client.polls):
            self.loop.turn(client.poll, times=4)
        if connection.phase not in ENDED:
            assert len(client.arrived) == client.emitted

    def _check_leftovers(self) -> None:
        assert self.hub.connections == {}
        assert len(self.hub.sessions) == 0
        assert self.hub.blocked_bytes == 0
        # What is left on the wheel is the look at the lag of the event loop.
        assert len(self.hub.wheel) == 1
        assert self.server.node.admissions._limits._total == 0
        assert self.server.node.admissions.pending == {}
        assert self.server.node._working == set()
        for client in self.clients:
            assert len(client.ends) == (client.connection is not None)
            assert set(client.promised) <= set(client.handled)
            assert all(poll.is_over for poll in client.polls)
            assert all(post.is_over for post, _ in client.posts)
            assert all(websocket.is_over for websocket in client.websockets)

    def destroy(self) -> None:
        """End the server and the event loop."""
        ending = self.loop.create_task(self.server.destroy())
        while not ending.done():
            self.loop.advance(0.05)
        self.loop.close()


def _reachable() -> dict[Phase, set[Phase]]:
    reachable = {phase: {phase} for phase in Phase}
    for _ in Phase:
        for (before, _step), after in MOVES.items():
            reachable[before] |= reachable[after]
    return reachable


REACHABLE = _reachable()
