"""Servers that end while they forward requests of clients of another one, behind a balancer that sends these again."""

from __future__ import annotations

import asyncio
import json
import random
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest

from tests.cluster.nodes import PROGRAM, NodeProcess, node_process
from tests.cluster.traffic import problems
from tests.support.forms import Length
from tests.support.nginx import round_robin
from tests.support.node import run_node
from tests.support.program import running
from tests.support.redis import RedisProcess, free_port

#: Milliseconds that a client waits at most after every fifth message.
PAUSE: Final = 800
#: Seconds for which a server forwards before it is ended.
CARRIES: Final = (0.2, 0.8)
#: Seconds for which the others take the owner for alive when this machine gives it no time.
LEASE: Final = 15.0


class ForwardingServer:
    """A server that is ended and started again, on the same port, as long as the block runs."""

    def __init__(self, place: dict[str, Any], namespace: str, number: signal.Signals) -> None:
        self.port = free_port()
        self.ends = 0
        self._given = {
            "redis": place,
            "options": {"namespace": namespace, "lease": LEASE},
            "port": self.port,
            "workers": 1,
        }
        self._number = number
        self._started = asyncio.Event()

    @asynccontextmanager
    async def ending(self) -> AsyncIterator[None]:
        """End it again and again."""
        task = asyncio.create_task(self._run())
        try:
            await self._started.wait()
            yield
        finally:
            task.cancel()
            await asyncio.wait({task})

    async def _run(self) -> None:
        while True:
            async with running(*PROGRAM, json.dumps(self._given)) as program:
                await program.wait_for("listening on")
                self._started.set()
                await asyncio.sleep(random.uniform(*CARRIES))
                assert await program.stop(self._number) in (0, -signal.SIGKILL), program.printed
                self.ends += 1


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "ended"])
async def test_clients_notice_nothing_of_servers_that_end_while_they_forward_their_requests(
    number: signal.Signals, redis_process: RedisProcess, namespace: str, anyio_backend: object, length: Length
) -> None:
    place = {"url": redis_process.url}
    forwarders = [ForwardingServer(place, namespace, number) for _ in range(2)]
    async with (
        node_process(place, namespace=namespace, lease=LEASE) as owner,
        forwarders[0].ending(),
        forwarders[1].ending(),
        round_robin([owner.port, *(forwarder.port for forwarder in forwarders)], home=owner.port) as port,
    ):
        clients, messages = length.choose(20, 50), length.choose(100, 300)
        [outcome] = await run_node("cluster.mjs", port, clients, messages, "polling", PAUSE)
        assert not outcome["failed"], "\n".join(outcome["failed"])
        assert (outcome["finished"], outcome["disordered"], outcome["extra"]) == (clients, 0, 0)
        assert min(forwarder.ends for forwarder in forwarders) >= 3
        await all_have_left(owner)
        state = await owner.state()
        assert {reason for _, reason in state["ended"]} <= {"client close", "transport close"}
        assert len(state["ended"]) == clients
        assert problems(state) == []


async def all_have_left(node: NodeProcess) -> None:
    """Wait until a server has no session."""
    async with asyncio.timeout(20):
        while (await node.state())["sessions"]:
            await asyncio.sleep(0.05)
