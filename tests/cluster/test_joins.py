"""Joins of clients across servers: what is heard from others, and what becomes of joins when a session moves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest

from primacron import Primacron, Reach, Receipt, Session
from primacron.cluster.memory import MemoryTopics, Shared
from primacron.errors import ValidationFailed
from primacron.features.channels import Channels
from primacron.features.channels import local as local_channels
from primacron.ids import NodeId
from primacron.routing.targets import Target
from tests.channels.talkers import ASKING, Talker, joined
from tests.cluster.fleet import Fleet, cluster_of, local, until
from tests.cluster.walker import Scene, is_frozen
from tests.support.engine import Client
from tests.support.hearing import Hearing

BACKENDS = ("memory", "redis", "redis-cluster")

ACCEPTED = Receipt("accepted")


def with_lots(servers: list[Primacron], enter: Callable[..., Any] | None = None) -> None:
    """Let clients join channels of lots."""
    for server in servers:
        kind = server.channels("lot:{number}")
        if enter is not None:
            kind(enter)


@pytest.mark.parametrize("query", ASKING.values(), ids=ASKING)
async def test_from_its_answer_on_a_client_hears_all_servers(fleet: Fleet, query: str) -> None:
    servers = await fleet.started(2)
    with_lots(servers)
    talker = await Talker.connect(await fleet.serve(servers[0]), "ann", query)
    for number in range(30):
        name = f"lot:{number}"
        assert await talker.join(name) == joined(name)
        servers[1].channel(name).emit("bid", number)
        assert await talker.hear() == {"event": "bid", "args": [number], "channel": name}
    assert await servers[1].channel("lot:7").emit("bid") == Reach(2, 1)


async def test_clients_of_two_servers_meet_in_a_channel(fleet: Fleet) -> None:
    servers = await fleet.started(2)
    with_lots(servers)
    fronts = [await fleet.serve(server) for server in servers]
    queries = (*ASKING.values(), "&_primuscb=x")
    talkers = [
        await Talker.connect(front, f"a{number}-{len(query)}", query)
        for number, front in enumerate(fronts)
        for query in queries
    ]
    for number, talker in enumerate(talkers):
        if number % 3 == 2:
            assert (await servers[0].account(f"a{number // 3}-12").join("lot:7")).sessions == 1
        else:
            assert await talker.join("lot:7") == joined("lot:7")
    message = {"event": "bid", "args": [5], "channel": "lot:7"}
    for server in servers:
        assert await server.channel("lot:7").emit("bid", 5) == Reach(2, 6)
        assert [await talker.hear() for talker in talkers] == [message, message, {"emit": ["bid", 5]}] * 2


async def test_any_server_tells_a_client_that_knows_of_channels(fleet: Fleet) -> None:
    servers = await fleet.started(2)
    with_lots(servers)
    talker = await Talker.connect(await fleet.serve(servers[0]), "ann", "&session=a&resume=1")
    targets: tuple[Target[Any], ...] = (
        servers[1].session("ann", "a"),
        servers[1].account("ann"),
        servers[1].everyone,
    )
    for number, target in enumerate(targets):
        name = f"lot:{number}"
        await target.join(name)
        assert await talker.hear() == {"channel": name, "joined": {"channel": name}}
        await target.leave(name)
        assert await talker.hear() == {"channel": name, "left": "forced leave"}


@pytest.mark.parametrize("backend", ["memory"])
async def test_while_the_backend_is_away_channels_of_this_server_are_joined_at_once(fleet: Fleet) -> None:
    shared = fleet.given()
    assert isinstance(shared, Shared)
    servers = await fleet.started(2, receipt_timeout=60)
    with_lots(servers)
    talker = await Talker.connect(await fleet.serve(servers[0]), "ann")
    shared.away = True
    await until(lambda: not cluster_of(servers[0]).link.is_reachable, "the loss of the link")
    assert await talker.join("lot:7") == joined("lot:7")
    servers[0].channel("lot:7").emit("bid", 1)
    assert await talker.hear() == {"event": "bid", "args": [1], "channel": "lot:7"}
    shared.away = False
    await until(lambda: all(server.unready() == [] for server in servers), "the return")
    servers[1].channel("lot:7").emit("bid", 2)
    assert await talker.hear() == {"event": "bid", "args": [2], "channel": "lot:7"}


# History with presence


def lasting(servers: list[Primacron]) -> None:
    """Let clients join lots, which have history and presence."""
    for server in servers:
        server.channels("lot:{number}", history=100, keep=60, presence=True)


async def guests_wait(server: Primacron, count: int = 1) -> None:
    """Wait until so many wait to be told who is there."""
    attendances = server.node.feature(Channels).presences._attendances
    await until(lambda: "lot:7" in attendances and len(attendances["lot:7"].guests) == count, "those that wait")


async def behind(talker: Talker, place: dict[str, Any], before: int = 0) -> None:
    """Read up to the event ``end``: from its place on a client misses nothing, and never goes back."""
    offsets = [before, place["offset"]]
    while True:
        message = await talker.hear()
        if "event" in message:
            offsets.append(message["offset"])
            if message["event"] == "end":
                break
    assert offsets[0] <= offsets[1]
    assert offsets[1:] == [*range(offsets[1], offsets[-1] + 1)]


@pytest.fixture
async def stalled(fleet: Fleet) -> tuple[Primacron, Client]:
    """A server that waits for the answer of another one, with members, to who is in the channel."""
    servers = await fleet.started(2)
    lasting(servers)
    fronts = [await fleet.serve(server) for server in servers]
    presences = servers[1].node.feature(Channels).presences
    presences._reply = lambda node, reply: None  # type: ignore[method-assign]
    other = await Talker.connect(fronts[1], "other")
    assert "ack" in await other.join("lot:7")
    return servers[0], fronts[0]


async def test_what_is_delivered_while_a_join_waits_for_other_members_is_not_missed(
    stalled: tuple[Primacron, Client],
) -> None:
    server, front = stalled
    talkers = [await Talker.connect(front, account) for account in ("ann", "bob")]
    await talkers[0].say({"join": "lot:7", "id": 1})
    await guests_wait(server)
    await talkers[1].say({"join": "lot:7", "id": 1})
    await guests_wait(server, 2)
    for number in range(3):
        assert (await server.channel("lot:7").emit("bid", number)).position is not None
    answers = [await talker.hear() for talker in talkers]
    await server.channel("lot:7").emit("end")
    for talker, answer in zip(talkers, answers, strict=True):
        await behind(talker, answer["args"][0])


async def test_a_server_join_never_tells_an_older_position_than_what_came_before_it(
    stalled: tuple[Primacron, Client],
) -> None:
    server, front = stalled
    talker = await Talker.connect(front, "ann", "&session=a&resume=1")
    await server.session("ann", "a").join("lot:7")
    await server.channel("lot:7").emit("bid", 1)
    # A second join waits with it, and has its own position.
    await talker.say({"join": "lot:7", "id": 1})
    before, message = 0, await talker.hear()
    while "joined" not in message:
        before, message = message.get("offset", before), await talker.hear()
    answer = await talker.hear()
    assert before <= message["joined"]["offset"] <= answer["args"][0]["offset"]
    await server.channel("lot:7").emit("end")
    await behind(talker, answer["args"][0], before)
    assert before == 1


@pytest.mark.parametrize("backend", ["memory"])
@pytest.mark.parametrize("receipt_timeout", [0.3, 0.4], ids=["longer", "as-long-as-two"])
@pytest.mark.parametrize("kind", [{"history": 10, "keep": 60}, {"presence": True}], ids=["history", "presence"])
async def test_a_channel_that_is_heard_late_has_its_members_from_then_on(
    fleet: Fleet, kind: dict[str, Any], receipt_timeout: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_channels, "LINGER", 0.2)
    (server,) = await fleet.started(1, receipt_timeout=receipt_timeout)
    server.channels("lot:{number}", **kind)
    topics = cluster_of(server).topics
    assert isinstance(topics, MemoryTopics)
    topics._topics["lot:7"] = False  # wanted, and not confirmed
    front = await fleet.serve(server)
    ann = await Talker.connect(front, "ann")
    await ann.join("lot:7")  # waits longer than the channel would be kept for nobody
    topics.listen_again()
    assert (await ann.join("lot:7", 2))["ack"] == 2
    bob = await Talker.connect(front, "bob")
    answer = (await bob.join("lot:7", 3))["args"][0]
    if "presence" in kind:
        assert {member["account"] for member in answer["members"]} == {"ann", "bob"}
        (change,) = (await ann.hear())["presence"]
        assert change[1]["account"] == "bob"
    server.channel("lot:7").emit("bid", 5)
    for talker in (ann, bob):
        message = await talker.hear()
        assert (message["event"], message["args"]) == ("bid", [5])


# Moves


class Door:
    """Asks who wants to come in, where, and lets them wait."""

    def __init__(self, servers: list[Primacron]) -> None:
        self._servers = servers
        self.opens = asyncio.Event()
        #: The number of the server and of the lot, for each time that it was asked.
        self.asked: list[tuple[int, int]] = []

    async def enter(self, session: Session, number: int) -> None:
        """Let a session wait, if the number is even."""
        at = next(n for n, each in enumerate(self._servers) if each.node.id == session.entry.node)
        self.asked.append((at, number))
        if number % 2 == 0:
            await self.opens.wait()


@pytest.fixture
async def scene(fleet: Fleet) -> AsyncIterator[Scene]:
    servers = await fleet.started(3)
    scene = Scene(fleet, servers, [await fleet.serve(server) for server in servers])
    yield scene
    await scene.close()


@pytest.fixture
def door(scene: Scene) -> Door:
    door = Door(scene.servers)
    with_lots(scene.servers, door.enter)
    return door


async def test_a_session_that_moves_keeps_its_channels_and_its_client_goes_on_knowing_of_them(
    scene: Scene, door: Door
) -> None:
    walker = await scene.walker()
    told = [Hearing(server, "channel::join", "channel::leave") for server in scene.servers]
    await walker.send({"join": "lot:1", "id": 1})
    assert await walker.receive() == joined("lot:1")
    await told[0].next()
    await walker.upgrade()
    moved = await scene.arrival()
    assert moved.channels == {"lot:1"}
    for server in scene.servers:
        server.channel("lot:1").emit("bid", 5)
        assert await walker.receive() == {"event": "bid", "args": [5], "channel": "lot:1"}
    await moved.join("lot:3")
    assert await walker.receive() == {"channel": "lot:3", "joined": {"channel": "lot:3"}}
    await walker.send({"join": "lot:5", "id": 2}, {"leave": "lot:1", "id": 3})
    assert await walker.receive() == joined("lot:5", 2)
    assert await walker.receive() == {"ack": 3, "args": []}
    assert moved.channels == {"lot:3", "lot:5"}
    assert door.asked == [(0, 1), (1, 5)]
    assert told[0].is_empty
    assert [(await told[1].next())[1] for _ in range(3)] == ["lot:3", "lot:5", "lot:1"]


async def test_a_session_that_wants_to_move_waits_for_its_join(scene: Scene, door: Door) -> None:
    walker = await scene.walker()
    await walker.send({"join": "lot:2", "id": 1})
    await until(lambda: door.asked == [(0, 2)], "the function")
    upgrade = asyncio.create_task(walker.upgrade())
    await until(lambda: local(scene.source, "ann", "a").state.name == "QUIESCED", "the wish to move")
    assert not is_frozen(scene.source)
    door.opens.set()
    assert await walker.receive() == joined("lot:2")
    await upgrade
    moved = await scene.arrival()
    assert moved.channels == {"lot:2"}
    scene.third.channel("lot:2").emit("bid")
    assert await walker.receive() == {"event": "bid", "args": [], "channel": "lot:2"}
    assert door.asked == [(0, 2)]


async def test_joins_that_wait_move_with_the_messages_and_are_decided_at_the_new_server(
    scene: Scene, door: Door
) -> None:
    walker = await scene.walker()
    await walker.send({"join": "lot:2", "id": 1})
    await until(lambda: door.asked == [(0, 2)], "the function")
    await walker.send({"join": "lot:3", "id": 2}, {"join": "lot:07", "id": 3}, {"leave": "lot:2", "id": 4})
    upgrade = asyncio.create_task(walker.upgrade())
    await until(lambda: local(scene.source, "ann", "a").state.name == "QUIESCED", "the wish to move")
    door.opens.set()
    await upgrade
    moved = await scene.arrival()
    assert await walker.receive() == joined("lot:2")
    assert await walker.receive() == joined("lot:3", 2)
    assert (await walker.receive())["error"]["path"] == "number"
    assert await walker.receive() == {"ack": 4, "args": []}
    assert door.asked == [(0, 2), (1, 3)]
    assert moved.channels == {"lot:3"}


async def test_a_session_arrives_in_a_room_whose_name_the_new_server_s_kinds_refuse(scene: Scene) -> None:
    def enter(session: Session, number: int) -> None:
        pass

    scene.destination.channels("lot:{number}", presence=True)(enter)  # a newer version of the application
    problems = Hearing(scene.destination, "error::*")
    walker = await scene.walker()
    (session,) = scene.source.node.hub.sessions
    names = {"lot:abc", "lot:07", "lot:8"}
    for name in names:
        assert await session.join(name) == ACCEPTED
    await walker.upgrade()
    moved = await scene.arrival()
    assert moved.channels == names
    reported = [await problems.next_error() for _ in range(2)]
    assert {context.key for error, context in reported if isinstance(error, ValidationFailed)} == {"lot:abc", "lot:07"}
    for number, name in enumerate(sorted(names)):
        scene.third.channel(name).emit("bid", number)
        assert (await walker.receive())["args"] == [number]
    # And goes on from there, and leaves.
    await moved.leave("lot:abc")
    assert moved.channels == names - {"lot:abc"}


async def test_a_failure_to_prepare_or_to_arrive_is_reported_and_does_not_hold_a_session_up(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    problems, arrivals = Hearing(scene.destination, "error::*"), Hearing(scene.destination, "arrived")
    departures = Hearing(scene.source, "leaving")
    channels, left_behind = (server.node.feature(Channels) for server in (scene.destination, scene.source))

    async def expected(packed: msgspec.Raw, source: NodeId) -> None:
        raise LookupError("expected")

    def arrived(session: Session) -> None:
        raise LookupError("arrived")

    def left(session: Session) -> None:
        raise LookupError("left")

    monkeypatch.setattr(left_behind, "left", left)
    monkeypatch.setattr(channels, "expected", expected)
    monkeypatch.setattr(channels, "arrived", arrived)
    walker = await scene.walker()
    (session,) = scene.source.node.hub.sessions
    assert await session.join("room") == ACCEPTED
    await walker.upgrade()
    moved = await scene.arrival()
    moved.emit("hello")
    assert (await walker.receive())["event"] == "hello"
    assert (await arrivals.next())[0] is moved
    assert (await departures.next())[0] is session
    assert [str((await problems.next_error())[0]) for _ in range(2)] == ["expected", "arrived"]


async def test_what_is_sent_to_a_channel_while_its_member_moves_comes_once_and_in_order(
    scene: Scene, door: Door
) -> None:
    walker = await scene.walker()
    await walker.send({"join": "lot:1", "id": 1})
    assert await walker.receive() == joined("lot:1")
    moving = asyncio.create_task(walker.upgrade())
    sent = 0
    while not moving.done() or sent < 100:
        for server in scene.servers:
            server.channel("lot:1").emit("bid", server.node.id, sent)
        sent += 1
        await asyncio.sleep(0.001)
    await scene.arrival()
    heard: dict[str, list[int]] = {server.node.id: [] for server in scene.servers}
    for _ in range(3 * sent):
        message = await walker.receive()
        assert message["channel"] == "lot:1"
        heard[message["args"][0]].append(message["args"][1])
    assert list(heard.values()) == [[*range(sent)]] * 3
