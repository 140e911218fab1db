"""Who is in a channel with presence: what its members are told of each other, and what applications read."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from primacron import Member, Members, Primacron, Receipt, Refused, Session
from primacron.features.channels import Channels
from tests.channels.talkers import ASKING, Talker
from tests.channels.watchers import Watcher
from tests.cluster.fleet import until
from tests.conftest import Serve
from tests.support.hearing import Hearing

LOT = "lot:7"


def session_of(server: Primacron, account: str) -> Session:
    """Return the only session of an account."""
    (session,) = server.node.hub.sessions.of(account)  # type: ignore[arg-type]
    return session


class Seat(msgspec.Struct):
    name: str
    bids: int = 0


def with_lots(**options: Any) -> Primacron:
    """Return a server with lots whose members see each other's seats."""
    server = Primacron(**options)
    server.uuid(lambda request: request.query["account"][0])
    bids = 0

    @server.channels("lot:{number}", presence=True)
    def enter(session: Session, number: int) -> Seat:
        nonlocal bids
        if session.account == "nobody":
            raise Refused(403, "not yours")
        bids += session.account == "bidder"
        return Seat(session.account, bids)

    return server


def member(account: str, info: Any = None) -> dict[str, Any]:
    return {"account": account, "session": account[0], "info": info}


def seated(account: str, bids: int = 0) -> dict[str, Any]:
    return member(account, {"name": account, "bids": bids})


def answer(*members: dict[str, Any], number: int = 1) -> dict[str, Any]:
    return {"ack": number, "args": [{"channel": LOT, "members": [*members]}]}


@pytest.fixture(params=ASKING)
def query(request: pytest.FixtureRequest) -> str:
    """What a client of each dialect connects with that may ask for channels."""
    return ASKING[request.param]


# What clients are told


async def test_who_joins_is_told_who_is_there_and_the_others_of_it(kind: str, serve: Serve, query: str) -> None:
    server = with_lots()
    front = await serve(server)
    ann, bob = [await Talker.connect(front, account, query) for account in ("ann", "bob")]
    assert await ann.join(LOT) == answer(seated("ann"))
    assert await bob.join(LOT) == answer(seated("ann"), seated("bob"))
    assert await ann.hear() == {"channel": LOT, "presence": [["join", seated("bob")]]}
    assert await bob.leave(LOT) == {"ack": 2, "args": []}
    assert await ann.hear() == {"channel": LOT, "presence": [["leave", seated("bob")]]}
    assert await bob.join(LOT) == answer(seated("ann"), seated("bob"))
    assert await ann.hear() == {"channel": LOT, "presence": [["join", seated("bob")]]}
    await bob.socket.close()
    assert await ann.hear() == {"channel": LOT, "presence": [["leave", seated("bob")]]}


async def test_a_second_join_renews_the_info(serve: Serve, query: str) -> None:
    front = await serve(with_lots())
    ann, bidder = [await Talker.connect(front, account, query) for account in ("ann", "bidder")]
    await ann.join(LOT)
    await bidder.join(LOT)
    assert await ann.hear() == {"channel": LOT, "presence": [["join", seated("bidder", 1)]]}
    assert await bidder.join(LOT) == answer(seated("ann"), seated("bidder", 2))
    assert await ann.hear() == {"channel": LOT, "presence": [["update", seated("bidder", 2)]]}


async def test_info_is_what_events_could_carry(serve: Serve, query: str) -> None:
    server = with_lots()
    front = await serve(server)
    ann, bob = [await Talker.connect(front, account, query) for account in ("ann", "bob")]
    await ann.join(LOT)
    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    session_of(server, "bob").join(LOT, {1: [None, 2.5, "é"], "at": at})
    info = {"1": [None, 2.5, "é"], "at": "2026-01-02T03:04:05Z"}
    assert (await ann.hear())["presence"] == [["join", member("bob", info)]]
    assert (await bob.leave(LOT))["ack"] == 2


async def test_who_is_refused_is_not_heard(serve: Serve) -> None:
    front = await serve(with_lots())
    ann, nobody = [await Talker.connect(front, account) for account in ("ann", "nobody")]
    await ann.join(LOT)
    assert (await nobody.join(LOT))["error"]["message"] == "not yours"
    bob = await Talker.connect(front, "bob")
    await bob.join(LOT)
    assert await ann.hear() == {"channel": LOT, "presence": [["join", seated("bob")]]}


