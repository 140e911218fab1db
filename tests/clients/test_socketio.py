"""Clients of Socket.IO at the stream: they can do nothing here, and are told so where they listen for it."""

from __future__ import annotations

from primacron import Primacron
from primacron.errors import SocketIoClient
from tests.conftest import Serve
from tests.support.hearing import Hearing
from tests.support.node import run_node

KINDS = {(4, "/"), (4, "/chat"), (3, "/"), (3, "/chat"), (2, "/chat")}
#: By polling, by websocket, and on the way from one to the other.
WAYS = 3


async def test_official_socket_io_clients_hear_that_this_is_not_their_server(kind: str, serve: Serve) -> None:
    server = Primacron()
    errors = Hearing(server, "error::invalid")
    client = await serve(server)
    results = await run_node("socketio.mjs", client.port)
    assert len(results) == len(KINDS) * WAYS
    assert {(result["version"], result["namespace"]) for result in results} == KINDS
    assert {result["message"] for result in results} == {str(SocketIoClient())}
    assert "not Socket.IO: connect with engine.io-client" in str(SocketIoClient())
    for _ in results:
        error, context = await errors.next_error()
        assert isinstance(error, SocketIoClient)
        assert context.session is not None
    assert errors.is_empty
