"""What a tick sends, and what waits for clients that take nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator

import pytest

from primacron.entries import Entry
from primacron.errors import SlowClient
from primacron.ids import AccountId, NodeId
from primacron.protocol.close_reasons import (
    CLIENT_CLOSE,
    FORCED_CLOSE,
    PING_TIMEOUT,
    REPLACED,
    SHUTDOWN,
    SLOW,
    TRANSPORT_CLOSE,
    CloseReason,
)
from primacron.protocol.engine import Phase
from primacron.protocol.handshake import TransportName
from primacron.protocol.outgoing import OutgoingPacket
from tests.hostile.arena import until
from tests.sessions.line import Bench

Open = Callable[..., Bench]


@pytest.fixture
def bench(anyio_backend: object) -> Iterator[Open]:
    """Return a function that makes a hub with these options."""
    made: list[Bench] = []

    def make(**options: object) -> Bench:
        made.append(Bench(**options))
        return made[-1]

    yield make
    for each in made:
        each.close()


def packet(size: int, fill: str = "x") -> OutgoingPacket:
    """Return a message that counts so many bytes."""
    return OutgoingPacket.message(fill * (size - 1))


async def tick() -> None:
    """Let the event loop end its turn."""
    await asyncio.sleep(0)


# What a tick sends


async def test_what_a_tick_sends_is_one_write_per_connection_in_order(bench: Open) -> None:
    world = bench()
    first, first_line = world.connect("a")
    second, second_line = world.connect("b")
    for number in range(3):
        assert first.send(OutgoingPacket.message(str(number)))
        assert second.send(OutgoingPacket.message(str(number)))
    assert first_line.writes == second_line.writes == []
    await tick()
    assert first_line.writes == second_line.writes == [["40", "41", "42"]]
    first.send(OutgoingPacket.message("later"))
    await tick()
    assert first_line.writes == [["40", "41", "42"], ["4later"]]
    assert len(second_line.writes) == 1


async def test_one_packet_serves_all_that_get_it(bench: Open) -> None:
    world = bench()
    shared = OutgoingPacket.message("news")
    lines = []
    for name in "abc":
        connection, line = world.connect(name)
        connection.send(shared)
        assert connection.outbox == [shared]
        assert connection.outbox[0] is shared
        lines.append(line)
    await tick()
    assert [line.writes for line in lines] == [[["4news"]]] * 3


async def test_a_full_outbox_leaves_before_the_end_of_the_tick_while_the_client_takes_it(bench: Open) -> None:
    world = bench(outbox_limit=100)
    connection, line = world.connect("a")
    for number in range(10):
        assert connection.send(packet(60, str(number)))
    await tick()
    assert [packet[1] for write in line.writes for packet in write] == [str(number) for number in range(10)]
    assert len(line.writes) > 1
    assert world.watcher.problems == []


async def test_a_deadline_that_has_passed_counts_for_whoever_asks(bench: Open) -> None:
    world = bench()
    connection, line = world.connect("a")
    assert world.hub.connection(connection.sid) is connection
    connection.on_due(connection.due)  # the ping is due
    assert world.hub.connection(connection.sid) is connection
    connection.due = world.hub.loop.time()
    assert connection.sid in world.hub.connections  # the wheel has not come past it
    assert world.hub.connection(connection.sid) is None
    assert line.closed is PING_TIMEOUT
    assert world.hub.connection("no such sid") is None


# What waits


async def test_what_a_client_does_not_take_counts_as_waiting_until_it_does(bench: Open) -> None:
    world = bench()
    connection, line = world.connect("a")
    other, other_line = world.connect("b")
    line.ready = False
    connection.send(packet(1_000))
    assert world.hub.blocked_bytes == 0  # the tick is not over
    await tick()
    assert world.hub.blocked_bytes == 1_000
    connection.send(packet(500))
    assert world.hub.blocked_bytes == 1_500
    other_line.ready = False
    other.send(packet(70))
    await tick()
    assert world.hub.blocked_bytes == 1_570
    line.ready = True
    connection.flush()
    assert world.hub.blocked_bytes == 70
    assert not world.hub.is_blocked(connection)
    assert [len(packet) for packet in line.writes[0]] == [1_000, 500]
    other_line.ready = True
    other.flush()
    assert world.hub.blocked_bytes == 0


@pytest.mark.parametrize("reason", [CLIENT_CLOSE, TRANSPORT_CLOSE, PING_TIMEOUT, FORCED_CLOSE, SHUTDOWN, SLOW])
@pytest.mark.parametrize("transport", TransportName)
async def test_what_waited_for_a_connection_no_longer_counts_when_it_has_ended(
    bench: Open, reason: CloseReason, transport: TransportName
) -> None:
    world = bench(ping_interval=0.02, ping_timeout=0.02)
    connection, line = world.connect("a", transport)
    line.ready = False
    connection.send(packet(1_000))
    await tick()
    assert world.hub.blocked_bytes == 1_000
    connection.end(reason)
    assert [each for _, each in world.watcher.ended] == [reason]
    assert not connection.send(packet(50))
    if world.hub.connections:  # kept for the next poll, for one heartbeat
        assert connection.phase is Phase.LINGERING
        assert world.hub.blocked_bytes == (0 if reason is SLOW else 1_000)
        await until(lambda: not world.hub.connections, "the heartbeat")
    assert world.hub.blocked_bytes == 0
    assert world.hub.connections == {}
    assert len(world.hub.sessions) == 0
    assert connection.outbox is None


async def test_the_newest_message_alone_never_closes(bench: Open) -> None:
    world = bench(outbox_limit=1_000)
    connection, line = world.connect("a")
    line.ready = False
    assert connection.send(packet(10_000))
    await tick()
    assert connection.phase is Phase.OPEN
    assert not connection.send(packet(20))
    (problem,) = world.watcher.problems
    error, context = problem
    assert isinstance(error, SlowClient)
    assert (error.waiting, error.limit) == (10_000, 1_000)
    assert context == {"session": connection.session}
    assert line.closed is SLOW
    assert world.watcher.ended == [(connection.session, SLOW)]
    assert not connection.send(packet(20))
    assert len(world.watcher.problems) == 1


async def test_up_to_the_limit_nothing_is_refused(bench: Open) -> None:
    world = bench(outbox_limit=1_000)
    connection, line = world.connect("a")
    line.ready = False
    assert all(connection.send(packet(500)) for _ in range(2))
    assert connection.send(packet(500))  # what waited was just the limit
    assert not connection.send(packet(100))
    assert line.closed is SLOW


async def test_what_a_transport_has_not_sent_yet_counts_too(bench: Open) -> None:
    world = bench(outbox_limit=1_000)
    connection, line = world.connect("a")
    line.ready, line.unsent = False, 600
    assert connection.send(packet(300))
    assert connection.send(packet(300))
    assert not connection.send(packet(300))
    (problem,) = world.watcher.problems
    assert isinstance(problem[0], SlowClient)
    assert problem[0].waiting == 1_200


async def test_when_all_together_wait_for_too_much_the_largest_goes_first(bench: Open) -> None:
    world = bench(outbox_total=10_000)
    opened = [world.connect(name) for name in "abcd"]
    for (connection, line), size in zip(opened, (3_000, 4_000, 2_000, 500), strict=True):
        line.ready = False
        connection.send(packet(size))
    await tick()
    assert world.hub.blocked_bytes == 9_500
    assert opened[3][0].send(packet(600))  # one too many, of the smallest
    assert [session.account for session, _ in world.watcher.ended] == ["b"]
    assert world.hub.blocked_bytes == 6_100
    assert not opened[2][0].send(packet(5_000))  # now it is the largest itself
    assert [session.account for session, _ in world.watcher.ended] == ["b", "c"]
    assert world.hub.blocked_bytes == 4_100
    assert {reason for _, reason in world.watcher.ended} == {SLOW}
    for error, context in world.watcher.problems:
        assert isinstance(error, SlowClient)
        assert error.limit == 10_000
        assert context["session"] in {session for session, _ in world.watcher.ended}
    assert len(world.watcher.problems) == 2
    for connection, line in (opened[0], opened[3]):
        line.ready = True
        connection.flush()
        assert len(line.writes) == 1
    assert world.hub.blocked_bytes == 0


async def test_room_is_made_in_one_go_for_a_fan_out_to_thousands_that_take_nothing(bench: Open) -> None:
    count, size = 12_000, 1_000
    world = bench(outbox_total=count * size)
    opened = [world.connect(str(number)) for number in range(count)]
    for connection, line in opened:
        line.ready = False
        connection.send(packet(size))
    await tick()
    assert world.hub.blocked_bytes == count * size
    assert world.watcher.ended == []
    shared = packet(size)
    began = time.process_time()
    for connection, _ in opened:
        connection.send(shared)
    await tick()
    took = time.process_time() - began
    limit = world.hub.options.outbox_total
    assert 0.8 * limit < world.hub.blocked_bytes <= limit
    assert len(world.watcher.problems) == len(world.watcher.ended) < count * 0.7
    assert took < 1.5, f"{took:.2f} s for {count} clients"


async def test_room_is_made_down_to_nine_tenths(bench: Open) -> None:
    world = bench(outbox_total=10_000)
    lines = []
    for number in range(10):
        connection, line = world.connect(str(number))
        line.ready = False
        connection.send(packet(950 + number))
        lines.append(line)
    await tick()
    assert world.hub.blocked_bytes == 9_545
    late, line = world.connect("late")
    line.ready = False
    late.send(packet(456))
    await tick()
    assert world.hub.blocked_bytes == 10_001 - 959 - 958
    assert [session.account for session, _ in world.watcher.ended] == ["9", "8"]
    assert [error.waiting for error, _ in world.watcher.problems] == [10_001, 10_001 - 959]  # type: ignore[attr-defined]


async def test_who_hears_of_a_slow_client_may_end_others_while_room_is_made(bench: Open) -> None:
    world = bench(outbox_total=10_000)
    opened = [world.connect(str(number)) for number in range(20)]
    hear = world.watcher.problem

    def problem(error: Exception, **context: object) -> None:
        hear(error, **context)
        for connection, _ in opened:
            connection.end(FORCED_CLOSE)

    world.watcher.problem = problem  # type: ignore[method-assign]
    for connection, line in opened:
        line.ready = False
        connection.send(packet(520))
    await tick()
    assert len(world.watcher.problems) == 1
    assert world.hub.blocked_bytes == 0
    assert len(world.watcher.ended) == 20


async def test_a_send_that_ends_its_own_connection_as_the_largest_says_so(bench: Open) -> None:
    world = bench(outbox_total=10_000)
    connection, line = world.connect("a")
    line.ready = False
    connection.send(packet(6_000))
    await tick()
    assert not connection.send(packet(6_000))
    assert line.closed is SLOW
    assert world.hub.blocked_bytes == 0


async def test_who_hears_of_a_slow_client_may_send_to_it_and_is_not_told_again(bench: Open) -> None:
    world = bench(outbox_limit=100)
    connection, line = world.connect("a")
    line.ready = False
    sent: list[bool] = []
    hear = world.watcher.problem

    def problem(error: Exception, **context: object) -> None:
        hear(error, **context)
        sent.append(connection.send(packet(1_000)))

    world.watcher.problem = problem  # type: ignore[method-assign]
    connection.send(packet(200))
    connection.send(packet(200))
    assert sent == [False]
    assert len(world.watcher.problems) == 1


async def test_a_connection_that_waits_for_its_last_poll_gives_way_when_all_wait_for_too_much(bench: Open) -> None:
    world = bench(outbox_total=10_000)
    leaving, line = world.connect("a", TransportName.POLLING)
    line.ready = False
    leaving.send(packet(6_000))
    await tick()
    leaving.end(FORCED_CLOSE)
    assert leaving.phase is Phase.LINGERING
    other, other_line = world.connect("b")
    other_line.ready = False
    other.send(packet(5_000))
    await tick()
    assert world.hub.blocked_bytes == 5_000
    assert list(world.hub.connections.values()) == [other]
    assert [session.account for session, _ in world.watcher.ended] == ["a"]
    assert other_line.closed is None


async def test_is_stuck_tells_that_something_waits_which_is_not_taken(bench: Open) -> None:
    world = bench()
    connection, line = world.connect("a")
    assert not connection.is_stuck
    connection.send(packet(100))
    assert not connection.is_stuck
    line.ready = False
    assert connection.is_stuck
    line.ready = True
    await tick()
    line.ready = False
    assert not connection.is_stuck  # nothing waits


# Two claims of one session


@pytest.mark.parametrize(("first", "second"), [((1, "a"), (2, "a")), ((1, "a"), (1, "b")), ((5, "b"), (6, "a"))])
async def test_the_later_claim_of_a_session_has_its_place_and_the_other_one_is_returned(
    bench: Open, first: tuple[int, str], second: tuple[int, str]
) -> None:
    for order in ((first, second), (second, first)):
        here = bench()
        connections = [here.connect(f"account {number}")[0] for number in range(2)]
        for connection, (generation, node) in zip(connections, order, strict=True):
            session = here.hub.session_of(connection)
            assert here.hub.sessions.remove(session.account, session)
            session.account = AccountId("ann")
            session.entry = Entry(session.id, NodeId(node), generation, connection.sid)
        later, older = sorted(connections, key=lambda each: each.session.entry.rank, reverse=True)
        returned = [here.hub.add(here.hub.session_of(each), each) for each in connections]
        assert returned == [None, older.session]
        assert here.hub.sessions.of(AccountId("ann")) == [later.session]
        older.end(REPLACED)
        assert [session for session, _ in here.watcher.ended] == [older.session]
        assert here.hub.sessions.of(AccountId("ann")) == [later.session]
        assert set(here.hub.connections.values()) == {later}
