"""Requests of one connection at the same time, and upgrades that go wrong: at most that connection ends."""

from __future__ import annotations

import asyncio
import json

import pytest

from primacron.protocol.engine import Phase
from primacron.sessions.connection import Connection
from primacron.transports.polling import Polling as PollingTransport
from tests.hostile.arena import Arena, assert_lives, get, head, until
from tests.hostile.conftest import Attack
from tests.support.engine import SEPARATOR, Polling
from tests.support.http import RawConnection
from tests.support.websocket import CLOSE, WebSocket, encode_frame

ECHO = '4{"event":"echo","args":["%s"],"id":%d}'
ANSWER = '4{"ack":%d,"args":["%s"]}'


def connection_of(arena: Arena, account: str = "mallory") -> Connection:
    """Return the connection of the account's one session."""
    connection = arena.session(account).connection
    assert connection is not None
    return connection


async def waiting_poll(arena: Arena, polling: Polling) -> RawConnection:
    """Send a GET that the server holds."""
    connection = await arena.raw(get(polling.target))
    await arena.polling("mallory")
    return connection


async def half_post(arena: Arena, polling: Polling, framing: str, part: bytes) -> RawConnection:
    """Send a POST whose body goes no further, and wait until the server reads it."""
    post = await arena.raw(head(f"POST {polling.target} HTTP/1.1", framing) + part)
    transport = connection_of(arena).transport
    assert isinstance(transport, PollingTransport)
    await until(lambda: transport._post, "the POST")
    return post


async def probed(polling: Polling) -> WebSocket:
    """Open a websocket beside the polling and let it be probed."""
    socket = await polling.probe()
    await socket.send("2probe")
    assert await socket.receive() == "3probe"
    return socket


def assert_unknown(status: int, body: object) -> None:
    """Check the answer for a sid that is gone."""
    assert (status, body) == (400, {"code": 1, "message": "Session ID unknown"})


# GET and POST


@pytest.mark.parametrize("count", [2, 20])
async def test_a_second_poll_ends_that_session_and_every_poll_is_answered(
    kind: str, attack: Attack, count: int
) -> None:
    arena = await attack()
    polling = await arena.poll_in()
    first = await waiting_poll(arena, polling)
    others = [await arena.raw(get(polling.target)) for _ in range(count - 1)]
    assert (await first.read_response()).text == "1"
    answers = [await other.read_response() for other in others]
    assert [answer.status for answer in answers] == [400] * (count - 1)
    assert sum(1 for answer in answers if answer.body == b"") == 1
    assert await arena.reason("mallory") == "transport error"
    for _ in answers:
        await arena.error("error::protocol")
    answer = await polling.poll()
    assert_unknown(answer.status, answer.json())


@pytest.mark.parametrize("count", [2, 20])
async def test_a_second_post_ends_that_session_and_nothing_of_both_is_delivered(
    kind: str, attack: Attack, count: int
) -> None:
    arena = await attack()
    polling = await arena.poll_in()
    poll = await waiting_poll(arena, polling)
    first = await half_post(arena, polling, "Content-Length: 1000", b"4half")
    body = (ECHO % ("late", 1)).encode()
    request = head(f"POST {polling.target} HTTP/1.1", f"Content-Length: {len(body)}") + body
    others = [await arena.raw(request) for _ in range(count - 1)]
    for other in others:
        assert (await other.read_response()).status == 400
    assert (await poll.read_response()).text == "1"
    assert await arena.reason("mallory") == "transport error"
    if kind == "asgi":  # which has no way to drop a connection
        assert (await first.read_response()).status == 400
    else:
        assert await first.read_eof() == b""
    for _ in others:
        await arena.error("error::protocol")
    assert arena.is_quiet


async def test_an_aborted_poll_ends_that_session(kind: str, attack: Attack) -> None:
    arena = await attack()
    polling = await arena.poll_in()
    (await waiting_poll(arena, polling)).abort()
    assert await arena.reason("mallory") == "transport close"
    answer = await polling.poll()
    assert_unknown(answer.status, answer.json())
    await arena.error("error::protocol")


@pytest.mark.parametrize("framing", ["Content-Length: 1000", "Transfer-Encoding: chunked"])
async def test_a_post_aborted_halfway_ends_that_session_and_nothing_of_it_is_delivered(
    kind: str, attack: Attack, framing: str
) -> None:
    arena = await attack()
    polling = await arena.poll_in()
    poll = await waiting_poll(arena, polling)
    post = await half_post(arena, polling, framing, b"3e8\r\n" + (ECHO % ("half", 1)).encode())
    post.abort()
    assert await arena.reason("mallory") == "transport close"
    assert (await poll.read_response()).text == "1"
    assert arena.is_quiet


