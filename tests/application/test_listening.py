"""Listening and ending: addresses, sockets, warnings, and that nothing is left behind."""

from __future__ import annotations

import asyncio
import gc
import socket
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from primacron import HttpRequest, OptionError, Primacron, Session
from primacron.errors import NotListening
from primacron.times import Times
from tests.support.engine import Client
from tests.support.hearing import Hearing
from tests.support.http import fetch
from tests.support.serving import port_of


async def test_listen_binds_a_free_port_and_tells_it() -> None:
    server = Primacron()
    listening = Hearing(server, "listening")
    with pytest.raises(NotListening):
        server.address()
    assert await server.listen(0, "127.0.0.1") is server
    port = port_of(server)
    assert server.address() == ("127.0.0.1", port)
    assert port > 0
    assert server.uri == f"http://127.0.0.1:{port}"
    assert await listening.next() == ()
    assert (await fetch(port, "GET", "/primacron/livez")).status == 200
    await server.destroy()
    with pytest.raises(NotListening):
        server.address()


async def test_a_function_as_last_argument_is_called_once_bound() -> None:
    def listen(server: Primacron, form: int, bound: Callable[[], None]) -> None:
        if form == 0:
            server.listen(bound)
        elif form == 1:
            server.listen(0, bound)
        else:
            server.listen(0, "127.0.0.1", bound)

    for form in range(3):
        server = Primacron()
        server.authorize(lambda request: True)
        bound = asyncio.Event()
        listen(server, form, bound.set)
        await asyncio.wait_for(bound.wait(), 5)
        assert server.address()
        await server.destroy()


async def test_a_bare_call_works_too() -> None:
    server = Primacron()
    listening = Hearing(server, "listening")
    server.listen(0, "127.0.0.1")
    await listening.next()
    assert (await fetch(port_of(server), "GET", "/primacron/livez")).status == 200
    await server.destroy()


def test_listen_outside_an_event_loop_raises() -> None:
    with pytest.raises(RuntimeError, match="no running event loop"):
        Primacron().listen(0)


async def test_a_port_that_is_taken_is_a_clear_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = Primacron()
        with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{port}: Address already in use"):
            await server.listen(port, "127.0.0.1")
        await server.destroy()


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid"])
async def test_an_address_that_is_not_available_is_a_clear_error(host: str) -> None:
    server = Primacron()
    with pytest.raises(OSError, match=f"cannot listen on {host}"):
        await server.listen(0, host)
    await server.destroy()


@pytest.mark.parametrize("port", [-1, 65536, "80", 1.5, True])
async def test_a_port_that_is_none_is_refused(port: object) -> None:
    with pytest.raises(OptionError, match="0 to 65535"):
        Primacron().listen(port)  # type: ignore[arg-type]


async def test_localhost_is_one_port_on_every_loopback_address() -> None:
    server = Primacron()
    await server.listen(0, "localhost")
    port = port_of(server)
    for family, _, _, _, address in socket.getaddrinfo("localhost", port, type=socket.SOCK_STREAM):
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.settimeout(5)
            await asyncio.get_running_loop().sock_connect(_nonblocking(probe), address)
    await server.destroy()


def _nonblocking(sock: socket.socket) -> socket.socket:
    sock.setblocking(False)
    return sock


async def test_a_unix_socket_is_served_and_one_left_behind_is_replaced(tmp_path: Path) -> None:
    path = str(tmp_path / "p.sock")
    with socket.socket(socket.AF_UNIX) as abandoned:
        abandoned.bind(path)
    server = Primacron()
    await server.listen(path=path)
    assert server.address() == path
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(b"GET /primacron/livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert b'{"live":true}' in await reader.read()
    writer.close()
    other = Primacron()
    with pytest.raises(OSError, match=r"cannot listen on .*p\.sock: Address already in use"):
        await other.listen(path=path)
    await other.destroy()
    await server.destroy()


async def test_a_given_socket_is_served_and_not_closed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as given:
        server = Primacron()
        await server.listen(sock=given)
        assert server.address() == given.getsockname()
        assert (await fetch(given.getsockname()[1], "GET", "/primacron/livez")).status == 200
        await server.destroy()
        assert given.fileno() >= 0


async def test_two_servers_share_a_port_with_reuse_port() -> None:
    first, second = Primacron(), Primacron()
    await first.listen(0, "127.0.0.1", reuse_port=True)
    port = port_of(first)
    await second.listen(port, "127.0.0.1", reuse_port=True)
    assert second.address() == first.address()
    await first.destroy()
    assert (await fetch(port, "GET", "/primacron/livez")).status == 200
    await second.destroy()


def certificate(folder: Path) -> ssl.SSLContext:
    """Return a server's context with a certificate made for this test."""
    key, cert = folder / "key.pem", folder / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost",
         "-keyout", key, "-out", cert],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return context


