"""Redis is emptied while it runs, again and again, under load: nobody is lost, and nothing certain is wrong."""

from __future__ import annotations

import asyncio
from typing import Final

from tests.cluster.nodes import NodeProcess, node_processes
from tests.cluster.traffic import traffic
from tests.support.engine import Client, Polling
from tests.support.redis import RedisProcess, in_thread

TIMES: Final = 3
#: Seconds between two times; a server renews its lease about once a second.
PAUSE: Final = 1.5
#: Seconds after which all is as before.
HEALED_WITHIN: Final = 10.0


class Poller:
    """A client by polling, each of whose requests reaches another server than that of its connection."""

    def __init__(self, opened: Polling, others: list[NodeProcess]) -> None:
        self._through = [Polling(Client(node.port), opened.opened, 4) for node in others]
        self.received: list[str] = []

    async def poll(self) -> None:
        """Poll for ever, by one server after the other."""
        while True:
            for polling in self._through:
                response = await polling.poll()
                assert response.status == 200, response
                self.received.append(response.text)

    async def post(self, count: int) -> None:
        """Post numbers that come back, by one server after the other."""
        for number in range(count):
            polling = self._through[number % len(self._through)]
            response = await polling.post(f'4{{"event":"echo","args":[{number}]}}')
            assert (response.status, response.text) == (200, "ok"), response
            await asyncio.sleep(0.02)

    async def close(self) -> None:
        """Drop all connections."""
        for polling in self._through:
            await polling.client.close()


async def test_an_emptied_redis_costs_no_connection_and_no_poll(namespace: str, anyio_backend: object) -> None:
    with RedisProcess() as redis:
        async with (
            node_processes(3, {"url": redis.url}, namespace=namespace) as nodes,
            traffic(nodes) as far,
        ):
            openers = [await nodes[number % 3].client.poll_in(f"account=poller{number}") for number in range(12)]
            pollers = [
                Poller(opened, [nodes[(number + 1) % 3], nodes[(number + 2) % 3]])
                for number, opened in enumerate(openers)
            ]
            await far.until_accepted()
            polling = [asyncio.create_task(poller.poll()) for poller in pollers]
            for _ in range(TIMES):
                posting = [asyncio.create_task(poller.post(20)) for poller in pollers]
                assert await in_thread(redis.command, "FLUSHALL") == "OK"
                await asyncio.sleep(PAUSE)
                await asyncio.gather(*posting)
            for task in polling:
                assert not task.done(), task.exception()
            assert far.closed == {}
            async with asyncio.timeout(HEALED_WITHIN):
                await far.until_accepted()
                for poller in pollers:
                    while "".join(poller.received).count("echo") < TIMES * 20:
                        await asyncio.sleep(0.05)
            assert [(await node.state())["ended"] for node in nodes] == [[], [], []]
            for task in polling:
                assert not task.done(), task.exception()
                task.cancel()
            await asyncio.gather(*polling, return_exceptions=True)
            for poller in pollers:
                await poller.close()
            await far.stop()
            await far.check()
