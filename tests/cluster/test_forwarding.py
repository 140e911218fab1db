"""Long-polling through any server: requests are forwarded to the one that has the connection."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from primacron import Session
from primacron.cluster.items import Answer, Forward
from primacron.ids import Sid
from primacron.times import Times
from tests.cluster.fleet import Fleet, cluster_of, forwarder_of, until
from tests.cluster.fronts import Fronts, messages, refused_with_code_1
from tests.support.engine import Polling
from tests.support.hearing import Hearing
from tests.support.http import RawConnection

BACKENDS = ("memory", "redis")

Front = Callable[..., Awaitable[Fronts]]


@pytest.fixture
def front(fleet: Fleet) -> Front:
    return lambda count=3, **options: Fronts.start(fleet, count, **options)


# What goes through


async def test_polls_and_posts_go_through_any_server(front: Front) -> None:
    fronts = await front()
    polling = await fronts.handshake()
    got: list[Any] = []
    for number in range(30):
        through = fronts.via(polling, number % 3)
        response = await through.emit("echo", number)
        assert (response.status, response.text) == (200, "ok")
        got += messages(await fronts.via(polling, (number + 1) % 3).poll())
    assert [message["args"] for message in got] == [[number] for number in range(30)]
    assert fronts.echoed == [*range(30)]


async def test_answers_to_events_come_through_any_server(front: Front) -> None:
    fronts = await front()
    polling = await fronts.handshake()
    await fronts.via(polling, 1).post('4{"event":"echo","args":["x"],"id":7}')
    assert {"ack": 7, "args": ["x"]} in messages(await fronts.via(polling, 2).poll())


async def test_a_held_poll_is_answered_through_its_forwarder(front: Front) -> None:
    fronts = await front()
    polling = await fronts.handshake()
    for number, sender in enumerate(fronts.servers):
        poll = await fronts.poll(fronts.via(polling, 1 + number % 2))
        assert (await sender.session("ann", "a").emit("news", number)).ok
        assert messages(await poll) == [{"event": "news", "args": [number]}]


async def test_a_poll_that_is_held_for_long_is_asked_for_again_and_answered_once(front: Front) -> None:
    fronts = await front(2, times=Times(forward_again=0.1))
    polling = await fronts.handshake()
    poll = await fronts.poll(fronts.via(polling, 1))
    exchanges = forwarder_of(fronts.owner)
    (exchange,) = exchanges._exchanges.values()
    told = 0
    tell = exchange.tell

    def count() -> None:
        nonlocal told
        told += 1
        tell()

    exchange.tell = count  # type: ignore[method-assign]
    await until(lambda: told >= 3, "three questions for the answer")
    assert not poll.done()
    fronts.owner.session("ann", "a").emit("news")
    assert messages(await poll) == [{"event": "news", "args": []}]
    assert fronts.held(polling) is False


async def test_a_client_of_a_server_that_has_just_begun_is_forwarded_at_once(fleet: Fleet, front: Front) -> None:
    fronts = await front(2)
    newcomer = fleet.new()
    client = await fleet.serve(newcomer)
    fleet.servers.append(newcomer)
    polling = await client.poll_in("account=ann&session=new")
    poll = asyncio.create_task(fronts.via(polling, 1).poll())
    await until(lambda: newcomer.node.hub.connections[Sid(polling.sid)].transport.ready, "the poll at the newcomer")
    newcomer.everyone.emit("news")
    assert messages(await poll) == [{"event": "news", "args": []}]
    await newcomer.destroy()


@pytest.mark.parametrize("size", [10_000, 100_000, 999_990])
async def test_large_posts_and_answers_come_whole(front: Front, size: int) -> None:
    fronts = await front()
    polling = await fronts.handshake()
    text = "x" * (size - 40)
    assert (await fronts.via(polling, 1).emit("echo", text)).text == "ok"
    assert messages(await fronts.via(polling, 2).poll())[0]["args"] == [text]
    assert fronts.echoed == [text]


async def test_a_compressed_post_is_415_and_the_session_lives(front: Front) -> None:
    fronts = await front(2)
    refused = Hearing(fronts.servers[1], "error::protocol")
    polling = await fronts.handshake()
    body = gzip.compress(b'4{"event":"echo","args":[1]}')
    response = await fronts.via(polling, 1).post(body, {"Content-Encoding": "gzip"})
    assert (response.status, response.json()["code"]) == (415, 3)
    await refused.next()
    assert (await fronts.via(polling, 1).emit("echo", 1)).text == "ok"
    assert fronts.echoed == [1]


async def test_a_post_that_is_too_large_is_413_and_the_session_lives(front: Front) -> None:
    fronts = await front(2)
    refused = Hearing(fronts.servers[1], "error::protocol")
    polling = await fronts.handshake()
    response = await fronts.via(polling, 1).post("4" + "x" * 1_000_000)
    assert response.status == 413
    assert response.json()["code"] == 3
    await refused.next()
    assert (await fronts.via(polling, 1).emit("echo", 1)).text == "ok"
    assert fronts.echoed == [1]


async def test_clients_of_protocol_3_and_their_binary_payloads_go_through(fleet: Fleet) -> None:
    servers = [fleet.new(dialect="raw") for _ in range(2)]
    for server in servers:

        @server.event("message")
        def echo(session: Session, value: str | bytes) -> None:
            session.emit("message", value)

    await fleet.start(*servers)
    fronts = Fronts(servers, [await fleet.serve(server) for server in servers])
    polling = await fronts.handshake(eio=3)
    through = fronts.via(polling, 1, eio=3)
    assert (await through.post("7:4text é")).text == "ok"
    assert (await through.poll()).text == "7:4text é"
    body = bytes([1, 4, 255, 4, 1, 0, 255])
    assert (await through.post(body, {"Content-Type": "application/octet-stream"})).text == "ok"
    response = await through.poll()
    assert (response.headers["content-type"], response.body) == ("application/octet-stream", body)
    assert (await through.post("1:2")).text == "ok"
    assert (await through.poll()).text == "1:3"


async def test_binary_messages_of_protocol_4_go_through(front: Front) -> None:
    fronts = await front(2)
    polling = await fronts.handshake("account=ann&session=a&format=msgpack")
    through = fronts.via(polling, 1)
    packed = "gqVldmVudKRlY2hvpGFyZ3ORAQ=="  # {"event": "echo", "args": [1]}
    assert (await through.post("b" + packed)).text == "ok"
    assert (await through.poll()).text == "b" + packed


async def test_pages_of_other_origins_get_their_headers_through_any_server(front: Front) -> None:
    fronts = await front(2, origins=["https://page.example"])
    polling = await fronts.handshake()
    origin = {"Origin": "https://page.example"}
    through = fronts.via(polling, 1)
    answers = [
        await through.post('4{"event":"echo","args":[1]}', origin),
        await fronts.clients[1].fetch("GET", through.target, origin),
        await fronts.clients[1].fetch("OPTIONS", through.target, origin),
        await fronts.clients[1].fetch("GET", through.target + "x", origin),
    ]
    assert [answer.status for answer in answers] == [200, 200, 204, 400]
    for answer in answers:
        assert answer.headers["access-control-allow-origin"] == "https://page.example"
        assert answer.headers["access-control-allow-credentials"] == "true"
    refused = await fronts.clients[1].fetch("GET", through.target, {"Origin": "https://other.example"})
    assert refused.status == 400
    assert "other.example" in refused.json()["message"]


async def test_answers_are_compressed_for_clients_that_take_it(front: Front) -> None:
    fronts = await front(2, gzip_threshold=100)
    polling = await fronts.handshake()
    through = fronts.via(polling, 1)
    for headers, is_compressed in (({"Accept-Encoding": "gzip"}, True), ({}, False)):
        await through.emit("echo", "x" * 1_000)
        response = await fronts.clients[1].fetch("GET", through.target, headers)
        assert response.headers.get("content-encoding") == ("gzip" if is_compressed else None)
        body = gzip.decompress(response.body) if is_compressed else response.body
        assert json.loads(body[1:])["args"] == ["x" * 1_000]


# Each request once


async def forwarded(fronts: Fronts, polling: Polling, method: str, body: bytes = b"") -> tuple[Forward, Answer]:
    """Carry a request by hand from the second server; return it with its answer."""
    cluster, made = cluster_of(fronts.servers[1]), []

    def make(number: int) -> Forward:
        query = polling.target.partition("?")[2]
        item = Forward(
            number, cluster.node, Sid(polling.sid), method, "/stream/", query, {}, "127.0.0.1", False, "localhost", body
        )
        made.append(item)
        return item

    answer = await cluster.asked(fronts.owner.node.id, make, 5)
    return made[0], answer


async def repeat(fronts: Fronts, item: Forward) -> None:
    """Carry a request once more, and wait until it was answered."""
    forwarder = fronts.servers[1]
    before = forwarder.metrics["bus_answers_unknown"]
    cluster_of(forwarder).tell(fronts.owner.node.id, item)
    await until(lambda: forwarder.metrics["bus_answers_unknown"] > before, "the repeated answer")


async def test_a_request_that_comes_twice_is_handled_once_and_answered_twice(front: Front) -> None:
    fronts = await front(2)
    polling = await fronts.handshake()
    for number in range(3):
        item, answer = await forwarded(fronts, polling, "POST", b'4{"event":"echo","args":[%d]}' % number)
        assert answer.status == "answered"
        await repeat(fronts, item)
        await repeat(fronts, item)
    assert fronts.echoed == [0, 1, 2]
    item, answer = await forwarded(fronts, polling, "GET")
    assert answer.status == "answered"
    await repeat(fronts, item)
    await fronts.via(polling, 1).emit("echo", 3)
    assert [message["args"] for message in messages(await fronts.via(polling, 1).poll())] == [[3]]


async def test_a_poll_that_comes_twice_while_it_is_held_is_no_second_poll(front: Front) -> None:
    fronts = await front(2)
    polling = await fronts.handshake()
    poll = await fronts.poll(fronts.via(polling, 1))
    (forwarded,) = forwarder_of(fronts.servers[1])._forwarded
    item = forwarded.item()
    for _ in range(3):
        cluster_of(fronts.servers[1]).tell(fronts.owner.node.id, item)
    assert (await fronts.servers[1].session("ann", "a").emit("news")).ok
    assert messages(await poll) == [{"event": "news", "args": []}]
    assert fronts.owner.metrics["error::protocol"] == 0


async def test_what_a_node_says_that_was_asked_before_ends_no_request(front: Front) -> None:
    fronts = await front()
    polling = await fronts.handshake()
    poll = await fronts.poll(fronts.via(polling, 1))
    (forwarded,) = forwarder_of(fronts.servers[1])._forwarded
    for status in ("elsewhere", "again", "unknown"):
        forwarded.answered(Answer(forwarded.id, status), fronts.servers[2].node.id)
    assert (await fronts.owner.session("ann", "a").emit("news")).ok
    assert messages(await poll) == [{"event": "news", "args": []}]


# Who breaks the rules, or goes away


async def test_a_poll_that_its_client_gives_up_at_the_forwarder_ends_the_session(front: Front) -> None:
    fronts = await front(2)
    ended = Hearing(fronts.owner, "disconnection")
    polling = await fronts.handshake()
    raw = await fronts.clients[1].raw()
    await raw.send_request("GET", fronts.via(polling, 1).target)
    await until(lambda: fronts.held(polling), "the poll at the owner")
    raw.abort()
    assert (await ended.next())[1] == "transport close"
    await refused_with_code_1(fronts.via(polling, 1))


async def test_a_second_post_while_one_waits_ends_the_session(front: Front, fleet: Fleet) -> None:
    fronts = await front(inbox_limit=1)
    go_on = asyncio.Event()

    @fronts.owner.event("wait")
    async def wait(session: Session) -> None:
        await go_on.wait()

    ended = Hearing(fronts.owner, "disconnection")
    polling = await fronts.handshake()
    for _ in range(2):
        assert (await fronts.via(polling, 1).emit("wait")).text == "ok"
    raw = await fronts.clients[1].raw()
    await raw.send_request("POST", fronts.via(polling, 1).target, body=b"4{}")
    connection = fronts.owner.node.hub.connections[Sid(polling.sid)]
    await until(lambda: connection.transport._post is not None, "the POST at the owner")  # type: ignore[attr-defined]
    second = await fronts.via(polling, 2).emit("wait")
    assert (second.status, second.body) == (400, b"")
    assert await raw.read_eof() == b""
    go_on.set()
    assert (await ended.next())[1] == "transport error"


async def test_a_broken_payload_ends_the_session_and_nothing_of_it_is_handled(front: Front) -> None:
    fronts = await front(2)
    ended = Hearing(fronts.owner, "disconnection")
    polling = await fronts.handshake()
    response = await fronts.via(polling, 1).post('4{"event":"echo","args":[1]}\x1e9')
    assert response.status == 400
    assert (await ended.next())[1] == "parse error"
    assert fronts.echoed == []


async def test_a_goodbye_and_the_last_answer_go_through(front: Front) -> None:
    fronts = await front(2)
    ended = Hearing(fronts.owner, "disconnection")
    polling = await fronts.handshake()
    poll = await fronts.poll(fronts.via(polling, 1))
    assert (await fronts.via(polling, 1).post("1")).text == "ok"
    assert (await poll).text == "6"
    assert (await ended.next())[1] == "client close"


async def test_a_disconnect_is_told_by_the_next_poll_through_any_server(front: Front) -> None:
    fronts = await front(2)
    polling = await fronts.handshake()
    target = fronts.servers[1].session("ann", "a")
    target.emit("last", "words")
    assert (await target.disconnect("bye")).ok
    assert (await fronts.via(polling, 1).poll()).text == '4{"event":"last","args":["words"]}\x1e1'
    await refused_with_code_1(fronts.via(polling, 1))


async def test_another_account_or_method_is_refused_through_any_server(front: Front) -> None:
    fronts = await front(2)
    polling = await fronts.handshake()
    client, target = fronts.clients[1], fronts.via(polling, 1).target
    other = await client.fetch("GET", target + "&account=bob")
    assert (other.status, other.json()["code"]) == (400, 3)
    for method in ("PUT", "DELETE", "HEAD"):
        assert (await client.fetch(method, target)).status == 400
    assert (await client.fetch("POST", target + "&account=ann", body=b'4{"event":"echo","args":[1]}')).status == 200
    assert fronts.echoed == [1]


# Nothing is left


async def test_nothing_is_left_of_forwarded_requests(front: Front) -> None:
    fronts = await front(2, times=Times(keep_answer=0.2))
    polling = await fronts.handshake()
    for number in range(5):
        await fronts.via(polling, 1).emit("echo", number)
        await fronts.via(polling, 1).poll()
    raw: RawConnection = await fronts.clients[1].raw()
    await raw.send_request("GET", fronts.via(polling, 1).target)
    await until(lambda: fronts.held(polling), "the poll at the owner")
    raw.abort()
    owner, forwarder = forwarder_of(fronts.owner), forwarder_of(fronts.servers[1])
    await until(lambda: not forwarder._forwarded and not owner._exchanges, "the end of all requests")
    await until(lambda: not owner._answers and not owner._last, "the end of kept answers")
    assert (forwarder._bytes, owner._kept) == (0, 0)
    assert not len(cluster_of(fronts.servers[1]).requests)


async def test_many_forwarded_polls_leave_no_more_deadlines_than_one(front: Front) -> None:
    fronts = await front(2)
    polling = await fronts.handshake()
    set_before = 0
    for number in range(20):
        fronts.owner.session("ann", "a").emit("news", number)
        assert messages(await fronts.via(polling, 1).poll()) == [{"event": "news", "args": [number]}]
        set_before = set_before or len(fronts.owner.node.hub.wheel)
    assert len(fronts.owner.node.hub.wheel) <= set_before


async def test_answers_are_kept_within_a_limit_and_bodies_not_at_all(front: Front) -> None:
    fronts = await front(2, outbox_total=200_000, outbox_limit=100_000)
    exchanges = forwarder_of(fronts.owner)
    for number in range(5):
        polling = await fronts.handshake(f"account=ann&session={number}")
        assert (await fronts.via(polling, 1).emit("echo", "x" * 90_000)).text == "ok"
        assert len(messages(await fronts.via(polling, 1).poll())[0]["args"][0]) == 90_000
    assert 0 < exchanges._kept <= 200_000
    assert exchanges._kept == sum(exchange.size for exchange in exchanges._answers.values())
    assert {exchange._body for exchange in exchanges._answers.values()} == {b""}
