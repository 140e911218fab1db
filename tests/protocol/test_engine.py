"""The tables of a connection: every pair that is there, and every pair that is not."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from primacron.errors import ProtocolError
from primacron.protocol.engine import (
    BEATS,
    BEFORE_UPGRADE,
    ENDED,
    ENFORCED,
    FIRST_BEAT,
    HOLDING,
    MOVES,
    Beat,
    Channel,
    Due,
    Heart,
    Phase,
    Pulse,
    Step,
    Verdict,
    advance,
    beat,
    judge,
)
from primacron.protocol.packets import Packet, PacketType

# Written down again, so that a change of a table is a decision and not a slip.

PHASES = {
    Phase.OPEN: {
        Step.PROBE: Phase.PROBING,
        Step.PROBE_LOST: Phase.OPEN,
        Step.MOVE: Phase.CLOSED,
        Step.LINGER: Phase.LINGERING,
        Step.CLOSE: Phase.CLOSED,
    },
    Phase.PROBING: {
        Step.PROBE: Phase.PROBING,
        Step.PROBE_LOST: Phase.OPEN,
        Step.UPGRADE: Phase.UPGRADED,
        Step.MOVE: Phase.CLOSED,
        Step.LINGER: Phase.LINGERING,
        Step.CLOSE: Phase.CLOSED,
    },
    Phase.UPGRADED: {Step.MOVE: Phase.CLOSED, Step.CLOSE: Phase.CLOSED},
    Phase.LINGERING: {Step.UPGRADE: Phase.CLOSED, Step.CLOSE: Phase.CLOSED},
    Phase.CLOSED: {},
}


@pytest.mark.parametrize(("phase", "step"), list(itertools.product(Phase, Step)))
def test_a_phase_moves_as_its_table_says_and_no_other_way(phase: Phase, step: Step) -> None:
    after = PHASES[phase].get(step)
    assert MOVES.get((phase, step)) is after
    if after is not None:
        assert advance(phase, step) is after
    else:
        with pytest.raises(ProtocolError, match=f"^{step.name} while {phase.name}$"):
            advance(phase, step)


def test_every_phase_but_the_first_is_reached_and_every_phase_can_end() -> None:
    assert {Phase.OPEN, *MOVES.values()} == set(Phase)
    for phase in set(Phase) - {Phase.CLOSED}:
        assert MOVES[phase, Step.CLOSE] is Phase.CLOSED


@given(st.sampled_from([Phase.OPEN, Phase.UPGRADED]), st.lists(st.sampled_from(Step)))
def test_what_has_ended_never_carries_again(phase: Phase, steps: list[Step]) -> None:
    for step in steps:
        try:
            after = advance(phase, step)
        except ProtocolError:
            continue
        assert phase not in ENDED or after in ENDED
        assert phase is not Phase.UPGRADED or after not in BEFORE_UPGRADE
        phase = after


CARRIED = {4: PacketType.PONG, 3: PacketType.PING}


@pytest.mark.parametrize("kind", PacketType)
@pytest.mark.parametrize("version", [4, 3])
def test_what_a_client_may_send_where_it_is_carried(version: int, kind: PacketType) -> None:
    packet = Packet(kind, "data")
    expected = {
        PacketType.MESSAGE: Verdict.DELIVER,
        CARRIED[version]: Verdict.BEAT,
        PacketType.CLOSE: Verdict.CLOSE,
        PacketType.NOOP: Verdict.IGNORE,
    }.get(kind)
    if expected is not None:
        assert judge(packet, version, Channel.TRANSPORT) is expected
    else:
        with pytest.raises(ProtocolError, match=f"^{kind.name} packet from a client of protocol {version}$"):
            judge(packet, version, Channel.TRANSPORT)


@pytest.mark.parametrize("kind", PacketType)
@pytest.mark.parametrize("version", [4, 3])
def test_what_a_client_may_send_beside_its_polling(version: int, kind: PacketType) -> None:
    packet = Packet(kind, "probe")
    expected = {PacketType.PING: Verdict.PROBE, PacketType.UPGRADE: Verdict.UPGRADE}.get(kind)
    if expected is not None:
        assert judge(packet, version, Channel.PROBE) is expected
    else:
        with pytest.raises(ProtocolError, match=kind.name):
            judge(packet, version, Channel.PROBE)


@pytest.mark.parametrize("data", ["", "Probe", "probe ", "probe\x00", "probeprobe"])
@pytest.mark.parametrize("version", [4, 3])
def test_a_probe_is_a_ping_with_that_word(version: int, data: str) -> None:
    with pytest.raises(ProtocolError, match="PING packet without the probe"):
        judge(Packet(PacketType.PING, data), version, Channel.PROBE)


def test_a_ping_of_protocol_4_or_with_the_probe_on_an_open_websocket_is_refused() -> None:
    for data in ("", "probe"):
        with pytest.raises(ProtocolError):
            judge(Packet(PacketType.PING, data), 4, Channel.TRANSPORT)
    assert judge(Packet(PacketType.PING, "probe"), 3, Channel.TRANSPORT) is Verdict.BEAT


@pytest.mark.parametrize("version", [4, 3])
def test_a_binary_message_is_delivered_and_no_probe(version: int) -> None:
    assert judge(Packet(PacketType.MESSAGE, b"probe"), version, Channel.TRANSPORT) is Verdict.DELIVER
    with pytest.raises(ProtocolError):
        judge(Packet(PacketType.MESSAGE, b"probe"), version, Channel.PROBE)


HEARTS = {
    (Heart.RESTING, Beat.DUE): (Heart.PINGED, Pulse.SEND_PING, Due.TIMEOUT),
    (Heart.PINGED, Beat.DUE): (Heart.PINGED, Pulse.GIVE_UP, Due.KEEP),
    (Heart.PINGED, Beat.ANSWER): (Heart.RESTING, Pulse.NOTHING, Due.INTERVAL),
    (Heart.RESTING, Beat.HOLD): (Heart.HELD, Pulse.NOTHING, Due.KEEP),
    (Heart.PINGED, Beat.HOLD): (Heart.HELD, Pulse.NOTHING, Due.KEEP),
    (Heart.HELD, Beat.DUE): (Heart.HELD, Pulse.SEND_PING, Due.INTERVAL),
    (Heart.HELD, Beat.RELEASE): (Heart.RESTING, Pulse.NOTHING, Due.KEEP),
    (Heart.LISTENING, Beat.DUE): (Heart.LISTENING, Pulse.GIVE_UP, Due.KEEP),
    (Heart.LISTENING, Beat.ANSWER): (Heart.LISTENING, Pulse.SEND_PONG, Due.BOTH),
    (Heart.LISTENING, Beat.HOLD): (Heart.HELD_LISTENING, Pulse.NOTHING, Due.KEEP),
    (Heart.HELD_LISTENING, Beat.DUE): (Heart.HELD_LISTENING, Pulse.NOTHING, Due.INTERVAL),
    (Heart.HELD_LISTENING, Beat.ANSWER): (Heart.HELD_LISTENING, Pulse.SEND_PONG, Due.KEEP),
    (Heart.HELD_LISTENING, Beat.RELEASE): (Heart.LISTENING, Pulse.NOTHING, Due.BOTH),
}


@pytest.mark.parametrize(("heart", "event"), list(itertools.product(Heart, Beat)))
def test_a_heart_beats_as_its_table_says_and_anything_else_changes_nothing(heart: Heart, event: Beat) -> None:
    assert beat(heart, event) == HEARTS.get((heart, event), (heart, Pulse.NOTHING, Due.KEEP))


def test_a_heart_starts_by_its_protocol_and_never_turns_to_the_other() -> None:
    assert FIRST_BEAT == {4: (Heart.RESTING, Due.INTERVAL), 3: (Heart.LISTENING, Due.BOTH)}
    sides = {4: {Heart.RESTING, Heart.PINGED, Heart.HELD}, 3: {Heart.LISTENING, Heart.HELD_LISTENING}}
    for version, (first, _) in FIRST_BEAT.items():
        assert first in sides[version]
    for (heart, _), (after, _, _) in BEATS.items():
        assert any({heart, after} <= side for side in sides.values())
    assert sides[4] | sides[3] == set(Heart)


def test_only_an_enforced_heart_gives_up_and_a_held_one_is_not_enforced() -> None:
    giving_up = {heart for (heart, _), (_, pulse, _) in BEATS.items() if pulse is Pulse.GIVE_UP}
    assert giving_up == ENFORCED
    held = {after for (_, event), (after, _, _) in BEATS.items() if event is Beat.HOLD}
    assert held == HOLDING
    assert not HOLDING & ENFORCED


@given(st.sampled_from([4, 3]), st.lists(st.sampled_from(Beat)))
def test_without_an_answer_the_second_deadline_in_a_row_gives_up(version: int, events: list[Beat]) -> None:
    heart, _ = FIRST_BEAT[version]
    for event in events:
        heart, _, _ = beat(heart, event)
    if heart in HOLDING:
        heart, _, _ = beat(heart, Beat.RELEASE)
    pulses = []
    for _ in range(2):
        heart, pulse, _ = beat(heart, Beat.DUE)
        pulses.append(pulse)
    assert Pulse.GIVE_UP in pulses


@given(st.sampled_from([4, 3]), st.lists(st.sampled_from([Beat.DUE, Beat.ANSWER, Beat.HOLD])))
def test_a_held_heart_never_gives_up(version: int, events: list[Beat]) -> None:
    heart, _, _ = beat(FIRST_BEAT[version][0], Beat.HOLD)
    for event in events:
        heart, pulse, _ = beat(heart, event)
        assert pulse is not Pulse.GIVE_UP
