"""What each side sees of a connection that a proxy drops."""

from __future__ import annotations

import asyncio
import gc
import itertools
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, cast, get_args

import pytest

from primacron.testing import ProxiedConnection, Proxy
from primacron.testing.proxied import KEPT, NO_LINGER, Drop
from tests.support.http import DEADLINE, RawConnection
from tests.transports.test_repeats import until

#: For what the proxy itself does; the server's kinds follow it.
LOOPS = ("uvloop", "asyncio")
GET = b"GET /news HTTP/1.1\r\nHost: localhost\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture(params=LOOPS)
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": request.param == "uvloop"}


class _Accepted:
    """The connections that a server got."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[RawConnection] = asyncio.Queue()

    def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.queue.put_nowait(RawConnection(reader, writer))


class Servers:
    """Servers that do nothing by themselves, behind a proxy."""

    def __init__(self) -> None:
        self.ports: list[int] = []
        self.proxy: Proxy
        self._accepted: list[_Accepted] = []
        self._open: list[RawConnection] = []

    @classmethod
    @asynccontextmanager
    async def behind_proxy(cls, count: int = 1) -> AsyncIterator[Servers]:
        """Run them, and the proxy, for the duration of the block."""
        made = cls()
        async with AsyncExitStack() as stack:
            for _ in range(count):
                accepted = _Accepted()
                server = await asyncio.start_server(accepted.take, "127.0.0.1", 0)
                stack.callback(server.close)
                made.ports.append(server.sockets[0].getsockname()[1])
                made._accepted.append(accepted)
            stack.callback(made._abort)
            made.proxy = await stack.enter_async_context(Proxy(*made.ports))
            yield made

    async def connect(self) -> RawConnection:
        """Connect a client to the proxy."""
        client = await RawConnection.open(self.proxy.port)
        self._open.append(client)
        return client

    async def accept(self, number: int = 0) -> RawConnection:
        """Return the next connection that a server gets."""
        async with asyncio.timeout(DEADLINE):
            server = await self._accepted[number].queue.get()
        self._open.append(server)
        return server

    async def joined(self) -> tuple[RawConnection, RawConnection]:
        """Return a connection as its client has it, and as its server has it, with something passed both ways."""
        client = await self.connect()
        server = await self.accept()
        await passes(client, server)
        await passes(server, client)
        return client, server

    def has_accepted(self, number: int = 0) -> bool:
        """Whether a server has got another connection."""
        return not self._accepted[number].queue.empty()

    async def throws_away(self, sender: RawConnection, data: bytes = b"gone") -> None:
        """Send, and wait until the proxy has thrown it away."""
        lost = self.proxy.lost
        await sender.send(data)
        await until(lambda: self.proxy.lost == lost + len(data))

    def _abort(self) -> None:
        for each in self._open:
            each.abort()


async def passes(sender: RawConnection, receiver: RawConnection, data: bytes = b"hello") -> None:
    """Send, and wait until it has arrived."""
    await sender.send(data)
    async with asyncio.timeout(DEADLINE):
        assert await receiver.reader.readexactly(len(data)) == data


async def sees_end(connection: RawConnection) -> None:
    """Wait for the end of the stream, with nothing before it."""
    async with asyncio.timeout(DEADLINE):
        assert await connection.reader.read(1) == b""


async def sees_reset(connection: RawConnection) -> None:
    """Wait for a reset, with nothing before it."""
    async with asyncio.timeout(DEADLINE):
        with pytest.raises(ConnectionResetError):
            await connection.reader.read(1)


def sees_nothing(connection: RawConnection) -> bool:
    """Whether nothing has come, and the connection is open."""
    reader: Any = connection.reader
    return not reader._buffer and not reader.at_eof() and reader.exception() is None


@pytest.fixture
async def servers(anyio_backend: object) -> AsyncIterator[Servers]:
    async with Servers.behind_proxy() as made:
        yield made


# As long as nothing is dropped


async def test_bytes_and_the_end_of_each_stream_pass(servers: Servers) -> None:
    client, server = await servers.joined()
    client.writer.write_eof()
    await sees_end(server)
    await passes(server, client)  # which is half closed
    server.writer.write_eof()
    await sees_end(client)
    await until(lambda: not servers.proxy.connections)
    assert servers.proxy.lost == 0


@pytest.mark.parametrize("by_client", [True, False])
async def test_a_reset_passes(servers: Servers, by_client: bool) -> None:
    ends = await servers.joined()
    away, there = ends if by_client else reversed(ends)
    await passes(there, away)
    reset(away)
    await sees_reset(there)
    await until(lambda: not servers.proxy.connections)


def reset(connection: RawConnection) -> None:
    """Reset a connection, from its own side."""
    sock = connection.writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
    connection.abort()


def transport_of(connection: RawConnection) -> asyncio.Transport:
    """Return what reads and writes a connection."""
    return cast("asyncio.Transport", connection.writer.transport)


async def test_a_side_is_read_no_faster_than_the_other_takes_it(servers: Servers) -> None:
    client, server = await servers.joined()
    transport_of(client).pause_reading()
    sent = 0
    for _ in range(1_000):
        server.writer.write(bytes(65_536))
        try:
            async with asyncio.timeout(0.5):
                await server.writer.drain()
        except TimeoutError:
            break
        sent += 65_536
    else:
        raise AssertionError("it reads on")
    transport_of(client).resume_reading()
    async with asyncio.timeout(DEADLINE):
        await client.reader.readexactly(sent)
    await passes(client, server)


async def test_what_a_client_sends_at_once_and_a_server_says_first_passes(servers: Servers) -> None:
    client = await servers.connect()
    await client.send(b"early")
    server = await servers.accept()
    await server.send(b"welcome")
    async with asyncio.timeout(DEADLINE):
        assert await server.reader.readexactly(5) == b"early"
        assert await client.reader.readexactly(7) == b"welcome"


async def test_each_new_connection_goes_to_the_next_server(anyio_backend: object) -> None:
    async with Servers.behind_proxy(3) as servers:
        for number in itertools.islice(itertools.cycle(range(3)), 7):
            client = await servers.connect()
            await passes(client, await servers.accept(number))


async def test_a_client_is_reset_when_there_is_no_server(anyio_backend: object) -> None:
    async with Servers.behind_proxy() as servers:
        port = servers.ports[0]
    async with Proxy(port) as proxy:
        client = await RawConnection.open(proxy.port)
        await sees_reset(client)
        client.abort()
        await until(lambda: not proxy.connections)


async def test_latency_delays_both_directions_and_keeps_the_order(servers: Servers) -> None:
    client, server = await servers.joined()
    servers.proxy.latency = 0.05
    loop = asyncio.get_running_loop()
    for sender, receiver in ((client, server), (server, client)):
        began = loop.time()
        for each in (b"a", b"b", b"c"):
            await sender.send(each)
            await asyncio.sleep(0.001)
        async with asyncio.timeout(DEADLINE):
            assert await receiver.reader.readexactly(3) == b"abc"
        assert loop.time() - began >= 0.05
    await client.send(b"d")
    client.writer.write_eof()
    server.writer.write_eof()
    async with asyncio.timeout(DEADLINE):
        assert await server.reader.read() == b"d"
    await sees_end(client)
    await until(lambda: not servers.proxy.connections)


# The kinds of drops


async def test_after_a_clean_drop_both_sides_have_a_reset(servers: Servers) -> None:
    client, server = await servers.joined()
    assert await servers.proxy.drop("clean") == 1
    assert servers.proxy.connections == []
    await sees_reset(client)
    await sees_reset(server)


async def test_after_a_half_open_drop_the_server_talks_to_nobody(servers: Servers) -> None:
    client, server = await servers.joined()
    assert await servers.proxy.drop("half-open") == 1
    await sees_reset(client)
    await servers.throws_away(server)
    assert sees_nothing(server)
    assert len(servers.proxy.connections) == 1
    server.writer.write_eof()
    await sees_end(server)
    await until(lambda: not servers.proxy.connections)


async def test_after_a_silent_drop_nothing_passes_not_even_an_end(servers: Servers) -> None:
    client, server = await servers.joined()
    [connection] = servers.proxy.connections
    assert await servers.proxy.drop("silent") == 1
    await servers.throws_away(client)
    await servers.throws_away(server)
    assert sees_nothing(client)
    client.writer.write_eof()
    await until(lambda: connection.client_side.has_ended)
    await servers.throws_away(server)
    assert sees_nothing(client)
    assert sees_nothing(server)
    server.writer.write_eof()
    await until(lambda: not servers.proxy.connections)


@pytest.mark.parametrize("by_client", [True, False])
async def test_after_a_silent_drop_a_reset_does_not_pass_either(servers: Servers, by_client: bool) -> None:
    ends = await servers.joined()
    away, there = ends if by_client else reversed(ends)
    [connection] = servers.proxy.connections
    await servers.proxy.drop("silent")
    reset(away)
    await until(lambda: any(side.gone.done() for side in connection.sides()))
    await servers.throws_away(there)
    assert sees_nothing(there)
    there.writer.write_eof()
    await until(lambda: not servers.proxy.connections)


async def test_after_a_one_way_drop_to_the_client_it_is_heard_and_hears_nothing(servers: Servers) -> None:
    client, server = await servers.joined()
    assert await servers.proxy.drop("one-way") == 1
    await servers.throws_away(server)
    await passes(client, server)
    server.writer.write_eof()
    await passes(client, server)
    assert sees_nothing(client)
    client.writer.write_eof()
    await sees_end(server)
    await until(lambda: not servers.proxy.connections)


async def test_after_a_one_way_drop_to_the_server_it_is_heard_and_hears_nothing(servers: Servers) -> None:
    client, server = await servers.joined()
    assert await servers.proxy.drop("one-way", way="to_server") == 1
    await servers.throws_away(client)
    await passes(server, client)
    client.writer.write_eof()
    await passes(server, client)
    assert sees_nothing(server)
    reset(server)
    await sees_reset(client)


async def test_a_repeat_sends_a_get_that_waits_to_the_next_server(anyio_backend: object) -> None:
    async with Servers.behind_proxy(2) as servers:
        client = await servers.connect()
        first = await servers.accept(0)
        await passes(client, first, GET)
        assert await servers.proxy.drop("repeat") == 1
        second = await servers.accept(1)
        async with asyncio.timeout(DEADLINE):
            assert await second.reader.readexactly(len(GET)) == GET
        await servers.throws_away(first, ANSWER)
        assert sees_nothing(first)
        await passes(second, client, ANSWER)
        await passes(client, second, GET)
        first.writer.write_eof()
        await sees_end(first)
        assert len(servers.proxy.connections) == 1
        client.writer.write_eof()
        await sees_end(second)
        second.writer.write_eof()
        await sees_end(client)
        await until(lambda: not servers.proxy.connections)


async def test_a_repeat_comes_after_an_answer_that_was_lost(servers: Servers) -> None:
    client = await servers.connect()
    first = await servers.accept()
    await passes(client, first, GET)
    assert await servers.proxy.drop("one-way") == 1
    await servers.throws_away(first, ANSWER)
    assert await servers.proxy.drop("repeat") == 1
    second = await servers.accept()
    async with asyncio.timeout(DEADLINE):
        assert await second.reader.readexactly(len(GET)) == GET
    await passes(second, client, ANSWER)


async def test_a_repeat_leaves_alone_what_is_no_get_that_waits(servers: Servers) -> None:
    for request, answer in (
        (GET[:-2], b""),
        (b"POST" + GET[3:], b""),
        (b"GET /" + b"x" * KEPT + GET[4:], b""),
        (GET, ANSWER[:10]),
        (b"\x81\x01x", b""),
    ):
        client = await servers.connect()
        server = await servers.accept()
        await passes(client, server, request)
        if answer:
            await passes(server, client, answer)
        assert await servers.proxy.drop("repeat") == 0
        await passes(server, client)
        await passes(client, server)
    assert not servers.has_accepted()


# Which connections


async def test_one_connection_is_dropped_alone_told_by_what_it_sent(servers: Servers) -> None:
    pairs = [await servers.joined() for _ in range(3)]
    await passes(*pairs[1], b"I am ann")
    [ann] = [each for each in servers.proxy.connections if b"ann" in each.sent]
    assert ann.client == pairs[1][0].writer.get_extra_info("sockname")
    assert ann is servers.proxy.connections[1]
    assert await ann.drop("repeat") is False
    assert await ann.drop("clean") is True
    await sees_reset(pairs[1][0])
    for client, server in (pairs[0], pairs[2]):
        await passes(client, server)
    assert len(servers.proxy.connections) == 2


async def test_of_what_was_sent_the_last_part_is_kept(servers: Servers) -> None:
    client, server = await servers.joined()
    [connection] = servers.proxy.connections
    for number in range(10):
        await passes(client, server, bytes([number]) * KEPT)
    assert connection.sent == bytes([9]) * KEPT


async def test_a_later_drop_ends_what_an_earlier_one_left_open(servers: Servers) -> None:
    silent, half_open = await servers.joined(), await servers.joined()
    await servers.proxy.connections[0].drop("silent")
    await servers.proxy.connections[1].drop("half-open")
    assert await servers.proxy.drop("clean") == 2
    for end in (*silent, *half_open):
        await sees_reset(end)
    assert servers.proxy.connections == []


async def test_new_connections_pass_unless_told_otherwise(servers: Servers) -> None:
    for kind in get_args(Drop):
        await servers.proxy.drop(kind)
        await servers.joined()


async def test_new_connections_are_refused_until_mended(servers: Servers) -> None:
    await servers.joined()
    await servers.proxy.drop("half-open", new="refuse")
    await sees_reset(await servers.connect())
    assert not servers.has_accepted()
    servers.proxy.mend()
    await servers.joined()


async def test_new_connections_get_no_answer_and_never_will(servers: Servers) -> None:
    await servers.proxy.drop("silent", new="silent")
    client = await servers.connect()
    await servers.throws_away(client)
    servers.proxy.mend()
    await servers.throws_away(client)
    assert sees_nothing(client)
    assert not servers.has_accepted()
    await servers.joined()


@pytest.mark.parametrize(
    "wrong", [{"kind": "gone"}, {"kind": "one-way", "way": "up"}, {"kind": "clean", "new": "wait"}], ids=str
)
async def test_other_words_are_refused_and_drop_nothing(servers: Servers, wrong: dict[str, Any]) -> None:
    client, server = await servers.joined()
    with pytest.raises(ValueError, match=f"'{[*wrong.values()][-1]}' is none of"):
        await servers.proxy.drop(**wrong)
    await passes(client, server)


def test_a_proxy_needs_a_server() -> None:
    with pytest.raises(ValueError, match="needs the port of a server"):
        Proxy()


# What is left behind


async def test_nothing_is_left_behind(anyio_backend: object) -> None:
    tasks = asyncio.all_tasks()
    async with Servers.behind_proxy() as servers:
        for kind in get_args(Drop):
            await servers.joined()
            await servers.proxy.drop(kind)
        client, server = await servers.joined()
        assert asyncio.all_tasks() == tasks
        unanswered = await servers.connect()  # maybe still being connected
        connections = [each for each in gc.get_objects() if isinstance(each, ProxiedConnection)]
    assert all(side.gone.done() for each in connections for side in each.sides() if hasattr(side, "gone"))
    for end in (client, server, unanswered):
        await sees_reset(end)
    assert asyncio.all_tasks() == tasks