async def test_a_body_that_comes_byte_by_byte_is_read_whole(kind: str, attack: Attack) -> None:
    arena = await attack()
    polling = await arena.poll_in()
    body = SEPARATOR.join(ECHO % (text, number) for number, text in enumerate(("é€", "\U0001f600", "end"))).encode()
    post = await arena.raw(head(f"POST {polling.target} HTTP/1.1", f"Content-Length: {len(body)}"))
    for position in range(len(body)):
        await post.send(body[position : position + 1])
        await asyncio.sleep(0)
    assert (await post.read_response()).text == "ok"
    answers = (await polling.poll()).text.split(SEPARATOR)
    assert [json.loads(answer[1:])["args"] for answer in answers] == [["é€"], ["\U0001f600"], ["end"]]


async def test_a_client_that_never_reads_the_answer_to_its_poll_misses_its_ping(kind: str, attack: Attack) -> None:
    arena = await attack(ping_interval=0.4, ping_timeout=0.5)
    polling = await arena.poll_in()
    poll = await arena.raw()
    poll.writer.transport.pause_reading()  # type: ignore[attr-defined]
    await poll.send(get(polling.target))
    (await arena.polling("mallory")).emit("large", "x" * 900_000)
    assert await arena.reason("mallory") == "ping timeout"


# Upgrades


async def test_of_many_websockets_for_one_sid_at_the_same_time_one_is_not_closed(kind: str, attack: Attack) -> None:
    arena = await attack()
    polling = await arena.poll_in()
    sockets = await asyncio.gather(*(polling.probe() for _ in range(20)))
    assert [socket.response.status for socket in sockets] == [101] * 20
    for socket in sockets:
        await socket.send("2probe")
    frames = [await socket.receive_frame() for socket in sockets]
    accepted = [socket for socket, frame in zip(sockets, frames, strict=True) if frame.payload == b"3probe"]
    assert len(accepted) == 1
    assert [frame.code for frame in frames if frame.opcode == CLOSE] == [1002] * 19
    for _ in range(19):
        await arena.error("error::protocol")
    await assert_lives(polling)
    await accepted[0].send("5")
    await accepted[0].send(ECHO % ("by websocket", 1))
    assert await accepted[0].receive() == ANSWER % (1, "by websocket")
    assert arena.is_quiet


@pytest.mark.parametrize("moment", ["opened", "probed", "upgraded"])
async def test_a_websocket_for_a_sid_that_has_one_is_closed(kind: str, attack: Attack, moment: str) -> None:
    arena = await attack()
    polling = await arena.poll_in()
    socket = await (polling.probe() if moment == "opened" else probed(polling))
    if moment == "upgraded":
        await socket.send("5")
        await until(lambda: connection_of(arena).phase is Phase.UPGRADED, "the upgrade")
    for _ in range(10):
        other = await polling.probe()
        assert other.response.status == 101
        close = await other.receive_close()
        assert (close.code, close.reason) == (1002, "transport error")
        await other.close()
        error, _ = await arena.error("error::protocol")
        assert "the connection is not on polling, or another websocket is taking it over" in str(error)
    if moment == "upgraded":
        await socket.send(ECHO % ("mine", 1))
        assert await socket.receive() == ANSWER % (1, "mine")
    else:
        await assert_lives(polling)


UNPROBED: list[str | bytes] = ["5", "4{}", ECHO % ("early", 1), "2", "2probe ", "2PROBE", "3probe", "1", "6", "0{}"]
UNPROBED += ["", "٤", "b", "\x1e", b"", b"2probe", b"\x04"]


async def test_a_websocket_that_begins_with_anything_but_the_probe_is_closed_alone(kind: str, attack: Attack) -> None:
    arena = await attack()
    polling = await arena.poll_in()
    session = arena.session("mallory")
    for packet in UNPROBED:
        socket = await polling.probe()
        await socket.send(packet)
        close = await socket.receive_close()
        assert (close.code, close.reason) == (1002, "parse error"), packet
        _, context = await arena.error("error::protocol")
        assert context.session is session
        await socket.close()
        assert connection_of(arena).phase is Phase.OPEN
    await assert_lives(polling)
    assert arena.is_quiet


