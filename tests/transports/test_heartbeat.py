"""Heartbeats: who sends them, what answers them, and what happens when nobody does. Intervals below a second work."""

from __future__ import annotations

import asyncio

import pytest

from tests.conftest import Serve
from tests.support.hearing import Hearing
from tests.transports.servers import UNKNOWN, echo_server, error_of
from tests.transports.test_polling import begin_poll
from tests.transports.test_upgrade import session_of

SHORT = {"ping_interval": 0.3, "ping_timeout": 0.2}


async def test_the_server_pings_and_pongs_keep_polling_alive(kind: str, serve: Serve) -> None:
    polling = await (await serve(echo_server(**SHORT))).poll_in()
    for _ in range(3):
        assert (await polling.poll()).text == "2"
        assert (await polling.post("3")).text == "ok"


async def test_the_server_pings_and_pongs_keep_a_websocket_alive(kind: str, serve: Serve) -> None:
    socket = await (await serve(echo_server(**SHORT))).websocket()
    await socket.receive()
    for _ in range(3):
        assert await socket.receive() == "2"
        await socket.send("3")


async def test_other_packets_are_no_pong(kind: str, serve: Serve) -> None:
    server = echo_server(**SHORT)
    ends = Hearing(server, "disconnection")
    socket = await (await serve(server)).websocket()
    await socket.receive()
    assert await socket.receive() == "2"
    for packet in ("4hi", "6"):
        await socket.send(packet)
    close = await socket.receive_close()
    assert (close.code, close.reason) == (1001, "ping timeout")
    session, reason = await ends.next()
    assert (session.data, reason) == (["hi"], "ping timeout")


async def test_a_poll_that_waits_hears_of_the_missed_pong(kind: str, serve: Serve) -> None:
    server = echo_server(**SHORT)
    ends = Hearing(server, "disconnection")
    polling = await (await serve(server)).poll_in()
    assert (await polling.poll()).text == "2"
    assert (await polling.poll()).text == "1"
    assert (await ends.next())[1] == "ping timeout"
    assert error_of(await polling.poll()) == UNKNOWN


async def test_a_client_that_does_not_poll_is_given_up(kind: str, serve: Serve) -> None:
    server = echo_server(**SHORT)
    ends = Hearing(server, "disconnection")
    polling = await (await serve(server)).poll_in()
    assert (await ends.next())[1] == "ping timeout"
    assert server.node.hub.connections == {}
    assert error_of(await polling.poll()) == UNKNOWN


async def test_past_its_deadline_a_session_is_gone_for_whoever_asks(kind: str, serve: Serve) -> None:
    server = echo_server(**SHORT)
    client = await serve(server)
    polling = await client.poll_in()
    assert (await polling.poll()).text == "2"
    # It is the time that passes here; the clock of the event loop counts milliseconds.
    await asyncio.sleep(SHORT["ping_timeout"] + 0.002)
    first, second = await asyncio.gather(polling.post("3"), polling.poll())
    assert error_of(first) == UNKNOWN
    assert error_of(second) == UNKNOWN
    assert error_of((await polling.probe()).response) == UNKNOWN


@pytest.mark.parametrize("eio", [4, 3])
async def test_a_client_that_only_waited_is_gone_after_interval_and_timeout(eio: int, kind: str, serve: Serve) -> None:
    server = echo_server(**SHORT)
    client = await serve(server)
    for _ in range(4):  # whatever the place of the handshake between two looks of the server at its deadlines
        polling = await client.poll_in(eio=eio)
        # It is the time that passes here; the clock of the event loop counts milliseconds.
        await asyncio.sleep(SHORT["ping_interval"] + SHORT["ping_timeout"] + 0.001)
        assert error_of(await polling.poll()) == UNKNOWN
        await asyncio.sleep(0.013)


async def test_a_pong_that_nobody_asked_for_is_accepted(kind: str, serve: Serve) -> None:
    polling = await (await serve(echo_server())).poll_in()
    assert (await polling.post("3\x1e3\x1e4hi\x1e3")).text == "ok"
    assert (await polling.poll()).text == "4hi"


async def test_in_protocol_3_the_client_pings_and_the_server_answers(kind: str, serve: Serve) -> None:
    client = await serve(echo_server(**SHORT))
    polling = await client.poll_in(eio=3)
    socket = await client.websocket_to("/stream/?EIO=3&transport=websocket&account=a")
    await socket.receive()
    for _ in range(3):
        assert (await polling.post("1:2")).text == "ok"
        assert (await polling.poll()).text == "1:3"
        await socket.send("2")
        assert await socket.receive() == "3"


async def test_in_protocol_3_a_client_that_does_not_ping_is_given_up(kind: str, serve: Serve) -> None:
    server = echo_server(**SHORT)
    ends = Hearing(server, "disconnection")
    client = await serve(server)
    waiting = await begin_poll(await client.poll_in(eio=3))
    socket = await client.websocket_to("/stream/?EIO=3&transport=websocket&account=a")
    await socket.receive()
    close = await socket.receive_close()
    assert (close.code, close.reason) == (1001, "ping timeout")
    assert (await waiting.read_response()).text == "1:1"
    assert [(await ends.next())[1] for _ in range(2)] == ["ping timeout"] * 2


async def test_in_protocol_3_a_pong_of_the_client_breaks_the_rules(kind: str, serve: Serve) -> None:
    server = echo_server()
    ends = Hearing(server, "disconnection")
    socket = await (await serve(server)).websocket_to("/stream/?EIO=3&transport=websocket&account=a")
    await socket.receive()
    await socket.send("3")
    assert (await socket.receive_close()).code == 1002
    assert (await ends.next())[1] == "parse error"


async def test_pings_to_a_primus_client_carry_its_own(kind: str, serve: Serve) -> None:
    server = echo_server(**SHORT)
    socket = await (await serve(server)).websocket("account=a&_primuscb=x")
    await socket.receive()
    for _ in range(2):
        assert await socket.receive() == "2"
        ping = await socket.receive()
        assert str(ping).startswith('4"primus::ping::')
        await socket.send("3")
        await socket.send(str(ping).replace("ping", "pong"))
    assert session_of(server).data == []