async def test_a_kind_without_presence_tells_nobody_of_anybody(serve: Serve) -> None:
    server = Primacron()
    server.channels("news")
    front = await serve(server)
    ann, bob = [await Talker.connect(front, account) for account in ("ann", "bob")]
    for talker in (ann, bob):
        assert await talker.join("news") == {"ack": 1, "args": [{"channel": "news"}]}
    assert await ann.leave("news") == {"ack": 2, "args": []}


async def test_what_happens_in_a_tick_is_told_in_one_message(serve: Serve) -> None:
    server = with_lots()
    front = await serve(server)
    watcher = await Watcher.join(front, "watcher", query="&resume=1")
    others = [await Talker.connect(front, f"{letter}nn") for letter in "abcdef"]
    sessions = [session_of(server, f"{letter}nn") for letter in "abcdef"]
    for session in sessions:
        session.join(LOT)
    sessions[0].join(LOT, 1)
    sessions[1].leave(LOT)
    await watcher.until_sees("watcher", "ann", "cnn", "dnn", "enn", "fnn")
    assert [len(message["presence"]) for message in watcher.seen.messages] == [5]
    for other in others:
        await other.socket.close()
    await watcher.until_sees("watcher")
    await watcher.close()


async def test_nothing_of_the_channel_comes_before_the_answer(serve: Serve) -> None:
    server = with_lots()
    front = await serve(server)
    ann = await Talker.connect(front, "ann")
    stop = asyncio.Event()

    async def emit() -> None:
        while not stop.is_set():
            server.channel(LOT).emit("bid")
            await asyncio.sleep(0)

    emitting = asyncio.create_task(emit())
    for _ in range(20):
        assert await ann.join(LOT) == answer(seated("ann"))
        while (message := await ann.ask({"leave": LOT, "id": 2})) != {"ack": 2, "args": []}:
            while message.get("event") == "bid":
                message = await ann.hear()
            if message == {"ack": 2, "args": []}:
                break
    stop.set()
    await emitting


async def test_many_that_join_in_a_tick_are_told_the_same(serve: Serve) -> None:
    server = with_lots()
    front = await serve(server)
    opens = asyncio.Event()
    waiting = 0

    @server.channels("door:{number}", presence=True)
    async def enter(session: Session, number: int) -> None:
        nonlocal waiting
        waiting += 1
        await opens.wait()

    talkers = [await Talker.connect(front, f"{letter}nn") for letter in "abcdef"]
    watcher = await Talker.connect(front, "watcher")
    await watcher.say({"join": "door:1", "id": 1})
    opens.set()
    await watcher.hear()
    opens.clear()
    for talker in talkers:
        await talker.say({"join": "door:1", "id": 1})
    await until(lambda: waiting == 7, "all functions")
    opens.set()
    for talker in talkers:
        (about,) = (await talker.hear())["args"]
        assert len(about["members"]) == 7
    assert len((await watcher.hear())["presence"]) == 6


# Joins by the server


async def test_the_server_makes_sessions_join_with_any_info(serve: Serve, query: str) -> None:
    server = with_lots()
    front = await serve(server)
    ann = await Talker.connect(front, "ann", query + "&resume=1")
    session = session_of(server, "ann")
    assert await session.join(LOT, "by hand") == Receipt("accepted")
    assert await ann.hear() == {"channel": LOT, "joined": {"channel": LOT, "members": [member("ann", "by hand")]}}
    assert await session.join(LOT, 2) == Receipt("accepted")
    assert await ann.hear() == {"channel": LOT, "presence": [["update", member("ann", 2)]]}
    await session.leave(LOT)
    assert await ann.hear() == {"channel": LOT, "left": "forced leave"}
    assert await ann.join(LOT) == answer(seated("ann"))


async def test_who_has_left_before_it_could_be_told_is_told_nothing(serve: Serve) -> None:
    server = with_lots()
    ann = await Talker.connect(await serve(server), "ann", "&resume=1")
    session = session_of(server, "ann")
    session.join(LOT)
    session.leave(LOT)
    assert await ann.hear() == {"channel": LOT, "left": "forced leave"}
    assert await ann.join(LOT) == answer(seated("ann"))


