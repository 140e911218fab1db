"""Context variables and decimal's precision: what one piece of the application sets, no other one sees."""

from __future__ import annotations

import asyncio
import decimal
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextvars import Context, ContextVar, copy_context
from typing import Any, Final

import msgspec
import pytest

from primacron import HttpRequest, Primacron, Session
from primacron.contexts import Apart, call_apart, own_context
from tests.conftest import Serve
from tests.support.engine import Client
from tests.support.hearing import Hearing
from tests.support.serving import under_uvicorn

#: What a piece of the application may set, and what it finds.
TENANT: ContextVar[str] = ContextVar("TENANT", default="")
OUTER: ContextVar[str] = ContextVar("OUTER", default="")
PRECISION = 28


class Marks:
    """Who has run: each piece leaves a mark in its context, and notes which marks it has found there."""

    def __init__(self) -> None:
        self.found: list[tuple[str, str, int]] = []

    def leave(self, piece: str) -> None:
        """Note what is there, and leave a mark: in a variable, and in place."""
        self.found.append((piece, TENANT.get(), decimal.getcontext().prec))
        TENANT.set(piece)
        decimal.getcontext().prec = 5

    @property
    def pieces(self) -> set[str]:
        return {piece for piece, _, _ in self.found}

    @property
    def leaks(self) -> list[tuple[str, str, int]]:
        return [each for each in self.found if each[1:] != ("", PRECISION)]


class Checked(msgspec.Struct):
    value: int

    def __post_init__(self) -> None:
        TENANT.set("a type's own check")
        decimal.getcontext().prec = 6


def marking(marks: Marks) -> Primacron:
    """Return a server each piece of whose application leaves a mark."""
    server = Primacron(bad_messages=1_000)

    class Late(Exception):
        pass

    @server.authorize
    def authorize(request: HttpRequest) -> bool:
        marks.leave("authorize")
        return True

    async def name(request: HttpRequest) -> str:
        marks.leave("uuid")
        await asyncio.sleep(0)
        return request.query.get("session", "s")

    server.uuid(name)

    @server.authorize_pipe
    async def allow(follower: Session, account: str, session: str) -> bool:
        await asyncio.sleep(0)
        marks.leave("authorize_pipe")
        return True

    @server.event("plain")
    def plain(session: Session, value: int) -> None:
        marks.leave("plain")

    @server.event("typed")
    def typed(session: Session, value: Checked) -> None:
        pass

    @server.event("failing")
    def fail(session: Session) -> None:
        marks.leave("failing")
        raise Late

    @server.event("soon")
    async def soon(session: Session) -> None:
        marks.leave("soon")

    @server.event("later")
    async def later(session: Session) -> None:
        marks.leave("later")
        await asyncio.sleep(0.01)
        session.task(beside())

    async def beside() -> None:
        TENANT.set("task")
        decimal.getcontext().prec = 7

    @server.event("thread", thread=True)
    def thread(session: Session) -> None:
        marks.leave("thread")

    @server.event("follow")
    async def follow(session: Session) -> None:
        marks.leave("follow")
        await server.pipe(session, session.account, session.id)

    @server.event("leave")
    def leave(session: Session) -> None:
        marks.leave("leave")
        session.disconnect()

    @server.validate("checked")
    async def check(value: int) -> bool:
        marks.leave("validator")
        await asyncio.sleep(0)
        return True

    for number in range(2):

        def hear(*_: Any, number: int = number) -> None:
            marks.leave(f"stream {number}")

        async def hear_later(*_: Any, number: int = number) -> None:
            await asyncio.sleep(0)
            marks.leave(f"life {number}")

        def hear_error(*_: Any, number: int = number) -> None:
            marks.leave(f"error {number}")

        server.on("stream::checked", hear)
        server.on("stream::plain", hear)
        for event in ("connection", "disconnection"):
            server.on(event, hear_later)
        server.on("error::*", hear_error)

    @server.get("/page")
    def page(request: HttpRequest) -> str:
        marks.leave("page")
        return "page"

    @server.get("/later")
    async def page_later(request: HttpRequest) -> str:
        await asyncio.sleep(0)
        marks.leave("page later")
        return "page"

    return server


