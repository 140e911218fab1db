"""The blocking form, in a process of its own: signals and what it says."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import sys
import threading
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from primacron import Primacron, Session, compiled
from primacron.cluster.redis.settings import SentinelSettings, Settings
from tests.support.engine import Client, Events
from tests.support.http import fetch
from tests.support.program import Program, running
from tests.support.redis import RedisProcess, in_thread

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


class Serving:
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
async def program(request: pytest.FixtureRequest) -> AsyncIterator[Serving]:
    source = PROGRAM.format(options=getattr(request, "param", ""))
    process = await asyncio.create_subprocess_exec(sys.executable, "-W", "error", "-c", source, stderr=PIPE)
    assert process.stderr is not None
    async with asyncio.timeout(DEADLINE):
        said = (await process.stderr.readline()).decode()
    found = re.search(r"listening on http://127\.0\.0\.1:(\d+)/stream/", said)
    assert found, said
    yield Serving(process, int(found[1]), said)
    if process.returncode is None:
        process.kill()
    await process.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_in_order_and_says_what_it_waits_for(program: Serving, number: signal.Signals) -> None:
    front = Client(program.port)
    client = await front.connect()
    program.process.send_signal(number)
    assert await client.receive_close() == (1012, "server shutdown")
    status, said = await program.end()
    assert status == 0
    assert "ending 1 sessions" in said
    await front.close()


async def test_a_second_signal_ends_it_at_once(program: Serving) -> None:
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


async def test_sighup_is_ignored(program: Serving) -> None:
    program.process.send_signal(signal.SIGHUP)
    assert (await fetch(program.port, "GET", "/primacron/livez")).status == 200
    program.process.send_signal(signal.SIGTERM)
    assert (await program.end())[0] == 0


async def read_line(program: Serving) -> str:
    """Return the next line that it says."""
    assert program.process.stderr is not None
    return (await asyncio.wait_for(program.process.stderr.readline(), DEADLINE)).decode()


FORM = "compiled" if compiled else "plain Python, not compiled"


async def test_the_start_says_where_it_listens_and_what_it_is(program: Serving) -> None:
    assert program.said == f"primacron: listening on http://127.0.0.1:{program.port}/stream/\n"
    assert (
        await read_line(program) == f"primacron: {FORM}; no Redis, so only this process finds its sessions; 1 process\n"
    )


async def test_without_a_secret_one_is_made_and_said_with_what_it_opens(program: Serving) -> None:
    await read_line(program)
    line = await read_line(program)
    found = re.fullmatch(
        r'primacron: "Authorization: Bearer (\S{32})" opens PUT /primacron/broadcast and the details of '
        r"/primacron/readyz, until the end; the option secret sets one of yours\n",
        line,
    )
    assert found, line
    secret = found[1]
    headers = {"Authorization": f"Bearer {secret}"}
    answer = await fetch(program.port, "PUT", "/primacron/broadcast", headers, b'{"everyone": true, "message": 1}')
    assert answer.status == 200


@pytest.mark.parametrize("program", ["secret='known'"], indirect=True)
async def test_a_given_secret_is_not_said(program: Serving) -> None:
    program.process.send_signal(signal.SIGTERM)
    _, said = await program.end()
    assert "secret" not in said


async def test_inside_an_event_loop_it_says_what_to_use_instead() -> None:
    with pytest.raises(RuntimeError, match=r"await server\.listen"):
        Primacron().run(0, "127.0.0.1")


# Handlers that block: all of these would take longer than what is waited for here.

BLOCKED = 60.0
BLOCKING = """
import asyncio, json, socket, sys, time
import primacron.running
from primacron import Primacron, Session
from primacron.times import Times

given = json.loads(sys.argv[1])
finish = given["seconds"].pop("finish", Times().finish)
for name, seconds in given["seconds"].items():
    setattr(primacron.running, name, seconds)
if not given["uvloop"]:
    sys.modules["uvloop"] = None

server = Primacron(threads=given.get("threads", 32))
server._times = Times(finish=finish)
server.on("error::handler", lambda error, context: print(f"cut: {context.event} of {context.session}: {error}"))

def block(seconds: float) -> None:
    print("blocking")
    time.sleep(seconds)

@server.event("in a thread", thread=True)
def in_thread(session: Session, seconds: float) -> None:
    block(seconds)

@server.event("by to_thread")
async def by_to_thread(session: Session, seconds: float) -> None:
    await asyncio.to_thread(block, seconds)

@server.event("in the loop")
def in_loop(session: Session, seconds: float) -> None:
    block(seconds)

