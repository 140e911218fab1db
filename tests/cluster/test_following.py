"""Following: a session gets what another one sends, and if it likes what that gets, across servers."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from primacron import Receipt, Refused, Session
from primacron.errors import ForwardFailed
from primacron.features import follow
from primacron.features.follow import Follows
from tests.cluster.agents import Agents, came_from, is_empty_after, next_of
from tests.cluster.fleet import Fleet, cluster_of, local, until
from tests.support.hearing import Hearing

BACKENDS = ("memory", "redis")

ACCEPTED = Receipt("accepted", certain=True)


@pytest.fixture
async def agents(fleet: Fleet) -> Agents:
    return await Agents.start(fleet)


# What is mirrored

PLACES = [(0, 0), (0, 1), (1, 0)]


@pytest.mark.parametrize(("near", "far"), PLACES)
async def test_a_follower_gets_what_the_followed_one_sends(agents: Agents, near: int, far: int) -> None:
    followed, follower = await agents.join(far, "b"), await agents.join(near, "f")
    await followed.call("say", "before")
    assert await agents.pipe(near, "f", "b") == ACCEPTED
    assert await followed.call("say", 1, {"two": [3]}) == [1, {"two": [3]}]
    await followed.call("checked", 5)
    assert await next_of(follower) == ("say", (1, {"two": [3]}), came_from("b"))
    assert await next_of(follower) == ("checked", (5,), came_from("b"))
    agents.servers[near].session("ann", "b").emit("not for followers")
    assert (await followed.receive()).event == "not for followers"
    assert await is_empty_after(agents.servers[far], follower, "f")
    assert agents.is_quiet


@pytest.mark.parametrize(("near", "far"), PLACES)
async def test_who_follows_what_is_received_gets_what_is_sent_to_channels(agents: Agents, near: int, far: int) -> None:
    followed, follower = await agents.join(far, "b"), await agents.join(near, "f")
    assert await agents.pipe(near, "f", "b", received=True) == ACCEPTED
    for server in agents.servers:
        await agents.servers[far].session("ann", "b").join("news")
        assert (await server.channel("news").emit("headline", 1)).sessions == 1
        assert (await followed.receive()).event == "headline"
        assert await next_of(follower) == ("headline", (1,), came_from("b", "out"))


@pytest.mark.parametrize(("near", "far"), PLACES)
async def test_what_is_refused_is_not_mirrored(agents: Agents, near: int, far: int) -> None:
    followed, follower = await agents.join(far, "b"), await agents.join(near, "f")
    await agents.pipe(near, "f", "b")
    await followed.emit("no validator", 1)
    await followed.emit("checked", -1)
    await followed.emit("checked", "text")
    await followed.call("say", "good")
    assert await next_of(follower) == ("say", ("good",), came_from("b"))
    assert await is_empty_after(agents.servers[near], follower, "f")


@pytest.mark.parametrize(("near", "far"), PLACES)
async def test_by_option_a_follower_gets_what_the_followed_one_gets(agents: Agents, near: int, far: int) -> None:
    followed, follower = await agents.join(far, "b"), await agents.join(near, "f")
    assert await agents.pipe(near, "f", "b", received=True) == ACCEPTED
    sender, target = agents.servers[2], agents.servers[2].session("ann", "b")
    assert (await target.emit("one", 1)).ok
    assert (await sender.forward("ann", "b", {"any": "thing"})).ok
    assert (await local(agents.servers[far], "ann", "b").emit("two")).ok
    assert (await sender.account("ann").emit("three", except_=[sender.session("ann", "f")])).sessions == 1
    assert (await sender.everyone.emit("four", except_=[sender.session("ann", "f")])).sessions == 1
    await sender.everyone.emit("left out", except_=[target, sender.session("ann", "f")])
    await followed.call("say", "sent")
    expected: list[tuple[str, tuple[Any, ...], Any]] = [
        ("one", (1,), came_from("b", "out")),
        ("message", ({"any": "thing"},), came_from("b", "out")),
        ("two", (), came_from("b", "out")),
        ("three", (), came_from("b", "out")),
        ("four", (), came_from("b", "out")),
        ("say", ("sent",), came_from("b")),
    ]
    got = [await next_of(follower) for _ in expected]
    assert sorted(map(repr, got)) == sorted(map(repr, expected))
    assert [await next_of(followed) for _ in range(5)] == [(event, args, None) for event, args, _ in expected[:5]]
    assert await is_empty_after(agents.servers[near], follower, "f")
    assert agents.is_quiet


async def test_the_order_of_what_is_mirrored_holds(agents: Agents) -> None:
    followed, follower = await agents.join(1, "b"), await agents.join(0, "f")
    await agents.pipe(0, "f", "b")
    for number in range(300):
        await followed.emit("say", number)
    assert [(await follower.receive()).args for _ in range(300)] == [(number,) for number in range(300)]


async def test_a_follower_of_several_and_several_followers_of_one(agents: Agents) -> None:
    followed = [await agents.join(number, name) for number, name in enumerate("abc")]
    followers = [await agents.join(number, f"f{number}") for number in range(2)]
    for number in range(2):
        for name in "abc":
            assert await agents.pipe(number, f"f{number}", name) == ACCEPTED
    for client, name in zip(followed, "abc", strict=True):
        await client.call("say", name)
    for follower in followers:
        received = [await follower.receive() for _ in "abc"]
        assert {str((each.origin or {}).get("session")): each.args for each in received} == {
            name: (name,) for name in "abc"
        }


# The wire form


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", '4{"event":"say","args":[1,"é"],"origin":{"account":"ann","session":"b","direction":"in"}}'),
        (
            "&format=msgpack",
            {"event": "say", "args": [1, "é"], "origin": {"account": "ann", "session": "b", "direction": "in"}},
        ),
        (
            "&_primuscb=x",
            '4{"emit":["say",1,"é"],"origin":{"account":"ann","session":"b","direction":"in"}}',
        ),
    ],
)
async def test_each_client_gets_the_origin_in_its_own_form(agents: Agents, query: str, expected: Any) -> None:
    followed = await agents.join(1, "b")
    front = await agents.fleet.serve(agents.servers[0])
    socket = await front.websocket(f"account=ann&session=f{query}")
    await socket.receive()
    assert await agents.pipe(0, "f", "b") == ACCEPTED
    await followed.emit("say", 1, "é")
    got = await socket.receive()
    assert (msgspec.msgpack.decode(got) if isinstance(got, bytes) else got) == expected


async def test_raw_clients_get_what_is_mirrored_as_it_is(fleet: Fleet) -> None:
    servers = [fleet.new(dialect="raw") for _ in range(2)]
    for server in servers:

        @server.event("message")
        def take(session: Session, value: str | bytes) -> None: ...

    await fleet.start(*servers)
    fronts = [await fleet.serve(server) for server in servers]
    followed = await fronts[0].websocket("account=ann&session=b")
    follower = await fronts[1].websocket("account=ann&session=f")
    for socket in (followed, follower):
        await socket.receive()
    assert (await servers[1].pipe(local(servers[1], "ann", "f"), "ann", "b", received=True)).ok
    await followed.send("4text")
    assert await follower.receive() == "4text"
    await followed.send(b"\x00\xff")
    assert await follower.receive() == b"\x00\xff"
    for sender in servers:
        assert (await sender.forward("ann", "b", {"any": ["JSON"]})).ok
        assert await followed.receive() == await follower.receive() == '4{"any":["JSON"]}'


async def test_what_cannot_travel_is_an_error_of_its_own_and_harms_nobody(agents: Agents) -> None:
    followed, follower = await agents.join(1, "b"), await agents.join(0, "f")
    await agents.pipe(0, "f", "b")
    await followed.emit("say", 2**70)
    error, context = await agents.errors[1].next_error()
    assert isinstance(error, ForwardFailed)
    assert context.session is local(agents.servers[1], "ann", "b")
    assert await followed.call("say", "still here") == ["still here"]
    assert (await next_of(follower))[1] == ("still here",)


# Who may follow whom, and how many


async def test_a_session_of_another_account_may_not_be_followed(agents: Agents) -> None:
    await agents.join(1, "b", account="bob")
    await agents.join(0, "f")
    server = agents.servers[0]
    with pytest.raises(Refused, match="accounts"):
        await server.pipe(local(server, "ann", "f"), "bob", "b")
    assert local(agents.servers[1], "bob", "b").peek(Follows) is None


async def test_authorize_pipe_decides(fleet: Fleet) -> None:
    near, far = fleet.new(), fleet.new()
    asked: list[tuple[Any, ...]] = []
    verdicts: dict[str, Any] = {"yes": True, "no": False, "none": None, "one": 1, "text": "yes"}
    mistakes = Hearing(near, "error::handler")

    @near.authorize_pipe
    async def decide(follower: Session, account: str, session: str) -> Any:
        asked.append((follower.account, account, session))
        if session == "raises":
            raise Refused(403, "because I say so")
        return verdicts[session]

    @far.event("say")
    def say(session: Session) -> None: ...

    await fleet.start(near, far)
    follower = await fleet.join(near, "ann", "f")
    clients = {name: await fleet.join(far, "bob", name) for name in (*verdicts, "raises")}
    session = local(near, "ann", "f")
    assert await near.pipe(session, "bob", "yes") == ACCEPTED
    await clients["yes"].emit("say")
    assert await next_of(follower) == ("say", (), came_from("yes", account="bob"))
    with pytest.raises(Refused, match="may not be followed"):
        await near.pipe(session, "bob", "no")
    assert mistakes.is_empty
    for name in ("none", "one", "text"):
        with pytest.raises(Refused, match="may not be followed"):
            await near.pipe(session, "bob", name)
        error, context = await mistakes.next_error()
        assert str(error).startswith(f"authorize_pipe returned {verdicts[name]!r}, which refuses: return True")
        assert context.session is session
    with pytest.raises(Refused, match="because I say so"):
        await near.pipe(session, "bob", "raises")
    assert asked == [("ann", "bob", name) for name in ("yes", "no", "none", "one", "text", "raises")]


async def test_nobody_can_follow_an_unknown_session(agents: Agents) -> None:
    await agents.join(0, "f")
    assert await agents.pipe(0, "f", "nobody") == Receipt("unknown_session", certain=True)
    session = local(agents.servers[0], "ann", "f")
    assert session.demand(Follows).following == set()
    assert not [key for key in agents.fleet.stored() if "followers" in key]


async def test_a_session_has_so_many_followers_and_no_more(agents: Agents) -> None:
    await agents.join(1, "b")
    for number, name in enumerate(("f0", "f1", "f2")):
        await agents.join(number, name)
    assert await agents.pipe(0, "f0", "b") == ACCEPTED
    assert await agents.pipe(1, "f1", "b") == ACCEPTED
    assert await agents.pipe(2, "f2", "b") == Receipt("refused", certain=True)
    assert await agents.pipe(0, "f0", "b", received=True) == ACCEPTED  # it follows already
    assert await agents.servers[0].unpipe(local(agents.servers[0], "ann", "f0"), "ann", "b") == ACCEPTED
    assert await agents.pipe(2, "f2", "b") == ACCEPTED


async def test_unpipe_ends_it(agents: Agents) -> None:
    followed, follower = await agents.join(1, "b"), await agents.join(0, "f")
    server = agents.servers[0]
    for _ in range(2):
        await agents.pipe(0, "f", "b", received=True)
        assert await server.unpipe(local(server, "ann", "f"), "ann", "b") == ACCEPTED
    await followed.call("say", 1)
    assert await is_empty_after(server, follower, "f")
    assert not agents.servers[1].node.hub.taps
    assert not [key for key in agents.fleet.stored() if "followers" in key]


# Circles


async def test_sessions_that_follow_each_other_make_no_loop(agents: Agents) -> None:
    clients = [await agents.join(number, name) for number, name in enumerate("abc")]
    for number, (follower, followed) in enumerate((("a", "b"), ("b", "c"), ("c", "a"))):
        assert await agents.pipe(number, follower, followed, received=True) == ACCEPTED
    assert await agents.pipe(0, "a", "a", received=True) == ACCEPTED
    for number, client in enumerate(clients):
        await client.call("say", number)
    agents.servers[0].everyone.emit("all")
    for number, client in enumerate(clients):
        received = [await next_of(client) for _ in range(5 if number == 0 else 3)]
        mirrored = sorted((event, str(origin["session"])) for event, _, origin in received if origin)
        followed = ["b", "c", "a"][number]
        expected = [("all", followed), ("say", followed)] + ([("all", "a"), ("say", "a")] if number == 0 else [])
        assert mirrored == sorted(expected)
    other = await agents.join(2, "z", account="zed")
    for _ in range(3):  # whatever goes around would have come around
        for server in agents.servers:
            await server.session("zed", "z").emit("round")
            assert (await other.receive()).event == "round"
    assert all(client.is_quiet for client in clients)


# The life of both


async def test_a_follow_ends_with_the_follower(agents: Agents) -> None:
    followed, follower = await agents.join(1, "b"), await agents.join(0, "f")
    await agents.pipe(0, "f", "b", received=True)
    await follower.close()
    session = local(agents.servers[1], "ann", "b")
    await until(lambda: not session.demand(Follows).followers, "the end of the follow")
    again = await agents.join(0, "f")
    await followed.call("say", 1)
    assert await is_empty_after(agents.servers[0], again, "f")
    assert not agents.servers[1].node.hub.taps


async def test_a_follower_that_went_with_its_server_is_let_go(agents: Agents, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "CHECK_EVERY", 0.0)
    followed = await agents.join(1, "b")
    await agents.join(0, "f")
    await agents.pipe(0, "f", "b")
    cluster = cluster_of(agents.servers[0])
    cluster.outgoing.close()  # it cannot say that it ends
    await agents.servers[0].destroy()
    session = local(agents.servers[1], "ann", "b")
    async with asyncio.timeout(10):
        while session.demand(Follows).followers:
            await followed.call("say", 1)
    assert not agents.servers[1].node.hub.taps


@pytest.mark.parametrize("number", [0, 1, 2])
async def test_a_follow_survives_the_return_of_the_followed_one_on_any_server(agents: Agents, number: int) -> None:
    followed, follower = await agents.join(1, "b"), await agents.join(0, "f")
    await agents.pipe(0, "f", "b", received=True)
    ended = Hearing(agents.servers[1], "disconnection")
    await followed.close()
    await ended.next()
    await until(lambda: not agents.servers[1].count(), "the end")
    again = await agents.join(number, "b")
    await again.call("say", "back")
    agents.servers[2].session("ann", "b").emit("hello")
    assert await next_of(follower) == ("say", ("back",), came_from("b"))
    assert await next_of(follower) == ("hello", (), came_from("b", "out"))
    assert await agents.servers[0].unpipe(local(agents.servers[0], "ann", "f"), "ann", "b") == ACCEPTED
    await again.call("say", "unheard")
    assert await is_empty_after(agents.servers[2], follower, "f")


@pytest.mark.parametrize("number", [0, 1, 2])
async def test_a_follow_survives_that_the_followed_one_is_replaced(agents: Agents, number: int) -> None:
    old, follower = await agents.join(1, "b"), await agents.join(0, "f")
    await agents.pipe(0, "f", "b")
    new = await agents.join(number, "b")
    assert await old.closed() == "replaced"
    await new.call("say", "here")
    assert await next_of(follower) == ("say", ("here",), came_from("b"))


async def test_followers_of_a_gone_session_are_forgotten_after_the_timeout(fleet: Fleet) -> None:
    near, far = await fleet.started(2, timeout=0.2)
    followed = await fleet.join(far, "ann", "b")
    await fleet.join(near, "ann", "f")
    await near.pipe(local(near, "ann", "f"), "ann", "b")
    await followed.close()
    await until(lambda: not far.count(), "the end")
    await asyncio.sleep(0.3)
    await fleet.join(far, "ann", "b")
    assert not local(far, "ann", "b").demand(Follows).followers


async def test_a_follower_that_ends_while_it_begins_to_follow_is_no_follower(agents: Agents) -> None:
    await agents.join(1, "b")
    follower = await agents.join(0, "f")
    pipe = asyncio.create_task(agents.pipe(0, "f", "b"))
    await asyncio.sleep(0)
    await follower.close()
    await pipe
    session = local(agents.servers[1], "ann", "b")
    await until(lambda: not session.demand(Follows).followers, "the end of the follow")
    assert not [key for key in agents.fleet.stored() if "followers" in key]


async def test_a_server_that_cannot_be_asked_is_told_by_the_receipt(agents: Agents) -> None:
    await agents.join(1, "b")
    await agents.join(0, "f")
    await cluster_of(agents.servers[1]).bus.leave()
    assert await agents.pipe(0, "f", "b") == Receipt("unsent", certain=True)
    assert local(agents.servers[0], "ann", "f").demand(Follows).following == set()