async def test_clients_that_do_not_know_of_channels_are_seen_and_see_nothing(serve: Serve) -> None:
    server = with_lots()
    front = await serve(server)
    ann = await Watcher.join(front, "ann")
    queries = {"bob": "", "cee": "&_primuscb=x", "dan": "&format=msgpack"}
    talkers = [await Talker.connect(front, account, query) for account, query in queries.items()]
    for account in queries:
        session_of(server, account).join(LOT)
    await ann.until_sees("ann", *queries)
    server.channel(LOT).emit("bid")
    bid = {"event": "bid", "args": []}
    assert [await talker.hear() for talker in talkers] == [bid, {"emit": ["bid"]}, bid]
    await ann.close()


async def test_who_learns_of_channels_late_is_told_then_who_is_there(serve: Serve) -> None:
    server = with_lots()
    server.channels("news")
    front = await serve(server)
    ann, bob = [await Talker.connect(front, account) for account in ("ann", "bob")]
    session = session_of(server, "ann")
    await session.join(LOT)
    await bob.join(LOT)
    heard = [await ann.join("news"), await ann.hear()]
    assert {"ack": 1, "args": [{"channel": "news"}]} in heard
    assert {"channel": LOT, "members": [member("ann"), seated("bob")]} in heard
    await bob.leave(LOT)
    assert await ann.hear() == {"channel": LOT, "presence": [["leave", seated("bob")]]}
    await session.leave(LOT)
    assert await ann.hear() == {"channel": LOT, "left": "forced leave"}


# Large channels


async def test_large_channels_are_told_as_a_number(serve: Serve) -> None:
    server = with_lots(presence_limit=4)
    front = await serve(server)
    watchers = [await Watcher.join(front, f"{letter}nn") for letter in "abcd"]
    await watchers[0].until_sees("ann", "bnn", "cnn", "dnn")
    late = await Talker.connect(front, "enn")
    assert await late.join(LOT) == {"ack": 1, "args": [{"channel": LOT, "count": 5}]}
    for watcher in watchers:
        await watcher.until(lambda watcher=watcher: watcher.seen.members is None, "a number")  # type: ignore[misc]
        assert watcher.seen.count == 5
    members = await server.channel(LOT).members()
    assert len(members) == 5
    await late.socket.close()
    await watchers[0].until(lambda: watchers[0].seen.count == 4, "another number")
    await watchers[3].close()
    await watchers[0].until(lambda: watchers[0].seen.members is not None, "names")
    assert watchers[0].seen.accounts == ["ann", "bnn", "cnn"]
    await watchers[2].close()
    await watchers[0].until_sees("ann", "bnn")
    for watcher in watchers[:2]:
        await watcher.close()


# With history


async def test_an_answer_has_position_and_members_and_what_was_missed_comes_behind(serve: Serve) -> None:
    server = Primacron()

    @server.channels("lot:{number}", history=10, keep=60, presence=True)
    def enter(session: Session, number: int) -> str:
        return session.account

    front = await serve(server)
    ann = await Talker.connect(front, "ann")
    (about,) = (await ann.join(LOT))["args"]
    assert [each["info"] for each in about["members"]] == ["ann"]
    position = {"epoch": about["epoch"], "offset": about["offset"]}
    for number in range(3):
        await server.channel(LOT).emit("bid", number)
        assert (await ann.hear())["args"] == [number]
    bob = await Talker.connect(front, "bob")
    (about,) = (await bob.ask({"join": LOT, "id": 1, "since": position}))["args"]
    assert (about["recovered"], about["offset"], len(about["members"])) == (True, 3, 2)
    assert [(await bob.hear())["args"] for _ in range(3)] == [[0], [1], [2]]
    assert [each[0] for each in (await ann.hear())["presence"]] == ["join"]
    late = await Talker.connect(front, "late", "&resume=1")
    session_of(server, "late").join(LOT)
    joined = (await late.hear())["joined"]
    assert (joined["offset"], len(joined["members"])) == (3, 3)


# What applications read