async def serve() -> None:
    await server.listen(0, "127.0.0.1")
    print(f"listening on {server.uri}/stream/")
    asyncio.get_running_loop().add_signal_handler(15, lambda: ended.set())
    ended = asyncio.Event()
    await ended.wait()
    await server.destroy()

def use_uvicorn() -> None:
    import uvicorn

    sock = socket.create_server(("127.0.0.1", 0))
    print(f"listening on http://127.0.0.1:{sock.getsockname()[1]}/stream/")
    uvicorn.Server(uvicorn.Config(server.asgi, log_level="error", timeout_graceful_shutdown=1)).run([sock])

match given["by"]:
    case "run":
        server.run(0, "127.0.0.1")
    case "listen":
        asyncio.run(serve())
    case "uvicorn":
        use_uvicorn()
print("over")
"""
#: So that the tests need not wait for the seconds that people have.
SOON = {"finish": 0.2, "END_WITHIN": 0.5, "HURRIED": 0.3}
LATE = {"finish": BLOCKED, "END_WITHIN": BLOCKED, "FORCED_AFTER": 2 * BLOCKED}


@asynccontextmanager
async def blocked(event: str, **given: object) -> AsyncIterator[tuple[Program, Events]]:
    """Run a program, and let a handler of it block."""
    async with running("-c", BLOCKING, json.dumps(given)) as program:
        port = int((await program.wait_for(r"listening on http://127\.0\.0\.1:(\d+)/stream/"))[1])
        front = Client(port)
        try:
            client = await front.connect("account=ann")
            await client.emit(event, BLOCKED)
            await program.wait_for("blocking")
            yield program, client
        finally:
            await front.close()


@pytest.mark.parametrize("uvloop", [True, False])
@pytest.mark.parametrize("by", ["run", "listen", "uvicorn"])
async def test_a_handler_in_a_thread_holds_up_no_end_and_is_told_to_be_cut_off(
    by: str, uvloop: bool, anyio_backend: object
) -> None:
    async with blocked("in a thread", by=by, uvloop=uvloop, seconds=SOON) as (program, _):
        assert await program.stop() in (0, -signal.SIGTERM)  # uvicorn raises the signal again at its end
        cut = r"cut: in a thread of <Session ann/\S+>: the handler of 'in a thread', whose thread nobody waits for"
        assert re.search(cut, program.printed), program.printed
        assert "Traceback" not in program.printed


@pytest.mark.parametrize("uvloop", [True, False])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("event", ["by to_thread", "in the loop"])
async def test_whatever_blocks_holds_up_no_end(
    event: str, number: signal.Signals, uvloop: bool, anyio_backend: object
) -> None:
    async with blocked(event, by="run", uvloop=uvloop, seconds=SOON) as (program, _):
        status = await program.stop(number)
        if event == "in the loop":
            assert status == 1
            assert "ended by force: the event loop has not turned since the signal" in program.printed
            assert "in in_loop\n" in program.printed
        else:
            assert status == 0
            assert "cut: by to_thread of <Session ann/" in program.printed
            assert "functions in threads that were cut off: 1" in program.printed
            assert program.printed.endswith("over\n")


@pytest.mark.parametrize("uvloop", [True, False])
@pytest.mark.parametrize("event", ["in a thread", "by to_thread", "in the loop"])
async def test_a_second_signal_waits_for_nothing_that_blocks(event: str, uvloop: bool, anyio_backend: object) -> None:
    async with blocked(event, by="run", uvloop=uvloop, seconds=LATE) as (program, client):
        program.send_signal(signal.SIGTERM)
        if event != "in the loop":
            assert await client.receive_close() == (1012, "server shutdown")
        assert await program.stop(signal.SIGINT) == 1  # another number: two alike may come as one


async def test_the_seconds_that_people_have_are_five(anyio_backend: object) -> None:
    async with blocked("in a thread", by="run", uvloop=True, seconds={}) as (program, _):
        began = time.monotonic()
        assert await program.stop() == 0
        assert time.monotonic() - began < 5.0 + 5.0  # and what a busy machine takes for it
        assert "ending 1 sessions, 5 seconds at most" in program.printed


# Ended by others than signals


def in_another_thread(server: Primacron) -> tuple[threading.Thread, int]:
    """Run a server in a thread which is not the main one; return that, and the port."""
    listening = threading.Event()
    server.on("listening", listening.set)
    thread = threading.Thread(target=server.run, args=(0, "127.0.0.1"))
    thread.start()
    assert listening.wait(DEADLINE)
    address = server.address()
    assert isinstance(address, tuple)
    return thread, address[1]


async def test_in_another_thread_it_serves_without_signals_until_it_is_destroyed(anyio_backend: object) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)]
    server = Primacron(secret="known")

    @server.event("double")
    def double(session: Session, value: int) -> int:
        return 2 * value

    thread, port = await asyncio.to_thread(in_another_thread, server)
    front = Client(port)
    try:
        client = await front.connect()
        await client.emit("double", 21, id=1)
        assert await client.receive() == {"ack": 1, "args": [42]}
        assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)] == before
        server.from_thread(server.destroy)
        assert await client.receive_close() == (1012, "server shutdown")
    finally:
        await front.close()
    await asyncio.to_thread(thread.join, DEADLINE)
    assert not thread.is_alive()


def test_it_returns_when_a_handler_ends_the_server_and_signals_are_as_before() -> None:
    server = Primacron(secret="known")
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)]

    @server.on("listening")
    async def end() -> None:
        asyncio.get_running_loop().call_soon(lambda: asyncio.ensure_future(server.destroy()))

    server.run(0, "127.0.0.1")
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)] == before


REDIS = """
from primacron import Primacron
Primacron("{url}", {options}).run(0, "127.0.0.1", workers={workers})
"""


@pytest.fixture
def redis() -> Iterator[RedisProcess]:
    process = RedisProcess()
    yield process
    process.close()


def with_redis(redis: RedisProcess, workers: int = 1, options: str = "{}") -> str:
    return REDIS.format(url=redis.url, options=options, workers=workers)


async def test_the_start_says_which_redis_answers_but_no_password(redis: RedisProcess) -> None:
    await in_thread(redis.start)
    await in_thread(redis.command, "ACL", "SETUSER", "shop", "on", ">hidden", "~*", "&*", "+@all")
    async with running("-c", with_redis(redis).replace("redis://", "redis://shop:hidden@")) as program:
        await program.wait_for(f"\nprimacron: {FORM}; Redis at 127.0.0.1:{redis.port} answers; 1 process\n")
        await program.stop()
    assert "hidden" not in program.printed


@pytest.mark.parametrize(("without", "are"), [("accept", "accepted"), ("refuse", "refused")])
async def test_the_start_says_that_redis_does_not_answer_and_what_follows(
    redis: RedisProcess, without: str, are: str
) -> None:
    async with running("-c", with_redis(redis, options=f"{{'without_redis': '{without}'}}")) as program:
        await program.wait_for(
            f"\nprimacron: {FORM}; Redis at 127.0.0.1:{redis.port} does not answer, "
            f"and new clients are {are} meanwhile; 1 process\n"
        )
        await in_thread(redis.start)
        await program.wait_for(r"error::bus: the link to the other servers is back after \d+\.\d s")
        await program.stop()
    assert "error::bus: the link to the other servers is down: " in program.printed


async def test_the_start_of_several_workers_says_the_same_of_all(redis: RedisProcess) -> None:
    await in_thread(redis.start)
    async with running("-c", with_redis(redis, workers=2)) as program:
        await program.wait_for(
            r"\nprimacron: listening on http://127\.0\.0\.1:\d+/stream/\n"
            rf"primacron: {FORM}; Redis at 127\.0\.0\.1:{redis.port} answers; workers \d+, \d+\n"
        )
        await program.stop()
    assert program.printed.startswith('primacron: "Authorization: Bearer ')


async def test_the_start_on_a_unix_socket_names_it(tmp_path: Path) -> None:
    path = tmp_path / "stream"
    async with running("-c", f"from primacron import Primacron\nPrimacron().run(path={str(path)!r})") as program:
        await program.wait_for(rf"primacron: listening on {path}, /stream/\n")
        await program.stop()


@pytest.mark.parametrize(
    ("settings", "place"),
    [
        (Settings("Connection", {"host": "db", "port": 1, "password": "x"}), "Redis at db:1"),
        (Settings("SSLConnection", {"host": "::1", "port": 1}), "Redis at [::1]:1"),
        (Settings("Connection", {}), "Redis at localhost:6379"),
        (Settings("UnixDomainSocketConnection", {"path": "/run/redis"}), "Redis at /run/redis"),
        (Settings("Connection", {}, nodes=(("a", 1), ("b", 2))), "Redis Cluster at a:1, b:2"),
        (
            Settings("Connection", {}, SentinelSettings("main", (("a", 1), ("b", 2)), {})),
            "Redis 'main' of the sentinels a:1, b:2",
        ),
    ],
)
def test_every_kind_of_redis_is_named_without_credentials(settings: Settings, place: str) -> None:
    assert settings.place == place
