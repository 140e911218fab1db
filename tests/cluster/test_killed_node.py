"""A server that is killed, and one that stands still for longer than its lease."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from tests.cluster.fleet import Fleet, cluster_of, until
from tests.cluster.nodes import NodeProcess, node_processes
from tests.cluster.traffic import Talker, Traffic, problems, traffic
from tests.support.engine import Client, Polling
from tests.support.hearing import Hearing
from tests.support.http import Response
from tests.support.proxy import RedisProxy
from tests.support.redis import RedisProcess

#: Seconds after which nobody finds the sessions of a server that was killed.
GONE_WITHIN: Final = 5.0
DEADLINE: Final = 20.0
UNKNOWN_SID: Final = {"code": 1, "message": "Session ID unknown"}


@asynccontextmanager
async def three(redis: RedisProcess, namespace: str) -> AsyncIterator[tuple[list[NodeProcess], Traffic]]:
    """Run three servers under load."""
    async with (
        node_processes(3, {"url": redis.url}, namespace=namespace) as nodes,
        traffic(nodes) as running,
    ):
        await running.until_accepted()
        yield nodes, running


async def until_found(node: NodeProcess, name: str, place: str | None, seconds: float = DEADLINE) -> None:
    """Wait until a server finds a session at another one, or with None does not find it."""
    async with asyncio.timeout(seconds):
        while await find(node, name) != place:
            await asyncio.sleep(0.02)


async def find(node: NodeProcess, name: str) -> Any:
    """Return at which server a session is, as another server says."""
    return await node.ask("/find", account=name, session=name)


async def held_poll(owner: NodeProcess, through: NodeProcess, name: str) -> tuple[Polling, asyncio.Task[Response]]:
    """Open a connection by polling, and poll through another server."""
    near = await owner.client.poll_in(f"account={name}")
    far = Polling(Client(through.port), near.opened, 4)
    await far.emit("echo", 1)
    assert (await far.poll()).text == '4{"event":"echo","args":[1]}'
    return near, asyncio.create_task(far.poll())


async def test_a_killed_server_is_soon_gone_from_every_answer(
    redis_process: RedisProcess, namespace: str, anyio_backend: object
) -> None:
    async with three(redis_process, namespace) as (nodes, running):
        first, second, victim = nodes
        lost = [talker for talker in running.talkers if talker.node is victim]
        _, poll = await held_poll(victim, first, "poller")
        loop = asyncio.get_running_loop()
        victim.kill()
        killed_at = loop.time()
        await victim.program.wait()

        # Who comes back at once is found at once, although the lease of the killed server has not ended.
        there = (await second.state())["node"]
        back = await Talker.connect(second, lost[0].name)
        assert await find(first, back.name) == there
        async with asyncio.timeout_at(killed_at + GONE_WITHIN):
            await asyncio.gather(*(until_found(first, each.name, None) for each in lost[1:]))
        assert await find(first, back.name) == await find(second, back.name) == there

        # Whoever sends to the others knows that, too.
        senders = [talker for talker, other in running.pairs() if other in lost[1:]]
        await asyncio.gather(*(talker.until_told("node_gone", DEADLINE) for talker in senders))
        async with asyncio.timeout(DEADLINE):
            response = await poll
        assert (response.status, response.json()) == (400, UNKNOWN_SID)
        await asyncio.gather(*(talker.until_told("accepted", DEADLINE) for talker in senders_to(running, back.name)))

        # One more comes back, and leaves in order: then it is certain that nobody has the session.
        for_a_while = await Talker.connect(first, lost[1].name)
        await asyncio.gather(*(each.until_told("accepted", DEADLINE) for each in senders_to(running, lost[1].name)))
        await for_a_while.close()
        await asyncio.gather(
            *(each.until_told("unknown_session", DEADLINE) for each in senders_to(running, lost[1].name))
        )
        await running.stop()
        await running.check()
        for sender in senders_to(running, back.name):
            accepted = [told.number for told in sender.told if told.status == "accepted"]
            await back.until_heard(accepted[-1])
            assert back.heard == [number for number in accepted if number >= back.heard[0]]
        await back.close()
        assert set(running.closed) == {talker.name for talker in lost}
        for node in (first, second):
            state = await node.state()
            assert state["unready"] == []
            assert problems(state) == []  # but for the poll that was refused


def senders_to(running: Traffic, name: str) -> list[Talker]:
    """Return who sends to a session."""
    return [talker for talker, other in running.pairs() if other.name == name]


async def test_a_server_that_stood_still_gives_up_what_others_have_and_takes_back_the_rest(
    redis_process: RedisProcess, namespace: str, anyio_backend: object
) -> None:
    async with three(redis_process, namespace) as (nodes, running):
        first, second, frozen = nodes
        stranded = [talker for talker in running.talkers if talker.node is frozen]
        place = (await frozen.state())["node"]
        polling, poll = await held_poll(first, frozen, "poller")
        frozen.freeze()
        async with asyncio.timeout(GONE_WITHIN):
            await asyncio.gather(*(until_found(first, each.name, None) for each in stranded))
        back = await Talker.connect(second, stranded[0].name)
        assert await find(first, back.name) == (await second.state())["node"]
        frozen.thaw()

        # What it has and nobody else claims is there again, and it does not take others for dead.
        await asyncio.gather(*(until_found(first, each.name, place) for each in stranded[1:]))
        await stranded[0].until_closed()
        assert stranded[0].closed == "replaced"
        await running.until_accepted()
        assert not poll.done()
        await polling.emit("echo", 2)
        assert (await poll).text == '4{"event":"echo","args":[2]}'
        await running.stop()
        await running.check()
        assert set(running.closed) == {back.name}
        assert await find(frozen, back.name) == (await second.state())["node"]
        assert back.closed is None
        for each in stranded:
            assert "node_gone" not in {told.status for told in each.told}, each.told
        await back.close()
        state = await frozen.state()
        assert state["ended"] == [[back.name, "replaced"]]
        for node in (first, second):
            assert (await node.state())["errors"] == []


async def test_a_server_that_is_cut_from_redis_serves_on_and_gives_up_what_others_have(
    redis_process: RedisProcess, namespace: str, anyio_backend: object
) -> None:
    async with RedisProxy(redis_process.port) as proxy:
        urls = itertools.cycle([redis_process.url, proxy.url])
        async with Fleet(lambda: next(urls), namespace, [redis_process]) as fleet:
            here, cut = await fleet.started(2, lease=1, redis_timeout=0.5)
            near = await fleet.join(cut, "ann", "near")
            taken = await fleet.join(cut, "ann", "taken")
            assert (await here.session("ann", "near").emit("told", 1)).status == "accepted"
            ended = [Hearing(server, "disconnection") for server in (here, cut)]

            await proxy.cut()
            await until(cut.unready, "it knows")
            assert not (await here.session("ann", "near").emit("told", 2)).ok
            assert (await cut.session("ann", "near").emit("told", 3)).status == "accepted"
            await until(lambda: not cluster_of(here).others(), "the others know")
            assert await here.find("ann", "near") is None
            newer = await fleet.join(here, "ann", "taken")

            await proxy.restore()
            assert await taken.closed() == "replaced"
            [session, reason] = await ended[1].next()
            assert (session.id, reason) == ("taken", "replaced")
            async with asyncio.timeout(DEADLINE):
                while await here.find("ann", "near") is None:
                    await asyncio.sleep(0.01)
            assert (await here.session("ann", "near").emit("told", 4)).status == "accepted"
            received = [(await near.receive()).args[0] for _ in range(3)]
            assert received == [1, 3, 4]  # what was sent to a server that hears nothing is lost, and was not promised
            assert (await cut.session("ann", "taken").emit("told", 5)).status == "accepted"
            assert (await newer.receive()).args == (5,)
            assert all(hearing.is_empty for hearing in ended)