EVENTS: Final[tuple[tuple[Any, ...], ...]] = (
    ("plain", 1),
    ("typed", {"value": 1}),
    ("failing",),
    ("soon",),
    ("later",),
    ("thread",),
    ("follow",),
)
PIECES = {
    *("authorize", "uuid", "authorize_pipe", "plain", "failing", "soon", "later", "thread", "follow", "leave"),
    *("validator", "stream 0", "stream 1", "life 0", "life 1", "error 0", "error 1", "page", "page later"),
}


async def live(client: Client, ended: Hearing, number: int) -> None:
    """Let a client do all there is."""
    events = await client.connect(f"account=ann&session=s{number}")
    for place, (event, *args) in enumerate((*EVENTS, ("checked", 5), *EVENTS)):
        await events.emit(event, *args, id=place)
    answers = 0
    while answers < 2 * len(EVENTS) + 1:
        answers += "ack" in await events.receive()
    await events.send({"event": "unknown"})
    await events.emit("leave")
    await ended.next()
    for page in ("/page", "/later"):
        assert (await client.fetch("GET", page)).body == b"page"


@pytest.fixture(params=["fresh", "used"])
def arithmetic(request: pytest.FixtureRequest) -> None:
    """Whether decimals were in use before the server began: then its context is there already."""
    assert decimal.getcontext().prec == PRECISION
    if request.param == "used":
        decimal.setcontext(decimal.Context(prec=PRECISION))


async def test_no_piece_of_the_application_sees_what_another_one_has_set(
    kind: str, arithmetic: None, serve: Serve
) -> None:
    marks = Marks()
    server = marking(marks)
    ended = Hearing(server, "disconnection")
    client = await serve(server)
    for number in range(3):
        await live(client, ended, number)
    assert marks.pieces == PIECES
    assert marks.leaks == []
    assert (TENANT.get(), decimal.getcontext().prec) == ("", PRECISION)


async def test_nor_by_polling(kind: str, serve: Serve) -> None:
    marks = Marks()
    server = marking(marks)
    client = await serve(server)
    for number in range(2):
        polling = await client.poll_in(f"account=ann&session=p{number}")
        for _ in range(2):
            for event, *args in EVENTS:
                assert (await polling.emit(event, *args)).status == 200
            assert (await polling.post('4{"event":"plain","args":[1],"id":1}')).body == b"ok"
            while b'"ack":1' not in (await polling.poll()).body:  # what it follows may come before
                pass
    assert {"plain", "failing", "soon", "error 0"} <= marks.pieces
    assert marks.leaks == []


async def test_what_was_set_before_the_server_began_is_seen_by_all(kind: str, serve: Serve) -> None:
    OUTER.set("the program")
    decimal.getcontext().prec = 17
    server = Primacron()
    found: list[tuple[str, int]] = []

    @server.event("plain")
    def plain(session: Session) -> None:
        found.append((OUTER.get(), decimal.getcontext().prec))

    @server.event("later")
    async def later(session: Session) -> None:
        await asyncio.sleep(0)
        found.append((OUTER.get(), decimal.getcontext().prec))

    client = await (await serve(server)).connect("account=ann")
    for number, event in enumerate(("plain", "later")):
        await client.emit(event, id=number)
        await client.receive()
    assert found == [("the program", 17)] * 2


Scope = MutableMapping[str, Any]


