"""Clients that answer nothing, whether they are there or not: each ends at its deadline and nothing of it stays."""

from __future__ import annotations

import json
import ssl
from dataclasses import replace

import pytest

from primacron.standalone import connection as http
from tests.hostile.arena import BOTH, STANDALONE, get, until
from tests.hostile.conftest import Attack
from tests.hostile.sluggish import BlackHole
from tests.support.http import RawConnection
from tests.support.websocket import KEY, encode_frame

HANDSHAKE = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {KEY}")


@pytest.mark.parametrize("eio", [4, 3])
async def test_a_client_that_polls_and_never_answers_a_ping_is_given_up(kind: str, attack: Attack, eio: int) -> None:
    arena = await attack(ping_interval=0.3, ping_timeout=0.5)
    polling = await arena.poll_in(eio=eio)
    if eio == 4:
        assert (await polling.poll()).text == "2"
    assert (await polling.poll()).text in ("1", "1:1")
    assert await arena.reason("mallory") == "ping timeout"
    response = await polling.poll()
    assert (response.status, response.json()["code"]) == (400, 1)


@pytest.mark.parametrize("reads", [True, False])
async def test_a_websocket_that_answers_nothing_is_given_up_and_cut_off(kind: str, attack: Attack, reads: bool) -> None:
    arena = await attack(ping_interval=0.3, ping_timeout=0.5)
    before = arena.tables()
    client = await arena.client.connect("account=mallory")
    if reads:
        assert await client.receive_close() == (1001, "ping timeout")
    else:
        client.socket.raw.writer.transport.pause_reading()  # type: ignore[attr-defined]
    assert await arena.reason("mallory") == "ping timeout"
    await until(lambda: arena.tables().fit(before), "the end of the connection", deadline=20)


@pytest.mark.parametrize("eio", [4, 3])
async def test_a_client_that_never_polls_again_is_given_up(kind: str, attack: Attack, eio: int) -> None:
    arena = await attack(ping_interval=0.3, ping_timeout=0.5)
    polling = await arena.poll_in(eio=eio)
    assert await arena.reason("mallory") == "ping timeout"
    response = await polling.poll()
    assert (response.status, response.json()["code"]) == (400, 1)


@pytest.mark.parametrize("by", BOTH)
async def test_a_client_that_the_network_has_lost_is_given_up_and_nothing_of_it_stays(
    kind: str, attack: Attack, by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "KEEP_ALIVE", 0.5)
    arena = await attack(ping_interval=0.4, ping_timeout=0.5)
    before = replace(arena.tables(), tasks=1000)  # the network has some of its own
    async with BlackHole(arena.client.port) as network:
        connection = await RawConnection.open(network.port)
        if by == "websocket":
            await connection.send(get("/stream/?EIO=4&transport=websocket&account=mallory", *HANDSHAKE))
            assert (await connection.read_response()).status == 101
            await connection.send(encode_frame(b'4{"event":"echo","args":["here"],"id":1}'))
            await connection.reader.readuntil(b'"ack":1')
        else:
            await connection.send(get("/stream/?EIO=4&transport=polling&account=mallory"))
            sid = json.loads((await connection.read_response()).text[1:])["sid"]
            await connection.send(get(f"/stream/?EIO=4&transport=polling&sid={sid}"))
            await arena.polling("mallory")
        network.fail()
        assert await arena.reason("mallory") == "ping timeout"
        # The other side never says goodbye: the server must end the connection by itself.
        await until(lambda: arena.tables().fit(before), "the end of the connection", deadline=20)
        connection.abort()


async def test_what_is_kept_for_clients_that_never_fetch_it_is_gone_after_a_heartbeat(
    kind: str, attack: Attack
) -> None:
    arena = await attack(ping_interval=0.3, ping_timeout=0.5)
    hub = arena.server.node.hub
    for number in range(50):
        await arena.poll_in(f"mallory-{number}")
        session = arena.session(f"mallory-{number}")
        session.emit("last words", "x" * 10_000)
        session.disconnect("enough")
    assert len(hub.connections) == 51
    await until(lambda: len(hub.connections) == 1 and hub.blocked_bytes == 0, "their end")
    assert all(reasons == ["enough"] for reasons in arena.ended.values())


@STANDALONE
@pytest.mark.parametrize("sends", [b"", b"\x16\x03\x01"], ids=["nothing", "the beginning of a handshake"])
async def test_who_never_finishes_a_handshake_of_tls_is_cut_off_as_with_a_head(
    sends: bytes, kind: str, attack: Attack, certificate: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    of_server, _ = certificate
    arena = await attack(header_timeout=0.5)
    await arena.server.listen(0, "127.0.0.1", ssl=of_server)
    connection = await RawConnection.open(int(arena.server._addresses[-1][1]))
    await connection.send(sends)
    assert await connection.read_eof() == b""  # within its deadline, which is short of the event loop's own
    connection.abort()


@STANDALONE
async def test_who_does_not_take_the_end_of_tls_is_cut_off(
    kind: str, attack: Attack, certificate: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    of_server, of_client = certificate
    arena = await attack(body_timeout=0.5, header_timeout=5)
    await arena.server.listen(0, "127.0.0.1", ssl=of_server)
    port = int(arena.server._addresses[-1][1])
    before = arena.tables()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = of_client.wrap_bio(incoming, outgoing, server_hostname="localhost")
    connection = await RawConnection.open(port)
    while True:
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            await connection.send(outgoing.read())
            incoming.write(await connection.reader.read(65_536))
        else:
            break
    tls.write(get("/stream/?EIO=4&transport=websocket&account=mallory", *HANDSHAKE) + b"\x81\x00")
    await connection.send(outgoing.read())
    await arena.error("error::protocol")  # a frame without a mask
    # The client answers nothing more, neither to the close frame nor to the end of TLS.
    await until(lambda: arena.tables().fit(before), "the end of the connection", deadline=8)
    connection.abort()
