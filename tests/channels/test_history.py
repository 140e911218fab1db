"""Channels with history on one server: what is kept, and what those get who join, return or ask for the last."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from primacron import Primacron, Reach, Receipt, Session
from primacron.features.channels.entrance import BURST, RATE
from primacron.positions import Position
from tests.channels.talkers import ASKING, Talker, refused
from tests.conftest import Serve
from tests.support.hearing import Hearing

ACCEPTED = Receipt("accepted")


@pytest.fixture(params=ASKING)
def query(request: pytest.FixtureRequest) -> str:
    """What a client of each dialect connects with that may ask for channels."""
    return ASKING[request.param]


def with_history() -> Primacron:
    """Return a server with channels that everyone may join."""
    server = Primacron()
    server.channels("lot:{number}", history=8, keep=60)
    server.channels("price:{name}", history=1)
    server.channels("talk")
    return server


async def publish(server: Primacron, *numbers: int, channel: str = "lot:7") -> list[Position]:
    """Publish events; return where they are."""
    found = [(await server.channel(channel).emit("bid", number)).position for number in numbers]
    assert None not in found
    return [position for position in found if position is not None]


def answer(position: Position, number: int = 1, channel: str = "lot:7", **more: Any) -> Any:
    about = {"channel": channel, "epoch": position.epoch, "offset": position.offset, **more}
    return {"ack": number, "args": [about]}


def bid(number: int, offset: int | None = None, channel: str = "lot:7") -> Any:
    return {"event": "bid", "args": [number], "channel": channel, "offset": offset or number}


def gap(epoch: str, start: int, end: int | None, channel: str = "lot:7") -> Any:
    return {"channel": channel, "gap": {"epoch": epoch, "from": start, "to": end}}


def since(position: Position, number: int = 1, channel: str = "lot:7") -> Any:
    return {"join": channel, "id": number, "since": {"epoch": position.epoch, "offset": position.offset}}


async def test_a_message_is_stored_and_delivered_with_its_offset(kind: str, serve: Serve, query: str) -> None:
    server = with_history()
    talker = await Talker.connect(await serve(server), "ann", query)
    first = await talker.join("lot:7")
    epoch = first["args"][0]["epoch"]
    assert first == answer(Position(epoch, 0))
    for number in (1, 2, 3):
        reach = await server.channel("lot:7").emit("bid", number)
        assert reach == Reach(1, 1, position=Position(epoch, number))
        assert await talker.hear() == bid(number)
    page = await server.channel("lot:7").history()
    assert [(each.position.offset, each.event, each.args) for each in page.messages] == [
        (number, "bid", (number,)) for number in (1, 2, 3)
    ]
    assert (page.position, page.more, page.recovered) == (Position(epoch, 3), False, True)


async def test_what_is_sent_without_members_is_stored_all_the_same(serve: Serve) -> None:
    server = with_history()
    front = await serve(server)
    *_, last = await publish(server, 1, 2, 3)
    talker = await Talker.connect(front, "ann")
    assert await talker.join("lot:7") == answer(last)
    await publish(server, 4)
    assert await talker.hear() == bid(4)


async def test_who_returns_gets_what_it_missed_and_then_what_is_live(kind: str, serve: Serve, query: str) -> None:
    server = with_history()
    front = await serve(server)
    first, *_, last = await publish(server, 1, 2, 3, 4)
    talker = await Talker.connect(front, "ann", query)
    assert await talker.ask(since(first)) == answer(last, recovered=True)
    assert [await talker.hear() for _ in range(3)] == [bid(2), bid(3), bid(4)]
    await publish(server, 5)
    assert await talker.hear() == bid(5)
    other = await Talker.connect(front, "bob", query)
    assert await other.ask(since(Position(last.epoch, 5))) == answer(Position(last.epoch, 5), recovered=True)
    await publish(server, 6)
    assert await other.hear() == bid(6)


async def test_what_is_no_longer_kept_is_told_exactly(serve: Serve, query: str) -> None:
    server = with_history()
    front = await serve(server)
    first, *_, last = await publish(server, *range(1, 31))
    talker = await Talker.connect(front, "ann", query)
    assert await talker.ask(since(first)) == answer(last, recovered=False)
    told = await talker.hear()
    lost = told["gap"]["to"]
    assert told == gap(last.epoch, 2, lost)
    assert 30 - 10 <= lost <= 30 - 8
    assert [await talker.hear() for _ in range(lost + 1, 31)] == [bid(number) for number in range(lost + 1, 31)]


async def test_of_an_unknown_position_nothing_follows(serve: Serve) -> None:
    server = with_history()
    talker = await Talker.connect(await serve(server), "ann")
    (last,) = await publish(server, 1)
    for position in (Position("unknown", 0), Position(last.epoch, 2), Position("", 0)):
        assert await talker.ask(since(position)) == answer(last, recovered=False)
        assert await talker.hear() == gap(last.epoch, 2, None)
    await publish(server, 2)
    assert await talker.hear() == bid(2)


async def test_the_last_messages_are_sent_on_request_to_members_too(serve: Serve, query: str) -> None:
    server = with_history()
    talker = await Talker.connect(await serve(server), "ann", query)
    *_, last = await publish(server, 1, 2, 3)
    for count, sent in ((2, [2, 3]), (8, [1, 2, 3]), (1, [3])):
        assert await talker.ask({"join": "lot:7", "id": 1, "last": count}) == answer(last)
        assert [await talker.hear() for _ in sent] == [bid(number) for number in sent]
    await publish(server, 4)
    assert await talker.hear() == bid(4)
    answered = await talker.ask({"join": "lot:7", "id": 1, "last": 9})
    assert answered == refused("validation", "Expected `int` <= 8", "$.last")
    assert (await talker.ask({"join": "talk", "id": 1, "last": 1}))["error"]["path"] == "$.last"


async def test_who_comes_late_gets_the_last_value_at_once(serve: Serve, query: str) -> None:
    server = with_history()
    front = await serve(server)
    *_, last = await publish(server, 1, 2, 3, channel="price:gold")
    talker = await Talker.connect(front, "ann", query)
    joined = answer(last, channel="price:gold")
    assert await talker.ask({"join": "price:gold", "id": 1}) == joined
    assert await talker.hear() == bid(3, channel="price:gold")
    assert await talker.ask({"join": "price:gold", "id": 1}) == joined
    unknown = since(Position("unknown", 0), channel="price:gold")
    assert await talker.ask(unknown) == answer(last, channel="price:gold", recovered=False)
    assert await talker.hear() == gap(last.epoch, 4, None, "price:gold")
    assert await talker.hear() == bid(3, channel="price:gold")
    assert await talker.ask({"join": "price:silver", "id": 1}) == {
        "ack": 1,
        "args": [{"channel": "price:silver", "epoch": last.epoch, "offset": 0}],
    }


async def test_a_session_that_the_server_lets_in_is_told_its_position(serve: Serve, query: str) -> None:
    server = with_history()
    front = await serve(server)
    *_, last = await publish(server, 1, 2)
    await publish(server, 5, channel="price:gold")
    talker = await Talker.connect(front, "ann", f"{query}&resume=1")
    (session,) = server.node.hub.sessions.of("ann")  # type: ignore[arg-type]
    delivery = session.join("lot:7")
    server.channel("lot:7").emit("bid", 3)
    assert await delivery == ACCEPTED
    assert await talker.hear() == {
        "channel": "lot:7",
        "joined": {"channel": "lot:7", "epoch": last.epoch, "offset": 2},
    }
    assert await talker.hear() == bid(3)
    session.join("price:gold")
    assert (await talker.hear())["joined"]["offset"] == 1
    assert await talker.hear() == bid(5, 1, "price:gold")


async def test_clients_that_asked_for_nothing_get_plain_events(serve: Serve) -> None:
    server = with_history()
    front = await serve(server)
    talkers = [await Talker.connect(front, account) for account in ("ann", "bob")]
    for account in ("ann", "bob"):
        assert await server.account(account).join("lot:7") == Reach(1, 1)
    await publish(server, 1)
    for talker in talkers:
        assert await talker.hear() == {"event": "bid", "args": [1]}


async def test_sessions_are_left_out_live_and_in_replays(serve: Serve) -> None:
    server = with_history()
    front = await serve(server)
    ann, bob = [await Talker.connect(front, account) for account in ("ann", "bob")]
    start = (await ann.join("lot:7"))["args"][0]
    await bob.join("lot:7")
    (left_out,) = server.node.hub.sessions.of("ann")  # type: ignore[arg-type]
    await server.channel("lot:7").emit("bid", 1, except_=left_out)
    await publish(server, 2)
    assert [await bob.hear() for _ in range(2)] == [bid(1), bid(2)]
    assert await ann.hear() == bid(2)
    again = since(Position(start["epoch"], 0))
    assert (await ann.ask(again))["args"][0]["recovered"] is True
    assert await ann.hear() == bid(2)
    assert (await bob.ask(again))["args"][0]["recovered"] is True
    assert [await bob.hear() for _ in range(2)] == [bid(1), bid(2)]


async def test_what_a_history_cannot_do_is_refused(serve: Serve) -> None:
    server = with_history()
    await serve(server)
    lot, talk = server.channel("lot:7"), server.channel("talk")
    sessions = [server.session("ann", str(number)) for number in range(17)]
    for refusal, options in (
        ("volatile", {"volatile": True}),
        ("except_", {"except_": sessions}),
        ("except_", {"except_": talk}),
    ):
        with pytest.raises(ValueError, match=refusal):
            lot.emit("bid", 1, **options)
    with pytest.raises(ValueError, match="one at a time"):
        server.channel("lot:7", "talk").emit("bid", 1)
    with pytest.raises(TypeError):
        lot.emit("bid", object())
    with pytest.raises(ValueError, match="has no history"):
        await talk.history()
    with pytest.raises(ValueError, match="has no history"):
        await talk.clear()
    with pytest.raises(ValueError, match="limit"):
        await lot.history(limit=0)
    assert (await lot.emit("bid", 1, except_=sessions[:16])).position is not None
    assert (await lot.history()).position.offset == 1


async def test_a_message_may_do_without_the_history(serve: Serve) -> None:
    server = with_history()
    talker = await Talker.connect(await serve(server), "ann")
    await talker.join("lot:7")
    assert await server.channel("lot:7").emit("bid", 1, history=False, volatile=True) == Reach(1, 1)
    assert await talker.hear() == {"event": "bid", "args": [1], "channel": "lot:7"}
    assert (await server.channel("lot:7").history()).messages == ()
    assert await server.channel("lot:7", "talk").emit("bid", 2, history=False) == Reach(1, 1)
    assert await talker.hear() == {"event": "bid", "args": [2]}


async def test_a_key_is_answered_with_the_first_position(serve: Serve) -> None:
    server = with_history()
    talker = await Talker.connect(await serve(server), "ann")
    await talker.join("lot:7")
    lot = server.channel("lot:7")
    first = await lot.emit("bid", 1, key="k")
    again = await lot.emit("bid", 1, key="k")
    assert first.position == again.position
    await publish(server, 2)
    assert [await talker.hear() for _ in range(2)] == [bid(1), bid(2)]


async def test_an_application_reads_a_history_in_pages_and_clears_it(serve: Serve) -> None:
    server = with_history()
    talker = await Talker.connect(await serve(server), "ann")
    lot = server.channel("lot:7")
    empty = await lot.history()
    assert (empty.messages, empty.more, empty.recovered) == ((), False, True)
    first, *_, last = await publish(server, *range(1, 6))
    page = await lot.history(limit=2)
    assert [each.args for each in page.messages] == [(4,), (5,)]
    page = await lot.history(since=first, limit=2)
    assert [each.args for each in page.messages] == [(2,), (3,)]
    assert (page.position, page.more, page.recovered) == (Position(first.epoch, 3), True, True)
    page = await lot.history(since=page.position)
    assert [each.args for each in page.messages] == [(4,), (5,)]
    page = await lot.history(since=Position("unknown", 1), limit=1)
    assert ([each.args for each in page.messages], page.recovered) == ([(5,)], False)
    await talker.join("lot:7")
    await lot.clear()
    page = await lot.history(since=first)
    assert (page.messages, page.position, page.recovered) == ((), last, False)
    await publish(server, 6)
    assert await talker.hear() == bid(6)
    assert await talker.ask(since(first)) == answer(Position(last.epoch, 6), recovered=False)
    assert await talker.hear() == gap(last.epoch, 2, 5)
    assert await talker.hear() == bid(6)


async def test_who_leaves_gets_no_more(serve: Serve) -> None:
    server = with_history()
    talker = await Talker.connect(await serve(server), "ann")
    await talker.join("lot:7")
    await talker.leave("lot:7")
    await publish(server, 1)
    await server.account("ann").emit("end")
    assert (await talker.hear())["event"] == "end"


async def test_a_join_that_fails_behind_its_replay_leaves_nothing(serve: Serve) -> None:
    server = Primacron(max_channels=1)
    server.channels("lot:{number}", history=8, keep=60)
    talker = await Talker.connect(await serve(server), "ann")
    await publish(server, 1, 2)
    (session,) = server.node.hub.sessions.of("ann")  # type: ignore[arg-type]
    hold = asyncio.Event()

    @server.channels("slow", history=8, keep=60)
    async def slow(session: Session) -> None:
        await hold.wait()

    problems = Hearing(server, "error::limit")
    await talker.say({"join": "slow", "id": 1, "last": 1})
    while not server.metrics.messages_received:
        await asyncio.sleep(0.01)
    await session.join("lot:7")
    assert (await talker.hear())["joined"]["offset"] == 2
    hold.set()
    assert (await talker.hear())["error"]["type"] == "limit"
    await problems.next()
    await publish(server, 1, channel="slow")
    await publish(server, 3)
    assert await talker.hear() == bid(3)
    assert session.channels == {"lot:7"}


async def test_a_put_is_stored_too(serve: Serve) -> None:
    server = Primacron(secret="secret")
    server.channels("lot:{number}", history=8, keep=60)
    front = await serve(server)
    talker = await Talker.connect(front, "ann")
    await talker.join("lot:7")

    async def put(message: Any, key: str = "") -> dict[str, Any]:
        headers = {"Authorization": "Bearer secret", "Idempotency-Key": key}
        body = json.dumps({"channel": "lot:7", "message": message}).encode()
        response = await front.fetch("PUT", "/primacron/broadcast", headers, body)
        return {name: value for name, value in response.json().items() if name in {"status", "offset", "sessions"}}

    assert await put({"event": "bid", "args": [1]}, "k") == {"status": 200, "sessions": 1, "offset": 1}
    assert await put({"event": "bid", "args": [1]}, "k") == {"status": 200, "sessions": 1, "offset": 1}
    assert await put("text", "l") == {"status": 200, "sessions": 1, "offset": 2}
    assert (await put({"event": "bid", "args": 1}, "m"))["status"] == 400
    assert await put({"event": "bid"}, "n") == {"status": 200, "sessions": 1, "offset": 3}
    assert await talker.hear() == bid(1)
    assert await talker.hear() == {"event": "message", "args": ["text"], "channel": "lot:7", "offset": 2}
    assert await talker.hear() == {"event": "bid", "args": [], "channel": "lot:7", "offset": 3}


# How much a client can ask for


async def test_a_replay_is_paced(serve: Serve) -> None:
    server = Primacron()
    server.channels("lot:{number}", history=100, keep=60)
    talker = await Talker.connect(await serve(server), "ann")
    for number in range(20):
        reach = await server.channel("lot:7").emit("bid", "x" * 50_000, number)
    assert reach.position is not None
    begin = asyncio.get_running_loop().time()
    answered = await talker.ask(since(Position(reach.position.epoch, 0)))
    assert answered == answer(reach.position, recovered=True)
    for number in range(20):
        message = await talker.hear()
        assert (message["args"][1], message["offset"]) == (number, number + 1)
        if number == 10:
            # What is new waits behind the replay, however long that takes.
            await publish(server, 21)
    assert await talker.hear() == bid(21)
    # One page and an allowance at once, and no more than 256 kB a second behind.
    assert asyncio.get_running_loop().time() - begin > (20 * 50_000 - 2 * 262_144 - BURST) / RATE


async def test_who_asks_again_and_again_gets_no_more_than_who_asks_once(serve: Serve) -> None:
    server = Primacron()
    server.channels("lot:{number}", history=8, keep=60)
    front = await serve(server)
    talker = await Talker.connect(front, "ann")
    for number in range(8):
        await server.channel("lot:7").emit("bid", "x" * 30_000, number)
    reads = 0
    lists = server.node.cluster.lists
    read = lists.read

    async def count(*args: Any) -> Any:
        nonlocal reads
        reads += 1
        return await read(*args)

    lists.read = count  # type: ignore[method-assign, assignment]
    begin = asyncio.get_running_loop().time()
    for _ in range(1_000):
        await talker.say({"join": "lot:7", "id": 1, "last": 8})
    await asyncio.sleep(1.0)
    seconds = asyncio.get_running_loop().time() - begin
    assert reads <= 2 + seconds * RATE / 240_000
    assert sum(len(each.outbox or ()) for each in server.node.hub.connections.values()) < 30
    (session,) = server.node.hub.sessions.of("ann")  # type: ignore[arg-type]
    assert session.is_full
    other = await Talker.connect(front, "bob")
    assert (await other.join("lot:7"))["args"][0]["offset"] == 8
