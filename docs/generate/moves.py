"""The page and drawings of the cluster's state machines: the link, and the two sides of a handoff."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any, Final

from docs.generate.drawing import Arrow, Box, Point, draw
from docs.generate.markdown import code, table
from primacron.cluster import link
from primacron.handoff import states

_INTRO = """# The states between servers

Five tables, made into this page from `primacron/cluster/link.py` and `primacron/handoff/states.py`. [How several
servers work](cluster.md) has the words. What a table does not have changes nothing.

## The link

Whether a server reaches the others. Only in `UP` is it ready.

![The link of a server to the others](states-link.svg)

"""

_SOURCE = """
## The transfer, at the source

A session is handed from the server that has it, the *source*, to another one, the *destination*. This begins when the
source freezes it.

![The source of a transfer](states-source.svg)

"""

_DESTINATION = """
## The transfer, at the destination

![The destination of a transfer](states-destination.svg)

"""

_SOURCE_PROBE = """
## The probe of an upgrade, at the source

What comes before the transfer when a client upgrades to a websocket that reached another server.

![The source of an upgrade](states-source-probe.svg)

"""

_DESTINATION_PROBE = """
## The probe of an upgrade, at the destination

![The destination of an upgrade](states-destination-probe.svg)

"""

_LINK: Final = {
    "NEW": Box(130, 70),
    "DEAF": Box(440, 70),
    "UP": Box(750, 70),
    "AWAY": Box(440, 280),
}
_SOURCES: Final = {
    "FROZEN": Box(130, 120, loop="top"),
    "FENCING": Box(130, 320, loop="bottom"),
    "LOST": Box(420, 120, is_end=True),
    "MOVED": Box(420, 320, is_end=True),
}
_DESTINATIONS: Final = {
    "FETCHING": Box(130, 80),
    "CLAIMING": Box(480, 80, loop="right"),
    "FAILED": Box(130, 300, is_end=True),
    "SETTLING": Box(480, 300, loop="bottom"),
    "OWNED": Box(780, 300, is_end=True),
}
_SOURCE_PROBES: Final = {
    "CALMING": Box(130, 80),
    "CALM": Box(430, 80),
    "HANDED_OVER": Box(730, 80, is_end=True),
    "KEPT": Box(130, 280, is_end=True),
    "LOST": Box(430, 280, is_end=True),
}
_DESTINATION_PROBES: Final = {
    "OPEN": Box(130, 80),
    "ASKING": Box(400, 80),
    "ALLOWED": Box(670, 80),
    "UPGRADED": Box(940, 80, is_end=True),
    "FAILED": Box(400, 280, is_end=True),
}
# Arrows that would overlap one another are bent, and their labels shifted along them.
_BENDS: Final[Mapping[tuple[str, str], tuple[float, float]]] = {
    ("DEAF", "UP"): (18, 0.5),
    ("UP", "DEAF"): (18, 0.5),
    ("DEAF", "AWAY"): (22, 0.5),
    ("AWAY", "DEAF"): (22, 0.5),
    ("CALMING", "LOST"): (0, 0.3),
    ("CALM", "KEPT"): (0, 0.3),
    ("FROZEN", "MOVED"): (0, 0.3),
    ("FENCING", "LOST"): (0, 0.3),
}


def page() -> str:
    """Return the page."""
    moves = table(
        ("state", "event", "next state"),
        [(code(state.name), code(event.name), code(after.name)) for (state, event), after in link.MOVES.items()],
    )
    return (
        f"{_INTRO}{_meanings('state', link.State)}\n{_meanings('event', link.Event)}\n{moves}"
        f"{_SOURCE}{_side(states.SourceState, states.SourceEvent, states.TRANSFER_SOURCE)}"
        f"{_DESTINATION}{_side(states.DestinationState, states.DestinationEvent, states.TRANSFER_DESTINATION)}"
        f"{_SOURCE_PROBE}{_side(states.SourceProbe, states.SourceProbeEvent, states.PROBE_SOURCE)}"
        f"{_DESTINATION_PROBE}"
        f"{_side(states.DestinationProbe, states.DestinationProbeEvent, states.PROBE_DESTINATION)}"
    )


def _meanings(head: str, members: type[Enum]) -> str:
    return table((head, "meaning"), [(code(each.name), each.value) for each in members])


def _side(states: type[Enum], events: type[Enum], moves: Mapping[tuple[Any, Any], tuple[Any, Any]]) -> str:
    rows = [
        (code(state.name), code(event.name), code(after.name), action.value)
        for (state, event), (after, action) in moves.items()
    ]
    return (
        f"{_meanings('state', states)}\n{_meanings('event', events)}\n"
        f"{table(('state', 'event', 'next state', 'what it does'), rows)}"
    )


def draw_link() -> str:
    """Draw the states of the link."""
    ends = [(state.name, after.name, event.name) for (state, event), after in link.MOVES.items()]
    return draw("The link of a server to the others", (880, 340), _LINK, _arrows(ends), _start(_LINK, "NEW"))


def draw_source() -> str:
    """Draw the states of a transfer's source."""
    return _draw_side("The source of a transfer", (560, 450), _SOURCES, "FROZEN", states.TRANSFER_SOURCE)


def draw_destination() -> str:
    """Draw the states of a transfer's destination."""
    title = "The destination of a transfer"
    return _draw_side(title, (900, 420), _DESTINATIONS, "FETCHING", states.TRANSFER_DESTINATION)


def draw_source_probe() -> str:
    """Draw the states of an upgrade's source."""
    return _draw_side("The source of an upgrade", (840, 340), _SOURCE_PROBES, "CALMING", states.PROBE_SOURCE)


def draw_destination_probe() -> str:
    """Draw the states of an upgrade's destination."""
    title = "The destination of an upgrade"
    return _draw_side(title, (1050, 340), _DESTINATION_PROBES, "OPEN", states.PROBE_DESTINATION)


def _draw_side(
    title: str,
    size: tuple[int, int],
    boxes: Mapping[str, Box],
    first: str,
    moves: Mapping[tuple[Any, Any], tuple[Any, Any]],
) -> str:
    ends = [(state.name, after.name, event.name) for (state, event), (after, _) in moves.items()]
    return draw(title, size, boxes, _arrows(ends), _start(boxes, first))


def _arrows(ends: Iterable[tuple[str, str, str]]) -> list[Arrow]:
    labels: dict[tuple[str, str], tuple[str, ...]] = {}
    for before, after, event in ends:
        labels[before, after] = (*labels.get((before, after), ()), event)
    return [Arrow(*pair, texts, *_BENDS.get(pair, (0.0, 0.5))) for pair, texts in labels.items()]


def _start(boxes: Mapping[str, Box], first: str) -> Mapping[str, Point]:
    return {first: (boxes[first].x - 100.0, boxes[first].y)}
