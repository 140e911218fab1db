"""
The rules of one Engine.IO connection, as tables.

A connection has a *phase* (how far its upgrade and its end have come), a *heart* (the state of its
heartbeat), and packets arrive on a *channel*. Nothing here does I/O or reads a
clock: the owner of the connection looks up the next state and acts on it.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from primacron.errors import ProtocolError
from primacron.protocol.packets import Packet, PacketType


class Symbol(Enum):
    """An enum whose members hash by identity, in C: they are looked up for every packet."""

    __hash__ = object.__hash__


class Phase(Symbol):
    """How far the upgrade of a connection has come, and its end."""

    OPEN = "the transport of its handshake carries it"
    PROBING = "a websocket was probed, the transport of the handshake still carries it"
    UPGRADED = "the websocket that was probed carries it"
    LINGERING = "ended, the last packets wait for the next poll, or for the websocket that was probed"
    CLOSED = "ended"


class Step(Symbol):
    """Events that change the phase of a connection."""

    PROBE = "2probe on a websocket beside the polling"
    PROBE_LOST = "that websocket closed, broke a rule or ran out of time"
    UPGRADE = "5 on that websocket"
    MOVE = "the session goes on at another node"
    LINGER = "ended by the server while no poll waits"
    CLOSE = "ended"


# Every transition of a connection; docs/topics/states draws it.
MOVES: Final[dict[tuple[Phase, Step], Phase]] = {
    (Phase.OPEN, Step.PROBE): Phase.PROBING,
    (Phase.OPEN, Step.PROBE_LOST): Phase.OPEN,
    (Phase.OPEN, Step.MOVE): Phase.CLOSED,
    (Phase.OPEN, Step.LINGER): Phase.LINGERING,
    (Phase.OPEN, Step.CLOSE): Phase.CLOSED,
    (Phase.PROBING, Step.PROBE): Phase.PROBING,
    (Phase.PROBING, Step.PROBE_LOST): Phase.OPEN,
    (Phase.PROBING, Step.UPGRADE): Phase.UPGRADED,
    (Phase.PROBING, Step.MOVE): Phase.CLOSED,
    (Phase.PROBING, Step.LINGER): Phase.LINGERING,
    (Phase.PROBING, Step.CLOSE): Phase.CLOSED,
    (Phase.UPGRADED, Step.MOVE): Phase.CLOSED,
    (Phase.UPGRADED, Step.CLOSE): Phase.CLOSED,
    (Phase.LINGERING, Step.UPGRADE): Phase.CLOSED,
    (Phase.LINGERING, Step.CLOSE): Phase.CLOSED,
}

BEFORE_UPGRADE: Final = frozenset({Phase.OPEN, Phase.PROBING})
ENDED: Final = frozenset({Phase.LINGERING, Phase.CLOSED})


def advance(phase: Phase, step: Step) -> Phase:
    """
    Return the phase after the step.

    Raises:
        ProtocolError: if the table does not allow the step.

    """
    try:
        return MOVES[phase, step]
    except KeyError:
        raise ProtocolError(f"{step.name} while {phase.name}") from None


class Channel(Symbol):
    """Where a packet arrived."""

    TRANSPORT = "the transport that carries the connection"
    PROBE = "a websocket beside the polling"


class Verdict(Symbol):
    """What a packet calls for."""

    DELIVER = "hand the message to the session"
    BEAT = "the heartbeat is answered"
    CLOSE = "the client says goodbye"
    PROBE = "answer 3probe and end the waiting poll"
    UPGRADE = "the websocket takes over"
    IGNORE = "nothing"


# Per protocol and channel, what a client may send. Anything else is a violation.
_VERDICTS: Final[dict[tuple[int, Channel], dict[PacketType, Verdict]]] = {
    (4, Channel.TRANSPORT): {
        PacketType.MESSAGE: Verdict.DELIVER,
        PacketType.PONG: Verdict.BEAT,
        PacketType.CLOSE: Verdict.CLOSE,
        PacketType.NOOP: Verdict.IGNORE,
    },
    (3, Channel.TRANSPORT): {
        PacketType.MESSAGE: Verdict.DELIVER,
        PacketType.PING: Verdict.BEAT,
        PacketType.CLOSE: Verdict.CLOSE,
        PacketType.NOOP: Verdict.IGNORE,
    },
    (4, Channel.PROBE): {PacketType.PING: Verdict.PROBE, PacketType.UPGRADE: Verdict.UPGRADE},
    (3, Channel.PROBE): {PacketType.PING: Verdict.PROBE, PacketType.UPGRADE: Verdict.UPGRADE},
}


def judge(packet: Packet, version: int, channel: Channel) -> Verdict:
    """
    Return what a packet calls for.

    Raises:
        ProtocolError: if a client may not send it on this channel.

    """
    verdict = _VERDICTS[version, channel].get(packet.type)
    if verdict is None:
        raise ProtocolError(f"{packet.type.name} packet from a client of protocol {version}")
    if verdict is Verdict.PROBE and packet.data != "probe":
        raise ProtocolError("PING packet without the probe")
    return verdict


class Heart(Symbol):
    """The state of a connection's heartbeat."""

    RESTING = "the next ping is due later"
    PINGED = "a ping was sent, its pong is due"
    LISTENING = "protocol 3: the client's ping is due"
    HELD = "the server has stopped reading, so no answer can be demanded"
    HELD_LISTENING = "the same, protocol 3"


