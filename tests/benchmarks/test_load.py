"""The load generator measures what it says: every kind of message, transport and mode."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection

from primacron import Primacron, Session
from tests.benchmarks.conftest import Load, accept_websocket, plain_server, raw_server, read_message
from tests.conftest import Serve

SECONDS = 0.2
TRANSPORTS = ("websocket", "polling", "upgrade")
#: Of our own server, whose messages are events.
EVENTS = {"path": "/stream/", "query": "account=a#", "message": '4{"event":"echo","args":["@"]}'}
NEWS = {"trigger": '4{"event":"b","args":[]}', "news": '4{"event":"news","args":["all"]}'}


def echoing(**options: Any) -> Primacron:
    """Return a server that echoes, sends news to all, and drops all."""
    server = Primacron(**options)

    @server.event("echo")
    def echo(session: Session, text: str) -> None:
        session.emit("echo", text)

    @server.event("b")
    def broadcast(session: Session) -> None:
        server.everyone.emit("news", "all")

    @server.event("drop")
    def drop(session: Session) -> None:
        server.everyone.disconnect()

    return server


async def echo_plainly(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


@pytest.mark.parametrize("size", [1, 125, 126, 127, 65_535, 65_536, 300_000])
async def test_messages_of_every_length_class_are_echoed(size: int, load: Load) -> None:
    async with plain_server(echo_plainly) as port:
        report = await load(port, protocol="plain", clients=3, size=size, seconds=SECONDS)
    assert report.run.messages > 0
    assert report.connect is not None
    assert report.connect.connections == 2
    assert report.latency is not None
    assert 0 < report.latency.p50 <= report.latency.p99 <= report.latency.p999 <= report.latency.max


async def test_a_message_that_comes_in_fragments_with_a_ping_between_them_is_one(load: Load) -> None:
    async def parts(message: str, connection: ServerConnection) -> AsyncIterator[str]:
        yield message[:100]
        await connection.ping()
        yield message[100:]

    async def answer(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send(parts(str(message), connection))

    async with plain_server(answer) as port:
        report = await load(port, protocol="plain", clients=2, size=500, seconds=SECONDS)
    assert report.run.messages > 0


async def test_an_answer_that_comes_byte_by_byte_is_read(load: Load) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await accept_websocket(reader, writer)
        while True:
            payload = await read_message(reader)
            for byte in b"\x81\x7e" + len(payload).to_bytes(2, "big") + payload:
                writer.write(bytes([byte]))
                await asyncio.sleep(0)  # a segment each: the socket has no delay

    async with raw_server(answer) as port:
        report = await load(port, protocol="plain", clients=1, size=130, seconds=SECONDS)
    assert report.run.messages > 0


async def test_a_message_that_the_server_takes_in_small_pieces_is_sent_to_its_end(load: Load) -> None:
    size = 8_000_000  # more than the system keeps between the two

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await accept_websocket(reader, writer)
        while True:
            head = await reader.readexactly(14)
            assert int.from_bytes(head[2:10], "big") == size
            await reader.readexactly(size)
            writer.write(b"\x81\x02ok")

    async with raw_server(answer) as port:
        report = await load(port, protocol="plain", clients=1, size=size, answer="ok", seconds=1)
    assert report.run.messages > 0


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_our_events_are_echoed_on_every_transport(transport: str, kind: str, serve: Serve, load: Load) -> None:
    client = await serve(echoing())
    report = await load(client.port, **EVENTS, transport=transport, clients=5, size=1_000, seconds=SECONDS)
    assert report.run.messages > 0


async def test_a_server_that_needs_longer_for_an_answer_is_measured_until_it_comes(load: Load) -> None:
    async def answer_late(connection: ServerConnection) -> None:
        async for message in connection:
            await asyncio.sleep(0.31)
            await connection.send(message)

    async with plain_server(answer_late) as port:
        report = await load(port, protocol="plain", clients=1, seconds=0.1)
    assert report.run.messages == 1
    assert report.run.secs >= 0.3


@pytest.mark.parametrize("in_flight", [1, 3])
async def test_what_a_message_did_is_taken_back_by_the_next(in_flight: int, load: Load) -> None:
    taken: list[list[str]] = []

    async def answer(connection: ServerConnection) -> None:
        mine: list[str] = []
        taken.append(mine)
        async for message in connection:
            mine.append(str(message))
            await connection.send({"join": "in", "leave": "out"}[str(message)])

    pair = {"message": "join", "answer": "in", "undo": "leave", "undone": "out"}
    async with plain_server(answer) as port:
        report = await load(port, **pair, protocol="plain", clients=2, in_flight=in_flight, seconds=SECONDS)
    assert 2 < report.run.messages <= len(taken[0]) + len(taken[1])
    for mine in taken:
        assert len(mine) > 1
        assert mine == [("join", "leave")[number % 2] for number in range(len(mine))]


async def test_in_a_rush_each_client_is_answered_once_whatever_else_comes(load: Load) -> None:
    connections: list[ServerConnection] = []
    came: list[str] = []

    async def answer(connection: ServerConnection) -> None:
        connections.append(connection)
        async for message in connection:
            came.append(str(message))
            for each in connections:
                await each.send("one more is there")
            await connection.send(f"welcome, number {len(came)}")

    async with plain_server(answer) as port:
        report = await load(port, protocol="plain", mode="rush", clients=9, message="let me in", answer="welcome,")
    assert came == ["let me in"] * 9
    assert report.run.messages == 9
    assert report.latency is not None
    assert report.latency.samples == 9
    assert 0 < report.latency.max <= report.run.secs * 1e3 + 0.1  # seconds are printed with four digits


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_messages_in_flight_are_kept_at_their_number(transport: str, serve: Serve, load: Load) -> None:
    most = 0
    server = Primacron(inbox_limit=100)

    @server.event("echo")
    async def echo(session: Session, text: str) -> None:
        nonlocal most
        session.data["waiting"] = waiting = [*session.data.get("waiting", ()), text]
        most = max(most, len(waiting))
        if len(waiting) == 7:
            for each in waiting:
                session.emit("echo", each)
            session.data["waiting"] = []

    client = await serve(server)
    report = await load(client.port, **EVENTS, transport=transport, clients=2, in_flight=7, seconds=SECONDS)
    assert most == 7
    assert report.latency is not None
    assert report.latency.samples > 0


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_heartbeats_are_answered_also_while_a_client_upgrades(transport: str, serve: Serve, load: Load) -> None:
    client = await serve(echoing(ping_interval=0.02, ping_timeout=1))
    report = await load(client.port, **EVENTS, transport=transport, mode="idle", clients=50, seconds=1.3)
    assert report.run.secs >= 1.3


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("burst", [1, 10])
async def test_a_fan_out_counts_every_delivery(burst: int, transport: str, serve: Serve, load: Load) -> None:
    client = await serve(echoing())
    report = await load(
        client.port, **EVENTS, **NEWS, mode="fanout", transport=transport, clients=20, burst=burst, seconds=SECONDS
    )
    assert report.rounds > 0
    assert report.run.messages == report.rounds * 20 * burst
    assert report.latency is not None
    assert report.latency.samples == report.rounds


async def test_at_a_fixed_rate_messages_are_sent_whatever_comes_back(load: Load) -> None:
    async def answer_late(connection: ServerConnection) -> None:
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as answers:
            async for message in connection:

                async def answer(message: str | bytes = message, due: float = loop.time() + 0.21) -> None:
                    await asyncio.sleep(due - loop.time())
                    await connection.send(message)

                answers.create_task(answer())

    async with plain_server(answer_late) as port:
        report = await load(port, protocol="plain", clients=4, rate=500, warmup=0.1, seconds=0.5)
    assert report.latency is not None
    assert report.late is not None
    assert report.late.samples == report.latency.samples
    assert abs(report.latency.samples - 250) <= 1
    assert report.latency.p50 >= 200


async def test_time_counts_from_when_a_message_was_due(load: Load) -> None:
    async def stand_still_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await accept_websocket(reader, writer)
        await read_message(reader)
        await asyncio.sleep(0.31)
        writer.write(b"\x81\x02ok")
        while True:
            await read_message(reader)
            writer.write(b"\x81\x02ok")

    async with raw_server(stand_still_once) as port:
        report = await load(port, protocol="plain", clients=1, answer="ok", rate=200, seconds=0.4)
    assert report.latency is not None
    assert abs(report.latency.samples - 80) <= 1
    # Sixty messages were due while the server stood still, and waited 300 ms down to 5.
    assert report.latency.max >= 300
    assert report.latency.mean >= 300 * 60 / 2 / 80


async def test_polling_handshakes_go_on_over_the_connections_that_are_there(serve: Serve, load: Load) -> None:
    server = echoing()
    client = await serve(server)
    report = await load(client.port, **EVENTS, mode="handshakes", transport="polling", clients=4, count=100)
    # 4 and a tenth of the count go before, and are not measured.
    assert server.count() == 4 + 10 + 100
    assert 0 < report.run.messages <= 100


async def test_in_a_storm_all_clients_drop_and_come_back(serve: Serve, load: Load) -> None:
    opened = 0
    server = echoing()

    @server.on("connection")
    def count(session: Session) -> None:
        nonlocal opened
        opened += 1

    client = await serve(server)
    report = await load(client.port, **EVENTS, mode="storm", clients=30)
    assert (report.run.messages, report.retries, opened) == (30, 0, 60)


async def test_in_a_storm_the_server_may_be_who_drops_them(serve: Serve, load: Load) -> None:
    client = await serve(echoing())
    report = await load(client.port, **EVENTS, mode="storm", clients=30, trigger='4{"event":"drop","args":[]}')
    assert (report.run.messages, report.retries) == (30, 0)


async def test_who_is_turned_away_in_a_storm_tries_again(load: Load) -> None:
    number = 0

    async def be_full_for_a_while(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal number
        number += 1
        if 10 < number <= 25:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
            return
        await accept_websocket(reader, writer)
        await reader.read()

    async with raw_server(be_full_for_a_while) as port:
        report = await load(port, protocol="plain", mode="storm", clients=10)
    assert (report.run.messages, report.retries) == (10, 15)


async def test_what_the_server_uses_is_told(serve: Serve, load: Load) -> None:
    client = await serve(echoing())
    report = await load(client.port, **EVENTS, server=os.getpid(), clients=5, seconds=SECONDS)
    assert report.run.server_cpu_us > 0
    assert report.run.server_busy > 0
    assert report.run.client_busy > 0
    assert report.memory is not None
    assert report.memory.rss >= report.memory.pss > 0


async def test_a_socket_io_greeting_is_said_and_heard(load: Load) -> None:
    async def greet(connection: ServerConnection) -> None:
        await connection.send('0{"sid":"x","upgrades":[],"pingInterval":25000,"pingTimeout":20000}')
        assert await connection.recv() == "40"
        await connection.send('40{"sid":"y"}')
        await echo_plainly(connection)

    async with plain_server(greet) as port:
        report = await load(port, hello="40", greeting="40{", message='42["echo","@"]', clients=3, seconds=SECONDS)
    assert report.run.messages > 0


async def test_chunked_answers_to_polls_are_read(load: Load) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            body = (
                '42["news","b"]\x1e42["news","b"]'
                if "sid=" in head
                else '0{"sid":"x","upgrades":[],"pingInterval":25000,"pingTimeout":20000}'
            )
            if head.startswith("POST"):
                size = int(head.lower().partition("content-length: ")[2].split("\r\n", 1)[0])
                assert await reader.readexactly(size) == b"4b\x1e4b"
                asked.set()
                body = "ok"
            elif "sid=" in head:
                await asked.wait()
                asked.clear()
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            for start in range(0, len(body), 5):
                part = body[start : start + 5].encode()
                writer.write(b"%x\r\n%b\r\n" % (len(part), part))
                await asyncio.sleep(0)
            writer.write(b"0\r\n\r\n")

    asked = asyncio.Event()
    async with raw_server(answer) as port:
        report = await load(
            port, mode="fanout", transport="polling", clients=1, burst=2, news='42["news","b"]', seconds=SECONDS
        )
    assert report.run.messages == report.rounds * 2


async def test_one_client_is_measured_beside_others_that_send_as_fast_as_they_can(load: Load) -> None:
    seen: dict[str, int] = {}

    async def answer(connection: ServerConnection) -> None:
        async for message in connection:
            seen[str(message)] = seen.get(str(message), 0) + 1
            if message != "flood":
                await connection.send(message)

    flood = {"mode": "greedy", "message": "measured", "trigger": "flood", "burst": 100, "rate": 100}
    async with plain_server(answer) as port:
        report = await load(port, protocol="plain", clients=3, seconds=SECONDS, **flood)
    assert report.latency is not None
    assert report.latency.samples == pytest.approx(100 * SECONDS, abs=2)
    assert 0 < report.latency.p50 <= report.latency.max
    assert seen["flood"] > 1_000 > seen["measured"]
