"""Redis is away for ten seconds, in each way that there is, while clients go on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Final

import pytest

from tests.cluster.nodes import NodeProcess, node_process, node_processes, until_link
from tests.cluster.traffic import Talker, traffic
from tests.support.engine import Client, Polling
from tests.support.http import Response
from tests.support.proxy import Proxy
from tests.support.redis import RedisProcess, in_thread

AWAY_FOR: Final = 10.0
#: Seconds after which it is known that Redis is away, and within which all is as before once it is back.
NOTICED_WITHIN: Final = 3.0
HEALED_WITHIN: Final = 3.0
#: Seconds that nothing takes which does not wait for Redis, on a slow machine.
AT_ONCE: Final = 1.0
REASON: Final = "the link to the other servers: the backend does not answer"
STEP: Final = 1_000


class Outage:
    """One Redis, and a way in which it can be away."""

    def __init__(self, redis: RedisProcess, proxy: Proxy) -> None:
        self.redis = redis
        self.proxy = proxy


class Killed(Outage):
    """It is killed, and started again with nothing."""

    async def begin(self) -> None:
        await in_thread(self.redis.kill)

    async def end(self) -> None:
        await in_thread(self.redis.start)


class Frozen(Outage):
    """It stands still: connections stay open, nothing is answered."""

    async def begin(self) -> None:
        self.redis.freeze()

    async def end(self) -> None:
        self.redis.thaw()


class Unreachable(Outage):
    """The network swallows all that goes there and comes back."""

    async def begin(self) -> None:
        self.proxy.cut()

    async def end(self) -> None:
        self.proxy.mend()


async def gather_crowd(nodes: Sequence[NodeProcess], count: int) -> None:
    """Connect so many clients without sockets to each server."""

    async def gather(number: int, node: NodeProcess) -> None:
        for _ in range(0, count, STEP):
            await node.ask("/crowd", name=f"crowd{number}", count=str(STEP))

    await asyncio.gather(*(gather(number, node) for number, node in enumerate(nodes)))


def registered(redis: RedisProcess, namespace: str) -> int:
    """Return how many accounts have a session in Redis."""
    return len(redis.command("KEYS", f"{namespace}:account:*").split())


async def until_registered(redis: RedisProcess, namespace: str, count: int) -> None:
    """Wait until so many accounts have a session in Redis."""
    while await in_thread(registered, redis, namespace) != count:
        await asyncio.sleep(0.05)


@pytest.mark.parametrize(("kind", "crowd"), [(Killed, 10_000), (Frozen, 1_000), (Unreachable, 1_000)])
async def test_clients_go_on_while_redis_is_away_and_all_is_as_before_when_it_is_back(
    kind: type[Killed | Frozen | Unreachable], crowd: int, namespace: str, anyio_backend: object
) -> None:
    with RedisProcess() as redis:
        async with (
            Proxy(redis.port).serve() as proxy,
            node_processes(3, {"url": proxy.url}, namespace=namespace, redis_timeout=1) as nodes,
            node_process({"url": proxy.url}, namespace=namespace, redis_timeout=1, without_redis="refuse") as strict,
            traffic(nodes) as far,
            traffic(nodes, step=3) as near,
        ):
            outage = kind(redis, proxy)
            await gather_crowd(nodes, crowd)
            owner = await nodes[0].client.poll_in("account=poller")
            polls = Polls(owner, nodes[1], nodes[2])
            await asyncio.gather(far.until_accepted(), near.until_accepted(), polls.begin())
            sessions = [(await node.state())["sessions"] for node in nodes]
            await until_registered(redis, namespace, sum(sessions))
            before = [await node.state() for node in nodes]

            await outage.begin()
            began = asyncio.get_running_loop().time()
            await until_link([*nodes, strict], up=False, seconds=NOTICED_WITHIN)
            for node in nodes:
                assert REASON in (await node.state())["unready"]
                assert (await node.client.fetch("GET", "/primacron/readyz")).status == 503
            async with asyncio.timeout(AT_ONCE):
                newcomers = [await Talker.connect(node, f"newcomer{n}") for n, node in enumerate(nodes)]
            async with asyncio.timeout(AT_ONCE):
                refused = await strict.client.websocket("account=newcomer")
            assert refused.response.status == 503
            polls.post_more()
            await asyncio.sleep(AWAY_FOR - (asyncio.get_running_loop().time() - began))
            assert polls.wait

            await outage.end()
            async with asyncio.timeout(HEALED_WITHIN):
                await until_link([*nodes, strict], up=True, seconds=HEALED_WITHIN)
                await until_registered(redis, namespace, sum(sessions) + len(newcomers))
            await polls.end()
            await asyncio.gather(far.until_accepted(), near.until_accepted())
            for number in range(3):
                place = await nodes[(number + 1) % 3].ask(
                    "/find", account=f"newcomer{number}", session=f"newcomer{number}"
                )
                assert place == before[number]["node"]
            await far.stop()
            await near.stop()
            await far.check()
            await near.check()
            assert far.closed == near.closed == {}
            assert {*near.statuses} == {("accepted", True)}
            assert max(told.seconds for talker in near.talkers for told in talker.told) < AT_ONCE
            for newcomer in newcomers:
                assert newcomer.closed is None
                await newcomer.close()
            for state, node in zip(before, nodes, strict=True):
                after = await node.state()
                kinds = [error for error, _ in after["errors"]]
                assert kinds == ["error::bus", "error::connect", "error::bus"], after["errors"]
                assert after["ended"] == []
                assert abs(after["tasks"] - state["tasks"]) <= 2
                print(state["blocks"], after["blocks"], state["tasks"], after["tasks"], far.statuses)


class Polls:
    """A connection by polling whose requests go through other servers."""

    def __init__(self, owner: Polling, first: NodeProcess, second: NodeProcess) -> None:
        self._first = Polling(Client(first.port), owner.opened, 4)
        self._second = Polling(Client(second.port), owner.opened, 4)
        self._waiting: list[asyncio.Task[Response]] = []

    async def begin(self) -> None:
        """Let one poll be answered, and begin another one."""
        await self._second.emit("echo", 1)
        assert (await self._first.poll()).text == '4{"event":"echo","args":[1]}'
        self._waiting.append(asyncio.create_task(self._send(self._first, "GET")))

    def post_more(self) -> None:
        """Send a message through another server."""
        self._waiting.append(asyncio.create_task(self._send(self._second, "POST", b'4{"event":"echo","args":[2]}')))

    async def _send(self, polling: Polling, method: str, body: bytes | None = None) -> Response:
        """Send a request, and wait for its answer for longer than other tests do."""
        connection = await polling.client.raw()
        await connection.send_request(method, polling.target, None, body)
        async with asyncio.timeout(2 * AWAY_FOR):
            while True:
                with contextlib.suppress(TimeoutError):
                    return await connection.read_response()

    @property
    def wait(self) -> bool:
        """Whether no request was answered."""
        return not any(task.done() for task in self._waiting)

    async def end(self) -> None:
        """Check that the poll and the message have got what they waited for."""
        poll, post = self._waiting
        assert (await post).text == "ok"
        assert (await poll).text == '4{"event":"echo","args":[2]}'
        await self._first.client.close()
        await self._second.client.close()