class Middleware:
    """An outer ASGI application that says in a variable what each request asks for."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Callable[[], Awaitable[Any]], send: Any) -> None:
        if scope["type"] != "lifespan":
            OUTER.set(f"{scope['type']} {dict(scope['headers']).get(b'x-request', b'-').decode()}")
        await self.app(scope, receive, send)


class Outer:
    """A server behind a middleware; ``found`` is what its pieces saw of that."""

    def __init__(self, server: Primacron, client: Client, found: list[tuple[str, str]]) -> None:
        self.server = server
        self.client = client
        self.found = found


@pytest.fixture
async def outer() -> AsyncIterator[Outer]:
    server = Primacron()
    found: list[tuple[str, str]] = []

    def note(piece: str) -> None:
        found.append((piece, OUTER.get()))
        OUTER.set(piece)

    @server.authorize
    def authorize(request: HttpRequest) -> bool:
        note("authorize")
        return True

    @server.event("plain")
    def plain(session: Session) -> None:
        note("plain")

    @server.event("later")
    async def later(session: Session) -> None:
        await asyncio.sleep(0.01)
        note("later")

    server.on("connection", lambda session: note("connection"))
    server.on("disconnection", lambda session, reason: note("disconnection"))
    server.on("error::*", lambda error, context: note("error"))

    @server.get("/page")
    def page(request: HttpRequest) -> str:
        note("page")
        return "page"

    async with under_uvicorn(Middleware(server.asgi), lifespan="off") as port:
        client = Client(port)
        try:
            yield Outer(server, client, found)
        finally:
            await client.close()
            await server.destroy()


async def test_what_an_outer_application_set_is_seen_in_each_websocket(outer: Outer) -> None:
    ended = Hearing(outer.server, "disconnection")
    for number in ("1", "2"):
        socket = await outer.client.websocket("account=ann", headers={"X-Request": number})
        await socket.receive()
        for place, event in enumerate(("plain", "later", "plain", "later", "plain")):
            await socket.send(f'4{{"event":"{event}","id":{place}}}')
        for _ in range(5):
            await socket.receive()
        await socket.send('4{"event":"unknown"}')
        await socket.send("1")
        await ended.next()
        pieces = ["authorize", "connection", "plain", "later", "plain", "later", "plain", "error", "disconnection"]
        assert outer.found == [(piece, f"websocket {number}") for piece in pieces]
        outer.found.clear()


async def test_what_an_outer_application_set_is_seen_in_each_request(outer: Outer) -> None:
    for number in ("1", "2"):
        await outer.client.fetch("GET", "/page", {"X-Request": number})
    assert outer.found == [("page", "http 1"), ("page", "http 2")]
    outer.found.clear()
    polling = await outer.client.poll_in("account=ann")
    for number in ("3", "4"):
        assert (await polling.post('4{"event":"plain"}', {"X-Request": number})).body == b"ok"
    assert outer.found == [
        ("authorize", "http -"),
        ("connection", "http -"),
        ("plain", "http 3"),
        ("plain", "http 4"),
    ]


async def test_a_message_that_waits_keeps_the_context_of_its_request(outer: Outer) -> None:
    polling = await outer.client.poll_in("account=ann")
    outer.found.clear()
    for number in ("1", "2", "3"):
        body = '4{"event":"later"}\x1e4{"event":"plain","id":1}'
        assert (await polling.post(body, {"X-Request": number})).body == b"ok"
    received = ""
    while received.count('"ack"') < 3:
        received += (await polling.poll()).body.decode()
    assert outer.found == [(piece, f"http {number}") for number in "123" for piece in ("later", "plain")]


async def test_the_request_that_starts_a_mounted_server_is_not_seen_by_others(outer: Outer) -> None:
    await outer.client.fetch("GET", "/page", {"X-Request": "1"})
    assert outer.server.node.context.get(OUTER) is None


# One piece by itself


async def test_what_is_awaited_apart_is_sent_thrown_and_closed_as_if_it_were_not() -> None:
    seen: list[str] = []

    async def work(gate: asyncio.Future[str]) -> str:
        TENANT.set("inside")
        try:
            seen.append(await gate)
        except ValueError as error:
            seen.append(str(error))
        finally:
            seen.append(TENANT.get())
        async with asyncio.timeout(5):
            await asyncio.sleep(0)
        return TENANT.get()

    loop = asyncio.get_running_loop()
    for outcome in ("set", "raised", "cancelled"):
        gate: asyncio.Future[str] = loop.create_future()
        task = asyncio.create_task(call_apart(copy_context(), work, gate))
        await asyncio.sleep(0)
        if outcome == "set":
            gate.set_result("set")
        elif outcome == "raised":
            gate.set_exception(ValueError("raised"))
        else:
            task.cancel()
        if outcome == "cancelled":
            with pytest.raises(asyncio.CancelledError):
                await task
            assert gate.cancelled()
        else:
            assert await task == "inside"
        assert seen == ["inside"] if outcome == "cancelled" else [outcome, "inside"]
        assert TENANT.get() == ""
        seen.clear()
    closing = Apart(work(loop.create_future()), copy_context()).__await__()
    next(closing)
    closing.close()
    assert seen == ["inside"]


def test_decimals_context_is_copied_only_where_there_is_one() -> None:
    empty = Context()
    assert not [*own_context(empty)]

    def look() -> None:
        decimal.getcontext().prec = 9
        own = own_context(copy_context())
        assert own.run(lambda: decimal.getcontext().prec) == 9
        own.run(setattr, decimal.getcontext(), "prec", 9)
        own.run(lambda: setattr(decimal.getcontext(), "prec", 3))
        assert decimal.getcontext().prec == 9

    Context().run(look)
