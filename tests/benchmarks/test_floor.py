"""The floor echoes and fans out, whatever pieces messages come in."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from benchmarks.processes import free_port
from tests.benchmarks.conftest import DEADLINE, Load
from tests.support.http import RawConnection
from tests.support.websocket import WebSocket, encode_frame

NEWS = "4hello broadcast payload"


@contextlib.asynccontextmanager
async def running(program: Path) -> AsyncIterator[int]:
    """Run the floor for the time of the block; the port."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(program, str(port))
    try:
        async with asyncio.timeout(DEADLINE):
            while True:
                with contextlib.suppress(ConnectionRefusedError):
                    await (await RawConnection.open(port)).close()
                    break
                await asyncio.sleep(0.01)  # it tells nobody that it listens
        yield port
        assert process.returncode is None
    finally:
        process.kill()
        await process.wait()


async def connect(port: int) -> WebSocket:
    """Open a websocket and read the open packet."""
    client = await WebSocket.open(port, "/")
    assert client.response.status == 101
    assert str(await client.receive()).startswith('0{"sid":')
    return client


@pytest.mark.parametrize("size", [1, 125, 126, 127, 65_535, 65_536, 1_000_000])
async def test_messages_of_every_length_class_come_back(size: int, floor_program: Path) -> None:
    async with running(floor_program) as port:
        client = await connect(port)
        message = "".join(chr(97 + place % 26) for place in range(size))
        await client.send(message)
        assert await client.receive() == message
        await client.close()


async def test_messages_that_come_together_or_in_pieces_come_back_one_by_one(floor_program: Path) -> None:
    messages = ["one", "2" * 200, "three", "4" * 70_000, "five"]
    wire = b"".join(encode_frame(message.encode()) for message in messages)
    async with running(floor_program) as port:
        client = await connect(port)
        await client.raw.send(wire)
        assert [await client.receive() for _ in messages] == messages
        for start in range(0, 300, 7):
            await client.raw.send(wire[start : start + 7])
            await asyncio.sleep(0)
        await client.raw.send(wire[301:])
        assert [await client.receive() for _ in messages] == messages
        await client.close()


def send_all_then_read(port: int, frame: bytes, times: int) -> bytes:
    """Send a frame many times before reading anything, and return all that comes back."""
    request = b"GET / HTTP/1.1\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), DEADLINE) as sock:
        sock.sendall(request)
        opening = b""
        while not opening.endswith(b"}"):
            opening += sock.recv(4096)
        for _ in range(times):
            sock.sendall(frame)
        answers = bytearray()
        while len(answers) < times * (len(frame) - 4):
            answers += sock.recv(1 << 20)
        return bytes(answers)


async def test_a_client_that_reads_late_gets_all_of_it(floor_program: Path) -> None:
    payload = bytes(97 + place % 26 for place in range(1_000_000))
    async with running(floor_program) as port:
        answers = await asyncio.to_thread(send_all_then_read, port, encode_frame(payload), 30)
        assert answers == (b"\x81\x7f" + len(payload).to_bytes(8, "big") + payload) * 30


@pytest.mark.parametrize("trigger", ["4b", '4{"event":"b","args":[]}'])
async def test_a_trigger_sends_the_news_to_all_who_are_here(trigger: str, floor_program: Path) -> None:
    async with running(floor_program) as port:
        first, gone, last = [await connect(port) for _ in range(3)]
        await gone.close()
        for _ in range(2):
            await first.send(trigger)
            assert await first.receive() == NEWS
            assert await last.receive() == NEWS
        await last.send("x")
        assert await last.receive() == "x"
        await first.close()
        await last.close()


@pytest.mark.parametrize(
    "frame",
    [
        encode_frame(b"x", 2),
        encode_frame(b"x", final=False),
        encode_frame(b"", 8),
        b"\x81\xff" + (1 << 21).to_bytes(8, "big") + b"mask",
    ],
)
async def test_what_it_does_not_know_ends_the_connection(frame: bytes, floor_program: Path) -> None:
    async with running(floor_program) as port:
        client = await connect(port)
        await client.raw.send(frame)
        assert await client.raw.read_eof() == b""
        await client.close()
        await (await connect(port)).close()


@pytest.mark.parametrize("arguments", [[], ["none"], ["70000"], ["1", "2"]])
async def test_a_command_line_without_a_port_is_refused(arguments: list[str], floor_program: Path) -> None:
    process = await asyncio.create_subprocess_exec(floor_program, *arguments, stderr=asyncio.subprocess.PIPE)
    _, said = await process.communicate()
    assert (process.returncode, said) == (2, b"usage: floor PORT\n")


async def test_the_load_generator_measures_it(floor_program: Path, load: Load) -> None:
    async with running(floor_program) as port:
        echo = await load(port, clients=10, in_flight=3, seconds=0.4)
        fanout = await load(port, mode="fanout", clients=50, burst=10, seconds=0.2)
        storm = await load(port, mode="storm", clients=50)
    assert echo.run.messages > 0
    assert fanout.run.messages == fanout.rounds * 50 * 10 > 0
    assert storm.run.messages == 50
