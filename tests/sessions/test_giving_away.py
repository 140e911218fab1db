"""A connection whose session goes on at another node ends in any phase, without a word to the session."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from primacron.errors import ProtocolError
from primacron.protocol.close_reasons import FORCED_CLOSE, SHUTDOWN
from primacron.protocol.engine import Phase
from primacron.protocol.handshake import TransportName
from primacron.protocol.outgoing import OutgoingPacket
from primacron.protocol.packets import Packet, PacketType
from primacron.protocol.payload import Payload
from primacron.sessions.connection import Connection
from primacron.sessions.long_post import Backlog
from primacron.wheel import NEVER
from tests.sessions.line import Bench, Line


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    yield made
    made.close()


def in_phase(bench: Bench, phase: Phase) -> tuple[Connection, Line, Line]:
    """Return a connection that began with polling, in a phase, with the polling and a websocket that may probe it."""
    connection, line = bench.connect("a", TransportName.POLLING)
    probing = Line()
    if phase in (Phase.PROBING, Phase.UPGRADED):
        connection.begin_probe(probing)
        connection.receive(Packet(PacketType.PING, "probe"), probing)
        if phase is Phase.UPGRADED:
            connection.receive(Packet(PacketType.UPGRADE, ""), probing)
    elif phase is Phase.LINGERING:
        line.ready = False
        connection.end(SHUTDOWN)
    elif phase is Phase.CLOSED:
        connection.end(FORCED_CLOSE)
    assert connection.phase is phase
    line.writes.clear()
    probing.writes.clear()
    return connection, line, probing


def is_forgotten(bench: Bench, connection: Connection) -> bool:
    """Tell whether nothing is left of a connection, and whether its session has heard nothing of that."""
    return (
        connection.phase is Phase.CLOSED
        and (connection.outbox, connection.probe, connection.backlog, connection.due) == (None, None, None, NEVER)
        and bench.hub.connections == {}
        and bench.hub.blocked_bytes == 0
        and bench.watcher.ended == []
        and not connection.send(OutgoingPacket.message("late"))
    )


@pytest.mark.parametrize("phase", [Phase.OPEN, Phase.PROBING])
async def test_a_poll_that_waits_is_answered(bench: Bench, phase: Phase) -> None:
    connection, line, _ = in_phase(bench, phase)
    connection.send(OutgoingPacket.message("queued"))
    connection.give_away(SHUTDOWN)
    assert (line.writes, line.closed) == ([["6"]], None)
    assert is_forgotten(bench, connection)


@pytest.mark.parametrize("phase", [Phase.OPEN, Phase.PROBING])
async def test_without_a_poll_that_waits_nothing_is_said(bench: Bench, phase: Phase) -> None:
    connection, line, _ = in_phase(bench, phase)
    line.ready = False
    connection.send(OutgoingPacket.message("queued"))
    connection.flush()
    assert bench.hub.blocked_bytes > 0
    connection.give_away(SHUTDOWN)
    assert (line.writes, line.closed) == ([], None)
    assert is_forgotten(bench, connection)


async def test_a_websocket_that_has_not_sent_its_probe_is_closed(bench: Bench) -> None:
    connection, line, probing = in_phase(bench, Phase.OPEN)
    connection.begin_probe(probing)
    connection.give_away(SHUTDOWN)
    assert (probing.writes, probing.closed, line.closed) == ([], SHUTDOWN, None)
    assert is_forgotten(bench, connection)


async def test_a_websocket_that_was_probed_is_closed(bench: Bench) -> None:
    connection, line, probing = in_phase(bench, Phase.PROBING)
    connection.give_away(SHUTDOWN)
    assert (probing.closed, line.closed) == (SHUTDOWN, None)
    assert is_forgotten(bench, connection)


@pytest.mark.parametrize("phase", [Phase.OPEN, Phase.UPGRADED])
@pytest.mark.parametrize("is_ready", [True, False])
async def test_a_websocket_that_carries_it_is_closed_and_gets_nothing_of_what_is_queued(
    bench: Bench, phase: Phase, is_ready: bool
) -> None:
    if phase is Phase.OPEN:
        connection, carrying = bench.connect("a")
    else:
        connection, _, carrying = in_phase(bench, phase)
    carrying.ready = is_ready
    connection.send(OutgoingPacket.message("queued"))
    connection.give_away(SHUTDOWN)
    assert (carrying.writes, carrying.closed) == ([], SHUTDOWN)
    assert is_forgotten(bench, connection)


@pytest.mark.parametrize("phase", [Phase.OPEN, Phase.PROBING, Phase.UPGRADED])
async def test_the_rest_of_a_long_post_is_let_go(bench: Bench, phase: Phase) -> None:
    connection, _, _ = in_phase(bench, phase)
    payload = Payload(b"4one\x1e4two", 4, 1_000)
    begun: list[bool] = []
    bench.hub.session_of(connection).quiesce(lambda: None)
    Backlog(connection, payload, 9).begin_with(begun.append)
    assert connection.backlog is not None
    connection.give_away(SHUTDOWN)
    assert (begun, bench.hub.unfinished.total, bench.watcher.messages) == ([False], 0, [])
    assert is_forgotten(bench, connection)


@pytest.mark.parametrize("phase", [Phase.LINGERING, Phase.CLOSED])
async def test_one_that_has_ended_is_not_given_away(bench: Bench, phase: Phase) -> None:
    connection, _, _ = in_phase(bench, phase)
    with pytest.raises(ProtocolError, match=f"^MOVE while {phase.name}$"):
        connection.give_away(SHUTDOWN)
    assert connection.phase is phase
