"""
The states of an HTTP connection and of each of its requests, as tables.

Events that a table does not list are ignored: a connection may be closed at any point,
and a body ends whether or not the request has been answered by then.
"""

from __future__ import annotations

from typing import Final

from primacron.protocol.engine import Symbol


class Stage(Symbol):
    """How the connection treats its input."""

    SERVING = "requests are read and answered"
    UPGRADING = "a websocket handshake is decided; what comes is kept for the websocket"
    ENDING = "nothing more is read; the last answer, and those before it, are still to come"
    DRAINING = "the last answer was given; what still comes is thrown away"
    CLOSED = "the client is gone, or has a websocket"


class Change(Symbol):
    """Events of a connection."""

    HANDSHAKE = "a websocket handshake came"
    LAST = "a request came that is the last by its own word, or that cannot be read"
    ANSWER = "the last answer was given"
    CLOSE = "the client went away, or the websocket took over"


# Every transition of a connection; docs/topics/http-states draws it.
CHANGES: Final[dict[tuple[Stage, Change], Stage]] = {
    (Stage.SERVING, Change.HANDSHAKE): Stage.UPGRADING,
    (Stage.SERVING, Change.LAST): Stage.ENDING,
    (Stage.SERVING, Change.ANSWER): Stage.DRAINING,
    (Stage.SERVING, Change.CLOSE): Stage.CLOSED,
    (Stage.UPGRADING, Change.ANSWER): Stage.DRAINING,
    (Stage.UPGRADING, Change.CLOSE): Stage.CLOSED,
    (Stage.ENDING, Change.ANSWER): Stage.DRAINING,
    (Stage.ENDING, Change.CLOSE): Stage.CLOSED,
    (Stage.DRAINING, Change.CLOSE): Stage.CLOSED,
}


class Awaited(Symbol):
    """What a connection waits for, and so what its deadline applies to."""

    REQUEST = "the next request"
    HEAD = "the rest of the head of a request"
    BODY = "the rest of its body"
    ANSWER = "its answer, which has no deadline here"
    TAKING = "the client, which does not take its answers"
    END = "the client, which has its last answer and is to close the connection"


class Progress(Symbol):
    """The state of a request among the pipelined ones of its connection, which are answered in order."""

    BODY = "its body is coming, and others are answered before it"
    WHOLE = "it has come whole, and others are answered before it"
    BEGUN = "it is its turn, and its body is still coming"
    ANSWERING = "it is its turn, and it has come whole"
    ANSWERED = "it has its answer, or needs none"


class Step(Symbol):
    """Events of a request."""

    TURN = "those before it are answered"
    END = "the last of its body came"
    ANSWER = "it is answered, or its client has gone away"


# Every transition of a request; docs/topics/http-states draws it.
STEPS: Final[dict[tuple[Progress, Step], Progress]] = {
    (Progress.BODY, Step.TURN): Progress.BEGUN,
    (Progress.BODY, Step.END): Progress.WHOLE,
    (Progress.BODY, Step.ANSWER): Progress.ANSWERED,
    (Progress.WHOLE, Step.TURN): Progress.ANSWERING,
    (Progress.WHOLE, Step.ANSWER): Progress.ANSWERED,
    (Progress.BEGUN, Step.END): Progress.ANSWERING,
    (Progress.BEGUN, Step.ANSWER): Progress.ANSWERED,
    (Progress.ANSWERING, Step.ANSWER): Progress.ANSWERED,
}

#: States in which no more of the body is expected.
COMPLETE: Final = frozenset({Progress.WHOLE, Progress.ANSWERING, Progress.ANSWERED})
#: States in which the request has not reached its handler yet.
WAITING: Final = frozenset({Progress.BODY, Progress.WHOLE})


# Typed when compiled; looked up three times per request.
_CHANGES = CHANGES
_STEPS = STEPS


def change(stage: Stage, event: Change) -> Stage:
    """Return the stage after the event."""
    return _CHANGES.get((stage, event), stage)


def step(progress: Progress, event: Step) -> Progress:
    """Return the request's progress after the event."""
    return _STEPS.get((progress, event), progress)
