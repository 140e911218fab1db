"""What ends a program, raised in the application's code: an error like any other, unless a signal is behind it."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Callable

import msgspec
import pytest

from primacron import HttpRequest, Primacron, Session
from primacron.errors import HandlerExited
from tests.conftest import Serve
from tests.support.engine import Client
from tests.support.hearing import Hearing
from tests.support.program import running


class Quit(BaseException):
    """Neither an error nor one of Python's own."""


def exit_program() -> None:
    sys.exit(3)


def interrupt() -> None:
    raise KeyboardInterrupt


def quit_program() -> None:
    raise Quit("now")


def group() -> None:
    raise BaseExceptionGroup("all", [SystemExit(1)])


ENDS: dict[str, Callable[[], None]] = {
    "SystemExit('3')": exit_program,
    "KeyboardInterrupt('')": interrupt,
    "Quit('now')": quit_program,
    "BaseExceptionGroup('all (1 sub-exception)')": group,
}


class Ending(msgspec.Struct):
    value: int

    def __post_init__(self) -> None:
        sys.exit(3)


def ending(end: Callable[[], None]) -> Primacron:
    """Return a server in which everything that it may run ends the program."""
    server = Primacron(bad_messages=1_000)

    @server.event("plain")
    def plain(session: Session) -> None:
        end()

    @server.event("async")
    async def at_once(session: Session) -> None:
        end()

    @server.event("later")
    async def later(session: Session) -> None:
        await asyncio.sleep(0.001)
        end()

    @server.event("thread", thread=True)
    def in_thread(session: Session) -> None:
        end()

    @server.event("own task")
    def own_task(session: Session) -> None:
        async def work() -> None:
            await asyncio.sleep(0)
            end()

        session.task(work())

    @server.validate("checked")
    def check() -> None:
        end()

    @server.validate("checked later")
    async def check_later() -> None:
        await asyncio.sleep(0)
        end()

    @server.event("typed")
    def typed(session: Session, value: Ending) -> None: ...

    @server.validate("heard")
    def heard() -> None: ...

    @server.on("stream::heard")
    def listener(session: Session) -> None:
        end()

    @server.event("follow")
    async def follow(session: Session) -> None:
        await server.pipe(session, session.account, session.id)

    @server.authorize_pipe
    def authorize_pipe(follower: Session, account: str, id: str) -> bool:
        end()
        return True

    @server.event("double")
    def double(session: Session, value: int) -> int:
        return 2 * value

    return server


@pytest.mark.parametrize("text", ENDS)
async def test_what_would_end_the_program_is_an_error_of_the_handler(kind: str, serve: Serve, text: str) -> None:
    server = ending(ENDS[text])
    failed = Hearing(server, "error::handler")
    client = await (await serve(server)).connect("account=ann")
    events = ("plain", "async", "later", "thread", "checked", "checked later", "typed", "heard", "follow")
    for number, event in enumerate(events):
        await client.emit(event, *([{"value": 1}] if event == "typed" else []), id=number)
        error, context = await failed.next_error()
        assert isinstance(error, HandlerExited), event
        assert str(error).startswith("SystemExit('3')" if event == "typed" else text)
        assert error.__cause__ is not None
        assert context.session is not None
        assert context.session.account == "ann"
        answer = await client.receive()
        assert (answer["ack"], "error" in answer) == (number, True)
    await client.emit("own task")
    error, context = await failed.next_error()
    assert isinstance(error, HandlerExited)
    await client.emit("double", 21, id=99)
    assert await client.receive() == {"ack": 99, "args": [42]}


