"""Calls of a session of another server: what its client answers, and what becomes of those without an answer."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from primacron import CallRefused, CallTimedOut, Primacron, SessionGone, SessionUnreachable
from primacron.sessions.calls import Calls
from primacron.testing import Client
from tests.cluster.fleet import Fleet, cluster_of, local, until
from tests.cluster.nodes import node_process
from tests.support.hearing import DEADLINE
from tests.support.redis import RedisProcess

BACKENDS = ("memory", "redis")


class Pair:
    """Two servers, and a client of the far one."""

    def __init__(self, near: Primacron, far: Primacron, client: Client) -> None:
        self.near = near
        self.far = far
        self.client = client

    def call(self, event: str = "ask", *args: Any, timeout: float | None = None) -> asyncio.Task[Any]:
        """Begin a call from the near server."""
        return asyncio.create_task(self.near.session("ann", "far").call(event, *args, timeout=timeout))


@pytest.fixture
async def pair(fleet: Fleet) -> Pair:
    near, far = await fleet.started(2)
    return Pair(near, far, await fleet.join(far, "ann", "far"))


@pytest.mark.parametrize(
    ("answer", "result"),
    [([], None), ([1], 1), ([None], None), ([1, "two"], (1, "two")), ([[1, {"a": 2}]], [1, {"a": 2}])],
)
async def test_a_call_returns_what_the_far_client_answers(pair: Pair, answer: list[Any], result: Any) -> None:
    call = pair.call("ask", "what?", {"a": [1]})
    received = await pair.client.receive()
    assert (received.event, received.args) == ("ask", ("what?", {"a": [1]}))
    await pair.client.answer(received, *answer)
    assert await call == result


async def test_calls_from_several_servers_are_told_apart(fleet: Fleet) -> None:
    servers = await fleet.started(3)
    client = await fleet.join(servers[2], "ann", "far")
    calls = [
        asyncio.create_task(server.session("ann", "far").call("ask", number)) for number, server in enumerate(servers)
    ]
    asked = [await client.receive() for _ in calls]
    for received in reversed(asked):
        await client.answer(received, received.args[0] * 10)
    assert [await call for call in calls] == [0, 10, 20]


async def test_an_error_answer_is_raised_with_its_parts(fleet: Fleet) -> None:
    near, far = await fleet.started(2)
    client = await (await fleet.serve(far)).connect("account=ann&session=far")
    call = asyncio.create_task(near.session("ann", "far").call("ask"))
    number = (await client.receive())["id"]
    await client.send({"ack": number, "error": {"type": "validation", "message": "no number", "path": "$[0]"}})
    with pytest.raises(CallRefused, match="no number") as caught:
        await call
    assert (caught.value.type, caught.value.message, caught.value.path) == ("validation", "no number", "$[0]")


async def test_a_call_without_an_answer_times_out(pair: Pair) -> None:
    call = pair.call(timeout=0.1)
    late = await pair.client.receive()
    with pytest.raises(CallTimedOut, match=r"no answer within 0\.1 s"):
        await call
    await pair.client.answer(late, "too late")
    call = pair.call()
    await pair.client.answer(await pair.client.receive(), "in time")
    assert await call == "in time"


async def test_a_call_of_nobody_is_gone(pair: Pair) -> None:
    for account, session in (("ann", "nobody"), ("nobody", "far")):
        with pytest.raises(SessionGone):
            await pair.near.session(account, session).call("ask")


async def test_a_call_whose_client_goes_away_is_gone(pair: Pair) -> None:
    call = pair.call()
    await pair.client.receive()
    await pair.client.close()
    with pytest.raises(SessionGone):
        await call
    with pytest.raises(SessionGone):  # the place of the session is remembered
        await pair.call()


async def test_a_call_at_a_server_that_does_not_hear_is_unreachable_since_the_session_may_live(pair: Pair) -> None:
    await cluster_of(pair.far).bus.leave()
    with pytest.raises(SessionUnreachable, match="may be alive: unsent, its client was not asked") as caught:
        await pair.call()
    assert (caught.value.session, caught.value.status, caught.value.certain) == ("far", "unsent", True)


async def test_without_redis_a_session_elsewhere_is_unreachable_not_gone(namespace: str, anyio_backend: object) -> None:
    with RedisProcess() as redis:
        async with Fleet(lambda: redis.url, namespace, [redis]) as fleet:
            near, far = await fleet.started(2, redis_timeout=0.5)
            await fleet.join(far, "ann", "far")
            cluster = cluster_of(near)
            redis.kill()
            await until(lambda: not cluster.link.is_reachable, "the end of the link")
            with pytest.raises(SessionUnreachable) as caught:
                await near.session("ann", "far").call("ask")
            assert (caught.value.status, caught.value.certain) == ("unsent", True)
            redis.start()
            await until(lambda: not near.unready(), "the link")
            # Whether there is such a session cannot be said before all have written theirs again.
            with pytest.raises(SessionUnreachable):
                await near.session("ann", "nobody").call("ask")


@pytest.mark.parametrize("backend", ["redis"])
async def test_a_call_whose_server_stands_still_is_unreachable_since_its_client_may_have_been_asked(
    fleet: Fleet, redis_process: RedisProcess, namespace: str
) -> None:
    place = {"url": redis_process.url}
    async with node_process(place, namespace=namespace) as far:
        await far.ask("/crowd", name="far", count="1")
        (near,) = await fleet.started(1)
        async with asyncio.timeout(DEADLINE):
            while await near.find("far-0", "far-0") is None:
                await asyncio.sleep(0.05)
        target = near.session("far-0", "far-0")
        with pytest.raises(CallTimedOut):
            await target.call("ask", timeout=0.1)
        far.freeze()
        with pytest.raises(SessionUnreachable, match="may have been asked") as caught:
            await target.call("ask")
        assert (caught.value.status, caught.value.certain) == ("node_gone", False)


async def test_a_far_client_of_primus_cannot_be_called(fleet: Fleet) -> None:
    near, far = await fleet.started(2)
    await (await fleet.serve(far)).connect("account=ann&session=far&_primuscb=x")
    with pytest.raises(ValueError, match="Primus"):
        await near.session("ann", "far").call("ask")


@pytest.mark.parametrize(("value", "error"), [(2**64, ValueError), (object(), TypeError)])
async def test_arguments_that_cannot_travel_are_refused_at_once(
    pair: Pair, value: object, error: type[Exception]
) -> None:
    with pytest.raises(error):
        await pair.call("ask", value)


async def test_an_answer_that_cannot_travel_is_told_as_such(pair: Pair) -> None:
    call = pair.call()
    await pair.client.answer(await pair.client.receive(), 2**64)
    with pytest.raises(ValueError, match="not for other servers"):
        await call
    assert pair.far.metrics["error::handler"] == 0


async def test_a_large_answer_comes_back_whole(fleet: Fleet) -> None:
    near, far = await fleet.started(2)
    client = await fleet.join(far, "ann", "far")
    call = asyncio.create_task(near.session("ann", "far").call("ask", "x" * 900_000))
    received = await client.receive()
    await client.answer(received, *received.args)
    assert await call == "x" * 900_000


async def test_a_handler_can_call_its_own_client_and_a_far_one(fleet: Fleet) -> None:
    near, far = fleet.new(), fleet.new()

    @near.event("both")
    async def both(session: Any) -> list[Any]:
        return [await session.call("ask"), await near.session("bob", "bob").call("ask")]

    await fleet.start(near, far)
    ann, bob = await fleet.join(near, "ann"), await fleet.join(far, "bob")
    outcome = asyncio.create_task(ann.call("both"))
    await ann.answer(await ann.receive(), "ann")
    await bob.answer(await bob.receive(), "bob")
    assert await outcome == ["ann", "bob"]


async def test_nothing_is_left_of_calls(pair: Pair) -> None:
    calls = [pair.call(timeout=0.1), pair.call()]
    await pair.client.answer([await pair.client.receive() for _ in calls][1], 1)
    await asyncio.gather(*calls, return_exceptions=True)
    assert not local(pair.far, "ann", "far").demand(Calls).waiting
    await until(lambda: not len(cluster_of(pair.near).requests), "the end of all requests")
