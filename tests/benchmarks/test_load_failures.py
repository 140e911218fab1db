"""The load generator has no figures for a run in which anything went wrong; it says what."""

from __future__ import annotations

import asyncio
import re
import subprocess
from pathlib import Path

import pytest
from websockets.asyncio.server import ServerConnection

from benchmarks.yardsticks import FOLDER
from primacron import Primacron
from tests.benchmarks.conftest import LoadFails, accept_websocket, plain_server, raw_server, read_message
from tests.conftest import Serve

OPEN = '0{"sid":"x","upgrades":[],"pingInterval":25000,"pingTimeout":20000}'


def frame(payload: bytes, first: int = 0x81) -> bytes:
    """Return a short frame of a server."""
    return bytes([first, len(payload)]) + payload


async def test_a_connection_that_is_dropped_while_idle_is_a_failure(load_fails: LoadFails) -> None:
    number = 0

    async def drop_the_second(connection: ServerConnection) -> None:
        nonlocal number
        number += 1
        if number == 2:
            connection.transport.abort()
        await connection.wait_closed()

    async with plain_server(drop_the_second) as port:
        said = await load_fails(port, protocol="plain", mode="idle", clients=3, seconds=5)
    assert "connection 1 was lost" in said


async def test_a_close_frame_is_a_failure_with_its_code_and_reason(load_fails: LoadFails) -> None:
    async def close(connection: ServerConnection) -> None:
        await connection.recv()
        await connection.close(4001, "enough")

    async with plain_server(close) as port:
        said = await load_fails(port, protocol="plain", clients=1)
    assert "connection 0 was lost after it was ready: close frame 4001 enough" in said


@pytest.mark.parametrize("transport", ["websocket", "polling"])
async def test_a_close_packet_is_a_failure(transport: str, serve: Serve, load_fails: LoadFails) -> None:
    server = Primacron()

    @server.event("echo")
    def end(session: object, text: str) -> None:
        server.everyone.disconnect()

    client = await serve(server)
    said = await load_fails(
        client.port,
        path="/stream/",
        query="account=a",
        message='4{"event":"echo","args":["@"]}',
        transport=transport,
        clients=1,
    )
    assert "connection 0 was lost after it was ready: close" in said


@pytest.mark.parametrize("transport", ["websocket", "polling", "upgrade"])
async def test_a_refused_handshake_is_a_failure_with_what_the_server_said(
    transport: str, serve: Serve, load_fails: LoadFails
) -> None:
    client = await serve(Primacron())
    said = await load_fails(client.port, path="/stream/", transport=transport, clients=1)
    assert "connection 0 was lost in its handshake: HTTP/1.1 400" in said
    assert "account" in said


