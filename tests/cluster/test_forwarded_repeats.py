"""Requests that come again by another server, since the one that forwarded them has ended, or is about to."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from primacron import Session
from primacron.cluster.items import Forward
from primacron.ids import NodeId, Sid
from primacron.times import Times
from primacron.transports.polling import Polling as PollingTransport
from tests.cluster.fleet import Fleet, cluster_of, forwarder_of, until
from tests.cluster.fronts import Fronts, messages
from tests.support.engine import Polling
from tests.support.hearing import Hearing
from tests.support.http import Response

BACKENDS = ("memory", "redis")

Front = Callable[..., Awaitable[Fronts]]


@pytest.fixture
def front(fleet: Fleet) -> Front:
    return lambda count=3, **options: Fronts.start(fleet, count, **options)


def transport_of(fronts: Fronts, polling: Polling) -> PollingTransport:
    """Return what has a connection at its owner."""
    transport = fronts.owner.node.hub.connections[Sid(polling.sid)].transport
    assert isinstance(transport, PollingTransport)
    return transport


async def get(fronts: Fronts, polling: Polling, number: int, stamp: str) -> Response:
    """Poll through a server, with a ``t``."""
    through = fronts.via(polling, number)
    return await through.client.fetch("GET", f"{through.target}&t={stamp}")


async def emit(fronts: Fronts, polling: Polling, number: int, stamp: str, value: Any) -> Response:
    """Send an event through a server, with a ``t``."""
    through = fronts.via(polling, number)
    body = b'4{"event":"echo","args":[%d]}' % value
    return await through.client.fetch("POST", f"{through.target}&t={stamp}", None, body)


async def hold(fronts: Fronts, polling: Polling, number: int, stamp: str = "") -> asyncio.Task[Response]:
    """Poll through a server, and wait until the owner holds this poll."""
    through = fronts.via(polling, number)
    target = f"{through.target}&t={stamp}" if stamp else through.target
    before = transport_of(fronts, polling)._poll
    task = asyncio.create_task(through.client.fetch("GET", target))
    await until(lambda: transport_of(fronts, polling)._poll not in (None, before), "the poll at the owner")
    return task


def echoes(response: Response) -> list[Any]:
    """Return what the answer to a poll echoes."""
    return [value for message in messages(response) for value in message["args"]]


# Polls


@pytest.mark.parametrize(("older", "newer"), [(1, 2), (1, 0), (0, 1)])
async def test_a_poll_by_another_server_takes_the_place_of_the_one_that_waits(
    older: int, newer: int, front: Front
) -> None:
    fronts = await front()
    polling = await fronts.handshake()
    first = await hold(fronts, polling, older)
    second = await hold(fronts, polling, newer)
    assert (await first).text == "6"
    await emit(fronts, polling, 1, "p", 1)
    assert echoes(await second) == [1]
    assert fronts.owner.metrics["error::protocol"] == 0


async def test_a_poll_that_arrives_once_more_after_later_ones_takes_nothing_away(front: Front) -> None:
    fronts = await front()
    forwarder = forwarder_of(fronts.owner)
    polling = await fronts.handshake()
    seen: list[Forward] = []

    def take(item: Forward, sender: NodeId) -> None:
        seen.append(item)
        forwarder._forward(item, sender)

    cluster_of(fronts.owner).on(Forward, take)
    for number in (1, 2):
        poll = await hold(fronts, polling, number, f"t{number}")
        await emit(fronts, polling, 1, f"p{number}", number)
        assert echoes(await poll) == [number]
    last = await hold(fronts, polling, 2, "t3")
    first = next(item for item in seen if item.method == "GET")
    forwarder._forward(first, first.origin)
    await emit(fronts, polling, 2, "p3", 3)
    assert echoes(await last) == [3]


async def test_a_second_poll_by_the_same_server_ends_the_session(front: Front) -> None:
    fronts = await front(2)
    ended = Hearing(fronts.owner, "disconnection")
    polling = await fronts.handshake()
    first = await hold(fronts, polling, 1)
    second = await fronts.via(polling, 1).poll()
    assert (second.status, second.body) == (400, b"")
    assert (await first).text == "1"
    assert (await ended.next())[1] == "transport error"


async def test_a_repeated_poll_gets_the_answer_that_it_had_by_any_server(front: Front) -> None:
    fronts = await front()
    polling = await fronts.handshake("account=ann&session=a&t=0")
    for number in range(6):
        await emit(fronts, polling, number % 3, f"p{number}", number)
        assert echoes(await get(fronts, polling, (number + 1) % 3, f"g{number}")) == [number]
        for again in range(3):
            assert echoes(await get(fronts, polling, again, f"g{number}")) == [number]


@pytest.mark.parametrize(("older", "newer"), [(1, 2), (1, 1), (1, 0)])
async def test_a_repeat_of_the_poll_that_waits_takes_its_place(older: int, newer: int, front: Front) -> None:
    fronts = await front()
    polling = await fronts.handshake("account=ann&session=a&t=0")
    first = await hold(fronts, polling, older, "1")
    second = await hold(fronts, polling, newer, "1")
    assert (await first).text == "6"
    await emit(fronts, polling, 2, "p", 1)
    assert echoes(await second) == [1]


async def test_of_a_poll_here_and_its_forwarded_repeat_both_end_as_either_may_be_the_older(front: Front) -> None:
    fronts = await front(2)
    polling = await fronts.handshake("account=ann&session=a&t=0")
    first = await hold(fronts, polling, 0, "1")
    assert (await get(fronts, polling, 1, "1")).text == "6"
    assert (await first).text == "6"
    await emit(fronts, polling, 1, "p", 1)
    assert (await get(fronts, polling, 1, "1")).text == "6"
    assert echoes(await get(fronts, polling, 1, "2")) == [1]


async def test_a_forwarded_poll_that_comes_behind_the_next_one_disturbs_nothing(front: Front) -> None:
    fronts = await front()
    polling = await fronts.handshake("account=ann&session=a&t=0")
    await emit(fronts, polling, 1, "p1", 1)
    assert echoes(await get(fronts, polling, 0, "1")) == [1]
    poll = await hold(fronts, polling, 2, "2")
    assert (await get(fronts, polling, 1, "1")).text == "6"
    await emit(fronts, polling, 1, "p2", 2)
    assert echoes(await poll) == [2]


# POSTs


async def test_a_repeated_post_is_handled_once_by_whichever_server_it_comes(front: Front) -> None:
    fronts = await front()
    polling = await fronts.handshake("account=ann&session=a&t=0")
    for value in range(6):
        for again in range(3):
            assert (await emit(fronts, polling, (value + again) % 3, f"p{value}", value)).text == "ok"
    assert (await emit(fronts, polling, 1, "p4", 4)).text == "ok"  # one that was overtaken by the next
    assert fronts.echoed == [*range(6)]


async def test_a_post_that_is_repeated_by_another_server_while_it_waits_is_handled_once(front: Front) -> None:
    fronts = await front(inbox_limit=1)
    go_on = busy(fronts)
    polling = await fronts.handshake("account=ann&session=a&t=0")
    for _ in range(2):
        assert (await fronts.via(polling, 1).emit("wait")).text == "ok"
    first = asyncio.create_task(emit(fronts, polling, 1, "p", 1))
    await until(lambda: transport_of(fronts, polling)._post, "the POST at the owner")
    second = asyncio.create_task(emit(fronts, polling, 2, "p", 1))
    await until(lambda: transport_of(fronts, polling)._twin, "its repeat")
    go_on.set()
    assert ((await first).text, (await second).text) == ("ok", "ok")
    await until(lambda: fronts.echoed == [1], "the message")


def busy(fronts: Fronts) -> asyncio.Event:
    """Let the event ``wait`` keep its session busy until what is returned is set."""
    go_on = asyncio.Event()

    @fronts.owner.event("wait")
    async def wait(session: Session) -> None:
        await go_on.wait()

    return go_on


# A forwarder that ends


async def test_a_server_that_ends_lets_go_of_the_polls_that_it_forwards(front: Front) -> None:
    fronts = await front()
    ended = Hearing(fronts.owner, "disconnection")
    pollings = [await fronts.handshake(f"account=ann&session={number}&t=0") for number in range(10)]
    polls = [await hold(fronts, polling, 1, "1") for polling in pollings]
    await fronts.servers[1].destroy()
    for poll in polls:
        response = await poll
        assert (response.status, response.text, response.headers["connection"]) == (200, "6", "close")
    for number, polling in enumerate(pollings):
        assert not fronts.held(polling)
        await emit(fronts, polling, 2, "p", number)
        assert echoes(await get(fronts, polling, 2, "2")) == [number]
    assert ended.is_empty
    assert fronts.owner.metrics["error::protocol"] == 0


async def test_a_server_that_ends_waits_for_the_answer_to_a_post_that_it_forwards(front: Front) -> None:
    fronts = await front(2, inbox_limit=1)
    go_on = busy(fronts)
    polling = await fronts.handshake()
    for _ in range(2):
        assert (await fronts.via(polling, 1).emit("wait")).text == "ok"
    post = asyncio.create_task(fronts.via(polling, 1).emit("echo", 1))
    await until(lambda: transport_of(fronts, polling)._post, "the POST at the owner")
    ending = asyncio.create_task(fronts.servers[1].destroy())
    await until(lambda: forwarder_of(fronts.servers[1]).is_ending, "the end")
    go_on.set()
    assert (await post).text == "ok"
    await ending
    assert fronts.echoed == [1]


async def test_a_poll_that_comes_to_a_server_that_ends_is_answered_at_once(front: Front) -> None:
    fronts = await front(2, inbox_limit=1)
    go_on = busy(fronts)
    polling = await fronts.handshake()
    raw = await fronts.clients[1].raw()
    for _ in range(2):
        assert (await fronts.via(polling, 1).emit("wait")).text == "ok"
    post = asyncio.create_task(fronts.via(polling, 1).emit("echo", 1))
    await until(lambda: transport_of(fronts, polling)._post, "the POST at the owner")
    ending = asyncio.create_task(fronts.servers[1].destroy())
    await until(lambda: forwarder_of(fronts.servers[1]).is_ending, "the end")
    await raw.send_request("GET", fronts.via(polling, 1).target)
    response = await raw.read_response()
    assert (response.text, response.headers["connection"]) == ("6", "close")
    go_on.set()
    assert (await post).text == "ok"
    await ending


async def test_a_server_that_ends_at_once_ends_no_session_of_another(front: Front) -> None:
    fronts = await front()
    ended = Hearing(fronts.owner, "disconnection")
    polling = await fronts.handshake("account=ann&session=a&t=0")
    through = fronts.via(polling, 1)
    raw = await through.client.raw()
    await raw.send_request("GET", f"{through.target}&t=1")
    await until(lambda: fronts.held(polling), "the poll at the owner")
    forwarder = forwarder_of(fronts.servers[1])
    ending = asyncio.create_task(fronts.servers[1].destroy())
    await until(lambda: forwarder.is_ending, "the end")
    fronts.servers[1].hurry()
    await raw.read_eof()
    await ending
    await emit(fronts, polling, 2, "p", 1)
    first = echoes(await get(fronts, polling, 2, "1"))  # the end was faster than the owner, or the owner than the end
    assert first == [1] or echoes(await get(fronts, polling, 2, "2")) == [1]
    assert ended.is_empty


@pytest.mark.parametrize("backend", ["memory"])
async def test_a_server_that_ends_without_the_link_drops_polls_so_that_they_are_sent_again(
    front: Front, fleet: Fleet
) -> None:
    fronts = await front(times=Times(finish=0.3))
    ended = Hearing(fronts.owner, "disconnection")
    polling = await fronts.handshake("account=ann&session=a&t=0")
    through = fronts.via(polling, 1)
    await hold(fronts, polling, 2, "1")
    raw = await through.client.raw()
    await raw.send_request("GET", f"{through.target}&t=1")
    await until(lambda: len(forwarder_of(fronts.servers[1])._forwarded) == 1, "the poll at the forwarder")
    fleet.given().away = True
    await fronts.servers[1].destroy()
    assert await raw.read_eof() == b""
    fleet.given().away = False
    assert ended.is_empty


# An upgrade by a server that ends


@pytest.mark.parametrize("is_probed", [False, True])
async def test_a_websocket_at_a_server_that_ends_leaves_the_session_on_polling(is_probed: bool, front: Front) -> None:
    fronts = await front(3, inbox_limit=2)
    go_on = busy(fronts)
    ended = Hearing(fronts.owner, "disconnection")
    polling = await fronts.handshake()
    assert (await polling.emit("wait")).text == "ok"
    socket = await fronts.via(polling, 1).probe()
    assert socket.response.status == 101
    if is_probed:  # it is not answered before the handler has ended
        await socket.send("2probe")
        await until(lambda: fronts.owner.node.hub.connections[Sid(polling.sid)].probe, "the probe at the owner")
    await fronts.servers[1].destroy()
    close = await socket.receive_close()
    assert (close.code, close.reason) == (1012, "server shutdown")
    go_on.set()
    assert (await fronts.via(polling, 2).emit("echo", 1)).text == "ok"
    assert echoes(await fronts.via(polling, 2).poll()) == [1]
    assert ended.is_empty


async def test_a_server_that_ends_lets_no_websocket_take_a_session_over(front: Front) -> None:
    fronts = await front(2, inbox_limit=1)
    go_on = busy(fronts)
    polling = await fronts.handshake()
    raw = await fronts.clients[1].raw()
    for _ in range(2):
        assert (await fronts.via(polling, 1).emit("wait")).text == "ok"
    post = asyncio.create_task(fronts.via(polling, 1).emit("echo", 1))
    await until(lambda: transport_of(fronts, polling)._post, "the POST at the owner")
    forwarder = forwarder_of(fronts.servers[1])
    ending = asyncio.create_task(fronts.servers[1].destroy())
    await until(lambda: forwarder.is_ending, "the end")
    fields = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
    }
    await raw.send_request("GET", f"/stream/?EIO=4&transport=websocket&sid={polling.sid}", fields)
    response = await raw.read_response()
    assert (response.status, response.json()) == (503, {"code": 3, "message": "the server is ending"})
    go_on.set()
    assert (await post).text == "ok"
    await ending
    assert echoes(await polling.poll()) == [1]


# What is forwarded


async def test_a_forwarded_poll_takes_no_fields_along_that_its_answer_does_not_need(
    front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    fronts = await front(2)
    polling = await fronts.handshake()
    through = fronts.via(polling, 1)
    fields = {
        "Cookie": "c=" + "x" * 20_000,
        "X-Long": "x" * 9_000,
        "User-Agent": "x" * 9_000,
        "Origin": "http://localhost",
    }
    raw = await through.client.raw()
    await raw.send_request("GET", f"{through.target}&account=ann&t=1&more={'x' * 7_000}", fields)
    await until(lambda: transport_of(fronts, polling)._poll, "the poll at the owner")
    (forwarded,) = forwarder_of(fronts.servers[1])._forwarded
    (exchange,) = forwarder_of(fronts.servers[0])._exchanges.values()
    item = forwarded.item()
    assert isinstance(item, Forward)
    assert item.query == "transport=polling&EIO=4&account=ann&t=1"
    assert item.headers.keys() == {"user-agent", "origin"}
    for request in (forwarded._request, exchange.request):
        kept = (*request.headers, *request.headers.values(), request.query_string, request.host, request.path)
        assert sum(map(len, kept)) < 2_000
    assert (await fronts.owner.session("ann", "a").emit("news")).ok
    assert messages(await raw.read_response()) == [{"event": "news", "args": []}]


async def test_an_account_that_is_too_long_to_be_forwarded_is_refused_all_the_same(front: Front) -> None:
    fronts = await front(2)
    polling = await fronts.handshake()
    through = fronts.via(polling, 1)
    response = await through.client.fetch("GET", f"{through.target}&account={'ann' * 2_000}")
    assert (response.status, response.json()["code"]) == (400, 3)


# Nothing is left


async def test_nothing_is_left_of_repeated_requests(front: Front) -> None:
    fronts = await front(times=Times(keep_answer=0.2))
    polling = await fronts.handshake("account=ann&session=a&t=0")
    polls = [await hold(fronts, polling, number, "1") for number in (1, 2, 1)]
    for number in (1, 2, 1):
        await emit(fronts, polling, number, "p", 1)
    assert [echoes(await poll) for poll in polls] == [[], [], [1]]
    for number in (1, 2):
        assert not forwarder_of(fronts.servers[number])._forwarded
        assert not len(cluster_of(fronts.servers[number]).requests)
    owner = forwarder_of(fronts.servers[0])
    await until(lambda: not (owner._answers or owner._last or owner._exchanges), "the end of kept answers")
    assert owner._kept == 0
