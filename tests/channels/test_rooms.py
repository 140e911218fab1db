"""Rooms on one server: joining and leaving, sending, what is refused, and who is told."""

from __future__ import annotations

from typing import Any

import pytest

from primacron import Primacron, Reach, Receipt, Session
from primacron.errors import CallRefused, TooManyChannels
from primacron.routing.targets import CallResult
from primacron.testing import Client
from tests.support.hearing import Hearing

ACCEPTED = Receipt("accepted")


async def joined(server: Primacron, account: str, *channels: str) -> tuple[Client, Session]:
    """Connect a client, and put its session into channels."""
    client = await Client.connect(server, account)
    (session,) = server.node.hub.sessions.of(account)  # type: ignore[arg-type]
    for channel in channels:
        assert await session.join(channel) == ACCEPTED
    return client, session


async def names_until_end(server: Primacron, client: Client) -> list[str]:
    """Return the names of the events that a client has been sent."""
    server.everyone.emit("end")
    names: list[str] = []
    while (name := (await client.receive()).event) != "end":
        names.append(name)
    return names


@pytest.fixture
async def server() -> Any:
    server = Primacron()
    await server.start()
    yield server
    await server.destroy()


async def test_members_get_what_is_sent_to_a_channel(server: Primacron) -> None:
    ann, session = await joined(server, "ann", "news", "sport")
    bob, _ = await joined(server, "bob", "news")
    assert session.channels == {"news", "sport"}
    assert await server.channel("news").emit("headline", 1) == Reach(1, 2)
    assert await server.channel("sport").emit("goal") == Reach(1, 1)
    assert await server.channel("nobody").emit("lost") == Reach(1, 0)
    assert await names_until_end(server, ann) == ["headline", "goal"]
    assert await names_until_end(server, bob) == ["headline"]


async def test_who_is_in_several_channels_gets_what_is_sent_to_their_union_once(server: Primacron) -> None:
    ann, _ = await joined(server, "ann", "a", "b")
    bob, _ = await joined(server, "bob", "b")
    assert await server.channel("a", "b", "a").emit("x") == Reach(1, 2)
    assert await names_until_end(server, ann) == ["x"]
    assert await names_until_end(server, bob) == ["x"]


async def test_who_leaves_gets_nothing_more(server: Primacron) -> None:
    ann, session = await joined(server, "ann", "news")
    assert await session.leave("news") == ACCEPTED
    assert await session.leave("news") == ACCEPTED
    assert session.channels == set()
    assert await server.channel("news").emit("late") == Reach(1, 0)
    assert await names_until_end(server, ann) == []


async def test_sessions_and_members_of_channels_can_be_left_out(server: Primacron) -> None:
    ann, session = await joined(server, "ann", "news", "vip")
    bob, _ = await joined(server, "bob", "news")
    assert await server.channel("news").emit("x", except_=session) == Reach(1, 1)
    assert await server.channel("news").emit("y", except_=server.channel("vip")) == Reach(1, 1)
    assert await server.everyone.emit("z", except_=[server.channel("vip"), server.channel("none")]) == Reach(1, 1)
    assert await server.account("ann").emit("w", except_=server.channel("vip")) == Reach(1, 0)
    assert await names_until_end(server, ann) == []
    assert await names_until_end(server, bob) == ["x", "y", "z"]


async def test_every_target_joins_and_leaves(server: Primacron) -> None:
    _, ann = await joined(server, "ann")
    _, bob = await joined(server, "bob")
    assert await server.session(ann.account, ann.id).join("a") == ACCEPTED
    assert await server.account("ann").join("b") == Reach(1, 1)
    assert await server.everyone.join("c") == Reach(1, 2)
    assert await server.channel("a", "nobody").join("d") == Reach(1, 1)
    assert ann.channels == {"a", "b", "c", "d"}
    assert bob.channels == {"c"}
    assert await server.channel("c").count() == Reach(1, 2)
    found = await server.channel("a", "c").sessions()
    assert sorted((each.account, each.id) for each in found) == [("ann", ann.id), ("bob", bob.id)]
    assert await server.session(ann.account, ann.id).leave("a") == ACCEPTED
    assert await server.account("ann").leave("b") == Reach(1, 1)
    assert await server.everyone.leave("c") == Reach(1, 2)
    assert await server.channel("d").leave("d") == Reach(1, 1)
    assert not ann.channels | bob.channels
    assert await server.session("ann", "nobody").join("a") == Receipt("unknown_session")


async def test_all_members_are_disconnected(server: Primacron) -> None:
    ann, _ = await joined(server, "ann", "room")
    bob, _ = await joined(server, "bob")
    assert await server.channel("room").disconnect("closed for tonight") == Reach(1, 1)
    assert await ann.closed() == "closed for tonight"
    assert await names_until_end(server, bob) == []
    assert await server.channel("room").count() == Reach(1, 0)


