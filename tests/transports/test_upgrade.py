"""The upgrade from polling to websocket: the probe, what breaks it, and what survives it."""

from __future__ import annotations

import asyncio

import pytest

from primacron import Primacron, Session
from primacron.protocol.engine import Phase
from tests.conftest import Serve
from tests.support.engine import Client, Polling
from tests.support.hearing import Hearing
from tests.support.websocket import WebSocket, encode_frame
from tests.transports.servers import UNKNOWN, echo_server, error_of
from tests.transports.test_polling import begin_poll, begin_post, reached


def session_of(server: Primacron) -> Session:
    """Return the only session."""
    (session,) = server.node.hub.sessions
    return session


def phase_of(server: Primacron) -> Phase:
    """Return what carries the only session."""
    connection = session_of(server).connection
    assert connection is not None
    return connection.phase


async def probed(polling: Polling) -> WebSocket:
    """Open a websocket and let it be probed."""
    socket = await polling.probe()
    await socket.send("2probe")
    assert await socket.receive() == "3probe"
    return socket


async def upgraded(client: Client, query: str = "account=a", *, eio: int = 4) -> tuple[Polling, WebSocket]:
    """Open a connection by polling and upgrade it."""
    polling = await client.poll_in(query, eio=eio)
    socket = await probed(polling)
    await socket.send("5")
    return polling, socket


async def assert_lives(polling: Polling) -> None:
    """Exchange a message by polling."""
    assert (await polling.post("4alive")).text == "ok"
    assert (await polling.poll()).text == "4alive"


async def test_the_probe_ends_the_waiting_poll_and_later_ones_at_once(kind: str, serve: Serve) -> None:
    server = echo_server()
    polling = await (await serve(server)).poll_in()
    waiting = await begin_poll(polling)
    socket = await probed(polling)
    assert (await waiting.read_response()).text == "6"
    assert (await polling.poll()).text == "6"
    assert phase_of(server) is Phase.PROBING
    await socket.send("5")
    await socket.send("4hi")
    assert await socket.receive() == "4hi"
    assert phase_of(server) is Phase.UPGRADED


async def test_while_it_is_probed_messages_go_by_polling(kind: str, serve: Serve) -> None:
    server = echo_server()
    polling = await (await serve(server)).poll_in()
    socket = await probed(polling)
    assert (await polling.post("4by post")).text == "ok"
    assert (await polling.poll()).text == "4by post"
    session_of(server).emit("message", "kept")
    await socket.send("5")
    assert await socket.receive() == "4kept"


async def test_the_upgrade_takes_over_what_is_queued_in_order(kind: str, serve: Serve) -> None:
    server = echo_server()
    polling = await (await serve(server)).poll_in()
    socket = await probed(polling)
    session = session_of(server)
    for number in range(50):
        session.emit("message", f"{number}")
    await socket.send("5")
    await socket.send("4last")
    assert [await socket.receive() for _ in range(51)] == [f"4{number}" for number in range(50)] + ["4last"]


async def test_after_the_upgrade_polling_is_over(kind: str, serve: Serve) -> None:
    polling, socket = await upgraded(await serve(echo_server()))
    await socket.send("4here")
    assert await socket.receive() == "4here"
    for method in ("GET", "POST"):
        response = await polling.client.fetch(method, polling.target, body=b"4there")
        assert error_of(response) == (400, 3)
        assert "upgraded" in response.json()["message"]
    await socket.send("4still")
    assert await socket.receive() == "4still"


@pytest.mark.parametrize("moment", ["before the probe", "probed", "upgraded"])
async def test_a_second_websocket_is_closed_after_its_handshake_and_disturbs_nobody(
    moment: str, kind: str, serve: Serve
) -> None:
    server = echo_server()
    errors = Hearing(server, "error::protocol")
    polling = await (await serve(server)).poll_in()
    socket = await polling.probe()
    if moment != "before the probe":
        await socket.send("2probe")
        assert await socket.receive() == "3probe"
    if moment == "upgraded":
        await socket.send("5")
        await socket.send("4hi")
        assert await socket.receive() == "4hi"
    second = await polling.probe()
    assert second.response.status == 101
    close = await second.receive_close()
    assert (close.code, close.reason) == (1002, "transport error")
    assert "another websocket is taking it over" in str((await errors.next_error())[0])
    await second.close()
    if moment == "before the probe":
        await socket.send("2probe")
        assert await socket.receive() == "3probe"
    if moment != "upgraded":
        await socket.send("5")
    await socket.send("4mine")
    assert await socket.receive() == "4mine"