async def test_an_answer_that_is_not_the_expected_one_is_a_failure(load_fails: LoadFails) -> None:
    async def answer(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send(f"{message!s:.59}y")

    async with plain_server(answer) as port:
        said = await load_fails(port, protocol="plain", clients=1)
    assert "received 60 bytes that are not the 60 expected" in said


@pytest.mark.parametrize("in_flight", [1, 5])
async def test_an_answer_that_comes_twice_is_a_failure(in_flight: int, load_fails: LoadFails) -> None:
    async def answer(connection: ServerConnection) -> None:
        await connection.send(message := await connection.recv())
        await connection.send(message)
        async for message in connection:
            await connection.send(message)

    async with plain_server(answer) as port:
        said = await load_fails(port, protocol="plain", clients=1, in_flight=in_flight, seconds=0.2, settle=0.5)
    assert "received more answers than it sent messages" in said


async def test_an_answer_that_does_not_come_is_a_failure(load_fails: LoadFails) -> None:
    async def answer_ten(connection: ServerConnection) -> None:
        for _ in range(10):
            await connection.send(await connection.recv())
        await connection.wait_closed()

    async with plain_server(answer_ten) as port:
        said = await load_fails(port, protocol="plain", clients=2, seconds=0.4, timeout=0.3)
    assert "20 of 22 messages were answered, and nothing more for 0.3 s" in said


async def test_a_message_that_nobody_asked_for_is_a_failure(load_fails: LoadFails) -> None:
    async def talk(connection: ServerConnection) -> None:
        await connection.send("hello")
        await connection.wait_closed()

    async with plain_server(talk) as port:
        said = await load_fails(port, protocol="plain", mode="idle", clients=1, seconds=5)
    assert "connection 0 received what nobody asked for: hello" in said


@pytest.mark.parametrize("times", [0, 2])
async def test_who_is_not_answered_in_a_rush_or_twice_is_a_failure(times: int, load_fails: LoadFails) -> None:
    number = 0

    async def answer(connection: ServerConnection) -> None:
        nonlocal number
        number += 1
        mine = times if number == 2 else 1
        async for message in connection:
            for _ in range(mine):
                await connection.send(message)

    async with plain_server(answer) as port:
        said = await load_fails(port, protocol="plain", mode="rush", clients=2, timeout=0.3, settle=0.5)
    assert ("1 of 2 clients were answered" if times == 0 else "connection 1 was answered twice") in said


@pytest.mark.parametrize("missing", [0, 2])
async def test_news_that_one_does_not_get_or_gets_twice_are_a_failure(missing: int, load_fails: LoadFails) -> None:
    clients: list[ServerConnection] = []

    async def broadcast(connection: ServerConnection) -> None:
        clients.append(connection)
        async for _ in connection:
            for client in [*clients[1:], *clients[:1] * missing]:
                await client.send("news")

    async with plain_server(broadcast) as port:
        said = await load_fails(
            port, protocol="plain", mode="fanout", clients=3, news="news", seconds=0.1, timeout=0.3, settle=0.5
        )
    assert ("2 of 3 messages arrived" if missing == 0 else "connection 0 received a message twice") in said


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        (frame(b"x" * 60, 0x82), "a binary message"),
        (frame(b"x" * 60, 0xC1), "reserved bits"),
        (frame(b"x" * 60, 0x83), "unknown type 3"),
        (frame(b"x" * 60, 0x80), "a continuation of nothing"),
        (frame(b"xx", 0x01) + frame(b"xx"), "a new message inside of a fragmented one"),
        (b"\x81\x82abcdxx", "a masked frame from a server"),
        (b"\x81\x7f\x7f" + bytes(7), "a frame of"),
    ],
)
async def test_a_broken_frame_is_a_failure(answer: bytes, what: str, load_fails: LoadFails) -> None:
    async def serve_it(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await accept_websocket(reader, writer)
        await read_message(reader)
        writer.write(answer)
        await reader.read()

    async with raw_server(serve_it) as port:
        assert what in await load_fails(port, protocol="plain", clients=1)


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        (
            b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: nothing\r\n\r\n",
            "a 101 that does not accept the websocket's key",
        ),
        (b"SSH-2.0-OpenSSH_9.2p1\r\n\r\n", "not an HTTP answer"),
        (b"", "closed by the server"),
    ],
)
async def test_a_handshake_that_is_none_is_a_failure(answer: bytes, what: str, load_fails: LoadFails) -> None:
    async def serve_it(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)

    async with raw_server(serve_it) as port:
        assert what in await load_fails(port, clients=1)


@pytest.mark.parametrize(
    ("packets", "what"),
    [
        ([OPEN, OPEN], "a second open packet"),
        (["0{}"], "an open packet without a sid"),
        ([OPEN, "5"], "an unexpected packet: 5"),
        (["9x"], "an unexpected packet: 9x"),
        ([OPEN, "1"], "close packet"),
    ],
)
async def test_a_packet_that_must_not_come_is_a_failure(packets: list[str], what: str, load_fails: LoadFails) -> None:
    async def talk(connection: ServerConnection) -> None:
        for packet in packets:
            await connection.send(packet)
        await connection.wait_closed()

    async with plain_server(talk) as port:
        assert what in await load_fails(port, mode="idle", clients=1, seconds=5)


async def test_an_answer_to_a_post_that_is_not_ok_is_a_failure(load_fails: LoadFails) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            body = b"no" if head.startswith(b"POST") else OPEN.encode()
            if head.startswith(b"GET") and b"sid=" in head:
                continue  # a poll that is held
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    async with raw_server(answer) as port:
        assert "a POST was not answered with ok" in await load_fails(port, transport="polling", clients=1)


