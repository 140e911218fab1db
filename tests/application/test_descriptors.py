"""A process whose file descriptors run out: nobody is dropped, it says so, and goes on when there are some again."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from tests.hostile.arena import get
from tests.support.http import RawConnection, Response

DEADLINE = 20.0
#: Descriptors that the process may have.
LIMIT = 96

PROGRAM = """
import asyncio, resource, sys, warnings
import uvloop
from primacron import Primacron

resource.setrlimit(resource.RLIMIT_NOFILE, ({limit}, {limit}))
server = Primacron(secret="s")


@server.on("error::limit")
def limited(error, context):
    print("limit", server.metrics["error::limit"], error, flush=True)


async def main():
    def failed(loop, context):
        print("failed", context, flush=True)

    asyncio.get_running_loop().set_exception_handler(failed)
    await server.listen(0, "127.0.0.1")
    print(server.address()[1], flush=True)
    files = []
    for line in iter(lambda: None, 0):
        text = (await asyncio.to_thread(sys.stdin.readline)).strip()
        if text == "open":
            files.append([open("/dev/null") for _ in range({limit} // 3)])
        elif text == "close":
            for file in files.pop():
                file.close()
        else:
            break
        print(text, flush=True)
    await server.destroy()


{run}(main())
"""


@dataclass
class Process:
    """A server in a process of its own, with few descriptors."""

    port: int
    process: asyncio.subprocess.Process

    async def line(self) -> str:
        """Return the next line that it prints."""
        assert self.process.stdout is not None
        async with asyncio.timeout(DEADLINE):
            return (await self.process.stdout.readline()).decode().strip()

    async def tell(self, what: str) -> None:
        """Have it open or close files."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{what}\n".encode())

    async def connect(self, count: int) -> list[RawConnection]:
        """Open so many connections at once."""
        return await asyncio.gather(*(RawConnection.open(self.port) for _ in range(count)))


@pytest.fixture(params=["uvloop.run", "asyncio.run"])
async def process(request: pytest.FixtureRequest, anyio_backend: object) -> AsyncIterator[Process]:
    """A server on each event loop."""
    program = PROGRAM.format(limit=LIMIT, run=request.param)
    running = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=dict(os.environ)
    )
    assert running.stdout is not None
    try:
        async with asyncio.timeout(DEADLINE):
            port = int(await running.stdout.readline())
        yield Process(port, running)
    finally:
        with contextlib.suppress(ProcessLookupError):
            running.kill()
        await running.wait()


async def ask(connection: RawConnection) -> Response:
    """Ask whether the server is ready, on a connection that is open."""
    await connection.send(get("/primacron/readyz", "Authorization: Bearer s"))
    return await connection.read_response()


async def until_ready(connection: RawConnection, ready: bool) -> Response:
    """Wait until readiness says so."""
    async with asyncio.timeout(DEADLINE):
        while (answer := await ask(connection)).json()["ready"] is not ready:
            await asyncio.sleep(0.05)
        return answer


async def test_clients_beyond_the_descriptors_wait_and_are_served_when_there_are_some(process: Process) -> None:
    first = await RawConnection.open(process.port)
    assert (await ask(first)).status == 200
    many = await process.connect(2 * LIMIT)
    answer = await until_ready(first, ready=False)
    assert (answer.status, answer.json()["reasons"]) == (
        503,
        ["hardly any file descriptors are left: nobody is accepted"],
    )
    assert await process.line() == (
        f"limit 1 hardly any file descriptors are left, and clients wait to be accepted: the limit is {LIMIT}"
    )
    # All that were accepted live, and the last ones wait: nobody was dropped.
    for each in many:
        await each.send(get("/primacron/livez"))
    answered = 0
    for each in many[: LIMIT // 4]:
        answered += json.loads((await each.read_response()).body)["live"]
    assert answered == LIMIT // 4
    waiting = asyncio.create_task(many[-1].read_response())
    assert not any(each.reader.at_eof() for each in many)
    for each in many[:-1]:
        each.abort()
    assert (await waiting).json() == {"live": True}
    assert (await until_ready(first, ready=True)).status == 200
    newcomers = await process.connect(5)
    assert [(await ask(each)).status for each in newcomers] == [200] * 5
    for each in (first, many[-1], *newcomers):
        each.abort()
    await process.tell("end")
    while (line := await process.line()) != "":  # those that gave up may have filled it once more
        assert line.startswith("limit "), "and nothing else was said"
    assert await process.process.wait() == 0


async def test_it_is_the_same_when_the_application_takes_them(process: Process) -> None:
    first = await RawConnection.open(process.port)
    more = await process.connect(25)
    for each in more:
        assert (await ask(each)).status == 200
    await process.tell("open")
    assert await process.line() == "open"
    assert (await until_ready(first, ready=False)).status == 503
    assert (await process.line()).startswith("limit 1 ")
    newcomer = await RawConnection.open(process.port)
    await process.tell("close")
    assert await process.line() == "close"
    assert (await ask(newcomer)).status in (200, 503)
    assert (await until_ready(first, ready=True)).status == 200
    for each in (first, newcomer, *more):
        each.abort()
    await process.tell("end")
    assert await process.process.wait() == 0