async def test_the_probe_may_be_repeated(kind: str, serve: Serve) -> None:
    polling = await (await serve(echo_server())).poll_in()
    socket = await polling.probe()
    for _ in range(500):
        await socket.send("2probe")
        assert await socket.receive() == "3probe"
    await socket.send("5")
    await socket.send("4hi")
    assert await socket.receive() == "4hi"


WRONG = ["5", "4early", "2", "2prob", "3probe", "1", "0{}", "6", "", "9", "probe", "b***", b"\x00", b"2probe"]


@pytest.mark.parametrize("first", WRONG, ids=repr)
async def test_any_other_first_packet_closes_the_websocket_alone(first: str | bytes, kind: str, serve: Serve) -> None:
    server = echo_server()
    errors = Hearing(server, "error::protocol")
    polling = await (await serve(server)).poll_in()
    socket = await polling.probe()
    await socket.send(first)
    close = await socket.receive_close()
    assert (close.code, close.reason) == (1002, "parse error")
    assert (await errors.next_error())[1].session is session_of(server)
    assert session_of(server).data == []
    await assert_lives(polling)
    assert phase_of(server) is Phase.OPEN


@pytest.mark.parametrize("second", ["4early", "3", "1", "2", b"\x00"], ids=repr)
async def test_a_wrong_packet_after_the_probe_closes_the_websocket_alone(
    second: str | bytes, kind: str, serve: Serve
) -> None:
    server = echo_server()
    polling = await (await serve(server)).poll_in()
    socket = await probed(polling)
    await socket.send(second)
    assert (await socket.receive_close()).code == 1002
    await assert_lives(polling)
    assert phase_of(server) is Phase.OPEN


async def test_a_lost_websocket_leaves_polling_alive_and_another_one_may_try(kind: str, serve: Serve) -> None:
    server = echo_server()
    polling = await (await serve(server)).poll_in()
    session = session_of(server)
    for probes in (False, True):
        socket = await (probed(polling) if probes else polling.probe())
        socket.raw.abort()
        while session.connection is not None and session.connection.probe is not None:
            await reached(polling)
        await assert_lives(polling)
    socket = await probed(polling)
    await socket.send("5")
    await socket.send("4hi")
    assert await socket.receive() == "4hi"


@pytest.mark.parametrize("probes", [False, True])
async def test_an_upgrade_has_a_deadline_and_polling_survives_it(probes: bool, kind: str, serve: Serve) -> None:
    server = echo_server(upgrade_timeout=0.1)
    polling = await (await serve(server)).poll_in()
    socket = await (probed(polling) if probes else polling.probe())
    close = await socket.receive_close()
    assert (close.code, close.reason) == (1002, "transport error")
    assert phase_of(server) is Phase.OPEN
    await assert_lives(polling)


async def test_a_finished_upgrade_has_no_deadline(kind: str, serve: Serve) -> None:
    server = echo_server(upgrade_timeout=0.1)
    _, socket = await upgraded(await serve(server))
    probe = await (await serve(echo_server(upgrade_timeout=0.3))).poll_in()
    assert (await (await probe.probe()).receive_close()).code == 1002  # longer than the other one's deadline
    await socket.send("4hi")
    assert await socket.receive() == "4hi"


async def test_packets_in_one_segment_are_handled_in_order(kind: str, serve: Serve) -> None:
    server = echo_server()
    polling = await (await serve(server)).poll_in()
    socket = await polling.probe()
    await socket.raw.send(b"".join(encode_frame(text) for text in (b"2probe", b"5", b"4a", b"4b", b"1")))
    assert [await socket.receive() for _ in range(3)] == ["3probe", "4a", "4b"]
    close = await socket.receive_close()
    assert (close.code, close.reason) == (1000, "client close")


async def test_a_poll_and_a_post_that_are_under_way_at_the_upgrade_are_answered(kind: str, serve: Serve) -> None:
    server = echo_server()
    polling = await (await serve(server)).poll_in()
    post = await begin_post(polling, 9)
    socket = await probed(polling)
    await socket.send("5")
    await socket.send("4hi")
    assert await socket.receive() == "4hi"
    await post.send(b"body")
    response = await post.read_response()
    assert error_of(response) == (400, 3)
    assert session_of(server).data == ["hi"]
    await socket.send("4still")
    assert await socket.receive() == "4still"