@pytest.mark.parametrize("reads", [True, False])
async def test_a_probe_repeated_ten_thousand_times_is_answered_and_makes_nothing_grow(
    kind: str, attack: Attack, reads: bool
) -> None:
    arena = await attack()
    polling = await arena.poll_in()
    poll = await waiting_poll(arena, polling)
    socket = await polling.probe()
    if not reads:
        socket.raw.writer.transport.pause_reading()  # type: ignore[attr-defined]
    await socket.raw.send(encode_frame(b"2probe") * 10_000)
    assert (await poll.read_response()).text == "6"
    probe = connection_of(arena).probe
    assert probe is not None
    await socket.raw.send(encode_frame(b"5") + encode_frame((ECHO % ("done", 1)).encode()))
    await until(lambda: connection_of(arena).phase is Phase.UPGRADED, "the upgrade")
    assert probe.transport.backlog() < 200_000
    if not reads:
        socket.raw.writer.transport.resume_reading()  # type: ignore[attr-defined]
    answers = 0
    while (packet := await socket.receive()) == "3probe":
        answers += 1
    assert packet == ANSWER % (1, "done")
    assert 0 < answers <= 10_000
    assert arena.is_quiet


@pytest.mark.parametrize("probes", [False, True])
async def test_a_websocket_that_falls_silent_is_closed_at_its_deadline_and_polling_lives(
    kind: str, attack: Attack, probes: bool
) -> None:
    arena = await attack(upgrade_timeout=0.2)
    polling = await arena.poll_in()
    for _ in range(3):
        socket = await (probed(polling) if probes else polling.probe())
        close = await socket.receive_close()
        assert (close.code, close.reason) == (1002, "transport error")
        await socket.close()
        assert connection_of(arena).phase is Phase.OPEN
        assert connection_of(arena).probe is None
    await assert_lives(polling)


async def test_websockets_that_come_and_go_beside_the_polling_leave_nothing(kind: str, attack: Attack) -> None:
    arena = await attack()
    polling = await arena.poll_in()
    before = arena.tables()
    for number in range(50):
        socket = await (probed(polling) if number % 2 else polling.probe())
        socket.raw.abort()
        await until(lambda: connection_of(arena).probe is None, "the end of the probe")
    await assert_lives(polling)
    await until(lambda: arena.tables().fit(before), "their end")
    assert arena.is_quiet


@pytest.mark.parametrize("who", ["client by POST", "client by a reset", "server"])
async def test_a_session_that_ends_while_it_is_probed_ends_the_websocket_too(
    kind: str, attack: Attack, who: str
) -> None:
    arena = await attack()
    polling = await arena.poll_in()
    socket = await probed(polling)
    if who == "client by POST":
        assert (await polling.post("1")).text == "ok"
        expected = (1000, "client close")
    elif who == "client by a reset":
        (await half_post(arena, polling, "Content-Length: 10", b"4")).abort()
        expected = (1000, "transport close")
    else:
        poll = await arena.raw(get(polling.target))
        assert (await poll.read_response()).text == "6"  # a probed connection holds no poll
        arena.session("mallory").disconnect("enough")
        assert (await polling.poll()).text == "1"
        expected = (1000, "enough")
    close = await socket.receive_close()
    assert (close.code, close.reason) == expected
    assert await arena.reason("mallory") == expected[1]
    answer = await polling.poll()
    assert_unknown(answer.status, answer.json())


async def test_a_ping_taken_by_polling_and_never_answered_ends_the_upgraded_session(kind: str, attack: Attack) -> None:
    arena = await attack(ping_interval=0.3, ping_timeout=0.5)
    polling = await arena.poll_in()
    assert (await polling.poll()).text == "2"
    socket = await probed(polling)
    await socket.send("5")
    await socket.send(ECHO % ("no pong", 1))
    assert await socket.receive() == ANSWER % (1, "no pong")
    close = await socket.receive_close()
    assert (close.code, close.reason) == (1001, "ping timeout")
    assert await arena.reason("mallory") == "ping timeout"


async def test_no_traffic_beside_the_pong_puts_the_deadline_off(kind: str, attack: Attack) -> None:
    arena = await attack(ping_interval=0.3, ping_timeout=0.5)
    polling = await arena.poll_in()
    assert (await polling.poll()).text == "2"
    due = connection_of(arena).due
    while not arena.ended:
        for answer in (await polling.post(ECHO % ("busy", 1)), await polling.post("6"), await polling.poll()):
            if answer.status != 200:
                break
        else:
            assert arena.ended or connection_of(arena).due == due
            socket = await polling.probe()
            if socket.response.status == 101:
                await socket.send("2probe")
            await socket.close()
            await until(lambda: arena.ended or connection_of(arena).probe is None, "the end of the probe")
    assert await arena.reason("mallory") == "ping timeout"
