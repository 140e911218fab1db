"""The end of a connection, by each side, in every state it can be in."""

from __future__ import annotations

import pytest

from primacron.protocol.engine import Phase
from tests.conftest import Serve
from tests.support.hearing import Hearing
from tests.transports.servers import UNKNOWN, echo_server, error_of
from tests.transports.test_polling import begin_poll, begin_post, reached
from tests.transports.test_upgrade import phase_of, probed, session_of, upgraded


async def test_a_client_closes_by_post(kind: str, serve: Serve) -> None:
    server = echo_server()
    ends = Hearing(server, "disconnection")
    polling = await (await serve(server)).poll_in()
    waiting = await begin_poll(polling)
    assert (await polling.post("1")).text == "ok"
    assert (await ends.next())[1] == "client close"
    assert (await waiting.read_response()).text == "6"
    for response in (await polling.poll(), await polling.post("4late")):
        assert error_of(response) == UNKNOWN


async def test_a_client_that_closes_without_a_poll_leaves_nothing(kind: str, serve: Serve) -> None:
    server = echo_server()
    polling = await (await serve(server)).poll_in()
    assert (await polling.post("1")).text == "ok"
    assert server.node.hub.connections == {}
    assert error_of(await polling.poll()) == UNKNOWN


async def test_a_client_that_closes_while_it_is_probed_closes_both(kind: str, serve: Serve) -> None:
    server = echo_server()
    ends = Hearing(server, "disconnection")
    polling = await (await serve(server)).poll_in()
    socket = await probed(polling)
    assert (await polling.post("1")).text == "ok"
    close = await socket.receive_close()
    assert (close.code, close.reason) == (1000, "client close")
    assert (await ends.next())[1] == "client close"


async def test_a_client_closes_by_websocket(kind: str, serve: Serve) -> None:
    server = echo_server()
    ends = Hearing(server, "disconnection")
    _, socket = await upgraded(await serve(server))
    await socket.send("1")
    close = await socket.receive_close()
    assert (close.code, close.reason) == (1000, "client close")
    assert (await ends.next())[1] == "client close"


async def test_a_client_that_goes_away_ends_its_session_at_once(kind: str, serve: Serve) -> None:
    server = echo_server()
    ends = Hearing(server, "disconnection")
    _, socket = await upgraded(await serve(server))
    socket.raw.abort()
    assert (await ends.next())[1] == "transport close"
    assert server.node.hub.connections == {}


async def test_the_server_closes_into_the_waiting_poll(kind: str, serve: Serve) -> None:
    server = echo_server()
    ends = Hearing(server, "disconnection")
    polling = await (await serve(server)).poll_in()
    waiting = await begin_poll(polling)
    session = session_of(server)
    session.emit("message", "last words")
    session.disconnect("enough")
    assert (await waiting.read_response()).text == "4last words\x1e1"
    assert (await ends.next())[1] == "enough"
    assert error_of(await polling.poll()) == UNKNOWN


async def test_the_server_closes_into_the_next_poll(kind: str, serve: Serve) -> None:
    server = echo_server()
    ends = Hearing(server, "disconnection")
    polling = await (await serve(server)).poll_in()
    session = session_of(server)
    session.emit("message", "last words")
    session.disconnect("enough")
    session.emit("message", "too late")
    assert (await ends.next())[1] == "enough"
    assert server.count() == 0
    assert error_of(await polling.post("4late")) == UNKNOWN
    assert (await polling.poll()).text == "4last words\x1e1"
    assert error_of(await polling.poll()) == UNKNOWN
    assert server.node.hub.connections == {}


async def test_last_packets_are_kept_for_one_heartbeat_only(kind: str, serve: Serve) -> None:
    server = echo_server(ping_interval=0.1, ping_timeout=0.1)
    polling = await (await serve(server)).poll_in()
    session_of(server).disconnect("enough")
    while server.node.hub.connections:
        await reached(polling)
    assert error_of(await polling.poll()) == UNKNOWN


async def test_a_post_under_way_when_the_server_closes_is_answered(kind: str, serve: Serve) -> None:
    server = echo_server()
    polling = await (await serve(server)).poll_in()
    post = await begin_post(polling, 9)
    session = session_of(server)
    session.disconnect("enough")
    await post.send(b"body")
    assert error_of(await post.read_response()) == UNKNOWN
    assert session.data == []
    assert (await polling.poll()).text == "1"


async def test_the_server_closes_while_a_websocket_waits_to_be_probed(kind: str, serve: Serve) -> None:
    server = echo_server()
    polling = await (await serve(server)).poll_in()
    socket = await polling.probe()
    await reached(polling)
    session = session_of(server)
    session.emit("message", "last words")
    session.disconnect("enough")
    close = await socket.receive_close()
    assert (close.code, close.reason) == (1000, "enough")
    assert (await polling.poll()).text == "4last words\x1e1"


