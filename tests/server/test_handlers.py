"""Handlers: what they get, how they run, what the client hears of them."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import dataclass
from typing import Any

import msgspec
import pydantic
import pytest

from primacron import Context, Primacron, Refused, RegistrationError, Session, WrongThread
from tests.conftest import Serve
from tests.support.hearing import Hearing

DEADLINE = 10.0


class Bid(msgspec.Struct):
    lot: str
    cents: int


@dataclass
class Point:
    x: float
    y: float = 0.0


class Order(pydantic.BaseModel):
    number: int
    items: list[str] = []


async def test_arguments_arrive_as_the_annotated_types(serve: Serve) -> None:
    server = Primacron()
    seen: list[Any] = []

    @server.event("all")
    def take(session: Session, bid: Bid, point: Point, order: Order, names: list[str], flag: bool = True) -> int:
        seen.extend((bid, point, order, names, flag))
        return len(seen)

    client = await (await serve(server)).connect()
    await client.emit("all", {"lot": "a", "cents": 1}, {"x": 1.5}, {"number": 2, "items": ["i"]}, ["n"], id=0)
    assert await client.receive() == {"ack": 0, "args": [5]}
    assert seen == [Bid("a", 1), Point(1.5), Order(number=2, items=["i"]), ["n"], True]


@pytest.mark.parametrize(
    ("result", "args"),
    [(None, []), ("one", ["one"]), ((1, 2), [1, 2]), ((), []), ([1, 2], [[1, 2]]), ({"a": None}, [{"a": None}])],
)
async def test_what_a_handler_returns_is_the_answer(serve: Serve, result: Any, args: list[Any]) -> None:
    server = Primacron()

    @server.event("sync")
    def answer(session: Session) -> Any:
        return result

    @server.event("async")
    async def answer_later(session: Session) -> Any:
        await asyncio.sleep(0)
        return result

    @server.event("thread", thread=True)
    def answer_from_thread(session: Session) -> Any:
        return result

    client = await (await serve(server)).connect()
    for number, event in enumerate(("sync", "async", "thread")):
        await client.emit(event, id=number)
        assert await client.receive() == {"ack": number, "args": args}


async def test_no_answer_is_sent_unless_the_client_asked_for_it(serve: Serve) -> None:
    server = Primacron()

    @server.event("quiet")
    def quiet(session: Session) -> str:
        return "not asked for"

    @server.event("last")
    def last(session: Session) -> None:
        session.emit("last")

    client = await (await serve(server)).connect()
    await client.emit("quiet")
    await client.emit("last")
    assert await client.receive() == {"event": "last", "args": []}


async def test_messages_of_one_session_are_handled_one_after_another_and_others_meanwhile(serve: Serve) -> None:
    server = Primacron()
    gate = asyncio.Event()
    order: list[str] = []

    @server.event("slow")
    async def slow(session: Session, name: str) -> None:
        order.append(f"{name} begins")
        await gate.wait()
        order.append(f"{name} ends")

    @server.event("fast")
    def fast(session: Session, name: str) -> str:
        order.append(name)
        return name

    front = await serve(server)
    ann, bob = await front.connect("account=ann"), await front.connect("account=bob")
    await ann.emit("slow", "first")
    await ann.emit("slow", "second")
    await ann.emit("fast", "third", id=1)
    await bob.emit("fast", "other", id=2)
    assert await bob.receive() == {"ack": 2, "args": ["other"]}
    gate.set()
    assert await ann.receive() == {"ack": 1, "args": ["third"]}
    order.remove("other")
    assert order == ["first begins", "first ends", "second begins", "second ends", "third"]


async def test_a_thousand_events_keep_their_order_whatever_their_handlers_do(serve: Serve) -> None:
    server = Primacron()

    @server.event("n")
    async def number(session: Session, value: int) -> None:
        for _ in range(value % 3):
            await asyncio.sleep(0)
        session.emit("n", value)

    client = await (await serve(server)).connect()
    for value in range(1000):
        await client.emit("n", value)
    assert [(await client.receive())["args"][0] for _ in range(1000)] == list(range(1000))


@pytest.mark.parametrize("style", ["sync", "at once", "later", "thread"])
async def test_a_handler_that_raises_is_an_error_event_and_a_discreet_answer(serve: Serve, style: str) -> None:
    server = Primacron()
    errors = Hearing(server, "error::handler")

    if style == "sync":

        @server.event("fail")
        def fail(session: Session, text: str) -> None:
            raise LookupError("a secret")
    elif style == "thread":

        @server.event("fail", thread=True)
        def fail_in_thread(session: Session, text: str) -> None:
            raise LookupError("a secret")
    else:

        @server.event("fail")
        async def fail_async(session: Session, text: str) -> None:
            if style == "later":
                await asyncio.sleep(0)
            raise LookupError("a secret")

    client = await (await serve(server)).connect("account=ann")
    await client.emit("fail", "x", id=3)
    answer = await client.receive()
    assert answer == {"ack": 3, "error": {"type": "handler", "message": "the handler failed", "path": ""}}
    error, context = await errors.next_error()
    assert isinstance(error, LookupError)
    assert context.event == "fail"
    assert context.session is not None
    assert context.session.account == "ann"
    assert context.message == '{"event": "fail", "args": ["x"], "id": 3}'
    assert server.metrics["error::handler"] == 1


async def test_a_cancelled_error_in_a_handler_does_not_end_the_connection(serve: Serve) -> None:
    server = Primacron()
    errors = Hearing(server, "error::handler")

    @server.event("cancel")
    async def cancel(session: Session) -> None:
        raise asyncio.CancelledError

    @server.event("cancel later")
    async def cancel_later(session: Session) -> None:
        await asyncio.sleep(0)
        raise asyncio.CancelledError

    client = await (await serve(server)).connect()
    for number, event in enumerate(("cancel", "cancel later")):
        await client.emit(event, id=number)
        assert (await client.receive())["error"]["type"] == "handler"
        _, context = await errors.next_error()
        assert context.event == event


async def test_a_refusal_raised_by_a_handler_reaches_the_client_in_its_words(serve: Serve) -> None:
    server = Primacron()
    errors = Hearing(server, "error::refused")

    @server.event("bid")
    async def bid(session: Session) -> None:
        raise Refused(409, "too low")

    client = await (await serve(server)).connect()
    await client.emit("bid", id=1)
    assert await client.receive() == {"ack": 1, "error": {"type": "refused", "message": "too low", "path": ""}}
    error, _ = await errors.next_error()
    assert str(error) == "too low"


async def test_a_result_that_cannot_be_encoded_is_a_handler_error(serve: Serve) -> None:
    server = Primacron()
    errors = Hearing(server, "error::handler")

    @server.event("odd")
    def odd(session: Session) -> object:
        return object()

    client = await (await serve(server)).connect()
    await client.emit("odd", id=1)
    assert (await client.receive())["error"]["type"] == "handler"
    error, _ = await errors.next_error()
    assert isinstance(error, TypeError)


async def test_handler_timeout_cancels_a_handler_that_waits(serve: Serve) -> None:
    server = Primacron(handler_timeout=0.1)
    errors = Hearing(server, "error::handler")
    cancelled = asyncio.Event()

    @server.event("wait")
    async def wait(session: Session) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    client = await (await serve(server)).connect()
    await client.emit("wait", id=1)
    assert (await client.receive())["error"]["type"] == "handler"
    assert cancelled.is_set()
    error, _ = await errors.next_error()
    assert isinstance(error, TimeoutError)
    assert "0.1 s" in str(error)


async def test_timeouts_and_task_groups_work_inside_a_handler(serve: Serve) -> None:
    server = Primacron()

    @server.event("work")
    async def work(session: Session) -> str:
        try:
            async with asyncio.timeout(0.05), asyncio.TaskGroup() as group:
                group.create_task(asyncio.Event().wait())
        except TimeoutError:
            return "timed out"
        return "never"

    client = await (await serve(server)).connect()
    await client.emit("work", id=1)
    assert await client.receive() == {"ack": 1, "args": ["timed out"]}


async def test_thread_handlers_run_in_another_thread_and_send_through_from_thread(serve: Serve) -> None:
    server = Primacron()
    home = threading.get_ident()

    @server.event("compute", thread=True)
    def compute(session: Session) -> bool:
        with pytest.raises(WrongThread, match="from_thread"):
            session.emit("wrong")
        with pytest.raises(WrongThread, match="from_thread"):
            server.everyone.emit("wrong")
        server.from_thread(session.emit, "computed", 1).result(5)
        return threading.get_ident() != home

    client = await (await serve(server)).connect()
    await client.emit("compute", id=1)
    assert await client.receive() == {"event": "computed", "args": [1]}
    assert await client.receive() == {"ack": 1, "args": [True]}


async def test_handlers_that_block_their_threads_hold_up_no_other_one(serve: Serve) -> None:
    server = Primacron(threads=8)
    gate = threading.Event()
    inside = threading.Semaphore(0)

    @server.event("block", thread=True)
    def block(session: Session) -> None:
        inside.release()
        assert gate.wait(DEADLINE)

    @server.event("compute", thread=True)
    def compute(session: Session, value: int) -> int:
        return 2 * value

    front = await serve(server)
    # All threads of the event loop's own pool are taken as well.
    loop = asyncio.get_running_loop()
    elsewhere = [loop.run_in_executor(None, gate.wait, DEADLINE) for _ in range(40)]
    try:
        for number in range(7):
            await (await front.connect(f"account=blocking{number}")).emit("block")
        eighth, ninth = await front.connect("account=eighth"), await front.connect("account=ninth")
        await eighth.emit("compute", 21, id=1)
        assert await eighth.receive() == {"ack": 1, "args": [42]}
        await eighth.emit("block")
        for _ in range(8):
            while not inside.acquire(blocking=False):
                await asyncio.sleep(0.001)
        await ninth.emit("compute", 22, id=1)
        answer = asyncio.create_task(ninth.receive())
        while server.metrics.messages_received < 10:
            await asyncio.sleep(0)
        await asyncio.sleep(0.1)
        assert not answer.done()  # it waits for one of the eight
    finally:
        gate.set()
    await asyncio.gather(*elsewhere)
    assert await answer == {"ack": 1, "args": [44]}


async def test_from_thread_returns_what_awaiting_gives_and_raises_what_the_function_raises(serve: Serve) -> None:
    server = Primacron()
    await serve(server)

    async def double(value: int) -> int:
        await asyncio.sleep(0)
        return value * 2

    assert await asyncio.to_thread(lambda: server.from_thread(double, 21).result(5)) == 42
    with pytest.raises(ZeroDivisionError):
        await asyncio.to_thread(lambda: server.from_thread(lambda: 1 // 0).result(5))


async def test_a_handler_that_blocks_delays_others_and_nothing_more(serve: Serve) -> None:
    server = Primacron(ping_interval=0.3, ping_timeout=0.3)

    @server.event("block")
    def block(session: Session) -> str:
        time.sleep(1.0)
        return "blocked"

    @server.event("echo")
    def echo(session: Session, value: int) -> int:
        return value

    front = await serve(server)
    ann, bob = await front.connect("account=ann"), await front.connect("account=bob")
    await ann.emit("block", id=1)
    await bob.emit("echo", 5, id=2)
    assert await ann.receive() == {"ack": 1, "args": ["blocked"]}
    assert await bob.receive() == {"ack": 2, "args": [5]}
    await bob.emit("echo", 6, id=3)
    assert await bob.receive() == {"ack": 3, "args": [6]}


async def test_a_message_without_event_is_the_event_message(serve: Serve) -> None:
    server = Primacron()

    @server.event("message")
    def message(session: Session, content: dict[str, Any]) -> None:
        session.emit("got", content)

    client = await (await serve(server)).connect()
    await client.send({"hello": "you", "id": "not an acknowledgement"})
    assert await client.receive() == {"event": "got", "args": [{"hello": "you", "id": "not an acknowledgement"}]}


def _no_session() -> None: ...
def _untyped(session, value): ...  # type: ignore[no-untyped-def]
def _keywords(session: Session, **rest: int) -> None: ...
def _keyword_only(session: Session, *, value: int) -> None: ...
def _odd_type(session: Session, value: threading.Thread) -> None: ...
def _too_many(session: Session, a: int, b: int, c: int) -> None: ...
async def _coroutine(session: Session) -> None: ...


@pytest.mark.parametrize(
    ("handler", "words"),
    [
        (_no_session, "first parameter must take the session"),
        (_untyped, "'value' has no type"),
        (_keywords, "rest cannot come from a client"),
        (_keyword_only, "'value' cannot come from a client"),
        (_odd_type, "cannot be checked"),
        (_too_many, "max_args is 2"),
    ],
)
def test_a_handler_that_cannot_work_is_refused_at_registration(handler: Any, words: str) -> None:
    server = Primacron(max_args=2)
    with pytest.raises(RegistrationError, match=words):
        server.event("x")(handler)


def test_a_coroutine_function_is_refused_as_a_thread_handler() -> None:
    with pytest.raises(RegistrationError, match="thread=True takes a plain function"):
        Primacron().event("x", thread=True)(_coroutine)


@pytest.mark.parametrize("name", ["", "x" * 129, 7])
def test_an_unusable_event_name_is_refused_at_registration(name: Any) -> None:
    with pytest.raises(RegistrationError, match="1 to 128 characters"):
        Primacron().event(name)(_coroutine)


def test_a_second_validator_for_a_name_is_refused() -> None:
    server = Primacron()
    server.event("x")(_coroutine)
    with pytest.raises(RegistrationError, match="'x' already has a validator"):
        server.event("x")(_coroutine)
    with pytest.raises(RegistrationError, match="'x' already has a validator"):
        server.validate("x", lambda: True)


async def test_stream_listeners_hear_what_a_handler_handled(serve: Serve) -> None:
    server = Primacron()
    stream = Hearing(server, "stream::bid")

    @server.event("bid")
    async def bid(session: Session, bid: Bid) -> str:
        return bid.lot

    client = await (await serve(server)).connect("account=ann")
    await client.emit("bid", {"lot": "a", "cents": 1}, id=1)
    assert await client.receive() == {"ack": 1, "args": ["a"]}
    session, heard = await stream.next()
    assert (session.account, heard) == ("ann", Bid("a", 1))


async def test_log_errors_writes_one_line_for_each_error(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    import logging

    server = Primacron()
    server.log_errors(logging.getLogger("shop"))
    errors = Hearing(server, "error::validation")
    client = await (await serve(server)).connect("account=ann")
    await client.emit("nothing")
    _, context = await errors.next_error()
    assert isinstance(context, Context)
    (record,) = caplog.records
    assert record.name == "shop"
    assert "error::validation: no validator for the event 'nothing'" in record.getMessage()
    assert "ann/" in record.getMessage()


class Exact(msgspec.Struct, forbid_unknown_fields=True):
    lot: str = ""


async def test_a_client_cannot_write_lines_of_its_own_into_a_log(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    import logging

    server = Primacron()
    server.log_errors(logging.getLogger("shop"))

    @server.event("exact")
    def exact(session: Session, given: Exact) -> None: ...

    errors = Hearing(server, "error::validation")
    client = await (await serve(server)).connect("account=ann")
    await client.emit("exact", {"a\nb\u2028c\x1b[2Jd": 1})
    await errors.next_error()
    (record,) = caplog.records
    assert "unknown field `a\\nb\\u2028c\\x1b[2Jd`" in record.getMessage()
    assert record.getMessage().isprintable()