async def test_a_session_that_has_enough_to_do_stays_paused_on_its_new_websocket(kind: str, serve: Serve) -> None:
    server = echo_server(inbox_limit=2)
    gate = asyncio.Event()

    @server.on("stream::message")
    async def wait(session: Session, content: str | bytes) -> None:
        await gate.wait()

    polling = await (await serve(server)).poll_in()
    assert (await polling.post("4a\x1e4b\x1e4c\x1e4d")).text == "ok"
    assert (await polling.poll()).text == "4a"
    socket = await probed(polling)
    await socket.send("5")
    for number in range(100):
        await socket.send(f"4{number}")
    while phase_of(server) is not Phase.UPGRADED:
        await reached(polling)
    await reached(polling)
    session = session_of(server)
    assert session.inbox is not None
    assert len(session.inbox._jobs) == 3
    gate.set()
    expected = ["4b", "4c", "4d", *(f"4{number}" for number in range(100))]
    assert [await socket.receive() for _ in expected] == expected


async def test_a_ping_taken_by_polling_may_be_answered_by_websocket(kind: str, serve: Serve) -> None:
    server = echo_server(ping_interval=0.2, ping_timeout=5)
    polling = await (await serve(server)).poll_in()
    assert (await polling.poll()).text == "2"
    socket = await probed(polling)
    await socket.send("5")
    await socket.send("3")
    assert await socket.receive() == "2"


async def test_a_ping_taken_by_polling_is_missed_after_the_upgrade_too(kind: str, serve: Serve) -> None:
    server = echo_server(ping_interval=0.2, ping_timeout=0.2)
    ends = Hearing(server, "disconnection")
    polling = await (await serve(server)).poll_in()
    assert (await polling.poll()).text == "2"
    socket = await probed(polling)
    await socket.send("5")
    close = await socket.receive_close()
    assert (close.code, close.reason) == (1001, "ping timeout")
    assert (await ends.next())[1] == "ping timeout"


async def test_protocol_3_upgrades_too(kind: str, serve: Serve) -> None:
    polling, socket = await upgraded(await serve(echo_server()), "account=a&b64=1", eio=3)
    await socket.send("b4AQID")
    assert await socket.receive() == "b4AQID"
    await socket.send(b"\x04\x01\x02")
    assert await socket.receive() == "b4AQI="
    await socket.send("2")
    assert await socket.receive() == "3"
    assert error_of(await polling.poll()) == (400, 3)


async def test_binary_frames_of_protocol_3_have_a_type_byte(kind: str, serve: Serve) -> None:
    server = echo_server()
    ends = Hearing(server, "disconnection")
    client = await serve(server)
    socket = await client.websocket_to("/stream/?EIO=3&transport=websocket&account=a")
    await socket.receive()
    await socket.send(b"\x04\x01\x02")
    assert await socket.receive() == b"\x04\x01\x02"
    await socket.send(b"\x04")
    assert await socket.receive() == b"\x04"
    await socket.send(b"")
    assert (await socket.receive_close()).code == 1002
    assert (await ends.next())[1] == "parse error"


async def test_base64_by_websocket(kind: str, serve: Serve) -> None:
    client = await serve(echo_server())
    socket = await client.websocket("account=a&b64=1")
    await socket.receive()
    await socket.send("bAQIDBA==")
    assert await socket.receive() == "bAQIDBA=="
    await socket.send(b"\x01\x02\x03\x04")
    assert await socket.receive() == "bAQIDBA=="


async def test_a_websocket_for_an_ended_session_is_refused(kind: str, serve: Serve) -> None:
    server = echo_server()
    ends = Hearing(server, "disconnection")
    polling = await (await serve(server)).poll_in()
    session_of(server).disconnect("enough")
    assert (await ends.next())[1] == "enough"
    socket = await polling.probe()
    assert error_of(socket.response) == UNKNOWN
    await socket.close()
    assert error_of(await polling.post("4late")) == UNKNOWN
    assert (await polling.poll()).text == "1"
    assert error_of(await polling.poll()) == UNKNOWN
