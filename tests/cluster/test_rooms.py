"""Rooms across servers: who gets what is sent to them, what the reach says, and what moves along."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from primacron import Primacron, Reach, Receipt
from primacron.cluster.memory import Shared
from primacron.routing.targets import CallResult, SessionInfo
from primacron.testing import Client
from tests.cluster.fleet import Fleet, cluster_of, local, until
from tests.cluster.walker import Scene
from tests.support.hearing import Hearing

BACKENDS = ("memory", "redis", "redis-cluster")

ACCEPTED = Receipt("accepted")


async def names_until(client: Client, last: str = "end") -> list[str]:
    """Return the names of all events before the last one."""
    names: list[str] = []
    while (name := (await client.receive()).event) != last:
        names.append(name)
    return names


async def put(servers: list[Primacron], number: int, session: str, *channels: str) -> None:
    """Put the session of ``ann`` on a server into channels, and wait until the server hears them."""
    for channel in channels:
        assert await local(servers[number], "ann", session).join(channel) == ACCEPTED


@pytest.fixture
async def servers(fleet: Fleet) -> list[Primacron]:
    return await fleet.started(3)


@pytest.fixture
async def clients(fleet: Fleet, servers: list[Primacron]) -> list[Client]:
    """A client on each server: all are in ``all``, each but the first in ``some``, each in its own."""
    clients = [await fleet.join(server, "ann", f"a{number}") for number, server in enumerate(servers)]
    for number in range(3):
        await put(servers, number, f"a{number}", "all", f"own{number}", *(["some"] if number else []))
    return clients


async def test_a_channel_is_reached_from_every_server(servers: list[Primacron], clients: list[Client]) -> None:
    failed = Hearing(servers[0], "error::*")
    for number, server in enumerate(servers):
        assert await server.channel("all").emit(f"all{number}") == Reach(3, 3)
    assert await servers[0].channel("some").emit("some") == Reach(3, 2)
    assert await servers[1].channel("some").emit("others", except_=local(servers[1], "ann", "a1")) == Reach(3, 1)
    assert await servers[2].channel("nobody").emit("nobody") == Reach(3, 0)
    for server in servers:
        assert await server.channel("all").count() == Reach(3, 3)
        assert await server.channel("own0").count() == Reach(3, 1)
    await servers[0].everyone.emit("end")
    alls = ["all0", "all1", "all2"]
    heard = [sorted(await names_until(client)) for client in clients]
    assert heard == [alls, sorted([*alls, "some"]), sorted([*alls, "some", "others"])]
    assert failed.is_empty


async def test_who_is_in_several_channels_gets_what_is_sent_to_their_union_once(
    servers: list[Primacron], clients: list[Client]
) -> None:
    for server in servers:
        assert await server.channel("all", "some", "own1").emit("x") == Reach(3, 3)
        assert await server.channel("own1", "own2").emit("y") == Reach(3, 2)
    await servers[0].everyone.emit("end")
    heard = [sorted(await names_until(client)) for client in clients]
    assert heard == [["x"] * 3, ["x"] * 3 + ["y"] * 3, ["x"] * 3 + ["y"] * 3]


async def test_only_servers_with_members_hear_a_channel_and_they_for_some_seconds_longer(
    servers: list[Primacron], clients: list[Client]
) -> None:
    topics = [cluster_of(server).topics for server in servers]
    assert [each.hears("some") for each in topics] == [False, True, True]
    assert await local(servers[1], "ann", "a1").leave("some") == ACCEPTED
    assert topics[1].hears("some")
    assert await servers[0].channel("some").emit("x") == Reach(3, 1)
    await put(servers, 1, "a1", "some")
    assert await local(servers[2], "ann", "a2").leave("some") == ACCEPTED
    await until(lambda: not topics[2].hears("some"), "the end of the subscription", 10)
    assert topics[1].hears("some")


@pytest.mark.parametrize("size", [250_000, 3_000_000])
async def test_large_content_reaches_all(servers: list[Primacron], clients: list[Client], size: int) -> None:
    assert await servers[0].channel("all", "some").emit("large", "x" * size) == Reach(3, 3)
    assert await servers[0].channel("all").emit("small") == Reach(3, 3)
    for client in clients:
        assert len((await client.receive()).args[0]) == size
        assert (await client.receive()).event == "small"


async def test_the_order_of_each_sender_holds(servers: list[Primacron], clients: list[Client]) -> None:
    for number in range(300):
        for server in servers:
            server.channel("all").emit(server.node.id, number)
        if number % 5 == 0:
            await asyncio.sleep(0)
    for client in clients:
        heard: dict[str, list[int]] = {server.node.id: [] for server in servers}
        for _ in range(900):
            received = await client.receive()
            heard[received.event].append(received.args[0])
        assert list(heard.values()) == [[*range(300)]] * 3


async def test_every_target_joins_and_leaves_on_all_servers(servers: list[Primacron], clients: list[Client]) -> None:
    first, second, _ = servers
    assert await first.session("ann", "a2").join("one") == ACCEPTED
    assert await first.account("ann").join("two") == Reach(3, 3)
    assert await second.everyone.join("three") == Reach(3, 3)
    assert await second.channel("some").join("four") == Reach(3, 2)
    assert [await first.channel(name).count() for name in ("one", "two", "three", "four")] == [
        Reach(3, count) for count in (1, 3, 3, 2)
    ]
    found = await first.channel("four").sessions()
    assert sorted(found, key=lambda each: each.id) == [
        SessionInfo(each.account, each.id, server.node.id)
        for each, server in ((local(server, "ann", f"a{n}"), server) for n, server in enumerate(servers) if n)
    ]
    assert await first.session("ann", "a2").leave("one") == ACCEPTED
    assert await first.account("ann").leave("two") == Reach(3, 3)
    assert await second.everyone.leave("three") == Reach(3, 3)
    assert await second.channel("some").leave("four") == Reach(3, 2)
    assert [await first.channel(name).count() for name in ("one", "two", "three", "four")] == [Reach(3, 0)] * 4
    assert await first.session("ann", "nobody").join("one") == Receipt("unknown_session")


async def test_members_of_all_servers_are_called(servers: list[Primacron], clients: list[Client]) -> None:
    calls = asyncio.create_task(servers[0].channel("all").call("vote", timeout=5))
    for number, client in enumerate(clients):
        await client.answer(await client.receive(), number)
    found = sorted(await calls, key=lambda each: each.session)
    assert found == [CallResult("ann", f"a{number}", "answered", number) for number in range(3)]  # type: ignore[arg-type]


async def test_all_members_are_disconnected(servers: list[Primacron], clients: list[Client]) -> None:
    assert await servers[0].channel("some").disconnect("closed") == Reach(3, 2)
    assert [await client.closed() for client in clients[1:]] == ["closed"] * 2
    assert clients[0].is_quiet


@pytest.mark.parametrize("backend", ["memory"])
async def test_what_is_sent_while_the_backend_is_away_reaches_this_server_alone(fleet: Fleet) -> None:
    shared = fleet.given()
    assert isinstance(shared, Shared)
    servers = await fleet.started(2)
    for number, server in enumerate(servers):
        await fleet.join(server, "ann", f"a{number}")
        await put(servers, number, f"a{number}", "all")
    shared.away = True
    await until(lambda: not cluster_of(servers[0]).link.is_reachable, "the loss of the link")
    reach = await servers[0].channel("all").emit("x")
    assert (reach.sessions, reach.certain) == (1, False)
    assert await local(servers[0], "ann", "a0").leave("all") == ACCEPTED
    shared.away = False
    await until(lambda: all(server.unready() == [] for server in servers), "the return")
    reach = await servers[0].channel("all").emit("y")
    assert (reach.nodes, reach.sessions, reach.certain) == (2, 1, False)


@pytest.mark.parametrize("backend", ["memory"])
async def test_each_join_has_its_own_time_to_be_heard(fleet: Fleet) -> None:
    shared = fleet.given()
    assert isinstance(shared, Shared)
    (server,) = await fleet.started(1, receipt_timeout=2)
    await fleet.join(server, "ann", "a")
    session = local(server, "ann", "a")
    shared.away = True
    first = session.join("room")
    await asyncio.sleep(1.5)
    shared.away = False
    assert await first == ACCEPTED
    shared.away = True
    session.leave("room")
    second = session.join("room")
    await asyncio.sleep(0.7)  # the time of the first is over
    shared.away = False
    assert await second == ACCEPTED


# Moves


@pytest.fixture
async def scene(fleet: Fleet) -> AsyncIterator[Scene]:
    servers = await fleet.started(3)
    scene = Scene(fleet, servers, [await fleet.serve(server) for server in servers])
    yield scene
    await scene.close()


async def test_a_session_takes_its_channels_along_and_nobody_hears_it_leave(scene: Scene) -> None:
    told = [Hearing(server, "channel::join", "channel::leave") for server in scene.servers]
    walker = await scene.walker()
    (session,) = scene.servers[0].node.hub.sessions
    assert await session.join("room") == ACCEPTED
    assert (await told[0].next())[1] == "room"
    await walker.upgrade()
    moved = await scene.arrival()
    assert moved.channels == {"room"}
    assert cluster_of(scene.destination).topics.hears("room")
    for server in scene.servers:
        assert (await server.channel("room").count()).sessions == 1
        assert (await server.channel("room").emit("x")).sessions == 1
        assert (await walker.receive())["event"] == "x"
    # The session of the first server is elsewhere by now, and what is done to it follows.
    assert await session.join("other") == ACCEPTED
    assert moved.channels == {"room", "other"}
    assert await session.leave("room") == ACCEPTED
    assert moved.channels == {"other"}
    assert [(await told[1].next())[1] for _ in range(2)] == ["other", "room"]
    assert all(each.is_empty for each in told)


@pytest.mark.parametrize("target", ["channel", "everyone", "account"])
async def test_each_sender_s_order_holds_while_a_session_moves(scene: Scene, target: str) -> None:
    targets = [
        {"channel": server.channel("room"), "everyone": server.everyone, "account": server.account("ann")}[target]
        for server in scene.servers
    ]
    walker = await scene.walker()
    (session,) = scene.servers[0].node.hub.sessions
    assert await session.join("room") == ACCEPTED
    sent = 0
    moving: asyncio.Task[Any] = asyncio.create_task(walker.upgrade())
    while not moving.done() or sent < 300:
        for server, each in zip(scene.servers, targets, strict=True):
            each.emit(server.node.id, sent)
        sent += 1
        await asyncio.sleep(0.001)
    await scene.arrival()
    for server, each in zip(scene.servers, targets, strict=True):
        each.emit(server.node.id, "end")
    heard: dict[str, list[Any]] = {server.node.id: [] for server in scene.servers}
    while [values[-1:] for values in heard.values()] != [["end"]] * 3:
        message = await walker.receive()
        heard[message["event"]] += message["args"]
    assert list(heard.values()) == [[*range(sent), "end"]] * 3
