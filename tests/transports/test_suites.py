"""
What the test suites of the Engine.IO protocol ask of a server, for protocol 4 and 3 alike.

Each case of theirs has its counterpart here, with their intervals and timeouts.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from primacron import Primacron
from tests.conftest import Serve
from tests.support.engine import Client, Polling
from tests.support.websocket import BINARY, TEXT, WebSocket
from tests.transports.servers import echo_server

INTERVAL, TIMEOUT = 0.3, 0.2
PROTOCOLS = pytest.mark.parametrize("eio", [4, 3])
FIELDS = {"sid", "upgrades", "pingInterval", "pingTimeout", "maxPayload"}
WRONG_QUERIES = ["transport={0}", "EIO=abc&transport={0}", "EIO={1}", "EIO={1}&transport=abc"]


def echoing() -> Primacron:
    """Return a server that sends back what it gets, with the times of the suites."""
    return echo_server(ping_interval=INTERVAL, ping_timeout=TIMEOUT)


def body(*packets: str, eio: int) -> str:
    """Return packets as a payload."""
    return "\x1e".join(packets) if eio == 4 else "".join(f"{len(packet)}:{packet}" for packet in packets)


def binary(eio: int) -> str:
    """Return a binary packet where only text can go."""
    return "bAQIDBA==" if eio == 4 else "b4AQIDBA=="


async def by_websocket(client: Client, eio: int) -> tuple[WebSocket, dict[str, Any]]:
    """Open a connection by websocket."""
    socket = await client.websocket_to(f"/stream/?EIO={eio}&transport=websocket&account=a")
    opened = str(await socket.receive())
    assert opened[0] == "0"
    return socket, json.loads(opened[1:])


async def is_gone(polling: Polling) -> None:
    """Check that there is no such session any more."""
    assert (await polling.poll()).status == 400


def check(opened: dict[str, Any], upgrades: list[str]) -> None:
    """Check what an open packet says."""
    assert opened.keys() == FIELDS
    assert isinstance(opened["sid"], str)
    expected = (upgrades, INTERVAL * 1000, TIMEOUT * 1000, 1_000_000)
    assert (opened["upgrades"], opened["pingInterval"], opened["pingTimeout"], opened["maxPayload"]) == expected


# The handshake


@PROTOCOLS
async def test_a_session_is_opened_by_polling_and_by_websocket(eio: int, kind: str, serve: Serve) -> None:
    client = await serve(echoing())
    response = await client.fetch("GET", f"/stream/?EIO={eio}&transport=polling&account=a")
    packet = response.text
    if eio == 3:
        length, _, packet = packet.partition(":")
        assert int(length) == len(packet)
    assert (response.status, packet[0]) == (200, "0")
    check(json.loads(packet[1:]), ["websocket"])
    check((await by_websocket(client, eio))[1], [])


@PROTOCOLS
@pytest.mark.parametrize("query", WRONG_QUERIES)
async def test_a_handshake_without_a_known_protocol_or_transport_is_refused(
    query: str, eio: int, kind: str, serve: Serve
) -> None:
    client = await serve(echoing())
    assert (await client.fetch("GET", f"/stream/?account=a&{query.format('polling', eio)}")).status == 400
    socket = await client.websocket_to(f"/stream/?account=a&{query.format('websocket', eio)}")
    assert socket.response.status == 400


@PROTOCOLS
@pytest.mark.parametrize("method", ["POST", "PUT"])
async def test_a_handshake_with_another_method_is_refused(method: str, eio: int, kind: str, serve: Serve) -> None:
    client = await serve(echoing())
    assert (await client.fetch(method, f"/stream/?EIO={eio}&transport=polling&account=a")).status == 400


# Messages


@PROTOCOLS
@pytest.mark.parametrize("messages", [["4hello"], ["4test1", "4test2", "4test3"], ["4hello", "binary"]])
async def test_payloads_come_back(messages: list[str], eio: int, kind: str, serve: Serve) -> None:
    polling = await (await serve(echoing())).poll_in("account=a&b64=1" if eio == 3 else "account=a", eio=eio)
    packets = [binary(eio) if message == "binary" else message for message in messages]
    response = await polling.post(body(*packets, eio=eio))
    assert (response.status, response.text) == (200, "ok")
    answer = await polling.poll()
    assert (answer.status, answer.text) == (200, body(*packets, eio=eio))


@PROTOCOLS
async def test_a_body_that_is_no_payload_ends_the_session(eio: int, kind: str, serve: Serve) -> None:
    polling = await (await serve(echoing())).poll_in(eio=eio)
    assert (await polling.post("abc")).status == 400
    await is_gone(polling)


@PROTOCOLS
async def test_two_polls_at_a_time_end_the_session(eio: int, kind: str, serve: Serve) -> None:
    server = echoing()
    polling = await (await serve(server)).poll_in(eio=eio)
    first = asyncio.create_task(polling.poll())
    (connection,) = server.node.hub.connections.values()
    while not connection.transport.ready:
        await asyncio.sleep(0.001)
    second = await polling.client.fetch("GET", f"{polling.target}&t=burst")
    assert ((await first).status, (await first).text) == (200, body("1", eio=eio))
    assert second.status == 400
    await is_gone(polling)


@PROTOCOLS
async def test_frames_come_back(eio: int, kind: str, serve: Serve) -> None:
    socket, _ = await by_websocket(await serve(echoing()), eio)
    await socket.send("4hello")
    frame = await socket.receive_frame()
    assert (frame.opcode, frame.payload) == (TEXT, b"4hello")
    data = b"\x01\x02\x03\x04" if eio == 4 else b"\x04\x01\x02\x03\x04"
    await socket.send(data)
    frame = await socket.receive_frame()
    assert (frame.opcode, frame.payload) == (BINARY, data)


@PROTOCOLS
async def test_a_frame_that_is_no_packet_closes_the_websocket(eio: int, kind: str, serve: Serve) -> None:
    socket, _ = await by_websocket(await serve(echoing()), eio)
    await socket.send("abc")
    assert (await socket.receive_close()).code == 1002


# The heartbeat


async def test_pings_and_pongs_go_on_in_protocol_4(kind: str, serve: Serve) -> None:
    client = await serve(echoing())
    polling = await client.poll_in()
    for _ in range(3):
        answer = await polling.poll()
        assert (answer.status, answer.text) == (200, "2")
        assert (await polling.post("3")).status == 200
    socket, _ = await by_websocket(client, 4)
    for _ in range(3):
        assert await socket.receive() == "2"
        await socket.send("3")


async def test_pings_and_pongs_go_on_in_protocol_3(kind: str, serve: Serve) -> None:
    client = await serve(echoing())
    polling = await client.poll_in(eio=3)
    socket, _ = await by_websocket(client, 3)
    for _ in range(3):
        assert (await polling.post("1:2")).status == 200
        answer = await polling.poll()
        assert (answer.status, answer.text) == (200, "1:3")
        await socket.send("2")
        assert await socket.receive() == "3"


@PROTOCOLS
async def test_a_client_that_answers_nothing_is_given_up(eio: int, kind: str, serve: Serve) -> None:
    client = await serve(echoing())
    polling = await client.poll_in(eio=eio)
    # It is the time that passes here; the clock of the event loop counts milliseconds.
    await asyncio.sleep(INTERVAL + TIMEOUT + 0.001)
    response = await (polling.poll() if eio == 4 else polling.post("1:2"))
    assert response.status == 400
    socket, _ = await by_websocket(client, eio)
    assert (await socket.receive_close()).reason == "ping timeout"


# The end


@PROTOCOLS
async def test_a_client_that_closes_ends_its_poll_with_a_noop(eio: int, kind: str, serve: Serve) -> None:
    server = echoing()
    polling = await (await serve(server)).poll_in(eio=eio)
    poll = asyncio.create_task(polling.poll())
    (connection,) = server.node.hub.connections.values()
    while not connection.transport.ready:
        await asyncio.sleep(0.001)
    assert (await polling.post(body("1", eio=eio))).status == 200
    assert ((await poll).status, (await poll).text) == (200, body("6", eio=eio))
    await is_gone(polling)


@PROTOCOLS
async def test_a_client_that_closes_its_websocket_by_a_packet_is_let_go(eio: int, kind: str, serve: Serve) -> None:
    socket, _ = await by_websocket(await serve(echoing()), eio)
    await socket.send("1")
    await socket.receive_close()


# The upgrade


@PROTOCOLS
async def test_polling_is_upgraded_to_a_websocket(eio: int, kind: str, serve: Serve) -> None:
    polling = await (await serve(echoing())).poll_in(eio=eio)
    socket = await polling.probe()
    await socket.send("2probe")
    assert await socket.receive() == "3probe"
    answer = await polling.poll()
    assert (answer.status, answer.text) == (200, body("6", eio=eio))
    await socket.send("5")
    await socket.send("4hello")
    assert await socket.receive() == "4hello"


@PROTOCOLS
@pytest.mark.parametrize("waits", [True, False])
async def test_after_the_upgrade_other_requests_of_the_sid_change_nothing(
    waits: bool, eio: int, kind: str, serve: Serve
) -> None:
    polling = await (await serve(echoing())).poll_in(eio=eio)
    socket = await polling.probe()
    await socket.send("2probe")
    if waits:
        assert await socket.receive() == "3probe"
    await socket.send("5")
    if not waits:
        assert await socket.receive() == "3probe"
    await socket.send("4upgraded")
    assert await socket.receive() == "4upgraded"
    assert (await polling.poll()).status == 400
    other = await polling.probe()
    assert other.response.status == 101
    await other.receive_close()
    await socket.send("4hello")
    assert await socket.receive() == "4hello"