async def test_tls_carries_polling_and_tells_that_it_is_secure(tmp_path: Path) -> None:
    server = Primacron()
    secure: list[bool] = []

    @server.authorize
    def authorize(request: HttpRequest) -> bool:
        secure.append(request.secure)
        return True

    await server.listen(0, "127.0.0.1", ssl=certificate(tmp_path))
    assert server.uri.startswith("https://")
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname = False
    trusting.verify_mode = ssl.CERT_NONE
    reader, writer = await asyncio.open_connection("127.0.0.1", port_of(server), ssl=trusting)
    writer.write(b"GET /stream/?EIO=4&transport=polling&account=a HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b'0{"sid":' in await asyncio.wait_for(reader.readuntil(b"}"), 5)
    assert secure == [True]
    writer.close()
    await server.destroy()


async def test_something_that_is_no_context_is_refused_as_ssl() -> None:
    with pytest.raises(OptionError, match=r"an ssl\.SSLContext"):
        Primacron().listen(0, ssl=True)  # type: ignore[arg-type]


async def test_listening_beyond_this_machine_without_authorize_warns_once() -> None:
    server = Primacron()
    with pytest.warns(UserWarning, match="without `authorize`"):
        await server.listen(0)
    await server.listen(0)
    assert str(port_of(server)) in server.uri
    await server.destroy()
    verified = Primacron()
    verified.authorize(lambda request: True)
    await verified.listen(0)
    await verified.destroy()


async def test_network_and_options_decide_what_uri_shows() -> None:
    assert Primacron().uri == "http://localhost"
    assert Primacron().network("127.0.0.1").uri == "http://127.0.0.1"
    assert Primacron().network("internal.dns", 1337).uri == "http://internal.dns:1337"
    assert Primacron(address="shop.example", port=81).uri == "http://shop.example:81"
    assert Primacron(address="::1", port=81).uri == "http://[::1]:81"
    server = Primacron(address="shop.example")
    await server.listen(0, "127.0.0.1")
    assert server.uri == f"http://shop.example:{port_of(server)}"
    await server.destroy()


async def test_destroy_works_before_listen_and_twice() -> None:
    server = Primacron()
    await server.destroy()
    await server.destroy()
    with pytest.raises(NotListening):
        server.address()


async def test_destroy_ends_clients_with_the_reason_and_tells_close() -> None:
    server = Primacron()
    ended, closed = Hearing(server, "disconnection"), Hearing(server, "close")
    await server.listen(0, "127.0.0.1")
    client = Client(port_of(server))
    websocket, polling = await client.connect(), await client.poll_in()
    poll = asyncio.create_task(polling.poll())
    while server.count() < 2 or not server.node.hub.connections[polling.sid].transport.ready:  # type: ignore[index]
        await asyncio.sleep(0)
    first, second = asyncio.create_task(server.destroy()), asyncio.create_task(server.destroy())
    assert await websocket.receive_close() == (1012, "server shutdown")
    assert (await poll).text == "1"
    await first
    await second
    assert {(await ended.next())[1] for _ in range(2)} == {"server shutdown"}
    await closed.next()
    assert ended.is_empty
    assert closed.is_empty
    await client.close()


async def test_destroy_waits_for_handlers_and_cancels_those_that_never_end() -> None:
    server = Primacron()
    server._times = Times(finish=0.2)
    gate, done, cancelled = asyncio.Event(), asyncio.Event(), asyncio.Event()

    @server.event("finish")
    async def finish(session: Session) -> None:
        gate.set()
        await asyncio.sleep(0.05)
        done.set()

    @server.event("hang")
    async def hang(session: Session) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    await server.listen(0, "127.0.0.1")
    client = Client(port_of(server))
    first, second = await client.connect(), await client.connect()
    await first.emit("hang")
    await second.emit("finish")
    await gate.wait()
    await asyncio.wait_for(server.destroy(), 5)
    assert done.is_set()
    assert cancelled.is_set()
    await client.close()


async def test_destroy_leaves_no_task_and_no_connection_behind() -> None:
    before = asyncio.all_tasks()
    server = Primacron()
    await server.listen(0, "127.0.0.1")
    client = Client(port_of(server))
    for _ in range(10):
        await client.connect()
        await client.poll_in()
    idle = await client.raw()
    await idle.send_request("GET", "/primacron/livez")
    await idle.read_response()
    await asyncio.wait_for(server.destroy(), 5)
    assert await idle.read_eof() == b""
    await client.close()
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before
    gc.collect()
    assert not [each for each in gc.get_objects() if type(each) is Session]


async def test_a_server_can_join_without_listening() -> None:
    async with Primacron() as server:
        assert (await server.everyone.emit("hello")).sessions == 0
        with pytest.raises(NotListening):
            server.address()
    with pytest.raises(NotListening):
        server.everyone.emit("hello")


async def test_control_routes_may_have_an_address_of_their_own() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = Primacron(secret="s", control=f"127.0.0.1:{port}")
    await server.listen(0, "127.0.0.1")
    body, bearer = b'{"everyone": true, "message": 1}', {"Authorization": "Bearer s"}
    assert (await fetch(port_of(server), "PUT", "/primacron/broadcast", bearer, body)).status == 400
    assert (await fetch(port, "PUT", "/primacron/broadcast", bearer, body)).status == 200
    assert (await fetch(port, "GET", "/primacron/readyz")).status == 200
    assert (await fetch(port, "GET", "/stream/?EIO=4&transport=polling&account=a")).status == 400
    await server.destroy()
