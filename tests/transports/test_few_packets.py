"""Clients that take few packets in one answer to a poll: the rest comes with the next ones, and nothing is lost."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from primacron import Primacron
from tests.conftest import Serve
from tests.support.engine import Polling
from tests.support.hearing import Hearing
from tests.transports.servers import echo_server


async def poll_in(serve: Serve, server: Primacron, agent: str, eio: int = 4) -> Polling:
    """Open a connection by polling with a User-Agent."""
    client = await serve(server)
    fetch = client.fetch

    async def fetch_as(method: str, target: str, headers: Any = None, body: bytes | None = None) -> Any:
        return await fetch(method, target, {"User-Agent": agent, **(headers or {})}, body)

    client.fetch = fetch_as  # type: ignore[method-assign]
    return await client.poll_in(eio=eio)


AGENTS = {
    "python-requests/2.32.5": 16,
    "Python/3.13 aiohttp/3.13.2": 16,
    "python-httpx/0.28.1": 16,
    "PYTHON": 16,
    "": 40,
    "Mozilla/5.0 (X11; Linux x86_64) python": 40,
    "node": 40,
}


@pytest.mark.parametrize(("agent", "most"), AGENTS.items())
async def test_only_clients_in_python_get_few_packets_at_a_time(agent: str, most: int, kind: str, serve: Serve) -> None:
    polling = await poll_in(serve, echo_server(), agent)
    assert (await polling.post("\x1e".join(f"4{number}" for number in range(40)))).text == "ok"
    got: list[str] = []
    while len(got) < 40:
        packets = (await polling.poll()).text.split("\x1e")
        assert len(packets) == min(most, 40 - len(got))
        got += packets
    assert got == [f"4{number}" for number in range(40)]


async def test_few_at_a_time_in_protocol_3_too(kind: str, serve: Serve) -> None:
    polling = await poll_in(serve, echo_server(), "python-requests/2", eio=3)
    assert (await polling.post("2:4a" * 20)).text == "ok"
    assert (await polling.poll()).text == "2:4a" * 16
    assert (await polling.poll()).text == "2:4a" * 4


async def test_what_is_sent_meanwhile_comes_behind_the_rest(kind: str, serve: Serve) -> None:
    server = echo_server()
    polling = await poll_in(serve, server, "python-requests/2")
    (session,) = server.node.hub.sessions
    for number in range(20):
        session.emit("message", str(number))
    assert (await polling.poll()).text.split("\x1e") == [f"4{number}" for number in range(16)]
    assert server.node.hub.blocked_bytes > 0
    session.emit("message", "20")
    assert (await polling.poll()).text.split("\x1e") == ["416", "417", "418", "419", "420"]
    assert server.node.hub.blocked_bytes == 0


@pytest.mark.parametrize("polls", [False, True])
async def test_the_rest_and_the_end_reach_a_client_that_takes_few_at_a_time(
    polls: bool, kind: str, serve: Serve
) -> None:
    server = echo_server()
    ends = Hearing(server, "disconnection")
    polling = await poll_in(serve, server, "python-requests/2")
    (session,) = server.node.hub.sessions
    waiting = asyncio.create_task(polling.poll()) if polls else None
    while polls and (session.connection is None or not session.connection.transport.ready):
        await asyncio.sleep(0.005)
    for number in range(39):
        session.emit("message", str(number))
    session.disconnect("enough")
    answers = [(await waiting) if waiting is not None else await polling.poll()]
    answers += [await polling.poll() for _ in range(2)]
    packets = [answer.text.split("\x1e") for answer in answers]
    assert [len(each) for each in packets] == [16, 16, 8]
    assert [packet for each in packets for packet in each] == [*(f"4{number}" for number in range(39)), "1"]
    assert (await polling.poll()).status == 400
    assert (await ends.next())[1] == "enough"
    assert server.node.hub.connections == {}
    assert server.node.hub.blocked_bytes == 0


async def test_the_rest_goes_by_the_websocket_after_an_upgrade(kind: str, serve: Serve) -> None:
    server = echo_server()
    polling = await poll_in(serve, server, "python-requests/2")
    (session,) = server.node.hub.sessions
    for number in range(20):
        session.emit("message", str(number))
    assert len((await polling.poll()).text.split("\x1e")) == 16
    socket = await polling.probe()
    await socket.send("2probe")
    assert await socket.receive() == "3probe"
    await socket.send("5")
    assert [await socket.receive() for _ in range(4)] == ["416", "417", "418", "419"]
