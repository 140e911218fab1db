"""What tells a client of Socket.IO, and that no client of our own is taken for one."""

from __future__ import annotations

import json

import pytest

from primacron import Primacron, Session
from primacron.dialects.socketio import find_namespace
from primacron.errors import InvalidMessage, SocketIoClient, UndecodableMessage
from tests.conftest import Serve
from tests.support.hearing import Hearing

PACKETS = {
    "0": "/",
    '0{"token":"a"}': "/",
    "0/chat": "/chat",
    "0/chat,": "/chat",
    '0/chat,{"token":"a,b"}': "/chat",
    "0/chat?a=b,": "/chat",
    "0/chat?a=b": "/chat",
    "0/,": "/",
    '2["say","hi"]': "/",
    '217["say","hi"]': "/",
    '2/chat,["say"]': "/chat",
    '2/chat,17["say"]': "/chat",
}
OTHERS = [
    "", "00", "01", "0 ", "0,", "0[", "0x{", "2", "2{", "2 [", "22", "20e[", '"0"', "[0]", "{}", '{"event":0}', "3[1]",
    "1", "4{}", "-0", "0.5", "٢[", "0" * 10_000, "0/" + "x" * 200, "2" * 10_000,
]  # fmt: skip


@pytest.mark.parametrize(("packet", "namespace"), PACKETS.items())
def test_the_first_packets_of_socket_io_are_recognised(packet: str, namespace: str) -> None:
    assert find_namespace(packet) == namespace


@pytest.mark.parametrize("message", OTHERS)
def test_nothing_else_is(message: str) -> None:
    assert find_namespace(message) is None
    assert find_namespace(message.encode()) is None


@pytest.mark.parametrize(("packet", "namespace"), PACKETS.items())
async def test_a_packet_is_answered_in_its_namespace_and_counts_as_refused(
    serve: Serve, packet: str, namespace: str
) -> None:
    server = Primacron(bad_messages=2)
    errors = Hearing(server, "error::*")
    client = await (await serve(server)).connect()
    await client.socket.send("4" + packet)
    answer = str(await client.socket.receive())
    assert answer.startswith("44{" if namespace == "/" else f"44{namespace},{{")
    assert json.loads(answer[answer.index("{") :]) == {"message": str(SocketIoClient())}
    error, context = await errors.next_error()
    assert isinstance(error, SocketIoClient)
    assert context.message == packet
    await client.socket.send("4" + packet)
    assert str(await client.socket.receive()) == answer
    await client.receive_close()


@pytest.mark.parametrize("message", ["00", "2", "0 ", "{"])
async def test_what_is_only_malformed_gets_no_answer(serve: Serve, message: str) -> None:
    server = Primacron()
    errors = Hearing(server, "error::*")
    client = await (await serve(server)).connect()

    @server.event("ping")
    def ping(session: Session) -> str:
        return "pong"

    await client.socket.send("4" + message)
    await client.emit("ping", id=1)
    assert await client.receive() == {"ack": 1, "args": ["pong"]}
    error, _ = await errors.next_error()
    assert type(error) in (InvalidMessage, UndecodableMessage)


async def test_a_raw_message_is_whatever_it_is(serve: Serve) -> None:
    server = Primacron(dialect="raw")
    heard = Hearing(server, "stream::message")
    server.validate("message", lambda content: None)
    client = await (await serve(server)).connect()
    await client.socket.send('42["say"]')
    assert (await heard.next())[1:] == ('2["say"]',)
