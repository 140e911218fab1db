"""Channels with history across servers: one order for all, whichever server one is at, comes from or goes to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from primacron import Primacron, Reach, Receipt
from primacron.features.channels import histories
from primacron.positions import Position
from tests.channels.followers import Follower
from tests.channels.talkers import Talker
from tests.cluster.fleet import Fleet, cluster_of, local
from tests.cluster.walker import Scene, Walker
from tests.support.engine import Client
from tests.support.hearing import Hearing

BACKENDS = ("memory", "redis", "redis-cluster")

ACCEPTED = Receipt("accepted")


def with_history(fleet: Fleet, count: int, *, history: int = 1_000, **options: Any) -> list[Primacron]:
    """Return servers, not started, whose clients may join the channel ``lot:7`` and others."""
    servers = [fleet.new(**options) for _ in range(count)]
    for server in servers:
        server.channels("lot:{number}", history=history, keep=60)
    return servers


@pytest.fixture
async def servers(fleet: Fleet) -> list[Primacron]:
    servers = with_history(fleet, 3)
    await fleet.start(*servers)
    return servers


@pytest.fixture
async def fronts(fleet: Fleet, servers: list[Primacron]) -> list[Client]:
    return [await fleet.serve(server) for server in servers]


@pytest.fixture
async def followers(fronts: list[Client]) -> AsyncIterator[list[Follower]]:
    """A member on each server."""
    followers = [await Follower.join(front, f"a{number}", "lot:7") for number, front in enumerate(fronts)]
    yield followers
    for follower in followers:
        await follower.close()


async def test_all_get_all_in_one_order(servers: list[Primacron], followers: list[Follower]) -> None:
    sent: dict[str, list[Any]] = {server.node.id: [] for server in servers}
    for number in range(100):
        for server in servers:
            delivery = server.channel("lot:7").emit("bid", server.node.id, number, receipt=True)
            sent[server.node.id].append(delivery)
        if number % 7 == 0:
            await asyncio.sleep(0)
    last = Position("", 0)
    places: dict[int, list[Any]] = {}
    for id, deliveries in sent.items():
        for number, delivery in enumerate(deliveries):
            reach = await delivery
            assert reach == Reach(1, 1, position=reach.position)
            places[reach.position.offset] = [id, number]
            last = max(last, reach.position, key=lambda each: each.offset)
    assert sorted(places) == [*range(1, 301)]
    for follower in followers:
        await follower.until_at(last)
        assert follower.contents == [places[offset] for offset in range(1, 301)]
        assert not follower.gaps
        for id in sent:
            assert [number for sender, number in follower.contents if sender == id] == [*range(100)]


async def test_what_is_too_large_for_the_topic_is_read_from_the_list(
    servers: list[Primacron], followers: list[Follower]
) -> None:
    sizes = [10, 250_000, 10, 600_000, 300_000, 10]
    for number, size in enumerate(sizes):
        reach = await servers[number % 3].channel("lot:7").emit("bid", "x" * size)
    assert reach.position is not None
    for follower in followers:
        await follower.until_at(reach.position)
        assert [len(args[0]) for args in follower.contents] == sizes
        assert not follower.gaps


async def test_who_comes_back_at_another_server_misses_nothing(
    servers: list[Primacron], fronts: list[Client], followers: list[Follower]
) -> None:
    sent = 0

    async def publish(count: int) -> Reach:
        nonlocal sent
        for _ in range(count):
            reach = await servers[sent % 3].channel("lot:7").emit("bid", sent)
            sent += 1
        return reach

    for number in range(10):
        await publish(3)
        for place, follower in enumerate(followers):
            await follower.come_back(fronts[(place + number) % 3], f"b{place}")
    reach = await publish(1)
    assert reach.position is not None
    for follower in followers:
        await follower.until_at(reach.position)
        assert follower.contents == [[number] for number in range(sent)]
        assert not follower.gaps


def hold(server: Primacron) -> Callable[[], None]:
    """Let what is published to a server lie; return what lets it arrive."""
    cluster, held = cluster_of(server), []
    functions = [*cluster.on_published]
    cluster.on_published[:] = [lambda *published: held.append(published)]

    def let_arrive() -> None:
        cluster.on_published[:] = functions
        for published in held:
            for function in functions:
                function(*published)

    return let_arrive


async def test_who_comes_from_a_faster_server_gets_nothing_twice(
    servers: list[Primacron], fronts: list[Client], followers: list[Follower]
) -> None:
    let_arrive = hold(servers[1])
    for number in range(4):
        reach = await servers[0].channel("lot:7").emit("bid", number)
    assert reach.position is not None
    await followers[0].until_at(reach.position)
    assert followers[1].contents == []
    await followers[0].come_back(fronts[1], "b0")
    about = followers[0].answers[-1]["args"][0]
    assert (about["offset"], about["recovered"]) == (4, True)
    let_arrive()
    last = await servers[0].channel("lot:7").emit("bid", 4)
    assert last.position is not None
    for follower in followers:
        await follower.until_at(last.position)
        assert follower.contents == [[number] for number in range(5)]


async def test_a_join_that_was_given_up_leaves_nothing_behind_but_where_the_member_was(fleet: Fleet) -> None:
    (server,) = servers = with_history(fleet, 1, handler_timeout=0.3)
    await fleet.start(*servers)
    lists, opens = cluster_of(server).lists, asyncio.Event()
    talker = await Talker.connect(await fleet.serve(server), "ann")
    assert "args" in await talker.join("lot:7")
    for number in range(10):
        await server.channel("lot:7").emit("bid", number)
        assert (await talker.hear())["offset"] == number + 1
    read, asked = lists.read, asyncio.Event()

    async def read_later(*args: Any) -> Any:
        page = await read(*args)
        asked.set()
        await opens.wait()
        return page

    lists.read = read_later  # type: ignore[method-assign, assignment]
    await talker.say({"join": "lot:7", "id": 2, "last": 5})
    await asked.wait()
    for number in range(10, 13):
        await server.channel("lot:7").emit("bid", number)
    assert "error" in await talker.hear()
    opens.set()
    await server.channel("lot:7").emit("bid", 13)
    assert [(await talker.hear()).get("offset") for _ in range(4)] == [11, 12, 13, 14]


@pytest.mark.parametrize("backend", ["memory"])
async def test_a_server_that_sends_without_pause_lets_its_first_member_in(fleet: Fleet) -> None:
    (server,) = servers = with_history(fleet, 1)
    await fleet.start(*servers)
    lists = cluster_of(server).lists
    append = lists.append
    unanswered: list[Callable[[], None]] = []
    sent = 0

    def append_slowly(*args: Any) -> asyncio.Future[Any]:
        done, later = append(*args), asyncio.get_running_loop().create_future()
        unanswered.append(lambda: later.set_result(done.result()))
        return later

    async def send_on() -> None:
        """Get each answer only when the next one is under way."""
        nonlocal sent
        while True:
            sent += 1
            server.channel("lot:7").emit("bid", sent)
            await asyncio.sleep(0.002)
            while len(unanswered) > 1:
                unanswered.pop(0)()

    lists.append = append_slowly  # type: ignore[method-assign, assignment]
    talker = await Talker.connect(await fleet.serve(server), "ann")
    sending = asyncio.create_task(send_on())
    offset = (await talker.join("lot:7"))["args"][0]["offset"]
    assert [(await talker.hear())["offset"] for _ in range(50)] == [*range(offset + 1, offset + 51)]
    sending.cancel()
    await asyncio.wait({sending})
    for answer in unanswered:
        answer()


async def test_a_failure_at_a_message_is_reported_and_leaves_no_server_deaf(
    servers: list[Primacron], followers: list[Follower]
) -> None:
    problems = Hearing(servers[0], "error::*")
    failing = [KeyError("published"), KeyError("topic")]
    cluster_of(servers[0]).on_published.insert(0, fails_with(failing[0]))
    cluster_of(servers[0]).on_topic.insert(0, fails_with(failing[1]))
    for number in range(3):
        servers[1].channel("lot:7").emit("bid", number)
        assert (await problems.next_error())[0] is failing[0]
    (session,) = servers[0].node.hub.sessions
    assert await session.join("lot:8") == ACCEPTED
    assert (await problems.next_error())[0] is failing[1]
    await followers[0].until(lambda: followers[0].contents == [[0], [1], [2]], "all messages")


def fails_with(error: Exception) -> Callable[..., None]:
    def fail(*_: Any) -> None:
        raise error

    return fail


@pytest.mark.parametrize("backend", ["memory", "redis"])
async def test_a_lost_last_message_is_found(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, anyio_backend: object
) -> None:
    monkeypatch.setattr(histories, "COMPARE_EVERY", 0.3)
    servers = with_history(fleet, 2)
    await fleet.start(*servers)
    follower = await Follower.join(await fleet.serve(servers[1]), "ann", "lot:7")
    first = await servers[0].channel("lot:7").emit("bid", 1)
    assert first.position is not None
    await follower.until_at(first.position)
    functions = [*cluster_of(servers[1]).on_published]
    cluster_of(servers[1]).on_published.clear()
    reach = await servers[0].channel("lot:7").emit("bid", 2)
    assert reach.position is not None
    await follower.until_at(reach.position)
    cluster_of(servers[1]).on_published[:] = functions
    assert follower.contents == [[1], [2]]
    await follower.close()


async def test_an_application_reads_and_clears_on_every_server(servers: list[Primacron]) -> None:
    for number, server in enumerate(servers):
        await server.channel("lot:7").emit("bid", number)
    for server in servers:
        assert [each.args for each in (await server.channel("lot:7").history()).messages] == [(0,), (1,), (2,)]
    await servers[1].channel("lot:7").clear()
    for server in servers:
        page = await server.channel("lot:7").history()
        assert (page.messages, page.position.offset) == ((), 3)


async def test_a_key_counts_on_all_servers(servers: list[Primacron], followers: list[Follower]) -> None:
    reaches = [await server.channel("lot:7").emit("bid", 1, key="k") for server in servers]
    assert len({reach.position for reach in reaches}) == 1
    last = await servers[0].channel("lot:7").emit("bid", 2)
    assert last.position is not None
    for follower in followers:
        await follower.until_at(last.position)
        assert follower.contents == [[1], [2]]


# Moves


@pytest.fixture
async def scene(fleet: Fleet, servers: list[Primacron], fronts: list[Client]) -> AsyncIterator[Scene]:
    scene = Scene(fleet, servers, fronts)
    yield scene
    await scene.close()


async def read_until(walker: Walker, event: str) -> list[Any]:
    """Return all messages of a walker before an event."""
    messages: list[Any] = []
    while (message := await walker.receive()).get("event") != event:
        messages.append(message)
    return messages


async def test_a_session_that_moves_gets_each_message_once_in_order(scene: Scene) -> None:
    walker = await scene.walker("account=ann&session=a&resume=1")
    (session,) = scene.servers[0].node.hub.sessions
    assert await session.join("lot:7") == ACCEPTED
    start = (await walker.receive())["joined"]["offset"]
    sent: list[Any] = []
    moving: asyncio.Task[Any] = asyncio.create_task(walker.upgrade())
    while not moving.done() or len(sent) < 900:
        sent += [server.channel("lot:7").emit("bid", len(sent), receipt=True) for server in scene.servers]
        await asyncio.sleep(0.001)
    moved = await scene.arrival()
    assert moved.channels == {"lot:7"}
    await asyncio.wait(sent)
    await scene.servers[0].channel("lot:7").emit("end")
    messages = await read_until(walker, "end")
    assert [each.get("offset") for each in messages] == [*range(start + 1, start + 1 + len(sent))]


async def test_a_session_takes_its_position_along(scene: Scene) -> None:
    walker = await scene.walker("account=ann&session=a&resume=1")
    (session,) = scene.servers[0].node.hub.sessions
    await session.join("lot:7")
    let_arrive = hold(scene.servers[1])
    for number in range(3):
        await scene.servers[0].channel("lot:7").emit("bid", number)
    # The destination hears the channel first with what it is to get after the move.
    await walker.upgrade()
    moved = await scene.arrival()
    let_arrive()
    await scene.servers[2].channel("lot:7").emit("bid", 3)
    await moved.emit("end")
    await scene.servers[2].channel("lot:7").emit("end")
    messages = [each for each in await read_until(walker, "end") if "offset" in each]
    messages += [each for each in await read_until(walker, "end") if "offset" in each]
    assert [each["offset"] for each in messages] == [1, 2, 3, 4]
    assert local(scene.servers[1], "ann", "a").channels == {"lot:7"}
