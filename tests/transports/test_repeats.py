"""Requests that are sent again, as proxies and browsers do: each is handled once, and no answer is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from primacron import Primacron, Session
from primacron.ids import Sid
from primacron.transports.polling import Polling as PollingTransport
from tests.conftest import Serve
from tests.support.engine import Polling
from tests.support.hearing import Hearing
from tests.support.http import RawConnection, Response
from tests.transports.servers import UNKNOWN, echo_server, error_of


async def get(polling: Polling, stamp: str, headers: dict[str, str] | None = None) -> Response:
    """Poll with a ``t``."""
    return await polling.client.fetch("GET", f"{polling.target}&t={stamp}", headers)


async def post(polling: Polling, stamp: str, body: str) -> Response:
    """Send a POST with a ``t``."""
    return await polling.client.fetch("POST", f"{polling.target}&t={stamp}", None, body.encode())


async def held(polling: Polling, stamp: str, method: str = "GET", body: bytes | None = None) -> RawConnection:
    """Send a request that is not answered at once, and wait until the server has read it."""
    raw = await polling.client.raw()
    await raw.send_request(method, f"{polling.target}&t={stamp}", None, body)
    for _ in range(3):
        assert (await polling.client.fetch("OPTIONS", polling.target)).status == 204
    return raw


def transport_of(server: Primacron, polling: Polling) -> PollingTransport:
    """Return what carries a connection."""
    transport = server.node.hub.connections[Sid(polling.sid)].transport
    assert isinstance(transport, PollingTransport)
    return transport


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what no event tells."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.002)


def waiting_server() -> tuple[Primacron, asyncio.Event]:
    """Return a server whose sessions have enough to do with one message, until the event is set."""
    server = echo_server(inbox_limit=1)
    go_on = asyncio.Event()

    @server.on("stream::message")
    async def wait(session: Session, content: str | bytes) -> None:
        await go_on.wait()

    return server, go_on


# GET


async def test_a_repeated_poll_gets_the_answer_that_it_had(kind: str, serve: Serve) -> None:
    polling = await (await serve(echo_server())).poll_in("account=a&t=0")
    await post(polling, "p1", "4a")
    first = await get(polling, "1")
    await post(polling, "p2", "4b")
    assert first.text == "4a"
    for _ in range(3):
        again = await get(polling, "1")
        assert (again.text, again.headers["content-type"]) == ("4a", first.headers["content-type"])
    assert (await get(polling, "2")).text == "4b"


async def test_a_poll_that_is_repeated_while_it_waits_gives_way_to_the_repeat(kind: str, serve: Serve) -> None:
    polling = await (await serve(echo_server())).poll_in("account=a&t=0")
    polls = [await held(polling, "1") for _ in range(3)]
    assert [(await poll.read_response()).text for poll in polls[:2]] == ["6", "6"]
    await post(polling, "p", "4a")
    assert (await polls[2].read_response()).text == "4a"
    assert (await get(polling, "1")).text == "4a"


async def test_a_repeat_that_comes_behind_the_next_poll_disturbs_nothing(kind: str, serve: Serve) -> None:
    polling = await (await serve(echo_server())).poll_in("account=a&t=0")
    await post(polling, "p1", "4a")
    assert (await get(polling, "1")).text == "4a"
    poll = await held(polling, "2")
    assert (await get(polling, "1")).text == "6"
    await post(polling, "p2", "4b")
    assert (await poll.read_response()).text == "4b"


async def test_a_second_poll_of_a_stamped_sid_ends_the_connection(kind: str, serve: Serve) -> None:
    server = echo_server()
    ends = Hearing(server, "disconnection")
    polling = await (await serve(server)).poll_in("account=a&t=0")
    first = await held(polling, "1")
    second = await get(polling, "2")
    assert (second.status, second.body) == (400, b"")
    assert (await first.read_response()).text == "1"
    assert (await ends.next())[1] == "transport error"
    assert error_of(await get(polling, "1")) == UNKNOWN


async def test_a_repeated_poll_that_its_client_gives_up_ends_nothing(kind: str, serve: Serve) -> None:
    polling = await (await serve(echo_server())).poll_in("account=a&t=0")
    first, second = await held(polling, "1"), await held(polling, "1")
    assert (await first.read_response()).text == "6"
    first.abort()
    await post(polling, "p", "4a")
    assert (await second.read_response()).text == "4a"


@pytest.mark.parametrize("stamp", ["0", "x" * 65], ids=["same", "too long"])
async def test_without_different_stamps_nothing_is_a_repeat(stamp: str, kind: str, serve: Serve) -> None:
    server = echo_server()
    ends = Hearing(server, "disconnection")
    polling = await (await serve(server)).poll_in("account=a&t=0")
    for text in "ab":
        assert (await post(polling, stamp, f"4{text}")).text == "ok"
        assert (await get(polling, stamp)).text == f"4{text}"
    first = await held(polling, stamp)
    assert (await get(polling, stamp)).status == 400
    assert (await first.read_response()).text == "1"
    assert (await ends.next())[1] == "transport error"


# POST


async def test_a_repeated_post_is_handled_once(kind: str, serve: Serve) -> None:
    server = echo_server()
    polling = await (await serve(server)).poll_in("account=a&t=0")
    for stamp, text in (("p1", "a"), ("p1", "a"), ("p2", "b"), ("p2", "b"), ("p1", "a"), ("p3", "c"), ("p2", "b")):
        response = await post(polling, stamp, f"4{text}")
        assert (response.status, response.text, response.headers["content-type"]) == (200, "ok", "text/html")
    assert (await get(polling, "1")).text == "4a\x1e4b\x1e4c"


async def test_a_post_that_is_repeated_while_it_waits_is_handled_once_and_answered_twice(
    kind: str, serve: Serve
) -> None:
    server, go_on = waiting_server()
    polling = await (await serve(server)).poll_in("account=a&t=0")
    assert (await post(polling, "p1", "4a\x1e4b")).text == "ok"
    first, second = [await held(polling, "p2", "POST", b"4c") for _ in range(2)]
    go_on.set()
    assert [(await each.read_response()).text for each in (first, second)] == ["ok", "ok"]
    assert (await post(polling, "p3", "4d")).text == "ok"
    session = next(iter(server.node.hub.sessions))
    assert session.data == ["a", "b", "c", "d"]


async def test_a_repeated_post_takes_the_place_of_one_that_is_given_up(kind: str, serve: Serve) -> None:
    server = echo_server()
    polling = await (await serve(server)).poll_in("account=a&t=0")
    first = await polling.client.raw()
    await first.send_request("POST", f"{polling.target}&t=p", {"Content-Length": "2"}, b"4")
    transport = transport_of(server, polling)
    await until(lambda: transport._post is not None)
    second = await held(polling, "p", "POST", b"4a")
    assert transport._twin is not None
    first.abort()
    assert (await second.read_response()).text == "ok"
    assert (await get(polling, "1")).text == "4a"


async def test_a_repeated_post_is_answered_when_the_session_ends(kind: str, serve: Serve) -> None:
    server, go_on = waiting_server()
    polling = await (await serve(server)).poll_in("account=a&t=0")
    assert (await post(polling, "p1", "4a\x1e4b")).text == "ok"
    posts = [await held(polling, "p2", "POST", b"4c") for _ in range(2)]
    next(iter(server.node.hub.sessions)).disconnect("enough")
    assert [error_of(await each.read_response()) for each in posts] == [UNKNOWN, UNKNOWN]
    go_on.set()


async def test_a_post_that_was_too_large_is_so_again(kind: str, serve: Serve) -> None:
    polling = await (await serve(echo_server(max_payload=1000))).poll_in("account=a&t=0")
    for _ in range(2):
        assert (await post(polling, "p", "4" + "x" * 1000)).status == 413
    assert (await post(polling, "q", "4a")).text == "ok"
    assert (await get(polling, "1")).text == "4a"


# What is kept


async def test_the_last_answers_of_all_have_a_limit_and_the_oldest_makes_room(kind: str, serve: Serve) -> None:
    server = echo_server(outbox_total=25_000, outbox_limit=20_000)
    ends = Hearing(server, "disconnection")
    client = await serve(server)
    pollings = [await client.poll_in(f"account={number}&t=0") for number in range(3)]
    for polling in pollings:
        await post(polling, "p", "4" + "x" * 9_999)
        assert len((await get(polling, "1")).body) == 10_000
    answers = server.node.hub.answers
    assert (len(answers), answers.size) == (2, 20_000)
    lost = await get(pollings[0], "1")
    assert (lost.status, lost.body) == (400, b"")
    assert (await ends.next())[1] == "transport error"
    assert [len((await get(polling, "1")).body) for polling in pollings[1:]] == [10_000, 10_000]
    poll = await held(pollings[1], "2")
    assert (len(answers), answers.size) == (1, 10_000)
    assert (await post(pollings[2], "q", "1")).text == "ok"
    assert (len(answers), answers.size) == (0, 0)
    poll.abort()


async def test_an_upgraded_connection_keeps_no_answer_of_its_polls(kind: str, serve: Serve) -> None:
    server = echo_server()
    polling = await (await serve(server)).poll_in("account=a&t=0")
    await post(polling, "p", "4" + "x" * 9_999)
    await get(polling, "1")
    assert len(server.node.hub.answers) == 1
    socket = await polling.probe()
    await socket.send("2probe")
    assert await socket.receive() == "3probe"
    await socket.send("5")
    await socket.send("4b")
    assert await socket.receive() == "4b"
    assert len(server.node.hub.answers) == 0


async def test_a_poll_that_waits_keeps_no_fields_that_its_answer_does_not_need(kind: str, serve: Serve) -> None:
    server = echo_server(gzip_threshold=100, origins=["https://page.example"])
    polling = await (await serve(server)).poll_in()
    fields = {
        "Accept-Encoding": "gzip",
        "Origin": "https://page.example",
        "Cookie": "c=" + "x" * 20_000,
        "X-Long": "x" * 9_000,
        "User-Agent": "x" * 9_000,
    }
    raw = await polling.client.raw()
    await raw.send_request("GET", f"{polling.target}&more={'x' * 7_000}", fields)
    transport = transport_of(server, polling)
    await until(lambda: transport._poll is not None)
    poll = transport._poll
    assert poll is not None
    request = poll.request
    assert sum(map(len, (*request.headers, *request.headers.values(), request.query_string, request.host))) < 2_000
    await polling.post("4" + "x" * 999)
    response = await raw.read_response()
    assert response.headers["access-control-allow-origin"] == "https://page.example"
    assert response.headers["content-encoding"] == "gzip"
