"""Websockets on each event loop, with TLS and without."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from websockets.asyncio.client import connect

from primacron import Primacron, Session
from tests.standalone.cases import closed, without_reason
from tests.standalone.conftest import echo_process
from tests.standalone.deflating import DeflatingPeer
from tests.standalone.peer import Peer, binary, close, more, ping, text
from tests.support.websocket import BINARY, CLOSE, PING, PONG, TEXT, Frame, encode_frame

MEGA = 1 << 20


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for localhost, with its key, in one file."""
    folder = tmp_path_factory.mktemp("certificate")
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "certificate.pem")]
    subprocess.run([*command.split(), *names, *files], check=True, capture_output=True)
    whole = folder / "whole.pem"
    whole.write_bytes((folder / "certificate.pem").read_bytes() + (folder / "key.pem").read_bytes())
    return whole


@dataclass(frozen=True)
class Place:
    """Where an echo server listens."""

    port: int
    tls: ssl.SSLContext | None

    def open(self, extensions: str = "") -> Peer:
        """Connect to it."""
        return Peer.open(self.port, extensions=extensions, tls=self.tls)


@pytest.fixture(scope="module", params=["uvloop", "uvloop-tls", "asyncio", "asyncio-tls"])
def place(request: pytest.FixtureRequest, certificate: Path) -> Iterator[Place]:
    """An echo server on each loop, with TLS and without."""
    flags = ["--asyncio"] if "asyncio" in request.param else []
    tls = None
    if "tls" in request.param:
        flags += ["--certificate", str(certificate)]
        tls = ssl.create_default_context(cafile=certificate)
    with echo_process(*flags) as (port, _):
        yield Place(port, tls)


def _varied(size: int) -> bytes:
    """Return bytes in which nothing can be moved or lost unseen."""
    return b"".join(n.to_bytes(4, "big") for n in range(size // 4))


@pytest.mark.parametrize("size", [0, 20_000, 200_000, 262_144, MEGA, 16 * MEGA])
def test_messages_of_every_size_come_back(size: int, place: Place) -> None:
    payload = _varied(size)
    with place.open() as peer:
        peer.send(binary(payload))
        assert peer.receive() == Frame(BINARY, payload)
        letters = payload.hex().encode()[:size]
        peer.send(text(letters))
        assert peer.receive() == Frame(TEXT, letters)


def test_fragments_and_pings_in_chops_come_back(place: Place) -> None:
    payload = _varied(100_000)
    parts = [payload[at : at + 1000] for at in range(0, len(payload), 1000)]
    frames = [
        binary(parts[0], final=False),
        *(more(part) + ping(part[:20]) for part in parts[1:]),
        more(b"", final=True),
    ]
    wire = b"".join(frames)
    with place.open() as peer:
        peer.send_in_pieces(wire[at : at + 777] for at in range(0, len(wire), 777))
        assert [peer.receive() for _ in parts[1:]] == [Frame(PONG, part[:20]) for part in parts[1:]]
        assert peer.receive() == Frame(BINARY, payload)


def test_a_client_that_does_not_read_is_not_read_from_and_loses_nothing(place: Place) -> None:
    payload = _varied(50_000)
    with place.open() as peer:
        peer.sock.setblocking(False)
        frame = binary(payload)
        wire = frame * 1200
        sent = 0
        try:
            while sent < len(wire):
                sent += peer.sock.send(wire[sent : sent + 65_536])
        except (BlockingIOError, ssl.SSLWantWriteError):
            pass
        peer.sock.setblocking(True)
        assert sent < len(wire), "the server kept it all"
        count = sent // len(frame)
        assert [peer.receive().payload == payload for _ in range(count)] == [True] * count


def test_the_client_closes(place: Place) -> None:
    with place.open() as peer:
        peer.send(text("last words") + close(4321, "enough"))
        assert [without_reason(frame) for frame in peer.receive_until_close()] == [
            Frame(TEXT, b"last words"),
            closed(4321),
        ]


def test_a_broken_rule_closes(place: Place) -> None:
    with place.open() as peer:
        peer.send(text("first") + ping(b"?") + text(b"\xff") + text("too late"))
        frames = [Frame(TEXT, b"first"), Frame(PONG, b"?"), closed(1007)]
        assert [without_reason(frame) for frame in peer.receive_until_close()] == frames


def test_a_broken_rule_is_told_to_a_client_that_still_sends(place: Place) -> None:
    with place.open() as peer:
        # Closed with input unread, the system would reset the connection, and the reason be lost.
        peer.send(text("?", reserved=1) + text("*" * 5_000_000))
        assert [without_reason(frame) for frame in peer.receive_until_close()] == [closed(1002)]


def test_compressed_messages_come_back(place: Place) -> None:
    with place.open("permessage-deflate") as peer:
        deflating = DeflatingPeer(peer)
        for payload in (b"Hello", _varied(MEGA), b"Hello"):
            deflating.send(BINARY, payload)
            assert deflating.receive() == Frame(BINARY, payload)


def test_bytes_behind_the_handshake_are_read(place: Place) -> None:
    with Peer.open(place.port, tls=place.tls, behind=text("early") + ping(b"bird")) as peer:
        assert [peer.receive(), peer.receive()] == [Frame(TEXT, b"early"), Frame(PONG, b"bird")]


def test_a_flood_of_pings_is_answered_in_order(place: Place) -> None:
    payloads = [b"%d" % n for n in range(500)]
    with place.open() as peer:
        peer.send(b"".join(encode_frame(payload, PING) for payload in payloads) + close())
        answers = list(peer.receive_until_close())
    pongs = [frame.payload for frame in answers if frame.opcode == PONG]
    assert pongs == payloads
    assert answers[-1].opcode == CLOSE


# The whole server


@pytest.mark.parametrize("kind", ["standalone", "standalone-asyncio"])
async def test_events_travel_over_tls(kind: str, certificate: Path) -> None:
    server = Primacron(max_payload=2_000_000, deflate=True)

    @server.event("echo")
    def echo(session: Session, content: str) -> None:
        session.emit("echo", content)

    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate)
    await server.listen(0, "127.0.0.1", ssl=tls)
    uri = f"wss://localhost:{server.address()[1]}/stream/?EIO=4&transport=websocket&account=ann"
    trust = ssl.create_default_context(cafile=certificate)
    try:
        for compression in (None, "deflate"):
            async with asyncio.timeout(20), connect(uri, ssl=trust, compression=compression, max_size=None) as socket:
                assert str(await socket.recv()).startswith("0{")
                for size in (1, 20_000, 1_000_000):
                    content = _varied(size).hex()[:size] or "-"
                    await socket.send(f'4{{"event":"echo","args":["{content}"]}}')
                    assert await socket.recv() == f'4{{"event":"echo","args":["{content}"]}}'
                await socket.close(4000, "enough")
                assert socket.close_code == 4000
    finally:
        await server.destroy()