async def test_a_call_tells_what_each_member_said(server: Primacron) -> None:
    sessions = {}
    clients = {}
    for account in ("answers", "refuses", "leaves", "is silent"):
        clients[account], sessions[account] = await joined(server, account, "jury")
    calls = server.node.hub.loop.create_task(server.channel("jury").call("vote", 7, timeout=0.2))
    asked = {account: await client.receive() for account, client in clients.items()}
    await clients["answers"].answer(asked["answers"], "yes")
    await clients["refuses"].refuse(asked["refuses"], "abstained", "no opinion")
    await clients["leaves"].close()
    results = {str(each.account): each for each in await calls}
    refusal = results["refuses"].value
    assert isinstance(refusal, CallRefused)
    assert refusal.type == "abstained"
    assert results == {
        "answers": CallResult("answers", sessions["answers"].id, "answered", "yes"),  # type: ignore[arg-type]
        "refuses": CallResult("refuses", sessions["refuses"].id, "refused", refusal),  # type: ignore[arg-type]
        "leaves": CallResult("leaves", sessions["leaves"].id, "left"),  # type: ignore[arg-type]
        "is silent": CallResult("is silent", sessions["is silent"].id, "missing"),  # type: ignore[arg-type]
    }


async def test_listeners_are_told_of_joins_and_leaves_and_of_a_leave_before_the_disconnection(
    server: Primacron,
) -> None:
    told: list[tuple[str, str]] = []

    @server.on("channel::join")
    def join(session: Session, name: str) -> None:
        told.append(("join", name))

    @server.on("channel::leave")
    async def leave(session: Session, name: str) -> None:
        told.append(("leave", name))

    @server.on("disconnection")
    def gone(session: Session, reason: str) -> None:
        told.append(("gone", reason))

    client, session = await joined(server, "ann", "a", "b", "a")
    await session.leave("a")
    await client.close()
    await server.destroy()
    assert told == [("join", "a"), ("join", "b"), ("leave", "a"), ("leave", "b"), ("gone", "transport close")]


async def test_a_session_is_in_a_limited_number_of_channels() -> None:
    server = Primacron(max_channels=2)
    refused = Hearing(server, "error::limit")
    _, session = await joined(server, "ann", "a", "b", "a")
    assert await session.join("c") == Receipt("refused")
    error, context = await refused.next_error()
    assert isinstance(error, TooManyChannels)
    assert error.limit == 2
    assert context.session is session
    await session.leave("a")
    assert await session.join("c") == ACCEPTED
    assert session.channels == {"b", "c"}
    await server.destroy()


@pytest.mark.parametrize(
    ("name", "error"),
    [
        *((name, ValueError) for name in ("", "x" * 256, "ü" * 128, "a\nb", "\ud800")),
        *((name, TypeError) for name in (7, b"x", None)),
    ],
)
async def test_what_no_channel_can_be_called_is_refused_everywhere(
    server: Primacron, name: Any, error: type[Exception]
) -> None:
    _, session = await joined(server, "ann")
    for use in (session.join, server.channel, server.everyone.join, server.account("ann").join, server.everyone.leave):
        with pytest.raises(error, match="channel"):
            use(name)


async def test_names_of_any_other_kind_are_as_good_as_any(server: Primacron) -> None:
    names = ["ü" * 127, "x" * 255, "a b", "{tag}", "a:b:c", "\u2028", "*", "?[x]", "%s", "'\"\\"]
    ann, session = await joined(server, "ann", *names)
    for name in names:
        assert await server.channel(name).emit(name) == Reach(1, 1)
    assert await names_until_end(server, ann) == names
    assert session.channels == set(names)


async def test_info_must_travel_and_be_small(server: Primacron) -> None:
    _, session = await joined(server, "ann")
    with pytest.raises(TypeError):
        session.join("a", info=object())
    with pytest.raises(ValueError, match="info"):
        session.join("a", info="x" * 2_000)
    assert session.channels == set()


async def test_a_target_needs_a_name(server: Primacron) -> None:
    with pytest.raises(TypeError, match="channel"):
        server.channel()


async def test_a_session_that_has_ended_joins_nothing(server: Primacron) -> None:
    client, session = await joined(server, "ann", "a")
    ended = Hearing(server, "disconnection")
    await client.close()
    await ended.next()
    assert session.channels == set()
    assert await session.join("b") == Receipt("unknown_session")
    assert await session.leave("b") == Receipt("unknown_session")
    assert await server.channel("a", "b").count() == Reach(1, 0)