async def test_the_server_closes_while_it_is_probed_and_the_websocket_takes_the_rest(kind: str, serve: Serve) -> None:
    server = echo_server()
    ends = Hearing(server, "disconnection")
    polling = await (await serve(server)).poll_in()
    socket = await probed(polling)
    session = session_of(server)
    session.emit("message", "last words")
    session.disconnect("enough")
    assert (await ends.next())[1] == "enough"
    await socket.send("5")
    assert await socket.receive() == "4last words"
    close = await socket.receive_close()
    assert (close.code, close.reason) == (1000, "enough")
    assert error_of(await polling.poll()) == UNKNOWN
    assert server.node.hub.connections == {}


async def test_the_server_closes_while_it_is_probed_and_a_poll_takes_the_rest(kind: str, serve: Serve) -> None:
    server = echo_server()
    polling = await (await serve(server)).poll_in()
    socket = await probed(polling)
    session = session_of(server)
    session.emit("message", "last words")
    session.disconnect("enough")
    assert (await polling.poll()).text == "4last words\x1e1"
    close = await socket.receive_close()
    assert (close.code, close.reason) == (1000, "enough")
    assert server.node.hub.connections == {}


@pytest.mark.parametrize("packet", ["4early", "2probe", "2"])
async def test_what_else_a_probed_websocket_sends_after_the_end_closes_it(packet: str, kind: str, serve: Serve) -> None:
    server = echo_server()
    polling = await (await serve(server)).poll_in()
    socket = await probed(polling)
    session = session_of(server)
    session.disconnect("enough")
    await socket.send(packet)
    assert (await socket.receive_close()).code == 1002
    assert session.data == []
    assert (await polling.poll()).text == "1"


async def test_the_server_closes_a_websocket_behind_its_last_words(kind: str, serve: Serve) -> None:
    server = echo_server()
    _, socket = await upgraded(await serve(server))
    await socket.send("4hi")
    assert await socket.receive() == "4hi"
    session = session_of(server)
    session.emit("message", "last words")
    session.disconnect("enough")
    assert await socket.receive() == "4last words"
    close = await socket.receive_close()
    assert (close.code, close.reason) == (1000, "enough")


async def test_a_reason_that_is_too_long_for_a_close_frame_is_cut_between_characters(kind: str, serve: Serve) -> None:
    server = echo_server()
    ends = Hearing(server, "disconnection")
    _, socket = await upgraded(await serve(server))
    reason = "x" + "é" * 100
    session_of(server).disconnect(reason)
    close = await socket.receive_close()
    assert (close.code, close.reason) == (1000, reason[:62])
    assert (await ends.next())[1] == reason


async def test_the_end_of_the_server_ends_every_connection_with_its_reason(kind: str, serve: Serve) -> None:
    server = echo_server()
    ends = Hearing(server, "disconnection")
    client = await serve(server)
    waiting = await begin_poll(await client.poll_in())
    _, socket = await upgraded(client)
    await socket.send("4hi")
    assert await socket.receive() == "4hi"
    await server.destroy()
    close = await socket.receive_close()
    assert (close.code, close.reason) == (1012, "server shutdown")
    assert (await waiting.read_response()).text == "1"
    assert [(await ends.next())[1] for _ in range(2)] == ["server shutdown"] * 2


WRONG = {"ping": "2", "probe": "2probe", "open": "0", "upgrade": "5", "type": "9", "empty": "", "base64": "b***"}


@pytest.mark.parametrize("packet", WRONG.values(), ids=WRONG.keys())
async def test_a_wrong_packet_ends_a_connection_by_websocket(packet: str, kind: str, serve: Serve) -> None:
    server = echo_server()
    ends = Hearing(server, "disconnection")
    _, socket = await upgraded(await serve(server))
    await socket.send("4before")
    assert await socket.receive() == "4before"
    await socket.send(packet)
    await socket.send("4behind")
    close = await socket.receive_close()
    assert (close.code, close.reason) == (1002, "parse error")
    session, reason = await ends.next()
    assert (session.data, reason) == (["before"], "parse error")


async def test_packets_without_a_meaning_for_the_server_are_ignored(kind: str, serve: Serve) -> None:
    server = echo_server()
    _, socket = await upgraded(await serve(server))
    for packet in ("3", "3probe", "6", "6data", "4hi"):
        await socket.send(packet)
    assert await socket.receive() == "4hi"
    assert phase_of(server) is Phase.UPGRADED
