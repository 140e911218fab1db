"""
A client whose session survives its connections: its core, without I/O and without a clock.

Its owner opens connections, and tells the core what comes on them:

- :meth:`Core.come` before a connection is opened: what belongs into its query.
- :meth:`Core.begin` when its open packet is there: the first message. From then on this is the
  connection; what older ones still bring is ignored.
- :meth:`Core.receive` for each message, :meth:`Core.touch` for each ping, :meth:`Core.lose` for its end.
- :meth:`Core.send` for what the application sends, at any time; :meth:`Core.to_write` for what is to be
  written now.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Final, TypeAlias

Message: TypeAlias = dict[str, Any]
#: By channel, the epoch and the offset of the last message; under ``""`` those of the session's own history.
Positions: TypeAlias = Mapping[str, tuple[str, int]]


class BadServer(Exception):
    """The server broke the rules."""


class State(Enum):
    """What there is of a connection."""

    APART = auto()
    OPENING = auto()
    RETURNING = auto()
    OPEN = auto()
    ENDED = auto()


class Step(Enum):
    """What can happen to a client."""

    BEGIN = "its first message asks for a new session"
    RETURN = "its first message asks for the session that it has"
    ANSWER = "the session event"
    MESSAGE = "any other message of the server, but for a close"
    LOSS = "its connection is lost"
    END = "the server tells it not to come again"


MOVES: Final = {
    (State.APART, Step.BEGIN): State.OPENING,
    (State.APART, Step.RETURN): State.RETURNING,
    (State.APART, Step.LOSS): State.APART,
    (State.OPENING, Step.BEGIN): State.OPENING,
    (State.OPENING, Step.ANSWER): State.OPEN,
    (State.OPENING, Step.LOSS): State.APART,
    (State.OPENING, Step.END): State.ENDED,
    (State.RETURNING, Step.BEGIN): State.OPENING,
    (State.RETURNING, Step.RETURN): State.RETURNING,
    (State.RETURNING, Step.ANSWER): State.OPEN,
    (State.RETURNING, Step.LOSS): State.APART,
    (State.RETURNING, Step.END): State.ENDED,
    (State.OPEN, Step.BEGIN): State.OPENING,
    (State.OPEN, Step.RETURN): State.RETURNING,
    (State.OPEN, Step.MESSAGE): State.OPEN,
    (State.OPEN, Step.LOSS): State.APART,
    (State.OPEN, Step.END): State.ENDED,
    (State.ENDED, Step.LOSS): State.ENDED,
}


@dataclass(frozen=True)
class Course:
    """What becomes of the session, of its counts, and of what the server is not known to have taken."""

    counts_on: bool
    sends_again: bool
    is_same: bool = True

    def run_after(self, run: int) -> int:
        """Return the number of the run that follows."""
        return run if self.counts_on else run + 1 if self.is_same else 0


#: By ``recovered``. Where nothing is sent again, it still is if it has a key, and if it was never written.
COURSES: Final[dict[bool | str, Course]] = {
    True: Course(counts_on=True, sends_again=True),
    "partial": Course(counts_on=False, sends_again=True),
    "channels": Course(counts_on=False, sends_again=False),
    False: Course(counts_on=False, sends_again=False, is_same=False),
}
#: What is not counted, if it is the only key.
UNCOUNTED: Final = ("taken", "move", "close")


@dataclass(frozen=True)
class Delivered:
    """A message for the application."""

    message: Message


@dataclass(frozen=True)
class Opened:
    """The session is open. ``dropped`` is what the server is not known to have taken and is not sent again."""

    recovered: bool | str
    lost: Message | None
    session: str
    channels: Message
    dropped: tuple[Message, ...] = ()


@dataclass(frozen=True)
class Moving:
    """The client is to come back by itself, at a random moment within these seconds."""

    after: float
    reason: str


@dataclass(frozen=True)
class Closing:
    """The server closes the connection; ``again`` tells whether to come back, not before these seconds."""

    code: int
    reason: str
    again: bool
    after: float


Heard: TypeAlias = Delivered | Opened | Moving | Closing


@dataclass
class Sent:
    """A message of the application, and when it was first written, if it was."""

    message: Message
    first: float | None = None


class Core:
    """Counts, and keeps what the server is not known to have taken."""

    def __init__(self) -> None:
        self.state = State.APART
        #: The number of the connection that counts, from 1.
        self.connection = 0
        self.token: str | None = None
        self.window = 0.0
        self.run = 0
        self.attempt = 0
        #: How many messages of this run were received.
        self.received = 0
        #: How many messages of this run the server is known to have taken.
        self.taken = 0
        self._queue: list[Sent] = []  # what is above `taken`
        self._written = 0  # how many of these went out by this connection
        self._heard_at = 0.0
        self._expired = False

    # Connections

    def come(self, now: float) -> dict[str, str]:
        """Return the parameters of a connection that is to be opened."""
        self._expire(now)
        return {"resume": "1"} if self.token is None else {"resume": "1", "again": "1"}

    def begin(self, now: float, at: Positions | None = None) -> Message:
        """Return the first message of a new connection, which takes over from the one before."""
        self._expire(now)
        self._advance(Step.BEGIN if self.token is None else Step.RETURN)
        self.connection += 1
        self._written = 0
        if self.token is None:
            return {"session": {}}
        self.attempt += 1
        back: Message = {"token": self.token, "taken": self.received, "run": self.run, "attempt": self.attempt}
        return {"session": back | ({"at": at} if at else {})}

    def lose(self, connection: int) -> None:
        """Take note of the end of a connection."""
        if connection == self.connection:
            self._advance(Step.LOSS)

    # What comes

    def touch(self, connection: int, now: float) -> None:
        """Take note of a ping."""
        # Who is let in but not answered has not heard of its session.
        if connection == self.connection and self.state is State.OPEN:
            self._heard_at = now

    def receive(self, connection: int, message: Message, now: float) -> Heard | None:
        """
        Take a message; None if it is not for the application, or comes from a connection that was given up.

        Raises:
            BadServer: if the server must not send this, or not now.

        """
        if connection != self.connection or self.state is State.APART:
            return None
        kind = None if is_counted(message) else next(iter(message))
        if kind == "close":
            return self._close(Closing(**message[kind]))
        if message.get("event") == "session":
            (about,) = message["args"]
            opened = self._open(about, now)
            self._heard_at = now
            return opened
        self._advance(Step.MESSAGE)
        self._heard_at = now
        if kind == "move":
            return Moving(**message[kind])
        if kind == "taken":
            if self.token is not None:
                self._confirm(message[kind])
            return None
        self.received += 1
        return Delivered(message)

    def _close(self, closing: Closing) -> Closing:
        if not closing.again:
            self._advance(Step.END)
        return closing

    def _open(self, about: Message, now: float) -> Opened:
        recovered = about["recovered"]
        if recovered is not False and self.state is State.OPENING:
            raise BadServer(f"recovered {recovered!r}, where no session was asked for")
        self._advance(Step.ANSWER)
        course = COURSES[recovered]
        if about["run"] != course.run_after(self.run):
            raise BadServer(f"recovered {recovered!r} in run {about['run']}, the client is in run {self.run}")
        if about["taken"] is not None and self.token is not None:
            self._confirm(about["taken"] if recovered else max(about["taken"], self.taken))
        dropped = () if course.sends_again else self._drop(now)
        if not course.counts_on:
            self.run, self.received, self.taken = about["run"], 0, 0
        if about["token"] != self.token:
            self.token, self.attempt = about["token"], 0
        self.window = float(about["window"])
        lost, self._expired = {"session": "expired"} if self._expired else about["lost"], False
        return Opened(recovered, lost, about["session"], about["channels"], dropped)

    # What goes

    def send(self, message: Message) -> None:
        """Send a message, now or as soon as the session is open."""
        self._queue.append(Sent(message))

    def to_write(self, now: float) -> list[Message]:
        """Return what is to be written now by the connection that counts."""
        if self.state is not State.OPEN:
            return []
        waiting = self._queue[self._written :]
        for each in waiting:
            each.first = now if each.first is None else each.first
        self._written = len(self._queue)
        if self.token is None:  # nothing will ever be sent again
            self._confirm(self.taken + len(waiting))
        return [each.message for each in waiting]

    def probe(self) -> Message:
        """Return the message that confirms what was received, and asks what the server has taken."""
        return {"taken": self.received}

    @property
    def unconfirmed(self) -> list[Message]:
        """What the server is not known to have taken, the oldest first."""
        return [each.message for each in self._queue]

    def _confirm(self, taken: int) -> None:
        count = taken - self.taken
        if not 0 <= count <= sum(each.first is not None for each in self._queue):
            raise BadServer(f"{taken} messages taken, which was {self.taken} before and {len(self._queue)} went out")
        del self._queue[:count]
        self._written = max(0, self._written - count)
        self.taken = taken

    def _drop(self, now: float) -> tuple[Message, ...]:
        """Give up what must not be sent again."""

        def is_kept(sent: Sent) -> bool:
            return sent.first is None or ("key" in sent.message and now - sent.first < self.window)

        dropped = tuple(each.message for each in self._queue if not is_kept(each))
        self._queue = [each for each in self._queue if is_kept(each)]
        return dropped

    def _expire(self, now: float) -> None:
        """Give the session up if its window has passed."""
        if self.token is not None and now - self._heard_at >= self.window:
            self.token = None
            self._expired = True

    def _advance(self, step: Step) -> None:
        try:
            self.state = MOVES[self.state, step]
        except KeyError:
            raise BadServer(f"{step.value} while {self.state.name}") from None


def is_counted(message: Message) -> bool:
    """Tell whether a message is one of those that both sides count."""
    return "event" in message or "ack" in message or len(message) != 1 or next(iter(message)) not in UNCOUNTED
