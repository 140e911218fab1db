"""Events that name their channel: each client gets them as far as it knows of channels, from its own server or not."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from primacron import Reach
from primacron.content import Event, InChannel
from tests.cluster.agents import Agents, came_from, next_of
from tests.cluster.fleet import Fleet
from tests.support.engine import Client
from tests.support.websocket import WebSocket

BACKENDS = ("memory", "redis")

BID = InChannel("bid", ("ann", 5), "lot:7", 12)
PLAIN = {"event": "bid", "args": ["ann", 5]}
NAMED = {**PLAIN, "channel": "lot:7", "offset": 12}
EMITTED = {"emit": ["bid", "ann", 5]}
#: What clients connect with, and what they get.
CLIENTS = {
    "": PLAIN,
    "resume=1": NAMED,
    "format=msgpack": PLAIN,
    "format=msgpack&resume=1": NAMED,
    "_primuscb=x": EMITTED,
}


async def connected(front: Client, query: str) -> WebSocket:
    """Connect a client, and read what tells it of its connection."""
    socket = await front.websocket(f"account={len(query)}&{query}")
    for _ in range(2 if "resume=1" in query else 1):
        await socket.receive()
    return socket


async def next_message(socket: WebSocket) -> Any:
    """Return the next message, decoded."""
    data = await socket.receive()
    return msgspec.msgpack.decode(data) if isinstance(data, bytes) else json.loads(data.removeprefix("4"))


@pytest.mark.parametrize("sender", [0, 1])
async def test_each_client_gets_the_event_in_its_dialect(fleet: Fleet, sender: int) -> None:
    servers = await fleet.started(2)
    front = await fleet.serve(servers[0])
    sockets = {query: await connected(front, query) for query in CLIENTS}
    everyone = servers[sender].everyone
    assert await everyone.send(BID) == Reach(nodes=1 + sender, sessions=5)
    assert {query: await next_message(socket) for query, socket in sockets.items()} == CLIENTS
    await everyone.send(Event(BID.name, BID.args))
    of_plain_event = {query: EMITTED if "primus" in query else PLAIN for query in CLIENTS}
    assert {query: await next_message(socket) for query, socket in sockets.items()} == of_plain_event


@pytest.mark.parametrize(("near", "far"), [(0, 0), (0, 1), (1, 0)])
async def test_a_follower_gets_it_as_a_plain_event(fleet: Fleet, near: int, far: int) -> None:
    agents = await Agents.start(fleet)
    followed, follower = await agents.join(far, "b"), await agents.join(near, "f")
    await agents.pipe(near, "f", "b", received=True)
    assert (await agents.servers[near].session("ann", "b").send(BID)).ok
    assert (await followed.receive()).event == "bid"
    assert await next_of(follower) == ("bid", ("ann", 5), came_from("b", "out"))
    assert agents.is_quiet