async def test_who_was_back_in_a_storm_and_is_lost_again_is_a_failure(load_fails: LoadFails) -> None:
    number = 0

    async def drop_the_first_that_comes_back(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal number
        number += 1
        place = number
        if place <= 4:
            await accept_websocket(reader, writer)
        if place != 4:
            await reader.read()

    async with raw_server(drop_the_first_that_comes_back) as port:
        said = await load_fails(port, protocol="plain", mode="storm", clients=3)
    assert "was back, and lost again" in said


async def test_who_is_lost_after_a_storm_is_a_failure(load_fails: LoadFails) -> None:
    number = 0

    async def drop_the_last(connection: ServerConnection) -> None:
        nonlocal number
        number += 1
        if number == 6:
            connection.transport.abort()
        await connection.wait_closed()

    async with plain_server(drop_the_last) as port:
        said = await load_fails(port, protocol="plain", mode="storm", clients=3, settle=0.5)
    assert "was back, and lost again" in said or "was lost after it was ready" in said


async def test_a_rate_that_cannot_be_sent_is_a_failure(load_fails: LoadFails) -> None:
    async def take(connection: ServerConnection) -> None:
        async for _ in connection:
            pass

    async with plain_server(take) as port:
        said = await load_fails(port, protocol="plain", clients=1, rate=500_000_000, seconds=0.5)
    assert "500000000 messages a second are more than can be sent" in said


async def test_a_server_process_that_did_nothing_is_a_failure(load_fails: LoadFails) -> None:
    async def echo(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send(message)

    sleeping = await asyncio.create_subprocess_exec("sleep", "60")
    try:
        async with plain_server(echo) as port:
            said = await load_fails(port, protocol="plain", clients=1, seconds=0.2, timeout=0.3, server=sleeping.pid)
    finally:
        sleeping.kill()
        await sleeping.wait()
    assert "the server processes used no CPU time" in said


async def test_a_server_process_that_has_ended_is_a_failure(load_fails: LoadFails) -> None:
    ended = await asyncio.create_subprocess_exec("true")
    await ended.wait()
    assert f"no process {ended.pid}" in await load_fails(1, server=ended.pid)


async def test_a_port_where_nobody_listens_is_a_failure(load_fails: LoadFails) -> None:
    assert "connection 0 was lost in its handshake: Connection refused" in await load_fails(1, clients=1)


def test_every_option_is_documented() -> None:
    known = set(re.findall(r'\{"([a-z-]+)", \.', (FOLDER / "options.c").read_text())) | {"tls", "features"}
    rows = [line for line in (FOLDER / "README.md").read_text().splitlines() if line.startswith("| `--")]
    documented = {name for row in rows for name in re.findall(r"`--([a-z-]+)`", row.split("|")[1])}
    assert len(known) > 20
    assert documented == known


def test_the_documented_way_to_build_it_names_every_file() -> None:
    (line,) = [line for line in (FOLDER / "README.md").read_text().splitlines() if "-o eioload" in line]
    assert set(re.findall(r"\w+\.c", line)) == {file.name for file in FOLDER.glob("*.c")} - {"floor.c"}


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ("", "--port is needed"),
        ("--port 70000", "--port 70000 is none"),
        ("--port 1 --clients 0", "--clients takes a number from 1"),
        ("--port 1 --clients 1.5", "--clients takes a whole number, not 1.5"),
        ("--port 1 --clients inf", "--clients takes a number from 1 to 1000000000, not inf"),
        ("--port 1 --rate nan", "--rate takes a number from 0"),
        ("--port 1 --seconds 1s", "--seconds takes a number from 0"),
        ("--port 1 --transport pigeon", "--transport cannot be pigeon"),
        ("--port 1 --protocol plain --transport polling", "a plain server has websockets only"),
        ("--port 1 --size 0", "--size takes a number from 1"),
        ("--port 1 --size 1 --message 4{@}", "--size must be at least 3 for this message"),
        ("--port 1 --mode dance", "no mode dance"),
        ("--port 1 --mode handshakes", "handshakes are measured with --transport polling"),
        ("--port 1 --tls", "TLS is not measured: eioload was built without OpenSSL"),
        ("--port 1 --host example.org", "example.org is not an IPv4 address"),
        ("--port 1 --server one", "one is not a list of process ids"),
        ("--port 1 --others 2,70000", "2,70000 is not a list of ports"),
        ("--port 1 --others two", "two is not a list of ports"),
        ("--port 1 --then 70000 --transport polling", "--then 70000 is no port"),
        ("--port 1 --then 2", "--then needs a handshake by polling"),
        ("--port 1 --undo x", "--undo and --undone belong together"),
        ("--port 1 more", "unknown argument more"),
        (f"--port 1 --query {'x' * 513}", "--host, --path and --query have more than 512 letters together"),
        ("--colour blue", "unrecognized option '--colour'"),
    ],
)
def test_a_command_line_that_makes_no_sense_is_refused(options: str, what: str, generator: Path) -> None:
    done = subprocess.run([generator, *options.split()], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert done.stdout == ""
    assert what in done.stderr
