"""Redis is away for some seconds, in each way that there is, while clients go on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Final, Self

import pytest

from primacron.cluster.link import Event, State
from tests.cluster.member import LONG, member
from tests.cluster.nodes import NodeProcess, node_process, node_processes, until_link
from tests.cluster.traffic import Talker, traffic
from tests.support.engine import Client, Polling
from tests.support.forms import Length
from tests.support.http import Response
from tests.support.proxy import RedisProxy
from tests.support.redis import RedisProcess, in_thread

#: Seconds within which it is known that Redis is away, and within which all is as before once it is back.
NOTICED_WITHIN: Final = 3.0
HEALED_WITHIN: Final = 3.0
#: Seconds that what waits for nothing may take where other programs want the processor, too.
SLACK: Final = 2.0
REASON: Final = "the link to the other servers: the backend does not answer"
STEP: Final = 500
#: Blocks of memory that an outage may leave behind, for all and for each session; a heartbeat may be under way.
LEFT_BEHIND: Final = 10_000
LEFT_BY_EACH: Final = 3


class Killed:
    """Redis is killed, and started again with nothing."""

    def __init__(self, redis: RedisProcess) -> None:
        self.redis = redis
        self.url = redis.url

    @contextlib.asynccontextmanager
    async def prepared(self) -> AsyncIterator[Self]:
        """Do what has to be done before servers connect to ``url``."""
        yield self

    async def begin(self) -> None:
        """Take it away."""
        await in_thread(self.redis.kill)

    async def end(self) -> None:
        """Bring it back."""
        await in_thread(self.redis.start)


class Frozen(Killed):
    """Redis stands still: connections stay open, nothing is answered."""

    async def begin(self) -> None:
        """Take it away."""
        self.redis.freeze()

    async def end(self) -> None:
        """Bring it back."""
        self.redis.thaw()


class Unreachable(Killed):
    """The network swallows all that goes to Redis and comes back."""

    @contextlib.asynccontextmanager
    async def prepared(self) -> AsyncIterator[Self]:
        """Do what has to be done before servers connect to ``url``."""
        async with RedisProxy(self.redis.port) as self._proxy:
            self.url = self._proxy.url
            yield self

    async def begin(self) -> None:
        """Take it away."""
        await self._proxy.cut()

    async def end(self) -> None:
        """Bring it back."""
        await self._proxy.restore()


async def gather_crowd(node: NodeProcess, count: int) -> None:
    """Connect so many clients without sockets."""
    for _ in range(0, count, STEP):
        await node.ask("/crowd", name="crowd", count=str(STEP))


def registered(redis: RedisProcess, namespace: str) -> int:
    """Return how many accounts have a session in Redis."""
    return int(redis.command("EVAL", "return #redis.call('KEYS', ARGV[1])", 0, f"{namespace}:account:*") or 0)


async def until_registered(redis: RedisProcess, namespace: str, count: int) -> None:
    """Wait until so many accounts have a session in Redis."""
    while await in_thread(registered, redis, namespace) != count:
        await asyncio.sleep(0.2)


async def until_found(node: NodeProcess, name: str) -> None:
    """Wait until a server finds a session."""
    while await node.ask("/find", account=name, session=name) is None:
        await asyncio.sleep(0.05)


@pytest.mark.parametrize(("kind", "crowd"), [(Killed, 10_000), (Frozen, 1_000), (Unreachable, 1_000)])
async def test_clients_go_on_while_redis_is_away_and_all_is_as_before_when_it_is_back(
    kind: type[Killed], crowd: int, namespace: str, length: Length, anyio_backend: object
) -> None:
    away_for = length.choose(6.0, 10.0, 60.0)
    crowd = length.choose(STEP, crowd)
    with RedisProcess() as redis:
        async with (
            kind(redis).prepared() as outage,
            node_processes(3, {"url": outage.url}, namespace=namespace, redis_timeout=1) as nodes,
            node_process({"url": outage.url}, namespace=namespace, redis_timeout=1, without_redis="refuse") as strict,
            traffic(nodes) as far,
            traffic(nodes, step=3) as near,
            contextlib.AsyncExitStack() as stack,
        ):
            await gather_crowd(nodes[0], crowd)
            owner = await nodes[0].client.poll_in("account=poller")
            polls = Polls(owner, nodes[1], nodes[2], patience=2 * away_for)
            await asyncio.gather(far.until_accepted(), near.until_accepted(), polls.begin())
            sessions = [(await node.state())["sessions"] for node in nodes]
            await until_registered(redis, namespace, sum(sessions))
            before = [await node.state() for node in nodes]
            blocks = [await node.ask("/blocks") for node in nodes]

            await outage.begin()
            began = asyncio.get_running_loop().time()
            await until_link([*nodes, strict], up=False, seconds=NOTICED_WITHIN + SLACK)
            for node in nodes:
                assert REASON in (await node.state())["unready"]
                assert (await node.client.fetch("GET", "/primacron/readyz")).status == 503
            async with asyncio.timeout(SLACK):
                newcomers = [await Talker.connect(node, f"newcomer{n}") for n, node in enumerate(nodes)]
            for newcomer in newcomers:
                stack.push_async_callback(newcomer.close)
            async with asyncio.timeout(SLACK):
                refused = await strict.client.websocket("account=newcomer")
            assert refused.response.status == 503
            polls.post_more()
            await asyncio.sleep(away_for - (asyncio.get_running_loop().time() - began))
            assert polls.wait

            await outage.end()
            async with asyncio.timeout(HEALED_WITHIN + SLACK):
                await until_link([*nodes, strict], up=True, seconds=HEALED_WITHIN + SLACK)
                await until_registered(redis, namespace, sum(sessions) + len(newcomers))
                for newcomer in newcomers:
                    await asyncio.gather(*(until_found(node, newcomer.name) for node in nodes))
            await polls.end()
            await asyncio.gather(far.until_accepted(), near.until_accepted())
            await far.stop()
            await near.stop()
            await far.check()
            await near.check()
            assert far.closed == near.closed == {}
            assert {*near.statuses} == {("accepted", True)}
            assert max(told.seconds for talker in near.talkers for told in talker.told) < SLACK
            assert [newcomer.closed for newcomer in newcomers] == [None] * 3
            for number, node in enumerate(nodes):
                after = await node.state()
                kinds = [error for error, _ in after["errors"]]
                assert kinds == ["error::bus", "error::connect", "error::bus"], after["errors"]
                assert after["ended"] == []
                assert after["tasks"] <= before[number]["tasks"] + 2
                assert await node.ask("/blocks") <= blocks[number] + LEFT_BEHIND + LEFT_BY_EACH * after["sessions"]


class Polls:
    """A connection by polling whose requests go through other servers."""

    def __init__(self, owner: Polling, first: NodeProcess, second: NodeProcess, patience: float) -> None:
        self._patience = patience
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
        async with asyncio.timeout(self._patience):
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


def test_a_link_that_is_not_yet_as_it_was_counts_as_just_back() -> None:
    with member() as node:
        link = node.cluster.link
        assert not node.cluster.came_back_within(LONG)
        link.step(Event.FAILED, "no answer")
        link.step(Event.PROVEN)
        # The backend answers: requests that waited look for their servers, whose leases may not be there yet.
        assert (link.is_reachable, link.state) == (True, State.DEAF)
        assert node.cluster.came_back_within(5.0)
        link.step(Event.HEARD)
        assert node.cluster.came_back_within(5.0)
        node.loop.advance(10.0)
        assert not node.cluster.came_back_within(5.0)
