"""Runs a block of the documentation, and lets a test talk to it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.docs.blocks import BLOCKS, NAMED, ROOT, Block
from tests.support.engine import Client
from tests.support.http import Response, fetch
from tests.support.program import DEADLINE, Program, running
from tests.support.redis import RedisProcess, free_port, in_thread

#: What the pages write where a reader has a free port, or a Redis.
PORT: Final = "8080"
REDIS: Final = "redis://localhost:6379"
_LISTENING: Final = r"(?:listening|running) on (?:https?://\S*?:|port )(\d+)"
_FINE: Final = (0, -signal.SIGTERM)  # uvicorn ends by the signal that it got


@dataclass(frozen=True)
class Scene:
    """A block that runs."""

    program: Program
    port: int
    folder: Path
    name: str = ""
    given_redis: RedisProcess | None = None

    @property
    def redis(self) -> RedisProcess:
        """The Redis that the block uses."""
        assert self.given_redis is not None, f"the block has no {REDIS}"
        return self.given_redis

    @contextlib.asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        """Return an Engine.IO client for it."""
        client = Client(self.port)
        try:
            yield client
        finally:
            await client.close()

    async def get(self, target: str, headers: dict[str, str] | None = None) -> Response:
        """Send a GET."""
        return await fetch(self.port, "GET", target, headers)


def is_server(block: Block) -> bool:
    """Tell whether a block serves until it is ended."""
    return re.search(r"\b(server|uvicorn)\.run\(", block.text) is not None


async def write_files(block: Block, folder: Path) -> None:
    """Write what the block needs: blocks of its page whose name is that of a file, and a certificate."""
    for other in BLOCKS:
        if other.page == block.page and other.name and "." in other.name:
            (folder / other.name).write_text(other.text)
    if "certificate.pem" in block.text:
        await _make_certificate(folder)


async def _make_certificate(folder: Path) -> None:
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    )
    process = await asyncio.create_subprocess_exec(
        *command.split(),
        *("-keyout", folder / "key.pem", "-out", folder / "certificate.pem"),
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert await process.wait() == 0


@contextlib.asynccontextmanager
async def redis_of(block: Block, given: RedisProcess | None = None) -> AsyncIterator[RedisProcess | None]:
    """Run a Redis for a block that needs one and was given none."""
    if given is not None or REDIS not in block.text:
        yield given
        return
    process = RedisProcess()
    try:
        yield await in_thread(process.start)
    finally:
        process.close()


def _filled_in(text: str, redis: RedisProcess | None) -> str:
    return text if redis is None else text.replace(REDIS, redis.url)


@contextlib.asynccontextmanager
async def serving(block: Block, folder: Path) -> AsyncIterator[Scene]:
    """Run a block that serves, on a free port, and end it as a user would."""
    await write_files(block, folder)
    file = folder / "server.py"
    async with redis_of(block) as redis:
        file.write_text(_filled_in(block.text.replace(PORT, "0"), redis))
        async with running(file, cwd=folder) as program:
            port = (await program.wait_for(_LISTENING))[1]
            yield Scene(program, int(port), folder, block.place, redis)
            assert await program.stop() in _FINE, program.printed


@contextlib.asynccontextmanager
async def beside(scene: Scene) -> AsyncIterator[Scene]:
    """Run the block of a scene once more, with the same Redis: another server of the same application."""
    async with running(scene.folder / "server.py", cwd=scene.folder) as program:
        port = (await program.wait_for(_LISTENING))[1]
        yield Scene(program, int(port), scene.folder, scene.name, scene.given_redis)
        assert await program.stop() in _FINE, program.printed


async def run(block: Block, folder: Path, port: int | None = None, redis: RedisProcess | None = None) -> str:
    """Run a block that ends by itself and return what it printed; ``port`` is that of the server it talks to."""
    await write_files(block, folder)
    file = folder / "program.py"
    async with redis_of(block, redis) as given:
        file.write_text(_filled_in(block.text if port is None else block.text.replace(PORT, str(port)), given))
        async with running(file, cwd=folder) as program:
            assert await program.wait() == 0, f"{block.place}\n{program.printed}"
    return program.printed


@contextlib.asynccontextmanager
async def nginx(folder: Path, *ports: int, block: str = "nginx.conf") -> AsyncIterator[int]:
    """Run nginx with a page's configuration in front of servers, and return its own port."""
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    assert program is not None, "scripts/install-debian nginx=/usr/sbin/nginx"
    own = free_port()
    # The pages count up from the port that a reader's first server has.
    written = {"8000": str(own), **{str(int(PORT) + number): str(port) for number, port in enumerate(ports)}}
    text = re.sub(r"\b80\d\d\b", lambda found: written[found[0]], NAMED[block].text)
    (folder / "nginx.conf").write_text(f"daemon off; pid {folder}/pid; error_log stderr notice;\n{text}")
    process = await asyncio.create_subprocess_exec(
        *(program, "-p", folder, "-c", "nginx.conf", "-e", "stderr"), stderr=asyncio.subprocess.PIPE
    )
    assert process.stderr is not None
    try:
        async with asyncio.timeout(DEADLINE):
            while b"start worker processes" not in (line := await process.stderr.readline()):
                assert line, "nginx ended"
        yield own
    finally:
        process.terminate()
        await process.communicate()


async def run_node(text: str, port: int) -> str:
    """Run a JavaScript block, where the official clients are installed, and return what it printed."""
    process = await asyncio.create_subprocess_exec(
        *("node", "--input-type=module", "--eval", text.replace(PORT, str(port))),
        cwd=ROOT / "tests" / "js",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(DEADLINE):
            out, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 0, out.decode()
    return out.decode()
