"""The page and the drawings of the state machines between servers: the link, and the two sides of a move."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any, Final

from docs.generate.drawing import Arrow, Box, Point, draw
from docs.generate.markdown import code, table
from primacron.cluster import link, move

_INTRO = """# The states between servers

Three tables, made into this page from `primacron/cluster/link.py` and `primacron/cluster/move.py`. [How several servers
work](cluster.md) has the words. What a table does not have changes nothing.

## The link

Whether a server reaches the others. Only in `UP` is it ready.

![The link of a server to the others](states-link.svg)

"""

_GIVER = """
## The giver

A session moves when its client upgrades to a websocket that reached another server. The *giver* has the session so far.

![The giver of a session](states-giver.svg)

"""

_TAKER = """
## The taker

The *taker* has the websocket.

![The taker of a session](states-taker.svg)

"""

_LINK: Final = {
    "NEW": Box(130, 70),
    "DEAF": Box(440, 70),
    "UP": Box(750, 70),
    "AWAY": Box(440, 280),
}
_GIVING: Final = {
    "CALMING": Box(110, 120),
    "CALM": Box(350, 120),
    "FROZEN": Box(600, 120),
    "FENCING": Box(600, 320, loop="bottom"),
    "KEPT": Box(110, 320, is_end=True),
    "LOST": Box(350, 320, is_end=True),
    "GIVEN": Box(840, 220, is_end=True),
}
_TAKING: Final = {
    "OPEN": Box(110, 120),
    "ASKING": Box(345, 120),
    "ALLOWED": Box(585, 120),
    "TAKING": Box(840, 120),
    "CLAIMING": Box(840, 300, loop="right"),
    "FAILED": Box(225, 300, is_end=True),
    "SETTLING": Box(480, 460, loop="bottom"),
    "OWNED": Box(840, 460, is_end=True),
}
# Arrows that would lie on one another are bent, and their texts moved along them.
_BENDS: Final[Mapping[tuple[str, str], tuple[float, float]]] = {
    ("DEAF", "UP"): (18, 0.5),
    ("UP", "DEAF"): (18, 0.5),
    ("DEAF", "AWAY"): (22, 0.5),
    ("AWAY", "DEAF"): (22, 0.5),
    ("CALMING", "LOST"): (0, 0.3),
    ("CALM", "KEPT"): (0, 0.3),
    ("FROZEN", "LOST"): (0, 0.4),
    ("ALLOWED", "FAILED"): (0, 0.4),
    ("TAKING", "FAILED"): (0, 0.3),
}


def page() -> str:
    """Return the page."""
    moves = table(
        ("state", "event", "next state"),
        [(code(state.name), code(event.name), code(after.name)) for (state, event), after in link.MOVES.items()],
    )
    return (
        f"{_INTRO}{_meanings('state', link.State)}\n{_meanings('event', link.Event)}\n{moves}"
        f"{_GIVER}{_side(move.Giving, move.Give, move.GIVING)}{_TAKER}{_side(move.Taking, move.Take, move.TAKING)}"
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
    """Return the drawing of the link."""
    ends = [(state.name, after.name, event.name) for (state, event), after in link.MOVES.items()]
    return draw("The link of a server to the others", (880, 340), _LINK, _arrows(ends), _start(_LINK, "NEW"))


def draw_giver() -> str:
    """Return the drawing of the giver."""
    ends = [(state.name, after.name, event.name) for (state, event), (after, _) in move.GIVING.items()]
    return draw("The giver of a session", (940, 450), _GIVING, _arrows(ends), _start(_GIVING, "CALMING"))


def draw_taker() -> str:
    """Return the drawing of the taker."""
    ends = [(state.name, after.name, event.name) for (state, event), (after, _) in move.TAKING.items()]
    return draw("The taker of a session", (1050, 570), _TAKING, _arrows(ends), _start(_TAKING, "OPEN"))


def _arrows(ends: Iterable[tuple[str, str, str]]) -> list[Arrow]:
    labels: dict[tuple[str, str], tuple[str, ...]] = {}
    for before, after, event in ends:
        labels[before, after] = (*labels.get((before, after), ()), event)
    return [Arrow(*pair, texts, *_BENDS.get(pair, (0.0, 0.5))) for pair, texts in labels.items()]


def _start(boxes: Mapping[str, Box], first: str) -> Mapping[str, Point]:
    return {first: (boxes[first].x - 100.0, boxes[first].y)}
