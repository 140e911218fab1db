"""The page and drawings of the state machines of a session and of its connection."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from docs.generate.drawing import Arrow, Box, draw
from docs.generate.markdown import code, table
from primacron.protocol.engine import BEATS, FIRST_BEAT, MOVES, Beat, Heart, Phase, Pulse, Step
from primacron.sessions.lifecycle import CHANGES, Change, State

_INTRO = """# The states of a session and of its connection

Three tables, made into this page from `primacron/sessions/lifecycle.py` and `primacron/protocol/engine.py`. What a
table does not have breaks a rule (a phase) or changes nothing (a life, a heart).

## The life of a session

Only in `OPEN` and `QUIESCED` is anything delivered here. A session that is `FROZEN` is on its way to another server,
which then has it as `OPEN`; [how it gets there](cluster-states.md).

![The life of a session](states-session.svg)

"""

_PHASE = """
## Phase: how far its upgrade has come

A connection begins with long-polling or directly with a websocket; with a websocket it stays `OPEN` until it ends.
While a websocket is probed, long-polling still carries it; nothing is lost whichever way that ends. A connection that
its upgrade brings to another server begins there as `UPGRADED`.

![The phases of a connection](states-phase.svg)

"""

_HEART = """
## Heart: whether it lives

In protocol 4 the server pings, in protocol 3 the client. Deadlines are checked on every access too, so a connection
past its deadline is gone for whoever asks. While the server does not read (its handlers are behind), no answer can be
demanded of the client: the heart is held.

![The heartbeat of a connection](states-heart.svg)

"""

_LIVES: Final = {
    "DETACHED": Box(130, 70),
    "OPEN": Box(430, 70),
    "QUIESCED": Box(730, 70),
    "FROZEN": Box(730, 240),
    "MOVED": Box(730, 370, is_end=True),
    "ENDED": Box(280, 240, is_end=True),
}
_PHASES: Final = {
    "OPEN": Box(130, 120, loop="top"),
    "PROBING": Box(440, 120, loop="top"),
    "UPGRADED": Box(750, 120),
    "LINGERING": Box(130, 330, is_end=True),
    "CLOSED": Box(750, 330, is_end=True),
}
_HEARTS: Final = {
    "RESTING": Box(130, 120, loop="top"),
    "PINGED": Box(470, 120, loop="top"),
    "HELD": Box(300, 320, loop="bottom"),
    "LISTENING": Box(790, 120, loop="top"),
    "HELD_LISTENING": Box(790, 320, loop="bottom"),
}
# Arrows that would overlap one another are bent, and their labels shifted along them.
_BENDS: Final[Mapping[tuple[str, str], tuple[float, float]]] = {
    ("OPEN", "QUIESCED"): (18, 0.5),
    ("QUIESCED", "OPEN"): (18, 0.5),
    ("OPEN", "PROBING"): (18, 0.5),
    ("PROBING", "OPEN"): (18, 0.5),
    ("OPEN", "CLOSED"): (-24, 0.62),
    ("PROBING", "CLOSED"): (0, 0.45),
    ("PROBING", "LINGERING"): (0, 0.3),
    ("RESTING", "PINGED"): (20, 0.5),
    ("PINGED", "RESTING"): (20, 0.5),
    ("PINGED", "HELD"): (16, 0.32),
    ("HELD", "PINGED"): (16, 0.36),
    ("LISTENING", "HELD_LISTENING"): (26, 0.5),
    ("HELD_LISTENING", "LISTENING"): (26, 0.5),
}


def page() -> str:
    """Return the page."""
    lives = table(("state", "meaning"), [(code(state.name), state.value) for state in State])
    happens = table(("what happens", "meaning"), [(code(event.name), event.value) for event in Change])
    changes = table(
        ("state", "what happens", "next state"),
        [(code(state.name), code(event.name), code(after.name)) for (state, event), after in CHANGES.items()],
    )
    phases = table(("phase", "meaning"), [(code(phase.name), phase.value) for phase in Phase])
    steps = table(("step", "meaning"), [(code(step.name), step.value) for step in Step])
    moves = table(
        ("phase", "step", "next phase"),
        [(code(phase.name), code(step.name), code(after.name)) for (phase, step), after in MOVES.items()],
    )
    hearts = table(("heart", "meaning"), [(code(heart.name), heart.value) for heart in Heart])
    beats = table(
        ("heart", "beat", "next heart", "what to do", "next beat is due"),
        [
            (code(heart.name), _meaning(beat), code(after.name), pulse.value, due.value)
            for (heart, beat), (after, pulse, due) in BEATS.items()
        ],
    )
    first = table(
        ("protocol", "first heart", "first beat is due"),
        [(str(version), code(heart.name), due.value) for version, (heart, due) in FIRST_BEAT.items()],
    )
    life = f"{lives}\n{happens}\n{changes}"
    return f"{_INTRO}{life}{_PHASE}{phases}\n{steps}\n{moves}{_HEART}{hearts}\n{first}\n{beats}"


def _meaning(beat: Beat) -> str:
    return f"{code(beat.name)}: {beat.value}"


def draw_session() -> str:
    """Draw the lifecycle of a session."""
    labels: dict[tuple[str, str], tuple[str, ...]] = {}
    for (state, event), after in CHANGES.items():
        ends = (state.name, after.name)
        labels[ends] = (*labels.get(ends, ()), event.name)
    return draw("The life of a session", (880, 430), _LIVES, _arrows(labels), {"DETACHED": (22.0, 70.0)})


def draw_phase() -> str:
    """Draw the phases of a connection."""
    labels: dict[tuple[str, str], tuple[str, ...]] = {}
    for (phase, step), after in MOVES.items():
        ends = (phase.name, after.name)
        labels[ends] = (*labels.get(ends, ()), step.name)
    starts = {"OPEN": (22.0, 120.0), "UPGRADED": (858.0, 120.0)}
    return draw("The phases of a connection", (880, 390), _PHASES, _arrows(labels), starts)


def draw_heart() -> str:
    """Draw the heartbeat of a connection."""
    labels: dict[tuple[str, str], tuple[str, ...]] = {}
    for (heart, beat), (after, pulse, _) in BEATS.items():
        ends = (heart.name, after.name)
        label = beat.name if pulse is Pulse.NOTHING else f"{beat.name}: {pulse.value.replace('`', '')}"
        labels[ends] = (*labels.get(ends, ()), label)
    first = {heart.name for heart, _ in FIRST_BEAT.values()}
    starts = {name: (box.x - 106.0, box.y) for name, box in _HEARTS.items() if name in first}
    return draw("The heartbeat of a connection", (920, 420), _HEARTS, _arrows(labels), starts)


def _arrows(labels: Mapping[tuple[str, str], tuple[str, ...]]) -> list[Arrow]:
    return [Arrow(*ends, texts, *_BENDS.get(ends, (0.0, 0.5))) for ends, texts in labels.items()]
