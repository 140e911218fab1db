"""Clients join and leave channels: who decides, what is answered and refused, and what else they are told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from primacron import Primacron, Reach, Receipt, Refused, Session
from primacron.errors import HandlerTimedOut, InfoTooLarge
from primacron.routing.targets import Target
from primacron.sessions.memberships import Memberships
from tests.channels.talkers import ASKING, Talker, joined, refused
from tests.cluster.fleet import until
from tests.conftest import Serve
from tests.support.hearing import Hearing

ACCEPTED = Receipt("accepted")
LEFT = {"ack": 2, "args": []}


class Seat(msgspec.Struct):
    name: str


def session_of(server: Primacron, account: str = "ann") -> Session:
    """Return the only session of an account."""
    (session,) = server.node.hub.sessions.of(account)  # type: ignore[arg-type]
    return session


def info_of(session: Session, channel: str) -> Any:
    """Return what others would see of a member."""
    membership = session.demand(Memberships).channels[channel]
    assert membership is not None
    return msgspec.msgpack.decode(membership.info)


@pytest.fixture(params=ASKING)
def query(request: pytest.FixtureRequest) -> str:
    """What a client of each dialect connects with that may ask for channels."""
    return ASKING[request.param]


# Who may join


async def test_a_client_joins_and_leaves_a_channel(kind: str, serve: Serve, query: str) -> None:
    server = Primacron()
    asked: list[tuple[str, int]] = []

    @server.channels("lot:{number}")
    async def enter(session: Session, number: int) -> None:
        asked.append((session.account, number))

    front = await serve(server)
    talker = await Talker.connect(front, "ann", query)
    told = Hearing(server, "channel::join", "channel::leave")
    assert await talker.join("lot:7") == joined("lot:7")
    assert asked == [("ann", 7)]
    session = session_of(server)
    assert session.channels == {"lot:7"}
    assert await told.next() == (session, "lot:7")
    assert await server.channel("lot:7").emit("bid", "bob", 5) == Reach(1, 1)
    assert await talker.hear() == {"event": "bid", "args": ["bob", 5], "channel": "lot:7"}
    assert await talker.leave("lot:7") == LEFT
    assert await told.next() == (session, "lot:7")
    assert session.channels == set()
    assert await server.channel("lot:7").emit("bid") == Reach(1, 0)
    assert asked == [("ann", 7)]


async def test_without_a_function_every_client_may_join(serve: Serve) -> None:
    server = Primacron()
    server.channels("news")
    server.channels("lot:{number}")
    talker = await Talker.connect(await serve(server), "ann")
    for name in ("news", "lot:07", "lot:x"):
        assert await talker.join(name) == joined(name)
    assert session_of(server).channels == {"news", "lot:07", "lot:x"}


async def test_a_kind_may_be_registered_after_the_start_and_takes_over_a_room(serve: Serve) -> None:
    server = Primacron()
    talker = await Talker.connect(await serve(server), "ann")
    assert (await talker.join("news"))["error"]["type"] == "refused"
    await session_of(server).join("news")
    server.channels("news")
    assert await talker.join("news") == joined("news")
    await server.channel("news").emit("x")
    assert await talker.hear() == {"event": "x", "args": [], "channel": "news"}


def plain(session: Session) -> Seat:
    return Seat(session.account)


async def at_once(session: Session) -> Seat:
    return Seat(session.account)


async def after_a_while(session: Session) -> Seat:
    await asyncio.sleep(0.001)
    return Seat(session.account)


def wrapping(session: Session) -> Any:
    return after_a_while(session)


@pytest.mark.parametrize("function", [plain, at_once, after_a_while, wrapping])
async def test_the_function_returns_what_the_others_see(serve: Serve, function: Callable[..., Any]) -> None:
    server = Primacron()
    server.channels("news", presence=True)(function)
    talker = await Talker.connect(await serve(server), "ann")
    assert "error" not in await talker.join("news")
    assert info_of(session_of(server), "news") == {"name": "ann"}


async def test_a_second_join_asks_again_and_renews_what_the_others_see(serve: Serve) -> None:
    server = Primacron()
    count = 0

    @server.channels("news", presence=True)
    def enter(session: Session) -> int:
        nonlocal count
        count += 1
        if count == 3:
            raise Refused(403, "enough")
        return count

    talker = await Talker.connect(await serve(server), "ann")
    told = Hearing(server, "channel::join")
    for number in (1, 2):
        assert (await talker.join("news", number))["ack"] == number
        assert info_of(session_of(server), "news") == number
    assert await talker.join("news") == refused("refused", "enough")
    assert info_of(session_of(server), "news") == 2
    await told.next()
    assert told.is_empty


async def test_the_function_runs_like_a_handler_and_may_use_the_session(serve: Serve) -> None:
    server = Primacron()

    @server.channels("lot:{number}")
    async def enter(session: Session, number: int) -> None:
        session.emit("hello", number)
        await session.join("bidders")
        async with asyncio.timeout(5):
            assert await session.call("sure?") == "yes"

    talker = await Talker.connect(await serve(server), "ann")
    assert await talker.join("lot:7") == {"event": "hello", "args": [7]}
    question = await talker.hear()
    assert await talker.ask({"ack": question["id"], "args": ["yes"]}) == joined("lot:7")
    assert session_of(server).channels == {"lot:7", "bidders"}


# What is refused


LONG = "lot:" + "7" * 252
LIMIT = "bytes of the name of a channel: the limit is 255"
NO_NAME = "a channel's name is at least one character, and no control characters"


@pytest.mark.parametrize(
    ("name", "type", "message", "path"),
    [
        ("staff", "refused", "no channel 'staff' that clients may join", ""),
        ("lot:7:8", "refused", "no channel 'lot:7:8' that clients may join", ""),
        ("lot:x", "validation", "Expected `int`, got `str`", "number"),
        ("lot:07", "validation", "Expected `int`, got `str`", "number"),
        ("lot:-0", "validation", "Expected '0', got '-0'", "number"),
        ("", "validation", NO_NAME, ""),
        ("lot:7\n", "validation", NO_NAME, ""),
        (LONG, "limit", LIMIT, ""),
        ("lot:" + "ü" * 126, "limit", LIMIT, ""),
    ],
)
@pytest.mark.parametrize("request_of", ["join", "leave"])
async def test_names_of_no_channel_are_refused_and_told(
    serve: Serve, query: str, request_of: str, name: str, type: str, message: str, path: str
) -> None:
    server = Primacron()

    @server.channels("lot:{number}")
    def enter(session: Session, number: int) -> None:
        raise AssertionError("nothing to decide")

    talker = await Talker.connect(await serve(server), "ann", query)
    errors = Hearing(server, "error::*")
    told = Hearing(server, f"error::{type}")
    assert await talker.ask({request_of: name, "id": 1}) == refused(type, message, path)
    _, context = await told.next_error()
    session = session_of(server)
    assert context.session is session
    assert context.message is not None
    assert session.channels == set()
    await errors.next()
    assert errors.is_empty
    assert server.metrics[f"error::{type}"] == 1


def forbids(session: Session) -> None:
    raise Refused(402, "pay first")


async def forbids_later(session: Session) -> None:
    await asyncio.sleep(0.001)
    raise Refused(402, "pay first")


def fails(session: Session) -> None:
    raise ZeroDivisionError("secret")


async def fails_later(session: Session) -> None:
    await asyncio.sleep(0.001)
    raise ZeroDivisionError("secret")


def exits(session: Session) -> None:
    raise SystemExit(3)


def is_too_large(session: Session) -> str:
    return "x" * 1_022


def cannot_travel(session: Session) -> object:
    return object()


async def is_cancelled(session: Session) -> None:
    raise asyncio.CancelledError


@pytest.mark.parametrize(
    ("function", "event", "message"),
    [
        (forbids, "error::refused", "pay first"),
        (forbids_later, "error::refused", "pay first"),
        (fails, "error::handler", "refused"),
        (fails_later, "error::handler", "refused"),
        (exits, "error::handler", "refused"),
        (is_too_large, "error::handler", "refused"),
        (cannot_travel, "error::handler", "refused"),
        (is_cancelled, "error::handler", "refused"),
    ],
)
async def test_a_function_that_refuses_or_fails_lets_nobody_in_and_is_told(
    kind: str, serve: Serve, function: Callable[..., Any], event: str, message: str
) -> None:
    server = Primacron()
    server.channels("news")(function)
    talker = await Talker.connect(await serve(server), "ann")
    errors, joins = Hearing(server, event), Hearing(server, "channel::join")
    assert await talker.join("news") == refused("refused", message)
    error, context = await errors.next_error()
    assert context.session is session_of(server)
    if function is is_too_large:
        assert isinstance(error, InfoTooLarge)
    assert session_of(server).channels == set()
    assert joins.is_empty


async def test_a_function_that_takes_too_long_is_cancelled(serve: Serve) -> None:
    server = Primacron(handler_timeout=0.05)
    cancelled = asyncio.Event()

    @server.channels("lot:{number}")
    async def enter(session: Session, number: int) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    talker = await Talker.connect(await serve(server), "ann")
    errors = Hearing(server, "error::handler")
    assert await talker.join("lot:7") == refused("refused", "refused")
    assert cancelled.is_set()
    error, _ = await errors.next_error()
    assert isinstance(error, HandlerTimedOut)
    assert str(error) == "a request for the channel 'lot:7' took longer than 0.05 s"
    assert session_of(server).channels == set()


async def test_a_session_is_in_no_more_channels_than_it_may_be(serve: Serve) -> None:
    server = Primacron(max_channels=2)
    asked: list[int] = []

    @server.channels("lot:{number}")
    def enter(session: Session, number: int) -> None:
        asked.append(number)

    @server.channels("crowd")
    async def fill(session: Session) -> None:
        await session.join("one more")

    talker = await Talker.connect(await serve(server), "ann")
    errors = Hearing(server, "error::limit")
    assert await talker.join("lot:1") == joined("lot:1")
    assert await talker.join("crowd") == refused("limit", "channels of one session: the limit is 2")
    assert session_of(server).channels == {"lot:1", "one more"}
    assert await talker.join("lot:2") == refused("limit", "channels of one session: the limit is 2")
    assert asked == [1]
    assert await talker.join("lot:1") == joined("lot:1")
    assert [(await errors.next_error())[1].session for _ in range(2)] == [session_of(server)] * 2
    assert await talker.leave("lot:1") == LEFT
    assert await talker.join("lot:2") == joined("lot:2")


async def test_what_does_not_validate_counts_as_a_bad_message_and_what_is_refused_does_not(serve: Serve) -> None:
    server = Primacron(bad_messages=2)

    @server.channels("lot:{number}")
    def enter(session: Session, number: int) -> None: ...

    talker = await Talker.connect(await serve(server), "ann")
    for _ in range(3):
        await talker.join("staff")
    await talker.join("lot:x")
    assert await talker.join("lot:1") == joined("lot:1")
    await talker.join("lot:x")
    await talker.join("lot:x")
    assert (await talker.socket.receive_close()).reason == "bad messages"


# Leaving


async def test_leaving_is_answered_whether_or_not_the_session_was_in_the_channel(serve: Serve, query: str) -> None:
    server = Primacron()
    server.channels("lot:{number}")
    talker = await Talker.connect(await serve(server), "ann", query)
    told = Hearing(server, "channel::leave")
    assert await talker.leave("lot:7") == LEFT
    await talker.join("lot:7")
    assert await talker.leave("lot:8") == LEFT
    assert session_of(server).channels == {"lot:7"}
    assert await talker.leave("lot:7") == LEFT
    assert await talker.leave("lot:7") == LEFT
    assert await told.next() == (session_of(server), "lot:7")
    assert told.is_empty


async def test_no_client_takes_its_session_out_of_a_room(serve: Serve) -> None:
    server = Primacron()
    talker = await Talker.connect(await serve(server), "ann")
    await session_of(server).join("staff")
    assert (await talker.leave("staff"))["error"]["message"] == "no channel 'staff' that clients may join"
    assert session_of(server).channels == {"staff"}


async def test_a_client_leaves_a_channel_that_the_server_let_it_join(serve: Serve) -> None:
    server = Primacron()
    server.channels("lot:{number}")
    talker = await Talker.connect(await serve(server), "ann")
    await session_of(server).join("lot:7")
    assert await talker.leave("lot:7") == LEFT
    assert session_of(server).channels == set()


# Taking turns


async def test_a_join_takes_its_turn_among_the_messages(kind: str, serve: Serve) -> None:
    server = Primacron()
    opens = asyncio.Event()
    done: list[str] = []

    @server.channels("lot:{number}")
    async def enter(session: Session, number: int) -> None:
        done.append(f"asked for {number}")
        await opens.wait()

    @server.event("say")
    def say(session: Session, text: str) -> str:
        done.append(f"{text}: {sorted(session.channels)}")
        return text

    talker = await Talker.connect(await serve(server), "ann")
    await talker.say({"event": "say", "args": ["before"], "id": 0})
    await talker.say({"join": "lot:7", "id": 1})
    await talker.say({"event": "say", "args": ["between"], "id": 2})
    await talker.say({"join": "lot:8", "id": 3})
    await talker.say({"leave": "lot:7", "id": 4})
    await talker.say({"event": "say", "args": ["after"], "id": 5})
    assert (await talker.hear())["ack"] == 0
    await until(lambda: len(done) == 2, "the first join")
    opens.set()
    assert [(await talker.hear())["ack"] for _ in range(5)] == [1, 2, 3, 4, 5]
    assert done == [
        "before: []",
        "asked for 7",
        "between: ['lot:7']",
        "asked for 8",
        "after: ['lot:8']",
    ]


async def test_nothing_of_a_channel_comes_before_the_answer(serve: Serve) -> None:
    server = Primacron()
    opens = asyncio.Event()

    @server.channels("news")
    async def enter(session: Session) -> None:
        await opens.wait()

    front = await serve(server)
    ann, bob = await Talker.connect(front, "ann"), await Talker.connect(front, "bob")
    await ann.say({"join": "news", "id": 1})
    await bob.say({"join": "news", "id": 1})
    await until(lambda: all(each.inbox is not None for each in server.node.hub.sessions), "both joins")
    assert await server.channel("news").emit("too early") == Reach(1, 0)
    opens.set()
    for talker in (ann, bob):
        assert await talker.hear() == joined("news")
    await server.channel("news").emit("x")
    assert [(await talker.hear())["event"] for talker in (ann, bob)] == ["x", "x"]


async def test_a_session_that_ends_meanwhile_is_let_in_nowhere(serve: Serve) -> None:
    server = Primacron()
    began, opens, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    @server.channels("news")
    async def enter(session: Session) -> None:
        began.set()
        await opens.wait()
        ended.set()

    talker = await Talker.connect(await serve(server), "ann")
    gone, joins = Hearing(server, "disconnection"), Hearing(server, "channel::join")
    session = session_of(server)
    await talker.say({"join": "news", "id": 1})
    await began.wait()
    await talker.socket.close()
    await until(lambda: server.count() == 0, "the end")
    opens.set()
    await ended.wait()
    await gone.next()
    assert session.channels == set()
    assert joins.is_empty
    assert await server.channel("news").count() == Reach(1, 0)


# What clients are told, if they know of channels


async def test_who_knows_of_channels_is_told_what_the_server_does(serve: Serve, query: str) -> None:
    server = Primacron()
    server.channels("lot:{number}")
    front = await serve(server)
    aware = await Talker.connect(front, "aware", query + "&resume=1")
    plain = await Talker.connect(front, "plain", query)
    for account in ("aware", "plain"):
        session = session_of(server, account)
        for name in ("lot:7", "room", "lot:7"):
            assert await session.join(name, info="x") == ACCEPTED
        await session.leave("room")
        await session.leave("lot:7")
        await session.leave("lot:7")
        session.emit("end")
    assert await aware.hear() == {"channel": "lot:7", "joined": {"channel": "lot:7"}}
    assert await aware.hear() == {"channel": "lot:7", "left": "forced leave"}
    assert await aware.hear() == {"event": "end", "args": []}
    assert await plain.hear() == {"event": "end", "args": []}


async def test_every_target_tells_its_sessions(serve: Serve) -> None:
    server = Primacron()
    server.channels("lot:{number}")
    talker = await Talker.connect(await serve(server), "ann", "&resume=1")
    session = session_of(server)
    targets: tuple[Target[Any], ...] = (
        server.session("ann", session.id),
        server.account("ann"),
        server.everyone,
        server.channel("room"),
    )
    await session.join("room")
    for number, target in enumerate(targets):
        name = f"lot:{number}"
        target.join(name)
        assert await talker.hear() == {"channel": name, "joined": {"channel": name}}
        target.leave(name)
        assert await talker.hear() == {"channel": name, "left": "forced leave"}


async def test_a_join_tells_the_server_that_a_client_knows_of_channels_even_if_it_is_refused(
    serve: Serve, query: str
) -> None:
    server = Primacron()
    server.channels("lot:{number}")
    talker = await Talker.connect(await serve(server), "ann", query)
    session = session_of(server)
    await session.join("lot:1")
    await talker.leave("lot:2")
    await session.join("lot:2")
    await server.channel("lot:1").emit("x")
    assert await talker.hear() == {"event": "x", "args": []}
    assert (await talker.join("staff"))["error"]["type"] == "refused"
    await server.channel("lot:1").emit("x")
    assert await talker.hear() == {"event": "x", "args": [], "channel": "lot:1"}
    await session.join("lot:3")
    assert await talker.hear() == {"channel": "lot:3", "joined": {"channel": "lot:3"}}


async def test_messages_of_rooms_and_of_unions_name_no_channel(serve: Serve, query: str) -> None:
    server = Primacron()
    server.channels("lot:{number}")
    front = await serve(server)
    aware, plain = await Talker.connect(front, "aware", query), await Talker.connect(front, "plain", query)
    await aware.join("lot:7")
    await aware.join("lot:8")
    await session_of(server, "aware").join("room")
    await session_of(server, "plain").join("lot:7")
    assert await server.channel("lot:7").emit("a", 1) == Reach(1, 2)
    assert await server.channel("room").emit("b") == Reach(1, 1)
    assert await server.channel("lot:7", "lot:8").emit("c") == Reach(1, 2)
    assert await server.channel("lot:7", "lot:7").emit("d") == Reach(1, 2)
    assert [await aware.hear() for _ in range(4)] == [
        {"event": "a", "args": [1], "channel": "lot:7"},
        {"event": "b", "args": []},
        {"event": "c", "args": []},
        {"event": "d", "args": [], "channel": "lot:7"},
    ]
    assert [await plain.hear() for _ in range(3)] == [
        {"event": "a", "args": [1]},
        {"event": "c", "args": []},
        {"event": "d", "args": []},
    ]


async def test_the_server_joins_sessions_under_the_one_name_of_a_channel(serve: Serve) -> None:
    server = Primacron()

    @server.channels("lot:{number}")
    def enter(session: Session, number: int) -> None:
        raise AssertionError("clients alone are decided on")

    await Talker.connect(await serve(server), "ann")
    session = session_of(server)
    assert await session.join("lot:7") == ACCEPTED
    for use in (session.join, server.channel, server.everyone.join):
        with pytest.raises(ValueError, match="channel 'lot:07': Expected `int`, got `str`"):
            use("lot:07")


# Clients of other dialects


async def test_clients_of_primus_are_joined_by_the_server_alone(serve: Serve) -> None:
    server = Primacron()
    server.channels("news")
    server.validate("message", lambda content: None)
    messages = Hearing(server, "stream::message")
    talker = await Talker.connect(await serve(server), "ann", "&_primuscb=x&resume=1")
    session = session_of(server)
    await talker.say({"join": "news", "id": 1})
    assert (await messages.next())[1] == {"join": "news", "id": 1}
    assert session.channels == set()
    assert await session.join("news") == ACCEPTED
    assert await server.channel("news").emit("x", 1) == Reach(1, 1)
    assert await talker.hear() == {"emit": ["x", 1]}
    assert await session.leave("news") == ACCEPTED
    session.emit("end")
    assert await talker.hear() == {"emit": ["end"]}


async def test_clients_of_raw_are_joined_by_the_server_alone(serve: Serve) -> None:
    server = Primacron(dialect="raw")
    server.channels("news")
    messages = Hearing(server, "stream::message")
    server.validate("message", lambda content: None)
    client = await (await serve(server)).connect("account=ann&resume=1")
    session = session_of(server)
    asked = json.dumps({"join": "news", "id": 1})
    await client.socket.send("4" + asked)
    assert (await messages.next())[1] == asked
    assert await session.join("news") == ACCEPTED
    assert await server.channel("news").emit("message", "x") == Reach(1, 1)
    assert await client.socket.receive() == "4x"
    assert await session.leave("news") == ACCEPTED
    session.emit("message", "end")
    assert await client.socket.receive() == "4end"