async def test_applications_read_the_members_with_their_info(serve: Serve) -> None:
    server = with_lots()
    front = await serve(server)
    for account in ("ann", "bob"):
        await (await Talker.connect(front, account)).join(LOT)
    cee = await Talker.connect(front, "cee")
    session = session_of(server, "cee")
    session.join(LOT, [1, 2])
    members = await server.channel(LOT).members()
    assert isinstance(members, Members)
    assert members.certain
    assert len(members) == 3
    assert list(members) == [
        Member("ann", "a", Seat("ann")),
        Member("bob", "b", Seat("bob")),
        Member("cee", "c", [1, 2]),  # which is no seat
    ]
    assert members[0].info.name == "ann"
    assert members[1:] == (Member("bob", "b", Seat("bob")), Member("cee", "c", [1, 2]))
    assert repr(members).startswith("Members([Member(account='ann'")
    await cee.socket.close()


async def test_who_cannot_be_told_keeps_nobody_else_from_it(serve: Serve) -> None:
    server = with_lots()
    front = await serve(server)
    problems = Hearing(server, "error::*")
    ann = await Watcher.join(front, "ann")
    bob = await Talker.connect(front, "bob")
    channels, session = server.node.feature(Channels), session_of(server, "ann")
    channel = channels.local.get(LOT)
    assert channel is not None
    failure = LookupError("told")

    def told(seen: object) -> None:
        raise failure

    channels.presences.welcome(session, channel, told)
    told_too = asyncio.get_running_loop().create_future()
    channels.presences.welcome(session, channel, told_too.set_result)
    async with asyncio.timeout(5):
        assert len((await told_too).members) == 1
    assert (await problems.next_error())[0] is failure
    assert await bob.join(LOT) == answer(seated("ann"), seated("bob"))
    await ann.close()


async def test_info_that_is_no_json_lets_nobody_in(serve: Serve) -> None:
    server = Primacron()
    server.uuid(lambda request: request.query["account"][0])
    server.channels(LOT, presence=True)
    front = await serve(server)
    ann, bob = [await Talker.connect(front, account) for account in ("ann", "bob")]
    with pytest.raises(TypeError, match="not for JSON"):
        session_of(server, "ann").join(LOT, {None: 1})
    assert session_of(server, "ann").channels == set()
    assert await bob.join(LOT) == answer(member("bob"))
    assert await ann.join(LOT) == answer(member("bob"), member("ann"))


async def test_a_channel_without_members_has_none(serve: Serve) -> None:
    server = with_lots()
    await serve(server)
    members = await server.channel(LOT).members()
    assert (list(members), members.certain) == ([], True)


async def test_members_are_those_of_one_channel_with_presence(serve: Serve) -> None:
    server = with_lots()
    server.channels("news")
    await serve(server)
    for names, why in (
        (("staff",), "'staff' has no presence"),
        (("news",), "'news' has no presence"),
        ((LOT, "lot:8"), "one channel at a time"),
    ):
        with pytest.raises(ValueError, match=why):
            await server.channel(*names).members()


async def test_listeners_hear_of_members_as_of_those_of_rooms(serve: Serve) -> None:
    server = with_lots()
    told = Hearing(server, "channel::join", "channel::leave")
    ann = await Talker.connect(await serve(server), "ann")
    await ann.join(LOT)
    await ann.join(LOT)
    assert (await told.next())[1] == LOT
    await ann.leave(LOT)
    assert (await told.next())[1] == LOT
    assert told.is_empty


async def test_a_join_that_a_listener_undoes_is_answered(serve: Serve) -> None:
    server = with_lots()

    @server.on("channel::join")
    def kick(session: Session, name: str) -> None:
        if session.account == "bob":
            session.leave(name)

    front = await serve(server)
    ann, bob = [await Talker.connect(front, account) for account in ("ann", "bob")]
    await ann.join(LOT)
    assert await bob.join(LOT) == {"channel": LOT, "left": "forced leave"}
    assert await bob.hear() == answer(seated("ann"))
    cee = await Talker.connect(front, "cee")
    await cee.join(LOT)
    assert await ann.hear() == {"channel": LOT, "presence": [["join", seated("cee")]]}


async def test_members_that_neither_come_nor_go_need_no_timer(serve: Serve) -> None:
    server = with_lots()
    front = await serve(server)
    for letter in "abcdef":
        await (await Talker.connect(front, f"{letter}nn")).join(LOT)
    presences = server.node.feature(Channels).presences
    await until(lambda: presences._presence.due is None, "the end of all timers")
