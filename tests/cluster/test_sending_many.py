"""Sending to an account, and to everyone, across servers: who gets it, and what the reach says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from primacron import Primacron, Reach, ReceiptNotRequested
from primacron.cluster.memory import Shared
from primacron.routing.targets import SessionInfo
from primacron.testing import Client
from tests.cluster.fleet import Fleet, cluster_of, local, until
from tests.support.hearing import Hearing

BACKENDS = ("memory", "redis", "redis-cluster")


class Crowd:
    """Three servers: ``ann`` has a session on each, ``bob`` one on the last."""

    def __init__(self, servers: list[Primacron], anns: list[Client], bob: Client) -> None:
        self.servers = servers
        self.anns = anns
        self.bob = bob
        self.first = servers[0]
        self.failed = Hearing(self.first, "error::*")

    @property
    def all(self) -> list[Client]:
        """All clients."""
        return [*self.anns, self.bob]


@pytest.fixture
async def crowd(fleet: Fleet) -> Crowd:
    servers = await fleet.started(3)
    anns = [await fleet.join(server, "ann", f"a{number}") for number, server in enumerate(servers)]
    return Crowd(servers, anns, await fleet.join(servers[2], "bob", "b"))


async def events_of(client: Client, last: str = "last") -> list[str]:
    """Return the names of all events that come before the last one."""
    names: list[str] = []
    while (name := (await client.receive()).event) != last:
        names.append(name)
    return names


async def heard_by_all(crowd: Crowd) -> list[list[str]]:
    """Return what each client has got."""
    await crowd.first.everyone.emit("last")
    return [await events_of(client) for client in crowd.all]


async def test_an_account_is_reached_on_all_its_servers(crowd: Crowd) -> None:
    assert await crowd.first.account("ann").emit("x", 1) == Reach(nodes=3, sessions=3)
    assert await crowd.first.account("bob").emit("y") == Reach(nodes=2, sessions=1)
    assert await crowd.servers[2].account("bob").emit("z") == Reach(nodes=1, sessions=1)
    assert await crowd.first.account("nobody").emit("w") == Reach(nodes=1, sessions=0)
    assert await heard_by_all(crowd) == [["x"], ["x"], ["x"], ["y", "z"]]
    assert crowd.failed.is_empty


async def test_everyone_is_reached_from_any_server(crowd: Crowd) -> None:
    for number, server in enumerate(crowd.servers):
        assert await server.everyone.emit(f"x{number}") == Reach(nodes=3, sessions=4)
    assert await crowd.first.broadcast({"event": "own", "args": []}) == Reach(nodes=3, sessions=4)
    assert await crowd.first.broadcast("text") == Reach(nodes=3, sessions=4)
    assert await heard_by_all(crowd) == [["x0", "x1", "x2", "own", "message"]] * 4


async def test_a_server_without_sessions_reaches_the_others_and_is_not_counted_by_them(fleet: Fleet) -> None:
    empty, full = await fleet.started(2)
    client = await fleet.join(full, "ann", "a")
    assert await empty.everyone.emit("x") == Reach(nodes=2, sessions=1)
    assert await full.everyone.emit("y") == Reach(nodes=1, sessions=1)
    assert [(await client.receive()).event for _ in range(2)] == ["x", "y"]


@pytest.mark.parametrize("number", [0, 1, 2])
async def test_who_is_left_out_gets_nothing_wherever_it_is(crowd: Crowd, number: int) -> None:
    server = crowd.servers[number]
    session = local(server, "ann", f"a{number}")
    info = SessionInfo(session.account, session.id, server.node.id)
    target = crowd.first.session("ann", f"a{number}")
    for left_out in (session, info, target):
        assert await crowd.first.account("ann").emit("x", except_=left_out) == Reach(3, 2)
        assert await crowd.first.everyone.emit("x", except_=left_out) == Reach(3, 3)
    assert await crowd.first.everyone.emit("y", except_=[target, crowd.first.session("bob", "b")]) == Reach(3, 2)
    expected = [["x"] * 6 + ["y"]] * 3 + [["x"] * 3]
    expected[number] = []
    assert await heard_by_all(crowd) == expected


async def test_volatile_events_are_dropped_for_far_clients_that_take_nothing(fleet: Fleet) -> None:
    near, far = await fleet.started(2)
    polling = await (await fleet.serve(far)).poll_in("account=ann&session=slow")
    quick = await fleet.join(far, "ann", "quick")
    for target in (near.account("ann"), near.everyone):
        assert await target.emit("kept") == Reach(2, 2)
        assert await target.emit("dropped", volatile=True) == Reach(2, 1)
    assert [(await quick.receive()).event for _ in range(4)] == ["kept", "dropped"] * 2
    body = (await polling.poll()).text
    assert body.count("kept") == 2
    assert "dropped" not in body


async def test_a_key_lets_each_session_get_a_send_to_many_once(crowd: Crowd) -> None:
    assert await crowd.servers[1].session("ann", "a2").emit("pay", key="k") == await crowd.servers[2].session(
        "ann", "a2"
    ).emit("pay", key="k")
    for server in crowd.servers:
        assert await server.account("ann").emit("pay", key="k") == Reach(3, 3)
        assert await server.everyone.emit("pay", key="k") == Reach(3, 4)
    assert await heard_by_all(crowd) == [["pay"]] * 4


async def test_the_order_of_sends_to_many_holds(crowd: Crowd) -> None:
    for number in range(300):
        crowd.first.everyone.emit("all", number)
        crowd.first.account("ann").emit("ann", number)
        if number % 5 == 0:
            await asyncio.sleep(0)
    for client in crowd.all:
        heard: dict[str, list[int]] = {"all": [], "ann": []}
        for _ in range(300 if client is crowd.bob else 600):
            received = await client.receive()
            heard[received.event].append(received.args[0])
        assert heard == {"all": [*range(300)], "ann": [] if client is crowd.bob else [*range(300)]}


@pytest.mark.parametrize("size", [250_000, 3_000_000])
async def test_large_content_reaches_all(crowd: Crowd, size: int) -> None:
    for target, sessions in ((crowd.first.everyone, 4), (crowd.first.account("ann"), 3)):
        assert await target.emit("large", "x" * size) == Reach(3, sessions)
    for client in crowd.anns:
        assert [len((await client.receive()).args[0]) for _ in range(2)] == [size, size]
    assert len((await crowd.bob.receive()).args[0]) == size


async def test_large_and_small_content_to_everyone_keeps_its_order(crowd: Crowd) -> None:
    for number in range(30):
        crowd.first.everyone.emit("n", number, "x" * (250_000 if number % 10 == 5 else 10))
        await asyncio.sleep(0)
    for client in crowd.all:
        assert [(await client.receive()).args[0] for _ in range(30)] == [*range(30)]


# Reaches that nobody, or somebody, wants


@pytest.mark.parametrize("target", ["account", "everyone"])
async def test_a_send_to_many_that_is_first_looked_at_in_a_later_tick_has_no_reach(crowd: Crowd, target: str) -> None:
    chosen: Any = crowd.first.account("ann") if target == "account" else crowd.first.everyone
    forgotten, asked = chosen.emit("x"), chosen.emit("x", receipt=True)
    assert (await asked).nodes == 3
    with pytest.raises(ReceiptNotRequested):
        await forgotten
    with pytest.raises(ReceiptNotRequested):
        forgotten.result()
    with pytest.raises(ReceiptNotRequested):
        forgotten.add_done_callback(print)


@pytest.mark.parametrize("size", [10, 250_000])
@pytest.mark.parametrize("target", ["account", "everyone"])
async def test_a_send_to_many_outside_of_any_task_calls_back(crowd: Crowd, target: str, size: int) -> None:
    chosen: Any = crowd.first.account("ann") if target == "account" else crowd.first.everyone
    loop = asyncio.get_running_loop()
    called: asyncio.Future[Reach] = loop.create_future()

    def send() -> None:
        chosen.emit("x", "x" * size).add_done_callback(lambda done: called.set_result(done.result()))

    loop.call_soon(send)
    async with asyncio.timeout(5):
        assert (await called).nodes == 3


# What cannot be counted


@pytest.mark.parametrize("backend", ["memory"])
async def test_a_server_that_does_not_answer_is_missing(fleet: Fleet) -> None:
    servers = await fleet.started(3, receipt_timeout=0.2)
    clients = [await fleet.join(server, "ann", f"a{number}") for number, server in enumerate(servers)]
    shared: Shared = fleet.given()
    loses = cluster_of(servers[2]).bus
    loses.hearing = False
    assert await servers[0].account("ann").emit("x") == Reach(2, 2, certain=False, missing=1)
    assert await servers[0].everyone.emit("y") == Reach(2, 2, certain=False, missing=1)
    shared.passes = lambda destination, _: destination != servers[0].node.id
    assert await servers[0].everyone.emit("z") == Reach(1, 1, certain=False, missing=2)
    assert [(await clients[0].receive()).event for _ in range(3)] == ["x", "y", "z"]


@pytest.mark.parametrize("backend", ["memory"])
async def test_without_the_link_only_local_sessions_are_reached_and_the_reach_is_uncertain(fleet: Fleet) -> None:
    near, far = await fleet.started(2)
    clients = [await fleet.join(server, "ann", name) for server, name in ((near, "near"), (far, "far"))]
    fleet.given().away = True
    for target in (near.account("ann"), near.everyone):
        assert await target.emit("x") == Reach(1, 1, certain=False, missing=1)
    assert [(await clients[0].receive()).event for _ in range(2)] == ["x", "x"]
    assert clients[1].is_quiet


# What cannot travel


@pytest.mark.parametrize("target", [lambda server: server.account("ann"), lambda server: server.everyone])
@pytest.mark.parametrize(("value", "error"), [(2**64, ValueError), (object(), TypeError)])
async def test_what_cannot_travel_is_refused_before_anybody_gets_it(
    crowd: Crowd, target: Callable[[Primacron], Any], value: object, error: type[Exception]
) -> None:
    with pytest.raises(error):
        target(crowd.first).emit("x", value)
    assert await heard_by_all(crowd) == [[]] * 4


async def test_servers_of_another_dialect_count_nobody(fleet: Fleet) -> None:
    near, far = fleet.new(), fleet.new(dialect="raw")
    await fleet.start(near, far)
    client = await (await fleet.serve(far)).websocket("account=ann&session=far")
    await client.receive()
    assert await near.everyone.emit("x") == Reach(2, 0)
    assert await near.account("ann").emit("x") == Reach(2, 0)
    assert await near.everyone.emit("message", "text") == Reach(2, 1)
    assert await client.receive() == "4text"


# Other things than sending


async def test_sessions_are_listed_wherever_they_are(crowd: Crowd) -> None:
    nodes = [server.node.id for server in crowd.servers]
    anns = [SessionInfo("ann", f"a{number}", node) for number, node in enumerate(nodes)]  # type: ignore[arg-type]
    bob = SessionInfo("bob", "b", nodes[2])  # type: ignore[arg-type]

    def order(info: SessionInfo) -> str:
        return info.id

    for server in crowd.servers:
        assert sorted(await server.account("ann").sessions(), key=order) == anns
        assert await server.session("bob", "b").sessions() == [bob]
        assert await server.session("bob", "c").sessions() == []
        assert await server.account("nobody").sessions() == []
        assert sorted(await server.everyone.sessions(), key=order) == [*anns, bob]


async def test_disconnect_closes_all_of_an_account(crowd: Crowd) -> None:
    ended = [Hearing(server, "disconnection") for server in crowd.servers]
    assert await crowd.first.account("ann").disconnect("bye") == Reach(3, 3)
    assert [await client.closed() for client in crowd.anns] == ["bye"] * 3
    for hearing in ended:
        assert (await hearing.next())[1] == "bye"
        assert hearing.is_empty
    assert await crowd.first.everyone.emit("last") == Reach(3, 1)


async def test_disconnect_closes_everyone(crowd: Crowd) -> None:
    assert await crowd.first.everyone.disconnect("bye") == Reach(3, 4)
    assert [await client.closed() for client in crowd.all] == ["bye"] * 4
    await until(lambda: sum(server.count() for server in crowd.servers) == 0, "the end of all")
    assert await crowd.first.account("ann").disconnect() == Reach(1, 0)
