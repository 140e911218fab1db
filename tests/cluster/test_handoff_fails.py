"""Moves that come to nothing: what becomes of the session, and that exactly one side tells of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
import pytest

from primacron import Primacron, Receipt, Session
from primacron.handoff import upgrade
from primacron.protocol.engine import Phase
from tests.cluster.fleet import Fleet, cluster_of, local, until
from tests.cluster.walker import NAME, Scene, hold_claims, is_frozen
from tests.support.hearing import Hearing
from tests.support.websocket import CLOSE, WebSocket

BACKENDS = ("memory", "redis")

ACCEPTED = Receipt("accepted", certain=True)

EVENTS = ("connection", "leaving", "arrived", "disconnection")


class Stage(Scene):
    """A journey of which all events of sessions are heard."""

    def __init__(self, fleet: Fleet, servers: list[Primacron], fronts: list[Any]) -> None:
        super().__init__(fleet, servers, fronts)
        #: What was told: the server's number, the event, and the reason of an end.
        self.told: list[tuple[Any, ...]] = []
        self.errors = [Hearing(server, "error::*") for server in servers]
        for number, server in enumerate(servers):
            for event in EVENTS:
                server.on(event, self._hear(number, event))

    def _hear(self, number: int, event: str) -> Callable[..., None]:
        return lambda _, *reason: self.told.append((number, event, *reason))

    async def polls_on(self, *told: tuple[Any, ...]) -> None:
        """Check that the session is on polling at the source as if nothing had happened."""
        session = local(self.source, *NAME)
        await until(lambda: session.connection and session.connection.phase is Phase.OPEN, "the polling")
        await until(lambda: session not in self.source.node.hub.moving, "the end of the move")
        walker = self.walkers[0]
        await walker.emit("echo", "polling")
        assert (await walker.receive())["args"] == ["polling"]
        for server in self.servers:
            assert await server.session(*NAME).emit("news") == ACCEPTED
            assert (await walker.receive())["event"] == "news"
        assert self.told == [(0, "connection"), *told]
        self.has_no_transits()
        await self.is_forgotten()

    async def has_ended(self, number: int, reason: str, *before: tuple[Any, ...]) -> None:
        """Check that the session has ended, at one server, once, and that nobody finds it."""
        await until(lambda: any(event == "disconnection" for _, event, *_ in self.told), "the end")
        assert self.told == [(0, "connection"), *before, (number, "disconnection", reason)]
        async with asyncio.timeout(10):
            while any([await server.find(*NAME) for server in self.servers]):
                await asyncio.sleep(0.005)
        assert await self.third.session(*NAME).emit("x") == Receipt("unknown_session", certain=True)
        assert [server.count() for server in self.servers] == [0, 0, 0]
        registry = cluster_of(self.third).registry
        for server in (self.source, self.destination):
            assert await registry.indexed(server.node.id, 0) == (0, [])
        self.has_no_transits()
        assert len([each for each in self.told if each[1] == "disconnection"]) == 1

    def has_no_transits(self) -> None:
        """Check that no session is in transit."""
        for server in self.servers:
            assert not server.node.admissions.transits
            assert not server.node.admissions.transits.arriving

    async def is_forgotten(self) -> None:
        """Wait until the source has forgotten the move."""
        node = self.source.node
        sources = node.admissions.registrar._sources  # type: ignore[attr-defined]
        await until(
            lambda: not (sources._offers or sources._handoffs or node.hub.moving), "the source to forget the handoff"
        )


Begin = Callable[..., Awaitable[Stage]]


@pytest.fixture
async def begin(fleet: Fleet) -> AsyncIterator[Begin]:
    stages: list[Stage] = []

    async def start(prepare: Callable[[Primacron], object] = lambda _: None, **options: Any) -> Stage:
        servers = [fleet.new(**options) for _ in range(3)]
        for server in servers:

            @server.event("echo")
            def echo(session: Session, value: Any) -> None:
                session.emit("echo", value)

            prepare(server)
        await fleet.start(*servers)
        stages.append(Stage(fleet, servers, [await fleet.serve(server) for server in servers]))
        return stages[-1]

    yield start
    for stage in stages:
        await stage.close()


async def knock(stage: Stage, number: int = 1) -> WebSocket:
    """Open a websocket at another server, and send nothing."""
    socket = await stage.fronts[number].websocket(f"sid={stage.walkers[0].sid}")
    assert socket.response.status == 101, socket.response
    return socket


async def is_closed(socket: WebSocket) -> None:
    """Wait for the end of a websocket that there is no use for."""
    close = await socket.receive_close()
    assert (close.code, close.reason) == (1002, "transport error")


# The websocket is lost


async def test_a_websocket_that_is_lost_before_its_probe_changes_nothing(begin: Begin) -> None:
    stage = await begin()
    await stage.walker()
    await (await knock(stage)).close()
    await stage.polls_on()


async def test_a_websocket_that_is_lost_while_a_handler_runs_changes_nothing(begin: Begin) -> None:
    go_on = asyncio.Event()

    def prepare(server: Primacron) -> None:
        @server.event("wait")
        async def wait(session: Session) -> None:
            await go_on.wait()

    stage = await begin(prepare)
    walker = await stage.walker()
    await walker.emit("wait")
    socket = await knock(stage)
    await socket.send("2probe")
    await until(lambda: stage.source.node.hub.moving, "the probe at the source")
    await walker.emit("echo", "while it waits")
    await socket.close()
    await until(lambda: not stage.source.node.hub.moving, "the end of the move")
    go_on.set()
    assert (await walker.receive())["args"] == ["while it waits"]
    await stage.polls_on()


async def test_a_websocket_that_is_lost_after_its_probe_changes_nothing(begin: Begin) -> None:
    stage = await begin()
    walker = await stage.walker()
    socket = await walker.probe()
    await walker.emit("echo", "handled later")
    assert walker.is_quiet
    await socket.close()
    assert (await walker.receive())["args"] == ["handled later"]
    await stage.polls_on()
    await walker.upgrade()  # it may try again
    await stage.arrival()
    await walker.emit("echo", "there")
    assert (await walker.receive())["args"] == ["there"]


async def test_a_websocket_that_is_lost_right_after_the_upgrade_ends_the_session_once(begin: Begin) -> None:
    stage = await begin()
    walker = await stage.walker()
    socket = await walker.probe()
    await walker.pause()
    await socket.send("5")
    await socket.close()
    await until(lambda: any(event == "disconnection" for _, event, *_ in stage.told), "the end")
    if (1, "arrived") in stage.told:
        await until(lambda: (0, "leaving") in stage.told, "word at the source")
        stage.told.remove((0, "leaving"))
        await stage.has_ended(1, "transport close", (1, "arrived"))
    else:
        await stage.has_ended(0, "transport error")


async def test_a_websocket_that_is_lost_while_its_claim_is_open_ends_the_session_at_the_destination(
    begin: Begin,
) -> None:
    stage = await begin()
    walker = await stage.walker()
    go_on = hold_claims(stage.destination)
    await walker.upgrade()
    await until(lambda: stage.destination.node.admissions.transits, "the session to be at the destination")
    receipt = stage.third.session(*NAME).emit("x", receipt=True)
    assert walker.socket is not None
    walker.socket.raw.abort()
    (handoff,) = stage.destination.node.admissions.transits.values()
    await until(lambda: handoff._claimant.gone is not None, "the loss")  # type: ignore[attr-defined]
    go_on.set()
    assert await receipt == Receipt("unknown_session", certain=True)
    await until(lambda: (0, "leaving") in stage.told, "word at the source")
    stage.told.remove((0, "leaving"))
    await stage.has_ended(1, "transport close", (1, "arrived"))


# The time is up


async def test_a_websocket_that_sends_nothing_is_closed_in_time(begin: Begin) -> None:
    stage = await begin(upgrade_timeout=0.2)
    await stage.walker()
    socket = await knock(stage)
    assert (await socket.receive_close()).code == 1002
    await stage.polls_on()


async def test_a_probe_that_waits_for_a_handler_too_long_is_closed_and_the_handler_goes_on(begin: Begin) -> None:
    go_on = asyncio.Event()
    ended: list[str] = []

    def prepare(server: Primacron) -> None:
        @server.event("wait")
        async def wait(session: Session) -> None:
            await go_on.wait()
            ended.append(session.id)

    stage = await begin(prepare, upgrade_timeout=0.2)
    walker = await stage.walker()
    await walker.emit("wait")
    socket = await knock(stage)
    await socket.send("2probe")
    assert (await socket.receive_close()).code == 1002
    assert not ended
    go_on.set()
    await stage.polls_on()
    assert ended == ["a"]


async def test_a_probed_websocket_that_does_not_upgrade_is_closed_in_time(begin: Begin) -> None:
    stage = await begin(upgrade_timeout=0.2)
    walker = await stage.walker()
    socket = await walker.probe()
    assert (await socket.receive_close()).code == 1002
    await stage.polls_on()


async def test_a_claim_that_is_open_for_too_long_ends_the_session_once_it_is_known_whose_it_is(begin: Begin) -> None:
    stage = await begin(upgrade_timeout=0.5)
    walker = await stage.walker()
    go_on = hold_claims(stage.destination)
    await walker.upgrade()
    assert walker.socket is not None
    await asyncio.wait({walker._reading}, timeout=10)  # the server has closed it
    receipts = [server.session(*NAME).emit("x", receipt=True) for server in stage.servers]
    go_on.set()
    assert await asyncio.gather(*receipts) == [Receipt("unknown_session", certain=True)] * 3
    await until(lambda: (0, "leaving") in stage.told, "word at the source")
    stage.told.remove((0, "leaving"))
    await stage.has_ended(1, "transport error", (1, "arrived"))


# The destination or the source is lost


async def test_a_destination_that_dies_before_the_upgrade_changes_nothing(begin: Begin) -> None:
    stage = await begin(lease=1.0, upgrade_timeout=0.5)
    walker = await stage.walker(through=(0, 2))
    socket = await walker.probe()
    await die(stage.destination)
    await until(lambda: not stage.source.node.hub.moving, "the end of the move")
    await walker.emit("echo", "polling")
    assert (await walker.receive())["args"] == ["polling"]
    assert stage.told == [(0, "connection")]
    await socket.close()


async def test_a_destination_that_dies_with_the_session_leaves_it_to_the_source_to_end_it(begin: Begin) -> None:
    stage = await begin(lease=1.0, upgrade_timeout=0.3)
    walker = await stage.walker()
    go_on = hold_claims(stage.destination)
    await walker.upgrade()
    await until(lambda: is_frozen(stage.source), "the session to be in transit")
    await die(stage.destination)
    await until(lambda: (0, "disconnection", "transport error") in stage.told, "the end")
    assert stage.told == [(0, "connection"), (0, "disconnection", "transport error")]
    async with asyncio.timeout(10):
        while await stage.third.find(*NAME) is not None:
            await asyncio.sleep(0.01)
    assert await stage.third.session(*NAME).emit("x") == Receipt("unknown_session", certain=True)
    go_on.set()
    await until(lambda: not stage.destination.node.admissions.transits, "the destination to know")
    assert stage.told == [(0, "connection"), (0, "disconnection", "transport error")]


async def die(server: Primacron) -> None:
    """Let a server hear nothing any more, and its lease end."""
    cluster = cluster_of(server)
    assert cluster._running is not None
    cluster._running.cancel()
    cluster.outgoing.close()
    await cluster.bus.leave()
    server.node._is_hurried = True  # when the test ends it waits for nobody


# Somebody else wants it too


@pytest.mark.parametrize("number", [0, 1, 2])
async def test_a_second_websocket_is_closed_wherever_it_comes(begin: Begin, number: int) -> None:
    stage = await begin()
    walker = await stage.walker()
    socket = await walker.probe()
    await is_closed(await knock(stage, number))
    await walker.pause()
    await socket.send("5")
    walker.take(socket)
    await stage.arrival()
    await is_closed(await knock(stage, number))
    await walker.emit("echo", "there")
    assert (await walker.receive())["args"] == ["there"]


@pytest.mark.parametrize("number", [0, 1, 2])
async def test_of_two_websockets_that_were_accepted_the_first_probe_wins(begin: Begin, number: int) -> None:
    stage = await begin()
    walker = await stage.walker()
    first, second = await knock(stage, 1), await knock(stage, number)
    await first.send("2probe")
    if number == 0:  # at the source itself a websocket counts from its handshake on
        assert (await first.receive_close()).code == 1002
        first, second = second, first
        await first.send("2probe")
    assert await first.receive() == "3probe"
    if number != 0:
        await second.send("2probe")
        assert (await second.receive_close()).code == 1002
    await walker.pause()
    await first.send("5")
    walker.take(first)
    await walker.emit("echo", "there")
    assert (await walker.receive())["args"] == ["there"]


async def test_while_the_rest_of_a_long_post_waits_its_session_does_not_move_and_loses_nothing(begin: Begin) -> None:
    go_on = asyncio.Event()
    handled: list[int] = []

    def prepare(server: Primacron) -> None:
        @server.event("wait")
        async def wait(session: Session, number: int) -> None:
            await go_on.wait()
            handled.append(number)

    stage = await begin(prepare)
    walker = await stage.walker()
    await walker.send(*({"event": "wait", "args": [number]} for number in range(3_000)))
    socket = await knock(stage)
    await socket.send("2probe")
    await is_closed(socket)
    go_on.set()
    await until(lambda: len(handled) == 3_000, "all of it")
    assert handled == list(range(3_000))
    await stage.polls_on()


async def test_a_long_post_that_comes_while_its_session_may_move_waits_for_that(begin: Begin) -> None:
    handled: list[int] = []

    def prepare(server: Primacron) -> None:
        @server.event("take")
        async def take(session: Session, number: int) -> None:
            handled.append(number)

    stage = await begin(prepare)
    walker = await stage.walker()
    socket = await walker.probe()
    sending = asyncio.create_task(walker.send(*({"event": "take", "args": [number]} for number in range(3_000))))
    session = local(stage.source, *NAME)
    await until(lambda: session.connection is not None and session.connection.backlog, "the POST")
    assert not handled
    assert not sending.done()
    await socket.close()  # it does not move after all
    await sending
    await until(lambda: len(handled) == 3_000, "all of it")
    assert handled == list(range(3_000))
    await stage.polls_on()


@pytest.mark.parametrize("number", [0, 1, 2])
async def test_a_request_of_another_protocol_is_refused_wherever_it_comes(begin: Begin, number: int) -> None:
    stage = await begin()
    walker = await stage.walker()
    front = stage.fronts[number]
    message = "Bad request: EIO=3, the handshake had EIO=4"
    for method in ("GET", "POST"):
        response = await front.fetch(method, f"/stream/?EIO=3&transport=polling&sid={walker.sid}", body=b"4{}")
        assert (response.status, response.json()["message"]) == (400, message)
    socket = await front.websocket_to(f"/stream/?EIO=3&transport=websocket&sid={walker.sid}")
    assert (socket.response.status, socket.response.json()["message"]) == (400, message)
    await walker.upgrade(number)
    await walker.emit("echo", "there")
    assert (await walker.receive())["args"] == ["there"]


async def test_a_websocket_of_another_account_or_of_nobody_is_refused(begin: Begin) -> None:
    stage = await begin()
    walker = await stage.walker()
    other = await stage.fronts[1].websocket(f"sid={walker.sid}&account=bob")
    assert (other.response.status, other.response.json()["code"]) == (400, 3)
    for sid in ("nobody", "x" * 30, walker.sid[:-1] + ("A" if walker.sid[-1] != "A" else "B")):
        nobody = await stage.fronts[1].websocket(f"sid={sid}")
        assert (nobody.response.status, nobody.response.json()["code"]) == (400, 1)
    same = await stage.fronts[1].websocket(f"sid={walker.sid}&account=ann")
    assert same.response.status == 101
    await same.close()
    await stage.polls_on()


async def test_a_newer_connection_of_the_session_wins_over_one_that_is_on_its_way(begin: Begin) -> None:
    stage = await begin()
    walker = await stage.walker()
    go_on = hold_claims(stage.destination)
    await walker.upgrade()
    await until(lambda: is_frozen(stage.source), "the session to be in transit")
    newer = await stage.fleet.join(stage.third, *NAME)
    receipts = [server.session(*NAME).emit("x", receipt=True) for server in stage.servers]
    go_on.set()
    assert await asyncio.gather(*receipts) == [ACCEPTED] * 3
    assert [(await newer.receive()).event for _ in receipts] == ["x"] * 3
    await until(lambda: [server.count() for server in stage.servers] == [0, 0, 1], "the end of the older one")
    assert sorted(stage.told) == [(0, "connection"), (0, "disconnection", "replaced"), (2, "connection")]
    assert newer.is_quiet


# Who breaks the rules


@pytest.mark.parametrize("frame", ["5", "2", "4hello", "x", b"\x00", "2probe "])
async def test_a_first_frame_that_is_no_probe_closes_the_websocket_alone(begin: Begin, frame: str | bytes) -> None:
    stage = await begin()
    await stage.walker()
    socket = await knock(stage)
    await socket.send(frame)
    assert (await socket.receive_close()).code == 1002
    assert (await stage.errors[1].next_error())[0].event == "error::protocol"  # type: ignore[attr-defined]
    await stage.polls_on()


async def test_too_much_before_the_session_is_there_ends_it(begin: Begin) -> None:
    stage = await begin(max_payload=10_000)
    walker = await stage.walker()
    go_on = hold_claims(stage.destination)
    await walker.upgrade()
    await until(lambda: stage.destination.node.admissions.transits, "the session to be at the destination")
    for _ in range(3):
        await walker.emit("echo", "x" * 4_000)
    assert (await stage.errors[1].next_error())[0].event == "error::protocol"  # type: ignore[attr-defined]
    go_on.set()
    await until(lambda: (0, "leaving") in stage.told, "word at the source")
    stage.told.remove((0, "leaving"))
    await stage.has_ended(1, "message too large", (1, "arrived"))


async def test_as_much_as_a_message_may_have_is_kept_until_the_session_is_there(begin: Begin) -> None:
    stage = await begin(max_payload=10_000)
    walker = await stage.walker()
    go_on = hold_claims(stage.destination)
    await walker.upgrade()
    for number in range(5):
        await walker.emit("echo", number)
    go_on.set()
    assert [(await walker.receive())["args"][0] for _ in range(5)] == [*range(5)]


# Data that cannot travel


async def test_data_that_cannot_be_packed_ends_the_session_at_the_source(begin: Begin) -> None:
    stage = await begin()
    walker = await stage.walker()
    local(stage.source, *NAME).data["lock"] = object()
    await walker.upgrade()
    error, context = await stage.errors[0].next_error()
    assert "session.data cannot travel" in str(error)
    assert context.session is not None
    await stage.has_ended(0, "transport error")


async def test_data_that_the_destination_does_not_take_ends_the_session_at_the_source(fleet: Fleet) -> None:
    servers = [fleet.new(data=kind) for kind in (dict[str, str], list[int], dict)]
    await fleet.start(*servers)
    stage = Stage(fleet, servers, [await fleet.serve(server) for server in servers])
    walker = await stage.walker()
    local(stage.source, *NAME).data = {"a": "text"}
    await walker.upgrade()
    error, _ = await stage.errors[1].next_error()
    assert "a session that cannot be read" in str(error)
    await stage.has_ended(0, "transport error")
    await stage.close()


# The session ends meanwhile


async def test_a_session_that_ends_before_its_probe_closes_the_websocket(begin: Begin) -> None:
    stage = await begin()
    walker = await stage.walker()
    socket = await knock(stage)
    local(stage.source, *NAME).disconnect("enough")
    walker._reading.cancel()
    await socket.send("2probe")
    assert (await socket.receive_close()).code == 1002
    await stage.has_ended(0, "enough")


async def test_a_session_that_ends_after_its_probe_says_goodbye_by_the_websocket(begin: Begin) -> None:
    stage = await begin()
    walker = await stage.walker()
    socket = await walker.probe()
    await walker.pause()
    await walker.emit("echo", "not handled any more")
    session = local(stage.source, *NAME)
    session.emit("last", "words")
    session.disconnect("enough")
    await stage.has_ended(0, "enough")
    await socket.send("5")
    assert await socket.receive() == '4{"event":"last","args":["words"]}'
    frame = await socket.receive_close()
    assert (frame.code, frame.reason) == (1000, "enough")
    await stage.is_forgotten()


async def test_a_session_that_ends_after_its_probe_with_nothing_to_say_closes_the_websocket(begin: Begin) -> None:
    stage = await begin()
    walker = await stage.walker()
    socket = await walker.probe()
    await walker.pause()
    local(stage.source, *NAME).disconnect("enough")
    await stage.has_ended(0, "enough")
    began = asyncio.get_running_loop().time()
    await socket.send("5")
    frame = await socket.receive_frame()
    assert (frame.opcode, frame.code, frame.reason) == (CLOSE, 1000, "enough")
    assert asyncio.get_running_loop().time() - began < 2
    await stage.is_forgotten()
    assert all(errors.is_empty for errors in stage.errors)


@pytest.mark.parametrize("number", [0, 1, 2])
async def test_a_session_that_is_replaced_after_its_probe_closes_the_websocket_with_it(
    begin: Begin, number: int
) -> None:
    stage = await begin()
    walker = await stage.walker()
    socket = await walker.probe()
    await walker.pause()
    client = await stage.fleet.join(stage.servers[number], *NAME)
    await until(lambda: (0, "disconnection", "replaced") in stage.told, "the end")
    await socket.send("5")
    frame = await socket.receive_frame()
    assert (frame.opcode, frame.code, frame.reason) == (CLOSE, 4500, "replaced")
    await stage.is_forgotten()
    assert await stage.third.session(*NAME).emit("you") == ACCEPTED
    assert (await client.receive()).event == "you"
    assert all(errors.is_empty for errors in stage.errors)


async def test_a_session_that_ends_while_its_client_still_polls_closes_the_websocket_at_once(begin: Begin) -> None:
    stage = await begin()
    walker = await stage.walker()
    socket = await walker.probe()
    await walker.pause()
    local(stage.source, *NAME).disconnect("enough")
    assert (await walker.through().poll()).text == "1"
    frame = await socket.receive_frame()
    assert (frame.opcode, frame.code, frame.reason) == (CLOSE, 1000, "enough")
    await stage.has_ended(0, "enough")
    await stage.is_forgotten()


async def test_a_session_that_ends_while_its_handler_still_runs_closes_the_websocket_with_its_reason(
    begin: Begin,
) -> None:
    go_on = asyncio.Event()

    def prepare(server: Primacron) -> None:
        @server.event("wait")
        async def wait(session: Session) -> None:
            await go_on.wait()

    stage = await begin(prepare)
    walker = await stage.walker()
    await walker.emit("wait")
    socket = await knock(stage)
    await socket.send("2probe")
    await until(lambda: stage.source.node.hub.moving, "the probe at the source")
    local(stage.source, *NAME).disconnect("enough")
    walker._reading.cancel()
    frame = await socket.receive_frame()
    assert (frame.opcode, frame.code, frame.reason) == (CLOSE, 1000, "enough")
    go_on.set()
    await stage.has_ended(0, "enough")


async def test_a_session_that_is_replaced_on_its_way_says_goodbye_by_the_websocket(begin: Begin) -> None:
    stage = await begin()
    walker = await stage.walker()
    go_on = hold_claims(stage.destination)
    socket = await walker.probe()
    await walker.pause()
    assert await stage.third.session(*NAME).emit("last", "words") == ACCEPTED
    await socket.send("5")
    await until(lambda: stage.destination.node.admissions.transits, "the session to be at the destination")
    client = await stage.fleet.join(stage.third, *NAME)
    go_on.set()
    assert await socket.receive() == '4{"event":"last","args":["words"]}'
    frame = await socket.receive_frame()
    assert (frame.opcode, frame.code, frame.reason) == (CLOSE, 4500, "replaced")
    await until(lambda: (0, "disconnection", "replaced") in stage.told, "the end")
    assert stage.told == [(0, "connection"), (2, "connection"), (0, "disconnection", "replaced")]
    assert await stage.source.session(*NAME).emit("you") == ACCEPTED
    assert (await client.receive()).event == "you"
    stage.has_no_transits()


async def test_last_packets_that_cannot_be_read_close_the_websocket(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upgrade, "pack_goodbye", lambda *_: msgspec.Raw(b"\x01"))
    stage = await begin()
    walker = await stage.walker()
    socket = await walker.probe()
    await walker.pause()
    local(stage.source, *NAME).disconnect("enough")
    await socket.send("5")
    frame = await socket.receive_frame()
    assert (frame.opcode, frame.reason) == (CLOSE, "enough")
    error, _ = await stage.errors[1].next_error()
    assert "last packets that cannot be read" in str(error)


async def test_a_source_that_ends_in_order_while_a_session_is_probed_tells_it(begin: Begin) -> None:
    stage = await begin()
    walker = await stage.walker()
    socket = await walker.probe()
    await walker.pause()
    await stage.source.destroy()
    await socket.send("5")
    assert (await socket.receive_close()).code == 1002
    assert stage.told == [(0, "connection"), (0, "disconnection", "server shutdown")]


async def test_a_session_that_comes_while_its_new_server_ends_is_ended_there(begin: Begin) -> None:
    stage = await begin()
    walker = await stage.walker()
    go_on = hold_claims(stage.destination)
    await walker.upgrade()
    await until(lambda: is_frozen(stage.source), "the session to be in transit")
    node = stage.destination.node
    await until(lambda: node.admissions.transits, "the claim")
    ending = asyncio.create_task(stage.destination.destroy())
    await until(lambda: node.admissions.is_closed, "the end of the others")
    go_on.set()
    await ending
    assert [each for each in stage.told if each[1] == "disconnection"] == [(1, "disconnection", "server shutdown")]
    await stage.is_forgotten()
    registry = cluster_of(stage.third).registry
    loop = asyncio.get_running_loop()
    deadline = loop.time() + 5
    while (found := await registry.find(NAME[0], [NAME[1]])) != [None]:
        assert loop.time() < deadline, (found, stage.source.node.id, node.id)
        await asyncio.sleep(0.01)  # the source may have written its entry again, before it knew
    assert await registry.indexed(node.id, 0) == (0, [])


async def test_a_source_that_ends_in_order_waits_for_a_session_on_its_way(begin: Begin) -> None:
    stage = await begin()
    walker = await stage.walker()
    go_on = hold_claims(stage.destination)
    await walker.upgrade()
    await until(lambda: is_frozen(stage.source), "the session to be in transit")
    sent = asyncio.ensure_future(stage.source.session(*NAME).emit("news", receipt=True))
    node = stage.source.node
    ending = asyncio.create_task(stage.source.destroy())
    await until(lambda: node.admissions.is_closed, "the end of the others")
    go_on.set()
    await ending
    assert await sent == ACCEPTED
    assert (await walker.receive())["event"] == "news"
    assert stage.told == [(0, "connection"), (1, "arrived"), (0, "leaving")]
