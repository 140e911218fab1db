"""The page and drawings of the HTTP front's state machines: a connection, and a request in its pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any, Final

from docs.generate.drawing import Arrow, Box, draw
from docs.generate.markdown import code, table
from primacron.standalone.connection_states import CHANGES, STEPS, Awaited, Change, Progress, Stage, Step

_INTRO = """# The states of an HTTP connection

Primacron's own server, without ASGI, speaks HTTP/1.1. Two tables say where a connection of a client stands and where
each of its requests does, made into this page from `primacron/standalone/connection_states.py`. What a table does not
have changes nothing. A websocket has left HTTP behind; [what carries it](states.md) is another table.

## The connection

Behind the last answer nothing is written and nothing is read: a request is the last one if it says so, if it cannot be
read on, or if it was answered before its body had come.

![The stages of a connection](states-http.svg)

"""

_AWAITED = """
What a connection waits for has a deadline: for a request 75 seconds, and `header_timeout` for the first one; for a head
`header_timeout`; for a body `body_timeout`; for the client to take at least 16 kB of its answers `body_timeout`; for
the end 2 seconds, once the client has taken what was written.

"""

_REQUEST = """
## A request

A client may send up to 16 requests ahead of their answers. They are answered one at a time, in their order.

![The progress of a request](states-request.svg)

"""

_STAGES: Final = {
    "SERVING": Box(130, 150),
    "UPGRADING": Box(450, 60),
    "ENDING": Box(450, 250),
    "DRAINING": Box(770, 150),
    "CLOSED": Box(770, 400, is_end=True),
}
_PROGRESS: Final = {
    "BODY": Box(130, 70),
    "BEGUN": Box(460, 70),
    "WHOLE": Box(130, 270),
    "ANSWERING": Box(460, 270),
    "ANSWERED": Box(790, 170, is_end=True),
}
# Arrows that would overlap a box or another arrow are bent, and their labels shifted along them.
_BENDS: Final[Mapping[tuple[str, str], tuple[float, float]]] = {
    ("SERVING", "DRAINING"): (0, 0.4),
    ("SERVING", "CLOSED"): (-55, 0.5),
    ("UPGRADING", "CLOSED"): (0, 0.7),
    ("ENDING", "CLOSED"): (0, 0.5),
    ("BODY", "ANSWERED"): (-14, 0.35),
    ("WHOLE", "ANSWERED"): (14, 0.35),
}


def page() -> str:
    """Return the page."""
    return (
        f"{_INTRO}{_meanings('stage', Stage)}\n{_meanings('what happens', Change)}\n"
        f"{_rows(('stage', 'what happens', 'next stage'), CHANGES)}{_AWAITED}{_meanings('awaited', Awaited)}"
        f"{_REQUEST}{_meanings('progress', Progress)}\n{_meanings('step', Step)}\n"
        f"{_rows(('progress', 'step', 'next progress'), STEPS)}"
    )


def _meanings(head: str, members: type[Enum]) -> str:
    return table((head, "meaning"), [(code(each.name), each.value) for each in members])


def _rows(heads: tuple[str, str, str], moves: Mapping[tuple[Any, Any], Any]) -> str:
    return table(
        heads, [(code(before.name), code(event.name), code(after.name)) for (before, event), after in moves.items()]
    )


def draw_connection() -> str:
    """Draw the states of a connection."""
    starts = {"SERVING": (22.0, 150.0)}
    return draw("The stages of a connection", (880, 450), _STAGES, _arrows(CHANGES), starts)


def draw_request() -> str:
    """Draw the states of a request."""
    starts = {"BODY": (22.0, 70.0), "WHOLE": (22.0, 270.0)}
    return draw("The progress of a request", (900, 340), _PROGRESS, _arrows(STEPS), starts)


def _arrows(moves: Mapping[tuple[Any, Any], Any]) -> list[Arrow]:
    return [
        Arrow(before.name, after.name, (event.name,), *_BENDS.get((before.name, after.name), (0.0, 0.5)))
        for (before, event), after in moves.items()
    ]
