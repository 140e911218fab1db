"""The blocking form, in a process of its own: signals and what it says."""

from __future__ import annotations

import asyncio
import re
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator

import pytest

from primacron import Primacron
from tests.support.engine import Client
from tests.support.http import fetch

PROGRAM = """
import asyncio
from primacron import Primacron, Session

server = Primacron({options})

@server.event("hang")
async def hang(session: Session) -> None:
    session.emit("hanging")
    await asyncio.Event().wait()

server.run(0, "127.0.0.1")
"""
DEADLINE = 15.0


class Program:
    """A running server process."""

    def __init__(self, process: Process, port: int, said: str) -> None:
        self.process = process
        self.port = port
        self.said = said

    async def end(self) -> tuple[int, str]:
        """Wait for the end; return the exit status and what was said since the start."""
        assert self.process.stderr is not None
        async with asyncio.timeout(DEADLINE):
            rest = (await self.process.stderr.read()).decode()
            return await self.process.wait(), rest


@pytest.fixture
async def program(request: pytest.FixtureRequest) -> AsyncIterator[Program]:
    source = PROGRAM.format(options=getattr(request, "param", ""))
    process = await asyncio.create_subprocess_exec(sys.executable, "-W", "error", "-c", source, stderr=PIPE)
    assert process.stderr is not None
    async with asyncio.timeout(DEADLINE):
        said = (await process.stderr.readline()).decode()
    found = re.search(r"listening on http://127\.0\.0\.1:(\d+)/stream/", said)
    assert found, said
    yield Program(process, int(found[1]), said)
    if process.returncode is None:
        process.kill()
    await process.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_in_order_and_says_what_it_waits_for(program: Program, number: signal.Signals) -> None:
    front = Client(program.port)
    client = await front.connect()
    program.process.send_signal(number)
    assert await client.receive_close() == (1012, "server shutdown")
    status, said = await program.end()
    assert status == 0
    assert "ending 1 sessions" in said
    await front.close()


async def test_a_second_signal_ends_it_at_once(program: Program) -> None:
    front = Client(program.port)
    client = await front.connect()
    await client.emit("hang")
    await client.receive()
    program.process.send_signal(signal.SIGTERM)
    assert await client.receive_close() == (1012, "server shutdown")
    program.process.send_signal(signal.SIGTERM)
    status, said = await program.end()
    assert status == 1
    assert "Traceback" not in said
    await front.close()


async def test_sighup_is_ignored(program: Program) -> None:
    program.process.send_signal(signal.SIGHUP)
    assert (await fetch(program.port, "GET", "/primacron/livez")).status == 200
    program.process.send_signal(signal.SIGTERM)
    assert (await program.end())[0] == 0


async def test_without_a_secret_one_is_made_and_said(program: Program) -> None:
    assert program.process.stderr is not None
    line = (await asyncio.wait_for(program.process.stderr.readline(), DEADLINE)).decode()
    secret = line.split()[-1]
    assert "secret of the control routes" in line
    headers = {"Authorization": f"Bearer {secret}"}
    answer = await fetch(program.port, "PUT", "/primacron/broadcast", headers, b'{"everyone": true, "message": 1}')
    assert answer.status == 200


@pytest.mark.parametrize("program", ["secret='known'"], indirect=True)
async def test_a_given_secret_is_not_said(program: Program) -> None:
    program.process.send_signal(signal.SIGTERM)
    _, said = await program.end()
    assert "secret" not in said


async def test_inside_an_event_loop_it_says_what_to_use_instead() -> None:
    with pytest.raises(RuntimeError, match=r"await server\.listen"):
        Primacron().run(0, "127.0.0.1")
