"""A websocket brings its session along to the server that it reaches: what moves, and who hears of it."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
import pytest

from primacron import Primacron, Reach, Receipt, Session
from primacron.cluster.items import Moved
from primacron.errors import CallRefused, SessionMoved
from primacron.protocol.engine import Heart
from primacron.routing.targets import SessionInfo
from primacron.sessions.recent import Recent
from primacron.times import Times
from tests.cluster.fleet import Fleet, cluster_of, local, until
from tests.cluster.walker import NAME, Scene, Walker, hold_claims, is_frozen
from tests.support.hearing import Hearing

BACKENDS = ("memory", "redis", "redis-cluster")

ACCEPTED = Receipt("accepted", certain=True)

Begin = Callable[..., Awaitable[Scene]]


@pytest.fixture
async def begin(fleet: Fleet) -> AsyncIterator[Begin]:
    scenes: list[Scene] = []

    async def start(prepare: Callable[[Primacron], object] = lambda _: None, **options: Any) -> Scene:
        servers = [fleet.new(**options) for _ in range(3)]
        for server in servers:
            prepare(server)
        await fleet.start(*servers)
        scene = Scene(fleet, servers, [await fleet.serve(server) for server in servers])
        scenes.append(scene)
        return scene

    yield start
    for scene in scenes:
        await scene.close()


def echoing(server: Primacron) -> None:
    """Let a server send back what it gets."""

    @server.event("echo")
    def echo(session: Session, value: Any) -> None:
        session.emit("echo", value)


# What moves


async def test_a_session_moves_with_its_websocket_and_goes_on(begin: Begin) -> None:
    scene = await begin(echoing)
    walker = await scene.walker()
    await walker.emit("echo", 1)
    assert (await walker.receive())["args"] == [1]
    await walker.upgrade()
    session = await scene.arrival()
    assert (session.id, session.account, session.peer) == ("a", "ann", "127.0.0.1")
    assert session.query["session"] == "a"
    await walker.emit("echo", 2)
    assert (await walker.receive())["args"] == [2]
    for server in scene.servers:
        assert await server.find(*NAME) == SessionInfo(*NAME, scene.destination.node.id)
        assert await server.session(*NAME).emit("news") == ACCEPTED
        assert (await walker.receive())["event"] == "news"
        reach = await server.everyone.emit("all")
        # On a Redis Cluster what is sent to all may come behind word of the move: it is not certain for a moment.
        in_order = cluster_of(server).bus.keeps_order
        assert reach == Reach(2 + (server is scene.third), 1, certain=in_order or reach.certain)
        assert (await walker.receive())["event"] == "all"
    assert (scene.source.count(), scene.destination.count()) == (0, 1)


async def test_each_event_of_its_life_is_told_once_and_where_it_happens(begin: Begin) -> None:
    scene = await begin()
    names = ("connection", "leaving", "arrived", "disconnection", "error::*")
    heard = {(server, name): Hearing(server, name) for server in scene.servers for name in names}
    walker = await scene.walker()
    (before,) = await heard[scene.source, "connection"].next()
    await walker.upgrade()
    assert await heard[scene.source, "leaving"].next() == (before,)
    (after,) = await heard[scene.destination, "arrived"].next()
    assert after is local(scene.destination, *NAME)
    await walker.close()
    assert await heard[scene.destination, "disconnection"].next() == (after, "transport close")
    async with asyncio.timeout(5):
        while await scene.third.find(*NAME) is not None:
            await asyncio.sleep(0.005)
    assert all(each.is_empty for each in heard.values())


async def test_data_keys_strikes_and_heartbeat_move(begin: Begin) -> None:
    scene = await begin(bad_messages=3)
    walker = await scene.walker()
    before = local(scene.source, *NAME)
    before.data = {"name": "Ann", "list": [1, {"two": b"\x00"}]}
    assert await scene.third.session(*NAME).emit("pay", 1, key="order") == ACCEPTED
    assert (await walker.receive())["args"] == [1]
    for _ in range(2):
        await walker.emit("no such event")
    assert before.connection is not None
    due = before.connection.due
    await walker.upgrade()
    after = await scene.arrival()
    assert after.data == {"name": "Ann", "list": [1, {"two": b"\x00"}]}
    assert after.connection is not None
    assert (after.connection.strikes, after.connection.heart) == (2, Heart.RESTING)
    assert abs(after.connection.due - due) < 1
    assert await scene.third.session(*NAME).emit("pay", 2, key="order") == ACCEPTED
    assert await after.emit("pay", 3, key="other") == ACCEPTED
    assert (await walker.receive())["args"] == [3]
    await walker.emit("no such event")
    assert walker.socket is not None
    await until(lambda: not scene.destination.count(), "the end by bad messages")


async def test_a_ping_that_was_sent_before_the_move_is_answered_after_it(begin: Begin) -> None:
    scene = await begin(ping_interval=0.4, ping_timeout=5)
    walker = await Walker.begin(scene.fronts)
    scene.walkers.append(walker)
    connection = local(scene.source, *NAME).connection
    assert connection is not None
    await until(lambda: connection.heart is Heart.PINGED, "the ping")
    due = connection.due
    await walker.upgrade()
    after = (await scene.arrival()).connection
    assert after is not None
    assert after.heart is Heart.PINGED
    assert abs(after.due - due) < 1
    assert walker.socket is not None
    await walker.socket.send("3")
    await until(lambda: after.heart is Heart.RESTING, "the pong")
    assert after.is_overdue(asyncio.get_running_loop().time()) is False


@pytest.mark.parametrize("kind", [msgspec.defstruct("Basket", [("lots", list[int], [])]), list[int], int])
async def test_data_of_each_declared_type_moves(begin: Begin, kind: Any) -> None:
    scene = await begin(data=kind)
    walker = await scene.walker()
    value = kind(lots=[1, 2]) if hasattr(kind, "__struct_fields__") else [1, 2] if kind is not int else 7
    local(scene.source, *NAME).data = value
    await walker.upgrade()
    assert (await scene.arrival()).data == value


async def test_what_waits_for_the_client_moves(begin: Begin) -> None:
    scene = await begin()
    walker = await scene.walker()
    socket = await walker.probe()
    await walker.pause()
    for number in range(5):
        assert await scene.third.session(*NAME).emit("n", number, "x" * 150_000) == ACCEPTED
    await socket.send("5")
    walker.take(socket)
    await scene.arrival()
    assert [(await walker.receive())["args"][0] for _ in range(5)] == [*range(5)]


async def test_a_running_handler_ends_before_the_move_and_waiting_messages_are_handled_after_it(begin: Begin) -> None:
    go_on, handled = asyncio.Event(), []

    def prepare(server: Primacron) -> None:
        @server.event("work")
        async def work(session: Session, number: int) -> None:
            handled.append((session.connected, server, number))
            if number == 0:
                await go_on.wait()
            session.emit("done", number)

    scene = await begin(prepare)
    walker = await scene.walker()
    for number in range(3):
        await walker.emit("work", number)
    upgrade = asyncio.create_task(walker.upgrade())
    await until(lambda: local(scene.source, *NAME).connection.probe, "the probe")  # type: ignore[union-attr]
    await walker.emit("work", 3)
    assert not upgrade.done()
    go_on.set()
    await upgrade
    await walker.emit("work", 4)
    assert [(await walker.receive())["args"] for _ in range(5)] == [[number] for number in range(5)]
    assert [number for _, _, number in handled] == [*range(5)]
    assert [server for _, server, _ in handled] == [scene.source] + [scene.destination] * 4
    assert all(connected for connected, _, _ in handled)


async def test_what_the_arrived_listener_does_comes_before_the_messages_that_wait(begin: Begin) -> None:
    order: list[str] = []

    def prepare(server: Primacron) -> None:
        @server.on("arrived")
        async def arrived(session: Session) -> None:
            await asyncio.sleep(0.01)
            order.append("arrived")

        @server.event("work")
        def work(session: Session) -> None:
            order.append("work")

    scene = await begin(prepare)
    walker = await scene.walker()
    socket = await walker.probe()
    await walker.emit("work")
    await walker.pause()
    await socket.send("5")
    walker.take(socket)
    await walker.emit("work")
    await until(lambda: len(order) == 3, "all of it")
    assert order == ["arrived", "work", "work"]


# Calls


@pytest.mark.parametrize("number", [0, 2])
async def test_an_open_call_is_answered_after_the_move(begin: Begin, number: int) -> None:
    scene = await begin()
    walker = await scene.walker()
    caller = scene.servers[number]
    if caller is scene.source:
        calls = [asyncio.create_task(local(caller, *NAME).call("ask", each)) for each in range(2)]
    else:
        calls = [asyncio.create_task(caller.session(*NAME).call("ask", each)) for each in range(2)]
    asked = [await walker.receive() for _ in calls]
    await walker.upgrade()
    await scene.arrival()
    await walker.send({"ack": asked[1]["id"], "error": {"type": "t", "message": "m", "path": "p"}})
    await walker.send({"ack": asked[0]["id"], "args": ["yes", 2]})
    assert await calls[asked[0]["args"][0]] == ("yes", 2)
    with pytest.raises(CallRefused) as refused:
        await calls[asked[1]["args"][0]]
    assert (refused.value.type, refused.value.message, refused.value.path) == ("t", "m", "p")


async def test_calls_before_and_after_the_move_are_told_apart(begin: Begin) -> None:
    scene = await begin()
    walker = await scene.walker()
    before = asyncio.create_task(local(scene.source, *NAME).call("ask", "before"))
    first = await walker.receive()
    await walker.upgrade()
    session = await scene.arrival()
    after = asyncio.create_task(session.call("ask", "after"))
    second = await walker.receive()
    assert first["id"] != second["id"]
    for asked in (second, first):
        await walker.send({"ack": asked["id"], "args": asked["args"]})
    assert (await before, await after) == ("before", "after")


async def test_an_answer_that_cannot_travel_back_is_told_as_such(begin: Begin) -> None:
    scene = await begin()
    walker = await scene.walker()
    call = asyncio.create_task(local(scene.source, *NAME).call("ask"))
    asked = await walker.receive()
    await walker.upgrade()
    await scene.arrival()
    await walker.send({"ack": asked["id"], "args": [2**70]})
    with pytest.raises(CallRefused, match="not for other servers"):
        await call
    assert (await scene.third.session(*NAME).emit("still here")).ok
    assert (await walker.receive())["event"] == "still here"


# The session object that was kept where it left


async def test_a_kept_session_goes_on_sending_and_calling_but_its_data_is_elsewhere(begin: Begin) -> None:
    scene = await begin()
    walker = await scene.walker()
    kept = local(scene.source, *NAME)
    kept.data = {"a": 1}
    await walker.upgrade()
    await scene.arrival()
    assert not kept.connected
    assert await kept.emit("one", 1) == ACCEPTED
    assert (await walker.receive())["args"] == [1]
    call = asyncio.create_task(kept.call("ask"))
    asked = await walker.receive()
    await walker.send({"ack": asked["id"], "args": ["yes"]})
    assert await call == "yes"
    with pytest.raises(SessionMoved):
        _ = kept.data
    with pytest.raises(SessionMoved):
        kept.data = {}
    assert local(scene.destination, *NAME).data == {"a": 1}
    ended = Hearing(scene.destination, "disconnection")
    kept.disconnect("enough")
    assert (await ended.next())[1] == "enough"


async def test_tasks_of_the_session_are_cancelled_where_it_leaves(begin: Begin) -> None:
    scene = await begin()
    walker = await scene.walker()
    task = local(scene.source, *NAME).task(asyncio.sleep(60))
    await walker.upgrade()
    await scene.arrival()
    await asyncio.wait({task}, timeout=5)
    assert task.cancelled()


# What comes meanwhile


async def test_what_comes_while_the_session_is_on_its_way_waits_for_it(begin: Begin) -> None:
    scene = await begin()
    walker = await scene.walker()
    kept = local(scene.source, *NAME)
    go_on = hold_claims(scene.destination)
    upgrade = asyncio.create_task(walker.upgrade())
    await until(lambda: is_frozen(scene.source), "the session to be in transit")
    sends = [
        asyncio.ensure_future(server.session(*NAME).emit("n", number, receipt=True))
        for number, server in enumerate(scene.servers)
    ]
    sends.append(asyncio.ensure_future(kept.emit("n", 3, receipt=True)))
    call = asyncio.create_task(scene.third.session(*NAME).call("ask"))
    reaches = [
        scene.third.everyone.emit("all", receipt=True),
        scene.source.account("ann").emit("ann", receipt=True),
    ]
    await scene.third.session("nobody", "nobody").emit("a round to the registry and back")
    assert not any(send.done() for send in (*sends, call))
    go_on.set()
    await upgrade
    assert await asyncio.gather(*sends) == [ACCEPTED] * 4
    await asyncio.gather(*reaches)
    received = [await walker.receive() for _ in range(7)]
    assert sorted(message["args"][0] for message in received if message["event"] == "n") == [0, 1, 2, 3]
    assert sorted(message["event"] for message in received if message["event"] != "n") == ["all", "ann", "ask"]
    (asked,) = [message for message in received if message["event"] == "ask"]
    await walker.send({"ack": asked["id"], "args": ["yes"]})
    assert await call == "yes"
    assert walker.is_quiet


@pytest.mark.parametrize("backend", ["memory"])
async def test_a_server_that_stood_still_passes_nothing_on_that_would_come_behind_later_sends(begin: Begin) -> None:
    scene = await begin()
    walker = await scene.walker()
    target = scene.third.session(*NAME)
    assert await target.emit("first") == ACCEPTED  # from now on it knows where the session is
    cluster_of(scene.third).on(Moved, lambda *_: None)  # it does not hear that the session moves
    await walker.upgrade()
    assert await target.emit("second") == ACCEPTED
    membership = cluster_of(scene.source)._membership
    membership._renewed_at -= 10 * membership._lease
    assert await target.emit("third") == Receipt("unsent", certain=True)
    await cluster_of(scene.source).meet()
    assert await target.emit("fourth") == ACCEPTED
    assert [(await walker.receive())["event"] for _ in range(3)] == ["first", "second", "fourth"]


async def test_what_waits_for_a_session_on_its_way_is_limited(begin: Begin) -> None:
    scene = await begin(outbox_limit=10_000_000)
    walker = await scene.walker()
    go_on = hold_claims(scene.destination)
    upgrade = asyncio.create_task(walker.upgrade())
    await until(lambda: is_frozen(scene.source), "the session to be in transit")
    far, near = (
        [server.session(*NAME).emit("n", ".", "x" * 1_500_000, receipt=True) for _ in range(4)]
        for server in (scene.third, scene.source)
    )
    assert await near[3] == await far[3] == Receipt("unsent", certain=True)
    dropped = scene.source.metrics["messages_late_dropped"]
    assert dropped > 0
    await scene.source.everyone.emit("all")
    assert scene.source.metrics["messages_late_dropped"] == dropped + 1
    go_on.set()
    await upgrade
    assert [await send for send in (*near, *far)].count(ACCEPTED) == 3
    assert [message["event"] for message in [await walker.receive() for _ in range(3)]] == ["n"] * 3
    assert (await scene.third.session(*NAME).emit("n")).ok
    assert (await walker.receive())["args"] == []
    assert walker.is_quiet


@pytest.mark.parametrize("target", ["session", "account", "everyone", "kept"])
async def test_a_disconnect_while_the_session_is_on_its_way_reaches_it(begin: Begin, target: str) -> None:
    scene = await begin()
    walker = await scene.walker()
    kept = local(scene.source, *NAME)
    ended = Hearing(scene.destination, "disconnection")
    go_on = hold_claims(scene.destination)
    upgrade = asyncio.create_task(walker.upgrade())
    await until(lambda: is_frozen(scene.source), "the session to be in transit")
    targets: dict[str, Any] = {
        "session": scene.third.session(*NAME),
        "account": scene.third.account("ann"),
        "everyone": scene.source.everyone,
        "kept": kept,
    }
    targets[target].disconnect("enough")
    go_on.set()
    await upgrade
    assert (await ended.next())[1] == "enough"


async def test_many_messages_both_ways_come_once_and_in_order(begin: Begin) -> None:
    handled: list[int] = []

    def prepare(server: Primacron) -> None:
        @server.event("up")
        async def up(session: Session, number: int) -> None:
            if number % 7 == 0:
                await asyncio.sleep(0)
            handled.append(number)

    scene = await begin(prepare, lease=20)  # all servers of this process may stand still on a busy machine
    walker = await scene.walker()
    senders = {"source": scene.source, "destination": scene.destination, "third": scene.third}
    count = 1_000

    async def send_down(name: str) -> None:
        target = senders[name].session(*NAME)
        for number in range(count):
            target.emit(name, number)
            if number % 10 == 0:
                await asyncio.sleep(random.random() * 0.004)

    async def send_up() -> None:
        number = 0
        while number < count:
            size = random.randint(1, 20)
            await walker.send(*({"event": "up", "args": [each]} for each in range(number, min(number + size, count))))
            number += size

    failed = [Hearing(server, "error::*") for server in scene.servers]
    sending = [asyncio.create_task(send_down(name)) for name in senders]
    sending.append(asyncio.create_task(send_up()))
    await until(lambda: len(handled) > random.randint(50, 300), "some messages")
    await walker.upgrade()
    await asyncio.gather(*sending)
    down: dict[str, list[int]] = {name: [] for name in senders}
    for _ in range(count * len(senders)):
        message = await walker.receive()
        down[message["event"]].append(message["args"][0])
    await until(lambda: len(handled) >= count, "all messages")
    assert handled == [*range(count)]
    assert down == {name: [*range(count)] for name in senders}
    assert walker.is_quiet
    assert all(each.is_empty for each in failed)


async def test_what_is_sent_to_many_meanwhile_comes_once(begin: Begin) -> None:
    scene = await begin()
    walkers = [await scene.walker(f"account=ann&session={number}") for number in range(5)]
    stop = asyncio.Event()
    sent: dict[str, list[int]] = {}

    async def send(name: str, target: Any) -> None:
        numbers = sent[name] = []
        while not stop.is_set():
            numbers.append(len(numbers))
            target.emit(name, numbers[-1])
            await asyncio.sleep(random.random() * 0.004)

    sending = [
        asyncio.create_task(send(f"{kind} {number}", server.everyone if kind == "all" else server.account("ann")))
        for number, server in enumerate(scene.servers)
        for kind in ("all", "ann")
    ]
    await until(lambda: len(sent) == 6 and all(len(numbers) > 5 for numbers in sent.values()), "the first sends")
    for walker in walkers:
        await walker.upgrade()
        await asyncio.sleep(random.random() * 0.02)
    before = {name: len(numbers) for name, numbers in sent.items()}
    await until(lambda: all(len(sent[name]) > length + 20 for name, length in before.items()), "more sends")
    stop.set()
    await asyncio.gather(*sending)
    for walker in walkers:
        got: dict[str, list[int]] = {name: [] for name in sent}
        with contextlib.suppress(TimeoutError):
            while sum(map(len, got.values())) < sum(map(len, sent.values())):
                message = await walker.receive()
                got[message["event"]].append(message["args"][0])
        missing = {name: sorted({*numbers} - {*got[name]}) for name, numbers in sent.items()}
        repeated = {
            name: sorted(each for each, count in Counter(numbers).items() if count > 1) for name, numbers in got.items()
        }
        assert (missing, repeated) == ({name: [] for name in sent}, {name: [] for name in sent})
        assert walker.is_quiet


async def test_a_server_that_has_no_session_any_more_hears_no_longer_what_is_sent_to_all(begin: Begin) -> None:
    scene = await begin(times=Times(attend=0.1))
    source, destination = cluster_of(scene.source).bus, cluster_of(scene.destination).bus
    walker = await scene.walker()
    assert source.attends
    await walker.upgrade()
    await scene.arrival()
    await until(lambda: not source.attends, "the source to stop")
    assert destination.attends
    assert (await scene.source.everyone.emit("x")).sessions == 1
    await walker.close()
    await until(lambda: not destination.attends, "the destination to stop")
    await scene.walker("account=ann&session=b")
    assert source.attends
    assert (await scene.destination.everyone.emit("x")).sessions == 1


async def test_nothing_is_left_of_a_move(begin: Begin) -> None:
    scene = await begin(times=Times(remember=0.1))
    walker = await scene.walker()
    await walker.upgrade()
    session = await scene.arrival()
    for number in range(5):
        await scene.third.everyone.emit("n", number)
    nodes = [scene.source.node, scene.destination.node]
    await until(lambda: not nodes[0].hub.moving and not nodes[1].hub.moving, "the end of the move")
    assert not session.demand(Recent).serials
    assert not nodes[0].hub.connections
    sources = nodes[0].admissions.registrar._sources  # type: ignore[attr-defined]
    assert (sources._offers, sources._handoffs) == ({}, {})
    assert not nodes[1].upgrades.destinations._verdicts  # type: ignore[union-attr]
    assert not any(server.node.admissions.transits for server in scene.servers)
    registry = cluster_of(scene.third).registry
    assert await registry.indexed(nodes[0].id, 0) == (0, [])
    assert await registry.indexed(nodes[1].id, 0) == (0, [NAME])
    assert nodes[0].admissions._limits._total == 0
    assert nodes[1].admissions._limits._total == 1