@pytest.mark.parametrize("text", ENDS)
async def test_listeners_and_hooks_do_not_end_the_program_either(kind: str, serve: Serve, text: str) -> None:
    end = ENDS[text]
    server = Primacron(origins=lambda origin, request: end() is None)
    failed = Hearing(server, "error::handler")
    told: list[str] = []

    @server.on("connection")
    async def connected(session: Session) -> None:
        if session.query.get("wish") == "later":
            await asyncio.sleep(0)
        end()

    @server.on("connection")
    def connected_too(session: Session) -> None:
        told.append("the next listener")

    @server.authorize
    async def authorize(request: HttpRequest) -> bool:
        if request.query.get("wish") == "authorize":
            await asyncio.sleep(0)
            end()
        return True

    @server.uuid
    def name(request: HttpRequest) -> str:
        if request.query.get("wish") == "uuid":
            end()
        return "s"

    @server.get("/page")
    def page(request: HttpRequest) -> str:
        end()
        return ""

    @server.event("double")
    def double(session: Session, value: int) -> int:
        return 2 * value

    front = await serve(server)
    for wish in ("now", "later"):
        client = await front.connect(f"account=ann&wish={wish}")
        assert isinstance((await failed.next_error())[0], HandlerExited)
        await client.emit("double", 21, id=1)
        assert await client.receive() == {"ack": 1, "args": [42]}
    assert told == ["the next listener"] * 2
    target = "/stream/?EIO=4&transport=polling&account=ann"
    for path, headers in (
        (f"{target}&wish=authorize", {}),
        (f"{target}&wish=uuid", {}),
        (target, {"Origin": "http://shop.example"}),
        ("/page", {}),
    ):
        assert (await front.fetch("GET", path, headers)).status == 500
        error = (await failed.next_error())[0]
        assert isinstance(error, HandlerExited) or isinstance(error.__cause__, HandlerExited)


async def test_from_thread_passes_it_on_as_an_error() -> None:
    server = Primacron()

    async def later() -> None:
        await asyncio.sleep(0)
        sys.exit(3)

    async with server:
        for function in (exit_program, later):
            future = server.from_thread(function)
            with pytest.raises(HandlerExited, match=r"^SystemExit\('3'\)"):
                await asyncio.wrap_future(future)


# Signals, which really end a program

PROGRAM = """
import asyncio, json, signal, sys, time
from primacron import Primacron, Session

by, number, style = json.loads(sys.argv[1])
server = Primacron(secret="known")
server.on("error::handler", lambda error, context: print("told:", error))

def block():
    print("blocking")
    while True:
        time.sleep(0.01)

@server.event("plain")
def plain(session: Session) -> None:
    block()

@server.event("async")
async def at_once(session: Session) -> None:
    block()

@server.event("later")
async def later(session: Session) -> None:
    await asyncio.sleep(0.001)
    block()

def leave(*_):
    sys.exit(7)

async def listen():
    await server.listen(0, "127.0.0.1")
    print(f"port {server.address()[1]}.")
    if number == 15:
        signal.signal(15, leave)
    await asyncio.Event().wait()

if by == "asyncio.run":
    asyncio.run(listen())
elif by == "uvloop.run":
    import uvloop
    uvloop.run(listen())
else:
    asyncio.new_event_loop().run_until_complete(listen())
"""


@pytest.mark.parametrize("style", ["plain", "async", "later"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("by", ["asyncio.run", "uvloop.run", "run_until_complete"])
async def test_a_signal_that_hits_a_handler_ends_the_program(
    by: str, number: signal.Signals, style: str, anyio_backend: object
) -> None:
    async with running("-c", PROGRAM, json.dumps([by, number, style])) as program:
        front = Client(int((await program.wait_for(r"port (\d+)\."))[1]))
        try:
            client = await front.connect("account=ann")
            await client.emit(style)
            await program.wait_for("blocking")
            if number is signal.SIGINT and by != "run_until_complete":
                program.send_signal(
                    number
                )  # asyncio cancels what runs first, which a handler that blocks does not hear
                await asyncio.sleep(0.2)
            status = await program.stop(number)
        finally:
            await front.close()
    assert status == (7 if number is signal.SIGTERM else -signal.SIGINT), program.printed
    assert "application's code" not in program.printed
