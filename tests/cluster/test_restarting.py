"""A server that was destroyed listens again, in the eyes of the others: a new one, with nothing of the former."""

from __future__ import annotations

import asyncio

from primacron import Primacron
from tests.support.engine import Client
from tests.support.redis import RedisProcess
from tests.support.serving import port_of

DEADLINE = 20.0


async def test_others_find_its_new_sessions_and_none_of_its_former_ones(
    redis_process: RedisProcess, namespace: str, anyio_backend: object
) -> None:
    server, other = (Primacron(redis_process.url, namespace=namespace) for _ in range(2))
    nodes: set[str] = set()
    async with other, asyncio.timeout(DEADLINE):
        for _ in range(3):
            await server.listen(0, "127.0.0.1")
            nodes.add(server.node.id)
            front = Client(port_of(server))
            client = await front.connect("account=ann&session=s")
            reach = await other.account("ann").emit("hello")
            assert (reach.sessions, reach.missing) == (1, 0)
            assert (await client.receive())["event"] == "hello"
            (session,) = server.node.hub.sessions
            assert (await other.session("ann", session.id).emit("again")).status == "accepted"
            assert (await client.receive())["event"] == "again"
            assert server.unready() == []
            await front.close()
            await server.destroy()
            lost = await other.session("ann", session.id).emit("lost")
            assert lost.status in ("unsent", "node_gone", "unknown_session")
            assert lost.certain
    assert len(nodes) == 3