class Beat(Symbol):
    """Events of a heartbeat."""

    DUE = "the time is up"
    ANSWER = "the client's pong came (protocol 3: its ping)"
    HOLD = "the server stops reading"
    RELEASE = "the server reads again"


class Pulse(Symbol):
    """What to do on a beat."""

    NOTHING = "nothing"
    SEND_PING = "send a ping"
    SEND_PONG = "answer the client's ping"
    GIVE_UP = "close with `ping timeout`"


class Due(Symbol):
    """When the next beat is due."""

    KEEP = "as it was"
    INTERVAL = "after ping_interval"
    TIMEOUT = "after ping_timeout"
    BOTH = "after ping_interval and ping_timeout together"


BEATS: Final[dict[tuple[Heart, Beat], tuple[Heart, Pulse, Due]]] = {
    (Heart.RESTING, Beat.DUE): (Heart.PINGED, Pulse.SEND_PING, Due.TIMEOUT),
    (Heart.RESTING, Beat.ANSWER): (Heart.RESTING, Pulse.NOTHING, Due.KEEP),
    (Heart.RESTING, Beat.HOLD): (Heart.HELD, Pulse.NOTHING, Due.KEEP),
    (Heart.PINGED, Beat.DUE): (Heart.PINGED, Pulse.GIVE_UP, Due.KEEP),
    (Heart.PINGED, Beat.ANSWER): (Heart.RESTING, Pulse.NOTHING, Due.INTERVAL),
    (Heart.PINGED, Beat.HOLD): (Heart.HELD, Pulse.NOTHING, Due.KEEP),
    # The client still needs its pings, although its pongs are waiting unread.
    (Heart.HELD, Beat.DUE): (Heart.HELD, Pulse.SEND_PING, Due.INTERVAL),
    (Heart.HELD, Beat.ANSWER): (Heart.HELD, Pulse.NOTHING, Due.KEEP),
    # A pong may be among the input read now; only the next ping demands one again.
    (Heart.HELD, Beat.RELEASE): (Heart.RESTING, Pulse.NOTHING, Due.KEEP),
    (Heart.LISTENING, Beat.DUE): (Heart.LISTENING, Pulse.GIVE_UP, Due.KEEP),
    (Heart.LISTENING, Beat.ANSWER): (Heart.LISTENING, Pulse.SEND_PONG, Due.BOTH),
    (Heart.LISTENING, Beat.HOLD): (Heart.HELD_LISTENING, Pulse.NOTHING, Due.KEEP),
    (Heart.HELD_LISTENING, Beat.DUE): (Heart.HELD_LISTENING, Pulse.NOTHING, Due.INTERVAL),
    (Heart.HELD_LISTENING, Beat.ANSWER): (Heart.HELD_LISTENING, Pulse.SEND_PONG, Due.KEEP),
    (Heart.HELD_LISTENING, Beat.RELEASE): (Heart.LISTENING, Pulse.NOTHING, Due.BOTH),
}

FIRST_BEAT: Final[dict[int, tuple[Heart, Due]]] = {4: (Heart.RESTING, Due.INTERVAL), 3: (Heart.LISTENING, Due.BOTH)}
HOLDING: Final = frozenset({Heart.HELD, Heart.HELD_LISTENING})
ENFORCED: Final = frozenset({Heart.PINGED, Heart.LISTENING})


def beat(heart: Heart, event: Beat) -> tuple[Heart, Pulse, Due]:
    """
    Return the heart after the event, what to do, and when the next beat is due.

    Events that the table does not list are ignored.
    """
    return BEATS.get((heart, event), (heart, Pulse.NOTHING, Due.KEEP))
